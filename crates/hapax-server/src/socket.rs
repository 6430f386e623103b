//! One accepted connection, between the transport and the HTTP library: which version of HTTP it speaks, a
//! deadline for a peer that takes nothing, and the lingering close. It never looks at a request.
//!
//! Why lingering: a request can be answered before its body was read. If the socket were closed then, the kernel
//! would answer the bytes still arriving with a reset, and a client that is busy sending (curl, every browser)
//! reports the reset and never reads the answer. So the sending side is shut first, then what arrives is
//! discarded for a while (RFC 9112 §9.6). When it is too much, reading stops but the socket stays: the client can
//! send no more then, looks up, and finds the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::line::Line;

/// How many bytes a lingering close discards at most.
pub const LINGER_BYTES: usize = 1 << 20;
/// How long a lingering close takes at most.
pub const LINGER: Duration = Duration::from_secs(2);

/// What every HTTP/2 client sends first (RFC 9113 §3.4), and no HTTP/1 client does.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version of HTTP, as far as the framing differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads as much of a connection as tells which HTTP it is, and returns that with what was read.
///
/// The deadline is for all of it, so a peer that sends the preface byte by byte gains nothing.
pub async fn recognise<S: AsyncRead + Unpin>(
    stream: &mut S,
    deadline: Duration,
) -> io::Result<(Protocol, Bytes)> {
    let recognition = async {
        let mut seen = Vec::with_capacity(HTTP2_PREFACE.len());
        while seen.len() < HTTP2_PREFACE.len() {
            let mut rest = (&mut *stream).take((HTTP2_PREFACE.len() - seen.len()) as u64);
            let read = rest.read_buf(&mut seen).await?;
            if read == 0 || !HTTP2_PREFACE.starts_with(&seen) {
                return Ok((Protocol::Http1, Bytes::from(seen)));
            }
        }
        Ok((Protocol::Http2, Bytes::from(seen)))
    };
    timeout(deadline, recognition).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A stream whose peer's end can be seen without reading what comes before it.
pub trait Peek {
    /// Resolves when the peer has ended its side and nothing else is left to read; may miss it where bytes are.
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Peek for TcpStream {
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0; 1];
        match ready!(self.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => Poll::Pending,
        }
    }
}

impl Peek for TlsStream<TcpStream> {
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.get_ref().0.poll_ended(cx)
    }
}

/// A stream that begins with bytes read before, fails when its peer takes nothing for too long, and lingers when
/// it is shut down.
#[derive(Debug)]
pub struct Socket<S> {
    stream: S,
    replay: Bytes,
    stall_max: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    peer_ended: bool,
    line: Arc<Line>,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    Open,
    Lingering { bytes_left: usize, deadline: Pin<Box<Sleep>> },
    Done,
}

impl<S: AsyncRead + AsyncWrite + Peek + Unpin> Socket<S> {
    /// Wraps a stream from which `replay` was read already; `stall_max` is how long it may take nothing.
    pub fn new(stream: S, replay: Bytes, stall_max: Duration) -> Self {
        let (line, closing) = (Arc::default(), Closing::Open);
        Self { stream, replay, stall_max, stalled: None, peer_ended: false, line, closing }
    }

    /// Returns what handlers may ask about the connection.
    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Passes on whether a write made progress, or fails it when the last progress is too long ago.
    fn watch_stall<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stall_max = self.stall_max;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Discards what arrives, and not more than is reasonable, until the peer ends or enough time went by.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingering { bytes_left, deadline } = &mut self.closing else {
            return Poll::Ready(());
        };
        let mut scratch = [0; 8 << 10];
        loop {
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if *bytes_left == 0 {
                return Poll::Pending;
            }
            let mut discarded = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut discarded));
            let count = discarded.filled().len();
            *bytes_left = bytes_left.saturating_sub(count);
            if read.is_err() || count == 0 {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Peek + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.replay.is_empty() {
            let count = self.replay.len().min(buffer.remaining());
            buffer.put_slice(&self.replay[..count]);
            self.replay.advance(count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.peer_ended |= read.is_err() || (buffer.filled().len() == before && buffer.remaining() > 0);
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Peek + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_stall(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch_stall(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The HTTP library reads nothing while a request is being answered, but it flushes whenever it is woken.
        if self.line.is_watched() && self.replay.is_empty() && self.stream.poll_ended(cx).is_ready() {
            self.line.end();
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_stall(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.closing, Closing::Open) {
            let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.watch_stall(cx, shut))?;
            self.closing = if self.peer_ended {
                Closing::Done
            } else {
                Closing::Lingering { bytes_left: LINGER_BYTES, deadline: Box::pin(sleep(LINGER)) }
            };
        }
        ready!(self.poll_linger(cx));
        self.closing = Closing::Done;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    impl Peek for DuplexStream {
        fn poll_ended(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    const STALL: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_not_lost() {
        async fn check(sent: &[u8], protocol: Protocol) {
            let (mut client, mut server) = duplex(1 << 10);
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let (found, replay) = recognise(&mut server, STALL).await.unwrap();
            assert_eq!(found, protocol, "{sent:?}");
            let mut all = Vec::new();
            Socket::new(server, replay, STALL).read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
        }
        check(b"GET / HTTP/1.1\r\n\r\n", Protocol::Http1).await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", Protocol::Http2).await;
        check(b"PRI * HTTP/1.1\r\n\r\n", Protocol::Http1).await;
        check(b"PR", Protocol::Http1).await;
        check(b"", Protocol::Http1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_nothing_is_not_waited_for() {
        let (_client, mut server) = duplex(1 << 10);
        let begun = Instant::now();
        let error = recognise(&mut server, STALL).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, STALL));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_fails_the_write() {
        let (_client, server) = duplex(16);
        let mut socket = Socket::new(server, Bytes::new(), STALL);
        let error = socket.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_ends_the_answer_first_and_then_takes_what_is_on_its_way() {
        let (mut client, server) = duplex(1 << 10);
        let mut socket = Socket::new(server, Bytes::new(), STALL);
        let closing = tokio::spawn(async move { socket.shutdown().await });
        // The answer ends while this client still has something to say, and nothing fails.
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        client.write_all(&vec![0; 100 << 10]).await.unwrap();
        client.shutdown().await.unwrap();
        closing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_waits_neither_for_ever_nor_for_endless_bytes() {
        let (mut client, server) = duplex(64 << 10);
        let begun = Instant::now();
        Socket::new(server, Bytes::new(), STALL).shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LINGER);
        assert!(client.write_all(b"late").await.is_err());

        let (mut client, server) = duplex(64 << 10);
        let endless = tokio::spawn(async move {
            let mut taken = 0;
            while client.write_all(&[0; 1 << 10]).await.is_ok() {
                taken += 1 << 10;
            }
            taken
        });
        let begun = Instant::now();
        Socket::new(server, Bytes::new(), STALL).shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LINGER);
        assert!(endless.await.unwrap() <= LINGER_BYTES + (128 << 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_does_not_wait_for_a_peer_that_ended() {
        let (client, server) = duplex(1 << 10);
        drop(client);
        let mut socket = Socket::new(server, Bytes::new(), STALL);
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
        socket.shutdown().await.unwrap();
        assert!(matches!(socket.closing, Closing::Done));
    }
}
