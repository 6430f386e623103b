//! Scrub, heal and compact: what is damaged is found and named, good bytes of whoever brings them make it whole for
//! everybody, and what lies in pieces or among dead bytes is put together. F8 of the reliability design.

use std::cell::Cell;
use std::sync::Arc;

use hapax_proto::digest::{Digests, FileHash};
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Span};
use hapax_store::catalog::model::faulty::Look;
use hapax_store::catalog::{Blob, EntryKind, Expect, Refusal};
use hapax_store::check::Depth;
use hapax_store::content::Shown;
use hapax_store::disk::Disk;
use hapax_store::disk::faulty::{Failure, Fault, Operation, Torn};
use hapax_store::error::StoreError;
use hapax_store::id::ObjectName;
use hapax_store::job::{Go, UNPACED};
use hapax_store::sweep::Keep;

use crate::rig::{Case, End, full, layout};
use crate::script::{Actor, Session, Step, content};

const FILE: u64 = 400_000;

/// How an object rots.
#[derive(Debug, Clone, Copy)]
enum Rot {
    Header,
    Segment,
    Cut,
    Gone,
}

const ROTS: [Rot; 4] = [Rot::Header, Rot::Segment, Rot::Cut, Rot::Gone];

fn blob(session: &Session, path: &str) -> Blob {
    session.actor().blob(path).unwrap().unwrap()
}

fn objects(session: &Session, path: &str) -> Vec<ObjectName> {
    let blob = blob(session, path);
    let extents = session.rig.store().catalog().extents(blob.content, Span::whole(blob.size), 99).unwrap();
    extents.into_iter().map(|extent| extent.object).collect()
}

fn rot(session: &Session, object: ObjectName, how: Rot) {
    let path = layout().object(object);
    match how {
        Rot::Header => session.rig.disk.alter(&path, |bytes| bytes[9] ^= 1).unwrap(),
        Rot::Segment => session.rig.disk.alter(&path, |bytes| bytes[140] ^= 1).unwrap(),
        Rot::Cut => session.rig.disk.alter(&path, |bytes| bytes.truncate(bytes.len() - 1)).unwrap(),
        Rot::Gone => session.rig.disk.remove(&path).unwrap(),
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

fn scrub(session: &Session) -> Vec<Vec<String>> {
    assert_eq!(session.rig.store().scrub(UNPACED).unwrap(), Go::On);
    let damage = session.rig.store().damage().unwrap();
    damage.into_iter().map(|damaged| damaged.paths).collect()
}

/// Makes a user who shows a content that the first one has too.
fn second_user(session: &Session) -> Actor<'_> {
    let store = session.rig.store();
    let user = store.create_user("bob".to_owned(), "$hash".to_owned(), false).unwrap();
    let space = store.catalog().user("bob").unwrap().unwrap().space;
    Actor { store, user, space }
}

// ---------------------------------------------------------------- check

/// What else goes on while a check reads.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Removed,
    Replaced,
    Promoted,
    Merged,
}

/// A check of all data reads for hours what it listed at the start of them.
#[test]
fn a_check_takes_nothing_for_damaged_that_was_removed_or_moved_while_it_read() {
    for meanwhile in [Meanwhile::Removed, Meanwhile::Replaced, Meanwhile::Promoted, Meanwhile::Merged] {
        let _case = Case(format!("{meanwhile:?}"));
        let mut session = Session::new();
        store_in_two(&mut session, "a", "/a", 1);
        session.step(Step::Put { path: "/small", seed: 2, size: 100 }).unwrap();
        match meanwhile {
            Meanwhile::Promoted => session.step(Step::Put { path: "/again", seed: 1, size: FILE }).unwrap(),
            Meanwhile::Merged => {
                session.step(Step::Create { name: "member", path: "/member", size: FILE }).unwrap();
                let whole = Step::Send { name: "member", part: 0, seed: 1, from: 0, to: FILE };
                session.step(whole).unwrap();
                session.step(Step::Compose { path: "/whole", of: &["member"] }).unwrap();
            }
            Meanwhile::Removed | Meanwhile::Replaced => {}
        }
        let first = layout().object(objects(&session, "/a")[0]);
        let (store, disk, space) =
            (Arc::clone(session.rig.store()), session.rig.disk.clone(), session.rig.space);
        let user = session.rig.user;
        session.rig.catalog.meanwhile(Look::Blobs, move || {
            let actor = Actor { store: &store, user, space };
            match meanwhile {
                Meanwhile::Removed | Meanwhile::Replaced => {
                    for path in ["/a", "/small"] {
                        let path = EntryPath::parse(path).unwrap();
                        store.remove(space, path, Expect::Anything, false).unwrap();
                    }
                }
                Meanwhile::Promoted => {
                    disk.remove(&first).unwrap();
                    store.scrub(UNPACED).unwrap();
                }
                Meanwhile::Merged => assert_eq!(store.identify_pending(UNPACED).unwrap(), 1),
            }
            store.sweep(Keep::Nothing).unwrap();
            if let Meanwhile::Replaced = meanwhile {
                actor.put("/a", &content(1, FILE)).unwrap();
            }
        });
        session.actor().assert_sound();
    }
}

/// The values of a tree are those of the content that its entry shows, whatever it shows a moment later.
#[test]
fn a_tree_is_whole_although_its_content_was_merged_into_another_one_meanwhile() {
    const SIZE: u64 = (16 << 20) + 5;
    let mut session = Session::new();
    for (name, path) in [("held", "/held"), ("member", "/member")] {
        session.step(Step::Create { name, path, size: SIZE }).unwrap();
        session.step(Step::Send { name, part: 0, seed: 1, from: 0, to: 16 << 20 }).unwrap();
        session.step(Step::Send { name, part: 1, seed: 1, from: 0, to: 5 }).unwrap();
    }
    session.step(Step::Finish { name: "held" }).unwrap();
    session.step(Step::Compose { path: "/whole", of: &["member"] }).unwrap();
    let tree = |path: &str| {
        let path = EntryPath::parse(path).unwrap();
        session.rig.store().entry_with_values(session.rig.space, &path).unwrap().map(|(_, values)| values)
    };
    let expected = tree("/held");
    assert_eq!(expected.as_ref().map(Vec::len), Some(2));
    let store = Arc::clone(session.rig.store());
    session.rig.catalog.meanwhile(Look::Entry, move || {
        assert_eq!(store.identify_pending(UNPACED).unwrap(), 1);
        store.sweep(Keep::Nothing).unwrap();
    });
    assert_eq!(tree("/whole"), expected);
}

/// A composed file of many extents turns out to be the equal of another one while somebody reads it. What it was read
/// from is given up then.
#[test]
fn a_reader_goes_on_in_the_copy_that_stays() {
    const PIECE: u64 = 70_000;
    const PIECES: u64 = 80;
    let mut session = Session::new();
    let leaked = |piece: u64| &*Box::leak(format!("piece {piece}").into_boxed_str());
    let names: Vec<&'static str> = (0..PIECES).map(leaked).collect();
    for (seed, name) in (0..).zip(&names) {
        session.step(Step::Create { name, path: "/member", size: PIECE }).unwrap();
        session.step(Step::Send { name, part: 0, seed, from: 0, to: PIECE }).unwrap();
    }
    session.step(Step::Compose { path: "/whole", of: names.leak() }).unwrap();
    let plain = (0..PIECES).flat_map(|seed| content(seed, PIECE)).collect::<Vec<_>>();
    session.actor().put("/held", &plain).unwrap();
    let (store, space) = (session.rig.store(), session.rig.space);
    let path = EntryPath::parse("/whole").unwrap();
    let entry = store.entry(space, &path).unwrap().unwrap();
    let EntryKind::File { blob, entity, .. } = entry.kind else { panic!("it is a file") };
    let shown = Shown { blob: blob.id, entry: Some((space, path, entity)) };
    let mut reader = store.read_blob(&blob).unwrap().shown_by(shown);
    let mut bytes = Vec::new();
    let first = Span::whole(Length::new(PIECE));
    reader.read(first, &mut bytes).unwrap();
    assert_eq!(objects(&session, "/whole").len() as u64, PIECES, "more than are looked up at once");
    assert_eq!(store.identify_pending(UNPACED).unwrap(), 1);
    store.sweep(Keep::Nothing).unwrap();
    assert_ne!(self::blob(&session, "/whole").id, blob.id, "it is the other one now");
    let rest = Span::new(first.end(), blob.size.end()).unwrap();
    reader.read(rest, &mut bytes).unwrap();
    assert!(bytes == plain);
}

// ---------------------------------------------------------------- scrub

#[test]
fn scrub_names_what_is_damaged_and_only_that() {
    for how in ROTS {
        let _case = Case(format!("{how:?}"));
        let mut session = Session::new();
        store_in_two(&mut session, "a", "/a", 1);
        store_in_two(&mut session, "b", "/b", 2);
        session.step(Step::Link { from: "/a", to: "/link" }).unwrap();
        session.step(Step::Put { path: "/inline", seed: 3, size: 100 }).unwrap();
        assert_eq!(scrub(&session), Vec::<Vec<String>>::new());
        let pass = session.rig.store().scrub_progress().unwrap().last.unwrap();
        assert_eq!((pass.objects, pass.bytes, pass.total, pass.damaged), (4, 800_000, pass.total, 0));
        rot(&session, objects(&session, "/a")[1], how);
        assert_eq!(scrub(&session), [["/@ann/a", "/@ann/link"]]);
        assert_eq!(session.rig.store().scrub_progress().unwrap().last.unwrap().damaged, 1);
        assert_eq!(session.rig.store().catalog().stats().unwrap().damaged, 1);
        let linked = session.step(Step::Link { from: "/a", to: "/more" });
        assert!(matches!(linked, Err(StoreError::Refused(Refusal::NotLive))), "{linked:?}");
        session.step(Step::Link { from: "/b", to: "/more" }).unwrap();
    }
}

/// One flipped segment of an object that several files share harms one of them.
#[test]
fn scrub_blames_the_files_whose_segments_are_bad() {
    let mut session = Session::new();
    let paths = &["/1", "/2", "/3"];
    session.step(Step::Together { paths, seed: 1, size: 100_000 }).unwrap();
    let object = objects(&session, "/1")[0];
    assert_eq!(objects(&session, "/3"), [object], "they share it");
    let segment = |number: usize| 128 + number * ((64 << 10) + 16);
    // Bytes 262,144 to 300,000 are the third file's.
    session.rig.disk.alter(&layout().object(object), |bytes| bytes[segment(4)] ^= 1).unwrap();
    assert_eq!(scrub(&session), [["/@ann/3"]]);
    // And bytes 65,536 to 131,072 the first's and the second's.
    session.rig.disk.alter(&layout().object(object), |bytes| bytes[segment(1)] ^= 1).unwrap();
    assert_eq!(scrub(&session), [["/@ann/1"], ["/@ann/2"], ["/@ann/3"]]);
    session.step(Step::Put { path: "/again", seed: 2, size: 100_000 }).unwrap();
    assert_eq!(scrub(&session), [["/@ann/1"], ["/@ann/3"]]);
}

#[test]
fn scrub_reads_nothing_that_nobody_holds() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/a", 1);
    let gone = objects(&session, "/a");
    session.step(Step::Remove { path: "/a" }).unwrap();
    for object in gone {
        rot(&session, object, Rot::Segment);
    }
    assert_eq!(scrub(&session), Vec::<Vec<String>>::new());
    let pass = session.rig.store().scrub_progress().unwrap().last.unwrap();
    assert_eq!((pass.objects, pass.bytes, pass.damaged), (0, 0, 0));
}

#[test]
fn scrub_names_an_unfinished_upload() {
    let mut session = Session::new();
    session.step(Step::Create { name: "u", path: "/up", size: FILE }).unwrap();
    session.step(Step::Send { name: "u", part: 0, seed: 1, from: 0, to: 200_000 }).unwrap();
    let object = *session.rig.objects_on_disk().first().unwrap();
    rot(&session, object, Rot::Segment);
    assert_eq!(scrub(&session), Vec::<Vec<String>>::new(), "it is no file");
    let pass = session.rig.store().scrub_progress().unwrap().last.unwrap();
    assert_eq!((pass.damaged, pass.uploads.len()), (1, 1));
    assert!(pass.uploads[0].ends_with(" to /@ann/up"), "{:?}", pass.uploads);
}

/// Wherever it is stopped it goes on, also in another process, and reads nothing twice but what was not saved.
#[test]
fn a_scrub_that_was_stopped_goes_on() {
    let mut session = Session::new();
    for (number, path) in (1..).zip(["/1", "/2", "/3", "/4"]) {
        session.step(Step::Put { path, seed: number, size: 70_000 }).unwrap();
    }
    rot(&session, objects(&session, "/2")[0], Rot::Segment);
    let mut read = 0;
    let mut runs = 0;
    loop {
        let asked = Cell::new(0);
        let one = |length: Length| {
            asked.set(asked.get() + 1);
            if asked.get() > 3 {
                return Go::Stop;
            }
            read += length.get();
            Go::On
        };
        let read_by = std::cell::RefCell::new(one);
        let ended = session.rig.store().scrub(&|length| (read_by.borrow_mut())(length)).unwrap();
        runs += 1;
        if ended == Go::On {
            break;
        }
        assert!(session.rig.store().scrub_progress().unwrap().now.is_some());
        session.rig.end(End::Killed);
    }
    assert!(runs > 2, "{runs} runs");
    let progress = session.rig.store().scrub_progress().unwrap();
    let pass = progress.last.unwrap();
    assert_eq!((progress.now, pass.objects, pass.bytes, pass.damaged), (None, 4, 280_000, 1));
    // Each file once, and the damaged one again: to be sure, and at the end.
    assert!(read <= 280_000 + 4 * 70_000, "{read}");
    assert_eq!(session.rig.store().damage().unwrap().len(), 1);
}

/// A disk that cannot read for a while is damage for as long as that.
#[test]
fn what_can_be_read_again_is_damaged_no_longer() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/a", 1);
    session.rig.disk.inject(Fault::from(0, Failure::Io).only(Operation::Read));
    assert_eq!(scrub(&session), [["/@ann/a"]]);
    session.rig.disk.heal();
    assert_eq!(scrub(&session), Vec::<Vec<String>>::new());
    session.step(Step::Link { from: "/a", to: "/b" }).unwrap();
}

#[test]
fn a_reader_that_meets_damage_tells_it() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/a", 1);
    rot(&session, objects(&session, "/a")[1], Rot::Segment);
    let (store, a) = (session.rig.store(), blob(&session, "/a"));
    let read = store.read_blob(&a).unwrap().read(Span::whole(a.size), &mut Vec::new());
    store.report_damage(&a, &read.unwrap_err());
    let linked = session.step(Step::Link { from: "/a", to: "/b" });
    assert!(matches!(linked, Err(StoreError::Refused(Refusal::NotLive))), "{linked:?}");
    assert_eq!(session.rig.store().damage().unwrap()[0].paths, ["/@ann/a"]);
}

// ---------------------------------------------------------------- heal

/// How somebody brings the bytes of a file again.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Put,
    Upload,
    Pieces,
    Composed,
}

fn bring(actor: &Actor<'_>, verb: Verb, bytes: &[u8]) {
    match verb {
        Verb::Put => actor.put("/again", bytes).unwrap(),
        Verb::Upload | Verb::Pieces => {
            let id = actor.create("again", "/again", bytes.len() as u64).unwrap();
            let upload = actor.store.upload(id).unwrap();
            let cut = if matches!(verb, Verb::Pieces) { bytes.len() / 3 } else { 0 };
            if cut > 0 {
                actor.send(&upload, 0, 0, &bytes[..cut]).unwrap();
            }
            let upload = actor.store.upload(id).unwrap();
            actor.send(&upload, 0, cut as u64, &bytes[cut..]).unwrap();
            let upload = actor.store.upload(id).unwrap();
            let hash = Some(FileHash::of(bytes));
            actor.store.finish_upload(&upload, Length::of(bytes), Expect::Anything, hash).unwrap();
        }
        Verb::Composed => {
            let (one, other) = bytes.split_at(bytes.len() / 2);
            let members = [("one", one), ("other", other)].map(|(name, bytes)| {
                let id = actor.create(name, "/member", bytes.len() as u64).unwrap();
                actor.send(&actor.store.upload(id).unwrap(), 0, 0, bytes).unwrap();
                id
            });
            let new = hapax_store::upload::CreateUpload {
                user: actor.user,
                key: None,
                space: actor.space,
                path: actor.target("/again").path,
                size: None,
                meta: hapax_store::catalog::Meta::default(),
                precondition: None,
                declared: Digests::default(),
                notes: None,
                members: members.to_vec(),
            };
            let upload = actor.store.create_upload(new).unwrap().0;
            let upload = actor.store.compose(&upload).unwrap();
            actor.store.finish_composed(&upload, Length::of(bytes), Expect::Anything).unwrap();
            actor.store.identify_pending(UNPACED).unwrap();
        }
    }
}

/// Whoever brings the bytes, by whatever verb, and whether the damage was known before or not: everybody's files are whole.
#[test]
fn good_bytes_of_anybody_heal_the_file_of_everybody() {
    for verb in [Verb::Put, Verb::Upload, Verb::Pieces, Verb::Composed] {
        for how in ROTS {
            for is_known in [false, true] {
                for size in [70_000, 1_300_000] {
                    let _case = Case(format!("{verb:?}, {how:?}, known: {is_known}, {size} bytes"));
                    let mut session = Session::new();
                    session.step(Step::Put { path: "/a", seed: 1, size }).unwrap();
                    session.step(Step::Link { from: "/a", to: "/b" }).unwrap();
                    rot(&session, objects(&session, "/a")[0], how);
                    if is_known {
                        assert_eq!(scrub(&session).len(), 1);
                    }
                    let bytes = content(1, size);
                    bring(&second_user(&session), verb, &bytes);
                    if is_known {
                        assert!(session.actor().read("/a") == bytes, "at once");
                    }
                    session.step(Step::Heal).unwrap();
                    assert!(session.actor().read("/b") == bytes);
                    session.actor().assert_agrees(&session.ledger);
                    assert_eq!(scrub(&session), Vec::<Vec<String>>::new());
                    session.assert_nothing_leaks();
                    let again = blob(&session, "/a");
                    assert!(!again.damaged);
                }
            }
        }
    }
}

/// A small file lies in the catalog or in an object, and either heals the other.
#[test]
fn small_files_heal_each_other() {
    let bytes = content(1, 3_000);
    let mut session = Session::new();
    session.step(Step::Create { name: "u", path: "/object", size: 3_000 }).unwrap();
    session.step(Step::Send { name: "u", part: 0, seed: 1, from: 0, to: 3_000 }).unwrap();
    session.step(Step::Finish { name: "u" }).unwrap();
    for is_known in [true, false] {
        for object in objects(&session, "/object") {
            rot(&session, object, Rot::Gone);
        }
        if is_known {
            scrub(&session);
        }
        bring(&session.actor(), Verb::Put, &bytes);
        session.step(Step::Heal).unwrap();
        assert!(session.actor().read("/object") == bytes);
        session.actor().assert_sound();
        assert_eq!(session.rig.store().damage().unwrap(), []);
    }
}

/// What is found damaged is healed from a copy that is there already.
#[test]
fn a_spare_heals_at_once_what_scrub_finds() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/a", 1);
    session.step(Step::Put { path: "/again", seed: 1, size: FILE }).unwrap();
    rot(&session, objects(&session, "/a")[0], Rot::Segment);
    assert_eq!(scrub(&session), Vec::<Vec<String>>::new());
    session.actor().assert_agrees(&session.ledger);
    assert_eq!(session.rig.store().catalog().spares(9).unwrap(), []);
    assert_eq!(session.rig.store().scrub_progress().unwrap().last.unwrap().damaged, 1);
}

/// If both copies are bad neither is thrown away, and a third one heals.
#[test]
fn two_bad_copies_wait_for_a_good_one() {
    let mut session = Session::new();
    for _ in 0..2 {
        session.step(Step::Put { path: "/a", seed: 1, size: FILE }).unwrap();
        for object in session.rig.objects_on_disk() {
            rot(&session, object, Rot::Cut);
        }
    }
    session.step(Step::Heal).unwrap();
    assert_eq!(session.rig.store().damage().unwrap().len(), 1);
    assert_eq!(session.rig.store().catalog().spares(9).unwrap().len(), 1);
    // They are not read again with everything that comes.
    let before = session.rig.disk.operations();
    session.step(Step::Heal).unwrap();
    assert_eq!(session.rig.disk.operations(), before);
    session.step(Step::Put { path: "/a", seed: 1, size: FILE }).unwrap();
    assert!(session.actor().read("/a") == content(1, FILE));
    session.step(Step::Heal).unwrap();
    assert_eq!(session.rig.store().catalog().spares(9).unwrap(), []);
    session.actor().assert_agrees(&session.ledger);
    session.assert_nothing_leaks();
}

/// Whatever fails while a damaged file is healed, and however the process ends: trying again heals it.
#[test]
fn healing_survives_every_fault_of_the_disk() {
    let steps = [
        Step::Scrub,
        Step::Put { path: "/again", seed: 1, size: FILE },
        Step::Heal,
        Step::Sweep,
        Step::Scrub,
    ];
    let ends = [End::GoesOn, End::Killed, End::PowerCut(Torn::Nothing)];
    let prepare = || {
        let mut session = Session::new();
        store_in_two(&mut session, "a", "/a", 1);
        rot(&session, objects(&session, "/a")[1], Rot::Segment);
        session
    };
    let operations = {
        let mut session = prepare();
        let start = session.rig.disk.operations();
        for step in steps {
            // The first scrub says that there is damage.
            let _ = session.step(step);
        }
        session.rig.disk.operations() - start
    };
    for n in 0..operations {
        for lasting in [false, true] {
            for end in ends {
                if !full() && !(n + u64::from(lasting)).is_multiple_of(2) {
                    continue;
                }
                let _case = Case(format!("operation {n} of {operations}, lasting: {lasting}, {end:?}"));
                let mut session = prepare();
                let fault = if lasting { Fault::from(n, Failure::Io) } else { Fault::once(n, Failure::Io) };
                session.rig.disk.inject(fault);
                for step in steps {
                    let _ = session.step(step);
                }
                session.rig.end(end);
                for step in &steps[1..] {
                    session.step(*step).unwrap();
                }
                session.actor().assert_agrees(&session.ledger);
                session.assert_nothing_leaks();
            }
        }
    }
}

// ---------------------------------------------------------------- compact

#[test]
fn pieces_become_whole_parts() {
    let mut session = Session::new();
    for (name, path, size) in [("s", "/small", FILE), ("l", "/large", 1_500_000)] {
        session.step(Step::Create { name, path, size }).unwrap();
        for (from, to) in [(0, 70_000), (70_000, 200_000), (200_000, size)] {
            session.step(Step::Send { name, part: 0, seed: size, from, to }).unwrap();
        }
        session.step(Step::Finish { name }).unwrap();
    }
    let store = session.rig.store();
    let fragments = |session: &Session| session.rig.store().catalog().stats().unwrap().fragments;
    assert!(fragments(&session) >= 4, "{}", fragments(&session));
    let values = |session: &Session| {
        let blobs = ["/small", "/large"].map(|path| blob(session, path).content);
        blobs.map(|content| session.rig.store().part_values(content).unwrap())
    };
    let before = values(&session);
    let done = store.compact(UNPACED).unwrap();
    assert_eq!((done.parts, done.bytes, done.ended), (2, FILE + 1_500_000, true));
    assert_eq!(fragments(&session), 0);
    assert_eq!((objects(&session, "/small").len(), objects(&session, "/large").len()), (1, 1));
    assert_eq!(values(&session), before, "a part is worth what it was");
    session.actor().assert_agrees(&session.ledger);
    assert_eq!(session.rig.store().compact(UNPACED).unwrap().parts, 0, "there is no more to do");
    session.assert_nothing_leaks();
}

/// A reader that began before goes on: what was dropped stays for the grace, and what is gone is looked up again.
#[test]
fn a_reader_goes_on_while_its_file_is_moved() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/a", 1);
    let plain = content(1, FILE);
    let (store, a) = (session.rig.store(), blob(&session, "/a"));
    let mut reader = store.read_blob(&a).unwrap();
    let half = |start: usize| {
        Span::new(
            hapax_proto::span::Offset::new(start as u64),
            hapax_proto::span::Offset::new(start as u64 + 1_000),
        )
        .unwrap()
    };
    let mut bytes = Vec::new();
    reader.read(half(0), &mut bytes).unwrap();
    assert_eq!(store.compact(UNPACED).unwrap().parts, 1);
    reader.read(half(300_000), &mut bytes).unwrap();
    store.sweep(Keep::Nothing).unwrap();
    reader.read(half(100_000), &mut bytes).unwrap();
    reader.read(half(350_000), &mut bytes).unwrap();
    let expected = [0, 300_000, 100_000, 350_000].map(|start| &plain[start..start + 1_000]).concat();
    assert!(bytes == expected);
}

#[test]
fn what_is_left_of_an_object_is_packed_anew() {
    let mut session = Session::new();
    let paths = &["/1", "/2", "/3", "/4", "/5"];
    session.step(Step::Together { paths, seed: 1, size: 30_000 }).unwrap();
    let before = objects(&session, "/2");
    let compact = |session: &Session| session.rig.store().compact(UNPACED).unwrap().parts;
    for path in ["/1", "/3"] {
        session.step(Step::Remove { path }).unwrap();
    }
    session.step(Step::Sweep).unwrap();
    assert_eq!(compact(&session), 0, "most of it is alive");
    session.step(Step::Remove { path: "/5" }).unwrap();
    assert_eq!(compact(&session), 0, "what is removed is kept for the grace");
    session.step(Step::Sweep).unwrap();
    assert_eq!(session.rig.store().catalog().stats().unwrap().dead, 90_000);
    assert_eq!(compact(&session), 2);
    let stats = session.rig.store().catalog().stats().unwrap();
    assert_eq!((stats.dead, stats.given_up), (0, 150_000));
    assert_ne!(objects(&session, "/2"), before);
    assert_eq!(objects(&session, "/2"), objects(&session, "/4"), "together again");
    session.actor().assert_agrees(&session.ledger);
    session.assert_nothing_leaks();
    assert_eq!(session.rig.store().catalog().stats().unwrap().stored, 60_000);
}

/// Bytes that another content shares stay where they are: written anew they would be stored twice.
#[test]
fn shared_bytes_are_not_stored_twice() {
    let mut session = Session::new();
    for step in [
        Step::Create { name: "m", path: "/member", size: 70_000 },
        Step::Send { name: "m", part: 0, seed: 1, from: 0, to: 70_000 },
        Step::Compose { path: "/composed", of: &["m", "m"] },
    ] {
        session.step(step).unwrap();
    }
    assert_eq!(session.rig.store().compact(UNPACED).unwrap().parts, 0);
    session.step(Step::Cancel { name: "m" }).unwrap();
    assert_eq!(session.rig.store().compact(UNPACED).unwrap().parts, 1);
    session.step(Step::Identify).unwrap();
    session.actor().assert_agrees(&session.ledger);
    session.assert_nothing_leaks();
}

/// Compaction seals nothing anew that is not what it should be: damage is noted, and left as it is.
#[test]
fn damage_is_not_written_anew() {
    let mut session = Session::new();
    store_in_two(&mut session, "a", "/a", 1);
    let held = objects(&session, "/a");
    rot(&session, held[1], Rot::Segment);
    assert_eq!(session.rig.store().compact(UNPACED).unwrap().parts, 0);
    session.step(Step::Folder("/settled")).unwrap();
    assert_eq!(session.rig.store().damage().unwrap().len(), 1);
    assert_eq!(objects(&session, "/a"), held);
    let findings = session.rig.store().check(Depth::Data).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.contains("/a")), "{findings:?}");
}

#[test]
fn a_compaction_that_is_stopped_changes_nothing_by_halves() {
    for asks in 0..6 {
        let mut session = Session::new();
        store_in_two(&mut session, "a", "/a", 1);
        store_in_two(&mut session, "b", "/b", 2);
        let asked = Cell::new(0);
        let go = |_| {
            asked.set(asked.get() + 1);
            if asked.get() > asks { Go::Stop } else { Go::On }
        };
        let done = session.rig.store().compact(&go).unwrap();
        assert_eq!((done.parts, done.ended), (asks.min(4) / 2, asks >= 4), "{asks} asks");
        session.actor().assert_agrees(&session.ledger);
        session.assert_nothing_leaks();
    }
}
