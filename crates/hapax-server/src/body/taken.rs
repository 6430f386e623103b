//! Whether a peer takes what is sent to it over HTTP/2. Owns what of an answer is on its way on one stream, and the end
//! of a stream on which nothing moves; it never looks at what is sent.
//!
//! A TCP socket that is full tells that a peer takes nothing. A stream of HTTP/2 has a window of its own, which the peer
//! may keep at zero while the connection goes on; the HTTP library waits for that without an end, and asks the body for
//! nothing meanwhile. So the body cannot notice, and whoever runs the stream has to.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::sleep;

/// How much of an answer is handed over at once: what is taken of it counts as progress when all of it is. As large as
/// frames are.
const PIECE_BYTES: usize = 16 << 10;

tokio::task_local! {
    /// The flow of the stream that this task runs.
    static FLOW: Arc<Flow>;
}

/// Runs the streams of a connection, each in a task of its own, and resets those on which nothing is taken.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    stall_max: Duration,
}

impl Streams {
    /// Makes one that lets a stream wait for its peer as long as this, and at most twice as long.
    pub fn new(stall_max: Duration) -> Self {
        Self { stall_max }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let flow = Arc::<Flow>::default();
        let (stalled, stall_max) = (Arc::clone(&flow), self.stall_max);
        tokio::spawn(FLOW.scope(flow, async move {
            tokio::select! {
                () = stream => {}
                // Dropping the stream resets it, and with that goes all that waits on it.
                () = stalled.stalled(stall_max) => tracing::debug!("a stream is reset whose peer takes nothing"),
            }
        }));
    }
}

/// What moved on a stream so far.
#[derive(Debug, Default)]
struct Flow(Mutex<Moved>);

#[derive(Debug, Default)]
struct Moved {
    /// How many pieces were handed over.
    handed: u64,
    /// How many of them are gone.
    gone: u64,
    /// Who waits for all of them to be.
    waits: Option<Waker>,
}

impl Flow {
    fn moved(&self) -> MutexGuard<'_, Moved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a piece as handed over until the last of its bytes was taken; it keeps something until then.
    fn hand_over(self: &Arc<Self>, bytes: Bytes, kept: Option<Box<dyn Send>>) -> Bytes {
        self.moved().handed += 1;
        Bytes::from_owner(Piece { bytes, flow: Arc::clone(self), _kept: kept })
    }

    /// Resolves when all that was handed over is gone.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut moved = self.moved();
        if moved.handed == moved.gone {
            return Poll::Ready(());
        }
        moved.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Resolves when something is on its way for that long, and nothing moved.
    async fn stalled(&self, stall_max: Duration) {
        let look = || {
            let moved = self.moved();
            (moved.handed, moved.gone)
        };
        let mut before = look();
        loop {
            sleep(stall_max).await;
            let (handed, gone) = look();
            if handed > gone && (handed, gone) == before {
                return;
            }
            before = (handed, gone);
        }
    }
}

/// A piece on its way.
struct Piece {
    bytes: Bytes,
    flow: Arc<Flow>,
    _kept: Option<Box<dyn Send>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut moved = self.flow.moved();
        moved.gone += 1;
        let waits = if moved.handed == moved.gone { moved.waits.take() } else { None };
        drop(moved);
        if let Some(waits) = waits {
            waits.wake();
        }
    }
}

/// A body that lives until everything of it was taken.
///
/// The end comes when what is before it was taken, so that there is a stream to reset until then. Of a body that is one
/// piece the end comes with it: curl, when it is answered before it sent its own body, waits for nothing else. The stream
/// of such a one is not reset once some of it went out, but it lives, and keeps what it keeps, as well.
pub struct Taken<B> {
    /// Gone with the last piece, if that was the only one.
    body: Option<B>,
    is_one_piece: bool,
    /// What the body gave and was not handed over.
    rest: Bytes,
    is_over: bool,
    flow: Arc<Flow>,
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Taken<B> {
    /// Wraps the body of an answer.
    ///
    /// # Errors
    /// The body itself, if this task runs no stream.
    pub fn watch(body: B) -> Result<Self, B> {
        let is_one_piece = body.size_hint().exact().is_some_and(|length| length <= PIECE_BYTES as u64);
        match FLOW.try_with(Arc::clone) {
            Ok(flow) => Ok(Self { body: Some(body), is_one_piece, rest: Bytes::new(), is_over: false, flow }),
            Err(_) => Err(body),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Body for Taken<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        while self.rest.is_empty() {
            if self.is_over {
                return self.flow.poll_gone(cx).map(|()| None);
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)?).map(Frame::into_data) {
                Some(Ok(data)) => self.rest = data,
                Some(Err(frame)) => return Poll::Ready(Some(Ok(frame))),
                None => self.is_over = true,
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        let ends = self.is_one_piece && self.rest.is_empty();
        let body = self.body.take_if(|body| ends && body.is_end_stream());
        let kept = body.map(|body| Box::new(body) as Box<dyn Send>);
        Poll::Ready(Some(Ok(Frame::data(self.flow.hand_over(piece, kept)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.as_ref().map(|body| body.size_hint().exact()) {
            None => SizeHint::with_exact(0),
            Some(Some(length)) => SizeHint::with_exact(length + self.rest.len() as u64),
            Some(None) => SizeHint::default(),
        }
    }
}

/// A body that keeps something until it is dropped: the right to be under way.
pub struct Keeping<B, K> {
    body: B,
    _kept: K,
}

impl<B, K> Keeping<B, K> {
    /// Lets a body keep this.
    pub fn new(body: B, kept: K) -> Self {
        Self { body, _kept: kept }
    }
}

impl<B: Body + Unpin, K: Unpin> Body for Keeping<B, K> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tokio::time::Instant;

    use super::*;

    const STALL: Duration = Duration::from_mins(1);

    fn watched(length: usize) -> (Arc<Flow>, Taken<Full<Bytes>>) {
        let flow = Arc::<Flow>::default();
        let body = Full::new(Bytes::from(vec![7; length]));
        let taken = FLOW.sync_scope(Arc::clone(&flow), || Taken::watch(body).ok()).unwrap();
        (flow, taken)
    }

    #[test]
    fn outside_of_a_stream_a_body_stays_what_it_is() {
        assert!(Taken::watch(Full::new(Bytes::new())).is_err());
    }

    #[tokio::test]
    async fn an_answer_comes_in_pieces_and_ends_when_they_are_gone() {
        let (_flow, mut body) = watched(2 * PIECE_BYTES + 1);
        assert_eq!(body.size_hint().exact(), Some(2 * PIECE_BYTES as u64 + 1));
        let mut pieces = Vec::new();
        for length in [PIECE_BYTES, PIECE_BYTES, 1] {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece, vec![7; length]);
            pieces.push(piece);
        }
        let mut end = poll_now(&mut body);
        assert!(end().is_pending());
        pieces.truncate(1);
        assert!(end().is_pending());
        pieces.clear();
        assert_eq!(end(), Poll::Ready(false));
    }

    #[tokio::test]
    async fn an_answer_of_one_piece_ends_with_it_and_is_kept_by_it() {
        let kept = Arc::new(());
        let body = Keeping::new(Full::new(Bytes::from_static(b"x")), Arc::clone(&kept));
        let flow = Arc::<Flow>::default();
        let mut body = FLOW.sync_scope(flow, || Taken::watch(body).ok()).unwrap();
        assert!(!body.is_end_stream());
        let piece = body.frame().await.unwrap().unwrap();
        assert!(body.is_end_stream() && body.frame().await.is_none());
        drop(body);
        assert_eq!(Arc::strong_count(&kept), 2);
        drop(piece);
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    /// Polls a body for its next frame, without waiting, and tells whether there is one.
    fn poll_now<B: Body + Unpin>(body: &mut B) -> impl FnMut() -> Poll<bool> {
        || {
            let frame = Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop()));
            frame.map(|frame| frame.is_some())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_stalled_when_something_waits_and_nothing_moves() {
        let (flow, mut body) = watched(3 * PIECE_BYTES);
        let stalled = tokio::spawn({
            let flow = Arc::clone(&flow);
            async move { flow.stalled(STALL).await }
        });
        // Nothing is on its way: whoever makes the answer may take its time.
        sleep(STALL * 5).await;
        let mut piece = body.frame().await.unwrap().unwrap();
        // A piece in less than the time: that is slow, and no stall.
        for _ in 0..2 {
            sleep(STALL * 9 / 10).await;
            piece = body.frame().await.unwrap().unwrap();
        }
        assert!(!stalled.is_finished());
        let begun = Instant::now();
        stalled.await.unwrap();
        assert!((STALL..=STALL * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        drop(piece);
    }

    #[test]
    fn what_is_kept_goes_with_the_body() {
        let kept = Arc::new(());
        let body = Keeping::new(Full::new(Bytes::from_static(b"x")), Arc::clone(&kept));
        assert_eq!((body.size_hint().exact(), Arc::strong_count(&kept)), (Some(1), 2));
        drop(body);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
