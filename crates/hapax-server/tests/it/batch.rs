//! Many small files in one request: each for itself, all in one commit.

use hapax_proto::batch::{END, Limits, MEDIA_TYPE, encode_header};
use hapax_proto::dialect::native::{
    BatchOutcome, BatchRecord, BatchResult, Completed, Precondition, Service,
};
use hapax_proto::digest::FileHash;
use hapax_proto::span::Length;
use http::HeaderMap;
use serde_json::json;

use crate::files::noise;
use crate::h2::H2;
use crate::server::Running;
use crate::wire::{Answer, Client, Wire};

const TARGET: &str = "/api/v1/batch";
const FIELDS: [(&str, &str); 1] = [("Content-Type", MEDIA_TYPE)];

fn record(id: u64, path: &str, content: &[u8]) -> BatchRecord {
    BatchRecord {
        id,
        path: path.to_owned(),
        size: content.len() as u64,
        blake3: Some(FileHash::of(content)),
        mtime: None,
        executable: false,
        precondition: None,
    }
}

fn framed(record: &BatchRecord, content: &[u8]) -> Vec<u8> {
    [&encode_header(record).unwrap(), content].concat()
}

/// Returns a batch of files without its end.
fn open(files: &[(&str, &[u8])]) -> Vec<u8> {
    let records = files.iter().enumerate();
    records.flat_map(|(id, (path, content))| framed(&record(id as u64, path, content), content)).collect()
}

fn whole(files: &[(&str, &[u8])]) -> Vec<u8> {
    [open(files), END.to_vec()].concat()
}

async fn send(client: &Client, batch: &[u8]) -> Answer {
    client.send("POST", TARGET, &FIELDS, batch).await
}

fn lines(answer: &Answer) -> Vec<BatchResult> {
    assert_eq!(answer.field("content-type"), "application/x-ndjson");
    let text = std::str::from_utf8(&answer.body).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns what came of each record: `status`, or `status problem`.
fn words(answer: &Answer) -> Vec<String> {
    let word = |result: BatchResult| match result.outcome {
        BatchOutcome::Stored(_) => result.status.to_string(),
        BatchOutcome::Refused { problem } => format!("{} {problem}", result.status),
    };
    lines(answer).into_iter().map(word).collect()
}

fn stored(answer: &Answer) -> Vec<Completed> {
    let stored = |result: BatchResult| match result.outcome {
        BatchOutcome::Stored(completed) => completed,
        BatchOutcome::Refused { problem } => panic!("{} {problem}", result.id),
    };
    lines(answer).into_iter().map(stored).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_a_file() {
    let server = Running::start().await;
    let alice = server.alice();
    let contents: Vec<Vec<u8>> = [0, 1, 4_096, 4_097, 100_000, (1 << 20) + 1, 5 << 20, 16 << 20]
        .iter()
        .enumerate()
        .map(|(salt, &length)| {
            noise(length).into_iter().map(|byte| byte ^ u8::try_from(salt).unwrap()).collect()
        })
        .collect();
    let names: Vec<_> = (0..contents.len()).map(|number| format!("/folder/ä{number}")).collect();
    let mut batch = Vec::new();
    for (id, (name, content)) in names.iter().zip(&contents).enumerate() {
        let described = BatchRecord {
            mtime: Some("2026-11-21T12:34:56.789Z".to_owned()),
            executable: id % 2 == 0,
            ..record(id as u64 * 7, name, content)
        };
        batch.extend(framed(&described, content));
    }
    batch.extend(END);
    let answer = send(&alice, &batch).await.expect(200);
    let ids: Vec<_> = lines(&answer).iter().map(|result| (result.id, result.status)).collect();
    assert_eq!(ids, (0..8).map(|id| (id * 7, 201)).collect::<Vec<_>>());
    for (index, completed) in stored(&answer).into_iter().enumerate() {
        let content = &contents[index];
        assert_eq!((completed.size, completed.blake3), (content.len() as u64, FileHash::of(content)));
        assert_eq!(completed.path, format!("/@alice/folder/ä{index}"));
        let got = alice.get(&format!("/files/folder/%C3%A4{index}")).await.expect(200);
        assert!(got.body == *content, "{index}");
        assert_eq!(got.field("etag"), completed.etag);
        let entry = alice.get(&format!("/api/v1/entries/folder/%C3%A4{index}")).await.expect(200);
        let entry: serde_json::Value = entry.read();
        assert_eq!(entry["mtime"], "2026-11-21T12:34:56.789Z");
        assert_eq!(entry["executable"], index % 2 == 0);
    }
    assert_eq!(lines(&send(&alice, &END).await.expect(200)), []);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_refused_by_itself() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "old").await.expect(201);
    let etag = alice.send("PUT", "/files/b", &[], "old").await.expect(201).field("etag").to_owned();
    alice.json("POST", "/api/v1/entries/folder", &json!({"op": "mkdir"})).await.expect(201);
    let file = |path: &str| record(0, path, b"new");
    let only_if = |path: &str, precondition| BatchRecord { precondition: Some(precondition), ..file(path) };
    let cases = [
        (file("/../x"), "400 bad-path"),
        (file("x"), "400 bad-path"),
        (file("/@bob/x"), "404 not-found"),
        (file("/@nobody/x"), "404 not-found"),
        (file("/folder"), "409 is-a-folder"),
        (file("/"), "409 is-a-folder"),
        (file("/a/x"), "409 not-a-folder"),
        (BatchRecord { mtime: Some("yesterday".to_owned()), ..file("/x") }, "400 bad-field"),
        (BatchRecord { blake3: Some(FileHash::of(b"other")), ..file("/x") }, "400 digest-mismatch"),
        (BatchRecord { blake3: None, ..file("/c") }, "201"),
        (only_if("/a", Precondition::Absent), "412 precondition-failed"),
        (only_if("/d", Precondition::Absent), "201"),
        (only_if("/b", Precondition::Matches("\"other\"".to_owned())), "412 precondition-failed"),
        (only_if("/e", Precondition::Matches(etag.clone())), "412 precondition-failed"),
        (only_if("/b", Precondition::Matches(etag)), "200"),
        (file("/f"), "201"),
    ];
    let mut batch: Vec<u8> = cases.iter().flat_map(|(record, _)| framed(record, b"new")).collect();
    batch.extend(END);
    let expected: Vec<_> = cases.iter().map(|(_, word)| (*word).to_owned()).collect();
    assert_eq!(words(&send(&alice, &batch).await.expect(200)), expected);
    assert_eq!(alice.get("/files/a").await.expect(200).body, b"old");
    for stored in ["b", "c", "d", "f"] {
        assert_eq!(alice.get(&format!("/files/{stored}")).await.expect(200).body, b"new", "{stored}");
    }
    for absent in ["x", "e"] {
        alice.get(&format!("/files/{absent}")).await.refused(404, "not-found");
    }
    // Whoever may only read is told so record by record, as with claims.
    let reader = server.alice_who_may("read");
    assert_eq!(words(&send(&reader, &whole(&[("/g", b"g")])).await.expect(200)), ["403 forbidden"]);
    send(&server.nobody(), &whole(&[("/g", b"g")])).await.refused(401, "unauthenticated");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_one_name_do_not_mix() {
    let server = Running::start().await;
    let alice = server.alice();
    let absent = |content: &[u8]| {
        let record = BatchRecord { precondition: Some(Precondition::Absent), ..record(0, "/a", content) };
        framed(&record, content)
    };
    let batch = [absent(b"one"), absent(b"two"), absent(b"one"), END.to_vec()].concat();
    assert_eq!(words(&send(&alice, &batch).await.expect(200)), ["201", "412 precondition-failed", "200"]);
    assert_eq!(alice.get("/files/a").await.expect(200).body, b"one");
    server.end().await;
}

/// Returns a thousand files that differ from each other.
fn a_thousand(length: usize, salt: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = noise(length);
    (0..1_000).map(|n| (format!("/{salt}/{n}"), [n.to_string().as_bytes(), &bytes].concat())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_files_share_commits_and_objects() {
    // The job that hashes contents for others' digests commits, too.
    let server = Running::start_with(|config| config.claims.lookups.clear()).await;
    let alice = server.alice();
    // Sealed into the catalog: one transaction. In objects: one for each group of GROUP_BYTES.
    for (length, salt, commits_max, objects_max) in [(1_024, "inline", 3, 0), (5_000, "objects", 8, 4)] {
        let files = a_thousand(length, salt);
        let borrowed: Vec<_> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let batch = whole(&borrowed);
        let (commits, objects) = (server.store.commits(), count_objects(&server));
        let answer = send(&alice, &batch).await.expect(200);
        assert!(words(&answer).iter().all(|word| word == "201"));
        let first = stored(&answer);
        let taken = (server.store.commits() - commits, count_objects(&server) - objects);
        assert!(taken.0 <= commits_max, "{taken:?} commits and objects for {salt}");
        assert!(taken.1 <= objects_max, "{taken:?} commits and objects for {salt}");
        for (path, bytes) in [&files[0], &files[999]] {
            assert!(alice.get(&format!("/files{path}")).await.expect(200).body == *bytes);
        }
        // The same again finds everything there: nothing is committed and nothing written.
        let (commits, objects) = (server.store.commits(), count_objects(&server));
        let answer = send(&alice, &batch).await.expect(200);
        assert!(words(&answer).iter().all(|word| word == "200"));
        let versions = |all: &[Completed]| all.iter().map(|one| one.version).collect::<Vec<_>>();
        assert_eq!(versions(&stored(&answer)), versions(&first));
        assert_eq!((server.store.commits(), count_objects(&server)), (commits, objects));
        // Under other names the content is linked.
        let moved: Vec<_> = files.iter().map(|(path, bytes)| (format!("/other{path}"), bytes)).collect();
        let moved: Vec<_> = moved.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let answer = send(&alice, &whole(&moved)).await.expect(200);
        assert!(words(&answer).iter().all(|word| word == "201"));
        assert_eq!(count_objects(&server), objects);
        assert!(server.store.commits() - commits <= commits_max);
    }
    server.end().await;
}

/// Counts the objects in the data directory.
fn count_objects(server: &Running) -> usize {
    let dirs = std::fs::read_dir(server.data().join("objects")).unwrap();
    dirs.map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_refuses_the_records_that_do_not_fit() {
    let server = Running::start().await;
    let create = json!({"name": "carol", "password": "long enough", "quota": 10});
    server.root().json("POST", "/api/v1/admin/users", &create).await.expect(201);
    let basic = data_encoding::BASE64.encode(b"carol:long enough");
    let carol = Client { address: server.address, authorization: Some(format!("Basic {basic}")) };
    let batch = whole(&[("/a", b"123456"), ("/b", b"abcdef"), ("/c", b"1234")]);
    assert_eq!(words(&send(&carol, &batch).await.expect(200)), ["201", "507 quota", "201"]);
    assert_eq!(words(&send(&carol, &batch).await.expect(200)), ["200", "507 quota", "200"]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_breaks_a_rule_keeps_what_was_whole_before() {
    let server = Running::start_with(|config| {
        config.caps.batch = Limits { records: 3, record: Length::new(100), body: Length::new(2_000) };
    })
    .await;
    let alice = server.alice();
    let long = [b'x'; 101];
    let unknown = br#"{"id":1,"path":"/x","size":0,"colour":1}"#;
    let unknown = [&u32::try_from(unknown.len()).unwrap().to_be_bytes()[..], unknown].concat();
    let cases: [(Vec<u8>, u16, &str); 9] = [
        (Vec::new(), 400, "bad-field"),
        (vec![0, 0], 400, "bad-field"),
        (b"GET / HTTP/1.1".to_vec(), 400, "bad-field"),
        ([0, 0, 0, 2, b'{', b'}'].to_vec(), 400, "bad-field"),
        (unknown, 400, "unknown-member"),
        ([&END[..], b"more"].concat(), 400, "bad-field"),
        (open(&[("/x", b"1234")])[..60].to_vec(), 400, "bad-field"),
        (framed(&record(9, "/x", &long), &long), 413, "too-large"),
        (whole(&[("/y", b"1"), ("/z", b"2"), ("/x", b"3")]), 413, "too-large"),
    ];
    for (number, (rest, status, problem)) in cases.into_iter().enumerate() {
        let path = format!("/a{number}");
        let batch = [open(&[(&path, b"abc")]), rest].concat();
        send(&alice, &batch).await.refused(status, problem);
        assert_eq!(alice.get(&format!("/files{path}")).await.expect(200).body, b"abc", "{number}");
        alice.get("/files/x").await.refused(404, "not-found");
    }
    // The whole body: refused before a byte where its length is told, and else where it passes the limit.
    let large = [open(&[("/before", b"abc")]), vec![b' '; 2_000]].concat();
    let mut wire = server.connect().await;
    wire.send(alice.head("POST", TARGET, &FIELDS) + "Content-Length: 2001\r\n\r\n").await;
    wire.answer().await.refused(413, "too-large");
    send(&alice, &whole(&[("/b", b"b")])).await.expect(200);
    let mut h2 = H2::connect(server.address).await;
    let mut sending = h2.begin(&alice, "POST", TARGET, &FIELDS);
    sending.send(&large).await;
    let refused = sending.answer().await;
    assert!(matches!(refused.status.as_u16(), 400 | 413), "{refused:?}");
    assert_eq!(alice.get("/files/before").await.expect(200).body, b"abc");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_is_refused_before_it_is_read() {
    let server = Running::start_with(|config| config.caps.batches_in_flight = 1).await;
    let alice = server.alice();
    let batch = whole(&[("/a", b"abc")]);
    alice.send("POST", TARGET, &[], &batch).await.refused(415, "media-type");
    alice
        .send("POST", TARGET, &[("Content-Type", "application/json")], &batch)
        .await
        .refused(415, "media-type");
    let coded = [FIELDS[0], ("Content-Encoding", "gzip")];
    alice.send("POST", TARGET, &coded, &batch).await.refused(415, "content-coding");
    alice.get("/files/a").await.refused(404, "not-found");
    let service: Service = server.nobody().get("/api/v1").await.expect(200).read();
    assert!(service.features.iter().any(|feature| feature == "batch"));
    let limits = service.batch.unwrap();
    assert_eq!((limits.records_max, limits.record_max, limits.body_max), (10_000, 16 << 20, 64 << 20));
    assert_eq!(limits.in_flight, 1);
    // One batch of an account is being received; the next one has to wait, those of others do not.
    let mut waiting = server.connect().await;
    let expect = [FIELDS[0], ("Expect", "100-continue")];
    let length = format!("Content-Length: {}\r\n\r\n", batch.len());
    waiting.send(alice.head("POST", TARGET, &expect) + &length).await;
    waiting.head().await.expect(100);
    let refused = send(&alice, &batch).await.refused(429, "too-many");
    assert!(!refused.field("retry-after").is_empty());
    send(&server.bob(), &batch).await.expect(200);
    waiting.send(&batch).await;
    assert_eq!(words(&waiting.answer().await.expect(200)), ["201"]);
    send(&alice, &batch).await.expect(200);
    server.end().await;
}

/// Waits until a file is there: what is cut is settled after the connection is gone.
async fn appears(client: &Client, target: &str, content: &[u8]) {
    for _ in 0..10_000 {
        let answer = client.get(target).await;
        if answer.status.as_u16() == 200 {
            assert_eq!(answer.body, content);
            return;
        }
        answer.refused(404, "not-found");
        tokio::task::yield_now().await;
    }
    panic!("{target} does not appear");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cut_keeps_whole_records_and_shows_no_half_one() {
    let server = Running::start().await;
    let alice = server.alice();
    let large = noise(300_000);
    let half = |name: &str, cut: usize| {
        let first = format!("/{name}/whole");
        let second = format!("/{name}/half");
        let batch = open(&[(&first, b"abc"), (&second, &large)]);
        batch[..batch.len() - cut].to_vec()
    };
    for (name, cut) in [("end", 1), ("middle", 150_000), ("begin", 300_000)] {
        let batch = half(name, cut);
        let head = alice.head("POST", TARGET, &FIELDS);
        // HTTP/1.1: the connection is reset, or its sending side ends too early.
        let mut wire = Wire::connect(server.address).await;
        wire.send(format!("{head}Content-Length: {}\r\n\r\n", batch.len() + cut + 4)).await;
        wire.send(&batch).await;
        wire.finish().await;
        drop(wire.rest().await);
        appears(&alice, &format!("/files/{name}/whole"), b"abc").await;
        alice.get(&format!("/files/{name}/half")).await.refused(404, "not-found");
        // HTTP/2: the stream ends before the length that was told for it.
        let name = format!("{name}-2");
        let batch = half(&name, cut);
        let length = (batch.len() + cut + 4).to_string();
        let fields = [FIELDS[0], ("Content-Length", &length)];
        let mut sending = H2::connect(server.address).await.begin(&alice, "POST", TARGET, &fields);
        sending.send(&batch).await;
        sending.end_broken().await;
        appears(&alice, &format!("/files/{name}/whole"), b"abc").await;
        alice.get(&format!("/files/{name}/half")).await.refused(404, "not-found");
        // A stream that is reset may lose what it had sent; it shows no half of it.
        let name = format!("{name}-reset");
        let mut sending = H2::connect(server.address).await.begin(&alice, "POST", TARGET, &FIELDS);
        sending.send(&half(&name, cut)).await;
        sending.reset().await;
        alice.get(&format!("/files/{name}/half")).await.refused(404, "not-found");
    }
    // The same batches whole finish what is missing.
    for name in ["end", "middle-2"] {
        let batch = [half(name, 0), END.to_vec()].concat();
        assert_eq!(words(&send(&alice, &batch).await.expect(200)), ["200", "201"]);
        assert!(alice.get(&format!("/files/{name}/half")).await.expect(200).body == large);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_over_http_2_however_it_is_cut() {
    let server = Running::start().await;
    let alice = server.alice();
    let large = noise(200_000);
    let batch = whole(&[("/a", b"abc"), ("/b", &large), ("/c", b"")]);
    for step in [1_000, 77_777] {
        let mut sending = H2::connect(server.address).await.begin(&alice, "POST", TARGET, &FIELDS);
        for piece in batch.chunks(step) {
            sending.send(piece).await;
        }
        let answer = sending.finish(HeaderMap::new()).await.expect(200);
        let word = if step == 1_000 { "201" } else { "200" };
        assert_eq!(words(&answer), [word; 3]);
    }
    assert!(alice.get("/files/b").await.expect(200).body == large);
    server.end().await;
}

/// A record was once refused as not available because another of the same batch took the last name of the content that it
/// brings again: two files that change places, or logs that rotate.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_change_places_are_stored() {
    let server = Running::start().await;
    let alice = server.alice();
    for (old, new) in
        [(noise(3_000), vec![1; 3_000]), (noise(50_000), vec![2; 50_000]), (noise(6 << 20), vec![3])]
    {
        send(&alice, &whole(&[("/a", &old), ("/b", &new)])).await.expect(200);
        let swapped = whole(&[("/a", &new), ("/b", &old)]);
        assert_eq!(words(&send(&alice, &swapped).await.expect(200)), ["200", "200"], "{}", old.len());
        assert!(alice.get("/files/a").await.expect(200).body == new);
        assert!(alice.get("/files/b").await.expect(200).body == old);
        let newest = vec![7; 10];
        let rotated = whole(&[("/a", &newest), ("/b", &new)]);
        assert_eq!(words(&send(&alice, &rotated).await.expect(200)), ["200", "200"], "{}", old.len());
        assert!(alice.get("/files/b").await.expect(200).body == new);
    }
    server.end().await;
}
