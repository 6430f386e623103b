//! A remote file into a stream, in order. Keeps one part at a time, because nothing leaves before it is proven; not
//! resumable in another process, because what left cannot be looked at again.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{PartHasher, PartNumber, ProvenParts};

use super::fetch::{Damage, Line};
use super::plan::{values, version};
use super::{Got, How, ROUNDS_MAX};
use crate::api::RemotePath;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::tasks::blocking;

/// Writes a remote file to a stream.
///
/// # Errors
/// [`TransferError::Changed`] if the file changed after its first part had left, [`TransferError::Output`] if the
/// stream does not take it.
pub async fn get_stream(
    client: &Client,
    source: &RemotePath,
    output: impl Write + Send + 'static,
    progress: &Arc<dyn Progress>,
) -> Result<Got, TransferError> {
    let mut output = Output { writer: Arc::new(Mutex::new(output)), written: Offset::ZERO };
    for _ in 0..ROUNDS_MAX {
        let version = version(client, source, progress).await?;
        progress.event(Event::Begun { size: Some(version.identity.size), kept: Length::ZERO });
        let line = Line::new(client, source, &version, progress);
        let streamed = match values(client, source, &version, progress).await {
            Ok(proven) => stream(&line, &proven, &mut output, progress).await,
            Err(error) => Err(error),
        };
        match streamed {
            Ok(()) => {
                progress.event(Event::Done);
                return Ok(version.got(How::Fetched));
            }
            Err(TransferError::Changed { .. }) if output.written == Offset::ZERO => {
                progress.event(Event::Changed);
            }
            Err(error) => return Err(error),
        }
    }
    Err(TransferError::Unsettled { path: source.to_string(), rounds: ROUNDS_MAX })
}

/// Where the parts go.
struct Output<W> {
    writer: Arc<Mutex<W>>,
    written: Offset,
}

impl<W: Write + Send + 'static> Output<W> {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), TransferError> {
        let (writer, length) = (Arc::clone(&self.writer), Length::of(&bytes));
        let written = blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.write_all(&bytes)?;
            writer.flush()
        })
        .await;
        written.map_err(|source| TransferError::Output { offset: self.written, source })?;
        self.written = self.written.checked_add(length).expect("no file is that long");
        Ok(())
    }
}

/// The part that is being received.
struct Gathering {
    part: PartNumber,
    span: Span,
    bytes: Vec<u8>,
    damaged: u32,
}

impl Gathering {
    /// Begins a part; `None` if the file ends before it.
    fn of(part: PartNumber, size: Length) -> Option<Self> {
        Some(Self { part, span: part.span(size)?, bytes: Vec::new(), damaged: 0 })
    }

    /// Returns the offset of the next byte.
    fn next(&self) -> Offset {
        self.span.start().checked_add(Length::of(&self.bytes)).expect("a part ends below 2^56")
    }

    /// Takes what belongs to this part, and returns the rest.
    fn take(&mut self, mut bytes: Bytes) -> Bytes {
        let room = self.span.end().since(self.next()).expect("no more was taken than the part has");
        let room = usize::try_from(room.get()).unwrap_or(usize::MAX).min(bytes.len());
        self.bytes.extend_from_slice(&bytes.split_to(room));
        bytes
    }

    fn is_full(&self) -> bool {
        self.next() == self.span.end()
    }
}

/// Streams a version.
async fn stream<W: Write + Send + 'static>(
    line: &Line,
    proven: &ProvenParts,
    output: &mut Output<W>,
    progress: &Arc<dyn Progress>,
) -> Result<(), TransferError> {
    let mut attempts = line.attempts();
    let mut gathering = Gathering::of(PartNumber::FIRST, proven.identity().size);
    while gathering.is_some() {
        if let Err(error) = receive(line, proven, (&mut gathering, output), progress).await {
            attempts.after(error, line.mark()).await?;
        }
    }
    Ok(())
}

/// Receives part after part in one request, for as long as the line holds and the parts are good.
async fn receive<W: Write + Send + 'static>(
    line: &Line,
    proven: &ProvenParts,
    (gathering, output): (&mut Option<Gathering>, &mut Output<W>),
    progress: &Arc<dyn Progress>,
) -> Result<(), TransferError> {
    let end = proven.identity().size.end();
    let Some(rest) = gathering.as_ref().and_then(|now| Span::new(now.next(), end)) else { return Ok(()) };
    let mut arriving = line.ask(rest).await?;
    while let Some(mut bytes) = arriving.next().await? {
        while let Some(now) = gathering.as_mut().filter(|_| !bytes.is_empty()) {
            bytes = now.take(bytes);
            if now.is_full() {
                match pass(line, proven, now, output, progress).await? {
                    Passed::Next(next) => *gathering = next,
                    // What follows belongs behind a part that is not good.
                    Passed::Damaged => return Ok(()),
                }
            }
        }
    }
    Ok(())
}

/// What became of a part that was received.
enum Passed {
    /// It left; this is the next one, unless the file ends.
    Next(Option<Gathering>),
    /// It is not what it should be, and begins again.
    Damaged,
}

/// Proves a part and writes it out.
async fn pass<W: Write + Send + 'static>(
    line: &Line,
    proven: &ProvenParts,
    now: &mut Gathering,
    output: &mut Output<W>,
    progress: &Arc<dyn Progress>,
) -> Result<Passed, TransferError> {
    let (part, span, bytes) = (now.part, now.span, std::mem::take(&mut now.bytes));
    let (hasher, bytes) = blocking(move || {
        let mut hasher = PartHasher::new(part);
        hasher.update(&bytes).expect("a part is at most PART long");
        (hasher, bytes)
    })
    .await;
    if !proven.proves(&hasher) {
        now.damaged += 1;
        line.damaged(part, now.damaged, Damage { span, proven, hashed: &hasher })?;
        return Ok(Passed::Damaged);
    }
    output.write(bytes).await?;
    progress.event(Event::Solid(span.length()));
    let size = proven.identity().size;
    Ok(Passed::Next(part.next().and_then(|next| Gathering::of(next, size))))
}
