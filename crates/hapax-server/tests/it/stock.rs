//! Stock clients over a line that breaks, as people use them; a browser that seeks; and many readers of a file that
//! is replaced all the time.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::process::Command;

use crate::files::noise;
use crate::link::Link;
use crate::server::{PASSWORD, Running};
use crate::wire::{Answer, Client, Wire};

/// A file of more than one part of storage.
const SIZE: usize = (20 << 20) + 12_345;

/// A server with a file, and a line to it.
struct Stage {
    server: Running,
    link: Link,
    bytes: Vec<u8>,
    dir: TempDir,
}

impl Stage {
    async fn set() -> Self {
        let server = Running::start().await;
        let bytes = noise(SIZE);
        server.alice().send("PUT", "/files/film.mkv", &[], &bytes).await.expect(201);
        let link = Link::to(server.address).await;
        Self { server, link, bytes, dir: tempfile::tempdir().unwrap() }
    }

    fn url(&self) -> String {
        self.link.url("/files/film.mkv")
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("film.mkv")
    }

    /// Runs a client in the directory of the downloads, without settings and proxies of whoever runs the tests.
    async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .await;
        output.unwrap_or_else(|error| panic!("{program}: {error}; test.sh installs it"))
    }

    /// Checks that a client has the file, and that the line did not carry what it had before again.
    #[track_caller]
    fn check(&self, output: &Output, had: u64) {
        assert!(output.status.success(), "{output:?}");
        assert!(std::fs::read(self.file()).unwrap() == self.bytes);
        let carried = self.link.passed();
        // Heads of answers, and what was on its way when a connection broke, are little beside the file.
        assert!(carried <= SIZE as u64 - had + (64 << 10), "{carried} bytes although {had} were there");
    }

    fn had(&self) -> u64 {
        std::fs::metadata(self.file()).map_or(0, |file| file.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_continues() {
    let stage = Stage::set().await;
    let (user, url) = (format!("alice:{PASSWORD}"), stage.url());
    let arguments = ["-q", "-sS", "-f", "-u", &user, "-C", "-", "-o", "film.mkv", &url];
    stage.link.cut_next([5_000_000, 7_000_000]);
    for _ in 0..2 {
        let broken = stage.run("curl", &arguments).await;
        assert!(!broken.status.success(), "{broken:?}");
    }
    stage.link.passed();
    let had = stage.had();
    assert!((11_000_000..12_000_000).contains(&had), "{had}");
    let output = stage.run("curl", &arguments).await;
    stage.check(&output, had);
    // What is whole already is 416 to curl, which leaves it alone.
    stage.run("curl", &arguments).await;
    assert!(std::fs::read(stage.file()).unwrap() == stage.bytes);
    // Pieces, put together by hand.
    let mut joined = Vec::new();
    for range in ["0-9999999", "10000000-19999999", "20000000-"] {
        let output = stage.run("curl", &["-q", "-sS", "-f", "-u", &user, "-r", range, &url]).await;
        assert!(output.status.success(), "{output:?}");
        joined.extend(output.stdout);
    }
    assert!(joined == stage.bytes);
    stage.server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wget_continues() {
    let stage = Stage::set().await;
    let (password, url) = (format!("--password={PASSWORD}"), stage.url());
    let common = ["-nv", "--no-config", "--no-hsts", "--no-proxy", "--user=alice", &password];
    let all = |more: &[&'static str]| [&common, more, &["--auth-no-challenge", "-c"]].concat();
    // Run again by a person.
    stage.link.cut_next([6_000_000]);
    let broken = stage.run("wget", &[all(&["--tries=1"]), vec![&url]].concat()).await;
    assert!(!broken.status.success(), "{broken:?}");
    stage.link.passed();
    let had = stage.had();
    assert!((5_000_000..6_000_000).contains(&had), "{had}");
    let output = stage.run("wget", &[all(&["--tries=1"]), vec![&url]].concat()).await;
    stage.check(&output, had);
    // Going on by itself.
    std::fs::remove_file(stage.file()).unwrap();
    stage.link.cut_next([3_000_000, 4_000_000, 5_000_000]);
    let output = stage.run("wget", &[all(&["--tries=9", "--waitretry=0"]), vec![&url]].concat()).await;
    stage.check(&output, 0);
    stage.server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aria2c_continues_with_eight_connections() {
    let stage = Stage::set().await;
    let (password, url) = (format!("--http-passwd={PASSWORD}"), stage.url());
    let common =
        ["--no-conf", "-q", "-x8", "-s8", "-k1M", "--file-allocation=none", "--http-user=alice", &password];
    let all = |more: &'static str| [&common[..], &[more, "-c", "-o", "film.mkv", &url]].concat();
    // Every connection breaks, and the program gives up.
    stage.link.cut_next([700_000; 64]);
    let broken = stage.run("aria2c", &all("--max-tries=1")).await;
    assert!(!broken.status.success(), "{broken:?}");
    assert!(Path::new(&stage.dir.path().join("film.mkv.aria2")).exists());
    stage.link.mend();
    // What it has it does not get again: a mark in it is still there afterwards.
    let mut held = std::fs::read(stage.file()).unwrap();
    held[0] ^= 1;
    std::fs::write(stage.file(), &held).unwrap();
    let output = stage.run("aria2c", &all("--max-tries=1")).await;
    assert!(output.status.success(), "{output:?}");
    let mut continued = std::fs::read(stage.file()).unwrap();
    assert_eq!(continued[0], held[0], "it began anew");
    continued[0] ^= 1;
    assert!(continued == stage.bytes);
    // Connections break, and the program goes on by itself.
    std::fs::remove_file(stage.file()).unwrap();
    stage.link.cut_next([900_000; 12]);
    let output = stage.run("aria2c", &all("--max-tries=40")).await;
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read(stage.file()).unwrap() == stage.bytes);
    stage.server.end().await;
}

/// What browsers ask for while somebody watches a film: the beginning, a probe of its end, and from where the
/// slider was dropped; each time they hang up on what they no longer want.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_seeks_in_a_film() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(SIZE);
    let put = alice.send("PUT", "/files/film.mp4", &[], &bytes).await.expect(201);
    let etag = put.field("etag").to_owned();
    // Safari looks whether ranges are understood.
    let probe = alice.ask("GET", "/files/film.mp4", &[("Range", "bytes=0-1")]).await.expect(206);
    assert_eq!(probe.field("content-range"), format!("bytes 0-1/{SIZE}"));
    assert_eq!((probe.field("content-type"), probe.body.as_slice()), ("video/mp4", &bytes[..2]));
    assert!(probe.field("content-disposition").starts_with("inline"));
    let seeks = [0, SIZE - 65_536, 1_000_000, 16 << 20, 300_000, SIZE - 1];
    for (seek, from) in seeks.into_iter().enumerate() {
        let range = format!("bytes={from}-");
        let fields = [("Range", range.as_str()), ("If-Range", etag.as_str())];
        let fields = if seek == 0 { &fields[..1] } else { &fields[..] };
        let mut wire: Wire = server.connect().await;
        wire.send(alice.head("GET", "/files/film.mp4", fields) + "\r\n").await;
        let head = wire.head().await;
        assert_eq!(head.status.as_u16(), 206);
        assert_eq!(head.field("content-range"), format!("bytes {from}-{}/{SIZE}", SIZE - 1));
        // A little is watched, and the connection is dropped.
        let watched = wire.some((SIZE - from).min(200_000)).await;
        assert!(watched == bytes[from..from + watched.len()], "{from}");
    }
    // The film is replaced while the page is open.
    let other: Vec<u8> = bytes.iter().rev().copied().collect();
    alice.send("PUT", "/files/film.mp4", &[], &other).await.expect(200);
    let fields = [("Range", "bytes=1000000-"), ("If-Range", etag.as_str())];
    let anew = alice.ask("GET", "/files/film.mp4", &fields).await.expect(200);
    assert!(anew.body == other && anew.field("etag") != etag);
    server.end().await;
}

/// The content of a version: it differs everywhere from that of every other, and in its length.
fn version(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; (3 << 20) + 1_000 * number];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Checks that an answer is wholly of the version that its entity tag names, and returns which that is.
#[track_caller]
fn check_version(answer: &Answer, versions: &[(String, Vec<u8>)]) -> usize {
    let number = versions.iter().position(|(etag, _)| etag == answer.field("etag")).expect("a known tag");
    let bytes = &versions[number].1;
    match answer.status.as_u16() {
        200 => assert!(answer.body == *bytes),
        206 => {
            let range = answer.field("content-range").strip_prefix("bytes ").unwrap();
            let (range, total) = range.split_once('/').unwrap();
            let (first, last) = range.split_once('-').unwrap();
            assert_eq!(total, bytes.len().to_string());
            assert!(answer.body == bytes[first.parse().unwrap()..=last.parse::<usize>().unwrap()]);
        }
        other => panic!("{other} to a range of a file that is always there"),
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_a_file_that_is_replaced_are_wholly_old_or_wholly_new() {
    const VERSIONS: usize = 8;
    const READERS: usize = 200;
    let server = Running::start().await;
    let alice = server.alice();
    let mut versions = Vec::new();
    for number in 0..VERSIONS {
        let bytes = version(number);
        let etag = alice.send("PUT", "/files/a", &[], &bytes).await.field("etag").to_owned();
        versions.push((etag, bytes));
    }
    let versions = Arc::new(versions);
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (alice, versions, over) = (alice.clone(), Arc::clone(&versions), Arc::clone(&over));
        async move {
            for number in (0..VERSIONS).cycle() {
                alice.send("PUT", "/files/a", &[], &versions[number].1).await.expect(200);
                if over.load(Ordering::SeqCst) {
                    return;
                }
            }
        }
    });
    let readers: Vec<_> = (0..READERS)
        .map(|reader| tokio::spawn(read_range(alice.clone(), Arc::clone(&versions), reader)))
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    server.end().await;
}

/// Reads a range of its own, with a condition or without.
async fn read_range(client: Client, versions: Arc<Vec<(String, Vec<u8>)>>, reader: usize) {
    let first = reader * 9_973;
    let range = format!("bytes={first}-{}", first + (1 << 20));
    let etag = &versions[reader % versions.len()].0;
    let by_range = [("Range", range.as_str()), ("If-Range", etag.as_str())];
    let by_match = [("Range", range.as_str()), ("If-Match", etag.as_str())];
    check_version(&client.ask("GET", "/files/a", &by_range[..1]).await, &versions);
    let answer = client.ask("GET", "/files/a", &by_range).await;
    let found = check_version(&answer, &versions);
    // A part only of what was named, and the whole of everything else.
    assert_eq!(answer.status.as_u16() == 206, found == reader % versions.len());
    let answer = client.ask("GET", "/files/a", &by_match).await;
    if answer.status.as_u16() == 412 {
        answer.refused(412, "precondition-failed");
    } else {
        assert_eq!(check_version(&answer.expect(206), &versions), reader % versions.len());
    }
}

/// A reader who is slower than the writers gets the version it began with, to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_ends_with_the_version_it_began_with() {
    let server = Running::start().await;
    let alice = server.alice();
    // More than the sockets hold, so that the server still has to read when the file is replaced.
    let old = noise(40 << 20);
    alice.send("PUT", "/files/a", &[], &old).await.expect(201);
    let mut wire: Wire = server.connect().await;
    wire.send(alice.head("GET", "/files/a", &[("Range", "bytes=5-")]) + "\r\n").await;
    let head = wire.head().await;
    assert_eq!(head.status.as_u16(), 206);
    let begun = wire.some(100_000).await;
    for number in 0..3 {
        alice.send("PUT", "/files/a", &[], version(number)).await.expect(200);
    }
    alice.ask("DELETE", "/files/a", &[]).await.expect(204);
    let rest = wire.some(old.len() - 5 - begun.len()).await;
    assert!([begun, rest].concat() == old[5..]);
    server.end().await;
}

/// Runs `tests/tus_client.py` and returns the upload's URL, which it prints.
async fn tuspy(server: &Running, file: &Path, more: &[&str]) -> String {
    let python = std::env::var("HAPAX_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tus_client.py");
    let authorization = server.alice().authorization.unwrap();
    let token = authorization.strip_prefix("Bearer ").unwrap();
    let output = Command::new(&python)
        .args([script, &server.url("/tus/"), token])
        .arg(file)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| panic!("{python}: {error}; test.sh makes one that has the packages"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `./test.sh tuspy`, which installs what it needs: {words}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tuspy_goes_on_after_the_server_was_started_again() {
    let server = Running::start().await;
    let bytes = noise(SIZE);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("film.mkv");
    std::fs::write(&file, &bytes).unwrap();
    let url = tuspy(&server, &file, &["--stop-at", "9000000"]).await;
    let target = url.strip_prefix(&server.url("")).unwrap().to_owned();
    let asked = [("Tus-Resumable", "1.0.0")];
    let head = server.alice().ask("HEAD", &target, &asked).await.expect(200);
    assert_eq!(head.field("upload-offset"), "9000000");

    let server = server.restart().await;
    tuspy(&server, &file, &["--url", &server.url(&target)]).await;
    assert!(server.alice().get("/files/film.mkv").await.expect(200).body == bytes);
}
