//! The data directory: where everything lies, which format it has, who holds it. Owns every path inside DATA and
//! is the only file that joins paths; no name in it comes from a user.
//!
//! ```text
//!   DATA/
//!     format           the version of the whole layout; there before anything else
//!     lock             held for the life of the process
//!     catalog.db       SQLite
//!     ballast          given back when the disk is full
//!     keys/            key ring and master key (or elsewhere: Layout::with_keys)
//!     objects/<dir>/<object id>
//! ```

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, HeldLock},
    error::StoreError,
    id::{DirId, ObjectName},
};

/// The version of the layout that this program reads and writes.
pub const FORMAT: u32 = 1;

/// How much [`Ballast`] holds back.
pub const BALLAST_BYTES: u64 = 64 << 20;

/// What a format file begins with; the version and a line feed follow.
const FORMAT_WORDS: &str = "hapax data format ";

/// A format file is one short line; more than this is something else.
const FORMAT_MAX: usize = 64;

/// The ending of a file that is being written and will be renamed into place.
const NEW: &str = "new";

/// Where everything lies in one data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    data: PathBuf,
    keys: PathBuf,
}

impl Layout {
    /// Lays out a data directory, with the keys inside it.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data = data_dir.into();
        Self { keys: data.join("keys"), data }
    }

    /// Puts the keys into a directory of their own, best on another device.
    #[must_use]
    pub fn with_keys(self, keys_dir: impl Into<PathBuf>) -> Self {
        Self { keys: keys_dir.into(), ..self }
    }

    /// The data directory itself.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The format file.
    pub fn format(&self) -> PathBuf {
        self.data.join("format")
    }

    /// The file whose lock says who holds the directory.
    pub fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// The catalog's database.
    pub fn catalog(&self) -> PathBuf {
        self.data.join("catalog.db")
    }

    /// The file that holds room back.
    pub fn ballast(&self) -> PathBuf {
        self.data.join("ballast")
    }

    /// The directory of the keys.
    pub fn keys_dir(&self) -> &Path {
        &self.keys
    }

    /// The key ring, wrapped by the master key.
    pub fn key_ring(&self) -> PathBuf {
        self.keys.join("ring")
    }

    /// The master key, if the operator did not bring one.
    pub fn master_key(&self) -> PathBuf {
        self.keys.join("master")
    }

    /// The master key that a rotation is about to put in place.
    pub fn next_master_key(&self) -> PathBuf {
        self.keys.join("master.next")
    }

    /// The directory of the directories of objects.
    pub fn objects_dir(&self) -> PathBuf {
        self.data.join("objects")
    }

    /// One directory of objects.
    pub fn object_dir(&self, dir: DirId) -> PathBuf {
        self.objects_dir().join(dir.to_string())
    }

    /// One object.
    pub fn object(&self, name: ObjectName) -> PathBuf {
        self.object_dir(name.dir).join(name.id.to_string())
    }

    /// Opens the data directory for the life of the returned lock; creates what is missing.
    ///
    /// DURABILITY: on return the format file and the directories of the layout survive power loss. The format file
    /// is durable before anything but the lock file exists, so no crash leaves data without a format.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process holds it, [`StoreError::Format`] if it is of an unknown format,
    /// [`StoreError::ForeignDirectory`] if it holds something else.
    pub fn open(&self, disk: &dyn Disk) -> Result<HeldLock, StoreError> {
        make_dirs(disk, &self.data)?;
        let lock = disk.lock(&self.lock()).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked { dir: self.data.display().to_string() },
            _ => StoreError::disk("lock", &self.lock())(error),
        })?;
        match self.read_format(disk)? {
            Some(text) => check_format(&text)?,
            None => self.create_format(disk)?,
        }
        // Also after a start that found them: the process that made them may have died before it synced them.
        make_dir(disk, &self.objects_dir())?;
        sync_dir(disk, &self.data)?;
        make_dirs(disk, &self.keys)?;
        Ok(lock)
    }

    fn read_format(&self, disk: &dyn Disk) -> Result<Option<String>, StoreError> {
        let bytes = read_small(disk, &self.format(), FORMAT_MAX)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn create_format(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let ours = [self.lock(), self.format(), with_new(&self.format())];
        let names = disk.list(&self.data).map_err(StoreError::disk("list", &self.data))?;
        let is_ours = |name: &std::ffi::OsString| {
            name == "lost+found" || ours.iter().any(|path| path.file_name() == Some(name))
        };
        if !names.iter().all(is_ours) {
            return Err(StoreError::ForeignDirectory { dir: self.data.display().to_string() });
        }
        write_durably(disk, &self.format(), format!("{FORMAT_WORDS}{FORMAT}\n").as_bytes())
    }
}

/// Accepts the format of this program and no other.
fn check_format(text: &str) -> Result<(), StoreError> {
    let version = text.strip_prefix(FORMAT_WORDS).and_then(|rest| rest.strip_suffix('\n'));
    match version {
        Some(version) if version == FORMAT.to_string() => Ok(()),
        Some(version) => Err(StoreError::Format { found: version.to_owned(), supported: FORMAT }),
        None => Err(StoreError::Format { found: format!("{text:?}"), supported: FORMAT }),
    }
}

/// Room held back so that the catalog can still commit when the disk is full: deleting must work then.
pub struct Ballast {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Ballast {
    /// Names the ballast of a data directory; takes nothing yet.
    pub fn new(disk: Arc<dyn Disk>, layout: &Layout) -> Self {
        Self { disk, path: layout.ballast() }
    }

    /// Tells whether the room is held back.
    pub fn is_held(&self) -> Result<bool, StoreError> {
        let facts = self.disk.facts(&self.path).map_err(StoreError::disk("look at", &self.path))?;
        Ok(facts.is_some_and(|facts| facts.length >= BALLAST_BYTES))
    }

    /// Holds the room back, if it is not.
    ///
    /// On an error nothing is held: half a ballast would only take room from those who need it.
    pub fn restore(&self) -> Result<(), StoreError> {
        if self.is_held()? {
            return Ok(());
        }
        self.release()?;
        let file = self.disk.create(&self.path).map_err(StoreError::disk("create", &self.path))?;
        let held = file.allocate(BALLAST_BYTES).and_then(|()| file.sync());
        held.map_err(|error| {
            // Best effort: a remainder is shorter than a ballast, so the next call removes it.
            let _ = self.disk.remove(&self.path);
            StoreError::disk("reserve", &self.path)(error)
        })
    }

    /// Gives the room back; does nothing if it is not held.
    pub fn release(&self) -> Result<(), StoreError> {
        remove_if_there(&*self.disk, &self.path)
    }
}

/// Writes a small file under a temporary name, syncs it and renames it into place.
///
/// DURABILITY: on return the file survives power loss under its name. A crash before leaves what was there.
pub(crate) fn write_durably(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let new = with_new(path);
    // A remainder of a start that died here.
    remove_if_there(disk, &new)?;
    let file = disk.create(&new).map_err(StoreError::disk("create", &new))?;
    file.write_at(bytes, 0).map_err(StoreError::disk("write", &new))?;
    file.sync().map_err(StoreError::disk("sync", &new))?;
    rename_durably(disk, &new, path)
}

/// Renames a file whose bytes are durable.
///
/// DURABILITY: on return the new name survives power loss.
pub(crate) fn rename_durably(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StoreError> {
    disk.rename(from, to).map_err(StoreError::disk("rename", from))?;
    sync_dir(disk, parent(to))
}

/// Removes a file if it is there; tells nothing about durability.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::disk("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Reads a small file whole, or its first `max + 1` bytes if it is longer; `None` if there is none.
pub(crate) fn read_small(disk: &dyn Disk, path: &Path, max: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(StoreError::disk("open", path))?,
    };
    let mut bytes = vec![0; max + 1];
    let count = file.read_at(&mut bytes, 0).map_err(StoreError::disk("read", path))?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

/// Waits until the names of a directory are durable.
pub(crate) fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    disk.sync_dir(dir).map_err(StoreError::disk("sync", dir))
}

/// Creates a directory that may be there already.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    match disk.make_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::disk("create", dir)(error))
        }
        _ => Ok(()),
    }
}

/// Creates a directory and those above it.
///
/// DURABILITY: on return those that were missing survive power loss, and so does `dir` if an earlier process made
/// it and died before it synced it.
fn make_dirs(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let above = parent(dir);
    let exists = |dir: &Path| disk.facts(dir).map_err(StoreError::disk("look at", dir));
    if exists(dir)?.is_none() {
        if exists(above)?.is_none() {
            make_dirs(disk, above)?;
        }
        make_dir(disk, dir)?;
    }
    // An operator may give us a directory below one that we cannot read; what exists there is not ours to sync.
    match disk.sync_dir(above) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(StoreError::disk("sync", above)),
    }
}

/// Returns the directory a path lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Returns the temporary name of a file on its way.
fn with_new(path: &Path) -> PathBuf {
    path.with_added_extension(NEW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::{
            RealDisk,
            faulty::{Failure, FaultyDisk, Torn},
        },
        error::ErrorClass,
        id::ObjectId,
    };

    fn layout() -> Layout {
        Layout::new("/srv/data")
    }

    #[test]
    fn everything_has_its_place() {
        let name = ObjectName { dir: DirId::new(7), id: ObjectId::from_bytes([1; 16]) };
        let file = format!("/srv/data/objects/00000007/{}", "01".repeat(16));
        assert_eq!(layout().object(name), Path::new(&file));
        assert_eq!(layout().key_ring(), Path::new("/srv/data/keys/ring"));
        assert_eq!(layout().with_keys("/key").key_ring(), Path::new("/key/ring"));
    }

    #[test]
    fn a_fresh_directory_survives_a_power_cut() {
        let disk = FaultyDisk::new();
        let _lock = layout().open(&disk).unwrap();
        let after = disk.power_cut(Torn::Nothing);
        assert_eq!(layout().read_format(&after).unwrap().unwrap(), "hapax data format 1\n");
        for dir in [layout().objects_dir(), layout().keys_dir().to_owned()] {
            assert!(after.facts(&dir).unwrap().unwrap().is_dir);
        }
    }

    #[test]
    fn a_start_that_fails_anywhere_can_be_repeated() {
        for torn in [Torn::Nothing, Torn::Seeded(1), Torn::Seeded(2), Torn::Seeded(3)] {
            for n in 0.. {
                let disk = FaultyDisk::new();
                disk.fail_once(n, Failure::Io);
                let opened = layout().open(&disk).is_ok();
                let killed = disk.kill();
                layout().open(&killed).unwrap_or_else(|error| panic!("kill at {n}: {error}"));
                let disk = FaultyDisk::new();
                disk.fail_from(n, Failure::Io);
                let _ = layout().open(&disk);
                let after = disk.power_cut(torn);
                layout().open(&after).unwrap_or_else(|error| panic!("cut at {n}: {error}"));
                if opened {
                    assert!(n > 8, "the fault was never reached");
                    break;
                }
            }
        }
    }

    #[test]
    fn a_second_server_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().join("data"));
        let lock = layout.open(&RealDisk).unwrap();
        let refused = layout.open(&RealDisk).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        drop(lock);
        layout.open(&RealDisk).unwrap();
    }

    #[test]
    fn only_the_known_format_is_opened() {
        #[track_caller]
        fn check(text: &str, found: &str) {
            let disk = FaultyDisk::new();
            drop(layout().open(&disk).unwrap());
            disk.alter(&layout().format(), |bytes| *bytes = text.into()).unwrap();
            match layout().open(&disk) {
                Err(StoreError::Format { found: told, supported: FORMAT }) => assert_eq!(told, found),
                other => panic!("{other:?}"),
            }
        }
        check("hapax data format 2\n", "2");
        check("hapax data format 01\n", "01");
        check("hapax data format 1", "\"hapax data format 1\"");
        check("", "\"\"");
    }

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let disk = FaultyDisk::new();
        make_dirs(&disk, Path::new("/srv/data")).unwrap();
        disk.create(Path::new("/srv/data/thesis.tex")).unwrap();
        let refused = layout().open(&disk).unwrap_err();
        assert!(matches!(refused, StoreError::ForeignDirectory { .. }), "{refused}");
        assert_eq!(disk.facts(&layout().format()).unwrap(), None);
    }

    #[test]
    fn ballast_is_held_whole_or_not_at_all() {
        let disk = FaultyDisk::new();
        let _lock = layout().open(&disk).unwrap();
        let ballast = Ballast::new(Arc::new(disk.clone()), &layout());
        disk.set_capacity(BALLAST_BYTES);
        assert_eq!(ballast.restore().unwrap_err().class(), ErrorClass::Full);
        assert_eq!(disk.facts(&layout().ballast()).unwrap(), None);

        disk.set_capacity(BALLAST_BYTES + 1000);
        ballast.restore().unwrap();
        ballast.restore().unwrap();
        assert!(ballast.is_held().unwrap());
        let file = disk.create(Path::new("/srv/data/catalog.db")).unwrap();
        assert!(file.write_at(&[1; 1000], 0).is_err());
        ballast.release().unwrap();
        ballast.release().unwrap();
        assert!(!ballast.is_held().unwrap());
        file.write_at(&[1; 1000], 0).unwrap();
    }

    #[test]
    fn half_a_ballast_is_made_whole() {
        let disk = FaultyDisk::new();
        let _lock = layout().open(&disk).unwrap();
        disk.create(&layout().ballast()).unwrap().allocate(5).unwrap();
        let ballast = Ballast::new(Arc::new(disk), &layout());
        assert!(!ballast.is_held().unwrap());
        ballast.restore().unwrap();
        assert!(ballast.is_held().unwrap());
    }
}
