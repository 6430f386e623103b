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
//! What is dropped on the way changes nothing.

use std::sync::Arc;

use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PartNumber, PartValue};

use crate::catalog::{Blob, BlobId, Extent, Intent, Source};
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
    content: Content,
}

/// Where its bytes are until then.
enum Content {
    Inline(Vec<u8>),
    Part { bytes: Bytes, span: Span, value: PartValue },
    Held(BlobId),
}

/// What became of a file that was published with others.
pub struct PendingFile {
    store: Arc<Store>,
    identity: Identity,
    pending: Result<Pending, StoreError>,
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
        Ok(ShortFile { identity: self.identity(blob)?, content: Content::Held(blob.id) })
    }

    /// Makes files visible, each for itself: one that is refused takes nothing from the others. In which order files of
    /// one name come is not defined. To be called with at most a thousand files, a part of bytes in all.
    ///
    /// DURABILITY: once a file's wait is `Ok`, its bytes and entry survive power loss.
    pub fn publish_short(
        self: &Arc<Self>,
        files: impl IntoIterator<Item = (ShortFile, Target)>,
    ) -> Vec<PendingFile> {
        let (mut submissions, mut identities) = (Vec::new(), Vec::new());
        for (file, target) in files {
            let identity = file.identity;
            let prepared = self.prepare(file, target).map(|submission| submissions.push(submission));
            identities.push((identity, prepared));
        }
        let mut submitted = self.committer.submit_all(submissions).into_iter();
        let pending = |(identity, prepared): (Identity, Result<(), StoreError>)| {
            let pending = prepared.map(|()| submitted.next().expect("every submission has an answer"));
            PendingFile { store: Arc::clone(self), identity, pending }
        };
        identities.into_iter().map(pending).collect()
    }

    fn prepare(&self, file: ShortFile, target: Target) -> Result<Submission, StoreError> {
        let identity = file.identity;
        match file.content {
            Content::Inline(bytes) => {
                let sealed = self.seal_inline(&self.fingerprint(&identity), &bytes)?;
                let publish = self.publish_intent(target, Source::Inline(sealed), identity)?;
                Ok((Bytes::None, Box::new(|_| Intent::Publish(Box::new(publish)))))
            }
            Content::Held(blob) => {
                let publish = self.publish_intent(target, Source::Known(blob), identity)?;
                Ok((Bytes::None, Box::new(|_| Intent::Publish(Box::new(publish)))))
            }
            Content::Part { bytes, span, value } => {
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
            return Ok(ShortFile { identity, content: Content::Inline(self.inline) });
        }
        let value = self.writer.hasher().value().expect("it is longer than an inline content");
        let (bytes, span) = self.writer.whole()?;
        Ok(ShortFile { identity, content: Content::Part { bytes, span, value } })
    }
}

impl ShortFile {
    /// Returns what it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the same file without its bytes: a blob that the publisher may read holds them already.
    #[must_use]
    pub fn held_by(self, blob: &Blob) -> Self {
        Self { content: Content::Held(blob.id), ..self }
    }

    /// Returns how many bytes of memory it takes at most.
    pub fn bytes_in_memory(&self) -> usize {
        match &self.content {
            Content::Inline(bytes) | Content::Part { bytes: Bytes::Small(bytes), .. } => bytes.len(),
            // What the writer of an object has not sealed yet is less.
            Content::Part { .. } => SMALL_MAX,
            Content::Held(_) => 0,
        }
    }
}

impl PendingFile {
    /// Returns what the file is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Blocks until the file is durable or refused. Not for async code.
    ///
    /// # Errors
    /// The refusals of a publication: then nothing changed.
    pub fn wait(self) -> Result<Published, StoreError> {
        let outcome = self.pending?.wait()?;
        Ok(self.store.published(self.identity, &outcome))
    }
}
