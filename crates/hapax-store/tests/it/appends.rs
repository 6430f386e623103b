//! Appends: whatever the cuts, the prefix is what came, and what does not verify never counts.

use hapax_proto::digest::{Digests, FileHash};
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Offset};
use hapax_proto::tree::{PART, PartNumber};
use hapax_store::append::Counts;
use hapax_store::catalog::{Expect, Meta, Upload};
use hapax_store::upload::{CreateUpload, Ending};
use proptest::prelude::*;

use crate::world::{World, noise};

fn part_len() -> usize {
    usize::try_from(PART.get()).unwrap()
}

fn create(world: &World, size: Option<usize>) -> Upload {
    let new = CreateUpload {
        user: world.user,
        key: None,
        space: world.space,
        path: EntryPath::parse("/up").unwrap(),
        size: size.map(|size| Length::new(size as u64)),
        meta: Meta::default(),
        precondition: None,
        declared: Digests::default(),
        notes: None,
        members: Vec::new(),
    };
    world.store.create_upload(new).unwrap().0
}

fn offset(world: &World, upload: &Upload) -> usize {
    usize::try_from(world.store.standing(upload.id).unwrap().1.get()).unwrap()
}

fn append(world: &World, upload: &Upload, bytes: &[u8], counts: Counts) -> hapax_store::append::AppendIntake {
    let at = Offset::new(offset(world, upload) as u64);
    let upload = world.store.upload(upload.id).unwrap();
    let mut append = world.store.begin_append(&upload, at, Some(Length::of(bytes)), counts).unwrap();
    for chunk in bytes.chunks(256 << 10) {
        append.push(chunk).unwrap();
    }
    append
}

#[track_caller]
fn finish(world: &World, upload: &Upload, bytes: &[u8]) {
    let size = Length::of(bytes);
    let upload = world.store.upload(upload.id).unwrap();
    let upload = match upload.size {
        Some(_) => upload,
        None => world.store.resize_upload(&upload, size, None).unwrap(),
    };
    world.store.close_last_part(&upload).unwrap();
    let upload = world.store.upload(upload.id).unwrap();
    world.store.finish_upload(&upload, size, Expect::Anything, Some(FileHash::of(bytes))).unwrap();
    assert!(world.get("/up").unwrap() == bytes);
    world.assert_sound();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_cuts_make_the_same_file(
        length in 0..(40usize << 20),
        cuts in proptest::collection::vec(0.0..1.0f64, 0..6),
        known in any::<bool>(),
        verified in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let bytes = noise(length, seed);
        let world = World::new();
        let upload = create(&world, known.then_some(length));
        let counts = if verified { Counts::OnceVerified } else { Counts::AtOnce };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a cut anywhere")]
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| (cut * length as f64) as usize).collect();
        cuts.sort_unstable();
        cuts.push(length);
        let mut from = 0;
        for to in cuts {
            append(&world, &upload, &bytes[from..to], counts).finish().unwrap();
            prop_assert_eq!(offset(&world, &upload), to);
            let now = world.store.upload(upload.id).unwrap();
            let root = world.store.prefix_root(&now, Length::new(to as u64)).unwrap();
            prop_assert_eq!(root, Some(FileHash::of(&bytes[..to])));
            from = to;
        }
        finish(&world, &upload, &bytes);
    }
}

#[test]
fn what_does_not_verify_leaves_the_prefix_as_it_was() {
    let world = World::new();
    let bytes = noise(2 * part_len() + 100_000, 1);
    let upload = create(&world, Some(bytes.len()));
    let kept = 70_000;
    append(&world, &upload, &bytes[..kept], Counts::AtOnce).finish().unwrap();
    let wrong = noise(bytes.len() - kept, 2);
    let running = append(&world, &upload, &wrong, Counts::OnceVerified);
    assert_eq!(offset(&world, &upload), kept, "nothing counts before it is verified");
    running.discard().unwrap();
    assert_eq!(offset(&world, &upload), kept);
    let held = world.store.received(upload.id, PartNumber::FIRST, 10).unwrap().1;
    assert!(held.parts.is_empty(), "{held:?}");
    append(&world, &upload, &bytes[kept..], Counts::OnceVerified).finish().unwrap();
    finish(&world, &upload, &bytes);
}

#[test]
fn what_does_not_verify_leaves_what_lay_behind_the_prefix() {
    let world = World::new();
    let bytes = noise(3 * part_len(), 9);
    let upload = create(&world, Some(bytes.len()));
    world.send(&upload, 1, 0, &bytes[part_len()..2 * part_len()], Ending::Complete);
    let wrong = append(&world, &upload, &noise(bytes.len(), 10), Counts::OnceVerified);
    wrong.discard().unwrap();
    append(&world, &upload, &bytes[..part_len()], Counts::AtOnce).finish().unwrap();
    assert_eq!(offset(&world, &upload), 2 * part_len(), "the part is still there, and is itself");
    append(&world, &upload, &bytes[2 * part_len()..], Counts::AtOnce).finish().unwrap();
    finish(&world, &upload, &bytes);
}

#[test]
fn a_long_append_that_does_not_verify_leaves_nothing_however_it_ends() {
    for drops in [false, true] {
        let world = World::new();
        let upload = create(&world, None);
        let wrong = vec![7; 18 * part_len() + 1];
        let running = append(&world, &upload, &wrong, Counts::OnceVerified);
        let received = || world.store.received(upload.id, PartNumber::FIRST, 10).unwrap().1.spans;
        assert_eq!(received().len(), 1, "what is too long to be kept back lies behind a hole");
        assert_eq!(offset(&world, &upload), 0);
        if drops {
            drop(running);
        } else {
            running.discard().unwrap();
        }
        assert_eq!(received(), [], "dropped: {drops}");
    }
}

#[test]
fn an_append_that_is_dropped_is_worth_what_was_committed() {
    let world = World::new();
    let bytes = noise(3 * part_len(), 3);
    let upload = create(&world, Some(bytes.len()));
    drop(append(&world, &upload, &bytes[..2 * part_len() + 5], Counts::AtOnce));
    let world = world.restart();
    let durable = offset(&world, &upload);
    assert!(durable == part_len() || durable == 2 * part_len(), "{durable}");
    append(&world, &upload, &bytes[durable..], Counts::AtOnce).finish().unwrap();
    finish(&world, &upload, &bytes);
}

#[test]
fn an_append_that_reaches_an_island_jumps_to_its_end() {
    let world = World::new();
    let bytes = noise(3 * part_len(), 4);
    let upload = create(&world, Some(bytes.len()));
    world.send(&upload, 1, 0, &bytes[part_len()..2 * part_len()], Ending::Complete);
    append(&world, &upload, &bytes[..part_len()], Counts::AtOnce).finish().unwrap();
    assert_eq!(offset(&world, &upload), 2 * part_len());
    append(&world, &upload, &bytes[2 * part_len()..], Counts::AtOnce).finish().unwrap();
    finish(&world, &upload, &bytes);
}

#[test]
fn bytes_over_an_island_supersede_it() {
    let world = World::new();
    let bytes = noise(2 * part_len(), 5);
    let upload = create(&world, Some(bytes.len()));
    let other = noise(part_len(), 6);
    world.send(&upload, 1, 0, &other, Ending::Complete);
    append(&world, &upload, &bytes, Counts::AtOnce).finish().unwrap();
    finish(&world, &upload, &bytes);
}

/// An append that ended inside an island was answered with the island's end, while the island kept its own bytes.
#[test]
fn bytes_that_end_inside_an_island_are_what_is_read_afterwards() {
    let whole = part_len();
    // How much of the second part is held, and how much of it an append brings.
    for (island, comes) in
        [(whole, 10), (whole, 70_000), (200_000, 10), (200_000, 70_000), (200_000, 199_999)]
    {
        let bytes = noise(2 * whole, 7);
        let other = noise(whole, 8);
        for differs in [false, true] {
            let world = World::new();
            let upload = create(&world, Some(bytes.len()));
            let island = if differs { &other[..island] } else { &bytes[whole..whole + island] };
            world.send(&upload, 1, 0, island, Ending::Complete);
            append(&world, &upload, &bytes[..whole + comes], Counts::AtOnce).finish().unwrap();
            let at = offset(&world, &upload);
            assert_eq!(at, whole + if differs { comes } else { island.len() }, "{comes} of {}", island.len());
            append(&world, &upload, &bytes[at..], Counts::AtOnce).finish().unwrap();
            finish(&world, &upload, &bytes);
        }
    }
}

/// A part that counted as whole, because nobody had told where the file ends, could not be gone on with: every append
/// behind it was refused.
#[test]
fn an_append_goes_on_behind_a_part_that_counted_as_whole() {
    let bytes = noise(part_len() + 9, 11);
    for short in [5, 70_000, 3 << 20] {
        let world = World::new();
        let upload = create(&world, None);
        let length = Length::new(short as u64);
        let mut run = world.store.begin_part(&upload, PartNumber::FIRST, Length::ZERO, length, None).unwrap();
        run.push(&bytes[..short]).unwrap();
        assert!(run.finish(Ending::Complete).unwrap().wait().unwrap().value.is_some());
        append(&world, &upload, &bytes[short..], Counts::AtOnce).finish().unwrap();
        finish(&world, &upload, &bytes);
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let world = World::new();
    let upload = create(&world, Some(10));
    let mut running = world.store.begin_append(&upload, Offset::ZERO, None, Counts::AtOnce).unwrap();
    running.push(&[7; 10]).unwrap();
    assert!(running.push(&[7]).is_err());
    running.finish().unwrap();
    assert_eq!(offset(&world, &upload), 10);
}
