//! The client as a process: `hapax put`, `get` and the rest, with folders of its own for what it remembers. Owns
//! its environment; what a command answers is for the caller.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::process::{End, Process, run_by};
use super::server::Account;

/// Who runs commands, and against which address.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The program.
    pub(crate) hapax: PathBuf,
    /// Where it keeps settings and progress; a second one of these is another person.
    pub(crate) home: PathBuf,
    /// What it is told to talk to: `http://host:port`.
    pub(crate) url: String,
    /// As whom.
    pub(crate) account: Account,
    /// How long a command may take.
    pub(crate) patience: Duration,
    /// The words of what its commands are run by; none for nobody.
    pub(crate) around: Vec<OsString>,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) end: End,
    pub(crate) stdout: String,
}

impl Client {
    /// Returns where the messages of its commands go.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("client.log")
    }

    /// Opens the log to add to it.
    pub(crate) fn open_log(&self) -> anyhow::Result<File> {
        std::fs::create_dir_all(&self.home)?;
        Ok(OpenOptions::new().create(true).append(true).open(self.log())?)
    }

    /// Prepares a command; its messages go to the log.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Command> {
        let log = self.open_log()?;
        let mut command = run_by(&self.around, &self.hapax);
        command.args(words).current_dir(&self.home).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &self.home);
        command.env("HAPAX_CONFIG_DIR", self.home.join("config"));
        command.env("HAPAX_STATE_DIR", self.home.join("state"));
        command.env("HAPAX_SERVER", &self.url);
        command.env("HAPAX_USER", self.account.name).env("HAPAX_PASSWORD", self.account.password);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Starts a command.
    pub(crate) fn start<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Process> {
        let mut command = self.command(words)?;
        Process::start(&mut command, self.patience)
            .with_context(|| format!("cannot start {}", self.hapax.display()))
    }

    /// Runs a command to its end, and returns what it printed; only for commands that print little.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> anyhow::Result<Said> {
        let printed = tempfile::NamedTempFile::new_in({
            std::fs::create_dir_all(&self.home)?;
            &self.home
        })?;
        let mut command = self.command(words)?;
        command.stdout(printed.reopen()?);
        let end = Process::start(&mut command, self.patience)?.wait()?;
        let stdout = String::from_utf8_lossy(&std::fs::read(printed.path())?).into_owned();
        Ok(Said { end, stdout })
    }
}
