//! Byte numbers. Owns every addition and subtraction of offsets and lengths, all of them checked; nothing else
//! in the workspace adds byte numbers.
//!
//! ```text
//!   0        start            end
//!   |----------[===============)------   a Span is half-open; end - start is its Length
//! ```

use std::fmt;

/// The largest size and offset hapax speaks of: what a structured-field integer holds (RFC 9651 §3.3.1).
pub const SIZE_MAX: u64 = 999_999_999_999_999;

/// The first byte that is not there yet, or the place of a byte, counted from the start of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(u64);

/// A count of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Length(u64);

/// The bytes from `start` up to, but without, `end`.
///
/// INVARIANT: `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    start: Offset,
    end: Offset,
}

impl Offset {
    /// The start of every file.
    pub const ZERO: Self = Self(0);

    /// Wraps a byte number.
    pub const fn new(offset: u64) -> Self {
        Self(offset)
    }

    /// Returns the byte number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the offset `length` bytes further, or `None` past what a `u64` holds.
    pub const fn checked_add(self, length: Length) -> Option<Self> {
        match self.0.checked_add(length.0) {
            Some(offset) => Some(Self(offset)),
            None => None,
        }
    }

    /// Returns the distance from `earlier` to here, or `None` if `earlier` lies behind.
    pub const fn since(self, earlier: Self) -> Option<Length> {
        match self.0.checked_sub(earlier.0) {
            Some(length) => Some(Length(length)),
            None => None,
        }
    }
}

impl Length {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// Wraps a count of bytes.
    pub const fn new(length: u64) -> Self {
        Self(length)
    }

    /// Returns the count of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the length of a slice in memory.
    pub const fn of(bytes: &[u8]) -> Self {
        Self(bytes.len() as u64)
    }

    /// Tells whether there are no bytes.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the sum, or `None` past what a `u64` holds.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(length) => Some(Self(length)),
            None => None,
        }
    }

    /// Returns the difference, or `None` if `other` is longer.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(length) => Some(Self(length)),
            None => None,
        }
    }

    /// Returns the offset behind the last byte of something this long.
    pub const fn end(self) -> Offset {
        Offset(self.0)
    }
}

impl Span {
    /// Returns the span from `start` up to `end`, or `None` if they are the wrong way round.
    pub const fn new(start: Offset, end: Offset) -> Option<Self> {
        if start.0 <= end.0 { Some(Self { start, end }) } else { None }
    }

    /// Returns the span of `length` bytes from `start` on, or `None` past what a `u64` holds.
    pub const fn at(start: Offset, length: Length) -> Option<Self> {
        match start.checked_add(length) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// Returns the span of a whole file of `length` bytes.
    pub const fn whole(length: Length) -> Self {
        Self { start: Offset::ZERO, end: length.end() }
    }

    /// Returns the first byte's offset.
    pub const fn start(self) -> Offset {
        self.start
    }

    /// Returns the offset behind the last byte.
    pub const fn end(self) -> Offset {
        self.end
    }

    /// Returns how many bytes lie in the span.
    pub const fn length(self) -> Length {
        Length(self.end.0 - self.start.0)
    }

    /// Tells whether no byte lies in the span.
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Returns the bytes that lie in both spans, or `None` if there are none.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }

    /// Tells whether every byte of `other` lies in this span.
    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, end: u64) -> Span {
        Span::new(Offset::new(start), Offset::new(end)).unwrap()
    }

    #[test]
    fn arithmetic_is_checked() {
        assert_eq!(Offset::new(u64::MAX).checked_add(Length::new(1)), None);
        assert_eq!(Offset::new(3).since(Offset::new(4)), None);
        assert_eq!(Length::new(3).checked_sub(Length::new(4)), None);
        assert_eq!(Length::new(u64::MAX).checked_add(Length::new(1)), None);
        assert_eq!(Span::new(Offset::new(2), Offset::new(1)), None);
        assert_eq!(Span::at(Offset::new(u64::MAX), Length::new(1)), None);
    }

    #[test]
    fn spans_intersect_in_their_common_bytes() {
        #[track_caller]
        fn check(a: Span, b: Span, common: Option<Span>) {
            assert_eq!(a.intersection(b), common);
            assert_eq!(b.intersection(a), common);
        }
        check(span(0, 10), span(5, 15), Some(span(5, 10)));
        check(span(0, 10), span(10, 15), None);
        check(span(0, 10), span(2, 3), Some(span(2, 3)));
        check(span(4, 4), span(0, 10), None);
    }

    #[test]
    fn a_span_contains_itself_and_what_lies_inside() {
        assert!(span(3, 9).contains(span(3, 9)));
        assert!(span(3, 9).contains(span(4, 4)));
        assert!(!span(3, 9).contains(span(2, 9)));
        assert!(!span(3, 9).contains(span(3, 10)));
    }
}
