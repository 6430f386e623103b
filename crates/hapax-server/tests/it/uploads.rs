//! The native dialect of uploads: parts in any order, cut, repeated, superseded; and what completes them.

use std::sync::Arc;

use hapax_proto::dialect::native::{Completed, SpanDigest, StoredPart, UploadList, UploadStatus};
use hapax_proto::digest::{Algorithm, FileHash};
use hapax_proto::tree::{PartHasher, PartNumber, PartValue};
use hapax_proto::upload::State;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::files::{digest_field, noise};
use crate::server::Running;
use crate::wire::{Answer, Client, Wire};

const P: usize = 16 << 20;

/// An upload of a file that a test has in memory.
struct Upload {
    client: Client,
    id: String,
    bytes: Vec<u8>,
}

impl Upload {
    async fn create(client: Client, key: u32, bytes: Vec<u8>) -> Self {
        let create = json!({"key": format!("{key:016}"), "path": format!("/f{key}"), "size": bytes.len()});
        let created = client.json("POST", "/api/v1/uploads", &create).await.expect(201);
        let status: UploadStatus = created.read();
        assert_eq!(created.field("location"), format!("/uploads/{}", status.id));
        assert_eq!((status.url.as_str(), status.state), (created.field("location"), State::Open));
        Self { client, id: status.id, bytes }
    }

    fn url(&self, rest: &str) -> String {
        format!("/api/v1/uploads/{}{rest}", self.id)
    }

    fn part(&self, number: usize) -> &[u8] {
        &self.bytes[number * P..self.bytes.len().min((number + 1) * P)]
    }

    fn value(&self, number: usize) -> PartValue {
        let mut hasher = PartHasher::new(PartNumber::new(u32::try_from(number).unwrap()));
        hasher.update(self.part(number)).unwrap();
        hasher.value().unwrap()
    }

    fn value_field(&self, number: usize) -> String {
        self.value(number).format_field().to_str().unwrap().to_owned()
    }

    async fn put(&self, number: usize) -> Answer {
        let value = self.value_field(number);
        let fields = [("Hapax-Part-Value", value.as_str())];
        self.client.send("PUT", &self.url(&format!("/parts/{number}")), &fields, self.part(number)).await
    }

    /// Begins to send a part and stops after so many bytes.
    async fn begin_part(&self, number: usize, sent: usize) -> Wire {
        let length = self.part(number).len().to_string();
        let value = self.value_field(number);
        let fields = [("Content-Length", length.as_str()), ("Hapax-Part-Value", value.as_str())];
        let mut wire = Wire::connect(self.client.address).await;
        wire.send(self.client.head("PUT", &self.url(&format!("/parts/{number}")), &fields) + "\r\n").await;
        wire.send(&self.part(number)[..sent]).await;
        wire
    }

    async fn status(&self) -> UploadStatus {
        self.client.get(&self.url("")).await.expect(200).read()
    }

    async fn complete(&self) -> Answer {
        let hash = FileHash::of(&self.bytes).to_string();
        let complete = json!({"size": self.bytes.len(), "blake3": hash});
        self.client.json("POST", &self.url("/complete"), &complete).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_arrive_in_any_order_and_the_file_appears_once_whole() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(2 * P + 77)).await;
    let again = json!({"key": format!("{:016}", 1), "path": "/f1", "size": 2 * P + 77});
    let again: UploadStatus = upload.client.json("POST", "/api/v1/uploads", &again).await.expect(200).read();
    assert_eq!(again.id, upload.id);

    let stored: StoredPart = upload.put(2).await.expect(201).read();
    assert_eq!((stored.value, stored.have, stored.offset), (Some(upload.value(2)), 77, 0));
    let refused = upload.complete().await.refused(409, "incomplete");
    assert_eq!(refused.read::<Value>()["missing"], json!([[0, 2 * P]]));
    let stored: StoredPart = upload.put(0).await.expect(201).read();
    assert_eq!(stored.offset, P as u64);
    upload.client.get("/files/f1").await.refused(404, "not-found");
    let stored: StoredPart = upload.put(1).await.expect(201).read();
    assert_eq!(stored.offset, upload.bytes.len() as u64);
    let status = upload.status().await;
    assert_eq!((status.received, status.parts.len()), (vec![(0, upload.bytes.len() as u64)], 3));

    let completed: Completed = upload.complete().await.expect(201).read();
    assert_eq!(completed.blake3, FileHash::of(&upload.bytes));
    assert!(upload.client.get("/files/f1").await.expect(200).body == upload.bytes);
    // The answer may have been lost: the same again, the same answer.
    assert_eq!(upload.complete().await.expect(201).read::<Completed>(), completed);
    assert!(upload.client.get(&format!("/uploads/{}", upload.id)).await.expect(200).body == upload.bytes);
    upload.begin_part(0, 0).await.answer().await.refused(409, "already-complete");
    server.end().await;
}

/// The second was once refused as already complete, or as incomplete with nothing missing: both were decided before
/// either was done.
#[tokio::test(flavor = "multi_thread")]
async fn completions_at_the_same_time_get_the_same_answer() {
    let server = Running::start().await;
    for (key, precondition) in [(1, None), (2, Some(json!("absent"))), (3, None), (4, None)] {
        let create = json!({
            "key": format!("{key:016}"), "path": format!("/f{key}"), "size": 100, "precondition": precondition,
        });
        let created = server.alice().json("POST", "/api/v1/uploads", &create).await.expect(201);
        let id = created.read::<UploadStatus>().id;
        let upload = Arc::new(Upload { client: server.alice(), id, bytes: vec![key; 100] });
        upload.put(0).await.expect(201);
        let mut completing = JoinSet::new();
        for _ in 0..8 {
            let upload = Arc::clone(&upload);
            completing.spawn(async move { upload.complete().await });
        }
        let answers = completing.join_all().await;
        let stored: Vec<Completed> = answers.into_iter().map(|answer| answer.expect(201).read()).collect();
        assert!(stored.iter().all(|completed| *completed == stored[0]), "{stored:?}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_held_is_answered_without_its_body() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(3 << 20)).await;
    upload.put(0).await.expect(201);
    let answer = upload.begin_part(0, 0).await.answer().await.expect(200);
    assert_eq!(answer.field("connection"), "close");
    assert_eq!(answer.read::<StoredPart>().value, Some(upload.value(0)));
    // Bytes that are other than declared change nothing.
    let wrong = upload
        .client
        .send(
            "PUT",
            &upload.url("/parts/0"),
            &[("Hapax-Part-Value", &format!(":{}:", "A".repeat(43) + "="))],
            &upload.bytes,
        )
        .await;
    wrong.refused(400, "digest-mismatch");
    upload.complete().await.expect(201);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_part_may_not_be() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(1_000)).await;
    let put = async |target: &str, fields: &[(&str, &str)], body: &[u8]| {
        upload.client.send("PUT", &upload.url(target), fields, body).await
    };
    put("/parts/1", &[], b"x").await.refused(404, "part-out-of-range");
    put("/parts/0", &[], &[0; 1_001]).await.refused(400, "part-length");
    put("/parts/0?from=5", &[], b"x").await.refused(409, "part-offset");
    put("/parts/0?from=x", &[], b"x").await.refused(400, "bad-field");
    put("/parts/0", &[("Hapax-Part-Value", "x")], b"x").await.refused(400, "bad-field");
    put("/parts/0", &[("Content-Encoding", "gzip")], b"x").await.refused(415, "content-coding");
    let digest = digest_field(Algorithm::Sha256, b"other");
    put("/parts/0", &[("Content-Digest", &digest)], &upload.bytes).await.refused(400, "digest-mismatch");
    assert_eq!(upload.status().await.received, []);
    let mut wire = server.connect().await;
    let chunked = [("Transfer-Encoding", "chunked")];
    wire.send(upload.client.head("PUT", &upload.url("/parts/0"), &chunked) + "\r\n0\r\n\r\n").await;
    wire.answer().await.refused(411, "length-required");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_part_keeps_what_arrived_and_goes_on_there() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(P + 5_000_000)).await;
    let sent = 3_000_001;
    let mut wire = upload.begin_part(1, sent).await;
    wire.finish().await;
    wire.answer().await.refused(503, "unavailable");
    let status = upload.status().await;
    assert_eq!((status.partial[0].n, status.partial[0].have), (1, sent as u64));

    let value = upload.value_field(1);
    let rest = &upload.part(1)[sent..];
    let target = upload.url(&format!("/parts/1?from={sent}"));
    let stored: StoredPart =
        upload.client.send("PUT", &target, &[("Hapax-Part-Value", &value)], rest).await.expect(201).read();
    assert_eq!((stored.value, stored.offset), (Some(upload.value(1)), 0));
    upload.put(0).await.expect(201);
    upload.complete().await.expect(201);
    assert!(upload.client.get("/files/f1").await.expect(200).body == upload.bytes);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_request_takes_a_part_over_at_once() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(2_000_000)).await;
    let mut older = upload.begin_part(0, 1_000_000).await;
    upload.wait_until_received(&server).await;
    upload.put(0).await.expect(201);
    let superseded = older.answer().await.refused(409, "superseded");
    assert_eq!(superseded.field("connection"), "close");
    drop(older);
    upload.complete().await.expect(201);
    server.end().await;
}

impl Upload {
    /// Waits until somebody holds a lane: the request before was let in.
    async fn wait_until_received(&self, server: &Running) {
        while server.store.lanes().count() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Neither of them evicts the other, so whoever is durable first has the part, and the other one is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_and_a_run_of_one_part_never_mix() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(300_000)).await;
    let other: Vec<u8> = upload.bytes.iter().map(|byte| !byte).collect();
    let fields = [
        ("Upload-Complete", "?1"),
        ("Content-Type", "application/partial-upload"),
        ("Upload-Offset", "0"),
        ("Content-Length", "300000"),
        ("Expect", "100-continue"),
    ];
    let mut append = server.connect().await;
    append.send(upload.client.head("PATCH", &format!("/uploads/{}", upload.id), &fields) + "\r\n").await;
    assert_eq!(append.answer_to("HEAD").await.status, 100);
    append.send(&other[..200_000]).await;
    upload.put(0).await.expect(201);
    append.send(&other[200_000..]).await;
    append.answer().await.refused(409, "superseded");
    upload.complete().await.expect(201);
    assert!(upload.client.get("/files/f1").await.expect(200).body == upload.bytes);
    server.end().await;
}

/// It once told an offset in front of what it had announced before, because a part became whole between two looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_read_while_bytes_arrive_is_of_one_moment() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(3 * P)).await;
    let appends = async {
        let mut at = 0;
        while at < upload.bytes.len() {
            let body = &upload.bytes[at..upload.bytes.len().min(at + P / 8 - 1)];
            let at_field = at.to_string();
            let fields = [
                ("Upload-Complete", "?0"),
                ("Content-Type", "application/partial-upload"),
                ("Upload-Offset", &*at_field),
            ];
            let appended =
                upload.client.send("PATCH", &format!("/uploads/{}", upload.id), &fields, body).await;
            at += body.len();
            assert_eq!(appended.expect(204).field("upload-offset"), at.to_string());
        }
    };
    let looks = async {
        let mut told = 0;
        loop {
            let status = upload.status().await;
            if status.state == State::Done {
                return;
            }
            assert_eq!(status.offset, status.received.first().map_or(0, |span| span.1), "{status:?}");
            assert!(told <= status.offset, "{told} was told before {status:?}");
            told = status.offset;
        }
    };
    tokio::join!(appends, looks);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_makes_durable_what_arrived() {
    let server = Running::start_with(|config| {
        config.deadlines.flush = config.deadlines.drain;
    })
    .await;
    let mut upload = Upload::create(server.alice(), 1, noise(4_000_000)).await;
    let mut wire = upload.begin_part(0, 3_000_000).await;
    while server.bytes_of_objects() < 1_000_000 {
        tokio::task::yield_now().await;
    }
    let server = server.restart().await;
    wire.answer().await.refused(503, "unavailable");
    upload.client = server.alice();
    let have = usize::try_from(upload.status().await.partial[0].have).unwrap();
    assert!(have > 1_000_000, "{have}");
    let (target, value) = (upload.url(&format!("/parts/0?from={have}")), upload.value_field(0));
    let fields = [("Hapax-Part-Value", value.as_str())];
    upload.client.send("PUT", &target, &fields, &upload.bytes[have..]).await.expect(201);
    upload.complete().await.expect(201);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completing_believes_nobody() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(100)).await;
    upload.put(0).await.expect(201);
    let complete = async |body: Value| upload.client.json("POST", &upload.url("/complete"), &body).await;
    complete(json!({"size": 99, "blake3": null})).await.refused(400, "inconsistent-upload-length");
    let other = FileHash::of(b"other").to_string();
    complete(json!({"size": 100, "blake3": other})).await.refused(422, "digest-mismatch");
    complete(json!({"size": 100, "sise": 1})).await.refused(400, "unknown-member");
    complete(json!({"size": 100, "blake3": null})).await.expect(201);
    complete(json!({"size": 100, "blake3": other})).await.refused(422, "digest-mismatch");
    complete(json!({"size": 101, "blake3": null})).await.refused(400, "inconsistent-upload-length");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_precondition_is_weighed_at_the_begin_and_at_the_end() {
    let server = Running::start().await;
    let alice = server.alice();
    let create = json!({"key": "k".repeat(16), "path": "/f", "size": 1, "precondition": "absent"});
    let created: UploadStatus = alice.json("POST", "/api/v1/uploads", &create).await.expect(201).read();
    let url = format!("/api/v1/uploads/{}", created.id);
    alice.send("PUT", &format!("{url}/parts/0"), &[], "x").await.expect(201);
    alice.send("PUT", "/files/f", &[], "somebody was faster").await.expect(201);
    let complete = json!({"size": 1, "blake3": null});
    alice.json("POST", &format!("{url}/complete"), &complete).await.refused(412, "precondition-failed");
    let create = json!({"key": "l".repeat(16), "path": "/f", "size": 1, "precondition": "absent"});
    alice.json("POST", "/api/v1/uploads", &create).await.refused(412, "precondition-failed");
    alice.ask("DELETE", "/files/f", &[]).await.expect(204);
    alice.json("POST", &format!("{url}/complete"), &complete).await.expect(201);
}

/// Whoever never heard the answer to a creation finds the upload by its key alone, to go on with it or to end it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_found_by_its_key_although_its_precondition_fails_by_now() {
    let server = Running::start().await;
    let alice = server.alice();
    let create = json!({"key": "k".repeat(16), "path": "/f", "size": 1, "precondition": "absent"});
    let created: UploadStatus = alice.json("POST", "/api/v1/uploads", &create).await.expect(201).read();
    let found = async || {
        let again = alice.json("POST", "/api/v1/uploads", &create).await.expect(200);
        assert_eq!(again.read::<UploadStatus>().id, created.id);
    };
    alice.send("PUT", "/files/f", &[], "y").await.expect(201);
    found().await;
    alice.ask("DELETE", "/files/f", &[]).await.expect(204);
    alice.json("POST", "/api/v1/entries/f", &json!({"op": "mkdir"})).await.expect(201);
    found().await;
    alice.ask("DELETE", &format!("/api/v1/uploads/{}", created.id), &[]).await.expect(204);
    let create = json!({"key": "l".repeat(16), "path": "/f", "size": 1, "precondition": "absent"});
    alice.json("POST", "/api/v1/uploads", &create).await.refused(409, "is-a-folder");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_is_gone() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(100)).await;
    let list: UploadList = upload.client.get("/api/v1/uploads").await.expect(200).read();
    assert_eq!(list.uploads.len(), 1);
    upload.client.ask("DELETE", &upload.url(""), &[]).await.expect(204);
    upload.client.ask("DELETE", &upload.url(""), &[]).await.expect(204);
    let gone = upload.put(0).await.refused(410, "upload-gone");
    assert_eq!(gone.read::<Value>()["state"], "cancelled");
    upload.complete().await.refused(410, "upload-gone");
    upload.client.ask("HEAD", &format!("/uploads/{}", upload.id), &[]).await.refused(410, "upload-gone");
}

/// The second was once told that the upload was gone, though it had asked for nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_may_be_cancelled_twice_at_the_same_time() {
    let server = Running::start().await;
    for key in 1..=5 {
        let upload = Upload::create(server.alice(), key, noise(100)).await;
        let url = upload.url("");
        let cancel = || upload.client.ask("DELETE", &url, &[]);
        let cancelled = tokio::join!(cancel(), cancel(), cancel(), cancel());
        for answer in <[Answer; 4]>::from(cancelled) {
            answer.expect(204);
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resized_upload_keeps_the_parts_that_are_the_same() {
    let server = Running::start().await;
    let mut upload = Upload::create(server.alice(), 1, noise(2 * P)).await;
    upload.put(0).await.expect(201);
    upload.put(1).await.expect(201);
    upload.bytes.truncate(P + 9);
    let resized = upload.client.json("POST", &upload.url("/resize"), &json!({"size": P + 9})).await;
    let status: UploadStatus = resized.expect(200).read();
    assert_eq!((status.size, status.received), (Some(P as u64 + 9), vec![(0, P as u64)]));
    let stored: StoredPart = upload.put(1).await.expect(201).read();
    assert_eq!(stored.offset, P as u64 + 9);
    upload.complete().await.expect(201);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resource_tells_where_an_upload_stands_and_what_its_prefix_is() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), 1, noise(P + 100)).await;
    let url = format!("/uploads/{}", upload.id);
    let want = [("Want-Repr-Digest", "blake3=10")];
    let probe = async || upload.client.ask("HEAD", &url, &want).await.expect(200);
    let stands = probe().await;
    assert_eq!((stands.field("upload-offset"), stands.field("upload-complete")), ("0", "?0"));
    assert_eq!(stands.field("upload-length"), (P + 100).to_string());
    assert_eq!(stands.field("repr-digest"), digest_field(Algorithm::Blake3, b""));
    upload.put(0).await.expect(201);
    let stands = probe().await;
    assert_eq!(stands.field("upload-offset"), P.to_string());
    assert_eq!(stands.field("repr-digest"), digest_field(Algorithm::Blake3, &upload.bytes[..P]));
    let unfinished = upload.client.get(&url).await.refused(403, "upload-unfinished");
    assert_eq!(unfinished.read::<Value>()["offset"], P);
    for (query, bytes) in [
        ("start=0&end=1000", &upload.bytes[..1_000]),
        ("start=65530&end=131080", &upload.bytes[65_530..131_080]),
        ("start=7&end=7", &[][..]),
    ] {
        let digest: SpanDigest =
            upload.client.get(&upload.url(&format!("/digest?{query}"))).await.expect(200).read();
        assert_eq!(digest.value, FileHash::of(bytes).to_string(), "{query}");
    }
    let beyond = format!("/digest?start=0&end={}", P + 1);
    upload.client.get(&upload.url(&beyond)).await.refused(409, "incomplete");
    upload.put(1).await.expect(201);
    upload.complete().await.expect(201);
    let stands = probe().await;
    assert_eq!(
        (stands.field("upload-offset"), stands.field("upload-complete")),
        ((P + 100).to_string().as_str(), "?1")
    );
}
