//! Copies of one content: which of them is good, and which takes the place of the other. Owns the proof of a copy and what
//! follows from it; who found a copy damaged, and when copies are compared, is not its matter.
//!
//! ```text
//!   a reader, scrub ──(damaged)──> the blob is linked to nobody any more ─┐
//!   another upload of the same bytes ──> a spare, or its new content ─────┼──> heal: prove what is kept, then the spare;
//!                                                                         │    the good one stays
//! ```

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use hapax_proto::digest::FileHash;
use hapax_proto::span::{Length, Span};
use tracing::{info, warn};

use crate::catalog::{Blob, ContentId, Intent, Refusal};
use crate::content::ContentReader;
use crate::error::StoreError;
use crate::job::{Go, Pace, UNPACED};
use crate::store::Store;

/// Spares looked at in one go.
const SPARES_MAX: usize = 1_024;

/// Paths told of one blob are few; this many blobs are told.
const DAMAGED_MAX: usize = 1_000;

/// A content that is damaged, with the files that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Some of the paths that show it.
    pub paths: Vec<String>,
    /// How long it is.
    pub size: Length,
}

impl Store {
    /// Waits until copies are to be compared: another one came, or one was found damaged.
    pub async fn ailing(&self) {
        self.ailing.notified().await;
    }

    /// Compares the copies of each content that has several, and returns how often one of them was chosen. Blocks for as
    /// long as reading them takes; safe to kill. Copies that were both found bad are left to the sweep and the scrub: a disk
    /// may come back, but not with every upload.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn heal(&self, go: Pace<'_>) -> Result<usize, StoreError> {
        self.settle_spares(|blob, spare| !self.hopeless().contains(&(blob.content, spare)), go)
    }

    /// Tells that the content of a blob could not be read because it is damaged or gone. Does not wait: if that is not
    /// noted, whoever reads next tells it again.
    pub fn report_damage(&self, blob: &Blob, error: &StoreError) {
        let is_damage = matches!(error, StoreError::Corrupt { .. } | StoreError::MissingObject { .. });
        if blob.damaged || !is_damage {
            return;
        }
        warn!(blob = %blob.id, %error, "a content is damaged");
        let damaged = Some(self.now().steady);
        drop(self.committer.commit(Intent::JudgeBlob { blob: blob.id, content: blob.content, damaged }));
        self.ailing.notify_one();
    }

    /// Returns the contents that are known to be damaged: the first thousand of them.
    pub fn damage(&self) -> Result<Vec<Damaged>, StoreError> {
        let damaged = self.catalog().damaged(None, DAMAGED_MAX)?;
        Ok(damaged.into_iter().map(|(blob, paths)| Damaged { paths, size: blob.size }).collect())
    }

    /// Notes whether the content of a blob is damaged, if that is not what is known of it already.
    pub(crate) fn judge(&self, blob: &Blob, is_good: bool) -> Result<(), StoreError> {
        if is_good != blob.damaged {
            return Ok(());
        }
        let damaged = (!is_good).then(|| self.now().steady);
        match self.commit(Intent::JudgeBlob { blob: blob.id, content: blob.content, damaged }) {
            // It has other bytes now, or is gone.
            Ok(_) | Err(StoreError::Refused(Refusal::Superseded | Refusal::NotFound)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Decides between the copy that a blob has and one that came since: the old one stays if it proves good, else the new
    /// one takes its place. So a rotten copy never swallows a good one. Returns how often that was decided.
    pub(crate) fn settle_spares(
        &self,
        which: impl Fn(&Blob, ContentId) -> bool,
        go: Pace<'_>,
    ) -> Result<usize, StoreError> {
        let mut settled = 0;
        for (blob, spare) in self.catalog().spares(SPARES_MAX)? {
            if !which(&blob, spare) {
                continue;
            }
            let Some(kept_is_good) = self.prove(&blob, blob.content, go)? else { break };
            let promote = if kept_is_good {
                false
            } else {
                let Some(spare_is_good) = self.prove(&blob, spare, go)? else { break };
                if !spare_is_good {
                    // Nothing is thrown away that somebody might still save.
                    self.judge(&blob, false)?;
                    self.hopeless().insert((blob.content, spare));
                    continue;
                }
                info!(blob = %blob.id, "a damaged copy was replaced by another one");
                true
            };
            self.hopeless().remove(&(blob.content, spare));
            let now = self.now().steady;
            match self.commit(Intent::SettleSpare { blob: blob.id, spare, promote, now }) {
                Ok(_) => settled += 1,
                // Somebody else was quicker.
                Err(StoreError::Refused(Refusal::NotFound)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    fn hopeless(&self) -> MutexGuard<'_, BTreeSet<(ContentId, ContentId)>> {
        self.hopeless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether a copy of a blob is what it should be, having read it from end to end.
    pub(crate) fn is_good(&self, blob: &Blob, content: ContentId) -> Result<bool, StoreError> {
        Ok(self.prove(blob, content, UNPACED)?.expect("it is never told to stop"))
    }

    /// Reads a copy of a blob from end to end and compares its hash; `None` if it was stopped. A copy that the disk cannot
    /// read is as bad as a damaged one.
    pub(crate) fn prove(
        &self,
        blob: &Blob,
        content: ContentId,
        go: Pace<'_>,
    ) -> Result<Option<bool>, StoreError> {
        let copy = Blob { content, ..blob.clone() };
        let read = self.read_blob(&copy).and_then(|reader| hash_all(reader, blob.size, go));
        match read {
            Ok(None) => Ok(None),
            // While the identity is pending, that every byte could be authenticated is all there is to know.
            Ok(Some(hash)) => Ok(Some(self.known_identity(blob)?.is_none_or(|known| hash == known.blake3))),
            Err(error) if is_unreadable(&error) => {
                warn!(blob = %blob.id, %error, "a copy is not good");
                Ok(Some(false))
            }
            Err(error) => Err(error),
        }
    }
}

/// Tells whether an error says that stored bytes cannot be had, whatever kept them.
pub(crate) fn is_unreadable(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::MissingObject { .. } | StoreError::Disk { .. })
}

/// Hashes a content; `None` if it was stopped.
fn hash_all(mut reader: ContentReader, size: Length, go: Pace<'_>) -> Result<Option<FileHash>, StoreError> {
    let mut hasher = blake3::Hasher::new();
    let read = reader.each_chunk(Span::whole(size), go, |bytes| {
        hasher.update(bytes);
    })?;
    Ok((read == Go::On).then(|| FileHash::new(*hasher.finalize().as_bytes())))
}
