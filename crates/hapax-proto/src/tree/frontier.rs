//! Merging part values, in order, to the hash of what they cover. Owns the right edge of a file's tree; never
//! holds more than one value per level of it, so ten tebibytes cost as little memory as ten parts.

use super::peaks::Peaks;
use super::{PartHasher, PartValue};
use crate::digest::FileHash;

/// The parts of a prefix, merged as far as they can be, ready to tell its hash and to take the next part.
///
/// Every part but the last one pushed must be whole. A value does not show how long its part was, so this is
/// the caller's to keep.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    /// Over all parts but the last.
    merged: Peaks,
    /// The last part. INVARIANT: `None` only if there is no part at all.
    last: Option<PartValue>,
    /// The hash of the first part as a file of its own, if the caller knew it.
    first_alone: Option<FileHash>,
}

impl Frontier {
    /// Begins with no parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with the first part, of which also the [`root`](PartHasher::root) is known.
    ///
    /// Only so can the hash of a prefix of exactly one part be told: it does not follow from the part's value.
    pub fn beginning_with(value: PartValue, root: FileHash) -> Self {
        Self { merged: Peaks::default(), last: Some(value), first_alone: Some(root) }
    }

    /// Adds the value of the next part.
    pub fn push(&mut self, value: PartValue) {
        if let Some(previous) = self.last.replace(value) {
            self.merged.push(previous.0);
        }
    }

    /// Returns how many parts were pushed.
    pub fn parts(&self) -> u64 {
        self.merged.leaves() + u64::from(self.last.is_some())
    }

    /// Returns the hash of all parts pushed so far, as though the file ended there. Of no part it is the hash
    /// of the empty file; of one part, `None` unless it came through [`beginning_with`](Self::beginning_with).
    pub fn root(&self) -> Option<FileHash> {
        match self.last {
            None => Some(FileHash::of(b"")),
            Some(last) => self.merged.root_with(last.0).or(self.first_alone),
        }
    }

    /// Returns the hash of the prefix that consists of all parts pushed and of what `open` has of the next one.
    ///
    /// `None` if `open` is not the next part, and where [`root`](Self::root) is `None` and `open` is empty.
    pub fn prefix_root(&self, open: &PartHasher) -> Option<FileHash> {
        if u64::from(open.part().get()) != self.parts() {
            return None;
        }
        match (self.last, open.value()) {
            (None, _) => open.root(),
            (Some(_), None) => self.root(),
            (Some(last), Some(value)) => {
                let mut whole = self.merged.clone();
                whole.push(last.0);
                whole.root_with(value.0)
            }
        }
    }
}

impl FromIterator<PartValue> for Frontier {
    fn from_iter<I: IntoIterator<Item = PartValue>>(values: I) -> Self {
        let mut frontier = Self::new();
        frontier.extend(values);
        frontier
    }
}

impl Extend<PartValue> for Frontier {
    fn extend<I: IntoIterator<Item = PartValue>>(&mut self, values: I) {
        for value in values {
            self.push(value);
        }
    }
}

/// Merges the values of all parts of a file to its hash, or returns `None` for fewer than two: the hash of a
/// file of one part, or none, does not follow from part values.
pub fn merge_parts(values: &[PartValue]) -> Option<FileHash> {
    if values.len() < 2 { None } else { values.iter().copied().collect::<Frontier>().root() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::oracle::{bytes, length_near_borders, merged_root};
    use super::super::{PART, PartNumber, parts};
    use super::*;
    use crate::span::{Length, Span};

    const WHOLE: usize = 16 * 1024 * 1024;

    fn slice(bytes: &[u8], span: Span) -> &[u8] {
        let [start, end] = [span.start(), span.end()].map(|offset| usize::try_from(offset.get()).unwrap());
        &bytes[start..end]
    }

    fn hashers(bytes: &[u8]) -> Vec<PartHasher> {
        parts(Length::of(bytes))
            .map(|(part, span)| {
                let mut hasher = PartHasher::new(part);
                hasher.update(slice(bytes, span)).unwrap();
                hasher
            })
            .collect()
    }

    fn complete(hashers: &[PartHasher]) -> Frontier {
        let mut hashers = hashers.iter();
        let mut frontier = hashers.next().map_or_else(Frontier::new, |first| {
            Frontier::beginning_with(first.value().unwrap(), first.root().unwrap())
        });
        frontier.extend(hashers.map(|hasher| hasher.value().unwrap()));
        frontier
    }

    #[test]
    fn values_merge_to_the_hash_of_the_file() {
        #[track_caller]
        fn check(length: usize) {
            let bytes = bytes(length);
            let expected = FileHash::of(&bytes);
            let hashers = hashers(&bytes);
            let values: Vec<_> = hashers.iter().map(|hasher| hasher.value().unwrap()).collect();
            assert_eq!(merge_parts(&values), (length > WHOLE).then_some(expected));
            assert_eq!(complete(&hashers).root(), Some(expected));
            assert_eq!(complete(&hashers).parts(), values.len() as u64);
            if let Some((open, before)) = hashers.split_last() {
                assert_eq!(complete(before).prefix_root(open), Some(expected));
            }
        }
        check(0);
        check(1);
        for border in [1024, 64 * 1024, 128 * 1024, WHOLE, 2 * WHOLE] {
            check(border - 1);
            check(border);
            check(border + 1);
        }
        check(3 * WHOLE);
        check(5 * WHOLE + 1);
    }

    #[test]
    fn one_value_is_not_enough_for_a_hash() {
        let whole = hashers(&bytes(WHOLE)).remove(0);
        let value = whole.value().unwrap();
        let second = PartHasher::new(PartNumber::new(1));
        assert_eq!(merge_parts(&[]), None);
        assert_eq!(merge_parts(&[value]), None);
        assert_eq!(Frontier::from_iter([value]).root(), None);
        assert_eq!(Frontier::from_iter([value]).prefix_root(&second), None);
        assert_eq!(complete(std::slice::from_ref(&whole)).prefix_root(&second), whole.root());
    }

    #[test]
    fn only_the_next_part_continues_a_prefix() {
        #[track_caller]
        fn check(parts_before: u32, open: u32, accepted: bool) {
            let frontier: Frontier = (0..parts_before).map(|_| PartValue::new([1; 32])).collect();
            let mut open = PartHasher::new(PartNumber::new(open));
            open.update(b"x").unwrap();
            assert_eq!(frontier.prefix_root(&open).is_some(), accepted);
        }
        check(0, 0, true);
        check(0, 1, false);
        check(1, 0, false);
        check(1, 1, true);
        check(2, 1, false);
        check(2, 2, true);
        check(2, 3, false);
    }

    #[test]
    fn ten_tebibytes_merge_as_the_naive_tree_does() {
        let values: Vec<_> = (0..655_360u32)
            .map(|number| {
                let mut value = [0; 32];
                value[..4].copy_from_slice(&number.to_be_bytes());
                PartValue::new(value)
            })
            .collect();
        assert_eq!(merge_parts(&values), merged_root(&values));
        assert_eq!(merge_parts(&values[1..]), merged_root(&values[1..]));
    }

    proptest! {
        #[test]
        fn every_prefix_has_the_naive_root(values in proptest::collection::vec(any::<[u8; 32]>(), 0..70)) {
            let values: Vec<_> = values.into_iter().map(PartValue::new).collect();
            let mut frontier = Frontier::new();
            for (i, &value) in values.iter().enumerate() {
                frontier.push(value);
                prop_assert_eq!(frontier.root(), merged_root(&values[..=i]));
            }
            prop_assert_eq!(merge_parts(&values), merged_root(&values));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_prefix_has_the_hash_of_its_bytes_at_any_moment(
            cuts in proptest::collection::vec(length_near_borders(3 * 256), 1..5),
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let bytes = bytes(*cuts.last().unwrap());
            let mut frontier = Frontier::new();
            let mut open = PartHasher::new(PartNumber::FIRST);
            for cut in cuts {
                // What an append lane does: a full part is pushed when bytes of the next one come.
                let target = Length::of(&bytes[..cut]).end();
                while let Some(span) = Span::new(position(&open), target).filter(|span| !span.is_empty()) {
                    if open.length() == PART {
                        frontier.push(open.value().unwrap());
                        open = PartHasher::new(open.part().next().unwrap());
                    }
                    let now = span.intersection(Span::at(open.part().start(), PART).unwrap()).unwrap();
                    open.update(slice(&bytes, now)).unwrap();
                }
                let expected = Some(FileHash::of(&bytes[..cut]));
                prop_assert_eq!(frontier.prefix_root(&open), expected);
                // A full part may as well be pushed at once, if the first one's root is kept.
                if open.length() == PART {
                    let next = PartHasher::new(open.part().next().unwrap());
                    let pushed = hashers(&bytes[..cut]);
                    prop_assert_eq!(complete(&pushed).prefix_root(&next), expected);
                }
            }
        }

        #[test]
        fn parts_hashed_in_any_order_give_the_hash(
            length in length_near_borders(3 * 256),
            order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let bytes = bytes(length);
            let spans: Vec<_> = parts(Length::of(&bytes)).collect();
            let mut values = vec![None; spans.len()];
            let mut root = Some(FileHash::of(b""));
            for i in order.into_iter().filter(|&i| i < spans.len()) {
                let mut hasher = PartHasher::new(spans[i].0);
                hasher.update(slice(&bytes, spans[i].1)).unwrap();
                values[i] = hasher.value();
                root = hasher.root().or(root);
            }
            let values: Vec<_> = values.into_iter().map(Option::unwrap).collect();
            prop_assert_eq!(merge_parts(&values).or(root), Some(FileHash::of(&bytes)));
        }
    }

    fn position(open: &PartHasher) -> crate::span::Offset {
        open.part().start().checked_add(open.length()).unwrap()
    }
}
