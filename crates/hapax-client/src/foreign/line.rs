//! One request to a server that is not ours, and its body. Owns the fields of requests, their count, and the deadline
//! under which bytes must come; decides nothing about an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hapax_proto::digest::{Algorithm, Preferences, WANT_REPR_DIGEST};
use hapax_proto::pin::Refusal;
use hapax_proto::pin::foreign::{End, Held, Opening};
use hapax_proto::retry::Policy;
use hapax_proto::span::{Length, Span};
use http::header::{ACCEPT_ENCODING, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::{Address, Web};
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::wire::Answer;

/// How many requests a file of no size may take.
const REQUESTS_LEAST: u64 = 256;

/// How much of a file each further request must bring on the average.
const BYTES_PER_REQUEST: u64 = 64 * 1024;

/// How much must come while the line could have been silent: a connection that brings less is as good as broken.
const TRICKLE: u64 = 16 * 1024;

/// The way to one file. Clones count together.
#[derive(Clone)]
pub(super) struct Line {
    web: Web,
    address: Arc<Address>,
    progress: Arc<dyn Progress>,
    requests: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
}

impl Line {
    pub(super) fn new(web: &Web, address: &Address, progress: &Arc<dyn Progress>) -> Self {
        Self {
            web: web.clone(),
            address: Arc::new(address.clone()),
            progress: Arc::clone(progress),
            requests: Arc::default(),
            arrived: Arc::default(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn policy(&self) -> &Arc<Policy> {
        &self.web.policy
    }

    /// Returns how often is measured and saved.
    pub(super) fn beat(&self) -> Duration {
        self.web.beat
    }

    pub(super) fn progress(&self) -> &Arc<dyn Progress> {
        &self.progress
    }

    /// Returns how many bytes arrived at all: what the retry budget calls progress.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Asks for a file of which nothing is known.
    pub(super) async fn ask_first(&self, opening: Opening) -> Result<Answer, TransferError> {
        let mut fields = HeaderMap::new();
        if opening == Opening::Range {
            fields.insert(RANGE, HeaderValue::from_static("bytes=0-"));
        }
        self.ask(fields).await
    }

    /// Asks for a piece of a version that is held.
    pub(super) async fn ask_next(&self, held: &Held, asked: Span) -> Result<Answer, TransferError> {
        let mut fields = HeaderMap::new();
        let last = asked.end().get().saturating_sub(1);
        let range = HeaderValue::try_from(format!("bytes={}-{last}", asked.start()));
        fields.insert(RANGE, range.expect("digits may stand in a field"));
        if let Some((name, value)) = held.condition() {
            fields.insert(name, value);
        }
        self.budget(held.pin.size)?;
        self.ask(fields).await
    }

    /// Asks, always from the address on: where it was redirected to before may have expired.
    async fn ask(&self, mut fields: HeaderMap) -> Result<Answer, TransferError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(wanted) = Preferences::only(Algorithm::Sha256).format_field() {
            fields.insert(HeaderName::from_static(WANT_REPR_DIGEST), wanted);
        }
        self.web.wire.get(self.address.url(), &self.address.to_string(), fields).await
    }

    /// Demands that the requests so far were worth their while: a server that brings a byte each time it is asked
    /// would be asked for ever.
    fn budget(&self, size: Length) -> Result<(), TransferError> {
        let requests = self.requests.load(Ordering::Relaxed);
        if requests < REQUESTS_LEAST.saturating_add(size.get() / BYTES_PER_REQUEST) {
            return Ok(());
        }
        Err(TransferError::Exhausted { path: self.address.to_string(), requests })
    }

    /// Returns the body of an answer that has `announced` bytes, if that is known.
    pub(super) fn body(&self, answer: Answer, announced: Option<Length>) -> Body {
        let watch = Watch { since: Instant::now(), moved: 0 };
        Body { line: self.clone(), answer, announced, left: announced, watch }
    }

    /// Makes the error of an answer that may not be used.
    pub(super) fn unusable(&self, refusal: Refusal) -> TransferError {
        TransferError::Unusable { path: self.address.to_string(), refusal }
    }

    pub(super) fn changed(&self) -> TransferError {
        TransferError::Changed { path: self.address.to_string() }
    }
}

/// What came since when.
struct Watch {
    since: Instant,
    moved: u64,
}

impl Watch {
    /// Counts bytes; returns what came in a window that is over and brought too little.
    fn trickles(&mut self, bytes: u64, window: Duration) -> Option<Length> {
        self.moved = self.moved.saturating_add(bytes);
        if self.since.elapsed() < window {
            return None;
        }
        let moved = std::mem::take(&mut self.moved);
        self.since = Instant::now();
        (moved < TRICKLE).then_some(Length::new(moved))
    }
}

/// The body of an answer.
pub(super) struct Body {
    line: Line,
    answer: Answer,
    announced: Option<Length>,
    left: Option<Length>,
    watch: Watch,
}

impl Body {
    /// Returns the next bytes, or `None` behind the last; never more than were announced.
    ///
    /// # Errors
    /// Whatever ended them early. Those before are good as far as they go.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        let Some(bytes) = self.answer.chunk().await? else {
            let ended_early = self.left.is_some_and(|left| !left.is_zero());
            return if ended_early { Err(self.answer.broken()) } else { Ok(None) };
        };
        let length = Length::of(&bytes);
        if let (Some(left), Some(announced)) = (self.left, self.announced) {
            let refusal = Refusal::OtherLength { expected: announced };
            self.left = Some(left.checked_sub(length).ok_or_else(|| self.line.unusable(refusal))?);
        }
        self.line.arrived.fetch_add(length.get(), Ordering::Relaxed);
        self.line.progress.event(Event::Moved(length));
        let window = self.line.web.stall;
        if let Some(moved) = self.watch.trickles(length.get(), window) {
            let doing = self.answer.doing().to_owned();
            return Err(TransferError::Stalled { doing, moved, window });
        }
        Ok(Some(bytes))
    }

    /// Tells whether all that was announced came.
    pub(super) fn is_through(&self) -> bool {
        self.left.is_some_and(Length::is_zero)
    }

    /// Returns how its end is told.
    pub(super) fn end(&self) -> End {
        self.answer.end()
    }
}
