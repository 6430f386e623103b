//! Validators: entity tags and dates (RFC 9110 §8.8). Owns their syntax and how two of them compare; it decides
//! nothing about a request.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

/// An entity tag (RFC 9110 §8.8.3).
///
/// The opaque part is bytes, not text: other people's servers put anything above 0x7F into it, and a client has
/// to give back exactly what it got.
///
/// INVARIANT: every byte of `opaque` is an `etagc`, so no quote, blank or control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    weak: bool,
    opaque: Vec<u8>,
}

impl EntityTag {
    /// Returns the strong tag with this opaque part, or `None` if a tag cannot hold it.
    pub fn strong(opaque: &str) -> Option<Self> {
        opaque.bytes().all(is_etagc).then(|| Self { weak: false, opaque: opaque.into() })
    }

    /// Reads exactly one tag, `"xyzzy"` or `W/"xyzzy"`; the `W` is a capital letter.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (tag, rest) = Self::parse_front(text)?;
        rest.is_empty().then_some(tag)
    }

    /// Reads the tag that `text` begins with, and returns what follows it.
    fn parse_front(text: &[u8]) -> Option<(Self, &[u8])> {
        let (weak, quoted) = match text.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let body = quoted.strip_prefix(b"\"")?;
        let (opaque, rest) = body.split_at(body.iter().position(|byte| !is_etagc(*byte))?);
        Some((Self { weak, opaque: opaque.to_vec() }, rest.strip_prefix(b"\"")?))
    }

    /// Tells whether the tag only promises an equivalent representation, not an equal one.
    pub const fn is_weak(&self) -> bool {
        self.weak
    }

    /// Returns what stands between the quotes.
    pub fn opaque(&self) -> &[u8] {
        &self.opaque
    }

    /// Tells whether both tags are strong and equal (§8.8.3.2): the bytes are the same.
    pub fn matches_strongly(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Tells whether the opaque parts are equal (§8.8.3.2): one may stand for the other in a cache.
    pub fn matches_weakly(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// Returns the tag as a field value.
    pub fn to_value(&self) -> HeaderValue {
        let mark: &[u8] = if self.weak { b"W/" } else { b"" };
        HeaderValue::from_bytes(&[mark, b"\"", &self.opaque, b"\""].concat())
            .expect("every etagc may stand in a field value")
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.weak { "W/" } else { "" };
        write!(f, "{mark}\"{}\"", String::from_utf8_lossy(&self.opaque))
    }
}

fn is_etagc(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

/// What `If-Match` and `If-None-Match` may say (RFC 9110 §13.1.1, §13.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagCondition {
    /// `*`: any existing representation.
    Any,
    /// One of these tags. The list may be empty: it matches nothing.
    Tags(Vec<EntityTag>),
    /// What was sent is neither. It is kept apart so that a guard nobody can read is never taken for no guard.
    Unreadable,
}

impl TagCondition {
    /// Reads all lines of the field, or `None` if there are none. Blanks and empty members of the list are
    /// passed over, as RFC 9110 §5.6.1.2 demands of a recipient.
    pub fn parse(fields: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if lines.is_empty() {
            return None;
        }
        let list = lines.join(&b","[..]);
        if list.split(|byte| *byte == b',').map(trim_blanks).filter(|member| !member.is_empty()).eq([b"*"]) {
            return Some(Self::Any);
        }
        Some(parse_tags(&list).map_or(Self::Unreadable, Self::Tags))
    }
}

/// Reads a list of tags. It cannot be split at commas first, because a tag may hold one.
fn parse_tags(list: &[u8]) -> Option<Vec<EntityTag>> {
    let mut tags = Vec::new();
    let mut rest = trim_blanks(list);
    while !rest.is_empty() {
        if rest[0] != b',' {
            let (tag, behind) = EntityTag::parse_front(rest)?;
            tags.push(tag);
            rest = trim_blanks(behind);
        }
        rest = match rest.strip_prefix(b",") {
            Some(behind) => trim_blanks(behind),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(tags)
}

/// Removes the optional whitespace of RFC 9110 §5.6.3 on both sides.
pub fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Returns the value of a field that stands exactly once; twice is as good as never where only one can count.
pub fn single_line<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

/// A date of HTTP: whole seconds since 1970-01-01 00:00:00 UTC (RFC 9110 §5.6.7).
///
/// INVARIANT: not beyond the year 9999, which is all the format can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpDate(u64);

impl HttpDate {
    /// The last second of the year 9999.
    pub const MAX: Self = Self(253_402_300_799);

    /// Returns the date this many seconds after the epoch; what lies beyond [`Self::MAX`] becomes that.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds).min(Self::MAX)
    }

    /// Returns the seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// Returns how long after `earlier` this is; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// Reads a date in any of the three forms of RFC 9110 §5.6.7; `None` if it is none or lies before 1970.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
        Some(Self(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()))
    }

    /// Reads the date of a field that has one line and a valid value; else the field counts as absent.
    pub fn parse_field(fields: &HeaderMap, name: &HeaderName) -> Option<Self> {
        Self::parse(single_line(fields, name)?.as_bytes())
    }

    /// Returns the date as a field value, in the form of RFC 5322.
    pub fn to_value(self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).expect("a date is plain ASCII")
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use http::header::IF_MATCH;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc9110_8_8_3_a_tag_is_quoted() {
        #[track_caller]
        fn check(text: &[u8], parsed: Option<(bool, &[u8])>) {
            let tag = EntityTag::parse(text);
            assert_eq!(tag.as_ref().map(|tag| (tag.is_weak(), tag.opaque())), parsed);
            assert!(tag.is_none_or(|tag| tag.to_value().as_bytes() == text));
        }
        check(b"\"xyzzy\"", Some((false, b"xyzzy")));
        check(b"W/\"xyzzy\"", Some((true, b"xyzzy")));
        check(b"\"\"", Some((false, b"")));
        check(b"\"a,b\\c\"", Some((false, b"a,b\\c")));
        check(b"\"\xe9\xff\"", Some((false, b"\xe9\xff")));
        check(b"w/\"xyzzy\"", None);
        check(b"W/ \"xyzzy\"", None);
        check(b"xyzzy", None);
        check(b"\"xyzzy", None);
        check(b"xyzzy\"", None);
        check(b"\"", None);
        check(b"\"a b\"", None);
        check(b"\"a\x7f\"", None);
        check(b"\"a\"b\"", None);
        check(b"\"a\" ", None);
        check(b"\"a\", \"b\"", None);
        check(b"*", None);
        check(b"", None);
    }

    #[test]
    fn rfc9110_8_8_3_2_comparison() {
        #[track_caller]
        fn check(a: &[u8], b: &[u8], strongly: bool, weakly: bool) {
            let (a, b) = (EntityTag::parse(a).unwrap(), EntityTag::parse(b).unwrap());
            assert_eq!((a.matches_strongly(&b), a.matches_weakly(&b)), (strongly, weakly));
            assert_eq!((b.matches_strongly(&a), b.matches_weakly(&a)), (strongly, weakly));
        }
        check(b"W/\"1\"", b"W/\"1\"", false, true);
        check(b"W/\"1\"", b"W/\"2\"", false, false);
        check(b"W/\"1\"", b"\"1\"", false, true);
        check(b"\"1\"", b"\"1\"", true, true);
        check(b"\"a\"", b"\"A\"", false, false);
    }

    #[test]
    fn a_condition_is_any_or_a_list() {
        #[track_caller]
        fn check(lines: &[&'static str], expected: &str) {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(IF_MATCH, HeaderValue::from_static(line));
            }
            let spelled = match TagCondition::parse(&fields, &IF_MATCH) {
                None => "absent".to_owned(),
                Some(TagCondition::Any) => "any".to_owned(),
                Some(TagCondition::Tags(tags)) => {
                    tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
                }
                Some(TagCondition::Unreadable) => "unreadable".to_owned(),
            };
            assert_eq!(spelled, expected);
        }
        check(&[], "absent");
        check(&["*"], "any");
        check(&[" * "], "any");
        check(&["", "*,"], "any");
        check(&[r#""a""#], r#""a""#);
        check(&[r#""a","b""#], r#""a" | "b""#);
        check(&[r#""a""#, r#"W/"b""#], r#""a" | W/"b""#);
        check(&[" , \"a\" ,\t,W/\"b\", ,"], r#""a" | W/"b""#);
        check(&[r#""a,b", "*""#], r#""a,b" | "*""#);
        check(&[""], "");
        check(&[" , ,"], "");
        check(&["a"], "unreadable");
        check(&[r#""a"#], "unreadable");
        check(&[r#""a" "b""#], "unreadable");
        check(&[r#""a""b""#], "unreadable");
        check(&[r#"*, "a""#], "unreadable");
        check(&[r#""a""#, "*"], "unreadable");
        check(&["*", "*"], "unreadable");
        check(&[r#""a", b"#], "unreadable");
    }

    #[test]
    fn rfc9110_5_6_7_three_forms_of_a_date() {
        #[track_caller]
        fn check(text: &str, seconds: Option<u64>) {
            assert_eq!(HttpDate::parse(text.as_bytes()).map(HttpDate::seconds), seconds);
        }
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(HttpDate::MAX.seconds()));
        check("Sun, 06 Nov 1994 08:49:37 UTC", None);
        check("Mon, 06 Nov 1994 08:49:37 GMT", None);
        check("Wed, 31 Dec 1969 23:59:59 GMT", None);
        check("1994-11-06T08:49:37Z", None);
        check("784111777", None);
        check("", None);
    }

    #[test]
    fn a_date_beyond_the_format_becomes_its_last() {
        assert_eq!(HttpDate::from_seconds(u64::MAX).to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn a_date_that_stands_twice_is_no_date() {
        let name = http::header::IF_MODIFIED_SINCE;
        let mut fields = HeaderMap::new();
        assert_eq!(HttpDate::parse_field(&fields, &name), None);
        fields.append(&name, HttpDate::from_seconds(7).to_value());
        assert_eq!(HttpDate::parse_field(&fields, &name), Some(HttpDate::from_seconds(7)));
        fields.append(&name, HttpDate::from_seconds(7).to_value());
        assert_eq!(HttpDate::parse_field(&fields, &name), None);
    }

    proptest! {
        #[test]
        fn a_date_survives_its_text(seconds in 0..=HttpDate::MAX.seconds()) {
            let date = HttpDate::from_seconds(seconds);
            prop_assert_eq!(HttpDate::parse(date.to_value().as_bytes()), Some(date));
        }

        #[test]
        fn a_list_survives_its_text(opaques in prop::collection::vec("[!#-~]{0,8}", 0..8), between in "[ \t]{0,2}(,[ \t]{0,2}){1,3}") {
            let tags: Vec<_> = opaques.iter().map(|opaque| EntityTag::strong(opaque).unwrap()).collect();
            let text = tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(&between);
            let fields = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_str(&text).unwrap())]);
            prop_assert_eq!(TagCondition::parse(&fields, &IF_MATCH), Some(TagCondition::Tags(tags)));
        }
    }
}
