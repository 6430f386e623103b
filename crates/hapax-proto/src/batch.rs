//! The framing of many small files in one body, a request or an answer: records of a header and its content, read and
//! written piece by piece. Owns where a record begins and ends and what its limits are; it knows no path and stores
//! nothing.
//!
//! ```text
//!   ┌──── u32 BE ────┬────── JSON ──────┬── size bytes ──┬─ ... ─┬──── 0 ────┐
//!   │ length of JSON │ {id, path, size…}│    content     │       │  the end  │
//!   └────────────────┴──────────────────┴────────────────┴───────┴───────────┘
//! ```
//!
//! Nothing tells a reader where to go on behind a mistake, so a stream with one ends there. What was whole before it is.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dialect::native::{BatchRecord, FetchOutcome, FetchRecord};
use crate::span::Length;

/// The media type of a batch.
pub const MEDIA_TYPE: &str = "application/vnd.hapax.batch";

/// The media type of its answer: one JSON object a line.
pub const ANSWER_TYPE: &str = "application/x-ndjson";

/// The longest header of a record, in bytes.
pub const HEADER_MAX: usize = 16 << 10;

/// What stands behind the last record.
pub const END: [u8; 4] = [0; 4];

/// How much a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records of one batch.
    pub records: usize,
    /// The content of one record.
    pub record: Length,
    /// The whole batch with its headers. The decoder leaves it to whoever counts the bytes of the body.
    pub body: Length,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: 10_000, record: Length::new(16 << 20), body: Length::new(64 << 20) }
    }
}

/// What a batch turned out to be instead of one.
#[derive(Debug, thiserror::Error)]
pub enum BadBatch {
    /// A header is longer than [`HEADER_MAX`].
    #[error("a header of {length} bytes")]
    HeaderTooLong {
        /// What its length was said to be.
        length: u32,
    },
    /// A header is not the JSON it should be.
    #[error("a header that cannot be read: {0}")]
    Header(#[source] serde_json::Error),
    /// More records than may be.
    #[error("more than {max} records")]
    TooMany {
        /// How many may be.
        max: usize,
    },
    /// A record is longer than may be.
    #[error("record {id} has more than {max} bytes")]
    TooLarge {
        /// The record.
        id: u64,
        /// How many it may have.
        max: Length,
    },
    /// Bytes follow the end.
    #[error("bytes follow the end")]
    Trailing,
    /// The end did not come.
    #[error("the end is missing")]
    Truncated,
}

/// What stands before the content of a record.
pub trait Header: Serialize + DeserializeOwned {
    /// Returns the number that the client gave the record.
    fn id(&self) -> u64;

    /// Returns how many bytes of content follow.
    fn size(&self) -> u64;
}

impl Header for BatchRecord {
    fn id(&self) -> u64 {
        self.id
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl Header for FetchRecord {
    fn id(&self) -> u64 {
        self.id
    }

    fn size(&self) -> u64 {
        match &self.outcome {
            FetchOutcome::File(file) => file.size,
            FetchOutcome::Refused { .. } => 0,
        }
    }
}

/// What comes next in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a, H = BatchRecord> {
    /// A record begins.
    Begin(Box<H>),
    /// Some of its content, never empty.
    Content(&'a [u8]),
    /// It is whole.
    Whole,
}

/// Reads a batch from bytes that come cut anywhere, with headers of one kind.
///
/// INVARIANT: which records come out does not depend on the cuts. Its memory is one header.
#[derive(Debug)]
pub struct Decoder<H = BatchRecord> {
    limits: Limits,
    records: usize,
    at: At,
    headers: PhantomData<fn() -> H>,
}

/// Where in the stream the decoder is.
#[derive(Debug)]
enum At {
    /// Within the length of a header.
    Length { have: Vec<u8> },
    /// Within a header.
    Header { length: usize, have: Vec<u8> },
    /// Within the content of a record, or right behind it.
    Content { left: u64 },
    /// Behind the end.
    End,
    /// Behind a mistake.
    Lost,
}

impl At {
    const BEGIN: Self = Self::Length { have: Vec::new() };
}

impl<H: Header> Decoder<H> {
    /// Begins a batch.
    pub fn new(limits: Limits) -> Self {
        Self { limits, records: 0, at: At::BEGIN, headers: PhantomData }
    }

    /// Takes the next piece off the front of `input`; `None` if that needs more bytes, or there is no more.
    ///
    /// # Errors
    /// What is wrong with the framing. Nothing can be read behind it.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a, H>>, BadBatch> {
        match std::mem::replace(&mut self.at, At::Lost) {
            At::Length { have } => self.length(have, input),
            At::Header { length, have } => self.header(length, have, input),
            At::Content { left } => Ok(self.content(left, input)),
            At::End if input.is_empty() => {
                self.at = At::End;
                Ok(None)
            }
            At::End | At::Lost => Err(BadBatch::Trailing),
        }
    }

    /// Tells whether the stream ended where a batch does.
    ///
    /// # Errors
    /// [`BadBatch::Truncated`] if it did not.
    pub fn finish(&self) -> Result<(), BadBatch> {
        if matches!(self.at, At::End) { Ok(()) } else { Err(BadBatch::Truncated) }
    }

    fn length<'a>(
        &mut self,
        mut have: Vec<u8>,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a, H>>, BadBatch> {
        gather(&mut have, 4, input);
        let Ok(bytes) = <[u8; 4]>::try_from(have.as_slice()) else {
            self.at = At::Length { have };
            return Ok(None);
        };
        if bytes == END {
            self.at = At::End;
            return self.next(input);
        }
        let said = u32::from_be_bytes(bytes);
        let length = usize::try_from(said).ok().filter(|length| *length <= HEADER_MAX);
        let length = length.ok_or(BadBatch::HeaderTooLong { length: said })?;
        if self.records == self.limits.records {
            return Err(BadBatch::TooMany { max: self.limits.records });
        }
        self.header(length, Vec::new(), input)
    }

    fn header<'a>(
        &mut self,
        length: usize,
        mut have: Vec<u8>,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a, H>>, BadBatch> {
        gather(&mut have, length, input);
        if have.len() < length {
            self.at = At::Header { length, have };
            return Ok(None);
        }
        let record: H = serde_json::from_slice(&have).map_err(BadBatch::Header)?;
        if record.size() > self.limits.record.get() {
            return Err(BadBatch::TooLarge { id: record.id(), max: self.limits.record });
        }
        self.records += 1;
        self.at = At::Content { left: record.size() };
        Ok(Some(Piece::Begin(Box::new(record))))
    }

    fn content<'a>(&mut self, left: u64, input: &mut &'a [u8]) -> Option<Piece<'a, H>> {
        if left == 0 {
            self.at = At::BEGIN;
            return Some(Piece::Whole);
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        self.at = At::Content { left: left - count as u64 };
        (count > 0).then(|| Piece::Content(take(count, input)))
    }
}

/// Moves bytes off the front of `input` until `have` is `length` long.
fn gather(have: &mut Vec<u8>, length: usize, input: &mut &[u8]) {
    let count = (length - have.len()).min(input.len());
    have.extend_from_slice(take(count, input));
}

fn take<'a>(count: usize, input: &mut &'a [u8]) -> &'a [u8] {
    let (taken, rest) = input.split_at(count);
    *input = rest;
    taken
}

/// Writes what stands before the content of a record.
///
/// # Errors
/// [`BadBatch::HeaderTooLong`] if the header is, which takes a path of thousands of bytes that JSON has to escape.
pub fn encode_header<H: Header>(record: &H) -> Result<Vec<u8>, BadBatch> {
    let json = serde_json::to_vec(record).expect("numbers and strings always serialise");
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    if json.len() > HEADER_MAX {
        return Err(BadBatch::HeaderTooLong { length });
    }
    Ok([&length.to_be_bytes()[..], &json].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::native::{FetchedFile, Precondition};
    use crate::digest::FileHash;

    const SMALL: Limits = Limits { records: 3, record: Length::new(100), body: Length::new(1 << 20) };

    fn record(id: u64, size: usize) -> BatchRecord {
        BatchRecord {
            id,
            path: format!("/folder/file {id}"),
            size: size as u64,
            blake3: None,
            mtime: None,
            executable: false,
            precondition: None,
        }
    }

    fn encode<H: Header>(records: &[(H, Vec<u8>)]) -> Vec<u8> {
        let mut batch = Vec::new();
        for (record, content) in records {
            batch.extend(encode_header(record).unwrap());
            batch.extend(content);
        }
        batch.extend(END);
        batch
    }

    /// Reads a batch that comes in pieces; returns what was whole, and the mistake in words.
    fn decode<H: Header>(limits: Limits, pieces: &[&[u8]]) -> (Vec<(H, Vec<u8>)>, Option<String>) {
        let mut decoder = Decoder::new(limits);
        let (mut whole, mut open) = (Vec::new(), None);
        for mut input in pieces.iter().copied() {
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Piece::Begin(record))) => open = Some((*record, Vec::new())),
                    Ok(Some(Piece::Content(bytes))) => {
                        assert!(!bytes.is_empty());
                        open.as_mut().unwrap().1.extend_from_slice(bytes);
                    }
                    Ok(Some(Piece::Whole)) => whole.push(open.take().unwrap()),
                    Ok(None) => break,
                    Err(bad) => return (whole, Some(bad.to_string())),
                }
            }
            assert!(input.is_empty(), "all of it was taken");
        }
        (whole, decoder.finish().err().map(|bad| bad.to_string()))
    }

    #[test]
    fn a_batch_that_breaks_a_rule_ends_there() {
        #[track_caller]
        fn check(bytes: &[u8], whole: usize, mistake: Option<&str>) {
            let (records, found) = decode::<BatchRecord>(SMALL, &[bytes]);
            assert_eq!(records.len(), whole);
            match (mistake, &found) {
                (None, None) => {}
                (Some(mistake), Some(found)) => assert!(found.contains(mistake), "{found}"),
                _ => panic!("{found:?} instead of {mistake:?}"),
            }
        }
        let two = encode(&[(record(1, 3), b"abc".to_vec()), (record(2, 0), Vec::new())]);
        let open = &two[..two.len() - END.len()];
        let framed =
            |json: &str| [open, &u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat();
        check(&two, 2, None);
        check(&END, 0, None);
        check(&[], 0, Some("the end is missing"));
        check(open, 2, Some("the end is missing"));
        check(&two[..two.len() - 1], 2, Some("the end is missing"));
        check(&open[..open.len() - 1], 1, Some("the end is missing"));
        check(&[&two[..], b"x"].concat(), 2, Some("bytes follow the end"));
        check(&[&two[..], &END].concat(), 2, Some("bytes follow the end"));
        check(&[open, &[0, 0, 0x40, 1]].concat(), 2, Some("a header of 16385 bytes"));
        check(&[open, b"GET /"].concat(), 2, Some("a header of 1195725856 bytes"));
        check(&framed("{}"), 2, Some("missing field"));
        check(&framed("[]"), 2, Some("cannot be read"));
        check(&framed("\u{0}"), 2, Some("cannot be read"));
        check(&framed(r#"{"id":1,"path":"/a","size":-1}"#), 2, Some("cannot be read"));
        check(&framed(r#"{"id":1,"path":"/a","size":0,"sise":1}"#), 2, Some("unknown field `sise`"));
        check(&framed(r#"{"id":1,"path":"/a","size":0,"blake3":"ab"}"#), 2, Some("cannot be read"));
        check(&framed(r#"{"id":7,"path":"/a","size":101}"#), 2, Some("record 7 has more than 100 bytes"));
        let three = [open, &encode(&[(record(3, 100), vec![7; 100])])].concat();
        check(&three, 3, None);
        let four = [open, &encode(&[(record(3, 0), Vec::new()), (record(4, 0), Vec::new())])].concat();
        check(&four, 3, Some("more than 3 records"));
    }

    #[test]
    fn nothing_is_read_behind_a_mistake() {
        let mut decoder = Decoder::<BatchRecord>::new(SMALL);
        assert!(decoder.next(&mut &[0xff; 4][..]).is_err());
        assert!(decoder.next(&mut &END[..]).is_err());
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn a_header_that_would_not_be_read_is_not_written() {
        let long = BatchRecord { path: "\u{1}".repeat(4_096), ..record(1, 0) };
        assert!(matches!(encode_header(&long), Err(BadBatch::HeaderTooLong { .. })));
        let fits = BatchRecord { path: "ä".repeat(2_048), ..record(1, 0) };
        assert!(encode_header(&fits).is_ok());
    }

    prop_compose! {
        fn any_record()(
            id in any::<u64>(),
            path in "/[^/]{1,40}",
            content in proptest::collection::vec(any::<u8>(), 0..200),
            (blake3, executable) in (any::<Option<[u8; 32]>>(), any::<bool>()),
            precondition in proptest::option::of(prop_oneof![
                Just(Precondition::Absent),
                "[a-z]{1,9}".prop_map(|tag| Precondition::Matches(format!("\"{tag}\""))),
            ]),
        ) -> (BatchRecord, Vec<u8>) {
            let blake3 = blake3.map(FileHash::new);
            (BatchRecord { path, blake3, executable, precondition, ..record(id, content.len()) }, content)
        }
    }

    prop_compose! {
        fn any_fetched()(
            id in any::<u64>(),
            path in "/@ann/[^/]{1,40}",
            content in proptest::collection::vec(any::<u8>(), 0..200),
            (blake3, executable) in (any::<[u8; 32]>(), any::<bool>()),
            mtime in proptest::option::of("[0-9]{4}"),
            problem in proptest::option::of("[a-z]{1,9}"),
        ) -> (FetchRecord, Vec<u8>) {
            if let Some(problem) = problem {
                return (FetchRecord { id, status: 404, outcome: FetchOutcome::Refused { problem } }, Vec::new());
            }
            let (etag, size, blake3) = ("\"tag\"".to_owned(), content.len() as u64, FileHash::new(blake3));
            let file = FetchedFile { path, etag, size, blake3, mtime, executable };
            (FetchRecord { id, status: 200, outcome: FetchOutcome::File(file) }, content)
        }
    }

    fn cut<'a>(bytes: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.push(&bytes[from..]);
        pieces
    }

    proptest! {
        #[test]
        fn any_cuts_give_the_same_records(
            records in proptest::collection::vec(any_record(), 0..6),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
        ) {
            let bytes = encode(&records);
            prop_assert_eq!(decode(Limits::default(), &cut(&bytes, &cuts)), (records, None));
        }

        #[test]
        fn an_answer_is_read_as_it_was_written(
            records in proptest::collection::vec(any_fetched(), 0..6),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
        ) {
            let bytes = encode(&records);
            prop_assert_eq!(decode(Limits::default(), &cut(&bytes, &cuts)), (records, None));
        }

        #[test]
        fn a_stream_that_ends_early_keeps_what_was_whole(
            records in proptest::collection::vec(any_record(), 1..5),
            end in any::<proptest::sample::Index>(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..9),
        ) {
            let bytes = encode(&records);
            let bytes = &bytes[..end.index(bytes.len())];
            let (whole, mistake) = decode(Limits::default(), &cut(bytes, &cuts));
            prop_assert_eq!(&records[..whole.len()], &whole[..]);
            let used: usize = whole.iter().map(|(record, content)| encode_header(record).unwrap().len() + content.len()).sum();
            prop_assert!(used <= bytes.len());
            prop_assert_eq!(mistake.as_deref(), Some("the end is missing"));
        }

        #[test]
        fn garbage_gives_the_same_however_it_is_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            valid in proptest::collection::vec(any_record(), 0..3),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        ) {
            let mut stream = encode(&valid);
            stream.truncate(stream.len() - END.len());
            stream.extend(bytes);
            let pieces = cut(&stream, &cuts);
            prop_assert_eq!(decode::<BatchRecord>(SMALL, &pieces), decode(SMALL, &[&stream]));
            prop_assert_eq!(decode::<FetchRecord>(SMALL, &pieces), decode(SMALL, &[&stream]));
        }
    }
}
