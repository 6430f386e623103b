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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Files that are where they should be.
    pub(super) files: u64,
    /// Their sizes together.
    pub(super) bytes: u64,
    /// What went over the wire for them.
    pub(super) moved: u64,
    /// Files that are not.
    pub(super) failed: u64,
    /// Folders that are not; what lies in them is counted by itself.
    #[serde(skip)]
    folders: u64,
    /// What to do about the failures, each once.
    #[serde(skip)]
    hints: Vec<String>,
}

impl Tally {
    /// Counts a file that is where it should be.
    pub(super) fn done(&mut self, size: u64, moved: u64) {
        self.files += 1;
        self.bytes += size;
        self.moved += moved;
    }

    /// Counts a file that is not, and says why. What to do about it is said at the end, once for all.
    pub(super) fn fail(&mut self, screen: &Screen, failure: &Failure) {
        self.failed += 1;
        self.tell(screen, failure);
    }

    /// Tells whether nothing failed so far.
    pub(super) fn is_clean(&self) -> bool {
        self.failed == 0 && self.folders == 0
    }

    /// Counts a folder that is not, and says why.
    pub(super) fn fail_folder(&mut self, screen: &Screen, failure: &Failure) {
        self.folders += 1;
        self.tell(screen, failure);
    }

    fn tell(&mut self, screen: &Screen, failure: &Failure) {
        screen.failed(failure);
        self.hints.extend(failure.hint.clone().filter(|hint| !self.hints.contains(hint)));
    }

    /// Says what to do about what failed.
    pub(super) fn say_hints(&self, screen: &Screen) {
        self.hints.iter().for_each(|hint| screen.hint(hint));
    }

    /// Says what failed in a few words, if anything did.
    fn sentence(&self) -> Option<String> {
        let files = (self.failed > 0).then(|| {
            let all = words::count(self.files + self.failed, "file", "files");
            format!("{} of {all}", self.failed)
        });
        let folders = (self.folders > 0).then(|| words::count(self.folders, "folder", "folders"));
        let failed = files.into_iter().chain(folders).collect::<Vec<_>>();
        (!failed.is_empty()).then(|| format!("{} failed", failed.join(" and ")))
    }

    /// Says the sums, and fails if any file did; `moved` is the word for what went over the wire.
    pub(super) fn end(&self, screen: &Screen, moved: &str) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Event<'a> {
            event: &'static str,
            #[serde(flatten)]
            tally: &'a Tally,
        }
        let line = format!(
            "{}, {}: {} {moved}",
            words::count(self.files, "file", "files"),
            words::bytes(self.bytes),
            words::bytes(self.moved)
        );
        screen.outcome(&line, &Event { event: "summary", tally: self });
        let Some(sentence) = self.sentence() else { return Ok(()) };
        self.say_hints(screen);
        let failure = Failure::new(Code::Failed, sentence);
        Err(failure.hint("run the same command again: what is done is not done twice"))
    }
}
