//! Sending while it is found out whether the server has the content: what that costs where it has not, and what it saves
//! where it has, on a line that is slow. Owns the pairs and the line.

use std::time::Duration;

use super::Bench;
use super::again::settle;
use super::measure::{Cost, cost};
use super::metric::{Bar, Metric, mebibytes, per_gibibyte};
use super::subject::{Subject, Who};
use super::transfers::{Series, fresh_client};
use crate::rig::bytes::write_file;
use crate::rig::link::Link;
use crate::rig::weather::Weather;

/// How often what differs by hundredths is measured at least, unless each is measured once.
const PAIRS_MIN: u32 = 9;

/// A line of about 100 Mbit/s for the four connections of a put together: each has this window a round trip.
const SLOW: Weather = Weather {
    round_trip: Duration::from_millis(20),
    window: 64 << 10,
    lost_percent: 0,
    stall: Duration::ZERO,
};

/// Servers with which nothing, only what is one's own and what others have can be recognised.
const WITHOUT: &str = "HAPAX_CLAIMS=off";
const OWN: &str = "HAPAX_CLAIMS=user";
const WIDE: &str = "HAPAX_CLAIMS=server";

/// Measures both.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut metrics = new_content(bench)?;
    metrics.extend(known_content(bench)?);
    Ok(metrics)
}

/// Puts content that nobody has, with and without recognition, in alternating order.
fn new_content(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let local = bench.folder.join("source");
    let mut without = Series::new("claims off");
    let (mut own, mut wide) = (Series::new("claims of one's own"), Series::new("claims of anybody's"));
    let pairs = if bench.samples > 1 { bench.samples.max(PAIRS_MIN) } else { 1 };
    for pair in 0..pairs {
        write_file(&local, u64::from(pair) + 300, bench.size)?;
        let mut settings = [(WITHOUT, &mut without), (OWN, &mut own), (WIDE, &mut wide)];
        settings.rotate_left(pair as usize % 3);
        for (setting, series) in settings {
            Subject::clear(bench, Who::Hapax)?;
            let server = Subject::start_ours(bench, &[setting])?;
            let client = fresh_client(bench, &server.base())?;
            settle(&local)?;
            let mut put = client.command(["put".as_ref(), local.as_os_str(), ":/new".as_ref()])?;
            series.costs.push(cost(bench, &mut put, &server)?);
        }
    }
    let what = "new content, wall";
    // What the neighbours on the machine do shows less in this than in the wall's clock.
    let spent = |series: &Series| {
        let both = |cost: &Cost| per_gibibyte(cost.client + cost.server, bench.size);
        series.metric("new content, both sides' CPU s/GiB", both, Bar::None)
    };
    let wall = |series: &Series| series.metric("new content, s", |cost| cost.wall.as_secs_f64(), Bar::None);
    Ok(vec![
        wall(&without),
        wall(&own),
        wall(&wide),
        spent(&without),
        spent(&own),
        spent(&wide),
        own.ratio(what, &without, Bar::AtMost(1.02)),
        wide.ratio(what, &without, Bar::AtMost(1.02)),
    ])
}

/// Puts content over a slow line that the server has under another name, and of which the client remembers nothing.
fn known_content(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let local = bench.folder.join("source");
    let (mut times, mut sent) = (Vec::new(), Vec::new());
    for sample in 0..bench.samples {
        write_file(&local, u64::from(sample) + 400, bench.size)?;
        Subject::clear(bench, Who::Hapax)?;
        let server = Subject::start_ours(bench, &[OWN])?;
        let put = |url: &str, remote: &str| -> anyhow::Result<f64> {
            let client = fresh_client(bench, url)?;
            settle(&local)?;
            let mut put = client.command(["put".as_ref(), local.as_os_str(), remote.as_ref()])?;
            Ok(cost(bench, &mut put, &server)?.wall.as_secs_f64())
        };
        put(&server.base(), ":/first")?;
        let link = Link::open(server.address)?;
        link.weather(SLOW);
        times.push(put(&format!("http://{}", link.address()), ":/second")?);
        sent.push(mebibytes(link.counts().up));
    }
    let subject = "hapax put, 100 Mbit/s, 20 ms";
    Ok(vec![
        Metric::new("known content, not cached, s", subject, times, Bar::None),
        Metric::new(
            "known content, not cached, MiB sent",
            subject,
            sent,
            Bar::AtMost(0.005 * mebibytes(bench.size)),
        ),
    ])
}
