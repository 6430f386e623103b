//! What shows that somebody has a content: what its proof of possession has to be, and whether something of a space is like
//! a quick digest. Reads contents, authenticated as always; whose they are and who may ask is decided elsewhere.

use hapax_proto::claim::{Proof, ProofHasher, QuickHasher, quick_spans};
use hapax_proto::digest::FileHash;
use hapax_proto::span::{Length, Span};

use crate::catalog::{Blob, SpaceId};
use crate::error::StoreError;
use crate::heal::is_unreadable;
use crate::job::{Go, Pace, UNPACED};
use crate::store::Store;

/// How many contents of one size are read for one quick digest: more of a size than this are likely of one kind, raw images
/// say, and the next is as likely new as not.
const ALIKE_MAX: usize = 4;

/// The smallest file that is read for its quick digest: a smaller one is hashed as fast.
const QUICK_MIN: Length = Length::new(1 << 20);

/// The most that is read of one content for its quick digest.
const QUICK_READS: Length = Length::new(3 << 20);

impl Store {
    /// Returns the proof that whoever has all of a blob answers with; `hasher` has begun with what was claimed. Reads all
    /// of it and blocks for as long as that takes; `go` is asked before each chunk, and `None` is what it was stopped with.
    ///
    /// # Errors
    /// As [`ContentReader::read`](crate::content::ContentReader::read).
    pub fn expected_proof(
        &self,
        blob: &Blob,
        mut hasher: ProofHasher,
        go: Pace<'_>,
    ) -> Result<Option<Proof>, StoreError> {
        let read = self.read_blob(blob).and_then(|mut reader| {
            reader.each_chunk(Span::whole(blob.size), go, |bytes| hasher.update(bytes))
        });
        let read = read.inspect_err(|error| self.report_damage(blob, error))?;
        Ok((read == Go::On).then(|| hasher.finish()))
    }

    /// Tells whether a space may hold a content of this size and quick digest. It may be told wrongly that it does: where
    /// several are as large, the file is too small for the question, or `may_read`, which is asked before each content is
    /// read, does not allow it.
    pub fn may_hold(
        &self,
        space: SpaceId,
        (size, quick): (Length, FileHash),
        may_read: &dyn Fn(Length) -> bool,
    ) -> Result<bool, StoreError> {
        if size < QUICK_MIN {
            return Ok(true);
        }
        let alike = self.catalog().blobs_of_size(space, size, ALIKE_MAX + 1)?;
        if alike.len() > ALIKE_MAX {
            return Ok(true);
        }
        for blob in &alike {
            if !may_read(QUICK_READS) {
                return Ok(true);
            }
            match self.quick_digest(blob) {
                Ok(digest) if digest == quick => return Ok(true),
                // Its bytes have to come anyway.
                Err(error) if is_unreadable(&error) => self.report_damage(blob, &error),
                digest => drop(digest?),
            }
        }
        Ok(false)
    }

    fn quick_digest(&self, blob: &Blob) -> Result<FileHash, StoreError> {
        let mut reader = self.read_blob(blob)?;
        let mut hasher = QuickHasher::new(blob.size);
        for span in quick_spans(blob.size) {
            reader.each_chunk(span, UNPACED, |bytes| hasher.update(bytes))?;
        }
        Ok(hasher.finish())
    }
}
