//! What is read of an unfinished upload: any span it holds, tails included, as it was at one moment.

use hapax_proto::digest::{Algorithm, Hasher};
use hapax_proto::span::{Offset, Span};
use hapax_proto::tree::PART;
use hapax_store::catalog::{Refusal, Upload};
use hapax_store::durable::{Durable, DurableReader};
use hapax_store::error::StoreError;
use hapax_store::upload::Ending;
use proptest::prelude::*;

use crate::world::{World, noise};

fn part_len() -> usize {
    usize::try_from(PART.get()).unwrap()
}

fn span(start: usize, end: usize) -> Span {
    Span::new(Offset::new(start as u64), Offset::new(end as u64)).unwrap()
}

fn look(world: &World, upload: &Upload, span: Span) -> Durable {
    world.store.at_one_moment(upload.id, |upload| world.store.read_durable(upload, span)).unwrap().1
}

#[track_caller]
fn reader(world: &World, upload: &Upload, span: Span) -> DurableReader {
    match look(world, upload, span) {
        Durable::Held(reader) => *reader,
        Durable::Missing(missing) => panic!("{missing:?} are missing of {span:?}"),
    }
}

fn md5(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new([Algorithm::Md5]);
    hasher.update(bytes);
    hasher.digests().get(Algorithm::Md5).unwrap().hex()
}

fn md5_of(mut reader: DurableReader) -> String {
    let mut hasher = Hasher::new([Algorithm::Md5]);
    reader.hash(reader.span(), &mut hasher).unwrap();
    hasher.digests().get(Algorithm::Md5).unwrap().hex()
}

/// Sends a part in runs: fragments and a tail. Then an island, cut within a segment too.
fn filled(world: &World, bytes: &[u8], cuts: &[usize]) -> Upload {
    let upload = world.create("/film", bytes.len() as u64);
    let p = part_len();
    world.send(&upload, 0, 0, &bytes[..p], Ending::Complete);
    let mut have = 0;
    for &cut in cuts {
        world.send(&upload, 1, have as u64, &bytes[p + have..p + cut], Ending::Complete);
        have = cut;
    }
    world.send(&upload, 3, 0, &bytes[3 * p..3 * p + 100_001], Ending::Complete);
    upload
}

#[test]
fn a_span_that_is_held_is_read_and_what_is_missing_is_named() {
    let world = World::new();
    let p = part_len();
    let bytes = noise(4 * p, 1);
    let upload = filled(&world, &bytes, &[1, 65_537, 200_000, 200_003]);
    let prefix = p + 200_003;
    let island = (3 * p, 3 * p + 100_001);
    for (start, end) in
        [(0, prefix), (p - 1, p + 1), (prefix - 1, prefix), (prefix - 5_000, prefix - 4_000), island]
    {
        assert_eq!(
            md5_of(reader(&world, &upload, span(start, end))),
            md5(&bytes[start..end]),
            "{start}..{end}"
        );
    }
    assert_eq!(md5_of(reader(&world, &upload, span(2 * p, 2 * p))), md5(b""));
    for (asked, expected) in [
        ((0, prefix + 1), vec![(prefix, prefix + 1)]),
        ((2 * p, 2 * p + 1), vec![(2 * p, 2 * p + 1)]),
        ((0, 4 * p), vec![(prefix, 3 * p), (island.1, 4 * p)]),
    ] {
        let Durable::Missing(missing) = look(&world, &upload, span(asked.0, asked.1)) else {
            panic!("{asked:?}")
        };
        let expected: Vec<Span> = expected.into_iter().map(|(start, end)| span(start, end)).collect();
        assert_eq!(missing, expected);
    }
}

#[test]
fn what_is_being_read_stays_what_it_was() {
    let world = World::new();
    let p = part_len();
    let bytes = noise(4 * p, 2);
    let upload = filled(&world, &bytes, &[70_000]);
    let whole = span(0, p + 70_000);
    let before = reader(&world, &upload, whole);
    // Both parts are stored anew with other bytes.
    let other = noise(4 * p, 3);
    world.send(&upload, 0, 0, &other[..p], Ending::Complete);
    world.send(&upload, 1, 0, &other[p..p + 80_000], Ending::Complete);
    assert!(world.store.has_changed(&upload).unwrap());
    assert_eq!(md5_of(before), md5(&bytes[..p + 70_000]));
    assert_eq!(md5_of(reader(&world, &upload, whole)), md5(&other[..p + 70_000]));
}

#[test]
fn a_look_is_repeated_until_nothing_changed_meanwhile() {
    let world = World::new();
    let upload = world.create("/film", 100);
    let looks = std::cell::Cell::new(0_usize);
    let (seen, length) = world
        .store
        .at_one_moment(upload.id, |seen| {
            looks.set(looks.get() + 1);
            if looks.get() < 3 {
                world.send(seen, 0, looks.get() as u64 - 1, &[1], Ending::Complete);
            }
            world.store.durable_offset(&world.store.upload(seen.id)?)
        })
        .unwrap();
    assert_eq!((looks.get(), length), (3, Offset::new(2)));
    assert!(!world.store.has_changed(&seen).unwrap());
    let restless = world.store.at_one_moment(upload.id, |seen| {
        world.send(seen, 0, 0, &[1], Ending::Complete);
        Ok(())
    });
    assert!(matches!(restless, Err(StoreError::Refused(Refusal::Superseded))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_span_of_any_runs_is_what_was_sent(
        mut cuts in proptest::collection::vec(1..400_000usize, 1..5),
        (start, end) in (0.0..1.0f64, 0.0..1.0f64),
    ) {
        cuts.sort_unstable();
        cuts.dedup();
        let world = World::new();
        let p = part_len();
        let bytes = noise(4 * p, 4);
        let upload = filled(&world, &bytes, &cuts);
        let held = p + cuts.last().unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "anywhere")]
        let at = |share: f64| held - (share * 500_000.0_f64.min(held as f64)) as usize;
        let (start, end) = (at(start).min(at(end)), at(start).max(at(end)));
        prop_assert_eq!(md5_of(reader(&world, &upload, span(start, end))), md5(&bytes[start..end]));
    }
}
