//! Blobs whose identity is pending: what a job finds out about them, a piece at a time.

use super::tables::{BlobRow, Tables};
use crate::catalog::{Answer, Blob, BlobId, Extent, Outcome, Refusal};
use crate::key::Fingerprint;

impl Tables {
    pub(super) fn pending(&self, after: Option<BlobId>, limit: usize) -> Vec<Blob> {
        let behind = self.blobs.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        behind.filter(|(_, row)| is_pending(row)).map(|(id, _)| self.blob(*id)).take(limit).collect()
    }

    pub(super) fn keep_values(&mut self, blob: BlobId, extents: &[Extent]) -> Answer {
        let row = self.blobs.get(&blob).filter(|row| is_pending(row)).ok_or(Refusal::NotLive)?;
        let content = self.contents.get_mut(&row.content).ok_or(Refusal::NotLive)?;
        for seen in extents {
            let is_there =
                |now: &&mut Extent| (now.object, now.object_start) == (seen.object, seen.object_start);
            if let Some(now) = content.extents.get_mut(&seen.span.start()).filter(is_there) {
                now.value = seen.value;
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn identify(&mut self, blob: BlobId, fingerprint: Fingerprint, identity: &[u8]) -> Answer {
        let row = self.blobs.get(&blob).filter(|row| is_pending(row)).ok_or(Refusal::NotLive)?.clone();
        for done in self.uploads.values_mut().filter_map(|row| row.upload.done.as_mut()) {
            if done.identity.is_none() && done.fingerprint == row.fingerprint {
                done.fingerprint = fingerprint;
                done.identity = Some(identity.to_vec());
            }
        }
        let held = self.blobs.iter().find(|(_, held)| held.fingerprint == fingerprint).map(|(id, _)| *id);
        let Some(held) = held else {
            let row = self.blobs.get_mut(&blob).expect("just found");
            row.fingerprint = fingerprint;
            row.identity = Some(identity.to_vec());
            return Ok(Outcome::Done);
        };
        if held == blob || self.blobs[&held].size != row.size {
            return Err(Refusal::Malformed("one identity has two sizes"));
        }
        for file in self.entries.values_mut().filter_map(|entry| entry.file.as_mut()) {
            if file.blob == blob {
                file.blob = held;
            }
        }
        self.blobs.get_mut(&held).expect("just found").orphan = None;
        for of in self.spares.values_mut().filter(|of| **of == blob) {
            *of = held;
        }
        self.digests.retain(|(of, _), _| *of != blob);
        self.blobs.remove(&blob);
        self.add_copy(held, row.content);
        Ok(Outcome::Done)
    }
}

/// Tells whether a blob is live and pending.
fn is_pending(row: &BlobRow) -> bool {
    row.identity.is_none() && row.orphan.is_none()
}
