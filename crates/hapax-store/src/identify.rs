//! Identities of composed files: a job that reads what nobody has hashed as a whole, a part at a time. Owns its progress, which is
//! the values of the parts in the catalog: a restart goes on behind the last that was kept. What a file is called, and
//! when the job runs, is not its business.

use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::tree::{Frontier, PART, PartHasher, PartNumber, part_count};
use tracing::{info, warn};

use crate::catalog::{Blob, BlobId, Extent, Intent, Refusal};
use crate::content::ContentReader;
use crate::error::StoreError;
use crate::job::{Go, Pace};
use crate::store::{Store, mask_with_salt};
use crate::upload::span_of;

/// Blobs looked up at a time.
const PAGE: usize = 64;

/// Values kept in one transaction: what a crash costs is the reading of so many parts, 512 MiB.
const KEPT_TOGETHER: usize = 32;

impl Store {
    /// Waits until a file was published whose identity is pending.
    pub async fn composed(&self) {
        self.composed.notified().await;
    }

    /// Computes the identity of every composed file that has none yet, and returns how many it found out. Blocks for as
    /// long as reading them takes; `go` is asked before each piece of a part, and one that was stopped begins anew.
    ///
    /// A file that cannot be read is left, for the next start and for `check` to name.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn identify_pending(&self, go: Pace<'_>) -> Result<usize, StoreError> {
        let (mut after, mut identified): (Option<BlobId>, usize) = (None, 0);
        loop {
            let page = self.catalog().pending(after, PAGE)?;
            for blob in &page {
                match self.identify(blob, go) {
                    Ok(true) => identified += 1,
                    Ok(false) => return Ok(identified),
                    // Removed meanwhile.
                    Err(StoreError::Refused(Refusal::NotLive)) => {}
                    Err(
                        error @ (StoreError::Corrupt { .. }
                        | StoreError::MissingObject { .. }
                        | StoreError::Disk { .. }),
                    ) => warn!(blob = %blob.id, %error, "a composed file cannot be read"),
                    Err(error) => return Err(error),
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.id),
                _ => return Ok(identified),
            }
        }
    }

    /// Finds out what a blob is; tells whether it was let finish.
    fn identify(&self, blob: &Blob, go: Pace<'_>) -> Result<bool, StoreError> {
        let Some(blake3) = self.hash_parts(blob, go)? else { return Ok(false) };
        let identity = Identity { blake3, size: blob.size };
        let fingerprint = self.fingerprint(&identity);
        let sealed = self.seal_identity(&fingerprint, &identity.blake3)?;
        self.commit(Intent::Identify { blob: blob.id, fingerprint, identity: sealed })?;
        self.looked.turn_back_to(blob.id);
        self.looked.changed.notify_one();
        info!(blob = %blob.id, "a composed file was identified");
        Ok(true)
    }

    /// Reads the parts whose values are not kept yet, keeps theirs, and returns the hash of the whole; `None` if it was
    /// stopped.
    fn hash_parts(&self, blob: &Blob, go: Pace<'_>) -> Result<Option<FileHash>, StoreError> {
        let mut reader = self.read_blob(blob)?;
        let (mut frontier, mut unkept) = (Frontier::new(), Vec::new());
        for number in 0..part_count(blob.size) {
            let part = PartNumber::new(u32::try_from(number).expect("a file has at most 2^26 parts"));
            let first = self.catalog().extents(blob.content, span_of(part), 1)?;
            let first = first.first().filter(|first| first.span.start() == part.start());
            let first = first.ok_or_else(|| damaged(blob, "no extent begins with a part"))?;
            let value = if let Some((_, kept)) = self.value_of(first).filter(|_| blob.size > PART) {
                kept
            } else {
                let Some(hasher) = hash_part(&mut reader, blob, part, go)? else {
                    self.keep_values(blob, unkept)?;
                    return Ok(None);
                };
                let value = hasher.value().ok_or_else(|| damaged(blob, "a part is empty"))?;
                let (object, start) = (first.object.id, first.object_start);
                let masked = mask_with_salt(&self.stores.ring, object, start, part, value)?;
                unkept.push(Extent { value: Some(masked), ..first.clone() });
                if blob.size <= PART {
                    self.keep_values(blob, unkept)?;
                    return Ok(hasher.root());
                }
                value
            };
            frontier.push(value);
            if unkept.len() == KEPT_TOGETHER {
                self.keep_values(blob, std::mem::take(&mut unkept))?;
            }
        }
        self.keep_values(blob, unkept)?;
        Ok(frontier.root())
    }

    fn keep_values(&self, blob: &Blob, extents: Vec<Extent>) -> Result<(), StoreError> {
        if extents.is_empty() {
            return Ok(());
        }
        self.commit(Intent::KeepValues { blob: blob.id, extents }).map(drop)
    }
}

/// Hashes a part of a blob; `None` if it was stopped.
fn hash_part(
    reader: &mut ContentReader,
    blob: &Blob,
    part: PartNumber,
    go: Pace<'_>,
) -> Result<Option<PartHasher>, StoreError> {
    let mut hasher = PartHasher::new(part);
    let span = part.span(blob.size).ok_or_else(|| damaged(blob, "a part lies behind its end"))?;
    let read = reader.each_chunk(span, go, |bytes| {
        hasher.update(bytes).expect("a part has no more bytes than its hasher takes");
    })?;
    Ok((read == Go::On).then_some(hasher))
}

fn damaged(blob: &Blob, why: &'static str) -> StoreError {
    StoreError::Corrupt { what: format!("blob {}", blob.id), why }
}
