//! A complete disk in memory that fails on purpose, for the tests of every layer above. Owns the model of what a
//! machine may forget; it never touches the real disk.
//!
//! The model is stricter than most file systems, so that what survives here survives on them:
//!
//! ```text
//!             a file's bytes                       a directory's names
//!   write --> in the page cache      create, remove, rename --> in the page cache
//!   sync  --> on the medium                        sync_dir --> on the medium
//! ```
//!
//! - A power cut (`FaultyDisk::power_cut`) keeps what is on the medium and, torn by a seed, any subset of the rest:
//!   4 KiB blocks of bytes, single changes of names.
//! - A kill (`FaultyDisk::kill`) keeps the page cache and ends every handle of the killed process.
//! - A failed sync loses what it covered: it stays readable and never reaches the medium, even if a later sync
//!   succeeds (R7).
//! - A failed `sync_dir` keeps the changes pending: file systems journal names, and either replay them or turn
//!   read-only.
//! - Names move within one directory only.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;

use super::{Disk, DiskFile, Facts, HeldLock, Space};

/// The unit in which a torn write survives or not.
const BLOCK: usize = 4096;

/// The number of the root directory's node.
const ROOT: usize = 0;

/// A disk in memory, as one process sees it. Clones are the same disk and the same process.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
    /// The process this handle belongs to: handles of a killed process fail.
    life: u64,
}

/// What a [`FaultyDisk`] can be asked, for counting and for choosing faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`Disk::create`]
    Create,
    /// [`Disk::open`]
    Open,
    /// [`Disk::remove`]
    Remove,
    /// [`Disk::rename`]
    Rename,
    /// [`Disk::make_dir`]
    MakeDir,
    /// [`Disk::list`]
    List,
    /// [`Disk::sync_dir`]
    SyncDir,
    /// [`Disk::facts`]
    Facts,
    /// [`Disk::space`]
    Space,
    /// [`Disk::lock`]
    Lock,
    /// [`DiskFile::write_at`]
    Write,
    /// [`DiskFile::read_at`]
    Read,
    /// [`DiskFile::sync`]
    Sync,
    /// [`DiskFile::allocate`]
    Allocate,
    /// [`DiskFile::length`]
    Length,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// `EIO`: the medium is broken.
    Io,
    /// `ENOSPC`: the disk is full.
    Full,
}

/// Which operations fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The first operation that fails, counted from 0 among those that [`Fault::only`] leaves.
    from: u64,
    /// Whether all later ones fail too.
    lasting: bool,
    only: Option<Operation>,
    failure: Failure,
    /// Whether a failing write leaves its first half behind.
    short: bool,
    seen: u64,
}

impl Fault {
    /// Lets the `n`-th operation from now on fail, counted from 0, and no other.
    pub fn once(n: u64, failure: Failure) -> Self {
        Self { from: n, lasting: false, only: None, failure, short: false, seen: 0 }
    }

    /// Lets the `n`-th operation from now on and all after it fail.
    pub fn from(n: u64, failure: Failure) -> Self {
        Self { lasting: true, ..Self::once(n, failure) }
    }

    /// Counts and fails operations of one kind only.
    #[must_use]
    pub fn only(self, operation: Operation) -> Self {
        Self { only: Some(operation), ..self }
    }

    /// Lets a failing write leave the first half of its bytes behind.
    #[must_use]
    pub fn short(self) -> Self {
        Self { short: true, ..self }
    }

    /// Counts one operation; returns how it fails, if it does.
    fn strikes(&mut self, operation: Operation) -> Option<Failure> {
        if self.only.is_some_and(|only| only != operation) {
            return None;
        }
        let number = self.seen;
        self.seen += 1;
        (number == self.from || (self.lasting && number > self.from)).then_some(self.failure)
    }
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Self::Io => Errno::IO.into(),
            Self::Full => Errno::NOSPC.into(),
        }
    }
}

/// What a power cut spares of the bytes and names that were not synced.
#[derive(Debug, Clone, Copy)]
pub enum Torn {
    /// Nothing of it.
    Nothing,
    /// A subset, drawn from this seed.
    Seeded(u64),
}

/// Everything on the disk, and what is wrong with it.
#[derive(Clone)]
struct State {
    nodes: Vec<Node>,
    life: u64,
    powered: bool,
    operations: u64,
    fault: Option<Fault>,
    locks: BTreeSet<PathBuf>,
    capacity: u64,
    used: u64,
}

#[derive(Clone)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Default)]
struct FileNode {
    /// What a process reads.
    cached: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// Blocks written since the last sync.
    dirty: BTreeSet<usize>,
    mode: u32,
}

#[derive(Clone, Default)]
struct DirNode {
    cached: BTreeMap<OsString, usize>,
    durable: BTreeMap<OsString, usize>,
    /// Changes since the last sync, oldest first. One change is one or two names, and happens whole or not at all.
    pending: Vec<Vec<(OsString, Option<usize>)>>,
}

impl DirNode {
    fn change(&mut self, change: Vec<(OsString, Option<usize>)>) {
        apply(&mut self.cached, &change);
        self.pending.push(change);
    }
}

fn apply(names: &mut BTreeMap<OsString, usize>, change: &[(OsString, Option<usize>)]) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.locked();
        f.debug_struct("FaultyDisk")
            .field("operations", &state.operations)
            .field("used_bytes", &state.used)
            .finish_non_exhaustive()
    }
}

impl FaultyDisk {
    /// Makes an empty disk, with a root directory and 1 TiB of room.
    pub fn new() -> Self {
        let state = State {
            nodes: vec![Node::Dir(DirNode::default())],
            life: 0,
            powered: true,
            operations: 0,
            fault: None,
            locks: BTreeSet::new(),
            capacity: 1 << 40,
            used: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), life: 0 }
    }

    /// Sets how many bytes fit on the disk. What is there stays, even if it is more.
    pub fn set_capacity(&self, bytes: u64) {
        self.locked().capacity = bytes;
    }

    /// Returns how many operations this disk was asked so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.locked().operations
    }

    /// Lets operations fail from now on; replaces an earlier fault.
    pub fn inject(&self, fault: Fault) {
        self.locked().fault = Some(fault);
    }

    /// Lets the `n`-th operation from now on fail, counted from 0.
    pub fn fail_once(&self, n: u64, failure: Failure) {
        self.inject(Fault::once(n, failure));
    }

    /// Lets the `n`-th operation from now on and all after it fail.
    pub fn fail_from(&self, n: u64, failure: Failure) {
        self.inject(Fault::from(n, failure));
    }

    /// Lets everything succeed again. What a failed sync lost stays lost.
    pub fn heal(&self) {
        self.locked().fault = None;
    }

    /// Kills the process: every handle of it fails from now on, its locks are gone, the page cache stays.
    ///
    /// Returns the disk as the next process sees it, without faults.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.locked();
        state.life += 1;
        state.fault = None;
        state.locks.clear();
        Self { state: Arc::clone(&self.state), life: state.life }
    }

    /// Cuts the power: what is not on the medium is gone, except what `torn` spares.
    ///
    /// Returns the disk as it is after the reboot, without faults; every handle of this one fails from now on.
    #[must_use]
    pub fn power_cut(&self, torn: Torn) -> Self {
        let mut before = self.locked();
        before.powered = false;
        let mut after = before.clone();
        drop(before);
        let mut coin = Coin::new(torn);
        for node in &mut after.nodes {
            match node {
                Node::File(file) => file.lose_power(&mut coin),
                Node::Dir(dir) => dir.lose_power(&mut coin),
            }
        }
        after.used = after.reachable_bytes(ROOT);
        after.powered = true;
        after.fault = None;
        after.locks.clear();
        let life = after.life;
        Self { state: Arc::new(Mutex::new(after)), life }
    }

    /// Changes a file's bytes behind everybody's back, in the cache and on the medium: bit rot, for tests.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn alter(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.locked();
        let node = state.file_at(path)?;
        let file = state.file(node);
        change(&mut file.cached);
        file.durable.clone_from(&file.cached);
        file.dirty.clear();
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere must not hide its own message behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and fails it if a fault says so.
    fn begin(&self, operation: Operation) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.locked();
        if !state.powered || state.life != self.life {
            return Err(io::Error::other("this process was killed or the power is off"));
        }
        state.operations += 1;
        let failure = state.fault.as_mut().and_then(|fault| fault.strikes(operation));
        failure.map_or(Ok(state), |failure| Err(failure.error()))
    }

    /// Makes the handle of a node.
    fn handle(&self, node: usize, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { disk: self.clone(), node, writable })
    }
}

impl State {
    fn node_at(&self, path: &Path) -> io::Result<usize> {
        path.components().try_fold(ROOT, |node, component| match component {
            Component::RootDir | Component::CurDir => Ok(node),
            Component::Normal(name) => match &self.nodes[node] {
                Node::Dir(dir) => dir.cached.get(name).copied().ok_or_else(|| Errno::NOENT.into()),
                Node::File(_) => Err(Errno::NOTDIR.into()),
            },
            Component::ParentDir | Component::Prefix(_) => Err(Errno::INVAL.into()),
        })
    }

    fn file_at(&self, path: &Path) -> io::Result<usize> {
        let node = self.node_at(path)?;
        match self.nodes[node] {
            Node::File(_) => Ok(node),
            Node::Dir(_) => Err(Errno::ISDIR.into()),
        }
    }

    /// Returns the file of a node that is known to be one.
    fn file(&mut self, node: usize) -> &mut FileNode {
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Dir(_) => unreachable!("handles are made for files only"),
        }
    }

    fn dir_at(&mut self, path: &Path) -> io::Result<&mut DirNode> {
        let node = self.node_at(path)?;
        match &mut self.nodes[node] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// Puts a new node under a free name.
    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let number = self.nodes.len();
        let (dir, name) = split(path)?;
        let dir = self.dir_at(dir)?;
        if dir.cached.contains_key(&name) {
            return Err(Errno::EXIST.into());
        }
        dir.change(vec![(name, Some(number))]);
        self.nodes.push(node);
        Ok(number)
    }

    /// Takes `length` more bytes of the disk.
    fn grow(&mut self, length: u64) -> io::Result<()> {
        let used = self.used.saturating_add(length);
        // A disk that is over its capacity already still lets bytes be overwritten in place.
        if length > 0 && used > self.capacity {
            return Err(Errno::NOSPC.into());
        }
        self.used = used;
        Ok(())
    }

    fn write(&mut self, node: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
        let end = start.checked_add(bytes.len()).ok_or(Errno::FBIG)?;
        let growth = end.saturating_sub(self.file(node).cached.len()) as u64;
        self.grow(growth)?;
        let file = self.file(node);
        if file.cached.len() < end {
            file.cached.resize(end, 0);
        }
        file.cached[start..end].copy_from_slice(bytes);
        file.dirty.extend(start / BLOCK..end.div_ceil(BLOCK));
        Ok(())
    }

    fn reachable_bytes(&self, node: usize) -> u64 {
        match &self.nodes[node] {
            Node::File(file) => file.cached.len() as u64,
            Node::Dir(dir) => dir.cached.values().map(|node| self.reachable_bytes(*node)).sum(),
        }
    }
}

impl FileNode {
    /// Brings the blocks that are still dirty to the medium, and the length.
    fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for block in std::mem::take(&mut self.dirty) {
            self.keep(block);
        }
    }

    /// Forgets that anything has to be written: what a failed sync does.
    fn lose_dirty(&mut self) {
        self.dirty.clear();
    }

    fn keep(&mut self, block: usize) {
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.cached.len());
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.cached[start..end]);
    }

    fn lose_power(&mut self, coin: &mut Coin) {
        for block in std::mem::take(&mut self.dirty) {
            if coin.toss() {
                self.keep(block);
            }
        }
        self.cached.clone_from(&self.durable);
    }
}

impl DirNode {
    fn lose_power(&mut self, coin: &mut Coin) {
        for change in std::mem::take(&mut self.pending) {
            if coin.toss() {
                apply(&mut self.durable, &change);
            }
        }
        self.cached.clone_from(&self.durable);
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.begin(Operation::Create)?;
        let node = state.add(path, Node::File(FileNode { mode: 0o600, ..FileNode::default() }))?;
        Ok(self.handle(node, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = self.begin(Operation::Open)?.file_at(path)?;
        Ok(self.handle(node, false))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Operation::Remove)?;
        let node = state.file_at(path)?;
        let (dir, name) = split(path)?;
        state.dir_at(dir)?.change(vec![(name, None)]);
        state.used -= state.reachable_bytes(node);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Operation::Rename)?;
        let node = state.file_at(from)?;
        let replaced = state.file_at(to).ok().filter(|replaced| *replaced != node);
        let ((from_dir, from_name), (to_dir, to_name)) = (split(from)?, split(to)?);
        if from_dir != to_dir {
            return Err(Errno::XDEV.into());
        }
        state.dir_at(from_dir)?.change(vec![(from_name, None), (to_name, Some(node))]);
        let freed = replaced.map_or(0, |replaced| state.reachable_bytes(replaced));
        state.used -= freed;
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(Operation::MakeDir)?.add(path, Node::Dir(DirNode::default())).map(|_| ())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.begin(Operation::List)?.dir_at(path)?.cached.keys().cloned().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Operation::SyncDir)?;
        let dir = state.dir_at(path)?;
        dir.pending.clear();
        dir.durable.clone_from(&dir.cached);
        Ok(())
    }

    fn facts(&self, path: &Path) -> io::Result<Option<Facts>> {
        let state = self.begin(Operation::Facts)?;
        match state.node_at(path) {
            Ok(node) => Ok(Some(match &state.nodes[node] {
                Node::File(file) => {
                    Facts { is_dir: false, length: file.cached.len() as u64, mode: file.mode }
                }
                Node::Dir(_) => Facts { is_dir: true, length: 0, mode: 0o700 },
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let state = self.begin(Operation::Space)?;
        state.node_at(path)?;
        Ok(Space { total_bytes: state.capacity, free_bytes: state.capacity.saturating_sub(state.used) })
    }

    fn lock(&self, path: &Path) -> io::Result<HeldLock> {
        let mut state = self.begin(Operation::Lock)?;
        if state.node_at(path).is_err() {
            state.add(path, Node::File(FileNode { mode: 0o600, ..FileNode::default() }))?;
        }
        if !state.locks.insert(path.to_owned()) {
            return Err(Errno::WOULDBLOCK.into());
        }
        Ok(HeldLock::new(FaultyLock { disk: self.clone(), path: path.to_owned() }))
    }
}

/// Splits a path into its directory and the last name.
fn split(path: &Path) -> io::Result<(&Path, OsString)> {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok((dir, name.to_owned())),
        _ => Err(Errno::INVAL.into()),
    }
}

/// The lock of one path, held.
struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.locked();
        // A killed process lost its locks; the next one may hold the same path by now.
        if state.life == self.disk.life {
            state.locks.remove(&self.path);
        }
    }
}

/// An open file of a [`FaultyDisk`].
struct FaultyFile {
    disk: FaultyDisk,
    node: usize,
    /// As on a real disk, only the handle of a created file writes.
    writable: bool,
}

impl DiskFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        match self.disk.begin(Operation::Write) {
            Ok(mut state) => state.write(self.node, bytes, offset),
            Err(error) => {
                let mut state = self.disk.locked();
                let alive = state.powered && state.life == self.disk.life;
                if alive && state.fault.is_some_and(|fault| fault.short) {
                    state.write(self.node, &bytes[..bytes.len() / 2], offset)?;
                }
                Err(error)
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.begin(Operation::Read)?;
        let cached = &state.file(self.node).cached;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(cached.len());
        let count = buffer.len().min(cached.len() - start);
        buffer[..count].copy_from_slice(&cached[start..start + count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.begin(Operation::Sync) {
            Ok(mut state) => {
                state.file(self.node).sync();
                Ok(())
            }
            Err(error) => {
                let mut state = self.disk.locked();
                if state.powered && state.life == self.disk.life {
                    state.file(self.node).lose_dirty();
                }
                Err(error)
            }
        }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.begin(Operation::Allocate)?;
        let wanted = usize::try_from(length).map_err(|_| Errno::FBIG)?;
        let growth = wanted.saturating_sub(state.file(self.node).cached.len());
        state.grow(growth as u64)?;
        let cached = &mut state.file(self.node).cached;
        cached.resize(wanted.max(cached.len()), 0);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.begin(Operation::Length)?.file(self.node).cached.len() as u64)
    }
}

/// Decides what a power cut spares: a splitmix64 sequence, so that one seed is one outcome.
struct Coin(Option<u64>);

impl Coin {
    fn new(torn: Torn) -> Self {
        match torn {
            Torn::Nothing => Self(None),
            Torn::Seeded(seed) => Self(Some(seed)),
        }
    }

    fn toss(&mut self) -> bool {
        let Some(state) = &mut self.0 else { return false };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new("/").join(name)
    }

    fn content(disk: &FaultyDisk, name: &str) -> Option<Vec<u8>> {
        let file = disk.open(&path(name)).ok()?;
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        Some(bytes)
    }

    /// Writes a file and syncs what is asked for.
    fn write(disk: &FaultyDisk, name: &str, bytes: &[u8], sync: bool, sync_dir: bool) -> Arc<dyn DiskFile> {
        let file = disk.create(&path(name)).unwrap();
        file.write_at(bytes, 0).unwrap();
        if sync {
            file.sync().unwrap();
        }
        if sync_dir {
            disk.sync_dir(&path("")).unwrap();
        }
        file
    }

    #[test]
    fn it_keeps_the_contract_of_disks() {
        super::super::tests::contract(&FaultyDisk::new(), Path::new("/"));
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced() {
        let disk = FaultyDisk::new();
        write(&disk, "both", b"1", true, true);
        write(&disk, "removed", b"3", true, true);
        write(&disk, "name", b"2", false, true);
        write(&disk, "bytes", b"4", true, false);
        disk.remove(&path("removed")).unwrap();
        let after = disk.power_cut(Torn::Nothing);
        assert_eq!(content(&after, "both").unwrap(), b"1");
        assert_eq!(content(&after, "name").unwrap(), b"");
        assert_eq!(content(&after, "bytes"), None);
        assert_eq!(content(&after, "removed").unwrap(), b"3");
        assert!(disk.list(&path("")).is_err(), "the old process is gone");
    }

    #[test]
    fn a_rename_is_lost_whole() {
        let disk = FaultyDisk::new();
        write(&disk, "new", b"new", true, false);
        write(&disk, "old", b"old", true, true);
        disk.rename(&path("new"), &path("old")).unwrap();
        for seed in 0..50 {
            let other = FaultyDisk { state: Arc::new(Mutex::new(disk.locked().clone())), life: 0 };
            let after = other.power_cut(Torn::Seeded(seed));
            let seen = (content(&after, "new"), content(&after, "old").unwrap());
            let (lost, kept) = ((Some(b"new".to_vec()), b"old".to_vec()), (None, b"new".to_vec()));
            assert!(seen == lost || seen == kept, "seed {seed}: {seen:?}");
        }
    }

    #[test]
    fn a_torn_write_is_a_mix_of_old_and_new_blocks() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..100 {
            let disk = FaultyDisk::new();
            let file = write(&disk, "a", &[b'o'; BLOCK * 3], true, true);
            file.write_at(&[b'n'; BLOCK * 2], 0).unwrap();
            let bytes = content(&disk.power_cut(Torn::Seeded(seed)), "a").unwrap();
            assert!(bytes.chunks(BLOCK).all(|block| block.iter().all(|byte| *byte == block[0])));
            outcomes.insert(bytes.iter().step_by(BLOCK).copied().collect::<Vec<_>>());
        }
        let all = [b"noo", b"nno", b"ono", b"ooo"].map(|outcome| outcome.to_vec());
        assert_eq!(outcomes, BTreeSet::from(all));
    }

    #[test]
    fn a_kill_keeps_the_cache_and_ends_the_process() {
        let disk = FaultyDisk::new();
        let file = write(&disk, "a", b"cached", false, false);
        let lock = disk.lock(&path("lock")).unwrap();
        let next = disk.kill();
        assert!(file.write_at(b"ghost", 0).is_err());
        assert!(file.sync().is_err());
        assert!(disk.remove(&path("a")).is_err());
        assert_eq!(content(&next, "a").unwrap(), b"cached");
        let held = next.lock(&path("lock")).unwrap();
        drop(lock);
        assert!(next.lock(&path("lock")).is_err(), "a dead process gives back no lock of a living one");
        drop(held);
        assert_eq!(content(&next.power_cut(Torn::Nothing), "a"), None);
    }

    #[test]
    fn a_failed_sync_loses_what_it_covered_for_ever() {
        let disk = FaultyDisk::new();
        let file = write(&disk, "a", &[b'o'; BLOCK], true, true);
        file.write_at(&[b'n'; BLOCK], 0).unwrap();
        disk.inject(Fault::once(0, Failure::Io).only(Operation::Sync));
        assert!(file.sync().is_err());
        file.write_at(&[b'n'; BLOCK], BLOCK as u64).unwrap();
        file.sync().unwrap();
        assert_eq!(content(&disk, "a").unwrap(), [b'n'; BLOCK * 2]);
        let after = content(&disk.power_cut(Torn::Nothing), "a").unwrap();
        assert_eq!((&after[..BLOCK], &after[BLOCK..]), (&[b'o'; BLOCK][..], &[b'n'; BLOCK][..]));
    }

    #[test]
    fn faults_strike_where_they_were_asked_to() {
        #[track_caller]
        fn check(fault: Fault, outcomes: [bool; 4]) {
            let disk = FaultyDisk::new();
            disk.inject(fault);
            let done = [
                disk.make_dir(&path("a")).is_ok(),
                disk.list(&path("")).is_ok(),
                disk.make_dir(&path("b")).is_ok(),
                disk.sync_dir(&path("")).is_ok(),
            ];
            assert_eq!(done, outcomes, "{fault:?}");
            assert_eq!(disk.operations(), 4);
            disk.heal();
            disk.list(&path("")).unwrap();
        }
        check(Fault::once(0, Failure::Io), [false, true, true, true]);
        check(Fault::once(2, Failure::Io), [true, true, false, true]);
        check(Fault::from(1, Failure::Full), [true, false, false, false]);
        check(Fault::once(1, Failure::Io).only(Operation::MakeDir), [true, true, false, true]);
        check(Fault::from(0, Failure::Io).only(Operation::SyncDir), [true, true, true, false]);
        check(Fault::once(9, Failure::Io), [true; 4]);
    }

    #[test]
    fn a_short_write_leaves_its_first_half() {
        let disk = FaultyDisk::new();
        let file = disk.create(&path("a")).unwrap();
        disk.inject(Fault::once(0, Failure::Full).short());
        let error = file.write_at(b"abcdef", 0).unwrap_err();
        assert!(crate::error::is_full(&error));
        assert_eq!(content(&disk, "a").unwrap(), b"abc");
    }

    #[test]
    fn a_full_disk_takes_bytes_again_after_a_removal() {
        let disk = FaultyDisk::new();
        disk.set_capacity(10);
        write(&disk, "a", b"12345678", true, true);
        let file = disk.create(&path("b")).unwrap();
        assert!(crate::error::is_full(&file.write_at(b"123", 0).unwrap_err()));
        assert!(crate::error::is_full(&file.allocate(3).unwrap_err()));
        assert_eq!(disk.space(&path("")).unwrap(), Space { total_bytes: 10, free_bytes: 2 });
        disk.remove(&path("a")).unwrap();
        file.write_at(b"123", 0).unwrap();
        assert_eq!(disk.space(&path("")).unwrap().free_bytes, 7);
    }
}
