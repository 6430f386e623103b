//! Moments, as JSON spells them: RFC 3339 in UTC, from the year 1970 to 9999.

use std::time::{Duration, UNIX_EPOCH};

use hapax_proto::problem::{Kind, Problem};
use hapax_store::clock::Timestamp;

use crate::respond::Refusal;

/// The last millisecond that can be spelled.
const MILLIS_MAX: u64 = 253_402_300_799_999;

/// Spells a moment of the server's clock.
pub fn spell(time: Timestamp) -> String {
    spell_millis(time.as_millis())
}

/// Spells a modification time, in milliseconds since the epoch; `None` outside of the years that can be spelled.
pub fn spell_mtime(millis: i64) -> Option<String> {
    u64::try_from(millis).ok().filter(|millis| *millis <= MILLIS_MAX).map(spell_millis)
}

fn spell_millis(millis: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(millis.min(MILLIS_MAX));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Reads a moment, to the millisecond; `field` is the member it stands in.
///
/// # Errors
/// 400 for everything else.
pub fn parse(field: &'static str, text: &str) -> Result<Timestamp, Refusal> {
    let since = humantime::parse_rfc3339(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let millis = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    let bad = || Problem::new(Kind::BadField).member("field", field).detail("write 2026-11-21T12:00:00Z");
    Ok(Timestamp::from_millis(millis.ok_or_else(bad)?))
}

/// Reads a modification time into milliseconds since the epoch.
///
/// # Errors
/// 400 for everything else.
pub fn parse_mtime(text: Option<&str>) -> Result<Option<i64>, Refusal> {
    let time = text.map(|text| parse("mtime", text)).transpose()?;
    Ok(time.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_its_spelling() {
        #[track_caller]
        fn check(text: &str, millis: u64, spelled: &str) {
            let time = parse("x", text).unwrap();
            assert_eq!((time.as_millis(), spell(time).as_str()), (millis, spelled));
        }
        check("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000Z");
        check("2026-11-21T12:34:56.789123456Z", 1_795_264_496_789, "2026-11-21T12:34:56.789Z");
        check("9999-12-31T23:59:59.999Z", MILLIS_MAX, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_moment_is_a_bad_field() {
        for text in ["", "now", "2026-11-21", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert_eq!(parse("x", text).unwrap_err().problem().kind, Kind::BadField, "{text}");
        }
        assert_eq!(spell_mtime(-1), None);
    }
}
