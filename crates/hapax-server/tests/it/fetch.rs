//! Many small files in one answer: each for itself, whole or not there.

use std::os::unix::fs::FileExt;

use hapax_proto::batch::{Decoder, Limits, MEDIA_TYPE, Piece};
use hapax_proto::dialect::native::{FetchOutcome, FetchRecord, Service};
use hapax_proto::digest::FileHash;
use hapax_proto::span::Length;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::files::noise;
use crate::h2::H2;
use crate::server::Running;
use crate::wire::{Answer, Client, Wire};

const TARGET: &str = "/api/v1/batch/get";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// An answer as far as it came: the records with their content, and whether its end was there.
struct Fetched {
    records: Vec<(FetchRecord, Vec<u8>)>,
    is_whole: bool,
}

impl Fetched {
    fn of(body: &[u8]) -> Self {
        let mut decoder = Decoder::<FetchRecord>::new(Limits::default());
        let (mut records, mut open, mut input) = (Vec::new(), None, body);
        while let Some(piece) = decoder.next(&mut input).unwrap() {
            match piece {
                Piece::Begin(record) => open = Some((*record, Vec::new())),
                Piece::Content(bytes) => open.as_mut().unwrap().1.extend_from_slice(bytes),
                Piece::Whole => records.push(open.take().unwrap()),
            }
        }
        let fetched = Self { records, is_whole: decoder.finish().is_ok() };
        fetched.assert_proven();
        fetched
    }

    /// Whatever else went wrong: a record is what it says.
    #[track_caller]
    fn assert_proven(&self) {
        for (record, content) in &self.records {
            match &record.outcome {
                FetchOutcome::File(file) => {
                    assert_eq!((record.status, file.size), (200, content.len() as u64));
                    assert_eq!(FileHash::of(content), file.blake3, "{}", file.path);
                }
                FetchOutcome::Refused { .. } => assert!(content.is_empty()),
            }
        }
    }

    /// Returns what came of each item: `id`, or `id status problem`.
    fn words(&self) -> Vec<String> {
        let word = |record: &FetchRecord| match &record.outcome {
            FetchOutcome::File(_) => record.id.to_string(),
            FetchOutcome::Refused { problem } => format!("{} {} {problem}", record.id, record.status),
        };
        self.records.iter().map(|(record, _)| word(record)).collect()
    }
}

fn ask_for(items: &[(&str, Option<&str>)]) -> Value {
    let item = |(id, (path, etag)): (usize, &(&str, Option<&str>))| match etag {
        None => json!({"id": id, "path": path}),
        Some(etag) => json!({"id": id, "path": path, "etag": etag}),
    };
    json!({"items": items.iter().enumerate().map(item).collect::<Vec<_>>()})
}

/// Takes the body out of its transfer coding; tells whether all of it came.
fn unchunked(mut coded: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = coded.windows(2).position(|pair| pair == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&coded[..end]).unwrap(), 16).unwrap();
        let chunk = &coded[end + 2..];
        if length == 0 {
            return (body, true);
        }
        if chunk.len() < length + 2 {
            body.extend_from_slice(&chunk[..chunk.len().min(length)]);
            return (body, false);
        }
        body.extend_from_slice(&chunk[..length]);
        coded = &chunk[length + 2..];
    }
    (body, false)
}

/// Begins to ask over HTTP/1.1, and reads the head of the answer.
async fn begin(client: &Client, body: &Value) -> (Wire, Answer) {
    let body = body.to_string();
    let mut wire = Wire::connect(client.address).await;
    let head = client.head("POST", TARGET, &[JSON, ("Connection", "close")]);
    wire.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    let head = wire.head().await;
    (wire, head)
}

/// Asks over HTTP/1.1, and reads until the connection ends.
async fn fetch(client: &Client, body: &Value) -> Fetched {
    let (wire, head) = begin(client, body).await;
    let head = head.expect(200);
    assert_eq!((head.field("content-type"), head.field("cache-control")), (MEDIA_TYPE, "no-store"));
    let (body, is_whole) = unchunked(&wire.rest().await);
    let fetched = Fetched::of(&body);
    assert_eq!(fetched.is_whole, is_whole, "a body that ends has its end");
    fetched
}

#[tokio::test(flavor = "multi_thread")]
async fn every_item_is_a_file() {
    let server = Running::start().await;
    let alice = server.alice();
    let lengths = [0, 1, 4_096, 4_097, 100_000, (256 << 10) + 1, 1 << 20, 5 << 20, 16 << 20];
    let bytes = noise(16 << 20);
    let mut paths = Vec::new();
    for (number, length) in lengths.into_iter().enumerate() {
        let path = format!("folder/f{number}");
        alice.send("PUT", &format!("/files/{path}"), &[], &bytes[..length]).await.expect(201);
        let meta = json!({"mtime": "2026-11-21T12:34:56.789Z", "executable": number % 2 == 0});
        alice.json("PATCH", &format!("/api/v1/entries/{path}"), &meta).await.expect(200);
        paths.push(format!("/{path}"));
    }
    let items: Vec<_> = paths.iter().map(|path| (path.as_str(), None)).collect();
    let over_h1 = fetch(&alice, &ask_for(&items)).await;
    let mut sending = H2::connect(server.address).await.begin(&alice, "POST", TARGET, &[JSON]);
    sending.send(ask_for(&items).to_string().as_bytes()).await;
    let over_h2 = Fetched::of(&sending.finish(HeaderMap::new()).await.expect(200).body);
    for fetched in [over_h1, over_h2] {
        assert!(fetched.is_whole);
        assert_eq!(fetched.records.len(), lengths.len());
        for (number, (record, content)) in fetched.records.into_iter().enumerate() {
            let FetchOutcome::File(file) = record.outcome else { panic!("{record:?}") };
            assert!(*content == bytes[..lengths[number]], "{number}");
            assert_eq!((record.id, file.path), (number as u64, format!("/@alice/folder/f{number}")));
            assert_eq!(file.mtime.as_deref(), Some("2026-11-21T12:34:56.789Z"));
            assert_eq!(file.executable, number % 2 == 0);
            let head = alice.ask("HEAD", &format!("/files/folder/f{number}"), &[]).await.expect(200);
            assert_eq!(head.field("etag"), file.etag);
        }
    }
    assert!(fetch(&alice, &ask_for(&[])).await.is_whole);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_is_refused_by_itself() {
    let server = Running::start().await;
    let alice = server.alice();
    let etag = alice.send("PUT", "/files/a", &[], "one").await.expect(201).field("etag").to_owned();
    alice.send("PUT", "/files/folder/b", &[], "two").await.expect(201);
    alice.send("PUT", "/files/large", &[], vec![7; (16 << 20) + 1]).await.expect(201);
    let items = [
        ("/a", None),
        ("/a", Some(&*etag)),
        ("/a", Some("\"another\"")),
        ("/@alice/folder/b", None),
        ("/folder", None),
        ("/", None),
        ("/none", None),
        ("/a/below", None),
        ("/@bob/a", None),
        ("/@nobody/a", None),
        ("/../a", None),
        ("a", None),
        ("/large", None),
        ("/a", None),
    ];
    let fetched = fetch(&alice, &ask_for(&items)).await;
    assert!(fetched.is_whole);
    let expected = [
        "0",
        "1",
        "2 412 changed",
        "3",
        "4 409 is-a-folder",
        "5 409 is-a-folder",
        "6 404 not-found",
        "7 404 not-found",
        "8 404 not-found",
        "9 404 not-found",
        "10 400 bad-path",
        "11 400 bad-path",
        "12 413 too-large",
        "13",
    ];
    assert_eq!(fetched.words(), expected);
    // What is another's is answered as what nobody has; who may not read is told so item by item.
    let a = ask_for(&[("/@alice/a", None)]);
    assert_eq!(fetch(&server.bob(), &a).await.words(), ["0 404 not-found"]);
    assert_eq!(fetch(&server.alice_who_may("read"), &a).await.words(), ["0"]);
    assert_eq!(fetch(&server.alice_who_may("write"), &a).await.words(), ["0 403 forbidden"]);
    server.nobody().json("POST", TARGET, &a).await.refused(401, "unauthenticated");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_of_files_is_refused() {
    let server = Running::start_with(|config| {
        config.caps.batch = Limits { records: 3, ..Limits::default() };
        config.caps.json_bytes = 1_000;
    })
    .await;
    let alice = server.alice();
    for (body, status, problem) in [
        ("", 400, "bad-field"),
        ("{", 400, "bad-field"),
        ("[]", 400, "bad-field"),
        ("{}", 400, "bad-field"),
        (r#"{"items": [{"id": -1, "path": "/a"}]}"#, 400, "bad-field"),
        (r#"{"items": [{"path": "/a"}]}"#, 400, "bad-field"),
        (r#"{"items": [{"id": 1, "path": "/a", "tag": "x"}]}"#, 400, "unknown-member"),
        (r#"{"items": [], "more": 1}"#, 400, "unknown-member"),
        (&ask_for(&[("/a", None); 4]).to_string(), 413, "too-large"),
        // How many there are is known before any of them is kept.
        (r#"{"items": [{}, {}, {}, {}]}"#, 413, "too-large"),
        (&ask_for(&[(&"/a".repeat(600), None)]).to_string(), 413, "too-large"),
    ] {
        alice.send("POST", TARGET, &[JSON], body).await.refused(status, problem);
    }
    let other = [("Content-Type", MEDIA_TYPE)];
    alice.send("POST", TARGET, &other, "{}").await.refused(415, "media-type");
    alice.get(TARGET).await.refused(405, "method-not-allowed");
    let service: Service = server.nobody().get("/api/v1").await.expect(200).read();
    assert!(service.features.iter().any(|feature| feature == "batch-get"));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_before_the_file_that_has_no_room() {
    let limits = Limits { records: 10, record: Length::new(3_000), body: Length::new(10_000) };
    let server = Running::start_with(move |config| config.caps.batch = limits).await;
    let alice = server.alice();
    let names: Vec<_> = (0..5).map(|number| format!("/f{number}")).collect();
    for name in &names {
        alice.send("PUT", &format!("/files{name}"), &[], noise(2_500)).await.expect(201);
    }
    let items: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
    let fetched = fetch(&alice, &ask_for(&items)).await;
    assert!(fetched.is_whole, "what is left out is no failure");
    assert_eq!(fetched.words(), ["0", "1", "2"]);
    assert_eq!(fetch(&alice, &ask_for(&items[3..])).await.words(), ["0", "1"]);
    // What is refused takes no room, and a small file behind a large one is not let past it.
    alice.send("PUT", "/files/small", &[], "x").await.expect(201);
    let items = [&items[..3], &[("/none", None)], &items[3..], &[("/small", None)]].concat();
    assert_eq!(fetch(&alice, &ask_for(&items)).await.words(), ["0", "1", "2", "3 404 not-found"]);
    server.end().await;
}

/// Damages the last byte of every object.
fn damage(server: &Running) {
    for dir in std::fs::read_dir(server.data().join("objects")).unwrap() {
        for object in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            let file =
                std::fs::OpenOptions::new().read(true).write(true).open(object.unwrap().path()).unwrap();
            let last = file.metadata().unwrap().len() - 1;
            let mut byte = [0];
            file.read_exact_at(&mut byte, last).unwrap();
            file.write_all_at(&[byte[0] ^ 1], last).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused_or_takes_the_end_with_it() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(2 << 20);
    alice.send("PUT", "/files/inline", &[], "sound").await.expect(201);
    alice.send("PUT", "/files/small", &[], &bytes[..100_000]).await.expect(201);
    alice.send("PUT", "/files/large", &[], &bytes).await.expect(201);
    damage(&server);
    // A file that fails at once is known to fail before anything of it is sent.
    let items = [("/inline", None), ("/small", None), ("/inline", None), ("/large", None), ("/inline", None)];
    assert_eq!(fetch(&alice, &ask_for(&items[..3])).await.words(), ["0", "1 500 damaged", "2"]);
    let fetched = fetch(&alice, &ask_for(&items)).await;
    assert!(!fetched.is_whole);
    assert_eq!(fetched.words(), ["0", "1 500 damaged", "2"]);
    let mut sending = H2::connect(server.address).await.begin(&alice, "POST", TARGET, &[JSON]);
    sending.send(ask_for(&items).to_string().as_bytes()).await;
    sending.end_without_answer().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_meanwhile_is_the_old_or_the_new_one() {
    let server = Running::start().await;
    let alice = server.alice();
    let old = noise(16 << 20);
    for name in ["a", "b", "c"] {
        alice.send("PUT", &format!("/files/{name}"), &[], &old).await.expect(201);
    }
    let (wire, head) = begin(&alice, &ask_for(&[("/a", None), ("/b", None), ("/c", None)])).await;
    head.expect(200);
    // More than sockets hold is still to be read.
    alice.send("PUT", "/files/a", &[], "new").await.expect(200);
    alice.send("PUT", "/files/b", &[], "new").await.expect(200);
    alice.ask("DELETE", "/files/c", &[]).await.expect(204);
    let (body, is_whole) = unchunked(&wire.rest().await);
    assert!(is_whole);
    let fetched = Fetched::of(&body);
    assert!(fetched.records[0].1 == old);
    let [_, (_, b), (last, c)] = &fetched.records[..] else { panic!("{:?}", fetched.words()) };
    assert!(*b == old || b == b"new");
    assert!(*c == old || last.status == 404);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_gives_its_place_back() {
    let server = Running::start_with(|config| config.caps.batches_in_flight = 1).await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], noise(16 << 20)).await.expect(201);
    alice.send("PUT", "/files/b", &[], "b").await.expect(201);
    let many = ask_for(&[("/a", None), ("/a", None), ("/a", None)]);
    let one = ask_for(&[("/b", None)]);
    let (stalled, head) = begin(&alice, &many).await;
    head.expect(200);
    let refused = alice.json("POST", TARGET, &one).await.refused(429, "too-many");
    assert!(!refused.field("retry-after").is_empty());
    stalled.reset();
    for _ in 0..10_000 {
        let (wire, head) = begin(&alice, &one).await;
        if head.status.as_u16() == 200 {
            assert_eq!(Fetched::of(&unchunked(&wire.rest().await).0).words(), ["0"]);
            return server.end().await;
        }
        head.refused(429, "too-many");
        tokio::task::yield_now().await;
    }
    panic!("the place of a reader that is gone stays taken");
}
