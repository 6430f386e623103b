//! The parts of an upload, several on the way at once. Owns the order: one task hashes ahead, in order, and the
//! lines follow with what turned out to be missing. Repeats nothing itself.
//!
//! ```text
//!   hash ahead   v0 v1 v2 v3 v4 v5 …────────────▶ all known: claim ──▶ linked: everything else is dropped
//!   line 1          [0        ] [4     ]
//!   line 2             [1        ] [5     ]       a line waits for the value of its part, no longer
//! ```
//!
//! Every byte is hashed once, and read twice: to be hashed, and to be sent. The second time it comes from memory,
//! unless the line is so slow that reading is no matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hapax_proto::dialect::native::Completed;
use hapax_proto::resume::Step;
use hapax_proto::span::Length;
use hapax_proto::tree::{PART, PartNumber, PartValue, merge_parts, part_count};
use hapax_proto::upload::Held;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Transfer;
use super::part::{Job, Line, Origin, PartEnd, send_part};
use super::plan::{Journal, Planned};
use super::settle::is_still;
use crate::claim::{Target, claim};
use crate::error::TransferError;
use crate::progress::Event;
use crate::source::{Facts, Source};
use crate::tasks::joined;

/// After how many stored parts the checkpoint is synced. A power cut then costs hashing that many again, and
/// sending none: what is there is the server's to say.
const PARTS_PER_SYNC: u32 = 16;

/// What a walk through the parts did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walked {
    /// Parts of which bytes were sent.
    sent: u64,
    /// Bytes that were found to be there by comparing.
    compared: Length,
}

impl Walked {
    fn find(&mut self, length: Length) {
        self.compared = self.compared.checked_add(length).expect("no more is found than the source has");
    }
}

/// How a walk through the parts ended.
pub(super) enum Filled {
    /// Every part is there, and the value of each is known.
    All { walked: Walked },
    /// The source changed on the way.
    Changed { walked: Walked },
    /// The upload is not there any more.
    Gone { walked: Walked, error: TransferError },
    /// The content was recognised.
    Instant(Completed),
}

impl Filled {
    /// Returns how many parts were sent.
    pub(super) fn sent(&self) -> u64 {
        self.walked().sent
    }

    /// Returns how many bytes were found to be there.
    pub(super) fn compared(&self) -> Length {
        self.walked().compared
    }

    fn walked(&self) -> Walked {
        match self {
            Self::All { walked } | Self::Changed { walked } | Self::Gone { walked, .. } => *walked,
            Self::Instant(_) => Walked::default(),
        }
    }
}

/// What the tasks of a walk share.
struct Filling {
    line: Line,
    target: Target,
    journal: Arc<Journal>,
    source: Source,
    facts: Facts,
    /// Bytes that are not there when the walk begins.
    missing: Length,
    stored: AtomicU32,
}

/// Which task it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// The one that hashes ahead.
    Hashing,
    /// One that walked a part.
    Line,
}

/// What became of one task.
enum Ended {
    /// A part was sent and is there; so many of its bytes were found to be there before.
    Sent(Length),
    /// A part was found to be there, so many bytes.
    Found(Length),
    /// A part has no value: the hashing ended before it.
    Unread,
    /// All parts are hashed.
    Hashed,
    /// The content was recognised.
    Instant(Completed),
    /// The source changed.
    Changed,
    /// The upload is not there any more.
    Gone(TransferError),
}

/// Walks through the parts of a plan.
pub(super) async fn fill(
    transfer: &Transfer,
    source: &Source,
    facts: Facts,
    planned: &Planned,
) -> Result<Filled, TransferError> {
    let filling = Arc::new(Filling::new(transfer, source, facts, planned));
    let (hashed, values) = watch::channel(());
    // Dropping the set ends every task in it.
    let mut tasks = JoinSet::new();
    let unread = planned.steps.iter().map(|(part, ..)| *part).collect();
    let hashing = Arc::clone(&filling).hash_ahead(unread, hashed);
    tasks.spawn(async { (Task::Hashing, hashing.await) });
    let mut walked = Walked::default();
    let mut steps = planned.steps.iter();
    let mut stopped = None;
    let mut lines = 0;
    loop {
        while stopped.is_none() && lines < planned.parts_in_flight {
            let Some(step) = steps.next() else { break };
            let walking = Arc::clone(&filling).walk(*step, values.clone());
            tasks.spawn(async { (Task::Line, walking.await) });
            lines += 1;
        }
        let Some(ended) = tasks.join_next().await else { break };
        let (task, ended) = joined(ended);
        lines -= usize::from(task == Task::Line);
        let ended = ended?;
        match ended {
            Ended::Hashed | Ended::Unread => {}
            Ended::Sent(found) => {
                walked.sent += 1;
                walked.find(found);
            }
            Ended::Found(found) => walked.find(found),
            Ended::Instant(completed) => return Ok(Filled::Instant(completed)),
            // What is on the way already is let through: most of it is as good as before.
            Ended::Changed => stopped = stopped.or(Some(None)),
            Ended::Gone(error) => stopped = Some(Some(error)),
        }
    }
    Ok(match stopped {
        None => Filled::All { walked },
        Some(None) => Filled::Changed { walked },
        Some(Some(error)) => Filled::Gone { walked, error },
    })
}

impl Filling {
    fn new(transfer: &Transfer, source: &Source, facts: Facts, planned: &Planned) -> Self {
        let line = Line {
            client: transfer.client.clone(),
            id: planned.id.as_str().into(),
            run: transfer.put.cut.run(),
            progress: Arc::clone(&transfer.progress),
            durable: Arc::new(AtomicU64::new(0)),
        };
        Self {
            line,
            target: transfer.put.target.clone(),
            journal: Arc::clone(&transfer.journal),
            source: source.clone(),
            facts,
            missing: facts.size().checked_sub(planned.kept).unwrap_or(Length::ZERO),
            stored: AtomicU32::new(0),
        }
    }

    /// Hashes, in order, every part whose value is not known. If much is still missing when the last one is, the
    /// content is claimed.
    async fn hash_ahead(
        self: Arc<Self>,
        parts: Vec<PartNumber>,
        hashed: watch::Sender<()>,
    ) -> Result<Ended, TransferError> {
        let size = self.facts.size();
        for part in parts {
            if self.journal.value(part).is_some() {
                continue;
            }
            let span = part.span(size).expect("a plan has the parts of its size");
            let Some(done) = self.source.hash_part(part, span, self.facts).await? else {
                return Ok(Ended::Changed);
            };
            self.journal.hashed(part, &done).await?;
            self.line.progress.event(Event::Hashed(span.length()));
            // Nobody waits if nothing of it is missing.
            let _ = hashed.send(());
        }
        drop(hashed);
        let blake3 = self.journal.values(part_count(size)).and_then(|values| merge_parts(&values));
        let durable = Length::new(self.line.durable.load(Ordering::Relaxed));
        let much_is_missing = self.missing.checked_sub(durable).is_some_and(|missing| missing > PART);
        let Some(blake3) = blake3.filter(|_| much_is_missing) else { return Ok(Ended::Hashed) };
        if !is_still(&self.journal, &self.source, self.facts).await? {
            return Ok(Ended::Changed);
        }
        let line = &self.line;
        let ours = (&self.facts, blake3);
        let claimed = claim(&line.client, &self.target, &self.source, ours, &line.progress).await?;
        Ok(claimed.map_or(Ended::Hashed, Ended::Instant))
    }

    /// Does what is to be done with one part, as soon as its value is known.
    async fn walk(
        self: Arc<Self>,
        (part, step, held): (PartNumber, Step, Held),
        values: watch::Receiver<()>,
    ) -> Result<Ended, TransferError> {
        let span = part.span(self.facts.size()).expect("a plan has the parts of its size");
        let Some(value) = self.value(part, values).await else { return Ok(Ended::Unread) };
        if step == Step::Keep {
            return Ok(Ended::Found(Length::ZERO));
        }
        let from = match self.journal.decide(self.facts.size(), part, held) {
            Step::Send { from } => from,
            Step::Keep | Step::Compare => {
                self.line.progress.event(Event::Solid(span.length()));
                return Ok(Ended::Found(span.length()));
            }
        };
        // What the plan knew of was counted there.
        let found = if step == Step::Compare { from } else { Length::ZERO };
        if !found.is_zero() {
            self.line.progress.event(Event::Solid(found));
        }
        self.journal.sending(part, value).await?;
        let origin = Origin::File { source: self.source.clone(), facts: self.facts };
        match send_part(&self.line, Job { origin, part, span, value, from }).await? {
            PartEnd::Stored => {
                self.journal.stored(part).await?;
                if self.stored.fetch_add(1, Ordering::Relaxed) % PARTS_PER_SYNC == PARTS_PER_SYNC - 1 {
                    self.journal.sync().await?;
                }
                Ok(Ended::Sent(found))
            }
            PartEnd::Changed => {
                self.journal.forget_value(part);
                Ok(Ended::Changed)
            }
            PartEnd::Gone(error) => Ok(Ended::Gone(error)),
        }
    }

    /// Waits for the value of a part; `None` if the hashing ended without it.
    async fn value(&self, part: PartNumber, mut values: watch::Receiver<()>) -> Option<PartValue> {
        loop {
            if let Some(value) = self.journal.value(part) {
                return Some(value);
            }
            if values.changed().await.is_err() {
                // It may have been the very last one.
                return self.journal.value(part);
            }
        }
    }
}
