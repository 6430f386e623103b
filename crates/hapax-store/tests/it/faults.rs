//! The disk fails each of its operations, once and for ever after, or writes short, while a session goes on; then the
//! process goes on, is killed, or loses its power. F1 to F5 and F7 of the reliability design.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use hapax_store::disk::faulty::{Failure, Fault, Operation, Torn};
use hapax_store::error::ErrorClass;
use hapax_store::id::ObjectName;

use crate::rig::{Case, Draws, End, full, seed};
use crate::script::{LONG, SHORT, Session, Step, UPKEEP, content};

/// How the disk fails at its N-th operation.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Once(Failure),
    Lasting(Failure),
    Short,
}

const KINDS: [Kind; 5] = [
    Kind::Once(Failure::Io),
    Kind::Once(Failure::Full),
    Kind::Lasting(Failure::Io),
    Kind::Lasting(Failure::Full),
    Kind::Short,
];

impl Kind {
    fn at(self, n: u64) -> Fault {
        match self {
            Self::Once(failure) => Fault::once(n, failure),
            Self::Lasting(failure) => Fault::from(n, failure),
            Self::Short => Fault::once(n, Failure::Full).short(),
        }
    }
}

impl Session {
    /// Runs through a session in which the disk fails, and the process ends as soon as it did.
    fn run(&mut self, steps: &[Step], fault: Fault, n: u64, end: End) {
        let start = self.rig.disk.operations();
        self.rig.disk.inject(fault);
        let mut struck = false;
        for &step in steps {
            let done = self.try_step(step);
            if !struck && (!done || self.rig.disk.operations() > start + n) {
                struck = true;
                self.rig.end(end);
                self.actor().assert_agrees(&self.ledger);
            }
            assert!(done || self.try_step(step), "{step:?} can be repeated");
        }
        self.rig.disk.heal();
        self.actor().assert_agrees(&self.ledger);
        self.assert_nothing_leaks();
    }

    /// Tries a step; tells whether it was done. If not, nothing changed.
    fn try_step(&mut self, step: Step) -> bool {
        match self.step(step) {
            Ok(()) => true,
            Err(error) => {
                let class = error.class();
                assert!(matches!(class, ErrorClass::Io | ErrorClass::Full), "{step:?}: {error:?}");
                false
            }
        }
    }
}

fn operations_of(steps: &[Step]) -> u64 {
    let mut session = Session::new();
    let start = session.rig.disk.operations();
    for step in steps {
        session.step(*step).unwrap();
    }
    session.rig.disk.operations() - start
}

/// Runs a session with faults at every operation, or at a sample of `runs`.
fn at_every_operation(steps: &[Step], runs: u64) {
    let mut draws = Draws(seed());
    let operations = operations_of(steps);
    let check = |n: u64, kind: Kind, end: End| {
        let case = Case(format!("operation {n} of {operations}, {kind:?}, {end:?}"));
        Session::new().run(steps, kind.at(n), n, end);
        drop(case);
    };
    if full() {
        for n in 0..operations {
            for kind in KINDS {
                for end in ends(draws.next()) {
                    check(n, kind, end);
                }
            }
        }
    } else {
        // Spread evenly over the operations, so that no verb is left out whatever is drawn.
        for run in 0..runs {
            let n = (run * operations + draws.below(operations)) / runs;
            let end = *draws.pick(&ends(run));
            check(n, *draws.pick(&KINDS), end);
        }
    }
}

fn ends(torn: u64) -> [End; 4] {
    [End::GoesOn, End::Killed, End::PowerCut(Torn::Nothing), End::PowerCut(Torn::Seeded(torn))]
}

#[test]
fn r2_r3_r4_what_was_acknowledged_survives_every_fault_of_the_disk() {
    at_every_operation(SHORT, 240);
}

#[test]
fn r2_r3_r4_long_files_survive_every_fault_of_the_disk() {
    at_every_operation(LONG, 20);
}

#[test]
fn r2_r3_r4_scrub_compact_and_heal_survive_every_fault_of_the_disk() {
    at_every_operation(UPKEEP, 160);
}

/// Every single operation, so that none is missed by the sample: the power goes as soon as it failed.
#[test]
fn r4_a_power_cut_after_any_operation_takes_nothing_back() {
    let seed = seed();
    for n in (0..operations_of(SHORT)).filter(|n| full() || (n ^ seed).is_multiple_of(2)) {
        let _case = Case(format!("operation {n}"));
        Session::new().run(SHORT, Fault::from(n, Failure::Io), n, End::PowerCut(Torn::Nothing));
    }
}

#[test]
fn r7_a_failed_sync_is_never_acknowledged_nor_retried() {
    /// Runs a session in which one sync fails; tells whether there was a sync to fail.
    fn strikes(operation: Operation, n: u64) -> bool {
        let _case = Case(format!("{operation:?} number {n}"));
        let mut session = Session::new();
        session.rig.disk.inject(Fault::once(n, Failure::Io).only(operation));
        let failed: Vec<Step> = SHORT
            .iter()
            .filter(|step| {
                let failed = !session.try_step(**step);
                assert!(!failed || session.try_step(**step), "{step:?} can be repeated, with another object");
                failed
            })
            .copied()
            .collect();
        assert!(failed.len() <= 1, "one sync failed, and {failed:?} with it");
        session.rig.end(End::PowerCut(Torn::Nothing));
        session.actor().assert_agrees(&session.ledger);
        !failed.is_empty()
    }
    for operation in [Operation::Sync, Operation::SyncDir] {
        let struck = (0..1_000).take_while(|n| strikes(operation, *n)).count();
        assert!(struck > 5, "{operation:?} failed {struck} times");
    }
}

/// Small files of several threads share objects and commits. Whoever is told that a file is there finds it, whoever is
/// told that it is not does not, however the others fare.
#[test]
fn r4_files_of_many_threads_are_there_or_not_as_their_writers_were_told() {
    const SIZES: [u64; 4] = [100, 5_000, 70_000, 1_200_000];
    let mut draws = Draws(seed());
    for run in 0..if full() { 1_000 } else { 60 } {
        let (n, kind, end) = (draws.below(150), *draws.pick(&KINDS), *draws.pick(&ends(run)));
        let _case = Case(format!("run {run}, operation {n}, {kind:?}, {end:?}"));
        let mut session = Session::new();
        session.rig.disk.inject(kind.at(n));
        let actor = session.actor();
        let put = |thread: u64| {
            let files =
                (0..6).map(|file| (thread * 6 + file, SIZES[usize::try_from((thread + file) % 4).unwrap()]));
            let told = files.filter_map(|(seed, size)| {
                let (at, bytes) = (format!("/{seed}"), content(seed, size));
                actor.put(&at, &bytes).ok().map(|()| (at, Arc::new(bytes)))
            });
            told.collect::<Vec<_>>()
        };
        let told: Vec<_> = thread::scope(|scope| {
            let put = &put;
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || put(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        session.ledger.files = told.into_iter().collect();
        session.rig.end(end);
        session.actor().assert_agrees(&session.ledger);
        session.assert_nothing_leaks();
    }
}

/// R3: an object that a row names is never touched again, whatever is replaced, continued or repeated; equal bytes are
/// sealed anew each time, under another id and another key.
#[test]
fn r3_an_object_is_written_once() {
    let mut session = Session::new();
    let mut written: BTreeMap<ObjectName, Vec<u8>> = BTreeMap::new();
    for &step in SHORT {
        session.step(step).unwrap();
        let there = session.rig.objects_on_disk();
        for name in session.rig.objects_in_catalog() {
            assert!(there.contains(&name), "{step:?}: {name} has a row and no file");
            let now = session.rig.bytes_of(name);
            let before = written.entry(name).or_insert_with(|| now.clone());
            assert!(*before == now, "{step:?} changed {name}");
        }
    }
    let sealed: BTreeSet<&[u8]> = written.values().map(|bytes| &bytes[128..144]).collect();
    assert!(written.len() > 10 && sealed.len() == written.len(), "no two begin alike");
}
