//! What must not outlive this program: children, mounts, control groups, folders. Owns the list of them, and their end when a
//! signal ends the program; whoever made one ends it as long as nothing goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// How often a control group is asked to go whose processes are about to be gone, and how long between.
const FAREWELLS: u32 = 100;
const FAREWELL: Duration = Duration::from_millis(10);

/// Something that is undone at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// A file system that is mounted here.
    Mount(PathBuf),
    /// A control group.
    Group(PathBuf),
    /// A folder with everything in it.
    Folder(PathBuf),
}

impl Leftover {
    /// Undoes it as far as that can be done; what cannot be undone lies around empty.
    fn undo(&self) {
        match self {
            // Lazily: a process that was just killed may still hold a file.
            Self::Mount(path) => {
                let mut command = Command::new("umount");
                drop(command.arg("--lazy").arg(path).stdin(Stdio::null()).status());
            }
            Self::Folder(path) => drop(std::fs::remove_dir_all(path)),
            Self::Group(path) => {
                for _ in 0..FAREWELLS {
                    match std::fs::remove_dir(path) {
                        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(FAREWELL),
                        _ => return,
                    }
                }
            }
        }
    }
}

/// All that there is.
#[derive(Debug)]
struct Held {
    children: BTreeSet<u32>,
    others: BTreeMap<u64, Leftover>,
    next: u64,
}

impl Held {
    const fn nothing() -> Self {
        Self { children: BTreeSet::new(), others: BTreeMap::new(), next: 0 }
    }

    fn spawn(&mut self, command: &mut Command) -> io::Result<Child> {
        let child = command.spawn()?;
        self.children.insert(child.id());
        Ok(child)
    }

    /// Ends everything, the newest first.
    fn end(&mut self) {
        for child in std::mem::take(&mut self.children).into_iter().rev() {
            if let Some(child) = i32::try_from(child).ok().and_then(Pid::from_raw) {
                // It may have ended by itself meanwhile; nobody has waited for it, so the number is still its own.
                let _ = kill_process(child, Signal::KILL);
            }
        }
        for (_, leftover) in std::mem::take(&mut self.others).into_iter().rev() {
            leftover.undo();
        }
    }
}

static HELD: Mutex<Held> = Mutex::new(Held::nothing());

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child that is killed with this program.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    held().spawn(command)
}

/// Asks a child for its end by `look`; once that knows it, the child's number belongs to nobody.
pub(crate) fn bury(
    child: &mut Child,
    look: impl FnOnce(&mut Child) -> io::Result<Option<ExitStatus>>,
) -> io::Result<Option<ExitStatus>> {
    let mut held = held();
    let end = look(child)?;
    if end.is_some() {
        held.children.remove(&child.id());
    }
    Ok(end)
}

/// Something that is undone when this is dropped, or when a signal ends the program.
#[derive(Debug)]
pub(crate) struct Holding(u64);

impl Holding {
    /// Makes something by `make`, to be undone at the latest with this program.
    pub(crate) fn make(
        leftover: Leftover,
        make: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut held = held();
        make()?;
        let number = held.next;
        held.next += 1;
        held.others.insert(number, leftover);
        Ok(Self(number))
    }

    /// Leaves it as it is, for good.
    pub(crate) fn keep(self) {
        held().others.remove(&self.0);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(leftover) = held().others.remove(&self.0) {
            leftover.undo();
        }
    }
}

/// From now on, Ctrl-C and SIGTERM end the program with everything it made.
pub(crate) fn end_with_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(entered);
    let wait = move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        // The locks are never given back: nothing new is begun while the program ends, and nobody says that what is
        // missing by now is a broken promise.
        let _silence = io::stdout().lock();
        let mut held = held();
        held.end();
        eprintln!(
            "ended by a signal: processes are killed, mounts and control groups removed; files are left"
        );
        std::process::exit(code);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).context("no thread for signals")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_end_is_that_of_everything() {
        let folder = tempfile::tempdir().unwrap();
        // What undoing a group does is what it does to any empty folder.
        let group = folder.path().join("group");
        std::fs::create_dir(&group).unwrap();
        let mut held = Held::nothing();
        let mut child = held.spawn(Command::new("sleep").arg("3600")).unwrap();
        held.others.insert(0, Leftover::Group(group.clone()));
        held.end();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!group.exists());
        assert!(held.children.is_empty() && held.others.is_empty());
    }

    #[test]
    fn what_is_held_is_undone_once() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("group");
        let make = || Ok(std::fs::create_dir(&group)?);
        let holding = Holding::make(Leftover::Group(group.clone()), make).unwrap();
        assert!(group.exists());
        assert!(Holding::make(Leftover::Group(group.clone()), make).is_err(), "it cannot be made twice");
        assert!(group.exists(), "what was not made is not undone");
        drop(holding);
        assert!(!group.exists());
    }
}
