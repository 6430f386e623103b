//! Blobs whose identity is pending: composed of pieces that were hashed elsewhere, they are known by a random fingerprint
//! until a job has read them.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Blob, BlobId, ContentId, Extent, MaskedValue, Outcome, Refusal};
use super::{Applied, Stop, blobs, row, upkeep};
use crate::key::Fingerprint;

pub(super) fn list(db: &Connection, after: Option<BlobId>, limit: usize) -> rusqlite::Result<Vec<Blob>> {
    db.prepare_cached(&format!(
        "SELECT {} FROM blobs b WHERE b.id > ?1 AND b.identity = x'' AND b.orphan IS NULL ORDER BY b.id LIMIT ?2",
        blobs::BLOB_COLUMNS
    ))?
    .query_map(params![after.map_or(0, |blob| blob.0), row::limit(limit)], |found| {
        blobs::blob_from(found, 0)
    })?
    .collect()
}

/// Finds a blob that is live and pending.
fn find(db: &Connection, blob: BlobId) -> Result<(Fingerprint, ContentId), Stop> {
    let found = db
        .prepare_cached(
            "SELECT fingerprint, content FROM blobs WHERE id = ?1 AND identity = x'' AND orphan IS NULL",
        )?
        .query_row([blob.0], |found| Ok((Fingerprint(row::get_bytes(found, 0)?), ContentId(found.get(1)?))))
        .optional()?;
    Ok(found.ok_or(Refusal::NotLive)?)
}

pub(super) fn keep_values(db: &Connection, blob: BlobId, extents: &[Extent]) -> Applied {
    let (_, content) = find(db, blob)?;
    let mut keep = db.prepare_cached(
        "UPDATE extents SET value = ?5 WHERE content = ?1 AND start = ?2 AND object = ?3 AND object_start = ?4",
    )?;
    for extent in extents {
        let (start, object_start) = (row::offset(extent.span.start()), row::offset(extent.object_start));
        let value = extent.value.map(MaskedValue::to_bytes);
        keep.execute(params![content.0, start, &extent.object.id.as_bytes()[..], object_start, value])?;
    }
    Ok(Outcome::Done)
}

/// Says what a blob is. If that is held already, what shows the blob goes over to the one that is held, which has a spare now.
pub(super) fn identify(db: &Connection, blob: BlobId, fingerprint: &Fingerprint, identity: &[u8]) -> Applied {
    let (provisional, content) = find(db, blob)?;
    db.prepare_cached(
        "UPDATE uploads SET done_fingerprint = ?2, done_identity = ?3
         WHERE done_fingerprint = ?1 AND done_identity = x''",
    )?
    .execute(params![&provisional.0[..], &fingerprint.0[..], identity])?;
    let Some(held) = blobs::by_fingerprint(db, fingerprint)? else {
        db.prepare_cached("UPDATE blobs SET fingerprint = ?2, identity = ?3 WHERE id = ?1")?
            .execute(params![blob.0, &fingerprint.0[..], identity])?;
        return Ok(Outcome::Done);
    };
    let ours: i64 = db
        .prepare_cached("SELECT size FROM blobs WHERE id = ?1")?
        .query_row([blob.0], |found| found.get(0))?;
    if held.id == blob || row::length(held.size) != ours {
        return Err(Refusal::Malformed("one identity has two sizes").into());
    }
    blobs::revive(db, held.id)?;
    db.prepare_cached("UPDATE entries SET blob = ?2 WHERE blob = ?1")?.execute([blob.0, held.id.0])?;
    db.prepare_cached("UPDATE spares SET blob = ?2 WHERE blob = ?1")?.execute([blob.0, held.id.0])?;
    db.prepare_cached("DELETE FROM digests WHERE blob = ?1")?.execute([blob.0])?;
    db.prepare_cached("DELETE FROM blobs WHERE id = ?1")?.execute([blob.0])?;
    upkeep::add_copy(db, &held, content)?;
    Ok(Outcome::Done)
}
