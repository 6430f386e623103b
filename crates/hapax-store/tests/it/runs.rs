//! One run of bytes into one part: what it keeps when it breaks off, when the disk fails under it, when there are ten
//! thousand of them.

use std::sync::Arc;

use hapax_proto::digest::FileHash;
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PART, PartHasher, PartNumber, PartValue};
use hapax_proto::upload::Held;
use hapax_store::catalog::{Expect, LaneId, Upload};
use hapax_store::disk::faulty::{Failure, Fault, Operation};
use hapax_store::error::ErrorClass;
use hapax_store::store::Store;
use hapax_store::upload::{Ending, PartIntake, StoredRun};

use crate::rig::{End, Rig};
use crate::script::Actor;
use crate::world::noise;

fn actor(rig: &Rig) -> Actor<'_> {
    Actor { store: rig.store(), user: rig.user, space: rig.space }
}

fn upload(rig: &Rig, size: u64) -> Upload {
    let id = actor(rig).create("key", "/file", size).unwrap();
    rig.store().upload(id).unwrap()
}

fn begin(store: &Arc<Store>, upload: &Upload, from: usize, declared: Option<PartValue>) -> PartIntake {
    let whole = PartNumber::FIRST.span(upload.size.unwrap()).unwrap().length();
    store.begin_part(upload, PartNumber::FIRST, Length::new(from as u64), whole, declared).unwrap()
}

fn value_of(bytes: &[u8]) -> PartValue {
    let mut hasher = PartHasher::new(PartNumber::FIRST);
    hasher.update(bytes).unwrap();
    hasher.value().unwrap()
}

#[test]
fn a_run_that_broke_off_tells_what_is_still_held() {
    #[track_caller]
    fn check(rig: &Rig, upload: &Upload, from: usize, bytes: &[u8], have: u64) {
        let mut run = begin(rig.store(), upload, from, None);
        run.push(bytes).unwrap();
        let stored = run.finish(Ending::Cut).unwrap().wait().unwrap();
        assert_eq!(stored, StoredRun { have: Length::new(have), value: None });
        let held = rig.store().held_part(upload, PartNumber::FIRST).unwrap();
        let expected = if have == 0 { Held::Nothing } else { Held::Partial { have: Length::new(have) } };
        assert_eq!(held, expected);
    }
    let rig = Rig::new();
    let bytes = noise(300_000, 1);
    let upload = upload(&rig, 300_000);
    check(&rig, &upload, 0, &bytes[..10], 0);
    let mut run = begin(rig.store(), &upload, 0, None);
    run.push(&bytes[..100_000]).unwrap();
    run.finish(Ending::Complete).unwrap().wait().unwrap();
    check(&rig, &upload, 0, &[], 100_000);
    check(&rig, &upload, 0, &bytes[..10], 100_000);
    check(&rig, &upload, 100_000, &[], 100_000);
    check(&rig, &upload, 100_000, &bytes[100_000..100_010], 100_000);
}

/// Where less than a segment was held, it stayed, and whoever went on behind it was told the same for ever.
#[test]
fn a_value_that_turns_out_wrong_gives_up_what_the_run_went_on_behind() {
    for kept in [10, 65_536, 70_000] {
        let rig = Rig::new();
        let bytes = noise(100_000, 3);
        let upload = upload(&rig, 100_000);
        let mut run = begin(rig.store(), &upload, 0, None);
        run.push(&noise(kept, 4)).unwrap();
        run.finish(Ending::Complete).unwrap().wait().unwrap();
        let mut run = begin(rig.store(), &upload, kept, Some(value_of(&bytes)));
        run.push(&bytes[kept..]).unwrap();
        assert!(run.finish(Ending::Complete).is_err());
        assert_eq!(rig.store().held_part(&upload, PartNumber::FIRST).unwrap(), Held::Nothing, "{kept}");
    }
}

/// The hash had taken in what the disk had not: such a run must not be kept, or it would name bytes that are not there,
/// or are its neighbour's in a shared object.
#[test]
fn a_run_that_the_disk_refused_keeps_nothing_of_itself() {
    #[track_caller]
    fn check(fault: Fault, ending: Ending) {
        let rig = Rig::new();
        let bytes = noise(3_000_000, 2);
        let upload = upload(&rig, 3_000_000);
        let mut run = begin(rig.store(), &upload, 0, Some(value_of(&bytes)));
        run.push(&bytes[..70_000]).unwrap();
        run.finish(Ending::Complete).unwrap().wait().unwrap();
        let mut run = begin(rig.store(), &upload, 70_000, Some(value_of(&bytes)));
        rig.disk.inject(fault);
        let pushed = bytes[70_000..].chunks(300_000).find_map(|chunk| run.push(chunk).err());
        assert!(pushed.is_some_and(|error| error.class() == ErrorClass::Full), "{fault:?}");
        rig.disk.heal();
        let finished = run.finish(ending).and_then(hapax_store::upload::PendingRun::wait);
        assert!(finished.is_err(), "{fault:?}: {finished:?}");
        let held = rig.store().held_part(&upload, PartNumber::FIRST).unwrap();
        assert_eq!(held, Held::Partial { have: Length::new(70_000) }, "{fault:?}");
        let mut run = begin(rig.store(), &upload, 70_000, None);
        run.push(&bytes[70_000..]).unwrap();
        run.finish(Ending::Complete).unwrap().wait().unwrap();
        let upload = rig.store().upload(upload.id).unwrap();
        let hash = Some(FileHash::of(&bytes));
        rig.store().finish_upload(&upload, Length::of(&bytes), Expect::Nothing, hash).unwrap();
        assert!(actor(&rig).read("/file") == bytes);
        actor(&rig).assert_sound();
    }
    for ending in [Ending::Complete, Ending::Cut] {
        check(Fault::once(0, Failure::Full).only(Operation::Write), ending);
        check(Fault::once(1, Failure::Full).only(Operation::Write).short(), ending);
    }
}

/// A file whose intake failed is not published with what is left of it.
#[test]
fn a_file_that_the_disk_refused_is_not_published() {
    #[track_caller]
    fn check(size: u64, n: u64) {
        let mut rig = Rig::new();
        let bytes = noise(usize::try_from(size).unwrap(), 3);
        let mut file = rig.store().begin_file(rig.user, actor(&rig).target("/file"), None).unwrap();
        rig.disk.inject(Fault::once(n, Failure::Full).only(Operation::Write));
        let failed = bytes.chunks(256 << 10).filter(|chunk| file.push(chunk).is_err()).count();
        assert!(failed > 0, "the disk was full");
        assert!(file.publish(None).is_err());
        assert_eq!(rig.store().entry(rig.space, &EntryPath::parse("/file").unwrap()).unwrap(), None);
        rig.end(End::GoesOn);
        actor(&rig).assert_sound();
    }
    check(3_000_000, 0);
    check(PART.get() + 3_000_000, 0);
    check(PART.get() + 3_000_000, 33);
}

/// Dropping the store settles what was submitted: nothing on its way may keep the store alive, or one of the store's own
/// threads would be the last to hold it.
#[test]
fn a_store_that_is_dropped_settles_what_is_on_its_way() {
    for number in 0..100 {
        let mut rig = Rig::new();
        let upload = upload(&rig, 70_000);
        let bytes = noise(70_000, number);
        let mut run = begin(rig.store(), &upload, 0, None);
        run.push(&bytes).unwrap();
        let pending = run.finish(Ending::Complete).unwrap();
        rig.restart();
        assert_eq!(pending.wait().unwrap().have, Length::new(70_000));
        let upload = rig.store().upload(upload.id).unwrap();
        let held = rig.store().held_part(&upload, PartNumber::FIRST).unwrap();
        assert_eq!(held, Held::Whole { value: value_of(&bytes) });
    }
}

#[test]
fn ten_thousand_appends_of_one_byte_are_one_part() {
    const APPENDS: usize = 10_000;
    const JUMP: usize = 60_000;
    let rig = Rig::new();
    let bytes = noise(JUMP + APPENDS, 4);
    let upload = upload(&rig, bytes.len() as u64);
    let mut run = begin(rig.store(), &upload, 0, None);
    run.push(&bytes[..JUMP]).unwrap();
    run.finish(Ending::Complete).unwrap().wait().unwrap();
    for at in JUMP..bytes.len() {
        let mut run = begin(rig.store(), &upload, at, None);
        run.push(&bytes[at..=at]).unwrap();
        let stored = run.finish(Ending::Complete).unwrap().wait().unwrap();
        assert_eq!(stored.have, Length::new(at as u64 + 1));
    }
    let catalog = rig.store().catalog();
    assert_eq!(catalog.lane(upload.id, LaneId::Part(PartNumber::FIRST)).unwrap().unwrap().open, None);
    assert!(catalog.extents(upload.content, Span::whole(PART), usize::MAX).unwrap().len() <= 2);
    // One object for each 64 KiB, one for the end: an append makes a row, not a file.
    assert!(rig.objects_on_disk().len() <= 2, "{:?}", rig.objects_on_disk());
    let upload = rig.store().upload(upload.id).unwrap();
    let hash = Some(FileHash::of(&bytes));
    rig.store().finish_upload(&upload, Length::of(&bytes), Expect::Nothing, hash).unwrap();
    assert!(actor(&rig).read("/file") == bytes);
    actor(&rig).assert_sound();
}
