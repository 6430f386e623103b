//! Claims by a digest that the owner of a file knows already: the file is read only if that can pay, and once.

use hapax_client::claim::{Target, claim_digest};
use hapax_proto::dialect::native::{Completed, Precondition};
use hapax_proto::digest::{Algorithm, FileHash};
use hapax_proto::problem::Kind;

use crate::fake::digest_of;
use crate::put::{Bench, noise, remote};

/// Claims the bench's source by the digest of some bytes, as a new process, and returns what came of it.
async fn claim(bench: &Bench, algorithm: Algorithm, bytes: &[u8]) -> Option<Completed> {
    let target = Target { path: remote("/a"), precondition: None };
    let client = bench.client(1).await;
    let digest = digest_of(algorithm, bytes);
    claim_digest(&client, &bench.path(), (&target, &digest), &bench.silent).await.unwrap()
}

fn claims_made(bench: &Bench) -> usize {
    bench.fake.requests_of("POST /api/v1/claims")
}

#[tokio::test]
async fn a_candidate_that_the_file_is_is_linked() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256] {
        let bench = Bench::new().await;
        let bytes = noise(100_000, 1);
        std::fs::write(bench.path(), &bytes).unwrap();
        bench.fake.put("/elsewhere", bytes.clone());
        let linked = claim(&bench, algorithm, &bytes).await.unwrap();
        assert_eq!((linked.path.as_str(), linked.blake3), ("/a", FileHash::of(&bytes)));
        assert_eq!(claims_made(&bench), 2);
        let store = bench.fake.store();
        assert!(store.files["/a"].bytes == bytes);
    }
}

#[tokio::test]
async fn a_blake3_needs_no_second_claim() {
    let bench = Bench::new().await;
    let bytes = noise(100_000, 1);
    std::fs::write(bench.path(), &bytes).unwrap();
    bench.fake.put("/elsewhere", bytes.clone());
    assert!(claim(&bench, Algorithm::Blake3, &bytes).await.is_some());
    assert_eq!(claims_made(&bench), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_linked_is_what_was_claimed_or_it_is_put() {
    let bench = Bench::new().await;
    bench.fake.store().deceives = true;
    bench.fake.put("/elsewhere", b"something else".to_vec());
    bench.write(&noise(100_000, 1));
    assert_eq!(claim(&bench, Algorithm::Blake3, &noise(100_000, 1)).await, None);
    bench.put().await.unwrap();
    bench.assert_stored("/a");
}

#[tokio::test]
async fn what_nobody_has_is_to_be_put() {
    let bench = Bench::new().await;
    let bytes = noise(100_000, 1);
    std::fs::write(bench.path(), &bytes).unwrap();
    assert_eq!(claim(&bench, Algorithm::Md5, &bytes).await, None);
    assert_eq!(claims_made(&bench), 1);
    assert!(bench.fake.store().files.is_empty());
}

/// The digest is of something else, or forged: the candidate is not this file, and nothing is linked.
#[tokio::test]
async fn a_candidate_that_the_file_is_not_is_left_alone() {
    let bench = Bench::new().await;
    let (ours, theirs) = (noise(100_000, 1), noise(100_000, 2));
    std::fs::write(bench.path(), &ours).unwrap();
    bench.fake.put("/elsewhere", theirs.clone());
    assert_eq!(claim(&bench, Algorithm::Md5, &theirs).await, None);
    assert_eq!(claims_made(&bench), 1, "it is known already that the second would fail");
    assert!(!bench.fake.store().files.contains_key("/a"));
}

#[tokio::test]
async fn what_stands_in_the_way_is_an_error() {
    let bench = Bench::new().await;
    let bytes = noise(100_000, 1);
    std::fs::write(bench.path(), &bytes).unwrap();
    bench.fake.put("/elsewhere", bytes.clone());
    bench.fake.put("/a", b"old".to_vec());
    let target = Target { path: remote("/a"), precondition: Some(Precondition::Absent) };
    let client = bench.client(1).await;
    let digest = digest_of(Algorithm::Md5, &bytes);
    let error = claim_digest(&client, &bench.path(), (&target, &digest), &bench.silent).await.unwrap_err();
    assert_eq!(error.problem(), Some(Kind::PreconditionFailed));
    assert_eq!(bench.fake.store().files["/a"].bytes.as_ref(), b"old");
}
