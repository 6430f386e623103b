//! Local files that are sent. Owns what a file *is* at a moment (its facts), reading it at offsets and hashing its
//! parts, all on blocking threads in pieces of `PIECE`; never decides what is sent, and never holds a part.
//!
//! A file has no version number. So a version is told by facts that a writer cannot help changing, and they are
//! believed only once they are old enough: clocks of file systems tick as coarsely as every two seconds (FAT), and
//! a write in the tick in which the facts were taken changes none of them.
//!
//! Who writes through a mapping can help it: only the first store to a page that is clean changes the times. So a file that
//! changed lately is written back before its facts are taken, which makes its pages clean; older ones are clean by now. File
//! systems that lie in memory write nothing back: there such a writer is seen once, and no digest is remembered.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hapax_proto::claim::{Proof, ProofHasher, QuickHasher, quick_spans};
use hapax_proto::digest::FileHash;
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PartHasher, PartNumber};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat, syncfs};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::TransferError;
use crate::tasks::blocking;

/// How much is read, hashed or written in one go on a blocking thread.
pub const PIECE: usize = 256 * 1024;

/// How many pieces wait between the reading thread and the line.
const PIECES_AHEAD: usize = 2;

/// How old a file's times must be for its facts to tell its version: the coarsest tick there is.
const TICK_MAX: Duration = Duration::from_secs(2);

/// How old they must be while this process watches the file: a file system that keeps fractions of a second takes
/// them from the system's clock, which ticks at least this often.
const TICK: Duration = Duration::from_millis(20);

/// How long ago a file must have changed for all its pages to be clean: the kernel writes back what is dirty for longer than
/// half a minute.
const WRITTEN_BACK: Duration = Duration::from_mins(1);

/// A moment of the wall clock, as exact as file systems are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds on top of them.
    pub nanos: u32,
}

impl Stamp {
    /// Returns the present moment; the start of 1970 if the clock stands before it.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
    }

    /// Returns the moment in RFC 3339, or `None` outside the years 1970 to 9999.
    pub fn to_rfc3339(self) -> Option<String> {
        let since = Duration::new(u64::try_from(self.seconds).ok()?, self.nanos);
        let time = UNIX_EPOCH.checked_add(since)?;
        (self.seconds < YEAR_10000).then(|| humantime::format_rfc3339_nanos(time).to_string())
    }

    fn checked_add(self, duration: Duration) -> Option<Self> {
        let nanos = u64::from(self.nanos) + u64::from(duration.subsec_nanos());
        let carry = i64::from(nanos >= 1_000_000_000);
        let seconds = self.seconds.checked_add_unsigned(duration.as_secs())?.checked_add(carry)?;
        Some(Self { seconds, nanos: u32::try_from(nanos % 1_000_000_000).ok()? })
    }
}

/// The first second that RFC 3339 cannot write.
const YEAR_10000: i64 = 253_402_300_800;

/// What a file is at a moment, as far as the file system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its size.
    pub size: Length64,
    /// When its content was last modified; any program can set it.
    pub modified: Stamp,
    /// When its content or anything about it last changed; no program can set it.
    pub changed: Stamp,
    /// Its number on its device.
    pub inode: u64,
    /// Its device.
    pub device: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// A length in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Length64(u64);

impl From<Length64> for Length {
    fn from(length: Length64) -> Self {
        Self::new(length.0)
    }
}

impl From<Length> for Length64 {
    fn from(length: Length) -> Self {
        Self(length.get())
    }
}

impl Facts {
    /// Takes the facts from what the file system answered.
    pub fn of(metadata: &Metadata) -> Self {
        let stamp = |seconds, nanos: i64| Stamp { seconds, nanos: u32::try_from(nanos).unwrap_or_default() };
        Self {
            size: Length64(metadata.len()),
            modified: stamp(metadata.mtime(), metadata.mtime_nsec()),
            changed: stamp(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
            executable: metadata.permissions().mode() & 0o100 != 0,
        }
    }

    /// Returns the size.
    pub fn size(&self) -> Length {
        self.size.into()
    }

    /// Tells whether a write from `now` on must show in the facts, on any file system. Only then may equal facts be
    /// taken for an equal file later; times in the future never settle.
    pub fn settled_at(&self, now: Stamp) -> bool {
        self.older_than(TICK_MAX, now)
    }

    /// Tells the same for the file system that these facts came from: where times have fractions, ticks are short.
    pub fn shows_writes_at(&self, now: Stamp) -> bool {
        let fine = self.modified.nanos != 0 || self.changed.nanos != 0;
        self.older_than(if fine { TICK } else { TICK_MAX }, now)
    }

    /// Tells whether the file changed so long ago that a store through a mapping shows in the facts, too.
    pub(crate) fn written_back_at(&self, now: Stamp) -> bool {
        self.older_than(WRITTEN_BACK, now)
    }

    fn older_than(&self, age: Duration, now: Stamp) -> bool {
        self.modified.max(self.changed).checked_add(age).is_some_and(|quiet| quiet <= now)
    }
}

/// What is done with a symbolic link where a file should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// The file that it leads to is read: whoever named it meant that.
    #[default]
    Followed,
    /// It is no file, nor may one lead to it. For what was found in a folder, where others may put a link in the place of
    /// a file, or of a folder above it, after it was listed.
    Refused {
        /// How many of the last names of the path that holds for: as many as there are below the folder that was named.
        names: usize,
    },
}

/// Opens a regular file; `None` if it is something else. Never waits for the writer of a pipe.
fn open_regular(path: &Path, links: Links) -> io::Result<Option<File>> {
    let (folder, path, more) = match links {
        Links::Followed => (None, path, OFlags::empty()),
        Links::Refused { names } => {
            let (folder, name) = enter(path, names)?;
            (Some(folder), name, OFlags::NOFOLLOW)
        }
    };
    let folder = folder.as_ref().map_or(CWD, AsFd::as_fd);
    // Asked before opening: to open a device may do something.
    let followed = if more.is_empty() { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    if !FileType::from_raw_mode(statat(folder, path, followed)?.st_mode).is_file() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | more;
    let file = File::from(openat(folder, path, flags, Mode::empty())?);
    // And of what was opened: it may have been replaced in between.
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Opens the folder that a file lies in, one name after the other, none of the last `names` by a link; returns it and the name
/// of the file.
fn enter(path: &Path, names: usize) -> io::Result<(OwnedFd, &Path)> {
    let below = path.ancestors().nth(names).unwrap_or_else(|| Path::new(""));
    let rest = path.strip_prefix(below).expect("it is an ancestor");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let top = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let mut folder = openat(CWD, top, flags, Mode::empty())?;
    let mut names = rest.iter();
    let name = names.next_back().ok_or(io::ErrorKind::InvalidFilename)?;
    for name in names {
        folder = openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok((folder, Path::new(name)))
}

/// A regular file, opened to be sent. Clones read the same open file.
#[derive(Debug, Clone)]
pub struct Source {
    file: Arc<File>,
    path: Arc<Path>,
}

/// A part as it was read and hashed.
#[derive(Debug)]
pub struct Hashed {
    /// Over the part's bytes.
    pub hasher: PartHasher,
    /// Whether the facts had settled when reading began, so that they vouch for this part in a later session.
    pub settled: bool,
    /// Whether a write since then may leave the facts as they are, so that they do not even vouch for it now.
    pub raced: bool,
}

impl Source {
    /// Opens a file that somebody named, and takes its facts.
    ///
    /// # Errors
    /// [`TransferError::NotAFile`] for folders, pipes and devices.
    pub async fn open(path: &Path) -> Result<(Self, Facts), TransferError> {
        Self::open_if(path, Links::Followed).await
    }

    /// Opens a file, also where no link may lead to it, and takes its facts.
    ///
    /// # Errors
    /// As [`Source::open`]; [`TransferError::NotAFile`] for links that are refused.
    pub async fn open_if(path: &Path, links: Links) -> Result<(Self, Facts), TransferError> {
        let path: Arc<Path> = path.into();
        blocking(move || {
            let failed = |source| TransferError::io("open", &path, source);
            let Some(file) = open_regular(&path, links).map_err(failed)? else {
                return Err(TransferError::NotAFile { path: path.to_path_buf() });
            };
            let mut facts = Facts::of(&file.metadata().map_err(failed)?);
            if !facts.written_back_at(Stamp::now()) {
                // What cannot be written back is read all the same; its facts say no less than without this.
                let _ = file.sync_data();
                facts = Facts::of(&file.metadata().map_err(failed)?);
            }
            Ok((Self { file: Arc::new(file), path }, facts))
        })
        .await
    }

    /// Returns the path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the facts of what the path names now, which may be another file than the one that is open.
    pub async fn facts_now(&self) -> Result<Facts, TransferError> {
        let path = Arc::clone(&self.path);
        blocking(move || {
            let metadata = std::fs::metadata(&path);
            metadata
                .map(|metadata| Facts::of(&metadata))
                .map_err(|error| TransferError::io("read", &path, error))
        })
        .await
    }

    /// Reads and hashes a part, or returns `None` if the file ends before the part does.
    pub async fn hash_part(
        &self,
        part: PartNumber,
        span: Span,
        facts: Facts,
    ) -> Result<Option<Hashed>, TransferError> {
        let source = self.clone();
        blocking(move || source.hash_part_now(part, span, facts)).await
    }

    /// Does the work of [`hash_part`](Self::hash_part) on this thread.
    pub(crate) fn hash_part_now(
        &self,
        part: PartNumber,
        span: Span,
        facts: Facts,
    ) -> Result<Option<Hashed>, TransferError> {
        let begun = Stamp::now();
        let (settled, raced) = (facts.settled_at(begun), !facts.shows_writes_at(begun));
        let mut hasher = PartHasher::new(part);
        let read = self.each_piece(span, |piece| {
            hasher.update(piece).expect("a part's span ends at the part's border");
            true
        });
        let read = self.unless_it_ended(read)?;
        Ok(read.map(|()| Hashed { hasher, settled, raced }))
    }

    /// Reads and hashes the whole file, or returns `None` if it changed meanwhile.
    pub async fn hash(&self, facts: Facts) -> Result<Option<FileHash>, TransferError> {
        let source = self.clone();
        self.unless_it_changed(facts, blocking(move || source.hash_now(&facts)).await).await
    }

    /// Returns what was read; `None` if the file ended before the reading did.
    fn unless_it_ended<T>(&self, read: io::Result<T>) -> Result<Option<T>, TransferError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(TransferError::io("read", &self.path, error)),
        }
    }

    /// Returns what was made of the whole file; `None` if it is another file now than it was.
    async fn unless_it_changed<T>(
        &self,
        facts: Facts,
        read: io::Result<Option<T>>,
    ) -> Result<Option<T>, TransferError> {
        let Some(made) = self.unless_it_ended(read)? else { return Ok(None) };
        Ok(if self.facts_now().await? == facts { made } else { None })
    }

    /// Reads and hashes the file on this thread; `None` if two readings differ.
    fn hash_now(&self, facts: &Facts) -> io::Result<Option<FileHash>> {
        let raced = !facts.shows_writes_at(Stamp::now());
        let read = || {
            let mut hasher = blake3::Hasher::new();
            let take = |piece: &[u8]| {
                hasher.update(piece);
                true
            };
            self.each_piece(Span::whole(facts.size()), take).map(|()| FileHash::from(hasher.finalize()))
        };
        let first = read()?;
        // Read again where a write in the meantime might not show.
        Ok(if raced && read()? != first { None } else { Some(first) })
    }

    /// Reads the whole file for a proof that it is there; `None` if it is another one now than it was, or if that took
    /// longer than `until`: then nobody would take the proof any more.
    pub async fn prove(
        &self,
        facts: Facts,
        mut hasher: ProofHasher,
        until: Instant,
    ) -> Result<Option<Proof>, TransferError> {
        let source = self.clone();
        let proven = blocking(move || {
            let mut in_time = true;
            let take = |piece: &[u8]| {
                hasher.update(piece);
                in_time = Instant::now() < until;
                in_time
            };
            source.each_piece(Span::whole(facts.size()), take)?;
            Ok(in_time.then(|| hasher.finish()))
        })
        .await;
        self.unless_it_changed(facts, proven).await
    }

    /// Reads the places of a quick digest; `None` if the file ends before they do.
    pub async fn quick(&self, facts: Facts) -> Result<Option<FileHash>, TransferError> {
        let source = self.clone();
        let read = blocking(move || {
            let mut hasher = QuickHasher::new(facts.size());
            for span in quick_spans(facts.size()) {
                source.each_piece(span, |piece| {
                    hasher.update(piece);
                    true
                })?;
            }
            Ok(hasher.finish())
        })
        .await;
        self.unless_it_ended(read)
    }

    /// Reads a span on a thread of its own, a few pieces ahead of whoever takes them. Ends early, with an error,
    /// if the file does; the thread ends when the receiver is dropped.
    pub fn read(&self, span: Span) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let source = self.clone();
        tokio::task::spawn_blocking(move || {
            let sent = source
                .each_piece(span, |piece| sender.blocking_send(Ok(Bytes::copy_from_slice(piece))).is_ok());
            if let Err(error) = sent {
                // A receiver that has left does not want to know.
                let _ = sender.blocking_send(Err(error));
            }
        });
        receiver
    }

    /// Reads a span piece by piece until it ends or `take` has had enough.
    fn each_piece(&self, span: Span, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let longest = usize::try_from(span.length().get()).unwrap_or(PIECE).min(PIECE);
        let mut buffer = vec![0; longest];
        let mut rest = span;
        while !rest.is_empty() {
            let length = usize::try_from(rest.length().get()).unwrap_or(PIECE).min(PIECE);
            let piece = &mut buffer[..length];
            self.file.read_exact_at(piece, rest.start().get())?;
            if !take(piece) {
                return Ok(());
            }
            rest = behind(rest, Length::of(piece));
        }
        Ok(())
    }
}

/// Tells of each file whether its file system shows every write in the file's times. One that lies in memory does not: it
/// writes nothing back, so a page that was stored to through a mapping once is stored to again without a trace.
pub(crate) async fn show_writes(paths: Vec<PathBuf>) -> Vec<bool> {
    blocking(move || paths.iter().map(|path| shows_writes(path)).collect()).await
}

#[cfg(target_os = "linux")]
fn shows_writes(path: &Path) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of `linux/magic.h`.
    const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
    // The type is an integer of another kind on every architecture, and of 32 bits on all.
    let found = rustix::fs::statfs(path).ok().and_then(|found| u32::try_from(found.f_type).ok());
    found.is_some_and(|found| !IN_MEMORY.contains(&found))
}

#[cfg(not(target_os = "linux"))]
fn shows_writes(_: &Path) -> bool {
    true
}

/// Looks at files that nobody looked at just now, and makes their paths absolute; `None` for what cannot be looked at, or
/// is no file.
pub(crate) async fn look(
    files: Vec<(PathBuf, Option<Facts>)>,
) -> Result<Vec<Option<(PathBuf, Facts)>>, TransferError> {
    blocking(move || {
        let look = |(path, facts): (PathBuf, Option<Facts>)| {
            let looked = || std::fs::metadata(&path).ok().filter(Metadata::is_file);
            match facts.or_else(|| looked().map(|metadata| Facts::of(&metadata))) {
                Some(facts) => Ok(Some((absolute(&path)?, facts))),
                None => Ok(None),
            }
        };
        files.into_iter().map(look).collect()
    })
    .await
}

/// A file that was hashed: its path, its facts, when that began, and what it hashed to.
pub(crate) type HashedFile = (PathBuf, Facts, Stamp, FileHash);

/// Hashes a file that has these facts, on this thread; `None` if it does not any more, or cannot be read.
pub(crate) fn hash_same(path: PathBuf, facts: Facts) -> Option<HashedFile> {
    let begun = Stamp::now();
    let file = open_regular(&path, Links::Refused { names: 1 }).ok()??;
    let is_same = |metadata: io::Result<Metadata>| metadata.is_ok_and(|now| Facts::of(&now) == facts);
    if !is_same(file.metadata()) {
        return None;
    }
    let source = Source { file: Arc::new(file), path: path.as_path().into() };
    let blake3 = source.hash_now(&facts).ok().flatten()?;
    is_same(std::fs::symlink_metadata(&path)).then_some((path, facts, begun, blake3))
}

/// Returns the path from the root on, without looking whether anything has it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, TransferError> {
    std::path::absolute(path).map_err(|error| TransferError::io("find", path, error))
}

/// A small file, all of it in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    /// What it was before it was read, and after.
    pub(crate) facts: Facts,
    /// When reading began.
    pub(crate) begun: Stamp,
    /// Whether its facts show every write since then.
    pub(crate) written_back: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) blake3: FileHash,
}

/// A small file to be read.
pub(crate) struct Wanted {
    pub(crate) path: PathBuf,
    /// Whether a link may stand there.
    pub(crate) links: Links,
    /// Where something exists if it is not to be read.
    pub(crate) unless: PathBuf,
}

/// Reads small files; what changed lately is written back before, all together: one by one that would take longer than
/// sending them. `None` for one that is longer than `size_max`, changed meanwhile or cannot be read, and for one
/// that is not wanted after all.
pub(crate) async fn load(files: Vec<Wanted>, size_max: u64) -> Vec<Option<Loaded>> {
    blocking(move || {
        let clean = write_back(&files);
        let load = |Wanted { path, links, unless }| {
            if unless.exists() { None } else { load_one(path, (links, size_max), &clean).ok().flatten() }
        };
        files.into_iter().map(load).collect()
    })
    .await
}

/// Writes back the file systems of those files that changed lately, and returns their devices.
fn write_back(files: &[Wanted]) -> HashSet<u64> {
    let (now, mut done) = (Stamp::now(), HashSet::new());
    for Wanted { path, links, .. } in files {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let facts = Facts::of(&metadata);
        if metadata.is_file() && !facts.written_back_at(now) && !done.contains(&facts.device) {
            let synced = open_regular(path, *links).ok().flatten().map(|file| syncfs(&file));
            if let Some(Ok(())) = synced {
                done.insert(facts.device);
            }
        }
    }
    done
}

fn load_one(
    path: PathBuf,
    (links, size_max): (Links, u64),
    clean: &HashSet<u64>,
) -> io::Result<Option<Loaded>> {
    let Some(file) = open_regular(&path, links)? else { return Ok(None) };
    let (begun, facts) = (Stamp::now(), Facts::of(&file.metadata()?));
    let written_back = facts.written_back_at(begun) || clean.contains(&facts.device);
    if facts.size().get() > size_max {
        return Ok(None);
    }
    let length = usize::try_from(facts.size().get()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let raced = !facts.shows_writes_at(begun);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    // Read again where a write in the meantime might not show.
    if raced {
        let mut again = vec![0; length];
        file.read_exact_at(&mut again, 0)?;
        if again != bytes {
            return Ok(None);
        }
    }
    let same = Facts::of(&std::fs::metadata(&path)?) == facts;
    let blake3 = FileHash::of(&bytes);
    Ok(same.then_some(Loaded { path, facts, begun, written_back, bytes, blake3 }))
}

/// Tells of each file whether its path still names what was loaded.
pub(crate) async fn unchanged(loaded: Vec<Option<Loaded>>) -> (Vec<Option<Loaded>>, Vec<bool>) {
    blocking(move || {
        let is_same = |loaded: &Loaded| {
            std::fs::metadata(&loaded.path).is_ok_and(|metadata| Facts::of(&metadata) == loaded.facts)
        };
        let same = loaded.iter().map(|loaded| loaded.as_ref().is_some_and(is_same)).collect();
        (loaded, same)
    })
    .await
}

/// Returns what is left of a span behind its first `length` bytes.
pub(crate) fn behind(span: Span, length: Length) -> Span {
    span.start()
        .checked_add(length)
        .and_then(|start| Span::new(start, span.end()))
        .expect("no more is taken from a span than lies in it")
}

#[cfg(test)]
mod tests {
    use hapax_proto::claim::Seed;

    use super::*;

    fn stamp(seconds: i64, nanos: u32) -> Stamp {
        Stamp { seconds, nanos }
    }

    #[test]
    fn facts_settle_after_the_coarsest_tick() {
        #[track_caller]
        fn check(modified: Stamp, changed: Stamp, now: Stamp, settled: bool) {
            let facts =
                Facts { size: Length64(1), modified, changed, inode: 1, device: 1, executable: false };
            assert_eq!(facts.settled_at(now), settled);
        }
        check(stamp(100, 5), stamp(100, 5), stamp(102, 5), true);
        check(stamp(100, 5), stamp(100, 5), stamp(102, 4), false);
        check(stamp(50, 0), stamp(100, 999_999_999), stamp(102, 0), false);
        check(stamp(100, 0), stamp(50, 0), stamp(101, 999_999_999), false);
        check(stamp(500, 0), stamp(50, 0), stamp(102, 0), false);
        check(stamp(i64::MAX, 0), stamp(50, 0), stamp(102, 0), false);
        check(stamp(-5, 0), stamp(-5, 0), stamp(0, 0), true);
    }

    #[test]
    fn where_times_have_fractions_ticks_are_short() {
        #[track_caller]
        fn check(changed: Stamp, now: Stamp, shows: bool) {
            let modified = stamp(50, 0);
            let facts =
                Facts { size: Length64(1), modified, changed, inode: 1, device: 1, executable: false };
            assert_eq!(facts.shows_writes_at(now), shows);
        }
        check(stamp(100, 5), stamp(100, 20_000_005), true);
        check(stamp(100, 5), stamp(100, 20_000_004), false);
        check(stamp(100, 990_000_000), stamp(101, 10_000_000), true);
        check(stamp(100, 0), stamp(101, 0), false);
        check(stamp(100, 0), stamp(102, 0), true);
    }

    #[test]
    fn a_stamp_is_written_where_rfc_3339_can() {
        #[track_caller]
        fn check(stamp: Stamp, text: Option<&str>) {
            assert_eq!(stamp.to_rfc3339().as_deref(), text);
        }
        check(stamp(0, 0), Some("1970-01-01T00:00:00.000000000Z"));
        check(stamp(1_700_000_000, 120), Some("2023-11-14T22:13:20.000000120Z"));
        check(stamp(YEAR_10000 - 1, 0), Some("9999-12-31T23:59:59.000000000Z"));
        check(stamp(YEAR_10000, 0), None);
        check(stamp(-1, 0), None);
    }

    #[test]
    fn pages_are_clean_a_minute_after_the_last_change() {
        #[track_caller]
        fn check(changed: Stamp, now: Stamp, clean: bool) {
            let modified = stamp(50, 0);
            let facts =
                Facts { size: Length64(1), modified, changed, inode: 1, device: 1, executable: false };
            assert_eq!(facts.written_back_at(now), clean);
        }
        check(stamp(100, 5), stamp(160, 5), true);
        check(stamp(100, 5), stamp(160, 4), false);
        check(stamp(500, 0), stamp(160, 0), false);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn no_digest_of_a_file_in_memory_is_remembered() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let [kept, absent] = [here.join("Cargo.toml"), here.join("absent")];
        let file = memory.path().join("a");
        std::fs::write(&file, b"a").unwrap();
        assert_eq!(show_writes(vec![file, kept, absent]).await, [false, true, false]);
    }

    #[tokio::test]
    async fn a_part_is_hashed_and_read_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let bytes: Vec<u8> = (0..3 * PIECE + 7).map(|i| u8::try_from(i % 251).unwrap()).collect();
        std::fs::write(&path, &bytes).unwrap();
        let (source, facts) = Source::open(&path).await.unwrap();
        assert_eq!(facts.size(), Length::of(&bytes));
        let span = Span::whole(facts.size());
        let hashed = source.hash_part(PartNumber::FIRST, span, facts).await.unwrap().unwrap();
        assert_eq!(hashed.hasher.root(), Some(FileHash::of(&bytes)));
        assert!(!hashed.settled, "it was written this moment");
        assert_eq!(source.hash(facts).await.unwrap(), Some(FileHash::of(&bytes)));
        let (mut pieces, mut read) = (source.read(span), Vec::new());
        while let Some(piece) = pieces.recv().await {
            read.extend_from_slice(&piece.unwrap());
        }
        assert!(read == bytes);
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, vec![1; 100]).unwrap();
        let (source, facts) = Source::open(&path).await.unwrap();
        std::fs::write(&path, vec![1; 99]).unwrap();
        let span = Span::whole(facts.size());
        assert!(source.hash_part(PartNumber::FIRST, span, facts).await.unwrap().is_none());
        let mut pieces = source.read(span);
        assert!(pieces.recv().await.unwrap().is_err());
        assert!(pieces.recv().await.is_none());
        assert_eq!(source.hash(facts).await.unwrap(), None);
        assert_ne!(source.facts_now().await.unwrap(), facts);
    }

    #[tokio::test]
    async fn only_regular_files_are_sources() {
        let folder = tempfile::tempdir().unwrap();
        let opened = Source::open(folder.path()).await;
        assert!(matches!(opened, Err(TransferError::NotAFile { .. })));
        let opened = Source::open(&folder.path().join("absent")).await;
        assert!(matches!(opened, Err(TransferError::Io { .. })));
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_file_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["file", "link"].map(|name| folder.path().join(name));
        std::fs::write(&path, b"bytes").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Source::open(&link).await.is_ok());
        let refused = Links::Refused { names: 1 };
        assert!(Source::open_if(&path, refused).await.is_ok());
        let opened = Source::open_if(&link, refused).await;
        assert!(matches!(opened, Err(TransferError::NotAFile { .. })));
        let wanted = |links| Wanted { path: link.clone(), links, unless: folder.path().join("absent") };
        let loaded = load(vec![wanted(Links::Followed), wanted(refused)], 100).await;
        assert_eq!(loaded.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    }

    #[tokio::test]
    async fn small_files_that_are_young_are_written_back_together() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            Wanted { path, links: Links::Refused { names: 1 }, unless: folder.path().join("absent") }
        };
        let files = ["a", "b"].map(wanted);
        let device = std::fs::metadata(&files[0].path).unwrap().dev();
        assert_eq!(write_back(&files), HashSet::from([device]));
        let loaded = load(files.into_iter().collect(), 100).await;
        assert!(loaded.into_iter().all(|loaded| loaded.unwrap().written_back));
        assert_eq!(write_back(&[]), HashSet::new());
    }

    #[tokio::test]
    async fn no_source_is_reached_through_a_folder_that_became_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let [named, outside] = ["named", "outside"].map(|name| folder.path().join(name));
        for path in [named.join("a/b"), outside.join("b")] {
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("file"), b"bytes").unwrap();
        }
        let path = named.join("a/b/file");
        let opens = async |names| Source::open_if(&path, Links::Refused { names }).await.is_ok();
        assert!(opens(3).await);
        std::fs::rename(named.join("a"), named.join("old")).unwrap();
        std::os::unix::fs::symlink(&outside, named.join("a")).unwrap();
        assert!(!opens(3).await, "it leads elsewhere now");
        assert!(opens(2).await, "whoever named the link meant what it leads to");
        // A relative path that begins with the first name below the folder has that folder for its own.
        let (folder, name) = enter(Path::new("Cargo.toml"), 1).unwrap();
        assert!(openat(&folder, name, OFlags::RDONLY, Mode::empty()).is_ok());
    }

    #[tokio::test]
    async fn a_replaced_file_has_other_facts() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&path, b"same").unwrap();
        let (source, facts) = Source::open(&path).await.unwrap();
        assert_eq!(source.facts_now().await.unwrap(), facts);
        std::fs::write(&other, b"same").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(source.facts_now().await.unwrap(), facts);
    }

    #[tokio::test]
    async fn a_proof_is_of_the_whole_file_and_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let bytes = vec![7; 3 * PIECE + 1];
        std::fs::write(&path, &bytes).unwrap();
        let (source, facts) = Source::open(&path).await.unwrap();
        let begin = || ProofHasher::new(&Seed::new([1; 32]), &FileHash::of(&bytes).into(), facts.size());
        let mut expected = begin();
        expected.update(&bytes);
        let later = Instant::now() + Duration::from_hours(1);
        assert_eq!(source.prove(facts, begin(), later).await.unwrap(), Some(expected.finish()));
        assert_eq!(
            source.prove(facts, begin(), Instant::now()).await.unwrap(),
            None,
            "nobody takes it any more"
        );
        std::fs::write(&path, &bytes[1..]).unwrap();
        assert_eq!(source.prove(facts, begin(), later).await.unwrap(), None, "it is another file");
    }
}
