//! A session of a user as a list of steps, and a ledger in plain memory of all that was acknowledged on the way. After
//! any fault the store must agree with the ledger, and the session must go on where it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use hapax_proto::digest::{Digests, FileHash};
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PART, PartHasher, PartNumber, PartValue};
use hapax_proto::upload::State;
use hapax_store::catalog::{Blob, EntryKind, Expect, LaneId, Meta, SpaceId, Upload, UploadId, UserId};
use hapax_store::check::Depth;
use hapax_store::compose::Members;
use hapax_store::error::StoreError;
use hapax_store::job::{Go, UNPACED};
use hapax_store::publish::Target;
use hapax_store::store::Store;
use hapax_store::sweep::Keep;
use hapax_store::upload::{CreateUpload, Ending};

use crate::rig::Rig;
use crate::world::noise;

/// One verb, called once. Bytes are made from a seed, each part of a file on its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Folder(&'static str),
    Put {
        path: &'static str,
        seed: u64,
        size: u64,
    },
    Create {
        name: &'static str,
        path: &'static str,
        size: u64,
    },
    Send {
        name: &'static str,
        part: u32,
        seed: u64,
        from: u64,
        to: u64,
    },
    Resize {
        name: &'static str,
        size: u64,
    },
    Finish {
        name: &'static str,
    },
    Cancel {
        name: &'static str,
    },
    Compose {
        path: &'static str,
        of: &'static [&'static str],
    },
    Identify,
    Link {
        from: &'static str,
        to: &'static str,
    },
    Move {
        from: &'static str,
        to: &'static str,
    },
    Remove {
        path: &'static str,
    },
    /// Files of one moment, which share an object.
    Together {
        paths: &'static [&'static str],
        seed: u64,
        size: u64,
    },
    Sweep,
    Heal,
    Scrub,
    Compact,
}

/// What was acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) files: BTreeMap<String, Arc<Vec<u8>>>,
    uploads: BTreeMap<&'static str, Progress>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    id: UploadId,
    state: State,
    path: &'static str,
    size: u64,
    parts: BTreeMap<u32, Arc<Vec<u8>>>,
}

/// Who acts, on which store.
pub(crate) struct Actor<'a> {
    pub(crate) store: &'a Arc<Store>,
    pub(crate) user: UserId,
    pub(crate) space: SpaceId,
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// Returns the bytes of one part of what a seed makes.
fn part_of(seed: u64, part: u32, length: u64) -> Vec<u8> {
    noise(to_usize(length), seed * 1_000 + u64::from(part))
}

/// Returns what a seed makes of a size.
pub(crate) fn content(seed: u64, size: u64) -> Vec<u8> {
    let parts = hapax_proto::tree::parts(Length::new(size));
    let made: Vec<_> = parts.map(|(part, span)| part_of(seed, part.get(), span.length().get())).collect();
    made.concat()
}

/// Joins parts byte by byte as fast as memory goes: an iterator of bytes is slow without optimisation.
fn joined(parts: &BTreeMap<u32, Arc<Vec<u8>>>) -> Vec<u8> {
    let slices: Vec<&[u8]> = parts.values().map(|part| part.as_slice()).collect();
    slices.concat()
}

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text).unwrap()
}

fn length_of_part(part: u32, size: u64) -> u64 {
    PartNumber::new(part).span(Length::new(size)).map_or(0, |span| span.length().get())
}

fn value_of(part: u32, bytes: &[u8]) -> PartValue {
    let mut hasher = PartHasher::new(PartNumber::new(part));
    hasher.update(bytes).unwrap();
    hasher.value().unwrap()
}

// ---------------------------------------------------------------- acting

impl Actor<'_> {
    /// Does a step; returns the upload that it made.
    pub(crate) fn act(&self, step: Step, ledger: &Ledger) -> Result<Option<UploadId>, StoreError> {
        let upload = |name| self.store.upload(ledger.uploads[name].id);
        match step {
            Step::Folder(at) => self.store.make_folder(self.space, path(at)).map(|_| None),
            Step::Put { path, seed, size } => self.put(path, &content(seed, size)).map(|()| None),
            Step::Create { name, path, size } => self.create(name, path, size).map(Some),
            Step::Send { name, part, seed, from, to } => {
                let bytes = part_of(seed, part, to);
                self.send(&upload(name)?, part, from, &bytes[to_usize(from)..]).map(|()| None)
            }
            Step::Resize { name, size } => {
                self.store.resize_upload(&upload(name)?, Length::new(size), None).map(|_| None)
            }
            Step::Finish { name } => {
                let upload = upload(name)?;
                let bytes = joined(&ledger.uploads[name].parts);
                let hash = Some(FileHash::of(&bytes));
                let size = Length::of(&bytes);
                self.store.finish_upload(&upload, size, Expect::Anything, hash).map(|_| None)
            }
            Step::Cancel { name } => {
                self.store.end_upload(ledger.uploads[name].id, State::Cancelled).map(|()| None)
            }
            Step::Compose { path, of } => self.compose(path, of, ledger).map(|()| None),
            Step::Identify => self.store.identify_pending(UNPACED).map(|_| None),
            Step::Link { from, to } => {
                let blob = self.blob(from)?.expect("it is in the ledger");
                self.store.link(self.target(to), &blob).map(|_| None)
            }
            Step::Move { from, to } => {
                self.store.move_entry(self.space, path(from), path(to), true).map(|()| None)
            }
            Step::Remove { path: at } => {
                self.store.remove(self.space, path(at), Expect::Anything, true).map(|()| None)
            }
            Step::Together { paths, seed, size } => self.put_together(paths, seed, size).map(|()| None),
            Step::Sweep => self.store.sweep(Keep::Nothing).map(|_| None),
            Step::Heal => self.store.heal(UNPACED).map(|_| None),
            Step::Scrub => self.scrub().map(|()| None),
            Step::Compact => self.store.compact(UNPACED).map(|_| None),
        }
    }

    /// Puts files in one go; each has the bytes of a seed of its own.
    fn put_together(&self, paths: &[&str], seed: u64, size: u64) -> Result<(), StoreError> {
        let files: Result<Vec<_>, StoreError> = (seed..)
            .zip(paths)
            .map(|(seed, path)| {
                let mut file = self.store.begin_short(None)?;
                file.push(&content(seed, size))?;
                Ok((file.end(None)?, self.target(path)))
            })
            .collect();
        self.store
            .wait_short(self.store.publish_short(files?))
            .into_iter()
            .try_for_each(|stored| stored.map(drop))
    }

    /// Scrubs everything. A disk that cannot read for a moment makes damage that is none; then it was no good scrub.
    fn scrub(&self) -> Result<(), StoreError> {
        assert_eq!(self.store.scrub(UNPACED)?, Go::On);
        if self.store.damage()?.is_empty() { Ok(()) } else { Err(StoreError::BrokenRun) }
    }

    pub(crate) fn target(&self, at: &str) -> Target {
        Target { space: self.space, path: path(at), expect: Expect::Anything, meta: Meta::default() }
    }

    pub(crate) fn put(&self, at: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = self.store.begin_file(self.user, self.target(at), None)?;
        for chunk in bytes.chunks(256 << 10) {
            file.push(chunk)?;
        }
        file.publish(Some(FileHash::of(bytes))).map(drop)
    }

    pub(crate) fn create(&self, name: &str, at: &str, size: u64) -> Result<UploadId, StoreError> {
        let new = CreateUpload {
            user: self.user,
            key: Some(name.to_owned()),
            space: self.space,
            path: path(at),
            size: Some(Length::new(size)),
            meta: Meta::default(),
            precondition: None,
            declared: Digests::default(),
            notes: None,
            members: Vec::new(),
        };
        Ok(self.store.create_upload(new)?.0.id)
    }

    /// Composes a file of uploads; what a fault left of an earlier try is gone on with.
    fn compose(&self, at: &str, of: &[&str], ledger: &Ledger) -> Result<(), StoreError> {
        let new = CreateUpload {
            user: self.user,
            key: Some(format!("compose {at}")),
            space: self.space,
            path: path(at),
            size: None,
            meta: Meta::default(),
            precondition: None,
            declared: Digests::default(),
            notes: None,
            members: of.iter().map(|name| ledger.uploads[name].id).collect(),
        };
        let upload = self.store.create_upload(new)?.0;
        if upload.state == State::Done {
            return Ok(());
        }
        let Members::Complete { size } = self.store.look_at_members(&upload)? else {
            panic!("the members have all their bytes")
        };
        let upload = self.store.compose(&upload)?;
        self.store.finish_composed(&upload, size, Expect::Anything).map(drop)
    }

    pub(crate) fn send(&self, upload: &Upload, part: u32, from: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let part = PartNumber::new(part);
        let whole = part.span(upload.size.unwrap()).unwrap().length();
        let mut run = self.store.begin_part(upload, part, Length::new(from), whole, None)?;
        for chunk in bytes.chunks(256 << 10) {
            run.push(chunk)?;
        }
        let stored = run.finish(Ending::Complete)?.wait()?;
        assert_eq!(stored.have.get(), from + bytes.len() as u64, "what is announced is what was sent");
        Ok(())
    }

    pub(crate) fn blob(&self, at: &str) -> Result<Option<Blob>, StoreError> {
        Ok(self.store.entry(self.space, &path(at))?.and_then(|entry| match entry.kind {
            EntryKind::File { blob, .. } => Some(blob),
            EntryKind::Folder => None,
        }))
    }
}

impl Ledger {
    /// Returns the ledger as it is once a step was acknowledged.
    pub(crate) fn after(&self, step: Step, made: Option<UploadId>) -> Self {
        let mut next = self.clone();
        match step {
            Step::Folder(_) | Step::Sweep | Step::Identify | Step::Heal | Step::Scrub | Step::Compact => {}
            Step::Together { paths, seed, size } => {
                let files =
                    (seed..).zip(paths).map(|(seed, path)| (path.to_string(), Arc::new(content(seed, size))));
                next.files.extend(files);
            }
            Step::Put { path, seed, size } => {
                next.files.insert(path.to_owned(), Arc::new(content(seed, size)));
            }
            Step::Create { name, path, size } => {
                let made =
                    made.map(|id| Progress { id, state: State::Open, path, size, parts: BTreeMap::new() });
                next.uploads.extend(made.map(|progress| (name, progress)));
            }
            Step::Send { name, part, seed, to, .. } => {
                let bytes = Arc::new(part_of(seed, part, to));
                next.uploads.get_mut(name).unwrap().parts.insert(part, bytes);
            }
            Step::Resize { name, size } => next.uploads.get_mut(name).unwrap().resize(size),
            Step::Finish { name } => {
                let upload = next.uploads.get_mut(name).unwrap();
                let parts = std::mem::take(&mut upload.parts);
                upload.state = State::Done;
                next.files.insert(upload.path.to_owned(), Arc::new(joined(&parts)));
            }
            Step::Cancel { name } => {
                let upload = next.uploads.get_mut(name).unwrap();
                (upload.state, upload.parts) = (State::Cancelled, BTreeMap::new());
            }
            Step::Compose { path, of } => {
                let bytes: Vec<_> = of.iter().map(|name| joined(&next.uploads[name].parts)).collect();
                next.files.insert(path.to_owned(), Arc::new(bytes.concat()));
            }
            Step::Link { from, to } => {
                let bytes = Arc::clone(&next.files[from]);
                next.files.insert(to.to_owned(), bytes);
            }
            Step::Move { from, to } => {
                let bytes = next.files.remove(from).expect("only files are moved");
                next.files.insert(to.to_owned(), bytes);
            }
            Step::Remove { path } => {
                next.files.remove(path).expect("only files are removed");
            }
        }
        next
    }
}

impl Progress {
    /// Keeps what is the same in both sizes.
    fn resize(&mut self, size: u64) {
        let keep = self.size.min(size) / PART.get() * PART.get();
        let end = |part: u32, bytes: &[u8]| PartNumber::new(part).start().get() + bytes.len() as u64;
        self.parts.retain(|part, bytes| end(*part, bytes) <= keep);
        self.size = size;
    }
}

// ---------------------------------------------------------------- comparing

impl Actor<'_> {
    /// Says how the store differs from a ledger, if it does.
    pub(crate) fn difference(&self, ledger: &Ledger) -> Option<String> {
        let listed = self.store.list(self.space, &path("/"), true, None, usize::MAX).unwrap();
        let is_file = |kind: &EntryKind| matches!(kind, EntryKind::File { .. });
        let files: Vec<String> = listed
            .iter()
            .filter(|(_, entry)| is_file(&entry.kind))
            .map(|(path, _)| path.to_string())
            .collect();
        if !files.iter().eq(ledger.files.keys()) {
            return Some(format!("it has {files:?}, not {:?}", ledger.files.keys()));
        }
        let wrong_file = ledger.files.iter().find(|(path, bytes)| self.read(path) != ***bytes);
        if let Some((path, _)) = wrong_file {
            return Some(format!("{path} has other bytes"));
        }
        ledger.uploads.iter().find_map(|(name, progress)| Some(format!("{name}: {}", self.wrong(progress)?)))
    }

    pub(crate) fn read(&self, at: &str) -> Vec<u8> {
        let blob = self.blob(at).unwrap().expect("it is listed");
        let mut bytes = Vec::new();
        self.store.read_blob(&blob).unwrap().read(Span::whole(blob.size), &mut bytes).unwrap();
        bytes
    }

    /// Says how an upload differs, if it does.
    fn wrong(&self, progress: &Progress) -> Option<String> {
        let upload = self.store.upload(progress.id).unwrap();
        if upload.state != progress.state {
            return Some(format!("it is {:?}, not {:?}", upload.state, progress.state));
        }
        if upload.state != State::Open {
            return None;
        }
        if upload.size != Some(Length::new(progress.size)) {
            return Some(format!("its size is {:?}", upload.size));
        }
        let received = self.store.received(upload.id, PartNumber::FIRST, usize::MAX).unwrap().1;
        let is_whole = |part: u32, bytes: &[u8]| bytes.len() as u64 == length_of_part(part, progress.size);
        let whole: Vec<_> = progress
            .parts
            .iter()
            .filter(|(part, bytes)| is_whole(**part, bytes))
            .map(|(part, bytes)| (PartNumber::new(*part), value_of(*part, bytes)))
            .collect();
        let partial: Vec<_> = progress
            .parts
            .iter()
            .filter(|(part, bytes)| !is_whole(**part, bytes))
            .map(|(part, bytes)| (PartNumber::new(*part), Length::of(bytes)))
            .collect();
        if (&received.parts, &received.partial) != (&whole, &partial) {
            return Some(format!("it has {received:?}, not {whole:?} and {partial:?}"));
        }
        progress.parts.iter().find_map(|(part, bytes)| self.wrong_part(&upload, *part, bytes))
    }

    /// Reads what is in extents of a part; the tail shows when the part goes on.
    fn wrong_part(&self, upload: &Upload, part: u32, bytes: &[u8]) -> Option<String> {
        let number = PartNumber::new(part);
        let lane = self.store.catalog().lane(upload.id, LaneId::Part(number)).unwrap();
        let tail = lane.and_then(|lane| lane.open).map_or(Length::ZERO, |open| open.tail);
        let sealed = Length::of(bytes).checked_sub(tail).expect("a tail is no longer than what is held");
        let mut read = Vec::new();
        let span = Span::at(number.start(), sealed).unwrap();
        self.store.read_upload(upload).read(span, &mut read).unwrap();
        (read != bytes[..read.len()]).then(|| format!("part {part} has other bytes"))
    }

    /// The oracle of all faults: the store is sound, and it is what the ledger says.
    #[track_caller]
    pub(crate) fn assert_agrees(&self, ledger: &Ledger) {
        self.assert_sound();
        assert_eq!(self.difference(ledger), None);
    }

    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        let report = self.store.check(Depth::Data).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }
}

// ---------------------------------------------------------------- going through it

/// A session under way.
pub(crate) struct Session {
    pub(crate) rig: Rig,
    pub(crate) ledger: Ledger,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::on(Rig::new())
    }

    pub(crate) fn on(rig: Rig) -> Self {
        Self { rig, ledger: Ledger::default() }
    }

    pub(crate) fn actor(&self) -> Actor<'_> {
        Actor { store: self.rig.store(), user: self.rig.user, space: self.rig.space }
    }

    /// Does a step, and keeps the books.
    pub(crate) fn step(&mut self, step: Step) -> Result<(), StoreError> {
        let made = self.actor().act(step, &self.ledger)?;
        self.ledger = self.ledger.after(step, made);
        Ok(())
    }

    /// Finds out what became of a step whose answer was lost: all of it happened or nothing. Tells which.
    #[track_caller]
    pub(crate) fn settle(&mut self, step: Step) -> bool {
        self.actor().assert_sound();
        let Some(difference) = self.actor().difference(&self.ledger) else { return false };
        let done = self.ledger.after(step, None);
        assert_eq!(self.actor().difference(&done), None, "nor is it as before: {difference}");
        self.ledger = done;
        true
    }

    /// After a restart and a sweep exactly the objects of the catalog lie on the disk (R2).
    #[track_caller]
    pub(crate) fn assert_nothing_leaks(&mut self) {
        self.rig.restart();
        self.rig.store().sweep(Keep::Nothing).unwrap();
        assert_eq!(self.rig.objects_on_disk(), self.rig.objects_in_catalog());
        self.actor().assert_agrees(&self.ledger);
    }
}

// ---------------------------------------------------------------- the sessions

/// A part and what lies behind it.
const BEYOND: u64 = PART.get();

/// Every verb, with files of every kind but those of several parts.
pub(crate) const SHORT: &[Step] = &[
    Step::Folder("/d"),
    Step::Put { path: "/inline", seed: 1, size: 100 },
    Step::Put { path: "/small", seed: 2, size: 70_000 },
    Step::Put { path: "/mid", seed: 3, size: 1_300_000 },
    Step::Create { name: "a", path: "/up/a", size: 200_000 },
    Step::Send { name: "a", part: 0, seed: 4, from: 0, to: 1 },
    Step::Send { name: "a", part: 0, seed: 4, from: 1, to: 65_537 },
    Step::Send { name: "a", part: 0, seed: 4, from: 65_537, to: 150_000 },
    Step::Create { name: "b", path: "/up/b", size: BEYOND + 100_000 },
    Step::Send { name: "b", part: 1, seed: 5, from: 0, to: 100_000 },
    Step::Send { name: "b", part: 0, seed: 5, from: 0, to: 90_000 },
    Step::Send { name: "a", part: 0, seed: 4, from: 150_000, to: 200_000 },
    Step::Compose { path: "/composed", of: &["a", "a"] },
    Step::Identify,
    Step::Finish { name: "a" },
    Step::Resize { name: "b", size: BEYOND + 50_000 },
    Step::Send { name: "b", part: 1, seed: 5, from: 0, to: 50_000 },
    Step::Send { name: "b", part: 0, seed: 5, from: 90_000, to: 1_200_000 },
    Step::Send { name: "b", part: 1, seed: 6, from: 0, to: 50_000 },
    Step::Send { name: "b", part: 0, seed: 6, from: 0, to: 66_000 },
    Step::Put { path: "/inline", seed: 7, size: 4_096 },
    Step::Create { name: "c", path: "/up/c", size: 70_000 },
    Step::Send { name: "c", part: 0, seed: 2, from: 0, to: 70_000 },
    Step::Finish { name: "c" },
    Step::Link { from: "/mid", to: "/link" },
    Step::Move { from: "/link", to: "/d/link" },
    Step::Remove { path: "/mid" },
    Step::Sweep,
    Step::Cancel { name: "b" },
    Step::Move { from: "/small", to: "/inline" },
    Step::Remove { path: "/d/link" },
    Step::Sweep,
    Step::Put { path: "/last", seed: 8, size: 5_000 },
];

/// What the jobs work on, and the jobs among all else: pieces, second copies, dead bytes.
pub(crate) const UPKEEP: &[Step] = &[
    Step::Together { paths: &["/t/1", "/t/2", "/t/3", "/t/4", "/t/5"], seed: 20, size: 30_000 },
    Step::Create { name: "a", path: "/pieces", size: 1_500_000 },
    Step::Send { name: "a", part: 0, seed: 1, from: 0, to: 70_000 },
    Step::Send { name: "a", part: 0, seed: 1, from: 70_000, to: 200_000 },
    Step::Send { name: "a", part: 0, seed: 1, from: 200_000, to: 1_500_000 },
    Step::Create { name: "b", path: "/few", size: 200_000 },
    Step::Send { name: "b", part: 0, seed: 2, from: 0, to: 100_000 },
    Step::Scrub,
    Step::Send { name: "b", part: 0, seed: 2, from: 100_000, to: 200_000 },
    Step::Finish { name: "a" },
    Step::Finish { name: "b" },
    Step::Put { path: "/inline", seed: 3, size: 100 },
    Step::Put { path: "/again", seed: 2, size: 200_000 },
    Step::Heal,
    Step::Compact,
    Step::Remove { path: "/t/1" },
    Step::Remove { path: "/t/3" },
    Step::Remove { path: "/t/5" },
    Step::Sweep,
    Step::Compact,
    Step::Put { path: "/inline2", seed: 3, size: 100 },
    Step::Scrub,
    Step::Sweep,
    Step::Compact,
];

/// Files of several parts: put, sent in several lanes, finished, removed.
pub(crate) const LONG: &[Step] = &[
    Step::Put { path: "/long", seed: 1, size: BEYOND + 100_000 },
    Step::Create { name: "l", path: "/film", size: BEYOND + 70_000 },
    Step::Send { name: "l", part: 1, seed: 2, from: 0, to: 70_000 },
    Step::Send { name: "l", part: 0, seed: 2, from: 0, to: 9_500_000 },
    Step::Put { path: "/long", seed: 3, size: 5_000 },
    Step::Send { name: "l", part: 0, seed: 2, from: 9_500_000, to: BEYOND },
    Step::Finish { name: "l" },
    Step::Sweep,
];
