//! Files of one part or none: bytes and entry become durable in the same commit. Many that are ready at one moment share
//! it, and the object that their bytes go to.
//!
//! ```text
//!   begin ──> push ──> end (hashed, compared with what was declared) ──┐
//!   begin ──> push ──> end ────────────────────────────────────────────┼──> publish_short: one commit
//!   begin ──> push ──> end ────────────────────────────────────────────┘
//!                       at most INLINE_MAX: sealed into the catalog; else in an object
//! ```
//!
//! A file that a blob holds already is linked to that, and its bytes are kept until it is: another may take the last name
//! of the blob before. What is dropped on the way changes nothing.

use std::sync::Arc;

use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PartNumber, PartValue};

use crate::catalog::{Blob, BlobId, Extent, Intent, Refusal, Source};
use crate::committer::{Bytes, MakeIntent, Pending, Submission};
use crate::error::StoreError;
use crate::intake::{PartWriter, SMALL_MAX};
use crate::publish::{Published, Target};
use crate::store::{Store, mask};

/// Files up to this length are sealed into the catalog itself.
pub const INLINE_MAX: usize = 4 << 10;

/// A file of at most one part on its way in.
pub struct ShortIntake {
    store: Arc<Store>,
    writer: Box<PartWriter>,
    /// The first bytes as they are, while they may become an inline content.
    inline: Vec<u8>,
}

/// A file of at most one part that is whole, and nowhere visible yet.
pub struct ShortFile {
    identity: Identity,
    /// A blob that holds the same bytes.
    held: Option<BlobId>,
    /// Its own; a file that has none is held.
    brought: Option<Brought>,
}

/// Where the bytes of a file are until it is visible.
enum Brought {
    Inline(Vec<u8>),
    Part { bytes: Bytes, span: Span, value: PartValue },
}

/// What became of a file that was published with others.
pub struct PendingFile {
    identity: Identity,
    pending: Result<Pending, StoreError>,
    /// What is published instead if it was linked to a blob that is given up.
    instead: Option<Box<(ShortFile, Target)>>,
}

impl Store {
    /// Begins to take in a file of at most one part.
    ///
    /// # Errors
    /// [`StoreError::BelowWatermark`] if the disk is nearly full.
    pub fn begin_short(self: &Arc<Self>, size: Option<Length>) -> Result<ShortIntake, StoreError> {
        self.admit()?;
        let mut writer = Box::new(PartWriter::new(PartNumber::FIRST));
        writer.expect(&self.committer, size.unwrap_or_default())?;
        Ok(ShortIntake { store: Arc::clone(self), writer, inline: Vec::new() })
    }

    /// Returns a live blob that the publisher may read as a file that is whole: so it is linked under another name, and no
    /// byte copied.
    pub fn stored(&self, blob: &Blob) -> Result<ShortFile, StoreError> {
        Ok(ShortFile { identity: self.identity(blob)?, held: Some(blob.id), brought: None })
    }

    /// Makes files visible, each for itself: one that is refused takes nothing from the others. In which order files of
    /// one name come is not defined. To be called with at most a thousand files, a part of bytes in all.
    ///
    /// DURABILITY: once [`wait_short`](Self::wait_short) told a file's `Ok`, its bytes and entry survive power loss.
    pub fn publish_short(&self, files: impl IntoIterator<Item = (ShortFile, Target)>) -> Vec<PendingFile> {
        let (mut submissions, mut prepared) = (Vec::new(), Vec::new());
        for (file, target) in files {
            let ShortFile { identity, held, brought } = file;
            let (submission, instead) = match (held, brought) {
                (Some(blob), brought) => {
                    let instead = brought.map(|brought| {
                        let file = ShortFile { identity, held: None, brought: Some(brought) };
                        Box::new((file, target.clone()))
                    });
                    (self.link_to(blob, identity, target), instead)
                }
                (None, Some(brought)) => (self.prepare(identity, brought, target), None),
                (None, None) => unreachable!("a file without bytes is held"),
            };
            prepared.push((identity, submission.map(|submission| submissions.push(submission)), instead));
        }
        let mut submitted = self.committer.submit_all(submissions).into_iter();
        let pending = |(identity, prepared, instead): (Identity, Result<(), StoreError>, Option<_>)| {
            let pending = prepared.map(|()| submitted.next().expect("every submission has an answer"));
            PendingFile { identity, pending, instead }
        };
        prepared.into_iter().map(pending).collect()
    }

    /// Blocks until files are durable or refused, and returns what became of each. Not for async code.
    ///
    /// # Errors
    /// The refusals of a publication: then nothing changed. [`Refusal::NotLive`] only for one without bytes of its own.
    pub fn wait_short(
        &self,
        files: impl IntoIterator<Item = PendingFile>,
    ) -> Vec<Result<Published, StoreError>> {
        let (mut results, mut indexes, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for PendingFile { identity, pending, instead } in files {
            let outcome = pending.and_then(Pending::wait);
            if let (Err(StoreError::Refused(Refusal::NotLive)), Some(instead)) = (&outcome, instead) {
                indexes.push(results.len());
                again.push(*instead);
            }
            results.push(outcome.map(|outcome| self.published(identity, &outcome)));
        }
        if !again.is_empty() {
            // None of these is linked, so this goes no deeper.
            let stored = self.wait_short(self.publish_short(again));
            for (index, result) in indexes.into_iter().zip(stored) {
                results[index] = result;
            }
        }
        results
    }

    fn link_to(&self, blob: BlobId, identity: Identity, target: Target) -> Result<Submission, StoreError> {
        let publish = self.publish_intent(target, Source::Known(blob), identity)?;
        Ok((Bytes::None, Box::new(|_| Intent::Publish(Box::new(publish)))))
    }

    fn prepare(
        &self,
        identity: Identity,
        brought: Brought,
        target: Target,
    ) -> Result<Submission, StoreError> {
        match brought {
            Brought::Inline(bytes) => {
                let sealed = self.seal_inline(&self.fingerprint(&identity), &bytes)?;
                let publish = self.publish_intent(target, Source::Inline(sealed), identity)?;
                Ok((Bytes::None, Box::new(|_| Intent::Publish(Box::new(publish)))))
            }
            Brought::Part { bytes, span, value } => {
                let mut publish = self.publish_intent(target, Source::Extents(Vec::new()), identity)?;
                let ring = Arc::clone(&self.stores.ring);
                let intent: MakeIntent = Box::new(move |placed| {
                    let placed = placed.expect("it has bytes");
                    publish.source = Source::Extents(vec![Extent {
                        span,
                        object: placed.object,
                        object_length: placed.object_length,
                        object_start: placed.start,
                        value: Some(mask(&ring, placed.object.id, placed.start, PartNumber::FIRST, value)),
                    }]);
                    Intent::Publish(Box::new(publish))
                });
                Ok((bytes, intent))
            }
        }
    }
}

impl ShortIntake {
    /// Returns how many bytes came so far.
    pub fn length(&self) -> Length {
        self.writer.length()
    }

    /// Takes in bytes; hand over about 256 KiB at a time. Blocks for the disk now and then.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] if they do not fit into a part; whatever the error, the file is lost.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.inline.len() <= INLINE_MAX {
            self.inline.extend_from_slice(&bytes[..bytes.len().min(INLINE_MAX + 1 - self.inline.len())]);
        }
        self.writer.push(&self.store.committer, bytes)
    }

    /// Gives the part away, for a file that turns out to be longer.
    pub(crate) fn into_writer(self) -> PartWriter {
        *self.writer
    }

    /// Ends the file. `declared` is what the sender says it hashes to.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if it does not.
    pub fn end(self, declared: Option<FileHash>) -> Result<ShortFile, StoreError> {
        let blake3 = self.writer.hasher().root().expect("the first part has a root");
        if let Some(declared) = declared.filter(|declared| *declared != blake3) {
            return Err(StoreError::Mismatch { expected: declared.to_string(), actual: blake3.to_string() });
        }
        let identity = Identity { blake3, size: self.length() };
        if self.inline.len() <= INLINE_MAX {
            return Ok(ShortFile { identity, held: None, brought: Some(Brought::Inline(self.inline)) });
        }
        let value = self.writer.hasher().value().expect("it is longer than an inline content");
        let (bytes, span) = self.writer.whole()?;
        Ok(ShortFile { identity, held: None, brought: Some(Brought::Part { bytes, span, value }) })
    }
}

impl ShortFile {
    /// Returns what it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the same file as one whose bytes a blob that the publisher may read holds already: its own are stored only if
    /// that is given up before.
    #[must_use]
    pub fn held_by(self, blob: &Blob) -> Self {
        Self { held: Some(blob.id), ..self }
    }

    /// Returns how many bytes of memory it takes at most.
    pub fn bytes_in_memory(&self) -> usize {
        match &self.brought {
            Some(Brought::Inline(bytes) | Brought::Part { bytes: Bytes::Small(bytes), .. }) => bytes.len(),
            // What the writer of an object has not sealed yet is less.
            Some(Brought::Part { .. }) => SMALL_MAX,
            None => 0,
        }
    }
}

impl PendingFile {
    /// Returns what the file is.
    pub fn identity(&self) -> Identity {
        self.identity
    }
}
