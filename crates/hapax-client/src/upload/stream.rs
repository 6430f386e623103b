//! A stream of unknown length: kept one part at a time, so that a part can be repeated but the stream cannot. Not
//! resumable in another process, because nobody could say the bytes again.

use std::io::{self, Read};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hapax_proto::dialect::native::{Complete, Completed, CreateUpload};
use hapax_proto::digest::{Digests, FileHash, Identity};
use hapax_proto::problem::Kind;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{Frontier, PART, PartHasher, PartNumber};

use super::part::{Job, Line, Origin, PartEnd, send_part};
use super::plan::random_key;
use super::{How, Outcome, Put};
use crate::attempt::{Attempts, repeat};
use crate::claim::unless_there;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::tasks::blocking;
use crate::wire::{Content, Meter, Payload, Pieces};

/// Puts what a stream gives, up to its end.
///
/// # Errors
/// [`TransferError::Input`] if the stream breaks; then nothing is published, and the upload is cancelled.
pub async fn put_stream(
    client: &Client,
    input: impl Read + Send + 'static,
    put: &Put,
    progress: &Arc<dyn Progress>,
) -> Result<Outcome, TransferError> {
    let mut input = Input { reader: Arc::new(Mutex::new(input)), read: Offset::ZERO };
    progress.event(Event::Begun { size: None, kept: Length::ZERO });
    let first = input.next_part().await?;
    let stored = if Length::of(&first) < PART {
        put_whole(client, first, put, progress).await?
    } else {
        let create = create(put);
        let status = repeat(&client.policy, progress, || client.api.create_upload(&create)).await?;
        let line = Line {
            client: client.clone(),
            id: status.id.into(),
            // While the size is unknown, a run that begins a part says where it ends.
            run: PART,
            progress: Arc::clone(progress),
            durable: Arc::new(AtomicU64::new(0)),
        };
        match put_parts(&line, first, &mut input).await {
            Ok(stored) => stored,
            Err(error) => {
                // It expires by itself if it cannot be cancelled now; the error is the one that matters.
                let _ = client.api.cancel_upload(&line.id).await;
                return Err(error);
            }
        }
    };
    progress.event(Event::Done);
    Ok(Outcome { how: How::Sent, stored })
}

/// A stream, cut into parts.
struct Input<R> {
    reader: Arc<Mutex<R>>,
    read: Offset,
}

impl<R: Read + Send + 'static> Input<R> {
    /// Reads a whole part, or less at the end.
    async fn next_part(&mut self) -> Result<Bytes, TransferError> {
        let reader = Arc::clone(&self.reader);
        let read = blocking(move || {
            let mut part = Vec::new();
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.by_ref().take(PART.get()).read_to_end(&mut part)?;
            Ok::<_, io::Error>(Bytes::from(part))
        })
        .await;
        let part = read.map_err(|source| TransferError::Input { offset: self.read, source })?;
        self.read = self.read.checked_add(Length::of(&part)).expect("no stream lasts that long");
        Ok(part)
    }
}

/// Sends a stream of less than one part in one request.
async fn put_whole(
    client: &Client,
    bytes: Bytes,
    put: &Put,
    progress: &Arc<dyn Progress>,
) -> Result<Completed, TransferError> {
    let (length, blake3) = (Length::of(&bytes), FileHash::of(&bytes));
    let mut attempts = Attempts::new(&client.policy, progress, 0);
    loop {
        let meter = Meter::new(Arc::clone(progress));
        let payload =
            Payload::Content(Content { from: Pieces::Memory(bytes.clone()), length, meter: meter.clone() });
        match client.api.put_file(&put.target.path, blake3, put.target.precondition.as_ref(), payload).await {
            Ok(stored) => {
                progress.event(Event::Solid(length));
                return Ok(stored);
            }
            Err(error) => {
                progress.event(Event::Lost(meter.moved()));
                if matches!(error.problem(), Some(Kind::PreconditionFailed | Kind::Exists)) {
                    let ours = Identity { blake3, size: length };
                    return unless_there(client, &put.target, ours, (error, progress)).await;
                }
                attempts.after(error, 0).await?;
            }
        }
    }
}

/// Sends part after part, then says where the end was.
async fn put_parts<R: Read + Send + 'static>(
    line: &Line,
    first: Bytes,
    input: &mut Input<R>,
) -> Result<Completed, TransferError> {
    let (mut number, mut bytes) = (PartNumber::FIRST, first);
    let mut frontier = None::<Frontier>;
    while !bytes.is_empty() {
        let length = Length::of(&bytes);
        let (hasher, part) = blocking(move || {
            let mut hasher = PartHasher::new(number);
            hasher.update(&bytes).expect("a part of the input is at most PART long");
            (hasher, bytes)
        })
        .await;
        let value = hasher.value().expect("the part is not empty");
        match (&mut frontier, hasher.root()) {
            (Some(frontier), _) => frontier.push(value),
            (none, Some(root)) => *none = Some(Frontier::beginning_with(value, root)),
            (None, None) => unreachable!("the first part has a root"),
        }
        let span = Span::at(number.start(), length).expect("parts end below 2^56");
        let job = Job { origin: Origin::Memory(part), part: number, span, value, from: Length::ZERO };
        match send_part(line, job).await? {
            PartEnd::Stored => {}
            PartEnd::Gone(error) => return Err(error),
            PartEnd::Changed => unreachable!("bytes in memory do not change"),
        }
        if length < PART {
            break;
        }
        number = number.next().expect("the largest file has fewer parts");
        bytes = input.next_part().await?;
    }
    let complete = Complete { size: input.read.get(), blake3: frontier.and_then(|frontier| frontier.root()) };
    repeat(&line.client.policy, &line.progress, || line.client.api.complete(&line.id, &complete)).await
}

fn create(put: &Put) -> CreateUpload {
    CreateUpload {
        key: random_key(),
        path: put.target.path.to_string(),
        size: None,
        mtime: None,
        executable: false,
        media_type: put.media_type.clone(),
        digests: Digests::default(),
        precondition: put.target.precondition.clone(),
    }
}
