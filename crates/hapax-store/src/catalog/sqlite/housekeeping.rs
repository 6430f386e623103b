//! Boots, directories, the clock, and the slices of the sweep that concern objects.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{BootId, Outcome, Refusal, Stats};
use super::{Applied, row};
use crate::clock::Timestamp;
use crate::id::{DirId, ObjectId, ObjectName};
use hapax_proto::span::Length;
use hapax_proto::tree::PART;

pub(super) fn boot(db: &Connection) -> Applied {
    db.prepare_cached("INSERT INTO boots DEFAULT VALUES")?.execute([])?;
    Ok(Outcome::Booted(BootId(db.last_insert_rowid())))
}

pub(super) fn open_dir(db: &Connection, boot: BootId) -> Applied {
    let newest: Option<i64> =
        db.prepare_cached("SELECT max(id) FROM boots")?.query_row([], |row| row.get(0))?;
    if newest != Some(boot.0) {
        return Err(Refusal::Superseded.into());
    }
    db.prepare_cached("INSERT INTO dirs (boot, open) VALUES (?1, 1)")?.execute([boot.0])?;
    let id = u32::try_from(db.last_insert_rowid())
        .map_err(|_| Refusal::Malformed("no directory numbers are left"))?;
    Ok(Outcome::Dir(DirId::new(id)))
}

pub(super) fn close_dir(db: &Connection, dir: DirId) -> Applied {
    match db.prepare_cached("UPDATE dirs SET open = 0 WHERE id = ?1")?.execute([dir.get()])? {
        0 => Err(Refusal::NotFound.into()),
        _ => Ok(Outcome::Done),
    }
}

pub(super) fn save_clock(db: &Connection, now: Timestamp) -> Applied {
    db.prepare_cached("UPDATE clock SET now = ?1")?.execute([row::time(now)])?;
    Ok(Outcome::Done)
}

pub(super) fn doom_objects(db: &Connection, before: Timestamp, limit: usize) -> Applied {
    // The row is locked by this transaction before its extents are counted (R8); SQLite has one writer.
    let doomed = db
        .prepare_cached(
            "UPDATE objects SET state = 2 WHERE id IN (
                 SELECT id FROM objects WHERE state = 1 AND since < ?1
                 AND NOT EXISTS (SELECT 1 FROM extents WHERE object = objects.id) ORDER BY since, id LIMIT ?2)
             RETURNING id, dir",
        )?
        .query_map(params![row::time(before), row::limit(limit)], object_name)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Outcome::Doomed(doomed))
}

pub(super) fn forget_objects(db: &Connection, objects: &[ObjectId]) -> Applied {
    let mut forget = db.prepare_cached("DELETE FROM objects WHERE id = ?1 AND state = 2")?;
    let mut count = 0;
    for object in objects {
        count += forget.execute([&object.as_bytes()[..]])?;
    }
    Ok(Outcome::Count(count))
}

pub(super) fn clock(db: &Connection) -> rusqlite::Result<Timestamp> {
    db.prepare_cached("SELECT now FROM clock")?.query_row([], |found| row::get_time(found, 0))
}

pub(super) fn dead_dirs(db: &Connection, boot: BootId) -> rusqlite::Result<Vec<DirId>> {
    db.prepare_cached("SELECT id FROM dirs WHERE open = 1 AND boot <> ?1 ORDER BY id")?
        .query_map([boot.0], |found| row::get_u32(found, 0).map(DirId::new))?
        .collect()
}

pub(super) fn objects_in(db: &Connection, dir: DirId) -> rusqlite::Result<Vec<ObjectId>> {
    db.prepare_cached("SELECT id FROM objects WHERE dir = ?1 ORDER BY id")?
        .query_map([dir.get()], |found| row::get_bytes(found, 0).map(ObjectId::from_bytes))?
        .collect()
}

pub(super) fn object_dir(db: &Connection, object: ObjectId) -> rusqlite::Result<Option<DirId>> {
    db.prepare_cached("SELECT dir FROM objects WHERE id = ?1")?
        .query_row([&object.as_bytes()[..]], |found| row::get_u32(found, 0).map(DirId::new))
        .optional()
}

pub(super) fn doomed(db: &Connection, limit: usize) -> rusqlite::Result<Vec<ObjectName>> {
    db.prepare_cached("SELECT id, dir FROM objects WHERE state = 2 ORDER BY id LIMIT ?1")?
        .query_map([row::limit(limit)], object_name)?
        .collect()
}

pub(super) fn objects(
    db: &Connection,
    after: Option<ObjectId>,
    limit: usize,
) -> rusqlite::Result<Vec<(ObjectName, Length)>> {
    let after = after.map_or_else(Vec::new, |object| object.as_bytes().to_vec());
    db.prepare_cached(
        "SELECT id, dir, length FROM objects WHERE id > ?1 AND state <> 2 ORDER BY id LIMIT ?2",
    )?
    .query_map(params![after, row::limit(limit)], |found| {
        Ok((object_name(found)?, row::get_length(found, 2)?))
    })?
    .collect()
}

fn object_name(found: &rusqlite::Row<'_>) -> rusqlite::Result<ObjectName> {
    Ok(ObjectName {
        id: ObjectId::from_bytes(row::get_bytes(found, 0)?),
        dir: DirId::new(row::get_u32(found, 1)?),
    })
}

pub(super) fn stats(db: &Connection) -> rusqlite::Result<Stats> {
    db.query_row(
        "SELECT (SELECT count(*) FROM users),
                (SELECT count(*) FROM entries WHERE blob IS NOT NULL),
                (SELECT count(*) FROM entries WHERE blob IS NULL),
                (SELECT count(*) FROM blobs WHERE orphan IS NULL),
                (SELECT coalesce(sum(used), 0) FROM spaces),
                (SELECT coalesce(sum(size), 0) FROM blobs WHERE orphan IS NULL),
                (SELECT count(*) FROM objects),
                (SELECT coalesce(sum(length), 0) FROM objects),
                (SELECT count(*) FROM uploads WHERE state = 0),
                (SELECT count(*) FROM blobs WHERE damaged IS NOT NULL AND orphan IS NULL),
                (SELECT coalesce(sum(max(0, (SELECT count(*) FROM extents WHERE content = b.content)
                     - (b.size + ?1 - 1) / ?1)), 0) FROM blobs b WHERE b.orphan IS NULL),
                (SELECT coalesce(sum(max(0, o.length
                     - (SELECT coalesce(sum(length), 0) FROM extents WHERE object = o.id))), 0)
                     FROM objects o WHERE o.state = 0),
                (SELECT coalesce(sum(length), 0) FROM objects WHERE state <> 0)",
        [row::length(PART)],
        |found| {
            Ok(Stats {
                users: row::get_u64(found, 0)?,
                files: row::get_u64(found, 1)?,
                folders: row::get_u64(found, 2)?,
                blobs: row::get_u64(found, 3)?,
                logical: row::get_u64(found, 4)?,
                unique: row::get_u64(found, 5)?,
                objects: row::get_u64(found, 6)?,
                stored: row::get_u64(found, 7)?,
                uploads: row::get_u64(found, 8)?,
                damaged: row::get_u64(found, 9)?,
                fragments: row::get_u64(found, 10)?,
                dead: row::get_u64(found, 11)?,
                given_up: row::get_u64(found, 12)?,
            })
        },
    )
}
