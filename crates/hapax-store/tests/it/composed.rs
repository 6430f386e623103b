//! Files composed of other uploads: not a byte is written for them, they are there at once, and what they are is
//! found out later, across restarts.

use std::cell::Cell;

use hapax_proto::digest::{Algorithm, Digest, Digests, FileHash};
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PART, PartHasher, PartNumber, merge_parts};
use hapax_proto::upload::State;
use hapax_store::catalog::{Blob, Entry, EntryKind, Expect, Meta, Refusal, Upload, UploadId};
use hapax_store::compose::Members;
use hapax_store::error::StoreError;
use hapax_store::job::{Go, UNPACED};
use hapax_store::upload::{CreateUpload, Ending};
use proptest::prelude::*;

use crate::world::{World, noise};

/// Composes a file of pieces, whose identity is pending then.
pub(crate) fn compose(world: &World, path: &str, pieces: &[&[u8]]) {
    let members = pieces.iter().map(|piece| member(world, piece)).collect();
    publish(world, &whole(world, path, members, Digests::default())).unwrap();
}

/// Makes a member that has all its bytes.
fn member(world: &World, bytes: &[u8]) -> UploadId {
    let upload = world.create("/member", bytes.len() as u64);
    for (number, part) in (0..).zip(bytes.chunks(usize::try_from(PART.get()).unwrap())) {
        world.send(&upload, number, 0, part, Ending::Complete);
    }
    upload.id
}

fn whole(world: &World, path: &str, members: Vec<UploadId>, declared: Digests) -> Upload {
    let new = CreateUpload {
        user: world.user,
        key: None,
        space: world.space,
        path: EntryPath::parse(path).unwrap(),
        size: None,
        meta: Meta::default(),
        precondition: None,
        declared,
        notes: None,
        members,
    };
    world.store.create_upload(new).unwrap().0
}

fn publish(world: &World, upload: &Upload) -> Result<(), StoreError> {
    let Members::Complete { size } = world.store.look_at_members(upload)? else {
        return Err(Refusal::Incomplete.into());
    };
    let upload = world.store.compose(upload)?;
    world.store.finish_composed(&upload, size, Expect::Anything).map(drop)
}

fn file(world: &World, path: &str) -> (Blob, String) {
    let entry = world.store.entry(world.space, &EntryPath::parse(path).unwrap()).unwrap();
    let Some(Entry { kind: EntryKind::File { blob, entity, .. }, .. }) = entry else { panic!("no file") };
    (blob, world.store.entity_tag(&entity))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn any_members_make_the_file_of_all_their_bytes(
        lengths in proptest::collection::vec(
            prop_oneof![0..70_000usize, 0..(20usize << 20), Just(16 << 20), Just(32 << 20)], 0..5),
        again in any::<proptest::sample::Index>(),
    ) {
        let world = World::new();
        let pieces: Vec<_> = (1..).zip(&lengths).map(|(seed, length)| noise(*length, seed)).collect();
        let mut members: Vec<_> = pieces.iter().map(|piece| member(&world, piece)).collect();
        let mut bytes = pieces.concat();
        if !members.is_empty() {
            let twice = again.index(members.len());
            members.push(members[twice]);
            bytes.extend_from_slice(&pieces[twice]);
        }
        let before = world.store.catalog().stats().unwrap();
        if members.is_empty() {
            members.push(member(&world, b""));
        }
        let upload = whole(&world, "/whole", members, Digests::default());
        publish(&world, &upload).unwrap();
        let after = world.store.catalog().stats().unwrap();
        prop_assert_eq!((before.objects, before.stored), (after.objects, after.stored), "no byte is written");
        prop_assert!(world.get("/whole").unwrap() == bytes);
        let (blob, tag) = file(&world, "/whole");
        prop_assert_eq!(world.store.known_identity(&blob).unwrap().is_none(), !bytes.is_empty());

        world.store.identify_pending(UNPACED).unwrap();
        let (blob, tag_after) = file(&world, "/whole");
        prop_assert_eq!(world.store.identity(&blob).unwrap().blake3, FileHash::of(&bytes));
        prop_assert_eq!(tag, tag_after);
        if blob.size > PART {
            let values = world.store.part_values(blob.content).unwrap();
            prop_assert_eq!(values.len() as u64, hapax_proto::tree::part_count(blob.size));
        }
        world.assert_sound();
    }
}

/// What is looked up by a row that was read before is not lost, nor taken for damaged: both once were.
#[test]
fn what_was_looked_up_before_it_was_identified_is_found() {
    // The second is found to be what is there already.
    for is_known in [false, true] {
        let world = World::new();
        let bytes = noise(300_000, 1);
        if is_known {
            world.put("/known", &bytes);
        }
        let members = vec![member(&world, &bytes[..100_000]), member(&world, &bytes[100_000..])];
        let upload = whole(&world, "/whole", members, Digests::default());
        publish(&world, &upload).unwrap();
        let (upload, (blob, _)) = (world.store.upload(upload.id).unwrap(), file(&world, "/whole"));
        assert_eq!(world.store.file_of_upload(&upload).unwrap(), Some(blob.clone()));

        world.store.identify_pending(UNPACED).unwrap();
        let (now, _) = file(&world, "/whole");
        world.store.compute_digests(&now, [Algorithm::Md5]).unwrap();
        assert_eq!(world.store.file_of_upload(&upload).unwrap(), Some(now));
        assert_eq!(world.store.known_digests(&blob).unwrap(), Digests::default());
        world
            .store
            .remove(world.space, EntryPath::parse("/whole").unwrap(), Expect::Anything, false)
            .unwrap();
        assert_eq!(world.store.file_of_upload(&upload).unwrap().is_some(), is_known);
    }
}

#[test]
fn a_restart_goes_on_behind_the_parts_that_are_known() {
    let world = World::new();
    let bytes = [noise(5, 1), noise(35 << 20, 2), noise(16 << 20, 3)].concat();
    let members = vec![member(&world, &bytes[..5]), member(&world, &bytes[5..5 + (35 << 20)])];
    let members = [members, vec![member(&world, &bytes[5 + (35 << 20)..])]].concat();
    let upload = whole(&world, "/whole", members, Digests::default());
    publish(&world, &upload).unwrap();
    let read = Cell::new(Length::ZERO);
    let two_parts = |length: Length| {
        read.set(read.get().checked_add(length).unwrap());
        if read.get() > Length::new(2 * PART.get()) { Go::Stop } else { Go::On }
    };
    assert_eq!(world.store.identify_pending(&two_parts).unwrap(), 0);
    let (blob, _) = file(&world, "/whole");
    assert_eq!(world.store.part_values(blob.content).unwrap().len(), 2, "what was computed is kept");
    assert!(matches!(world.store.identity(&blob), Err(StoreError::Pending)));
    let world = world.restart();
    assert_eq!(world.store.identify_pending(UNPACED).unwrap(), 1);
    assert_eq!(world.store.identity(&file(&world, "/whole").0).unwrap().blake3, FileHash::of(&bytes));
    assert_eq!(world.store.identify_pending(UNPACED).unwrap(), 0);
    world.assert_sound();
}

/// A value is masked for the place of its part: where the compaction moved the part meanwhile, it brought the value.
#[test]
fn parts_that_move_while_they_are_identified_keep_the_values_of_their_new_places() {
    let world = World::new();
    let bytes = [noise(5, 1), noise(35 << 20, 2), noise(16 << 20, 3)].concat();
    let members: Vec<_> = [&bytes[..5], &bytes[5..5 + (35 << 20)], &bytes[5 + (35 << 20)..]]
        .into_iter()
        .map(|piece| member(&world, piece))
        .collect();
    publish(&world, &whole(&world, "/whole", members.clone(), Digests::default())).unwrap();
    for member in members {
        world.store.end_upload(member, State::Cancelled).unwrap();
    }
    let (read, moved) = (Cell::new(Length::ZERO), Cell::new(0));
    let compacts = |length: Length| {
        read.set(read.get().checked_add(length).unwrap());
        if moved.get() == 0 && read.get() > Length::new(2 * PART.get()) {
            moved.set(world.store.compact(UNPACED).unwrap().parts);
        }
        Go::On
    };
    assert_eq!(world.store.identify_pending(&compacts).unwrap(), 1);
    assert_eq!(moved.get(), 4, "every part was in pieces");
    let (blob, _) = file(&world, "/whole");
    assert_eq!(world.store.identity(&blob).unwrap().blake3, FileHash::of(&bytes));
    let values = world.store.part_values(blob.content).unwrap().into_iter().map(|(_, value)| value);
    let root = merge_parts(&values.collect::<Vec<_>>()).unwrap();
    assert_eq!(root, FileHash::of(&bytes));
    world.assert_sound();
}

/// Two values under one mask show their difference to whoever steals the catalog, and so whether a known file is there.
#[test]
fn parts_that_begin_in_the_same_place_have_masks_of_their_own() {
    let world = World::new();
    let (first, ends) = (noise(20 << 20, 1), [noise(3 << 20, 2), noise(3 << 20, 3)]);
    let shared = member(&world, &first);
    for (path, end) in ["/one", "/other"].into_iter().zip(&ends) {
        publish(&world, &whole(&world, path, vec![shared, member(&world, end)], Digests::default())).unwrap();
    }
    let ended = world.store.upload(shared).unwrap().content;
    assert_eq!(world.store.identify_pending(UNPACED).unwrap(), 2);
    let all = Span::whole(Length::new(1 << 40));
    let second_part = |content| {
        let extents = world.store.catalog().extents(content, all, 9).unwrap();
        extents.into_iter().find(|extent| extent.span.start() == PartNumber::new(1).start()).unwrap()
    };
    let [one, other] = ["/one", "/other"].map(|path| file(&world, path).0);
    let places = [one.content, other.content, ended].map(second_part);
    assert!(places.windows(2).all(|two| two[0].object == two[1].object));
    let masked: Vec<_> = places.iter().map(|extent| extent.value.unwrap().masked).collect();
    for (blob, end, extent) in [(&one, &ends[0], masked[0]), (&other, &ends[1], masked[1])] {
        let values: Vec<_> =
            world.store.part_values(blob.content).unwrap().into_iter().map(|(_, value)| value).collect();
        assert_eq!(merge_parts(&values).unwrap(), FileHash::of(&[&first[..], end].concat()));
        // Under the mask of the piece the difference of the masked would be that of the values.
        let mut piece = PartHasher::new(PartNumber::new(1));
        piece.update(&first[16 << 20..]).unwrap();
        let xor = |one: &[u8; 32], other: &[u8; 32]| one.iter().zip(other).map(|(a, b)| a ^ b).collect();
        let (shown, real): (Vec<u8>, Vec<u8>) =
            (xor(&extent, &masked[2]), xor(values[1].as_bytes(), piece.value().unwrap().as_bytes()));
        assert_ne!(shown, real);
    }
    world.assert_sound();
}

#[test]
fn content_that_is_held_already_is_linked_when_it_is_known() {
    let world = World::new();
    let bytes = noise(20 << 20, 1);
    world.put("/held", &bytes);
    let upload = whole(&world, "/whole", vec![member(&world, &bytes)], Digests::default());
    publish(&world, &upload).unwrap();
    let tag = file(&world, "/whole").1;
    assert_eq!(world.store.identify_pending(UNPACED).unwrap(), 1);
    let (blob, tag_after) = file(&world, "/whole");
    assert_eq!(blob.id, file(&world, "/held").0.id);
    assert_eq!(tag, tag_after, "readers go on where they are");
    assert!(world.get("/whole").unwrap() == bytes);
    world.assert_sound();
}

#[test]
fn a_declared_digest_is_compared_before_anything_is_visible() {
    let world = World::new();
    let bytes = noise(100_000, 1);
    let declared = |bytes: &[u8]| [Digest::from(FileHash::of(bytes))].into_iter().collect::<Digests>();
    let members = vec![member(&world, &bytes[..7]), member(&world, &bytes[7..])];
    let wrong = whole(&world, "/wrong", members.clone(), declared(b"another"));
    assert!(matches!(publish(&world, &wrong), Err(StoreError::Mismatch { .. })));
    assert!(world.store.entry(world.space, &EntryPath::parse("/wrong").unwrap()).unwrap().is_none());
    let right = whole(&world, "/right", members, declared(&bytes));
    publish(&world, &right).unwrap();
    let known = world.store.known_digests(&file(&world, "/right").0).unwrap();
    assert_eq!(known.get(Algorithm::Blake3), Some(Digest::from(FileHash::of(&bytes))));
}

#[test]
fn members_that_are_unfinished_or_gone_make_no_file() {
    let world = World::new();
    let unfinished = world.create("/member", 10);
    world.send(&unfinished, 0, 0, b"12345", Ending::Complete);
    let upload = whole(&world, "/whole", vec![unfinished.id], Digests::default());
    assert_eq!(world.store.look_at_members(&upload).unwrap(), Members::Unfinished);
    world.send(&unfinished, 0, 5, b"67890", Ending::Complete);
    let size = Length::new(10);
    assert_eq!(world.store.look_at_members(&upload).unwrap(), Members::Complete { size });
    world.store.end_upload(unfinished.id, State::Cancelled).unwrap();
    let gone = world.store.look_at_members(&upload);
    assert!(matches!(gone, Err(StoreError::Refused(Refusal::NotFound))));
    world.assert_sound();
}

#[test]
fn a_composed_file_outlives_its_members_and_frees_their_room_with_itself() {
    let world = World::new();
    let bytes = noise(3 << 20, 1);
    let part = member(&world, &bytes);
    let upload = whole(&world, "/whole", vec![part, part], Digests::default());
    publish(&world, &upload).unwrap();
    world.store.end_upload(part, State::Cancelled).unwrap();
    world.store.sweep(hapax_store::sweep::Keep::Nothing).unwrap();
    assert!(world.get("/whole").unwrap() == [bytes.as_slice(), &bytes].concat());
    world.store.identify_pending(UNPACED).unwrap();
    world.assert_sound();
}

#[test]
fn the_reading_of_a_composed_file_ends_when_it_is_told_to() {
    let world = World::new();
    let bytes = noise(3 << 20, 1);
    let declared: Digests = [Digest::from(FileHash::of(&bytes))].into_iter().collect();
    let upload = whole(&world, "/x", vec![member(&world, &bytes)], declared);
    let upload = world.store.compose(&upload).unwrap();
    let size = Length::of(&bytes);
    let read = Cell::new(Length::ZERO);
    let once = |length: Length| if read.replace(length).is_zero() { Go::On } else { Go::Stop };
    let stopped = world.store.verify_composed(&upload, size, &once);
    assert!(matches!(stopped, Err(StoreError::Stopped)), "{stopped:?}");
    assert!(read.get() < size);
    let verified = world.store.verify_composed(&upload, size, UNPACED).unwrap();
    world.store.finish_composed_as(&upload, size, Expect::Nothing, verified.as_ref()).unwrap();
}
