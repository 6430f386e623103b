//! Reading and replacing files.

use hapax_proto::claim::Scope;
use hapax_proto::dialect::native::Completed;
use hapax_proto::digest::{Algorithm, Digest, Digests, FileHash, Hasher};

use crate::server::{PASSWORD, Running};
use crate::wire::{Client, Wire};

/// Bytes that differ everywhere.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// The field of a digest.
pub(crate) fn digest_field(algorithm: Algorithm, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    hasher.digests().format_field().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_is_what_is_got() {
    let server = Running::start().await;
    let alice = server.alice();
    for length in [0, 1, 4_096, 4_097, 300_000, (16 << 20) + 1, (33 << 20) + 77] {
        let (bytes, target) = (noise(length), format!("/files/folder/f{length}"));
        let answer = alice.send("PUT", &target, &[], &bytes).await.expect(201);
        let completed: Completed = answer.read();
        assert_eq!((completed.size, completed.blake3), (length as u64, FileHash::of(&bytes)));
        assert_eq!(completed.path, format!("/@alice/folder/f{length}"));
        assert_eq!(answer.field("etag"), completed.etag);
        assert_eq!(answer.field("location"), format!("/files/@alice/folder/f{length}"));
        let got = alice.get(&target).await.expect(200);
        assert!(got.body == bytes, "{length}");
        assert_eq!(got.field("etag"), completed.etag);
        let head = alice.ask("HEAD", &target, &[]).await.expect(200);
        assert_eq!(head.field("content-length"), length.to_string());
        assert_eq!(head.field("etag"), completed.etag);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_ranges_and_conditions() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(200_000);
    let etag = alice.send("PUT", "/files/a.webm", &[], &bytes).await.expect(201).field("etag").to_owned();
    let ask = |fields: &'static [(&'static str, &'static str)]| {
        let alice = alice.clone();
        async move { alice.ask("GET", "/files/a.webm", fields).await }
    };
    let part = ask(&[("Range", "bytes=65530-131080")]).await.expect(206);
    assert!(part.body == bytes[65_530..=131_080]);
    assert_eq!(part.field("content-range"), "bytes 65530-131080/200000");
    assert_eq!(part.field("content-type"), "video/webm");
    assert_eq!(ask(&[("Range", "bytes=-3")]).await.expect(206).body, bytes[199_997..]);
    assert_eq!(ask(&[("Range", "bytes=5-4")]).await.expect(200).body.len(), 200_000);
    let beyond = ask(&[("Range", "bytes=200000-")]).await.refused(416, "range");
    assert_eq!(beyond.field("content-range"), "bytes */200000");
    ask(&[("If-Match", "\"other\"")]).await.refused(412, "precondition-failed");
    alice.ask("GET", "/files/a.webm", &[("If-None-Match", &etag)]).await.expect(304);
    let same = [("Range", "bytes=0-0"), ("If-Range", etag.as_str())];
    assert_eq!(alice.ask("GET", "/files/a.webm", &same).await.expect(206).body, bytes[..1]);
    let other = [("Range", "bytes=0-0"), ("If-Range", "\"other\"")];
    assert_eq!(alice.ask("GET", "/files/a.webm", &other).await.expect(200).body.len(), 200_000);
    // A range on HEAD does not count.
    alice.ask("HEAD", "/files/a.webm", &[("Range", "bytes=0-0")]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_of_a_file_is_told_on_request() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "abc").await.expect(201);
    let want = [("Want-Repr-Digest", "blake3=10"), ("Range", "bytes=0-0")];
    let told = alice.ask("GET", "/files/a", &want).await.expect(206);
    let expected: Digests = [Digest::from(FileHash::of(b"abc"))].into_iter().collect();
    assert_eq!(told.field("repr-digest"), expected.format_field().unwrap().to_str().unwrap());
    let never = alice.ask("GET", "/files/a", &[("Want-Repr-Digest", "blake3=0")]).await.expect(200);
    assert_eq!(never.field("repr-digest"), "");
    alice.ask("GET", "/files/a", &[("Want-Repr-Digest", "blake3=99")]).await.refused(400, "bad-field");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_digest_is_verified_before_anything_changes() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "old").await.expect(201);
    for &algorithm in Algorithm::ALL {
        for name in ["Repr-Digest", "Content-Digest"] {
            let wrong = digest_field(algorithm, b"other");
            let refused = alice.send("PUT", "/files/a", &[(name, &wrong)], "new").await;
            refused.refused(400, "digest-mismatch");
            assert_eq!(alice.get("/files/a").await.expect(200).body, b"old");
        }
        let right = digest_field(algorithm, b"new");
        alice.send("PUT", "/files/b", &[("Repr-Digest", &right)], "new").await.expect(201);
        alice.ask("DELETE", "/files/b", &[]).await.expect(204);
    }
    alice.send("PUT", "/files/a", &[("Repr-Digest", "sha-256=5")], "new").await.refused(400, "bad-field");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_guard_writing_and_deleting() {
    let server = Running::start().await;
    let alice = server.alice();
    let failed = "precondition-failed";
    let tag = |answer: crate::wire::Answer| answer.field("etag").to_owned();
    alice.send("PUT", "/files/a", &[("If-Match", "*")], "1").await.refused(412, failed);
    let first = tag(alice.send("PUT", "/files/a", &[("If-None-Match", "*")], "1").await.expect(201));
    alice.send("PUT", "/files/a", &[("If-None-Match", "*")], "2").await.refused(412, failed);
    let second = tag(alice.send("PUT", "/files/a", &[("If-Match", &first)], "2").await.expect(200));
    alice.send("PUT", "/files/a", &[("If-Match", &first)], "3").await.refused(412, failed);
    alice.ask("DELETE", "/files/a", &[("If-Match", &first)]).await.refused(412, failed);
    assert_eq!(alice.get("/files/a").await.body, b"2");
    // A repeated request whose answer was lost: it wanted what stands there.
    let repeated = digest_field(Algorithm::Blake3, b"2");
    let lost = [("If-Match", first.as_str()), ("Repr-Digest", repeated.as_str())];
    assert_eq!(tag(alice.send("PUT", "/files/a", &lost, "2").await.expect(200)), second);
    alice.ask("DELETE", "/files/a", &[("If-Match", &second)]).await.expect(204);
    alice.get("/files/a").await.refused(404, "not-found");
    alice.ask("DELETE", "/files/a", &[]).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_put_may_not_be() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/folder/a", &[], "1").await.expect(201);
    alice.send("PUT", "/files/folder", &[], "1").await.refused(409, "is-a-folder");
    alice.send("PUT", "/files/other/", &[], "1").await.refused(409, "is-a-folder");
    alice.send("PUT", "/files/folder/a/b", &[], "1").await.refused(409, "not-a-folder");
    alice
        .send("PUT", "/files/a", &[("Content-Range", "bytes 0-0/2")], "1")
        .await
        .refused(400, "content-range");
    let coded = alice.send("PUT", "/files/a", &[("Content-Encoding", "gzip")], "1").await;
    assert_eq!(coded.refused(415, "content-coding").field("accept-encoding"), "identity");
    alice.send("PUT", "/files/a", &[("Content-Encoding", "identity")], "1").await.expect(201);
    alice.get("/files/folder").await.refused(409, "is-a-folder");
    alice.get("/files/a/").await.refused(404, "not-found");
    alice.ask("DELETE", "/files/folder", &[]).await.refused(409, "not-empty");
    let mut wire = server.connect().await;
    wire.send(alice.head("PUT", "/files/huge", &[("Content-Length", "1000000000000000")]) + "\r\n").await;
    let refused = wire.answer().await.refused(413, "too-large");
    assert_eq!(refused.field("upload-limit"), "max-size=999999999999999");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_breaks_off_changes_nothing() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "old").await.expect(201);
    for sent in [1_000, (17 << 20) + 5] {
        let mut wire = server.connect().await;
        wire.send(alice.head("PUT", "/files/a", &[("Content-Length", "50000000")]) + "\r\n").await;
        wire.send(noise(sent)).await;
        wire.finish().await;
        wire.answer().await.refused(503, "unavailable");
        assert_eq!(alice.get("/files/a").await.expect(200).body, b"old");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_put_needs_no_length() {
    let server = Running::start().await;
    let alice = server.alice();
    let mut wire = server.connect().await;
    wire.send(alice.head("PUT", "/files/a", &[("Transfer-Encoding", "chunked")]) + "\r\n").await;
    wire.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
    wire.answer().await.expect(201);
    assert_eq!(alice.get("/files/a").await.body, b"abcde");
}

/// Begins to put a file, says what it hashes to and waits to be asked for its bytes.
async fn offer(server: &Running, client: &Client, bytes: &[u8]) -> Wire {
    let (digest, length) = (digest_field(Algorithm::Blake3, bytes), bytes.len().to_string());
    let fields = [("Expect", "100-continue"), ("Repr-Digest", &digest), ("Content-Length", &length)];
    let mut wire = server.connect().await;
    wire.send(client.head("PUT", "/files/b", &fields) + "\r\n").await;
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn known_content_is_put_without_a_byte() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(100_000);
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let mut wire = offer(&server, &alice, &bytes).await;
    assert_eq!(wire.answer().await.expect(201).field("connection"), "close");
    assert!(alice.get("/files/b").await.expect(200).body == bytes);
    // Bob has not this content, so he has to send it.
    let mut wire = offer(&server, &server.bob(), &bytes).await;
    wire.answer().await.expect(100);
    wire.send(&bytes).await;
    wire.answer().await.expect(201);
}

/// It was once refused as not available, though the client was there with the bytes in its hands.
#[tokio::test(flavor = "multi_thread")]
async fn known_content_that_is_deleted_at_that_moment_is_asked_for() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(10_000);
    for round in 0..100 {
        alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
        let put = async {
            let mut wire = offer(&server, &alice, &bytes).await;
            let answer = wire.answer().await;
            if answer.status == 100 {
                wire.send(&bytes).await;
                wire.answer().await
            } else {
                answer
            }
        };
        let (deleted, put) = tokio::join!(alice.ask("DELETE", "/files/a", &[]), put);
        deleted.expect(204);
        assert_eq!(put.status, 201, "round {round}");
        alice.ask("DELETE", "/files/b", &[]).await.expect(204);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_claims_are_off_known_content_is_put_with_its_bytes() {
    let server = Running::start_with(|config| config.claims.scope = Scope::Off).await;
    let alice = server.alice();
    let bytes = noise(100_000);
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let mut wire = offer(&server, &alice, &bytes).await;
    wire.answer().await.expect(100);
    wire.send(&bytes).await;
    wire.answer().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_names_its_file() {
    let server = Running::start().await;
    let alice = server.alice();
    let named = [("Content-Disposition", "attachment; filename*=UTF-8''%e2%82%ac.txt")];
    let created = alice.send("POST", "/files/in/", &named, "1").await.expect(201);
    assert_eq!(created.field("location"), "/files/@alice/in/%E2%82%AC.txt");
    alice.send("POST", "/files/in/", &named, "2").await.refused(409, "exists");
    alice.send("POST", "/files/in/", &[], "1").await.refused(400, "bad-field");
    alice.send("POST", "/files/in", &named, "1").await.refused(409, "not-a-folder");
    let escape = [("Content-Disposition", "attachment; filename=\"../x\"")];
    alice.send("POST", "/files/in/", &escape, "1").await.refused(400, "bad-path");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_uploads_resumes_and_deletes_with_a_password() {
    let server = Running::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = noise(3 << 20);
    std::fs::write(file.path(), &bytes).unwrap();
    let (path, url) = (file.path().to_str().unwrap(), server.url("/files/a%20b"));
    let user = format!("alice:{PASSWORD}");
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let put = crate::wire::curl(&[protocol, "-f", "-u", &user, "-T", path, &url]).await;
        assert!(put.status.success(), "{protocol}: {put:?}");
        let got = crate::wire::curl(&[protocol, "-f", "-u", &user, &url]).await;
        assert!(got.stdout == bytes, "{protocol}");
        let rest = crate::wire::curl(&[protocol, "-f", "-u", &user, "-r", "1000000-", &url]).await;
        assert!(rest.stdout == bytes[1_000_000..], "{protocol}");
        let gone = crate::wire::curl(&[protocol, "-f", "-u", &user, "-X", "DELETE", &url]).await;
        assert!(gone.status.success(), "{protocol}: {gone:?}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_guards_a_delete() {
    let server = Running::start().await;
    let alice = server.alice();
    let etag = alice.send("PUT", "/files/d/a", &[], "1").await.expect(201).field("etag").to_owned();
    let weak = format!("W/{etag}");
    let (long_ago, some_day) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT");
    for fields in [
        &[("If-Match", "\"other\"")][..],
        &[("If-Match", &weak)],
        &[("If-Match", "no tag")],
        &[("If-None-Match", &etag)],
        &[("If-None-Match", &weak)],
        &[("If-None-Match", "*")],
        &[("If-Match", "*"), ("If-None-Match", &etag)],
        &[("If-Match", "\"other\""), ("If-Unmodified-Since", some_day)],
    ] {
        alice.ask("DELETE", "/files/d/a", fields).await.refused(412, "precondition-failed");
    }
    // A missing target is missing, whatever is said about it (RFC 9110 §13.2.1).
    alice.ask("DELETE", "/files/d/b", &[("If-Match", "*")]).await.refused(404, "not-found");
    // A folder has no tag.
    alice.ask("DELETE", "/files/d/", &[("If-Match", &etag)]).await.refused(412, "precondition-failed");
    alice.ask("DELETE", "/files/d/", &[("If-Match", "*")]).await.refused(412, "precondition-failed");
    alice.ask("DELETE", "/files/d/", &[]).await.refused(409, "not-empty");
    let passing =
        [("If-Match", etag.as_str()), ("If-Unmodified-Since", long_ago), ("If-None-Match", "\"b\"")];
    alice.ask("DELETE", "/files/d/a", &passing).await.expect(204);
    alice.ask("DELETE", "/files/d/", &[("If-None-Match", "*")]).await.expect(204);
    alice.ask("DELETE", "/files/", &[]).await.refused(403, "forbidden");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_what_its_fields_say_changes_nothing() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "old").await.expect(201);
    for (fields, body) in [
        // Chunks that are no chunks, that end too early, or that never end.
        (&[("Transfer-Encoding", "chunked")][..], "x\r\nabc\r\n0\r\n\r\n"),
        (&[("Transfer-Encoding", "chunked")], "5\r\nabc\r\n0\r\n\r\n"),
        (&[("Transfer-Encoding", "chunked")], "3\r\nabcdef\r\n0\r\n\r\n"),
        (&[("Transfer-Encoding", "chunked")], "3\r\nabc\r\n"),
        (&[("Transfer-Encoding", "chunked")], "ffffffffffffffffff\r\nabc"),
        (&[("Transfer-Encoding", "gzip")], "abc"),
        // Two lengths.
        (&[("Content-Length", "3"), ("Content-Length", "4")], "abcd"),
        (&[("Content-Length", "+3")], "abc"),
        (&[("Content-Length", "3, 3")], "abc"),
        (&[("Content-Length", "-1")], "abc"),
        // Less than was announced.
        (&[("Content-Length", "4")], "abc"),
    ] {
        let mut wire = server.connect().await;
        wire.send(alice.head("PUT", "/files/a", fields) + "\r\n" + body).await;
        wire.finish().await;
        let answer = String::from_utf8(wire.rest().await).unwrap();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{fields:?} {body:?}: {answer}");
        assert_eq!(alice.get("/files/a").await.expect(200).body, b"old", "{fields:?} {body:?}");
    }
    // What follows a body that is shorter than sent is another request, and none that is understood.
    let mut wire = server.connect().await;
    wire.send(alice.head("PUT", "/files/b", &[("Content-Length", "3")]) + "\r\nabcdef\r\n\r\n").await;
    wire.answer().await.expect(201);
    wire.answer().await.expect(400);
    assert_eq!(alice.get("/files/b").await.expect(200).body, b"abc");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_length_is_measured_while_it_comes() {
    let server =
        Running::start_with(|config| config.caps.size = hapax_proto::span::Length::new(1 << 20)).await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "old").await.expect(201);
    let mut wire = server.connect().await;
    wire.send(alice.head("PUT", "/files/a", &[("Transfer-Encoding", "chunked")]) + "\r\n").await;
    wire.send("100000\r\n").await;
    wire.send(noise(1 << 20)).await;
    wire.send("\r\n1\r\nx\r\n").await;
    wire.answer().await.refused(413, "too-large");
    assert_eq!(alice.get("/files/a").await.expect(200).body, b"old");
    server.end().await;
}
