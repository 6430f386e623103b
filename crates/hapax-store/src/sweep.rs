//! The sweep: what ran out is ended, what nobody points to is removed. Runs in slices, so that nobody waits for it, and
//! may be killed anywhere: rows go first, bytes second, and what was marked stays marked (R2).
//!
//! ```text
//!   uploads: open ──(idle)──> expired ──(kept)──> forgotten
//!   blobs:   live ──(last entry gone)──> orphan ──(grace)──> buried: their objects are dropped
//!   objects: live ──(last extent gone)──> dropped ──(grace)──> doomed ──(file deleted)──> forgotten
//!   directories of dead boots: names without a row are deleted, names that another directory has are left alone
//! ```

use std::io::ErrorKind;
use std::time::Duration;

use tracing::{info, warn};

use crate::catalog::{Intent, Outcome};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id::{DirId, ObjectName};
use crate::job::{Pace, UNPACED};
use crate::store::Store;

/// Rows changed in one slice.
const SLICE: usize = 256;

/// How long given-up things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For the grace that the operator chose.
    Grace,
    /// Not at all: the operator asked for room.
    Nothing,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads whose time ran out.
    pub uploads_expired: usize,
    /// Ended uploads that no longer answer.
    pub uploads_forgotten: usize,
    /// Blobs that no entry had pointed to for the grace.
    pub blobs_buried: usize,
    /// Objects whose files were deleted.
    pub objects_deleted: usize,
    /// Files of crashed runs that no row knew.
    pub strays_deleted: usize,
    /// Second copies that were settled.
    pub spares_settled: usize,
}

impl Store {
    /// Sweeps once through everything. Blocks; to be run in the background. Safe to run at any time and to kill.
    pub fn sweep(&self, keep: Keep) -> Result<Swept, StoreError> {
        self.sweep_at(keep, UNPACED)
    }

    /// Does the same at a pace: `go` is asked before bytes are read, which is done only where two copies of a content are
    /// compared.
    pub fn sweep_at(&self, keep: Keep, go: Pace<'_>) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        self.clean_dead_dirs(&mut swept)?;
        swept.spares_settled = self.settle_spares(|_, _| true, go)?;
        let now = self.now().steady;
        self.commit(Intent::SaveClock { now })?;
        if keep == Keep::Nothing || self.may_delete() {
            self.sweep_rows(keep, now, &mut swept)?;
        }
        self.delete_doomed(&mut swept)?;
        if let Some(ballast) = &self.stores.ballast
            && self.admit().is_ok()
            && let Err(error) = ballast.restore()
        {
            warn!(%error, "the ballast could not be restored");
        }
        Ok(swept)
    }

    fn sweep_rows(&self, keep: Keep, now: Timestamp, swept: &mut Swept) -> Result<(), StoreError> {
        let before = |kept: Duration| match keep {
            // Strictly earlier than the coming millisecond: all of it.
            Keep::Nothing => now.after(Duration::from_millis(1)),
            Keep::Grace => now.before(kept),
        };
        let grace = before(self.settings.grace);
        let forget = now.before(self.settings.upload_kept);
        swept.uploads_expired += self.slices(|limit| Intent::ExpireUploads { now, limit })?;
        swept.uploads_forgotten += self.slices(|limit| Intent::ForgetUploads { before: forget, limit })?;
        swept.blobs_buried += self.slices(|limit| Intent::BuryBlobs { before: grace, limit, now })?;
        self.slices(|limit| Intent::DoomObjects { before: grace, limit })?;
        Ok(())
    }

    /// Repeats an intent until a slice is not full any more; returns how many rows it was about.
    fn slices(&self, slice: impl Fn(usize) -> Intent) -> Result<usize, StoreError> {
        let mut total = 0;
        loop {
            let count = match self.commit(slice(SLICE))? {
                Outcome::Count(count) => count,
                Outcome::Ended(ended) => {
                    for upload in &ended {
                        self.lanes.evict_all(*upload);
                    }
                    ended.len()
                }
                Outcome::Doomed(doomed) => doomed.len(),
                other => unreachable!("a slice came to {other:?}"),
            };
            total += count;
            if count < SLICE {
                return Ok(total);
            }
        }
    }

    /// Deletes the files of doomed objects and then forgets their rows.
    fn delete_doomed(&self, swept: &mut Swept) -> Result<(), StoreError> {
        loop {
            let doomed = self.catalog().doomed(SLICE)?;
            let mut gone = Vec::with_capacity(doomed.len());
            for object in &doomed {
                match self.stores.objects.delete(*object) {
                    Ok(_) => gone.push(*object),
                    Err(error) => warn!(%object, %error, "a doomed object could not be deleted"),
                }
            }
            self.sync_dirs_of(&gone)?;
            swept.objects_deleted += gone.len();
            let full = doomed.len() == SLICE && !gone.is_empty();
            self.commit(Intent::ForgetObjects {
                objects: gone.into_iter().map(|object| object.id).collect(),
            })?;
            if !full {
                return Ok(());
            }
        }
    }

    /// A deletion that a power cut could undo must not be forgotten: nobody would look for the file again.
    fn sync_dirs_of(&self, objects: &[ObjectName]) -> Result<(), StoreError> {
        let mut dirs: Vec<DirId> = objects.iter().map(|object| object.dir).collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs.into_iter().try_for_each(|dir| self.stores.objects.sync_dir(dir))
    }

    /// Looks through the directories that crashed runs left open, and closes them. One that the disk cannot show is left
    /// for the next sweep, and keeps nothing else from being swept.
    fn clean_dead_dirs(&self, swept: &mut Swept) -> Result<(), StoreError> {
        for dir in self.catalog().dead_dirs(self.committer.boot())? {
            match self.clean_dead_dir(dir) {
                Ok(strays) => swept.strays_deleted += strays,
                Err(error @ StoreError::Disk { .. }) => {
                    warn!(%dir, %error, "a directory could not be cleaned");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes the files of one directory that no row knows, and closes it; returns how many there were.
    fn clean_dead_dir(&self, dir: DirId) -> Result<usize, StoreError> {
        let known = self.catalog().objects_in(dir)?;
        let mut strays = 0;
        for id in self.stores.objects.list(dir)? {
            if known.binary_search(&id).is_ok() {
                continue;
            }
            let object = ObjectName { dir, id };
            if self.catalog().object_dir(id)?.is_some() {
                warn!(%object, "an object lies in a directory that is not its own: left alone");
                continue;
            }
            self.stores.objects.delete(object)?;
            strays += 1;
        }
        // Also if nothing was there: an earlier sweep may have removed it and died, or failed, before it synced.
        match self.stores.objects.sync_dir(dir) {
            Err(StoreError::Disk { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            synced => synced?,
        }
        if strays > 0 {
            info!(%dir, strays, "removed what a crashed run left behind");
        }
        self.commit(Intent::CloseDir { dir })?;
        Ok(strays)
    }
}
