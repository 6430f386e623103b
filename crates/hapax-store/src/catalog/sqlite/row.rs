//! Conversions between SQLite's integers and blobs and our values. SQLite integers are signed 64-bit; sizes and offsets
//! are at most 10^15 and ids start at 1, so nothing is ever cut. A value that no writer of ours could have written is
//! reported as a conversion failure, which `StoreError` classes as corruption.

use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::State;
use rusqlite::types::Type;
use rusqlite::{Error, Row};

use crate::catalog::{Counted, LaneId, MaskedValue};
use crate::clock::Timestamp;

pub(super) fn corrupt(column: usize, why: &'static str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Null, why.into())
}

/// An unsigned number as SQLite holds it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).expect("sizes, offsets, times and counters stay far below 2^63")
}

pub(super) fn length(length: Length) -> i64 {
    int(length.get())
}

pub(super) fn offset(offset: Offset) -> i64 {
    int(offset.get())
}

pub(super) fn time(time: Timestamp) -> i64 {
    int(time.as_millis())
}

/// A limit as SQLite wants it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn get_u64(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| corrupt(column, "a negative number"))
}

pub(super) fn get_u32(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    u32::try_from(row.get::<_, i64>(column)?).map_err(|_| corrupt(column, "a number out of range"))
}

pub(super) fn get_length(row: &Row<'_>, column: usize) -> rusqlite::Result<Length> {
    get_u64(row, column).map(Length::new)
}

pub(super) fn get_length_opt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Length>> {
    match row.get::<_, Option<i64>>(column)? {
        None => Ok(None),
        Some(_) => get_length(row, column).map(Some),
    }
}

pub(super) fn get_span(row: &Row<'_>, start: usize, length: usize) -> rusqlite::Result<Span> {
    Span::at(Offset::new(get_u64(row, start)?), get_length(row, length)?)
        .ok_or_else(|| corrupt(start, "a span too far"))
}

pub(super) fn get_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    get_u64(row, column).map(Timestamp::from_millis)
}

pub(super) fn get_time_opt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    match row.get::<_, Option<i64>>(column)? {
        None => Ok(None),
        Some(_) => get_time(row, column).map(Some),
    }
}

pub(super) fn get_bytes<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; N]> {
    row.get_ref(column)?
        .as_blob()
        .ok()
        .and_then(|blob| blob.try_into().ok())
        .ok_or_else(|| corrupt(column, "bytes of another length"))
}

/// Reads the value of a part; null where none is kept.
pub(super) fn get_masked(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<MaskedValue>> {
    let Ok(bytes) = row.get_ref(column)?.as_blob_or_null() else { return Err(corrupt(column, "no bytes")) };
    let Some(bytes) = bytes else { return Ok(None) };
    MaskedValue::from_bytes(bytes).map(Some).ok_or_else(|| corrupt(column, "a value of another length"))
}

pub(super) fn state(state: State) -> i64 {
    match state {
        State::Open => 0,
        State::Done => 1,
        State::Expired => 2,
        State::Cancelled => 3,
        State::Poisoned => 4,
    }
}

pub(super) fn get_state(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    Ok(match row.get::<_, i64>(column)? {
        0 => State::Open,
        1 => State::Done,
        2 => State::Expired,
        3 => State::Cancelled,
        4 => State::Poisoned,
        _ => return Err(corrupt(column, "an unknown state")),
    })
}

pub(super) fn counted(counted: Counted) -> i64 {
    match counted {
        Counted::Here => 0,
        Counted::InMembers => 1,
        Counted::InFile => 2,
    }
}

pub(super) fn get_counted(row: &Row<'_>, column: usize) -> rusqlite::Result<Counted> {
    Ok(match row.get::<_, i64>(column)? {
        0 => Counted::Here,
        1 => Counted::InMembers,
        2 => Counted::InFile,
        _ => return Err(corrupt(column, "an unknown way to be counted")),
    })
}

/// A sealed identity as SQLite holds it: empty while it is pending.
pub(super) fn identity(sealed: Option<&[u8]>) -> &[u8] {
    sealed.unwrap_or_default()
}

pub(super) fn get_identity(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Vec<u8>>> {
    row.get(column).map(|sealed: Vec<u8>| Some(sealed).filter(|sealed| !sealed.is_empty()))
}

pub(super) fn lane(lane: LaneId) -> i64 {
    match lane {
        LaneId::Append => 0,
        LaneId::Part(number) => i64::from(number.get()) + 1,
    }
}

pub(super) fn get_lane(row: &Row<'_>, column: usize) -> rusqlite::Result<LaneId> {
    match get_u64(row, column)?.checked_sub(1) {
        None => Ok(LaneId::Append),
        Some(number) => u32::try_from(number)
            .map(|number| LaneId::Part(PartNumber::new(number)))
            .map_err(|_| corrupt(column, "a lane out of range")),
    }
}
