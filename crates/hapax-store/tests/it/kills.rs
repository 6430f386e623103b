//! The process is killed between any two steps of a session on a real disk, with the embedded catalog: what it leaves
//! behind is copied as it lies there, opened, and compared. F1 of the reliability design; and start-up, rule R6.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hapax_proto::span::Length;
use hapax_proto::tree::PartNumber;
use hapax_store::catalog::{SpaceId, UserId};
use hapax_store::store::Store;
use hapax_store::sweep::Keep;
use tempfile::TempDir;

use crate::rig::{Case, End};
use crate::script::{Actor, Ledger, SHORT, Session, Step, UPKEEP};
use crate::world::{noise, open};

/// Copies what a killed process leaves behind. The ballast is room and nothing else; a lock ends with its process.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            fs::set_permissions(&to, fs::metadata(&from).unwrap().permissions()).unwrap();
            copy(&from, &to);
        } else if entry.file_name() != "ballast" && entry.file_name() != "lock" {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn objects_below(dir: &Path) -> usize {
    let dirs = fs::read_dir(dir.join("objects")).unwrap();
    dirs.map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count()).sum()
}

/// Opens a copy, compares it with the ledger, and sweeps it; nothing is left over then.
#[track_caller]
fn assert_survives(dir: &TempDir, (user, space): (UserId, SpaceId), ledger: &Ledger) {
    let copied = TempDir::new().unwrap();
    copy(dir.path(), copied.path());
    let store = open(&copied);
    let actor = Actor { store: &store, user, space };
    actor.assert_agrees(ledger);
    store.sweep(Keep::Nothing).unwrap();
    actor.assert_agrees(ledger);
    let known = store.catalog().objects(None, usize::MAX).unwrap().len();
    assert_eq!(objects_below(copied.path()), known);
}

/// Begins a run that the kill interrupts, with an object of its own.
fn interrupted_run(store: &Arc<Store>, actor: &Actor<'_>) -> hapax_store::upload::PartIntake {
    let id = actor.create("interrupted", "/interrupted", 3_000_000).unwrap();
    let upload = store.upload(id).unwrap();
    let whole = Length::new(3_000_000);
    let mut run = store.begin_part(&upload, PartNumber::FIRST, Length::ZERO, whole, None).unwrap();
    run.push(&noise(1_500_000, 77)).unwrap();
    run
}

#[test]
fn r1_r2_r4_what_was_acknowledged_survives_a_kill_at_every_step() {
    kill_at_every_step(SHORT);
}

#[test]
fn r1_r2_r4_jobs_survive_a_kill_at_every_step() {
    kill_at_every_step(UPKEEP);
}

fn kill_at_every_step(steps: &[Step]) {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let user = store.create_user("ann".to_owned(), "$hash".to_owned(), true).unwrap();
    let space = store.catalog().user("ann").unwrap().unwrap().space;
    let actor = Actor { store: &store, user, space };
    let mut ledger = Ledger::default();
    let run = interrupted_run(&store, &actor);
    for (number, &step) in steps.iter().enumerate() {
        let _case = Case(format!("after step {number}, {step:?}"));
        let made = actor.act(step, &ledger).unwrap();
        ledger = ledger.after(step, made);
        assert_survives(&dir, (user, space), &ledger);
    }
    drop(run);
}

/// R6: a start looks at no object, no directory of objects and no upload, however many there are.
#[test]
fn r6_a_start_does_not_grow_with_what_is_stored() {
    fn operations_of_a_start(session: &mut Session) -> (u64, usize) {
        let disk = session.rig.disk.operations();
        session.rig.end(End::Killed);
        (session.rig.disk.operations() - disk, session.rig.catalog.commits())
    }
    let mut session = Session::new();
    let empty = operations_of_a_start(&mut session);
    for number in 0..60 {
        let at = format!("/{number}");
        session.actor().put(&at, &noise(70_000, number)).unwrap();
        let id = session.actor().create(&at, &at, 200_000).unwrap();
        let upload = session.rig.store().upload(id).unwrap();
        session.actor().send(&upload, 0, 0, &noise(100_000, number)).unwrap();
        session.rig.end(End::Killed);
    }
    session.step(Step::Folder("/folder")).unwrap();
    assert_eq!(operations_of_a_start(&mut session), empty);
}
