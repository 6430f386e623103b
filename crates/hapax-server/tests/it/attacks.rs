//! What somebody tries who knows of a file and does not have it: each attempt must get what a file that nobody has gets.

use hapax_proto::claim::{Proof, ProofHasher, QuickHasher, Rules, Scope, Seed, quick_spans};
use hapax_proto::dialect::native::{ClaimResult, ClaimResults, Tree};
use hapax_proto::digest::{Algorithm, Digest, FileHash};
use hapax_proto::span::{Length, SIZE_MAX};
use hapax_server::config::Config;
use hapax_store::check::Depth;
use hapax_store::job::Go;
use hapax_store::sweep::Keep;
use serde_json::{Value, json};

use crate::candidates::{digest, named, put, twins};
use crate::claims::{claim, item};
use crate::files::{digest_field, noise};
use crate::server::{Running, outside};
use crate::wire::{Answer, Client};

const MIB: usize = 1 << 20;

/// Large enough to be spoken of, and longer than a part's header.
const SIZE: usize = 2 * MIB + 7;

fn group(config: &mut Config) {
    config.claims = Rules { scope: Scope::Group, ..Rules::default() };
}

/// A server on which Alice and Bob are of one group, and Alice has a file.
async fn start(bytes: &[u8]) -> Running {
    let server = Running::start_with(group).await;
    join(&server, &["alice", "bob"]).await;
    put(&server.alice(), "/film", bytes).await;
    server
}

async fn join(server: &Running, names: &[&str]) {
    for name in names {
        let target = format!("/api/v1/admin/users/{name}");
        server.root().json("PATCH", &target, &json!({"group": "lab"})).await.expect(200);
    }
}

/// A challenge that was posed, and what a proof for it begins with.
struct Posed {
    token: String,
    seed: Seed,
    digest: Digest,
    size: Length,
}

impl Posed {
    fn proof(&self, bytes: &[u8]) -> Proof {
        let mut hasher = ProofHasher::new(&self.seed, &self.digest, self.size);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Claims a content by its BLAKE3 alone, and expects to be challenged.
async fn challenged(client: &Client, path: &str, blake3: FileHash, size: usize) -> Posed {
    let digest = Digest::from(blake3);
    let claimed = json!({"path": path, "size": size, "digest": {"alg": "blake3", "value": digest.hex()}});
    posed(claim(client, vec![claimed]).await, digest, size)
}

fn posed(results: Vec<ClaimResult>, digest: Digest, size: usize) -> Posed {
    match results.into_iter().next() {
        Some(ClaimResult::Challenge { token, seed, .. }) => {
            Posed { token, seed, digest, size: Length::new(size as u64) }
        }
        other => panic!("{other:?}"),
    }
}

async fn ask_to_judge(client: &Client, token: &str, proof: Proof) -> Answer {
    let items = json!({"items": [{"token": token, "proof": proof}]});
    client.json("POST", "/api/v1/claims/proofs", &items).await
}

async fn judged(client: &Client, token: &str, proof: Proof) -> ClaimResult {
    let answer = ask_to_judge(client, token, proof).await.expect(200);
    answer.read::<ClaimResults>().results.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_every_byte_gets_the_file_without_sending_it() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    let bob = server.bob();
    let before = server.bytes_of_objects();
    let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
    bob.get("/files/mine").await.refused(404, "not-found");
    let linked = judged(&bob, &posed.token, posed.proof(&bytes)).await;
    let ClaimResult::Linked(linked) = linked else { panic!("{linked:?}") };
    assert_eq!((linked.path.as_str(), linked.blake3), ("/@bob/mine", FileHash::of(&bytes)));
    assert!(bob.get("/files/mine").await.expect(200).body == bytes);
    assert_eq!(server.bytes_of_objects(), before);
    // From now on it is his own.
    let again = claim(&bob, vec![item("/again", &bytes)]).await;
    assert!(matches!(&again[..], [ClaimResult::Linked(_)]), "{again:?}");
    server.end().await;
}

/// A list of digests and sizes, leaked or guessed, is no list of files.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_digests_alone_gets_nothing() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    let bob = server.bob();
    let posed = challenged(&bob, "/film", FileHash::of(&bytes), SIZE).await;
    for guess in [&b""[..], FileHash::of(&bytes).as_bytes()] {
        let posed = challenged(&bob, "/film", FileHash::of(&bytes), SIZE).await;
        assert_eq!(judged(&bob, &posed.token, posed.proof(guess)).await, ClaimResult::Upload);
    }
    // Nor a proof for the right bytes under another seed, or for another claim.
    let other = Posed {
        seed: Seed::new([0; 32]),
        ..challenged(&bob, "/film", posed.digest.file_hash().unwrap(), SIZE).await
    };
    assert_eq!(judged(&bob, &other.token, other.proof(&bytes)).await, ClaimResult::Upload);
    bob.get("/files/film").await.refused(404, "not-found");
    server.end().await;
}

/// The tree is the hash of every part, the entity tag is of the whole: neither is a byte of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_tree_and_the_entity_tag_of_a_foreign_file_get_nothing() {
    let bytes = noise(17 * MIB);
    let server = start(&bytes).await;
    let (alice, bob) = (server.alice(), server.bob());
    let tree = alice.get("/api/v1/tree/film").await.expect(200);
    let read: Tree = tree.read();
    bob.get("/api/v1/tree/@alice/film").await.refused(404, "not-found");
    let etag = read.etag.clone();
    bob.ask("GET", "/files/@alice/film", &[("If-Match", &etag)]).await.refused(404, "not-found");
    let values: Vec<u8> = read.values.iter().flat_map(|value| value.to_string().into_bytes()).collect();
    for guess in [&tree.body[..], etag.as_bytes(), &values] {
        let posed = challenged(&bob, "/film", FileHash::of(&bytes), bytes.len()).await;
        assert_eq!(judged(&bob, &posed.token, posed.proof(guess)).await, ClaimResult::Upload);
    }
    server.end().await;
}

/// A sample would let somebody with ninety-nine hundredths of a file through now and then; the whole does not.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_and_ninety_nine_hundredths_of_it_get_nothing() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    let bob = server.bob();
    let mut all_but_one = bytes.clone();
    *all_but_one.last_mut().unwrap() ^= 1;
    let zeros_behind = |kept: usize| [&bytes[..kept], &vec![0; SIZE - kept][..]].concat();
    for guess in [zeros_behind(SIZE / 2), zeros_behind(SIZE / 100 * 99), all_but_one, bytes[1..].to_vec()] {
        let posed = challenged(&bob, "/film", FileHash::of(&bytes), SIZE).await;
        assert_eq!(judged(&bob, &posed.token, posed.proof(&guess)).await, ClaimResult::Upload);
    }
    server.end().await;
}

/// Most of a disk image is zeros, which everybody has.
#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_image_is_not_passed_by_answering_zeros() {
    let mut image = vec![0; 20 * MIB];
    image[9 * MIB..9 * MIB + 5].copy_from_slice(b"hapax");
    let server = start(&image).await;
    let bob = server.bob();
    let zeros = vec![0; image.len()];
    let posed = challenged(&bob, "/image", FileHash::of(&image), image.len()).await;
    assert_eq!(judged(&bob, &posed.token, posed.proof(&zeros)).await, ClaimResult::Upload);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_used_is_worth_nothing() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    let bob = server.bob();
    // Also if the first answer was wrong.
    for first in [&bytes[..], &bytes[1..]] {
        let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
        judged(&bob, &posed.token, posed.proof(first)).await;
        bob.ask("DELETE", "/files/mine", &[]).await;
        let again = judged(&bob, &posed.token, posed.proof(&bytes)).await;
        assert_eq!(again, ClaimResult::Upload);
        bob.get("/files/mine").await.refused(404, "not-found");
    }
    // Twice in one request is once.
    let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
    let item = json!({"token": posed.token, "proof": posed.proof(&bytes)});
    let answer = bob.json("POST", "/api/v1/claims/proofs", &json!({"items": [item, item]})).await.expect(200);
    let results = answer.read::<ClaimResults>().results;
    assert!(matches!(&results[..], [ClaimResult::Linked(_), ClaimResult::Upload]), "{results:?}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_worth_nothing() {
    let bytes = noise(SIZE);
    let server = Running::start_with(|config| {
        group(config);
        config.deadlines.challenge = std::time::Duration::ZERO;
    })
    .await;
    join(&server, &["alice", "bob"]).await;
    put(&server.alice(), "/film", &bytes).await;
    let bob = server.bob();
    let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
    assert_eq!(judged(&bob, &posed.token, posed.proof(&bytes)).await, ClaimResult::Upload);
    server.end().await;
}

/// An accomplice with the file cannot answer for somebody else, nor take the answer for a file of his own.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_somebody_else_is_worth_nothing() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    let (alice, bob, root) = (server.alice(), server.bob(), server.root());
    join(&server, &["root"]).await;
    let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
    assert_eq!(judged(&alice, &posed.token, posed.proof(&bytes)).await, ClaimResult::Upload);
    // Tried by the wrong one, it is burnt for the right one as well.
    assert_eq!(judged(&bob, &posed.token, posed.proof(&bytes)).await, ClaimResult::Upload);
    let posed = challenged(&root, "/mine", FileHash::of(&bytes), SIZE).await;
    server
        .nobody()
        .json("POST", "/api/v1/claims/proofs", &json!({"items": []}))
        .await
        .refused(401, "unauthenticated");
    let reading = server.alice_who_may("read");
    ask_to_judge(&reading, &posed.token, posed.proof(&bytes)).await.refused(403, "forbidden");
    server.end().await;
}

/// Bytes that collide in MD5: who has one of two files gets that one.
#[tokio::test(flavor = "multi_thread")]
async fn forged_twins_are_proven_apart() {
    let tail = noise(SIZE);
    let contents = twins().map(|twin| [twin, tail.clone()].concat());
    assert_eq!(digest(Algorithm::Md5, &contents[0]), digest(Algorithm::Md5, &contents[1]));
    let server = start(&contents[0]).await;
    let (alice, bob) = (server.alice(), server.bob());
    let hash_all = || {
        outside(|| {
            server.store.look_at_all_again();
            server.store.compute_lookups(&[Algorithm::Md5], &|_| Go::On).unwrap();
        });
    };
    hash_all();
    let size = contents[0].len();
    // He has the forgery, she the original: one digest, and no file for him.
    let claimed = || named("/mine", Algorithm::Md5, &contents[1]);
    let md5 = digest(Algorithm::Md5, &contents[1]);
    let posed_one = posed(claim(&bob, vec![claimed()]).await, md5, size);
    assert_eq!(judged(&bob, &posed_one.token, posed_one.proof(&contents[1])).await, ClaimResult::Upload);
    put(&alice, "/other", &contents[1]).await;
    hash_all();
    for bytes in &contents {
        let posed = posed(claim(&bob, vec![claimed()]).await, md5, size);
        let linked = judged(&bob, &posed.token, posed.proof(bytes)).await;
        let ClaimResult::Linked(linked) = linked else { panic!("{linked:?}") };
        assert_eq!(linked.blake3, FileHash::of(bytes));
        assert!(bob.get("/files/mine").await.expect(200).body == *bytes);
        bob.ask("DELETE", "/files/mine", &[]).await.expect(204);
    }
    server.end().await;
}

/// What is declared is compared with what came, through every door.
#[tokio::test(flavor = "multi_thread")]
async fn declaring_one_file_and_sending_another_stores_neither() {
    let server = Running::start().await;
    let alice = server.alice();
    let (declared, sent) = (noise(100_000), noise(100_001)[1..].to_vec());
    put(&server.bob(), "/declared", &declared).await;
    let field = digest_field(Algorithm::Sha256, &declared);
    alice.send("PUT", "/files/a", &[("Repr-Digest", &field)], &sent).await.refused(400, "digest-mismatch");
    // The first says it at its beginning, the second at its end.
    let hash = FileHash::of(&declared);
    let blake3 = json!({"blake3": hash.to_string()});
    for (key, digests, last) in [("a", blake3, None), ("b", json!({}), Some(hash))] {
        let create = json!({"key": key.repeat(16), "path": "/a", "size": sent.len(), "digests": digests});
        let created = alice.json("POST", "/api/v1/uploads", &create).await;
        let id = created.expect(201).read::<Value>()["id"].as_str().unwrap().to_owned();
        let upload = format!("/api/v1/uploads/{id}");
        alice.send("PUT", &format!("{upload}/parts/0"), &[], &sent).await.expect(201);
        let complete = json!({"size": sent.len(), "blake3": last});
        let completed = alice.json("POST", &format!("{upload}/complete"), &complete).await;
        completed.refused(422, "digest-mismatch");
    }
    alice.get("/files/a").await.refused(404, "not-found");
    // And a claim of the file with another size is of no file.
    let mut longer = item("/a", &declared);
    longer["size"] = json!(declared.len() + 1);
    assert_eq!(claim(&alice, vec![longer]).await, [ClaimResult::Upload]);
    server.end().await;
}

/// Who tries every value of a form letter, or answers at random, is stopped; everybody else is not.
#[tokio::test(flavor = "multi_thread")]
async fn guessing_comes_to_an_end_and_others_do_not_notice() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    join(&server, &["root"]).await;
    let (bob, root) = (server.bob(), server.root());
    let guess = |n: u32| {
        let value = FileHash::of(&n.to_le_bytes()).to_string();
        json!({"path": "/x", "size": SIZE, "digest": {"alg": "blake3", "value": value}})
    };
    let film = || item("/x", &bytes);
    let items: Vec<_> = (0..9_999).map(guess).chain([film()]).collect();
    let results = claim(&bob, items).await;
    assert!(matches!(results.last(), Some(ClaimResult::Challenge { .. })), "{:?}", results.last());
    let results = claim(&bob, (0..9_999).map(guess).chain([film()]).collect()).await;
    assert!(results.iter().all(|result| *result == ClaimResult::Upload));
    assert!(matches!(&claim(&root, vec![film()]).await[..], [ClaimResult::Challenge { .. }]));
    // Wrong answers count as many guesses.
    for _ in 0..10 {
        if let [ClaimResult::Challenge { token, .. }] = &claim(&root, vec![film()]).await[..] {
            let wrong =
                ProofHasher::new(&Seed::new([0; 32]), &FileHash::of(b"").into(), Length::ZERO).finish();
            assert_eq!(judged(&root, token, wrong).await, ClaimResult::Upload);
        }
    }
    assert_eq!(claim(&root, vec![film()]).await, [ClaimResult::Upload]);
    // What is one's own is linked all the same.
    let own = claim(&server.alice(), vec![film()]).await;
    assert!(matches!(&own[..], [ClaimResult::Linked(_)]), "{own:?}");
    server.end().await;
}

/// Where the scope ends, the answer is byte for byte the answer to what nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_the_scope_is_answered_like_what_nobody_has() {
    #[track_caller]
    fn same(answers: Vec<Answer>, what: &str) {
        let told = answers.into_iter().map(|answer| {
            let mut fields = answer.fields.clone();
            fields.remove("date");
            (answer.status, fields, answer.body)
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told[0], told[1], "{what}");
    }
    let (bytes, small) = (noise(SIZE), noise(MIB - 1));
    for (scope, members) in [
        (Scope::Off, &["alice", "bob"][..]),
        (Scope::User, &["alice", "bob"]),
        (Scope::Group, &["alice"]),
        (Scope::Group, &[]),
        (Scope::Server, &["alice", "bob"]),
    ] {
        let server = Running::start_with(|config| config.claims.scope = scope).await;
        join(&server, members).await;
        put(&server.alice(), "/film", &bytes).await;
        put(&server.alice(), "/small", &small).await;
        for known in [&bytes, &small] {
            let mut unknown = known.clone();
            unknown[0] ^= 1;
            let mut answers = Vec::new();
            for content in [known, &unknown] {
                let items = json!({"items": [item("/x", content)]});
                answers.push(server.bob().json("POST", "/api/v1/claims", &items).await.expect(200));
            }
            assert_eq!(answers[0].body, br#"{"results":[{"outcome":"upload"}]}"#);
            same(answers, &format!("{scope}, {members:?}"));
        }
        server.end().await;
    }
    // A wrong answer to a real challenge, and any answer to none.
    let server = start(&bytes).await;
    let bob = server.bob();
    let posed = challenged(&bob, "/x", FileHash::of(&bytes), SIZE).await;
    let (wrong, none) = (posed.proof(b""), "AAAAAAAAAAAAAAAAAAAAAA");
    same(
        vec![ask_to_judge(&bob, &posed.token, wrong).await, ask_to_judge(&bob, none, wrong).await],
        "proofs",
    );
    server.end().await;
}

/// In scope `server` nobody learns that one other has a file: several must, and how many is secret.
#[tokio::test(flavor = "multi_thread")]
async fn in_scope_server_as_many_must_have_a_file_as_its_secret_number_says() {
    let bytes = noise(SIZE);
    let server = Running::start_with(|config| {
        config.claims = Rules { scope: Scope::Server, holders_max: 2, ..Rules::default() };
    })
    .await;
    put(&server.alice(), "/film", &bytes).await;
    assert_eq!(claim(&server.bob(), vec![item("/x", &bytes)]).await, [ClaimResult::Upload]);
    put(&server.root(), "/film", &bytes).await;
    let posed = challenged(&server.bob(), "/x", FileHash::of(&bytes), SIZE).await;
    let linked = judged(&server.bob(), &posed.token, posed.proof(&bytes)).await;
    assert!(matches!(linked, ClaimResult::Linked(_)), "{linked:?}");
    server.end().await;
}

/// What was deleted between challenge and proof, or left the scope, is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_brings_nothing_back_that_was_deleted() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    let (alice, bob) = (server.alice(), server.bob());
    for sweep in [None, Some(Keep::Grace), Some(Keep::Nothing)] {
        alice.send("PUT", "/files/film", &[], &bytes).await;
        let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
        alice.ask("DELETE", "/files/film", &[]).await.expect(204);
        if let Some(keep) = sweep {
            outside(|| server.store.sweep(keep).unwrap());
        }
        assert_eq!(judged(&bob, &posed.token, posed.proof(&bytes)).await, ClaimResult::Upload);
        bob.get("/files/mine").await.refused(404, "not-found");
    }
    put(&alice, "/film", &bytes).await;
    let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
    server.root().json("PATCH", "/api/v1/admin/users/bob", &json!({"group": null})).await.expect(200);
    assert_eq!(judged(&bob, &posed.token, posed.proof(&bytes)).await, ClaimResult::Upload);
    server.end().await;
}

/// Claims, deletions and sweeps that meet: a file is whole or not there, and what was deleted last stays away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_that_race_with_deletes_and_sweeps_leave_nothing_dangling() {
    let bytes = noise(SIZE);
    let server = start(&bytes).await;
    let (alice, bob) = (server.alice(), server.bob());
    for round in 0..30 {
        alice.send("PUT", "/files/film", &[], &bytes).await;
        let own = format!("/copy{round}");
        let posed = challenged(&bob, "/mine", FileHash::of(&bytes), SIZE).await;
        let store = std::sync::Arc::clone(&server.store);
        let keep = if round % 2 == 0 { Keep::Nothing } else { Keep::Grace };
        let sweeping = tokio::task::spawn_blocking(move || store.sweep(keep).map(drop));
        let (deleted, linked, proven) = tokio::join!(
            alice.ask("DELETE", "/files/film", &[]),
            claim(&alice, vec![item(&own, &bytes)]),
            judged(&bob, &posed.token, posed.proof(&bytes)),
        );
        deleted.expect(204);
        sweeping.await.unwrap().unwrap();
        for (client, path, result) in [(&alice, own.as_str(), &linked[0]), (&bob, "/mine", &proven)] {
            let target = format!("/files{path}");
            match result {
                ClaimResult::Linked(_) => {
                    assert!(client.get(&target).await.expect(200).body == bytes, "round {round}");
                    client.ask("DELETE", &target, &[]).await.expect(204);
                }
                // A challenge: by then only the other account has it.
                ClaimResult::Upload | ClaimResult::Challenge { .. } => {
                    client.get(&target).await.refused(404, "not-found");
                }
                other => panic!("{other:?}"),
            }
        }
        alice.get("/files/film").await.refused(404, "not-found");
    }
    let report = outside(|| server.store.check(Depth::Data).unwrap());
    assert_eq!(report.findings, Vec::<String>::new());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_digest_is_answered_within_ones_own_space_only() {
    fn quick(path: &str, bytes: &[u8]) -> Value {
        let size = Length::new(bytes.len() as u64);
        let mut hasher = QuickHasher::new(size);
        for span in quick_spans(size) {
            let at = |offset: u64| usize::try_from(offset).unwrap();
            hasher.update(&bytes[at(span.start().get())..at(span.end().get())]);
        }
        json!({"path": path, "size": bytes.len(), "digest": null, "quick": hasher.finish()})
    }
    let bytes = noise(5 * MIB);
    let mut other = bytes.clone();
    other[0] ^= 1;
    for scope in [Scope::User, Scope::Group, Scope::Server, Scope::Off] {
        let server = Running::start_with(|config| {
            config.claims = Rules { scope, holders_max: 1, ..Rules::default() };
        })
        .await;
        join(&server, &["alice", "bob"]).await;
        let (alice, bob) = (server.alice(), server.bob());
        put(&alice, "/film", &bytes).await;
        let (absent, own) = match scope {
            Scope::Off => (ClaimResult::Upload, ClaimResult::Upload),
            _ => (ClaimResult::Absent, ClaimResult::Maybe),
        };
        assert_eq!(
            claim(&alice, vec![quick("/x", &bytes), quick("/x", &other)]).await,
            [own, absent.clone()]
        );
        assert_eq!(claim(&bob, vec![quick("/x", &bytes)]).await, [absent], "{scope}");
        alice.get("/files/x").await.refused(404, "not-found");
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_that_make_no_sense_are_refused_or_worth_nothing() {
    let server = Running::start_with(group).await;
    let bob = server.bob();
    let route = "/api/v1/claims/proofs";
    let proof = "00".repeat(32);
    bob.json("POST", route, &json!({"items": []})).await.expect(200);
    bob.json("POST", route, &json!({"items": [{"token": "x"}]})).await.refused(400, "bad-field");
    bob.json("POST", route, &json!({"items": [{"token": "x", "proof": "00"}]}))
        .await
        .refused(400, "bad-field");
    let more = json!({"items": [{"token": "x", "proof": proof, "path": "/a"}]});
    bob.json("POST", route, &more).await.refused(400, "unknown-member");
    let many = json!({"items": vec![json!({"token": "x", "proof": proof}); 10_001]});
    bob.json("POST", route, &many).await.refused(413, "too-large");
    let some = json!({"items": [{"token": "", "proof": proof}, {"token": "é", "proof": proof}]});
    let answer = bob.json("POST", route, &some).await.expect(200).read::<ClaimResults>();
    assert_eq!(answer.results, [ClaimResult::Upload, ClaimResult::Upload]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_beyond_all_sizes_is_refused_and_takes_no_other_claim_with_it() {
    let server = Running::start().await;
    let alice = server.alice();
    let quick = |size: u64| json!({"path": "/x", "size": size, "digest": null, "quick": "00".repeat(32)});
    let refused = ClaimResult::Refused { problem: "bad-field".to_owned(), status: 400 };
    let items = vec![quick(u64::MAX), quick(1 << 63), quick(SIZE_MAX + 1), quick(SIZE_MAX)];
    let answers = claim(&alice, items).await;
    assert_eq!(answers, [refused.clone(), refused.clone(), refused, ClaimResult::Absent]);
    server.end().await;
}
