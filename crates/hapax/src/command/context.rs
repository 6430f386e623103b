//! What every command gets: where to talk, where files are kept, which server is meant; and the count of what came
//! of several files. Owns no command.

use serde::Serialize;

use crate::args::Global;
use crate::exit::{Code, Failure};
use crate::places::Places;
use crate::screen::Screen;
use crate::server::Servers;
use crate::words;

/// What every command gets.
pub(crate) struct Context {
    /// Where to talk.
    pub(crate) screen: Screen,
    /// Where files are kept.
    pub(crate) places: Places,
    /// The flags of all commands.
    pub(crate) global: Global,
}

impl Context {
    /// Returns the servers that can be talked to.
    pub(super) fn servers(&self) -> Servers<'_> {
        Servers::new(&self.places, self.global.server.as_deref(), self.global.attempts)
    }
}

/// The count of what came of several files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Files that are where they should be.
    pub(super) files: u64,
    /// Their sizes together.
    pub(super) bytes: u64,
    /// What went over the wire for them.
    pub(super) moved: u64,
    /// Files that are not.
    pub(super) failed: u64,
}

impl Tally {
    /// Counts a file that is where it should be.
    pub(super) fn done(&mut self, size: u64, moved: u64) {
        self.files += 1;
        self.bytes += size;
        self.moved += moved;
    }

    /// Counts a file that is not, and says why.
    pub(super) fn fail(&mut self, screen: &Screen, failure: &Failure) {
        self.failed += 1;
        screen.failure(failure);
    }

    /// Says the sums, and fails if any file did; `moved` is the word for what went over the wire.
    pub(super) fn end(&self, screen: &Screen, moved: &str) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Event {
            event: &'static str,
            #[serde(flatten)]
            tally: Tally,
        }
        let line = format!(
            "{}, {}: {} {moved}",
            words::count(self.files, "file", "files"),
            words::bytes(self.bytes),
            words::bytes(self.moved)
        );
        screen.outcome(&line, &Event { event: "summary", tally: *self });
        if self.failed == 0 {
            return Ok(());
        }
        let all = words::count(self.files + self.failed, "file", "files");
        let failure = Failure::new(Code::Failed, format!("{} of {all} failed", self.failed));
        Err(failure.hint("run the same command again: what is done is not done twice"))
    }
}
