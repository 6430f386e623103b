//! The server as a process: `hapax serve` on a free port of this machine. Owns its start, its data folder's path
//! and its end; knows nothing of what it serves.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::process::{End, Process, run_by};

/// A name and a password. Nothing here is worth a better secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

/// The account that every server here has from its start.
pub(crate) const ADMIN: Account = Account { name: "admin", password: "correct horse battery" };

/// How long a server may take to say where it listens.
const START: Duration = Duration::from_mins(1);
/// How long it may take to drain.
const DRAIN: Duration = Duration::from_secs(30);
/// How long a server may live: a campaign that hangs must end.
const LIFE: Duration = Duration::from_hours(12);

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The program.
    pub(crate) hapax: PathBuf,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// Where its log goes, appended.
    pub(crate) log: PathBuf,
    /// The words of what it is run by, such as a tracer; none for nobody.
    pub(crate) around: Vec<OsString>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts a server and waits until it says where it listens.
    pub(crate) fn start(site: &Site) -> anyhow::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&site.log)?;
        let home = site.data.parent().context("the data folder has no parent")?;
        let mut command = run_by(&site.around, &site.hapax);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&site.data);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
        command.env("HAPAX_CONFIG_DIR", home.join("server-config"));
        command.env("HAPAX_STATE_DIR", home.join("server-state"));
        command.env("HAPAX_ADMIN_PASSWORD", ADMIN.password);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = Process::start(&mut command, LIFE)
            .with_context(|| format!("cannot start {}", site.hapax.display()))?;
        let stdout = process.child().stdout.take().context("the server has no standard output")?;
        match announced_address(stdout).recv_timeout(START) {
            Ok(address) => Ok(Self { process, address }),
            Err(_) => bail!("the server did not say where it listens: {}", tail(&site.log)),
        }
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Tells whether it has ended by itself.
    pub(crate) fn is_over(&mut self) -> bool {
        self.process.is_over()
    }

    /// Waits this long for its end, and makes it then.
    pub(crate) fn end_within(&mut self, patience: Duration) -> anyhow::Result<End> {
        Ok(self.process.end_within(patience)?)
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().context("the server cannot be killed")?;
        Ok(())
    }

    /// Ends it as an init system does; the end is to be exit code 0.
    pub(crate) fn stop(mut self) -> anyhow::Result<End> {
        Ok(self.process.terminate(DRAIN)?)
    }
}

/// Reads the server's standard output for as long as there is any; the first address in it is sent.
pub(crate) fn announced_address(stdout: ChildStdout) -> mpsc::Receiver<SocketAddr> {
    let (found, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                // Only the first is waited for.
                let _ = found.send(address);
            }
        }
    });
    receiver
}

/// Returns the address of the first URL in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end =
        rest.find(|c: char| c == '/' || c == '"' || c == ',' || c.is_whitespace()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Returns the last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().rev().take(8).collect::<Vec<_>>();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_words() {
        #[track_caller]
        fn check(line: &str, expected: Option<&str>) {
            assert_eq!(address_in(line).map(|address| address.to_string()).as_deref(), expected);
        }
        check("listening on http://127.0.0.1:4000", Some("127.0.0.1:4000"));
        check("http://127.0.0.1:4000/ (admin)", Some("127.0.0.1:4000"));
        check("{\"url\":\"http://127.0.0.1:4000\"}", Some("127.0.0.1:4000"));
        check("{\"url\":\"http://[::1]:4000/\"}", Some("[::1]:4000"));
        check("starting", None);
        check("see http://example.org/", None);
    }
}
