//! Chunks into the socket, one being sent while the next one is made. Owns the one chunk of lead and its thread; knows
//! nothing of what the chunks are.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::metrics;

/// Where chunks are made, on blocking threads.
pub trait Producer: Send + 'static {
    /// What can go wrong in it.
    type Error: Error + Send + Sync + 'static;

    /// Makes the next chunk, about [`CHUNK`](crate::body::CHUNK) long; `None` behind the last one.
    fn produce(&mut self) -> Result<Option<Bytes>, Self::Error>;

    /// Tells whether the last chunk was made, so that no thread is asked for another one.
    fn is_over(&self) -> bool;
}

/// A body on its way out whose length nobody knows before it is made.
///
/// It is made ahead by one chunk and only on demand, so a client that takes nothing holds no thread. When making it
/// fails on the way, the body fails, and with it the connection (HTTP/2: the stream): the client sees a body without
/// an end, never one that is wrong.
pub struct Ahead<P: Producer>(Next<P>);

/// The chunk to be sent next.
enum Next<P: Producer> {
    /// It is here.
    Ready(Bytes, P),
    /// It is being made.
    Making(JoinHandle<Made<P>>),
    /// There is none.
    None,
}

type Made<P> = Result<Option<(Bytes, P)>, <P as Producer>::Error>;

impl<P: Producer> Ahead<P> {
    /// Makes the first chunk, so that what fails at once can still be answered with a status of its own.
    ///
    /// # Errors
    /// What the producer said of the first chunk.
    pub async fn begin(producer: P) -> Result<Self, P::Error> {
        let next = match make(producer) {
            Next::Making(handle) => match joined(handle.await)? {
                Some((chunk, producer)) => Next::Ready(chunk, producer),
                None => Next::None,
            },
            next => next,
        };
        Ok(Self(next))
    }

    /// Takes the chunk that is next, and begins to make the one behind it.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let made = match std::mem::replace(&mut self.0, Next::None) {
            Next::None => Ok(None),
            Next::Ready(chunk, producer) => Ok(Some((chunk, producer))),
            Next::Making(mut handle) => match Pin::new(&mut handle).poll(cx) {
                Poll::Ready(made) => joined(made),
                Poll::Pending => {
                    self.0 = Next::Making(handle);
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(match made {
            Ok(None) => None,
            Ok(Some((chunk, producer))) => {
                metrics::body_sent(chunk.len() as u64);
                self.0 = make(producer);
                Some(Ok(chunk))
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "a body is cut short");
                Some(Err(io::Error::other(error)))
            }
        })
    }
}

/// Begins to make the next chunk, if there is one.
fn make<P: Producer>(mut producer: P) -> Next<P> {
    if producer.is_over() {
        return Next::None;
    }
    Next::Making(spawn_blocking(move || Ok(producer.produce()?.map(|chunk| (chunk, producer)))))
}

/// Carries a panic of the blocking thread over to this one.
fn joined<T>(made: Result<T, JoinError>) -> T {
    made.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

impl<P: Producer + Unpin> Body for Ahead<P> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(ready!(self.poll_chunk(cx)).map(|chunk| chunk.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// Counts down, and fails at a number.
    struct Count {
        left: u8,
        fails_at: Option<u8>,
    }

    impl Producer for Count {
        type Error = io::Error;

        fn produce(&mut self) -> Result<Option<Bytes>, io::Error> {
            if self.fails_at == Some(self.left) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some(next) = self.left.checked_sub(1) else { return Ok(None) };
            self.left = next;
            Ok(Some(Bytes::copy_from_slice(&[next])))
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn chunks_come_in_their_order_until_there_is_none() {
        for left in [0, 1, 5] {
            let body = Ahead::begin(Count { left, fails_at: None }).await.unwrap();
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes, (0..left).rev().collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn what_fails_at_once_is_no_body_and_what_fails_later_has_no_end() {
        assert!(Ahead::begin(Count { left: 3, fails_at: Some(3) }).await.is_err());
        let mut body = Ahead::begin(Count { left: 3, fails_at: Some(1) }).await.unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
        assert!(!body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
