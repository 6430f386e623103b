//! A catalog whose commits fail on demand: the two ways in which a database fails its caller. Owns the switch;
//! reads always pass.

use std::sync::{Arc, Mutex};

use hapax_proto::digest::Algorithm;
use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::span::{Length, Span};

use crate::catalog::{
    Answer, Blob, BlobId, BootId, Catalog, ContentId, Entry, Extent, Holder, Intent, Lane, LaneId, Saved,
    Space, SpaceId, Stats, Token, Upload, UploadId, User, UserId,
};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id::{DirId, ObjectId, ObjectName};
use crate::key::{Fingerprint, Lookup};

/// What a commit does instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is changed, and the caller is told so.
    Before,
    /// Everything is changed, and the caller is told the opposite: a lost answer.
    After,
}

/// How long a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spell {
    /// The next commit only.
    Once,
    /// Every commit until [`FaultyCatalog::heal`].
    Always,
}

/// What the failing commit reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The disk under the database failed: [`ErrorClass::Io`](crate::error::ErrorClass::Io).
    Io,
    /// The disk under the database is full: [`ErrorClass::Full`](crate::error::ErrorClass::Full).
    Full,
    /// Somebody else holds the database: [`ErrorClass::Busy`](crate::error::ErrorClass::Busy).
    Busy,
}

/// A look at the catalog behind which something else may come in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A page of [`Catalog::blobs`].
    Blobs,
    /// A page of [`Catalog::extents`].
    Extents,
    /// One entry.
    Entry,
}

/// What comes in between.
type Work = Box<dyn FnOnce() + Send>;

/// A catalog around another one, with a switch for faults of `commit`, and one for what happens behind a look.
pub struct FaultyCatalog {
    inner: Arc<dyn Catalog>,
    next: Mutex<Switch>,
    meanwhile: Mutex<Option<(Look, Work)>>,
}

/// What is set, and what has been seen.
#[derive(Debug, Default)]
struct Switch {
    /// How many commits pass before the fault strikes.
    skipped: usize,
    fault: Option<(Fault, Spell, Report)>,
    commits: usize,
}

impl Switch {
    /// Counts a commit; returns how it fails, if it does.
    fn strikes(&mut self) -> Option<(Fault, Report)> {
        self.commits += 1;
        let (fault, spell, report) = self.fault?;
        if let Some(skipped) = self.skipped.checked_sub(1) {
            self.skipped = skipped;
            return None;
        }
        if spell == Spell::Once {
            self.fault = None;
        }
        Some((fault, report))
    }
}

impl FaultyCatalog {
    /// Wraps a catalog; no fault is set.
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self { inner, next: Mutex::default(), meanwhile: Mutex::default() }
    }

    /// Lets commits fail from the next one on; replaces what was set before.
    pub fn fail(&self, fault: Fault, spell: Spell, report: Report) {
        self.fail_nth(0, fault, spell, report);
    }

    /// Lets commits fail from the `n`-th one on, counted from 0; replaces what was set before.
    pub fn fail_nth(&self, n: usize, fault: Fault, spell: Spell, report: Report) {
        let mut switch = self.switch();
        (switch.skipped, switch.fault) = (n, Some((fault, spell, report)));
    }

    /// Lets commits pass again.
    pub fn heal(&self) {
        self.switch().fault = None;
    }

    /// Lets something happen once: behind the next look of a kind, before its answer is used. Replaces what was set before.
    pub fn meanwhile(&self, look: Look, work: impl FnOnce() + Send + 'static) {
        *self.work() = Some((look, Box::new(work)));
    }

    fn looked(&self, look: Look) {
        let work = self.work().take_if(|(awaited, _)| *awaited == look);
        // Whoever works looks, too: nothing is locked by now.
        if let Some((_, work)) = work {
            work();
        }
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Option<(Look, Work)>> {
        self.meanwhile.lock().expect("nothing panics while it holds this lock")
    }

    /// Returns how many commits were asked for so far, failed ones included.
    pub fn commits(&self) -> usize {
        self.switch().commits
    }

    fn switch(&self) -> std::sync::MutexGuard<'_, Switch> {
        self.next.lock().expect("nothing panics while it holds this lock")
    }
}

impl std::fmt::Debug for FaultyCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyCatalog").field("next", &*self.switch()).finish_non_exhaustive()
    }
}

impl Report {
    fn error(self) -> StoreError {
        let code = match self {
            Self::Io => rusqlite::ffi::SQLITE_IOERR,
            Self::Full => rusqlite::ffi::SQLITE_FULL,
            Self::Busy => rusqlite::ffi::SQLITE_BUSY,
        };
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        StoreError::Catalog { doing: "commit (a fault that was asked for)", source }
    }
}

impl Catalog for FaultyCatalog {
    fn commit(&self, intents: &[Intent]) -> Result<Vec<Answer>, StoreError> {
        let fault = self.switch().strikes();
        match fault {
            None => self.inner.commit(intents),
            Some((Fault::Before, report)) => Err(report.error()),
            Some((Fault::After, report)) => {
                self.inner.commit(intents)?;
                Err(report.error())
            }
        }
    }

    fn entry(&self, space: SpaceId, path: &EntryPath) -> Result<Option<Entry>, StoreError> {
        let entry = self.inner.entry(space, path);
        self.looked(Look::Entry);
        entry
    }

    fn children(
        &self,
        space: SpaceId,
        folder: &EntryPath,
        after: Option<&EntryName>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.inner.children(space, folder, after, limit)
    }

    fn extents(&self, content: ContentId, span: Span, limit: usize) -> Result<Vec<Extent>, StoreError> {
        let extents = self.inner.extents(content, span, limit);
        self.looked(Look::Extents);
        extents
    }

    fn each_extent(&self, content: ContentId, each: &mut dyn FnMut(Extent)) -> Result<(), StoreError> {
        self.inner.each_extent(content, each)
    }

    fn inline(&self, content: ContentId) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.inline(content)
    }

    fn blob_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError> {
        self.inner.blob_in_space(space, fingerprint)
    }

    fn shown_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError> {
        self.inner.shown_in_space(space, fingerprint)
    }

    fn blobs_of_size(&self, space: SpaceId, size: Length, limit: usize) -> Result<Vec<Blob>, StoreError> {
        self.inner.blobs_of_size(space, size, limit)
    }

    fn held_by_others(
        &self,
        fingerprint: &Fingerprint,
        beside: UserId,
        group: bool,
        limit: u32,
    ) -> Result<Option<(Blob, u32)>, StoreError> {
        self.inner.held_by_others(fingerprint, beside, group, limit)
    }

    fn digests(&self, blob: BlobId) -> Result<Vec<(Algorithm, Vec<u8>)>, StoreError> {
        self.inner.digests(blob)
    }

    fn blobs_by_digest(
        &self,
        space: Option<SpaceId>,
        lookup: &Lookup,
        limit: usize,
    ) -> Result<Vec<Blob>, StoreError> {
        self.inner.blobs_by_digest(space, lookup, limit)
    }

    fn findable(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(Blob, Vec<Algorithm>)>, StoreError> {
        self.inner.findable(after, limit)
    }

    fn unfindable(&self, algorithms: &[Algorithm]) -> Result<u64, StoreError> {
        self.inner.unfindable(algorithms)
    }

    fn upload(&self, id: UploadId) -> Result<Option<Upload>, StoreError> {
        self.inner.upload(id)
    }

    fn upload_by_key(&self, user: UserId, key: &str) -> Result<Option<Upload>, StoreError> {
        self.inner.upload_by_key(user, key)
    }

    fn uploads(
        &self,
        user: UserId,
        after: Option<UploadId>,
        limit: usize,
    ) -> Result<Vec<Upload>, StoreError> {
        self.inner.uploads(user, after, limit)
    }

    fn members(&self, upload: UploadId) -> Result<Vec<UploadId>, StoreError> {
        self.inner.members(upload)
    }

    fn composed_of(&self, member: UploadId) -> Result<Vec<UploadId>, StoreError> {
        self.inner.composed_of(member)
    }

    fn pending(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<Blob>, StoreError> {
        self.inner.pending(after, limit)
    }

    fn lane(&self, upload: UploadId, lane: LaneId) -> Result<Option<Lane>, StoreError> {
        self.inner.lane(upload, lane)
    }

    fn holdings(
        &self,
        id: UploadId,
        span: Span,
        each: &mut dyn FnMut(Extent),
    ) -> Result<Option<(Upload, Vec<Lane>)>, StoreError> {
        self.inner.holdings(id, span, each)
    }

    fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        self.inner.user(name)
    }

    fn users(&self) -> Result<Vec<User>, StoreError> {
        self.inner.users()
    }

    fn space(&self, name: &str) -> Result<Option<Space>, StoreError> {
        self.inner.space(name)
    }

    fn space_by_id(&self, id: SpaceId) -> Result<Option<Space>, StoreError> {
        self.inner.space_by_id(id)
    }

    fn token(&self, hash: &[u8; 32]) -> Result<Option<(Token, User)>, StoreError> {
        self.inner.token(hash)
    }

    fn tokens(&self, user: UserId) -> Result<Vec<Token>, StoreError> {
        self.inner.tokens(user)
    }

    fn clock(&self) -> Result<Timestamp, StoreError> {
        self.inner.clock()
    }

    fn dead_dirs(&self, boot: BootId) -> Result<Vec<DirId>, StoreError> {
        self.inner.dead_dirs(boot)
    }

    fn objects_in(&self, dir: DirId) -> Result<Vec<ObjectId>, StoreError> {
        self.inner.objects_in(dir)
    }

    fn object_dir(&self, object: ObjectId) -> Result<Option<DirId>, StoreError> {
        self.inner.object_dir(object)
    }

    fn doomed(&self, limit: usize) -> Result<Vec<ObjectName>, StoreError> {
        self.inner.doomed(limit)
    }

    fn spares(&self, limit: usize) -> Result<Vec<(Blob, ContentId)>, StoreError> {
        self.inner.spares(limit)
    }

    fn job(&self, name: &str) -> Result<Option<Saved>, StoreError> {
        self.inner.job(name)
    }

    fn damaged(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError> {
        self.inner.damaged(after, limit)
    }

    fn live_objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, Length, Length)>, StoreError> {
        self.inner.live_objects(after, limit)
    }

    fn holders(&self, object: ObjectId) -> Result<Vec<Holder>, StoreError> {
        self.inner.holders(object)
    }

    fn version(&self, content: ContentId) -> Result<Option<u64>, StoreError> {
        self.inner.version(content)
    }

    fn extent_counts(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, u64)>, StoreError> {
        self.inner.extent_counts(after, limit)
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats()
    }

    fn audit(&self) -> Result<Vec<String>, StoreError> {
        self.inner.audit()
    }

    fn blobs(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError> {
        let blobs = self.inner.blobs(after, limit);
        self.looked(Look::Blobs);
        blobs
    }

    fn objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, Length)>, StoreError> {
        self.inner.objects(after, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ModelCatalog;
    use super::*;
    use crate::catalog::Outcome;
    use crate::error::ErrorClass;

    /// Sets a fault, commits twice, and compares what failed and how many boots there are after each.
    #[track_caller]
    fn check(fault: Fault, spell: Spell, expected: [(bool, i64); 2]) {
        let model = Arc::new(ModelCatalog::new());
        let faulty = FaultyCatalog::new(Arc::clone(&model) as Arc<dyn Catalog>);
        faulty.fail(fault, spell, Report::Io);
        for (fails, boots) in expected {
            assert_eq!(faulty.commit(&[Intent::Boot]).is_err(), fails);
            let before = model.snapshot();
            assert_eq!(model.commit(&[Intent::Boot]).unwrap(), [Ok(Outcome::Booted(BootId(boots + 1)))]);
            model.restore(&before);
        }
        faulty.heal();
        assert!(faulty.commit(&[]).is_ok());
    }

    #[test]
    fn a_fault_comes_before_or_after_and_once_or_always() {
        check(Fault::Before, Spell::Once, [(true, 0), (false, 1)]);
        check(Fault::Before, Spell::Always, [(true, 0), (true, 0)]);
        check(Fault::After, Spell::Once, [(true, 1), (false, 2)]);
        check(Fault::After, Spell::Always, [(true, 1), (true, 2)]);
    }

    #[test]
    fn a_fault_has_the_class_that_was_asked_for() {
        #[track_caller]
        fn check(report: Report, class: ErrorClass) {
            assert_eq!(report.error().class(), class);
        }
        check(Report::Io, ErrorClass::Io);
        check(Report::Full, ErrorClass::Full);
        check(Report::Busy, ErrorClass::Busy);
    }
}
