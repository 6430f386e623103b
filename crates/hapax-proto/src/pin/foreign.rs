//! Answers of servers that are not ours. Owns what the first answer teaches about a file, what pins it, and whether
//! a further answer belongs to it; assumes of a server only what it said in this very answer.
//!
//! ```text
//!   GET, bytes=0-  ──▶ decide_first ──▶ Part: from its first byte on, with a size       ──▶ can be fetched in pieces
//!                          │     └────▶ Whole: all of it in this answer                     if something pins it
//!                          └ of no use: once more without a range
//!   GET, a piece   ──▶ decide_next ──▶ Accept, Whole, Changed, Retry, Refuse ──▶ remedy
//! ```

use std::time::Duration;

use data_encoding::BASE64;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, IF_RANGE, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    ContentRange, Pin, Refusal, Response, Unanswered, Validator, Verdict, decide_response, decide_unanswered,
    is_coded, parse_number, stated_digests, states_other_length,
};
use crate::digest::{Algorithm, Digest, Digests};
use crate::span::{Length, Offset, SIZE_MAX, Span};
use crate::validator::{EntityTag, HttpDate, single_line};

/// How much later than `Last-Modified` the `Date` of an answer must be for the former to be a strong validator.
///
/// RFC 9110 §8.8.2.2 asks for a second if both come from the same clock, and else for a difference that makes
/// clocks that disagree unlikely. No client can know the former of somebody else's server, so it is the latter: the
/// minute that RFC 7232 §2.2.2 named.
pub const DATE_STRONG_AFTER: Duration = Duration::from_mins(1);

/// How many bytes a digest must have to tell versions apart, where nothing else does: a checksum of four has too few.
const DIGEST_PINS_FROM: usize = 16;

/// What an answer says about the version of the file it brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// Its entity tag, weak or strong.
    pub tag: Option<EntityTag>,
    /// Its modification date.
    pub modified: Option<HttpDate>,
    /// Whether the date is old enough to tell this version from any other.
    pub date_is_strong: bool,
    /// How many bytes it has.
    pub size: Option<Length>,
    /// Its media type, without parameters and in lower case.
    pub media_type: Option<String>,
    /// Digests of the whole.
    pub digests: Digests,
}

impl Version {
    /// Reads what the fields of an answer say, all but the size.
    fn of(fields: &HeaderMap) -> Self {
        let modified = HttpDate::parse_field(fields, &LAST_MODIFIED);
        let date = HttpDate::parse_field(fields, &DATE);
        Self {
            tag: single_line(fields, &ETAG).and_then(|etag| EntityTag::parse(etag.as_bytes())),
            modified,
            date_is_strong: modified
                .zip(date)
                .is_some_and(|(modified, date)| date.since(modified) >= DATE_STRONG_AFTER),
            size: None,
            media_type: media_type(fields),
            digests: stated_digests(fields),
        }
    }

    /// Tells whether this is certainly another version than the one before: both have entity tags, and not the same.
    pub fn is_other_than(&self, before: &Self) -> bool {
        let tags = self.tag.as_ref().zip(before.tag.as_ref());
        tags.is_some_and(|(ours, theirs)| !ours.matches_weakly(theirs))
    }

    /// Tells whether this is a web page where there was a file before that was none.
    pub fn is_page_instead_of(&self, before: &Self) -> bool {
        is_page(self.media_type.as_deref()) && !is_page(before.media_type.as_deref())
    }

    /// Returns what pins this version, if anything does: a strong tag, else a strong date, else a digest of the
    /// whole, of `known` from elsewhere or of the answer itself. Without a size there are no pieces to be pinned.
    pub fn held(&self, known: &Digests) -> Option<Held> {
        let size = self.size?;
        let tag = self.tag.clone().filter(|tag| !tag.is_weak()).map(Validator::Tag);
        let date = || self.modified.filter(|_| self.date_is_strong).map(Validator::Date);
        let mut digests = known.iter().chain(self.digests.iter());
        let digest =
            || digests.find(|digest| digest.value().len() >= DIGEST_PINS_FROM).map(Validator::Digest);
        let validator = tag.or_else(date).or_else(digest)?;
        Some(Held {
            pin: Pin { validator, size },
            tag: self.tag.clone(),
            media_type: self.media_type.clone(),
            digests: self.digests.clone(),
        })
    }
}

/// A pinned version, with what else of it can contradict an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its validator and its size.
    pub pin: Pin,
    /// Its entity tag, also a weak one: equal it proves nothing, but another one is another version.
    pub tag: Option<EntityTag>,
    /// Its media type.
    pub media_type: Option<String>,
    /// Digests of the whole.
    pub digests: Digests,
}

impl Held {
    /// Returns the field that makes a server send a piece only of this version. It is `If-Range`, which more servers
    /// know than `If-Match`; a digest cannot be a condition.
    pub fn condition(&self) -> Option<(HeaderName, HeaderValue)> {
        match &self.pin.validator {
            Validator::Tag(tag) => Some((IF_RANGE, tag.to_value())),
            Validator::Date(date) => Some((IF_RANGE, date.to_value())),
            Validator::Digest(_) => None,
        }
    }

    /// Tells whether every answer shows by itself that it belongs to this version. If not, only the digest at the
    /// end does.
    pub fn shows_in_answers(&self) -> bool {
        !matches!(self.pin.validator, Validator::Digest(_))
    }

    /// Returns the digest that pins it, if one does.
    pub fn digest(&self) -> Option<Digest> {
        match self.pin.validator {
            Validator::Digest(digest) => Some(digest),
            Validator::Tag(_) | Validator::Date(_) => None,
        }
    }
}

/// How a file is asked for when nothing is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// With `Range: bytes=0-`, so that the answer tells whether there are ranges.
    Range,
    /// Without a range, because the answer to one was of no use.
    Plain,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By its length or by a mark behind its last byte: one that is cut off is known for it.
    Marked,
    /// By the end of the connection, which also comes when the line breaks (RFC 9112 §8).
    Closed,
}

/// What the first answer is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// The body is this span of the version, from its first byte on; the server does ranges.
    Part {
        /// The version, with its size.
        version: Version,
        /// What the body has.
        span: Span,
    },
    /// The body is the whole version.
    Whole {
        /// The version, with its size if that was said.
        version: Version,
    },
    /// It is to be asked for once more, without a range.
    AskPlainly,
    /// The server cannot answer just now.
    Retry {
        /// The least time to wait, if the server said it.
        after: Option<Duration>,
    },
    /// The file cannot be had.
    Refuse(Refusal),
}

/// Decides what the first answer is good for.
pub fn decide_first(opening: Opening, response: &Response<'_>) -> First {
    let useless = |refusal| match opening {
        Opening::Range => First::AskPlainly,
        Opening::Plain => First::Refuse(refusal),
    };
    let fields = response.fields;
    match response.status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT if is_coded(fields) => useless(Refusal::Coded),
        StatusCode::OK => decide_first_whole(fields),
        StatusCode::PARTIAL_CONTENT if opening == Opening::Range => {
            decide_first_part(fields).unwrap_or(First::AskPlainly)
        }
        // An empty file has no range, and some servers have none of any file.
        StatusCode::RANGE_NOT_SATISFIABLE => useless(Refusal::Status(response.status)),
        _ => match decide_unanswered(response) {
            Unanswered::Retry { after } => First::Retry { after },
            Unanswered::Refuse(refusal) => First::Refuse(refusal),
        },
    }
}

fn decide_first_whole(fields: &HeaderMap) -> First {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter().map(|length| parse_number(length.as_bytes()));
    let size = match lengths.next() {
        None => None,
        // A length that nobody can read, or two of them: no length that could be relied on is known.
        Some(first) if lengths.all(|other| other == first) => {
            match first.filter(|length| *length <= SIZE_MAX) {
                Some(length) => Some(Length::new(length)),
                None => return First::Refuse(Refusal::Status(StatusCode::OK)),
            }
        }
        Some(_) => return First::Refuse(Refusal::Status(StatusCode::OK)),
    };
    First::Whole { version: Version { size, digests: whole_digests(fields), ..Version::of(fields) } }
}

/// Decides on a first 206; `None` if it is not the beginning of a file of a known size.
fn decide_first_part(fields: &HeaderMap) -> Option<First> {
    let ContentRange::Part { span, size: Some(size) } = ContentRange::of(fields)? else { return None };
    let usable =
        span.start() == Offset::ZERO && size.get() <= SIZE_MAX && !states_other_length(fields, span.length());
    let is_whole = span == Span::whole(size);
    let digests = if is_whole { whole_digests(fields) } else { stated_digests(fields) };
    let version = || Version { size: Some(size), digests, ..Version::of(fields) };
    usable.then(|| First::Part { version: version(), span })
}

/// Decides what to do with the answer to a request for a piece of a version that is held.
pub fn decide_next(held: &Held, asked: Span, response: &Response<'_>) -> Verdict {
    let brings_bytes = matches!(response.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    if brings_bytes && is_interposed(held, response.fields) {
        return Verdict::Refuse(Refusal::Interposed);
    }
    let stated = match response.status {
        StatusCode::OK => whole_digests(response.fields),
        _ => stated_digests(response.fields),
    };
    if brings_bytes && is_tagged_otherwise(held, response.fields) {
        return Verdict::Changed;
    }
    if brings_bytes && stated.disagreement(&held.digests).is_some() {
        return Verdict::Changed;
    }
    decide_response(&held.pin, asked, response)
}

/// Tells whether an answer to a request that a date pins has another entity tag than the one that is held. A strong tag
/// is compared as the validator it is; where only the digest at the end tells, mirrors may have tags of their own.
fn is_tagged_otherwise(held: &Held, fields: &HeaderMap) -> bool {
    let stated = single_line(fields, &ETAG).and_then(|etag| EntityTag::parse(etag.as_bytes()));
    let differs = |(stated, ours): (EntityTag, &EntityTag)| !stated.matches_weakly(ours);
    matches!(held.pin.validator, Validator::Date(_)) && stated.zip(held.tag.as_ref()).is_some_and(differs)
}

/// Tells whether an answer is a web page where the file is none: what captive portals, proxies and sites that have
/// removed a file send with a 200.
fn is_interposed(held: &Held, fields: &HeaderMap) -> bool {
    is_page(media_type(fields).as_deref()) && !is_page(held.media_type.as_deref())
}

fn is_page(media_type: Option<&str>) -> bool {
    matches!(media_type, Some("text/html" | "application/xhtml+xml"))
}

/// Reads the digests that an answer with the whole states, `Content-MD5` among them: it is obsolete (RFC 7231 Appendix
/// B), but servers send it. Beside a part it is of the part, so it counts beside the whole only, whatever the status.
fn whole_digests(fields: &HeaderMap) -> Digests {
    let mut digests = stated_digests(fields);
    let md5 = single_line(fields, &HeaderName::from_static("content-md5"))
        .and_then(|field| BASE64.decode(field.as_bytes()).ok())
        .and_then(|value| Digest::new(Algorithm::Md5, &value).ok());
    if let Some(md5) = md5
        && digests.get(Algorithm::Md5).is_none()
    {
        digests.insert(md5);
    }
    digests
}

fn media_type(fields: &HeaderMap) -> Option<String> {
    let line = single_line(fields, &CONTENT_TYPE)?.to_str().ok()?;
    Some(line.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// What helps against an answer that is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Another try, a few times: it may have been one server of many, or the way to it.
    Again,
    /// Another try, and then the whole file in one answer: ranges of this server cannot be relied on.
    Whole,
    /// Nothing.
    GiveUp,
}

/// Returns what helps when a piece of a file that was there before is refused.
pub fn remedy(refusal: &Refusal) -> Remedy {
    match refusal {
        Refusal::Forbidden | Refusal::NotFound | Refusal::Interposed => Remedy::Again,
        Refusal::Coded
        | Refusal::NoContentRange
        | Refusal::OtherBytes { .. }
        | Refusal::OtherLength { .. }
        | Refusal::Unproven
        | Refusal::NoRange => Remedy::Whole,
        Refusal::Unauthenticated | Refusal::Status(_) => Remedy::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SECOND_LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const ALMOST_A_MINUTE: &str = "Sun, 06 Nov 1994 08:50:36 GMT";
    const MINUTE_LATER: &str = "Sun, 06 Nov 1994 08:50:37 GMT";
    const SHA256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const SHA256_OTHER: &str = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn first(opening: Opening, status: u16, fields: &[(&str, &str)]) -> First {
        let status = StatusCode::from_u16(status).unwrap();
        let received = HttpDate::parse(OLD.as_bytes()).unwrap();
        decide_first(opening, &Response { status, fields: &map(fields), received })
    }

    fn span(start: u64, end: u64) -> Span {
        Span::new(Offset::new(start), Offset::new(end)).unwrap()
    }

    #[test]
    fn a_first_part_begins_the_file_and_says_its_size() {
        #[track_caller]
        fn check(fields: &[(&str, &str)], expected: Option<(u64, u64)>) {
            let found = match first(Opening::Range, 206, fields) {
                First::Part { version, span } => Some((span.end().get(), version.size.unwrap().get())),
                other => {
                    assert_eq!(other, First::AskPlainly);
                    None
                }
            };
            assert_eq!(found, expected);
            // Whoever did not ask for a range takes none.
            assert!(matches!(first(Opening::Plain, 206, fields), First::Refuse(_)));
        }
        check(&[("content-range", "bytes 0-999/1000")], Some((1_000, 1_000)));
        check(&[("content-range", "bytes 0-999/1000"), ("content-length", "1000")], Some((1_000, 1_000)));
        check(&[("content-range", "bytes 0-99/1000")], Some((100, 1_000)));
        check(&[("content-range", "bytes 0-999/1000"), ("content-length", "999")], None);
        check(&[("content-range", "bytes 0-999/*")], None);
        check(&[("content-range", "bytes 0-999/999")], None);
        check(&[("content-range", "bytes 1-999/1000")], None);
        check(&[("content-range", "bytes 0-999/9999999999999999")], None);
        check(&[("content-range", "bytes */1000")], None);
        check(&[("content-range", "bytes 0-999/1000"), ("content-range", "bytes 0-999/1000")], None);
        check(&[("content-range", "bytes 0-999/1000"), ("content-encoding", "gzip")], None);
        check(&[("content-type", "multipart/byteranges; boundary=x")], None);
        check(&[], None);
    }

    #[test]
    fn a_first_whole_may_say_its_size() {
        #[track_caller]
        fn check(opening: Opening, fields: &[(&str, &str)], expected: &First) {
            assert_eq!(&first(opening, 200, fields), expected);
        }
        let whole = |size: Option<u64>| First::Whole {
            version: Version { size: size.map(Length::new), ..Version::default() },
        };
        let unreadable = First::Refuse(Refusal::Status(StatusCode::OK));
        for opening in [Opening::Range, Opening::Plain] {
            check(opening, &[("content-length", "7")], &whole(Some(7)));
            check(opening, &[("content-length", "0")], &whole(Some(0)));
            check(opening, &[("content-length", "7"), ("content-length", "7")], &whole(Some(7)));
            check(opening, &[], &whole(None));
            check(opening, &[("content-encoding", "identity")], &whole(None));
            check(opening, &[("content-length", "7"), ("content-length", "8")], &unreadable);
            check(opening, &[("content-length", "-7")], &unreadable);
            check(opening, &[("content-length", "99999999999999999999")], &unreadable);
        }
        check(Opening::Range, &[("content-encoding", "gzip")], &First::AskPlainly);
        check(Opening::Plain, &[("content-encoding", "gzip")], &First::Refuse(Refusal::Coded));
    }

    #[test]
    fn a_first_answer_that_is_none() {
        #[track_caller]
        fn check(opening: Opening, status: u16, fields: &[(&str, &str)], expected: &First) {
            assert_eq!(&first(opening, status, fields), expected);
        }
        let status = |status| First::Refuse(Refusal::Status(StatusCode::from_u16(status).unwrap()));
        for opening in [Opening::Range, Opening::Plain] {
            check(opening, 404, &[], &First::Refuse(Refusal::NotFound));
            check(opening, 410, &[], &First::Refuse(Refusal::NotFound));
            check(opening, 403, &[], &First::Refuse(Refusal::Forbidden));
            check(opening, 401, &[], &First::Refuse(Refusal::Unauthenticated));
            check(
                opening,
                503,
                &[("retry-after", "3")],
                &First::Retry { after: Some(Duration::from_secs(3)) },
            );
            check(
                opening,
                429,
                &[("retry-after", MINUTE_LATER)],
                &First::Retry { after: Some(DATE_STRONG_AFTER) },
            );
            check(opening, 500, &[], &First::Retry { after: None });
            check(opening, 204, &[], &status(204));
            check(opening, 203, &[], &status(203));
            check(opening, 304, &[], &status(304));
            check(opening, 302, &[], &status(302));
        }
        check(Opening::Range, 416, &[("content-range", "bytes */0")], &First::AskPlainly);
        check(Opening::Range, 416, &[], &First::AskPlainly);
        check(Opening::Plain, 416, &[], &status(416));
    }

    /// Returns what pins the version that a whole answer of 1,000 bytes brings.
    fn pinned(fields: &[(&str, &str)], known: &Digests) -> Option<Held> {
        let fields = [fields, &[("content-length", "1000")]].concat();
        match first(Opening::Range, 200, &fields) {
            First::Whole { version } => version.held(known),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rfc9110_8_8_2_2_only_what_is_strong_pins() {
        #[track_caller]
        fn check(fields: &[(&str, &str)], condition: Option<&str>) {
            let held = pinned(fields, &Digests::default());
            let found = held.and_then(|held| held.condition());
            let found = found.map(|(name, value)| {
                assert_eq!(name, IF_RANGE);
                value.to_str().unwrap().to_owned()
            });
            assert_eq!(found.as_deref(), condition);
        }
        check(&[("etag", "\"a\"")], Some("\"a\""));
        check(&[("etag", "\"a\""), ("last-modified", OLD), ("date", MINUTE_LATER)], Some("\"a\""));
        check(&[("etag", "W/\"a\"")], None);
        check(&[("etag", "W/\"a\""), ("last-modified", OLD), ("date", MINUTE_LATER)], Some(OLD));
        check(&[("last-modified", OLD), ("date", MINUTE_LATER)], Some(OLD));
        check(&[("last-modified", OLD), ("date", ALMOST_A_MINUTE)], None);
        check(&[("last-modified", OLD), ("date", SECOND_LATER)], None);
        check(&[("last-modified", OLD), ("date", OLD)], None);
        check(&[("last-modified", MINUTE_LATER), ("date", OLD)], None);
        check(&[("last-modified", OLD)], None);
        check(&[("etag", "a")], None);
        check(&[("etag", "\"a\""), ("etag", "\"a\"")], None);
        check(&[], None);
    }

    #[test]
    fn a_digest_pins_where_nothing_else_does() {
        let known = stated_digests(&map(&[("repr-digest", SHA256_OTHER)]));
        let held = pinned(&[("repr-digest", SHA256)], &Digests::default()).unwrap();
        assert_eq!((held.condition(), held.shows_in_answers()), (None, false));
        assert_eq!(held.digest(), stated_digests(&map(&[("repr-digest", SHA256)])).iter().next());
        assert_eq!(pinned(&[], &known).unwrap().digest(), known.iter().next());
        let held = pinned(&[("etag", "\"a\"")], &known).unwrap();
        assert_eq!((held.digest(), held.shows_in_answers()), (None, true));
        // Without a size there are no pieces.
        let First::Whole { version } = first(Opening::Range, 200, &[("etag", "\"a\"")]) else { panic!() };
        assert_eq!(version.held(&known), None);
    }

    #[test]
    fn a_checksum_pins_nothing() {
        let checksum = stated_digests(&map(&[("repr-digest", "crc32c=:AAAAAA==:")]));
        assert!(!checksum.is_empty());
        assert_eq!(pinned(&[], &checksum), None);
    }

    #[test]
    fn content_md5_counts_beside_the_whole() {
        const MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
        #[track_caller]
        fn check(fields: &[(&str, &str)], expected: Option<&str>) {
            let First::Whole { version } = first(Opening::Range, 200, fields) else { panic!() };
            let found = version.digests.get(Algorithm::Md5).map(|digest| BASE64.encode(digest.value()));
            assert_eq!(found.as_deref(), expected);
        }
        check(&[("content-md5", MD5)], Some(MD5));
        check(&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg")], None);
        check(&[("content-md5", "AAAA")], None);
        check(&[("content-md5", MD5), ("content-md5", MD5)], None);
        let stated = ("repr-digest", "md5=:AAAAAAAAAAAAAAAAAAAAAA==:");
        check(&[("content-md5", MD5), stated], Some("AAAAAAAAAAAAAAAAAAAAAA=="));
        for (range, counts) in [("bytes 0-9/10", true), ("bytes 0-9/20", false)] {
            let part = [("content-md5", MD5), ("content-range", range)];
            let First::Part { version, .. } = first(Opening::Range, 206, &part) else { panic!() };
            assert_eq!(version.digests.is_empty(), !counts);
        }
    }

    /// Decides on the answer to a request for `[100, 200)` of 1,000 bytes of media type `application/zip`.
    fn next(pin: &[(&str, &str)], status: u16, fields: &[(&str, &str)]) -> Verdict {
        let pin = [pin, &[("content-type", "application/zip")]].concat();
        let held = pinned(&pin, &Digests::default()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let received = HttpDate::parse(OLD.as_bytes()).unwrap();
        decide_next(&held, span(100, 200), &Response { status, fields: &map(fields), received })
    }

    #[test]
    fn each_answer_is_compared_with_what_is_held() {
        const RANGE: (&str, &str) = ("content-range", "bytes 100-199/1000");
        #[track_caller]
        fn check(status: u16, fields: &[(&str, &str)], expected: &Verdict) {
            assert_eq!(&next(&[("etag", "\"a\""), ("repr-digest", SHA256)], status, fields), expected);
        }
        let accept = Verdict::Accept { span: span(100, 200) };
        let tag = ("etag", "\"a\"");
        check(206, &[RANGE, tag], &accept);
        check(206, &[RANGE, tag, ("repr-digest", SHA256)], &accept);
        check(206, &[RANGE, tag, ("repr-digest", SHA256_OTHER)], &Verdict::Changed);
        check(206, &[RANGE, tag, ("repr-digest", "nonsense")], &accept);
        check(206, &[RANGE, ("etag", "\"b\"")], &Verdict::Changed);
        check(206, &[tag, ("content-range", "bytes 100-199/1001")], &Verdict::Changed);
        check(206, &[RANGE], &Verdict::Refuse(Refusal::Unproven));
        check(200, &[tag, ("content-length", "1000")], &Verdict::Whole);
        check(200, &[tag, ("content-length", "1001")], &Verdict::Changed);
        check(200, &[("etag", "\"b\"")], &Verdict::Changed);
        check(412, &[], &Verdict::Changed);
        check(416, &[("content-range", "bytes */50")], &Verdict::Changed);
    }

    #[test]
    fn a_weak_tag_contradicts_a_date() {
        #[track_caller]
        fn check(pinned: Option<&str>, etag: Option<&str>, expected: &Verdict) {
            let mut pin = vec![("last-modified", OLD), ("date", MINUTE_LATER)];
            pin.extend(pinned.map(|etag| ("etag", etag)));
            let mut fields = vec![("last-modified", OLD), ("content-range", "bytes 100-199/1000")];
            fields.extend(etag.map(|etag| ("etag", etag)));
            assert_eq!(&next(&pin, 206, &fields), expected);
        }
        let accept = Verdict::Accept { span: span(100, 200) };
        check(Some("W/\"a\""), Some("W/\"a\""), &accept);
        check(Some("W/\"a\""), Some("\"a\""), &accept);
        check(Some("W/\"a\""), Some("W/\"b\""), &Verdict::Changed);
        check(Some("W/\"a\""), Some("\"b\""), &Verdict::Changed);
        check(Some("W/\"a\""), None, &accept);
        check(None, Some("W/\"b\""), &accept);
    }

    #[test]
    fn a_page_in_place_of_a_file_is_no_new_version() {
        #[track_caller]
        fn check(status: u16, fields: &[(&str, &str)], interposed: bool) {
            let verdict = next(&[("etag", "\"a\"")], status, fields);
            assert_eq!(verdict == Verdict::Refuse(Refusal::Interposed), interposed, "{verdict:?}");
        }
        check(200, &[("content-type", "text/html")], true);
        check(200, &[("content-type", "Text/HTML; charset=utf-8"), ("content-length", "1000")], true);
        check(200, &[("content-type", "application/xhtml+xml"), ("etag", "\"b\"")], true);
        check(200, &[("content-type", "application/zip"), ("etag", "\"b\"")], false);
        check(200, &[("etag", "\"b\"")], false);
        check(404, &[("content-type", "text/html")], false);
        check(503, &[("content-type", "text/html")], false);
        // A page may be downloaded too.
        let page = [("etag", "\"a\""), ("content-type", "text/html"), ("content-length", "1000")];
        let held = Held {
            media_type: Some("text/html".to_owned()),
            ..pinned(&page[..1], &Digests::default()).unwrap()
        };
        let received = HttpDate::from_seconds(0);
        let response = Response { status: StatusCode::OK, fields: &map(&page), received };
        assert_eq!(decide_next(&held, span(0, 10), &response), Verdict::Whole);
    }

    #[test]
    fn a_digest_accepts_what_nothing_contradicts() {
        const RANGE: (&str, &str) = ("content-range", "bytes 100-199/1000");
        #[track_caller]
        fn check(status: u16, fields: &[(&str, &str)], expected: &Verdict) {
            assert_eq!(&next(&[("repr-digest", SHA256)], status, fields), expected);
        }
        let accept = Verdict::Accept { span: span(100, 200) };
        check(206, &[RANGE], &accept);
        check(206, &[RANGE, ("etag", "W/\"b\"")], &accept);
        check(206, &[RANGE, ("repr-digest", SHA256)], &accept);
        check(206, &[RANGE, ("repr-digest", SHA256_OTHER)], &Verdict::Changed);
        check(206, &[("content-range", "bytes 100-199/999")], &Verdict::Changed);
        check(200, &[("content-length", "1000")], &Verdict::Whole);
        check(200, &[("content-length", "999")], &Verdict::Changed);
    }

    proptest! {
        /// No combination of statuses and fields makes bytes acceptable that were not asked for, or of another
        /// tag or size.
        #[test]
        fn nothing_is_accepted_that_is_not_shown(
            status in prop_oneof![Just(200_u16), Just(206), Just(416), Just(404), Just(500)],
            etag in prop::option::of("(W/)?\"[ab]\""),
            range in prop::option::of("bytes (0|99|100)-(150|199|200|999)/(999|1000|\\*)"),
            length in prop::option::of("(51|100|1000)"),
            media_type in prop::option::of("(text/html|application/zip)"),
        ) {
            let mut fields = Vec::new();
            fields.extend(etag.as_deref().map(|etag| ("etag", etag)));
            fields.extend(range.as_deref().map(|range| ("content-range", range)));
            fields.extend(length.as_deref().map(|length| ("content-length", length)));
            fields.extend(media_type.as_deref().map(|media_type| ("content-type", media_type)));
            let same = etag.as_deref() == Some("\"a\"") && media_type.as_deref() != Some("text/html");
            match next(&[("etag", "\"a\"")], status, &fields) {
                Verdict::Accept { span: accepted } => {
                    prop_assert!(same && status == 206);
                    prop_assert!(accepted.start().get() == 100 && accepted.end().get() <= 200);
                    prop_assert!(!range.unwrap().ends_with("/999"));
                    prop_assert!(length.is_none_or(|length| length == accepted.length().get().to_string()));
                }
                Verdict::Whole => {
                    prop_assert!(same && status == 200);
                    prop_assert!(length.is_none_or(|length| length == "1000"));
                }
                Verdict::Changed | Verdict::Retry { .. } | Verdict::Refuse(_) => {}
            }
        }
    }
}
