//! The parts of an upload, several on the way at once. Owns the order: one task hashes ahead, in order, and the
//! lines follow with what turned out to be missing. Repeats nothing itself.
//!
//! ```text
//!   ask          may the server have it? ──▶ maybe: everything is dropped, and all of it hashed first
//!   hash ahead   v0 v1 v2 v3 v4 v5 …────────────▶ all known: claim ──▶ linked: everything else is dropped
//!   line 1          [0        ] [4     ]
//!   line 2             [1        ] [5     ]       a line waits for the value of its part, no longer
//! ```
//!
//! Every byte is hashed once, and read twice: to be hashed, and to be sent. The second time it comes from memory: where
//! no claim can succeed, hashing stays close to the lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hapax_proto::course::{Course, Prospect, decide_course};
use hapax_proto::dialect::native::Completed;
use hapax_proto::digest::FileHash;
use hapax_proto::resume::Step;
use hapax_proto::span::Length;
use hapax_proto::tree::{PartNumber, PartValue};
use hapax_proto::upload::Held;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Transfer;
use super::part::{Job, Line, Origin, PartEnd, send_part};
use super::plan::{Journal, Planned};
use super::recognise::{Asking, Hashing, Recognised, Subject, Told};
use crate::error::TransferError;
use crate::progress::Event;
use crate::source::{Facts, Source};
use crate::tasks::joined;

/// How many parts are hashed ahead of those that are being sent, where the hash of the whole is good for nothing yet: few
/// enough that they are still in memory when they are sent, many enough that no line ever waits.
const PARTS_AHEAD: usize = 8;

/// After how many stored parts the checkpoint is synced. A power cut then costs hashing that many again, and
/// sending none: what is there is the server's to say.
const PARTS_PER_SYNC: u32 = 16;

/// What a walk through the parts did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walked {
    /// Parts of which bytes were sent.
    pub(super) sent: u64,
    /// Bytes that were found to be there by comparing.
    pub(super) compared: Length,
    /// Whether the content was claimed, and is to be sent.
    pub(super) claimed: bool,
}

impl Walked {
    fn find(&mut self, length: Length) {
        self.compared = self.compared.checked_add(length).expect("no more is found than the source has");
    }
}

/// How a walk through the parts ended.
pub(super) enum Filled {
    /// Every part is there, and the value of each is known.
    All,
    /// The server may have the content: it is to be hashed before anything more is sent.
    HashFirst,
    /// The source changed on the way.
    Changed,
    /// The upload is not there any more.
    Gone(TransferError),
    /// The content was recognised.
    Instant { stored: Completed, blake3: FileHash },
}

/// What the tasks of a walk share.
struct Filling {
    line: Line,
    journal: Arc<Journal>,
    source: Source,
    facts: Facts,
    stored: AtomicU32,
}

/// Which task it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// The one that hashes ahead.
    Hashing,
    /// The one that claims.
    Claim,
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
    /// The claim was answered: the content is to be sent.
    Claimed,
    /// The content was recognised.
    Instant { stored: Completed, blake3: FileHash },
    /// The source changed.
    Changed,
    /// The upload is not there any more.
    Gone(TransferError),
}

type Tasks = JoinSet<(Task, Result<Ended, TransferError>)>;

/// Walks through the parts of a plan, while it is asked whether the server has the content.
pub(super) async fn fill(
    transfer: &Transfer,
    (source, facts): (&Source, Facts),
    planned: &Planned,
    (asking, walked): (&mut Asking, &mut Walked),
) -> Result<Filled, TransferError> {
    let course = if asking.is_empty() { Some(Course::Send) } else { None };
    let mut walk = Walk::begin(transfer, (source, facts), planned, course);
    let filled = walk.run(planned, asking, walked).await;
    // Nothing is on its way any more when this returns: what follows may be the end of the upload.
    walk.tasks.shutdown().await;
    filled
}

/// A walk through the parts.
struct Walk {
    filling: Arc<Filling>,
    subject: Subject,
    // Dropping the set ends every task in it.
    tasks: Tasks,
    /// How many steps have been given to lines, which the hashing follows.
    launched: watch::Sender<usize>,
    values: watch::Receiver<()>,
    lines: usize,
    /// Bytes that are not there when the walk begins.
    missing: Length,
    /// Unknown until the server has been asked.
    course: Option<Course>,
    is_hashed: bool,
    /// Set once: nothing more is begun.
    stopped: Option<Filled>,
}

impl Walk {
    fn begin(
        transfer: &Transfer,
        (source, facts): (&Source, Facts),
        planned: &Planned,
        course: Option<Course>,
    ) -> Self {
        let filling = Arc::new(Filling::new(transfer, source, facts, planned));
        let subject = Subject::new(transfer, source, facts);
        let (hashed, values) = watch::channel(());
        let (launched, follow) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let unread = planned.steps.iter().map(|(part, ..)| *part).collect();
        let hashing = hash_ahead(subject.clone(), Arc::clone(&filling), unread, (hashed, follow));
        tasks.spawn(async { (Task::Hashing, hashing.await) });
        Self {
            filling,
            subject,
            tasks,
            launched,
            values,
            lines: 0,
            missing: facts.size().checked_sub(planned.kept).unwrap_or(Length::ZERO),
            course,
            is_hashed: false,
            stopped: None,
        }
    }

    async fn run(
        &mut self,
        planned: &Planned,
        asking: &mut Asking,
        walked: &mut Walked,
    ) -> Result<Filled, TransferError> {
        let mut steps = planned.steps.iter();
        loop {
            while self.stopped.is_none() && self.lines < planned.parts_in_flight {
                let Some(step) = steps.next() else { break };
                let walking = Arc::clone(&self.filling).walk(*step, self.values.clone());
                self.tasks.spawn(async { (Task::Line, walking.await) });
                self.lines += 1;
                self.launched.send_modify(|launched| *launched = launched.saturating_add(1));
            }
            // Nobody waits for an answer that can save nothing any more.
            if self.lines == 0 && (self.is_hashed || self.stopped.is_some()) {
                return Ok(self.stopped.take().unwrap_or(Filled::All));
            }
            tokio::select! {
                Some(told) = asking.join_next() => {
                    if self.take(joined(told)) == Course::HashFirst {
                        return Ok(Filled::HashFirst);
                    }
                }
                Some(ended) = self.tasks.join_next() => {
                    let (task, ended) = joined(ended);
                    self.lines -= usize::from(task == Task::Line);
                    if let Some(filled) = self.note(ended?, walked) {
                        return Ok(filled);
                    }
                }
            }
        }
    }

    /// Takes what the server said, and returns the course that follows.
    fn take(&mut self, told: Told) -> Course {
        let prospect = Prospect { missing: self.still_missing(), claimed: false };
        let course = match decide_course(told.abilities, prospect, told.likeness) {
            // There is nothing to wait for.
            Course::HashFirst if self.is_hashed => Course::Overlap,
            course => course,
        };
        self.course = Some(course);
        if course == Course::Overlap {
            self.launched.send_replace(usize::MAX);
            self.claim_if_hashed();
        }
        course
    }

    /// Takes note of how a task ended; returns how the walk ends, if it does so at once.
    fn note(&mut self, ended: Ended, walked: &mut Walked) -> Option<Filled> {
        match ended {
            Ended::Unread => {}
            Ended::Hashed => {
                self.is_hashed = true;
                self.claim_if_hashed();
            }
            Ended::Sent(found) => {
                walked.sent += 1;
                walked.find(found);
            }
            Ended::Found(found) => walked.find(found),
            Ended::Claimed => walked.claimed = true,
            Ended::Instant { stored, blake3 } => return Some(Filled::Instant { stored, blake3 }),
            // What is on the way already is let through: most of it is as good as before.
            Ended::Changed => self.stopped = self.stopped.take().or(Some(Filled::Changed)),
            Ended::Gone(error) => self.stopped = Some(Filled::Gone(error)),
        }
        None
    }

    /// Claims the content when its hash is known, and much of it is still to be sent.
    fn claim_if_hashed(&mut self) {
        let prospect = Prospect { missing: self.still_missing(), claimed: false };
        if !self.is_hashed || self.course != Some(Course::Overlap) || !prospect.is_worth_a_claim() {
            return;
        }
        let subject = self.subject.clone();
        self.tasks.spawn(async move {
            let ended = subject.claim().await.map(|recognised| match recognised {
                Recognised::Linked { stored, blake3 } => Ended::Instant { stored, blake3 },
                Recognised::Not => Ended::Claimed,
                Recognised::Changed => Ended::Changed,
            });
            (Task::Claim, ended)
        });
    }

    fn still_missing(&self) -> Length {
        let durable = Length::new(self.filling.line.durable.load(Ordering::Relaxed));
        self.missing.checked_sub(durable).unwrap_or(Length::ZERO)
    }
}

/// Hashes, in order, every part whose value is not known, as far ahead as it is let.
async fn hash_ahead(
    subject: Subject,
    filling: Arc<Filling>,
    parts: Vec<PartNumber>,
    (hashed, mut launched): (watch::Sender<()>, watch::Receiver<usize>),
) -> Result<Ended, TransferError> {
    for (step, part) in parts.into_iter().enumerate() {
        if filling.journal.value(part).is_some() {
            continue;
        }
        let is_near = |launched: &usize| step < launched.saturating_add(PARTS_AHEAD);
        if launched.wait_for(is_near).await.is_err() {
            // The walk is over.
            return Ok(Ended::Unread);
        }
        if subject.hash_part(part).await? == Hashing::Changed {
            return Ok(Ended::Changed);
        }
        // Nobody waits if nothing of it is missing.
        let _ = hashed.send(());
    }
    Ok(Ended::Hashed)
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
        let journal = Arc::clone(&transfer.journal);
        Self { line, journal, source: source.clone(), facts, stored: AtomicU32::new(0) }
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
