//! Many small files: a folder put, the same folder again, and curl doing what it can against the floor and peers.
//! Owns the folder's shape.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::Bench;
use super::measure::cost;
use super::metric::{Bar, Metric};
use super::subject::{Subject, Who, present};
use super::transfers::fresh_client;
use crate::rig::bytes::write_file;
use crate::rig::curl;
use crate::rig::server::ADMIN;

/// How many files there are, and how large each is.
const FILES: u32 = 2_000;
const FILE: u64 = 16 << 10;

/// Measures the folder.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let folder = bench.folder.join("tree");
    let mut metrics = Vec::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for sample in 0..bench.samples {
        make(&folder, sample)?;
        let server = Subject::start(bench, Who::Hapax)?;
        let client = fresh_client(bench, &server.base())?;
        let put = || client.command(["put".as_ref(), "-r".as_ref(), folder.as_os_str(), ":/tree".as_ref()]);
        first.push(files_per_second(cost(bench, &mut put()?, &server)?.wall));
        second.push(cost(bench, &mut put()?, &server)?.wall.as_secs_f64());
    }
    metrics.push(Metric::new(
        "2,000 × 16 KiB, files/s",
        "hapax put -r, durable",
        first,
        Bar::AtLeast(4_000.0),
    ));
    metrics.push(Metric::new("the same tree again, s", "hapax put -r", second, Bar::AtMost(0.3)));
    for who in present() {
        let mut rates = Vec::new();
        for sample in 0..bench.samples {
            make(&folder, sample)?;
            let server = Subject::start(bench, who)?;
            let mut command = curl::curl(ADMIN);
            // One connection, one file after the other: curl's own way with many files.
            let names = format!("{}/[0001-{FILES}]", folder.display());
            command.args(["--fail", "--upload-file", &names, &server.url("")]).stdout(Stdio::null());
            rates.push(files_per_second(cost(bench, &mut command, &server)?.wall));
        }
        let subject = format!("curl to {}", who.name());
        metrics.push(Metric::new("2,000 × 16 KiB, files/s", &subject, rates, Bar::None));
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(metrics)
}

fn files_per_second(wall: Duration) -> f64 {
    f64::from(FILES) / wall.as_secs_f64()
}

/// Makes the folder anew, with other content for each sample.
fn make(folder: &Path, sample: u32) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    for number in 1..=FILES {
        let seed = u64::from(sample) << 32 | u64::from(number);
        write_file(&folder.join(format!("{number:04}")), seed, FILE)?;
    }
    Ok(())
}
