//! Small files many at a time: what is stored, what is left to be put alone, and what is sent again.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hapax_client::TransferError;
use hapax_client::api::RemotePath;
use hapax_client::claim::Target;
use hapax_client::download::fetch_capacity;
use hapax_client::upload::{Batched, How, Put, Small, batch_capacity, put_batch};
use hapax_proto::dialect::native::Precondition;
use hapax_proto::problem::Kind;

use crate::fake::Fault;
use crate::put::{Bench, noise};

const BATCH: &str = "POST /api/v1/batch";

/// Writes files of these lengths, and wishes each for a name of its own.
fn files(bench: &Bench, lengths: &[usize], precondition: Option<&Precondition>) -> Vec<Small> {
    let small = |(number, length): (usize, &usize)| {
        let source = bench.folder.path().join(format!("f{number}"));
        fs::write(&source, noise(*length, number as u64)).unwrap();
        let path: RemotePath = format!("/f{number}").parse().unwrap();
        Small { source, put: Put::new(Target { path, precondition: precondition.cloned() }) }
    };
    lengths.iter().enumerate().map(small).collect()
}

/// Returns in which way each file got there; `None` for those that are left.
fn ways(outcomes: &[Batched]) -> Vec<Option<How>> {
    let way = |outcome: &Batched| match outcome {
        Batched::Stored(outcome) => Some(outcome.how),
        Batched::Alone(_) => None,
    };
    outcomes.iter().map(way).collect()
}

#[tokio::test]
async fn a_batch_is_one_request() {
    let bench = Bench::new().await;
    let files = files(&bench, &[0, 1, 5_000, 63_000], None);
    let outcomes = put_batch(&bench.client(1).await, &files, &bench.silent).await.unwrap();
    assert_eq!(ways(&outcomes), [Some(How::Sent); 4]);
    assert_eq!(bench.fake.store().requests, [BATCH]);
    for (number, file) in files.iter().enumerate() {
        let store = bench.fake.store();
        let stored = &store.files[&format!("/f{number}")];
        assert!(stored.bytes == fs::read(&file.source).unwrap());
        assert!(stored.mtime.is_some());
    }
}

#[tokio::test]
async fn what_the_server_has_is_claimed_where_that_is_worth_it() {
    let bench = Bench::new().await;
    let files = files(&bench, &[100, 100_000, 200_000], None);
    bench.fake.put("/known", noise(100_000, 1));
    let outcomes = put_batch(&bench.client(1).await, &files, &bench.silent).await.unwrap();
    assert_eq!(ways(&outcomes), [Some(How::Sent), Some(How::Instant), Some(How::Sent)]);
    assert_eq!(bench.fake.store().requests, ["POST /api/v1/claims", BATCH]);
    assert_eq!(bench.fake.take_counts().0, 200_100);
}

/// Who asked what batches a server takes knows by that answer that it takes no claims, and need not ask again.
#[tokio::test]
async fn a_server_that_said_that_it_takes_no_claims_is_asked_once_and_claimed_of_nothing() {
    let bench = Bench::new().await;
    bench.fake.store().features.retain(|feature| *feature != "claims");
    let files = files(&bench, &[100_000, 100_000], None);
    let client = bench.client(10).await;
    batch_capacity(&client, &bench.silent).await.unwrap();
    fetch_capacity(&client, &bench.silent).await.unwrap();
    put_batch(&client, &files, &bench.silent).await.unwrap();
    let requests = bench.fake.store().requests.clone();
    assert_eq!(requests, ["GET /api/v1", BATCH]);
}

#[tokio::test]
async fn a_batch_is_repeated_until_it_is_answered() {
    let bench = Bench::new().await;
    let files = files(&bench, &[10, 20], Some(&Precondition::Absent));
    let asked = AtomicU32::new(0);
    bench.fake.script(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Fault::LoseAnswer,
        1 => Fault::Refuse(Kind::Unavailable),
        2 => Fault::Refuse(Kind::TooMany),
        _ => Fault::None,
    });
    let outcomes = put_batch(&bench.client(5).await, &files, &bench.silent).await.unwrap();
    // What the lost answer told of is found as it is, although nothing was to be there.
    assert_eq!(ways(&outcomes), [Some(How::Sent); 2]);
    assert_eq!(bench.fake.requests_of(BATCH), 4);
}

#[tokio::test]
async fn a_server_that_stays_away_ends_the_batch() {
    let bench = Bench::new().await;
    let files = files(&bench, &[10, 20], None);
    bench.fake.script(|_| Fault::LoseAnswer);
    let failed = put_batch(&bench.client(3).await, &files, &bench.silent).await.unwrap_err();
    assert!(matches!(failed, TransferError::Disconnected { .. }), "{failed}");
    assert_eq!(bench.fake.requests_of(BATCH), 3);
}

#[tokio::test]
async fn what_cannot_go_with_others_is_left_to_be_put_alone() {
    let bench = Bench::new().await;
    let files = files(&bench, &[10, 20, 30, (1 << 20) + 1], Some(&Precondition::Absent));
    fs::remove_file(&files[0].source).unwrap();
    bench.fake.put("/f1", b"another's".to_vec());
    let outcomes = put_batch(&bench.client(1).await, &files, &bench.silent).await.unwrap();
    assert_eq!(ways(&outcomes), [None, None, Some(How::Sent), None]);
    assert_eq!(bench.fake.store().files["/f1"].bytes, "another's");
    // A server that takes no batches, or not these.
    for kind in [Kind::NotFound, Kind::TooLarge, Kind::MediaType] {
        bench.fake.script(move |_| Fault::Refuse(kind));
        let outcomes = put_batch(&bench.client(3).await, &files, &bench.silent).await.unwrap();
        let left = Batched::Alone(Some(Precondition::Absent));
        assert!(outcomes.iter().all(|outcome| *outcome == left), "{outcomes:?}");
    }
    bench.fake.script(|_| Fault::Refuse(Kind::Unauthenticated));
    assert!(put_batch(&bench.client(3).await, &files, &bench.silent).await.is_err());
}

#[tokio::test]
async fn a_file_that_is_edited_meanwhile_is_put_again_over_what_was_stored() {
    let bench = Bench::new().await;
    for guard in [None, Some(Precondition::Absent)] {
        let files = files(&bench, &[10, 20], guard.as_ref());
        let edited = Arc::new(files[1].source.clone());
        bench.fake.script(move |_| {
            fs::write(&*edited, b"another version").unwrap();
            Fault::None
        });
        bench.fake.store().files.clear();
        let outcomes = put_batch(&bench.client(1).await, &files, &bench.silent).await.unwrap();
        assert!(matches!(outcomes[0], Batched::Stored(_)));
        let stored = bench.fake.store().files["/f1"].etag.clone();
        assert_eq!(outcomes[1], Batched::Alone(guard.map(|_| Precondition::Matches(stored))));
    }
}
