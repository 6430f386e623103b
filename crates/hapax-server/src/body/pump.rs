//! From the socket into a sink, one chunk being filled while another is worked on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hapax_proto::span::Length;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::body::{CHUNK, CHUNK_BYTES};
use crate::metrics;

/// The body of a request, which knows whether all of it was read.
///
/// Nothing of it is read before a handler decides to: the HTTP library sends `100 Continue` at the first poll.
#[derive(Debug)]
pub struct RequestBody<B = Incoming> {
    body: B,
    ended: bool,
}

impl<B: Body> RequestBody<B> {
    /// Wraps a body of which nothing was read.
    pub fn new(body: B) -> Self {
        Self { body, ended: false }
    }

    /// Tells whether there is nothing left to read.
    pub fn is_read(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended |= !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_read()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where chunks go. `push` runs on a blocking thread.
pub trait Sink: Send + 'static {
    /// What can go wrong in it.
    type Error: Send + 'static;

    /// Takes the next chunk: [`CHUNK`] bytes, and only the last one fewer.
    fn push(&mut self, chunk: &[u8]) -> Result<(), Self::Error>;
}

impl<S: Sink> Sink for Box<S> {
    type Error = S::Error;

    fn push(&mut self, chunk: &[u8]) -> Result<(), S::Error> {
        (**self).push(chunk)
    }
}

/// Why a pump was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A newer request took the lane over.
    Evicted,
    /// The server is about to end.
    Draining,
}

/// What a pump keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many bytes may come; one more ends the pump.
    pub length_max: Length,
    /// How long the sender may be silent.
    pub idle_max: Duration,
}

/// How the bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of the body arrived.
    Complete,
    /// The connection broke, or the client ended the request.
    Cut,
    /// The client was silent for too long.
    Idle,
    /// The pump was told to stop.
    Stopped(Stop),
    /// More came than may; exactly what may was handed on.
    TooLong,
}

/// What a pump did. Whatever the end, the sink has every byte that arrived.
#[derive(Debug)]
pub struct Pumped<S> {
    /// The sink, to be finished.
    pub sink: S,
    /// How many bytes it has.
    pub received: Length,
    /// How they ended.
    pub ended: Ended,
    /// The fields that came behind them, if all of the body arrived.
    pub trailers: HeaderMap,
}

/// Moves a body into a sink until it ends, or `stop` resolves, or the sink fails.
///
/// The memory of a slow sender grows with what it sent. A sink that fails is noticed at once, also while the
/// sender is silent.
///
/// # Errors
/// What the sink said; the rest of the body is unread then.
pub async fn pump<B, S>(
    body: &mut B,
    sink: S,
    bounds: Bounds,
    stop: impl Future<Output = Stop>,
) -> Result<Pumped<S>, S::Error>
where
    B: Body<Data = Bytes> + Unpin,
    S: Sink,
{
    let mut stop = std::pin::pin!(stop);
    let mut intake = Filler {
        body,
        rest: Bytes::new(),
        left: bounds.length_max,
        idle_max: bounds.idle_max,
        trailers: HeaderMap::new(),
    };
    let mut worker = Worker::Idle(sink, Vec::new());
    let mut chunk = Vec::new();
    let mut received = Length::ZERO;
    loop {
        let filled = tokio::select! {
            biased;
            told = &mut stop => Filled::End(Ended::Stopped(told)),
            finished = worker.finished() => {
                worker = finished?;
                continue;
            }
            filled = intake.fill(&mut chunk) => filled,
        };
        let (sink, spare) = worker.rest().await?;
        let length = Length::of(&chunk);
        received = received.checked_add(length).expect("a body has at most the bytes it may have");
        metrics::body_received(length.get());
        worker = if chunk.is_empty() {
            Worker::Idle(sink, spare)
        } else {
            Worker::begin(sink, std::mem::replace(&mut chunk, spare))
        };
        if let Filled::End(ended) = filled {
            let (sink, _) = worker.rest().await?;
            return Ok(Pumped { sink, received, ended, trailers: intake.trailers });
        }
    }
}

/// The side of the sink.
enum Worker<S: Sink> {
    /// Has nothing to do; the buffer is empty.
    Idle(S, Vec<u8>),
    /// Works on a chunk.
    Busy(JoinHandle<Worked<S>>),
}

/// What a blocking thread gives back: the sink with its buffer, emptied, or its error.
type Worked<S> = Result<(S, Vec<u8>), <S as Sink>::Error>;

impl<S: Sink> Worker<S> {
    fn begin(mut sink: S, mut chunk: Vec<u8>) -> Self {
        Self::Busy(spawn_blocking(move || {
            sink.push(&chunk)?;
            chunk.clear();
            Ok((sink, chunk))
        }))
    }

    /// Resolves when a busy worker becomes idle; never for an idle one. Dropping the future loses nothing.
    async fn finished(&mut self) -> Result<Self, S::Error> {
        match self {
            Self::Idle(..) => std::future::pending().await,
            Self::Busy(handle) => joined(handle.await).map(|(sink, spare)| Self::Idle(sink, spare)),
        }
    }

    /// Waits until there is nothing to do.
    async fn rest(self) -> Worked<S> {
        match self {
            Self::Idle(sink, spare) => Ok((sink, spare)),
            Self::Busy(handle) => joined(handle.await),
        }
    }
}

/// Carries a panic of the blocking thread over to this one.
fn joined<T>(worked: Result<T, tokio::task::JoinError>) -> T {
    worked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The side of the socket.
struct Filler<'a, B> {
    body: &'a mut B,
    /// What did not fit into the chunk any more.
    rest: Bytes,
    /// How many bytes may still come.
    left: Length,
    idle_max: Duration,
    trailers: HeaderMap,
}

enum Filled {
    /// The chunk is full.
    Chunk,
    /// No more will come.
    End(Ended),
}

impl<B: Body<Data = Bytes> + Unpin> Filler<'_, B> {
    /// Fills the chunk. Dropping the future loses nothing: calling it again goes on.
    async fn fill(&mut self, chunk: &mut Vec<u8>) -> Filled {
        let mut deadline = Instant::now() + self.idle_max;
        loop {
            if self.take_rest(chunk).is_err() {
                return Filled::End(Ended::TooLong);
            }
            if Length::of(chunk) == CHUNK {
                return Filled::Chunk;
            }
            match timeout_at(deadline, self.body.frame()).await {
                Err(_) => return Filled::End(Ended::Idle),
                Ok(None) => return Filled::End(Ended::Complete),
                Ok(Some(Err(_))) => return Filled::End(Ended::Cut),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.rest = data;
                        deadline = Instant::now() + self.idle_max;
                    }
                    Err(frame) => self.trailers.extend(frame.into_trailers().unwrap_or_default()),
                },
            }
        }
    }

    /// Moves into the chunk what fits and may come.
    fn take_rest(&mut self, chunk: &mut Vec<u8>) -> Result<(), TooLong> {
        let may = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        let count = self.rest.len().min(CHUNK_BYTES - chunk.len()).min(may);
        chunk.extend_from_slice(&self.rest[..count]);
        self.rest.advance(count);
        self.left = self.left.checked_sub(Length::new(count as u64)).expect("count is at most what is left");
        if self.left.is_zero() && !self.rest.is_empty() { Err(TooLong) } else { Ok(()) }
    }
}

struct TooLong;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    const BOUNDS: Bounds = Bounds { length_max: Length::new(1 << 30), idle_max: Duration::from_mins(1) };

    /// A body whose frames a test sends, and which tells when it waits for more.
    struct Script {
        frames: mpsc::UnboundedReceiver<Result<Bytes, &'static str>>,
        waits: Option<oneshot::Sender<()>>,
    }

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            let frame = self.frames.poll_recv(cx);
            if frame.is_pending()
                && let Some(waits) = self.waits.take()
            {
                waits.send(()).unwrap();
            }
            frame.map(|frame| frame.map(|frame| frame.map(Frame::data)))
        }
    }

    /// Sends frames and then `last`; with `None` it ends well.
    fn script(lengths: &[usize], last: Option<Result<Bytes, &'static str>>) -> Script {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut byte = 0_u8;
        for &length in lengths {
            byte = byte.wrapping_add(1);
            sender.send(Ok(Bytes::from(vec![byte; length]))).unwrap();
        }
        if let Some(last) = last {
            sender.send(last).unwrap();
        }
        Script { frames: receiver, waits: None }
    }

    /// A sink that keeps the lengths of its chunks, and all bytes.
    #[derive(Default)]
    struct Keep {
        lengths: Vec<usize>,
        bytes: Vec<u8>,
    }

    impl Sink for Keep {
        type Error = Infallible;

        fn push(&mut self, chunk: &[u8]) -> Result<(), Infallible> {
            self.lengths.push(chunk.len());
            self.bytes.extend_from_slice(chunk);
            Ok(())
        }
    }

    async fn pumped(mut body: Script, bounds: Bounds) -> Pumped<Keep> {
        pump(&mut body, Keep::default(), bounds, pending()).await.unwrap()
    }

    #[tokio::test]
    async fn frames_become_chunks_of_one_size() {
        async fn check(frames: &[usize], chunks: &[usize]) {
            let expected: Vec<u8> = {
                let mut body = script(frames, None);
                let mut all = Vec::new();
                while let Some(Ok(frame)) = body.frame().await {
                    all.extend_from_slice(&frame.into_data().unwrap());
                }
                all
            };
            let Pumped { sink, received, ended, .. } = pumped(script(frames, None), BOUNDS).await;
            assert_eq!((sink.lengths.as_slice(), ended), (chunks, Ended::Complete), "{frames:?}");
            assert_eq!(received, Length::of(&expected));
            assert!(sink.bytes == expected, "the bytes are those of the frames, in order");
        }
        check(&[], &[]).await;
        check(&[0, 0], &[]).await;
        check(&[1], &[1]).await;
        check(&[CHUNK_BYTES], &[CHUNK_BYTES]).await;
        check(&[CHUNK_BYTES - 1, 2], &[CHUNK_BYTES, 1]).await;
        check(&[3 * CHUNK_BYTES + 5, 7], &[CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, 12]).await;
        check(&[100_000; 6], &[CHUNK_BYTES, CHUNK_BYTES, 600_000 - 2 * CHUNK_BYTES]).await;
    }

    #[tokio::test]
    async fn a_cut_body_hands_on_what_arrived() {
        let Pumped { sink, received, ended, .. } =
            pumped(script(&[300_000, 5], Some(Err("reset"))), BOUNDS).await;
        assert_eq!((sink.bytes.len(), received, ended), (300_005, Length::new(300_005), Ended::Cut));
    }

    #[tokio::test]
    async fn exactly_what_may_come_is_handed_on() {
        async fn check(frames: &[usize], length_max: u64, handed_on: usize, expected: Ended) {
            let bounds = Bounds { length_max: Length::new(length_max), ..BOUNDS };
            let Pumped { sink, ended, .. } = pumped(script(frames, None), bounds).await;
            assert_eq!((sink.bytes.len(), ended), (handed_on, expected), "{frames:?} of {length_max}");
        }
        check(&[10], 10, 10, Ended::Complete).await;
        check(&[10, 1], 10, 10, Ended::TooLong).await;
        check(&[11], 10, 10, Ended::TooLong).await;
        check(&[1], 0, 0, Ended::TooLong).await;
        check(&[], 0, 0, Ended::Complete).await;
        check(&[CHUNK_BYTES, CHUNK_BYTES, 1], CHUNK_BYTES as u64, CHUNK_BYTES, Ended::TooLong).await;
    }

    /// A body that sends one frame and then nothing; the sender keeps it open.
    fn silent_after(frame: Vec<u8>) -> (mpsc::UnboundedSender<Result<Bytes, &'static str>>, Script) {
        let (sender, frames) = mpsc::unbounded_channel();
        sender.send(Ok(Bytes::from(frame))).unwrap();
        (sender, Script { frames, waits: None })
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_sender_is_not_waited_for() {
        let (_sender, body) = silent_after(b"abc".to_vec());
        let begun = Instant::now();
        let Pumped { sink, ended, .. } = pumped(body, BOUNDS).await;
        assert_eq!((sink.bytes.as_slice(), ended), (b"abc".as_slice(), Ended::Idle));
        assert_eq!(begun.elapsed(), BOUNDS.idle_max);
    }

    #[tokio::test]
    async fn a_pump_that_is_told_to_stop_hands_on_what_arrived() {
        let (_sender, mut body) = silent_after(b"abc".to_vec());
        let (waits, waiting) = oneshot::channel();
        body.waits = Some(waits);
        let stop = async {
            waiting.await.unwrap();
            Stop::Evicted
        };
        let Pumped { sink, ended, .. } = pump(&mut body, Keep::default(), BOUNDS, stop).await.unwrap();
        assert_eq!((sink.bytes.as_slice(), ended), (b"abc".as_slice(), Ended::Stopped(Stop::Evicted)));
    }

    #[tokio::test]
    async fn a_sink_that_fails_is_noticed_while_the_sender_is_silent() {
        struct Full;
        impl Sink for Full {
            type Error = &'static str;
            fn push(&mut self, _: &[u8]) -> Result<(), &'static str> {
                Err("full")
            }
        }
        let (_sender, mut body) = silent_after(vec![0; CHUNK_BYTES]);
        let outcome = pump(&mut body, Full, BOUNDS, pending()).await;
        assert_eq!(outcome.err(), Some("full"));
    }

    #[tokio::test]
    async fn a_body_knows_whether_it_was_read() {
        let mut body = RequestBody::new(script(&[1], None));
        assert!(!body.is_read());
        assert!(body.frame().await.is_some());
        assert!(!body.is_read());
        assert!(body.frame().await.is_none());
        assert!(body.is_read());
        assert!(RequestBody::new(http_body_util::Empty::<Bytes>::new()).is_read());
    }
}
