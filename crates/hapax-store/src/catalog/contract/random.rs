//! Random histories: every batch is given to the embedded engine and to the model, and whatever can be asked must
//! have the same answer. Owns the making of histories in which most intents are plausible.

use std::collections::BTreeMap;

use hapax_proto::digest::Algorithm;
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::State;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::model::ModelCatalog;
use super::super::sqlite::SqliteCatalog;
use super::super::{
    BlobId, BootId, Catalog, ContentId, Entry, EntryId, EntryKind, Expect, LaneId, MaskedValue, Meta,
    NewUpload, OpenPart, Outcome, Publish, Rewrite, Source, SpaceId, Store, TokenId, UserId,
};
use super::*;
use crate::clock::{Moment, Timestamp};
use crate::key::{Fingerprint, Lookup};

const USERS: [&str; 3] = ["ann", "bob", "cyd"];
const PATHS: [&str; 10] = ["/a", "/b", "/d", "/d/a", "/d/b", "/d/e", "/d/e/a", "/e", "/e/a", "/"];
const UPLOADS: u8 = 5;
const UPLOAD_KEYS: u8 = 9;
const OBJECTS: u8 = 8;
/// How many cells the content of each fingerprint has.
const IDENTITIES: [u64; 5] = [0, 1, 1, 2, 3];
/// The number from which on fingerprints stand for identities that are pending.
const PENDING: u8 = 100;
const START: Timestamp = Timestamp::from_secs(1_000);
/// How far the clock may go between two intents, in milliseconds.
const STEPS: [i64; 10] = [0, 0, 0, 300, 300, 700, 1_000, 2_000, -300, -1_500];

#[derive(Debug, Clone, Copy)]
enum Verb {
    Boot,
    OpenDir,
    CloseDir,
    SaveClock,
    CreateUser,
    SetPassword,
    SetGroup,
    SetQuota,
    RemoveUser,
    AddToken,
    RemoveToken,
    MakeFolder,
    Move,
    Remove,
    SetMeta,
    CreateUpload,
    Store,
    Fill,
    Resize,
    EndUpload,
    Finish,
    FinishInstead,
    PublishExtents,
    PublishInline,
    PublishKnown,
    KeepDigest,
    KeepValues,
    Identify,
    SettleSpare,
    JudgeBlob,
    Rewrite,
    SaveJob,
    ExpireUploads,
    ForgetUploads,
    BuryBlobs,
    DoomObjects,
    ForgetObjects,
}

/// What is drawn; what becomes of it depends on the state that it meets.
#[derive(Debug, Clone)]
struct Draft {
    verb: Verb,
    step: usize,
    /// One of sixteen intents believes what is not so.
    wrong: bool,
    picks: [Index; 6],
}

fn verbs() -> impl Strategy<Value = Verb> {
    use Verb as V;
    prop_oneof![
        2 => prop::sample::select(vec![V::Boot, V::CloseDir, V::SaveClock, V::CreateUser, V::SetPassword]),
        2 => prop::sample::select(vec![V::RemoveUser, V::SetGroup, V::AddToken, V::AddToken, V::RemoveToken]),
        2 => Just(V::SetQuota),
        2 => Just(V::OpenDir),
        9 => prop::sample::select(vec![V::MakeFolder, V::Move, V::Move, V::Remove, V::SetMeta]),
        8 => Just(V::CreateUpload),
        12 => prop::sample::select(vec![V::Store, V::Fill]),
        4 => prop::sample::select(vec![V::Resize, V::Resize, V::EndUpload]),
        6 => Just(V::Finish),
        4 => Just(V::FinishInstead),
        8 => prop::sample::select(vec![V::PublishExtents, V::PublishExtents, V::PublishInline, V::PublishKnown]),
        2 => Just(V::SettleSpare),
        6 => prop::sample::select(vec![V::JudgeBlob, V::JudgeBlob, V::Rewrite, V::Rewrite, V::SaveJob]),
        3 => prop::sample::select(vec![V::KeepDigest, V::KeepValues, V::Identify, V::Identify]),
        6 => prop::sample::select(vec![V::ExpireUploads, V::ForgetUploads, V::BuryBlobs, V::DoomObjects, V::ForgetObjects]),
    ]
}

fn histories() -> impl Strategy<Value = Vec<Vec<Draft>>> {
    let draft =
        (verbs(), 0..STEPS.len(), prop::bool::weighted(1.0 / 16.0), prop::array::uniform6(any::<Index>()))
            .prop_map(|(verb, step, wrong, picks)| Draft { verb, step, wrong, picks });
    prop::collection::vec(prop::collection::vec(draft, 1..6), 1..32)
}

/// Turns drafts into intents that fit what a catalog holds now.
struct Author<'a> {
    catalog: &'a dyn Catalog,
    newest: BootId,
    now: Timestamp,
    draft: &'a Draft,
}

impl Author<'_> {
    fn pick<T: Copy>(&self, which: usize, from: &[T]) -> T {
        *self.draft.picks[which].get(from)
    }

    fn number(&self, which: usize, below: u8) -> u8 {
        u8::try_from(self.draft.picks[which].index(usize::from(below))).unwrap()
    }

    /// Gives back a number, or another one if the intent is to be wrong.
    fn or_wrong(&self, right: u64) -> u64 {
        if self.draft.wrong { right.wrapping_sub(1) } else { right }
    }

    /// Now, by two clocks of which the steady one is an hour behind.
    fn moment(&self) -> Moment {
        let wall = self.now.after(std::time::Duration::from_hours(1));
        Moment { steady: self.now, wall }
    }

    fn space(&self) -> SpaceId {
        SpaceId(i64::from(self.number(0, 2)) + if self.draft.wrong { 2 } else { 1 })
    }

    fn path(&self, which: usize) -> EntryPath {
        path(self.pick(which, &PATHS))
    }

    /// A path at which something stands, if there is one below the root; one time in four any path.
    fn standing(&self, which: usize, space: SpaceId) -> EntryPath {
        let stands = |text: &&str| *text != "/" && self.catalog.entry(space, &path(text)).unwrap().is_some();
        let standing: Vec<_> = PATHS.into_iter().filter(stands).collect();
        if standing.is_empty() || self.number(5, 4) == 0 {
            return self.path(which);
        }
        path(self.pick(which, &standing))
    }

    fn expect(&self, space: SpaceId, path: &EntryPath) -> Expect {
        let standing = self.catalog.entry(space, path).unwrap();
        match (self.number(5, 3), standing) {
            (0, _) => Expect::Anything,
            (1, None) => Expect::Nothing,
            (1, Some(entry)) => Expect::Entry(entry.id, self.or_wrong(entry.version)),
            (_, Some(_)) if self.draft.wrong => Expect::Nothing,
            (_, None) if self.draft.wrong => Expect::Entry(EntryId(1), 1),
            _ => Expect::Anything,
        }
    }

    fn meta(&self) -> Meta {
        Meta { mtime: Some(i64::from(self.number(4, 4)) - 2), executable: self.draft.wrong, media_type: None }
    }

    /// A new extent over cells, in one of the few objects: where it is known already, or in the newest directory.
    fn extent(&self, which: usize, first: u64, count: u64) -> Extent {
        let number = self.number(which, OBJECTS);
        let id = object(number);
        let length = 1 + u64::from(number % 3);
        let newest = DirId::new(u32::from(self.number(5, 3)) + 1);
        let dir = self.catalog.object_dir(id).unwrap().unwrap_or(newest);
        Extent {
            span: span(first, count),
            object: ObjectName { dir, id },
            object_length: cells(if self.draft.wrong { length + 1 } else { length }),
            object_start: Offset::new(CELL * length.saturating_sub(count)),
            value: number.is_multiple_of(2).then_some(MaskedValue { masked: [number; 32], salt: None }),
        }
    }

    /// Extents of a cell each, side by side.
    fn row(&self, count: u64) -> Vec<Extent> {
        (0..count).map(|cell| self.extent(1 + usize::try_from(cell).unwrap() % 4, cell, 1)).collect()
    }

    fn publish(&self, space: SpaceId, path: EntryPath, source: Source, identity: u8) -> Intent {
        let size = cells(IDENTITIES[usize::from(identity)] + u64::from(self.draft.wrong));
        let expect = self.expect(space, &path);
        let by_bytes = matches!(source, Source::Upload { .. } | Source::Extents(_));
        let is_pending = by_bytes && self.number(4, 3) == 0;
        Intent::Publish(Box::new(Publish {
            space,
            path,
            expect,
            source,
            fingerprint: fingerprint(if is_pending { PENDING + self.number(5, 5) } else { identity }),
            identity: (!is_pending).then(|| vec![identity]),
            size,
            meta: self.meta(),
            now: self.moment(),
        }))
    }

    fn intent(&self) -> Intent {
        let (space, now) = (self.space(), self.now);
        let user = UserId(i64::from(self.number(1, 3)) + 1);
        match self.draft.verb {
            Verb::Boot => Intent::Boot,
            Verb::OpenDir => Intent::OpenDir { boot: BootId(self.newest.0 - i64::from(self.draft.wrong)) },
            Verb::CloseDir => Intent::CloseDir { dir: DirId::new(u32::from(self.number(1, 4)) + 1) },
            Verb::SaveClock => Intent::SaveClock { now },
            Verb::CreateUser => {
                let name = self.pick(1, &USERS).to_owned();
                Intent::CreateUser { name, password: "p".into(), admin: self.draft.wrong, now: self.moment() }
            }
            Verb::SetPassword => Intent::SetPassword { user, password: format!("{now:?}") },
            Verb::SetGroup => {
                Intent::SetGroup { user, group: (self.number(2, 3) != 0).then(|| "g".to_owned()) }
            }
            Verb::SetQuota => {
                let quota = (self.number(2, 4) != 0).then(|| cells(u64::from(self.number(3, 24))));
                Intent::SetQuota { space, quota }
            }
            Verb::RemoveUser => Intent::RemoveUser { user, now: self.moment() },
            Verb::AddToken => Intent::AddToken {
                user,
                name: "t".into(),
                hash: [self.number(2, 3); 32],
                scope: "all".into(),
                now,
                expires: (self.number(3, 2) == 0).then_some(now),
            },
            Verb::RemoveToken => Intent::RemoveToken { user, token: TokenId(i64::from(self.number(2, 4))) },
            Verb::MakeFolder => Intent::MakeFolder { space, path: self.path(1), now: self.moment() },
            Verb::Move => {
                let overwrite = self.number(3, 2) == 0;
                Intent::Move {
                    space,
                    from: self.standing(1, space),
                    to: self.path(2),
                    overwrite,
                    now: self.moment(),
                }
            }
            Verb::Remove => {
                let (path, recursive) = (self.standing(1, space), self.number(2, 2) == 0);
                Intent::Remove {
                    space,
                    expect: self.expect(space, &path),
                    path,
                    recursive,
                    now: self.moment(),
                }
            }
            Verb::SetMeta => {
                let mtime = (self.number(2, 2) == 0).then(|| i64::from(self.number(3, 4)));
                let executable = (self.number(4, 2) == 0).then_some(true);
                let path = self.standing(1, space);
                Intent::SetMeta { space, expect: self.expect(space, &path), path, mtime, executable }
            }
            Verb::CreateUpload => self.create_upload(space),
            Verb::Store
            | Verb::Fill
            | Verb::Resize
            | Verb::EndUpload
            | Verb::Finish
            | Verb::FinishInstead => self.of_upload(),
            Verb::PublishExtents | Verb::PublishInline | Verb::PublishKnown => self.of_blob(space),
            _ => self.housekeeping(),
        }
    }

    fn housekeeping(&self) -> Intent {
        let (now, limit) = (self.now, 1 + usize::from(self.number(1, 3)));
        let before = now.after(std::time::Duration::from_secs(u64::from(self.number(2, 4))));
        match self.draft.verb {
            Verb::SettleSpare => {
                let spares = self.catalog.spares(9).unwrap();
                let known = spares.get(self.draft.picks[1].index(3));
                let (blob, spare) =
                    known.map_or((BlobId(1), ContentId(1)), |(blob, spare)| (blob.id, *spare));
                let spare = ContentId(spare.0 - i64::from(self.draft.wrong));
                Intent::SettleSpare { blob, spare, promote: self.number(2, 2) == 0, now }
            }
            Verb::KeepDigest => Intent::KeepDigest {
                blob: BlobId(i64::from(self.number(1, 6))),
                lookup: lookup(self.pick(2, Algorithm::ALL), self.number(4, LOOKUPS)),
                sealed: vec![self.number(3, 9)],
            },
            Verb::KeepValues | Verb::Identify => self.of_pending(),
            Verb::JudgeBlob | Verb::Rewrite => self.of_live(),
            Verb::SaveJob => {
                Intent::SaveJob { name: self.pick(2, &USERS).to_owned(), state: format!("{now:?}"), now }
            }
            Verb::ExpireUploads => Intent::ExpireUploads { now, limit },
            Verb::ForgetUploads => Intent::ForgetUploads { before, limit },
            Verb::BuryBlobs => Intent::BuryBlobs { before, limit, now },
            Verb::DoomObjects => Intent::DoomObjects { before, limit },
            _ => {
                let doomed = self.catalog.doomed(limit).unwrap().into_iter().map(|name| name.id);
                Intent::ForgetObjects { objects: doomed.chain([object(self.number(3, OBJECTS))]).collect() }
            }
        }
    }

    /// What a job finds out about a blob, or makes of it.
    fn of_live(&self) -> Intent {
        let live = self.catalog.blobs(None, 9).unwrap();
        let picked = live.get(self.draft.picks[1].index(3)).map(|(blob, _)| blob);
        let blob = picked.map_or(BlobId(i64::from(self.number(1, 6))), |blob| blob.id);
        let content = picked.map_or(ContentId(i64::from(self.number(3, 9))), |blob| blob.content);
        if matches!(self.draft.verb, Verb::JudgeBlob) {
            let content = ContentId(content.0 - i64::from(self.draft.wrong));
            return Intent::JudgeBlob {
                blob,
                content,
                damaged: (self.number(2, 3) != 0).then_some(self.now),
            };
        }
        let version = self.catalog.version(content).unwrap().unwrap_or_default();
        let count = picked.map_or(1, |blob| blob.size.get() / CELL);
        let first = u64::from(self.number(4, 3)).min(count);
        let put = if count == first { vec![] } else { vec![self.extent(5, first, count - first)] };
        Intent::Rewrite(Box::new(Rewrite {
            content,
            version: if self.number(2, 9) == 0 { self.or_wrong(version) } else { version },
            clear: span(first, (count - first).max(u64::from(self.number(3, 3)))),
            put,
            now: self.now,
        }))
    }

    /// What a job finds out about a pending blob, or believes of one that is not.
    fn of_pending(&self) -> Intent {
        let pending = self.catalog.pending(None, 9).unwrap();
        let picked = pending.get(self.draft.picks[1].index(2)).filter(|_| !self.draft.wrong);
        let blob = picked.map_or(BlobId(i64::from(self.number(1, 6))), |blob| blob.id);
        if matches!(self.draft.verb, Verb::KeepValues) {
            let content = picked.map_or(ContentId(0), |blob| blob.content);
            let mut extents = self.catalog.extents(content, whole(), 9).unwrap();
            for (cell, extent) in (0..).zip(&mut extents) {
                extent.value = Some(MaskedValue { masked: [cell; 32], salt: None });
                if self.number(2, 3) == 0 {
                    extent.object_start = Offset::new(CELL * u64::from(self.number(3, 3)));
                }
            }
            return Intent::KeepValues { blob, extents };
        }
        let fits =
            |number: &u8| picked.is_some_and(|blob| cells(IDENTITIES[usize::from(*number)]) == blob.size);
        let fitting: Vec<_> = (0..5_u8).filter(fits).collect();
        let identity = if fitting.is_empty() { self.number(3, 5) } else { self.pick(3, &fitting) };
        Intent::Identify { blob, fingerprint: fingerprint(identity), identity: vec![identity] }
    }

    fn create_upload(&self, space: SpaceId) -> Intent {
        let known = self.number(3, 3) != 0;
        let is_free = |number: &u8| self.catalog.upload(upload(*number)).unwrap().is_none();
        let free = (0..UPLOADS).find(is_free).filter(|_| !self.draft.wrong);
        Intent::CreateUpload(Box::new(NewUpload {
            id: upload(free.unwrap_or(self.number(1, UPLOADS))),
            user: UserId(i64::from(self.number(2, 2)) + if self.draft.wrong { 2 } else { 1 }),
            key: (self.number(4, 3) != 0).then(|| self.number(5, UPLOAD_KEYS).to_string()),
            space,
            path: self.path(2),
            size: known.then(|| cells(u64::from(self.number(5, 5)))),
            meta: self.meta(),
            precondition: None,
            digests: Some(vec![1]),
            notes: Some("kept".to_owned()),
            members: (0..self.number(0, 4).saturating_sub(1))
                .map(|_| upload(self.number(3, UPLOADS)))
                .collect(),
            now: self.now,
            expires: self.now.after(std::time::Duration::from_secs(u64::from(self.number(4, 20)))),
            uploads_max: 3,
        }))
    }

    fn of_blob(&self, space: SpaceId) -> Intent {
        let identity = self.number(3, 5);
        let count = IDENTITIES[usize::from(identity)];
        let source = match self.draft.verb {
            Verb::PublishExtents if self.number(2, 5) == 0 && count > 0 => {
                Source::Extents(vec![self.extent(1, u64::from(self.number(4, 2)), count)])
            }
            Verb::PublishExtents => Source::Extents(self.row(count)),
            Verb::PublishInline => Source::Inline(vec![identity; 3]),
            _ => {
                let known = (1..=2).find_map(|space| {
                    self.catalog.blob_in_space(SpaceId(space), &fingerprint(identity)).unwrap()
                });
                let orphan = BlobId(i64::from(self.number(4, 6)));
                Source::Known(known.map_or(orphan, |blob| blob.id))
            }
        };
        self.publish(space, self.path(2), source, identity)
    }

    fn of_upload(&self) -> Intent {
        let id = upload(self.number(1, UPLOADS));
        let Some(row) = self.catalog.upload(id).unwrap() else { return self.create_upload(self.space()) };
        let generation = row.generation.wrapping_sub(u32::from(self.draft.wrong && self.number(5, 2) == 0));
        match self.draft.verb {
            Verb::EndUpload => {
                let states = [State::Cancelled, State::Expired, State::Poisoned, State::Done];
                Intent::EndUpload { upload: id, state: self.pick(2, &states), now: self.now }
            }
            Verb::Resize => Intent::Resize {
                upload: id,
                generation,
                size: cells(u64::from(self.number(2, 6))),
                mtime: (self.number(3, 2) == 0).then_some(7),
                keep: Offset::new(CELL * u64::from(self.number(3, 5))),
                now: self.now,
            },
            Verb::FinishInstead => {
                let identity = self.number(2, 5);
                let known = self.catalog.blob_in_space(row.space, &fingerprint(identity)).unwrap();
                let blob = known.map_or(BlobId(i64::from(self.number(4, 6))), |blob| blob.id);
                self.publish(row.space, row.path, Source::Instead { id, generation, blob }, identity)
            }
            Verb::Finish => {
                let held = row.size.unwrap_or(row.covered);
                let identity = (0..5_u8).filter(|number| cells(IDENTITIES[usize::from(*number)]) == held);
                let fitting: Vec<_> = identity.collect();
                let identity = if fitting.is_empty() { self.number(2, 5) } else { self.pick(2, &fitting) };
                let content_version = self.or_wrong(row.content_version);
                let source = Source::Upload { id, generation, content_version };
                self.publish(row.space, row.path, source, identity)
            }
            _ => self.store(&row, generation),
        }
    }

    fn store(&self, row: &super::super::Upload, generation: u32) -> Intent {
        let size = row.size.map_or(3, |size| size.get() / CELL);
        let first = u64::from(self.number(2, 4));
        let part = PartNumber::new(u32::try_from(first / 2).unwrap());
        let (put, clear) = if matches!(self.draft.verb, Verb::Fill) {
            (self.row(size), span(0, 5))
        } else {
            let count = u64::from(self.number(3, 3));
            let put = if count == 0 { vec![] } else { vec![self.extent(4, first, count)] };
            (put, span(first, count.max(u64::from(self.number(5, 3)))))
        };
        let lane = if self.number(4, 2) == 0 { LaneId::Append } else { LaneId::Part(part) };
        let epoch = self.catalog.lane(row.id, lane).unwrap().map_or(1, |lane| lane.epoch + 1);
        let open = (self.number(5, 3) == 0).then(|| OpenPart {
            part: if self.draft.wrong { PartNumber::new(1) } else { part },
            have: Length::new(100),
            tail: Length::new(u64::from(self.number(3, 101))),
            sealed: vec![1, 2],
        });
        Intent::Store(Box::new(Store {
            upload: row.id,
            generation,
            lane,
            epoch: self.or_wrong(epoch + u64::from(self.number(5, 2))),
            clear,
            put,
            open,
            first_root: (self.number(4, 3) == 0).then(|| vec![self.number(4, 9)]),
            now: self.now,
            expires: self.now.after(std::time::Duration::from_secs(u64::from(self.number(3, 20)))),
        }))
    }
}

/// So few that different blobs come to have the same.
const LOOKUPS: u8 = 3;

fn lookup(algorithm: Algorithm, number: u8) -> Lookup {
    Lookup { algorithm, value: [number; 32] }
}

/// Everything that can be asked, as (question, answer).
fn ask(catalog: &dyn Catalog) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    ask_entries(catalog, &mut told);
    ask_uploads(catalog, &mut told);
    let mut tell = |question: String, answer: &dyn std::fmt::Debug| {
        told.insert(question, format!("{answer:?}"));
    };
    tell("users".into(), &catalog.users().unwrap());
    for name in USERS {
        tell(format!("job {name}"), &catalog.job(name).unwrap());
        tell(format!("user {name}"), &catalog.user(name).unwrap());
        tell(format!("space {name}"), &catalog.space(name).unwrap());
    }
    for number in 0..5_u8 {
        let id = i64::from(number);
        tell(format!("space {id}"), &catalog.space_by_id(SpaceId(id)).unwrap());
        tell(format!("tokens {id}"), &catalog.tokens(UserId(id)).unwrap());
        tell(format!("token {id}"), &catalog.token(&[number; 32]).unwrap());
        tell(format!("dead dirs {id}"), &catalog.dead_dirs(BootId(id)).unwrap());
        tell(format!("objects in {id}"), &catalog.objects_in(DirId::new(u32::from(number))).unwrap());
        tell(format!("spares {id}"), &catalog.spares(number.into()).unwrap());
        tell(format!("doomed {id}"), &catalog.doomed(number.into()).unwrap());
        tell(format!("digests {id}"), &catalog.digests(BlobId(id)).unwrap());
        let after = (number > 0).then_some(BlobId(id));
        tell(format!("blobs {id}"), &catalog.blobs(after, 2).unwrap());
        tell(format!("pending {id}"), &catalog.pending(after, 2).unwrap());
        tell(format!("damaged {id}"), &catalog.damaged(after, 2).unwrap());
        tell(format!("extent counts {id}"), &catalog.extent_counts(after, 2).unwrap());
        tell(format!("findable {id}"), &catalog.findable(after, 2).unwrap());
        let algorithms = &Algorithm::ALL[..usize::from(number)];
        tell(format!("unfindable {id}"), &catalog.unfindable(algorithms).unwrap());
        for (user, group) in (0..3).flat_map(|user| [(UserId(user), false), (UserId(user), true)]) {
            let held = catalog.held_by_others(&fingerprint(number), user, group, 2).unwrap();
            tell(format!("{number} held beside {user}, group {group}"), &held);
        }
    }
    for number in 0..OBJECTS {
        tell(format!("holders of {number}"), &catalog.holders(object(number)).unwrap());
        tell(format!("live objects {number}"), &catalog.live_objects(Some(object(number)), 3).unwrap());
        tell(format!("dir of {number}"), &catalog.object_dir(object(number)).unwrap());
        tell(format!("objects {number}"), &catalog.objects(Some(object(number)), 3).unwrap());
    }
    tell("objects".into(), &catalog.objects(None, 9).unwrap());
    tell("clock".into(), &catalog.clock().unwrap());
    tell("stats".into(), &catalog.stats().unwrap());
    for content in (0..40).map(ContentId) {
        tell(format!("version {content}"), &catalog.version(content).unwrap());
        tell(format!("inline {content}"), &catalog.inline(content).unwrap());
        tell(format!("extents {content}"), &catalog.extents(content, whole(), 9).unwrap());
        let mut each = Vec::new();
        catalog.each_extent(content, &mut |extent| each.push(extent)).unwrap();
        assert_eq!(each, catalog.extents(content, whole(), usize::MAX).unwrap());
        let inside = Span::new(Offset::new(CELL / 2), Offset::new(CELL + 1)).unwrap();
        tell(format!("extents {content} inside"), &catalog.extents(content, inside, 1).unwrap());
        tell(format!("extents {content} nowhere"), &catalog.extents(content, span(1, 0), 9).unwrap());
    }
    told
}

fn ask_entries(catalog: &dyn Catalog, told: &mut BTreeMap<String, String>) {
    for space in (0..4).map(SpaceId) {
        for text in PATHS {
            let at = path(text);
            told.insert(format!("entry {space} {text}"), format!("{:?}", catalog.entry(space, &at).unwrap()));
            let all = catalog.children(space, &at, None, 9).unwrap();
            for last in &all {
                let behind = catalog.children(space, &at, last.name.as_ref(), 1).unwrap();
                told.insert(format!("children {space} {text} behind {:?}", last.name), format!("{behind:?}"));
            }
            told.insert(format!("children {space} {text}"), format!("{all:?}"));
        }
        for number in (0..5).chain(PENDING..PENDING + 5) {
            let blob = catalog.blob_in_space(space, &fingerprint(number)).unwrap();
            told.insert(format!("blob {number} in {space}"), format!("{blob:?}"));
            let shown = catalog.shown_in_space(space, &fingerprint(number)).unwrap();
            told.insert(format!("shown blob {number} in {space}"), format!("{shown:?}"));
        }
        for count in 0..5 {
            let blobs = catalog.blobs_of_size(space, cells(count), 2).unwrap();
            told.insert(format!("blobs of {count} cells in {space}"), format!("{blobs:?}"));
        }
        for (algorithm, number) in Algorithm::ALL.iter().flat_map(|it| (0..LOOKUPS).map(|n| (*it, n))) {
            for space in [None, Some(space)] {
                let blobs = catalog.blobs_by_digest(space, &lookup(algorithm, number), 2).unwrap();
                told.insert(format!("{algorithm} {number} in {space:?}"), format!("{blobs:?}"));
            }
        }
    }
}

fn ask_uploads(catalog: &dyn Catalog, told: &mut BTreeMap<String, String>) {
    let mut tell = |question: String, answer: &dyn std::fmt::Debug| {
        told.insert(question, format!("{answer:?}"));
    };
    for number in 0..UPLOADS {
        let id = upload(number);
        tell(format!("upload {number}"), &catalog.upload(id).unwrap());
        tell(format!("members {number}"), &catalog.members(id).unwrap());
        tell(format!("composed of {number}"), &catalog.composed_of(id).unwrap());
        let mut extents = Vec::new();
        let held = catalog.holdings(id, whole(), &mut |extent| extents.push(extent)).unwrap();
        tell(format!("holdings {number}"), &(held, extents));
        tell(format!("lane {number}"), &catalog.lane(id, LaneId::Append).unwrap());
        for part in (0..2).map(PartNumber::new) {
            tell(format!("lane {number}/{part}"), &catalog.lane(id, LaneId::Part(part)).unwrap());
        }
        for user in (0..4).map(UserId) {
            tell(format!("uploads {user}"), &catalog.uploads(user, None, 9).unwrap());
            for key in (0..UPLOAD_KEYS).map(|key| key.to_string()) {
                tell(format!("upload of {user} by {key}"), &catalog.upload_by_key(user, &key).unwrap());
            }
            tell(format!("uploads {user} {number}"), &catalog.uploads(user, Some(id), 1).unwrap());
        }
    }
}

/// The order in which objects are doomed by one intent says nothing.
fn normal(answer: Answer) -> Answer {
    match without_words(answer) {
        Ok(Outcome::Doomed(mut names)) => {
            names.sort_unstable();
            Ok(Outcome::Doomed(names))
        }
        other => other,
    }
}

fn start() -> Vec<Intent> {
    let user = |name: &str| Intent::CreateUser {
        name: name.into(),
        password: String::new(),
        admin: false,
        now: START.into(),
    };
    let open = || Intent::OpenDir { boot: BootId(1) };
    vec![Intent::Boot, user("ann"), user("bob"), open(), open()]
}

/// Plays a history to both, and compares them after every batch.
fn play(history: &[Vec<Draft>], mut after_batch: impl FnMut(&dyn Catalog)) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteCatalog::open(&dir.path().join("catalog.db")).unwrap();
    let model = ModelCatalog::new();
    prop_assert_eq!(sqlite.commit(&start()).unwrap(), model.commit(&start()).unwrap());
    let (mut now, mut newest) = (START, BootId(1));
    for drafts in history {
        let mut batch = Vec::new();
        for draft in drafts {
            let moved = now.as_millis().checked_add_signed(STEPS[draft.step]).unwrap();
            now = Timestamp::from_millis(moved);
            batch.push(Author { catalog: &model, newest, now, draft }.intent());
        }
        let ours: Vec<_> = model.commit(&batch).unwrap().into_iter().map(normal).collect();
        let theirs: Vec<_> = sqlite.commit(&batch).unwrap().into_iter().map(normal).collect();
        for ((intent, ours), theirs) in batch.iter().zip(ours).zip(theirs) {
            if let Ok(Outcome::Booted(boot)) = ours {
                newest = boot;
            }
            prop_assert_eq!(ours, theirs, "the answer to {:?} (left: the model)", intent);
        }
        let (ours, theirs) = (ask(&model), ask(&sqlite));
        for (question, answer) in &ours {
            prop_assert_eq!(Some(answer), theirs.get(question), "{} after {:?}", question, batch);
        }
        prop_assert_eq!(ours.len(), theirs.len());
        for catalog in [&model as &dyn Catalog, &sqlite] {
            prop_assert_eq!(catalog.audit().unwrap(), Vec::<String>::new(), "after {:?}", batch);
        }
        after_batch(&model);
    }
    Ok(())
}

/// What was told with a strong date of the files at a path.
type Dates = BTreeMap<(SpaceId, &'static str), (u64, Fingerprint)>;

fn check_dates(catalog: &dyn Catalog, told: &mut Dates) {
    for (space, text) in (1..3).map(SpaceId).flat_map(|space| PATHS.map(|text| (space, text))) {
        let Some(entry) = catalog.entry(space, &path(text)).unwrap() else { continue };
        let Entry { modified, date_weak: false, kind: EntryKind::File { entity, .. }, .. } = entry else {
            continue;
        };
        let second = modified.as_secs();
        if let Some((before, other)) = told.insert((space, text), (second, entity)) {
            assert!(
                before < second || (before == second && other == entity),
                "{text} is dated {second} twice"
            );
        }
    }
}

/// Each case writes to a disk, so there are fewer than of other properties, and shrinking ends sooner.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(8), max_shrink_iters: 400, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_embedded_engine_does_what_the_model_does(history in histories()) {
        play(&history, |_| {})?;
    }

    #[test]
    fn no_date_is_told_of_two_contents(mut history in histories()) {
        for draft in history.iter_mut().flatten() {
            draft.step %= STEPS.iter().filter(|step| **step >= 0).count();
        }
        let mut told = Dates::new();
        play(&history, |catalog| check_dates(catalog, &mut told))?;
    }
}
