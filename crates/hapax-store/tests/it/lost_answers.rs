//! The catalog fails before a commit, or after it so that the answer is lost; it is full, busy, or broken for good.
//! F10 of the reliability design, and the half of rule R7 that is about the catalog.

use std::sync::Arc;

use hapax_proto::digest::FileHash;
use hapax_proto::name::EntryPath;
use hapax_store::catalog::model::faulty::{Fault, Report, Spell};
use hapax_store::catalog::{Expect, Refusal};
use hapax_store::disk::faulty::Torn;
use hapax_store::error::{ErrorClass, StoreError};

use crate::rig::{Case, End, Rig};
use crate::script::{LONG, SHORT, Session, Step, UPKEEP, content};

const FAULTS: [Fault; 2] = [Fault::Before, Fault::After];

const ENDS: [End; 3] = [End::GoesOn, End::Killed, End::PowerCut(Torn::Nothing)];

impl Session {
    /// Runs through a session in which one commit fails; tells whether there were that many.
    fn run_with_a_failing_commit(
        &mut self,
        steps: &[Step],
        n: usize,
        how: (Fault, Report),
        end: End,
    ) -> bool {
        let (fault, report) = how;
        let last = self.rig.catalog.commits() + n;
        self.rig.catalog.fail_nth(n, fault, Spell::Once, report);
        let mut struck = false;
        for &step in steps {
            let before = self.rig.catalog.commits();
            let done = self.step(step);
            let hit = !struck && before <= last && self.rig.catalog.commits() > last;
            if let Err(error) = &done {
                assert!(hit, "{step:?} failed without a fault: {error:?}");
            }
            if !hit {
                continue;
            }
            struck = true;
            assert!(done.is_err(), "{step:?} was acknowledged though its commit failed");
            if report == Report::Io {
                self.assert_closed();
            }
            self.rig.end(end);
            let happened = self.settle(step);
            assert!(!happened || fault == Fault::After, "{step:?} happened though its commit did not");
            if !happened {
                self.step(step).unwrap();
            }
        }
        self.rig.catalog.heal();
        self.actor().assert_agrees(&self.ledger);
        self.assert_nothing_leaks();
        struck
    }

    /// R7: the process is told to end, and nothing more is taken in.
    fn assert_closed(&self) {
        let failure = self.rig.store().failure();
        assert_eq!(failure.borrow().as_ref().map(|error| error.class()), Some(ErrorClass::Io));
        let refused = self.rig.store().make_folder(self.rig.space, EntryPath::parse("/more").unwrap());
        assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    }
}

fn at_every_commit(steps: &[Step], report: Report, ends: &[End]) {
    for fault in FAULTS {
        for &end in ends {
            let strikes = |n: &usize| {
                let _case = Case(format!("commit {n}, {fault:?}, {report:?}, {end:?}"));
                Session::new().run_with_a_failing_commit(steps, *n, (fault, report), end)
            };
            assert!((0..1_000).take_while(strikes).count() >= steps.len());
        }
    }
}

#[test]
fn r7_a_broken_catalog_ends_the_process_and_loses_nothing() {
    at_every_commit(SHORT, Report::Io, &ENDS[1..]);
}

#[test]
fn r1_a_full_catalog_acknowledges_nothing_and_loses_nothing() {
    at_every_commit(SHORT, Report::Full, &ENDS);
}

#[test]
fn r7_jobs_lose_nothing_by_a_commit_that_fails() {
    at_every_commit(UPKEEP, Report::Io, &ENDS[1..2]);
    at_every_commit(UPKEEP, Report::Busy, &ENDS[..1]);
}

#[test]
fn r1_a_busy_catalog_acknowledges_nothing_and_loses_nothing() {
    at_every_commit(SHORT, Report::Busy, &ENDS[..1]);
}

#[test]
fn r1_a_lost_answer_loses_no_long_file() {
    at_every_commit(&LONG[..1], Report::Busy, &ENDS[..1]);
}

/// On a full disk the ballast is given back and the commit repeated. If the first one had happened, the repetition may
/// be refused; what the first one refers to must be kept all the same.
#[test]
fn r2_a_commit_repeated_after_a_lost_answer_keeps_its_objects() {
    let rig = Rig::with_ballast();
    let bytes = content(1, 70_000);
    let session = Session::on(rig);
    let actor = session.actor();
    let target = || hapax_store::publish::Target { expect: Expect::Nothing, ..actor.target("/file") };
    let put = || {
        let mut file = actor.store.begin_file(actor.user, target(), None)?;
        file.push(&bytes)?;
        file.publish(Some(FileHash::of(&bytes)))
    };
    // The first commit opens a directory.
    session.rig.catalog.fail_nth(1, Fault::After, Spell::Once, Report::Full);
    let put = put();
    assert!(matches!(put, Err(StoreError::Refused(Refusal::Unexpected))), "{put:?}");
    assert!(actor.read("/file") == bytes);
    actor.assert_sound();
}

#[test]
fn the_ballast_lets_a_full_catalog_go_on() {
    let mut session = Session::on(Rig::with_ballast());
    session.rig.catalog.fail(Fault::Before, Spell::Once, Report::Full);
    for step in &SHORT[..4] {
        session.step(*step).unwrap();
    }
    assert!(!session.rig.ballast().is_held().unwrap(), "it was given back");
    session.step(Step::Sweep).unwrap();
    assert!(session.rig.ballast().is_held().unwrap(), "the sweep holds room back again");
    session.actor().assert_agrees(&session.ledger);
}

/// R2: the objects of an unknown outcome are kept; once it is known that they have no row, the sweep removes them.
#[test]
fn r2_objects_are_kept_while_the_outcome_is_unknown() {
    for fault in FAULTS {
        let mut session = Session::new();
        session.step(Step::Put { path: "/other", seed: 1, size: 70_000 }).unwrap();
        session.rig.catalog.fail(fault, Spell::Once, Report::Io);
        let step = Step::Put { path: "/file", seed: 2, size: 70_000 };
        session.step(step).unwrap_err();
        assert_eq!(session.rig.objects_on_disk().len(), 2, "kept, whatever became of its row");
        session.rig.end(End::Killed);
        assert_eq!(session.settle(step), fault == Fault::After);
        let swept = session.rig.store().sweep(hapax_store::sweep::Keep::Nothing).unwrap();
        assert_eq!(swept.strays_deleted, usize::from(fault == Fault::Before));
        assert_eq!(session.rig.objects_on_disk(), session.rig.objects_in_catalog());
        session.actor().assert_agrees(&session.ledger);
        assert_eq!(Arc::strong_count(session.rig.store()), 1);
    }
}
