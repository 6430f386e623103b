//! Many small files: a folder put, the same folder again, the folder got back, and a hundred thousand files that did not
//! change; and curl doing what it can against the floor and peers. Owns the folders' shapes.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::Bench;
use super::measure::{Cost, cost};
use super::metric::{Bar, Metric};
use super::subject::{Subject, Who, present};
use super::transfers::fresh_client;
use crate::rig::bytes::write_file;
use crate::rig::client::Client;
use crate::rig::curl;
use crate::rig::server::ADMIN;

/// How many files there are, and how large each is.
const FILES: u32 = 2_000;
const FILE: u64 = 16 << 10;
/// How large a file of the large tree is, and how many lie in a folder of it.
const SMALL: u64 = 300;
const SMALL_IN_FOLDER: u32 = 100;
/// Younger files are hashed again before they are believed, however often they are put.
const SETTLED: Duration = Duration::from_millis(2_500);

/// Measures the folders.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let folder = bench.folder.join("tree");
    let (mut metrics, mut costs) = (Vec::new(), [const { Vec::new() }; 4]);
    for sample in 0..bench.samples {
        make(&folder, sample)?;
        let server = Subject::start(bench, Who::Hapax)?;
        let client = fresh_client(bench, &server.base())?;
        let there_and_back = there_and_back(bench, (&server, &client), &folder)?;
        costs.iter_mut().zip(there_and_back).for_each(|(costs, cost)| costs.push(cost));
    }
    let seconds = |costs: &[Cost]| costs.iter().map(|cost| cost.wall.as_secs_f64()).collect::<Vec<_>>();
    let rates = |costs: &[Cost]| costs.iter().map(|cost| files_per_second(cost.wall)).collect::<Vec<_>>();
    let [put, put_again, got, got_again] = &costs;
    for (what, subject, samples, bar) in [
        ("2,000 × 16 KiB, files/s", "hapax put -r, durable", rates(put), Bar::AtLeast(4_000.0)),
        ("the same tree again, s", "hapax put -r", seconds(put_again), Bar::AtMost(0.3)),
        ("2,000 × 16 KiB back, files/s", "hapax get -r, durable", rates(got), Bar::None),
        ("the same tree is here, s", "hapax get -r", seconds(got_again), Bar::None),
    ] {
        metrics.push(Metric::new(what, subject, samples, bar));
    }
    if let Some(files) = bench.tree_files {
        metrics.extend(large(bench, &folder, files)?);
    }
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

/// Puts a folder twice, and gets it back twice.
fn there_and_back(
    bench: &Bench,
    (server, client): (&Subject, &Client),
    folder: &Path,
) -> anyhow::Result<[Cost; 4]> {
    let back = bench.folder.join("back");
    if back.exists() {
        std::fs::remove_dir_all(&back)?;
    }
    let put = || client.command(["put".as_ref(), "-r".as_ref(), folder.as_os_str(), ":/tree".as_ref()]);
    let get = || client.command(["get".as_ref(), "-r".as_ref(), ":/tree/".as_ref(), back.as_os_str()]);
    let costs = [
        cost(bench, &mut put()?, server)?,
        cost(bench, &mut put()?, server)?,
        cost(bench, &mut get()?, server)?,
        cost(bench, &mut get()?, server)?,
    ];
    std::fs::remove_dir_all(&back)?;
    Ok(costs)
}

/// Measures a tree of so many small files, once: what counts is what it costs when nothing changed.
fn large(bench: &Bench, folder: &Path, files: u32) -> anyhow::Result<Vec<Metric>> {
    std::fs::remove_dir_all(folder)?;
    for number in 0..files {
        let within = folder.join(format!("{:04}", number / SMALL_IN_FOLDER));
        if number % SMALL_IN_FOLDER == 0 {
            std::fs::create_dir_all(&within)?;
        }
        write_file(&within.join(number.to_string()), u64::from(number) | 1 << 40, SMALL)?;
    }
    thread::sleep(SETTLED);
    let server = Subject::start(bench, Who::Hapax)?;
    let client = fresh_client(bench, &server.base())?;
    let [put, put_again, got, got_again] = there_and_back(bench, (&server, &client), folder)?;
    let row = |cost: &Cost, subject: &str, bar| {
        let what = format!("{files} × {SMALL} B, s");
        Metric::new(&what, subject, [cost.wall.as_secs_f64()], bar)
    };
    let used = |subject: &str, time: Duration| {
        let what = format!("{files} × {SMALL} B, unchanged, CPU s");
        Metric::new(&what, subject, [time.as_secs_f64()], Bar::None)
    };
    Ok(vec![
        row(&put, "hapax put -r", Bar::None),
        row(&put_again, "hapax put -r, unchanged", Bar::AtMost(5.0)),
        row(&got, "hapax get -r", Bar::None),
        row(&got_again, "hapax get -r, all of it here", Bar::None),
        used("hapax put -r, client", put_again.client),
        used("hapax put -r, server", put_again.server),
    ])
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
    thread::sleep(SETTLED);
    Ok(())
}
