//! The bytes of one version, from answers into the file. Owns the connections of a fetch: how many there are, what
//! each brings, and what is done when one fails; which bytes whose are, and how many connections pay, is decided by
//! `hapax_proto::pin::{segments, pace}`.
//!
//! What arrives is written at its offset; what is written is made durable, and then recorded, at each beat and when
//! the last connection fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hapax_proto::pin::foreign::{End, Held, Remedy, decide_next, remedy};
use hapax_proto::pin::pace::Pace;
use hapax_proto::pin::segments::{ClaimId, Segments};
use hapax_proto::pin::spans::Spans;
use hapax_proto::pin::{Refusal, Response, Verdict};
use hapax_proto::problem::Advice;
use hapax_proto::span::{Length, Offset, Span};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::line::{Body, Line};
use super::plan::{Begun, Record, solid};
use super::probe::{AGAIN_MAX, passing};
use crate::attempt::Attempts;
use crate::checkpoint::Log;
use crate::error::TransferError;
use crate::progress::Event;
use crate::sink::Sink;
use crate::source::PIECE;
use crate::tasks::joined;
use crate::wire;

/// Bytes that wait to be written, in order.
struct Landing {
    sink: Sink,
    next: Offset,
    waiting: Vec<Bytes>,
    waiting_bytes: Length,
}

impl Landing {
    fn new(sink: &Sink, at: Offset) -> Self {
        Self { sink: sink.clone(), next: at, waiting: Vec::new(), waiting_bytes: Length::ZERO }
    }

    /// Takes the next bytes; returns whether enough wait.
    fn take(&mut self, bytes: Bytes) -> bool {
        let length = self.waiting_bytes.checked_add(Length::of(&bytes));
        self.waiting_bytes = length.expect("what waits is a piece and an answer's chunk");
        self.waiting.push(bytes);
        self.waiting_bytes.get() >= PIECE as u64
    }

    /// Writes what waits, and returns how much that was.
    async fn flush(&mut self) -> Result<Length, TransferError> {
        let length = std::mem::take(&mut self.waiting_bytes);
        self.sink.write_at(self.next, std::mem::take(&mut self.waiting)).await?;
        self.next = self.next.checked_add(length).expect("files end below 2^50");
        Ok(length)
    }
}

/// Takes the whole of a version from one answer, which nothing could continue.
pub(super) async fn one_answer(line: &Line, begun: &Begun) -> Result<End, TransferError> {
    let mut body = begun.take_body().expect("what cannot be continued was begun in this process");
    let mut landing = Landing::new(&begun.sink, Offset::ZERO);
    while let Some(bytes) = body.next().await? {
        if landing.take(bytes) {
            line.progress().event(Event::Solid(landing.flush().await?));
        }
    }
    line.progress().event(Event::Solid(landing.flush().await?));
    Ok(body.end())
}

/// Fetches what is missing of a version that is held, over as many connections as pay.
pub(super) async fn pieces(
    line: &Line,
    (begun, held): (&Begun, &Held),
    log: &Arc<Log<Record>>,
    connections: usize,
) -> Result<(), TransferError> {
    let size = held.pin.size;
    if begun.here.is_whole(size) {
        return still_there(line, held).await;
    }
    let segments = Arc::new(Mutex::new(Segments::new(size, begun.here.clone())));
    let mut crew = Crew {
        line,
        held: Arc::new(held.clone()),
        sink: begun.sink.clone(),
        segments,
        log,
        saved: begun.here.clone(),
        pace: Pace::new(connections),
        workers: JoinSet::new(),
        again: HashMap::new(),
        attempts: Attempts::new(line.policy(), line.progress(), line.arrived()),
    };
    let opened = begun.take_body();
    let opened = opened.map(|body| if begun.is_whole { Usable::Whole(body) } else { Usable::Piece(body) });
    let filled = crew.fill(opened).await;
    crew.workers.abort_all();
    let saved = crew.save().await;
    filled.and(saved)
}

/// Asks whether the version is still the one that the server has, once all of it is here.
async fn still_there(line: &Line, held: &Held) -> Result<(), TransferError> {
    let Some(last) = held.pin.size.get().checked_sub(1).map(Offset::new) else { return Ok(()) };
    let last = Span::new(last, held.pin.size.end()).expect("the last byte lies before the end");
    let mut attempts = Attempts::new(line.policy(), line.progress(), 0);
    loop {
        match ask(line, held, last).await {
            Ok(_) => return Ok(()),
            Err(error) => attempts.after(error, 0).await?,
        }
    }
}

/// An answer that may be used.
pub(super) enum Usable {
    /// It begins where it was asked to.
    Piece(Body),
    /// It begins at the first byte of the file.
    Whole(Body),
}

/// Asks for a piece, and judges the head of the answer.
pub(super) async fn ask(line: &Line, held: &Held, asked: Span) -> Result<Usable, TransferError> {
    let answer = line.ask_next(held, asked).await?;
    let response = Response { status: answer.status(), fields: answer.fields(), received: wire::now() };
    match decide_next(held, asked, &response) {
        Verdict::Accept { span } => Ok(Usable::Piece(line.body(answer, Some(span.length())))),
        Verdict::Whole => Ok(Usable::Whole(line.body(answer, Some(held.pin.size)))),
        Verdict::Changed => Err(line.changed()),
        Verdict::Refuse(refusal) if answer.status().is_success() => Err(line.unusable(refusal)),
        Verdict::Refuse(refusal @ Refusal::NoRange) => Err(line.unusable(refusal)),
        // A refusal by status says more in its body.
        Verdict::Retry { .. } | Verdict::Refuse(_) => Err(answer.refusal().await),
    }
}

/// One connection at work on a claim.
struct Worker {
    line: Line,
    held: Arc<Held>,
    sink: Sink,
    segments: Arc<Mutex<Segments>>,
    id: ClaimId,
}

impl Worker {
    /// Fetches what its claim has, and tells whether anything came.
    async fn work(self, opened: Option<Usable>) -> Worked {
        let mut moved = false;
        let ended = self.bring(opened, &mut moved).await;
        Worked { id: self.id, moved, ended }
    }

    /// Brings what its claim has, for as long as one answer does.
    async fn bring(&self, opened: Option<Usable>, moved: &mut bool) -> Result<(), TransferError> {
        let Some(asked) = locked(&self.segments).rest(self.id) else { return Ok(()) };
        let usable = match opened {
            Some(usable) => usable,
            None => ask(&self.line, &self.held, asked).await?,
        };
        let (mut body, mut skip) = match usable {
            Usable::Piece(body) => (body, Length::ZERO),
            Usable::Whole(body) if locked(&self.segments).extend(self.id) => {
                (body, Span::new(Offset::ZERO, asked.start()).unwrap_or_default().length())
            }
            Usable::Whole(_) => return Err(self.line.unusable(Refusal::NoRange)),
        };
        let mut landing = Landing::new(&self.sink, asked.start());
        let ended = loop {
            match body.next().await {
                Ok(Some(bytes)) => {
                    *moved = true;
                    let bytes = behind(bytes, &mut skip);
                    let wanted = locked(&self.segments).arrived(self.id, Length::of(&bytes));
                    let is_end = wanted < Length::of(&bytes);
                    if landing.take(first(bytes, wanted)) {
                        self.flush(&mut landing).await?;
                    }
                    // The rest of this answer is somebody else's claim by now.
                    if is_end || (self.is_done() && !body.is_through()) {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.flush(&mut landing).await?;
        ended
    }

    async fn flush(&self, landing: &mut Landing) -> Result<(), TransferError> {
        let length = landing.flush().await?;
        locked(&self.segments).wrote(self.id, length);
        Ok(())
    }

    fn is_done(&self) -> bool {
        locked(&self.segments).rest(self.id).is_none_or(Span::is_empty)
    }
}

/// What came of a worker.
struct Worked {
    id: ClaimId,
    /// Whether a byte came.
    moved: bool,
    ended: Result<(), TransferError>,
}

/// Returns what stands behind the bytes that are to be skipped.
pub(super) fn behind(mut bytes: Bytes, skip: &mut Length) -> Bytes {
    let skipped = Length::of(&bytes).min(*skip);
    *skip = skip.checked_sub(skipped).expect("no more is skipped than is to be");
    bytes.split_off(usize::try_from(skipped.get()).unwrap_or(usize::MAX))
}

/// Returns the first of these bytes.
fn first(mut bytes: Bytes, length: Length) -> Bytes {
    bytes.truncate(usize::try_from(length.get()).unwrap_or(usize::MAX));
    bytes
}

fn locked(segments: &Mutex<Segments>) -> MutexGuard<'_, Segments> {
    segments.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connections of one fetch.
struct Crew<'a> {
    line: &'a Line,
    held: Arc<Held>,
    sink: Sink,
    segments: Arc<Mutex<Segments>>,
    log: &'a Arc<Log<Record>>,
    /// What is recorded.
    saved: Spans,
    pace: Pace,
    workers: JoinSet<Worked>,
    /// How often each answer of no use came since anything else did.
    again: HashMap<std::mem::Discriminant<Refusal>, u32>,
    attempts: Attempts,
}

impl Crew<'_> {
    /// Fetches until everything is written.
    async fn fill(&mut self, mut opened: Option<Usable>) -> Result<(), TransferError> {
        let mut tick = tokio::time::interval(self.line.beat());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        // The first connection is at work from here on: its first beat counts.
        let busy = self.pace.connections();
        let mut mark = Mark { at: Instant::now(), arrived: self.line.arrived(), busy };
        loop {
            self.employ(&mut opened);
            tokio::select! {
                ended = self.workers.join_next() => match ended {
                    None => return Ok(()),
                    Some(ended) => {
                        let Worked { id, moved, ended } = joined(ended);
                        locked(&self.segments).release(id);
                        if let Err(error) = ended {
                            self.failed(error, moved).await?;
                        } else {
                            self.again.clear();
                        }
                    }
                },
                _ = tick.tick() => {
                    self.measure(&mut mark);
                    self.save().await?;
                }
            }
        }
    }

    /// Puts as many connections to work as the pace says and there is work for.
    fn employ(&mut self, opened: &mut Option<Usable>) {
        while self.workers.len() < self.pace.connections() {
            let Some((id, _)) = locked(&self.segments).claim() else { return };
            let worker = Worker {
                line: self.line.clone(),
                held: Arc::clone(&self.held),
                sink: self.sink.clone(),
                segments: Arc::clone(&self.segments),
                id,
            };
            let opened = opened.take();
            self.workers.spawn(worker.work(opened));
        }
    }

    /// Tells the pace how fast bytes came, if all connections were at work all the time.
    fn measure(&mut self, mark: &mut Mark) {
        let (arrived, busy, elapsed) = (self.line.arrived(), self.workers.len(), mark.at.elapsed());
        let is_full = busy == self.pace.connections();
        if is_full && mark.busy == busy {
            let nanos = elapsed.as_nanos().max(1);
            let rate = u128::from(arrived.saturating_sub(mark.arrived)) * 1_000_000_000 / nanos;
            self.pace.measured(u64::try_from(rate).unwrap_or(u64::MAX));
        }
        *mark = Mark { at: Instant::now(), arrived, busy: self.pace.connections() };
    }

    /// Goes on without a connection that failed, or returns why nothing can go on.
    async fn failed(&mut self, error: TransferError, moved: bool) -> Result<(), TransferError> {
        let busy = self.workers.len();
        let again = self.is_worth_another(&error);
        let passes = matches!(error.advice(), Advice::Retry | Advice::Reprobe);
        if busy > 0 && (passes || again) {
            tracing::debug!(%error, busy, moved, "a connection failed beside others");
            // One that brought something was not refused, it broke.
            if !moved {
                self.pace.refused(busy);
            }
            return Ok(());
        }
        self.save().await?;
        if again {
            // Counted by itself; the wait is that of a broken line.
            return self.attempts.after(passing(&error), self.line.arrived()).await;
        }
        // A line that hardly moves achieves nothing, or a trickle would be waited for for ever.
        let trickles = matches!(error, TransferError::Stalled { .. });
        self.attempts.after(error, if trickles { 0 } else { self.line.arrived() }).await
    }

    /// Tells whether an answer of no use may be another one the next time.
    fn is_worth_another(&mut self, error: &TransferError) -> bool {
        let refusal = match error {
            // What was announced and what came contradict each other: nothing of it can be relied on.
            TransferError::Unusable { refusal: Refusal::OtherLength { .. }, .. } => return false,
            TransferError::Unusable { refusal, .. } => refusal.clone(),
            TransferError::Unexpected { status, .. } => match status.as_u16() {
                403 => Refusal::Forbidden,
                404 | 410 => Refusal::NotFound,
                _ => return false,
            },
            _ => return false,
        };
        if remedy(&refusal) == Remedy::GiveUp {
            return false;
        }
        let times = self.again.entry(std::mem::discriminant(&refusal)).or_default();
        *times += 1;
        *times < AGAIN_MAX
    }

    /// Makes what is written durable, then records it.
    ///
    /// DURABILITY: on return all that was written when this was called is on disk, and its record behind it.
    async fn save(&mut self) -> Result<(), TransferError> {
        let written = locked(&self.segments).written().clone();
        if written == self.saved {
            return Ok(());
        }
        self.sink.sync().await?;
        self.log.append([solid(&written)]).await?;
        self.log.sync().await?;
        let more = written.length().checked_sub(self.saved.length()).unwrap_or_default();
        self.line.progress().event(Event::Solid(more));
        self.saved = written;
        Ok(())
    }
}

/// Where a measurement began.
struct Mark {
    at: Instant,
    arrived: u64,
    busy: usize,
}
