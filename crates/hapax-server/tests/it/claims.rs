//! Instant upload: content the caller has is linked, everything else looks alike.

use hapax_proto::dialect::native::{ClaimResult, ClaimResults};
use hapax_proto::digest::FileHash;
use serde_json::{Value, json};

use crate::files::noise;
use crate::server::Running;
use crate::wire::Client;

pub(crate) fn item(path: &str, bytes: &[u8]) -> Value {
    let digest = json!({"alg": "blake3", "value": FileHash::of(bytes).to_string()});
    json!({"path": path, "size": bytes.len(), "digest": digest})
}

pub(crate) async fn claim(client: &Client, items: Vec<Value>) -> Vec<ClaimResult> {
    let answer = client.json("POST", "/api/v1/claims", &json!({ "items": items })).await;
    answer.expect(200).read::<ClaimResults>().results
}

#[tokio::test(flavor = "multi_thread")]
async fn content_one_has_is_linked_without_a_byte() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(100_000);
    alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let items = vec![item("/b", &bytes), item("/c", b"unknown"), item("/d/e", &bytes)];
    let results = claim(&alice, items).await;
    let [ClaimResult::Linked(first), ClaimResult::Upload, ClaimResult::Linked(last)] = &results[..] else {
        panic!("{results:?}");
    };
    assert_eq!((first.path.as_str(), last.path.as_str()), ("/@alice/b", "/@alice/d/e"));
    assert!(alice.get("/files/d/e").await.expect(200).body == bytes);
    // The same again finds that there is nothing to do.
    let again = claim(&alice, vec![item("/b", &bytes)]).await;
    let [ClaimResult::Linked(again)] = &again[..] else { panic!("{again:?}") };
    assert_eq!((again.version, &again.etag), (first.version, &first.etag));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_others_have_is_answered_like_content_nobody_has() {
    let server = Running::start().await;
    let bytes = noise(100_000);
    server.alice().send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let results = claim(&server.bob(), vec![item("/b", &bytes), item("/b", b"unknown")]).await;
    assert_eq!(results, [ClaimResult::Upload, ClaimResult::Upload]);
    server.bob().get("/files/b").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_claim_is_refused_by_itself() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "abc").await.expect(201);
    alice.send("PUT", "/files/c", &[], "xyz").await.expect(201);
    // What stands there is no other content: the answer to such a claim may have been lost.
    let [mut absent, mut stands] = [b"xyz", b"abc"].map(|content| item("/a", content));
    absent["precondition"] = json!("absent");
    stands["precondition"] = json!("absent");
    let items = vec![
        item("/../x", b"abc"),
        item("/@bob/x", b"abc"),
        absent,
        json!({"path": "/b", "size": 3, "digest": {"alg": "blake3", "value": "xyz"}}),
        json!({"path": "/b", "size": 3, "digest": {"alg": "md5", "value": "xyz"}}),
        json!({"path": "/b", "size": 3, "digest": null, "quick": "xyz"}),
        json!({"path": "/b", "size": 3, "digest": {"alg": "md6", "value": "xyz"}}),
        json!({"path": "/b", "size": 3, "digest": null}),
        item("/b", b"abc"),
        stands,
    ];
    let results = claim(&alice, items).await;
    let words: Vec<_> = results
        .iter()
        .map(|result| match result {
            ClaimResult::Linked(_) => "linked",
            ClaimResult::Candidates { .. } => "candidates",
            ClaimResult::Upload => "upload",
            ClaimResult::Refused { problem, .. } => problem,
            other => panic!("{other:?}"),
        })
        .collect();
    let refused = ["bad-path", "not-found", "precondition-failed", "bad-field", "bad-field", "bad-field"];
    let expected = [&refused[..], &["upload", "upload", "linked", "linked"]].concat();
    assert_eq!(words, expected);
    let too_many = json!({"items": vec![item("/b", b"abc"); 10_001]});
    alice.json("POST", "/api/v1/claims", &too_many).await.refused(413, "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn items_beyond_the_limit_are_counted_and_never_kept() {
    let server = Running::start().await;
    let alice = server.alice();
    for route in ["/api/v1/claims", "/api/v1/claims/proofs", "/api/v1/batch/get"] {
        // None of them is an item, which nobody finds out.
        let many = json!({"items": vec![(); 10_001]});
        alice.json("POST", route, &many).await.refused(413, "too-large");
        let few = json!({"items": [null]});
        alice.json("POST", route, &few).await.refused(400, "bad-field");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_under_another_name_is_linked_in_few_commits() {
    const FILES: usize = 2_500;
    let server = Running::start_with(|config| config.claims.lookups.clear()).await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], "abc").await.expect(201);
    alice.json("POST", "/api/v1/entries/tree/n7", &json!({"op": "mkdir"})).await.expect(201);
    let items: Vec<_> = (0..FILES).map(|number| item(&format!("/tree/n{number}"), b"abc")).collect();
    let commits = server.store.commits();
    for again in [false, true] {
        let results = claim(&alice, items.clone()).await;
        for (number, result) in results.iter().enumerate() {
            match result {
                ClaimResult::Linked(completed) => {
                    assert_eq!(completed.path, format!("/@alice/tree/n{number}"));
                    assert_eq!(completed.version, 1, "{again}");
                }
                ClaimResult::Refused { problem, .. } => {
                    assert_eq!((number, problem.as_str()), (7, "is-a-folder"));
                }
                other => panic!("{other:?}"),
            }
        }
        // The second time there is nothing to commit.
        let taken = server.store.commits() - commits;
        assert!(taken <= 3, "{taken} commits");
    }
    server.end().await;
}
