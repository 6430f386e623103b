//! Uploads and their lanes: created, filled, resized, and ended in exactly one way.

use std::collections::BTreeSet;

use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::State;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{
    COMPOSED_KEPT, Completion, ContentId, Counted, Intent, Lane, LaneId, Meta, NewUpload, OpenPart, Outcome,
    Publish, Refusal, SpaceId, Store, Upload, UploadId, UserId, WAITING_MAX,
};
use super::blobs::Fate;
use super::{Applied, Stop, blobs, row, spaces};
use crate::clock::Timestamp;
use crate::key::Fingerprint;

/// An upload of unknown size reserves its quota in steps of this many bytes.
const RESERVE_STEP: u64 = 64 << 20;

const COLUMNS: &str = "u.id, u.user, u.key, u.space, u.path, u.size, u.mtime, u.executable, u.media_type, \
     u.precondition, u.digests, u.state, u.generation, u.content, c.version, c.covered, u.first_root, u.created, \
     u.expires, u.done_version, u.done_replaced, u.done_fingerprint, u.done_identity, c.prefix, \
     u.notes, u.counted";
const TABLES: &str = "uploads u LEFT JOIN contents c ON c.id = u.content";

fn upload_from(found: &Row<'_>) -> rusqlite::Result<Upload> {
    let path: String = found.get(4)?;
    let done = match found.get::<_, Option<i64>>(19)? {
        None => None,
        Some(_) => Some(Completion {
            version: row::get_u64(found, 19)?,
            replaced: found.get(20)?,
            fingerprint: Fingerprint(row::get_bytes(found, 21)?),
            identity: row::get_identity(found, 22)?,
        }),
    };
    Ok(Upload {
        id: UploadId(row::get_bytes(found, 0)?),
        user: UserId(found.get(1)?),
        key: found.get(2)?,
        space: SpaceId(found.get(3)?),
        path: EntryPath::parse(&path).map_err(|_| row::corrupt(4, "a bad path"))?,
        size: row::get_length_opt(found, 5)?,
        meta: Meta { mtime: found.get(6)?, executable: found.get(7)?, media_type: found.get(8)? },
        precondition: found.get(9)?,
        digests: found.get(10)?,
        notes: found.get(24)?,
        counted: row::get_counted(found, 25)?,
        state: row::get_state(found, 11)?,
        generation: row::get_u32(found, 12)?,
        // An ended upload has given its content away; no content has the number 0.
        content: ContentId(found.get::<_, Option<i64>>(13)?.unwrap_or(0)),
        content_version: found.get::<_, Option<i64>>(14)?.map_or(Ok(0), |_| row::get_u64(found, 14))?,
        covered: row::get_length_opt(found, 15)?.unwrap_or_default(),
        prefix: row::get_length_opt(found, 23)?.unwrap_or_default().end(),
        first_root: found.get(16)?,
        created: row::get_time(found, 17)?,
        expires: row::get_time(found, 18)?,
        done,
    })
}

// ---------------------------------------------------------------- reading

pub(super) fn find(db: &Connection, id: UploadId) -> rusqlite::Result<Option<Upload>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM {TABLES} WHERE u.id = ?1"))?
        .query_row([&id.0[..]], upload_from)
        .optional()
}

pub(super) fn find_by_key(db: &Connection, user: UserId, key: &str) -> rusqlite::Result<Option<Upload>> {
    id_by_key(db, user, key)?.map_or(Ok(None), |id| find(db, id))
}

fn id_by_key(db: &Connection, user: UserId, key: &str) -> rusqlite::Result<Option<UploadId>> {
    db.prepare_cached("SELECT id FROM uploads WHERE user = ?1 AND key = ?2")?
        .query_row(params![user.0, key], |found| row::get_bytes(found, 0).map(UploadId))
        .optional()
}

/// Returns an upload that takes bytes, under the generation that the caller knows.
pub(super) fn open(db: &Connection, id: UploadId, generation: u32) -> Result<Upload, Stop> {
    let upload = find(db, id)?.ok_or(Refusal::NotFound)?;
    if upload.state != State::Open {
        return Err(Refusal::Ended(upload.state).into());
    }
    if upload.generation != generation {
        return Err(Refusal::Superseded.into());
    }
    Ok(upload)
}

/// Returns an upload whose bytes or size may change: those of one that became part of a file are the file's.
fn changeable(db: &Connection, id: UploadId, generation: u32) -> Result<Upload, Stop> {
    let upload = open(db, id, generation)?;
    if upload.counted == Counted::InFile {
        return Err(Refusal::Ended(State::Done).into());
    }
    Ok(upload)
}

pub(super) fn list(
    db: &Connection,
    user: UserId,
    after: Option<UploadId>,
    limit: usize,
) -> rusqlite::Result<Vec<Upload>> {
    let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE u.user = ?1 AND u.id > ?2 ORDER BY u.id LIMIT ?3"
    ))?
    .query_map(params![user.0, after, row::limit(limit)], upload_from)?
    .collect()
}

const LANE_COLUMNS: &str = "lane, epoch, part, have, tail, sealed";

fn lane_from(found: &Row<'_>) -> rusqlite::Result<Lane> {
    let open = match found.get::<_, Option<i64>>(2)? {
        None => None,
        Some(_) => Some(OpenPart {
            part: PartNumber::new(row::get_u32(found, 2)?),
            have: row::get_length(found, 3)?,
            tail: row::get_length(found, 4)?,
            sealed: found.get(5)?,
        }),
    };
    Ok(Lane { id: row::get_lane(found, 0)?, epoch: row::get_u64(found, 1)?, open })
}

pub(super) fn lane(db: &Connection, upload: UploadId, lane: LaneId) -> rusqlite::Result<Option<Lane>> {
    db.prepare_cached(&format!("SELECT {LANE_COLUMNS} FROM lanes WHERE upload = ?1 AND lane = ?2"))?
        .query_row(params![&upload.0[..], row::lane(lane)], lane_from)
        .optional()
}

pub(super) fn open_lanes(db: &Connection, upload: UploadId) -> rusqlite::Result<Vec<Lane>> {
    db.prepare_cached(&format!(
        "SELECT {LANE_COLUMNS} FROM lanes WHERE upload = ?1 AND part IS NOT NULL ORDER BY lane"
    ))?
    .query_map([&upload.0[..]], lane_from)?
    .collect()
}

// ---------------------------------------------------------------- filling

pub(super) fn create(db: &Connection, new: &NewUpload) -> Applied {
    if let Some(key) = &new.key
        && let Some(id) = id_by_key(db, new.user, key)?
    {
        return Ok(Outcome::Upload { id, created: false });
    }
    if !db.prepare_cached("SELECT 1 FROM users WHERE id = ?1")?.exists([new.user.0])? {
        return Err(Refusal::NotFound.into());
    }
    let was = spaces::filled(db, new.space)?;
    if db.prepare_cached("SELECT 1 FROM uploads WHERE id = ?1")?.exists([&new.id.0[..]])? {
        return Err(Refusal::Exists.into());
    }
    let open: u32 = db
        // Spelled as the index is, which then has all that is counted.
        .prepare_cached("SELECT count(*) FROM uploads WHERE user = ?1 AND state = 0 AND counted <> 2")?
        .query_row([new.user.0], |found| row::get_u32(found, 0))?;
    if open >= new.uploads_max {
        return Err(Refusal::TooManyUploads.into());
    }
    check_members(db, new)?;
    let (counted, reserved) = match new.members.as_slice() {
        [] => (Counted::Here, new.size.unwrap_or_default()),
        _ => (Counted::InMembers, Length::ZERO),
    };
    spaces::add_reserved(db, new.space, row::length(reserved))?;
    spaces::check_quota(db, new.space, was)?;
    let content = blobs::new_content(db)?;
    db.prepare_cached(
        "INSERT INTO uploads (id, user, key, space, path, size, mtime, executable, media_type, precondition, digests,
             state, generation, content, reserved, created, expires, notes, counted)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, 0, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?
    .execute(params![
        &new.id.0[..],
        new.user.0,
        new.key,
        new.space.0,
        new.path.to_string(),
        new.size.map(row::length),
        new.meta.mtime,
        new.meta.executable,
        new.meta.media_type,
        new.precondition,
        new.digests,
        content.0,
        row::length(reserved),
        row::time(new.now),
        row::time(new.expires),
        new.notes,
        row::counted(counted),
    ])?;
    for (position, member) in (0_i64..).zip(&new.members) {
        db.prepare_cached("INSERT INTO members (upload, position, member) VALUES (?1, ?2, ?3)")?
            .execute(params![&new.id.0[..], position, &member.0[..]])?;
    }
    Ok(Outcome::Upload { id: new.id, created: true })
}

/// Refuses members that are not open uploads of the same user, or are composed themselves, or that too many wait for.
fn check_members(db: &Connection, new: &NewUpload) -> Result<(), Stop> {
    let mut known = db.prepare_cached(
        "SELECT 1 FROM uploads WHERE id = ?1 AND user = ?2 AND state = 0 AND counted <> ?3",
    )?;
    for member in &new.members {
        if !known.exists(params![&member.0[..], new.user.0, row::counted(Counted::InMembers)])? {
            return Err(Refusal::NotFound.into());
        }
    }
    // Only open uploads have members.
    let mut waiting = db.prepare_cached("SELECT count(DISTINCT upload) FROM members WHERE member = ?1")?;
    for member in new.members.iter().collect::<BTreeSet<_>>() {
        if waiting.query_row([&member.0[..]], |found| row::get_u32(found, 0))? >= WAITING_MAX {
            return Err(Refusal::TooManyUploads.into());
        }
    }
    Ok(())
}

pub(super) fn members(db: &Connection, upload: UploadId) -> rusqlite::Result<Vec<UploadId>> {
    db.prepare_cached("SELECT member FROM members WHERE upload = ?1 ORDER BY position")?
        .query_map([&upload.0[..]], |found| row::get_bytes(found, 0).map(UploadId))?
        .collect()
}

pub(super) fn composed_of(db: &Connection, member: UploadId) -> rusqlite::Result<Vec<UploadId>> {
    db.prepare_cached("SELECT DISTINCT upload FROM members WHERE member = ?1 ORDER BY upload")?
        .query_map([&member.0[..]], |found| row::get_bytes(found, 0).map(UploadId))?
        .collect()
}

pub(super) fn store(db: &Connection, store: &Store) -> Applied {
    let upload = changeable(db, store.upload, store.generation)?;
    let before = lane(db, store.upload, store.lane)?;
    if before.as_ref().is_some_and(|lane| store.epoch <= lane.epoch) {
        return Err(Refusal::Superseded.into());
    }
    check_fit(store, upload.size)?;
    let cleared = blobs::clear(db, upload.content, store.clear, Fate::Drop(store.now))?;
    blobs::place(db, upload.content, &store.put)?;
    raise_version(db, upload.content)?;
    save_lane(db, store)?;
    let open = before.and_then(|lane| lane.open);
    let touched = cleared.iter().map(|extent| extent.span).chain(store.put.iter().map(|extent| extent.span));
    let touches_first = store.first_root.is_some()
        || touched.map(Span::start).any(is_in_first)
        || open.iter().chain(&store.open).any(|open| open.part == PartNumber::FIRST);
    if touches_first {
        set_first_root(db, store.upload, store.first_root.as_deref())?;
    }
    db.prepare_cached("UPDATE uploads SET expires = max(expires, ?2) WHERE id = ?1")?
        .execute(params![&store.upload.0[..], row::time(store.expires)])?;
    reserve(db, store.upload)?;
    Ok(Outcome::Done)
}

/// Refuses what reaches behind the end of the upload, and an open part that is no prefix or not this lane's.
fn check_fit(store: &Store, size: Option<Length>) -> Result<(), Refusal> {
    let end = size.map_or(Offset::new(hapax_proto::span::SIZE_MAX), Length::end);
    if store.put.iter().any(|extent| extent.span.end() > end) {
        return Err(Refusal::Malformed("an extent behind the end of the upload"));
    }
    let Some(open) = &store.open else { return Ok(()) };
    let is_foreign = matches!(store.lane, LaneId::Part(part) if part != open.part);
    if is_foreign || open.tail > open.have || end_of(open).is_none_or(|open| open > end) {
        return Err(Refusal::Malformed("an open part that cannot be"));
    }
    Ok(())
}

/// Returns the offset behind what an open part has.
fn end_of(open: &OpenPart) -> Option<Offset> {
    open.part.start().checked_add(open.have)
}

fn is_in_first(offset: Offset) -> bool {
    PartNumber::holding(offset) == Some(PartNumber::FIRST)
}

fn raise_version(db: &Connection, content: ContentId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE contents SET version = version + 1 WHERE id = ?1")?.execute([content.0])?;
    Ok(())
}

fn set_first_root(db: &Connection, upload: UploadId, root: Option<&[u8]>) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE uploads SET first_root = ?2 WHERE id = ?1")?
        .execute(params![&upload.0[..], root])?;
    Ok(())
}

fn save_lane(db: &Connection, store: &Store) -> rusqlite::Result<()> {
    let open = store.open.as_ref();
    db.prepare_cached(
        "INSERT INTO lanes (upload, lane, epoch, part, have, tail, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET epoch = excluded.epoch, part = excluded.part, have = excluded.have,
             tail = excluded.tail, sealed = excluded.sealed",
    )?
    .execute(params![
        &store.upload.0[..],
        row::lane(store.lane),
        row::int(store.epoch),
        open.map(|open| open.part.get()),
        open.map(|open| row::length(open.have)),
        open.map(|open| row::length(open.tail)),
        open.map(|open| &open.sealed),
    ])?;
    Ok(())
}

/// Brings an upload's reservation up to what it must be, and refuses if that passes the quota.
fn reserve(db: &Connection, id: UploadId) -> Result<(), Stop> {
    let (space, old, wanted): (SpaceId, i64, i64) = db
        .prepare_cached(&format!(
            "SELECT u.space, u.reserved, u.size, c.covered, u.counted FROM {TABLES} WHERE u.id = ?1"
        ))?
        .query_row([&id.0[..]], |found| {
            let covered = row::get_length(found, 3)?;
            let stepped = row::int(covered.get().div_ceil(RESERVE_STEP).saturating_mul(RESERVE_STEP));
            let wanted = match row::get_counted(found, 4)? {
                Counted::Here => found.get::<_, Option<i64>>(2)?.unwrap_or(stepped),
                Counted::InMembers | Counted::InFile => 0,
            };
            Ok((SpaceId(found.get(0)?), found.get(1)?, wanted))
        })?;
    if wanted == old {
        return Ok(());
    }
    db.prepare_cached("UPDATE uploads SET reserved = ?2 WHERE id = ?1")?
        .execute(params![&id.0[..], wanted])?;
    let was = spaces::filled(db, space)?;
    spaces::add_reserved(db, space, wanted - old)?;
    spaces::check_quota(db, space, was)
}

pub(super) fn resize(db: &Connection, intent: &Intent) -> Applied {
    let Intent::Resize { upload: id, generation, size, mtime, keep, now } = intent else {
        return Err(Refusal::Malformed("not a resize").into());
    };
    let upload = changeable(db, *id, *generation)?;
    if *keep > size.end() {
        return Err(Refusal::Malformed("more is kept than the new size holds").into());
    }
    let behind = Span::new(*keep, blobs::whole().end()).unwrap_or_default();
    let gone = blobs::extents(db, upload.content, behind, usize::MAX)?;
    blobs::remove(db, upload.content, &gone, Fate::Drop(*now))?;
    let dropped = drop_lanes_behind(db, *id, *keep)?;
    let touches_first =
        gone.iter().any(|extent| is_in_first(extent.span.start())) || dropped.contains(&PartNumber::FIRST);
    if touches_first {
        set_first_root(db, *id, None)?;
    }
    raise_version(db, upload.content)?;
    db.prepare_cached("UPDATE uploads SET size = ?2, mtime = ?3, generation = generation + 1 WHERE id = ?1")?
        .execute(params![&id.0[..], row::length(*size), mtime])?;
    reserve(db, *id)?;
    Ok(Outcome::Done)
}

/// Drops the open parts that reach behind an offset, and returns which they were.
fn drop_lanes_behind(db: &Connection, upload: UploadId, keep: Offset) -> rusqlite::Result<Vec<PartNumber>> {
    let mut dropped = Vec::new();
    for lane in open_lanes(db, upload)? {
        if let Some(open) = lane.open.filter(|open| end_of(open).is_some_and(|end| end > keep)) {
            dropped.push(open.part);
            db.prepare_cached(
                "UPDATE lanes SET part = NULL, have = NULL, tail = NULL, sealed = NULL WHERE upload = ?1 AND lane = ?2",
            )?
            .execute(params![&upload.0[..], row::lane(lane.id)])?;
        }
    }
    Ok(dropped)
}

// ---------------------------------------------------------------- ending

/// Drops what an upload holds, because a blob has it: the upload is to be finished in the same transaction.
pub(super) fn drop_content(db: &Connection, upload: &Upload) -> rusqlite::Result<()> {
    // The bytes of its members are not those of the file: they stay counted where they are.
    db.prepare_cached("DELETE FROM members WHERE upload = ?1")?.execute([&upload.id.0[..]])?;
    db.prepare_cached("UPDATE uploads SET content = NULL WHERE id = ?1")?.execute([&upload.id.0[..]])?;
    blobs::remove_content(db, upload.content, Fate::Doom)
}

/// Gives the content away to a blob; the answer is kept until the upload is forgotten.
pub(super) fn finish(
    db: &Connection,
    id: UploadId,
    publish: &Publish,
    version: u64,
    replaced: bool,
) -> rusqlite::Result<()> {
    count_in_file(db, id, publish.now.steady)?;
    close(db, id, State::Done, publish.now.steady)?;
    db.prepare_cached(
        "UPDATE uploads SET size = ?2, done_version = ?3, done_replaced = ?4, done_fingerprint = ?5, done_identity = ?6,
             path = ?7
         WHERE id = ?1",
    )?
    .execute(params![
        &id.0[..],
        row::length(publish.size),
        row::int(version),
        replaced,
        &publish.fingerprint.0[..],
        row::identity(publish.identity.as_deref()),
        publish.path.to_string()
    ])?;
    Ok(())
}

/// The bytes of the members are counted in the file from now on, and the members may go soon.
fn count_in_file(db: &Connection, id: UploadId, now: Timestamp) -> rusqlite::Result<()> {
    for member in members(db, id)? {
        let Some(member) = find(db, member)?.filter(|member| member.state == State::Open) else { continue };
        release_reservation(db, member.id)?;
        db.prepare_cached("UPDATE uploads SET counted = ?2, expires = min(expires, ?3) WHERE id = ?1")?
            .execute(params![
                &member.id.0[..],
                row::counted(Counted::InFile),
                row::time(now.after(COMPOSED_KEPT))
            ])?;
    }
    Ok(())
}

fn release_reservation(db: &Connection, id: UploadId) -> rusqlite::Result<()> {
    let (space, reserved): (i64, i64) = db
        .prepare_cached("SELECT space, reserved FROM uploads WHERE id = ?1")?
        .query_row([&id.0[..]], |found| Ok((found.get(0)?, found.get(1)?)))?;
    spaces::add_reserved(db, SpaceId(space), -reserved)?;
    db.prepare_cached("UPDATE uploads SET reserved = 0 WHERE id = ?1")?.execute([&id.0[..]])?;
    Ok(())
}

/// What every end has in common: the lanes and members go, the reservation is released, the generation is raised.
fn close(db: &Connection, id: UploadId, state: State, now: Timestamp) -> rusqlite::Result<()> {
    release_reservation(db, id)?;
    db.prepare_cached("DELETE FROM lanes WHERE upload = ?1")?.execute([&id.0[..]])?;
    db.prepare_cached("DELETE FROM members WHERE upload = ?1")?.execute([&id.0[..]])?;
    db.prepare_cached(
        "UPDATE uploads SET state = ?2, ended = ?3, generation = generation + 1, content = NULL,
             first_root = NULL WHERE id = ?1",
    )?
    .execute(params![&id.0[..], row::state(state), row::time(now)])?;
    Ok(())
}

pub(super) fn end(db: &Connection, id: UploadId, state: State, now: Timestamp) -> Applied {
    if matches!(state, State::Open | State::Done) {
        return Err(Refusal::Malformed("an upload ends expired, cancelled or poisoned").into());
    }
    let upload = find(db, id)?.ok_or(Refusal::NotFound)?;
    if upload.state != State::Open {
        return Err(Refusal::Ended(upload.state).into());
    }
    give_up(db, &upload, state, now)?;
    Ok(Outcome::Done)
}

fn give_up(db: &Connection, upload: &Upload, state: State, now: Timestamp) -> rusqlite::Result<()> {
    close(db, upload.id, state, now)?;
    blobs::remove_content(db, upload.content, Fate::Doom)
}

pub(super) fn expire(db: &Connection, now: Timestamp, limit: usize) -> Applied {
    let late = db
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {TABLES} WHERE u.state = 0 AND u.expires <= ?1 ORDER BY u.expires, u.id LIMIT ?2"
        ))?
        .query_map(params![row::time(now), row::limit(limit)], upload_from)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for upload in &late {
        give_up(db, upload, State::Expired, now)?;
    }
    Ok(Outcome::Ended(late.into_iter().map(|upload| upload.id).collect()))
}

pub(super) fn forget(db: &Connection, before: Timestamp, limit: usize) -> Applied {
    let forgotten = db
        .prepare_cached(
            "DELETE FROM uploads WHERE id IN (
                 SELECT id FROM uploads WHERE state <> 0 AND ended < ?1 ORDER BY ended, id LIMIT ?2)",
        )?
        .execute(params![row::time(before), row::limit(limit)])?;
    Ok(Outcome::Count(forgotten))
}

/// Ends and forgets everything a user uploaded or was uploading, and what anybody uploads into the user's space.
pub(super) fn remove_all(
    db: &Connection,
    user: UserId,
    space: SpaceId,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let open = db
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {TABLES} WHERE (u.user = ?1 OR u.space = ?2) AND u.state = 0"
        ))?
        .query_map([user.0, space.0], upload_from)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for upload in &open {
        give_up(db, upload, State::Cancelled, now)?;
    }
    db.prepare_cached("DELETE FROM uploads WHERE user = ?1 OR space = ?2")?.execute([user.0, space.0])?;
    Ok(())
}
