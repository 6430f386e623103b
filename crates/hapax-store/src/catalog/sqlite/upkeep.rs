//! What jobs keep, which blobs are damaged, and where the bytes of a blob are put together anew.

use hapax_proto::span::Length;
use rusqlite::{Connection, OptionalExtension, params};

use super::super::{
    Blob, BlobId, ContentId, Extent, Holder, Outcome, Owner, Refusal, Rewrite, Saved, UploadId,
};
use super::blobs::Fate;
use super::{Applied, blobs, row};
use crate::clock::Timestamp;
use crate::id::{DirId, ObjectId, ObjectName};

pub(super) fn save_job(db: &Connection, name: &str, state: &str, now: Timestamp) -> Applied {
    db.prepare_cached("INSERT OR REPLACE INTO jobs (name, state, updated) VALUES (?1, ?2, ?3)")?
        .execute(params![name, state, row::time(now)])?;
    Ok(Outcome::Done)
}

pub(super) fn job(db: &Connection, name: &str) -> rusqlite::Result<Option<Saved>> {
    db.prepare_cached("SELECT state, updated FROM jobs WHERE name = ?1")?
        .query_row([name], |found| Ok(Saved { state: found.get(0)?, updated: row::get_time(found, 1)? }))
        .optional()
}

pub(super) fn judge(
    db: &Connection,
    blob: BlobId,
    content: ContentId,
    damaged: Option<Timestamp>,
) -> Applied {
    let judged = db
        .prepare_cached(
            "UPDATE blobs SET damaged = CASE WHEN ?3 IS NULL THEN NULL ELSE coalesce(damaged, ?3) END
             WHERE id = ?1 AND content = ?2",
        )?
        .execute(params![blob.0, content.0, damaged.map(row::time)])?;
    if judged == 1 {
        return Ok(Outcome::Done);
    }
    let is_there = db.prepare_cached("SELECT 1 FROM blobs WHERE id = ?1")?.exists([blob.0])?;
    Err(if is_there { Refusal::Superseded } else { Refusal::NotFound }.into())
}

/// Gives a blob another copy of its content: in place of one that is damaged, else beside the one that it has.
pub(super) fn add_copy(db: &Connection, blob: &Blob, content: ContentId) -> rusqlite::Result<()> {
    if !blob.damaged {
        return blobs::add_spare(db, blob.id, content);
    }
    db.prepare_cached("UPDATE blobs SET content = ?2, damaged = NULL WHERE id = ?1")?
        .execute([blob.id.0, content.0])?;
    blobs::add_spare(db, blob.id, blob.content)
}

/// Puts a fresh inline content in place of another; tells whether there was one.
pub(super) fn replace_inline(db: &Connection, blob: &Blob, sealed: &[u8]) -> rusqlite::Result<bool> {
    let replaced = db
        .prepare_cached("UPDATE inline SET sealed = ?2 WHERE content = ?1")?
        .execute(params![blob.content.0, sealed])?;
    if replaced == 1 && blob.damaged {
        db.prepare_cached("UPDATE blobs SET damaged = NULL WHERE id = ?1")?.execute([blob.id.0])?;
    }
    Ok(replaced == 1)
}

pub(super) fn rewrite(db: &Connection, rewrite: &Rewrite) -> Applied {
    let content = rewrite.content;
    let found: Option<(u64, Length)> = db
        .prepare_cached(
            "SELECT c.version, b.size FROM blobs b JOIN contents c ON c.id = b.content WHERE b.content = ?1",
        )?
        .query_row([content.0], |found| Ok((row::get_u64(found, 0)?, row::get_length(found, 1)?)))
        .optional()?;
    let (version, size) = found.ok_or(Refusal::NotFound)?;
    if version != rewrite.version {
        return Err(Refusal::Superseded.into());
    }
    if blobs::inline(db, content)?.is_some() {
        return Err(Refusal::Malformed("an inline content is rewritten").into());
    }
    blobs::clear(db, content, rewrite.clear, Fate::Drop(rewrite.now))?;
    blobs::place(db, content, &rewrite.put)?;
    db.prepare_cached("UPDATE contents SET version = version + 1 WHERE id = ?1")?.execute([content.0])?;
    if blobs::is_whole(db, content, size)? { Ok(Outcome::Done) } else { Err(Refusal::Incomplete.into()) }
}

pub(super) fn damaged(db: &Connection, after: Option<BlobId>, limit: usize) -> rusqlite::Result<Vec<Blob>> {
    db.prepare_cached(&format!(
        "SELECT {} FROM blobs b
         WHERE b.id > ?1 AND b.damaged IS NOT NULL AND b.orphan IS NULL ORDER BY b.id LIMIT ?2",
        blobs::BLOB_COLUMNS
    ))?
    .query_map(params![after.map_or(0, |blob| blob.0), row::limit(limit)], |found| {
        blobs::blob_from(found, 0)
    })?
    .collect()
}

pub(super) fn live_objects(
    db: &Connection,
    after: Option<ObjectId>,
    limit: usize,
) -> rusqlite::Result<Vec<(ObjectName, Length, Length)>> {
    let after = after.map_or_else(Vec::new, |object| object.as_bytes().to_vec());
    db.prepare_cached(
        "SELECT id, dir, length, (SELECT coalesce(sum(length), 0) FROM extents WHERE object = o.id)
         FROM objects o WHERE id > ?1 AND state = 0 ORDER BY id LIMIT ?2",
    )?
    .query_map(params![after, row::limit(limit)], |found| {
        let id = ObjectId::from_bytes(row::get_bytes(found, 0)?);
        let name = ObjectName { id, dir: DirId::new(row::get_u32(found, 1)?) };
        Ok((name, row::get_length(found, 2)?, row::get_length(found, 3)?))
    })?
    .collect()
}

/// By the index of the objects of extents; what owns a content is looked up for each.
pub(super) fn holders(db: &Connection, object: ObjectId) -> rusqlite::Result<Vec<Holder>> {
    let found = db
        .prepare_cached(
            "SELECT e.content, e.start, e.length, e.object_start, e.value, o.dir, o.length
             FROM extents e JOIN objects o ON o.id = e.object WHERE e.object = ?1 ORDER BY e.content, e.start",
        )?
        .query_map([&object.as_bytes()[..]], |found| {
            let extent = Extent {
                span: row::get_span(found, 1, 2)?,
                object: ObjectName { id: object, dir: DirId::new(row::get_u32(found, 5)?) },
                object_length: row::get_length(found, 6)?,
                object_start: hapax_proto::span::Offset::new(row::get_u64(found, 3)?),
                value: row::get_masked(found, 4)?,
            };
            Ok((ContentId(found.get(0)?), extent))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let holder = |(content, extent)| Ok(Holder { owner: owner(db, content)?, content, extent });
    found.into_iter().map(holder).collect()
}

fn owner(db: &Connection, content: ContentId) -> rusqlite::Result<Owner> {
    let blob = db
        .prepare_cached(&format!(
            "SELECT {}, b.orphan IS NOT NULL FROM blobs b WHERE b.content = ?1",
            blobs::BLOB_COLUMNS
        ))?
        .query_row([content.0], |found| {
            let blob = blobs::blob_from(found, 0)?;
            let is_orphan = found.get(blobs::BLOB_COLUMNS_COUNT)?;
            Ok(if is_orphan { Owner::Orphan(blob.id) } else { Owner::Blob(blob) })
        })
        .optional()?;
    if let Some(blob) = blob {
        return Ok(blob);
    }
    let spare = db
        .prepare_cached(&format!(
            "SELECT {} FROM spares s JOIN blobs b ON b.id = s.blob WHERE s.content = ?1",
            blobs::BLOB_COLUMNS
        ))?
        .query_row([content.0], |found| blobs::blob_from(found, 0).map(Owner::Spare))
        .optional()?;
    if let Some(spare) = spare {
        return Ok(spare);
    }
    db.prepare_cached("SELECT id FROM uploads WHERE content = ?1")?
        .query_row([content.0], |found| row::get_bytes(found, 0).map(UploadId).map(Owner::Upload))
}

pub(super) fn version(db: &Connection, content: ContentId) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached("SELECT c.version FROM contents c JOIN blobs b ON b.content = c.id WHERE c.id = ?1")?
        .query_row([content.0], |found| row::get_u64(found, 0))
        .optional()
}

pub(super) fn extent_counts(
    db: &Connection,
    after: Option<BlobId>,
    limit: usize,
) -> rusqlite::Result<Vec<(Blob, u64)>> {
    db.prepare_cached(&format!(
        "SELECT {}, (SELECT count(*) FROM extents WHERE content = b.content)
         FROM blobs b WHERE b.id > ?1 AND b.orphan IS NULL ORDER BY b.id LIMIT ?2",
        blobs::BLOB_COLUMNS
    ))?
    .query_map(params![after.map_or(0, |blob| blob.0), row::limit(limit)], |found| {
        Ok((blobs::blob_from(found, 0)?, row::get_u64(found, blobs::BLOB_COLUMNS_COUNT)?))
    })?
    .collect()
}
