//! One downloader at one behaviour in one form: the command, its interruption, the command again, and a look at what
//! lies on the disk. Owns the judgement.
//!
//! ```text
//!   folder/forbidden          where an absolute name would lead
//!   folder/over/there/here    where the command runs: the file must be here and nowhere else
//!   folder/home               what the downloader remembers, and what it said
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::behaviour::{Behaviour, Honest};
use super::server::Server;
use super::subject::Subject;
use super::visit::{Form, Visit};
use crate::rig::process::{End, Process};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How long a downloader that was sent half of the file has to write some of it, before it is killed. Whether it does
/// decides how hard the case is, not how it is judged.
const WRITING: Duration = Duration::from_millis(300);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The file, whole and of one version, under exit 0.
    Right,
    /// No file, said with a failing exit code; there was none to be had.
    Refused,
    /// A file that cannot be told from the right one, called "unverified".
    Unverified,
    /// No file, said with a failing exit code; it could have been had.
    GaveUp,
    /// Under exit 0 another file than the right one, or none, or a name that does harm.
    Wrong,
}

impl Outcome {
    /// Returns the word of the table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Refused => "refused",
            Self::Unverified => "unverified",
            Self::GaveUp => "gave up",
            Self::Wrong => "WRONG",
        }
    }
}

/// What was seen of a trial.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) outcome: Outcome,
    /// How the last command ended.
    pub(crate) end: End,
    /// How many requests the server counted.
    pub(crate) requests: u32,
    /// What made the outcome so.
    pub(crate) note: String,
    /// What the downloader said.
    pub(crate) said: String,
    /// How long it took.
    pub(crate) took: Duration,
}

/// One trial.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) server: &'a Server,
    pub(crate) behaviour: &'static Behaviour,
    pub(crate) form: Form,
    pub(crate) subject: &'a Subject,
    pub(crate) folder: PathBuf,
}

impl Trial<'_> {
    /// Runs it.
    pub(crate) fn run(&self) -> anyhow::Result<Seen> {
        let start = Instant::now();
        let (forbidden, home) = (self.folder.join("forbidden"), self.folder.join("home"));
        for folder in [&forbidden, &home, &self.here()] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let client = format!("{}-{:?}", self.subject.name(), self.form).to_lowercase();
        let forbidden = forbidden.to_str().context("the folder is not UTF-8")?.to_owned();
        let (visit, url) = self.server.invite(self.behaviour, &client, self.form, forbidden);
        let end = self.commands(&visit, &url, &home)?;
        let said = String::from_utf8_lossy(&fs::read(home.join("said"))?).into_owned();
        let (outcome, note) = self.judge(end, &said)?;
        // Hundreds of trials leave some MiB each.
        fs::remove_dir_all(&self.folder)?;
        Ok(Seen { outcome, end, requests: visit.requests(), note, said, took: start.elapsed() })
    }

    /// Returns where the commands run.
    fn here(&self) -> PathBuf {
        self.folder.join("over/there/here")
    }

    /// Gives the command, and gives it again where that is due.
    fn commands(&self, visit: &Arc<Visit>, url: &str, home: &Path) -> anyhow::Result<End> {
        let prepare = || -> io::Result<Command> {
            let said = File::options().create(true).append(true).open(home.join("said"))?;
            let mut command = self.subject.command(self.behaviour, url, home);
            command.current_dir(self.here()).stdout(said.try_clone()?).stderr(said);
            Ok(command)
        };
        let start = || -> anyhow::Result<Process> {
            Process::start(&mut prepare()?, PATIENCE)
                .with_context(|| format!("cannot start {}", self.subject.name()))
        };
        if self.form == Form::Interrupted {
            // Behind the interruption the command is given again, unless it was done before it could be interrupted.
            if let Some(End::Exit(0)) = self.interrupt(start()?, visit)? {
                return Ok(End::Exit(0));
            }
        }
        let mut end = start()?.wait()?;
        for _ in 1..self.subject.attempts() {
            if end == End::Exit(0) {
                break;
            }
            end = start()?.wait()?;
        }
        Ok(end)
    }

    /// Kills the command when half of the file is on its way, and lets the server go on. Returns how the command ended
    /// if it did so by itself.
    fn interrupt(&self, mut process: Process, visit: &Visit) -> anyhow::Result<Option<End>> {
        while !visit.wait_held(LOOK) && !process.is_over() {}
        let end = if visit.wait_held(Duration::ZERO) {
            let begin = Instant::now();
            while begin.elapsed() < WRITING && !process.is_over() && stored(&self.here())? == 0 {
                std::thread::sleep(LOOK);
            }
            if self.subject.is_ours() {
                process.kill()?;
            } else if !process.is_over() {
                process.terminate(PATIENCE)?;
            }
            None
        } else {
            Some(process.wait()?)
        };
        visit.release();
        Ok(end)
    }

    fn judge(&self, end: End, said: &str) -> anyhow::Result<(Outcome, String)> {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let here = self.here();
        files(&self.folder, &mut |path| {
            if path.starts_with(&here) {
                inside.push(path);
            } else if !path.starts_with(self.folder.join("home")) {
                outside.push(path);
            }
        })?;
        if let Some(path) = outside.first() {
            return Ok((Outcome::Wrong, format!("it wrote {}", path.display())));
        }
        // What aria2 keeps beside a download; after a success it has removed it.
        inside.retain(|path| path.extension().is_none_or(|extension| extension != "aria2"));
        if end == End::Exit(0) {
            return self.judge_file(&inside, said);
        }
        if self.subject.is_ours() && inside.iter().any(|path| path.ends_with("file.bin")) {
            return Ok((Outcome::Wrong, "it failed and left a file under the name".to_owned()));
        }
        Ok(match (end, self.behaviour.honest) {
            (End::Overdue, _) => (Outcome::GaveUp, "it did not end".to_owned()),
            (End::Signal, _) => (Outcome::GaveUp, "it died of a signal".to_owned()),
            (_, Honest::File) => (Outcome::GaveUp, "the file could be had".to_owned()),
            _ => (Outcome::Refused, String::new()),
        })
    }

    /// Judges what lies there under exit 0. Others may leave a broken file beside the one that they made anew under
    /// another name: the best counts.
    fn judge_file(&self, inside: &[PathBuf], said: &str) -> anyhow::Result<(Outcome, String)> {
        if inside.is_empty() || (self.subject.is_ours() && inside.len() > 1) {
            return Ok((Outcome::Wrong, format!("there are {} files under exit 0", inside.len())));
        }
        let judged = inside.iter().map(|path| self.judge_one(path, said));
        let judged = judged.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(judged.into_iter().min_by_key(|(outcome, _)| *outcome).expect("there is a file"))
    }

    fn judge_one(&self, path: &Path, said: &str) -> anyhow::Result<(Outcome, String)> {
        let name = path.file_name().unwrap_or_default();
        if let Some(harm) = harm(name.to_str(), self.subject.is_ours()) {
            return Ok((Outcome::Wrong, format!("the name {} {harm}", name.display())));
        }
        let bytes = fs::read(path)?;
        if self.behaviour.versions.iter().any(|version| bytes == version.whole()) {
            return Ok((Outcome::Right, String::new()));
        }
        if self.behaviour.honest == Honest::Unprovable && said.contains("unverified") {
            return Ok((Outcome::Unverified, String::new()));
        }
        Ok((Outcome::Wrong, format!("the {} bytes are not those of one version", bytes.len())))
    }

    /// Says what is wrong with what ours did.
    pub(crate) fn objection(&self, seen: &Seen) -> Option<String> {
        let honest = self.behaviour.honest;
        if seen.requests > self.behaviour.requests_max {
            return Some(format!("{} requests, at most {}", seen.requests, self.behaviour.requests_max));
        }
        match (seen.outcome, seen.end) {
            (Outcome::Wrong, _) if honest == Honest::Unknowable => None,
            (Outcome::Wrong | Outcome::GaveUp, _) => Some(seen.note.clone()),
            (Outcome::Refused, End::Exit(code)) => match honest {
                Honest::Nothing(codes) if !codes.contains(&code) => {
                    Some(format!("exit code {code}, not one of {codes:?}"))
                }
                _ => None,
            },
            (Outcome::Refused, end) => Some(format!("it ended with {end:?}")),
            (Outcome::Right | Outcome::Unverified, _) => None,
        }
    }
}

/// Says what harm a name does; `strictly` also on other systems than this one.
fn harm(name: Option<&str>, strictly: bool) -> Option<&'static str> {
    let Some(name) = name else {
        return strictly.then_some("is not UTF-8");
    };
    let is_bidi = |letter| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if name.starts_with('.') {
        Some("is hidden")
    } else if name.chars().any(char::is_control) {
        Some("has control characters")
    } else if name.chars().any(is_bidi) {
        Some("reads other than it is")
    } else if strictly && name.split('.').next().is_some_and(|stem| stem.eq_ignore_ascii_case("nul")) {
        Some("is a device")
    } else {
        None
    }
}

/// Returns how many bytes the files of a folder have.
fn stored(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    files(folder, &mut |path| sum += fs::metadata(path).map_or(0, |facts| facts.len()))?;
    Ok(sum)
}

/// Hands out the files below a folder.
fn files(folder: &Path, each: &mut impl FnMut(PathBuf)) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), each)?;
        } else {
            each(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_harm_are_found() {
        #[track_caller]
        fn check(name: &str, here: bool, anywhere: bool) {
            assert_eq!(
                (harm(Some(name), false).is_some(), harm(Some(name), true).is_some()),
                (here, anywhere)
            );
        }
        check("file.bin", false, false);
        check("nuls.txt", false, false);
        check("NUL.txt", false, true);
        check(".bashrc", true, true);
        check("a\u{202e}b", true, true);
        check("a\u{1b}b", true, true);
    }

    #[test]
    fn worse_outcomes_are_greater() {
        assert!(Outcome::Right < Outcome::Refused && Outcome::GaveUp < Outcome::Wrong);
    }
}
