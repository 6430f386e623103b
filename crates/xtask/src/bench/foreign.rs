//! `hapax get http://…` beside the downloaders that everybody has, from the floor server: on this machine's own line,
//! and on a long and lossy one. Owns the line's weather and the downloaders' command lines.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;

use super::Bench;
use super::measure::cost;
use super::metric::{Bar, Metric, mebibytes, per_gibibyte};
use super::subject::{Subject, Who, runs};
use super::transfers::{PLACED, Series, placed};
use crate::rig::bytes::write_file;
use crate::rig::client::Client;
use crate::rig::curl;
use crate::rig::link::Link;
use crate::rig::server::ADMIN;
use crate::rig::weather::Weather;

/// A line across an ocean, on a bad day: a connection carries a window each round trip, and now and then waits as long
/// as a sender does before it sends anew.
const BAD: Weather = Weather {
    round_trip: Duration::from_millis(100),
    window: 256 << 10,
    lost_percent: 1,
    stall: Duration::from_millis(200),
};

/// Who downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Downloader {
    Hapax,
    Curl,
    Aria2,
}

impl Downloader {
    fn name(self) -> &'static str {
        match self {
            Self::Hapax => "hapax get",
            Self::Curl => "curl",
            Self::Aria2 => "aria2c -x8",
        }
    }

    /// Prepares its command.
    fn command(self, bench: &Bench, url: &str, target: &Path) -> anyhow::Result<Command> {
        Ok(match self {
            Self::Hapax => {
                let (hapax, home) = (bench.hapax.clone(), bench.folder.join("stranger"));
                let (account, patience) = (ADMIN, bench.patience);
                // It talks to no server of ours.
                let client =
                    Client { hapax, home, url: String::new(), account, patience, around: Vec::new() };
                let mut command = client.command(["get".as_ref(), url.as_ref(), target.as_os_str()])?;
                for name in ["HAPAX_SERVER", "HAPAX_USER", "HAPAX_PASSWORD"] {
                    command.env_remove(name);
                }
                command
            }
            Self::Curl => {
                let mut command = curl::curl(ADMIN);
                command.args(["--fail", "--output"]).arg(target).arg(url);
                command
            }
            Self::Aria2 => {
                let mut command = Command::new("aria2c");
                // As many connections as it is allowed to, also for a small file, and nothing written twice.
                command.args(["--no-conf", "--quiet", "-x8", "-s8", "-k1M", "--file-allocation=none"]);
                command.arg("--dir=/").arg(format!("--out={}", target.display())).arg(url);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                command
            }
        })
    }
}

/// Returns a line for every downloader that is not here.
pub(crate) fn absent() -> Vec<String> {
    if runs("aria2c", "--version") { Vec::new() } else { vec!["aria2c: not installed".to_owned()] }
}

/// Measures the downloaders.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let near = compare(bench, bench.size, None)?;
    let far = compare(bench, bench.lossy_size, Some(BAD))?;
    let mut metrics = Vec::new();
    for (who, series) in &near {
        let ours = |bar| if *who == Downloader::Hapax { Bar::AtMost(bar) } else { Bar::None };
        let client = |cost: &super::measure::Cost| per_gibibyte(cost.client, bench.size);
        metrics.push(series.metric("foreign, client CPU s/GiB", client, ours(1.5)));
        metrics.push(series.metric(
            "foreign, client peak MiB",
            |cost| mebibytes(cost.client_peak),
            Bar::None,
        ));
        metrics.push(series.metric("foreign, wall s", |cost| cost.wall.as_secs_f64(), Bar::None));
    }
    let [(_, ours), others @ ..] = &near[..] else { return Ok(metrics) };
    for (who, other) in others {
        let bar = if *who == Downloader::Curl { Bar::AtMost(1.1) } else { Bar::None };
        metrics.push(ours.ratio("foreign, wall", other, bar));
    }
    for (_, series) in &far {
        metrics.push(series.metric("foreign, lossy line, wall s", |cost| cost.wall.as_secs_f64(), Bar::None));
    }
    let [(_, ours), others @ ..] = &far[..] else { return Ok(metrics) };
    for (who, other) in others {
        let bar = if *who == Downloader::Curl { Bar::AtLeast(4.0) } else { Bar::None };
        metrics.push(other.ratio("foreign, lossy line, wall", ours, bar));
    }
    Ok(metrics)
}

/// Has everybody who is here, ours first, download the same files.
fn compare(bench: &Bench, size: u64, weather: Option<Weather>) -> anyhow::Result<Vec<(Downloader, Series)>> {
    let mut all = vec![Downloader::Hapax, Downloader::Curl];
    all.extend(runs("aria2c", "--version").then_some(Downloader::Aria2));
    let mut all = all.into_iter().map(|who| (who, Series::new(who.name()))).collect::<Vec<_>>();
    let (local, target) = (bench.folder.join("source"), bench.folder.join("target"));
    for sample in 0..bench.samples {
        write_file(&local, u64::from(sample) + 500, size)?;
        let digest = bench.hashing.file(&local)?;
        let server = placed(bench, Who::Floor, &local)?;
        for (who, series) in &mut all {
            let link = weather.map(|weather| far(&server, weather)).transpose()?;
            let url = match &link {
                Some(link) => format!("http://{}{}{PLACED}", link.address(), server.prefix),
                None => server.url(PLACED),
            };
            let mut command = who.command(bench, &url, &target)?;
            series.costs.push(cost(bench, &mut command, &server)?);
            ensure!(bench.hashing.file(&target)? == digest, "{} got another file", who.name());
            std::fs::remove_file(&target)?;
        }
    }
    Ok(all)
}

fn far(server: &Subject, weather: Weather) -> anyhow::Result<Link> {
    let link = Link::open(server.address)?;
    link.weather(weather);
    Ok(link)
}
