//! Local files that are received. Owns the temporary file beside the target, the bytes that land in it at their
//! offsets, and the one moment in which it gets its name; never decides which bytes are good.
//!
//! Nothing has the target's name before it is whole: parts are written into `name.part`, in any order, and the
//! finished file is renamed into place.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{PartHasher, PartNumber};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use crate::error::TransferError;
use crate::source::PIECE;
use crate::tasks::blocking;

/// The longest name that leaves room for the ending of a temporary file.
const STEM_BYTES_MAX: usize = 240;
/// How many temporary names are tried beside those that are taken by others.
const NAMES_MAX: u32 = 1_000;

/// Which file on which device, so that a file of the same name is not taken for ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// Its number on its device.
    pub inode: u64,
    /// Its device.
    pub device: u64,
    /// When it was made, if the file system knows: the number of a file that was removed is given to the next one.
    #[serde(default)]
    pub born: Option<SystemTime>,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), device: metadata.dev(), born: metadata.created().ok() }
    }
}

/// Whether a file that has the target's name may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It stays, and the transfer fails.
    #[default]
    Never,
    /// It is replaced, at once and as a whole.
    Replace,
}

/// What a finished file is given beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// Whether it may replace another one.
    pub overwrite: Overwrite,
    /// Its modification time, if one is known.
    pub modified: Option<SystemTime>,
    /// Whether it may be executed by those who may read it.
    pub executable: bool,
}

impl Finish {
    /// Gives a file its time and its bit, where they are other ones.
    ///
    /// # Errors
    /// The file cannot be opened, or is somebody else's.
    pub(crate) fn apply(&self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let mode = metadata.permissions().mode();
        // Whoever may read it may execute it.
        let wished = if self.executable { mode | (mode & 0o444) >> 2 } else { mode & !0o111 };
        if (mode & 0o100 != 0) != self.executable {
            file.set_permissions(Permissions::from_mode(wished))?;
        }
        match self.modified {
            Some(modified) if metadata.modified().ok() != Some(modified) => file.set_modified(modified),
            _ => Ok(()),
        }
    }
}

/// Gives files that are here already the times and bits that theirs have on the server; what cannot be changed stays.
pub(crate) async fn apply_all(files: Vec<(PathBuf, Finish)>) {
    blocking(move || {
        for (path, finish) in files {
            // What a link leads to is none of the target's.
            if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            if let Err(error) = File::open(&path).and_then(|file| finish.apply(&file)) {
                tracing::debug!(path = %path.display(), %error, "time and bit stay");
            }
        }
    })
    .await;
}

/// A temporary file that is being filled. Dropping it leaves it where it is.
#[derive(Debug, Clone)]
pub struct Sink {
    file: Arc<File>,
    path: Arc<Path>,
}

impl Sink {
    /// Makes an empty temporary file of the target's size beside the target, under a name that nobody has.
    pub async fn create(target: &Path, size: Length) -> Result<(Self, FileId), TransferError> {
        let target = target.to_owned();
        blocking(move || {
            let (file, path) = create_beside(&target)?;
            let failed = |error| TransferError::io("write", &path, error);
            file.set_len(size.get()).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            Ok((Self { file: Arc::new(file), path: path.into() }, FileId::of(&metadata)))
        })
        .await
    }

    /// Opens a temporary file again, or returns `None` if it is gone or is another one.
    pub async fn reopen(path: &Path, id: FileId, size: Length) -> Result<Option<Self>, TransferError> {
        Self::reopen_if(path, id, move |found| found == size).await
    }

    /// Opens a temporary file that grows as bytes come, if it is there and at least so long.
    pub(crate) async fn reopen_growing(
        path: &Path,
        id: FileId,
        least: Length,
    ) -> Result<Option<Self>, TransferError> {
        Self::reopen_if(path, id, move |found| found >= least).await
    }

    async fn reopen_if(
        path: &Path,
        id: FileId,
        fits: impl FnOnce(Length) -> bool + Send + 'static,
    ) -> Result<Option<Self>, TransferError> {
        let path: Arc<Path> = path.into();
        blocking(move || {
            let failed = |error| TransferError::io("open", &path, error);
            // By its name it could be a link to somewhere else by now.
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() => {}
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            }
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            let ours = FileId::of(&metadata) == id && fits(Length::new(metadata.len()));
            Ok(ours.then(|| Self { file: Arc::new(file), path: Arc::clone(&path) }))
        })
        .await
    }

    /// Returns where the temporary file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to write a part from its first byte on.
    pub fn land(&self, part: PartNumber) -> Landing {
        Landing { sink: self.clone(), hasher: PartHasher::new(part), waiting: Vec::new(), waiting_bytes: 0 }
    }

    /// Writes bytes, one piece behind the other, from an offset on. The file grows as far as it must, and what lies
    /// between takes no room on disks that know holes.
    pub(crate) async fn write_at(&self, at: Offset, pieces: Vec<Bytes>) -> Result<(), TransferError> {
        let sink = self.clone();
        blocking(move || {
            let mut at = at.get();
            for bytes in &pieces {
                sink.file
                    .write_all_at(bytes, at)
                    .map_err(|error| TransferError::io("write", &sink.path, error))?;
                at = at.saturating_add(bytes.len() as u64);
            }
            Ok(())
        })
        .await
    }

    /// Reads and hashes a part on this thread.
    pub(crate) fn hash_part_now(&self, part: PartNumber, span: Span) -> Result<PartHasher, TransferError> {
        let mut hasher = PartHasher::new(part);
        let mut piece = vec![0; PIECE];
        let mut at = span.start().get();
        while at < span.end().get() {
            let length = usize::try_from(span.end().get() - at).unwrap_or(PIECE).min(PIECE);
            let read = self.file.read_exact_at(&mut piece[..length], at);
            read.map_err(|error| TransferError::io("read", &self.path, error))?;
            hasher.update(&piece[..length]).expect("a part's span ends at the part's border");
            at += length as u64;
        }
        Ok(hasher)
    }

    /// Returns how long the file is.
    pub(crate) async fn length(&self) -> Result<Length, TransferError> {
        let sink = self.clone();
        blocking(move || {
            let metadata = sink.file.metadata();
            metadata
                .map(|metadata| Length::new(metadata.len()))
                .map_err(|error| TransferError::io("read", &sink.path, error))
        })
        .await
    }

    /// Waits until all that was written is on disk.
    ///
    /// DURABILITY: on return the bytes survive power loss.
    pub async fn sync(&self) -> Result<(), TransferError> {
        let sink = self.clone();
        blocking(move || sink.file.sync_data().map_err(|error| TransferError::io("sync", &sink.path, error)))
            .await
    }

    /// Gives the file its name.
    ///
    /// DURABILITY: on return the file is whole under the target's name and survives power loss.
    ///
    /// # Errors
    /// [`TransferError::TargetExists`] if something has the name and may not be replaced; the temporary file stays.
    pub async fn publish(self, target: &Path, finish: Finish) -> Result<(), TransferError> {
        let target = target.to_owned();
        blocking(move || {
            let failed = |error| TransferError::io("finish", &self.path, error);
            finish.apply(&self.file).map_err(failed)?;
            self.file.sync_all().map_err(failed)?;
            // What is renamed is what has the name, whoever gave it that.
            let (ours, named) = (self.file.metadata(), std::fs::symlink_metadata(&self.path));
            if FileId::of(&ours.map_err(failed)?) != FileId::of(&named.map_err(failed)?) {
                return Err(failed(io::Error::other("another file has its name now")));
            }
            rename(&self.path, &target, finish.overwrite)?;
            let folder = folder_of(&target);
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| TransferError::io("sync", folder, error))
        })
        .await
    }

    /// Removes the temporary file: its version is not wanted any more.
    pub async fn discard(self) -> Result<(), TransferError> {
        blocking(move || match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(TransferError::io("remove", &self.path, error))
            }
            _ => Ok(()),
        })
        .await
    }
}

/// A part on its way into the file: hashed and written in pieces, in order.
#[derive(Debug)]
pub struct Landing {
    sink: Sink,
    hasher: PartHasher,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl Landing {
    /// Takes the next bytes; they are written once enough wait.
    pub async fn take(&mut self, bytes: Bytes) -> Result<(), TransferError> {
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
        self.waiting.push(bytes);
        if self.waiting_bytes >= PIECE { self.flush().await } else { Ok(()) }
    }

    /// Writes what waits.
    pub async fn flush(&mut self) -> Result<(), TransferError> {
        let (sink, mut hasher) = (self.sink.clone(), self.hasher.clone());
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let written = blocking(move || {
            for bytes in waiting {
                let at = hasher.part().start().checked_add(hasher.length()).expect("a part ends below 2^56");
                hasher.update(&bytes).expect("a response is never longer than the part that was asked for");
                sink.file.write_all_at(&bytes, at.get())?;
            }
            Ok(hasher)
        })
        .await;
        self.hasher = written.map_err(|error| TransferError::io("write", &self.sink.path, error))?;
        Ok(())
    }

    /// Returns how many bytes were taken, written or not.
    pub fn length(&self) -> Length {
        let waiting = Length::new(self.waiting_bytes as u64);
        self.hasher.length().checked_add(waiting).expect("a part is at most PART long")
    }

    /// Returns the offset in the file where the next byte belongs.
    pub fn next(&self) -> Offset {
        self.hasher.part().start().checked_add(self.length()).expect("a part ends below 2^56")
    }

    /// Returns the hasher over all that was written.
    pub fn hashed(&self) -> &PartHasher {
        &self.hasher
    }
}

/// Returns how many bytes fit beside the target, if the file system says it.
pub(crate) async fn room_beside(target: &Path) -> Option<Length> {
    let folder = folder_of(target).to_owned();
    let found = blocking(move || rustix::fs::statvfs(&folder)).await.ok()?;
    Some(Length::new(found.f_bavail.saturating_mul(found.f_frsize)))
}

/// Returns the name that a target's file has until it is whole; a number follows where that is taken.
pub fn temporary(target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?.to_string_lossy();
    let stem = &name[..name.floor_char_boundary(STEM_BYTES_MAX)];
    Some(target.with_file_name(format!("{stem}.part")))
}

/// Makes `name.part`, or `name.part1` and so on where those are taken.
fn create_beside(target: &Path) -> Result<(File, PathBuf), TransferError> {
    let first = temporary(target).ok_or_else(|| TransferError::NotAFile { path: target.to_owned() })?;
    let mut taken = None;
    for number in 0..NAMES_MAX {
        let mut path = first.clone().into_os_string();
        if number > 0 {
            path.push(number.to_string());
        }
        let path = PathBuf::from(path);
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(error),
            Err(error) => return Err(TransferError::io("create", &path, error)),
        }
    }
    Err(TransferError::io(
        "create a temporary file for",
        target,
        taken.unwrap_or(io::ErrorKind::AlreadyExists.into()),
    ))
}

/// Renames, and only where nothing has the name if nothing may be replaced: tested and done in one step.
pub(crate) fn rename(from: &Path, to: &Path, overwrite: Overwrite) -> Result<(), TransferError> {
    let renamed = match overwrite {
        Overwrite::Replace => std::fs::rename(from, to),
        Overwrite::Never => match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that cannot do this in one call can in two: a link never replaces.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::hard_link(from, to).and_then(|()| std::fs::remove_file(from))
            }
            other => other.map_err(io::Error::from),
        },
    };
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => TransferError::TargetExists { path: to.to_owned() },
        _ => TransferError::io("rename into place", to, error),
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use hapax_proto::digest::FileHash;

    use super::*;

    const FINISH: Finish = Finish { overwrite: Overwrite::Never, modified: None, executable: false };

    #[tokio::test]
    async fn what_took_the_name_of_the_temporary_file_is_not_published_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let (sink, _) = Sink::create(&target, Length::new(1)).await.unwrap();
        assert_eq!(sink.path(), temporary(&target).unwrap());
        let other = folder.path().join("other");
        std::fs::write(&other, "2").unwrap();
        std::fs::rename(&other, sink.path()).unwrap();
        assert!(sink.publish(&target, FINISH).await.is_err());
        assert!(!target.exists());
    }

    #[tokio::test]
    async fn a_file_appears_whole_with_its_time_and_its_bit() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let bytes: Vec<u8> = (0..PIECE + 9).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let (sink, _) = Sink::create(&target, Length::of(&bytes)).await.unwrap();
        let mut landing = sink.land(PartNumber::FIRST);
        for piece in bytes.chunks(10_000) {
            landing.take(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(landing.next().get(), bytes.len() as u64);
        landing.flush().await.unwrap();
        assert_eq!(landing.hashed().root(), Some(FileHash::of(&bytes)));
        sink.sync().await.unwrap();
        assert!(!target.exists());
        let modified = UNIX_EPOCH + Duration::new(1_000_000, 7);
        sink.publish(&target, Finish { modified: Some(modified), executable: true, ..FINISH }).await.unwrap();
        let metadata = std::fs::metadata(&target).unwrap();
        assert_eq!(metadata.modified().unwrap(), modified);
        assert_eq!(metadata.permissions().mode() & 0o500, 0o500);
        assert!(std::fs::read(&target).unwrap() == bytes);
        assert!(!folder.path().join("a.part").exists());
    }

    #[tokio::test]
    async fn nothing_is_overwritten_unless_asked() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        std::fs::write(&target, b"old").unwrap();
        std::fs::write(folder.path().join("a.part"), b"somebody's").unwrap();
        let (sink, _) = Sink::create(&target, Length::ZERO).await.unwrap();
        assert!(sink.path().ends_with("a.part1"));
        let published = sink.clone().publish(&target, FINISH).await;
        assert!(matches!(published, Err(TransferError::TargetExists { .. })));
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        sink.publish(&target, Finish { overwrite: Overwrite::Replace, ..FINISH }).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"");
        assert_eq!(std::fs::read(folder.path().join("a.part")).unwrap(), b"somebody's");
    }

    #[tokio::test]
    async fn only_the_very_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (sink, id) = Sink::create(&folder.path().join("a"), Length::new(5)).await.unwrap();
        let path = sink.path().to_owned();
        let reopen = async |id, size| Sink::reopen(&path, id, Length::new(size)).await.unwrap().is_some();
        assert!(reopen(id, 5).await);
        assert!(!reopen(id, 6).await);
        assert!(!reopen(FileId { inode: 0, ..id }, 5).await);
        std::fs::rename(&path, folder.path().join("b")).unwrap();
        assert!(!reopen(id, 5).await);
        std::os::unix::fs::symlink("b", &path).unwrap();
        assert!(!reopen(id, 5).await);
    }

    #[tokio::test]
    async fn a_long_name_still_has_a_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let (sink, _) = Sink::create(&folder.path().join("é".repeat(127)), Length::ZERO).await.unwrap();
        sink.discard().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
