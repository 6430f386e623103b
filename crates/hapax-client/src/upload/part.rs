//! One part, sent until the server has it. Owns the repetition of one part's requests and the question, after each
//! failure, how much of it arrived; knows neither the plan nor the other parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hapax_proto::dialect::native::StoredPart;
use hapax_proto::problem::Kind;
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PartNumber, PartValue};
use hapax_proto::upload::Held;

use super::is_gone;
use crate::api::PartRun;
use crate::attempt::Attempts;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::source::{Facts, PIECE, Source, behind};
use crate::wire::{Content, Meter, Payload, Pieces};

/// Where the bytes of a part come from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// From a file of these facts.
    File { source: Source, facts: Facts },
    /// From memory, which holds the part and nothing else.
    Memory(Bytes),
}

impl Origin {
    fn pieces(&self, part: PartNumber, span: Span) -> Pieces {
        match self {
            Self::File { source, .. } => Pieces::Reading(source.read(span)),
            Self::Memory(bytes) => {
                let inside = |offset: hapax_proto::span::Offset| {
                    let length = offset.since(part.start()).expect("a run lies in its part");
                    usize::try_from(length.get()).expect("a part fits into memory")
                };
                Pieces::Memory(bytes.slice(inside(span.start())..inside(span.end())))
            }
        }
    }

    /// Tells whether the part is another one now than when its value was computed.
    async fn changed(&self, job: &Job, suspicious: bool) -> Result<bool, TransferError> {
        let Self::File { source, facts } = self else { return Ok(false) };
        if source.facts_now().await? != *facts {
            return Ok(true);
        }
        if !suspicious {
            return Ok(false);
        }
        // The server saw other bytes under the same facts: either the line damaged them or the file did change.
        let again = source.hash_part(job.part, job.span, *facts).await?;
        Ok(again.is_none_or(|again| again.hasher.value() != Some(job.value)))
    }
}

/// The way to one upload, shared by all its parts.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) id: Arc<str>,
    /// The most bytes of one request.
    pub(super) run: Length,
    pub(super) progress: Arc<dyn Progress>,
    /// Bytes that became durable through this line: what the retry budget calls progress.
    pub(super) durable: Arc<AtomicU64>,
}

/// A part to be sent.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) origin: Origin,
    pub(super) part: PartNumber,
    pub(super) span: Span,
    pub(super) value: PartValue,
    /// How many of its bytes are kept, proven equal.
    pub(super) from: Length,
}

/// What became of a part.
#[derive(Debug)]
pub(super) enum PartEnd {
    /// The server has it, durable and equal.
    Stored,
    /// Its source is another one now.
    Changed,
    /// The upload is not there any more, or not as it was.
    Gone(TransferError),
}

/// What a look at the server showed of a part.
enum Look {
    Held(Held),
    Gone(TransferError),
}

/// Sends a part, as often as it takes.
pub(super) async fn send_part(line: &Line, mut job: Job) -> Result<PartEnd, TransferError> {
    let mut attempts = Attempts::new(&line.client.policy, &line.progress, line.mark());
    // How much of the part was reported durable: a prefix may get lost again, but is not reported twice.
    let mut solid = job.from;
    loop {
        let (answer, moved) = line.send_run(&job).await;
        let failure = match answer {
            Ok(stored) => match judge(&job, &stored) {
                Run::Complete => {
                    line.report(&mut solid, job.span.length());
                    return Ok(PartEnd::Stored);
                }
                Run::Kept(have) => {
                    line.report(&mut solid, have);
                    job.from = have;
                    continue;
                }
                Run::Otherwise => return Err(stored_otherwise(&job, stored.value)),
            },
            Err(failure) => failure,
        };
        let proof_failed =
            matches!(failure.problem(), Some(Kind::BodyDigestMismatch | Kind::FinalDigestMismatch));
        line.lost(moved);
        if is_gone(&failure) {
            return Ok(PartEnd::Gone(failure));
        }
        if job.origin.changed(&job, proof_failed && job.from.is_zero()).await? {
            return Ok(PartEnd::Changed);
        }
        if proof_failed && !job.from.is_zero() {
            // The kept prefix was another version's. Nothing of it is used.
            job.from = Length::ZERO;
            continue;
        }
        attempts.after(failure, line.mark()).await?;
        match line.look(&job, &mut attempts).await? {
            Look::Gone(error) => return Ok(PartEnd::Gone(error)),
            Look::Held(Held::Whole { value }) if value == job.value => {
                line.report(&mut solid, job.span.length());
                return Ok(PartEnd::Stored);
            }
            Look::Held(Held::Partial { have }) if have < job.span.length() => {
                line.report(&mut solid, have);
                job.from = have;
            }
            Look::Held(_) => job.from = Length::ZERO,
        }
    }
}

impl Line {
    fn mark(&self) -> u64 {
        self.durable.load(Ordering::Relaxed)
    }

    async fn send_run(&self, job: &Job) -> (Result<StoredPart, TransferError>, Length) {
        let rest = behind(job.span, job.from);
        let length = rest.length().min(self.run);
        let span = Span::at(rest.start(), length).expect("a run lies in its part");
        let meter = Meter::new(Arc::clone(&self.progress));
        let from = job.origin.pieces(job.part, span);
        let payload = Payload::Content(Content { from, length, meter: meter.clone() });
        let run = PartRun { part: job.part, from: job.from, value: job.value };
        (self.client.api.put_part(&self.id, run, payload).await, meter.moved())
    }

    /// Asks what the server holds of a part.
    async fn look(&self, job: &Job, attempts: &mut Attempts) -> Result<Look, TransferError> {
        loop {
            match self.client.api.upload_status(&self.id, job.part).await {
                Ok(status) => {
                    let number = job.part.get();
                    let whole = status.parts.iter().find(|part| part.n == number);
                    let partial = status.partial.iter().find(|part| part.n == number);
                    return Ok(Look::Held(match (whole, partial) {
                        (Some(part), _) if part.value == job.value => Held::Whole { value: part.value },
                        (_, Some(part)) => Held::Partial { have: Length::new(part.have) },
                        (Some(part), None) => Held::Whole { value: part.value },
                        (None, None) => Held::Nothing,
                    }));
                }
                Err(error) if is_gone(&error) => return Ok(Look::Gone(error)),
                Err(error) => attempts.after(error, self.mark()).await?,
            }
        }
    }

    /// Reports that so much of a part is durable.
    fn report(&self, solid: &mut Length, have: Length) {
        if let Some(more) = have.checked_sub(*solid).filter(|more| !more.is_zero()) {
            self.durable.fetch_add(more.get(), Ordering::Relaxed);
            self.progress.event(Event::Solid(more));
            *solid = have;
        }
    }

    fn lost(&self, moved: Length) {
        if !moved.is_zero() {
            self.progress.event(Event::Lost(moved));
        }
    }
}

/// What the answer to a run means.
enum Run {
    /// The part is whole, and is the one that was sent.
    Complete,
    /// So much of it is kept.
    Kept(Length),
    /// The server stored something else.
    Otherwise,
}

fn judge(job: &Job, stored: &StoredPart) -> Run {
    let have = Length::new(stored.have);
    match stored.value {
        Some(value) if value == job.value => Run::Complete,
        None if have > job.from && have < job.span.length() => Run::Kept(have),
        _ => Run::Otherwise,
    }
}

fn stored_otherwise(job: &Job, actual: Option<PartValue>) -> TransferError {
    let path = match &job.origin {
        Origin::File { source, .. } => source.path().to_owned(),
        Origin::Memory(_) => "-".into(),
    };
    TransferError::StoredOtherwise { path, part: job.part, expected: job.value, actual }
}

// A piece is what a run is at least long: `Cut` rounds to segments, and a segment is no longer than a piece.
const _: () = assert!(hapax_proto::tree::SEGMENT.get() <= PIECE as u64);
