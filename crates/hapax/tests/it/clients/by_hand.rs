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

impl Bench {
    /// Sends a request of tus with curl, and returns what it answers.
    #[track_caller]
    fn tus(&self, method: &str, url: &str, fields: &[&str], body: &[u8]) -> String {
        let path = self.user.path("body");
        std::fs::write(&path, body).unwrap();
        let authorization = format!("Authorization: Bearer {}", self.token);
        let all = [&["Tus-Resumable: 1.0.0", &authorization][..], fields].concat();
        let mut curl = self.program("curl");
        curl.args(["-q", "-fsS", "-D", "-", "-X", method, "--data-binary", &format!("@{}", path.display())]);
        for field in all {
            curl.args(["-H", field]);
        }
        let output = curl.arg(self.url(url)).output().unwrap();
        succeeded(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Opens an upload, sends bytes to its beginning, and returns its path.
    fn begin(&self, fields: &[&str], bytes: &[u8]) -> String {
        let octets = "Content-Type: application/offset+octet-stream";
        let created = self.tus("POST", "/tus/", fields, b"");
        let url = created.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().trim().to_owned();
        self.tus("PATCH", &url, &[octets, "Upload-Offset: 0"], bytes);
        url
    }
}

#[test]
fn what_tus_began_is_listed_and_ended_by_our_own_command() {
    let bench = Bench::with(1);
    let url = bench.begin(&["Upload-Length: 10", "Upload-Metadata: filename YQ=="], b"12345");
    let listed = bench.user.events(&["transfers"]);
    let id = url.rsplit('/').next().unwrap();
    assert_eq!(listed[0]["id"], id, "{listed:?}");
    bench.user.ok(&["transfers", "rm", id]);
    assert_eq!(bench.user.ok(&["transfers"]), "");
}

#[test]
fn a_file_that_was_just_composed_is_fetched_and_proven() {
    let bench = Bench::with(40 * MIB + 5);
    let (first, second) = bench.bytes.split_at(17 << 20);
    let piece = |bytes: &[u8]| {
        bench.begin(&["Upload-Concat: partial", &format!("Upload-Length: {}", bytes.len())], bytes)
    };
    let concat = format!("Upload-Concat: final;{} {}", piece(first), piece(second));
    bench.tus("POST", "/tus/", &[&concat, "Upload-Metadata: filename d2hvbGU="], b"");
    // What it hashes to may not be known yet: the command waits for that as for a busy server.
    bench.user.ok(&["get", ":/whole", "whole"]);
    assert!(std::fs::read(bench.user.path("whole")).unwrap() == bench.bytes);
    assert_eq!(bench.user.ok(&["transfers"]), "", "the pieces are nobody's concern any more");
}
