//! The moment in which a fetched file gets its name, and what stands there before and behind it.

use std::sync::Arc;
use std::time::Duration;

use hapax_client::TransferError;
use hapax_client::foreign::{How, fetch_file};
use hapax_client::progress::{Event, Progress};
use hapax_proto::span::Length;

use super::{Bench, SIZE, content};
use crate::wild::{Then, good};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_complete_but_unnamed_is_only_asked_about() {
    let served = content(5);
    let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"")).await;
    whole_without_its_name(&bench).await;
    assert_eq!(std::fs::read(bench.target()).unwrap(), b"somebody's");
    std::fs::remove_file(bench.target()).unwrap();
    let fetched = bench.fetch().await.unwrap();
    assert_eq!(fetched.how, How::Resumed { kept: Length::new(SIZE as u64) });
    bench.assert_got(&content(5));
    assert_eq!(bench.wild.asked().last().unwrap().range(), Some((SIZE - 1, Some(SIZE))));
}

/// Fetches until the file is to get its name, which somebody else takes in the last moment.
async fn whole_without_its_name(bench: &Bench) {
    std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel::<Event>();
    let target = bench.target();
    let taken = tokio::spawn(async move {
        while !matches!(events.recv().await, Some(Event::Begun { .. })) {}
        std::fs::write(target, b"somebody's").unwrap();
    });
    let progress: Arc<dyn Progress> = Arc::new(sender);
    let error = fetch_file(&bench.web(6, Duration::from_mins(1)), &bench.wish(), &progress).await;
    taken.await.unwrap();
    assert!(matches!(error, Err(TransferError::TargetExists { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_got_its_name_is_known_by_the_process_behind() {
    // Killed between the name and the end of its checkpoint.
    let served = content(5);
    let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"")).await;
    whole_without_its_name(&bench).await;
    std::fs::rename(bench.target().with_extension("part"), bench.target()).unwrap();
    bench.wild.script(|_, _| panic!("nothing is asked"));
    let fetched = bench.fetch().await.unwrap();
    assert_eq!((fetched.how, fetched.size), (How::There, Length::new(SIZE as u64)));
    bench.assert_got(&content(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_somebody_gave_the_name_is_not_taken_for_the_file() {
    let served = content(5);
    let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"").then(Then::Cut(1_000_000))).await;
    bench.fetch_with(&bench.web(1, Duration::from_mins(1)), &bench.wish()).await.unwrap_err();
    std::fs::rename(bench.target().with_extension("part"), bench.target()).unwrap();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, TransferError::TargetExists { .. }), "{error:?}");
    // It was whole once, and somebody took something off it.
    let served = content(5);
    let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"")).await;
    whole_without_its_name(&bench).await;
    std::fs::rename(bench.target().with_extension("part"), bench.target()).unwrap();
    std::fs::OpenOptions::new().write(true).open(bench.target()).unwrap().set_len(7).unwrap();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, TransferError::TargetExists { .. }), "{error:?}");
}
