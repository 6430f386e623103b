//! What answers a GET or HEAD of a file: the one composition of preconditions, `If-Range` and `Range`, and the
//! fields that state the answer. It knows neither how the bytes are stored nor how they are sent.
//!
//! ```text
//!   preconditions --> 412 | 304
//!        | proceed
//!   Range, on GET only --> none, or ignored ------------> 200
//!        |
//!   If-Range, if any --> does not match ----------------> 200
//!        | matches
//!   spans of the file --> no byte: 416 | one: 206 | 2 to 32: 206 in parts | more: 200
//! ```

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::disposition::{SANDBOX, decide_disposition, format_disposition};
use crate::precondition::{Conditions, MethodKind, Precondition, Validators, decide_precondition};
use crate::range::{RangeSet, Resolved, UNIT, format_content_range, parse_range};
use crate::span::{Length, Span};
use crate::validator::{EntityTag, HttpDate};

/// Every use is checked with us first, and nobody on the way may keep, or recode, what they forward.
pub const CACHE_POLICY: HeaderValue = HeaderValue::from_static("private, no-cache, no-transform");
/// The request fields that an answer may depend on.
pub const VARIES_WITH: HeaderValue = HeaderValue::from_static("Authorization, Cookie, Origin");
/// Forbids a browser to take a file for something else than its `Content-Type` says.
pub const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// What has to be known of a file to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What validates its present content.
    pub validators: Validators,
    /// How many bytes it has.
    pub size: Length,
}

/// What has to be known of a file to describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The name it is saved under.
    pub name: String,
    /// Its media type.
    pub content_type: HeaderValue,
    /// Where it is, with its space: the long form.
    pub location: HeaderValue,
}

/// How much of the description goes with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Every field that the 200 would have.
    Full,
    /// What §15.3.7 requires, and the media type: with `If-Range` the client holds the rest already.
    Required,
}

/// The answer to a GET or HEAD of an existing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200 with every byte.
    Whole,
    /// 206 with one span, which is not empty.
    Part {
        /// The bytes of the body.
        span: Span,
        /// How much is said about the file.
        detail: Detail,
    },
    /// 206 with several spans, as [`Multipart`](crate::byteranges::Multipart) lays them out.
    Parts {
        /// 2 to 32 spans, none empty, no two closer than 81 bytes, in the order asked.
        spans: Vec<Span>,
        /// How much is said about the file.
        detail: Detail,
    },
    /// 304: the client holds the present content.
    NotModified,
    /// 412: the file is not what the client takes it for.
    PreconditionFailed,
    /// 416: the file has no byte of the range.
    Unsatisfiable,
}

impl Answer {
    /// Returns the status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Whole => StatusCode::OK,
            Self::Part { .. } | Self::Parts { .. } => StatusCode::PARTIAL_CONTENT,
            Self::NotModified => StatusCode::NOT_MODIFIED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }
}

/// Decides what answers a GET or HEAD of an existing file.
pub fn decide_get(method: &Method, fields: &HeaderMap, facts: &Facts) -> Answer {
    match decide_precondition(MethodKind::Read, &Conditions::parse(fields), Some(&facts.validators)) {
        Precondition::NotModified => Answer::NotModified,
        Precondition::Failed => Answer::PreconditionFailed,
        Precondition::Proceed => match asked_range(method, fields, &facts.validators) {
            Some((range, detail)) => decide_range(&range, detail, facts.size),
            None => Answer::Whole,
        },
    }
}

fn decide_range(range: &RangeSet, detail: Detail, size: Length) -> Answer {
    match range.resolve(size) {
        Resolved::Unsatisfiable => Answer::Unsatisfiable,
        Resolved::Spans(spans) => match spans[..] {
            [span] => Answer::Part { span, detail },
            _ => Answer::Parts { spans, detail },
        },
        Resolved::Whole => Answer::Whole,
    }
}

/// Returns the range if it counts: on GET only (§14.2), and only if `If-Range`, when present, matches (§13.1.5).
fn asked_range(method: &Method, fields: &HeaderMap, current: &Validators) -> Option<(RangeSet, Detail)> {
    if method != Method::GET {
        return None;
    }
    let range = parse_range(fields)?;
    let mut lines = fields.get_all(IF_RANGE).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Some((range, Detail::Full)),
        (Some(line), None) if is_same_version(line.as_bytes(), current) => Some((range, Detail::Required)),
        (Some(_), _) => None,
    }
}

/// Tells whether an `If-Range` names the present content: exactly one strong tag that is equal, or one date that
/// is equal. An older or later date, a weak tag, a list, `*` and everything else name something else.
fn is_same_version(if_range: &[u8], current: &Validators) -> bool {
    match EntityTag::parse(if_range) {
        Some(tag) => tag.matches_strongly(&current.etag),
        None => HttpDate::parse(if_range).is_some_and(|date| Some(date) == current.last_modified),
    }
}

/// Returns the fields that state an answer; `Date` is the server's. `Content-Type` and `Content-Length` are missing
/// where the body decides them: of a 412 or 416 they are those of the problem, of several parts those of the
/// [`Multipart`](crate::byteranges::Multipart). Those have no `Content-Range` here either: each part states its own
/// (§15.3.7.2).
pub fn answer_fields(answer: &Answer, facts: &Facts, description: &Description) -> HeaderMap {
    let mut fields = HeaderMap::from_iter([(CACHE_CONTROL, CACHE_POLICY), (VARY, VARIES_WITH)]);
    match answer {
        Answer::Whole => {
            fields.extend(identifying_fields(facts, description));
            fields.extend(payload_fields());
            fields.extend(body_fields(facts.size, description));
            fields.extend(describing_fields(facts, description));
        }
        Answer::Part { span, detail } => {
            fields.extend(identifying_fields(facts, description));
            fields.extend(payload_fields());
            fields.extend(body_fields(span.length(), description));
            fields.insert(CONTENT_RANGE, visible(&format_content_range(*span, facts.size)));
            if *detail == Detail::Full {
                fields.extend(describing_fields(facts, description));
            }
        }
        Answer::Parts { detail, .. } => {
            fields.extend(identifying_fields(facts, description));
            fields.extend(payload_fields());
            if *detail == Detail::Full {
                fields.extend(describing_fields(facts, description));
            }
        }
        Answer::NotModified => fields.extend(identifying_fields(facts, description)),
        Answer::PreconditionFailed => {
            fields.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
        }
        Answer::Unsatisfiable => {
            fields.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
            fields.insert(CONTENT_RANGE, visible(&format!("{UNIT} */{}", facts.size)));
        }
    }
    fields
}

/// Which content this is: on 200, 206 and 304 (§15.3.7, §15.4.5).
fn identifying_fields(facts: &Facts, description: &Description) -> HeaderMap {
    HeaderMap::from_iter([
        (ETAG, facts.validators.etag.to_value()),
        (CONTENT_LOCATION, description.location.clone()),
    ])
}

/// What goes with every body of file bytes. The two guards say nothing about the file, so they stay even where
/// [`Detail::Required`] leaves the description out.
fn payload_fields() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT_RANGES, HeaderValue::from_static(UNIT)),
        (X_CONTENT_TYPE_OPTIONS, NO_SNIFFING),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX)),
    ])
}

/// What a body that is bytes of the file and nothing else is.
fn body_fields(length: Length, description: &Description) -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_LENGTH, length.get().into()),
        (CONTENT_TYPE, description.content_type.clone()),
    ])
}

/// What a client keeps from the first answer.
fn describing_fields(facts: &Facts, description: &Description) -> HeaderMap {
    let disposition = decide_disposition(&description.content_type);
    let mut fields =
        HeaderMap::from_iter([(CONTENT_DISPOSITION, format_disposition(disposition, &description.name))]);
    if let Some(date) = facts.validators.last_modified {
        fields.insert(LAST_MODIFIED, date.to_value());
    }
    fields
}

/// Makes a field value of what `Content-Range` says.
fn visible(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits may stand in a field value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::byteranges::{Boundary, Multipart, Piece};
    use crate::span::Offset;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn facts(size: u64) -> Facts {
        let validators = Validators {
            etag: EntityTag::strong("a").unwrap(),
            last_modified: HttpDate::parse(THEN.as_bytes()),
        };
        Facts { validators, size: Length::new(size) }
    }

    fn description() -> Description {
        Description {
            name: "film.webm".to_owned(),
            content_type: HeaderValue::from_static("video/webm"),
            location: HeaderValue::from_static("/files/@alice/film.webm"),
        }
    }

    fn request(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    /// Spells the answer to a GET of 10,000 bytes.
    fn answer_to(fields: &[(&str, &str)]) -> String {
        spelled(&decide_get(&Method::GET, &request(fields), &facts(10_000)))
    }

    fn spelled(answer: &Answer) -> String {
        match answer {
            Answer::Part { span, detail: Detail::Full } => format!("206 {span}"),
            Answer::Part { span, detail: Detail::Required } => format!("206 {span} required"),
            Answer::Parts { spans, detail } => {
                let spans = spans.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let mark = if *detail == Detail::Required { " required" } else { "" };
                format!("206 {spans}{mark}")
            }
            other => other.status().as_str().to_owned(),
        }
    }

    #[test]
    fn rfc9110_14_2_a_range_counts_on_get_only() {
        #[track_caller]
        fn check(method: &Method, expected: &str) {
            let fields = request(&[("range", "bytes=0-0"), ("if-range", "\"a\"")]);
            assert_eq!(spelled(&decide_get(method, &fields, &facts(10_000))), expected);
        }
        check(&Method::GET, "206 [0, 1) required");
        check(&Method::HEAD, "200");
    }

    #[test]
    fn rfc9110_14_2_ranges() {
        #[track_caller]
        fn check(range: &str, expected: &str) {
            assert_eq!(answer_to(&[("range", range)]), expected);
        }
        check("bytes=0-1024", "206 [0, 1025)");
        check("bytes=-2000", "206 [8000, 10000)");
        check("bytes=1024-", "206 [1024, 10000)");
        check("bytes=1024-2048,2049-3096,3097-4096", "206 [1024, 4097)");
        check("bytes=-10001", "206 [0, 10000)");
        check("bytes=0-", "206 [0, 10000)");
        check("bytes=0-0,-1", "206 [0, 1) [9999, 10000)");
        check("bytes=-1,0-0", "206 [9999, 10000) [0, 1)");
        check("bytes=0-0,500-,300-309", "206 [0, 1) [500, 10000) [300, 310)");
        check("bytes=0-0,10000-", "206 [0, 1)");
        check("bytes=0-99,180-", "206 [0, 10000)");
        check("bytes=0-99,181-", "206 [0, 100) [181, 10000)");
        check("bytes=1025-2048", "206 [1025, 2049)");
        check("bytes=0-9999", "206 [0, 10000)");
        check("bytes=0-10000", "206 [0, 10000)");
        check("bytes=9999-9999", "206 [9999, 10000)");
        check("bytes=9999-", "206 [9999, 10000)");
        check("bytes=-1", "206 [9999, 10000)");
        check("bytes=-10000", "206 [0, 10000)");
        check("bytes=10000-10000", "416");
        check("bytes=10000-,-0", "416");
        check("bytes=10000-,5-5", "206 [5, 6)");
        check("bytes=+5-", "200");
        check("bytes=10000-", "416");
        check("bytes=-0", "416");
        check("bytes=1-0", "200");
        check("bytes=0-0,x", "200");
        check("lines=0-0", "200");
    }

    #[test]
    fn rfc9110_13_1_5_if_range() {
        #[track_caller]
        fn check(if_range: &str, expected: &str) {
            assert_eq!(answer_to(&[("range", "bytes=5-9"), ("if-range", if_range)]), expected, "{if_range}");
        }
        let part = "206 [5, 10) required";
        check("\"a\"", part);
        check(THEN, part);
        check("Sunday, 06-Nov-94 08:49:37 GMT", part);
        check("Sun Nov  6 08:49:37 1994", part);
        check("\"b\"", "200");
        check("W/\"a\"", "200");
        check(BEFORE, "200");
        check(AFTER, "200");
        check("*", "200");
        check("a", "200");
        check("", "200");
        check("\"A\"", "200");
        check("\"\"", "200");
        check("\"a", "200");
        check("a\"", "200");
        check("'a'", "200");
        check("w/\"a\"", "200");
        check("W/a", "200");
        check("\"b\", \"a\"", "200");
        check("*, \"a\"", "200");
        check(", \"a\"", "200");
        check("Sun, 06 Nov 1994 08:49:37 UTC", "200");
        check("Mon, 06 Nov 1994 08:49:37 GMT", "200");
        check("784111777", "200");
        check("1994-11-06T08:49:37Z", "200");
        check("Sun, 06 Nov 1994 08:49:37 GMT, \"a\"", "200");
        check("\"a\", \"b\"", "200");
        check("\"a\",", "200");
        check("yesterday", "200");
    }

    #[test]
    fn rfc9110_13_1_5_if_range_beside_other_ranges() {
        #[track_caller]
        fn check(fields: &[(&str, &str)], expected: &str) {
            assert_eq!(answer_to(fields), expected);
        }
        check(&[("range", "bytes=10000-"), ("if-range", "\"a\"")], "416");
        check(&[("range", "bytes=10000-"), ("if-range", "\"b\"")], "200");
        check(&[("range", "bytes=1-0"), ("if-range", "\"a\"")], "200");
        check(&[("range", "bytes=0-0,-1"), ("if-range", "\"a\"")], "206 [0, 1) [9999, 10000) required");
        check(&[("range", "bytes=0-0,-1"), ("if-range", "\"b\"")], "200");
        check(&[("if-range", "\"a\"")], "200");
        check(&[("range", "bytes=5-9"), ("if-range", "\"a\""), ("if-range", "\"a\"")], "200");
        check(&[("range", "bytes=5-9"), ("range", "bytes=5-9")], "200");
    }

    #[test]
    fn a_dated_if_range_never_matches_a_date_weak_file() {
        let mut facts = facts(10_000);
        facts.validators.last_modified = None;
        let fields = request(&[("range", "bytes=5-9"), ("if-range", THEN)]);
        assert_eq!(decide_get(&Method::GET, &fields, &facts), Answer::Whole);
    }

    #[test]
    fn rfc9110_13_2_2_preconditions_come_before_ranges() {
        #[track_caller]
        fn check(fields: &[(&str, &str)], expected: &str) {
            assert_eq!(answer_to(fields), expected);
        }
        let range = ("range", "bytes=5-9");
        check(&[range, ("if-match", "\"a\"")], "206 [5, 10)");
        check(&[range, ("if-match", "\"b\"")], "412");
        check(&[range, ("if-match", "\"b\""), ("if-range", "\"a\"")], "412");
        check(&[range, ("if-none-match", "\"a\"")], "304");
        check(&[range, ("if-none-match", "\"b\""), ("if-range", "\"b\"")], "200");
        check(&[range, ("if-unmodified-since", BEFORE)], "412");
        check(&[range, ("if-unmodified-since", THEN)], "206 [5, 10)");
        check(&[("range", "bytes=10000-"), ("if-none-match", "\"a\"")], "304");
        check(&[("range", "bytes=10000-"), ("if-match", "\"b\"")], "412");
    }

    #[test]
    fn an_empty_file_is_never_answered_206() {
        #[track_caller]
        fn check(range: &str, expected: &str) {
            let answer = decide_get(&Method::GET, &request(&[("range", range)]), &facts(0));
            assert_eq!(spelled(&answer), expected);
        }
        check("bytes=0-", "416");
        check("bytes=0-0", "416");
        check("bytes=-1", "200");
        check("bytes=-0", "416");
        check("bytes=0-0,-1", "200");
        check("bytes=0-,5-", "416");
    }

    /// Checks the names of all fields, sorted and without the two that every answer has.
    #[track_caller]
    fn check_names(answer: &Answer, expected: &str) {
        let fields = answer_fields(answer, &facts(10), &description());
        assert!(fields.get(CACHE_CONTROL) == Some(&CACHE_POLICY) && fields.get(VARY) == Some(&VARIES_WITH));
        let mut names: Vec<&str> = fields.keys().map(http::HeaderName::as_str).collect();
        names.retain(|name| *name != CACHE_CONTROL && *name != VARY);
        names.sort_unstable();
        assert_eq!(names.join(" "), expected);
    }

    fn part(detail: Detail) -> Answer {
        Answer::Part { span: Span::new(Offset::new(2), Offset::new(5)).unwrap(), detail }
    }

    #[test]
    fn each_status_has_exactly_its_fields() {
        check_names(
            &Answer::Whole,
            "accept-ranges content-disposition content-length content-location content-security-policy \
             content-type etag last-modified x-content-type-options",
        );
        check_names(
            &part(Detail::Full),
            "accept-ranges content-disposition content-length content-location content-range \
             content-security-policy content-type etag last-modified x-content-type-options",
        );
        check_names(
            &part(Detail::Required),
            "accept-ranges content-length content-location content-range content-security-policy content-type \
             etag x-content-type-options",
        );
        let parts = |detail| Answer::Parts { spans: Vec::new(), detail };
        check_names(
            &parts(Detail::Full),
            "accept-ranges content-disposition content-location content-security-policy etag last-modified \
             x-content-type-options",
        );
        check_names(
            &parts(Detail::Required),
            "accept-ranges content-location content-security-policy etag x-content-type-options",
        );
        check_names(&Answer::NotModified, "content-location etag");
        check_names(&Answer::PreconditionFailed, "x-content-type-options");
        check_names(&Answer::Unsatisfiable, "content-range x-content-type-options");
    }

    #[test]
    fn the_fields_say_what_the_answer_says() {
        #[track_caller]
        fn check(answer: &Answer, name: &str, value: &str) {
            assert_eq!(answer_fields(answer, &facts(10), &description())[name], value);
        }
        check(&Answer::Whole, "content-length", "10");
        check(&Answer::Whole, "etag", "\"a\"");
        check(&Answer::Whole, "last-modified", THEN);
        check(&Answer::Whole, "accept-ranges", "bytes");
        check(&Answer::Whole, "content-type", "video/webm");
        check(
            &Answer::Whole,
            "content-disposition",
            "inline; filename=\"film.webm\"; filename*=UTF-8''film.webm",
        );
        check(&part(Detail::Full), "content-length", "3");
        check(&part(Detail::Full), "content-range", "bytes 2-4/10");
        check(&Answer::Unsatisfiable, "content-range", "bytes */10");
        check(&Answer::NotModified, "content-location", "/files/@alice/film.webm");
    }

    #[test]
    fn a_date_weak_file_has_no_last_modified() {
        let mut facts = facts(10);
        facts.validators.last_modified = None;
        assert_eq!(answer_fields(&Answer::Whole, &facts, &description()).get(LAST_MODIFIED), None);
    }

    #[test]
    fn a_page_is_saved_and_has_no_rights_even_if_shown() {
        let description =
            Description { content_type: HeaderValue::from_static("text/html"), ..description() };
        let fields = answer_fields(&Answer::Whole, &facts(10), &description);
        assert!(fields[CONTENT_DISPOSITION].to_str().unwrap().starts_with("attachment;"));
        assert_eq!(fields[CONTENT_SECURITY_POLICY], SANDBOX);
    }

    /// One member as the strategy draws it, and as the twin understands it.
    #[derive(Debug, Clone, Copy)]
    enum Drawn {
        FromTo(usize, usize),
        From(usize),
        Suffix(usize),
    }

    impl Drawn {
        fn text(self) -> String {
            match self {
                Self::FromTo(first, last) => format!("{first}-{last}"),
                Self::From(first) => format!("{first}-"),
                Self::Suffix(length) => format!("-{length}"),
            }
        }

        /// The bytes as a naive reader slices them; `None` where not satisfiable.
        fn slice(self, file: &[u8]) -> Option<&[u8]> {
            match self {
                Self::FromTo(first, last) => {
                    file.get(first..file.len().min(last + 1)).filter(|s| !s.is_empty())
                }
                Self::From(first) => file.get(first..).filter(|slice| !slice.is_empty()),
                Self::Suffix(0) => None,
                Self::Suffix(length) => Some(&file[file.len().saturating_sub(length)..]),
            }
        }
    }

    fn drawn() -> impl Strategy<Value = Drawn> {
        prop_oneof![
            (0_usize..300, 0_usize..300).prop_map(|(first, more)| Drawn::FromTo(first, first + more)),
            (0_usize..300).prop_map(Drawn::From),
            (0_usize..300).prop_map(Drawn::Suffix),
        ]
    }

    /// Mostly short ranges, so that many of them stay apart.
    fn drawn_within(size: usize) -> impl Strategy<Value = Drawn> {
        prop_oneof![
            20 => (0..size, 0_usize..100).prop_map(|(first, more)| Drawn::FromTo(first, first + more)),
            1 => (0..size).prop_map(move |back| Drawn::From(size + 50 - back / 20)),
            1 => (0_usize..300).prop_map(Drawn::Suffix),
        ]
    }

    /// Where a slice lies in the file it was cut from.
    fn place(slice: &[u8], file: &[u8]) -> std::ops::Range<usize> {
        let start = slice.as_ptr() as usize - file.as_ptr() as usize;
        start..start + slice.len()
    }

    fn bounds(span: Span) -> std::ops::Range<usize> {
        usize::try_from(span.start().get()).unwrap()..usize::try_from(span.end().get()).unwrap()
    }

    /// What a naive reader answers: it marks every byte asked for and every gap shorter than 81 bytes, and sends each
    /// run of marks where the first range that lies in it was asked for. `None` if there is nothing to mark.
    fn marked(file: &[u8], ranges: &[Drawn]) -> Option<Vec<std::ops::Range<usize>>> {
        let asked: Vec<_> =
            ranges.iter().filter_map(|range| range.slice(file)).map(|slice| place(slice, file)).collect();
        if asked.is_empty() {
            return None;
        }
        let mut marks = vec![false; file.len()];
        for range in &asked {
            marks[range.clone()].fill(true);
        }
        let marked: Vec<usize> = (0..file.len()).filter(|byte| marks[*byte]).collect();
        for pair in marked.windows(2).filter(|pair| pair[1] - pair[0] - 1 < 81) {
            marks[pair[0]..pair[1]].fill(true);
        }
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for byte in (0..file.len()).filter(|byte| marks[*byte]) {
            match runs.last_mut() {
                Some(run) if run.end == byte => run.end += 1,
                _ => runs.push(byte..byte + 1),
            }
        }
        runs.sort_by_key(|run| asked.iter().position(|range| run.contains(&range.start)));
        Some(runs)
    }

    fn assembled(pieces: Vec<Piece>, file: &[u8]) -> Vec<u8> {
        let bytes = |piece| match piece {
            Piece::Text(text) => text,
            Piece::File(span) => file[bounds(span)].to_vec(),
        };
        pieces.into_iter().flat_map(bytes).collect()
    }

    /// Reads a body back as a client does that trusts nothing but the lengths: places and bytes of the parts.
    fn taken_apart(mut body: &[u8], size: usize) -> Vec<(std::ops::Range<usize>, Vec<u8>)> {
        let delimiter = [b"--".as_slice(), "07".repeat(16).as_bytes()].concat();
        let mut parts = Vec::new();
        loop {
            body = body.strip_prefix(delimiter.as_slice()).expect("a delimiter stands before each part");
            if body == b"--\r\n" {
                return parts;
            }
            let end = body.windows(4).position(|window| window == b"\r\n\r\n").expect("fields end") + 4;
            let fields = std::str::from_utf8(&body[..end]).unwrap();
            let range = fields
                .strip_prefix("\r\nContent-Type: video/webm\r\nContent-Range: bytes ")
                .expect("each part has its type and its range");
            let (range, total) = range.trim_end().split_once('/').unwrap();
            let (first, last) = range.split_once('-').unwrap();
            let range = first.parse().unwrap()..last.parse::<usize>().unwrap() + 1;
            assert_eq!(total, size.to_string());
            let (bytes, rest) = body[end..].split_at(range.len());
            parts.push((range, bytes.to_vec()));
            body = rest.strip_prefix(b"\r\n").expect("a line ends behind each part");
        }
    }

    proptest! {
        #[test]
        fn one_range_gives_the_bytes_a_naive_reader_slices(file in prop::collection::vec(any::<u8>(), 0..250), range in drawn()) {
            let fields = request(&[("range", &format!("bytes={}", range.text()))]);
            let facts = facts(file.len() as u64);
            match decide_get(&Method::GET, &fields, &facts) {
                Answer::Part { span, .. } => {
                    let bytes = &file[usize::try_from(span.start().get()).unwrap()..usize::try_from(span.end().get()).unwrap()];
                    prop_assert_eq!(Some(bytes), range.slice(&file));
                }
                Answer::Whole => prop_assert!(file.is_empty() && range.slice(&file).is_some()),
                Answer::Unsatisfiable => prop_assert_eq!(range.slice(&file), None),
                other => prop_assert!(false, "{:?} without a precondition", other),
            }
        }

        #[test]
        fn several_ranges_give_what_a_naive_reader_marks(
            file in prop::collection::vec(any::<u8>(), 0..12_000),
            ranges in prop::collection::vec(drawn_within(12_000), 1..60),
        ) {
            let text = ranges.iter().map(|range| range.text()).collect::<Vec<_>>().join(", ");
            let facts = facts(file.len() as u64);
            let answer = decide_get(&Method::GET, &request(&[("range", &format!("bytes={text}"))]), &facts);
            match (marked(&file, &ranges), &answer) {
                (None, Answer::Unsatisfiable) => {}
                (Some(runs), Answer::Whole) => prop_assert!(file.is_empty() || runs.len() > 32),
                (Some(runs), Answer::Part { span, .. }) => prop_assert_eq!(runs, [bounds(*span)]),
                (Some(runs), Answer::Parts { spans, .. }) => {
                    prop_assert!((2..=32).contains(&runs.len()));
                    let boundary = Boundary::new([7; 16]);
                    let body = Multipart::new(spans, facts.size, &description().content_type, boundary);
                    let length = usize::try_from(body.length().get()).unwrap();
                    let bytes = assembled(body.into_pieces(), &file);
                    prop_assert_eq!(bytes.len(), length);
                    prop_assert!(length <= file.len() + (runs.len() + 1) * 200);
                    prop_assert_eq!(taken_apart(&bytes, file.len()), runs.into_iter().map(|run| (run.clone(), file[run].to_vec())).collect::<Vec<_>>());
                }
                (runs, answer) => prop_assert!(false, "{:?} for {:?}", answer, runs),
            }
        }
    }
}
