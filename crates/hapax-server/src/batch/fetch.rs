//! Many small files in one answer: the mirror of a batch. Every item is a GET for itself, with its own rights and its own
//! problem; what they share is the request, and the object that is open.
//!
//! ```text
//!   items ──> the file there ──> its first bytes, authenticated ──> header + content ──> … ──> the end
//!                └─ refused: a header alone                           └─ damaged behind them: no end
//! ```
//!
//! Nothing is written into a record that was not read before, as far as its first chunk goes; a file that fails behind it
//! takes the end of the answer with it. Memory: the items, the chunk that is sent, and the chunk that is made.

use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use hapax_proto::access::Verb;
use hapax_proto::batch::{END, Limits, MEDIA_TYPE, encode_header};
use hapax_proto::dialect::native::{FetchBatch, FetchItem, FetchOutcome, FetchRecord, FetchedFile};
use hapax_proto::problem::Kind;
use hapax_proto::span::{Length, Offset, Span};
use hapax_store::catalog::{Blob, EntryKind, UserId};
use hapax_store::content::ContentReader;
use hapax_store::error::StoreError;
use hapax_store::store::Store;
use http::StatusCode;

use super::too_large;
use crate::body::{Ahead, CHUNK, CHUNK_BYTES, Producer};
use crate::call::{Call, Spaces};
use crate::files::spell_entity_tag;
use crate::limits::Pass;
use crate::respond::{self, Refusal, Response};
use crate::stamp;

/// `POST /api/v1/batch/get`.
///
/// # Errors
/// 413 for more items than may be, 429 while the account has as many batches under way as it may.
pub async fn fetch(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let (user, spaces) = (call.who()?.user, call.spaces()?);
    let pass = call.app.batches.enter(user).ok_or(Kind::TooMany)?;
    let limits = call.app.config.caps.batch;
    let FetchBatch { items } = call.json_items(limits.records).await?;
    let sending = Sending {
        store: Arc::clone(&call.app.store),
        spaces,
        limits,
        items: items.into_iter(),
        room: limits.body,
        reader: None,
        unread: Span::whole(Length::ZERO),
        over: false,
        _pass: pass,
    };
    Ok(respond::made(StatusCode::OK, MEDIA_TYPE, Ahead::begin(sending).await?))
}

/// A batch on its way out.
struct Sending {
    store: Arc<Store>,
    spaces: Spaces,
    limits: Limits,
    /// What was not answered yet.
    items: vec::IntoIter<FetchItem>,
    /// How many more bytes the answer may have.
    room: Length,
    /// The file that was read last.
    reader: Option<ContentReader>,
    /// What of it was not sent yet.
    unread: Span,
    /// Whether the end was written.
    over: bool,
    /// Given back when the answer is sent, or nobody takes it any more.
    _pass: Pass<UserId>,
}

impl Producer for Sending {
    type Error = StoreError;

    fn produce(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.over {
            return Ok(None);
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        while chunk.len() < CHUNK_BYTES && !self.over {
            if !self.unread.is_empty() {
                self.go_on(&mut chunk)?;
            } else if let Some(item) = self.items.next() {
                self.over = !self.answer(&item, &mut chunk);
            } else {
                self.over = true;
            }
        }
        if self.over {
            chunk.extend(END);
        }
        Ok(Some(chunk.into()))
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

impl Sending {
    /// Reads on in the file that was begun.
    fn go_on(&mut self, chunk: &mut Vec<u8>) -> Result<(), StoreError> {
        let reader = self.reader.as_mut().expect("what is unread has its reader");
        let (now, later) = cut(self.unread);
        reader.read(now, chunk)?;
        self.unread = later;
        Ok(())
    }

    /// Writes the record of an item and the first bytes of its content. Tells whether the answer goes on: it ends before
    /// the first file that has no room in it.
    fn answer(&mut self, item: &FetchItem, chunk: &mut Vec<u8>) -> bool {
        let id = item.id;
        let found = self.find(item).and_then(|(file, blob)| {
            let size = Length::new(file.size);
            let record =
                FetchRecord { id, status: StatusCode::OK.as_u16(), outcome: FetchOutcome::File(file) };
            let header = encode_header(&record).map_err(|_| Kind::Internal)?;
            Ok((header, size, blob))
        });
        let begun = chunk.len();
        let written = found.and_then(|(header, size, blob)| {
            let Some(room) =
                Length::of(&header).checked_add(size).and_then(|bytes| self.room.checked_sub(bytes))
            else {
                return Ok(false);
            };
            chunk.extend(header);
            self.begin(&blob, chunk).inspect_err(|error| self.store.report_damage(&blob, error))?;
            self.room = room;
            Ok(true)
        });
        written.unwrap_or_else(|refusal| {
            chunk.truncate(begun);
            chunk.extend(refused(id, &refusal));
            true
        })
    }

    /// Finds the file that an item asks for.
    fn find(&mut self, item: &FetchItem) -> Result<(FetchedFile, Blob), Refusal> {
        let place = self.spaces.place_in_body(&item.path, Verb::ReadEntry)?;
        let entry = self.store.entry(place.space.id, &place.path)?.ok_or(Kind::NotFound)?;
        let EntryKind::File { blob, meta, entity } = entry.kind else {
            return Err(Kind::IsAFolder.into());
        };
        let etag = spell_entity_tag(&self.store, &entity);
        if item.etag.as_ref().is_some_and(|wanted| *wanted != etag) {
            return Err(Kind::Changed.into());
        }
        if blob.size > self.limits.record {
            return Err(too_large(self.limits.record));
        }
        let file = FetchedFile {
            path: place.long(),
            etag,
            size: blob.size.get(),
            blake3: self.store.identity(&blob)?.blake3,
            mtime: meta.mtime.and_then(stamp::spell_mtime),
            executable: meta.executable,
        };
        Ok((file, blob))
    }

    /// Begins to read a file, so that one that cannot be read is refused by itself as far as its first bytes tell.
    fn begin(&mut self, blob: &Blob, chunk: &mut Vec<u8>) -> Result<(), StoreError> {
        let mut reader = match self.reader.take() {
            Some(before) => before.turn_to(&self.store, blob)?,
            None => self.store.read_blob(blob)?,
        };
        let (now, later) = cut(Span::whole(blob.size));
        reader.read(now, chunk)?;
        (self.reader, self.unread) = (Some(reader), later);
        Ok(())
    }
}

/// Cuts a span behind its first chunk.
fn cut(span: Span) -> (Span, Span) {
    let now = span.length().min(CHUNK);
    let behind: Offset = span.start().checked_add(now).expect("it ends within the span");
    let cut = |start, end| Span::new(start, end).expect("it ends within the span");
    (cut(span.start(), behind), cut(behind, span.end()))
}

/// Writes the record of an item that is refused.
fn refused(id: u64, refusal: &Refusal) -> Vec<u8> {
    let kind = refusal.problem().kind;
    let outcome = FetchOutcome::Refused { problem: kind.name().to_owned() };
    let record = FetchRecord { id, status: kind.status().as_u16(), outcome };
    encode_header(&record).expect("a number and the name of a problem are short")
}
