//! Whole files in one go: a plain PUT, one byte after the other. Small ones become visible in the very transaction that
//! makes them durable; long ones pass through an upload, a part at a time, that nobody else ever sees.
//!
//! ```text
//!   push ──> part writer ──(a whole part, and more to come)──> an upload is opened, the part is stored in it
//!   publish: at most one part:   bytes and entry in one commit
//!            longer:             the last part is stored, then the upload is finished
//! ```
//!
//! A file that breaks off changes nothing: what was stored of it is given up at once.

use std::sync::Arc;

use hapax_proto::digest::{Digests, FileHash};
use hapax_proto::span::Length;
use hapax_proto::tree::PART;
use hapax_proto::upload::State;

use crate::catalog::{Blob, Intent, Source, Upload, UserId};
use crate::error::StoreError;
use crate::publish::{Published, Target};
use crate::short::ShortIntake;
use crate::store::Store;
use crate::upload::{CreateUpload, Ending, PartIntake, PendingRun};

/// A file on its way in.
pub struct FileIntake {
    store: Arc<Store>,
    user: UserId,
    target: Target,
    size: Option<Length>,
    /// How many bytes came so far.
    length: Length,
    progress: Progress,
}

/// How far a file has come.
enum Progress {
    /// Within its first part.
    First(ShortIntake),
    /// Past it.
    Long(Box<Long>),
    /// Ended, one way or the other.
    Over,
}

/// A file of several parts.
struct Long {
    upload: Upload,
    /// The part that is being filled.
    part: PartIntake,
    /// The part before, on its way to be durable while the next one arrives.
    pending: Option<PendingRun>,
}

impl Store {
    /// Begins to take a file in. Nothing is visible before [`FileIntake::publish`].
    pub fn begin_file(
        self: &Arc<Self>,
        user: UserId,
        target: Target,
        size: Option<Length>,
    ) -> Result<FileIntake, StoreError> {
        let progress = Progress::First(self.begin_short(size)?);
        Ok(FileIntake { store: Arc::clone(self), user, target, size, length: Length::ZERO, progress })
    }

    /// Links a live blob that the caller may read under another name: an instant upload. Copies no byte.
    pub fn link(&self, target: Target, blob: &Blob) -> Result<Published, StoreError> {
        let identity = self.identity(blob)?;
        self.publish(target, Source::Known(blob.id), identity)
    }
}

impl FileIntake {
    /// Returns how many bytes came so far.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Takes in bytes; hand over about 256 KiB at a time. Blocks for the disk now and then.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        self.check_room(bytes)?;
        while !bytes.is_empty() {
            let room = self.room_in_part();
            if room == 0 {
                self.next_part()?;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.push_into_part(now)?;
            bytes = later;
        }
        Ok(())
    }

    fn check_room(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let limit = self.size.unwrap_or(Length::new(hapax_proto::span::SIZE_MAX));
        let room = limit.checked_sub(self.length).unwrap_or_default();
        if Length::of(bytes) > room {
            return Err(StoreError::TooLong { bytes: Length::of(bytes), room });
        }
        self.length =
            self.length.checked_add(Length::of(bytes)).expect("it was just compared with the limit");
        Ok(())
    }

    fn room_in_part(&self) -> usize {
        let filled = match &self.progress {
            Progress::First(short) => short.length(),
            Progress::Long(long) => long.part.length(),
            Progress::Over => PART,
        };
        let room = PART.checked_sub(filled).unwrap_or_default();
        usize::try_from(room.get()).expect("a part fits into memory")
    }

    fn push_into_part(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match &mut self.progress {
            Progress::First(short) => short.push(bytes),
            Progress::Long(long) => long.part.push(bytes),
            Progress::Over => Err(StoreError::Closed),
        }
    }

    /// Stores the full part and begins the next one. At most one part is on its way to the disk besides.
    fn next_part(&mut self) -> Result<(), StoreError> {
        let (upload, full, pending) = match std::mem::replace(&mut self.progress, Progress::Over) {
            Progress::First(short) => {
                let (upload, _) = self.store.create_upload(CreateUpload {
                    user: self.user,
                    key: None,
                    space: self.target.space,
                    path: self.target.path.clone(),
                    size: self.size,
                    meta: self.target.meta.clone(),
                    precondition: None,
                    declared: Digests::default(),
                    notes: None,
                    members: Vec::new(),
                })?;
                let full = PartIntake::adopt(&self.store, &upload, short.into_writer());
                (upload, full, None)
            }
            Progress::Long(long) => (long.upload, long.part, long.pending),
            Progress::Over => return Err(StoreError::Closed),
        };
        let stored = self.store_and_begin(&upload, full, pending);
        match stored {
            Ok((part, pending)) => {
                self.progress = Progress::Long(Box::new(Long { upload, part, pending: Some(pending) }));
                Ok(())
            }
            Err(error) => {
                give_up(&self.store, &upload);
                Err(error)
            }
        }
    }

    fn store_and_begin(
        &self,
        upload: &Upload,
        full: PartIntake,
        pending: Option<PendingRun>,
    ) -> Result<(PartIntake, PendingRun), StoreError> {
        if let Some(pending) = pending {
            pending.wait()?;
        }
        let next =
            full.part().next().ok_or(StoreError::TooLong { bytes: self.length, room: Length::ZERO })?;
        let pending = full.finish(Ending::Complete)?;
        // How long the last part is shows only at the end, if the size was not announced.
        let mut part = self.store.begin_part(upload, next, Length::ZERO, PART, None)?;
        part.expect(PART)?;
        Ok((part, pending))
    }

    /// Makes the file visible. `declared` is what the sender says it hashes to.
    ///
    /// DURABILITY: on `Ok` bytes and entry survive power loss.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the content is not what was declared, and the refusals of a publication: then
    /// nothing changed.
    pub fn publish(mut self, declared: Option<FileHash>) -> Result<Published, StoreError> {
        if let Some(size) = self.size.filter(|size| *size != self.length) {
            return Err(StoreError::TooLong { bytes: self.length, room: size });
        }
        match std::mem::replace(&mut self.progress, Progress::Over) {
            Progress::First(short) => {
                let file = short.end(declared)?;
                let pending = self.store.publish_short([(file, self.target.clone())]);
                self.store.wait_short(pending).pop().expect("one file has one answer")
            }
            Progress::Long(long) => {
                let published = self.publish_long(&long.upload, long.part, long.pending, declared);
                if published.is_err() {
                    give_up(&self.store, &long.upload);
                }
                published
            }
            Progress::Over => Err(StoreError::Closed),
        }
    }

    fn publish_long(
        &self,
        upload: &Upload,
        last: PartIntake,
        pending: Option<PendingRun>,
        declared: Option<FileHash>,
    ) -> Result<Published, StoreError> {
        if let Some(pending) = pending {
            pending.wait()?;
        }
        last.ending_here().finish(Ending::Complete)?.wait()?;
        let upload = self.store.upload(upload.id)?;
        self.store.finish_upload(&upload, self.length, self.target.expect, declared)
    }
}

impl Drop for FileIntake {
    fn drop(&mut self) {
        if let Progress::Long(long) = std::mem::replace(&mut self.progress, Progress::Over) {
            give_up(&self.store, &long.upload);
        }
    }
}

/// Ends the upload behind a file that broke off. Does not wait: if it fails, the upload expires by itself.
fn give_up(store: &Store, upload: &Upload) {
    let now = store.now().steady;
    drop(store.committer.commit(Intent::EndUpload { upload: upload.id, state: State::Cancelled, now }));
}
