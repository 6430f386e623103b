//! Proofs of possession are of every byte, and a quick digest finds what is like it.

use std::cell::Cell;

use hapax_proto::claim::{ProofHasher, QuickHasher, Seed, quick_spans};
use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::span::{Length, Span};
use hapax_store::catalog::Blob;
use hapax_store::job::Go;

use crate::world::{World, noise};

const MIB: usize = 1 << 20;

fn to_usize(span: Span) -> std::ops::Range<usize> {
    usize::try_from(span.start().get()).unwrap()..usize::try_from(span.end().get()).unwrap()
}

fn quick(bytes: &[u8]) -> FileHash {
    let size = Length::of(bytes);
    let mut hasher = QuickHasher::new(size);
    for span in quick_spans(size) {
        hasher.update(&bytes[to_usize(span)]);
    }
    hasher.finish()
}

fn put(world: &World, path: &str, bytes: &[u8]) -> Blob {
    world.put(path, bytes);
    let fingerprint =
        world.store.fingerprint(&Identity { blake3: FileHash::of(bytes), size: Length::of(bytes) });
    world.store.catalog().blob_in_space(world.space, &fingerprint).unwrap().unwrap()
}

#[test]
fn a_proof_is_of_every_byte_however_it_is_kept() {
    let world = World::new();
    for (name, size) in [("/inline", 40), ("/small", 70_000), ("/large", 17 * MIB + 5)] {
        let bytes = noise(size, 7);
        let blob = put(&world, name, &bytes);
        let begin =
            || ProofHasher::new(&Seed::new([3; 32]), &FileHash::of(&bytes).into(), Length::of(&bytes));
        let mut hasher = begin();
        hasher.update(&bytes);
        let go = |_| Go::On;
        assert_eq!(world.store.expected_proof(&blob, begin(), &go).unwrap(), Some(hasher.finish()), "{name}");
    }
}

#[test]
fn a_proof_that_nobody_waits_for_is_not_read_to_its_end() {
    let world = World::new();
    let bytes = noise(17 * MIB, 1);
    let blob = put(&world, "/a", &bytes);
    let asked = Cell::new(0);
    let go = |_| {
        asked.set(asked.get() + 1);
        if asked.get() == 3 { Go::Stop } else { Go::On }
    };
    let hasher = ProofHasher::new(&Seed::new([3; 32]), &FileHash::of(&bytes).into(), Length::of(&bytes));
    assert_eq!(world.store.expected_proof(&blob, hasher, &go).unwrap(), None);
    assert_eq!(asked.get(), 3);
}

#[test]
fn a_quick_digest_finds_what_is_like_it_in_its_own_space() {
    let world = World::new();
    let bytes = noise(9 * MIB, 2);
    world.put("/a", &bytes);
    let may_hold = |bytes: &[u8]| {
        world.store.may_hold(world.space, (Length::of(bytes), quick(bytes)), &|_| true).unwrap()
    };
    assert!(may_hold(&bytes));
    assert!(!may_hold(&bytes[1..]));
    for at in [0, 4 * MIB, 9 * MIB - 1] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(!may_hold(&other), "byte {at}");
    }
    // What is not read is not seen: that is for the whole digest to find out.
    let mut twin = bytes.clone();
    twin[2 * MIB] ^= 1;
    assert!(may_hold(&twin));
    let eve = world.store.create_user("eve".into(), String::new(), false).unwrap();
    let eve = world.store.catalog().users().unwrap().into_iter().find(|user| user.id == eve).unwrap();
    assert!(!world.store.may_hold(eve.space, (Length::of(&bytes), quick(&bytes)), &|_| true).unwrap());
    let asked = (Length::of(&bytes), quick(&bytes[1..]));
    assert!(world.store.may_hold(world.space, asked, &|_| false).unwrap(), "nothing may be read");
    // Too small to be worth the question.
    assert!(world.store.may_hold(eve.space, (Length::new(7), quick(b"1234567")), &|_| true).unwrap());
}

#[test]
fn so_many_of_one_size_are_not_all_read() {
    let world = World::new();
    let size = MIB + 1;
    for number in 0..4 {
        world.put(&format!("/{number}"), &noise(size, number));
    }
    let new = noise(size, 99);
    assert!(!world.store.may_hold(world.space, (Length::of(&new), quick(&new)), &|_| true).unwrap());
    world.put("/4", &noise(size, 4));
    assert!(world.store.may_hold(world.space, (Length::of(&new), quick(&new)), &|_| true).unwrap());
}
