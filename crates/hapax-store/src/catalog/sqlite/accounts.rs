//! Users and their tokens.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{EntryId, Outcome, Refusal, SpaceId, TOKENS_MAX, Token, TokenId, User, UserId};
use super::{Applied, Stop, entries, row, spaces, uploads};
use crate::clock::{Moment, Timestamp};

const USER_COLUMNS: &str = "u.id, u.name, u.password, u.admin, u.space, u.\"group\", u.created";
const TOKEN_COLUMNS: &str = "t.id, t.user, t.name, t.scope, t.created, t.expires";

fn user_from(found: &Row<'_>, first: usize) -> rusqlite::Result<User> {
    Ok(User {
        id: UserId(found.get(first)?),
        name: found.get(first + 1)?,
        password: found.get(first + 2)?,
        admin: found.get(first + 3)?,
        space: SpaceId(found.get(first + 4)?),
        group: found.get(first + 5)?,
        created: row::get_time(found, first + 6)?,
    })
}

fn token_from(found: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: TokenId(found.get(0)?),
        user: UserId(found.get(1)?),
        name: found.get(2)?,
        scope: found.get(3)?,
        created: row::get_time(found, 4)?,
        expires: row::get_time_opt(found, 5)?,
    })
}

pub(super) fn create_user(db: &Connection, name: &str, password: &str, admin: bool, now: Moment) -> Applied {
    let taken = db
        .prepare_cached("SELECT 1 FROM users WHERE name = ?1 UNION ALL SELECT 1 FROM spaces WHERE name = ?1")?
        .exists([name])?;
    if taken {
        return Err(Refusal::Exists.into());
    }
    // Space, root and user name each other; the two rows made first are completed once the later ones have numbers.
    db.prepare_cached("INSERT INTO spaces (name, owner, root, used, reserved) VALUES (?1, 0, 0, 0, 0)")?
        .execute([name])?;
    let space = SpaceId(db.last_insert_rowid());
    let root = entries::add_root(db, space, now)?;
    db.prepare_cached(
        "INSERT INTO users (name, password, admin, space, created) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![name, password, admin, space.0, row::time(now.wall)])?;
    let user = UserId(db.last_insert_rowid());
    db.prepare_cached("UPDATE spaces SET owner = ?2, root = ?3 WHERE id = ?1")?
        .execute(params![space.0, user.0, root.0])?;
    Ok(Outcome::User(user))
}

pub(super) fn set_password(db: &Connection, user: UserId, password: &str) -> Applied {
    spaces::changed_one(
        db.prepare_cached("UPDATE users SET password = ?2 WHERE id = ?1")?
            .execute(params![user.0, password])?,
    )
}

pub(super) fn set_group(db: &Connection, user: UserId, group: Option<&str>) -> Applied {
    spaces::changed_one(
        db.prepare_cached("UPDATE users SET \"group\" = ?2 WHERE id = ?1")?
            .execute(params![user.0, group])?,
    )
}

pub(super) fn remove_user(db: &Connection, user: UserId, now: Moment) -> Applied {
    let (space, root): (i64, i64) = db
        .prepare_cached("SELECT s.id, s.root FROM users u JOIN spaces s ON s.id = u.space WHERE u.id = ?1")?
        .query_row([user.0], |found| Ok((found.get(0)?, found.get(1)?)))
        .optional()?
        .ok_or(Refusal::NotFound)?;
    uploads::remove_all(db, user, SpaceId(space), now.steady)?;
    entries::remove_below(db, SpaceId(space), EntryId(root), now)?;
    db.prepare_cached("DELETE FROM tokens WHERE user = ?1")?.execute([user.0])?;
    db.prepare_cached("DELETE FROM users WHERE id = ?1")?.execute([user.0])?;
    db.prepare_cached("DELETE FROM spaces WHERE id = ?1")?.execute([space])?;
    Ok(Outcome::Done)
}

pub(super) fn add_token(
    db: &Connection,
    user: UserId,
    name: &str,
    hash: &[u8; 32],
    scope: &str,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> Applied {
    if !db.prepare_cached("SELECT 1 FROM users WHERE id = ?1")?.exists([user.0])? {
        return Err(Refusal::NotFound.into());
    }
    if db.prepare_cached("SELECT 1 FROM tokens WHERE hash = ?1")?.exists([&hash[..]])? {
        return Err(Refusal::Exists.into());
    }
    make_room(db, user, now)?;
    db.prepare_cached(
        "INSERT INTO tokens (user, name, hash, scope, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![user.0, name, &hash[..], scope, row::time(now), expires.map(row::time)])?;
    Ok(Outcome::Token(TokenId(db.last_insert_rowid())))
}

/// Sees to it that a user may have one token more: what ended goes, if there are as many as may be.
fn make_room(db: &Connection, user: UserId, now: Timestamp) -> Result<(), Stop> {
    let is_full = || -> rusqlite::Result<bool> {
        db.prepare_cached("SELECT count(*) >= ?2 FROM tokens WHERE user = ?1")?
            .query_row([user.0, i64::from(TOKENS_MAX)], |found| found.get(0))
    };
    if !is_full()? {
        return Ok(());
    }
    db.prepare_cached("DELETE FROM tokens WHERE user = ?1 AND expires <= ?2")?
        .execute([user.0, row::time(now)])?;
    if is_full()? { Err(Refusal::TooManyTokens.into()) } else { Ok(()) }
}

pub(super) fn remove_token(db: &Connection, user: UserId, token: TokenId) -> Applied {
    spaces::changed_one(
        db.prepare_cached("DELETE FROM tokens WHERE id = ?1 AND user = ?2")?.execute([token.0, user.0])?,
    )
}

pub(super) fn find(db: &Connection, name: &str) -> rusqlite::Result<Option<User>> {
    db.prepare_cached(&format!("SELECT {USER_COLUMNS} FROM users u WHERE u.name = ?1"))?
        .query_row([name], |found| user_from(found, 0))
        .optional()
}

pub(super) fn list(db: &Connection) -> rusqlite::Result<Vec<User>> {
    db.prepare_cached(&format!("SELECT {USER_COLUMNS} FROM users u ORDER BY u.name"))?
        .query_map([], |found| user_from(found, 0))?
        .collect()
}

pub(super) fn token(db: &Connection, hash: &[u8; 32]) -> rusqlite::Result<Option<(Token, User)>> {
    db.prepare_cached(&format!(
        "SELECT {TOKEN_COLUMNS}, {USER_COLUMNS} FROM tokens t JOIN users u ON u.id = t.user WHERE t.hash = ?1"
    ))?
    .query_row([&hash[..]], |found| Ok((token_from(found)?, user_from(found, 6)?)))
    .optional()
}

pub(super) fn tokens(db: &Connection, user: UserId) -> rusqlite::Result<Vec<Token>> {
    db.prepare_cached(&format!("SELECT {TOKEN_COLUMNS} FROM tokens t WHERE t.user = ?1 ORDER BY t.id"))?
        .query_map([user.0], token_from)?
        .collect()
}
