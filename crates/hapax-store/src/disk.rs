//! The seam under everything but SQLite: what storage asks of a disk, and the real one. Owns the few calls that
//! make bytes and names durable; never joins paths and never retries anything.
//!
//! Errors are plain `io::Error`s here; whoever calls knows what was being done and says so.

use std::{
    any::Any,
    ffi::OsString,
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use rustix::fs::{FallocateFlags, FlockOperation};

/// A complete disk in memory that fails, is killed or loses its power on purpose.
pub mod faulty;

/// How many zeros [`RealDisk`] writes at a time where a file system cannot reserve space by itself.
const ZEROS: usize = 1 << 20;

/// What storage asks of a disk.
///
/// Names and bytes become durable apart: a created file survives a power cut once its bytes were
/// [synced](DiskFile::sync) *and* its directory was ([`Disk::sync_dir`]).
pub trait Disk: Send + Sync + 'static {
    /// Creates a file for reading and writing, readable by its owner only. Fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file. A file that is still open stays readable until it is closed.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name in the same directory, replacing a file of that name; never half.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Creates one directory, open to its owner only. Fails if the name is taken.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns the names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Waits until the names of a directory are durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns what is known of a name, or `None` if nothing has it.
    fn facts(&self, path: &Path) -> io::Result<Option<Facts>>;
    /// Returns how much room the disk that holds `path` has.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes the exclusive lock that belongs to a file, creating the file if needed.
    ///
    /// Fails with [`io::ErrorKind::WouldBlock`] while another holder lives. The lock ends with the value or with
    /// the process, whichever is first.
    fn lock(&self, path: &Path) -> io::Result<HeldLock>;
}

/// An open file. Positions are explicit, so several threads may use one.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`. After an error any part of them may be in the file.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads from `offset` until `buffer` is full or the file ends; returns how many bytes were read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Waits until all written bytes are durable (`fdatasync`).
    ///
    /// After an error what it covered is lost, even if a later call succeeds (R7): the kernel tells of a failed
    /// write-back once and then takes the pages for clean.
    fn sync(&self) -> io::Result<()>;
    /// Reserves space for `length` bytes and makes the file that long.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Returns the length of the file in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// What is known of a name without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the name is a directory's.
    pub is_dir: bool,
    /// Length in bytes.
    pub length: u64,
    /// The permission bits, such as `0o600`.
    pub mode: u32,
}

/// The room of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What this process may still use.
    pub free_bytes: u64,
}

/// An exclusive lock; dropping it gives it back.
pub struct HeldLock {
    _held: Box<dyn Any + Send + Sync>,
}

impl HeldLock {
    /// Wraps whatever holds the lock as long as it lives.
    fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for HeldLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldLock")
    }
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// A file of this machine.
struct RealFile(File);

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn facts(&self, path: &Path) -> io::Result<Option<Facts>> {
        match std::fs::metadata(path) {
            Ok(found) => {
                Ok(Some(Facts { is_dir: found.is_dir(), length: found.len(), mode: found.mode() & 0o7777 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Space {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<HeldLock> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(HeldLock::new(file))
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, length) {
            // Not every file system can reserve; zeros reserve on all that do not compress.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.fill(length),
            done => Ok(done?),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl RealFile {
    /// Writes zeros up to `length`.
    fn fill(&self, length: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        let mut offset = 0;
        while offset < length {
            let count = usize::try_from(length - offset).map_or(ZEROS, |left| left.min(ZEROS));
            self.write_at(&zeros[..count], offset)?;
            offset += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every disk must do, run on the real and on the faulty one.
    pub(super) fn contract(disk: &dyn Disk, root: &Path) {
        let dir = root.join("dir");
        disk.make_dir(&dir).unwrap();
        assert_eq!(disk.make_dir(&dir).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(disk.facts(&dir).unwrap().unwrap().is_dir);

        let (a, b) = (dir.join("a"), dir.join("b"));
        assert_eq!(disk.facts(&a).unwrap(), None);
        assert_eq!(disk.open(&a).err().unwrap().kind(), io::ErrorKind::NotFound);
        let file = disk.create(&a).unwrap();
        assert_eq!(disk.create(&a).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello ", 0).unwrap();
        file.sync().unwrap();
        let mut buffer = [0xff; 16];
        assert_eq!(file.read_at(&mut buffer, 3).unwrap(), 8);
        assert_eq!(&buffer[..8], b"lo world");
        assert_eq!(file.read_at(&mut buffer, 11).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 99).unwrap(), 0);
        assert_eq!(disk.facts(&a).unwrap(), Some(Facts { is_dir: false, length: 11, mode: 0o600 }));

        disk.create(&b).unwrap().write_at(b"other", 0).unwrap();
        disk.rename(&a, &b).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["b"]);
        let opened = disk.open(&b).unwrap();
        assert_eq!(opened.length().unwrap(), 11);
        assert!(opened.write_at(b"!", 0).is_err(), "opened for reading");
        disk.remove(&b).unwrap();
        assert_eq!(disk.remove(&b).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(opened.read_at(&mut buffer, 0).unwrap(), 11, "removed, yet open");
        assert_eq!(disk.list(&dir).unwrap(), [""; 0]);

        let reserved = disk.create(&a).unwrap();
        reserved.allocate(10_000).unwrap();
        assert_eq!(reserved.length().unwrap(), 10_000);
        let space = disk.space(root).unwrap();
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes);

        let lock = dir.join("lock");
        let held = disk.lock(&lock).unwrap();
        assert_eq!(disk.lock(&lock).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        disk.lock(&lock).unwrap();
    }

    #[test]
    fn the_real_disk_keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        contract(&RealDisk, root.path());
    }

    #[test]
    fn zeros_reserve_where_the_file_system_cannot() {
        let root = tempfile::tempdir().unwrap();
        let length = ZEROS as u64 * 2 + 5;
        let path = root.path().join("a");
        let file = RealFile(File::create_new(&path).unwrap());
        file.fill(length).unwrap();
        assert_eq!(file.length().unwrap(), length);
    }
}
