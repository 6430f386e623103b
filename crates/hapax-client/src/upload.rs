//! The upload engine. Owns the rounds in which a source is brought to the server until both are proven equal; the
//! difference itself is found by `hapax_proto::resume`.
//!
//! ```text
//!   facts, cache ──claim──▶ linked: instant
//!        │ no
//!        ▼
//!   ┌─▶ plan ──▶ send ──▶ settle ──▶ complete ──▶ done
//!   │             ├─ the hash got known first: claim ──▶ linked: recognised
//!   │             └─ the server may have it: hash first, claim ──▶ linked: recognised
//!   └── the source changed, or the server holds something else than was thought (bounded)
//! ```
//!
//! Nothing in here distinguishes a first upload from a resumed one, and a part of a file that changes underneath is
//! a part that differs. A file of at most one part needs no upload resource: one request sends it, and repeats it.

mod plan;

mod part;

mod small;

mod settle;

mod recognise;

mod send;

mod batch;

mod stream;

use std::path::PathBuf;
use std::sync::Arc;

use hapax_proto::dialect::native::Completed;
use hapax_proto::retry::Policy;
use hapax_proto::span::Length;
use hapax_proto::tree::{PART, SEGMENT, part_count};

pub use self::batch::{Batched, Capacity, Small, batch_capacity, put_batch};
use self::plan::{Journal, Planned};
use self::recognise::{Recognised, Subject};
use self::send::{Filled, Walked};
use self::settle::Settled;
pub use self::stream::put_stream;
use crate::attempt::repeat;
use crate::checkpoint::{Direction, Log};
use crate::claim::{Target, cached, claim, remember};
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Counted, Event, Progress};
use crate::source::{Facts, Links, Source, Stamp, absolute};

/// How often a source may change, or an upload turn out to be another than was thought, before the put fails.
const ROUNDS_MAX: u32 = 5;

/// How often a cancellation is tried: the put has succeeded already, and somebody waits for it.
const CANCEL_ATTEMPTS: u32 = 3;

/// What to put where.
#[derive(Debug, Clone)]
pub struct Put {
    /// Where it should appear.
    pub target: Target,
    /// The media type to store; else the server guesses from the name.
    pub media_type: Option<String>,
    /// How requests are cut.
    pub cut: Cut,
    /// Whether the file may be a link to one.
    pub links: Links,
}

/// How an upload is cut into requests.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// How many parts are on the way at once, if the server does not allow fewer.
    pub parts_in_flight: usize,
    /// The most bytes of one request: a multiple of 64 KiB up to a part.
    run: Length,
}

impl Default for Cut {
    fn default() -> Self {
        Self { parts_in_flight: 4, run: PART }
    }
}

impl Cut {
    /// Limits the bytes of one request: rounded down to whole segments, at least one and at most a part. Short
    /// requests lose less where lines break often, and cost a round trip each.
    #[must_use]
    pub fn with_run(self, length: Length) -> Self {
        let segments = (length.get() / SEGMENT.get()).max(1);
        Self { run: Length::new(segments.saturating_mul(SEGMENT.get())).min(PART), ..self }
    }

    /// Returns the most bytes of one request.
    pub fn run(self) -> Length {
        self.run
    }
}

impl Put {
    /// Puts to a target, with nothing else wished for.
    pub fn new(target: Target) -> Self {
        Self { target, media_type: None, cut: Cut::default(), links: Links::default() }
    }
}

/// What came of a put.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// In which way the content got there.
    pub how: How,
    /// What is stored.
    pub stored: Completed,
}

/// In which way a content got to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The server had it already, and nothing was sent.
    Instant,
    /// The server had it already, which turned out while it was sent.
    Recognised {
        /// How many bytes had been sent by then, in this session and in those that it continued.
        after: Length,
        /// How many bytes were not sent.
        saved: Length,
    },
    /// It was sent from the start.
    Sent,
    /// An earlier transfer was continued.
    Resumed {
        /// How many bytes were proven to be there.
        kept: Length,
    },
    /// The source was another version than the one that an earlier round, or session, had begun to send.
    Changed {
        /// How many parts were sent since.
        sent: u64,
        /// How many parts there are.
        parts: u64,
    },
}

/// Puts a local file. The same call again, in any process, goes on where this one was ended.
///
/// # Errors
/// [`TransferError::SourceChanged`] if the file changed more often than it could be sent. Whatever the error, what
/// was sent is kept, except where the advice is to restart.
pub async fn put_file(
    client: &Client,
    source: &std::path::Path,
    put: &Put,
    progress: &Arc<dyn Progress>,
) -> Result<Outcome, TransferError> {
    let path = absolute(source)?;
    let remote = put.target.path.to_string();
    let key = client.key(Direction::Put, &path, &remote);
    let (opened, facts) = Source::open_if(&path, put.links).await?;
    let known = cached(client, &path, &facts).await;
    // A small file has a checkpoint only if it was larger once; then its upload is to be cancelled.
    if facts.size() <= PART && !client.checkpoints().join(key.file_name()).exists() {
        return small::put_small(client, &path, put, progress).await;
    }
    let (log, records) = Log::open(client.checkpoints(), &key).await?;
    let counted = Arc::new(Counted::new(progress));
    let transfer = Transfer {
        client: client.clone(),
        put: put.clone(),
        path: path.clone(),
        journal: Arc::new(Journal::new(log, records)),
        progress: Arc::clone(&counted) as _,
        counted,
    };
    let before = transfer.journal.stored_bytes(facts.size());
    let mut tally = Tally { before, ..Tally::default() };
    if let Some(blake3) = known {
        if let Some(stored) = claim(client, &put.target, &opened, (&facts, blake3), progress).await? {
            transfer.end(facts).await?;
            return Ok(Outcome { how: How::Instant, stored });
        }
        tally.claimed = Some(facts);
    }
    let journal = Arc::clone(&transfer.journal);
    let outcome = transfer.run(tally).await;
    if outcome.is_err() {
        journal.tidy().await?;
    }
    outcome
}

/// One put of a file that has a checkpoint.
struct Transfer {
    client: Client,
    put: Put,
    path: PathBuf,
    journal: Arc<Journal>,
    progress: Arc<dyn Progress>,
    /// The same, for its count.
    counted: Arc<Counted>,
}

/// What became of one round.
enum Round {
    /// The content is stored.
    Stored(Completed),
    /// The server had it already.
    Recognised(Completed),
    /// The source is another version now.
    Changed,
    /// The server holds something else than was thought.
    Otherwise(TransferError),
}

/// What all rounds of a put did together.
#[derive(Default)]
struct Tally {
    /// Bytes found to be there in the first round.
    kept: Option<Length>,
    /// Bytes that earlier sessions sent, as the checkpoint tells.
    before: Length,
    /// Whether any round, or an earlier session, had another version before it.
    changed: bool,
    /// Parts sent.
    sent: u64,
    /// The version that was claimed already, and is to be sent.
    claimed: Option<Facts>,
}

impl Tally {
    /// Forgets what was found to be there: it went with the upload.
    fn forget_kept(&mut self) {
        (self.kept, self.before) = (None, Length::ZERO);
    }

    /// Takes in what one walk through the parts did.
    fn add(&mut self, walked: Walked, facts: Facts) {
        self.sent += walked.sent;
        self.kept = self.kept.map(|kept| kept.checked_add(walked.compared).unwrap_or(kept));
        if walked.claimed {
            self.claimed = Some(facts);
        }
    }
}

impl Transfer {
    async fn run(self, mut tally: Tally) -> Result<Outcome, TransferError> {
        let mut failure = None;
        for _ in 0..ROUNDS_MAX {
            let (source, facts) = Source::open_if(&self.path, self.put.links).await?;
            if facts.size() <= PART {
                self.end(facts).await?;
                return small::put_small(&self.client, &self.path, &self.put, &self.progress).await;
            }
            match self.round(&source, facts, &mut tally).await? {
                Round::Stored(stored) => {
                    let how = how(&tally, facts);
                    self.finish().await?;
                    return Ok(Outcome { how, stored });
                }
                Round::Recognised(stored) => {
                    let how = recognised(&tally, self.counted.moved(), facts);
                    self.end(facts).await?;
                    return Ok(Outcome { how, stored });
                }
                Round::Changed => {
                    tracing::debug!(path = %self.path.display(), "the source changed");
                    self.progress.event(Event::Changed);
                    (tally.changed, failure) = (true, None);
                }
                Round::Otherwise(error) => {
                    tracing::debug!(%error, "planning again");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or(TransferError::SourceChanged { path: self.path, rounds: ROUNDS_MAX }))
    }

    /// Brings the server as close to the source as one look at both allows.
    async fn round(&self, source: &Source, facts: Facts, tally: &mut Tally) -> Result<Round, TransferError> {
        let begun = Stamp::now();
        tally.changed |= self.journal.adopt(facts).await?;
        let subject = Subject::new(self, source, facts);
        let mut asking = subject.ask(tally.claimed);
        loop {
            let planned = match plan::plan(self, facts).await {
                // Gone between two looks at it; the next round begins anew.
                Err(error) if is_gone(&error) && self.journal.upload().is_some() => {
                    return self.gone(error).await;
                }
                planned => planned?,
            };
            tally.kept.get_or_insert(planned.kept);
            self.progress.event(Event::Begun { size: Some(facts.size()), kept: planned.kept });
            let mut walked = Walked::default();
            let filled = send::fill(self, (source, facts), &planned, (&mut asking, &mut walked)).await;
            tally.add(walked, facts);
            match filled? {
                Filled::Instant { stored, blake3 } => {
                    remember(&self.client, &self.path, (&facts, begun), blake3).await;
                    return Ok(Round::Recognised(stored));
                }
                Filled::Changed => return Ok(Round::Changed),
                Filled::Gone(error) => return self.gone(error).await,
                Filled::All => return self.settle(source, (facts, begun), &planned, tally).await,
                Filled::HashFirst => match subject.hash_first().await? {
                    Recognised::Linked { stored, blake3 } => {
                        remember(&self.client, &self.path, (&facts, begun), blake3).await;
                        return Ok(Round::Recognised(stored));
                    }
                    Recognised::Changed => return Ok(Round::Changed),
                    // Nobody is asked again; what arrived before is kept.
                    Recognised::Not => tally.claimed = Some(facts),
                },
            }
        }
    }

    /// Publishes what is there, if it is one version of the source.
    async fn settle(
        &self,
        source: &Source,
        (facts, begun): (Facts, Stamp),
        planned: &Planned,
        tally: &mut Tally,
    ) -> Result<Round, TransferError> {
        match settle::settle(self, source, facts, planned).await? {
            Settled::Stored { stored, blake3 } => {
                remember(&self.client, &self.path, (&facts, begun), blake3).await;
                Ok(Round::Stored(stored))
            }
            Settled::Linked { stored, blake3 } => {
                tally.forget_kept();
                remember(&self.client, &self.path, (&facts, begun), blake3).await;
                Ok(Round::Recognised(stored))
            }
            Settled::Changed => Ok(Round::Changed),
            Settled::Gone(error) => {
                tally.forget_kept();
                if planned.is_done {
                    tally.claimed = Some(facts);
                }
                self.gone(error).await
            }
            Settled::Otherwise(error) => Ok(Round::Otherwise(error)),
        }
    }

    /// Forgets an upload that the server does not have any more.
    async fn gone(&self, error: TransferError) -> Result<Round, TransferError> {
        self.journal.forget_upload().await?;
        Ok(Round::Otherwise(error))
    }

    /// Removes the checkpoint: its upload became a file.
    async fn finish(&self) -> Result<(), TransferError> {
        self.progress.event(Event::Done);
        self.journal.remove().await
    }

    /// Cancels the upload, if there is one, and removes the checkpoint. Where the server does not answer, the checkpoint
    /// stays: with it, the same put again cancels the upload that this one left.
    async fn end(&self, facts: Facts) -> Result<(), TransferError> {
        match self.cancel(facts).await {
            Err(error) if !is_gone(&error) => {
                tracing::debug!(%error, "the upload stays");
                self.progress.event(Event::Done);
                Ok(())
            }
            _ => self.finish().await,
        }
    }

    async fn cancel(&self, facts: Facts) -> Result<(), TransferError> {
        let patience = self.client.policy.attempts_max.min(CANCEL_ATTEMPTS);
        let policy = Arc::new(Policy { attempts_max: patience, ..(*self.client.policy).clone() });
        if self.journal.is_unheard() {
            plan::create(self, facts, None).await?;
        }
        let Some(id) = self.journal.upload() else { return Ok(()) };
        repeat(&policy, &self.progress, || self.client.api.cancel_upload(&id)).await
    }
}

/// Tells whether an error means that there is no such upload any more.
fn is_gone(error: &TransferError) -> bool {
    use hapax_proto::problem::Kind;
    matches!(error.problem(), Some(Kind::UploadGone | Kind::NotFound | Kind::AlreadyComplete))
}

/// Says how much of a content that was linked had been sent.
fn recognised(tally: &Tally, moved: Length, facts: Facts) -> How {
    // Bytes that were lost on their way count once more than the source has them.
    let before = tally.kept.unwrap_or(Length::ZERO).max(tally.before);
    let after = moved.checked_add(before).unwrap_or(moved).min(facts.size());
    let saved = facts.size().checked_sub(after).unwrap_or(Length::ZERO);
    if after.is_zero() { How::Instant } else { How::Recognised { after, saved } }
}

fn how(tally: &Tally, facts: Facts) -> How {
    match tally.kept {
        _ if tally.changed => How::Changed { sent: tally.sent, parts: part_count(facts.size()) },
        Some(kept) if !kept.is_zero() => How::Resumed { kept },
        _ => How::Sent,
    }
}
