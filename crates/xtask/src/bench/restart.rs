//! A server that was killed while it received: how soon it is there again, and how soon it tells a client where to go on.
//! Owns the killing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Bench;
use super::metric::{Bar, Metric};
use super::subject::{Subject, Who, plain};
use super::tus::{VERSION, create};
use crate::rig::bytes::{MIB, content};
use crate::rig::server::{ADMIN, Server, Site};
use crate::rig::talk::{Talk, token};

/// How long the upload is, and how much of it is sent when the server is killed.
const SIZE: u64 = 96 * MIB;
const SENT: u64 = 72 * MIB;
/// How much is sent at once.
const PIECE: u64 = 4 * MIB;

/// What one kill came to.
struct Again {
    /// From the start of the process to the word where it listens.
    ready: Duration,
    /// From the first byte of the first HEAD to its answer.
    head: Duration,
}

/// Measures kills.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut all = Vec::new();
    for _ in 0..bench.samples {
        all.push(kill_once(bench)?);
    }
    let subject = "hapax serve, killed while it received";
    let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
    let ready = all.iter().map(|again| again.ready.as_secs_f64());
    let head = all.iter().map(|again| milliseconds(again.head));
    Ok(vec![
        Metric::new("start after a kill to ready, s", subject, ready, Bar::AtMost(1.0)),
        Metric::new("first HEAD after a kill, ms", subject, head, Bar::AtMost(10.0)),
    ])
}

fn kill_once(bench: &Bench) -> anyhow::Result<Again> {
    Subject::clear(bench, Who::Hapax)?;
    let data = Who::Hapax.data(bench);
    std::fs::create_dir_all(data.parent().context("the data folder has a parent")?)?;
    let log = bench.folder.join("server.log");
    let site = Site { hapax: bench.hapax.clone(), data, log, around: plain() };
    let mut server = Server::start(&site)?;
    let token = token(server.address(), ADMIN)?;
    let mut talk = Talk::open_as(server.address(), token.clone())?;
    let path = create(&mut talk, &[("Upload-Length", &SIZE.to_string())])?;
    let length = SIZE.to_string();
    let bytes = ("Content-Type", "application/offset+octet-stream");
    talk.begin("PATCH", &path, &[VERSION, bytes, ("Upload-Offset", "0"), ("Content-Length", &length)])?;
    for piece in 0..SENT / PIECE {
        talk.say(&content(1, piece * PIECE, PIECE))?;
    }
    server.kill()?;
    let start = Instant::now();
    let server = Server::start(&site)?;
    let ready = start.elapsed();
    let mut talk = Talk::open_as(server.address(), token)?;
    let start = Instant::now();
    let told = talk.ask("HEAD", &path, &[VERSION], b"")?.expect(200)?;
    let head = start.elapsed();
    let at: u64 = told.field("upload-offset")?.parse()?;
    ensure!(at > 0 && at <= SENT, "{at} bytes are there of {SENT} that were sent");
    Ok(Again { ready, head })
}
