//! Two-stage group commit: first bytes become durable, then rows. Owns the threads of both stages and the
//! directories that objects go to; decides nothing about what the rows say.
//!
//! ```text
//!   whole object ──> sync pool (fdatasync, several at a time) ──┐
//!   small piece  ──> packer (many pieces, one object, one sync) ┼──> commit thread: sync the directories,
//!   rows only    ───────────────────────────────────────────────┘    then one transaction for all that waits
//! ```
//!
//! There is no timer: while one transaction is being synced the next batch gathers behind it, so a lone request waits
//! for nobody and a crowd shares one sync. A rename never waits for somebody's 16 MiB, because bytes that are not yet
//! durable are not in the queue of the commit thread. One failing member fails alone.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use hapax_proto::span::{Length, Offset};
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use crate::catalog::{Answer, BootId, Catalog, Intent, Outcome};
use crate::error::{ErrorClass, StoreError};
use crate::id::{DirId, ObjectId, ObjectName};
use crate::key::KeyRing;
use crate::layout::Ballast;
use crate::object::Objects;
use crate::sealed::SealedWriter;

/// A directory takes so many objects: few enough to list after a crash, many enough that a batch syncs one directory.
const OBJECTS_PER_DIR: u32 = 4_096;

/// Threads that wait for `fdatasync`; more than the disk can overlap gains nothing.
const SYNC_THREADS: usize = 4;

/// Intents in one transaction at most, apart from the last group's, so that nobody waits for an endless batch; and members
/// that share one object.
const BATCH_MAX: usize = 1_024;

/// Plaintext in one shared object at most: one part, so that a shared object is never larger than an unshared one.
const PACK_MAX: usize = 16 << 20;

/// Where a member's bytes ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The object that holds them.
    pub object: ObjectName,
    /// How many bytes of plaintext the object holds in all.
    pub object_length: Length,
    /// Where in it they begin.
    pub start: Offset,
}

/// An object being written, which counts for its directory.
pub struct PendingObject {
    /// Taken when the object is finished.
    writer: Option<SealedWriter>,
    name: ObjectName,
    dir: Arc<OpenDir>,
}

impl PendingObject {
    /// Appends plaintext.
    pub fn write(&mut self, plaintext: &[u8]) -> Result<(), StoreError> {
        self.writer.as_mut().ok_or(StoreError::Closed)?.write(plaintext)
    }

    /// Returns how much plaintext was written so far.
    pub fn length(&self) -> Length {
        self.writer.as_ref().map_or(Length::ZERO, SealedWriter::length)
    }

    /// Waits until the bytes are durable.
    fn finish(&mut self) -> Result<Length, StoreError> {
        let writer = self.writer.take().ok_or(StoreError::Closed)?;
        let length = writer.finish().inspect_err(|_| self.dir.litter())?;
        Ok(length.plaintext)
    }
}

impl Drop for PendingObject {
    fn drop(&mut self) {
        // An unfinished object removes its file; whether that worked is not told, and a power cut may bring the name
        // back, so the directory is looked through after the next start.
        if self.writer.is_some() {
            self.dir.litter();
        }
    }
}

/// The bytes that must be durable before an intent may be committed.
pub enum Bytes {
    /// None: the intent is about rows only.
    None,
    /// An object of their own.
    Object(Box<PendingObject>),
    /// Few; they share an object with others of the same moment. Never empty.
    Small(Vec<u8>),
}

/// Makes the intent once it is known where the bytes are.
pub type MakeIntent = Box<dyn FnOnce(Option<Placed>) -> Intent + Send>;

/// One thing to be made durable.
struct Member {
    intent: MakeIntent,
    home: Option<Home>,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// Where a member's bytes are, and what must happen there if the member comes to nothing.
struct Home {
    placed: Placed,
    /// Kept until the row is committed or refused, so that the directory is not closed before.
    dir: Arc<OpenDir>,
    /// Whether no other member has bytes in the object.
    alone: bool,
}

/// What became of a submission: a future, or a blocking wait.
pub struct Pending(oneshot::Receiver<Result<Outcome, StoreError>>);

impl Pending {
    /// Blocks until the submission is durable or refused. Not for async code.
    pub fn wait(self) -> Result<Outcome, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Future for Pending {
    type Output = Result<Outcome, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(StoreError::Closed)))
    }
}

/// A directory that objects of this boot go to.
#[derive(Debug)]
struct OpenDir {
    id: DirId,
    /// Objects that were begun in it.
    begun: AtomicU32,
    /// Set when an object may lie in it without a row: then it stays open, and the next boot lists it.
    littered: AtomicBool,
}

impl OpenDir {
    fn litter(&self) {
        self.littered.store(true, Ordering::Relaxed);
    }
}

/// What the committer works on.
#[derive(Clone)]
pub struct Stores {
    /// Where bytes go.
    pub objects: Arc<dyn Objects>,
    /// What seals them.
    pub ring: Arc<KeyRing>,
    /// Where rows go.
    pub catalog: Arc<dyn Catalog>,
    /// What is given back when the disk is full.
    pub ballast: Option<Arc<Ballast>>,
}

/// The group committer of one boot.
pub struct Committer {
    shelf: Arc<Shelf>,
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
    failure: watch::Receiver<Option<Arc<StoreError>>>,
    commits: Arc<AtomicU64>,
}

struct Queues {
    sync: Sender<(Box<PendingObject>, Member)>,
    pack: Sender<Vec<Piece>>,
    commit: Sender<Group>,
}

/// Bytes that share an object with others, and what they are for.
type Piece = (Vec<u8>, Member);

/// Bytes, and what makes the intent once they are durable.
pub type Submission = (Bytes, MakeIntent);

/// Members that are committed in one transaction: those that share an object. If one of them came first and went again,
/// the object would be given up before the next one points to it.
type Group = Vec<Member>;

/// The directories of this boot.
struct Shelf {
    stores: Stores,
    boot: BootId,
    dirs: Mutex<Dirs>,
}

/// The directory in use, and those that are full but not closed yet.
#[derive(Default)]
struct Dirs {
    current: Option<Arc<OpenDir>>,
    full: Vec<Arc<OpenDir>>,
}

impl Committer {
    /// Begins a new boot and starts the threads.
    pub fn start(stores: Stores) -> Result<Self, StoreError> {
        let boot = match commit_one(stores.catalog.as_ref(), Intent::Boot)? {
            Outcome::Booted(boot) => boot,
            other => unreachable!("a boot came to {other:?}"),
        };
        let shelf = Arc::new(Shelf { stores: stores.clone(), boot, dirs: Mutex::default() });
        let (failed, failure) = watch::channel(None);
        let (commit, commit_queue) = mpsc::channel();
        let (sync, sync_queue) = mpsc::channel();
        let (pack, pack_queue) = mpsc::channel();
        let sync_queue = Arc::new(Mutex::new(sync_queue));
        let commits = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&commits);
        let mut threads = vec![spawn("commit", &failed, {
            let failed = failed.clone();
            move || run_commits(&stores, &commit_queue, (&failed, &counted))
        })];
        threads.extend((0..SYNC_THREADS).map(|_| {
            let (queue, next) = (Arc::clone(&sync_queue), commit.clone());
            spawn("sync", &failed, move || run_syncs(&queue, &next))
        }));
        threads.push(spawn("pack", &failed, {
            let (shelf, next) = (Arc::clone(&shelf), commit.clone());
            move || run_packer(&shelf, &pack_queue, &next)
        }));
        Ok(Self { shelf, queues: Some(Queues { sync, pack, commit }), threads, failure, commits })
    }

    /// Returns the number of this run.
    pub fn boot(&self) -> BootId {
        self.shelf.boot
    }

    /// Tells when the catalog failed for good: the process must end then (R7).
    pub fn failure(&self) -> watch::Receiver<Option<Arc<StoreError>>> {
        self.failure.clone()
    }

    /// Returns how many transactions were begun for what was submitted.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Begins an object. May block: every few thousand objects it makes a directory.
    pub fn begin_object(&self) -> Result<PendingObject, StoreError> {
        let queues = self.queues.as_ref().ok_or(StoreError::Closed)?;
        self.shelf.begin_object(&queues.commit)
    }

    /// Makes bytes and then an intent durable.
    ///
    /// DURABILITY: once the answer is `Ok`, bytes and rows survive power loss. Atomic: yes. A refusal or failure
    /// leaves at worst an object without a row, which the next boot removes.
    pub fn submit(
        &self,
        bytes: Bytes,
        intent: impl FnOnce(Option<Placed>) -> Intent + Send + 'static,
    ) -> Pending {
        let submission: Submission = (bytes, Box::new(intent));
        self.submit_all([submission]).pop().expect("one submission has one answer")
    }

    /// Makes several things durable that are ready at the same moment, as [`Self::submit`] does each: what is small
    /// shares one object, and rows that wait for the same bytes, or for none, one transaction. To be called with at most
    /// a part of small bytes and a thousand members, for neither is split.
    pub fn submit_all(&self, submissions: impl IntoIterator<Item = Submission>) -> Vec<Pending> {
        let (mut waiting, mut rows, mut pieces) = (Vec::new(), Group::new(), Vec::new());
        for (bytes, intent) in submissions {
            let (answer, pending) = oneshot::channel();
            let member = Member { intent, home: None, answer };
            waiting.push(Pending(pending));
            let Some(queues) = &self.queues else { continue };
            // A send fails only when the thread behind it is gone; the answer's sender goes with the member, and
            // whoever waits hears that the store is closed.
            match bytes {
                Bytes::None => rows.push(member),
                Bytes::Object(object) => drop(queues.sync.send((object, member))),
                Bytes::Small(bytes) => pieces.push((bytes, member)),
            }
        }
        if let Some(queues) = &self.queues {
            if !rows.is_empty() {
                drop(queues.commit.send(rows));
            }
            if !pieces.is_empty() {
                drop(queues.pack.send(pieces));
            }
        }
        waiting
    }

    /// Makes an intent durable that is about rows only.
    pub fn commit(&self, intent: Intent) -> Pending {
        self.submit(Bytes::None, |_| intent)
    }
}

impl Drop for Committer {
    /// Settles what was submitted, closes the directories, and ends the threads.
    fn drop(&mut self) {
        if let Some(queues) = &self.queues {
            self.shelf.close(&queues.commit);
        }
        self.queues = None;
        for thread in self.threads.drain(..) {
            // A panic was told when it happened.
            drop(thread.join());
        }
    }
}

impl Shelf {
    fn begin_object(&self, commit: &Sender<Group>) -> Result<PendingObject, StoreError> {
        let dir = self.reserve(commit)?;
        let name = ObjectName { dir: dir.id, id: ObjectId::random()? };
        let writer = SealedWriter::create(self.stores.objects.as_ref(), &self.stores.ring, name)
            .inspect_err(|_| dir.litter())?;
        Ok(PendingObject { writer: Some(writer), name, dir })
    }

    /// Takes a place in the directory in use, or opens the next one.
    fn reserve(&self, commit: &Sender<Group>) -> Result<Arc<OpenDir>, StoreError> {
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &dirs.current {
            if dir.begun.fetch_add(1, Ordering::Relaxed) < OBJECTS_PER_DIR {
                return Ok(Arc::clone(dir));
            }
            let full = dirs.current.take();
            dirs.full.extend(full);
        }
        close_settled(&mut dirs, commit);
        let id = match send(commit, Intent::OpenDir { boot: self.boot }).wait()? {
            Outcome::Dir(id) => id,
            other => unreachable!("opening a directory came to {other:?}"),
        };
        self.stores.objects.make_dir(id)?;
        let dir = Arc::new(OpenDir { id, begun: AtomicU32::new(1), littered: AtomicBool::new(false) });
        dirs.current = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// Closes every directory in which everything has its row.
    fn close(&self, commit: &Sender<Group>) {
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        let current = dirs.current.take();
        dirs.full.extend(current);
        close_settled(&mut dirs, commit);
    }
}

/// Closes full directories in which everything has its row; nobody waits for it.
fn close_settled(dirs: &mut Dirs, commit: &Sender<Group>) {
    dirs.full.retain(|dir| {
        let settled = Arc::strong_count(dir) == 1;
        if settled && !dir.littered.load(Ordering::Relaxed) {
            drop(send(commit, Intent::CloseDir { dir: dir.id }));
        }
        !settled
    });
}

/// Queues an intent that is about rows only.
fn send(commit: &Sender<Group>, intent: Intent) -> Pending {
    let (answer, pending) = oneshot::channel();
    drop(commit.send(vec![Member { intent: Box::new(|_| intent), home: None, answer }]));
    Pending(pending)
}

/// Where a failure for good is told.
type Failed = watch::Sender<Option<Arc<StoreError>>>;

/// Starts a thread. If it panics, that is a failure for good: whoever waits for what it does would wait in vain, and a
/// process that takes nothing more must not look as if it did.
fn spawn(name: &'static str, failed: &Failed, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let failed = failed.clone();
    thread::Builder::new()
        .name(format!("hapax-{name}"))
        .spawn(move || {
            // Nothing of what it worked on is looked at again.
            if panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
                error!(thread = name, "a thread of the committer panicked");
                failed.send_replace(Some(Arc::new(StoreError::Panicked { thread: name })));
            }
        })
        .expect("the operating system gives a handful of threads at start")
}

fn commit_one(catalog: &dyn Catalog, intent: Intent) -> Result<Outcome, StoreError> {
    let mut answers = catalog.commit(&[intent])?;
    Ok(answers.pop().expect("one intent has one answer")?)
}

// ---------------------------------------------------------------- first stage: bytes

fn run_syncs(queue: &Mutex<Receiver<(Box<PendingObject>, Member)>>, next: &Sender<Group>) {
    loop {
        let received = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((object, member)) = received else { return };
        sync_object(*object, member, next);
    }
}

fn sync_object(mut object: PendingObject, mut member: Member, next: &Sender<Group>) {
    match object.finish() {
        Ok(object_length) => {
            let placed = Placed { object: object.name, object_length, start: Offset::ZERO };
            member.home = Some(Home { placed, dir: Arc::clone(&object.dir), alone: true });
            // Fails only after the commit thread ended; the member is dropped and its waiter told.
            drop(next.send(vec![member]));
        }
        Err(error) => drop(member.answer.send(Err(error))),
    }
}

fn run_packer(shelf: &Shelf, queue: &Receiver<Vec<Piece>>, next: &Sender<Group>) {
    let length = |pieces: &[Piece]| pieces.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
    let mut carried = None;
    loop {
        let Some(mut pieces) = carried.take().or_else(|| queue.recv().ok()) else { return };
        let mut bytes = length(&pieces);
        while let Ok(more) = queue.try_recv() {
            let packed = bytes + length(&more);
            if packed > PACK_MAX || pieces.len() + more.len() > BATCH_MAX {
                carried = Some(more);
                break;
            }
            bytes = packed;
            pieces.extend(more);
        }
        match pack(shelf, &pieces, next) {
            Ok((object, object_length)) => hand_on(&object, object_length, pieces, next),
            Err(error) => {
                let cause = Arc::new(error);
                for (_, member) in pieces {
                    member.fail(&cause);
                }
            }
        }
    }
}

/// Writes all pieces into one object and waits until it is durable.
fn pack(
    shelf: &Shelf,
    pieces: &[Piece],
    commit: &Sender<Group>,
) -> Result<(PendingObject, Length), StoreError> {
    let mut object = shelf.begin_object(commit)?;
    for (bytes, _) in pieces {
        object.write(bytes)?;
    }
    let length = object.finish()?;
    Ok((object, length))
}

fn hand_on(object: &PendingObject, object_length: Length, pieces: Vec<Piece>, next: &Sender<Group>) {
    let alone = pieces.len() == 1;
    let mut start = Offset::ZERO;
    let mut group = Group::with_capacity(pieces.len());
    for (bytes, mut member) in pieces {
        let placed = Placed { object: object.name, object_length, start };
        member.home = Some(Home { placed, dir: Arc::clone(&object.dir), alone });
        start = start.checked_add(Length::of(&bytes)).expect("a packed object is at most a part long");
        group.push(member);
    }
    drop(next.send(group));
}

impl Member {
    /// Answers with a failure; the bytes may stay behind without a row.
    fn fail(self, cause: &Arc<StoreError>) {
        if let Some(home) = self.home {
            home.dir.litter();
        }
        // Nobody listens if the request is gone.
        drop(self.answer.send(Err(StoreError::Batch(Arc::clone(cause)))));
    }
}

// ---------------------------------------------------------------- second stage: rows

fn run_commits(stores: &Stores, queue: &Receiver<Group>, (failed, commits): (&Failed, &AtomicU64)) {
    while let Ok(mut batch) = queue.recv() {
        while batch.len() < BATCH_MAX
            && let Ok(group) = queue.try_recv()
        {
            batch.extend(group);
        }
        let batch = sync_dirs(stores.objects.as_ref(), batch);
        commits.fetch_add(1, Ordering::Relaxed);
        if !commit_batch(stores, batch, failed) {
            // What is queued behind is dropped with the queue; its waiters hear that the store is closed.
            return;
        }
    }
}

/// Makes the names of new objects durable, a directory at a time; members whose directory fails are answered here.
fn sync_dirs(objects: &dyn Objects, batch: Vec<Member>) -> Vec<Member> {
    let dir_of = |member: &Member| member.home.as_ref().map(|home| home.dir.id);
    let touched: BTreeSet<DirId> = batch.iter().filter_map(dir_of).collect();
    let failed: BTreeMap<DirId, Arc<StoreError>> = touched
        .into_iter()
        .filter_map(|dir| objects.sync_dir(dir).err().map(|error| (dir, Arc::new(error))))
        .collect();
    let mut good = Vec::with_capacity(batch.len());
    for member in batch {
        match dir_of(&member).and_then(|dir| failed.get(&dir)) {
            None => good.push(member),
            Some(cause) => member.fail(cause),
        }
    }
    good
}

/// Commits one batch and answers its members. Returns whether the catalog can still be trusted; if not, that is told to
/// everybody before it is told to the members.
fn commit_batch(stores: &Stores, batch: Vec<Member>, failed: &Failed) -> bool {
    let (mut intents, mut waiting) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for Member { intent, home, answer } in batch {
        intents.push(intent(home.as_ref().map(|home| home.placed)));
        waiting.push((home, answer));
    }
    let Committed { answers, repeated } = commit_with_ballast(stores, &intents);
    match answers {
        Ok(answers) => {
            for (answered, (home, waiter)) in answers.into_iter().zip(waiting) {
                match (&answered, &home) {
                    // A refusal may only say that the first try had happened: its rows may point to the object.
                    (Err(_), Some(home)) if repeated => home.dir.litter(),
                    (Err(_), Some(home)) => discard(stores.objects.as_ref(), home),
                    _ => {}
                }
                drop(waiter.send(answered.map_err(StoreError::from)));
            }
            true
        }
        Err(error) => {
            let cause = Arc::new(error);
            let trusted = matches!(cause.class(), ErrorClass::Full | ErrorClass::Busy);
            if !trusted {
                failed.send_replace(Some(Arc::clone(&cause)));
            }
            for (home, waiter) in waiting {
                // Not removed: a power cut could still bring the rows back.
                if let Some(home) = home {
                    home.dir.litter();
                }
                drop(waiter.send(Err(StoreError::Batch(Arc::clone(&cause)))));
            }
            trusted
        }
    }
}

/// Removes the object of a refused member: its rows were rolled back, so nothing can point to it.
fn discard(objects: &dyn Objects, home: &Home) {
    home.dir.litter();
    if home.alone
        && let Err(error) = objects.delete(home.placed.object)
    {
        warn!(object = %home.placed.object, %error, "a refused object stays until the next start");
    }
}

/// What became of a batch.
struct Committed {
    answers: Result<Vec<Answer>, StoreError>,
    /// Whether these are the answers of a second try.
    repeated: bool,
}

/// Commits; on a full disk gives the ballast back and tries once more, so that deleting and logging in still work.
fn commit_with_ballast(stores: &Stores, intents: &[Intent]) -> Committed {
    let first = stores.catalog.commit(intents);
    match (first, &stores.ballast) {
        (Err(error), Some(ballast)) if error.class() == ErrorClass::Full => {
            warn!("the disk is full: giving the ballast back");
            match ballast.release() {
                Ok(()) => Committed { answers: stores.catalog.commit(intents), repeated: true },
                Err(failed) => {
                    warn!(error = %failed, "the ballast could not be given back");
                    Committed { answers: Err(error), repeated: false }
                }
            }
        }
        (answers, _) => Committed { answers, repeated: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::model::ModelCatalog;
    use crate::object::memory::MemoryObjects;

    #[test]
    fn a_panic_in_a_commit_is_a_failure_for_good() {
        let stores = Stores {
            objects: Arc::new(MemoryObjects::new()),
            ring: Arc::new(KeyRing::generate().unwrap()),
            catalog: Arc::new(ModelCatalog::new()),
            ballast: None,
        };
        let committer = Committer::start(stores).unwrap();
        let failure = committer.failure();
        for _ in 0..2 {
            let lost = committer.submit(Bytes::None, |_| panic!("a mistake of ours")).wait();
            assert!(matches!(lost, Err(StoreError::Closed)), "{lost:?}");
        }
        // Waits for the thread.
        drop(committer);
        let told = failure.borrow().clone();
        assert!(matches!(told.as_deref(), Some(StoreError::Panicked { thread: "commit" })), "{told:?}");
    }
}
