//! Downloads from servers that are not ours. Owns the rounds in which a local file becomes one version of whatever an
//! address names; whether an answer belongs to that version is decided by `hapax_proto::pin::foreign`, and nothing
//! is believed of a server but what it said in the answer at hand.
//!
//! ```text
//!   GET, bytes=0- ──▶ pinned: pieces over several connections ──▶ name.part ──▶ digests ──▶ rename
//!                │      └ another version: anew                     ▲
//!                └──▶ nothing pins it: one answer, anew if it breaks┘
//! ```
//!
//! A piece is recorded only after its bytes are on disk, so the same call again goes on from there, if a validator or
//! a digest shows that it is still the same file. Two versions never meet in one file: each begins its own.

mod address;

mod line;

mod probe;

mod plan;

mod fill;

mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use hapax_proto::digest::{Algorithm, Digests};
use hapax_proto::pin::Refusal;
use hapax_proto::pin::foreign::{End, Opening, Remedy, remedy};
use hapax_proto::problem::Advice;
use hapax_proto::retry::Policy;
use hapax_proto::span::Length;

pub use self::address::Address;
use self::line::Line;
use self::plan::{Begun, Record, begin, digests_of, forget, last_version, note_whole, published, recall};
use self::probe::open;
pub use self::stream::{Streamed, fetch_stream};
use crate::attempt::Attempts;
use crate::checkpoint::{Direction, Key, Log};
pub use crate::download::How;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::sink::{Finish, Overwrite};
use crate::source::absolute;
use crate::wire::{Deadlines, Wire};

/// How often a file may turn out to be another version than before, until the fetch fails.
const ROUNDS_MAX: u32 = 5;

/// After how many of them no two answers are put together any more: servers behind one address may differ for ever.
const RANGED_ROUNDS_MAX: u32 = 2;

/// A good value of [`Manners::beat`]: what a crash costs is what came since, and a sync is not free.
pub const BEAT: Duration = Duration::from_secs(1);

/// How other people's servers are asked.
#[derive(Debug, Clone)]
pub struct Manners {
    /// The folder of the checkpoints; made on first use.
    pub checkpoints: PathBuf,
    /// How long a connection may take to come up, and how long it may bring nothing, or hardly anything.
    pub deadlines: Deadlines,
    /// How patient transfers are.
    pub patience: Policy,
    /// How often what came is made durable, and measured whether more connections pay.
    pub beat: Duration,
}

/// The way to any server. Clones share everything.
#[derive(Debug, Clone)]
pub struct Web {
    wire: Wire,
    policy: Arc<Policy>,
    checkpoints: Arc<Path>,
    stall: Duration,
    beat: Duration,
}

impl Web {
    /// Prepares to ask servers. Nothing is sent yet.
    pub fn new(manners: Manners) -> Result<Self, TransferError> {
        Ok(Self {
            wire: Wire::to_any(manners.deadlines)?,
            policy: Arc::new(manners.patience),
            checkpoints: manners.checkpoints.into(),
            stall: manners.deadlines.idle,
            beat: manners.beat,
        })
    }
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To this path.
    File(PathBuf),
    /// Into this folder, under the name that its server or its address suggests.
    Folder(PathBuf),
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// What names it.
    pub address: Address,
    /// Where it goes.
    pub target: Target,
    /// Whether a local file may be replaced.
    pub overwrite: Overwrite,
    /// Digests that it must have.
    pub digests: Digests,
    /// The most connections that are used at once.
    pub connections: usize,
}

/// What came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// In which way the content got here.
    pub how: How,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size: Length,
    /// What shows that it is whole.
    pub proof: Proof,
}

/// What shows that a file is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It has the digest that it should have.
    Digest(Algorithm),
    /// It is as long as its server said, or its end was marked; all of it came from one version.
    Length,
    /// Nothing: its server said no length and ended the connection, as a broken line does.
    Unverified,
}

/// Fetches a file. The same call again, in any process, goes on where this one was ended.
///
/// # Errors
/// [`TransferError::TargetExists`] if something has the name and may not be replaced, [`TransferError::NoRoom`] if it
/// is too large, [`TransferError::DigestMismatch`] if it is not what it should be, [`TransferError::Unusable`] if its
/// server contradicts itself. Whatever the error, what was pinned and on disk is kept.
pub async fn fetch_file(
    web: &Web,
    fetch: &Fetch,
    progress: &Arc<dyn Progress>,
) -> Result<Fetched, TransferError> {
    let (Target::File(local) | Target::Folder(local)) = &fetch.target;
    let local = absolute(local)?;
    let key = Key {
        direction: Direction::Get,
        server: "",
        user: "",
        local: &local,
        remote: fetch.address.as_str(),
    };
    let (log, records) = Log::open(&web.checkpoints, &key).await?;
    let log = Arc::new(log);
    let line = Line::new(web, &fetch.address, progress);
    let mut rounds = Rounds {
        fetch,
        line: &line,
        log: &log,
        progress,
        changes: 0,
        opening: Opening::Range,
        stated: None,
        stale: Vec::new(),
        is_counted: false,
    };
    let fetched = rounds.walk(records, &local).await;
    match &fetched {
        Ok(_) => {
            log.remove().await?;
            progress.event(Event::Done);
        }
        Err(_) => log.tidy().await?,
    }
    fetched
}

/// The rounds of one fetch.
struct Rounds<'a> {
    fetch: &'a Fetch,
    line: &'a Line,
    log: &'a Arc<Log<Record>>,
    progress: &'a Arc<dyn Progress>,
    /// How often it turned out to be another version.
    changes: u32,
    /// Whether ranges are relied on.
    opening: Opening,
    /// The size that answers with ranges stated, once they are not relied on any more.
    stated: Option<Length>,
    /// Records of what is not gone on with. They are forgotten once something else begins, because until then they
    /// tell what kind of file there was.
    stale: Vec<Record>,
    /// Whether the present round began because of a change that is counted already.
    is_counted: bool,
}

impl Rounds<'_> {
    /// Fetches one version after the other, until one is whole.
    async fn walk(&mut self, mut records: Vec<Record>, local: &Path) -> Result<Fetched, TransferError> {
        if let Some(there) = self.look(&records, local).await? {
            forget(self.log, records).await?;
            return Ok(there);
        }
        let mut anew = Attempts::new(self.line.policy(), self.progress, 0);
        let mut mismatches = 0;
        loop {
            let begun = self.begun(std::mem::take(&mut records)).await?;
            let failed = match self.round(&begun).await {
                Ok(fetched) => return Ok(fetched),
                Err(failed) => failed,
            };
            match failed {
                TransferError::Changed { .. } => self.changed()?,
                TransferError::Unusable { ref refusal, .. }
                    if remedy(refusal) == Remedy::Whole && self.opening == Opening::Range =>
                {
                    tracing::warn!(address = %self.fetch.address, %failed, "ranges are not relied on any more");
                    self.opening = Opening::Plain;
                    self.stated = begun.version.size;
                }
                TransferError::DigestMismatch { .. } if mismatches == 0 => {
                    mismatches += 1;
                    self.opening = Opening::Plain;
                }
                failed if begun.goes_on(self.opening) && !is_false(&failed) => return Err(failed),
                // Nothing of it could be gone on with.
                failed => {
                    if let Err(failed) = anew.after(failed, 0).await {
                        forget(self.log, begun.records()).await?;
                        return Err(failed);
                    }
                }
            }
            self.progress.event(Event::Lost(begun.sink.length().await?));
            self.stale.extend(begun.records());
        }
    }

    /// Tells whether the local file is what is asked for already.
    async fn look(&self, records: &[Record], local: &Path) -> Result<Option<Fetched>, TransferError> {
        if self.fetch.overwrite == Overwrite::Replace {
            return Ok(None);
        }
        if self.fetch.digests.is_empty()
            && let Some((path, size, version)) = published(records).await?
        {
            let proof = if version.size.is_some() { Proof::Length } else { Proof::Unverified };
            return Ok(Some(Fetched { how: How::There, path, size, proof }));
        }
        match self.fetch.target {
            Target::Folder(_) => Ok(None),
            Target::File(_) => self.free(local).await,
        }
    }

    /// Demands that nothing has the name of the target, unless it has the very digest that is asked for.
    async fn free(&self, target: &Path) -> Result<Option<Fetched>, TransferError> {
        if self.fetch.overwrite == Overwrite::Replace || target.symlink_metadata().is_err() {
            return Ok(None);
        }
        let taken = || TransferError::TargetExists { path: target.to_owned() };
        let Some(expected) = self.fetch.digests.iter().next() else { return Err(taken()) };
        let (found, size) = digests_of(target, self.fetch.digests.algorithms()).await?;
        if found.disagreement(&self.fetch.digests).is_some() {
            return Err(taken());
        }
        let proof = Proof::Digest(expected.algorithm());
        Ok(Some(Fetched { how: How::There, path: target.to_owned(), size, proof }))
    }

    /// Goes on with what the checkpoint knows, or begins anew with a first answer.
    async fn begun(&mut self, records: Vec<Record>) -> Result<Begun, TransferError> {
        if self.opening == Opening::Range
            && let Some(begun) = recall(&records, &self.fetch.digests).await?
        {
            return Ok(begun);
        }
        self.stale.extend(records);
        let before = last_version(&self.stale);
        let opened = open(self.line, self.opening, (&self.fetch.digests, before.as_ref())).await?;
        forget(self.log, std::mem::take(&mut self.stale)).await?;
        // A line that breaks may hide that each answer brings another version.
        let is_other = before.is_some_and(|before| opened.version.is_other_than(&before));
        if is_other && !std::mem::take(&mut self.is_counted) {
            self.changed()?;
        }
        self.is_counted = false;
        let target = match &self.fetch.target {
            Target::File(path) => absolute(path)?,
            Target::Folder(folder) => absolute(&folder.join(&opened.name))?,
        };
        if self.free(&target).await?.is_some() {
            return Err(TransferError::TargetExists { path: target });
        }
        begin(self.log, (target, opened), &self.fetch.digests).await
    }

    /// Fetches what is missing of one version, and gives it its name.
    async fn round(&self, begun: &Begun) -> Result<Fetched, TransferError> {
        self.progress.event(Event::Begun { size: begun.version.size, kept: begun.kept });
        let end = match &begun.held {
            Some(held) if begun.goes_on(self.opening) => {
                fill::pieces(self.line, (begun, held), self.log, self.fetch.connections).await?;
                End::Marked
            }
            _ => fill::one_answer(self.line, begun).await?,
        };
        let (size, proof) = self.prove(begun, end).await?;
        let modified = begun.version.modified.map(|date| UNIX_EPOCH + Duration::from_secs(date.seconds()));
        let finish = Finish { overwrite: self.fetch.overwrite, modified, executable: false };
        note_whole(self.log, &begun.sink, size).await?;
        begun.sink.clone().publish(&begun.target, finish).await?;
        let how = match begun.kept {
            _ if self.changes > 0 => How::Changed,
            kept if kept.is_zero() => How::Fetched,
            kept => How::Resumed { kept },
        };
        Ok(Fetched { how, path: begun.target.clone(), size, proof })
    }

    /// Demands that the file has the length and the digests that were stated for it.
    async fn prove(&self, begun: &Begun, end: End) -> Result<(Length, Proof), TransferError> {
        let size = begun.sink.length().await?;
        let stated = begun.version.size.or(self.stated);
        if let Some(expected) = stated.filter(|expected| *expected != size) {
            let refusal = Refusal::OtherLength { expected };
            return Err(TransferError::Unusable { path: self.fetch.address.to_string(), refusal });
        }
        let mut expected = begun.version.digests.clone();
        for digest in self.fetch.digests.iter() {
            expected.insert(digest);
        }
        let Some(first) = self.fetch.digests.iter().chain(expected.iter()).next() else {
            let shown = begun.version.size.is_some() || end == End::Marked;
            return Ok((size, if shown { Proof::Length } else { Proof::Unverified }));
        };
        let (found, _) = digests_of(begun.sink.path(), expected.algorithms()).await?;
        match found.disagreement(&expected) {
            Some((actual, expected)) => {
                let path = self.fetch.address.to_string();
                Err(TransferError::DigestMismatch {
                    path,
                    expected: Box::new(expected),
                    actual: Box::new(actual),
                })
            }
            None => Ok((size, Proof::Digest(first.algorithm()))),
        }
    }

    fn changed(&mut self) -> Result<(), TransferError> {
        self.progress.event(Event::Changed);
        self.changes += 1;
        self.is_counted = true;
        if self.changes >= ROUNDS_MAX {
            let path = self.fetch.address.to_string();
            return Err(TransferError::Unsettled { path, rounds: ROUNDS_MAX });
        }
        if self.changes >= RANGED_ROUNDS_MAX {
            self.opening = Opening::Plain;
        }
        Ok(())
    }
}

/// Tells whether what arrived is known to be something else than what was asked for, so that it is not kept.
fn is_false(error: &TransferError) -> bool {
    matches!(error, TransferError::DigestMismatch { .. })
        || matches!(error, TransferError::Unusable { refusal: Refusal::OtherLength { .. }, .. })
        || error.advice() == Advice::Restart
}
