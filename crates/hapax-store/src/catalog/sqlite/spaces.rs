//! Spaces: their names, what lies in them and what is promised to their uploads.

use hapax_proto::span::Length;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{Outcome, Refusal, SPACE_MAX, Space, SpaceId, UserId};
use super::{Applied, Stop, row};

const COLUMNS: &str = "id, name, owner, quota, used, reserved";

fn space_from(found: &Row<'_>) -> rusqlite::Result<Space> {
    Ok(Space {
        id: SpaceId(found.get(0)?),
        name: found.get(1)?,
        owner: UserId(found.get(2)?),
        quota: row::get_length_opt(found, 3)?,
        used: row::get_length(found, 4)?,
        reserved: row::get_length(found, 5)?,
    })
}

pub(super) fn by_name(db: &Connection, name: &str) -> rusqlite::Result<Option<Space>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM spaces WHERE name = ?1"))?
        .query_row([name], space_from)
        .optional()
}

pub(super) fn find(db: &Connection, id: SpaceId) -> rusqlite::Result<Option<Space>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM spaces WHERE id = ?1"))?
        .query_row([id.0], space_from)
        .optional()
}

pub(super) fn set_quota(db: &Connection, space: SpaceId, quota: Option<Length>) -> Applied {
    changed_one(
        db.prepare_cached("UPDATE spaces SET quota = ?2 WHERE id = ?1")?
            .execute(params![space.0, quota.map(row::length)])?,
    )
}

/// Turns the count of an update that must have met one row into its outcome.
pub(super) fn changed_one(rows: usize) -> Applied {
    if rows == 1 { Ok(Outcome::Done) } else { Err(Refusal::NotFound.into()) }
}

pub(super) fn add_used(db: &Connection, space: SpaceId, bytes: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE spaces SET used = used + ?2 WHERE id = ?1")?
        .execute(params![space.0, bytes])?;
    Ok(())
}

pub(super) fn add_reserved(db: &Connection, space: SpaceId, bytes: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE spaces SET reserved = reserved + ?2 WHERE id = ?1")?
        .execute(params![space.0, bytes])?;
    Ok(())
}

/// Returns what lies in a space or is promised.
pub(super) fn filled(db: &Connection, space: SpaceId) -> Result<Length, Stop> {
    Ok(sum(&find(db, space)?.ok_or(Refusal::NotFound)?))
}

/// Refuses a change that has been made, if it filled the space further, and past its quota. `was` is what was `filled` before.
pub(super) fn check_quota(db: &Connection, space: SpaceId, was: Length) -> Result<(), Stop> {
    let space = find(db, space)?.ok_or(Refusal::NotFound)?;
    let limit = space.quota.unwrap_or(SPACE_MAX);
    if sum(&space) > limit.max(was) { Err(Refusal::Quota { limit, used: was }.into()) } else { Ok(()) }
}

fn sum(space: &Space) -> Length {
    space.used.checked_add(space.reserved).expect("no space holds 2^64 bytes")
}
