//! Objects in memory, with faults, for tests of what stands above. It forgets nothing and keeps nothing: what a
//! power cut leaves is the concern of [`crate::disk::faulty`].

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hapax_proto::span::{Length, Offset};
use rustix::io::Errno;

use super::{ObjectReader, ObjectWriter, Objects, missing, too_short};
use crate::{
    error::StoreError,
    id::{DirId, ObjectId, ObjectName},
};

/// A store of objects in memory. Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryObjects {
    stored: Arc<Mutex<Stored>>,
}

/// What a store of objects is asked, for choosing faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// [`Objects::make_dir`]
    MakeDir,
    /// [`Objects::create`]
    Create,
    /// [`ObjectWriter::write`]
    Write,
    /// [`ObjectWriter::finish`]
    Finish,
    /// [`Objects::open`]
    Open,
    /// [`ObjectReader::read_at`]
    Read,
    /// [`Objects::delete`]
    Delete,
    /// [`Objects::sync_dir`]
    SyncDir,
    /// [`Objects::list`]
    List,
}

#[derive(Default)]
struct Stored {
    dirs: BTreeMap<DirId, BTreeMap<ObjectId, Arc<Vec<u8>>>>,
    failing: Vec<Verb>,
    full: bool,
}

impl MemoryObjects {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets these verbs fail with an I/O error from now on; none of them: lets everything succeed again.
    pub fn fail(&self, verbs: &[Verb]) {
        self.locked().failing = verbs.to_vec();
    }

    /// Sets whether writing fails because there is no space.
    pub fn set_full(&self, full: bool) {
        self.locked().full = full;
    }

    /// Changes a finished object behind everybody's back; open readers keep what they opened. Returns whether it is
    /// there.
    pub fn alter(&self, name: ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut stored = self.locked();
        let object = stored.dirs.get_mut(&name.dir).and_then(|dir| dir.get_mut(&name.id));
        object.map(|bytes| change(Arc::make_mut(bytes))).is_some()
    }

    fn locked(&self) -> MutexGuard<'_, Stored> {
        // A test that panicked elsewhere must not hide its own message behind a poisoned lock.
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the stored, unless the verb is to fail.
    fn begin(&self, verb: Verb, what: &impl ToString) -> Result<MutexGuard<'_, Stored>, StoreError> {
        let stored = self.locked();
        let errno = match verb {
            _ if stored.failing.contains(&verb) => Errno::IO,
            Verb::Create | Verb::Write if stored.full => Errno::NOSPC,
            _ => return Ok(stored),
        };
        Err(failed(verb, what, errno))
    }
}

fn failed(verb: Verb, what: &impl ToString, errno: Errno) -> StoreError {
    let doing = match verb {
        Verb::MakeDir | Verb::Create => "create",
        Verb::Write => "write",
        Verb::Finish | Verb::SyncDir => "sync",
        Verb::Open => "open",
        Verb::Read => "read",
        Verb::Delete => "remove",
        Verb::List => "list",
    };
    StoreError::Disk { doing, what: what.to_string(), source: io::Error::from(errno) }
}

impl Objects for MemoryObjects {
    fn make_dir(&self, dir: DirId) -> Result<(), StoreError> {
        self.begin(Verb::MakeDir, &dir)?.dirs.entry(dir).or_default();
        Ok(())
    }

    fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let mut stored = self.begin(Verb::Create, &name)?;
        let dir = stored.dirs.get_mut(&name.dir).ok_or_else(|| failed(Verb::Create, &name, Errno::NOENT))?;
        if dir.contains_key(&name.id) {
            return Err(failed(Verb::Create, &name, Errno::EXIST));
        }
        dir.insert(name.id, Arc::default());
        Ok(Box::new(MemoryWriter {
            objects: self.clone(),
            name,
            bytes: Vec::new(),
            finished: false,
            broken: false,
        }))
    }

    fn open(&self, name: ObjectName) -> Result<Box<dyn ObjectReader>, StoreError> {
        let stored = self.begin(Verb::Open, &name)?;
        let bytes = stored.dirs.get(&name.dir).and_then(|dir| dir.get(&name.id));
        let bytes = Arc::clone(bytes.ok_or_else(|| missing(name))?);
        Ok(Box::new(MemoryReader { objects: self.clone(), name, bytes }))
    }

    fn delete(&self, name: ObjectName) -> Result<bool, StoreError> {
        let mut stored = self.begin(Verb::Delete, &name)?;
        Ok(stored.dirs.get_mut(&name.dir).is_some_and(|dir| dir.remove(&name.id).is_some()))
    }

    fn sync_dir(&self, dir: DirId) -> Result<(), StoreError> {
        let known = self.begin(Verb::SyncDir, &dir)?.dirs.contains_key(&dir);
        if known { Ok(()) } else { Err(failed(Verb::SyncDir, &dir, Errno::NOENT)) }
    }

    fn list(&self, dir: DirId) -> Result<Vec<ObjectId>, StoreError> {
        let stored = self.begin(Verb::List, &dir)?;
        Ok(stored.dirs.get(&dir).map(|dir| dir.keys().copied().collect()).unwrap_or_default())
    }
}

struct MemoryWriter {
    objects: MemoryObjects,
    name: ObjectName,
    bytes: Vec<u8>,
    finished: bool,
    broken: bool,
}

impl MemoryWriter {
    /// Begins a verb; after one that failed, all fail.
    fn begin(&mut self, verb: Verb) -> Result<MutexGuard<'_, Stored>, StoreError> {
        if self.broken {
            return Err(failed(verb, &self.name, Errno::IO));
        }
        let begun = self.objects.begin(verb, &self.name);
        self.broken = begun.is_err();
        begun
    }
}

impl ObjectWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        drop(self.begin(Verb::Write)?);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        drop(self.begin(Verb::Finish)?);
        let bytes = Arc::new(std::mem::take(&mut self.bytes));
        let mut stored = self.objects.locked();
        if let Some(object) = stored.dirs.get_mut(&self.name.dir).and_then(|dir| dir.get_mut(&self.name.id)) {
            *object = bytes;
        }
        drop(stored);
        self.finished = true;
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if !self.finished {
            let mut stored = self.objects.locked();
            if let Some(dir) = stored.dirs.get_mut(&self.name.dir) {
                dir.remove(&self.name.id);
            }
        }
    }
}

struct MemoryReader {
    objects: MemoryObjects,
    name: ObjectName,
    bytes: Arc<Vec<u8>>,
}

impl ObjectReader for MemoryReader {
    fn length(&self) -> Length {
        Length::of(&self.bytes)
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StoreError> {
        drop(self.objects.begin(Verb::Read, &self.name)?);
        let start = usize::try_from(offset.get()).map_err(|_| too_short(self.name))?;
        let found = self.bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or_else(|| too_short(self.name))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::contract::{fresh_name, keeps_the_contract, store},
        *,
    };
    use crate::error::ErrorClass;

    #[test]
    fn it_keeps_the_contract() {
        keeps_the_contract(&MemoryObjects::new());
    }

    #[test]
    fn verbs_fail_as_asked_and_recover() {
        #[track_caller]
        fn check(verb: Verb) {
            let objects = MemoryObjects::new();
            let name = fresh_name();
            objects.make_dir(name.dir).unwrap();
            objects.fail(&[verb]);
            assert_eq!(store(&objects, name, b"x").unwrap_err().class(), ErrorClass::Io);
            assert_eq!(objects.list(name.dir).unwrap(), []);
            objects.fail(&[]);
            store(&objects, name, b"x").unwrap();
        }
        check(Verb::Create);
        check(Verb::Write);
        check(Verb::Finish);
    }

    #[test]
    fn a_full_store_still_deletes() {
        let objects = MemoryObjects::new();
        let name = fresh_name();
        objects.make_dir(name.dir).unwrap();
        store(&objects, name, b"x").unwrap();
        objects.set_full(true);
        assert_eq!(store(&objects, fresh_name(), b"x").unwrap_err().class(), ErrorClass::Full);
        assert!(objects.delete(name).unwrap());
    }
}
