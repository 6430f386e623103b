//! Time that jumps and room that runs out. F5 and F9 of the reliability design.

use std::sync::Arc;
use std::time::Duration;

use hapax_proto::upload::State;
use hapax_store::catalog::Expect;
use hapax_store::clock::{TestClock, Timestamp};
use hapax_store::disk::faulty::FaultyDisk;
use hapax_store::error::{ErrorClass, StoreError};
use hapax_store::key::MasterSource;
use hapax_store::layout::Layout;
use hapax_store::store::{Settings, Store};
use hapax_store::sweep::{Keep, Swept};
use tempfile::TempDir;

use crate::rig::{End, shared_clock};
use crate::script::{Actor, Session, Step};
use crate::world::noise;

const DAY: Duration = hours(24);

const fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

/// A session with an open upload, and a file that was removed.
fn aging() -> Session {
    let mut session = Session::new();
    for step in [
        Step::Create { name: "u", path: "/upload", size: 200_000 },
        Step::Send { name: "u", part: 0, seed: 1, from: 0, to: 100_000 },
        Step::Put { path: "/gone", seed: 2, size: 70_000 },
        Step::Remove { path: "/gone" },
    ] {
        session.step(step).unwrap();
    }
    session
}

fn sweep(session: &Session) -> Swept {
    session.rig.store().sweep(Keep::Grace).unwrap()
}

fn wall(session: &Session) -> Timestamp {
    session.rig.store().now().wall
}

#[track_caller]
fn assert_untouched(session: &Session) {
    assert_eq!(sweep(session), Swept::default());
    session.actor().assert_agrees(&session.ledger);
}

#[test]
fn things_end_when_their_time_has_passed() {
    let session = aging();
    let clock = Arc::clone(&session.rig.clock);
    clock.advance(hours(23));
    assert_untouched(&session);
    clock.advance(hours(2));
    assert_eq!(sweep(&session), Swept { blobs_buried: 1, ..Swept::default() });
    clock.advance(hours(25));
    assert_eq!(sweep(&session), Swept { objects_deleted: 1, ..Swept::default() });
    clock.advance(hours(5 * 24 - 4));
    assert_untouched(&session);
    clock.advance(hours(3));
    assert_eq!(sweep(&session).uploads_expired, 1);
}

/// However far the wall clock jumps, nothing is deleted within one grace of uptime, and no upload ends early.
#[test]
fn a_wall_clock_that_jumps_ends_nothing_early() {
    #[track_caller]
    fn check(jump: impl FnOnce(Timestamp) -> Timestamp) {
        let session = aging();
        let clock = Arc::clone(&session.rig.clock);
        assert_untouched(&session);
        clock.jump(jump(wall(&session)));
        assert_untouched(&session);
        clock.advance(hours(23));
        assert_untouched(&session);
        clock.advance(5 * DAY);
        assert_eq!(sweep(&session).uploads_expired, 0, "six days of seven have passed");
        session.actor().assert_agrees(&session.ledger);
        clock.advance(2 * DAY);
        assert_eq!(sweep(&session).uploads_expired, 1);
    }
    check(|now| now.after(30 * DAY));
    check(|now| now.after(36_500 * DAY));
    check(|now| now.before(30 * DAY));
    check(|_| Timestamp::default());
}

/// The same if the clock is wrong when the machine starts: also if no sweep had ever run before.
#[test]
fn a_restart_under_a_wrong_clock_ends_nothing_early() {
    #[track_caller]
    fn check(swept_before: bool, jump: impl FnOnce(Timestamp) -> Timestamp) {
        let mut session = aging();
        if swept_before {
            assert_untouched(&session);
        }
        session.rig.clock = Arc::new(TestClock::at(jump(wall(&session))));
        session.rig.end(End::Killed);
        sweep(&session);
        session.actor().assert_agrees(&session.ledger);
        session.rig.clock.advance(hours(22));
        let swept = sweep(&session);
        assert_eq!((swept.uploads_expired, swept.blobs_buried, swept.objects_deleted), (0, 0, 0));
        session.rig.clock.advance(7 * DAY);
        assert_eq!(sweep(&session).uploads_expired, 1);
    }
    for swept_before in [true, false] {
        check(swept_before, |now| now.after(365 * DAY));
        check(swept_before, |now| now.before(365 * DAY));
    }
}

#[test]
fn a_full_disk_keeps_what_is_there_and_takes_more_after_a_removal() {
    let mut session = Session::new();
    for step in [
        Step::Put { path: "/large", seed: 1, size: 1_200_000 },
        Step::Create { name: "u", path: "/upload", size: 2_000_000 },
        Step::Send { name: "u", part: 0, seed: 2, from: 0, to: 300_000 },
    ] {
        session.step(step).unwrap();
    }
    session.rig.disk.set_capacity(2_000_000);
    let more = [
        Step::Put { path: "/more", seed: 3, size: 1_100_000 },
        Step::Put { path: "/small", seed: 4, size: 600_000 },
        Step::Send { name: "u", part: 0, seed: 2, from: 300_000, to: 2_000_000 },
    ];
    for step in more {
        let refused = session.step(step);
        assert!(refused.as_ref().is_err_and(|error| error.class() == ErrorClass::Full), "{refused:?}");
        session.actor().assert_agrees(&session.ledger);
    }
    // What lies in the catalog alone still goes on.
    session.step(Step::Put { path: "/tiny", seed: 5, size: 100 }).unwrap();
    session.step(Step::Remove { path: "/large" }).unwrap();
    session.step(Step::Sweep).unwrap();
    session.step(more[1]).unwrap();
    session.actor().assert_agrees(&session.ledger);
    session.rig.disk.set_capacity(1 << 40);
    session.step(more[2]).unwrap();
    session.step(Step::Finish { name: "u" }).unwrap();
    session.actor().assert_agrees(&session.ledger);
    session.assert_nothing_leaks();
}

/// Below the watermark nothing new is taken in, while everything else goes on.
#[test]
fn below_the_watermark_only_intake_is_refused() {
    const ROOM: u64 = 600 << 20;
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    disk.set_capacity(ROOM);
    let clock = Box::new(shared_clock());
    let (layout, settings) = (Layout::new(dir.path()), Settings::default());
    let opened = Store::open(Arc::new(disk.clone()), &layout, &MasterSource::Own, clock, settings);
    let store = Arc::new(opened.unwrap());
    let user = store.create_user("ann".to_owned(), "$hash".to_owned(), true).unwrap();
    let space = store.catalog().user("ann").unwrap().unwrap().space;
    let actor = Actor { store: &store, user, space };
    actor.put("/small", &noise(70_000, 1)).unwrap();
    let upload = store.upload(actor.create("before", "/upload", 200_000).unwrap()).unwrap();
    actor.put("/large", &noise(30 << 20, 2)).unwrap();

    let low = |error: &StoreError| matches!(error, StoreError::BelowWatermark { .. });
    assert!(actor.put("/more", b"x").is_err_and(|error| low(&error) && error.class() == ErrorClass::Full));
    assert!(actor.create("after", "/more", 10).is_err_and(|error| low(&error)));
    assert!(actor.send(&upload, 0, 0, &noise(200_000, 3)).is_err_and(|error| low(&error)));
    store.create_user("bob".to_owned(), "$hash".to_owned(), false).unwrap();
    assert!(actor.read("/small") == noise(70_000, 1));
    let path = actor.target("/large").path;
    store.remove(space, path, Expect::Anything, false).unwrap();
    store.sweep(Keep::Nothing).unwrap();

    actor.send(&upload, 0, 0, &noise(200_000, 3)).unwrap();
    actor.put("/more", b"x").unwrap();
    assert_eq!(store.upload(upload.id).unwrap().state, State::Open);
    actor.assert_sound();
}

/// What ends by the steady clock is told by the wall clock, however far apart the two are.
#[test]
fn a_deadline_is_told_by_the_wall_clock() {
    let session = aging();
    let store = session.rig.store();
    let check = || {
        let now = store.now();
        assert_eq!(store.wall_time_of(now.steady.after(DAY)), now.wall.after(DAY));
        assert_eq!(store.wall_time_of(now.steady.before(hours(1))), now.wall.before(hours(1)));
    };
    check();
    session.rig.clock.jump(wall(&session).after(30 * DAY));
    check();
    session.rig.clock.jump(wall(&session).before(60 * DAY));
    check();
}
