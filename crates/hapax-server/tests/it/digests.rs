//! Digests of whole files: asked for, declared, kept.

use hapax_proto::dialect::native::{Completed, UploadStatus};
use hapax_proto::digest::{Algorithm, Digests, Hasher};
use hapax_store::catalog::EntryKind;
use serde_json::{Value, json};

use crate::files::{digest_field, noise};
use crate::server::{Running, outside};

/// Returns the algorithms of which the digest of a file is known without reading it.
fn known(server: &Running, name: &str) -> Vec<Algorithm> {
    outside(|| {
        let space = server.store.catalog().space("alice").unwrap().unwrap();
        let path = hapax_proto::name::EntryPath::parse(name).unwrap();
        let entry = server.store.entry(space.id, &path).unwrap().unwrap();
        let EntryKind::File { blob, .. } = entry.kind else { panic!("{name} is a folder") };
        server.store.known_digests(&blob).unwrap().algorithms().collect()
    })
}

/// What `Want-Repr-Digest` says to get this one.
fn want(algorithm: Algorithm) -> String {
    format!("{algorithm}=10")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_digest_is_told_on_request_and_computed_once() {
    let server = Running::start().await;
    let alice = server.alice();
    for length in [0, 5, 4_097, (20 << 20) + 3] {
        let (bytes, target) = (noise(length), format!("/files/f{length}"));
        alice.send("PUT", &target, &[], &bytes).await.expect(201);
        for &algorithm in Algorithm::ALL {
            let (want, expected) = (want(algorithm), digest_field(algorithm, &bytes));
            let fields = [("Want-Repr-Digest", want.as_str())];
            let head = alice.ask("HEAD", &target, &fields).await.expect(200);
            assert_eq!(head.field("repr-digest"), expected, "{algorithm} of {length}");
            assert!(known(&server, &format!("/f{length}")).contains(&algorithm));
            let got = alice.ask("GET", &target, &fields).await.expect(200);
            assert_eq!(got.field("repr-digest"), expected);
            assert!(got.body == bytes);
        }
        assert_eq!(known(&server, &format!("/f{length}")), Algorithm::ALL);
    }
    // It is of the whole, also beside a part, and it is the content's, whatever its name.
    let whole = digest_field(Algorithm::Md5, &noise(4_097));
    let part = [("Want-Repr-Digest", "md5=1"), ("Range", "bytes=0-0")];
    assert_eq!(alice.ask("GET", "/files/f4097", &part).await.expect(206).field("repr-digest"), whole);
    alice.send("PUT", "/files/again", &[], noise(4_097)).await.expect(201);
    assert_eq!(known(&server, "/again"), Algorithm::ALL);
    let server = server.restart().await;
    assert_eq!(known(&server, "/f4097"), Algorithm::ALL);
    let head = server.alice().ask("HEAD", "/files/f4097", &part).await.expect(200);
    assert_eq!(head.field("repr-digest"), whole);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_most_and_can_be_had_is_told() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "abc").await.expect(201);
    let check = async |want: &str, expected: Option<Algorithm>| {
        let answer = alice.ask("HEAD", "/files/a", &[("Want-Repr-Digest", want)]).await.expect(200);
        let expected = expected.map(|algorithm| digest_field(algorithm, b"abc")).unwrap_or_default();
        assert_eq!(answer.field("repr-digest"), expected, "{want}");
    };
    check("sha-256=3, blake3=3", Some(Algorithm::Blake3)).await;
    check("sha-256=4, blake3=3", Some(Algorithm::Sha256)).await;
    check("sha-256=0, md5=0", None).await;
    check("unixsum=10", None).await;
    check("unixsum=10, sha=1", Some(Algorithm::Sha1)).await;
    // Which one is at hand is not told: somebody else may have had the content, and asked.
    check("sha-512=1, sha=1", Some(Algorithm::Sha512)).await;
    for broken in ["md5=99", "md5", "md5=x", "=,"] {
        alice.ask("HEAD", "/files/a", &[("Want-Repr-Digest", broken)]).await.refused(400, "bad-field");
    }
    let held = alice.ask("HEAD", "/files/a", &[]).await.expect(200);
    assert_eq!(held.field("repr-digest"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_answered_with_the_digest_or_without() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(8 << 20);
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let asked = (0..24).map(|n| {
        let algorithm = Algorithm::ALL[1 + n % (Algorithm::ALL.len() - 1)];
        let (alice, expected) = (alice.clone(), digest_field(algorithm, &bytes));
        tokio::spawn(async move {
            let want = want(algorithm);
            let head = alice.ask("HEAD", "/files/a", &[("Want-Repr-Digest", &want)]).await.expect(200);
            assert!([&expected, ""].contains(&head.field("repr-digest")), "{algorithm}");
        })
    });
    for task in asked.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_put_declared_was_verified_and_is_kept() {
    // Nothing else is to be kept beside it.
    let server = Running::start_with(|config| config.claims.lookups.clear()).await;
    let alice = server.alice();
    let declared =
        format!("{}, {}", digest_field(Algorithm::Sha512, b"abc"), digest_field(Algorithm::Crc32c, b"abc"));
    alice.send("PUT", "/files/a", &[("Repr-Digest", &declared)], "abc").await.expect(201);
    assert_eq!(known(&server, "/a"), [Algorithm::Blake3, Algorithm::Sha512, Algorithm::Crc32c]);
    // One that is wrong among several is enough.
    let lying = format!("{declared}, {}", digest_field(Algorithm::Md5, b"abd"));
    let refused = alice.send("PUT", "/files/a", &[("Content-Digest", &lying)], "abc").await;
    let problem: Value = refused.refused(400, "digest-mismatch").read();
    assert_eq!(problem["actual"], "900150983cd24fb0d6963f7d28e17f72");
    server.end().await;
}

/// A repeated PUT whose first answer was lost wanted what stands there; only a digest nobody can forge says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_given_again_for_a_digest_that_proves_it() {
    let server = Running::start().await;
    let alice = server.alice();
    for &algorithm in Algorithm::ALL {
        let target = format!("/files/{algorithm}");
        let first = alice.send("PUT", &target, &[], "old").await.expect(201).field("etag").to_owned();
        let digest = digest_field(algorithm, b"new");
        let fields = [("If-Match", first.as_str()), ("Repr-Digest", digest.as_str())];
        let second = alice.send("PUT", &target, &fields, "new").await.expect(200).field("etag").to_owned();
        let again = alice.send("PUT", &target, &fields, "new").await;
        if algorithm.is_collision_resistant() {
            assert_eq!(again.expect(200).field("etag"), second, "{algorithm}");
        } else {
            again.refused(412, "precondition-failed");
        }
        let longer = alice.send("PUT", &target, &fields, "newer").await;
        longer.refused(412, "precondition-failed");
        // Two fields that contradict each other are no proof.
        let other = digest_field(algorithm, b"old");
        let torn = [("If-Match", first.as_str()), ("Repr-Digest", &digest), ("Content-Digest", &other)];
        alice.send("PUT", &target, &torn, "new").await.refused(412, "precondition-failed");
        // Without If-Match nothing was guarded, and a name that was to be free is not.
        let absent = [("If-None-Match", "*"), ("Repr-Digest", digest.as_str())];
        alice.send("PUT", &target, &absent, "new").await.refused(412, "precondition-failed");
    }
    server.end().await;
}

fn all_digests(bytes: &[u8]) -> Digests {
    let mut hasher = Hasher::new(Algorithm::ALL.iter().copied());
    hasher.update(bytes);
    hasher.digests()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_declared_is_verified_when_it_completes() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise((16 << 20) + 5);
    let (right, wrong) = (all_digests(&bytes), all_digests(b"something else"));
    for (key, digests, fits) in [
        ("1", json!(right), true),
        ("2", json!({"sha-256": right.get(Algorithm::Sha256).unwrap().hex()}), true),
        ("3", json!({"sha-256": wrong.get(Algorithm::Sha256).unwrap().hex()}), false),
        (
            "4",
            json!({"blake3": right.get(Algorithm::Blake3).unwrap().hex(), "md5": wrong.get(Algorithm::Md5).unwrap().hex()}),
            false,
        ),
    ] {
        let create = json!({"key": key.repeat(16), "path": format!("/f{key}"), "size": bytes.len(), "digests": digests});
        let status: UploadStatus = alice.json("POST", "/api/v1/uploads", &create).await.expect(201).read();
        let url = format!("/api/v1/uploads/{}", status.id);
        let (first, second) = bytes.split_at(16 << 20);
        alice.send("PUT", &format!("{url}/parts/0"), &[], first).await.expect(201);
        alice.send("PUT", &format!("{url}/parts/1"), &[], second).await.expect(201);
        let complete = json!({"size": bytes.len(), "blake3": null});
        for _ in 0..2 {
            let answer = alice.json("POST", &format!("{url}/complete"), &complete).await;
            if fits {
                assert_eq!(answer.expect(201).read::<Completed>().size, bytes.len() as u64);
            } else {
                answer.refused(422, "digest-mismatch");
                alice.get(&format!("/files/f{key}")).await.refused(404, "not-found");
                let open: UploadStatus = alice.get(&url).await.expect(200).read();
                assert_eq!((open.state, open.offset), (hapax_proto::upload::State::Open, bytes.len() as u64));
            }
        }
    }
    assert_eq!(known(&server, "/f1"), Algorithm::ALL);
    let broken = json!({"key": "5".repeat(16), "path": "/f5", "size": 1, "digests": {"sha-256": "00"}});
    alice.json("POST", "/api/v1/uploads", &broken).await.refused(400, "bad-field");
    let unknown = json!({"key": "6".repeat(16), "path": "/f6", "size": 1, "digests": {"md6": "00"}});
    alice.json("POST", "/api/v1/uploads", &unknown).await.refused(400, "bad-field");
    server.end().await;
}
