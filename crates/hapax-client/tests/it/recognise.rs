//! Content that the server has already: what is asked, when it is noticed, and what is cut off then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hapax_client::upload::How;
use hapax_proto::problem::Kind;
use hapax_proto::tree::PART;
use hapax_proto::upload::State;
use tokio::sync::Notify;

use crate::fake::Fault;
use crate::put::{Bench, P, first, is_part, noise, overwrite, put_to};

const OFF: &[&str] = &["batch", "tree"];
const OLD: &[&str] = &["tree", "claims"];
const USER: &[&str] = &["tree", "claims", "quick"];
const WIDE: &[&str] = &["tree", "claims", "quick", "challenge"];

/// Makes a bench whose source is of four parts.
async fn bench(features: &[&'static str], seed: u64) -> (Bench, Vec<u8>) {
    let bench = Bench::new().await;
    bench.fake.store().features = features.to_vec();
    let bytes = noise(4 * P - 9, seed);
    bench.write(&bytes);
    (bench, bytes)
}

fn claims(bench: &Bench) -> usize {
    bench.fake.requests_of("POST /api/v1/claims")
}

#[track_caller]
fn assert_nothing_is_left(bench: &Bench) {
    let store = bench.fake.store();
    let open: Vec<_> = store.uploads.iter().filter(|upload| upload.state == State::Open).collect();
    assert!(open.is_empty(), "{} uploads are left", open.len());
    drop(store);
    assert_eq!(bench.checkpoints(), 0);
}

/// Refuses every part until so many claims were asked for; then says what the fault is.
fn parts_wait_for_claims(bench: &Bench, claims: usize, then: Fault) {
    let mut seen = 0;
    bench.fake.script(move |request| {
        seen += usize::from(request.starts_with("POST /api/v1/claims"));
        match is_part(request) {
            true if seen < claims => Fault::Refuse(Kind::Unavailable),
            true => then,
            false => Fault::None,
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_follows_from_what_the_server_does() {
    for (features, asked) in [(OFF, 0), (OLD, 1), (USER, 1), (WIDE, 2)] {
        let (bench, _) = bench(features, 1).await;
        parts_wait_for_claims(&bench, asked, Fault::None);
        let outcome = bench.put_with(u32::MAX, &put_to("/a")).await.unwrap();
        assert_eq!(outcome.how, How::Sent);
        let services = bench.fake.store().requests.iter().filter(|name| *name == "GET /api/v1").count();
        assert_eq!((claims(&bench), services), (asked, 1), "{features:?}");
        bench.assert_stored("/a");
    }
}

/// No part is ever answered, so the put ends only because what is on the way is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_way_is_cut_off_at_once() {
    for features in [OLD, USER, WIDE] {
        let (bench, bytes) = bench(features, 2).await;
        let size = bytes.len() as u64;
        bench.fake.put("/elsewhere", bytes);
        bench.fake.script(|request| if is_part(request) { Fault::Stall } else { Fault::None });
        let outcome = bench.put().await.unwrap();
        match outcome.how {
            How::Instant => {}
            How::Recognised { after, saved } => {
                assert_eq!(after.get() + saved.get(), size);
                assert!(after.get() > 0 && saved.get() > 0, "{after} {saved}");
            }
            other => panic!("{other:?}"),
        }
        bench.assert_stored("/a");
        bench.fake.quiet().await;
        assert_nothing_is_left(&bench);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_an_earlier_session_count_as_sent() {
    let (bench, bytes) = bench(USER, 3).await;
    let stalled = Arc::new(Notify::new());
    let stall = Arc::clone(&stalled);
    bench.fake.script(move |request| {
        if request.contains("/parts/3") {
            stall.notify_one();
        }
        if is_part(request) && !request.ends_with(['0', '1']) { Fault::Stall } else { Fault::None }
    });
    tokio::select! {
        ended = bench.put() => panic!("{ended:?}"),
        () = stalled.notified() => {}
    }
    bench.fake.quiet().await;
    let size = bytes.len() as u64;
    bench.fake.put("/elsewhere", bytes);
    bench.fake.script(|request| if is_part(request) { Fault::Stall } else { Fault::None });
    match bench.put_again().await.unwrap().how {
        How::Recognised { after, saved } => {
            // One part was stored, and its answer read, before a line was free for the fourth.
            assert!(after >= PART, "{after}");
            assert_eq!(after.get() + saved.get(), size);
        }
        other => panic!("{other:?}"),
    }
    assert_nothing_is_left(&bench);
}

/// Alike at the three places that a probe reads, and another file all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_likeness_that_deceives_costs_one_claim_and_no_byte() {
    let (bench, bytes) = bench(USER, 4).await;
    let mut twin = bytes.clone();
    twin[P + 5] ^= 1;
    bench.fake.put("/elsewhere", twin);
    assert_eq!(bench.put().await.unwrap().how, How::Sent);
    assert_eq!(claims(&bench), 2);
    bench.assert_stored("/a");
    assert_nothing_is_left(&bench);
    // What was on the way when the likeness was told is kept by the server or was never read there.
    let sent = bench.fake.take_counts().0;
    assert!(sent <= bytes.len() as u64 + 3 * PART.get(), "{sent}");
}

/// The client is killed at the n-th request, for every n.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_killed_at_any_request_ends_right_when_it_is_repeated() {
    for features in [OLD, USER] {
        let mut kill_at = 1;
        loop {
            let (bench, bytes) = bench(features, 5).await;
            bench.fake.put("/elsewhere", bytes);
            let (reached, requests) = (Arc::new(Notify::new()), AtomicUsize::new(0));
            let reach = Arc::clone(&reached);
            bench.fake.script(move |_| {
                if requests.fetch_add(1, Ordering::Relaxed) + 1 == kill_at {
                    reach.notify_one();
                }
                Fault::None
            });
            let ended = tokio::select! {
                biased;
                () = reached.notified() => false,
                ended = bench.put() => { ended.unwrap(); true }
            };
            bench.fake.quiet().await;
            bench.put_again().await.unwrap();
            bench.assert_stored("/a");
            assert_nothing_is_left(&bench);
            if ended {
                break;
            }
            kill_at += 1;
        }
        assert!(kill_at > 4, "the put took {kill_at} requests");
    }
}

/// The server ends behind the n-th request, which it answers no more, for every n.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_leaves_nothing_behind() {
    for attempts in [1, 10] {
        for lost in ["GET /api/v1", "POST /api/v1/uploads", "POST /api/v1/claims", "DELETE /api/v1/uploads"] {
            let (bench, bytes) = bench(USER, 6).await;
            bench.fake.put("/elsewhere", bytes);
            bench.fake.script(first(1, lost, Fault::LoseAnswer));
            let ended = bench.put_with(attempts, &put_to("/a")).await;
            assert!(ended.is_ok() || attempts == 1, "{lost}: {ended:?}");
            bench.fake.quiet().await;
            bench.put_again().await.unwrap();
            bench.assert_stored("/a");
            assert_nothing_is_left(&bench);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_could_not_be_cancelled_is_cancelled_the_next_time() {
    let (bench, bytes) = bench(USER, 7).await;
    bench.fake.put("/elsewhere", bytes);
    // Twice is a hitch.
    bench.fake.script(first(2, "DELETE ", Fault::Refuse(Kind::Unavailable)));
    bench.put().await.unwrap();
    assert_nothing_is_left(&bench);
    bench.fake.script(first(100, "DELETE ", Fault::Refuse(Kind::Unavailable)));
    bench.put().await.unwrap();
    bench.assert_stored("/a");
    assert_eq!(bench.checkpoints(), 1);
    bench.fake.script(|_| Fault::None);
    bench.put_again().await.unwrap();
    assert_nothing_is_left(&bench);
}

/// The source changes when the n-th request comes in, for every n: what is linked is one version, and in the end the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_while_it_is_recognised_is_not_mixed() {
    for (features, moments) in [(USER, 2..=6), (OLD, 4..=4)] {
        for edit_at in moments {
            let (bench, bytes) = bench(features, 8).await;
            let mut edited = bytes.clone();
            edited[2 * P + 7..][..6].copy_from_slice(b"edited");
            bench.fake.put("/elsewhere", bytes.clone());
            let (path, mut requests) = (bench.path(), 0);
            bench.fake.script(move |_| {
                requests += 1;
                if requests == edit_at {
                    overwrite(&path, 2 * P + 7, b"edited");
                }
                Fault::None
            });
            bench.put().await.unwrap();
            let stored = bench.fake.store().files["/a"].bytes.clone();
            assert!(stored == bytes || stored == edited, "two versions in one file");
            bench.put_again().await.unwrap();
            bench.assert_stored("/a");
            assert_nothing_is_left(&bench);
        }
    }
}
