//! The `Range` field (RFC 9110 §14): its syntax, and which spans of a file of known size it asks for. It owns
//! the limits that keep a request for many ranges harmless; whether a range counts at all is `download`'s.
//!
//! ```text
//!   bytes=0-9, 5-20, 500-, -3   of 1,000 bytes      four members, as asked
//!   |-------|                                        0-9 and 5-20 overlap,
//!        |----------|                                500- and -3 overlap:
//!   [0, 21)                  [500, 1000)             two spans, in the order first asked
//! ```

use http::HeaderMap;
use http::header::RANGE;

use crate::span::{Length, Offset, Span};
use crate::validator::{single_line, trim_blanks};

/// The only range unit; its name is not case-sensitive (RFC 9110 §14.1).
pub const UNIT: &str = "bytes";
/// The most members a set may have to be looked at; a field of 64 KiB could hold some thirty thousand.
pub const MEMBERS_MAX: usize = 1_024;
/// The most spans that are answered one by one; beyond it the whole file is cheaper for both sides.
pub const SPANS_MAX: usize = 32;
/// Spans closer than this are joined: the fields of a part of multipart/byteranges cost about as much
/// (RFC 9110 §15.3.7.2).
const GAP_MIN: Length = Length::new(81);

/// One member of a set. Positions are inclusive, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    FromTo { first: u64, last: u64 },
    From { first: u64 },
    Suffix { length: u64 },
}

/// A valid set of byte ranges, as asked.
///
/// INVARIANT: 1 to 1,024 members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet(Vec<Member>);

/// What a set asks of a file of known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// No byte of it exists: 416.
    Unsatisfiable,
    /// The whole file as 200: a satisfiable set that no 206 can state (a suffix of an empty file), or more than
    /// [`SPANS_MAX`] spans, which §14.2 allows to ignore.
    Whole,
    /// These spans, 1 to [`SPANS_MAX`], none empty, in the order asked, no two closer than 81 bytes.
    Spans(Vec<Span>),
}

/// Reads `Range`, or `None` if it is absent or to be ignored: another unit, an invalid set, more than one line,
/// or a flood of members.
///
/// To ignore is deliberate where a 400 or 416 would be possible: a 416 makes clients delete partial files.
pub fn parse_range(fields: &HeaderMap) -> Option<RangeSet> {
    let (unit, set) = single_line(fields, &RANGE)?.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case(UNIT) {
        return None;
    }
    let members: Vec<Member> = set
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(trim_blanks)
        .filter(|member| !member.is_empty())
        .take(MEMBERS_MAX + 1)
        .map(Member::parse)
        .collect::<Option<_>>()?;
    (1..=MEMBERS_MAX).contains(&members.len()).then_some(RangeSet(members))
}

impl Member {
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        match (&text[..dash], &text[dash + 1..]) {
            ([], length) => Some(Self::Suffix { length: parse_number(length)? }),
            (first, []) => Some(Self::From { first: parse_number(first)? }),
            (first, last) => {
                let numbers = (parse_number(first)?, parse_number(last)?);
                is_at_most(first, last).then_some(Self::FromTo { first: numbers.0, last: numbers.1 })
            }
        }
    }

    /// Returns the bytes of the file that the member names, or `None` if it is not satisfiable (§14.1.2).
    /// The result is empty only for a suffix of an empty file, which the RFC calls satisfiable.
    fn resolve(self, size: Length) -> Option<Span> {
        let whole = Span::whole(size);
        match self {
            Self::FromTo { first, last } => {
                let end = last.checked_add(1).map_or(size.end(), Offset::new);
                Span::new(Offset::new(first), end)?.intersection(whole)
            }
            Self::From { first } => Span::new(Offset::new(first), size.end()).filter(|span| !span.is_empty()),
            Self::Suffix { length: 0 } => None,
            Self::Suffix { length } => {
                let skipped = size.checked_sub(Length::new(length)).unwrap_or(Length::ZERO);
                Span::new(skipped.end(), size.end())
            }
        }
    }
}

/// Reads one or more digits; a number beyond `u64` is large, not wrong.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

/// Compares two strings of digits by value, also where both are beyond `u64`.
fn is_at_most(a: &[u8], b: &[u8]) -> bool {
    let significant =
        |digits: &'_ [u8]| digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    (a.len(), a) <= (b.len(), b)
}

impl RangeSet {
    /// Returns what the set asks of a file of this size. One satisfiable member suffices (§14.1.2).
    pub fn resolve(&self, size: Length) -> Resolved {
        let spans: Vec<Span> = self.0.iter().filter_map(|member| member.resolve(size)).collect();
        if spans.is_empty() {
            return Resolved::Unsatisfiable;
        }
        let joined = coalesce(&spans);
        if joined.len() > SPANS_MAX || joined.iter().any(|span| span.is_empty()) {
            return Resolved::Whole;
        }
        Resolved::Spans(joined)
    }
}

/// Writes what `Content-Range` says of a part of a file (§14.4); positions are inclusive there.
pub fn format_content_range(span: Span, size: Length) -> String {
    let last = span.end().get().checked_sub(1).expect("a part is not empty");
    format!("{UNIT} {}-{last}/{size}", span.start())
}

/// Joins spans that overlap or lie closer than [`GAP_MIN`]. A joined span stands where the first of its members
/// was asked.
fn coalesce(spans: &[Span]) -> Vec<Span> {
    let mut by_start: Vec<(usize, Span)> = spans.iter().copied().enumerate().collect();
    by_start.sort_by_key(|(_, span)| span.start());

    let mut joined: Vec<(usize, Span)> = Vec::new();
    for (asked, span) in by_start {
        match joined.last_mut() {
            Some((first_asked, last)) if is_near(*last, span) => {
                *first_asked = asked.min(*first_asked);
                *last = Span::new(last.start(), last.end().max(span.end()))
                    .expect("the start stays and the end only grows");
            }
            _ => joined.push((asked, span)),
        }
    }
    joined.sort_by_key(|(asked, _)| *asked);
    joined.into_iter().map(|(_, span)| span).collect()
}

/// Tells whether `later`, which does not start before `earlier`, overlaps it or follows closely.
fn is_near(earlier: Span, later: Span) -> bool {
    later.start().since(earlier.end()).is_none_or(|gap| gap < GAP_MIN)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Option<RangeSet> {
        parse_range(&HeaderMap::from_iter([(RANGE, HeaderValue::from_str(line).unwrap())]))
    }

    fn spans(bounds: &[(u64, u64)]) -> Resolved {
        let span = |(start, end): &(u64, u64)| Span::new(Offset::new(*start), Offset::new(*end)).unwrap();
        Resolved::Spans(bounds.iter().map(span).collect())
    }

    #[track_caller]
    fn check(line: &str, size: u64, expected: &Resolved) {
        let set = parse(line).expect("the set is valid");
        assert_eq!(&set.resolve(Length::new(size)), expected);
    }

    #[test]
    fn rfc9110_14_1_2_examples() {
        check("bytes=0-499", 10_000, &spans(&[(0, 500)]));
        check("bytes=500-999", 10_000, &spans(&[(500, 1_000)]));
        check("bytes=-500", 10_000, &spans(&[(9_500, 10_000)]));
        check("bytes=9500-", 10_000, &spans(&[(9_500, 10_000)]));
        check("bytes=0-0,-1", 10_000, &spans(&[(0, 1), (9_999, 10_000)]));
        check(
            "bytes= 0-999, 4500-5499, -1000",
            10_000,
            &spans(&[(0, 1_000), (4_500, 5_500), (9_000, 10_000)]),
        );
        check("bytes=500-600,601-999", 10_000, &spans(&[(500, 1_000)]));
        check("bytes=500-700,601-999", 10_000, &spans(&[(500, 1_000)]));
    }

    #[test]
    fn the_forms_of_the_mission() {
        check("bytes=0-1024", 5_000, &spans(&[(0, 1_025)]));
        check("bytes=1025-2048", 5_000, &spans(&[(1_025, 2_049)]));
        check("bytes=-2000", 5_000, &spans(&[(3_000, 5_000)]));
        check("bytes=1024-", 5_000, &spans(&[(1_024, 5_000)]));
        check("bytes=0-0,-1", 5_000, &spans(&[(0, 1), (4_999, 5_000)]));
        check("bytes=1024-2048,2049-3096,3097-4096", 5_000, &spans(&[(1_024, 4_097)]));
    }

    #[test]
    fn rfc9110_14_1_2_what_reaches_past_the_end() {
        check("bytes=5-100", 10, &spans(&[(5, 10)]));
        check("bytes=9-9", 10, &spans(&[(9, 10)]));
        check("bytes=10-10", 10, &Resolved::Unsatisfiable);
        check("bytes=10-", 10, &Resolved::Unsatisfiable);
        check("bytes=-10", 10, &spans(&[(0, 10)]));
        check("bytes=-11", 10, &spans(&[(0, 10)]));
        check("bytes=-0", 10, &Resolved::Unsatisfiable);
        check("bytes=-0,10-", 10, &Resolved::Unsatisfiable);
        check("bytes=-0,10-,3-3", 10, &spans(&[(3, 4)]));
    }

    #[test]
    fn an_empty_file_has_no_range() {
        check("bytes=0-", 0, &Resolved::Unsatisfiable);
        check("bytes=0-0", 0, &Resolved::Unsatisfiable);
        check("bytes=-0", 0, &Resolved::Unsatisfiable);
        check("bytes=-1", 0, &Resolved::Whole);
        check("bytes=0-,-1", 0, &Resolved::Whole);
    }

    #[test]
    fn numbers_beyond_u64_are_large_not_wrong() {
        check("bytes=0-18446744073709551615", 10, &spans(&[(0, 10)]));
        check("bytes=3-99999999999999999999999", 10, &spans(&[(3, 10)]));
        check("bytes=-99999999999999999999999", 10, &spans(&[(0, 10)]));
        check("bytes=99999999999999999999999-", 10, &Resolved::Unsatisfiable);
        check("bytes=18446744073709551615-18446744073709551615", 10, &Resolved::Unsatisfiable);
        check("bytes=99999999999999999999998-99999999999999999999999", 10, &Resolved::Unsatisfiable);
        check("bytes=000000000000000000000000000001-02", 10, &spans(&[(1, 3)]));
        check(&format!("bytes={}-{}", "9".repeat(4_000), "9".repeat(4_001)), 10, &Resolved::Unsatisfiable);
        assert_eq!(parse("bytes=99999999999999999999999-99999999999999999999998"), None);
    }

    #[test]
    fn numbers_of_any_length_are_compared_by_value() {
        for digits in [10, 20, 40, 4_000] {
            let (nines, zeros) = ("9".repeat(digits), "0".repeat(digits));
            check(&format!("bytes=3-{nines}"), 1_000, &spans(&[(3, 1_000)]));
            check(&format!("bytes=-{nines}"), 1_000, &spans(&[(0, 1_000)]));
            check(&format!("bytes={nines}-"), 1_000, &Resolved::Unsatisfiable);
            check(&format!("bytes={nines}-{nines}"), 1_000, &Resolved::Unsatisfiable);
            check(&format!("bytes={zeros}7-{zeros}9"), 1_000, &spans(&[(7, 10)]));
            check(&format!("bytes={zeros}-"), 1_000, &spans(&[(0, 1_000)]));
            check(&format!("bytes=-{zeros}"), 1_000, &Resolved::Unsatisfiable);
            check(&format!("bytes=-{zeros}5"), 1_000, &spans(&[(995, 1_000)]));
            check(&format!("bytes={nines}-, 0-0"), 1_000, &spans(&[(0, 1)]));
            assert_eq!(parse(&format!("bytes={nines}0-{nines}")), None, "{digits} digits");
            assert_eq!(parse(&format!("bytes=1{zeros}-{nines}")), None, "{digits} digits");
        }
    }

    #[test]
    fn a_set_is_satisfiable_if_one_member_is() {
        check("bytes=10-,-0,9-9", 10, &spans(&[(9, 10)]));
        check("bytes=10-,20-30,-0", 10, &Resolved::Unsatisfiable);
        check("bytes=0-0,500-500,1000-1000", 1_000, &spans(&[(0, 1), (500, 501)]));
        check("bytes=1000-,0-0,500-500", 1_000, &spans(&[(0, 1), (500, 501)]));
        check("bytes=-1,1000-,0-0", 1_000, &spans(&[(999, 1_000), (0, 1)]));
    }

    #[test]
    fn a_file_of_one_byte() {
        check("bytes=0-", 1, &spans(&[(0, 1)]));
        check("bytes=0-0", 1, &spans(&[(0, 1)]));
        check("bytes=0-1", 1, &spans(&[(0, 1)]));
        check("bytes=-1", 1, &spans(&[(0, 1)]));
        check("bytes=-2", 1, &spans(&[(0, 1)]));
        check("bytes=0-0,-1", 1, &spans(&[(0, 1)]));
        check("bytes=1-", 1, &Resolved::Unsatisfiable);
        check("bytes=1-1", 1, &Resolved::Unsatisfiable);
    }

    #[test]
    fn spans_that_are_near_are_joined_where_first_asked() {
        check("bytes=100-199,0-19", 1_000, &spans(&[(0, 200)]));
        check("bytes=0-0,81-81", 1_000, &spans(&[(0, 82)]));
        check("bytes=0-0,82-82", 1_000, &spans(&[(0, 1), (82, 83)]));
        check("bytes=900-,0-0,950-960,1-1", 1_000, &spans(&[(900, 1_000), (0, 2)]));
        check("bytes=500-509,0-9,500-509", 1_000, &spans(&[(500, 510), (0, 10)]));
        check("bytes=950-959,0-9,900-949", 1_000, &spans(&[(900, 960), (0, 10)]));
        check("bytes=0-,5-9", 1_000, &spans(&[(0, 1_000)]));
        check("bytes=200-209,400-409,300-309", 1_000, &spans(&[(200, 210), (400, 410), (300, 310)]));
    }

    #[test]
    fn many_ranges_cost_little() {
        let far = |count: u64| (0..count).map(|n| format!("{}-{}", n * 1_000, n * 1_000)).collect::<Vec<_>>();
        let near = |count: usize| format!("bytes={}", vec!["0-"; count].join(","));
        check(&format!("bytes={}", far(33).join(",")), 1_000_000, &Resolved::Whole);
        let Resolved::Spans(kept) =
            parse(&format!("bytes={}", far(32).join(","))).unwrap().resolve(Length::new(1_000_000))
        else {
            panic!("{SPANS_MAX} spans are answered")
        };
        assert_eq!(kept.len(), SPANS_MAX);
        check(&near(MEMBERS_MAX), 10, &spans(&[(0, 10)]));
        assert_eq!(parse(&near(MEMBERS_MAX + 1)), None);
        assert_eq!(parse(&near(1 << 20)), None);
    }

    /// Resolves a set of members made by number, against a file of a million bytes.
    #[track_caller]
    fn flood(count: u64, member: impl Fn(u64) -> String) -> Resolved {
        let line = format!("bytes={}", (0..count).map(member).collect::<Vec<_>>().join(","));
        let set = parse(&line).expect("the set is valid");
        assert!(set.0.capacity() <= 2 * MEMBERS_MAX, "what is kept of a flood is bounded");
        set.resolve(Length::new(1_000_000))
    }

    #[test]
    fn floods_become_one_answer() {
        let all = spans(&[(0, 1_000_000)]);
        // Each range reaches over the ones before it, from either side.
        assert_eq!(flood(1_000, |n| format!("0-{n}")), spans(&[(0, 1_000)]));
        assert_eq!(flood(1_000, |n| format!("{n}-")), all);
        assert_eq!(flood(1_000, |n| format!("-{}", n + 1)), spans(&[(999_000, 1_000_000)]));
        assert_eq!(
            flood(1_000, |n| format!("{}-{}", 500_000 - n, 500_000 + n)),
            spans(&[(499_001, 501_000)])
        );
        // The whole file, a thousand times.
        assert_eq!(flood(1_000, |_| "0-".to_owned()), all);
        assert_eq!(flood(1_000, |_| "0-999999".to_owned()), all);
        // Side by side, in every order.
        assert_eq!(flood(1_000, |n| format!("{}-{}", 1_000 * n, 1_000 * n + 999)), all);
        assert_eq!(flood(1_000, |n| format!("{}-{}", 999_000 - 1_000 * n, 999_999 - 1_000 * n)), all);
        // Far from each other.
        assert_eq!(flood(1_000, |n| format!("{0}-{0}", 1_000 * n)), Resolved::Whole);
        // None of them is there.
        assert_eq!(flood(1_000, |n| format!("{}-", 1_000_000 + n)), Resolved::Unsatisfiable);
    }

    #[test]
    fn rfc9110_5_6_1_blanks_and_empty_members() {
        check("bytes=\t0-0\t", 1_000, &spans(&[(0, 1)]));
        check("bytes=0-0,", 1_000, &spans(&[(0, 1)]));
        check("bytes= , 0-0 , , ", 1_000, &spans(&[(0, 1)]));
        check("bytes=0-0 , 500-500", 1_000, &spans(&[(0, 1), (500, 501)]));
        check("bytes=,0-0,,\t500-500, ", 1_000, &spans(&[(0, 1), (500, 501)]));
        check("BYTES=0-0", 1_000, &spans(&[(0, 1)]));
    }

    #[test]
    fn an_invalid_set_is_ignored() {
        #[track_caller]
        fn check(line: &str) {
            assert_eq!(parse(line), None);
        }
        check("");
        check("bytes");
        check("bytes=");
        check("bytes=,");
        check("bytes= , ,");
        check("bytes=-");
        check("bytes=5");
        check("bytes=5-4");
        check("bytes=05-4");
        check("bytes=+5");
        check("bytes=+5-");
        check("bytes=0-1,+5-");
        check("bytes=0 -");
        check("bytes= - 5");
        check("bytes=-5-");
        check("bytes=1-0,0-0");
        check("bytes=0.5-1");
        check("kilobytes=0-1");
        check("bytes=bytes=0-1");
        check("bytes=+0-1");
        check("bytes=0-+1");
        check("bytes=-+1");
        check("bytes=0--1");
        check("bytes=--1");
        check("bytes=0-1-2");
        check("bytes=0 - 1");
        check("bytes=0- 1");
        check("bytes=0-1 2-3");
        check("bytes=0-1;2-3");
        check("bytes=0-0x10");
        check("bytes=a-b");
        check("bytes=*");
        check("bytes=0-1,x");
        check("bytes=0-1,5-4");
        check("bytes =0-1");
        check(" bytes:0-1");
        check("bytes 0-1");
        check("items=0-1");
        check("none");
        check("bytes=0-1, items=2-3");
    }

    #[test]
    fn two_lines_or_a_line_that_is_no_text_are_ignored() {
        let one = HeaderValue::from_static("bytes=0-1");
        let mut fields = HeaderMap::new();
        assert_eq!(parse_range(&fields), None);
        fields.append(RANGE, one.clone());
        assert!(parse_range(&fields).is_some());
        fields.append(RANGE, one);
        assert_eq!(parse_range(&fields), None);
        fields.insert(RANGE, HeaderValue::from_bytes(b"bytes=0-1\xff").unwrap());
        assert_eq!(parse_range(&fields), None);
    }

    proptest! {
        #[test]
        fn every_byte_asked_is_answered_and_the_body_is_no_longer_than_the_file(
            size in 0_u64..3_000,
            members in prop::collection::vec((0_u64..4_000, 0_u64..200), 1..40),
        ) {
            let text = members.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect::<Vec<_>>();
            let asked = |byte: u64| members.iter().any(|(first, more)| (*first..=first + more).contains(&byte));
            match parse(&format!("bytes={}", text.join(","))).unwrap().resolve(Length::new(size)) {
                Resolved::Unsatisfiable => prop_assert!(!(0..size).any(asked)),
                Resolved::Whole => prop_assert!(members.len() > SPANS_MAX),
                Resolved::Spans(spans) => {
                    let covered = |byte: u64| spans.iter().filter(|span| (span.start().get()..span.end().get()).contains(&byte)).count();
                    for byte in 0..size {
                        prop_assert!(covered(byte) <= 1 && (!asked(byte) || covered(byte) == 1));
                    }
                    prop_assert!(spans.iter().all(|span| !span.is_empty() && span.end().get() <= size));
                }
            }
        }

        #[test]
        fn no_text_breaks_the_parser(line in "(bytes=)?[-0-9, +\ta]{0,60}", size in 0_u64..100) {
            if let Some(set) = parse(&line) {
                prop_assert!(line.starts_with("bytes="));
                set.resolve(Length::new(size));
            }
        }
    }
}
