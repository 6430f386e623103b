//! Threads that want the same thing at once: one lane, one upload, one path, one blob. Each time one wins, nobody is told
//! what does not hold, and the store is sound. F14 of the reliability design.

use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use hapax_proto::digest::FileHash;
use hapax_proto::name::EntryPath;
use hapax_proto::span::Length;
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::{Held, State};
use hapax_store::catalog::sqlite::SqliteCatalog;
use hapax_store::catalog::{Expect, LaneId, Refusal, Upload};
use hapax_store::error::{ErrorClass, StoreError};
use hapax_store::job::UNPACED;
use hapax_store::publish::{Published, Target};
use hapax_store::sweep::Keep;
use hapax_store::upload::{Ending, PendingRun, StoredRun};
use tempfile::TempDir;

use crate::rig::{Case, Draws, Rig, full, seed};
use crate::script::Actor;
use crate::world::noise;

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A race track: what the threads of one race share.
struct Track {
    rig: Rig,
    draws: Draws,
    _dir: Option<TempDir>,
}

impl Track {
    fn actor(&self) -> Actor<'_> {
        Actor { store: self.rig.store(), user: self.rig.user, space: self.rig.space }
    }

    /// Opens an upload of one part.
    fn upload(&self, race: u64, size: usize) -> Upload {
        let id = self.actor().create(&format!("key {race}"), &format!("/{race}"), size as u64).unwrap();
        self.rig.store().upload(id).unwrap()
    }

    fn begin(&self, upload: &Upload, from: u64, bytes: &[u8]) -> Result<PendingRun, StoreError> {
        let whole = upload.size.unwrap();
        let mut run =
            self.rig.store().begin_part(upload, PartNumber::FIRST, Length::new(from), whole, None)?;
        run.push(bytes)?;
        run.finish(Ending::Complete)
    }

    fn send(&self, upload: &Upload, from: u64, bytes: &[u8]) -> Result<StoredRun, StoreError> {
        self.begin(upload, from, bytes)?.wait()
    }

    fn finish(&self, upload: &Upload) -> Result<FileHash, StoreError> {
        let upload = self.rig.store().upload(upload.id)?;
        let size = upload.size.unwrap();
        Ok(self.rig.store().finish_upload(&upload, size, Expect::Anything, None)?.identity.blake3)
    }

    fn target(&self, at: &str, expect: Expect) -> Target {
        Target { expect, ..self.actor().target(at) }
    }
}

/// Lets threads begin at the same moment; returns what each came to.
fn race<T: Send>(racers: Vec<Box<dyn FnOnce() -> T + Send + '_>>) -> Vec<T> {
    let start = Barrier::new(racers.len());
    thread::scope(|scope| {
        let started = racers.into_iter().map(|racer| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                racer()
            })
        });
        let started: Vec<_> = started.collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Runs a race many times over the model of the catalog, and a few times over SQLite; the store must be sound after each
/// batch, and nothing may be left over at the end.
fn races(count: u64, run: impl Fn(&mut Track, u64)) {
    let seed = seed();
    let dir = TempDir::new().unwrap();
    let sqlite = Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).unwrap());
    let tracks = [
        (Rig::new(), None, if full() { count * 20 } else { count }),
        (Rig::with(sqlite, false), Some(dir), 10),
    ];
    for (rig, dir, races) in tracks {
        let mut track = Track { rig, draws: Draws(seed), _dir: dir };
        for number in 0..races {
            let _case = Case(format!("race {number} of {races}"));
            run(&mut track, number);
            if number % 50 == 49 {
                track.actor().assert_sound();
            }
        }
        track.actor().assert_sound();
        track.rig.restart();
        track.rig.store().sweep(Keep::Nothing).unwrap();
        assert_eq!(track.rig.objects_on_disk(), track.rig.objects_in_catalog());
        track.actor().assert_sound();
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(answer.as_ref().is_err_and(|error| error.class() == ErrorClass::Refused), "{answer:?}");
}

/// What one run was told is not taken back by another that began before.
#[test]
fn r4_a_run_that_began_before_another_was_committed_is_superseded() {
    #[track_caller]
    fn check(first: usize, second: usize) {
        let rig = Rig::new();
        let track = Track { rig, draws: Draws(0), _dir: None };
        let bytes = noise(300_000, 1);
        let upload = track.upload(0, bytes.len());
        track.send(&upload, 0, &bytes[..100_000]).unwrap();
        let whole = upload.size.unwrap();
        let begin = || {
            let from = Length::new(100_000);
            track.rig.store().begin_part(&upload, PartNumber::FIRST, from, whole, None).unwrap()
        };
        let (mut ghost, mut newer) = (begin(), begin());
        newer.push(&bytes[100_000..first]).unwrap();
        let told = newer.finish(Ending::Complete).unwrap().wait().unwrap();
        ghost.push(&bytes[100_000..second]).unwrap();
        let late = ghost.finish(Ending::Complete).unwrap().wait();
        assert!(matches!(late, Err(StoreError::Refused(Refusal::Superseded))), "{late:?}");
        let (_, received) = track.rig.store().received(upload.id, PartNumber::FIRST, 9).unwrap();
        let prefix = received.spans.first().map_or(0, |span| span.end().get());
        assert_eq!(prefix, told.have.get());
        track.actor().assert_sound();
    }
    check(200_000, 150_000);
    check(150_000, 200_000);
    check(300_000, 200_000);
    check(200_000, 300_000);
}

/// A late run names the fragments that it found. By now they may be replaced, and their objects deleted.
#[test]
fn r2_a_late_run_brings_no_deleted_fragment_back() {
    let track = Track { rig: Rig::new(), draws: Draws(0), _dir: None };
    let bytes = noise(300_000, 1);
    let upload = track.upload(0, bytes.len());
    track.send(&upload, 0, &bytes[..100_000]).unwrap();
    let (from, whole) = (Length::new(100_000), upload.size.unwrap());
    let mut late = track.rig.store().begin_part(&upload, PartNumber::FIRST, from, whole, None).unwrap();
    late.push(&bytes[100_000..200_000]).unwrap();
    track.send(&upload, 0, &bytes[..80_000]).unwrap();
    track.rig.store().sweep(Keep::Nothing).unwrap();
    assert_refused(&late.finish(Ending::Complete).unwrap().wait());
    track.actor().assert_sound();
    track.send(&upload, 80_000, &bytes[80_000..]).unwrap();
    assert_eq!(track.finish(&upload).unwrap(), FileHash::of(&bytes));
}

#[test]
fn writers_of_one_lane_take_turns() {
    races(60, |track, number| {
        let bytes = noise(200_000, number);
        let upload = track.upload(number, bytes.len());
        let step = 1 + track.draws.below(90_000);
        let (shared, bytes) = (&*track, &bytes);
        let write = || loop {
            let mut lane = pin!(shared.rig.store().lanes().take(upload.id, LaneId::Part(PartNumber::FIRST)));
            let lane = block_on(lane.as_mut());
            let from = match shared.rig.store().held_part(&upload, PartNumber::FIRST).unwrap() {
                Held::Nothing => 0,
                Held::Partial { have } => have.get(),
                Held::Whole { .. } => return,
            };
            let to = (from + step).min(bytes.len() as u64);
            let (start, end) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            let stored = shared.send(&upload, from, &bytes[start..end]).unwrap();
            assert_eq!(stored.have.get(), to);
            drop(lane);
        };
        race(vec![Box::new(write), Box::new(write), Box::new(write)]);
        assert_eq!(track.rig.store().lanes().count(), 0);
        assert_eq!(track.finish(&upload).unwrap(), FileHash::of(bytes));
    });
}

#[test]
fn a_completion_and_a_part_do_not_mix() {
    races(200, |track, number| {
        let (old, new) = (noise(90_000, number), noise(90_000, number + 1_000_000));
        let upload = track.upload(number, old.len());
        track.send(&upload, 0, &old).unwrap();
        let shared = &*track;
        let (completed, replaced) = thread::scope(|scope| {
            let completed = scope.spawn(|| shared.finish(&upload));
            let replaced = shared.send(&upload, 0, &new);
            (completed.join().unwrap(), replaced)
        });
        let read = || shared.actor().read(&format!("/{number}"));
        match (&completed, &replaced) {
            (Ok(hash), Ok(_)) => assert!(*hash == FileHash::of(&new) && read() == new),
            (Ok(hash), Err(_)) => assert!(*hash == FileHash::of(&old) && read() == old),
            (Err(_), Ok(_)) => assert_refused(&completed),
            (Err(_), Err(_)) => panic!("{completed:?} and {replaced:?}: nobody won"),
        }
        if replaced.is_err() {
            assert_refused(&replaced);
        }
        if completed.is_err() {
            assert_eq!(track.finish(&upload).unwrap(), FileHash::of(&new));
        }
    });
}

#[test]
fn a_cancelled_upload_stays_cancelled() {
    races(200, |track, number| {
        let bytes = noise(90_000, number);
        let upload = track.upload(number, bytes.len());
        let shared = &*track;
        let (cancelled, sent) = thread::scope(|scope| {
            let cancelled = scope.spawn(|| shared.rig.store().end_upload(upload.id, State::Cancelled));
            let sent = shared.send(&upload, 0, &bytes);
            (cancelled.join().unwrap(), sent)
        });
        cancelled.unwrap();
        if sent.is_err() {
            assert_refused(&sent);
        }
        assert_refused(&track.send(&upload, 0, &bytes));
        assert_refused(&track.finish(&upload));
        if number % 10 == 9 {
            track.rig.store().sweep(Keep::Nothing).unwrap();
            assert_eq!(track.rig.store().catalog().stats().unwrap().objects, 0);
        }
    });
}

/// Small runs share an object. One whose upload is cancelled takes nothing from its neighbours.
#[test]
fn r8_a_cancelled_upload_takes_no_bytes_from_its_neighbours() {
    races(60, |track, number| {
        let bytes = noise(70_000, 0);
        let uploads: Vec<Upload> = (0..8).map(|i| track.upload(number * 8 + i, bytes.len())).collect();
        let shared = &*track;
        let store = shared.rig.store();
        thread::scope(|scope| {
            for (upload, i) in uploads.iter().zip(0..) {
                let run = shared.begin(upload, 0, &bytes).unwrap();
                let cancels = i % 2 == 0;
                scope.spawn(move || {
                    if cancels {
                        store.end_upload(upload.id, State::Cancelled).unwrap();
                        store.sweep(Keep::Nothing).unwrap();
                    } else {
                        run.wait().unwrap();
                    }
                });
            }
        });
        for upload in uploads.iter().skip(1).step_by(2) {
            assert_eq!(track.finish(upload).unwrap(), FileHash::of(&bytes));
        }
        assert!(track.actor().read(&format!("/{}", number * 8 + 1)) == bytes);
    });
}

#[test]
fn one_of_several_new_files_wins_a_path() {
    races(200, |track, number| {
        let at = format!("/{number}");
        let length = *track.draws.pick(&[10_usize, 70_000]);
        let files: Vec<Vec<u8>> = (0..3).map(|i| noise(length, number * 3 + i)).collect();
        let shared = &*track;
        let put = |bytes: &Vec<u8>| {
            let target = shared.target(&at, Expect::Nothing);
            let mut file = shared.rig.store().begin_file(shared.rig.user, target, None)?;
            file.push(bytes)?;
            file.publish(None)
        };
        let racers: Vec<Box<dyn FnOnce() -> Result<Published, StoreError> + Send>> =
            files.iter().map(|bytes| Box::new(move || put(bytes)) as Box<_>).collect();
        let answers = race(racers);
        let winners: Vec<usize> = (0..3).filter(|i| answers[*i].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        assert!(shared.actor().read(&at) == files[winners[0]]);
        answers.iter().filter(|answer| answer.is_err()).for_each(assert_refused);
    });
}

/// R8: whoever points to a blob that is being given up either finds it live and keeps it so, or is refused.
#[test]
fn r8_removal_link_and_sweep_leave_no_dangling_file() {
    races(60, |track, number| {
        let (at, to) = (format!("/{number}"), format!("/linked {number}"));
        let length = *track.draws.pick(&[10_usize, 70_000, 1_200_000]);
        let bytes = noise(length, number);
        let shared = &*track;
        shared.actor().put(&at, &bytes).unwrap();
        let blob = shared.actor().blob(&at).unwrap().unwrap();
        let store = shared.rig.store();
        let path = || EntryPath::parse(&at).unwrap();
        let answers = race(vec![
            Box::new(|| store.remove(shared.rig.space, path(), Expect::Anything, false)) as Box<_>,
            Box::new(|| store.link(shared.target(&to, Expect::Nothing), &blob).map(drop)),
            Box::new(|| store.sweep(Keep::Nothing).map(drop)),
        ]);
        assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
        store.sweep(Keep::Nothing).unwrap();
        match &answers[1] {
            Ok(()) => assert!(shared.actor().read(&to) == bytes),
            refused => assert_refused(refused),
        }
    });
}

/// Jobs move bytes and remove what was given up, without any grace, while files are read, put again and removed: nobody
/// sees a byte that is wrong or missing, and nothing is taken for damaged.
#[test]
fn r8_jobs_and_readers_and_writers_leave_each_other_alone() {
    races(40, |track, number| {
        let (at, to, small) = (format!("/{number}"), format!("/again {number}"), format!("/small {number}"));
        let bytes = noise(300_000, number);
        let shared = &*track;
        let upload = shared.upload(number, bytes.len());
        for (from, end) in [(0, 70_000), (70_000, 200_000), (200_000, bytes.len())] {
            let upload = shared.rig.store().upload(upload.id).unwrap();
            shared.actor().send(&upload, 0, from as u64, &bytes[from..end]).unwrap();
        }
        shared.finish(&shared.rig.store().upload(upload.id).unwrap()).unwrap();
        shared.actor().put(&small, &noise(30_000, number)).unwrap();
        let store = shared.rig.store();
        let path = || EntryPath::parse(&small).unwrap();
        let read = || {
            for _ in 0..5 {
                assert!(shared.actor().read(&at) == bytes);
            }
            Ok(())
        };
        let answers = race(vec![
            Box::new(read) as Box<dyn FnOnce() -> Result<(), StoreError> + Send>,
            Box::new(|| shared.actor().put(&to, &bytes)),
            Box::new(|| store.remove(shared.rig.space, path(), Expect::Anything, false)),
            Box::new(|| store.compact(UNPACED).map(drop)),
            Box::new(|| store.compact(UNPACED).map(drop)),
            Box::new(|| store.scrub(UNPACED).map(drop)),
            Box::new(|| store.heal(UNPACED).map(drop)),
            Box::new(|| (0..4).try_for_each(|_| store.sweep(Keep::Nothing).map(drop))),
        ]);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(store.damage().unwrap(), []);
        store.heal(UNPACED).unwrap();
        store.sweep(Keep::Nothing).unwrap();
        assert!(shared.actor().read(&at) == bytes && shared.actor().read(&to) == bytes);
    });
}

/// A finish brings all its bytes, so it may bring a blob back that nobody points to any more.
#[test]
fn r8_equal_content_that_arrives_while_the_old_is_removed_stays() {
    races(60, |track, number| {
        let (at, to) = (format!("/{number}"), format!("/again {number}"));
        let length = *track.draws.pick(&[10_usize, 70_000, 1_200_000]);
        let bytes = noise(length, number);
        let shared = &*track;
        shared.actor().put(&at, &bytes).unwrap();
        let store = shared.rig.store();
        let path = || EntryPath::parse(&at).unwrap();
        let answers = race(vec![
            Box::new(|| store.remove(shared.rig.space, path(), Expect::Anything, false)) as Box<_>,
            Box::new(|| shared.actor().put(&to, &bytes)),
            Box::new(|| store.sweep(Keep::Nothing).map(drop)),
        ]);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        store.sweep(Keep::Nothing).unwrap();
        assert!(shared.actor().read(&to) == bytes);
    });
}
