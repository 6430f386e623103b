//! The open store: objects, keys, catalog, committer and clock of one data directory, and what all verbs share.
//! The verbs themselves are in the modules below this one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::span::Offset;
use hapax_proto::tree::{PartNumber, PartValue};
use tokio::sync::{Notify, watch};

use crate::catalog::sqlite::SqliteCatalog;
use crate::catalog::{Blob, BlobId, Catalog, ContentId, Intent, MaskedValue, Outcome};
use crate::clock::{Clock, Moment, SteadyClock, Timestamp};
use crate::committer::{Committer, Stores};
use crate::disk::{Disk, HeldLock};
use crate::error::StoreError;
use crate::id::{ObjectId, random_bytes};
use crate::key::{Fingerprint, KeyRing, MasterSource};
use crate::lane::Lanes;
use crate::layout::{Ballast, Layout};
use crate::object::local::LocalObjects;
use crate::seal::{Purpose, Row};

/// Intake stops while less than this share of the disk is free, or less than [`WATERMARK_BYTES`].
const WATERMARK_PERCENT: u64 = 1;

/// Intake stops while less than this is free.
const WATERMARK_BYTES: u64 = 512 << 20;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long what was given up is kept, for readers that still hold it and for operators who change their mind.
    pub grace: Duration,
    /// How long an upload lives without a byte.
    pub upload_idle: Duration,
    /// How long an ended upload still answers.
    pub upload_kept: Duration,
    /// Open uploads of one user.
    pub uploads_max: u32,
    /// Whether intake stops when space runs short. Off only where the disk is simulated.
    pub watermark: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self { grace: day, upload_idle: day * 7, upload_kept: day, uploads_max: 1_000, watermark: true }
    }
}

/// The room that is asked before bytes are taken in.
struct Room {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// How far a job that goes through all blobs in the order of their rows has come. New ones have the highest rows.
#[derive(Default)]
pub(crate) struct Looked {
    last: Mutex<Option<BlobId>>,
    /// Told when there may be something behind the last one.
    pub(crate) changed: Notify,
}

impl Looked {
    /// Reads the blobs behind the last one that was looked at, and counts them as looked at.
    pub(crate) fn advance<T>(
        &self,
        read: impl FnOnce(Option<BlobId>) -> Result<Vec<(Blob, T)>, StoreError>,
    ) -> Result<Vec<(Blob, T)>, StoreError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let page = read(*last)?;
        *last = page.last().map_or(*last, |(blob, _)| Some(blob.id));
        Ok(page)
    }

    /// Has a blob, and all behind it, looked at again.
    pub(crate) fn turn_back_to(&self, blob: BlobId) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).min(Some(BlobId(blob.0 - 1)));
    }

    /// Has every blob looked at again.
    pub(crate) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// An open store. It is shared behind an `Arc`; dropping the last one settles what was submitted and closes it.
pub struct Store {
    pub(crate) committer: Committer,
    pub(crate) stores: Stores,
    pub(crate) lanes: Lanes,
    pub(crate) settings: Settings,
    /// Told when a file was published whose identity is pending.
    pub(crate) composed: Notify,
    /// Told when copies of a content are to be compared.
    pub(crate) ailing: Notify,
    /// Copies of one content, the one that is kept and a spare, that were both found bad.
    pub(crate) hopeless: Mutex<BTreeSet<(ContentId, ContentId)>>,
    /// How far the job of the lookup digests has looked.
    pub(crate) looked: Looked,
    clock: Box<dyn Clock>,
    steady: Mutex<SteadyClock>,
    room: Option<Room>,
    /// Held for the life of the process: one server per data directory. Dropped last, and read by nobody.
    lock: Option<HeldLock>,
}

impl Store {
    /// Opens a data directory of this machine, making it at the first start.
    ///
    /// Start-up work does not grow with what is stored (R6): what an earlier crash left is cleaned up by the sweep.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Format`], [`StoreError::WrongKey`], [`StoreError::KeyFile`], and whatever
    /// disk and database say.
    pub fn open(
        disk: Arc<dyn Disk>,
        layout: &Layout,
        master: &MasterSource,
        clock: Box<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let lock = layout.open(disk.as_ref())?;
        let ring = KeyRing::open_or_create(disk.as_ref(), layout, master)?;
        create_catalog_file(disk.as_ref(), layout)?;
        let catalog = SqliteCatalog::open(&layout.catalog())?;
        let data = layout.data_dir();
        disk.sync_dir(data).map_err(StoreError::disk("sync", data))?;
        let objects = LocalObjects::new(Arc::clone(&disk), layout.clone())?;
        let ballast = Ballast::new(Arc::clone(&disk), layout);
        if let Err(error) = ballast.restore() {
            tracing::warn!(%error, "no ballast: a full disk may keep deletions from being recorded");
        }
        let stores = Stores {
            objects: Arc::new(objects),
            ring: Arc::new(ring),
            catalog: Arc::new(catalog),
            ballast: Some(Arc::new(ballast)),
        };
        let mut store = Self::assemble(stores, clock, settings)?;
        store.room = Some(Room { disk, path: data.to_owned() });
        store.lock = Some(lock);
        Ok(store)
    }

    /// Puts a store together from its parts: for tests with other disks, catalogs and clocks.
    pub fn assemble(stores: Stores, clock: Box<dyn Clock>, settings: Settings) -> Result<Self, StoreError> {
        let saved = stores.catalog.clock()?;
        let saved = (saved != Timestamp::default()).then_some(saved);
        let mut steady = SteadyClock::resume(saved, clock.reading());
        let committer = Committer::start(stores.clone())?;
        // Before anything gets a time: a start that found no saved clock would take any wall clock for right.
        committer.commit(Intent::SaveClock { now: steady.observe(clock.reading()) }).wait()?;
        Ok(Self {
            committer,
            stores,
            lanes: Lanes::default(),
            settings,
            composed: Notify::new(),
            ailing: Notify::new(),
            hopeless: Mutex::default(),
            looked: Looked::default(),
            clock,
            steady: Mutex::new(steady),
            room: None,
            lock: None,
        })
    }

    /// Returns the catalog, for reading.
    pub fn catalog(&self) -> &dyn Catalog {
        self.stores.catalog.as_ref()
    }

    /// Returns what the operator chose.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells when the catalog failed for good: the process must end then (R7).
    pub fn failure(&self) -> watch::Receiver<Option<Arc<StoreError>>> {
        self.committer.failure()
    }

    /// Returns how many transactions this boot took for what was submitted: fewer than what was submitted where several
    /// shared one.
    pub fn commits(&self) -> u64 {
        self.committer.commits()
    }

    /// Returns the lanes of all uploads.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Returns this moment by both clocks.
    pub fn now(&self) -> Moment {
        let reading = self.clock.reading();
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        Moment { steady: steady.observe(reading), wall: reading.wall }
    }

    /// Returns when a moment of the steady clock comes by the wall clock, for people: the steady clock may lag behind it
    /// for ever after the machine was off.
    pub fn wall_time_of(&self, steady: Timestamp) -> Timestamp {
        let now = self.now();
        if steady >= now.steady {
            now.wall.after(steady.since(now.steady))
        } else {
            now.wall.before(now.steady.since(steady))
        }
    }

    /// Tells whether time is trusted enough to delete what ran out (see [`SteadyClock`]).
    pub(crate) fn may_delete(&self) -> bool {
        let steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        steady.may_delete(self.clock.uptime(), self.settings.grace)
    }

    /// Refuses when too little space is free to take anything in: deleting, sweeping and logging in need some.
    pub fn admit(&self) -> Result<(), StoreError> {
        let Some(room) = self.room.as_ref().filter(|_| self.settings.watermark) else { return Ok(()) };
        let space = room.disk.space(&room.path).map_err(StoreError::disk("look at", &room.path))?;
        let watermark = (space.total_bytes / 100 * WATERMARK_PERCENT).max(WATERMARK_BYTES);
        if space.free_bytes < watermark {
            return Err(StoreError::BelowWatermark { free_bytes: space.free_bytes });
        }
        Ok(())
    }

    /// Makes one intent about rows durable, and waits for it.
    pub(crate) fn commit(&self, intent: Intent) -> Result<Outcome, StoreError> {
        self.committer.commit(intent).wait()
    }

    // ------------------------------------------------------------ identities

    /// Returns the keyed fingerprint of an identity.
    pub fn fingerprint(&self, identity: &Identity) -> Fingerprint {
        self.stores.ring.fingerprint(identity.blake3.as_bytes(), identity.size)
    }

    /// Returns the opaque part of the strong entity tag of a fingerprint: the same bytes always have the same one.
    pub fn entity_tag(&self, fingerprint: &Fingerprint) -> String {
        data_encoding::BASE64URL_NOPAD.encode(&self.stores.ring.entity_tag(fingerprint))
    }

    /// Returns the identity of a blob.
    ///
    /// # Errors
    /// [`StoreError::Pending`] if it has not been computed yet.
    pub fn identity(&self, blob: &Blob) -> Result<Identity, StoreError> {
        let sealed = blob.identity.as_ref().ok_or(StoreError::Pending)?;
        let blake3 = self.open_identity(&blob.fingerprint, sealed)?;
        Ok(Identity { blake3, size: blob.size })
    }

    /// Returns the identity of a blob, or `None` while it is pending.
    pub fn known_identity(&self, blob: &Blob) -> Result<Option<Identity>, StoreError> {
        match self.identity(blob) {
            Err(StoreError::Pending) => Ok(None),
            known => known.map(Some),
        }
    }

    pub(crate) fn seal_identity(
        &self,
        fingerprint: &Fingerprint,
        blake3: &FileHash,
    ) -> Result<Vec<u8>, StoreError> {
        self.stores.ring.small().seal(Purpose::Identity, &identity_row(fingerprint), blake3.as_bytes())
    }

    pub(crate) fn open_identity(
        &self,
        fingerprint: &Fingerprint,
        sealed: &[u8],
    ) -> Result<FileHash, StoreError> {
        let opened = self.stores.ring.small().open(Purpose::Identity, &identity_row(fingerprint), sealed)?;
        let hash: [u8; 32] = opened
            .try_into()
            .map_err(|_| StoreError::Corrupt { what: "an identity".to_owned(), why: "another length" })?;
        Ok(FileHash::new(hash))
    }

    pub(crate) fn unmask(
        &self,
        object: ObjectId,
        start: Offset,
        part: PartNumber,
        masked: MaskedValue,
    ) -> PartValue {
        PartValue::new(self.stores.ring.mask_value(object, start, part, masked.salt.as_ref(), masked.masked))
    }
}

/// Makes the catalog's file before SQLite does: for its owner only, a mode that SQLite then gives to the files beside it.
fn create_catalog_file(disk: &dyn Disk, layout: &Layout) -> Result<(), StoreError> {
    let path = layout.catalog();
    if disk.facts(&path).map_err(StoreError::disk("look at", &path))?.is_none() {
        disk.create(&path).map_err(StoreError::disk("create", &path))?;
    }
    Ok(())
}

/// Masks the value of a part, as the catalog keeps it.
///
/// A function of the ring alone: what is on its way to the committer must not hold the store, or one of the store's own
/// threads may come to be the last that holds it.
pub(crate) fn mask(
    ring: &KeyRing,
    object: ObjectId,
    start: Offset,
    part: PartNumber,
    value: PartValue,
) -> MaskedValue {
    MaskedValue { masked: ring.mask_value(object, start, part, None, *value.as_bytes()), salt: None }
}

/// Masks the value of a part that may begin where another one begins.
pub(crate) fn mask_with_salt(
    ring: &KeyRing,
    object: ObjectId,
    start: Offset,
    part: PartNumber,
    value: PartValue,
) -> Result<MaskedValue, StoreError> {
    let salt = random_bytes()?;
    let masked = ring.mask_value(object, start, part, Some(&salt), *value.as_bytes());
    Ok(MaskedValue { masked, salt: Some(salt) })
}

fn identity_row(fingerprint: &Fingerprint) -> Row<'_> {
    Row { table: "blobs", key: &fingerprint.0, version: 0 }
}
