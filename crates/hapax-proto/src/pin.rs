//! The client's side of a ranged download: whether a response may be written into the file that is being filled.
//! It trusts neither side of the line: what a server answers must name the version and the bytes that were asked
//! for, in fields of this very response, or not one byte of it is used. That is how two versions of a file are
//! never glued together, by our own server or by any other.
//!
//! ```text
//!   Pin { validator, size } + asked span --> request: Range, If-Match (or If-Unmodified-Since)
//!                                                |
//!          Accept, Whole, Changed, Retry, Refuse <-- status and fields
//! ```
//!
//! A pinned tag is sent as `If-Match`, a pinned date as `If-Unmodified-Since`: both keep every field in the 206.
//! `If-Range` would allow a server to leave out the date that is checked here (RFC 9110 §15.3.7).
//!
//! Servers that are not ours are asked in the same way, but less is known of them and less is believed: that is
//! [`foreign`]. What a download does with several answers at once is in [`segments`] and [`pace`].
//!
//! [`foreign`]: crate::pin::foreign
//! [`segments`]: crate::pin::segments
//! [`pace`]: crate::pin::pace

/// Names for files that other people's servers send.
pub mod naming;

/// Sets of spans.
pub mod spans;

/// Which bytes of a file are fetched by whom.
pub mod segments;

/// How many connections are worth their while.
pub mod pace;

/// Answers of servers that are not ours.
pub mod foreign;

use std::time::Duration;

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER,
};
use http::{HeaderMap, StatusCode};
use thiserror::Error;

use crate::digest::{Digest, Digests, REPR_DIGEST};
use crate::problem::{self, Advice, Kind};
use crate::range::UNIT;
use crate::retry::parse_retry_after;
use crate::span::{Length, Offset, Span};
use crate::validator::{EntityTag, HttpDate, single_line};

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// A strong entity tag. A weak one never matches: equivalent is not equal.
    Tag(EntityTag),
    /// A modification date, where there is no strong tag. Whoever pins it has made sure that it was at least a
    /// second old when it was received (RFC 9110 §8.8.2.2).
    Date(HttpDate),
    /// The digest of the whole, where there is neither. It cannot be made a condition and shows in few answers, so
    /// whoever pins it hashes the file at its end, and throws all of it away if it is another one.
    Digest(Digest),
}

/// The version that is being downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its validator.
    pub validator: Validator,
    /// How many bytes it has.
    pub size: Length,
}

/// A response without its body.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// When it was received.
    pub received: HttpDate,
}

/// What to do with a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The body is this span of the pinned version: what was asked, or a shorter piece from its start on.
    Accept {
        /// Where the body belongs, and how long it must be.
        span: Span,
    },
    /// The body is the whole pinned version, from its first byte on: the server does not do ranges.
    Whole,
    /// The server has another version now.
    Changed,
    /// The server cannot answer just now.
    Retry {
        /// The least time to wait, if the server said it.
        after: Option<Duration>,
    },
    /// The response is of no use, and asking again gives the same.
    Refuse(Refusal),
}

/// Why a response is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 401.
    #[error("the server wants other credentials")]
    Unauthenticated,
    /// 403.
    #[error("the server does not allow this")]
    Forbidden,
    /// 404 or 410.
    #[error("the server has no such file")]
    NotFound,
    /// Any other status that is no answer to a GET with a range.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// A `Content-Encoding`: the bytes are not those of the file, so their numbers mean nothing.
    #[error("the server sent a coded form of the file")]
    Coded,
    /// `Content-Range` is missing, unreadable or stands twice; multipart/byteranges has none.
    #[error("the server does not say which bytes it sent")]
    NoContentRange,
    /// Other bytes than those asked.
    #[error("the server sent other bytes, {sent}, than those asked, {asked}")]
    OtherBytes {
        /// What was asked.
        asked: Span,
        /// What was sent.
        sent: Span,
    },
    /// `Content-Length` contradicts the bytes announced.
    #[error("the server announced {expected} bytes and a body of another length")]
    OtherLength {
        /// The length of the bytes announced.
        expected: Length,
    },
    /// The pinned kind of validator is missing or unreadable, so nothing shows that this is the pinned version.
    #[error("the server does not say which version it sent")]
    Unproven,
    /// 416 for bytes that the pinned version has, in a file of the pinned size.
    #[error("the server has no range of a file it has")]
    NoRange,
    /// A page in place of a file that was none: something on the way answers instead of the server.
    #[error("a web page came in place of the file")]
    Interposed,
}

/// Decides what to do with the response to a GET of `asked`, a span of the pinned version that is not empty.
pub fn decide_response(pin: &Pin, asked: Span, response: &Response<'_>) -> Verdict {
    debug_assert!(!asked.is_empty() && Span::whole(pin.size).contains(asked), "{asked} of {}", pin.size);
    match response.status {
        StatusCode::PARTIAL_CONTENT => decide_part(pin, asked, response.fields),
        StatusCode::OK => decide_whole(pin, response.fields),
        StatusCode::PRECONDITION_FAILED => Verdict::Changed,
        StatusCode::RANGE_NOT_SATISFIABLE => decide_unsatisfied(pin, response.fields),
        _ => match decide_unanswered(response) {
            Unanswered::Retry { after } => Verdict::Retry { after },
            Unanswered::Refuse(refusal) => Verdict::Refuse(refusal),
        },
    }
}

/// What a status says that brings no bytes, whatever was asked.
enum Unanswered {
    /// The server cannot answer just now.
    Retry { after: Option<Duration> },
    /// It does not answer.
    Refuse(Refusal),
}

fn decide_unanswered(response: &Response<'_>) -> Unanswered {
    match response.status {
        _ if is_passing(response) => Unanswered::Retry { after: retry_after(response) },
        StatusCode::UNAUTHORIZED => Unanswered::Refuse(Refusal::Unauthenticated),
        StatusCode::FORBIDDEN => Unanswered::Refuse(Refusal::Forbidden),
        StatusCode::NOT_FOUND | StatusCode::GONE => Unanswered::Refuse(Refusal::NotFound),
        status => Unanswered::Refuse(Refusal::Status(status)),
    }
}

/// Decides on a 206. The version is looked at before the span: which bytes of another version these are does not
/// matter any more.
fn decide_part(pin: &Pin, asked: Span, fields: &HeaderMap) -> Verdict {
    if is_coded(fields) {
        return Verdict::Refuse(Refusal::Coded);
    }
    let Some(ContentRange::Part { span: sent, size }) = ContentRange::of(fields) else {
        return Verdict::Refuse(Refusal::NoContentRange);
    };
    match evidence(pin, fields) {
        Evidence::Same if size.is_none_or(|size| size == pin.size) => {}
        Evidence::Same | Evidence::Other => return Verdict::Changed,
        Evidence::None => return Verdict::Refuse(Refusal::Unproven),
    }
    if sent.start() != asked.start() || !asked.contains(sent) {
        return Verdict::Refuse(Refusal::OtherBytes { asked, sent });
    }
    if states_other_length(fields, sent.length()) {
        return Verdict::Refuse(Refusal::OtherLength { expected: sent.length() });
    }
    Verdict::Accept { span: sent }
}

/// Decides on a 200, which a server sends that does not do ranges, or that took a condition for not met.
fn decide_whole(pin: &Pin, fields: &HeaderMap) -> Verdict {
    if is_coded(fields) {
        return Verdict::Refuse(Refusal::Coded);
    }
    match evidence(pin, fields) {
        Evidence::Same if !states_other_length(fields, pin.size) => Verdict::Whole,
        Evidence::Same | Evidence::Other => Verdict::Changed,
        Evidence::None => Verdict::Refuse(Refusal::Unproven),
    }
}

/// Decides on a 416. The pinned version has the bytes, so the file is another one, unless the server says it has
/// the very same size.
fn decide_unsatisfied(pin: &Pin, fields: &HeaderMap) -> Verdict {
    match ContentRange::of(fields) {
        Some(ContentRange::Unsatisfied { size }) if size == pin.size => Verdict::Refuse(Refusal::NoRange),
        _ => Verdict::Changed,
    }
}

/// Tells whether the same request may succeed later. Our own servers say it by name; of others, the statuses
/// that speak of a passing state are believed, 500 included.
fn is_passing(response: &Response<'_>) -> bool {
    let named = single_line(response.fields, &HeaderName::from_static(problem::FIELD))
        .and_then(|name| Kind::find(name.to_str().ok()?, response.status));
    match named {
        Some(kind) => kind.advice() == Advice::Retry,
        None => matches!(response.status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504),
    }
}

/// Reads `Retry-After`. A date is taken by the server's clock where it is known, because ours may be wrong.
fn retry_after(response: &Response<'_>) -> Option<Duration> {
    let now = HttpDate::parse_field(response.fields, &DATE).unwrap_or(response.received);
    parse_retry_after(single_line(response.fields, &RETRY_AFTER)?, now)
}

/// What the fields of a response show about its version.
enum Evidence {
    /// It is the pinned one.
    Same,
    /// It is another one.
    Other,
    /// Neither.
    None,
}

/// Compares validators of the pinned kind. A tag that is equal but weak (a proxy on the way may weaken it) is no
/// evidence: the bytes may be the same or not.
fn evidence(pin: &Pin, fields: &HeaderMap) -> Evidence {
    match &pin.validator {
        Validator::Tag(pinned) => {
            match single_line(fields, &ETAG).and_then(|etag| EntityTag::parse(etag.as_bytes())) {
                Some(etag) if etag.matches_strongly(pinned) => Evidence::Same,
                Some(etag) if etag.matches_weakly(pinned) => Evidence::None,
                Some(_) => Evidence::Other,
                None => Evidence::None,
            }
        }
        Validator::Date(pinned) => match HttpDate::parse_field(fields, &LAST_MODIFIED) {
            Some(date) if date == *pinned => Evidence::Same,
            Some(_) => Evidence::Other,
            None => Evidence::None,
        },
        Validator::Digest(pinned) => match stated_digests(fields).get(pinned.algorithm()) {
            Some(digest) if digest != *pinned => Evidence::Other,
            _ => Evidence::Same,
        },
    }
}

/// Reads the digests of the whole that a response states. A field that cannot be read states none.
fn stated_digests(fields: &HeaderMap) -> Digests {
    let lines = fields.get_all(HeaderName::from_static(REPR_DIGEST)).iter();
    Digests::parse_field(lines.map(http::HeaderValue::as_bytes)).unwrap_or_default()
}

/// Tells whether the body is anything but the plain bytes of the file.
fn is_coded(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Tells whether a `Content-Length` contradicts the length that the body must have. Without one the body's end
/// is checked by whoever reads it.
fn states_other_length(fields: &HeaderMap, expected: Length) -> bool {
    fields
        .get_all(CONTENT_LENGTH)
        .iter()
        .any(|stated| parse_number(stated.as_bytes()) != Some(expected.get()))
}

/// A `Content-Range` (RFC 9110 §14.4).
enum ContentRange {
    /// `bytes 0-9/100`; the size is unknown where it is `*`.
    Part { span: Span, size: Option<Length> },
    /// `bytes */100`.
    Unsatisfied { size: Length },
}

impl ContentRange {
    /// Reads the field, or `None` if it is absent, stands twice or is not valid.
    fn of(fields: &HeaderMap) -> Option<Self> {
        let (unit, rest) = single_line(fields, &CONTENT_RANGE)?.to_str().ok()?.split_once(' ')?;
        if !unit.eq_ignore_ascii_case(UNIT) {
            return None;
        }
        let (span, size) = rest.split_once('/')?;
        let size = match size {
            "*" => None,
            digits => Some(Length::new(parse_number(digits.as_bytes())?)),
        };
        match span {
            "*" => Some(Self::Unsatisfied { size: size? }),
            span => {
                let (first, last) = span.split_once('-')?;
                let first = Offset::new(parse_number(first.as_bytes())?);
                let end = Offset::new(parse_number(last.as_bytes())?).checked_add(Length::new(1))?;
                let span = Span::new(first, end).filter(|span| !span.is_empty())?;
                let fits = size.is_none_or(|size| Span::whole(size).contains(span));
                fits.then_some(Self::Part { span, size })
            }
        }
    }
}

/// Reads one or more digits. Unlike in a request, a number beyond `u64` states nothing that could be true.
fn parse_number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::download::{Answer, Description, Facts, answer_fields, decide_get};
    use crate::precondition::Validators;

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn tag_pin() -> Pin {
        Pin { validator: Validator::Tag(EntityTag::strong("a").unwrap()), size: Length::new(1_000) }
    }

    fn date_pin() -> Pin {
        Pin {
            validator: Validator::Date(HttpDate::parse(THEN.as_bytes()).unwrap()),
            size: Length::new(1_000),
        }
    }

    fn span(start: u64, end: u64) -> Span {
        Span::new(Offset::new(start), Offset::new(end)).unwrap()
    }

    /// Decides on a response to a GET of `[100, 200)`.
    fn decide(pin: &Pin, status: u16, fields: &[(&str, &str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let received = HttpDate::parse(THEN.as_bytes()).unwrap();
        decide_response(pin, span(100, 200), &Response { status, fields: &map, received })
    }

    fn accept(start: u64, end: u64) -> Verdict {
        Verdict::Accept { span: span(start, end) }
    }

    fn other_bytes(start: u64, end: u64) -> Verdict {
        Verdict::Refuse(Refusal::OtherBytes { asked: span(100, 200), sent: span(start, end) })
    }

    #[test]
    fn a_part_is_the_bytes_asked_or_fewer_from_the_same_start() {
        #[track_caller]
        fn check(content_range: &str, expected: &Verdict) {
            let fields = [("etag", "\"a\""), ("content-range", content_range)];
            assert_eq!(&decide(&tag_pin(), 206, &fields), expected);
        }
        check("bytes 100-199/1000", &accept(100, 200));
        check("BYTES 100-199/1000", &accept(100, 200));
        check("bytes 100-199/*", &accept(100, 200));
        check("bytes 100-149/1000", &accept(100, 150));
        check("bytes 100-100/1000", &accept(100, 101));
        check("bytes 100-200/1000", &other_bytes(100, 201));
        check("bytes 99-199/1000", &other_bytes(99, 200));
        check("bytes 101-199/1000", &other_bytes(101, 200));
        check("bytes 0-999/1000", &other_bytes(0, 1_000));
        check("bytes 100-199/1001", &Verdict::Changed);
        check("bytes 100-199/999", &Verdict::Changed);
    }

    #[test]
    fn rfc9110_14_4_a_part_says_which_bytes_it_is() {
        #[track_caller]
        fn check(lines: &[&str]) {
            let mut fields = vec![("etag", "\"a\"")];
            fields.extend(lines.iter().map(|line| ("content-range", *line)));
            assert_eq!(decide(&tag_pin(), 206, &fields), Verdict::Refuse(Refusal::NoContentRange));
        }
        check(&[]);
        check(&["bytes 100-199/1000", "bytes 100-199/1000"]);
        check(&["bytes */1000"]);
        check(&["bytes 199-100/1000"]);
        check(&["bytes 100-199/199"]);
        check(&["bytes 100-/1000"]);
        check(&["bytes -100/1000"]);
        check(&["bytes 100-199"]);
        check(&["bytes=100-199/1000"]);
        check(&["bytes  100-199/1000"]);
        check(&["bytes +100-199/1000"]);
        check(&["bytes 100-199/99999999999999999999"]);
        check(&["bytes 0-18446744073709551615/*"]);
        check(&["items 100-199/1000"]);
        check(&[""]);
    }

    #[test]
    fn a_part_proves_its_version() {
        #[track_caller]
        fn check(pin: &Pin, validators: &[(&str, &str)], expected: &Verdict) {
            let fields = [validators, &[("content-range", "bytes 100-199/1000")]].concat();
            assert_eq!(&decide(pin, 206, &fields), expected);
        }
        let unproven = Verdict::Refuse(Refusal::Unproven);
        check(&tag_pin(), &[("etag", "\"a\"")], &accept(100, 200));
        check(&tag_pin(), &[("etag", "\"a\""), ("last-modified", LATER)], &accept(100, 200));
        check(&tag_pin(), &[("etag", "\"b\"")], &Verdict::Changed);
        check(&tag_pin(), &[("etag", "W/\"b\"")], &Verdict::Changed);
        check(&tag_pin(), &[("etag", "W/\"a\"")], &unproven);
        check(&tag_pin(), &[("etag", "a")], &unproven);
        check(&tag_pin(), &[("etag", "\"a\""), ("etag", "\"a\"")], &unproven);
        check(&tag_pin(), &[("last-modified", THEN)], &unproven);
        check(&tag_pin(), &[], &unproven);
        check(&date_pin(), &[("last-modified", THEN)], &accept(100, 200));
        check(&date_pin(), &[("last-modified", LATER)], &Verdict::Changed);
        check(&date_pin(), &[("last-modified", "yesterday")], &unproven);
        check(&date_pin(), &[("etag", "\"a\"")], &unproven);
    }

    #[test]
    fn a_weak_pin_accepts_nothing() {
        let pin = Pin { validator: Validator::Tag(EntityTag::parse(b"W/\"a\"").unwrap()), ..tag_pin() };
        let fields = [("etag", "W/\"a\""), ("content-range", "bytes 100-199/1000")];
        assert_eq!(decide(&pin, 206, &fields), Verdict::Refuse(Refusal::Unproven));
    }

    #[test]
    fn a_body_is_as_long_as_it_was_announced_and_not_coded() {
        #[track_caller]
        fn check(more: &[(&str, &str)], expected: &Verdict) {
            let fields = [&[("etag", "\"a\""), ("content-range", "bytes 100-199/1000")], more].concat();
            assert_eq!(&decide(&tag_pin(), 206, &fields), expected);
        }
        let other_length = Verdict::Refuse(Refusal::OtherLength { expected: Length::new(100) });
        check(&[("content-length", "100")], &accept(100, 200));
        check(&[("content-length", "99")], &other_length);
        check(&[("content-length", "1000")], &other_length);
        check(&[("content-length", "+100")], &other_length);
        check(&[("content-length", "100"), ("content-length", "99")], &other_length);
        check(&[("content-encoding", "identity")], &accept(100, 200));
        check(&[("content-encoding", "gzip")], &Verdict::Refuse(Refusal::Coded));
    }

    #[test]
    fn a_whole_file_is_taken_only_if_it_is_the_pinned_one() {
        #[track_caller]
        fn check(fields: &[(&str, &str)], expected: &Verdict) {
            assert_eq!(&decide(&tag_pin(), 200, fields), expected);
        }
        check(&[("etag", "\"a\""), ("content-length", "1000")], &Verdict::Whole);
        check(&[("etag", "\"a\"")], &Verdict::Whole);
        check(&[("etag", "\"a\""), ("content-length", "999")], &Verdict::Changed);
        check(&[("etag", "\"b\""), ("content-length", "1000")], &Verdict::Changed);
        check(&[("content-length", "1000")], &Verdict::Refuse(Refusal::Unproven));
        check(&[("etag", "\"a\""), ("content-encoding", "br")], &Verdict::Refuse(Refusal::Coded));
    }

    #[test]
    fn a_416_means_another_file_unless_it_names_the_same_size() {
        #[track_caller]
        fn check(fields: &[(&str, &str)], expected: &Verdict) {
            assert_eq!(&decide(&tag_pin(), 416, fields), expected);
        }
        check(&[("content-range", "bytes */50")], &Verdict::Changed);
        check(&[("content-range", "bytes */1000")], &Verdict::Refuse(Refusal::NoRange));
        check(&[("content-range", "bytes */*")], &Verdict::Changed);
        check(&[], &Verdict::Changed);
    }

    #[test]
    fn other_statuses() {
        #[track_caller]
        fn check(status: u16, fields: &[(&str, &str)], expected: &Verdict) {
            assert_eq!(&decide(&tag_pin(), status, fields), expected);
        }
        let later = |seconds: Option<u64>| Verdict::Retry { after: seconds.map(Duration::from_secs) };
        let refused = |status| Verdict::Refuse(Refusal::Status(StatusCode::from_u16(status).unwrap()));
        check(412, &[], &Verdict::Changed);
        check(401, &[], &Verdict::Refuse(Refusal::Unauthenticated));
        check(403, &[], &Verdict::Refuse(Refusal::Forbidden));
        check(404, &[], &Verdict::Refuse(Refusal::NotFound));
        check(410, &[], &Verdict::Refuse(Refusal::NotFound));
        check(429, &[("retry-after", "7")], &later(Some(7)));
        check(503, &[("retry-after", LATER)], &later(Some(1)));
        check(503, &[("retry-after", LATER), ("date", LATER)], &later(Some(0)));
        check(503, &[("retry-after", "soon")], &later(None));
        check(503, &[], &later(None));
        check(504, &[], &later(None));
        check(500, &[], &later(None));
        check(500, &[("hapax-problem", "damaged")], &refused(500));
        check(500, &[("hapax-problem", "unheard-of")], &later(None));
        check(423, &[("hapax-problem", "busy"), ("retry-after", "2")], &later(Some(2)));
        check(423, &[], &refused(423));
        check(204, &[], &refused(204));
        check(302, &[], &refused(302));
        check(304, &[], &refused(304));
        check(400, &[], &refused(400));
        check(501, &[], &refused(501));
    }

    proptest! {
        /// The client's decision undoes the server's: what `download` answers, `pin` takes for what it is.
        #[test]
        fn the_two_sides_agree(size in 1_u64..10_000, at in 0_u64..10_000, length in 1_u64..10_000, same in any::<bool>()) {
            let start = at % size;
            let asked = span(start, size.min(start + length));
            let pin = Pin { size: Length::new(size), ..tag_pin() };
            let etag = EntityTag::strong(if same { "a" } else { "b" }).unwrap();
            let facts = Facts { validators: Validators { etag, last_modified: None }, size: pin.size };
            let description = Description {
                name: "a".to_owned(),
                content_type: HeaderValue::from_static("video/webm"),
                location: HeaderValue::from_static("/files/@alice/a"),
            };
            let range = format!("bytes={}-{}", asked.start(), asked.end().get() - 1);
            for (condition, changed_status) in [("if-match", 412), ("if-range", 200)] {
                let mut request = HeaderMap::new();
                request.insert("range", range.parse().unwrap());
                request.insert(condition, "\"a\"".parse().unwrap());
                let answer: Answer = decide_get(&Method::GET, &request, &facts);
                let fields = answer_fields(&answer, &facts, &description);
                let response = Response { status: answer.status(), fields: &fields, received: HttpDate::from_seconds(0) };
                let expected = if same { Verdict::Accept { span: asked } } else { Verdict::Changed };
                prop_assert_eq!(decide_response(&pin, asked, &response), expected);
                prop_assert_eq!(answer.status().as_u16(), if same { 206 } else { changed_status });
            }
        }

        #[test]
        fn no_field_makes_more_accepted_than_was_asked(content_range in "bytes (99|100|101)-[12][0-9]{2}/(999|1000|\\*)") {
            let fields = [("etag", "\"a\""), ("content-range", content_range.as_str())];
            if let Verdict::Accept { span: accepted } = decide(&tag_pin(), 206, &fields) {
                prop_assert!(accepted.start().get() == 100 && accepted.end().get() <= 200 && !accepted.is_empty());
            }
        }
    }
}
