//! Objects, extents, contents and blobs: where bytes are, and who still points to them.

use hapax_proto::span::{Length, Span};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{Blob, BlobId, ContentId, Extent, MaskedValue, Outcome, Refusal, SpaceId, UserId};
use super::{Applied, Stop, row};
use crate::clock::Timestamp;
use crate::id::{DirId, ObjectId, ObjectName};
use crate::key::Fingerprint;

/// What becomes of an object that its last extent left.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// It stays for the grace period: a reader may still hold the extents.
    Drop(Timestamp),
    /// It goes at once: nobody but its upload ever saw it.
    Doom,
}

// ---------------------------------------------------------------- contents

pub(super) fn new_content(db: &Connection) -> rusqlite::Result<ContentId> {
    db.prepare_cached("INSERT INTO contents (version, covered, prefix) VALUES (0, 0, 0)")?.execute([])?;
    Ok(ContentId(db.last_insert_rowid()))
}

/// Places extents; each object is referred to by an update that must change exactly one row (R8).
pub(super) fn place(db: &Connection, content: ContentId, put: &[Extent]) -> Result<(), Stop> {
    let mut insert = db.prepare_cached(
        "INSERT INTO extents (content, start, length, object, object_start, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for extent in put {
        let end = extent.object_start.checked_add(extent.span.length());
        if extent.span.is_empty() || end.is_none_or(|end| end > extent.object_length.end()) {
            return Err(Refusal::Malformed("an extent that its object does not hold").into());
        }
        if overlaps(db, content, extent.span)? {
            return Err(Refusal::Malformed("extents overlap").into());
        }
        hold_object(db, extent)?;
        insert.execute(params![
            content.0,
            row::offset(extent.span.start()),
            row::length(extent.span.length()),
            &extent.object.id.as_bytes()[..],
            row::offset(extent.object_start),
            extent.value.map(MaskedValue::to_bytes),
        ])?;
        add_covered(db, content, row::length(extent.span.length()))?;
    }
    extend_prefix(db, content)?;
    Ok(())
}

/// Moves the end of the contiguous prefix over the extents that adjoin it. Each extent is passed once, so the cost of a
/// content is linear in its extents however they arrive.
fn extend_prefix(db: &Connection, content: ContentId) -> rusqlite::Result<()> {
    let mut adjoining = db.prepare_cached(
        "UPDATE contents SET prefix = prefix + (SELECT length FROM extents WHERE content = ?1 AND start = prefix)
         WHERE id = ?1 AND EXISTS (SELECT 1 FROM extents WHERE content = ?1 AND start = prefix)",
    )?;
    while adjoining.execute([content.0])? > 0 {}
    Ok(())
}

fn hold_object(db: &Connection, extent: &Extent) -> Result<(), Stop> {
    let object = extent.object;
    let held = db
        .prepare_cached(
            "UPDATE objects SET state = 0, since = NULL WHERE id = ?1 AND state <> 2 AND dir = ?2 AND length = ?3",
        )?
        .execute(params![&object.id.as_bytes()[..], object.dir.get(), row::length(extent.object_length)])?;
    if held == 1 {
        return Ok(());
    }
    let is_doomed: Option<bool> = db
        .prepare_cached("SELECT state = 2 FROM objects WHERE id = ?1")?
        .query_row([&object.id.as_bytes()[..]], |found| found.get(0))
        .optional()?;
    match is_doomed {
        Some(true) => return Err(Refusal::NotLive.into()),
        Some(false) => return Err(Refusal::Malformed("an object is described in two ways").into()),
        None => {}
    }
    let added = db
        .prepare_cached(
            "INSERT INTO objects (id, dir, length, state)
             SELECT ?1, id, ?3, 0 FROM dirs WHERE id = ?2 AND open = 1 AND boot = (SELECT max(id) FROM boots)",
        )?
        .execute(params![&object.id.as_bytes()[..], object.dir.get(), row::length(extent.object_length)])?;
    if added == 1 { Ok(()) } else { Err(Refusal::ClosedDir.into()) }
}

/// The extent that begins last before `span.end()` is the only one that can overlap, for extents never overlap each other.
fn overlaps(db: &Connection, content: ContentId, span: Span) -> rusqlite::Result<bool> {
    let last: Option<(i64, i64)> = db
        .prepare_cached(
            "SELECT start, length FROM extents WHERE content = ?1 AND start < ?2 ORDER BY start DESC LIMIT 1",
        )?
        .query_row(params![content.0, row::offset(span.end())], |found| Ok((found.get(0)?, found.get(1)?)))
        .optional()?;
    Ok(last.is_some_and(|(start, length)| start + length > row::offset(span.start())))
}

fn add_covered(db: &Connection, content: ContentId, bytes: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE contents SET covered = covered + ?2 WHERE id = ?1")?
        .execute(params![content.0, bytes])?;
    Ok(())
}

/// Tells whether the extents hold every byte of a file of this size, and no more: they never overlap, so it is
/// enough that they add up to the size and that none reaches behind it.
pub(super) fn is_whole(db: &Connection, content: ContentId, size: Length) -> rusqlite::Result<bool> {
    let (covered, end): (i64, i64) = db
        .prepare_cached(
            "SELECT c.covered, coalesce((SELECT start + length FROM extents
                 WHERE content = c.id ORDER BY start DESC LIMIT 1), 0) FROM contents c WHERE c.id = ?1",
        )?
        .query_row([content.0], |found| Ok((found.get(0)?, found.get(1)?)))?;
    Ok(covered == row::length(size) && end == covered)
}

/// Removes the extents that overlap a span, and returns them.
///
/// # Errors
/// `Malformed` if one of them reaches outside of it: extents are never cut.
pub(super) fn clear(
    db: &Connection,
    content: ContentId,
    span: Span,
    fate: Fate,
) -> Result<Vec<Extent>, Stop> {
    let found = extents(db, content, span, usize::MAX)?;
    if found.iter().any(|extent| !span.contains(extent.span)) {
        return Err(Refusal::Malformed("an extent reaches outside of what is cleared").into());
    }
    remove(db, content, &found, fate)?;
    Ok(found)
}

/// Removes the given extents of a content, and gives up objects that nothing points to any more.
pub(super) fn remove(
    db: &Connection,
    content: ContentId,
    gone: &[Extent],
    fate: Fate,
) -> rusqlite::Result<()> {
    let mut delete = db.prepare_cached("DELETE FROM extents WHERE content = ?1 AND start = ?2")?;
    for extent in gone {
        delete.execute(params![content.0, row::offset(extent.span.start())])?;
        add_covered(db, content, -row::length(extent.span.length()))?;
        db.prepare_cached("UPDATE contents SET prefix = min(prefix, ?2) WHERE id = ?1")?
            .execute(params![content.0, row::offset(extent.span.start())])?;
        give_up_object(db, extent.object.id, fate)?;
    }
    Ok(())
}

fn give_up_object(db: &Connection, object: ObjectId, fate: Fate) -> rusqlite::Result<()> {
    let (state, since) = match fate {
        Fate::Drop(now) => (1, Some(row::time(now))),
        Fate::Doom => (2, None),
    };
    db.prepare_cached(
        "UPDATE objects SET state = ?2, since = ?3
         WHERE id = ?1 AND state = 0 AND NOT EXISTS (SELECT 1 FROM extents WHERE object = ?1)",
    )?
    .execute(params![&object.as_bytes()[..], state, since])?;
    Ok(())
}

/// Removes a content with all its extents.
pub(super) fn remove_content(db: &Connection, content: ContentId, fate: Fate) -> rusqlite::Result<()> {
    let gone = extents(db, content, whole(), usize::MAX)?;
    remove(db, content, &gone, fate)?;
    db.prepare_cached("DELETE FROM inline WHERE content = ?1")?.execute([content.0])?;
    db.prepare_cached("DELETE FROM contents WHERE id = ?1")?.execute([content.0])?;
    Ok(())
}

pub(super) fn whole() -> Span {
    Span::whole(Length::new(hapax_proto::span::SIZE_MAX))
}

pub(super) fn set_inline(db: &Connection, content: ContentId, sealed: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO inline (content, sealed) VALUES (?1, ?2)")?
        .execute(params![content.0, sealed])?;
    Ok(())
}

/// The first row may begin before the span: the last extent that starts at or before it.
const EXTENTS: &str = "SELECT e.start, e.length, e.object, o.dir, o.length, e.object_start, e.value
     FROM extents e JOIN objects o ON o.id = e.object
     WHERE e.content = ?1 AND e.start < ?3 AND e.start >= coalesce(
         (SELECT max(start) FROM extents WHERE content = ?1 AND start <= ?2), ?2)
       AND e.start + e.length > ?2
     ORDER BY e.start LIMIT ?4";

pub(super) fn extents(
    db: &Connection,
    content: ContentId,
    span: Span,
    limit: usize,
) -> rusqlite::Result<Vec<Extent>> {
    let mut extents = Vec::new();
    each_extent(db, content, span, limit, &mut |extent| extents.push(extent))?;
    Ok(extents)
}

/// Hands over the extents of a content that overlap a span, ascending.
pub(super) fn each_extent(
    db: &Connection,
    content: ContentId,
    span: Span,
    limit: usize,
    each: &mut dyn FnMut(Extent),
) -> rusqlite::Result<()> {
    if span.is_empty() {
        return Ok(());
    }
    let (start, end) = (row::offset(span.start()), row::offset(span.end()));
    let mut statement = db.prepare_cached(EXTENTS)?;
    let mut rows = statement.query(params![content.0, start, end, row::limit(limit)])?;
    while let Some(found) = rows.next()? {
        each(Extent {
            span: row::get_span(found, 0, 1)?,
            object: ObjectName {
                id: ObjectId::from_bytes(row::get_bytes(found, 2)?),
                dir: DirId::new(row::get_u32(found, 3)?),
            },
            object_length: row::get_length(found, 4)?,
            object_start: hapax_proto::span::Offset::new(row::get_u64(found, 5)?),
            value: row::get_masked(found, 6)?,
        });
    }
    Ok(())
}

pub(super) fn inline(db: &Connection, content: ContentId) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT sealed FROM inline WHERE content = ?1")?
        .query_row([content.0], |found| found.get(0))
        .optional()
}

// ---------------------------------------------------------------- blobs

/// The columns that `blob_from` reads, in its order, of a table called `b`.
pub(super) const BLOB_COLUMNS: &str =
    "b.id, b.fingerprint, b.identity, b.size, b.content, b.damaged IS NOT NULL";
/// How many they are.
pub(super) const BLOB_COLUMNS_COUNT: usize = 6;

pub(super) fn blob_from(found: &Row<'_>, first: usize) -> rusqlite::Result<Blob> {
    Ok(Blob {
        id: BlobId(found.get(first)?),
        fingerprint: Fingerprint(row::get_bytes(found, first + 1)?),
        identity: row::get_identity(found, first + 2)?,
        size: row::get_length(found, first + 3)?,
        content: ContentId(found.get(first + 4)?),
        damaged: found.get(first + 5)?,
    })
}

pub(super) fn by_fingerprint(db: &Connection, fingerprint: &Fingerprint) -> rusqlite::Result<Option<Blob>> {
    db.prepare_cached(&format!("SELECT {BLOB_COLUMNS} FROM blobs b WHERE b.fingerprint = ?1"))?
        .query_row([&fingerprint.0[..]], |found| blob_from(found, 0))
        .optional()
}

pub(super) fn in_space(
    db: &Connection,
    space: SpaceId,
    fingerprint: &Fingerprint,
) -> rusqlite::Result<Option<Blob>> {
    let Some(nearest) = nearest(db, fingerprint)? else { return Ok(None) };
    let is_there = db
        .prepare_cached("SELECT 1 FROM entries WHERE blob = ?1 AND space = ?2 LIMIT 1")?
        .exists(params![nearest.blob.id.0, space.0])?;
    Ok(nearest.if_it_is(fingerprint).filter(|_| is_there))
}

pub(super) fn shown_in_space(
    db: &Connection,
    space: SpaceId,
    fingerprint: &Fingerprint,
) -> rusqlite::Result<Option<Blob>> {
    db.prepare_cached(&format!(
        "SELECT {BLOB_COLUMNS} FROM blobs b
         WHERE b.fingerprint = ?1 AND EXISTS (SELECT 1 FROM entries WHERE blob = b.id AND space = ?2)"
    ))?
    .query_row(params![&fingerprint.0[..], space.0], |found| blob_from(found, 0))
    .optional()
}

pub(super) fn held_by_others(
    db: &Connection,
    fingerprint: &Fingerprint,
    (beside, group, limit): (UserId, bool, u32),
) -> rusqlite::Result<Option<(Blob, u32)>> {
    let Some(nearest) = nearest(db, fingerprint)? else { return Ok(None) };
    // A blob that many entries of one space point to is counted in as many steps: it takes as long as its owner wants.
    let holders = db
        .prepare_cached(
            "SELECT count(*) FROM (
                 SELECT DISTINCT s.owner FROM entries e
                     JOIN spaces s ON s.id = e.space JOIN users u ON u.id = s.owner
                 WHERE e.blob = ?1 AND s.owner <> ?2
                   AND (NOT ?3 OR u.\"group\" = (SELECT \"group\" FROM users WHERE id = ?2)) LIMIT ?4)",
        )?
        .query_row(params![nearest.blob.id.0, beside.0, group, limit], |found| found.get(0))?;
    Ok(nearest.if_it_is(fingerprint).map(|blob| (blob, holders)))
}

/// The blob that stands where one with some fingerprint would stand.
struct Nearest {
    blob: Blob,
    is_orphan: bool,
}

impl Nearest {
    /// Returns it if it is the one that was looked for, live and not damaged.
    fn if_it_is(self, fingerprint: &Fingerprint) -> Option<Blob> {
        let is_it = self.blob.fingerprint == *fingerprint;
        (is_it && !self.is_orphan && !self.blob.damaged).then_some(self.blob)
    }
}

/// Looks a fingerprint up. For one that is not there it finds the next one, so that whoever measures how long the answer
/// takes does not learn which it was: fingerprints are keyed, and the next one is anybody's.
fn nearest(db: &Connection, fingerprint: &Fingerprint) -> rusqlite::Result<Option<Nearest>> {
    let find = |condition: &str| {
        db.prepare_cached(&format!(
            "SELECT {BLOB_COLUMNS}, b.orphan IS NOT NULL FROM blobs b WHERE b.fingerprint {condition}
             ORDER BY b.fingerprint LIMIT 1"
        ))?
        .query_row([&fingerprint.0[..]], |found| {
            Ok(Nearest { blob: blob_from(found, 0)?, is_orphan: found.get(BLOB_COLUMNS_COUNT)? })
        })
        .optional()
    };
    // Behind the last one comes the first one.
    match find(">= ?1")? {
        None => find("<= ?1"),
        found => Ok(found),
    }
}

pub(super) fn of_size(
    db: &Connection,
    space: SpaceId,
    size: Length,
    limit: usize,
) -> rusqlite::Result<Vec<Blob>> {
    db.prepare_cached(&format!(
        "SELECT {BLOB_COLUMNS} FROM blobs b WHERE b.size = ?1 AND b.orphan IS NULL AND b.damaged IS NULL
           AND EXISTS (SELECT 1 FROM entries WHERE blob = b.id AND space = ?2)
         ORDER BY b.id LIMIT ?3"
    ))?
    .query_map(params![row::length(size), space.0, row::limit(limit)], |found| blob_from(found, 0))?
    .collect()
}

pub(super) fn insert(
    db: &Connection,
    fingerprint: &Fingerprint,
    identity: Option<&[u8]>,
    size: Length,
    content: ContentId,
) -> rusqlite::Result<BlobId> {
    db.prepare_cached("INSERT INTO blobs (fingerprint, identity, size, content) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![&fingerprint.0[..], row::identity(identity), row::length(size), content.0])?;
    Ok(BlobId(db.last_insert_rowid()))
}

/// Makes a blob live for a finish, which brought all its bytes and so may revive an orphan.
pub(super) fn revive(db: &Connection, blob: BlobId) -> Result<(), Stop> {
    match db.prepare_cached("UPDATE blobs SET orphan = NULL WHERE id = ?1")?.execute([blob.0])? {
        1 => Ok(()),
        _ => Err(Refusal::NotLive.into()),
    }
}

/// Takes hold of a blob that must be live already, and whole.
pub(super) fn hold(db: &Connection, blob: BlobId) -> Result<(), Stop> {
    let held = db
        .prepare_cached(
            "UPDATE blobs SET orphan = NULL WHERE id = ?1 AND orphan IS NULL AND damaged IS NULL",
        )?
        .execute([blob.0])?;
    if held == 1 { Ok(()) } else { Err(Refusal::NotLive.into()) }
}

/// After an entry left a blob: if it was the last one, the blob is an orphan from now on.
pub(super) fn release(db: &Connection, blob: BlobId, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE blobs SET orphan = ?2 WHERE id = ?1 AND orphan IS NULL AND NOT EXISTS (SELECT 1 FROM entries WHERE blob = ?1)",
    )?
    .execute(params![blob.0, row::time(now)])?;
    Ok(())
}

pub(super) fn add_spare(db: &Connection, blob: BlobId, content: ContentId) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO spares (blob, content) VALUES (?1, ?2)")?.execute([blob.0, content.0])?;
    Ok(())
}

pub(super) fn settle_spare(
    db: &Connection,
    blob: BlobId,
    spare: ContentId,
    promote: bool,
    now: Timestamp,
) -> Applied {
    let found = db
        .prepare_cached("DELETE FROM spares WHERE blob = ?1 AND content = ?2")?
        .execute([blob.0, spare.0])?;
    if found == 0 {
        return Err(Refusal::NotFound.into());
    }
    let loser = if promote {
        let old = db
            .prepare_cached("SELECT content FROM blobs WHERE id = ?1")?
            .query_row([blob.0], |row| row.get(0).map(ContentId))?;
        db.prepare_cached("UPDATE blobs SET content = ?2 WHERE id = ?1")?.execute([blob.0, spare.0])?;
        old
    } else {
        spare
    };
    db.prepare_cached("UPDATE blobs SET damaged = NULL WHERE id = ?1")?.execute([blob.0])?;
    remove_content(db, loser, Fate::Drop(now))?;
    Ok(Outcome::Done)
}

pub(super) fn bury(db: &Connection, before: Timestamp, limit: usize, now: Timestamp) -> Applied {
    let orphans = db
        .prepare_cached("SELECT id, content FROM blobs WHERE orphan < ?1 ORDER BY orphan, id LIMIT ?2")?
        .query_map(params![row::time(before), row::limit(limit)], |row| {
            Ok((BlobId(row.get(0)?), ContentId(row.get(1)?)))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for (blob, content) in &orphans {
        let spares = db
            .prepare_cached("DELETE FROM spares WHERE blob = ?1 RETURNING content")?
            .query_map([blob.0], |row| row.get(0).map(ContentId))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        db.prepare_cached("DELETE FROM digests WHERE blob = ?1")?.execute([blob.0])?;
        db.prepare_cached("DELETE FROM blobs WHERE id = ?1")?.execute([blob.0])?;
        for content in spares.iter().chain([content]) {
            remove_content(db, *content, Fate::Drop(now))?;
        }
    }
    Ok(Outcome::Count(orphans.len()))
}

pub(super) fn spares(db: &Connection, limit: usize) -> rusqlite::Result<Vec<(Blob, ContentId)>> {
    db.prepare_cached(&format!(
        "SELECT {BLOB_COLUMNS}, s.content FROM spares s JOIN blobs b ON b.id = s.blob ORDER BY s.content LIMIT ?1"
    ))?
    .query_map([row::limit(limit)], |found| Ok((blob_from(found, 0)?, ContentId(found.get(BLOB_COLUMNS_COUNT)?))))?
    .collect()
}

pub(super) fn list(db: &Connection, after: Option<BlobId>, limit: usize) -> rusqlite::Result<Vec<Blob>> {
    db.prepare_cached(&format!(
        "SELECT {BLOB_COLUMNS} FROM blobs b WHERE b.id > ?1 AND b.orphan IS NULL ORDER BY b.id LIMIT ?2"
    ))?
    .query_map(params![after.map_or(0, |blob| blob.0), row::limit(limit)], |found| blob_from(found, 0))?
    .collect()
}

#[cfg(test)]
mod tests {
    use hapax_proto::span::Offset;
    use rusqlite::StatementStatus;

    use super::super::schema;
    use super::*;

    /// A content of so many extents of ten bytes each, all in one object.
    fn content_of(extents: i64) -> Connection {
        let mut db = Connection::open_in_memory().unwrap();
        schema::migrate(&mut db).unwrap().unwrap();
        db.execute_batch("INSERT INTO boots VALUES (1); INSERT INTO dirs VALUES (1, 1, 1);").unwrap();
        db.execute("INSERT INTO objects VALUES (zeroblob(16), 1, 10, 0, NULL)", []).unwrap();
        db.execute("INSERT INTO contents VALUES (1, 0, 0, 0)", []).unwrap();
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO extents SELECT 1, 10 * i, 10, zeroblob(16), 0, NULL FROM n",
            [extents],
        )
        .unwrap();
        db
    }

    /// Reads the extents at a place, and returns how many steps of SQLite's machine that took.
    #[track_caller]
    fn steps(db: &Connection, start: u64, expected: &[u64]) -> i32 {
        let span = Span::at(Offset::new(start), Length::new(10)).unwrap();
        db.prepare_cached(EXTENTS).unwrap().reset_status(StatementStatus::VmStep);
        let found = extents(db, ContentId(1), span, usize::MAX).unwrap();
        let starts: Vec<_> = found.iter().map(|extent| extent.span.start().get()).collect();
        assert_eq!(starts, expected);
        db.prepare_cached(EXTENTS).unwrap().get_status(StatementStatus::VmStep)
    }

    #[test]
    fn a_small_span_of_a_large_content_is_found_by_index() {
        let (small, large) = (content_of(10), content_of(100_000));
        let few = steps(&small, 45, &[40, 50]);
        assert!(few > 0);
        assert_eq!(steps(&large, 45, &[40, 50]), few);
        assert_eq!(steps(&large, 500_005, &[500_000, 500_010]), few);
        assert!(steps(&large, 999_995, &[999_990]) <= few);
        assert!(steps(&large, 2_000_000, &[]) <= few);
    }
}
