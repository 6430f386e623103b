//! The BLAKE3 hash tree of a file, at the grain of parts. Owns where parts begin and end, the value of each,
//! the open state of a part that is still being filled, and how values merge to the file's hash. Never reads
//! or keeps file bytes, and never says whether a part is stored.
//!
//! ```text
//!   file    [0 ───────────────────────────────────────────── size)
//!   parts   │     0     │     1     │     2     │     3     │ 4 │     PART each, the last may be shorter
//!   values       v0          v1          v2          v3       v4      PartValue, bound to its offset
//!                 └────┬─────┘            └────┬─────┘        │
//!                    v0‥1                    v2‥3             │
//!                      └──────────┬────────────┘              │
//!                               v0‥3                          │
//!                                 └────────────┬──────────────┘
//!                                           FileHash                  what b3sum prints
//! ```
//!
//! The shape is BLAKE3's own (paper §2.1): the left subtree of every node is the largest power of two that leaves
//! something on the right. Because parts are a power of two long and aligned, each is exactly one subtree, so
//! parts can be hashed anywhere, in any order, and still give the hash of the whole. A part is made of *groups*
//! of [`SEGMENT`] in the same way; a part that is being filled keeps this much of itself:
//!
//! ```text
//!   part    │ g0  g1  g2  g3 │ g4  g5 │ g6…            7 groups begun, 6 of them closed: 6 = 110₂
//!             └──────┬─────┘   └──┬─┘   │
//!   stack           [a,           b]    │              one value for every 1 in 110₂, the largest first
//!   tail                              bytes            1 byte to one whole SEGMENT, still open
//! ```
//!
//! Two facts shape the API. The value of a subtree is not the hash of a file that consists of just its bytes:
//! BLAKE3 marks the root. So a [`PartValue`] never is a [`FileHash`], and a file of one part has both. And what
//! is merged cannot become the root any more. So the last group of a part, and the last part of a [`Frontier`],
//! stay unmerged until something follows: the hash of the prefix can be told at any moment.
//!
//! [`SEGMENT`]: crate::tree::SEGMENT
//! [`PartValue`]: crate::tree::PartValue
//! [`FileHash`]: crate::digest::FileHash
//! [`Frontier`]: crate::tree::Frontier

mod peaks;

mod part_hasher;

mod frontier;

mod proven;

#[cfg(test)]
mod oracle;

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sfv::{BareItem, Item, ItemSerializer, Parser};

pub use self::frontier::{Frontier, merge_parts};
pub use self::part_hasher::{BadState, BadTail, OpenState, PartHasher, PastBorder};
pub use self::proven::{ProvenParts, Unproven};
use crate::digest::{HexError, parse_hex32};
use crate::span::{Length, Offset, Span};

/// The plaintext of one sealed segment, and one group of the hash tree: 64 KiB.
pub const SEGMENT: Length = Length::new(64 * 1024);

/// The unit of storage and the default unit of transfer: 16 MiB. A constant of format 1.
pub const PART: Length = Length::new(16 * 1024 * 1024);

/// The field that carries a [`PartValue`] as a byte sequence.
pub const PART_VALUE: &str = "hapax-part-value";

/// Returns how many parts a file of this size has; an empty file has none.
pub const fn part_count(size: Length) -> u64 {
    size.get().div_ceil(PART.get())
}

/// Returns the parts of a file of this size in order, each with its span.
pub fn parts(size: Length) -> impl Iterator<Item = (PartNumber, Span)> {
    (0..=u32::MAX).map(PartNumber).map_while(move |part| Some((part, part.span(size)?)))
}

/// Which part of a file, counted from 0. Every file that hapax speaks of has fewer than 2³² parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartNumber(u32);

impl PartNumber {
    /// The part that every file with a byte has.
    pub const FIRST: Self = Self(0);

    /// Wraps a number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the part that follows, or `None` behind the last number there is.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the part that the byte at `offset` belongs to, or `None` far behind the largest file.
    pub fn holding(offset: Offset) -> Option<Self> {
        u32::try_from(offset.get() / PART.get()).ok().map(Self)
    }

    /// Returns the offset of the part's first byte.
    pub fn start(self) -> Offset {
        // Cannot overflow: 32 bits times 2²⁴.
        Offset::new(u64::from(self.0) * PART.get())
    }

    /// Returns the part's bytes in a file of this size, or `None` if the file ends before it.
    pub fn span(self, size: Length) -> Option<Span> {
        Span::at(self.start(), PART)?.intersection(Span::whole(size))
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The BLAKE3 chaining value of one part as a subtree that is not the root.
///
/// It is bound to the part's offset: the same bytes elsewhere have another value. It is no digest that any other
/// tool prints, and no [`FileHash`](crate::digest::FileHash), not even that of a file of one part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartValue([u8; 32]);

/// Why a `Hapax-Part-Value` field is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartValueError {
    /// The field is not an item (RFC 9651 §3.3).
    #[error("the field is not a structured-field item")]
    Syntax(#[source] sfv::Error),
    /// The item is not a byte sequence of 32 bytes.
    #[error("the field is not a byte sequence of 32 bytes")]
    NotAValue,
}

impl PartValue {
    /// Wraps the 32 bytes.
    pub const fn new(value: [u8; 32]) -> Self {
        Self(value)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses the content of a `Hapax-Part-Value` field, `:base64:`. Parameters are ignored.
    pub fn parse_field(field: impl AsRef<[u8]>) -> Result<Self, PartValueError> {
        let item: Item = Parser::new(&field).parse().map_err(PartValueError::Syntax)?;
        match item.bare_item {
            BareItem::ByteSequence(bytes) => {
                bytes.try_into().map(Self).map_err(|_| PartValueError::NotAValue)
            }
            _ => Err(PartValueError::NotAValue),
        }
    }

    /// Returns the content of a `Hapax-Part-Value` field.
    pub fn format_field(&self) -> HeaderValue {
        let field = ItemSerializer::new().bare_item(self.0.as_slice()).finish();
        HeaderValue::try_from(field).expect("structured fields are visible ASCII (RFC 9651 §4.1)")
    }
}

impl FromStr for PartValue {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_hex32(text).map(Self)
    }
}

impl fmt::Display for PartValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PartValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartValue({self})")
    }
}

impl Serialize for PartValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::SIZE_MAX;

    #[test]
    fn a_part_spans_its_bytes_up_to_the_end_of_the_file() {
        #[track_caller]
        fn check(part: u32, size: u64, expected: Option<(u64, u64)>) {
            let span = PartNumber::new(part).span(Length::new(size));
            assert_eq!(span.map(|span| (span.start().get(), span.end().get())), expected);
        }
        let p = PART.get();
        check(0, 0, None);
        check(0, 1, Some((0, 1)));
        check(0, p - 1, Some((0, p - 1)));
        check(0, p, Some((0, p)));
        check(0, p + 1, Some((0, p)));
        check(1, p, None);
        check(1, p + 1, Some((p, p + 1)));
        check(1, 3 * p, Some((p, 2 * p)));
        check(2, 3 * p, Some((2 * p, 3 * p)));
        check(u32::MAX, SIZE_MAX, None);
        check(u32::MAX, u64::MAX, Some((u64::from(u32::MAX) * p, (u64::from(u32::MAX) + 1) * p)));
    }

    #[test]
    fn parts_are_counted() {
        #[track_caller]
        fn check(size: u64, count: u64) {
            assert_eq!(part_count(Length::new(size)), count);
        }
        check(0, 0);
        check(1, 1);
        check(PART.get(), 1);
        check(PART.get() + 1, 2);
        check(10 << 40, 655_360);
        assert!(part_count(Length::new(SIZE_MAX)) < u64::from(u32::MAX));
    }

    #[test]
    fn a_byte_belongs_to_one_part() {
        #[track_caller]
        fn check(offset: u64, part: Option<u32>) {
            assert_eq!(PartNumber::holding(Offset::new(offset)).map(PartNumber::get), part);
        }
        check(0, Some(0));
        check(PART.get() - 1, Some(0));
        check(PART.get(), Some(1));
        check(PartNumber::new(u32::MAX).start().get(), Some(u32::MAX));
        check(u64::MAX, None);
        assert_eq!(PartNumber::FIRST.next(), Some(PartNumber::new(1)));
        assert_eq!(PartNumber::new(u32::MAX).next(), None);
    }

    #[test]
    fn a_part_value_field_is_one_byte_sequence_of_32_bytes() {
        #[track_caller]
        fn check(field: &str, expected: Option<PartValue>) {
            assert_eq!(PartValue::parse_field(field).ok(), expected);
        }
        let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        check(&format!(":{zeros}:"), Some(PartValue::new([0; 32])));
        check(&format!(":{zeros}:;a=1"), Some(PartValue::new([0; 32])));
        check(zeros, None);
        check(&format!(":{zeros}:, :{zeros}:"), None);
        check(&format!(":AAAA{zeros}:"), None);
        check("::", None);
        check("1", None);
        check("", None);
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_without_gaps(size in 0..100 * PART.get()) {
            let size = Length::new(size);
            let mut covered = Offset::ZERO;
            for (part, span) in parts(size) {
                prop_assert_eq!(span.start(), covered);
                prop_assert_eq!(PartNumber::holding(span.start()), Some(part));
                prop_assert!(!span.is_empty() && span.length() <= PART);
                covered = span.end();
            }
            prop_assert_eq!(covered, size.end());
            prop_assert_eq!(parts(size).count() as u64, part_count(size));
        }

        #[test]
        fn a_part_value_survives_text_json_and_its_field(value: [u8; 32]) {
            let value = PartValue::new(value);
            prop_assert_eq!(value.to_string().parse::<PartValue>().unwrap(), value);
            prop_assert_eq!(PartValue::parse_field(value.format_field()).unwrap(), value);
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<PartValue>(&json).unwrap(), value);
        }
    }
}
