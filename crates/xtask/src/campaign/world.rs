//! A server, a link and a client in a folder of their own, and the questions that are asked of them from outside.
//! Owns their lives: closing it checks the store and stops the server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::tally::Tally;
use crate::rig::client::Client;
use crate::rig::curl::{self, Got};
use crate::rig::digest::{Digest, Hashing};
use crate::rig::link::Link;
use crate::rig::process::{End, Process};
use crate::rig::server::{ADMIN, Account, Server, Site, tail};
use crate::rig::usage::peak_memory;

/// The code of a command that may simply be run again.
pub(crate) const TEMPORARY: i32 = 5;

/// What one kind of run happens in.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) link: Link,
    pub(crate) client: Client,
    pub(crate) hashing: Hashing,
    site: Site,
    server: Server,
    /// The remote file that was put last.
    newest: Option<String>,
}

/// What may be seen under a remote name.
#[derive(Debug, Clone)]
pub(crate) struct Versions {
    /// Whether the name may be free.
    pub(crate) nothing: bool,
    /// The contents that it may have.
    pub(crate) contents: Vec<Digest>,
}

impl Versions {
    /// Tells whether this may be seen.
    fn admit(&self, got: &Got) -> bool {
        match got {
            Got::Content(digest) => self.contents.contains(digest),
            Got::Nothing => self.nothing,
            Got::Odd(_) => false,
        }
    }
}

impl World {
    /// Starts a server with its data where it is told, and a link to it.
    pub(crate) fn start(
        hapax: &Path,
        folder: &Path,
        data: &Path,
        hashing: &Hashing,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let site = Site {
            hapax: hapax.to_owned(),
            data: data.to_owned(),
            log: folder.join("server.log"),
            around: Vec::new(),
        };
        let server = Server::start(&site)?;
        let link = Link::open(server.address())?;
        let client = Client {
            hapax: hapax.to_owned(),
            home: folder.join("client"),
            url: format!("http://{}", link.address()),
            account: ADMIN,
            patience,
            around: Vec::new(),
        };
        Ok(Self {
            folder: folder.to_owned(),
            link,
            client,
            hashing: hashing.clone(),
            site,
            server,
            newest: None,
        })
    }

    /// Kills the server.
    pub(crate) fn kill_server(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Starts the server again behind the same link.
    pub(crate) fn restart_server(&mut self) -> anyhow::Result<()> {
        self.server = Server::start(&self.site).context("the server does not start again")?;
        self.link.lead_to(self.server.address());
        Ok(())
    }

    /// Kills the server and starts it again behind the same link, run by these words.
    pub(crate) fn restart_server_by(&mut self, around: Vec<OsString>) -> anyhow::Result<()> {
        self.server.kill()?;
        self.site.around = around;
        self.restart_server()
    }

    /// Returns the server's data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.site.data
    }

    /// Tells whether the server has ended by itself.
    pub(crate) fn server_is_over(&mut self) -> bool {
        self.server.is_over()
    }

    /// Tells whether the server ends by itself within this time; one that does not is killed.
    pub(crate) fn server_ends_within(&mut self, patience: Duration) -> anyhow::Result<bool> {
        Ok(self.server.end_within(patience)? != End::Overdue)
    }

    /// Returns the most memory that the server ever held since its start, in bytes.
    pub(crate) fn server_peak(&self) -> u64 {
        peak_memory(self.server.id())
    }

    /// Returns the URL of a path, past the link.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    /// Gets a remote file past the link, as another program sees it.
    pub(crate) fn see(&self, account: Account, path: &str) -> anyhow::Result<Got> {
        curl::get_file(self.server.address(), account, path, &self.hashing)
    }

    /// Puts a local file with curl, past the link.
    pub(crate) fn place(&self, local: &Path, path: &str) -> anyhow::Result<()> {
        let url = self.url(&format!("/files{path}"));
        ensure!(curl::put_file(&url, ADMIN, local)?, "curl could not put {path}: {}", tail(&self.site.log));
        Ok(())
    }

    /// Looks at a remote name in every way a person would, and notes whatever is neither nothing nor whole.
    pub(crate) fn check_remote(
        &self,
        path: &str,
        versions: &Versions,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let stat = self.client.run(["stat", &format!(":{path}")])?.end;
        let list = self.client.run(["ls", ":/"])?.end;
        if list != End::Exit(0) {
            tally.violation(format!("`ls` ended with {list:?}: {}", tail(&self.client.log())));
        }
        // The entry may appear between two looks, but never go.
        let got = self.see(ADMIN, path)?;
        let agrees = match stat {
            End::Exit(0) => got != Got::Nothing,
            End::Exit(3) => versions.nothing,
            _ => false,
        };
        if !agrees || !versions.admit(&got) {
            tally.violation(format!(
                "{path}: `stat` ended with {stat:?}, curl saw {got:?}; admitted: {versions:?}"
            ));
        }
        Ok(())
    }

    /// Waits for a command and notes it if it hangs; a command that was killed on purpose ended by a signal.
    pub(crate) fn wait(&self, process: &mut Process, tally: &mut Tally) -> anyhow::Result<End> {
        let end = process.wait()?;
        if end == End::Overdue {
            tally.violation(format!("a command did not end in {:?}", self.client.patience));
        }
        Ok(end)
    }

    /// Repeats a command until it succeeds, as long as it says that this is the thing to do; notes anything else.
    pub(crate) fn insist(&self, words: &[String], tally: &mut Tally) -> anyhow::Result<bool> {
        for _ in 0..INSISTENCE {
            let mut process = self.client.start(words)?;
            match self.wait(&mut process, tally)? {
                End::Exit(0) => return Ok(true),
                End::Exit(TEMPORARY) => {}
                end => {
                    tally.violation(format!(
                        "`{}` ended with {end:?}: {}",
                        words.join(" "),
                        self.last_words()
                    ));
                    return Ok(false);
                }
            }
        }
        tally.violation(format!("`{}` stays temporary: {}", words.join(" "), self.last_words()));
        Ok(false)
    }

    /// Keeps a remote file for the check at the end, and forgets the one before: a long run needs the room of two
    /// files, not of all.
    pub(crate) fn keep_newest(&mut self, remote: &str, tally: &mut Tally) -> anyhow::Result<()> {
        match self.newest.replace(remote.to_owned()) {
            Some(older) => self.forget(&older, tally),
            None => Ok(()),
        }
    }

    /// Removes a remote file and gives its bytes back.
    pub(crate) fn forget(&self, remote: &str, tally: &mut Tally) -> anyhow::Result<()> {
        for words in [vec!["rm", &format!(":{remote}")], vec!["admin", "sweep", "--now"]] {
            let end = self.client.run(&words)?.end;
            if end != End::Exit(0) {
                tally.violation(format!("`{}` ended with {end:?}: {}", words.join(" "), self.last_words()));
            }
        }
        Ok(())
    }

    /// Returns what client and server said last.
    pub(crate) fn last_words(&self) -> String {
        format!("client: {}; server: {}", tail(&self.client.log()), tail(&self.site.log))
    }

    /// Ends a kind: every byte of the store is checked, and the server stops as it should.
    pub(crate) fn close(self, tally: &mut Tally) -> anyhow::Result<()> {
        let check = self.client.run(["admin", "check", "--read-data"])?;
        if check.end != End::Exit(0) {
            tally.violation(format!("the store is not clean: {:?}: {}", check.end, check.stdout.trim()));
        }
        let log = self.site.log.clone();
        match self.server.stop()? {
            End::Exit(0) => {}
            end => tally.violation(format!("the server ended with {end:?} after SIGTERM: {}", tail(&log))),
        }
        if tally.violations.is_empty() {
            std::fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }
}

/// How often a command is repeated that says it is worth repeating.
const INSISTENCE: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_file_is_never_admitted() {
        let [old, new, half] = ["old", "new", "ne"].map(Digest::of);
        let versions = Versions { nothing: false, contents: vec![old.clone(), new] };
        assert!(versions.admit(&Got::Content(old)));
        assert!(!versions.admit(&Got::Content(half)));
        assert!(!versions.admit(&Got::Nothing));
        assert!(!versions.admit(&Got::Odd("curl ended with 18".to_owned())));
        assert!(Versions { nothing: true, contents: Vec::new() }.admit(&Got::Nothing));
    }
}
