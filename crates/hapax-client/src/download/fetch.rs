//! The content of a pinned version, fetched until it is proven. Owns the requests for spans and their repetition;
//! what lands on disk counts for nothing here until its part is proven.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hapax_proto::pin::{Pin, Refusal, Response, Verdict, decide_response};
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PartHasher, PartNumber, ProvenParts};

use super::plan::Version;
use crate::api::RemotePath;
use crate::attempt::Attempts;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::sink::{Landing, Sink};
use crate::wire::{self, Answer};

/// How often a part may arrive damaged. Each time it is said, and the part alone fetched again.
const DAMAGED_MAX: u32 = 3;

/// The way to one version of a file, shared by all its parts.
#[derive(Clone)]
pub(super) struct Line {
    client: Client,
    path: RemotePath,
    pin: Pin,
    progress: Arc<dyn Progress>,
    /// Bytes that arrived through this line: what the retry budget calls progress.
    arrived: Arc<AtomicU64>,
}

impl Line {
    pub(super) fn new(
        client: &Client,
        path: &RemotePath,
        version: &Version,
        progress: &Arc<dyn Progress>,
    ) -> Self {
        Self {
            client: client.clone(),
            path: path.clone(),
            pin: version.pin.clone(),
            progress: Arc::clone(progress),
            arrived: Arc::default(),
        }
    }

    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(&self.client.policy, &self.progress, self.mark())
    }

    pub(super) fn mark(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Asks for a span. What arrives begins at its start, and may end before its end.
    pub(super) async fn ask(&self, asked: Span) -> Result<Arriving<'_>, TransferError> {
        let answer = self.client.api.get_span(&self.path, &self.pin, asked).await?;
        let (answer, length) = self.accept(asked, answer).await?;
        Ok(Arriving { line: self, answer, length, left: length })
    }

    /// Judges the head of an answer; returns it with the length of what it may hand over.
    async fn accept(&self, asked: Span, answer: Answer) -> Result<(Answer, Length), TransferError> {
        let head = Response { status: answer.status(), fields: answer.fields(), received: wire::now() };
        match decide_response(&self.pin, asked, &head) {
            Verdict::Accept { span } => Ok((answer, span.length())),
            Verdict::Whole if asked == Span::whole(self.pin.size) => Ok((answer, asked.length())),
            Verdict::Whole => Err(self.unusable(Refusal::NoRange)),
            Verdict::Changed => Err(TransferError::Changed { path: self.path.to_string() }),
            Verdict::Refuse(refusal) if answer.status().is_success() => Err(self.unusable(refusal)),
            // A refusal by status says more in its body.
            Verdict::Retry { .. } | Verdict::Refuse(_) => Err(answer.refusal().await),
        }
    }

    pub(super) fn damaged(
        &self,
        part: PartNumber,
        times: u32,
        seen: Damage<'_>,
    ) -> Result<(), TransferError> {
        tracing::warn!(path = %self.path, %part, "a part arrived damaged");
        self.progress.event(Event::Damaged(part));
        self.progress.event(Event::Lost(seen.span.length()));
        if times < DAMAGED_MAX {
            return Ok(());
        }
        Err(TransferError::Corrupt {
            path: self.path.to_string(),
            offset: seen.span.start(),
            length: seen.span.length(),
            expected: seen.proven.value(part),
            actual: seen.hashed.value(),
        })
    }

    fn unusable(&self, refusal: Refusal) -> TransferError {
        TransferError::Unusable { path: self.path.to_string(), refusal }
    }
}

/// Bytes of a pinned version on their way here.
pub(super) struct Arriving<'a> {
    line: &'a Line,
    answer: Answer,
    length: Length,
    left: Length,
}

impl Arriving<'_> {
    /// Returns the next bytes, and `None` behind the last; never more than were announced.
    ///
    /// # Errors
    /// Whatever ended them early; those before are good as far as they go, and to be proven.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        let Some(bytes) = self.answer.chunk().await? else {
            return if self.left.is_zero() { Ok(None) } else { Err(self.answer.broken()) };
        };
        let Some(left) = self.left.checked_sub(Length::of(&bytes)) else {
            return Err(self.line.unusable(Refusal::OtherLength { expected: self.length }));
        };
        self.left = left;
        self.line.arrived.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.line.progress.event(Event::Moved(Length::of(&bytes)));
        Ok(Some(bytes))
    }
}

/// A part that is not what it should be.
#[derive(Clone, Copy)]
pub(super) struct Damage<'a> {
    pub(super) span: Span,
    pub(super) proven: &'a ProvenParts,
    pub(super) hashed: &'a PartHasher,
}

/// Fetches a part into the file until it is proven; returns its length. It is written, but not yet durable.
pub(super) async fn fetch_part(
    line: &Line,
    proven: &ProvenParts,
    part: PartNumber,
    sink: &Sink,
) -> Result<Length, TransferError> {
    let span = part.span(proven.identity().size).expect("a plan has the parts of its size");
    let mut attempts = line.attempts();
    let mut landing = sink.land(part);
    let mut damaged = 0;
    loop {
        if let Some(rest) = Span::new(landing.next(), span.end()).filter(|rest| !rest.is_empty()) {
            let fetched = land(line, rest, &mut landing).await;
            landing.flush().await?;
            if let Err(error) = fetched {
                attempts.after(error, line.mark()).await?;
            }
            // An answer may be shorter than what was asked for; it is gone on from where it ended.
            continue;
        }
        if proven.proves(landing.hashed()) {
            return Ok(span.length());
        }
        damaged += 1;
        line.damaged(part, damaged, Damage { span, proven, hashed: landing.hashed() })?;
        landing = sink.land(part);
    }
}

async fn land(line: &Line, rest: Span, landing: &mut Landing) -> Result<(), TransferError> {
    let mut arriving = line.ask(rest).await?;
    while let Some(bytes) = arriving.next().await? {
        landing.take(bytes).await?;
    }
    Ok(())
}
