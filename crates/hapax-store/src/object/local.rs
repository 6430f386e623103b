//! Objects as files of the local disk. Owns when their bytes and names are synced; never retries a sync (R7).
//!
//! ```text
//!   write write write ...        finish = sync, then wait for a running early sync
//!     every 8 MiB \--> early sync on a helper thread
//! ```
//!
//! The early syncs keep the disk busy while the next bytes arrive. They are a favour, never a promise: when the
//! helpers are behind, one is left out and `finish` does its work.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use hapax_proto::span::{Length, Offset};

use super::{ObjectReader, ObjectWriter, Objects, missing, too_short};
use crate::{
    disk::{Disk, DiskFile},
    error::StoreError,
    id::{DirId, ObjectId, ObjectName},
    layout::{Layout, make_dir, sync_dir},
};

/// How many bytes an early sync covers.
pub const EARLY_SYNC: Length = Length::new(8 << 20);

/// How many helper threads run early syncs, and how many syncs may wait for them.
const HELPERS: usize = 2;
const WAITING_MAX: usize = 16;

/// Objects in the data directory of a disk.
pub struct LocalObjects {
    disk: Arc<dyn Disk>,
    layout: Layout,
    early_sync: Length,
    helpers: Arc<Helpers>,
}

impl LocalObjects {
    /// Opens the objects of a data directory. Call it after [`Layout::open`].
    pub fn new(disk: Arc<dyn Disk>, layout: Layout) -> Result<Self, StoreError> {
        Self::with_early_sync(disk, layout, EARLY_SYNC)
    }

    /// As [`LocalObjects::new`], with an early sync after every `early_sync` bytes.
    pub fn with_early_sync(
        disk: Arc<dyn Disk>,
        layout: Layout,
        early_sync: Length,
    ) -> Result<Self, StoreError> {
        let helpers = Helpers::start().map_err(StoreError::disk("start threads for", layout.data_dir()))?;
        Ok(Self { disk, layout, early_sync, helpers: Arc::new(helpers) })
    }
}

impl Objects for LocalObjects {
    fn make_dir(&self, dir: DirId) -> Result<(), StoreError> {
        make_dir(&*self.disk, &self.layout.object_dir(dir))?;
        sync_dir(&*self.disk, &self.layout.objects_dir())
    }

    fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let path = self.layout.object(name);
        let file = self.disk.create(&path).map_err(StoreError::disk("create", &path))?;
        Ok(Box::new(LocalWriter {
            file,
            disk: Arc::clone(&self.disk),
            layout: self.layout.clone(),
            name,
            end: Offset::ZERO,
            covered: Offset::ZERO,
            early_sync: self.early_sync,
            helpers: Arc::clone(&self.helpers),
            early: Arc::new(Early::default()),
            state: WriterState::Open,
        }))
    }

    fn open(&self, name: ObjectName) -> Result<Box<dyn ObjectReader>, StoreError> {
        let path = self.layout.object(name);
        let file = self.disk.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(name),
            _ => StoreError::disk("open", &path)(error),
        })?;
        let length = Length::new(file.length().map_err(StoreError::disk("measure", &path))?);
        Ok(Box::new(LocalReader { file, length, name }))
    }

    fn delete(&self, name: ObjectName) -> Result<bool, StoreError> {
        let path = self.layout.object(name);
        match self.disk.remove(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::disk("remove", &path)(error)),
        }
    }

    fn sync_dir(&self, dir: DirId) -> Result<(), StoreError> {
        sync_dir(&*self.disk, &self.layout.object_dir(dir))
    }

    fn list(&self, dir: DirId) -> Result<Vec<ObjectId>, StoreError> {
        let path = self.layout.object_dir(dir);
        match self.disk.list(&path) {
            Ok(names) => {
                Ok(names.iter().filter_map(|name| name.to_str()).filter_map(ObjectId::parse).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(StoreError::disk("list", &path)(error)),
        }
    }
}

/// How far a writer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriterState {
    Open,
    /// Something failed; the object can only be dropped.
    Broken,
    Finished,
}

struct LocalWriter {
    file: Arc<dyn DiskFile>,
    disk: Arc<dyn Disk>,
    layout: Layout,
    name: ObjectName,
    /// Behind the last byte written.
    end: Offset,
    /// Behind the last byte an early sync was asked for.
    covered: Offset,
    early_sync: Length,
    helpers: Arc<Helpers>,
    early: Arc<Early>,
    state: WriterState,
}

impl LocalWriter {
    fn error(&self, doing: &'static str, source: io::Error) -> StoreError {
        StoreError::disk(doing, &self.layout.object(self.name))(source)
    }

    /// Remembers that the object is lost if `done` says so.
    fn note(&mut self, doing: &'static str, done: io::Result<()>) -> Result<(), StoreError> {
        done.map_err(|source| {
            self.state = WriterState::Broken;
            self.error(doing, source)
        })
    }

    fn check_open(&self) -> Result<(), StoreError> {
        match self.state {
            WriterState::Open => Ok(()),
            _ => Err(self.error("go on with", io::Error::other("an earlier write or sync failed"))),
        }
    }
}

impl ObjectWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check_open()?;
        let failed = self.early.take_failure();
        self.note("sync", failed)?;
        let end = self.end.checked_add(Length::of(bytes)).ok_or_else(|| io::ErrorKind::FileTooLarge.into());
        let end = end.map_err(|source| self.error("write", source))?;
        let done = self.file.write_at(bytes, self.end.get());
        self.note("write", done)?;
        self.end = end;
        let uncovered = end.since(self.covered).expect("an early sync covers only what was written");
        if uncovered >= self.early_sync && self.helpers.try_sync(&self.file, &self.early) {
            self.covered = end;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        self.check_open()?;
        let synced = self.file.sync();
        // The kernel tells of a failed write-back once per open file: the helper may be the one who was told.
        let early = self.early.settle();
        self.note("sync", early.and(synced))?;
        self.state = WriterState::Finished;
        Ok(())
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if self.state != WriterState::Finished {
            // Best effort: an object without a row is found and removed by the sweep.
            let _ = self.disk.remove(&self.layout.object(self.name));
        }
    }
}

struct LocalReader {
    file: Arc<dyn DiskFile>,
    length: Length,
    name: ObjectName,
}

impl ObjectReader for LocalReader {
    fn length(&self) -> Length {
        self.length
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StoreError> {
        let count = self.file.read_at(buffer, offset.get()).map_err(|source| StoreError::Disk {
            doing: "read",
            what: format!("object {}", self.name),
            source,
        })?;
        if count == buffer.len() { Ok(()) } else { Err(too_short(self.name)) }
    }
}

/// The early syncs of one writer; at most one is under way.
#[derive(Default)]
struct Early {
    state: Mutex<EarlyState>,
    idle: Condvar,
}

#[derive(Default)]
struct EarlyState {
    step: Step,
    /// What the first early sync that failed was told.
    failure: Option<io::Error>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    Queued,
    Running,
}

impl Early {
    fn locked(&self) -> MutexGuard<'_, EarlyState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_failure(&self) -> io::Result<()> {
        self.locked().failure.take().map_or(Ok(()), Err)
    }

    /// Calls off what is queued, waits for what is running, and tells whether any early sync failed.
    fn settle(&self) -> io::Result<()> {
        let mut state = self.locked();
        if state.step == Step::Queued {
            state.step = Step::Idle;
        }
        while state.step == Step::Running {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    /// Runs a queued sync, if it was not called off.
    fn run(&self, file: &dyn DiskFile) {
        let mut state = self.locked();
        if state.step != Step::Queued {
            return;
        }
        state.step = Step::Running;
        drop(state);
        let synced = file.sync();
        let mut state = self.locked();
        state.step = Step::Idle;
        if let Err(error) = synced {
            state.failure.get_or_insert(error);
        }
        drop(state);
        self.idle.notify_all();
    }
}

/// A sync for a helper thread.
struct EarlyTask {
    file: Arc<dyn DiskFile>,
    early: Arc<Early>,
}

/// The threads that run early syncs. They end when the store and its last writer are gone.
struct Helpers {
    /// `None` only while dropping.
    queue: Option<SyncSender<EarlyTask>>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    fn start() -> io::Result<Self> {
        let (queue, tasks) = sync_channel::<EarlyTask>(WAITING_MAX);
        let tasks = Arc::new(Mutex::new(tasks));
        let threads = (0..HELPERS)
            .map(|_| {
                let tasks = Arc::clone(&tasks);
                std::thread::Builder::new().name("early-sync".into()).spawn(move || help(&tasks))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// Asks for an early sync; returns `false` if one of this writer is under way or the helpers are behind.
    fn try_sync(&self, file: &Arc<dyn DiskFile>, early: &Arc<Early>) -> bool {
        let mut state = early.locked();
        let Some(queue) = self.queue.as_ref().filter(|_| state.step == Step::Idle) else { return false };
        let task = EarlyTask { file: Arc::clone(file), early: Arc::clone(early) };
        let accepted = queue.try_send(task).is_ok();
        if accepted {
            state.step = Step::Queued;
        }
        accepted
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A helper that panicked has said so already; there is nothing left to undo.
            let _ = thread.join();
        }
    }
}

fn help(tasks: &Mutex<Receiver<EarlyTask>>) {
    loop {
        // One helper waits for a task, the others for this lock.
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match task {
            Ok(task) => task.early.run(&*task.file),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::{
        super::contract::{fresh_name, keeps_the_contract, read_whole, store},
        *,
    };
    use crate::disk::{
        RealDisk,
        faulty::{Failure, Fault, FaultyDisk, Operation, Torn},
    };

    fn layout() -> Layout {
        Layout::new("/data")
    }

    fn fresh() -> FaultyDisk {
        let disk = FaultyDisk::new();
        drop(layout().open(&disk).unwrap());
        disk
    }

    fn objects(disk: &FaultyDisk) -> LocalObjects {
        LocalObjects::new(Arc::new(disk.clone()), layout()).unwrap()
    }

    #[test]
    fn the_real_disk_keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().join("data"));
        drop(layout.open(&RealDisk).unwrap());
        let early = Length::new(1000);
        keeps_the_contract(&LocalObjects::with_early_sync(Arc::new(RealDisk), layout, early).unwrap());
    }

    #[test]
    fn the_disk_in_memory_keeps_the_contract() {
        keeps_the_contract(&objects(&fresh()));
    }

    #[test]
    fn foreign_names_are_passed_over() {
        let disk = fresh();
        let objects = objects(&disk);
        let name = fresh_name();
        objects.make_dir(name.dir).unwrap();
        store(&objects, name, b"x").unwrap();
        disk.create(&layout().object_dir(name.dir).join("notes.txt")).unwrap();
        assert_eq!(objects.list(name.dir).unwrap(), [name.id]);
    }

    /// Writes a few objects in two batches; returns those that are promised to be durable.
    fn write_batches(objects: &LocalObjects) -> BTreeMap<ObjectName, Vec<u8>> {
        let mut promised = BTreeMap::new();
        for batch in 0..2_u8 {
            let dir = DirId::new(u32::from(batch));
            if objects.make_dir(dir).is_err() {
                continue;
            }
            let mut finished = BTreeMap::new();
            for number in 0..3_u8 {
                let name = ObjectName { dir, id: ObjectId::from_bytes([batch * 3 + number; 16]) };
                let bytes: Vec<u8> = (0..20_000_u32).map(|at| at.to_le_bytes()[0] ^ number).collect();
                if store(objects, name, &bytes).is_ok() {
                    finished.insert(name, bytes);
                }
            }
            if objects.sync_dir(dir).is_ok() {
                promised.append(&mut finished);
            }
        }
        promised
    }

    fn check_promised(promised: &BTreeMap<ObjectName, Vec<u8>>, disk: &FaultyDisk, context: &str) {
        let objects = objects(disk);
        for (name, bytes) in promised {
            let read = objects.open(*name).and_then(|reader| read_whole(&*reader));
            assert!(read.as_ref().is_ok_and(|read| read == bytes), "{context}: {name}: {:?}", read.err());
        }
    }

    #[test]
    fn what_was_promised_survives_every_fault_and_a_power_cut() {
        let operations = {
            let disk = fresh();
            let before = disk.operations();
            assert_eq!(write_batches(&objects(&disk)).len(), 6);
            disk.operations() - before
        };
        for n in 0..operations {
            let faults = [
                Fault::once(n, Failure::Io),
                Fault::from(n, Failure::Io),
                Fault::once(n, Failure::Full).short(),
                Fault::from(n, Failure::Full).short(),
            ];
            for (fault, torn) in faults.iter().flat_map(|f| [(f, Torn::Nothing), (f, Torn::Seeded(n))]) {
                let context = format!("{fault:?}, {torn:?}");
                let disk = fresh();
                disk.inject(*fault);
                let promised = write_batches(&objects(&disk));
                assert!(promised.len() < 6, "{context}: a failure went unnoticed");
                check_promised(&promised, &disk.power_cut(torn), &context);
            }
        }
    }

    #[test]
    fn a_failed_early_sync_ends_the_object() {
        let disk = fresh();
        let objects =
            LocalObjects::with_early_sync(Arc::new(disk.clone()), layout(), Length::new(1000)).unwrap();
        let name = fresh_name();
        objects.make_dir(name.dir).unwrap();
        disk.inject(Fault::once(0, Failure::Io).only(Operation::Sync));
        let mut writer = objects.create(name).unwrap();
        // Only one sync fails, and it may be an early one or the last: in every case the object is lost.
        let ended = (0..10).try_for_each(|_| writer.write(&[1; 1000])).and_then(|()| writer.finish());
        assert!(matches!(ended, Err(StoreError::Disk { doing: "sync", .. })), "{ended:?}");
        assert_eq!(objects.list(name.dir).unwrap(), []);
    }

    #[test]
    fn no_failed_early_sync_slips_through() {
        // Which sync is an early one varies from run to run; that a failed one costs the object does not.
        for n in 0..12 {
            let disk = fresh();
            let early = Length::new(1000);
            let objects = LocalObjects::with_early_sync(Arc::new(disk.clone()), layout(), early).unwrap();
            let name = fresh_name();
            objects.make_dir(name.dir).unwrap();
            disk.inject(Fault::once(n, Failure::Io).only(Operation::Sync));
            let bytes: Vec<u8> = (0..250).cycle().take(10_000).collect();
            let mut writer = objects.create(name).unwrap();
            let written = bytes.chunks(1000).try_for_each(|run| writer.write(run));
            let finished = written.and_then(|()| writer.finish());
            objects.sync_dir(name.dir).unwrap();
            if finished.is_ok() {
                let promised = BTreeMap::from([(name, bytes)]);
                check_promised(&promised, &disk.power_cut(Torn::Nothing), &format!("sync {n}"));
            }
        }
    }

    /// A file whose first sync waits to be let go and then fails; all others succeed at once.
    struct Gated {
        calls: AtomicUsize,
        /// Says that a sync has begun.
        begun: SyncSender<usize>,
        gate: Mutex<Receiver<()>>,
    }

    impl DiskFile for Gated {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn sync(&self) -> io::Result<()> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            self.begun.send(call).unwrap();
            if call > 0 {
                return Ok(());
            }
            self.gate.lock().unwrap().recv().unwrap();
            Err(rustix::io::Errno::IO.into())
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn length(&self) -> io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn finish_waits_for_a_running_early_sync_and_believes_it() {
        let (begun, begins) = sync_channel(4);
        let (open_gate, gate) = sync_channel(1);
        let file = Gated { calls: AtomicUsize::new(0), begun, gate: Mutex::new(gate) };
        let mut writer = Box::new(LocalWriter {
            file: Arc::new(file),
            disk: Arc::new(fresh()),
            layout: layout(),
            name: fresh_name(),
            end: Offset::ZERO,
            covered: Offset::ZERO,
            early_sync: Length::new(1),
            helpers: Arc::new(Helpers::start().unwrap()),
            early: Arc::new(Early::default()),
            state: WriterState::Open,
        });
        writer.write(b"x").unwrap();
        assert_eq!(begins.recv().unwrap(), 0, "the early sync runs on a helper");
        let finished = std::thread::scope(|scope| {
            let finishing = scope.spawn(move || writer.finish());
            assert_eq!(begins.recv().unwrap(), 1, "the last sync succeeds while the early one runs");
            open_gate.send(()).unwrap();
            finishing.join().unwrap()
        });
        assert!(matches!(finished, Err(StoreError::Disk { doing: "sync", .. })), "{finished:?}");
    }

    #[test]
    fn a_broken_writer_stays_broken() {
        let disk = fresh();
        let objects = objects(&disk);
        let name = fresh_name();
        objects.make_dir(name.dir).unwrap();
        let mut writer = objects.create(name).unwrap();
        disk.inject(Fault::once(0, Failure::Full).only(Operation::Write).short());
        assert!(writer.write(&[1; 1000]).is_err());
        assert!(writer.write(&[1; 1000]).is_err());
        assert!(writer.finish().is_err());
        assert_eq!(objects.list(name.dir).unwrap(), []);
    }

    #[test]
    fn many_writers_share_the_helpers() {
        let disk = fresh();
        let objects =
            LocalObjects::with_early_sync(Arc::new(disk.clone()), layout(), Length::new(4096)).unwrap();
        let names: Vec<_> = (0..40).map(|_| fresh_name()).collect();
        objects.make_dir(names[0].dir).unwrap();
        let bytes = vec![5; 50_000];
        let mut writers: Vec<_> = names.iter().map(|name| objects.create(*name).unwrap()).collect();
        for run in bytes.chunks(5000) {
            for writer in &mut writers {
                writer.write(run).unwrap();
            }
        }
        for writer in writers {
            writer.finish().unwrap();
        }
        objects.sync_dir(names[0].dir).unwrap();
        let promised = names.into_iter().map(|name| (name, bytes.clone())).collect();
        check_promised(&promised, &disk.power_cut(Torn::Nothing), "forty writers");
    }
}
