//! The documented rules, one test each, run on every implementation through the door that all share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hapax_proto::tree::PartNumber;
use hapax_proto::upload::State;

use super::super::model::ModelCatalog;
use super::super::sqlite::SqliteCatalog;
use super::super::{
    Blob, BlobId, BootId, ContentId, Entry, EntryId, EntryKind, Expect, LaneId, Meta, NewUpload, OpenPart,
    Outcome, Publish, Source, SpaceId, Store, TokenId, Upload, UserId,
};
use super::*;
use crate::catalog::SPACE_MAX;
use crate::clock::Timestamp;

mod composed;
mod dates;
mod digests;
mod holders;
mod instead;
mod tokens;
mod upkeep;

const T0: Timestamp = Timestamp::from_secs(1_000);
const ANN: UserId = UserId(1);
/// The space of `ANN`.
const HERS: SpaceId = SpaceId(1);
const DIR: DirId = DirId::new(1);

fn at(millis: u64) -> Timestamp {
    T0.after(Duration::from_millis(millis))
}

/// Runs a rule on every implementation, each with two users and an open directory, and audits what it left.
#[track_caller]
fn on_each(rule: fn(&dyn Catalog)) {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteCatalog::open(&dir.path().join("catalog.db")).unwrap();
    for catalog in [&ModelCatalog::new() as &dyn Catalog, &sqlite] {
        let user = |name: &str| Intent::CreateUser {
            name: name.into(),
            password: String::new(),
            admin: false,
            now: T0.into(),
        };
        let open = Intent::OpenDir { boot: BootId(1) };
        let answers = catalog.commit(&[Intent::Boot, user("ann"), user("bob"), open]).unwrap();
        let expected =
            [Outcome::Booted(BootId(1)), Outcome::User(ANN), Outcome::User(UserId(2)), Outcome::Dir(DIR)];
        assert_eq!(answers, expected.map(Ok));
        rule(catalog);
        assert_eq!(catalog.audit().unwrap(), Vec::<String>::new());
    }
}

fn publish(to: &str, number: u8, size: Length, source: Source, now: Timestamp) -> Publish {
    Publish {
        space: HERS,
        path: path(to),
        expect: Expect::Anything,
        source,
        fingerprint: fingerprint(number),
        identity: Some(vec![number]),
        size,
        meta: Meta::default(),
        now: now.into(),
    }
}

/// A file of one byte in the catalog itself.
fn inline(to: &str, number: u8, now: Timestamp) -> Intent {
    Intent::Publish(Box::new(publish(to, number, Length::new(1), Source::Inline(vec![number]), now)))
}

/// A file of some cells in an object of its own, which has the number of the identity.
fn file(to: &str, number: u8, count: u64, now: Timestamp) -> Intent {
    let source = Source::Extents(vec![extent(0, count, DIR, number)]);
    Intent::Publish(Box::new(publish(to, number, cells(count), source, now)))
}

fn remove(what: &str, now: Timestamp) -> Intent {
    Intent::Remove {
        space: HERS,
        path: path(what),
        expect: Expect::Anything,
        recursive: true,
        now: now.into(),
    }
}

fn set_mtime(what: &str, expect: Expect) -> Intent {
    Intent::SetMeta { space: HERS, path: path(what), expect, mtime: Some(-1), executable: None }
}

fn rename(from: &str, to: &str, now: Timestamp) -> Intent {
    Intent::Move { space: HERS, from: path(from), to: path(to), overwrite: true, now: now.into() }
}

fn folder(what: &str, now: Timestamp) -> Intent {
    Intent::MakeFolder { space: HERS, path: path(what), now: now.into() }
}

fn new_upload(number: u8, size: Option<Length>) -> NewUpload {
    NewUpload {
        id: upload(number),
        user: ANN,
        key: None,
        space: HERS,
        path: path("/u"),
        size,
        meta: Meta::default(),
        precondition: None,
        digests: None,
        notes: Some("kept".to_owned()),
        members: Vec::new(),
        now: T0,
        expires: at(60_000),
        uploads_max: 9,
    }
}

fn create(number: u8, size: Option<Length>) -> Intent {
    Intent::CreateUpload(Box::new(new_upload(number, size)))
}

/// Puts cells into an upload through the append lane.
/// Bytes for the append lane of an upload, under an epoch that is newer than any before.
fn put(number: u8, extents: Vec<Extent>) -> Store {
    static EPOCHS: AtomicU64 = AtomicU64::new(1_000);
    let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
    Store {
        upload: upload(number),
        generation: 0,
        lane: LaneId::Append,
        epoch,
        clear: extents.first().map(|extent| extent.span).unwrap_or_default(),
        put: extents,
        open: None,
        first_root: None,
        now: T0,
        expires: T0,
    }
}

fn stored(store: Store) -> Intent {
    Intent::Store(Box::new(store))
}

fn finish(number: u8, content_version: u64, identity: u8, size: Length) -> Intent {
    let source = Source::Upload { id: upload(number), generation: 0, content_version };
    Intent::Publish(Box::new(publish("/u", identity, size, source, T0)))
}

#[track_caller]
fn done(catalog: &dyn Catalog, intent: Intent) -> Outcome {
    let told = format!("{intent:?}");
    commit(catalog, intent).unwrap_or_else(|refusal| panic!("{refusal}: {told}"))
}

#[track_caller]
fn refused(catalog: &dyn Catalog, intent: Intent, refusal: Refusal) {
    assert_eq!(without_words(commit(catalog, intent)), without_words(Err(refusal)));
}

const MALFORMED: Refusal = Refusal::Malformed("");

#[track_caller]
fn entry(catalog: &dyn Catalog, what: &str) -> Entry {
    catalog.entry(HERS, &path(what)).unwrap().expect("something stands there")
}

#[track_caller]
fn blob(catalog: &dyn Catalog, what: &str) -> Blob {
    match entry(catalog, what).kind {
        EntryKind::File { blob, .. } => blob,
        EntryKind::Folder => panic!("{what} is a folder"),
    }
}

#[track_caller]
fn row(catalog: &dyn Catalog, number: u8) -> Upload {
    catalog.upload(upload(number)).unwrap().expect("the upload is there")
}

fn filled(catalog: &dyn Catalog) -> (u64, u64) {
    let space = catalog.space_by_id(HERS).unwrap().unwrap();
    (space.used.get(), space.reserved.get())
}

fn doomed(catalog: &dyn Catalog) -> Vec<ObjectId> {
    catalog.doomed(99).unwrap().into_iter().map(|name| name.id).collect()
}

// ---------------------------------------------------------------- R8

#[test]
fn r8_a_claim_never_links_an_orphan() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        let id = blob(catalog, "/a").id;
        let claim = |to: &str, number: u8| {
            let known = publish(to, number, cells(1), Source::Known(id), T0);
            Intent::Publish(Box::new(known))
        };
        refused(catalog, claim("/x", 2), Refusal::NotLive);
        let Outcome::Published { known, .. } = done(catalog, claim("/b", 1)) else { panic!() };
        assert!(known);
        done(catalog, remove("/a", T0));
        done(catalog, remove("/b", T0));
        refused(catalog, claim("/c", 1), Refusal::NotLive);
        assert_eq!(catalog.blob_in_space(HERS, &fingerprint(1)).unwrap(), None);
        refused(catalog, claim("/new/c", 1), Refusal::NotLive);
        assert_eq!(catalog.entry(HERS, &path("/new")).unwrap(), None, "a refusal leaves no parents behind");
    });
}

#[test]
fn r8_fresh_bytes_revive_an_orphan() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        let before = blob(catalog, "/a");
        done(catalog, remove("/a", T0));
        done(catalog, create(1, Some(cells(1))));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 2)])));
        let Outcome::Published { known, blob: id, .. } = done(catalog, finish(1, 1, 1, cells(1))) else {
            panic!()
        };
        assert!(known);
        assert_eq!(blob(catalog, "/u"), before, "the content that was held stays");
        assert_eq!(done(catalog, Intent::BuryBlobs { before: at(9), limit: 9, now: T0 }), Outcome::Count(0));
        assert_eq!(catalog.spares(9).unwrap().len(), 1);
        assert_eq!(id, before.id);
    });
}

#[test]
fn r8_placing_in_a_doomed_object_is_refused() {
    on_each(|catalog| {
        done(catalog, create(1, None));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 1)])));
        done(catalog, Intent::EndUpload { upload: upload(1), state: State::Cancelled, now: T0 });
        assert_eq!(doomed(catalog), [object(1)]);
        done(catalog, create(2, None));
        refused(catalog, stored(put(2, vec![extent(0, 1, DIR, 1)])), Refusal::NotLive);
        refused(catalog, file("/a", 1, 1, T0), Refusal::NotLive);
    });
}

#[test]
fn r8_a_dropped_object_becomes_live_again() {
    on_each(|catalog| {
        done(catalog, create(1, Some(cells(2))));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 1)])));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 2)])));
        done(catalog, Intent::CloseDir { dir: DIR });
        done(catalog, stored(put(1, vec![extent(1, 1, DIR, 1)])));
        done(catalog, Intent::DoomObjects { before: at(9_000), limit: 9 });
        assert_eq!(doomed(catalog), []);
    });
}

// ---------------------------------------------------------------- objects and directories

#[test]
fn a_first_extent_needs_an_open_directory_of_this_boot() {
    on_each(|catalog| {
        done(catalog, create(1, None));
        let into = |dir: u32, number: u8| {
            stored(put(1, vec![extent(u64::from(number), 1, DirId::new(dir), number)]))
        };
        refused(catalog, into(7, 0), Refusal::ClosedDir);
        done(catalog, into(1, 0));
        done(catalog, Intent::CloseDir { dir: DIR });
        refused(catalog, into(1, 1), Refusal::ClosedDir);
        done(catalog, Intent::OpenDir { boot: BootId(1) });
        done(catalog, into(2, 1));
        done(catalog, Intent::Boot);
        refused(catalog, into(2, 2), Refusal::ClosedDir);
        refused(catalog, Intent::OpenDir { boot: BootId(1) }, Refusal::Superseded);
        assert_eq!(catalog.dead_dirs(BootId(2)).unwrap(), [DirId::new(2)]);
        assert_eq!(catalog.objects_in(DIR).unwrap(), [object(0)]);
        assert_eq!(catalog.object_dir(object(1)).unwrap(), Some(DirId::new(2)));
    });
}

#[test]
fn an_object_is_described_in_one_way() {
    on_each(|catalog| {
        done(catalog, Intent::OpenDir { boot: BootId(1) });
        done(catalog, file("/a", 1, 1, T0));
        done(catalog, create(1, None));
        refused(catalog, stored(put(1, vec![extent(0, 2, DIR, 1)])), MALFORMED);
        refused(catalog, stored(put(1, vec![extent(0, 1, DirId::new(2), 1)])), MALFORMED);
        let outside = Extent { object_start: Offset::new(1), ..extent(0, 1, DIR, 1) };
        refused(catalog, stored(put(1, vec![outside])), MALFORMED);
        let empty = Extent { span: span(0, 0), ..extent(0, 1, DIR, 1) };
        refused(catalog, stored(put(1, vec![empty])), MALFORMED);
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 1)])));
    });
}

#[test]
fn an_ended_upload_dooms_only_unshared_objects() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        done(catalog, create(1, None));
        let both = vec![extent(0, 1, DIR, 1), extent(1, 1, DIR, 2)];
        done(catalog, stored(Store { clear: span(0, 2), ..put(1, both) }));
        done(catalog, Intent::EndUpload { upload: upload(1), state: State::Poisoned, now: T0 });
        assert_eq!(doomed(catalog), [object(2)]);
        let ended = row(catalog, 1);
        assert_eq!((ended.state, ended.generation, ended.covered), (State::Poisoned, 1, Length::ZERO));
        assert_eq!((ended.content, ended.content_version, ended.done), (ContentId(0), 0, None));
        assert_eq!(catalog.lane(upload(1), LaneId::Append).unwrap(), None);
    });
}

#[test]
fn bury_then_doom_then_forget() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        done(catalog, remove("/a", T0));
        let bury = |before| Intent::BuryBlobs { before, limit: 9, now: at(10) };
        let doom = |before| Intent::DoomObjects { before, limit: 9 };
        assert_eq!(done(catalog, bury(T0)), Outcome::Count(0), "not earlier than");
        assert_eq!(done(catalog, doom(at(99))), Outcome::Doomed(vec![]), "the blob still holds it");
        assert_eq!(done(catalog, bury(at(1))), Outcome::Count(1));
        assert_eq!(done(catalog, doom(at(10))), Outcome::Doomed(vec![]));
        assert_eq!(catalog.objects(None, 9).unwrap().len(), 1);
        let name = ObjectName { dir: DIR, id: object(1) };
        assert_eq!(done(catalog, doom(at(11))), Outcome::Doomed(vec![name]));
        assert_eq!(catalog.objects(None, 9).unwrap(), []);
        let forget = || Intent::ForgetObjects { objects: vec![object(1), object(9)] };
        assert_eq!(done(catalog, forget()), Outcome::Count(1));
        assert_eq!(done(catalog, forget()), Outcome::Count(0));
        assert_eq!(catalog.stats().unwrap().objects, 0);
    });
}

#[test]
fn only_doomed_objects_are_forgotten() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        let forget = Intent::ForgetObjects { objects: vec![object(1)] };
        assert_eq!(done(catalog, forget), Outcome::Count(0));
        assert_eq!(catalog.objects_in(DIR).unwrap(), [object(1)]);
    });
}

// ---------------------------------------------------------------- blobs

#[test]
fn a_spare_is_promoted_or_dropped() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        let old = blob(catalog, "/a").content;
        for (number, promote, holder) in [(2, false, 1), (3, true, 3)] {
            let again = publish("/b", 1, cells(1), Source::Extents(vec![extent(0, 1, DIR, number)]), T0);
            let Outcome::Published { known: true, .. } = done(catalog, Intent::Publish(Box::new(again)))
            else {
                panic!("the content is held")
            };
            let (held, spare) = catalog.spares(9).unwrap().remove(0);
            assert_eq!(held.content, old, "until it is settled the old content is served");
            let settle = |spare| Intent::SettleSpare { blob: held.id, spare, promote, now: T0 };
            refused(catalog, settle(old), Refusal::NotFound);
            done(catalog, settle(spare));
            refused(catalog, settle(spare), Refusal::NotFound);
            let extents = catalog.extents(blob(catalog, "/a").content, whole(), 9).unwrap();
            assert_eq!(extents[0].object.id, object(holder));
        }
        assert_eq!(catalog.spares(9).unwrap(), []);
        let Outcome::Doomed(names) = done(catalog, Intent::DoomObjects { before: at(1), limit: 9 }) else {
            panic!()
        };
        assert_eq!(names.len(), 2, "the spare that lost and the content that lost");
    });
}

#[test]
fn a_held_inline_content_needs_no_spare() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, T0));
        done(catalog, inline("/b", 1, T0));
        assert_eq!(blob(catalog, "/a"), blob(catalog, "/b"));
        assert_eq!(catalog.spares(9).unwrap(), []);
        assert_eq!(catalog.inline(blob(catalog, "/a").content).unwrap(), Some(vec![1]));
        let (_, paths) = catalog.blobs(None, 9).unwrap().remove(0);
        assert_eq!(paths, ["/@ann/a", "/@ann/b"]);
        let other_size = publish("/c", 1, Length::new(2), Source::Inline(vec![1]), T0);
        refused(catalog, Intent::Publish(Box::new(other_size)), MALFORMED);
    });
}

#[test]
fn a_content_with_a_hole_is_incomplete() {
    on_each(|catalog| {
        let check = |extents: Vec<Extent>, size: u64| {
            let late = publish("/a", 1, cells(size), Source::Extents(extents), T0);
            refused(catalog, Intent::Publish(Box::new(late)), Refusal::Incomplete);
        };
        check(vec![], 1);
        check(vec![extent(0, 1, DIR, 1)], 2);
        check(vec![extent(0, 2, DIR, 1)], 1);
        check(vec![extent(1, 1, DIR, 1)], 1);
        check(vec![extent(0, 1, DIR, 1), extent(2, 1, DIR, 2)], 2);
        done(catalog, create(1, None));
        done(catalog, stored(put(1, vec![extent(1, 1, DIR, 1)])));
        refused(catalog, finish(1, 1, 1, cells(1)), Refusal::Incomplete);
        done(catalog, Intent::EndUpload { upload: upload(1), state: State::Cancelled, now: T0 });
    });
}

// ---------------------------------------------------------------- uploads

#[test]
fn a_newer_epoch_shuts_older_ones_out() {
    on_each(|catalog| {
        done(catalog, create(1, None));
        let under = |epoch, extent| stored(Store { epoch, ..put(1, vec![extent]) });
        done(catalog, under(5, extent(0, 1, DIR, 1)));
        refused(catalog, under(4, extent(1, 1, DIR, 2)), Refusal::Superseded);
        refused(catalog, under(5, extent(1, 1, DIR, 2)), Refusal::Superseded);
        assert_eq!(catalog.object_dir(object(2)).unwrap(), None, "the ghost wrote nothing");
        done(catalog, under(6, extent(1, 1, DIR, 2)));
        let other =
            Store { lane: LaneId::Part(PartNumber::new(1)), epoch: 1, ..put(1, vec![extent(2, 1, DIR, 3)]) };
        done(catalog, stored(other));
        assert_eq!(catalog.lane(upload(1), LaneId::Append).unwrap().unwrap().epoch, 6);
        assert_eq!(row(catalog, 1).content_version, 3);
        assert_eq!(row(catalog, 1).covered, cells(3));
    });
}

#[test]
fn a_key_gives_back_the_same_upload() {
    on_each(|catalog| {
        let keyed = |number, user| {
            let new = NewUpload { key: Some("k".into()), user, ..new_upload(number, None) };
            Intent::CreateUpload(Box::new(new))
        };
        let told = |number, created| Outcome::Upload { id: upload(number), created };
        assert_eq!(done(catalog, keyed(1, ANN)), told(1, true));
        assert_eq!(done(catalog, keyed(2, ANN)), told(1, false));
        assert_eq!(done(catalog, keyed(3, UserId(2))), told(3, true), "keys are a user's own");
        done(catalog, Intent::EndUpload { upload: upload(1), state: State::Cancelled, now: T0 });
        assert_eq!(done(catalog, keyed(2, ANN)), told(1, false), "ended or not");
        assert_eq!(done(catalog, Intent::ForgetUploads { before: at(1), limit: 9 }), Outcome::Count(1));
        assert_eq!(done(catalog, keyed(2, ANN)), told(2, true));
    });
}

#[test]
fn a_user_has_so_many_open_uploads_and_no_more() {
    on_each(|catalog| {
        let new =
            |number| Intent::CreateUpload(Box::new(NewUpload { uploads_max: 1, ..new_upload(number, None) }));
        done(catalog, new(1));
        refused(catalog, new(2), Refusal::TooManyUploads);
        refused(catalog, new(1), Refusal::Exists);
        done(catalog, Intent::EndUpload { upload: upload(1), state: State::Cancelled, now: T0 });
        done(catalog, new(2));
    });
}

#[test]
fn an_upload_ends_once() {
    on_each(|catalog| {
        let end = |state| Intent::EndUpload { upload: upload(1), state, now: T0 };
        refused(catalog, end(State::Cancelled), Refusal::NotFound);
        done(catalog, create(1, None));
        refused(catalog, end(State::Done), MALFORMED);
        refused(catalog, end(State::Open), MALFORMED);
        done(catalog, end(State::Expired));
        refused(catalog, end(State::Cancelled), Refusal::Ended(State::Expired));
        refused(catalog, stored(put(1, vec![])), Refusal::Ended(State::Expired));
        refused(catalog, finish(1, 0, 1, cells(0)), Refusal::Ended(State::Expired));
    });
}

#[test]
fn uploads_expire_at_their_time_and_are_forgotten_after() {
    on_each(|catalog| {
        for (number, expires) in [(1, at(20)), (2, at(10)), (3, at(30))] {
            let new = NewUpload { expires, ..new_upload(number, None) };
            done(catalog, Intent::CreateUpload(Box::new(new)));
        }
        done(catalog, stored(Store { expires: at(5), ..put(2, vec![]) }));
        let expire = |now, limit| Intent::ExpireUploads { now, limit };
        assert_eq!(
            done(catalog, expire(at(9), 9)),
            Outcome::Ended(vec![]),
            "a store never shortens its life"
        );
        assert_eq!(done(catalog, expire(at(20), 1)), Outcome::Ended(vec![upload(2)]));
        assert_eq!(done(catalog, expire(at(20), 9)), Outcome::Ended(vec![upload(1)]));
        let forget = |before| Intent::ForgetUploads { before, limit: 9 };
        assert_eq!(done(catalog, forget(at(20))), Outcome::Count(0));
        assert_eq!(done(catalog, forget(at(21))), Outcome::Count(2));
        assert_eq!(catalog.uploads(ANN, None, 9).unwrap().len(), 1);
    });
}

#[test]
fn a_publish_believes_in_one_version_of_the_content() {
    on_each(|catalog| {
        done(catalog, create(1, Some(cells(1))));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 1)])));
        refused(catalog, finish(1, 0, 1, cells(1)), Refusal::Superseded);
        done(catalog, finish(1, 1, 1, cells(1)));
        let ended = row(catalog, 1);
        assert_eq!((ended.state, ended.size), (State::Done, Some(cells(1))));
        let completion = ended.done.expect("it is done");
        assert_eq!((completion.version, completion.replaced), (1, false));
        refused(catalog, finish(1, 1, 1, cells(1)), Refusal::Ended(State::Done));
        assert_eq!(catalog.stats().unwrap().uploads, 0);
    });
}

#[test]
fn a_store_never_cuts_an_extent() {
    on_each(|catalog| {
        done(catalog, create(1, Some(cells(4))));
        done(catalog, stored(put(1, vec![extent(0, 2, DIR, 1)])));
        let clear = |clear: Span| stored(Store { clear, ..put(1, vec![]) });
        refused(catalog, clear(span(1, 2)), MALFORMED);
        refused(catalog, stored(put(1, vec![extent(1, 1, DIR, 2)])), MALFORMED);
        let overlap = Store { clear: span(3, 1), ..put(1, vec![extent(1, 2, DIR, 2)]) };
        refused(catalog, stored(overlap), MALFORMED);
        refused(catalog, stored(put(1, vec![extent(4, 1, DIR, 2)])), MALFORMED);
        done(catalog, clear(span(1, 0)));
        assert_eq!(row(catalog, 1).covered, cells(2), "an empty span overlaps nothing");
        done(catalog, clear(span(0, 2)));
        assert_eq!(row(catalog, 1).covered, Length::ZERO);
    });
}

#[test]
fn the_first_root_goes_with_the_first_part() {
    on_each(|catalog| {
        done(catalog, create(1, Some(cells(4))));
        let root = || Some(vec![7]);
        let first = || Store { first_root: root(), ..put(1, vec![extent(0, 1, DIR, 1)]) };
        done(catalog, stored(first()));
        done(catalog, stored(put(1, vec![extent(2, 1, DIR, 2)])));
        assert_eq!(row(catalog, 1).first_root, root(), "another part does not concern it");
        done(catalog, stored(put(1, vec![extent(1, 1, DIR, 3)])));
        assert_eq!(row(catalog, 1).first_root, None, "part 0 ends elsewhere now");
        done(catalog, stored(Store { put: vec![extent(0, 1, DIR, 4)], ..first() }));
        let keep = Offset::new(CELL);
        let resize =
            Intent::Resize { upload: upload(1), generation: 0, size: cells(4), mtime: None, keep, now: T0 };
        done(catalog, resize);
        assert_eq!(row(catalog, 1).first_root, None);
        assert_eq!(row(catalog, 1).covered, cells(1));
    });
}

#[test]
fn a_resize_drops_what_reaches_behind() {
    on_each(|catalog| {
        done(catalog, create(1, Some(cells(6))));
        let open = |part: u32| {
            let have = Length::new(10);
            Some(OpenPart { part: PartNumber::new(part), have, tail: have, sealed: vec![1] })
        };
        let lane = |part: u32| LaneId::Part(PartNumber::new(part));
        done(catalog, stored(put(1, vec![extent(0, 2, DIR, 1)])));
        done(catalog, stored(Store { lane: lane(1), open: open(1), ..put(1, vec![]) }));
        done(catalog, stored(Store { lane: lane(2), open: open(2), ..put(1, vec![extent(3, 2, DIR, 2)]) }));
        refused(catalog, stored(Store { lane: lane(2), open: open(1), ..put(1, vec![]) }), MALFORMED);
        let resize = |size, keep| Intent::Resize {
            upload: upload(1),
            generation: 0,
            size: cells(size),
            mtime: Some(5),
            keep: Offset::new(CELL * keep),
            now: T0,
        };
        refused(catalog, resize(2, 3), MALFORMED);
        done(catalog, resize(4, 4));
        let now = row(catalog, 1);
        assert_eq!((now.size, now.covered, now.meta.mtime), (Some(cells(4)), cells(2), Some(5)));
        assert_eq!(now.generation, 1, "who measured by the old size is out");
        refused(catalog, resize(4, 4), Refusal::Superseded);
        let (_, left) = catalog.holdings(upload(1), whole(), &mut |_| {}).unwrap().unwrap();
        assert_eq!(left.iter().map(|lane| lane.id).collect::<Vec<_>>(), [lane(1)]);
        let epoch = catalog.lane(upload(1), lane(2)).unwrap().unwrap().epoch;
        assert!(epoch >= 1_000, "its epoch still guards it");
        assert_eq!(filled(catalog), (0, 4 * CELL));
    });
}

// ---------------------------------------------------------------- batches and quota

#[test]
fn one_refused_intent_does_not_disturb_its_batch() {
    on_each(|catalog| {
        let nobody = NewUpload { user: UserId(77), ..new_upload(2, None) };
        let batch = [
            inline("/d/a", 1, T0),
            inline("/d/a/b", 2, T0),
            create(1, None),
            create(1, None),
            Intent::CreateUpload(Box::new(nobody)),
            stored(put(1, vec![extent(0, 1, DIR, 1), extent(1, 1, DirId::new(9), 2)])),
            Intent::RemoveToken { user: ANN, token: TokenId(1) },
            inline("/d/b", 2, T0),
        ];
        let answers = catalog.commit(&batch).unwrap();
        let refusals: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().cloned()).collect();
        let expected = [
            None,
            Some(Refusal::NotAFolder),
            None,
            Some(Refusal::Exists),
            Some(Refusal::NotFound),
            Some(Refusal::ClosedDir),
            Some(Refusal::NotFound),
            None,
        ];
        assert_eq!(refusals, expected);
        assert_eq!(entry(catalog, "/d/b").id, EntryId(5), "refused intents take no numbers");
        assert_eq!(row(catalog, 1).covered, Length::ZERO);
        assert_eq!(catalog.object_dir(object(1)).unwrap(), None, "the first extent went with the second");
    });
}

#[test]
fn quota_is_never_passed() {
    on_each(|catalog| {
        done(catalog, Intent::SetQuota { space: HERS, quota: Some(cells(10)) });
        let full = |used| Refusal::Quota { limit: cells(10), used: cells(used) };
        done(catalog, file("/a", 1, 4, T0));
        refused(catalog, create(1, Some(cells(7))), full(4));
        done(catalog, create(1, Some(cells(5))));
        refused(catalog, file("/b", 2, 2, T0), full(9));
        assert_eq!(filled(catalog), (4 * CELL, 5 * CELL));
        let resize = |size| Intent::Resize {
            upload: upload(1),
            generation: row(catalog, 1).generation,
            size: cells(size),
            mtime: None,
            keep: Offset::ZERO,
            now: T0,
        };
        refused(catalog, resize(7), full(9));
        done(catalog, resize(6));
        done(catalog, Intent::SetQuota { space: HERS, quota: Some(cells(1)) });
        done(catalog, resize(5));
        done(catalog, stored(Store { generation: 2, ..put(1, vec![extent(0, 5, DIR, 5)]) }));
        let source = Source::Upload { id: upload(1), generation: 2, content_version: 3 };
        done(catalog, Intent::Publish(Box::new(publish("/u", 5, cells(5), source, T0))));
        assert_eq!(filled(catalog), (9 * CELL, 0), "what was promised is kept");
        done(catalog, file("/a", 2, 3, T0));
        assert_eq!(filled(catalog), (8 * CELL, 0), "what makes room is not refused");
    });
}

#[test]
fn a_space_without_a_quota_holds_what_can_be_counted() {
    on_each(|catalog| {
        done(catalog, create(1, Some(SPACE_MAX)));
        let full = Refusal::Quota { limit: SPACE_MAX, used: SPACE_MAX };
        refused(catalog, create(2, Some(SPACE_MAX)), full.clone());
        refused(catalog, file("/a", 1, 1, T0), full);
    });
}

#[test]
fn an_upload_of_unknown_size_reserves_in_steps() {
    on_each(|catalog| {
        done(catalog, Intent::SetQuota { space: HERS, quota: Some(cells(12)) });
        done(catalog, create(1, None));
        assert_eq!(filled(catalog), (0, 0));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 1)])));
        assert_eq!(filled(catalog), (0, 64 << 20));
        done(catalog, stored(put(1, vec![extent(1, 7, DIR, 2)])));
        assert_eq!(filled(catalog), (0, 64 << 20));
        let used = Length::new(64 << 20);
        let beyond = stored(put(1, vec![extent(8, 1, DIR, 3)]));
        refused(catalog, beyond, Refusal::Quota { limit: cells(12), used });
        done(catalog, finish(1, 2, 1, cells(8)));
        assert_eq!(filled(catalog), (8 * CELL, 0));
    });
}

// ---------------------------------------------------------------- entries

#[test]
fn replacing_keeps_the_id_and_raises_the_version() {
    on_each(|catalog| {
        done(catalog, inline("/d/a", 1, T0));
        let first = entry(catalog, "/d/a");
        let replaced = done(catalog, inline("/d/a", 2, at(5_000)));
        let id = blob(catalog, "/d/a").id;
        let expected =
            Outcome::Published { entry: first.id, version: 2, replaced: true, blob: id, known: false };
        assert_eq!(replaced, expected);
        done(catalog, set_mtime("/d/a", Expect::Anything));
        done(catalog, rename("/d/a", "/d/b", at(6_000)));
        let moved = entry(catalog, "/d/b");
        assert_eq!((moved.id, moved.version), (first.id, 4));
        done(catalog, remove("/d/b", at(7_000)));
        done(catalog, inline("/d/b", 1, at(9_000)));
        let again = entry(catalog, "/d/b");
        assert_ne!(again.id, first.id);
        assert_eq!(again.version, 1);
    });
}

#[test]
fn what_stands_at_a_path_must_be_what_was_believed() {
    on_each(|catalog| {
        let expecting = |expect| {
            let change = publish("/a", 1, Length::new(1), Source::Inline(vec![1]), T0);
            Intent::Publish(Box::new(Publish { expect, ..change }))
        };
        let removing = |expect| Intent::Remove {
            space: HERS,
            path: path("/a"),
            expect,
            recursive: false,
            now: T0.into(),
        };
        refused(catalog, removing(Expect::Anything), Refusal::NotFound);
        refused(catalog, expecting(Expect::Entry(EntryId(3), 1)), Refusal::Unexpected);
        done(catalog, expecting(Expect::Nothing));
        refused(catalog, expecting(Expect::Nothing), Refusal::Unexpected);
        let id = entry(catalog, "/a").id;
        refused(catalog, expecting(Expect::Entry(id, 2)), Refusal::Unexpected);
        done(catalog, expecting(Expect::Entry(id, 1)));
        refused(catalog, removing(Expect::Entry(id, 1)), Refusal::Unexpected);
        refused(catalog, set_mtime("/a", Expect::Entry(id, 1)), Refusal::Unexpected);
        refused(catalog, set_mtime("/a", Expect::Nothing), Refusal::Unexpected);
        done(catalog, set_mtime("/a", Expect::Entry(id, 2)));
        refused(catalog, removing(Expect::Entry(id, 2)), Refusal::Unexpected);
        done(catalog, removing(Expect::Entry(id, 3)));
        refused(catalog, set_mtime("/a", Expect::Entry(id, 3)), Refusal::NotFound);
    });
}

#[test]
fn folders_are_made_moved_and_removed() {
    on_each(|catalog| {
        done(catalog, folder("/d/e", T0));
        let again = done(catalog, folder("/d/e", T0));
        assert_eq!(again, Outcome::Entry { id: entry(catalog, "/d/e").id, created: false });
        done(catalog, inline("/a", 1, T0));
        refused(catalog, folder("/a/x", T0), Refusal::NotAFolder);
        refused(catalog, inline("/d", 2, T0), Refusal::IsAFolder);
        refused(catalog, rename("/d", "/d/e/f", T0), Refusal::IntoItself);
        refused(catalog, rename("/a", "/d", T0), Refusal::Exists);
        refused(catalog, rename("/d", "/a", T0), Refusal::Exists);
        refused(catalog, rename("/a", "/x/a", T0), Refusal::NotFound);
        refused(catalog, rename("/x", "/y", T0), Refusal::NotFound);
        refused(catalog, rename("/", "/y", T0), MALFORMED);
        refused(catalog, remove("/", T0), MALFORMED);
        done(catalog, rename("/a", "/d/e/a", T0));
        let plain = Intent::Remove {
            space: HERS,
            path: path("/d"),
            expect: Expect::Anything,
            recursive: false,
            now: T0.into(),
        };
        refused(catalog, plain, Refusal::NotEmpty);
        done(catalog, remove("/d", T0));
        let stats = catalog.stats().unwrap();
        assert_eq!((stats.files, stats.folders, stats.blobs, stats.logical), (0, 2, 0, 0));
    });
}

#[test]
fn listing_pages_never_skip_or_repeat() {
    on_each(|catalog| {
        let names = ["Z", "a", "a b", "a.b", "aa", "b", "e\u{301}", "é", "漢"];
        let mut batch: Vec<_> = names.iter().rev().map(|name| inline(&format!("/d/{name}"), 1, T0)).collect();
        batch.extend([inline("/d/b/below", 1, T0), inline("/e", 1, T0)]);
        catalog.commit(&batch).unwrap();
        for limit in 1..=names.len() + 1 {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = catalog.children(HERS, &path("/d"), after.as_ref(), limit).unwrap();
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                after.clone_from(&last.name);
                listed.extend(page.into_iter().map(|entry| entry.name.unwrap().to_string()));
            }
            assert_eq!(listed, names, "in byte order, {limit} at a time");
        }
        assert_eq!(catalog.children(HERS, &path("/e"), None, 9).unwrap(), []);
        assert_eq!(catalog.children(HERS, &path("/none"), None, 9).unwrap(), []);
    });
}

// ---------------------------------------------------------------- accounts

#[test]
fn a_user_goes_with_all_that_is_theirs() {
    on_each(|catalog| {
        let bobs = SpaceId(2);
        done(catalog, file("/a", 1, 1, T0));
        done(catalog, create(1, Some(cells(1))));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 2)])));
        let foreign = NewUpload { user: UserId(2), ..new_upload(2, None) };
        done(catalog, Intent::CreateUpload(Box::new(foreign)));
        let abroad = NewUpload { space: bobs, ..new_upload(3, Some(cells(2))) };
        done(catalog, Intent::CreateUpload(Box::new(abroad)));
        let token = Intent::AddToken {
            user: ANN,
            name: "t".into(),
            hash: [1; 32],
            scope: "all".into(),
            now: T0,
            expires: None,
        };
        done(catalog, token.clone());
        refused(catalog, token, Refusal::Exists);
        done(catalog, Intent::RemoveUser { user: ANN, now: T0.into() });
        refused(catalog, Intent::RemoveUser { user: ANN, now: T0.into() }, Refusal::NotFound);
        assert_eq!(catalog.user("ann").unwrap(), None);
        assert_eq!(catalog.space("ann").unwrap(), None);
        assert_eq!(catalog.token(&[1; 32]).unwrap(), None);
        for number in 1..=3 {
            assert_eq!(catalog.upload(upload(number)).unwrap(), None, "upload {number}");
        }
        assert_eq!(catalog.space_by_id(bobs).unwrap().unwrap().reserved, Length::ZERO);
        assert_eq!(doomed(catalog), [object(2)]);
        assert_eq!(done(catalog, Intent::BuryBlobs { before: at(1), limit: 9, now: T0 }), Outcome::Count(1));
        assert_eq!(catalog.blobs(None, 9).unwrap(), []);
    });
}

#[test]
fn a_name_is_taken_once() {
    on_each(|catalog| {
        let user =
            Intent::CreateUser { name: "ann".into(), password: "x".into(), admin: true, now: T0.into() };
        refused(catalog, user, Refusal::Exists);
        refused(catalog, Intent::SetPassword { user: UserId(9), password: "x".into() }, Refusal::NotFound);
        refused(catalog, Intent::SetQuota { space: SpaceId(9), quota: None }, Refusal::NotFound);
        done(catalog, Intent::SetPassword { user: ANN, password: "x".into() });
        assert_eq!(catalog.user("ann").unwrap().unwrap().password, "x");
        let claim = publish("/a", 1, Length::new(1), Source::Known(BlobId(1)), T0);
        refused(catalog, Intent::Publish(Box::new(claim)), Refusal::NotLive);
    });
}
