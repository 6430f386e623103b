//! The quick digest: what can be told of a large file after reading three MiB of it. It proves nothing and links nothing;
//! it only tells whether hashing the whole file first is worth it.

use crate::digest::FileHash;
use crate::span::{Length, Offset, Span};

/// How much is read at each of the three places.
const SAMPLE: Length = Length::new(1 << 20);

/// Returns what the quick digest of a file of this size reads, in order: the first, the middle and the last MiB, or all of
/// a file of up to three. The middle begins at half of what is left beside one MiB, rounded down.
pub fn quick_spans(size: Length) -> Vec<Span> {
    if size.get() <= 3 * SAMPLE.get() {
        return vec![Span::whole(size)];
    }
    let last = size.get() - SAMPLE.get();
    let at = |start| Span::at(Offset::new(start), SAMPLE).expect("three MiB lie within more than three");
    vec![at(0), at(last / 2), at(last)]
}

/// Computes the quick digest from what [`quick_spans`] names, fed in that order and in pieces of any length:
/// `BLAKE3(le64(size) ‖ bytes)`.
#[derive(Debug, Clone)]
pub struct QuickHasher(blake3::Hasher);

impl QuickHasher {
    /// Begins with the size.
    pub fn new(size: Length) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&size.get().to_le_bytes());
        Self(hasher)
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of everything taken.
    pub fn finish(&self) -> FileHash {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_beginning_the_middle_and_the_end_are_read() {
        #[track_caller]
        fn check(size: u64, expected: &[(u64, u64)]) {
            let spans = quick_spans(Length::new(size));
            let spans: Vec<_> = spans.iter().map(|span| (span.start().get(), span.length().get())).collect();
            assert_eq!(spans, expected);
        }
        const MIB: u64 = 1 << 20;
        check(0, &[(0, 0)]);
        check(5, &[(0, 5)]);
        check(3 * MIB, &[(0, 3 * MIB)]);
        check(3 * MIB + 1, &[(0, MIB), (MIB, MIB), (2 * MIB + 1, MIB)]);
        check(10 * MIB, &[(0, MIB), (4 * MIB + MIB / 2, MIB), (9 * MIB, MIB)]);
    }

    proptest! {
        #[test]
        fn the_places_follow_each_other_within_the_file(size in 0..1_u64 << 50) {
            let spans = quick_spans(Length::new(size));
            prop_assert!(spans.windows(2).all(|pair| pair[0].end() <= pair[1].start()));
            prop_assert_eq!(spans[0].start(), Offset::ZERO);
            prop_assert_eq!(spans.last().unwrap().end().get(), size);
        }
    }

    #[test]
    fn the_size_belongs_to_it_and_the_cut_does_not() {
        let digest = |size, pieces: &[&[u8]]| {
            let mut hasher = QuickHasher::new(Length::new(size));
            for piece in pieces {
                hasher.update(piece);
            }
            hasher.finish()
        };
        assert_eq!(digest(3, &[b"abc"]), digest(3, &[b"a", b"bc"]));
        assert_ne!(digest(3, &[b"abc"]), digest(4, &[b"abc"]));
        let whole = [&3_u64.to_le_bytes()[..], b"abc"].concat();
        assert_eq!(digest(3, &[b"abc"]), FileHash::of(&whole));
    }
}
