//! Faults of the catalog's own files: strace makes the n-th sync or write of SQLite fail while a client puts. What
//! was acknowledged is there afterwards and equal, nothing half-finished is visible, and an I/O error ends the server
//! (rule R7 of the storage design), which a supervisor, here this program, then starts again.
//!
//! ```text
//!   clean run under strace ──▶ how many calls there are ──▶ faults: (call, n, error)
//!   each: serve under strace, put, restart what ended ──▶ SIGKILL ──▶ offline check ──▶ serve, compare
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::full::NO_SPACE;
use super::plan::{Faults, Scale};
use super::tally::Tally;
use super::world::{TEMPORARY, Versions, World};
use crate::rig::bytes::{MIB, PART, write_file};
use crate::rig::curl::Got;
use crate::rig::dice::Dice;
use crate::rig::digest::Digest;
use crate::rig::process::End;
use crate::rig::server::ADMIN;

/// The system calls by which SQLite changes its files.
const CALLS: [&str; 3] = ["fsync", "fdatasync", "pwrite64"];
/// What they fail with.
const ERRORS: [&str; 2] = [IO, "ENOSPC"];
const IO: &str = "EIO";

/// The files that are put: inline, small, one part, and two parts with an upload of their own.
const SIZES: [u64; 4] = [100, 300_000, 3 * MIB, PART + MIB];

/// How often a put is watched, and how long a server may take to notice that it has to end.
const LOOK: Duration = Duration::from_millis(5);
const END: Duration = Duration::from_secs(30);

/// A call that fails once, in every thread that makes so many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    call: &'static str,
    nth: u32,
    error: &'static str,
}

/// A file that is put.
struct Source {
    path: PathBuf,
    whole: Digest,
}

/// Strikes the catalog as often as the scale says.
pub(crate) fn run(
    world: &mut World,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    if !can_trace() {
        tally.not_run = Some("strace is not installed, or may not trace here".to_owned());
        return Ok(());
    }
    let mut sources = Vec::new();
    for (number, size) in SIZES.into_iter().enumerate() {
        let path = world.folder.join(format!("source-{number}"));
        write_file(&path, dice.any(), size)?;
        sources.push(Source { whole: world.hashing.file(&path)?, path });
    }
    let trace = world.folder.join("trace");
    world.restart_server_by(tracer(world.data(), &trace, None))?;
    let came = put_all(world, &sources, tally)?;
    let calls = count(&std::fs::read_to_string(&trace)?);
    compare(world, &sources, &came, tally)?;
    tally.say(&format!("without a fault: {calls:?}"));
    let faults = choose(&calls, scale.faults, dice);
    for fault in &faults {
        tally.runs += 1;
        strike(world, &sources, *fault, tally)?;
        if !tally.violations.is_empty() {
            return Ok(());
        }
    }
    // How many calls a put needs depends on what was committed together, so the last ones may not come.
    if tally.strikes as usize * 2 < faults.len() {
        tally.violation(format!("only {} of {} faults were reached", tally.strikes, faults.len()));
    }
    Ok(())
}

/// Tells whether strace can do here what it is needed for.
fn can_trace() -> bool {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Returns the words by which strace runs a server and, if that is wanted, lets a call on the catalog's files fail.
fn tracer(data: &Path, trace: &Path, fault: Option<Fault>) -> Vec<OsString> {
    let mut words: Vec<OsString> =
        ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o"].map(OsString::from).to_vec();
    words.push(trace.into());
    words.extend(["-e".into(), format!("trace={}", CALLS.join(",")).into()]);
    for file in ["catalog.db", "catalog.db-wal"] {
        words.extend(["-P".into(), data.join(file).into()]);
    }
    if let Some(Fault { call, nth, error }) = fault {
        words.extend(["-e".into(), format!("inject={call}:error={error}:when={nth}").into()]);
    }
    words
}

/// Returns for each call how often the thread made it that made it most: strace counts by thread.
fn count(trace: &str) -> Vec<(&'static str, u32)> {
    let most = |call: &'static str| {
        let mut threads = std::collections::BTreeMap::<&str, u32>::new();
        let made = trace.lines().filter_map(|line| line.split_once(' '));
        for (thread, _) in made.filter(|(_, rest)| rest.trim_start().starts_with(&format!("{call}("))) {
            *threads.entry(thread).or_default() += 1;
        }
        (call, threads.into_values().max().unwrap_or_default())
    };
    CALLS.into_iter().map(most).collect()
}

/// Chooses faults among the calls that there are: the first, or some that lie spread over all. Every call has as many
/// of them as any other, with each error, if it is made often enough.
fn choose(calls: &[(&'static str, u32)], faults: Faults, dice: &mut Dice) -> Vec<Fault> {
    let kinds = calls.iter().filter(|(_, count)| *count > 0);
    let kinds: Vec<_> = kinds.flat_map(|call| ERRORS.map(|error| (*call, error))).collect();
    let all =
        |(call, count): (&'static str, u32), error| (1..=count).map(move |nth| Fault { call, nth, error });
    match faults {
        Faults::First(count) => {
            let mut faults: Vec<_> = kinds.iter().flat_map(|(call, error)| all(*call, *error)).collect();
            faults.sort_by_key(|fault| fault.nth);
            faults.truncate(count);
            faults
        }
        Faults::Spread(count) => {
            let each = count.div_ceil(kinds.len().max(1));
            let mut spread = |(call, error): &((&'static str, u32), &'static str)| {
                let all: Vec<_> = all(*call, *error).collect();
                let chunks = all.chunks(all.len().div_ceil(each));
                chunks.map(|chunk| chunk[dice.index(chunk.len())]).collect::<Vec<_>>()
            };
            kinds.iter().flat_map(&mut spread).collect()
        }
    }
}

/// What came of the puts under one fault.
struct Came {
    /// Whether the server ended, in its start or later.
    ended: bool,
    /// Which of the files were acknowledged.
    acknowledged: Vec<bool>,
}

/// Puts the files while one fault happens, and looks at what is left.
fn strike(world: &mut World, sources: &[Source], fault: Fault, tally: &mut Tally) -> anyhow::Result<()> {
    let trace = world.folder.join("trace");
    let started = world.restart_server_by(tracer(world.data(), &trace, Some(fault)));
    let is_struck = || std::fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("(INJECTED)"));
    let starts = started.is_ok();
    if let Err(error) = started {
        // A server that meets the fault while it starts may refuse to.
        if !is_struck() {
            return Err(error);
        }
        world.restart_server_by(Vec::new())?;
    }
    let mut came = put_all(world, sources, tally)?;
    came.ended |= !starts;
    let struck = is_struck();
    if struck && fault.error == IO && !came.ended {
        came.ended = world.server_ends_within(END)?;
        if !came.ended {
            tally.violation(format!("{fault:?} did not end the server: {}", world.last_words()));
        }
    }
    tally.strikes += u32::from(struck);
    tally.say(&format!(
        "{fault:?}: {}",
        match (struck, starts, came.ended) {
            (false, ..) => "not reached",
            (true, false, _) => "the server did not start",
            (true, true, true) => "the server ended",
            (true, true, false) => "the server lived on",
        }
    ));
    check_offline(world, fault, tally)?;
    world.restart_server_by(Vec::new())?;
    compare(world, sources, &came, tally)
}

/// Puts every file once, and starts a server that ended again, without a fault.
fn put_all(world: &mut World, sources: &[Source], tally: &mut Tally) -> anyhow::Result<Came> {
    let mut came = Came { ended: false, acknowledged: Vec::new() };
    for (number, source) in sources.iter().enumerate() {
        let words = words(source, &remote(tally, number));
        let mut put = world.client.start(&words)?;
        while !put.is_over() {
            if world.server_is_over() {
                came.ended = true;
                world.restart_server_by(Vec::new())?;
            }
            thread::sleep(LOOK);
        }
        let end = world.wait(&mut put, tally)?;
        if !matches!(end, End::Exit(0 | TEMPORARY | NO_SPACE)) {
            tally.violation(format!("a put ended with {end:?}: {}", world.last_words()));
        }
        came.acknowledged.push(end == End::Exit(0));
    }
    Ok(came)
}

fn remote(tally: &Tally, number: usize) -> String {
    format!("/fault-{}-{number}", tally.runs)
}

fn words(source: &Source, remote: &str) -> Vec<String> {
    vec!["put".to_owned(), source.path.to_string_lossy().into_owned(), format!(":{remote}")]
}

/// Kills the server and has every byte of its data read.
fn check_offline(world: &mut World, fault: Fault, tally: &mut Tally) -> anyhow::Result<()> {
    world.kill_server()?;
    let data = world.data().to_string_lossy().into_owned();
    let check = world.client.run(["offline", "check", "--read-data", "--data", &data])?;
    if check.end != End::Exit(0) {
        let found = check.stdout.trim();
        tally.violation(format!("after {fault:?} the store is not clean: {:?}: {found}", check.end));
    }
    Ok(())
}

/// What was acknowledged is there; what was not is there or is not; the same commands again finish.
fn compare(world: &World, sources: &[Source], came: &Came, tally: &mut Tally) -> anyhow::Result<()> {
    for (number, source) in sources.iter().enumerate() {
        let remote = remote(tally, number);
        let nothing = !came.acknowledged[number];
        let versions = Versions { nothing, contents: vec![source.whole.clone()] };
        world.check_remote(&remote, &versions, tally)?;
        if world.insist(&words(source, &remote), tally)? {
            let got = world.see(ADMIN, &remote)?;
            if got != Got::Content(source.whole.clone()) {
                tally.violation(format!("{remote} has {got:?}, not {}", source.whole));
            }
        }
    }
    for number in 0..sources.len() {
        world.forget(&remote(tally, number), tally)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread() {
        let trace = "7 fsync(3)  = 0\n7 pwrite64(3, \"fsync(\", 6, 0) = 6\n8 fsync(3 <unfinished ...>\n\
                     8 <... fsync resumed>) = 0\n8 fsync(4)  = 0\n8 +++ exited with 0 +++\n";
        assert_eq!(count(trace), [("fsync", 2), ("fdatasync", 0), ("pwrite64", 1)]);
    }

    #[test]
    fn faults_are_the_first_or_lie_spread() {
        let calls = [("fsync", 10), ("fdatasync", 0), ("pwrite64", 100)];
        let mut dice = Dice::new(1, "faults");
        let first = choose(&calls, Faults::First(5), &mut dice);
        assert_eq!(first.iter().map(|fault| fault.nth).collect::<Vec<_>>(), [1, 1, 1, 1, 2]);
        let spread = choose(&calls, Faults::Spread(20), &mut dice);
        assert_eq!(spread.len(), 20);
        assert_eq!(spread.iter().filter(|fault| fault.call == "fsync" && fault.error == IO).count(), 5);
        assert!(spread.iter().any(|fault| fault.call == "pwrite64" && fault.nth > 80));
        assert_eq!(choose(&calls, Faults::First(1_000), &mut dice).len(), 220);
    }

    #[test]
    fn only_the_catalog_is_traced_and_struck() {
        let fault = Fault { call: "fsync", nth: 3, error: IO };
        let words = tracer(Path::new("/d"), Path::new("/t"), Some(fault));
        let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        assert!(line.contains("-P /d/catalog.db -P /d/catalog.db-wal"), "{line}");
        assert!(line.ends_with("-e inject=fsync:error=EIO:when=3"), "{line}");
    }
}
