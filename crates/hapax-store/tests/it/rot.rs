//! Stored bytes change behind the store's back: nothing of that is ever served, all else is, and the check says which
//! file it is. And whoever reads the data directory learns no content. F8 of the reliability design, rule R5.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hapax_proto::digest::FileHash;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{PartHasher, PartNumber};
use hapax_store::catalog::EntryKind;
use hapax_store::catalog::model::faulty::{Fault as CatalogFault, Report, Spell};
use hapax_store::check::Depth;
use hapax_store::disk::Disk;
use hapax_store::disk::faulty::{Failure, Fault, Operation, Torn};
use hapax_store::error::{ErrorClass, StoreError};
use hapax_store::id::ObjectName;
use hapax_store::sweep::Keep;
use hapax_store::upload::Ending;
use rusqlite::Connection;

use crate::rig::{Case, Draws, End, full, layout, seed};
use crate::script::{Session, Step, content};
use crate::world::{World, noise};

const SEGMENT: usize = 64 << 10;
const STRIDE: usize = SEGMENT + 16;
const HEADER: usize = 128;
const FILE: u64 = 400_000;
/// Where the second object of the file begins.
const SECOND: usize = 3 * SEGMENT;
/// How many segments it has.
const SEGMENTS: usize = 4;

/// What happens to the object that holds the second half of a file.
#[derive(Debug, Clone, Copy)]
enum Mutation {
    FlipHeader,
    FlipWrappedKey,
    FlipSegment(usize),
    FlipTag(usize),
    CutByte,
    CutSegment,
    Extend,
    Swap(usize, usize),
    Replace,
}

/// Which bytes of the file must fail then: the object's, or those of some segments.
enum Lost {
    Object,
    Segments(Vec<usize>),
}

impl Mutation {
    fn drawn(draws: &mut Draws) -> Vec<Self> {
        let mut below = |end: usize| usize::try_from(draws.below(end as u64)).unwrap();
        let (first, second) = (below(SEGMENTS - 1), below(SEGMENTS));
        vec![
            Self::FlipHeader,
            Self::FlipWrappedKey,
            Self::FlipSegment(second),
            Self::FlipTag(second),
            Self::CutByte,
            Self::CutSegment,
            Self::Extend,
            Self::Swap(first, (first + 1) % (SEGMENTS - 1)),
            Self::Replace,
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>, other: &[u8], draws: &mut Draws) -> Lost {
        let mut flip = |bytes: &mut [u8]| {
            let at = usize::try_from(draws.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << draws.below(8);
        };
        let length = bytes.len();
        let stored =
            |segment: usize| HEADER + segment * STRIDE..(HEADER + (segment + 1) * STRIDE).min(length);
        match self {
            Self::FlipHeader => flip(&mut bytes[..80]),
            Self::FlipWrappedKey => flip(&mut bytes[80..HEADER]),
            Self::FlipSegment(segment) => {
                let range = stored(segment);
                flip(&mut bytes[range.start..range.end - 16]);
                return Lost::Segments(vec![segment]);
            }
            Self::FlipTag(segment) => {
                let range = stored(segment);
                flip(&mut bytes[range.end - 16..range.end]);
                return Lost::Segments(vec![segment]);
            }
            Self::CutByte => bytes.truncate(length - 1),
            Self::CutSegment => bytes.truncate(HEADER + (SEGMENTS - 1) * STRIDE),
            Self::Extend => bytes.push(0),
            Self::Swap(first, second) => {
                let one = bytes[stored(first)].to_vec();
                bytes.copy_within(stored(second), stored(first).start);
                bytes[stored(second)].copy_from_slice(&one);
                return Lost::Segments(vec![first, second]);
            }
            Self::Replace => bytes.copy_from_slice(other),
        }
        Lost::Object
    }
}

impl Lost {
    fn spans(self) -> Vec<Span> {
        let span = |start: usize, end: usize| {
            Span::new(Offset::new(start as u64), Offset::new((end as u64).min(FILE))).unwrap()
        };
        match self {
            Self::Object => vec![span(SECOND, usize::MAX)],
            Self::Segments(segments) => segments
                .into_iter()
                .map(|segment| span(SECOND + segment * SEGMENT, SECOND + (segment + 1) * SEGMENT))
                .collect(),
        }
    }
}

/// Stores a file in two objects.
fn store_in_two(session: &mut Session, name: &'static str, path: &'static str, seed: u64) {
    for step in [
        Step::Create { name, path, size: FILE },
        Step::Send { name, part: 0, seed, from: 0, to: 200_000 },
        Step::Send { name, part: 0, seed, from: 200_000, to: FILE },
        Step::Finish { name },
    ] {
        session.step(step).unwrap();
    }
}

fn second_object(session: &Session, path: &str) -> ObjectName {
    let blob = session.actor().blob(path).unwrap().unwrap();
    let extents = session.rig.store().catalog().extents(blob.content, Span::whole(blob.size), 9).unwrap();
    assert_eq!(extents.len(), 2);
    assert_eq!(extents[1].span.start().get(), SECOND as u64);
    extents[1].object
}

fn read(session: &Session, path: &str, span: Span) -> Result<Vec<u8>, StoreError> {
    let blob = session.actor().blob(path)?.unwrap();
    let mut bytes = vec![7];
    let read = session.rig.store().read_blob(&blob)?.read(span, &mut bytes);
    assert!(read.is_ok() || bytes == [7], "a failed read leaves no byte");
    read.map(|()| bytes.split_off(1))
}

/// Reads all of the file in small spans: those that touch what is lost fail, all others are right.
#[track_caller]
fn assert_only_lost(session: &Session, lost: &[Span], plain: &[u8]) {
    for (start, chunk) in (0..).step_by(10_000).zip(plain.chunks(10_000)) {
        let span = Span::at(Offset::new(start), Length::of(chunk)).unwrap();
        let read = read(session, "/file", span);
        if lost.iter().any(|lost| lost.intersection(span).is_some()) {
            let class = read.as_ref().err().map(StoreError::class);
            assert!(matches!(class, Some(ErrorClass::Corrupt | ErrorClass::Missing)), "{span}: {class:?}");
        } else {
            assert!(read.unwrap() == chunk, "{span}");
        }
    }
    let findings = session.rig.store().check(Depth::Data).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.contains("/file")), "{findings:?}");
    assert!(!findings.iter().any(|finding| finding.contains("/other")), "{findings:?}");
}

#[test]
fn r5_a_changed_object_is_never_served() {
    let mut draws = Draws(seed());
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/file", 1);
    store_in_two(&mut session, "b", "/other", 2);
    let plain = content(1, FILE);
    let object = second_object(&session, "/file");
    let path = layout().object(object);
    let mut other = Vec::new();
    let take = |bytes: &mut Vec<u8>| other.clone_from(bytes);
    session.rig.disk.alter(&layout().object(second_object(&session, "/other")), take).unwrap();
    for _ in 0..if full() { 50 } else { 5 } {
        for mutation in Mutation::drawn(&mut draws) {
            let _case = Case(format!("{mutation:?}"));
            let (mut good, mut lost) = (Vec::new(), Vec::new());
            let change = |bytes: &mut Vec<u8>| {
                good.clone_from(bytes);
                lost = mutation.apply(bytes, &other, &mut draws).spans();
            };
            session.rig.disk.alter(&path, change).unwrap();
            assert_only_lost(&session, &lost, &plain);
            session.rig.disk.alter(&path, |bytes| *bytes = good).unwrap();
            session.actor().assert_agrees(&session.ledger);
        }
    }
    session.rig.disk.remove(&path).unwrap();
    assert_only_lost(&session, &Lost::Object.spans(), &plain);
}

/// A damaged copy must not swallow a good one: uploading the file again heals it.
#[test]
fn r5_a_damaged_file_is_healed_by_another_upload() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/file", 1);
    let damaged = layout().object(second_object(&session, "/file"));
    session.rig.disk.alter(&damaged, |bytes| bytes[HEADER + 5] ^= 1).unwrap();
    session.step(Step::Put { path: "/again", seed: 1, size: FILE }).unwrap();
    session.step(Step::Sweep).unwrap();
    session.actor().assert_agrees(&session.ledger);
    session.assert_nothing_leaks();
}

/// A disk that cannot read is as good as damage: the check names the file, and the sweep goes on with all else.
#[test]
fn a_disk_that_cannot_read_keeps_nothing_else_from_being_swept() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/file", 1);
    session.step(Step::Put { path: "/again", seed: 1, size: FILE }).unwrap();
    session.step(Step::Put { path: "/gone", seed: 2, size: 70_000 }).unwrap();
    session.step(Step::Remove { path: "/gone" }).unwrap();
    session.rig.disk.inject(Fault::from(0, Failure::Io).only(Operation::Read));
    let findings = session.rig.store().check(Depth::Data).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.contains("/file")), "{findings:?}");
    let swept = session.rig.store().sweep(Keep::Nothing).unwrap();
    assert_eq!((swept.blobs_buried, swept.objects_deleted, swept.spares_settled), (1, 1, 0));
    session.rig.disk.heal();
    assert_eq!(session.rig.store().sweep(Keep::Nothing).unwrap().spares_settled, 1);
    session.actor().assert_agrees(&session.ledger);
}

/// The same for a directory that cannot be listed, or whose strays cannot be removed: the next sweep does it.
#[test]
fn a_directory_that_cannot_be_cleaned_keeps_nothing_else_from_being_swept() {
    for operation in [Operation::List, Operation::Remove, Operation::SyncDir] {
        let mut session = Session::new();
        store_in_two(&mut session, "a", "/file", 1);
        session.rig.catalog.fail(CatalogFault::Before, Spell::Once, Report::Busy);
        session.step(Step::Put { path: "/stray", seed: 3, size: 70_000 }).unwrap_err();
        session.rig.end(End::Killed);
        session.step(Step::Create { name: "u", path: "/u", size: 70_000 }).unwrap();
        session.rig.disk.inject(Fault::once(0, Failure::Io).only(operation));
        let swept = session.rig.store().sweep(Keep::Nothing).unwrap();
        assert_eq!(swept.strays_deleted, 0, "{operation:?}");
        session.rig.store().sweep(Keep::Nothing).unwrap();
        // What a removal that was not synced left behind would come back now, in a directory that nobody looks through.
        session.rig.end(End::PowerCut(Torn::Nothing));
        session.rig.store().sweep(Keep::Nothing).unwrap();
        assert_eq!(session.rig.objects_on_disk(), session.rig.objects_in_catalog(), "{operation:?}");
        session.actor().assert_agrees(&session.ledger);
    }
}

#[test]
fn r5_a_changed_inline_file_is_never_served() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<u8>, &[u8])) {
        let world = World::new();
        world.put("/file", &noise(100, 1));
        world.put("/other", &noise(100, 2));
        let entry = world.store.entry(world.space, &world.target("/file").path).unwrap().unwrap();
        let EntryKind::File { blob, .. } = entry.kind else { panic!("it is a file") };
        let catalog = Connection::open(world.path().join("catalog.db")).unwrap();
        let sealed = |which: &str| -> Vec<u8> {
            let query = format!("SELECT sealed FROM inline WHERE content {which} ?1");
            catalog.query_row(&query, [blob.content.0], |row| row.get(0)).unwrap()
        };
        let mut changed = sealed("=");
        change(&mut changed, &sealed("<>"));
        let update = "UPDATE inline SET sealed = ?2 WHERE content = ?1";
        assert_eq!(catalog.execute(update, rusqlite::params![blob.content.0, changed]).unwrap(), 1);
        let read = world.get("/file");
        assert!(read.as_ref().is_err_and(|error| error.class() == ErrorClass::Corrupt), "{read:?}");
        assert!(world.get("/other").unwrap() == noise(100, 2));
        let findings = world.store.check(Depth::Data).unwrap().findings;
        assert!(findings.len() == 1 && findings[0].contains("/file"), "{findings:?}");
    }
    check(|bytes, _| bytes[0] ^= 1);
    check(|bytes, _| bytes[60] ^= 0x80);
    check(|bytes, _| *bytes.last_mut().unwrap() ^= 1);
    check(|bytes, _| bytes.truncate(bytes.len() - 1));
    check(|bytes, _| bytes.push(0));
    check(|bytes, _| bytes.clear());
    check(|bytes, other| bytes.copy_from_slice(other));
    check(|bytes, _| bytes.swap(40, 41));
}

// ---------------------------------------------------------------- nothing to be learnt

/// Byte strings that must be nowhere, each with what it is.
#[derive(Default)]
struct Needles {
    by_start: BTreeMap<[u8; 8], (Vec<u8>, String)>,
    is_start: Vec<bool>,
}

impl Needles {
    fn new() -> Self {
        Self { by_start: BTreeMap::new(), is_start: vec![false; 1 << 16] }
    }

    fn add(&mut self, bytes: &[u8], what: &str) {
        let start = *bytes.first_chunk::<8>().unwrap();
        self.is_start[usize::from(u16::from_le_bytes([start[0], start[1]]))] = true;
        self.by_start.insert(start, (bytes.to_vec(), what.to_owned()));
    }

    fn add_digest(&mut self, digest: &[u8], what: &str) {
        self.add(digest, what);
        self.add(data_encoding::HEXLOWER.encode(digest).as_bytes(), &format!("{what}, in hex"));
        self.add(data_encoding::BASE64.encode(digest).as_bytes(), &format!("{what}, in base 64"));
    }

    /// Adds a file: pieces of 64 bytes, its hash, and the value of its first part.
    fn add_file(&mut self, bytes: &[u8], what: &str) {
        for at in [0, (bytes.len() - 64) / 2, bytes.len() - 64] {
            self.add(&bytes[at..at + 64], &format!("bytes of {what} at {at}"));
        }
        self.add_digest(FileHash::of(bytes).as_bytes(), &format!("the hash of {what}"));
        let mut hasher = PartHasher::new(PartNumber::FIRST);
        hasher.update(bytes).unwrap();
        self.add_digest(hasher.value().unwrap().as_bytes(), &format!("the value of {what}"));
    }

    fn found_in(&self, haystack: &[u8]) -> Option<&str> {
        haystack.windows(8).enumerate().find_map(|(at, start)| {
            if !self.is_start[usize::from(u16::from_le_bytes([start[0], start[1]]))] {
                return None;
            }
            let (needle, what) = self.by_start.get(start)?;
            haystack[at..].starts_with(needle).then_some(what.as_str())
        })
    }
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[track_caller]
fn assert_learns_nothing(dir: &Path, needles: &Needles) {
    let mut files = Vec::new();
    files_below(dir, &mut files);
    for file in files {
        let bytes = fs::read(&file).unwrap();
        if file.ends_with("ballast") {
            assert!(bytes.chunks(1 << 16).all(|chunk| chunk == &vec![0; 1 << 16][..chunk.len()]));
            continue;
        }
        assert_eq!(needles.found_in(&bytes), None, "{}", file.display());
    }
}

#[test]
fn r5_no_content_and_no_digest_can_be_read_in_the_data_directory() {
    let mut needles = Needles::new();
    let world = World::new();
    for (length, seed) in [(100, 1), (4_096, 2), (70_000, 3), (1_300_000, 4)] {
        let bytes = noise(length, seed);
        world.put(&format!("/{length}"), &bytes);
        needles.add_file(&bytes, &format!("a file of {length}"));
    }
    let bytes = noise(300_000, 5);
    let upload = world.create("/upload", 300_000);
    world.send(&upload, 0, 0, &bytes[..100_000], Ending::Complete);
    needles.add_file(&bytes[..100_000], "an open part");
    needles.add_file(&bytes[65_536..100_000], "a tail");
    assert_learns_nothing(world.path(), &needles);
    let world = world.restart();
    world.send(&upload, 0, 100_000, &bytes[100_000..], Ending::Complete);
    needles.add_file(&bytes, "a whole part");
    assert_learns_nothing(world.path(), &needles);
    needles.add(b"hapaxobj", "what an object begins with");
    assert!(needles.found_in(&fs::read(any_object(world.path())).unwrap()).is_some(), "the search finds");
}

fn any_object(dir: &Path) -> PathBuf {
    let mut files = Vec::new();
    files_below(&dir.join("objects"), &mut files);
    files.swap_remove(0)
}
