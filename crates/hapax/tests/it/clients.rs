//! Clients of others that resume their uploads: tus-js-client, Uppy, tuspy and curl, as they come out of their
//! registries, driven by the scripts in `tests/`. Each test compares what is stored with the file that was sent.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{Client, Line, PATIENCE, Server, Way};

/// A line on which every answer overtakes the bytes behind it.
mod overtaking;

/// tus-js-client, versions 4 and 5.
mod tus_js;

/// tus-js-client in pieces that go up at once.
mod parallel;

/// Uppy's plugin for tus.
mod uppy;

/// tuspy, and curl in a shell.
mod by_hand;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What requests and answers weigh beside the content, when there are some dozen of them.
const OVERHEAD: u64 = 256 * KIB;

/// Where the scripts are.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

/// Where the clients of Node are installed.
fn installed() -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-clients");
    let folder = std::env::var_os("HAPAX_TEST_CLIENTS").map_or(pinned, PathBuf::from).join("node_modules");
    assert!(folder.is_dir(), "{}: run `./test.sh clients`, which installs the clients", folder.display());
    folder
}

/// A server, the line to it, and somebody with a file and a token.
struct Bench {
    server: Server,
    line: Line,
    user: Client,
    token: String,
    /// Where the scripts run.
    folder: TempDir,
    bytes: Vec<u8>,
}

impl Bench {
    /// Starts a server, and writes a file of so many bytes.
    fn with(size: u64) -> Self {
        let server = Server::start();
        let user = server.client();
        let said = user.ok(&["admin", "token", "add", "clients"]);
        let token = said.split_whitespace().find(|word| word.starts_with("hapax_")).unwrap().to_owned();
        let path = user.write("film.mkv", usize::try_from(size).unwrap(), size);
        let bytes = fs::read(path).unwrap();
        let line = Line::to(&server);
        Self { server, line, user, token, folder: tempfile::tempdir().unwrap(), bytes }
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn file(&self) -> PathBuf {
        self.user.path("film.mkv")
    }

    /// Returns the URL of a path, over the line.
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.line.address)
    }

    /// Returns the BLAKE3 of the file as another tool would tell it, in hexadecimal.
    fn blake3(&self) -> String {
        let hashed = self.user.ok(&["hash", "film.mkv"]);
        let found = hashed.split_whitespace().find_map(|word| word.strip_prefix("blake3:"));
        found.unwrap_or_else(|| panic!("{hashed}")).to_owned()
    }

    /// Prepares to run a program of the machine, with nothing between it and 127.0.0.1.
    fn program(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(name);
        command.current_dir(self.folder.path()).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Prepares to run a script of `tests/clients` in Node; `asked` is what to do, beside who asks for what.
    fn node(&self, script: &str, asked: &Value) -> Command {
        let modules = self.folder.path().join("node_modules");
        if !modules.exists() {
            symlink(installed(), &modules).unwrap();
        }
        fs::copy(scripts().join("clients").join(script), self.folder.path().join(script)).unwrap();
        let mut all = json!({
            "endpoint": self.url("/tus/"), "token": self.token, "file": self.file(), "size": self.size(),
        });
        all.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        let mut command = self.program("node");
        command.arg(script).arg(all.to_string());
        command
    }

    /// Runs a script of Node to its end, and returns its requests as `METHOD status offset`.
    #[track_caller]
    fn run(&self, script: &str, asked: &Value) -> Vec<String> {
        requests(&self.node(script, asked).output().expect("run `./test.sh clients`, which installs Node"))
    }

    /// Kills the server when so many bytes have gone up and so many are durable, starts it again, and waits for the
    /// client's own attempts. Returns the bytes that went up in all, and how it ended.
    #[track_caller]
    fn killed_behind(mut self, bytes: u64, durable: u64, mut command: Command) -> (Self, u64, Output) {
        self.line.hold_after(Way::Up, bytes);
        let child: Child = command.spawn().unwrap();
        self.line.wait_until_held();
        let begun = Instant::now();
        while self.durable() < durable {
            assert!(begun.elapsed() < PATIENCE, "{} bytes are durable", self.durable());
        }
        self = self.kill();
        let (before, _) = self.line.reset();
        let output = child.wait_with_output().unwrap();
        let (after, _) = self.line.reset();
        (self, before + after, output)
    }

    fn kill(self) -> Self {
        let server = self.server.kill_and_start();
        self.line.lead_to(&server);
        Self { server, ..self }
    }

    /// Returns how much of all uploads is durable, without disturbing them.
    fn durable(&self) -> u64 {
        let read = |path: &str| serde_json::from_slice::<Value>(&self.ask(path).stdout).unwrap();
        let listed = read("/api/v1/uploads");
        let ids = listed["uploads"].as_array().unwrap().iter().map(|upload| upload["id"].as_str().unwrap());
        ids.map(|id| read(&format!("/api/v1/uploads/{id}"))["offset"].as_u64().unwrap()).sum()
    }

    /// Asks the server itself, and returns the body.
    fn ask(&self, path: &str) -> Output {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let url = format!("http://{}{path}", self.server.address);
        let mut curl = self.program("curl");
        curl.args(["-q", "--silent", "--fail", "--header", &authorization, &url]).output().unwrap()
    }

    /// Checks that a file is stored with the bytes that were sent.
    #[track_caller]
    fn stored(&self, path: &str) {
        let read = self.ask(&format!("/files{path}"));
        assert!(read.status.success(), "{path} is not there: {read:?}");
        assert!(read.stdout == self.bytes, "{path} holds other bytes than were sent");
    }

    /// Checks that no file is stored under a path.
    #[track_caller]
    fn absent(&self, path: &str) {
        assert_eq!(self.ask(&format!("/files{path}")).status.code(), Some(22), "{path} is there");
    }
}

/// Reads what a script says of its requests.
#[track_caller]
fn requests(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{error}: {said}"));
    let words = |request: &Value| match request.as_array() {
        Some(parts) => parts.iter().map(word).collect::<Vec<_>>().join(" "),
        None => word(request),
    };
    said["requests"].as_array().unwrap().iter().map(words).collect()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
