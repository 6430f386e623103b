//! What the tests stand on: a server process with a data folder of its own, clients with their own files and
//! settings, and a line between them whose bytes are counted and that can be held.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The password of the account `admin`.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// After this long, what a test waits for never comes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Prepares to run the program with nothing of the environment that the tests run in.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// A server process; ended with this.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    /// What it said when it was ready.
    pub(crate) said: String,
}

impl Server {
    /// Starts a server over an empty store.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// Starts a server over the store of a folder.
    pub(crate) fn start_in(folder: TempDir) -> Self {
        Self::start_by(&[], folder)
    }

    /// Starts a server over the store of a folder, run by the words of something around it.
    pub(crate) fn start_by(around: &[String], folder: TempDir) -> Self {
        let mut command = Self::command(folder.path());
        if let [first, rest @ ..] = around {
            let mut outer = Command::new(first);
            outer.args(rest).arg(command.get_program()).args(command.get_args());
            outer.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            outer.current_dir(folder.path()).stdin(Stdio::null());
            command = outer;
        }
        let mut child = command.env("HAPAX_ADMIN_PASSWORD", PASSWORD).stdout(Stdio::piped()).spawn().unwrap();
        let said = first_line(&mut child);
        let address = said.split_whitespace().next().unwrap_or_default();
        let address = address.strip_prefix("http://").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the server said {said:?}"));
        Self { folder, child, address, said }
    }

    /// Prepares to start a server over the store of a folder.
    pub(crate) fn command(folder: &Path) -> Command {
        let mut command = program(folder);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("data"));
        command
    }

    /// Returns a client of this server.
    pub(crate) fn client(&self) -> Client {
        Client::of(self.address)
    }
}

impl Server {
    /// Kills it at once, and starts another over the same store, at another port.
    pub(crate) fn kill_and_start(mut self) -> Self {
        kill_process(Pid::from_child(&self.child), Signal::KILL).unwrap();
        self.child.wait().unwrap();
        Self::start_in(std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself: that is what some tests are about.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the first line that a process writes.
pub(crate) fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line
}

/// A user with a folder, who talks to one server.
pub(crate) struct Client {
    pub(crate) folder: TempDir,
    server: SocketAddr,
}

impl Client {
    /// Makes a user of the server at an address.
    pub(crate) fn of(server: SocketAddr) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server }
    }

    /// Goes to the server by another way.
    pub(crate) fn through(mut self, line: &Line) -> Self {
        self.server = line.address;
        self
    }

    /// Returns the path of a name in the user's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Prepares to run the program as this user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(self.folder.path());
        command
            .args(arguments)
            .env("HAPAX_SERVER", format!("http://{}", self.server))
            .env("HAPAX_USER", "admin")
            .env("HAPAX_PASSWORD", PASSWORD);
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program, which succeeds, and returns what it wrote to standard output.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which ends with `code`, and returns what it wrote to standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        said
    }

    /// Runs the program with `--json`, and returns its events.
    #[track_caller]
    pub(crate) fn events(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let said = self.ok(&[arguments, &["--json"]].concat());
        said.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// Runs the program with `--json`, and returns the last event.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> serde_json::Value {
        let done = self.events(arguments).pop().expect("something is said");
        assert_eq!(done["event"], "done", "{done}");
        done
    }

    /// Writes a file of bytes that repeat nowhere, from a seed.
    pub(crate) fn write(&self, name: &str, size: usize, seed: u64) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes(size, seed)).unwrap();
        path
    }
}

/// Returns bytes that nothing can make smaller.
pub(crate) fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let words = std::iter::repeat_with(|| {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(size).collect()
}

/// A line to a server that counts the bytes that go up, and holds them when it is told to.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    /// Where new connections lead.
    server: Arc<Mutex<SocketAddr>>,
    gate: Arc<Gate>,
}

struct Gate {
    up: AtomicU64,
    down: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How many bytes may go up, and down.
    allowed: [u64; 2],
    /// How many connections wait.
    held: usize,
}

impl Line {
    /// Lays a line to a server.
    pub(crate) fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new(State { allowed: [u64::MAX; 2], held: 0 });
        let gate =
            Arc::new(Gate { up: AtomicU64::new(0), down: AtomicU64::new(0), state, changed: Condvar::new() });
        let server = Arc::new(Mutex::new(server.address));
        let (shared, upstream) = (Arc::clone(&gate), Arc::clone(&server));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let upstream = *upstream.lock().unwrap();
                // Nobody there: the connection ends at once.
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                for way in [Way::Up, Way::Down] {
                    let [client, server] = [&client, &server].map(|stream| stream.try_clone().unwrap());
                    let gate = Arc::clone(&shared);
                    thread::spawn(move || match way {
                        Way::Up => gate.pass(way, client, server),
                        Way::Down => gate.pass(way, server, client),
                    });
                }
            }
        });
        Self { address, server, gate }
    }

    /// Leads new connections to another server.
    pub(crate) fn lead_to(&self, server: &Server) {
        *self.server.lock().unwrap() = server.address;
    }

    /// Lets no more than this pass from now on.
    pub(crate) fn hold_after(&self, way: Way, bytes: u64) {
        self.reset();
        self.gate.state.lock().unwrap().allowed[way as usize] = bytes;
    }

    /// Waits until bytes wait that may not pass.
    pub(crate) fn wait_until_held(&self) {
        self.wait_until_held_on(1);
    }

    /// Waits until bytes of so many connections wait that may not pass.
    pub(crate) fn wait_until_held_on(&self, connections: usize) {
        let (state, few) = (self.gate.state.lock().unwrap(), |state: &mut State| state.held < connections);
        let (state, _) = self.gate.changed.wait_timeout_while(state, PATIENCE, few).unwrap();
        assert!(state.held >= connections, "the line could hold only {}", state.held);
    }

    /// Lets everything pass, and counts from nothing; returns what went up and down before.
    pub(crate) fn reset(&self) -> (u64, u64) {
        let mut state = self.gate.state.lock().unwrap();
        *state = State { allowed: [u64::MAX; 2], held: 0 };
        self.gate.changed.notify_all();
        (self.gate.up.swap(0, Ordering::SeqCst), self.gate.down.swap(0, Ordering::SeqCst))
    }
}

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Gate {
    fn pass(&self, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let count = if way == Way::Up { &self.up } else { &self.down };
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            let (mut state, mut waits) = (self.state.lock().unwrap(), false);
            while count.load(Ordering::SeqCst) > state.allowed[way as usize] {
                if !waits {
                    waits = true;
                    state.held += 1;
                    self.changed.notify_all();
                }
                state = self.changed.wait(state).unwrap();
            }
            drop(state);
            if to.write_all(&piece[..read]).is_err() {
                break;
            }
            count.fetch_add(read as u64, Ordering::SeqCst);
        }
        // Either end may be gone already.
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }
}
