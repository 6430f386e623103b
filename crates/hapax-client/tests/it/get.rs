//! Getting: what crosses the line, what appears under the name, whatever happens on the way.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use hapax_client::TransferError;
use hapax_client::download::{Get, Got, How, get_file, get_stream};
use hapax_client::progress::{Event, Progress};
use hapax_client::sink::{Overwrite, temporary};
use hapax_proto::problem::Kind;
use hapax_proto::span::Length;
use hapax_proto::tree::PART;
use tokio::sync::Notify;

use crate::fake::Fault;
use crate::put::{Bench, noise, remote};

const P: usize = 16 * 1024 * 1024;
const PARTS_IN_FLIGHT: u64 = 4;

impl Bench {
    fn target(&self) -> PathBuf {
        self.folder.path().join("got/a")
    }

    async fn get(&self, attempts_max: u32, overwrite: Overwrite) -> Result<Got, TransferError> {
        std::fs::create_dir_all(self.target().parent().unwrap()).unwrap();
        let get = Get { overwrite, ..Get::new(remote("/a")) };
        get_file(&self.client(attempts_max).await, &get, &self.target(), &self.silent).await
    }

    /// Gets as the process behind one that was killed. A dropped future is no ended process: what it had begun on a
    /// blocking thread still holds the lock for a moment.
    async fn get_again(&self) -> Result<Got, TransferError> {
        loop {
            match self.get(1, Overwrite::Never).await {
                Err(TransferError::Locked { .. }) => tokio::task::yield_now().await,
                ended => return ended,
            }
        }
    }

    /// Cuts every answer with content behind the fifth.
    fn cut_behind_five_spans(&self) {
        let mut requests = 0;
        self.fake.script(move |request| {
            requests += i32::from(is_span(request));
            if is_span(request) && requests > 5 { Fault::CutAnswer(9) } else { Fault::None }
        });
    }

    #[track_caller]
    fn assert_got(&self) {
        let expected = self.fake.store().files["/a"].bytes.clone();
        assert!(std::fs::read(self.target()).unwrap() == expected, "another content is there");
        let beside = std::fs::read_dir(self.target().parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "something is left beside it");
        assert_eq!(std::fs::read_dir(self.folder.path().join("state")).unwrap().count(), 0);
    }
}

fn is_span(request: &str) -> bool {
    request.starts_with("GET /files/")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_any_size_arrives_once() {
    let bench = Bench::new().await;
    for length in [0, 1, P - 1, P, P + 1, 3 * P + 77] {
        bench.fake.put("/a", noise(length, 30));
        bench.fake.take_counts();
        let got = bench.get(1, Overwrite::Replace).await.unwrap();
        assert_eq!((got.how, got.size), (How::Fetched, Length::new(length as u64)));
        assert_eq!(bench.fake.take_counts().1, length as u64);
        bench.assert_got();
        let got = bench.get(1, Overwrite::Never).await.unwrap();
        assert_eq!((got.how, bench.fake.take_counts().1), (How::There, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_and_the_bit_come_along() {
    let bench = Bench::new().await;
    bench.fake.put("/a", noise(9, 31));
    {
        let mut store = bench.fake.store();
        let file = store.files.get_mut("/a").unwrap();
        (file.mtime, file.executable) = (Some("2001-09-09T01:46:40.5Z".to_owned()), true);
    }
    bench.get(1, Overwrite::Never).await.unwrap();
    let metadata = std::fs::metadata(bench.target()).unwrap();
    let since = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_millis(), 1_000_000_000_500);
    assert_eq!(metadata.permissions().mode() & 0o100, 0o100);
    // They change without the content; who does not replace keeps them.
    {
        let mut store = bench.fake.store();
        let file = store.files.get_mut("/a").unwrap();
        (file.mtime, file.executable) = (Some("2001-09-09T01:46:41Z".to_owned()), false);
    }
    for (overwrite, seconds, bit) in
        [(Overwrite::Never, 1_000_000_000, 0o100), (Overwrite::Replace, 1_000_000_001, 0)]
    {
        assert_eq!(bench.get(1, overwrite).await.unwrap().how, How::There);
        let metadata = std::fs::metadata(bench.target()).unwrap();
        let since = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!((since.as_secs(), metadata.permissions().mode() & 0o100), (seconds, bit));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_costs_nothing_in_the_same_process() {
    let bench = Bench::new().await;
    bench.fake.put("/a", noise(3 * P + 5, 32));
    let mut requests = 0;
    bench.fake.script(move |request| {
        requests += u64::from(is_span(request));
        match requests {
            _ if !is_span(request) => Fault::None,
            1..12 => Fault::CutAnswer(requests * 1_000_003 % PART.get()),
            12 | 13 => Fault::Refuse(Kind::Unavailable),
            _ => Fault::None,
        }
    });
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let progress: Arc<dyn Progress> = Arc::new(sender);
    std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
    let get = Get::new(remote("/a"));
    let got = get_file(&bench.client(10).await, &get, &bench.target(), &progress).await.unwrap();
    assert_eq!(got.how, How::Fetched);
    bench.assert_got();
    // What arrived was never asked for again; what a reset threw away on its way did not arrive.
    let mut moved = 0;
    while let Ok(event) = events.try_recv() {
        moved += if let Event::Moved(length) = event { length.get() } else { 0 };
    }
    assert_eq!(moved, 3 * PART.get() + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_is_killed_fetches_again_at_most_what_was_in_flight() {
    let bench = Bench::new().await;
    let length = 7 * P;
    bench.fake.put("/a", noise(length, 33));
    let mut kills = 0;
    for kill_at in [1, 5, 6, 2] {
        let (reached, requests) = (Arc::new(Notify::new()), AtomicU32::new(0));
        let reach = Arc::clone(&reached);
        bench.fake.script(move |request| {
            if is_span(request) && requests.fetch_add(1, Ordering::Relaxed) + 1 == kill_at {
                reach.notify_one();
            }
            Fault::None
        });
        tokio::select! {
            // Fewer requests than that are left: it is through.
            ended = bench.get_again() => assert!(ended.is_ok(), "{ended:?}"),
            () = reached.notified() => kills += 1,
        }
    }
    bench.fake.script(|_| Fault::None);
    bench.get_again().await.unwrap();
    bench.assert_got();
    // The server counts what it hands to the line, whether it gets through or not.
    let sent = bench.fake.take_counts().1;
    let allowed = length as u64 + kills * PARTS_IN_FLIGHT * PART.get();
    assert!(sent <= allowed, "{sent} of {allowed} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_failed_goes_on_with_the_parts_it_has() {
    let bench = Bench::new().await;
    bench.fake.put("/a", noise(6 * P, 34));
    bench.cut_behind_five_spans();
    assert!(bench.get(1, Overwrite::Never).await.is_err());
    assert!(!bench.target().exists());
    bench.fake.script(|_| Fault::None);
    bench.fake.take_counts();
    let How::Resumed { kept } = bench.get(1, Overwrite::Never).await.unwrap().how else {
        panic!("nothing was kept")
    };
    assert!(kept >= PART);
    assert_eq!(bench.fake.take_counts().1 + kept.get(), 6 * PART.get());
    bench.assert_got();
}

/// It was believed by its name, number and size, and told to be proven.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_in_a_temporary_file_between_two_commands_is_fetched_again() {
    let bench = Bench::new().await;
    bench.fake.put("/a", noise(6 * P, 35));
    bench.cut_behind_five_spans();
    std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
    // One behind the other: when the last one fails, nothing is at work any more.
    let get = Get { parts_in_flight: 1, ..Get::new(remote("/a")) };
    assert!(get_file(&bench.client(1).await, &get, &bench.target(), &bench.silent).await.is_err());
    bench.fake.script(|_| Fault::None);
    let temporary =
        OpenOptions::new().read(true).write(true).open(temporary(&bench.target()).unwrap()).unwrap();
    // One byte of every part that has bytes.
    for part in 0..6 {
        let (at, mut byte) = (part * PART.get() + 77, [0]);
        temporary.read_exact_at(&mut byte, at).unwrap();
        temporary.write_all_at(&[!byte[0]], at).unwrap();
    }
    assert_eq!(bench.get_again().await.unwrap().how, How::Fetched);
    bench.assert_got();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_on_the_server_is_never_mixed() {
    for change_at in [1, 3, 5] {
        let bench = Bench::new().await;
        bench.fake.put("/a", noise(5 * P, 35));
        let (kept, mut requests) = (Arc::new(Mutex::new(None)), 0);
        let changed = noise(4 * P + 3, 36);
        let fake = bench.fake.handle();
        bench.fake.script(move |request| {
            requests += i32::from(is_span(request));
            if is_span(request) && requests == change_at && kept.lock().unwrap().replace(()).is_none() {
                fake.put("/a", changed.clone());
            }
            Fault::None
        });
        assert_eq!(bench.get(10, Overwrite::Never).await.unwrap().how, How::Changed);
        bench.assert_got();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_sessions_a_changed_file_is_begun_anew() {
    let bench = Bench::new().await;
    bench.fake.put("/a", noise(3 * P, 37));
    bench.fake.script(|request| {
        if request.ends_with("/a") && is_span(request) { Fault::CutAnswer(9) } else { Fault::None }
    });
    assert!(bench.get(1, Overwrite::Never).await.is_err());
    bench.fake.put("/a", noise(3 * P, 38));
    bench.fake.script(|_| Fault::None);
    assert_eq!(bench.get(1, Overwrite::Never).await.unwrap().how, How::Changed);
    bench.assert_got();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_alone_is_fetched_again() {
    let bench = Bench::new().await;
    for length in [3 * P, 100] {
        bench.fake.put("/a", noise(length, 39));
        let mut left = 1;
        bench.fake.script(move |request| {
            if is_span(request) && left > 0 {
                left -= 1;
                return Fault::Flip;
            }
            Fault::None
        });
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let progress: Arc<dyn Progress> = Arc::new(sender);
        bench.fake.take_counts();
        std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
        let get = Get { overwrite: Overwrite::Replace, ..Get::new(remote("/a")) };
        get_file(&bench.client(1).await, &get, &bench.target(), &progress).await.unwrap();
        bench.assert_got();
        let again = length.min(P) as u64;
        assert_eq!(bench.fake.take_counts().1, length as u64 + again);
        let (mut damaged, mut solid) = (0, 0);
        while let Ok(event) = events.try_recv() {
            match event {
                Event::Damaged(_) => damaged += 1,
                Event::Solid(length) => solid += length.get(),
                _ => {}
            }
        }
        assert_eq!((damaged, solid), (1, length as u64));
    }
    bench.fake.put("/a", noise(2 * P, 40));
    bench.fake.script(|request| if is_span(request) { Fault::Flip } else { Fault::None });
    let ended = bench.get(10, Overwrite::Replace).await;
    assert!(matches!(ended, Err(TransferError::Corrupt { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_unless_asked() {
    let bench = Bench::new().await;
    bench.fake.put("/a", noise(P + 9, 41));
    std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
    std::fs::write(bench.target(), b"mine").unwrap();
    let ended = bench.get(1, Overwrite::Never).await;
    assert!(matches!(ended, Err(TransferError::TargetExists { .. })), "{ended:?}");
    assert_eq!(bench.fake.take_counts().1, 0);
    // One that appears only while the file is fetched stays too, and so do the parts.
    std::fs::remove_file(bench.target()).unwrap();
    let target = bench.target();
    bench.fake.script(move |request| {
        if is_span(request) {
            std::fs::write(&target, b"mine").unwrap();
        }
        Fault::None
    });
    let ended = bench.get(1, Overwrite::Never).await;
    assert!(matches!(ended, Err(TransferError::TargetExists { .. })), "{ended:?}");
    assert_eq!(std::fs::read(bench.target()).unwrap(), b"mine");
    bench.fake.script(|_| Fault::None);
    bench.fake.take_counts();
    let got = bench.get(1, Overwrite::Replace).await.unwrap();
    assert_eq!((got.how, bench.fake.take_counts().1), (How::Resumed { kept: Length::new(P as u64 + 9) }, 0));
    bench.assert_got();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_leaves_nothing() {
    let bench = Bench::new().await;
    let ended = bench.get(10, Overwrite::Never).await;
    assert_eq!(ended.unwrap_err().problem(), Some(Kind::NotFound));
    assert_eq!(std::fs::read_dir(bench.folder.path().join("state")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(bench.target().parent().unwrap()).unwrap().count(), 0);
}

/// A stream that can be looked into.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gets_every_byte_once_and_none_unproven() {
    let bench = Bench::new().await;
    for length in [0, 1, P, 2 * P + 5] {
        let bytes = noise(length, 42);
        bench.fake.put("/a", bytes.clone());
        let mut requests = 0;
        bench.fake.script(move |request| {
            requests += u64::from(is_span(request));
            match requests {
                _ if !is_span(request) => Fault::None,
                1 => Fault::CutAnswer(PART.get() / 2),
                2 => Fault::Flip,
                3 => Fault::CutAnswer(70_000),
                _ => Fault::None,
            }
        });
        let output = Output::default();
        get_stream(&bench.client(10).await, &remote("/a"), output.clone(), &bench.silent).await.unwrap();
        assert!(*output.0.lock().unwrap() == bytes, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_never_gets_two_versions() {
    for (change_at, written) in [(1, 2 * P), (2, P)] {
        let bench = Bench::new().await;
        bench.fake.put("/a", noise(3 * P, 43));
        let (fake, mut requests) = (bench.fake.handle(), 0);
        bench.fake.script(move |request| {
            requests += i32::from(is_span(request));
            if is_span(request) && requests == change_at {
                fake.put("/a", noise(2 * P, 44));
            }
            if is_span(request) && requests == 1 { Fault::CutAnswer(2 * PART.get() - 9) } else { Fault::None }
        });
        let output = Output::default();
        let got = get_stream(&bench.client(10).await, &remote("/a"), output.clone(), &bench.silent).await;
        // Before anything left, the newer version is as good as the older.
        assert_eq!(got.is_ok(), change_at == 1, "{got:?}");
        assert_eq!(output.0.lock().unwrap().len(), written);
    }
}
