//! What need not be sent: content that the server has, and the part of a file that an interrupted put has brought.
//! Owns what is measured of them: time, since hardly a byte moves.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::Bench;
use super::measure::cost;
use super::metric::{Bar, Metric};
use super::subject::{Subject, Who};
use super::transfers::fresh_client;
use crate::rig::bytes::write_file;
use crate::rig::link::{Link, Moment, Way};
use crate::rig::process::End;

/// What is certainly no request without a body: the first body byte is on the line when this much was sent since
/// the start of the process.
const NO_BODY: u64 = 24 << 10;

/// How old a source is when a client certainly trusts its own memory of it.
const TRUSTED: Duration = Duration::from_secs(3);

/// Waits until the disk is at rest. What is timed here takes a sync or two, and each would wait for the gigabytes that
/// were written just before; that is another measurement.
///
/// It waits as well until the source is so old that the client trusts what it remembers of it: of a file that was
/// changed a moment ago it remembers nothing.
pub(crate) fn settle(source: &Path) -> anyhow::Result<()> {
    ensure!(Command::new("sync").status()?.success(), "the disk could not be synced");
    let age = std::fs::metadata(source)?.modified()?.elapsed().unwrap_or_default();
    std::thread::sleep(TRUSTED.saturating_sub(age));
    Ok(())
}

/// Measures puts of content that the server has.
pub(crate) fn instant(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let local = bench.folder.join("source");
    let (mut cached, mut hashed, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..bench.samples {
        write_file(&local, u64::from(sample) + 100, bench.size)?;
        Subject::clear(bench, Who::Hapax)?;
        settle(&local)?;
        let start = Instant::now();
        let server = Subject::start(bench, Who::Hapax)?;
        starts.push(start.elapsed().as_secs_f64());
        let client = fresh_client(bench, &server.base())?;
        let put = |client: &crate::rig::client::Client, remote: &str| -> anyhow::Result<Duration> {
            let mut put = client.command(["put".as_ref(), local.as_os_str(), remote.as_ref()])?;
            Ok(cost(bench, &mut put, &server)?.wall)
        };
        put(&client, ":/first")?;
        settle(&local)?;
        cached.push(put(&client, ":/second")?.as_secs_f64());
        let forgetful = fresh_client(bench, &server.base())?;
        let ours = put(&forgetful, ":/third")?;
        let start = Instant::now();
        bench.hashing.file_at_once(&local)?;
        hashed.push(start.elapsed().div_duration_f64(ours));
    }
    let reference = format!("hapax put ÷ {}, all cores", bench.hashing.name);
    Ok(vec![
        Metric::new("first start to ready, s", "hapax serve", starts, Bar::AtMost(0.2)),
        Metric::new("instant, digest cached, s", "hapax put", cached, Bar::AtMost(0.05)),
        Metric::new("instant, not cached, speed ratio", &reference, hashed, Bar::AtLeast(0.8)),
    ])
}

/// Measures how soon a put that was killed at 95 % sends again.
pub(crate) fn resume(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let local = bench.folder.join("source");
    let mut times = Vec::new();
    for sample in 0..bench.samples {
        write_file(&local, u64::from(sample) + 200, bench.size)?;
        times.push(resume_once(bench, &local)?.as_secs_f64());
    }
    let subject = "hapax put, process start to first body byte";
    Ok(vec![Metric::new("resume at 95 %, s", subject, times, Bar::AtMost(0.05))])
}

fn resume_once(bench: &Bench, local: &Path) -> anyhow::Result<Duration> {
    let server = Subject::start(bench, Who::Hapax)?;
    let link = Link::open(server.address)?;
    let client = fresh_client(bench, &format!("http://{}", link.address()))?;
    let words = ["put".as_ref(), local.as_os_str(), ":/resumed".as_ref()];
    let mut first = client.start(words)?;
    let most = Moment { way: Way::Up, bytes: bench.size / 100 * 95 };
    ensure!(link.wait(most, || first.is_over()), "the put was over before it could be killed");
    first.kill()?;
    // What the first process left on the line must not be taken for the second one's bytes.
    link.cut();
    settle(local)?;
    let body = Moment { way: Way::Up, bytes: link.counts().up + NO_BODY };
    let start = Instant::now();
    let mut second = client.start(words)?;
    let found = link.wait(body, || second.is_over());
    let time = start.elapsed();
    ensure!(found, "the second put sent no body");
    let end = second.wait()?;
    ensure!(end == End::Exit(0), "the second put ended with {end:?}");
    Ok(time)
}
