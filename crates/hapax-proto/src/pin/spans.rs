//! Sets of spans: which bytes of a file are there. Owns their union and what is missing from a whole; knows nothing
//! of where bytes come from.

use crate::span::{Length, Offset, Span};

/// A set of bytes of one file.
///
/// INVARIANT: the spans are not empty, in order, and neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// Adds the bytes of a span; those that are in the set already stay.
    pub fn insert(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let (mut start, mut end) = (span.start(), span.end());
        let first = self.0.partition_point(|earlier| earlier.end() < start);
        let behind = self.0.partition_point(|earlier| earlier.start() <= end);
        for touched in self.0.get(first..behind).unwrap_or_default() {
            start = start.min(touched.start());
            end = end.max(touched.end());
        }
        let joined = Span::new(start, end).expect("a union begins where one of its spans begins");
        self.0.splice(first..behind.max(first), [joined]);
    }

    /// Iterates over the spans of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    /// Returns how many bytes are in the set.
    pub fn length(&self) -> Length {
        self.0.iter().fold(Length::ZERO, |sum, span| {
            sum.checked_add(span.length()).expect("spans that do not overlap are no longer than a file")
        })
    }

    /// Returns the bytes of a file of this size that are not in the set, in order.
    pub fn missing(&self, size: Length) -> impl Iterator<Item = Span> + '_ {
        let starts = std::iter::once(Offset::ZERO).chain(self.0.iter().map(|span| span.end()));
        let ends = self.0.iter().map(|span| span.start()).chain([size.end()]);
        starts
            .zip(ends)
            .filter_map(move |(start, end)| Span::new(start, end.min(size.end())))
            .filter(|gap| !gap.is_empty())
    }

    /// Tells whether every byte of a file of this size is in the set, and none behind its end.
    pub fn is_whole(&self, size: Length) -> bool {
        match self.0.as_slice() {
            [] => size.is_zero(),
            [only] => *only == Span::whole(size),
            _ => false,
        }
    }
}

impl FromIterator<Span> for Spans {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        spans.into_iter().fold(Self::default(), |mut set, span| {
            set.insert(span);
            set
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(start: u64, end: u64) -> Span {
        Span::new(Offset::new(start), Offset::new(end)).unwrap()
    }

    #[test]
    fn spans_that_touch_are_joined() {
        #[track_caller]
        fn check(inserted: &[(u64, u64)], expected: &[(u64, u64)]) {
            let set: Spans = inserted.iter().map(|(start, end)| span(*start, *end)).collect();
            let found: Vec<_> = set.iter().map(|span| (span.start().get(), span.end().get())).collect();
            assert_eq!(found, expected);
        }
        check(&[], &[]);
        check(&[(3, 3)], &[]);
        check(&[(0, 2), (4, 6)], &[(0, 2), (4, 6)]);
        check(&[(4, 6), (0, 2)], &[(0, 2), (4, 6)]);
        check(&[(0, 2), (2, 4)], &[(0, 4)]);
        check(&[(0, 2), (4, 6), (2, 4)], &[(0, 6)]);
        check(&[(0, 9), (3, 4)], &[(0, 9)]);
        check(&[(3, 4), (0, 9)], &[(0, 9)]);
    }

    proptest! {
        #[test]
        fn a_set_knows_each_byte(spans in prop::collection::vec((0_u64..60, 0_u64..20), 0..20), size in 0_u64..70) {
            let mut bytes = [false; 100];
            let mut set = Spans::default();
            for (start, length) in spans {
                set.insert(span(start, start + length));
                for at in start..start + length {
                    bytes[usize::try_from(at).unwrap()] = true;
                }
            }
            let holds = |spans: &[Span], at: u64| spans.iter().any(|found| found.contains(span(at, at + 1)));
            let (here, missing): (Vec<_>, Vec<_>) = (set.iter().collect(), set.missing(Length::new(size)).collect());
            for at in 0..99 {
                let expected = bytes[usize::try_from(at).unwrap()];
                prop_assert_eq!(holds(&here, at), expected, "{}", at);
                prop_assert_eq!(holds(&missing, at), !expected && at < size, "{}", at);
            }
            prop_assert_eq!(set.length().get(), bytes.iter().filter(|byte| **byte).count() as u64);
        }
    }
}
