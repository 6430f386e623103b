//! The reference model of the catalog: the contract of [`catalog`](super) in plain memory, as naive as it can be
//! said. Owns tables of values and one function per intent; it keeps no sum, no index and no file.
//!
//! ```text
//!   intent --> a copy of all tables --> change it --> Ok: it becomes the state    Err: it is thrown away
//! ```
//!
//! It is the oracle that every other implementation is compared with, and the catalog of tests in which only the
//! objects lie on a disk that fails: what it committed survives every power cut. It is never a server's catalog.

use std::sync::{Mutex, MutexGuard};

use hapax_proto::digest::Algorithm;
use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::span::{Length, SIZE_MAX, Span};

use self::tables::Tables;
use super::{
    Answer, Blob, BlobId, BootId, Catalog, ContentId, Entry, Extent, Holder, Intent, Lane, LaneId, Outcome,
    Saved, Space, SpaceId, Stats, Token, Upload, UploadId, User, UserId,
};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id::{DirId, ObjectId, ObjectName};
use crate::key::{Fingerprint, Lookup};

mod tables;
mod objects;
mod accounts;
mod entries;
mod uploads;
mod blobs;
mod digests;
mod pending;
mod upkeep;
mod audit;

/// A catalog whose commits fail on demand.
pub mod faulty;

/// The catalog in memory.
///
/// A commit is atomic and, for the life of the value, durable. Memory is copied once per intent, so it is made for
/// hundreds of rows.
#[derive(Debug, Default)]
pub struct ModelCatalog {
    tables: Mutex<Tables>,
}

/// Everything that a [`ModelCatalog`] held at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot(Tables);

impl ModelCatalog {
    /// Makes an empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a copy of everything, to be given back to [`restore`](Self::restore): a power cut that loses commits.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.locked().clone())
    }

    /// Makes everything what it was when the snapshot was taken.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.locked().clone_from(&snapshot.0);
    }

    fn locked(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("a panic while this lock is held has failed the test already")
    }
}

impl Catalog for ModelCatalog {
    fn commit(&self, intents: &[Intent]) -> Result<Vec<Answer>, StoreError> {
        let mut tables = self.locked();
        let apply = |intent| {
            let mut changed = tables.clone();
            let outcome = changed.change(intent)?;
            *tables = changed;
            Ok(outcome)
        };
        Ok(intents.iter().map(apply).collect())
    }

    fn entry(&self, space: SpaceId, path: &EntryPath) -> Result<Option<Entry>, StoreError> {
        Ok(self.locked().entry(space, path))
    }

    fn children(
        &self,
        space: SpaceId,
        folder: &EntryPath,
        after: Option<&EntryName>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        Ok(self.locked().children(space, folder, after, limit))
    }

    fn extents(&self, content: ContentId, span: Span, limit: usize) -> Result<Vec<Extent>, StoreError> {
        Ok(self.locked().extents(content, span, limit))
    }

    fn each_extent(&self, content: ContentId, each: &mut dyn FnMut(Extent)) -> Result<(), StoreError> {
        let whole = Span::whole(Length::new(SIZE_MAX));
        self.locked().extents(content, whole, usize::MAX).into_iter().for_each(each);
        Ok(())
    }

    fn inline(&self, content: ContentId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.locked().contents.get(&content).and_then(|content| content.inline.clone()))
    }

    fn blob_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError> {
        Ok(self.locked().blob_in_space(space, fingerprint))
    }

    fn shown_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError> {
        Ok(self.locked().shown_in_space(space, fingerprint))
    }

    fn blobs_of_size(&self, space: SpaceId, size: Length, limit: usize) -> Result<Vec<Blob>, StoreError> {
        Ok(self.locked().blobs_of_size(space, size, limit))
    }

    fn held_by_others(
        &self,
        fingerprint: &Fingerprint,
        beside: UserId,
        group: bool,
        limit: u32,
    ) -> Result<Option<(Blob, u32)>, StoreError> {
        Ok(self.locked().held_by_others(fingerprint, beside, group, limit))
    }

    fn digests(&self, blob: BlobId) -> Result<Vec<(Algorithm, Vec<u8>)>, StoreError> {
        Ok(self.locked().digests_of(blob))
    }

    fn blobs_by_digest(
        &self,
        space: Option<SpaceId>,
        lookup: &Lookup,
        limit: usize,
    ) -> Result<Vec<Blob>, StoreError> {
        Ok(self.locked().blobs_by_digest(space, lookup, limit))
    }

    fn findable(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(Blob, Vec<Algorithm>)>, StoreError> {
        Ok(self.locked().findable(after, limit))
    }

    fn unfindable(&self, algorithms: &[Algorithm]) -> Result<u64, StoreError> {
        Ok(self.locked().unfindable(algorithms))
    }

    fn upload(&self, id: UploadId) -> Result<Option<Upload>, StoreError> {
        Ok(self.locked().upload(id))
    }

    fn upload_by_key(&self, user: UserId, key: &str) -> Result<Option<Upload>, StoreError> {
        let own = self.locked().uploads_of(user, None, usize::MAX);
        Ok(own.into_iter().find(|upload| upload.key.as_deref() == Some(key)))
    }

    fn uploads(
        &self,
        user: UserId,
        after: Option<UploadId>,
        limit: usize,
    ) -> Result<Vec<Upload>, StoreError> {
        Ok(self.locked().uploads_of(user, after, limit))
    }

    fn members(&self, upload: UploadId) -> Result<Vec<UploadId>, StoreError> {
        Ok(self.locked().members_of(upload))
    }

    fn composed_of(&self, member: UploadId) -> Result<Vec<UploadId>, StoreError> {
        Ok(self.locked().composed_of(member))
    }

    fn pending(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<Blob>, StoreError> {
        Ok(self.locked().pending(after, limit))
    }

    fn lane(&self, upload: UploadId, lane: LaneId) -> Result<Option<Lane>, StoreError> {
        Ok(self.locked().lanes.get(&(upload, lane)).cloned())
    }

    fn holdings(
        &self,
        id: UploadId,
        span: Span,
        each: &mut dyn FnMut(Extent),
    ) -> Result<Option<(Upload, Vec<Lane>)>, StoreError> {
        let tables = self.locked();
        let Some(upload) = tables.upload(id) else { return Ok(None) };
        tables.extents(upload.content, span, usize::MAX).into_iter().for_each(each);
        let lanes = tables.lanes_of(id).filter(|lane| lane.open.is_some()).cloned().collect();
        Ok(Some((upload, lanes)))
    }

    fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        Ok(self.locked().users.values().find(|user| user.name == name).cloned())
    }

    fn users(&self) -> Result<Vec<User>, StoreError> {
        let mut users: Vec<_> = self.locked().users.values().cloned().collect();
        users.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(users)
    }

    fn space(&self, name: &str) -> Result<Option<Space>, StoreError> {
        let tables = self.locked();
        let id = tables.spaces.iter().find(|(_, space)| space.name == name).map(|(id, _)| *id);
        Ok(id.and_then(|id| tables.space(id)))
    }

    fn space_by_id(&self, id: SpaceId) -> Result<Option<Space>, StoreError> {
        Ok(self.locked().space(id))
    }

    fn token(&self, hash: &[u8; 32]) -> Result<Option<(Token, User)>, StoreError> {
        Ok(self.locked().token(hash))
    }

    fn tokens(&self, user: UserId) -> Result<Vec<Token>, StoreError> {
        Ok(self.locked().tokens_of(user))
    }

    fn clock(&self) -> Result<Timestamp, StoreError> {
        Ok(self.locked().clock)
    }

    fn dead_dirs(&self, boot: BootId) -> Result<Vec<DirId>, StoreError> {
        Ok(self.locked().dead_dirs(boot))
    }

    fn objects_in(&self, dir: DirId) -> Result<Vec<ObjectId>, StoreError> {
        Ok(self.locked().objects_in(dir))
    }

    fn object_dir(&self, object: ObjectId) -> Result<Option<DirId>, StoreError> {
        Ok(self.locked().objects.get(&object).map(|row| row.dir))
    }

    fn doomed(&self, limit: usize) -> Result<Vec<ObjectName>, StoreError> {
        Ok(self.locked().doomed(limit))
    }

    fn spares(&self, limit: usize) -> Result<Vec<(Blob, ContentId)>, StoreError> {
        Ok(self.locked().spares(limit))
    }

    fn job(&self, name: &str) -> Result<Option<Saved>, StoreError> {
        Ok(self.locked().jobs.get(name).cloned())
    }

    fn damaged(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError> {
        Ok(self.locked().damaged(after, limit))
    }

    fn live_objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, Length, Length)>, StoreError> {
        Ok(self.locked().live_objects(after, limit))
    }

    fn holders(&self, object: ObjectId) -> Result<Vec<Holder>, StoreError> {
        Ok(self.locked().holders_of(object))
    }

    fn version(&self, content: ContentId) -> Result<Option<u64>, StoreError> {
        Ok(self.locked().version(content))
    }

    fn extent_counts(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, u64)>, StoreError> {
        Ok(self.locked().extent_counts(after, limit))
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        Ok(self.locked().stats())
    }

    fn audit(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.locked().audit())
    }

    fn blobs(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError> {
        Ok(self.locked().blobs_behind(after, limit))
    }

    fn objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, Length)>, StoreError> {
        Ok(self.locked().objects_behind(after, limit))
    }
}

impl Tables {
    /// Makes one change. After a refusal the tables may be anything; the caller throws them away.
    fn change(&mut self, intent: &Intent) -> Answer {
        match intent {
            Intent::Boot => Ok(self.boot()),
            Intent::OpenDir { boot } => self.open_dir(*boot),
            Intent::CloseDir { dir } => self.close_dir(*dir),
            Intent::SaveClock { now } => {
                self.clock = *now;
                Ok(Outcome::Done)
            }
            Intent::CreateUser { name, password, admin, now } => {
                self.create_user(name, password, *admin, *now)
            }
            Intent::SetPassword { user, password } => self.set_password(*user, password),
            Intent::SetGroup { user, group } => self.set_group(*user, group.as_deref()),
            Intent::SetQuota { space, quota } => self.set_quota(*space, *quota),
            Intent::RemoveUser { user, now } => self.remove_user(*user, *now),
            Intent::AddToken { user, name, hash, scope, now, expires } => {
                let token = Token {
                    id: self.next_token(),
                    user: *user,
                    name: name.clone(),
                    scope: scope.clone(),
                    created: *now,
                    expires: *expires,
                };
                self.add_token(*hash, token)
            }
            Intent::RemoveToken { user, token } => self.remove_token(*user, *token),
            Intent::MakeFolder { space, path, now } => self.make_folder(*space, path, now.wall),
            Intent::Move { space, from, to, overwrite, now } => {
                self.move_entry(*space, from, to, *overwrite, *now)
            }
            Intent::Remove { space, path, expect, recursive, now } => {
                self.remove(*space, path, *expect, *recursive, *now)
            }
            Intent::SetMeta { space, path, expect, mtime, executable } => {
                self.set_meta((*space, path, *expect), *mtime, *executable)
            }
            Intent::CreateUpload(new) => self.create_upload(new),
            Intent::Store(store) => self.store(store),
            Intent::Resize { upload, generation, size, mtime, keep, now } => {
                let resize = uploads::Resize { size: *size, mtime: *mtime, keep: *keep, now: *now };
                self.resize(*upload, *generation, &resize)
            }
            Intent::EndUpload { upload, state, now } => self.end_upload(*upload, *state, *now),
            Intent::Publish(publish) => self.publish(publish),
            Intent::KeepDigest { blob, lookup, sealed } => self.keep_digest(*blob, lookup, sealed),
            Intent::KeepValues { blob, extents } => self.keep_values(*blob, extents),
            Intent::Identify { blob, fingerprint, identity } => self.identify(*blob, *fingerprint, identity),
            Intent::SettleSpare { blob, spare, promote, now } => {
                self.settle_spare(*blob, *spare, *promote, *now)
            }
            Intent::JudgeBlob { blob, content, damaged } => self.judge(*blob, *content, *damaged),
            Intent::Rewrite(rewrite) => self.rewrite(rewrite),
            Intent::SaveJob { name, state, now } => Ok(self.save_job(name, state, *now)),
            Intent::ExpireUploads { now, limit } => Ok(self.expire_uploads(*now, *limit)),
            Intent::ForgetUploads { before, limit } => Ok(self.forget_uploads(*before, *limit)),
            Intent::BuryBlobs { before, limit, now } => Ok(self.bury_blobs(*before, *limit, *now)),
            Intent::DoomObjects { before, limit } => Ok(self.doom_objects(*before, *limit)),
            Intent::ForgetObjects { objects } => Ok(self.forget_objects(objects)),
        }
    }
}
