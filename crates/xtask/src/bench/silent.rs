//! Senders that fell silent: how soon another one goes on in their place, and what thousands of them cost. Owns the
//! ghosts, which say half of a request.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Bench;
use super::metric::{Bar, Metric, mebibytes};
use super::subject::{Subject, Who};
use super::tus::{VERSION, create};
use crate::rig::bytes::{MIB, content};
use crate::rig::server::ADMIN;
use crate::rig::talk::{Talk, basic};
use crate::rig::usage::resident_memory;

const BYTES: (&str, &str) = ("Content-Type", "application/offset+octet-stream");
const WAITS: (&str, &str) = ("Expect", "100-continue");

/// The size of an upload that is taken over, and how much of it the ghost and the one behind it bring.
const SIZE: u64 = 32 * MIB;
const FIRST: u64 = MIB;
const SECOND: u64 = 64 << 10;

/// How long a ghost is silent before anybody asks: what it sent has arrived by then.
const SILENCE: Duration = Duration::from_millis(20);

/// How many uploads of one account stall: an account may have some 250 requests under way.
const STALLED_EACH: u32 = 200;
/// What a stalled upload has sent.
const STALLED_BYTES: u64 = 4 << 10;
/// How long memory is given to come to rest.
const REST: Duration = Duration::from_secs(2);

/// How a sender goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Silent,
    Reset,
}

/// Measures how long whoever takes over waits: from the first byte of its HEAD to the answer to its PATCH.
pub(crate) fn take_over(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for (way, name) in [(Way::Silent, "silent"), (Way::Reset, "reset")] {
        let mut slowest = Vec::new();
        for _ in 0..bench.samples {
            let server = Subject::start(bench, Who::Hapax)?;
            let mut talk = Talk::open(server.address, ADMIN)?;
            let mut ghosts = Vec::new();
            let mut times = Vec::new();
            for _ in 0..bench.tries {
                times.push(take_over_once(&server, &mut talk, way, &mut ghosts)?.as_secs_f64() * 1_000.0);
            }
            slowest.push(quantile(times));
        }
        let what = format!("take-over, sender {name}, p99 of {} in ms", bench.tries);
        metrics.push(Metric::new(&what, "HEAD and PATCH to hapax serve", slowest, Bar::AtMost(100.0)));
    }
    Ok(metrics)
}

/// Returns what 99 of 100 do not pass.
fn quantile(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn take_over_once(
    server: &Subject,
    talk: &mut Talk,
    way: Way,
    ghosts: &mut Vec<Talk>,
) -> anyhow::Result<Duration> {
    let path = create(talk, &[("Upload-Length", &SIZE.to_string())])?;
    let mut ghost = Talk::open(server.address, ADMIN)?;
    stall(&mut ghost, &path, SIZE, FIRST)?;
    thread::sleep(SILENCE);
    match way {
        Way::Silent => ghosts.push(ghost),
        Way::Reset => ghost.reset()?,
    }
    let mut second = Talk::open(server.address, ADMIN)?;
    let bytes = content(1, 0, SECOND);
    let start = Instant::now();
    let head = second.ask("HEAD", &path, &[VERSION], b"")?.expect(200)?;
    let at = head.field("upload-offset")?;
    second.ask("PATCH", &path, &[VERSION, BYTES, ("Upload-Offset", at)], &bytes)?.expect(204)?;
    let took = start.elapsed();
    ensure!(at == FIRST.to_string(), "{at} bytes had arrived of the ghost's {FIRST}");
    talk.ask("DELETE", &path, &[VERSION], b"")?.expect(204)?;
    Ok(took)
}

/// Begins to send, waits until the server reads, sends `sent` bytes and falls silent.
fn stall(ghost: &mut Talk, path: &str, size: u64, sent: u64) -> anyhow::Result<()> {
    let length = size.to_string();
    let fields = [VERSION, BYTES, WAITS, ("Upload-Offset", "0"), ("Content-Length", &length)];
    ghost.begin("PATCH", path, &fields)?;
    ghost.hear(false)?.expect(100)?;
    ghost.say(&content(1, 0, sent))
}

/// Measures what a server holds that nobody asks for anything, and what every stalled upload adds to it.
pub(crate) fn stalled(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    // Every upload is a connection here and there. The server inherits the limit.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    ensure!(allowed > u64::from(bench.stalled) + 100, "only {allowed} files may be open at once");
    let (mut idle, mut each) = (Vec::new(), Vec::new());
    for _ in 0..bench.samples {
        let server = Subject::start(bench, Who::Hapax)?;
        thread::sleep(REST);
        idle.push(mebibytes(resident_memory(server.id())));
        each.push(stall_all(bench, &server)?);
    }
    let what = format!("{} stalled uploads, KiB each", bench.stalled);
    Ok(vec![
        Metric::new("idle server, MiB", "hapax serve", idle, Bar::AtMost(20.0)),
        Metric::new(&what, "hapax serve", each, Bar::AtMost(16.0)),
    ])
}

/// Lets as many uploads stall as are asked for, and returns how many KiB each of them takes.
fn stall_all(bench: &Bench, server: &Subject) -> anyhow::Result<f64> {
    let mut admin = Talk::open(server.address, ADMIN)?;
    let mut uploads = Vec::new();
    for account in 0..bench.stalled.div_ceil(STALLED_EACH) {
        let name = format!("sender{account}");
        let new = serde_json::json!({"name": name, "password": ADMIN.password}).to_string();
        admin.ask("POST", "/api/v1/admin/users", &[], new.as_bytes())?.expect(201)?;
        let authorization = basic(&name, ADMIN.password);
        let mut talk = Talk::open_as(server.address, authorization.clone())?;
        for _ in 0..STALLED_EACH.min(bench.stalled - account * STALLED_EACH) {
            uploads
                .push((authorization.clone(), create(&mut talk, &[("Upload-Length", &SIZE.to_string())])?));
        }
    }
    thread::sleep(REST);
    let before = resident_memory(server.id());
    let start = Instant::now();
    let mut ghosts = Vec::new();
    for (authorization, path) in &uploads {
        let mut ghost = Talk::open_as(server.address, authorization.clone())
            .with_context(|| format!("after {} connections", ghosts.len()))?;
        stall(&mut ghost, path, SIZE, STALLED_BYTES)?;
        ghosts.push(ghost);
    }
    thread::sleep(REST);
    let held = resident_memory(server.id()).saturating_sub(before);
    // The server waits a minute for the next byte; what was given up by then is not held any more.
    ensure!(
        start.elapsed() < Duration::from_secs(50),
        "the first ones were given up before the last ones stalled"
    );
    Ok(mebibytes(held) * 1_024.0 / f64::from(bench.stalled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_one_may_be_slower() {
        #[track_caller]
        fn check(count: u32, expected: f64) {
            let found = quantile((1..=count).rev().map(f64::from).collect());
            assert!((found - expected).abs() < 1e-9, "{found}");
        }
        check(100, 99.0);
        check(20, 20.0);
        check(200, 198.0);
        check(1, 1.0);
        assert!(quantile(Vec::new()).is_nan());
    }
}
