//! Many at once: a hundred uploads in parallel, and how much memory the server ever held. Owns the hundred files.

use std::process::Stdio;

use super::Bench;
use super::measure::cost;
use super::metric::{Bar, Metric, mebibytes};
use super::subject::{Subject, Who};
use crate::rig::bytes::write_file;
use crate::rig::curl;
use crate::rig::server::ADMIN;

/// How many files are sent at once.
const FILES: u64 = 100;

/// Measures the hundred.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let folder = bench.folder.join("crowd");
    std::fs::create_dir_all(&folder)?;
    for number in 0..FILES {
        write_file(&folder.join(format!("{number:02}")), number + 300, bench.crowd_size)?;
    }
    let mut peaks = Vec::new();
    for _ in 0..bench.samples {
        let server = Subject::start(bench, Who::Hapax)?;
        // A password is checked once, then known for a while: a hundred checks at once are not what is measured.
        let first = folder.join("00");
        anyhow::ensure!(curl::put_file(&server.url("first"), ADMIN, &first)?, "curl could not put a file");
        let mut command = curl::curl(ADMIN);
        // Without `--parallel-immediate` curl would wait to see whether one connection could carry all.
        command.args([
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            "100",
            "--fail",
            "--upload-file",
        ]);
        command.arg(format!("{}/[00-{}]", folder.display(), FILES - 1)).arg(server.url(""));
        command.stdout(Stdio::null());
        peaks.push(mebibytes(cost(bench, &mut command, &server)?.server_peak));
    }
    std::fs::remove_dir_all(&folder)?;
    let subject = "hapax serve, curl --parallel";
    Ok(vec![Metric::new("100 uploads at once, server peak MiB", subject, peaks, Bar::AtMost(256.0))])
}
