//! Seeded choices: the same seed and label give the same sequence for ever. Owns the generator (SplitMix64); it
//! reads no clock and no randomness of the machine.

use std::ops::RangeInclusive;

/// A sequence of choices.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// Starts the sequence of a seed and a label, so that one kind of run does not disturb another's choices.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        let hash = blake3::Hasher::new().update(&seed.to_le_bytes()).update(label.as_bytes()).finalize();
        let first = hash.as_bytes().first_chunk().expect("a hash is longer than a seed");
        Self { state: u64::from_le_bytes(*first) }
    }

    /// Returns the next number, any of them equally likely.
    pub(crate) fn any(&mut self) -> u64 {
        // Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number of the range. The bias of the remainder is far below what a campaign could notice.
    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        match (high - low).checked_add(1) {
            Some(count) => low + self.any() % count,
            None => self.any(),
        }
    }

    /// Returns an index of a list that has so many members, at least one.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        let last = u64::try_from(length - 1).expect("a length fits");
        usize::try_from(self.within(0..=last)).expect("what lies below a length fits like it")
    }

    /// Returns true in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.within(1..=100) <= percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_label_are_a_sequence() {
        let take = |seed, label| {
            let mut dice = Dice::new(seed, label);
            [dice.any(), dice.any(), dice.any()]
        };
        assert_eq!(take(1, "a"), take(1, "a"));
        assert_ne!(take(1, "a"), take(2, "a"));
        assert_ne!(take(1, "a"), take(1, "b"));
    }

    #[test]
    fn numbers_fill_their_range_and_stay_in_it() {
        let mut dice = Dice::new(7, "range");
        let mut seen = [false; 4];
        for _ in 0..200 {
            let number = dice.within(3..=6);
            seen[usize::try_from(number - 3).unwrap()] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(dice.within(5..=5), 5);
        dice.within(0..=u64::MAX);
    }

    #[test]
    fn chances_are_chances() {
        let mut dice = Dice::new(7, "chance");
        let mut hits = |percent| (0..1_000).filter(|_| dice.chance(percent)).count();
        assert_eq!((hits(0), hits(100)), (0, 1_000));
        assert!((200..400).contains(&hits(30)));
    }
}
