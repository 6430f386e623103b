//! Compaction: parts that lie in many pieces become one object each, and objects of which little is left alive are given
//! up. Writes new objects beside the old ones and swaps rows; never changes a byte of a content, and never stores twice what
//! several contents share. Keeps no progress: what is done is done, and looking for the rest is cheap.
//!
//! ```text
//!   part of a blob   [frag)[frag)[── fragment ──)      an object   [dead)[live)[ dead  )[live)
//!                      │     │      │                                      │             │
//!        one object   [───────────────────────)       packed anew        [live)[live)
//!   the old ones are dropped, and stay for the grace: a reader may still hold them
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PartNumber, part_count};

use crate::catalog::{Blob, BlobId, ContentId, Extent, Intent, Owner, Refusal, Rewrite};
use crate::committer::{Bytes, MakeIntent, Submission};
use crate::content::ContentReader;
use crate::error::StoreError;
use crate::heal::is_unreadable;
use crate::id::ObjectId;
use crate::intake::PartWriter;
use crate::job::{Go, Pace};
use crate::store::{Store, mask};
use crate::upload::span_of;

/// Rows looked up at a time.
const PAGE: usize = 256;

/// Small parts that are written together, and how many bytes of them: they share an object.
const TOGETHER_MAX: usize = 256;
const TOGETHER_BYTES_MAX: usize = 8 << 20;

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Parts that are one object now, or lie in another one.
    pub parts: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether it came to its end.
    pub ended: bool,
}

/// A part that is to be written anew.
struct Work {
    blob: Blob,
    /// What is believed of its content.
    version: u64,
    part: PartNumber,
    span: Span,
    extents: Vec<Extent>,
}

/// What became of one piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is done, or waits to be written with others.
    Done,
    /// It is better left alone.
    Left,
    /// The job was told to stop.
    Stopped,
}

impl Store {
    /// Goes once through everything and writes anew what lies in pieces or among dead bytes. Blocks for as long as that
    /// takes; safe to run beside everything else and to kill. It stops early when space runs short.
    ///
    /// # Errors
    /// What catalog and disk say of writing. What cannot be read is noted as damaged, and left.
    pub fn compact(&self, go: Pace<'_>) -> Result<Compacted, StoreError> {
        let mut compaction = Compaction {
            store: self,
            go,
            waiting: Vec::new(),
            touched: BTreeSet::new(),
            bytes: 0,
            done: Compacted::default(),
        };
        let ended = compaction.fragments()? && compaction.dead_objects()?;
        compaction.flush()?;
        compaction.done.ended = ended;
        Ok(compaction.done)
    }
}

/// One run.
struct Compaction<'a> {
    store: &'a Store,
    go: Pace<'a>,
    /// Small parts that are to share an object, with their length.
    waiting: Vec<(Submission, Length)>,
    /// The contents they belong to: each is changed once by a commit, for that raises its version.
    touched: BTreeSet<ContentId>,
    /// How many bytes they have.
    bytes: usize,
    done: Compacted,
}

impl Compaction<'_> {
    /// Looks for parts in several pieces; tells whether it was let finish.
    fn fragments(&mut self) -> Result<bool, StoreError> {
        let mut after: Option<BlobId> = None;
        loop {
            let page = self.store.catalog().extent_counts(after, PAGE)?;
            for (blob, count) in &page {
                after = Some(blob.id);
                if *count <= part_count(blob.size) || blob.damaged {
                    continue;
                }
                for part in self.parts_in_pieces(blob.content)? {
                    if self.rewrite(blob, part)? == Step::Stopped {
                        return Ok(false);
                    }
                }
            }
            if page.len() < PAGE {
                return Ok(true);
            }
        }
    }

    fn parts_in_pieces(&self, content: ContentId) -> Result<Vec<PartNumber>, StoreError> {
        let (mut parts, mut last) = (Vec::new(), None);
        self.store.catalog().each_extent(content, &mut |extent| {
            let part = PartNumber::holding(extent.span.start());
            if part == last && parts.last().copied() != part {
                parts.extend(part);
            }
            last = part;
        })?;
        Ok(parts)
    }

    /// Looks for objects of which less than half is held; tells whether it was let finish.
    fn dead_objects(&mut self) -> Result<bool, StoreError> {
        let mut after: Option<ObjectId> = None;
        loop {
            let page = self.store.catalog().live_objects(after, PAGE)?;
            for (object, length, used) in &page {
                after = Some(object.id);
                if used.get() < length.get().div_ceil(2) && self.empty(object.id)? == Step::Stopped {
                    return Ok(false);
                }
            }
            if page.len() < PAGE {
                return Ok(true);
            }
        }
    }

    /// Writes anew what is held of an object, if it can be given up then.
    fn empty(&mut self, object: ObjectId) -> Result<Step, StoreError> {
        let mut parts = Vec::new();
        for holder in self.store.catalog().holders(object)? {
            // Whatever else holds it keeps it.
            let Owner::Blob(blob) = holder.owner else { return Ok(Step::Left) };
            let part = PartNumber::holding(holder.extent.span.start());
            let Some(part) = part.filter(|_| !blob.damaged) else { return Ok(Step::Left) };
            parts.push((blob, part));
        }
        parts.dedup_by(|next, before| next.0.id == before.0.id && next.1 == before.1);
        for (blob, part) in parts {
            let step = self.rewrite(&blob, part)?;
            if step != Step::Done {
                return Ok(step);
            }
        }
        Ok(Step::Done)
    }

    /// Writes one part of a blob as one piece.
    fn rewrite(&mut self, blob: &Blob, part: PartNumber) -> Result<Step, StoreError> {
        if self.touched.contains(&blob.content) {
            self.flush()?;
        }
        if self.store.admit().is_err() {
            return Ok(Step::Stopped);
        }
        let Some(work) = self.look(blob, part)? else { return Ok(Step::Left) };
        let written = match self.write(&work) {
            Ok(Some(written)) => written,
            Ok(None) => return Ok(Step::Stopped),
            Err(error) if is_unreadable(&error) => {
                // Else it was moved meanwhile, and what was to be read is gone.
                if self.store.catalog().version(blob.content)? == Some(work.version) {
                    self.store.report_damage(blob, &error);
                }
                return Ok(Step::Left);
            }
            Err(error) => return Err(error),
        };
        self.submit(&work, written)
    }

    /// Reads the rows of a part, unless somebody else shares its bytes: written anew they would be stored twice.
    fn look(&self, blob: &Blob, part: PartNumber) -> Result<Option<Work>, StoreError> {
        let catalog = self.store.catalog();
        let Some(version) = catalog.version(blob.content)? else { return Ok(None) };
        let Some(span) = part.span(blob.size) else { return Ok(None) };
        let extents = catalog.extents(blob.content, span_of(part), usize::MAX)?;
        for extent in &extents {
            let ours = Span::at(extent.object_start, extent.span.length());
            for holder in catalog.holders(extent.object.id)? {
                let theirs = Span::at(holder.extent.object_start, holder.extent.span.length());
                let shared = ours.zip(theirs).is_some_and(|(one, other)| one.intersection(other).is_some());
                if shared && holder.content != blob.content {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Work { blob: blob.clone(), version, part, span, extents }))
    }

    /// Reads a part and writes it as one piece, not durable yet; `None` if it was stopped.
    fn write(&self, work: &Work) -> Result<Option<PartWriter>, StoreError> {
        let store = self.store;
        let (content, size) = (work.blob.content, work.blob.size);
        let mut reader = ContentReader::of_extents(&store.stores, content, size, work.extents.clone());
        let mut writer = PartWriter::new(work.part);
        let mut pushed = writer.expect(&store.committer, work.span.length());
        let read = reader.each_chunk(work.span, self.go, |bytes| {
            if pushed.is_ok() {
                pushed = writer.push(&store.committer, bytes);
            }
        })?;
        // Not to be taken for what reading says.
        pushed.map_err(|error| StoreError::Batch(Arc::new(error)))?;
        if read == Go::Stop {
            return Ok(None);
        }
        // What was sealed under one name must not be sealed again under another if it is not what it should be.
        let known = work.extents.first().and_then(|first| store.value_of(first)).map(|(_, value)| value);
        if known.is_some() && writer.hasher().value() != known {
            let what = format!("blob {}", work.blob.id);
            return Err(StoreError::Corrupt { what, why: "a part is not what its value says" });
        }
        Ok(Some(writer))
    }

    /// Has the rows swapped: at once, or with others that share an object.
    fn submit(&mut self, work: &Work, writer: PartWriter) -> Result<Step, StoreError> {
        let Some(value) = writer.hasher().value() else { return Ok(Step::Left) };
        let (bytes, span) = writer.whole()?;
        let (ring, part) = (Arc::clone(&self.store.stores.ring), work.part);
        let (content, version, now) = (work.blob.content, work.version, self.store.now().steady);
        let intent: MakeIntent = Box::new(move |placed| {
            let placed = placed.expect("it has bytes");
            let extent = Extent {
                span,
                object: placed.object,
                object_length: placed.object_length,
                object_start: placed.start,
                value: Some(mask(&ring, placed.object.id, placed.start, part, value)),
            };
            Intent::Rewrite(Box::new(Rewrite { content, version, clear: span, put: vec![extent], now }))
        });
        self.touched.insert(content);
        if let Bytes::Small(small) = &bytes {
            self.bytes += small.len();
            self.waiting.push(((bytes, intent), span.length()));
            if self.waiting.len() >= TOGETHER_MAX || self.bytes >= TOGETHER_BYTES_MAX {
                self.flush()?;
            }
            return Ok(Step::Done);
        }
        self.flush_with(vec![((bytes, intent), span.length())])?;
        Ok(Step::Done)
    }

    /// Writes what waits.
    fn flush(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.touched.clear();
        self.bytes = 0;
        self.flush_with(waiting)
    }

    fn flush_with(&mut self, waiting: Vec<(Submission, Length)>) -> Result<(), StoreError> {
        let (submissions, lengths): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        for (pending, length) in self.store.committer.submit_all(submissions).into_iter().zip(lengths) {
            match pending.wait() {
                Ok(_) => {
                    self.done.parts += 1;
                    self.done.bytes += length.get();
                }
                // It has other bytes now, or is gone.
                Err(StoreError::Refused(Refusal::Superseded | Refusal::NotFound)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
