//! tus concatenation: pieces sent side by side become one file, and no byte of it is written again.

use data_encoding::BASE64;
use hapax_proto::digest::FileHash;
use hapax_proto::tree::PART;
use hapax_store::catalog::{UploadId, WAITING_MAX};
use serde_json::Value;

use crate::server::{Running, outside};
use crate::wire::{Answer, Client};

const V: (&str, &str) = ("Tus-Resumable", "1.0.0");
const BYTES: (&str, &str) = ("Content-Type", "application/offset+octet-stream");
const PARTIAL: (&str, &str) = ("Upload-Concat", "partial");

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"concat").finalize_xof().fill(&mut bytes);
    bytes
}

fn named(name: &str) -> String {
    format!("filename {}", BASE64.encode(name.as_bytes()))
}

async fn begin(client: &Client, length: usize) -> String {
    let length = length.to_string();
    let created = client.send("POST", "/tus/", &[V, PARTIAL, ("Upload-Length", &length)], "").await;
    created.expect(201).field("location").to_owned()
}

async fn patch(client: &Client, url: &str, at: usize, bytes: &[u8]) -> Answer {
    client.send("PATCH", url, &[V, BYTES, ("Upload-Offset", &at.to_string())], bytes).await
}

/// Sends a piece, and returns its URL.
async fn piece(client: &Client, bytes: &[u8]) -> String {
    let url = begin(client, bytes.len()).await;
    let answer = patch(client, &url, 0, bytes).await.expect(204);
    assert_eq!(answer.field("upload-offset"), bytes.len().to_string());
    url
}

async fn compose(client: &Client, members: &[&str], fields: &[(&str, &str)]) -> Answer {
    let concat = format!("final;{}", members.join(" "));
    client.send("POST", "/tus/", &[&[V, ("Upload-Concat", &*concat)], fields].concat(), "").await
}

async fn head(client: &Client, url: &str) -> Answer {
    client.ask("HEAD", url, &[V]).await
}

/// Asks until the identity of a file is known.
async fn identity(client: &Client, name: &str) -> String {
    for _ in 0..100_000 {
        let entry: Value = client.get(&format!("/api/v1/entries/{name}")).await.expect(200).read();
        if let Some(blake3) = entry["blake3"].as_str() {
            return blake3.to_owned();
        }
    }
    panic!("{name} is not identified")
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_become_a_file_and_nothing_is_written_for_it() {
    let server = Running::start().await;
    let alice = server.alice();
    let part = usize::try_from(PART.get()).unwrap();
    let bytes = noise(part + 300_000);
    let (first, second) = (piece(&alice, &bytes[..200_000]).await, piece(&alice, &bytes[200_000..]).await);
    let is_piece = head(&alice, &first).await.expect(200);
    assert_eq!((is_piece.field("upload-concat"), is_piece.field("upload-offset")), ("partial", "200000"));
    let before = server.bytes_of_objects();
    let metadata = named("film.mkv");
    let created = compose(&alice, &[&first, &second], &[("Upload-Metadata", &metadata)]).await.expect(201);
    assert_eq!(created.field("content-location"), "/files/@alice/film.mkv");
    assert_eq!(server.bytes_of_objects(), before, "no byte is copied");
    let told = head(&alice, created.field("location")).await.expect(200);
    let length = bytes.len().to_string();
    assert_eq!((told.field("upload-offset"), told.field("upload-length")), (&*length, &*length));
    assert_eq!(told.field("upload-concat"), format!("final;{first} {second}"));
    let file = alice.get("/files/film.mkv").await.expect(200);
    assert!(file.body == bytes);
    assert_eq!(identity(&alice, "film.mkv").await, FileHash::of(&bytes).to_string());
    assert_eq!(alice.get("/files/film.mkv").await.expect(200).field("etag"), file.field("etag"));
    let tree: Value = alice.get("/api/v1/tree/film.mkv").await.expect(200).read();
    assert_eq!(tree["values"].as_array().unwrap().len(), 2);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_be_written_in_many_ways_and_stand_twice() {
    let server = Running::start().await;
    let alice = server.alice();
    let (a, b) = (piece(&alice, b"aa").await, piece(&alice, b"b").await);
    let id = a.rsplit('/').next().unwrap();
    let absolute = format!("https://files.example/below/tus/{id}");
    let members = [&*absolute, &b, id, &format!("../{id}")];
    compose(&alice, &members, &[("Upload-Metadata", &named("x"))]).await.expect(201);
    assert_eq!(alice.get("/files/x").await.expect(200).body, b"aabaaaa");
    compose(&alice, &[&b, &a], &[("Upload-Metadata", &named("y"))]).await.expect(201);
    assert_eq!(alice.get("/files/y").await.expect(200).body, b"baa", "a piece may be used again");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_second_file() {
    let server = Running::start().await;
    let alice = server.alice();
    let (a, b) = (piece(&alice, b"a").await, piece(&alice, b"b").await);
    let metadata = named("x");
    let fields = [("Upload-Metadata", &*metadata)];
    let first = compose(&alice, &[&a, &b], &fields).await.expect(201);
    let again = compose(&alice, &[&a, &b], &fields).await.expect(201);
    assert_eq!(first.field("location"), again.field("location"));
    alice.get("/files/x%20(1)").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_members_completes_itself_with_the_last_one() {
    let server = Running::start().await;
    let alice = server.alice();
    let (a, b) = (begin(&alice, 3).await, begin(&alice, 2).await);
    let created = compose(&alice, &[&a, &b], &[("Upload-Metadata", &named("x"))]).await.expect(201);
    let url = created.field("location").to_owned();
    for step in [(&b, 0, "DE"), (&a, 0, "AB")] {
        let told = head(&alice, &url).await.expect(200);
        assert!(told.fields.get("upload-offset").is_none(), "nobody knows it yet");
        patch(&alice, step.0, step.1, step.2.as_bytes()).await.expect(204);
        alice.get("/files/x").await.refused(404, "not-found");
    }
    patch(&alice, &a, 2, b"C").await.expect(204);
    assert_eq!(alice.get("/files/x").await.expect(200).body, b"ABCDE");
    assert_eq!(head(&alice, &url).await.expect(200).field("upload-offset"), "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_part_completes_it_as_well() {
    let server = Running::start().await;
    let alice = server.alice();
    let a = begin(&alice, 3).await;
    compose(&alice, &[&a, &a], &[("Upload-Metadata", &named("x"))]).await.expect(201);
    let part = a.replace("/tus/", "/api/v1/uploads/") + "/parts/0";
    alice.send("PUT", &part, &[], "abc").await.expect(201);
    assert_eq!(alice.get("/files/x").await.expect(200).body, b"abcabc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composed_upload_takes_no_bytes_of_its_own() {
    let server = Running::start().await;
    let alice = server.alice();
    let (done, open) = (piece(&alice, b"a").await, begin(&alice, 1).await);
    for member in [&done, &open] {
        let created = compose(&alice, &[member], &[]).await.expect(201);
        let url = created.field("location").to_owned();
        patch(&alice, &url, 0, b"x").await.refused(403, "final-upload");
        let native = url.replace("/tus/", "/api/v1/uploads/");
        alice.send("PUT", &format!("{native}/parts/0"), &[], "x").await.refused(403, "final-upload");
        alice
            .send("POST", &format!("{native}/complete"), &[], r#"{"size":1}"#)
            .await
            .refused(403, "final-upload");
        alice
            .send("POST", &format!("{native}/resize"), &[], r#"{"size":1}"#)
            .await
            .refused(403, "final-upload");
    }
    let concat = format!("final;{done}");
    let brings = [V, BYTES, ("Upload-Concat", &concat)];
    alice.send("POST", "/tus/", &brings, "x").await.refused(403, "final-upload");
    let native = done.replace("/tus/", "/api/v1/uploads/");
    alice.send("POST", &format!("{native}/complete"), &[], r#"{"size":1}"#).await.refused(403, "forbidden");
    let listed: Value = alice.get("/api/v1/entries/?list").await.expect(200).read();
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1, "a piece is no file: {listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_others_are_members_of_nobody_and_nothing_is_created() {
    let server = Running::start().await;
    let (alice, bob) = (server.alice(), server.bob());
    let (own, foreign) = (piece(&alice, b"a").await, piece(&bob, b"b").await);
    let unknown = "/tus/00000000000000000000000000000000";
    for member in [&*foreign, unknown, "/tus/nonsense"] {
        compose(&alice, &[&own, member], &[]).await.refused(404, "not-found");
    }
    let file = alice.send("POST", "/tus/", &[V, ("Upload-Length", "1")], "").await.expect(201);
    compose(&alice, &[file.field("location")], &[]).await.refused(400, "bad-field");
    compose(&alice, &[&own], &[("Upload-Length", "1")]).await.refused(400, "bad-field");
    compose(&alice, &[], &[]).await.refused(400, "bad-field");
    let uploads: Value = alice.get("/api/v1/uploads").await.expect(200).read();
    assert_eq!(uploads["uploads"].as_array().unwrap().len(), 2, "{uploads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_a_member_never_will_be_a_file() {
    let server = Running::start().await;
    let alice = server.alice();
    let (a, b) = (piece(&alice, b"a").await, begin(&alice, 1).await);
    let created = compose(&alice, &[&a, &b], &[]).await.expect(201);
    alice.send("DELETE", &b, &[V], "").await.expect(204);
    for _ in 0..2 {
        head(&alice, created.field("location")).await.expect(410);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_digest_of_the_whole_is_compared() {
    let server = Running::start().await;
    let alice = server.alice();
    let (a, b) = (piece(&alice, b"a").await, piece(&alice, b"b").await);
    let declared = |bytes: &[u8]| BASE64.encode(FileHash::of(bytes).to_string().as_bytes());
    let wrong = format!("{},blake3 {}", named("x"), declared(b"ba"));
    compose(&alice, &[&a, &b], &[("Upload-Metadata", &wrong)]).await.refused(460, "checksum-mismatch");
    alice.get("/files/x").await.refused(404, "not-found");
    let right = format!("{},blake3 {}", named("x"), declared(b"ab"));
    compose(&alice, &[&a, &b], &[("Upload-Metadata", &right)]).await.expect(201);
    let entry: Value = alice.get("/api/v1/entries/x").await.expect(200).read();
    assert_eq!(entry["blake3"], FileHash::of(b"ab").to_string(), "it was read already");
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_that_are_pending_survive_a_restart() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(3_000_000);
    let (a, b) = (piece(&alice, &bytes[..1_000_000]).await, piece(&alice, &bytes[1_000_000..]).await);
    compose(&alice, &[&a, &b], &[("Upload-Metadata", &named("x"))]).await.expect(201);
    let server = server.restart().await;
    assert_eq!(identity(&server.alice(), "x").await, FileHash::of(&bytes).to_string());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_give_way_as_for_any_upload() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/x", &[], "old").await.expect(201);
    let a = piece(&alice, b"a").await;
    let created = compose(&alice, &[&a], &[("Upload-Metadata", &named("x"))]).await.expect(201);
    assert_eq!(created.field("content-location"), "/files/@alice/x%20%281%29");
    let overwrite = named("x") + ",overwrite";
    compose(&alice, &[&a], &[("Upload-Metadata", &overwrite)]).await.expect(201);
    assert_eq!(alice.get("/files/x").await.expect(200).body, b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_became_part_of_a_file_does_not_grow_past_the_quota() {
    let server = Running::start().await;
    let alice = server.alice();
    server.root().send("PATCH", "/api/v1/admin/users/alice", &[], r#"{"quota":1000}"#).await.expect(200);
    let url = piece(&alice, b"a").await;
    compose(&alice, &[&url], &[("Upload-Metadata", &named("x"))]).await.expect(201);
    let native = url.replace("/tus/", "/api/v1/uploads/");
    let id = UploadId::parse(url.rsplit('/').next().unwrap()).unwrap();
    let row = || outside(|| server.store.upload(id).unwrap());
    let before = row();
    for size in ["999999999999999", "1", "0"] {
        let body = format!(r#"{{"size":{size}}}"#);
        alice.send("POST", &format!("{native}/resize"), &[], &body).await.refused(409, "already-complete");
    }
    // What is held is held; anything else comes too late.
    alice.send("PUT", &format!("{native}/parts/0"), &[], "b").await.refused(409, "already-complete");
    alice.send("PUT", &format!("{native}/parts/1"), &[], "b").await.refused(404, "part-out-of-range");
    patch(&alice, &url, 1, b"").await.expect(204);
    assert_eq!(row(), before, "its end does not move either");
    compose(&alice, &[&url, &url], &[("Upload-Metadata", &named("y"))]).await.expect(201);
    assert_eq!(alice.get("/files/y").await.expect(200).body, b"aa", "it still serves as a member");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_the_quota_is_refused_before_it_is_read() {
    let server = Running::start().await;
    let alice = server.alice();
    server.root().send("PATCH", "/api/v1/admin/users/alice", &[], r#"{"quota":1000}"#).await.expect(200);
    let url = piece(&alice, &[7; 400]).await;
    let wrong = BASE64.encode("00".repeat(32).as_bytes());
    let declared = |name: &str| format!("{},sha256 {wrong}", named(name));
    let three = [&*url; 3];
    compose(&alice, &three, &[("Upload-Metadata", &declared("x"))]).await.refused(507, "quota");
    // It waits for room, as what declares nothing does.
    compose(&alice, &three, &[("Upload-Metadata", &declared("x"))]).await.refused(507, "quota");
    compose(&alice, &three[1..], &[("Upload-Metadata", &declared("y"))])
        .await
        .refused(460, "checksum-mismatch");
    server.root().send("PATCH", "/api/v1/admin/users/alice", &[], r#"{"quota":1200}"#).await.expect(200);
    compose(&alice, &three, &[("Upload-Metadata", &declared("x"))]).await.refused(460, "checksum-mismatch");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_piece_is_not_settled_again_by_who_asks_for_it() {
    let server = Running::start().await;
    let alice = server.alice();
    let quota = async |bytes: u32| {
        let change = format!(r#"{{"quota":{bytes}}}"#);
        server.root().send("PATCH", "/api/v1/admin/users/alice", &[], &change).await.expect(200);
    };
    quota(1).await;
    let url = begin(&alice, 1).await;
    let metadata = named("x");
    let created = compose(&alice, &[&*url; 3], &[("Upload-Metadata", &metadata)]).await.expect(201);
    patch(&alice, &url, 0, b"a").await.expect(204);
    quota(3).await;
    // What came after it was settled when it came.
    head(&alice, &url).await.expect(200);
    patch(&alice, &url, 1, b"").await.expect(204);
    alice.get("/files/x").await.refused(404, "not-found");
    head(&alice, created.field("location")).await.expect(200);
    assert_eq!(alice.get("/files/x").await.expect(200).body, b"aaa");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_wholes_wait_for_one_piece_and_no_more() {
    let server = Running::start().await;
    let alice = server.alice();
    let (done, open) = (piece(&alice, b"a").await, begin(&alice, 1).await);
    let name = |number: u32| named(&format!("f{number}"));
    for number in 0..WAITING_MAX {
        compose(&alice, &[&done, &open], &[("Upload-Metadata", &name(number))]).await.expect(201);
    }
    let more = name(WAITING_MAX);
    let fields = [("Upload-Metadata", more.as_str())];
    compose(&alice, &[&open], &fields).await.refused(429, "too-many");
    // Who lost the answer is told it all the same.
    compose(&alice, &[&done, &open], &[("Upload-Metadata", &name(0))]).await.expect(201);
    patch(&alice, &open, 0, b"b").await.expect(204);
    for number in 0..WAITING_MAX {
        assert_eq!(alice.get(&format!("/files/f{number}")).await.expect(200).body, b"ab");
    }
    compose(&alice, &[&open], &fields).await.expect(201);
    server.end().await;
}
