//! tuspy as its documentation shows it, and curl in a shell.

use std::process::{Command, Output};

use super::{Bench, MIB, OVERHEAD, scripts};

#[track_caller]
fn succeeded(output: &Output) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `./test.sh clients`, which installs what it needs: {words}");
}

impl Bench {
    /// Prepares to run `tests/tus_client.py`.
    fn tuspy(&self, more: &[&str]) -> Command {
        let python = std::env::var("HAPAX_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = self.program(python);
        command.arg(scripts().join("tus_client.py")).args([&self.url("/tus/"), &self.token]);
        command.arg(self.file()).args(more);
        command
    }
}

#[test]
fn tuspy_sends_checksums_and_goes_on_after_a_kill() {
    let bench = Bench::with(6 * MIB + 5);
    let command = bench.tuspy(&["--chunk", "1048576", "--retries", "10"]);
    let (bench, up, output) = bench.killed_behind(3 * MIB + MIB / 2, 3 * MIB, command);
    succeeded(&output);
    assert!(up <= bench.size() + MIB + OVERHEAD, "{up} bytes went up");
    bench.stored("/film.mkv");
}

#[test]
fn tuspy_is_told_that_the_content_is_there() {
    let bench = Bench::with(5 * MIB + 5);
    bench.user.ok(&["put", "film.mkv", ":/held"]);
    let hash = bench.blake3();
    succeeded(&bench.tuspy(&["--chunk", "1048576", "--blake3", &hash]).output().unwrap());
    bench.stored("/film.mkv");
}

#[test]
fn the_page_shows_the_script_that_is_tested() {
    let page = std::fs::read_to_string(scripts().join("../docs/uploading.md")).unwrap();
    let script = std::fs::read_to_string(scripts().join("clients/tus.sh")).unwrap();
    assert!(page.contains(&format!("```sh\n{script}```\n")));
}

#[test]
fn curl_goes_on_after_a_kill() {
    let bench = Bench::with(20 * MIB + 5);
    let mut command = bench.program("sh");
    command.arg(scripts().join("clients/tus.sh")).args([&bench.url("/tus/"), &bench.token]).arg(bench.file());
    let (bench, up, output) = bench.killed_behind(18 * MIB, 16 * MIB, command);
    succeeded(&output);
    assert!(up <= bench.size() + 2 * MIB + OVERHEAD, "{up} bytes went up");
    bench.stored("/film.mkv");
}
