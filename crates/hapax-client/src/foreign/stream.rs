//! A file of a foreign server into a stream, in order, over one connection at a time. What left cannot be taken back:
//! so a version that changes ends it, and a digest that is wrong is told at the end.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hapax_proto::digest::{Digests, Hasher};
use hapax_proto::pin::foreign::{End, Held, Opening, Version};
use hapax_proto::span::{Length, Offset, Span};

use super::fill::{Usable, ask, behind};
use super::line::{Body, Line};
use super::probe::open;
use super::{Address, Proof, Web};
use crate::attempt::Attempts;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::source::PIECE;
use crate::tasks::blocking;

/// What came of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// How much it was.
    pub size: Length,
    /// What shows that it is whole.
    pub proof: Proof,
}

/// Writes what an address names to a stream.
///
/// # Errors
/// [`TransferError::Changed`] if it changed after its first bytes had left, [`TransferError::Output`] if the stream
/// does not take it, [`TransferError::DigestMismatch`] if all of it left and is not what it should be.
pub async fn fetch_stream(
    web: &Web,
    (address, digests): (&Address, &Digests),
    output: impl Write + Send + 'static,
    progress: &Arc<dyn Progress>,
) -> Result<Streamed, TransferError> {
    let line = Line::new(web, address, progress);
    let mut attempts = Attempts::new(line.policy(), progress, 0);
    let writer = Arc::new(Mutex::new(output));
    loop {
        let opened = open(&line, Opening::Range, (digests, None)).await?;
        let held = opened.version.held(digests).filter(Held::shows_in_answers);
        progress.event(Event::Begun { size: opened.version.size, kept: Length::ZERO });
        let mut output = Output::new(&writer, &opened.version, digests);
        let body = if opened.is_whole { Usable::Whole(opened.body) } else { Usable::Piece(opened.body) };
        match pour(&line, held.as_ref(), body, &mut output).await {
            Ok(end) => {
                let streamed = output.end(&line, &opened.version, end);
                progress.event(Event::Done);
                return streamed;
            }
            // Nothing left yet: another beginning is as good.
            Err(error) if output.written == Offset::ZERO => attempts.after(error, 0).await?,
            Err(error) => return Err(error),
        }
    }
}

/// Where the bytes go, and what they hash to.
struct Output<W> {
    writer: Arc<Mutex<W>>,
    written: Offset,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    hasher: Hasher,
    expected: Digests,
}

impl<W: Write + Send + 'static> Output<W> {
    fn new(writer: &Arc<Mutex<W>>, version: &Version, digests: &Digests) -> Self {
        let expected: Digests = version.digests.iter().chain(digests.iter()).collect();
        Self {
            writer: Arc::clone(writer),
            written: Offset::ZERO,
            waiting: Vec::new(),
            waiting_bytes: 0,
            hasher: Hasher::new(expected.algorithms()),
            expected,
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), TransferError> {
        self.hasher.update(&bytes);
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
        self.waiting.push(bytes);
        if self.waiting_bytes >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), TransferError> {
        let (writer, waiting) = (Arc::clone(&self.writer), std::mem::take(&mut self.waiting));
        let length = Length::new(std::mem::take(&mut self.waiting_bytes) as u64);
        let written = blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.iter().try_for_each(|bytes| writer.write_all(bytes)).and_then(|()| writer.flush())
        })
        .await;
        written.map_err(|source| TransferError::Output { offset: self.written, source })?;
        self.written = self.written.checked_add(length).expect("no file is that long");
        Ok(())
    }

    /// Compares what left with what it should be.
    fn end(self, line: &Line, version: &Version, end: End) -> Result<Streamed, TransferError> {
        let size = Length::new(self.written.get());
        if let Some((actual, expected)) = self.hasher.digests().disagreement(&self.expected) {
            let path = line.address().to_string();
            return Err(TransferError::DigestMismatch {
                path,
                expected: Box::new(expected),
                actual: Box::new(actual),
            });
        }
        let proof = match self.expected.iter().next() {
            Some(digest) => Proof::Digest(digest.algorithm()),
            None if version.size.is_some() || end == End::Marked => Proof::Length,
            None => Proof::Unverified,
        };
        Ok(Streamed { size, proof })
    }
}

/// Writes answer after answer until the file ends; only what is held goes on after the first one.
async fn pour<W: Write + Send + 'static>(
    line: &Line,
    held: Option<&Held>,
    mut body: Usable,
    output: &mut Output<W>,
) -> Result<End, TransferError> {
    let mut attempts = Attempts::new(line.policy(), line.progress(), line.arrived());
    loop {
        let (Usable::Piece(arriving) | Usable::Whole(arriving)) = &mut body;
        let poured = arrive(line, arriving, output).await;
        output.flush().await?;
        let end = arriving.end();
        let rest = held.and_then(|held| Span::new(output.written, held.pin.size.end()));
        let (Some(held), Some(rest)) = (held, rest.filter(|rest| !rest.is_empty())) else {
            return poured.map(|()| end);
        };
        if let Err(error) = poured {
            attempts.after(error, line.arrived()).await?;
        }
        body = loop {
            match ask(line, held, rest).await {
                Ok(Usable::Piece(body)) => break Usable::Piece(body),
                Ok(Usable::Whole(mut body)) => {
                    let mut skip = rest.start().since(Offset::ZERO).unwrap_or_default();
                    match skipped(&mut body, &mut skip).await {
                        Ok(left_over) => {
                            output.take(left_over).await?;
                            break Usable::Whole(body);
                        }
                        Err(error) => attempts.after(error, line.arrived()).await?,
                    }
                }
                Err(error) => attempts.after(error, line.arrived()).await?,
            }
        };
    }
}

/// Writes one answer's bytes.
async fn arrive<W: Write + Send + 'static>(
    line: &Line,
    body: &mut Body,
    output: &mut Output<W>,
) -> Result<(), TransferError> {
    while let Some(bytes) = body.next().await? {
        let length = Length::of(&bytes);
        output.take(bytes).await?;
        line.progress().event(Event::Solid(length));
    }
    Ok(())
}

/// Reads over the bytes that left already, and returns the first ones behind them.
async fn skipped(body: &mut Body, skip: &mut Length) -> Result<Bytes, TransferError> {
    while let Some(bytes) = body.next().await? {
        let rest = behind(bytes, skip);
        if !rest.is_empty() {
            return Ok(rest);
        }
    }
    Ok(Bytes::new())
}
