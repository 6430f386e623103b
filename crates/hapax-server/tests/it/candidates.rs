//! Contents that are found by MD5, SHA-1 and SHA-256: what the caller has is told by its BLAKE3, everything else looks alike.

use std::time::Duration;

use data_encoding::HEXLOWER;
use hapax_proto::dialect::native::{ClaimResult, Service};
use hapax_proto::digest::{Algorithm, Digest, FileHash, Hasher};
use hapax_server::admin::StoreStats;
use hapax_store::job::UNPACED;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::claims::{claim, item};
use crate::files::{digest_field, noise};
use crate::server::{Running, outside};
use crate::wire::Client;

const ALL: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha1];

/// Two messages with one MD5: X. Wang, D. Feng, X. Lai, H. Yu, "Collisions for Hash Functions MD4, MD5, HAVAL-128 and
/// RIPEMD", 2004.
const TWINS: [&str; 2] = [
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a0851\
     25e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f3342\
     0f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70",
    "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a0851\
     25e8f7cdc99fd91dbd7280373c5bd8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0e99f3342\
     0f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70",
];

pub(crate) fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    hasher.digests().get(algorithm).unwrap()
}

/// Returns two messages with one MD5.
pub(crate) fn twins() -> [Vec<u8>; 2] {
    TWINS.map(|hex| HEXLOWER.decode(hex.as_bytes()).unwrap())
}

/// A claim by another digest than BLAKE3.
pub(crate) fn named(path: &str, algorithm: Algorithm, bytes: &[u8]) -> Value {
    let value = digest(algorithm, bytes).hex();
    json!({"path": path, "size": bytes.len(), "digest": {"alg": algorithm, "value": value}})
}

/// Finds every content by all algorithms from now on, without waiting for the job of the server.
fn hash_all(server: &Running) {
    outside(|| {
        server.store.look_at_all_again();
        server.store.compute_lookups(&ALL, UNPACED).unwrap();
    });
}

fn candidates(contents: &[&[u8]]) -> ClaimResult {
    ClaimResult::Candidates { blake3: contents.iter().map(|bytes| FileHash::of(bytes)).collect() }
}

async fn start() -> Running {
    Running::start_with(|config| config.claims.lookups = ALL.to_vec()).await
}

pub(crate) async fn put(client: &Client, path: &str, bytes: &[u8]) {
    client.send("PUT", &format!("/files{path}"), &[], bytes).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_one_has_is_found_by_each_algorithm_and_claimed_by_blake3() {
    let server = start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    put(&alice, "/a", &bytes).await;
    put(&alice, "/other", &noise(5)).await;
    hash_all(&server);
    for algorithm in ALL {
        let to = format!("/by-{algorithm}");
        let found = claim(&alice, vec![named(&to, algorithm, &bytes)]).await;
        assert_eq!(found, [candidates(&[&bytes])], "{algorithm}");
        alice.get(&format!("/files{to}")).await.refused(404, "not-found");
        let linked = claim(&alice, vec![item(&to, &bytes)]).await;
        assert!(matches!(&linked[..], [ClaimResult::Linked(_)]), "{linked:?}");
        assert!(alice.get(&format!("/files{to}")).await.expect(200).body == bytes);
    }
    // Many at once keep their order, whatever is in between.
    let items = vec![
        named("/x", Algorithm::Md5, b"unknown"),
        named("/y", Algorithm::Md5, &bytes),
        item("/z", b"unknown"),
        named("/z", Algorithm::Sha256, &noise(5)),
    ];
    let expected =
        [ClaimResult::Upload, candidates(&[&bytes]), ClaimResult::Upload, candidates(&[&noise(5)])];
    assert_eq!(claim(&alice, items).await, expected);
    server.end().await;
}

/// The server does it by itself, also for what an earlier run left.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_hashes_in_background_and_tells_what_is_left() {
    let server = Running::start().await;
    let server = server.restart().await;
    let (alice, root) = (server.alice(), server.root());
    let contents: Vec<_> = (1..6).map(|n| noise(n * 30_000)).collect();
    for (n, bytes) in contents.iter().enumerate() {
        put(&alice, &format!("/f{n}"), bytes).await;
    }
    let hashed = async {
        while root.get("/api/v1/admin/stats").await.expect(200).read::<StoreStats>().unhashed > 0 {}
    };
    timeout(Duration::from_mins(1), hashed).await.unwrap();
    for bytes in &contents {
        let found = claim(&alice, vec![named("/x", Algorithm::Md5, bytes)]).await;
        assert_eq!(found, [candidates(&[bytes])]);
    }
    // By default not by SHA-1.
    let sha1 = claim(&alice, vec![named("/x", Algorithm::Sha1, &contents[0])]).await;
    assert_eq!(sha1, [ClaimResult::Upload]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_brought_and_verified_is_found_at_once() {
    let server = start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    let declared = digest_field(Algorithm::Sha1, &bytes);
    alice.send("PUT", "/files/a", &[("Repr-Digest", &declared)], &bytes).await.expect(201);
    let found = claim(&alice, vec![named("/x", Algorithm::Sha1, &bytes)]).await;
    assert_eq!(found, [candidates(&[&bytes])]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_twins_are_two_contents_and_two_candidates() {
    let server = start().await;
    let alice = server.alice();
    let [one, other] = twins();
    assert_eq!(digest(Algorithm::Md5, &one), digest(Algorithm::Md5, &other));
    assert_ne!(one, other);
    put(&alice, "/one", &one).await;
    hash_all(&server);
    // Who has the other one is told of the first, and finds that it is not his.
    let found = claim(&alice, vec![named("/x", Algorithm::Md5, &other), item("/x", &other)]).await;
    assert_eq!(found, [candidates(&[&one]), ClaimResult::Upload]);
    put(&alice, "/other", &other).await;
    hash_all(&server);
    assert_eq!(alice.get("/files/one").await.expect(200).body, one);
    assert_eq!(alice.get("/files/other").await.expect(200).body, other);
    let found = claim(&alice, vec![named("/x", Algorithm::Md5, &one)]).await;
    assert_eq!(found, [candidates(&[&one, &other])]);
    let by_sha256 = claim(&alice, vec![named("/x", Algorithm::Sha256, &other)]).await;
    assert_eq!(by_sha256, [candidates(&[&other])]);
    for (name, bytes) in [("/copy-of-one", &one), ("/copy-of-other", &other)] {
        claim(&alice, vec![item(name, bytes)]).await;
        assert_eq!(alice.get(&format!("/files{name}")).await.expect(200).body, *bytes);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_callers_is_answered_like_what_nobody_has() {
    let server = start().await;
    let (alice, bob, bytes) = (server.alice(), server.bob(), noise(100_000));
    put(&alice, "/a", &bytes).await;
    hash_all(&server);
    for algorithm in ALL {
        let mut answers = Vec::new();
        for content in [&bytes[..], b"unknown"] {
            let items = json!({"items": [named("/b", algorithm, content)]});
            let answer = bob.json("POST", "/api/v1/claims", &items).await.expect(200);
            let mut fields = answer.fields.clone();
            fields.remove("date");
            answers.push((answer.status, fields, answer.body));
        }
        assert_eq!(answers[0], answers[1], "{algorithm}");
        assert_eq!(answers[0].2, br#"{"results":[{"outcome":"upload"}]}"#);
    }
    // The right digest with another size, and what was removed.
    let mut longer = named("/b", Algorithm::Md5, &bytes);
    longer["size"] = json!(100_001);
    assert_eq!(claim(&alice, vec![longer]).await, [ClaimResult::Upload]);
    alice.ask("DELETE", "/files/a", &[]).await.expect(204);
    assert_eq!(claim(&alice, vec![named("/b", Algorithm::Md5, &bytes)]).await, [ClaimResult::Upload]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_off_is_not_looked_up_and_not_offered() {
    let features =
        async |server: &Running| server.nobody().get("/api/v1").await.expect(200).read::<Service>().features;
    let server = Running::start_with(|config| config.claims.lookups.clear()).await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    put(&alice, "/a", &bytes).await;
    hash_all(&server);
    for algorithm in ALL {
        assert_eq!(claim(&alice, vec![named("/b", algorithm, &bytes)]).await, [ClaimResult::Upload]);
    }
    let linked = claim(&alice, vec![item("/b", &bytes)]).await;
    assert!(matches!(&linked[..], [ClaimResult::Linked(_)]), "{linked:?}");
    assert!(!features(&server).await.iter().any(|feature| feature == "candidates"));
    let stats: StoreStats = server.root().get("/api/v1/admin/stats").await.expect(200).read();
    assert_eq!(stats.unhashed, 0);
    server.end().await;
    let server = Running::start().await;
    assert!(features(&server).await.iter().any(|feature| feature == "candidates"));
    server.end().await;
}
