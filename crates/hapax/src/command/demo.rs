//! `hapax demo`: the promise, shown with real processes on this machine. Owns the story and its checks; every step
//! is the program itself, run as anybody would run it, and every number is counted on the wire between them.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hapax_proto::digest::{Algorithm, FileHash};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::context::Context;
use super::digests::digest;
use super::serve::blocking;
use crate::args::Demo;
use crate::exit::{Code, Failure};
use crate::secrets::random_password;
use crate::words;

/// A line whose bytes are counted.
mod meter;

use meter::Meter;

/// The remote names of the file.
const FIRST: &str = ":/demo/film.bin";
const SECOND: &str = ":/demo/copy of film.bin";
/// Files younger than this are hashed again before they are believed: clocks of file systems tick that coarsely.
const SETTLED: Duration = Duration::from_millis(2_200);
/// What requests, answers and their fields may weigh beside the content: one hundredth and a little.
const OVERHEAD: u64 = 256 * 1024;

/// Shows the promise.
pub(super) async fn run(context: &Context, demo: &Demo) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("hapax-demo-").tempdir();
    let folder =
        folder.map_err(|error| broken(format!("there is no room for the demonstration: {error}")))?;
    let stage = Stage::set(context, folder.path(), demo.size << 20).await?;
    let ended = play(&stage).await;
    let closed = stage.close().await;
    ended.and(closed)?;
    context.screen.outcome(
        "Every byte crossed the wire once. Nothing of the demonstration is left.",
        &json!({ "event": "done" }),
    );
    Ok(())
}

/// The promise, step by step.
async fn play(stage: &Stage<'_>) -> Result<(), Failure> {
    let size = stage.size;
    stage.meter.read();
    let sent = put_and_kill(stage).await?;
    stage.say(&format!(
        "Put it; killed the client with SIGKILL when {} were on the wire.",
        words::bytes(sent)
    ));

    let done = stage.finish(&["put", "--json", &stage.path(), FIRST]).await?;
    let (up, _) = stage.meter.read();
    expect(done.how == "resumed" && done.kept > 0, || {
        format!("the second put was {}, not resumed", done.how)
    })?;
    let missing = size - done.kept;
    expect(up <= missing + missing / 100 + OVERHEAD, || {
        format!("{up} bytes went over the wire although only {missing} were missing")
    })?;
    stage.say(&format!(
        "The same command again: resumed at {} % ({} kept, prefix proven), {} on the wire.",
        words::percent(done.kept, size),
        words::bytes(done.kept),
        words::bytes(up)
    ));

    let again = stage.finish(&["put", "--json", &stage.path(), SECOND]).await?;
    let (up, _) = stage.meter.read();
    expect(again.how == "instant", || format!("the put under another name was {}, not instant", again.how))?;
    expect(up <= OVERHEAD, || format!("the instant put took {up} bytes on the wire"))?;
    stage.say(&format!(
        "Put it under another name: instant, {} not sent, {} on the wire.",
        words::bytes(size),
        words::bytes(up)
    ));

    let target = stage.folder.join("back.bin");
    stage.finish(&["get", "--json", SECOND, &target.to_string_lossy()]).await?;
    let (_, down) = stage.meter.read();
    let back = hash(&target).await?;
    expect(back == stage.hash, || format!("what came back has the BLAKE3 {back}, not {}", stage.hash))?;
    expect(down <= size + size / 100 + OVERHEAD, || format!("the get took {down} bytes on the wire"))?;
    stage.say(&format!("Got it back with {} on the wire; BLAKE3 {back} on both sides.", words::bytes(down)));
    Ok(())
}

/// Begins a put and kills its process in the middle; returns what it sent. The line is held after half of the file,
/// so that the middle does not pass before the kill.
async fn put_and_kill(stage: &Stage<'_>) -> Result<u64, Failure> {
    stage.meter.hold_after(stage.size / 2);
    // One part after the other: when half of the file is on the wire, some of it is safe.
    let mut client = stage.program(&["put", "--json", "--parallel", "1", &stage.path(), FIRST]).spawn();
    let client = client.as_mut().map_err(|error| broken(format!("cannot run hapax: {error}")))?;
    let mut events = lines(client);
    loop {
        let line = events.next_line().await.ok().flatten();
        let line = line.ok_or_else(|| broken("the first put ended before it was killed".to_owned()))?;
        if serde_json::from_str::<Told>(&line).is_ok_and(|event| event.event == "progress") {
            break;
        }
    }
    stage.meter.held().await;
    client.kill().await.map_err(|error| broken(format!("cannot kill the client: {error}")))?;
    stage.meter.release();
    stage.meter.quiet().await;
    let (sent, _) = stage.meter.read();
    Ok(sent)
}

/// What the client says of itself, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Told {
    event: String,
    #[serde(default)]
    how: String,
    #[serde(default)]
    kept: u64,
}

/// A server, a line to it, and a file.
struct Stage<'a> {
    context: &'a Context,
    folder: PathBuf,
    server: Child,
    meter: Meter,
    password: String,
    file: PathBuf,
    size: u64,
    hash: FileHash,
}

impl<'a> Stage<'a> {
    /// Starts a server and makes the file.
    async fn set(context: &'a Context, folder: &Path, size: u64) -> Result<Self, Failure> {
        let file = folder.join("film.bin");
        let target = file.clone();
        blocking(move || make_file(&target, size).map_err(|error| Failure::io("write", &target, &error)))
            .await?;
        let settled = tokio::time::sleep(SETTLED);
        let password = random_password()?;
        let data = folder.join("data").to_string_lossy().into_owned();
        let mut server = base(folder)
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data", &data])
            .env("HAPAX_ADMIN_PASSWORD", &password)
            .spawn()
            .map_err(|error| broken(format!("cannot run hapax: {error}")))?;
        let address = ready(&mut server).await?;
        let meter =
            Meter::to(address).await.map_err(|error| broken(format!("cannot lay a line: {error}")))?;
        let hash = hash(&file).await?;
        settled.await;
        let stage = Self { context, folder: folder.to_owned(), server, meter, password, file, size, hash };
        stage.say(&format!("Started a server with an empty, encrypted store on {address}."));
        stage.say(&format!("Made a file of {} of random bytes, BLAKE3 {hash}.", words::bytes(size)));
        Ok(stage)
    }

    fn say(&self, line: &str) {
        self.context.screen.outcome(line, &json!({ "event": "step", "says": line }));
    }

    fn path(&self) -> String {
        self.file.to_string_lossy().into_owned()
    }

    /// Prepares to run this program as a client of the server.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = base(&self.folder);
        program
            .args(arguments)
            .env("HAPAX_SERVER", format!("http://{}", self.meter.address()))
            .env("HAPAX_USER", hapax_server::offline::FIRST_ADMIN)
            .env("HAPAX_PASSWORD", &self.password);
        program
    }

    /// Runs this program to its end, and returns what it says of the file.
    async fn finish(&self, arguments: &[&str]) -> Result<Told, Failure> {
        let ended = self.program(arguments).output().await;
        let ended = ended.map_err(|error| broken(format!("cannot run hapax: {error}")))?;
        expect(ended.status.success(), || {
            let said = String::from_utf8_lossy(&ended.stderr);
            format!("hapax {} ended with {}: {}", arguments[0], ended.status, said.trim())
        })?;
        let said = String::from_utf8_lossy(&ended.stdout);
        let mut events = said.lines().filter_map(|line| serde_json::from_str::<Told>(line).ok());
        events
            .find(|event| event.event == "done")
            .ok_or_else(|| broken(format!("hapax {} did not say what it did", arguments[0])))
    }

    /// Ends the server in order.
    async fn close(mut self) -> Result<(), Failure> {
        if let Some(pid) = self.server.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            kill_process(pid, Signal::TERM)
                .map_err(|error| broken(format!("cannot end the server: {error}")))?;
        }
        let ended = self.server.wait().await;
        let ended = ended.map_err(|error| broken(format!("cannot wait for the server: {error}")))?;
        expect(ended.success(), || format!("the server ended with {ended}"))
    }
}

/// Prepares to run this program with files and settings of its own, whatever the user's are.
fn base(folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("hapax"));
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HAPAX_") {
            command.env_remove(name);
        }
    }
    command
        .env("HAPAX_CONFIG_DIR", folder.join("config"))
        .env("HAPAX_STATE_DIR", folder.join("state"))
        // A proxy of the user's does not know this machine's inside.
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().expect("its output was asked for once")).lines()
}

/// Waits until a server says where it is.
async fn ready(server: &mut Child) -> Result<SocketAddr, Failure> {
    #[derive(Deserialize)]
    struct Ready {
        url: String,
    }
    let line = lines(server).next_line().await.ok().flatten().unwrap_or_default();
    let address = serde_json::from_str::<Ready>(&line).ok();
    let address = address.and_then(|ready| ready.url.strip_prefix("http://")?.parse().ok());
    address.ok_or_else(|| broken("the server did not start".to_owned()))
}

async fn hash(file: &Path) -> Result<FileHash, Failure> {
    let (digests, _) = digest(file, &[Algorithm::Blake3]).await?;
    let hash = digests.get(Algorithm::Blake3).and_then(|digest| digest.file_hash());
    Ok(hash.expect("BLAKE3 was asked for"))
}

/// Writes bytes that no two demonstrations share and nothing can make smaller.
fn make_file(path: &Path, size: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut state = getrandom::u64().map_err(io::Error::other)? | 1;
    let mut piece = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        for word in piece.chunks_exact_mut(8) {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let length = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
        file.write_all(&piece[..length])?;
        left -= length as u64;
    }
    file.sync_all()
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(broken(otherwise())) }
}

fn broken(sentence: String) -> Failure {
    Failure::new(Code::Failed, sentence)
}
