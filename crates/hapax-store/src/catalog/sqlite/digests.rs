//! Digests of blobs in the algorithms of others, and finding blobs by them.

use std::collections::BTreeSet;

use hapax_proto::digest::Algorithm;
use rusqlite::{Connection, params};

use super::super::{Blob, BlobId, Outcome, Refusal, SpaceId};
use super::{Applied, blobs, row};
use crate::key::Lookup;

/// Keeps a digest of a live blob; the reference is made by an update that must change exactly one row (R8).
pub(super) fn keep(db: &Connection, blob: BlobId, lookup: &Lookup, sealed: &[u8]) -> Applied {
    let held = db
        .prepare_cached(
            "UPDATE blobs SET orphan = NULL WHERE id = ?1 AND orphan IS NULL AND identity <> x''",
        )?
        .execute([blob.0])?;
    if held != 1 {
        return Err(Refusal::NotLive.into());
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO digests (blob, algorithm, sealed, lookup) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![blob.0, lookup.algorithm.key(), sealed, &lookup.value[..]])?;
    Ok(Outcome::Done)
}

/// A row of an algorithm that this program does not know is passed over.
pub(super) fn of(db: &Connection, blob: BlobId) -> rusqlite::Result<Vec<(Algorithm, Vec<u8>)>> {
    let mut found = db
        .prepare_cached("SELECT algorithm, sealed FROM digests WHERE blob = ?1")?
        .query_map([blob.0], |row| Ok((Algorithm::from_key(&row.get::<_, String>(0)?), row.get(1)?)))?
        .filter_map(|row| row.map(|(algorithm, sealed)| Some((algorithm?, sealed))).transpose())
        .collect::<rusqlite::Result<Vec<_>>>()?;
    found.sort_unstable();
    Ok(found)
}

/// Looks a digest up. Of one that is not there it looks at the next two, as of one that is there at the next one: whoever
/// measures how long the answer takes does not learn which it was. Lookup values are keyed, and the next ones are anybody's.
pub(super) fn blobs(
    db: &Connection,
    space: Option<SpaceId>,
    lookup: &Lookup,
    limit: usize,
) -> rusqlite::Result<Vec<Blob>> {
    let nearest = from_index(db, space, (lookup, ">="), 2)?;
    let is_it = |found: &Found| found.lookup == lookup.value;
    // Only of forged ones are there several; the index gives those few, not all blobs.
    let several = nearest.len() == 2 && nearest.iter().all(is_it);
    let found = if several { from_index(db, space, (lookup, "="), usize::MAX)? } else { nearest };
    let found = found.into_iter().filter(|found| is_it(found) && found.is_shown);
    Ok(found.map(|found| found.blob).filter(|blob| !blob.damaged).take(limit).collect())
}

/// A blob that stands in the index of lookups.
struct Found {
    blob: Blob,
    lookup: [u8; 32],
    /// Whether it is live, and an entry of the space, or of any, points to it.
    is_shown: bool,
}

fn from_index(
    db: &Connection,
    space: Option<SpaceId>,
    (lookup, condition): (&Lookup, &str),
    limit: usize,
) -> rusqlite::Result<Vec<Found>> {
    let within = if space.is_some() { "space = ?3" } else { "?3 IS NULL" };
    db.prepare_cached(&format!(
        "SELECT {}, d.lookup,
             EXISTS (SELECT 1 FROM entries WHERE blob = b.id AND {within}) AND b.orphan IS NULL
         FROM digests d JOIN blobs b ON b.id = d.blob
         WHERE d.algorithm = ?1 AND d.lookup {condition} ?2 ORDER BY d.lookup, d.blob LIMIT ?4",
        blobs::BLOB_COLUMNS
    ))?
    .query_map(
        params![lookup.algorithm.key(), &lookup.value[..], space.map(|space| space.0), row::limit(limit)],
        |found| {
            Ok(Found {
                blob: blobs::blob_from(found, 0)?,
                lookup: row::get_bytes(found, blobs::BLOB_COLUMNS_COUNT)?,
                is_shown: found.get(blobs::BLOB_COLUMNS_COUNT + 1)?,
            })
        },
    )?
    .collect()
}

pub(super) fn findable(
    db: &Connection,
    after: Option<BlobId>,
    limit: usize,
) -> rusqlite::Result<Vec<(Blob, Vec<Algorithm>)>> {
    db.prepare_cached(&format!(
        "SELECT {}, (SELECT group_concat(algorithm) FROM digests WHERE blob = b.id AND lookup IS NOT NULL)
         FROM blobs b WHERE b.id > ?1 AND b.orphan IS NULL AND b.identity <> x'' ORDER BY b.id LIMIT ?2",
        blobs::BLOB_COLUMNS
    ))?
    .query_map(params![after.map_or(0, |blob| blob.0), row::limit(limit)], |found| {
        // No key has a comma (RFC 9651 §3.1.2).
        let keys: Option<String> = found.get(blobs::BLOB_COLUMNS_COUNT)?;
        let keys = keys.iter().flat_map(|keys| keys.split(','));
        let mut algorithms: Vec<_> = keys.filter_map(Algorithm::from_key).collect();
        algorithms.sort_unstable();
        Ok((blobs::blob_from(found, 0)?, algorithms))
    })?
    .collect()
}

pub(super) fn unfindable(db: &Connection, algorithms: &[Algorithm]) -> rusqlite::Result<u64> {
    let wanted: BTreeSet<_> = algorithms.iter().map(|algorithm| algorithm.key()).collect();
    // Each key between commas, which no key has.
    let keys = format!(",{},", wanted.iter().copied().collect::<Vec<_>>().join(","));
    db.prepare_cached(
        "SELECT count(*) FROM blobs b WHERE b.orphan IS NULL AND b.identity <> x'' AND ?2 > (
             SELECT count(*) FROM digests d
             WHERE d.blob = b.id AND d.lookup IS NOT NULL AND instr(?1, ',' || d.algorithm || ',') > 0)",
    )?
    .query_row(params![keys, row::limit(wanted.len())], |found| row::get_u64(found, 0))
}
