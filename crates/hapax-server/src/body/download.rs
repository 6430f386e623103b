//! From a source into the socket, one chunk being sent while another is read.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hapax_proto::byteranges::Piece;
use hapax_proto::span::{Length, Span};
use http_body::{Body, Frame, SizeHint};

use crate::body::CHUNK;
use crate::body::ahead::{Ahead, Producer};

/// Where chunks come from. `read` runs on a blocking thread.
pub trait Source: Send + 'static {
    /// What can go wrong in it.
    type Error: Error + Send + Sync + 'static;

    /// Appends exactly the bytes of the span, all of them authenticated.
    fn read(&mut self, span: Span, into: &mut Vec<u8>) -> Result<(), Self::Error>;
}

/// A body on its way out: spans of a file, and texts between them.
///
/// It reads ahead as [`Ahead`] does; a chunk may hold several pieces, so many small ranges cost few hops.
pub struct Download<S: Source> {
    chunks: Ahead<Pieces<S>>,
    /// What was not sent yet.
    unsent: Length,
}

/// What was not read yet, and where from.
struct Pieces<S> {
    unread: VecDeque<Piece>,
    source: S,
}

impl<S: Source> Producer for Pieces<S> {
    type Error = S::Error;

    fn produce(&mut self) -> Result<Option<Bytes>, S::Error> {
        let (pieces, length) = take_chunk(&mut self.unread);
        if length.is_zero() {
            return Ok(None);
        }
        let length = usize::try_from(length.get()).expect("a chunk fits into memory");
        let mut chunk = Vec::with_capacity(length);
        for piece in pieces {
            match piece {
                Piece::Text(text) => chunk.extend_from_slice(&text),
                Piece::File(span) => self.source.read(span, &mut chunk)?,
            }
        }
        assert_eq!(chunk.len(), length, "a source appends exactly the spans");
        Ok(Some(Bytes::from(chunk)))
    }

    fn is_over(&self) -> bool {
        self.unread.is_empty()
    }
}

impl<S: Source> Download<S> {
    /// Reads the first chunk, so that a damaged file can still be answered with a status of its own.
    ///
    /// # Errors
    /// What the source said of the first chunk.
    pub async fn begin(source: S, pieces: Vec<Piece>) -> Result<Self, S::Error> {
        let unsent = pieces.iter().map(Piece::length).try_fold(Length::ZERO, Length::checked_add);
        let unsent = unsent.expect("a body is at most a file with short texts in between");
        Ok(Self { chunks: Ahead::begin(Pieces { unread: pieces.into(), source }).await?, unsent })
    }
}

/// Takes pieces of at most [`CHUNK`] bytes in all from the front, and returns them with their length. A span that is
/// longer is cut; a text is short, and the last of them may reach a little beyond.
fn take_chunk(unread: &mut VecDeque<Piece>) -> (Vec<Piece>, Length) {
    let (mut taken, mut length) = (Vec::new(), Length::ZERO);
    while let Some(room) = CHUNK.checked_sub(length).filter(|room| !room.is_zero()) {
        let Some(piece) = unread.pop_front() else { break };
        let now = match piece {
            Piece::File(span) if span.length() > room => {
                let (now, later) = cut(span, room);
                unread.push_front(Piece::File(later));
                Piece::File(now)
            }
            piece => piece,
        };
        length = length.checked_add(now.length()).expect("a chunk is small");
        taken.push(now);
    }
    (taken, length)
}

/// Cuts a span behind its first `length` bytes; it is longer than that.
fn cut(span: Span, length: Length) -> (Span, Span) {
    let now = Span::at(span.start(), length).expect("it ends within the span");
    (now, Span::new(now.end(), span.end()).expect("it ends within the span"))
}

impl<S: Source + Unpin> Body for Download<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(chunk) = ready!(self.chunks.poll_chunk(cx)?) else { return Poll::Ready(None) };
        self.unsent = self.unsent.checked_sub(Length::of(&chunk)).expect("a chunk lies in what is unsent");
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.unsent.is_zero()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.unsent.get())
    }
}

#[cfg(test)]
mod tests {
    use hapax_proto::span::Offset;
    use http_body_util::BodyExt;

    use super::*;
    use crate::body::CHUNK_BYTES;

    /// A file of which every byte is its offset's lowest, and which is damaged from some offset on.
    struct File {
        sound: Offset,
    }

    impl Source for File {
        type Error = io::Error;

        fn read(&mut self, span: Span, into: &mut Vec<u8>) -> Result<(), io::Error> {
            if span.end() > self.sound {
                return Err(io::ErrorKind::InvalidData.into());
            }
            into.extend((span.start().get()..span.end().get()).map(|offset| offset.to_le_bytes()[0]));
            Ok(())
        }
    }

    const SOUND: File = File { sound: Offset::new(u64::MAX) };

    fn file(start: u64, end: u64) -> Piece {
        Piece::File(Span::new(Offset::new(start), Offset::new(end)).unwrap())
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_download_is_its_pieces_in_their_order() {
        async fn check(pieces: &[Piece]) {
            let expected: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::File(span) => {
                        (span.start().get()..span.end().get()).map(|offset| offset.to_le_bytes()[0]).collect()
                    }
                })
                .collect();
            let download = Download::begin(SOUND, pieces.to_vec()).await.unwrap();
            assert_eq!(download.size_hint().exact(), Some(expected.len() as u64));
            let bytes = download.collect().await.unwrap().to_bytes();
            assert!(bytes == expected, "{pieces:?}");
        }
        let chunk = CHUNK.get();
        check(&[]).await;
        check(&[file(0, 0)]).await;
        check(&[file(7, 7)]).await;
        check(&[file(0, 1)]).await;
        check(&[file(3, chunk + 3)]).await;
        check(&[file(0, chunk + 1)]).await;
        check(&[file(5, 3 * chunk + 17)]).await;
        check(&[text("a"), file(9, 10), text("b"), file(0, 3), text("c")]).await;
        check(&[text("a"), file(0, chunk), text("b"), file(1, 2 * chunk), text("c")]).await;
        check(&[text("a"), file(0, chunk - 1), text("b")]).await;
        check(&[file(0, chunk - 1), text("longer than the rest"), file(4, 5)]).await;
    }

    #[tokio::test]
    async fn what_is_in_memory_does_not_grow_with_the_body() {
        let pieces: Vec<_> =
            (0..32).flat_map(|n| [text("between"), file(n << 40, (n << 40) + (1 << 30))]).collect();
        let mut download = Download::begin(SOUND, pieces).await.unwrap();
        for _ in 0..8 {
            let frame = download.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame.len(), CHUNK_BYTES);
        }
    }

    #[tokio::test]
    async fn damage_in_the_first_chunk_is_known_before_anything_is_sent() {
        let damaged = File { sound: Offset::new(CHUNK.get() - 1) };
        assert!(Download::begin(damaged, vec![file(0, 2 * CHUNK.get())]).await.is_err());
    }

    #[tokio::test]
    async fn later_damage_ends_the_body_with_an_error() {
        let damaged = File { sound: Offset::new(CHUNK.get()) };
        let mut download = Download::begin(damaged, vec![file(0, 2 * CHUNK.get())]).await.unwrap();
        let first = download.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), CHUNK_BYTES);
        assert!(download.frame().await.unwrap().is_err());
        assert!(!download.is_end_stream(), "the rest was never sent");
        assert!(download.frame().await.is_none());
    }
}
