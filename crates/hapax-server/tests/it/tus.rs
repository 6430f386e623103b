//! tus 1.0.0, field by field.

use data_encoding::BASE64;
use hapax_proto::digest::{Algorithm, Hasher};
use hapax_proto::tree::PART;
use serde_json::Value;

use crate::server::Running;
use crate::wire::{Answer, Client};

const V: (&str, &str) = ("Tus-Resumable", "1.0.0");
const BYTES: (&str, &str) = ("Content-Type", "application/offset+octet-stream");

/// One upload.
struct Upload {
    client: Client,
    url: String,
}

impl Upload {
    async fn create(client: Client, fields: &[(&str, &str)]) -> Self {
        let created = client.send("POST", "/tus/", &[&[V][..], fields].concat(), "").await.expect(201);
        assert_eq!(created.field("tus-resumable"), "1.0.0");
        let url = created.field("location").to_owned();
        Self { client, url }
    }

    async fn of(client: Client, name: &str, length: usize) -> Self {
        let metadata = format!("filename {}", BASE64.encode(name.as_bytes()));
        let length = length.to_string();
        Self::create(client, &[("Upload-Length", &length), ("Upload-Metadata", &metadata)]).await
    }

    async fn patch(&self, at: usize, fields: &[(&str, &str)], bytes: &[u8]) -> Answer {
        let at = at.to_string();
        let own = [V, BYTES, ("Upload-Offset", &*at)];
        self.client.send("PATCH", &self.url, &[&own[..], fields].concat(), bytes).await
    }

    async fn head(&self) -> Answer {
        self.client.ask("HEAD", &self.url, &[V]).await
    }

    async fn offset(&self) -> usize {
        self.head().await.expect(200).field("upload-offset").parse().unwrap()
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"tus").finalize_xof().fill(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_chunks_becomes_a_file() {
    let server = Running::start().await;
    let bytes = noise(300_000);
    let upload = Upload::of(server.alice(), "film.mkv", bytes.len()).await;
    assert_eq!(upload.offset().await, 0);
    for (at, end) in [(0, 100_000), (100_000, 100_001), (100_001, 299_999)] {
        let answer = upload.patch(at, &[], &bytes[at..end]).await.expect(204);
        assert_eq!(answer.field("upload-offset"), end.to_string());
        assert!(!answer.field("upload-expires").is_empty());
        assert_eq!(upload.offset().await, end);
    }
    server.alice().get("/files/film.mkv").await.refused(404, "not-found");
    let last = upload.patch(299_999, &[], &bytes[299_999..]).await.expect(204);
    assert_eq!(
        (last.field("upload-offset"), last.field("content-location")),
        ("300000", "/files/@alice/film.mkv")
    );
    assert_eq!(server.alice().get("/files/film.mkv").await.expect(200).body, bytes);
    let head = upload.head().await.expect(200);
    assert_eq!((head.field("upload-offset"), head.field("upload-length")), ("300000", "300000"));
    assert_eq!(head.field("upload-metadata"), "filename ZmlsbS5ta3Y=");
    let more = upload.patch(300_000, &[], b"x").await.refused(409, "already-complete");
    assert_eq!(more.field("upload-offset"), "300000");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_the_end_is_welcome_as_tuspy_sends_it() {
    let server = Running::start().await;
    let upload = Upload::of(server.alice(), "a", 3).await;
    upload.patch(0, &[], b"abc").await.expect(204);
    let again = upload.patch(3, &[], b"").await.expect(204);
    assert_eq!((again.field("upload-offset"), again.field("content-location")), ("3", "/files/@alice/a"));
    upload.patch(2, &[], b"").await.refused(409, "already-complete");
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_may_reach_over_many_parts() {
    let server = Running::start().await;
    let part = usize::try_from(PART.get()).unwrap();
    let bytes = noise(2 * part + 5);
    let upload = Upload::of(server.alice(), "long", bytes.len()).await;
    upload.patch(0, &[], &bytes[..part - 3]).await.expect(204);
    upload.patch(part - 3, &[], &bytes[part - 3..]).await.expect(204);
    assert!(server.alice().get("/files/long").await.expect(200).body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_out_of_step_learns_the_offset() {
    let server = Running::start().await;
    let upload = Upload::of(server.alice(), "a", 10).await;
    upload.patch(0, &[], b"01234").await.expect(204);
    for at in [0, 4, 6, 10] {
        let refused = upload.patch(at, &[], b"x").await.refused(409, "mismatching-upload-offset");
        let problem: Value = refused.read();
        assert_eq!(problem["expected-offset"], 5);
    }
    upload.patch(5, &[], b"567890").await.refused(413, "too-large");
    assert_eq!(upload.offset().await, 5);
    upload.patch(5, &[], b"56789").await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_of_a_cut_chunk_is_kept() {
    let server = Running::start().await;
    let bytes = noise(200_000);
    let upload = Upload::of(server.alice(), "a", bytes.len()).await;
    let mut wire = server.connect().await;
    let fields = [V, BYTES, ("Upload-Offset", "0"), ("Content-Length", "200000"), ("Expect", "100-continue")];
    wire.send(upload.client.head("PATCH", &upload.url, &fields) + "\r\n").await;
    assert_eq!(wire.answer_to("HEAD").await.status, 100);
    wire.send(&bytes[..150_000]).await;
    drop(wire);
    // Whatever of it had arrived when the question came is there, and the next chunk goes on behind it.
    let at = upload.offset().await;
    assert!(at <= 150_000, "{at}");
    upload.patch(at, &[], &bytes[at..]).await.expect(204);
    assert!(server.alice().get("/files/a").await.expect(200).body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_chunk_is_taken_over_at_once() {
    let server = Running::start().await;
    let bytes = noise(200_000);
    let upload = Upload::of(server.alice(), "a", bytes.len()).await;
    let mut ghost = server.connect().await;
    let fields = [V, BYTES, ("Upload-Offset", "0"), ("Content-Length", "200000"), ("Expect", "100-continue")];
    ghost.send(upload.client.head("PATCH", &upload.url, &fields) + "\r\n").await;
    assert_eq!(ghost.answer_to("HEAD").await.status, 100);
    ghost.send(&bytes[..100_000]).await;
    let at = upload.offset().await;
    // The ghost is told, and what it still sends changes nothing.
    drop(ghost.try_send(&noise(100_000)).await);
    ghost.answer().await.refused(409, "superseded");
    assert_eq!(upload.offset().await, at);
    upload.patch(at, &[], &bytes[at..]).await.expect(204);
    assert!(server.alice().get("/files/a").await.expect(200).body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neutral_head_tells_what_the_append_it_ended_left() {
    let server = Running::start().await;
    let part = usize::try_from(PART.get()).unwrap();
    let bytes = noise(part + 300_000);
    let upload = Upload::of(server.alice(), "a", bytes.len()).await;
    let mut ghost = server.connect().await;
    let length = bytes.len().to_string();
    let fields = [V, BYTES, ("Upload-Offset", "0"), ("Content-Length", &*length), ("Expect", "100-continue")];
    ghost.send(upload.client.head("PATCH", &upload.url, &fields) + "\r\n").await;
    assert_eq!(ghost.answer_to("HEAD").await.status, 100);
    ghost.send(&bytes[..part + 200_000]).await;
    let id = upload.url.rsplit('/').next().unwrap();
    let neutral = server.alice().ask("HEAD", &format!("/uploads/{id}"), &[]).await.expect(200);
    let at = neutral.field("upload-offset").parse().unwrap();
    upload.patch(at, &[], &bytes[at..]).await.expect(204);
    assert!(server.alice().get("/files/a").await.expect(200).body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_that_does_not_fit_leaves_the_offset() {
    let server = Running::start().await;
    let part = usize::try_from(PART.get()).unwrap();
    let bytes = noise(part + 100_000);
    let upload = Upload::of(server.alice(), "a", bytes.len()).await;
    upload.patch(0, &[], &bytes[..10]).await.expect(204);
    let mut hasher = Hasher::new([Algorithm::Sha1]);
    hasher.update(&bytes[10..]);
    let right = format!("sha1 {}", BASE64.encode(hasher.digests().get(Algorithm::Sha1).unwrap().value()));
    let wrong = noise(part + 100_000 - 10);
    let sum = [("Upload-Checksum", &*right)];
    upload.patch(10, &sum, &wrong).await.refused(460, "checksum-mismatch");
    assert_eq!(upload.offset().await, 10);
    upload.patch(10, &[("Upload-Checksum", "sha512 YQ==")], b"x").await.refused(400, "bad-field");
    upload.patch(10, &sum, &bytes[10..]).await.expect(204);
    assert!(server.alice().get("/files/a").await.expect(200).body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_no_reason_to_fail() {
    let server = Running::start().await;
    server.alice().send("PUT", "/files/a.txt", &[], "old").await.expect(201);
    let upload = Upload::of(server.alice(), "a.txt", 3).await;
    let done = upload.patch(0, &[], b"new").await.expect(204);
    assert_eq!(done.field("content-location"), "/files/@alice/a%20%281%29.txt");
    assert_eq!(server.alice().get("/files/a.txt").await.expect(200).body, b"old");
    let metadata = format!("path {},overwrite", BASE64.encode(b"/a.txt"));
    let over =
        Upload::create(server.alice(), &[("Upload-Length", "3"), ("Upload-Metadata", &metadata)]).await;
    over.patch(0, &[], b"won").await.expect(204);
    assert_eq!(server.alice().get("/files/a.txt").await.expect(200).body, b"won");
    // A file stands where a folder should.
    let metadata = format!("path {}", BASE64.encode(b"a.txt/b.txt"));
    let below =
        Upload::create(server.alice(), &[("Upload-Length", "1"), ("Upload-Metadata", &metadata)]).await;
    let done = below.patch(0, &[], b"b").await.expect(204);
    assert_eq!(done.field("content-location"), "/files/@alice/b.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_may_bring_bytes() {
    let server = Running::start().await;
    let name = ("Upload-Metadata", "filename YQ==");
    let some = [V, BYTES, ("Upload-Length", "10"), name];
    let created = server.alice().send("POST", "/tus/", &some, "01234").await.expect(201);
    assert_eq!(created.field("upload-offset"), "5");
    let upload = Upload { client: server.alice(), url: created.field("location").to_owned() };
    upload.patch(5, &[], b"56789").await.expect(204);
    let all = [V, BYTES, ("Upload-Length", "2"), ("Upload-Metadata", "filename Yg==")];
    let created = server.alice().send("POST", "/tus", &all, "ab").await.expect(201);
    assert_eq!((created.field("upload-offset"), created.field("content-location")), ("2", "/files/@alice/b"));
    // More than it said: the upload is there, and nothing of this is in it.
    let more = [V, BYTES, ("Upload-Length", "2"), ("Upload-Metadata", "filename Yw==")];
    let refused = server.alice().send("POST", "/tus/", &more, "abc").await.refused(413, "too-large");
    let upload = Upload { client: server.alice(), url: refused.field("location").to_owned() };
    assert_eq!(upload.offset().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_may_come_later_and_an_empty_file_is_one() {
    let server = Running::start().await;
    let upload =
        Upload::create(server.alice(), &[("Upload-Defer-Length", "1"), ("Upload-Metadata", "filename YQ==")])
            .await;
    let first = upload.patch(0, &[], b"01234").await.expect(204);
    assert_eq!((first.field("upload-defer-length"), first.field("upload-length")), ("1", ""));
    upload.patch(5, &[("Upload-Length", "3")], b"").await.refused(400, "inconsistent-upload-length");
    let last = upload.patch(5, &[("Upload-Length", "5")], b"").await.expect(204);
    assert_eq!(last.field("content-location"), "/files/@alice/a");
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"01234");

    let empty = [V, ("Upload-Length", "0"), ("Upload-Metadata", "filename ZW1wdHk=")];
    server.alice().send("POST", "/tus/", &empty, "").await.expect(201);
    assert_eq!(server.alice().get("/files/empty").await.expect(200).body, b"");
}

/// It was told that bytes are missing, and not which.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_unknown_length_can_be_completed_natively() {
    let server = Running::start().await;
    for length in [1, 70_000] {
        let metadata = format!("filename {}", BASE64.encode(length.to_string().as_bytes()));
        let fields = [("Upload-Defer-Length", "1"), ("Upload-Metadata", &*metadata)];
        let upload = Upload::create(server.alice(), &fields).await;
        let bytes = noise(length);
        upload.patch(0, &[], &bytes).await.expect(204);
        let url = format!("/api/v1/uploads/{}/complete", upload.url.rsplit('/').next().unwrap());
        let complete = async |size: usize| {
            upload.client.json("POST", &url, &serde_json::json!({"size": size, "blake3": null})).await
        };
        complete(length + 1).await.refused(409, "incomplete");
        complete(length).await.expect(201);
        assert!(server.alice().get(&format!("/files/{length}")).await.expect(200).body == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_hash_that_is_wrong_ends_the_upload() {
    let server = Running::start().await;
    let metadata = format!("filename YQ==,blake3 {}", BASE64.encode("0".repeat(64).as_bytes()));
    let upload =
        Upload::create(server.alice(), &[("Upload-Length", "3"), ("Upload-Metadata", &metadata)]).await;
    upload.patch(0, &[], b"abc").await.refused(460, "checksum-mismatch");
    upload.head().await.refused(410, "upload-gone");
    server.alice().get("/files/a").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_ends_when_it_is_told_to() {
    let server = Running::start().await;
    let upload = Upload::of(server.alice(), "a", 3).await;
    upload.patch(0, &[], b"a").await.expect(204);
    let end = [V, ("X-HTTP-Method-Override", "DELETE")];
    upload.client.send("POST", &upload.url, &end, "").await.expect(204);
    upload.head().await.refused(410, "upload-gone");
    upload.patch(1, &[], b"b").await.refused(410, "upload-gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_tus() {
    let server = Running::start().await;
    let upload = Upload::of(server.alice(), "a", 3).await;
    let client = &upload.client;
    for fields in [&[("Upload-Length", "3")][..], &[("Tus-Resumable", "0.2.2"), ("Upload-Length", "3")]] {
        let refused = client.send("POST", "/tus/", fields, "").await.refused(412, "tus-version");
        assert_eq!((refused.field("tus-version"), refused.field("tus-resumable")), ("1.0.0", "1.0.0"));
    }
    client.send("POST", "/tus/", &[V], "").await.refused(400, "bad-field");
    client.send("POST", "/tus/", &[V, ("Upload-Length", "-1")], "").await.refused(400, "bad-field");
    let huge = [V, ("Upload-Length", "9999999999999999")];
    client.send("POST", "/tus/", &huge, "").await.refused(400, "bad-field");
    client.send("PATCH", &upload.url, &[V, BYTES], "a").await.refused(400, "bad-field");
    let twice = [V, BYTES, ("Upload-Offset", "0"), ("Upload-Offset", "0")];
    client.send("PATCH", &upload.url, &twice, "a").await.refused(400, "bad-field");
    let plain = [V, ("Upload-Offset", "0"), ("Content-Type", "text/plain")];
    client.send("PATCH", &upload.url, &plain, "a").await.refused(415, "media-type");
    let other = Upload { client: server.bob(), url: upload.url.clone() };
    other.head().await.refused(404, "not-found");
    other.patch(0, &[], b"a").await.refused(404, "not-found");
    for path in ["../a", "a/../b", "/", "a//b"] {
        let metadata = format!("path {}", BASE64.encode(path.as_bytes()));
        let fields = [V, ("Upload-Length", "1"), ("Upload-Metadata", &*metadata)];
        assert!(
            matches!(client.send("POST", "/tus/", &fields, "").await.status.as_u16(), 400 | 409),
            "{path}"
        );
    }
    assert_eq!(upload.offset().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_tell_what_is_spoken() {
    let server = Running::start().await;
    let options = server.nobody().ask("OPTIONS", "/tus/", &[]).await.expect(204);
    assert_eq!(options.field("tus-version"), "1.0.0");
    assert!(options.field("tus-extension").contains("creation-with-upload"));
    assert!(options.field("tus-extension").contains("checksum-trailer"));
    assert_eq!(options.field("tus-checksum-algorithm"), "sha1,sha256,md5,crc32");
    assert!(options.field("allow").contains("POST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_tus_is_one_of_the_native_dialect_too() {
    let server = Running::start().await;
    let upload = Upload::of(server.alice(), "a", 10).await;
    upload.patch(0, &[], b"01234").await.expect(204);
    let id = upload.url.rsplit('/').next().unwrap();
    let native: Value = server.alice().get(&format!("/api/v1/uploads/{id}")).await.expect(200).read();
    assert_eq!((&native["offset"], &native["size"]), (&Value::from(5), &Value::from(10)));
    let part = format!("/api/v1/uploads/{id}/parts/0?from=5");
    server.alice().send("PUT", &part, &[], "567").await.expect(201);
    assert_eq!(upload.offset().await, 8);
    let neutral = server.alice().ask("HEAD", &format!("/uploads/{id}"), &[]).await.expect(200);
    assert_eq!(neutral.field("upload-offset"), "8");
    upload.patch(8, &[], b"89").await.expect(204);
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"0123456789");
}
