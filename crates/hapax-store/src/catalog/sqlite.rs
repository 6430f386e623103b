//! The embedded catalog: SQLite in WAL mode with `synchronous=FULL`, one writer connection and a pool of readers.
//! Owns connections, transactions and the dispatch of intents; each group of tables has a module of its own.
//!
//! ```text
//!   commit([Intent]) --> BEGIN IMMEDIATE
//!                        per intent: SAVEPOINT, apply, RELEASE or ROLLBACK TO
//!                        COMMIT  (the WAL is synced here, once for all of them)
//!                        a long WAL is brought into the database file
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_proto::digest::Algorithm;
use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::span::{Length, SIZE_MAX, Span};
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use super::{
    Answer, Blob, BlobId, BootId, Catalog, ContentId, Entry, Extent, Holder, Intent, Lane, LaneId, Outcome,
    Refusal, Saved, Space, SpaceId, Stats, Token, Upload, UploadId, User, UserId,
};
use crate::clock::Timestamp;
use crate::error::{ErrorClass, StoreError};
use crate::id::{DirId, ObjectId, ObjectName};
use crate::key::{Fingerprint, Lookup};

mod schema;
/// Conversions between rows and values.
mod row;
/// Objects, extents, contents, blobs.
mod blobs;
/// Jobs, damage, and blobs in other objects.
mod upkeep;
/// Digests of blobs, and finding blobs by them.
mod digests;
/// Blobs whose identity is not known yet.
mod pending;
/// Spaces and their quotas.
mod spaces;
/// Uploads and their lanes.
mod uploads;
/// The tree of entries, and publishing.
mod entries;
/// Users and tokens.
mod accounts;
/// Boots, directories, the clock, and what the sweep does to objects.
mod housekeeping;
/// Every invariant, as a query that must find nothing.
mod audit;

/// The oldest SQLite that is trusted: 3.51.3 mends a loss of committed WAL frames when connections race at a reset.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// How long a lock of somebody else's (a backup tool, a shell) is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The length of the WAL, in pages, from which on it is brought into the database file: SQLite's own choice.
const CHECKPOINT_PAGES: i32 = 1_000;

/// Idle readers kept open; more are opened under load and closed again.
const READERS_KEPT: usize = 8;

/// The embedded catalog.
pub struct SqliteCatalog {
    path: std::path::PathBuf,
    writer: Mutex<Connection>,
    checkpoints: Checkpoints,
    readers: Mutex<Vec<Connection>>,
}

/// The failure of a checkpoint. SQLite's own checkpoints keep it to themselves, and a database file that the disk
/// refuses would go unnoticed until the WAL has eaten the disk.
#[derive(Clone, Default)]
struct Checkpoints(Arc<Mutex<Option<rusqlite::Error>>>);

impl Checkpoints {
    /// Has a connection bring its WAL into the database file whenever it is long, and note what fails.
    fn watch(&self, writer: &mut Connection) -> rusqlite::Result<()> {
        let failure = Arc::clone(&self.0);
        writer.wal_hook(Some(move |wal: &mut Wal, pages| {
            if pages >= CHECKPOINT_PAGES
                && let Err(error) = wal.checkpoint()
            {
                *lock(&failure) = Some(error);
            }
            // The transaction is committed whatever became of the checkpoint.
            Ok(())
        }))
    }

    /// Returns what failed for good. A full disk and a reader in the way pass: the next commit tries again.
    fn failure(&self) -> Option<StoreError> {
        let source = lock(&self.0).take()?;
        let error = StoreError::Catalog { doing: "bring the log into the catalog", source };
        (!matches!(error.class(), ErrorClass::Full | ErrorClass::Busy)).then_some(error)
    }
}

/// Why an intent came to nothing: it was refused, or the database failed and with it the whole batch.
enum Stop {
    Refused(Refusal),
    Failed(rusqlite::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

/// What applying one intent gives.
type Applied = Result<Outcome, Stop>;

impl SqliteCatalog {
    /// Opens the catalog at `path`, creating it or bringing it to the newest schema.
    ///
    /// DURABILITY: a new file's name in its directory is not synced here; the caller does that once at start.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(StoreError::Sqlite { found: rusqlite::version().to_owned() });
        }
        let failed = |source| StoreError::Catalog { doing: "open the catalog", source };
        let mut writer = Connection::open(path).map_err(failed)?;
        configure(&writer).map_err(failed)?;
        // Takes effect only before the first table is made, and costs nothing afterwards.
        writer.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
        writer.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        if let Err(found) = schema::migrate(&mut writer).map_err(failed)? {
            return Err(StoreError::Format { found: found.to_string(), supported: schema::newest() });
        }
        let checkpoints = Checkpoints::default();
        checkpoints.watch(&mut writer).map_err(failed)?;
        let readers = Mutex::new(Vec::new());
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), checkpoints, readers })
    }

    /// Runs one consistent read on a pooled connection.
    fn read<T>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let failed = |source| StoreError::Catalog { doing, source };
        let pooled = lock(&self.readers).pop();
        let mut reader = match pooled {
            Some(reader) => reader,
            None => self.open_reader().map_err(failed)?,
        };
        let answer = {
            let snapshot = reader.transaction().map_err(failed)?;
            query(&snapshot).map_err(failed)?
        };
        let mut readers = lock(&self.readers);
        if readers.len() < READERS_KEPT {
            readers.push(reader);
        }
        Ok(answer)
    }

    fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags)?;
        configure(&reader)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(reader)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Without it SQLite compiles a cached statement again for every key it is asked with, in case a plan for that very
    // value were better: most of the time of a read.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

/// A poisoned lock only says that another thread panicked; a connection is never left between two statements of a
/// transaction, for `Transaction` rolls back when it is dropped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn apply(db: &Connection, intent: &Intent) -> Applied {
    match intent {
        Intent::Boot => housekeeping::boot(db),
        Intent::OpenDir { boot } => housekeeping::open_dir(db, *boot),
        Intent::CloseDir { dir } => housekeeping::close_dir(db, *dir),
        Intent::SaveClock { now } => housekeeping::save_clock(db, *now),
        Intent::CreateUser { name, password, admin, now } => {
            accounts::create_user(db, name, password, *admin, *now)
        }
        Intent::SetPassword { user, password } => accounts::set_password(db, *user, password),
        Intent::SetGroup { user, group } => accounts::set_group(db, *user, group.as_deref()),
        Intent::SetQuota { space, quota } => spaces::set_quota(db, *space, *quota),
        Intent::RemoveUser { user, now } => accounts::remove_user(db, *user, *now),
        Intent::AddToken { user, name, hash, scope, now, expires } => {
            accounts::add_token(db, *user, name, hash, scope, *now, *expires)
        }
        Intent::RemoveToken { user, token } => accounts::remove_token(db, *user, *token),
        Intent::MakeFolder { space, path, now } => entries::make_folder(db, *space, path, *now),
        Intent::Move { space, from, to, overwrite, now } => {
            entries::move_entry(db, *space, from, to, *overwrite, *now)
        }
        Intent::Remove { space, path, expect, recursive, now } => {
            entries::remove(db, *space, path, *expect, *recursive, *now)
        }
        Intent::SetMeta { space, path, expect, mtime, executable } => {
            entries::set_meta(db, (*space, path, *expect), *mtime, *executable)
        }
        Intent::CreateUpload(new) => uploads::create(db, new),
        Intent::Store(store) => uploads::store(db, store),
        Intent::Resize { .. } => uploads::resize(db, intent),
        Intent::EndUpload { upload, state, now } => uploads::end(db, *upload, *state, *now),
        Intent::Publish(publish) => entries::publish(db, publish),
        Intent::KeepDigest { blob, lookup, sealed } => digests::keep(db, *blob, lookup, sealed),
        Intent::KeepValues { blob, extents } => pending::keep_values(db, *blob, extents),
        Intent::Identify { blob, fingerprint, identity } => {
            pending::identify(db, *blob, fingerprint, identity)
        }
        Intent::SettleSpare { blob, spare, promote, now } => {
            blobs::settle_spare(db, *blob, *spare, *promote, *now)
        }
        Intent::JudgeBlob { blob, content, damaged } => upkeep::judge(db, *blob, *content, *damaged),
        Intent::Rewrite(rewrite) => upkeep::rewrite(db, rewrite),
        Intent::SaveJob { name, state, now } => upkeep::save_job(db, name, state, *now),
        Intent::ExpireUploads { now, limit } => uploads::expire(db, *now, *limit),
        Intent::ForgetUploads { before, limit } => uploads::forget(db, *before, *limit),
        Intent::BuryBlobs { before, limit, now } => blobs::bury(db, *before, *limit, *now),
        Intent::DoomObjects { before, limit } => housekeeping::doom_objects(db, *before, *limit),
        Intent::ForgetObjects { objects } => housekeeping::forget_objects(db, objects),
    }
}

/// Puts beside each blob the paths that show it.
fn with_paths(db: &Connection, blobs: Vec<Blob>) -> rusqlite::Result<Vec<(Blob, Vec<String>)>> {
    blobs.into_iter().map(|blob| entries::paths_of(db, blob.id).map(|paths| (blob, paths))).collect()
}

impl Catalog for SqliteCatalog {
    fn commit(&self, intents: &[Intent]) -> Result<Vec<Answer>, StoreError> {
        let failed = |source| StoreError::Catalog { doing: "commit a transaction", source };
        let mut writer = lock(&self.writer);
        let mut batch: rusqlite::Transaction<'_> =
            writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        let mut answers = Vec::with_capacity(intents.len());
        for intent in intents {
            let savepoint = batch.savepoint().map_err(failed)?;
            match apply(&savepoint, intent) {
                Ok(outcome) => {
                    savepoint.commit().map_err(failed)?;
                    answers.push(Ok(outcome));
                }
                // Dropping the savepoint rolls this intent back, and only this one.
                Err(Stop::Refused(refusal)) => answers.push(Err(refusal)),
                Err(Stop::Failed(error)) => return Err(failed(error)),
            }
        }
        batch.commit().map_err(failed)?;
        // Committed or not is then for the next start to see, like every answer that is lost (R7).
        self.checkpoints.failure().map_or(Ok(answers), Err)
    }

    fn entry(&self, space: SpaceId, path: &EntryPath) -> Result<Option<Entry>, StoreError> {
        self.read("read an entry", |db| entries::find(db, space, path))
    }

    fn children(
        &self,
        space: SpaceId,
        folder: &EntryPath,
        after: Option<&EntryName>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read("list a folder", |db| entries::children(db, space, folder, after, limit))
    }

    fn extents(&self, content: ContentId, span: Span, limit: usize) -> Result<Vec<Extent>, StoreError> {
        self.read("read extents", |db| blobs::extents(db, content, span, limit))
    }

    fn each_extent(&self, content: ContentId, each: &mut dyn FnMut(Extent)) -> Result<(), StoreError> {
        let whole = Span::whole(Length::new(SIZE_MAX));
        self.read("read extents", |db| blobs::each_extent(db, content, whole, usize::MAX, each))
    }

    fn inline(&self, content: ContentId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read an inline content", |db| blobs::inline(db, content))
    }

    fn blob_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError> {
        self.read("look a blob up", |db| blobs::in_space(db, space, fingerprint))
    }

    fn shown_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError> {
        self.read("look a file up", |db| blobs::shown_in_space(db, space, fingerprint))
    }

    fn blobs_of_size(&self, space: SpaceId, size: Length, limit: usize) -> Result<Vec<Blob>, StoreError> {
        self.read("look a size up", |db| blobs::of_size(db, space, size, limit))
    }

    fn held_by_others(
        &self,
        fingerprint: &Fingerprint,
        beside: UserId,
        group: bool,
        limit: u32,
    ) -> Result<Option<(Blob, u32)>, StoreError> {
        self.read("count who holds a blob", |db| {
            blobs::held_by_others(db, fingerprint, (beside, group, limit))
        })
    }

    fn digests(&self, blob: BlobId) -> Result<Vec<(Algorithm, Vec<u8>)>, StoreError> {
        self.read("read digests", |db| digests::of(db, blob))
    }

    fn blobs_by_digest(
        &self,
        space: Option<SpaceId>,
        lookup: &Lookup,
        limit: usize,
    ) -> Result<Vec<Blob>, StoreError> {
        self.read("look a digest up", |db| digests::blobs(db, space, lookup, limit))
    }

    fn findable(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(Blob, Vec<Algorithm>)>, StoreError> {
        self.read("read what blobs are found by", |db| digests::findable(db, after, limit))
    }

    fn unfindable(&self, algorithms: &[Algorithm]) -> Result<u64, StoreError> {
        self.read("count what is not found", |db| digests::unfindable(db, algorithms))
    }

    fn upload(&self, id: UploadId) -> Result<Option<Upload>, StoreError> {
        self.read("read an upload", |db| uploads::find(db, id))
    }

    fn upload_by_key(&self, user: UserId, key: &str) -> Result<Option<Upload>, StoreError> {
        self.read("find an upload by its key", |db| uploads::find_by_key(db, user, key))
    }

    fn uploads(
        &self,
        user: UserId,
        after: Option<UploadId>,
        limit: usize,
    ) -> Result<Vec<Upload>, StoreError> {
        self.read("list uploads", |db| uploads::list(db, user, after, limit))
    }

    fn members(&self, upload: UploadId) -> Result<Vec<UploadId>, StoreError> {
        self.read("read what an upload is composed of", |db| uploads::members(db, upload))
    }

    fn composed_of(&self, member: UploadId) -> Result<Vec<UploadId>, StoreError> {
        self.read("read what is composed of an upload", |db| uploads::composed_of(db, member))
    }

    fn pending(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<Blob>, StoreError> {
        self.read("read pending blobs", |db| pending::list(db, after, limit))
    }

    fn lane(&self, upload: UploadId, lane: LaneId) -> Result<Option<Lane>, StoreError> {
        self.read("read a lane", |db| uploads::lane(db, upload, lane))
    }

    fn holdings(
        &self,
        id: UploadId,
        span: Span,
        each: &mut dyn FnMut(Extent),
    ) -> Result<Option<(Upload, Vec<Lane>)>, StoreError> {
        self.read("read what an upload holds", |db| {
            let Some(upload) = uploads::find(db, id)? else { return Ok(None) };
            blobs::each_extent(db, upload.content, span, usize::MAX, each)?;
            Ok(Some((upload, uploads::open_lanes(db, id)?)))
        })
    }

    fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        self.read("read a user", |db| accounts::find(db, name))
    }

    fn users(&self) -> Result<Vec<User>, StoreError> {
        self.read("list users", accounts::list)
    }

    fn space(&self, name: &str) -> Result<Option<Space>, StoreError> {
        self.read("read a space", |db| spaces::by_name(db, name))
    }

    fn space_by_id(&self, id: SpaceId) -> Result<Option<Space>, StoreError> {
        self.read("read a space", |db| spaces::find(db, id))
    }

    fn token(&self, hash: &[u8; 32]) -> Result<Option<(Token, User)>, StoreError> {
        self.read("look a token up", |db| accounts::token(db, hash))
    }

    fn tokens(&self, user: UserId) -> Result<Vec<Token>, StoreError> {
        self.read("list tokens", |db| accounts::tokens(db, user))
    }

    fn clock(&self) -> Result<Timestamp, StoreError> {
        self.read("read the clock", housekeeping::clock)
    }

    fn dead_dirs(&self, boot: BootId) -> Result<Vec<DirId>, StoreError> {
        self.read("list directories", |db| housekeeping::dead_dirs(db, boot))
    }

    fn objects_in(&self, dir: DirId) -> Result<Vec<ObjectId>, StoreError> {
        self.read("list objects", |db| housekeeping::objects_in(db, dir))
    }

    fn object_dir(&self, object: ObjectId) -> Result<Option<DirId>, StoreError> {
        self.read("look an object up", |db| housekeeping::object_dir(db, object))
    }

    fn doomed(&self, limit: usize) -> Result<Vec<ObjectName>, StoreError> {
        self.read("list doomed objects", |db| housekeeping::doomed(db, limit))
    }

    fn spares(&self, limit: usize) -> Result<Vec<(Blob, ContentId)>, StoreError> {
        self.read("list spares", |db| blobs::spares(db, limit))
    }

    fn job(&self, name: &str) -> Result<Option<Saved>, StoreError> {
        self.read("read what a job keeps", |db| upkeep::job(db, name))
    }

    fn damaged(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError> {
        self.read("list damaged blobs", |db| with_paths(db, upkeep::damaged(db, after, limit)?))
    }

    fn live_objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, Length, Length)>, StoreError> {
        self.read("list live objects", |db| upkeep::live_objects(db, after, limit))
    }

    fn holders(&self, object: ObjectId) -> Result<Vec<Holder>, StoreError> {
        self.read("read what points to an object", |db| upkeep::holders(db, object))
    }

    fn version(&self, content: ContentId) -> Result<Option<u64>, StoreError> {
        self.read("read the version of a content", |db| upkeep::version(db, content))
    }

    fn extent_counts(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, u64)>, StoreError> {
        self.read("count extents", |db| upkeep::extent_counts(db, after, limit))
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        self.read("count", housekeeping::stats)
    }

    fn audit(&self) -> Result<Vec<String>, StoreError> {
        self.read("audit the catalog", audit::audit)
    }

    fn blobs(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError> {
        self.read("list blobs", |db| with_paths(db, blobs::list(db, after, limit)?))
    }

    fn objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, Length)>, StoreError> {
        self.read("list objects", |db| housekeeping::objects(db, after, limit))
    }
}
