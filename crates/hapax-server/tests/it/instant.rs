//! Instant upload through tus: content that the caller has, named by its BLAKE3 or SHA-256 in the metadata of a creation.

use data_encoding::{BASE64, HEXLOWER};
use hapax_proto::digest::Algorithm;

use crate::files::digest_field;
use crate::server::Running;
use crate::wire::{Answer, Client};

const V: (&str, &str) = ("Tus-Resumable", "1.0.0");
const BYTES: (&str, &str) = ("Content-Type", "application/offset+octet-stream");

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"instant").finalize_xof().fill(&mut bytes);
    bytes
}

/// Metadata of a file: where it goes, and what it hashes to.
fn metadata(path: &str, bytes: &[u8], more: &str) -> String {
    let hash = blake3::hash(bytes).to_hex();
    format!("path {},blake3 {}{more}", BASE64.encode(path.as_bytes()), BASE64.encode(hash.as_bytes()))
}

/// Creates an upload without a body.
async fn create(client: &Client, length: usize, metadata: &str) -> Answer {
    let length = length.to_string();
    let fields = [V, ("Upload-Length", &*length), ("Upload-Metadata", metadata)];
    client.send("POST", "/tus/", &fields, "").await.expect(201)
}

/// Asks where an upload stands.
async fn offset(client: &Client, created: &Answer) -> usize {
    let head = client.ask("HEAD", created.field("location"), &[V]).await.expect(200);
    head.field("upload-offset").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_the_caller_has_is_there_at_once() {
    let server = Running::start().await;
    let (alice, bytes) = (server.alice(), noise(3_000_000));
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let held = server.bytes_of_objects();
    let created = create(&alice, bytes.len(), &metadata("/d/b", &bytes, "")).await;
    assert_eq!(
        (created.field("upload-offset"), created.field("content-location")),
        ("3000000", "/files/@alice/d/b")
    );
    assert!(alice.get("/files/d/b").await.expect(200).body == bytes);
    assert_eq!(server.bytes_of_objects(), held);
    assert_eq!(offset(&alice, &created).await, bytes.len());
    // Clients that do not read the offset in the answer begin to send. They are told before a byte of it arrives.
    let mut wire = server.connect().await;
    let fields = [V, BYTES, ("Upload-Offset", "0"), ("Content-Length", "3000000")];
    wire.send(alice.head("PATCH", created.field("location"), &fields) + "\r\n").await;
    let refused = wire.answer().await.refused(409, "already-complete");
    assert_eq!((refused.field("upload-offset"), refused.field("connection")), ("3000000", "close"));
    // It is an upload as any other that is done.
    let id = created.field("location").rsplit('/').next().unwrap();
    let read = alice.get(&format!("/uploads/{id}")).await.expect(200);
    assert!(read.body == bytes);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_brings_bytes_is_answered_before_them() {
    let server = Running::start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let named = metadata("/b", &bytes, "");
    let fields =
        [V, BYTES, ("Upload-Length", "100000"), ("Upload-Metadata", &*named), ("Content-Length", "100000")];
    let mut wire = server.connect().await;
    wire.send(alice.head("POST", "/tus/", &fields) + "\r\n").await;
    let created = wire.answer().await.expect(201);
    assert_eq!(created.field("upload-offset"), "100000");
    assert!(alice.get("/files/b").await.expect(200).body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_others_have_is_asked_for_like_content_nobody_has() {
    let server = Running::start().await;
    let (bob, bytes, unknown) = (server.bob(), noise(100_000), vec![7; 100_000]);
    server.alice().send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let mut answers = Vec::new();
    for content in [&bytes, &unknown] {
        let created = create(&bob, content.len(), &metadata("/b", content, "")).await;
        let head = bob.ask("HEAD", created.field("location"), &[V]).await.expect(200);
        assert_eq!(head.field("upload-offset"), "0");
        let told = |answer: &Answer| {
            let own = ["location", "date", "upload-metadata", "upload-expires", "upload-limit"];
            let mut fields: Vec<_> =
                answer.fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            fields.retain(|(name, _)| !own.contains(&name.as_str()));
            (answer.status, fields, answer.body.clone())
        };
        let names = |answer: &Answer| answer.fields.keys().cloned().collect::<Vec<_>>();
        answers.push((told(&created), names(&created), told(&head), names(&head)));
    }
    assert_eq!(answers[0], answers[1]);
    bob.get("/files/b").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_exactly_there_is_an_ordinary_upload() {
    let server = Running::start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    // Another size.
    let created = create(&alice, 99_999, &metadata("/b", &bytes, "")).await;
    assert_eq!((created.field("upload-offset"), offset(&alice, &created).await), ("", 0));
    // A second digest that is not known yet: the bytes are needed, and it is compared with them.
    let wrong = format!(",sha256 {}", BASE64.encode("0".repeat(64).as_bytes()));
    let created = create(&alice, bytes.len(), &metadata("/b", &bytes, &wrong)).await;
    assert_eq!((created.field("upload-offset"), offset(&alice, &created).await), ("", 0));
    // No size.
    let named = metadata("/b", &bytes, "");
    let fields = [V, ("Upload-Defer-Length", "1"), ("Upload-Metadata", &*named)];
    let created = alice.send("POST", "/tus/", &fields, "").await.expect(201);
    assert_eq!(offset(&alice, &created).await, 0);
    // Content that was removed, though its bytes still lie there.
    alice.ask("DELETE", "/files/a", &[]).await.expect(204);
    let created = create(&alice, bytes.len(), &named).await;
    assert_eq!((created.field("upload-offset"), offset(&alice, &created).await), ("", 0));
    alice.get("/files/b").await.refused(404, "not-found");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_digest_that_is_known_is_compared() {
    let server = Running::start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let asked = alice.ask("HEAD", "/files/a", &[("Want-Repr-Digest", "sha-256=10")]).await.expect(200);
    let sha256 = asked.field("repr-digest").trim_start_matches("sha-256=:").trim_end_matches(':').to_owned();
    let sha256 = BASE64.decode(sha256.as_bytes()).unwrap();
    let right = format!(",sha256 {}", BASE64.encode(HEXLOWER.encode(&sha256).as_bytes()));
    let wrong = format!(",sha256 {}", BASE64.encode("0".repeat(64).as_bytes()));
    let created = create(&alice, bytes.len(), &metadata("/wrong", &bytes, &wrong)).await;
    assert_eq!(created.field("upload-offset"), "");
    let created = create(&alice, bytes.len(), &metadata("/right", &bytes, &right)).await;
    assert_eq!(created.field("upload-offset"), "100000");
    alice.get("/files/wrong").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sha256_names_content_as_well() {
    let server = Running::start().await;
    let (alice, bob, bytes) = (server.alice(), server.bob(), noise(100_000));
    // Verified on its way in, so it is known at once.
    let sha256 = digest_field(Algorithm::Sha256, &bytes);
    alice.send("PUT", "/files/a", &[("Repr-Digest", &sha256)], &bytes).await.expect(201);
    let hex = |bytes: &[u8]| {
        let field = digest_field(Algorithm::Sha256, bytes);
        let value = field.trim_start_matches("sha-256=:").trim_end_matches(':').as_bytes().to_vec();
        BASE64.encode(HEXLOWER.encode(&BASE64.decode(&value).unwrap()).as_bytes())
    };
    let named =
        |path: &str, bytes: &[u8]| format!("path {},sha256 {}", BASE64.encode(path.as_bytes()), hex(bytes));
    let created = create(&alice, bytes.len(), &named("/b", &bytes)).await;
    assert_eq!(
        (created.field("upload-offset"), created.field("content-location")),
        ("100000", "/files/@alice/b")
    );
    assert!(alice.get("/files/b").await.expect(200).body == bytes);
    // Another size, other bytes, another account.
    for (client, length, content) in
        [(&alice, 99_999, &bytes[..]), (&alice, 7, b"unknown"), (&bob, 100_000, &bytes)]
    {
        let created = create(client, length, &named("/c", content)).await;
        assert_eq!((created.field("upload-offset"), offset(client, &created).await), ("", 0));
        client.get("/files/c").await.refused(404, "not-found");
    }
    server.end().await;
    let server = Running::start_with(|config| config.claims.lookups.clear()).await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[("Repr-Digest", &sha256)], &bytes).await.expect(201);
    let created = create(&alice, bytes.len(), &named("/b", &bytes)).await;
    assert_eq!((created.field("upload-offset"), offset(&alice, &created).await), ("", 0));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_treated_as_for_any_upload() {
    let server = Running::start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    alice.send("PUT", "/files/b.txt", &[], "old").await.expect(201);
    let beside = create(&alice, bytes.len(), &metadata("/b.txt", &bytes, "")).await;
    assert_eq!(beside.field("content-location"), "/files/@alice/b%20%281%29.txt");
    assert_eq!(alice.get("/files/b.txt").await.expect(200).body, b"old");
    let over = create(&alice, bytes.len(), &metadata("/b.txt", &bytes, ",overwrite")).await;
    assert_eq!(over.field("content-location"), "/files/@alice/b.txt");
    assert!(alice.get("/files/b.txt").await.expect(200).body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_and_rights_are_those_of_any_creation() {
    let server = Running::start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let named = metadata("/b", &bytes, "");
    let fields = [V, ("Upload-Length", "100000"), ("Upload-Metadata", &*named)];
    server.alice_who_may("read").send("POST", "/tus/", &fields, "").await.refused(403, "forbidden");
    server.nobody().send("POST", "/tus/", &fields, "").await.refused(401, "unauthenticated");
    let quota = serde_json::json!({"quota": 150_000});
    server.root().json("PATCH", "/api/v1/admin/users/alice", &quota).await.expect(200);
    alice.send("POST", "/tus/", &fields, "").await.refused(507, "quota");
    alice.get("/files/b").await.refused(404, "not-found");
}
