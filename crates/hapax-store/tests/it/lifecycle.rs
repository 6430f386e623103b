//! The way of a byte: in through parts and files, out through readers, across restarts.

use hapax_proto::digest::FileHash;
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{PART, PartNumber};
use hapax_proto::upload::Held;
use hapax_store::catalog::{EntryKind, Expect};
use hapax_store::error::StoreError;
use hapax_store::sweep::Keep;
use hapax_store::upload::Ending;

use crate::world::{World, noise};

fn part_len() -> usize {
    usize::try_from(PART.get()).unwrap()
}

#[test]
fn files_of_every_kind_of_length_come_back_equal() {
    let world = World::new();
    let lengths = [
        0,
        1,
        4_096,
        4_097,
        65_536,
        65_537,
        1 << 20,
        (1 << 20) + 1,
        part_len() - 1,
        part_len(),
        part_len() + 1,
    ];
    let files: Vec<(String, Vec<u8>)> = lengths
        .into_iter()
        .zip(0..)
        .map(|(length, seed)| (format!("/files/{length}"), noise(length, seed)))
        .collect();
    for (path, bytes) in &files {
        world.put(path, bytes);
    }
    let world = world.restart();
    for (path, bytes) in &files {
        assert!(world.get(path).unwrap() == *bytes, "{path}");
    }
    world.assert_sound();
}

#[test]
fn parts_in_any_order_become_one_file() {
    let world = World::new();
    let bytes = noise(2 * part_len() + 70_000, 1);
    let upload = world.create("/film", bytes.len() as u64);
    let parts: Vec<&[u8]> = bytes.chunks(part_len()).collect();
    for part in [2, 0, 1] {
        world.send(&upload, part, 0, parts[part as usize], Ending::Complete);
    }
    let upload = world.store.upload(upload.id).unwrap();
    let declared = Some(FileHash::of(&bytes));
    world.store.finish_upload(&upload, Length::of(&bytes), Expect::Nothing, declared).unwrap();
    let world = world.restart();
    assert!(world.get("/film").unwrap() == bytes);
    world.assert_sound();
}

#[test]
fn a_cut_part_goes_on_where_it_stopped() {
    let world = World::new();
    let bytes = noise(3_000_000, 2);
    let upload = world.create("/cut", bytes.len() as u64);
    let mut have = 0;
    for cut in [1, 65_535, 65_536, 65_537, 131_072, 1_500_000, 1_500_001, bytes.len()] {
        let kept = world.send(&upload, 0, have as u64, &bytes[have..cut], Ending::Complete);
        assert_eq!(kept, Length::new(cut as u64));
        have = cut;
        let prefix = world.store.upload(upload.id).unwrap();
        let root = world.store.prefix_root(&prefix, Length::new(have as u64)).unwrap();
        assert_eq!(root, Some(FileHash::of(&bytes[..have])), "after {have} bytes");
    }
    let upload = world.store.upload(upload.id).unwrap();
    let declared = Some(FileHash::of(&bytes));
    world.store.finish_upload(&upload, Length::of(&bytes), Expect::Nothing, declared).unwrap();
    assert!(world.get("/cut").unwrap() == bytes);
    world.assert_sound();
}

#[test]
fn a_cut_part_survives_a_restart() {
    let world = World::new();
    let bytes = noise(200_000, 3);
    let upload = world.create("/cut", bytes.len() as u64);
    world.send(&upload, 0, 0, &bytes[..123_456], Ending::Complete);
    let world = world.restart();
    let upload = world.store.upload(upload.id).unwrap();
    let held = world.store.held_part(&upload, PartNumber::FIRST).unwrap();
    assert_eq!(held, Held::Partial { have: Length::new(123_456) });
    world.send(&upload, 0, 123_456, &bytes[123_456..], Ending::Complete);
    let upload = world.store.upload(upload.id).unwrap();
    world.store.finish_upload(&upload, Length::of(&bytes), Expect::Nothing, None).unwrap();
    assert!(world.get("/cut").unwrap() == bytes);
}

#[test]
fn many_small_appends_do_not_scatter_a_part() {
    let world = World::new();
    let bytes = noise(65_536 * 80, 4);
    let upload = world.create("/drops", bytes.len() as u64);
    for (i, chunk) in bytes.chunks(65_536).enumerate() {
        world.send(&upload, 0, i as u64 * 65_536, chunk, Ending::Complete);
    }
    let upload = world.store.upload(upload.id).unwrap();
    let extents = world.store.catalog().extents(upload.content, Span::whole(PART), usize::MAX).unwrap();
    assert!(extents.len() <= 33, "{} extents", extents.len());
    world.store.finish_upload(&upload, Length::of(&bytes), Expect::Nothing, None).unwrap();
    assert!(world.get("/drops").unwrap() == bytes);
    world.assert_sound();
}

#[test]
fn any_span_reads_equal() {
    let world = World::new();
    let bytes = noise(part_len() + 300_000, 5);
    world.put("/file", &bytes);
    let entry = world.store.entry(world.space, &EntryPath::parse("/file").unwrap()).unwrap().unwrap();
    let EntryKind::File { blob, .. } = entry.kind else { panic!("it is a file") };
    let mut reader = world.store.read_blob(&blob).unwrap();
    let borders = [0, 1, 65_535, 65_536, 65_537, part_len() - 1, part_len(), part_len() + 1, bytes.len()];
    for start in borders {
        for end in borders.into_iter().filter(|end| *end >= start) {
            let mut read = Vec::new();
            let span = Span::new(Offset::new(start as u64), Offset::new(end as u64)).unwrap();
            reader.read(span, &mut read).unwrap();
            assert!(read == bytes[start..end], "{span}");
        }
    }
}

#[test]
fn content_that_is_held_already_is_stored_once() {
    let world = World::new();
    let bytes = noise(2_000_000, 6);
    world.put("/one", &bytes);
    world.put("/two", &bytes);
    world.store.sweep(Keep::Nothing).unwrap();
    let stats = world.store.catalog().stats().unwrap();
    assert_eq!((stats.blobs, stats.objects), (1, 1));
    assert!(world.get("/two").unwrap() == bytes);
    world.assert_sound();
}

#[test]
fn what_nobody_points_to_is_swept() {
    let world = World::new();
    world.put("/a", &noise(2_000_000, 7));
    let upload = world.create("/b", 2_000_000);
    world.send(&upload, 0, 0, &noise(2_000_000, 8), Ending::Complete);
    world.store.end_upload(upload.id, hapax_proto::upload::State::Cancelled).unwrap();
    world.store.remove(world.space, EntryPath::parse("/a").unwrap(), Expect::Anything, false).unwrap();
    let swept = world.store.sweep(Keep::Nothing).unwrap();
    assert_eq!((swept.blobs_buried, swept.objects_deleted), (1, 2));
    assert_eq!(world.store.catalog().stats().unwrap().objects, 0);
    world.assert_sound();
}

#[test]
fn a_wrong_declared_value_is_refused_and_the_part_stays_open() {
    let world = World::new();
    let bytes = noise(100_000, 9);
    let upload = world.create("/c", bytes.len() as u64);
    let wrong = hapax_proto::tree::PartValue::new([9; 32]);
    let whole = Length::of(&bytes);
    let mut run =
        world.store.begin_part(&upload, PartNumber::FIRST, Length::ZERO, whole, Some(wrong)).unwrap();
    run.push(&bytes).unwrap();
    assert!(matches!(run.finish(Ending::Complete), Err(StoreError::Mismatch { .. })));
    assert_eq!(world.store.held_part(&upload, PartNumber::FIRST).unwrap(), Held::Nothing);
}
