//! Contents are found by digests that a job computes: once, after whatever interrupted it, and never by their size alone.

use std::cell::Cell;

use hapax_proto::digest::{Algorithm, Digest, FileHash, Hasher};
use hapax_proto::name::EntryPath;
use hapax_proto::span::Length;
use hapax_store::catalog::EntryKind;
use hapax_store::job::{Go, UNPACED};

use crate::composed::compose;
use crate::world::{World, noise};

const WANTED: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha1];

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    hasher.digests().get(algorithm).unwrap()
}

/// Returns what is found of a size by a digest.
fn find(world: &World, digest: &Digest, size: Length) -> Vec<FileHash> {
    let found = world.store.find_by_digest(Some(world.space), digest, size, 9).unwrap();
    found.iter().map(|blob| world.store.identity(blob).unwrap().blake3).collect()
}

/// Tells by how many of the wanted algorithms a content is found.
fn found_by(world: &World, bytes: &[u8]) -> usize {
    let found = |algorithm: &&Algorithm| {
        let found = find(world, &digest(**algorithm, bytes), Length::of(bytes));
        assert!(found.is_empty() || found == [FileHash::of(bytes)], "{algorithm} finds another content");
        !found.is_empty()
    };
    WANTED.iter().filter(found).count()
}

/// Runs the job, and returns how many contents it hashed and how often it asked whether to go on.
fn run(world: &World, asks_max: usize) -> (usize, usize) {
    let asked = Cell::new(0);
    let go = |_| {
        asked.set(asked.get() + 1);
        if asked.get() > asks_max { Go::Stop } else { Go::On }
    };
    (world.store.compute_lookups(&WANTED, &go).unwrap(), asked.get())
}

fn backlog(world: &World) -> u64 {
    world.store.lookup_backlog(&WANTED).unwrap()
}

#[test]
fn every_content_is_found_by_its_digests_and_its_size() {
    let world = World::new();
    let contents = [noise(0, 1), noise(4_096, 2), noise(70_000, 3), noise((17 << 20) + 5, 4)];
    for (number, bytes) in contents.iter().enumerate() {
        world.put(&format!("/f{number}"), bytes);
        assert_eq!(found_by(&world, bytes), 0);
    }
    assert_eq!(backlog(&world), 4);
    assert_eq!(run(&world, usize::MAX).0, 4);
    assert_eq!(backlog(&world), 0);
    for bytes in &contents {
        assert_eq!(found_by(&world, bytes), WANTED.len());
        let longer = Length::new(bytes.len() as u64 + 1);
        assert_eq!(find(&world, &digest(Algorithm::Md5, bytes), longer), []);
    }
    // Not in a space that does not show it.
    let other = world.store.create_user("eve".to_owned(), "$hash".to_owned(), false).unwrap();
    let eve = world.store.catalog().user("eve").unwrap().unwrap();
    assert_eq!(eve.id, other);
    let md5 = digest(Algorithm::Md5, &contents[2]);
    assert_eq!(world.store.find_by_digest(Some(eve.space), &md5, Length::new(70_000), 9).unwrap(), []);
}

#[test]
fn what_was_hashed_is_not_hashed_again() {
    let world = World::new();
    world.put("/a", &noise(70_000, 1));
    assert_eq!(run(&world, usize::MAX), (1, 1));
    assert_eq!(run(&world, usize::MAX), (0, 0));
    world.put("/b", &noise(70_000, 2));
    // The same content under another name is no other content.
    world.put("/c", &noise(70_000, 1));
    assert_eq!(run(&world, usize::MAX), (1, 1));
    world.store.look_at_all_again();
    assert_eq!(run(&world, usize::MAX), (0, 0));
    let world = world.restart();
    assert_eq!(run(&world, usize::MAX), (0, 0));
}

/// It is asked before each content and between two pieces of 256 KiB, and goes on wherever it was told to stop.
#[test]
fn a_job_that_was_stopped_goes_on_with_what_is_missing() {
    let contents = [noise(100_000, 1), noise(1 << 20, 2), noise(100_000, 3)];
    for asks in 0..=6 {
        let world = World::new();
        for (number, bytes) in contents.iter().enumerate() {
            world.put(&format!("/f{number}"), bytes);
        }
        let (hashed, asked) = run(&world, asks);
        assert_eq!(hashed, [0, 1, 1, 1, 1, 2, 3][asks], "stopped at ask {asks}");
        assert_eq!(asked, (asks + 1).min(6));
        assert_eq!(backlog(&world), 3 - hashed as u64);
        let world = if asks % 2 == 0 { world.restart() } else { world };
        assert_eq!(run(&world, usize::MAX).0, 3 - hashed, "stopped at ask {asks}");
        assert!(contents.iter().all(|bytes| found_by(&world, bytes) == WANTED.len()));
    }
}

#[test]
fn a_composed_file_is_found_once_it_is_identified() {
    let world = World::new();
    let (one, other) = (noise(70_000, 1), noise(50_000, 2));
    compose(&world, "/composed", &[&one, &other]);
    world.put("/later", &other);
    let whole = [one, other.clone()].concat();
    assert_eq!(run(&world, usize::MAX).0, 1);
    assert_eq!((found_by(&world, &other), found_by(&world, &whole)), (WANTED.len(), 0));
    assert_eq!(backlog(&world), 0, "nothing can be done about it yet");
    world.store.identify_pending(UNPACED).unwrap();
    assert_eq!(backlog(&world), 1);
    assert_eq!(run(&world, usize::MAX).0, 1);
    assert_eq!(found_by(&world, &whole), WANTED.len());
}

/// What schema 4 and older kept has no lookup value; the digests themselves need no reading.
#[test]
fn digests_of_an_older_schema_are_found_without_reading_again() {
    let world = World::new();
    let bytes = noise(1 << 20, 1);
    world.put("/a", &bytes);
    run(&world, usize::MAX);
    let dir = world.close();
    let old = rusqlite::Connection::open(dir.path().join("catalog.db")).unwrap();
    assert_eq!(old.execute("UPDATE digests SET lookup = NULL", []).unwrap(), WANTED.len());
    drop(old);
    let world = World::reopen(dir);
    assert_eq!((found_by(&world, &bytes), backlog(&world)), (0, 1));
    assert_eq!(run(&world, usize::MAX), (1, 1));
    assert_eq!((found_by(&world, &bytes), backlog(&world)), (WANTED.len(), 0));
}

#[test]
fn a_content_that_cannot_be_read_keeps_nothing_else_from_being_hashed() {
    let world = World::new();
    let (bad, good) = (noise(2 << 20, 1), noise(70_000, 2));
    world.put("/bad", &bad);
    let path = EntryPath::parse("/bad").unwrap();
    let entry = world.store.entry(world.space, &path).unwrap().unwrap();
    let EntryKind::File { blob, .. } = entry.kind else { panic!("a folder") };
    let extents = world.store.catalog().extents(blob.content, hapax_proto::span::Span::whole(blob.size), 1);
    let object = extents.unwrap()[0].object;
    let file = world.path().join(format!("objects/{:08x}/{}", object.dir.get(), object.id));
    let mut sealed = std::fs::read(&file).unwrap();
    sealed[1_000] ^= 1;
    std::fs::write(&file, sealed).unwrap();
    world.put("/good", &good);
    assert_eq!(run(&world, usize::MAX).0, 1);
    assert_eq!((found_by(&world, &bad), found_by(&world, &good), backlog(&world)), (0, WANTED.len(), 1));
}

#[test]
fn what_is_known_to_be_right_is_found_at_once() {
    let world = World::new();
    let bytes = noise(70_000, 1);
    world.put("/a", &bytes);
    let mut hasher = Hasher::new(WANTED);
    hasher.update(&bytes);
    let entry = world.store.entry(world.space, &EntryPath::parse("/a").unwrap()).unwrap().unwrap();
    let EntryKind::File { blob, .. } = entry.kind else { panic!("a folder") };
    world.store.keep_digests(&blob, &hasher.digests()).unwrap();
    assert_eq!(found_by(&world, &bytes), WANTED.len());
    assert_eq!(run(&world, usize::MAX), (0, 0));
}
