//! Hashing one part, in any cuts and over any number of sessions. Owns the open state of a part and its layout
//! on disk; never looks across a part's border and keeps no copy of the bytes.

use blake3::hazmat::{ChainingValue, HasherExt};

use super::peaks::Peaks;
use super::{PART, PartNumber, PartValue, SEGMENT};
use crate::digest::FileHash;
use crate::span::{Length, Offset};

/// How many groups a whole part has; one that is being hashed has closed fewer, because its last one is open.
const GROUPS_PER_PART: u64 = PART.get() / SEGMENT.get();

/// Hashes the bytes of one part from the part's first byte on.
///
/// Costs about 2 KiB of memory, whatever has passed through it.
#[derive(Debug, Clone)]
pub struct PartHasher {
    part: PartNumber,
    /// Over all groups but the open one.
    closed: Peaks,
    /// The open group. INVARIANT: at most [`SEGMENT`] bytes, and none only if the part has none.
    open: blake3::Hasher,
}

/// Bytes were offered that reach over the border of their part. Nothing was hashed.
///
/// BLAKE3 would take them and silently give a value that belongs to no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("part {part} holds {held} bytes already; {offered} more reach over its border")]
pub struct PastBorder {
    /// The part.
    pub part: PartNumber,
    /// How many of its bytes were hashed before.
    pub held: Length,
    /// How many bytes were offered.
    pub offered: Length,
}

/// A tail that does not belong to the state it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("behind {groups} closed groups there cannot be a tail of {tail} bytes")]
pub struct BadTail {
    /// How many groups are closed.
    pub groups: u16,
    /// The length of the tail.
    pub tail: Length,
}

impl PartHasher {
    /// Begins at the part's first byte.
    pub fn new(part: PartNumber) -> Self {
        Self { part, closed: Peaks::default(), open: open_at(part.start()) }
    }

    /// Goes on where [`state`](Self::state) was taken; `tail` are the bytes hashed behind the closed groups, as
    /// many as [`tail_length`](Self::tail_length) said.
    ///
    /// # Errors
    /// [`BadTail`] if the tail is longer than a group, or is empty although groups are closed. Whether the state
    /// and the tail are *true* cannot be told here; both come from records that are authenticated.
    pub fn resume(part: PartNumber, state: &OpenState, tail: &[u8]) -> Result<Self, BadTail> {
        let closed = state.closed.clone();
        if Length::of(tail) > SEGMENT || (tail.is_empty() && closed.leaves() > 0) {
            return Err(BadTail { groups: state.groups(), tail: Length::of(tail) });
        }
        let mut open = open_at(group_start(part, &closed));
        open.update(tail);
        Ok(Self { part, closed, open })
    }

    /// Hashes the next bytes. Large pieces are faster: BLAKE3 then fills all SIMD lanes of the machine.
    ///
    /// # Errors
    /// [`PastBorder`] if they do not all fit into the part; then none of them is hashed.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), PastBorder> {
        let (held, offered) = (self.length(), Length::of(bytes));
        if held.checked_add(offered).is_none_or(|length| length > PART) {
            return Err(PastBorder { part: self.part, held, offered });
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.open_room().min(rest.len()));
            self.open.update(now);
            rest = later;
        }
        Ok(())
    }

    /// Returns the part that is hashed.
    pub const fn part(&self) -> PartNumber {
        self.part
    }

    /// Returns how many bytes of the part were hashed.
    pub fn length(&self) -> Length {
        closed_length(&self.closed).checked_add(self.tail_length()).expect("a part is at most PART long")
    }

    /// Returns the part's value if it ends here, or `None` while it is empty: an empty subtree has no value.
    pub fn value(&self) -> Option<PartValue> {
        self.open_value().map(|last| PartValue(self.closed.value_with(last)))
    }

    /// Returns the hash of the file if the file ends here, or `None` for any part but the first, whose root
    /// depends on the parts before it (see [`Frontier::prefix_root`](super::Frontier::prefix_root)).
    pub fn root(&self) -> Option<FileHash> {
        if self.part != PartNumber::FIRST {
            return None;
        }
        let of_groups = self.open_value().and_then(|last| self.closed.root_with(last));
        // At most one group: it is the root itself, and BLAKE3 knows how to finish it, also when it is empty.
        Some(of_groups.unwrap_or_else(|| self.open.finalize().into()))
    }

    /// Returns what to keep, together with the tail, to go on later.
    pub fn state(&self) -> OpenState {
        OpenState { closed: self.closed.clone() }
    }

    /// Returns the length of the tail: the bytes of the open group, at most [`SEGMENT`] of them.
    pub fn tail_length(&self) -> Length {
        Length::new(self.open.count())
    }

    fn open_value(&self) -> Option<ChainingValue> {
        (!self.tail_length().is_zero()).then(|| self.open.finalize_non_root())
    }

    /// Returns how many bytes the open group takes. There are bytes to come, so a full group is not the last
    /// one any more: it is closed, and a new one begun.
    fn open_room(&mut self) -> usize {
        if self.tail_length() == SEGMENT {
            self.closed.push(self.open.finalize_non_root());
            self.open = open_at(group_start(self.part, &self.closed));
        }
        let room = SEGMENT.checked_sub(self.tail_length()).expect("a group is at most SEGMENT long");
        usize::try_from(room.get()).expect("SEGMENT fits any usize")
    }
}

/// Begins a group at its offset in the file, which its value is bound to.
fn open_at(offset: Offset) -> blake3::Hasher {
    let mut open = blake3::Hasher::new();
    open.set_input_offset(offset.get());
    open
}

/// Returns how many bytes of a part lie in closed groups.
fn closed_length(closed: &Peaks) -> Length {
    // Cannot overflow: fewer than `GROUPS_PER_PART` groups are closed.
    Length::new(closed.leaves() * SEGMENT.get())
}

/// Returns the offset in the file of the group behind the closed ones.
fn group_start(part: PartNumber, closed: &Peaks) -> Offset {
    part.start().checked_add(closed_length(closed)).expect("a part ends below 2^56")
}

/// The closed groups of a part that is being filled, without its tail.
///
/// INVARIANT: fewer groups than a whole part has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenState {
    closed: Peaks,
}

/// Why bytes are not an encoded [`OpenState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadState {
    /// The count itself is cut off.
    #[error("an open state has at least 2 bytes, this one has {found}")]
    Short {
        /// How many bytes there are.
        found: usize,
    },
    /// So many groups are never closed: one of a whole part's stays open.
    #[error("a part cannot have {groups} closed groups")]
    Groups {
        /// The count that was read.
        groups: u16,
    },
    /// The stack is not as high as the count demands.
    #[error("the stack of {groups} closed groups has {expected} bytes, this one has {found}")]
    Stack {
        /// The count that was read.
        groups: u16,
        /// How many bytes the stack should have.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl OpenState {
    /// Returns how many groups are closed.
    pub fn groups(&self) -> u16 {
        u16::try_from(self.closed.leaves()).expect("a part has fewer than 2^16 groups")
    }

    /// Returns how many bytes of the part lie in the closed groups; the tail begins behind them.
    pub fn length(&self) -> Length {
        closed_length(&self.closed)
    }

    /// Encodes the state for disk. Format 1, all of it:
    ///
    /// ```text
    ///   0        2              34             66
    ///   ┌────────┬──────────────┬──────────────┬─ ─ ─
    ///   │ groups │   value 0    │   value 1    │ …        one value for every 1 in `groups`,
    ///   └────────┴──────────────┴──────────────┴─ ─ ─     the largest subtree (highest bit) first
    ///    u16 BE      32 bytes       32 bytes
    /// ```
    ///
    /// `groups` counts the closed groups, 0 to 255; so there are 2 to 258 bytes, and nothing follows them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.groups().to_be_bytes().to_vec();
        bytes.extend(self.closed.values().iter().flatten());
        bytes
    }

    /// Decodes what [`encode`](Self::encode) wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadState> {
        let (count, stack) = bytes.split_first_chunk().ok_or(BadState::Short { found: bytes.len() })?;
        let groups = u16::from_be_bytes(*count);
        if u64::from(groups) >= GROUPS_PER_PART {
            return Err(BadState::Groups { groups });
        }
        let (values, rest) = stack.as_chunks();
        Peaks::new(groups.into(), values.to_vec())
            .filter(|_| rest.is_empty())
            .map(|closed| Self { closed })
            .ok_or_else(|| BadState::Stack {
                groups,
                expected: groups.count_ones() as usize * size_of::<ChainingValue>(),
                found: stack.len(),
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::oracle::{bytes, length_near_borders, subtree_value};
    use super::*;

    const KIB: usize = 1024;
    const GROUP: usize = 64 * KIB;
    const WHOLE: usize = 16 * KIB * KIB;

    fn hashed(part: u32, bytes: &[u8]) -> PartHasher {
        let mut hasher = PartHasher::new(PartNumber::new(part));
        hasher.update(bytes).unwrap();
        hasher
    }

    /// Hashes up to `cut`, keeps what goes to disk, and hashes the rest from there.
    fn resumed(part: u32, bytes: &[u8], cut: usize) -> PartHasher {
        let before = hashed(part, &bytes[..cut]);
        let tail = cut - usize::try_from(before.tail_length().get()).unwrap();
        let state = OpenState::decode(&before.state().encode()).unwrap();
        assert_eq!(state.length(), Length::of(&bytes[..tail]));
        let mut after = PartHasher::resume(before.part(), &state, &bytes[tail..cut]).unwrap();
        after.update(&bytes[cut..]).unwrap();
        after
    }

    #[track_caller]
    fn check_same(a: &PartHasher, b: &PartHasher) {
        assert_eq!(a.part(), b.part());
        assert_eq!(a.length(), b.length());
        assert_eq!(a.tail_length(), b.tail_length());
        assert_eq!(a.state(), b.state());
        assert_eq!(a.value(), b.value());
        assert_eq!(a.root(), b.root());
    }

    #[test]
    fn every_length_up_to_a_part_has_its_value_and_root() {
        #[track_caller]
        fn check(length: usize, groups: u16, tail: usize) {
            let bytes = bytes(length);
            for part in [0, 1, 6] {
                let hasher = hashed(part, &bytes);
                assert_eq!(hasher.length(), Length::of(&bytes));
                assert_eq!(hasher.state().groups(), groups);
                assert_eq!(hasher.tail_length(), Length::of(&bytes[length - tail..]));
                assert_eq!(hasher.value(), subtree_value(&bytes, PartNumber::new(part).start()));
                assert_eq!(hasher.root(), (part == 0).then(|| FileHash::of(&bytes)));
                assert_ne!(hasher.root().map(|root| *root.as_bytes()), hasher.value().map(|v| *v.as_bytes()));
            }
        }
        check(1, 0, 1);
        check(KIB - 1, 0, KIB - 1);
        check(KIB, 0, KIB);
        check(KIB + 1, 0, KIB + 1);
        check(GROUP - 1, 0, GROUP - 1);
        check(GROUP, 0, GROUP);
        check(GROUP + 1, 1, 1);
        check(2 * GROUP - 1, 1, GROUP - 1);
        check(2 * GROUP, 1, GROUP);
        check(2 * GROUP + 1, 2, 1);
        check(3 * GROUP, 2, GROUP);
        check(7 * GROUP + 5 * KIB, 7, 5 * KIB);
        check(WHOLE - GROUP, 254, GROUP);
        check(WHOLE - 1, 255, GROUP - 1);
        check(WHOLE, 255, GROUP);
    }

    #[test]
    fn an_empty_part_has_no_value() {
        let (first, second) = (hashed(0, b""), hashed(1, b""));
        assert_eq!((first.value(), first.root()), (None, Some(FileHash::of(b""))));
        assert_eq!((second.value(), second.root()), (None, None));
        check_same(&first, &resumed(0, b"", 0));
        check_same(&second, &resumed(1, b"", 0));
    }

    #[test]
    fn a_value_is_bound_to_its_offset() {
        let bytes = bytes(3 * GROUP);
        let values: Vec<_> = [0, 1, 2, 3, 600_000].map(|part| hashed(part, &bytes).value().unwrap()).to_vec();
        for (i, value) in values.iter().enumerate() {
            assert!(!values[i + 1..].contains(value));
        }
    }

    #[test]
    fn bytes_past_the_border_are_refused_and_change_nothing() {
        #[track_caller]
        fn check(part: u32, held: usize, offered: usize) {
            let bytes = bytes(held + offered);
            let before = hashed(part, &bytes[..held]);
            let mut after = before.clone();
            let refusal = PastBorder {
                part: PartNumber::new(part),
                held: Length::of(&bytes[..held]),
                offered: Length::of(&bytes[held..]),
            };
            assert_eq!(after.update(&bytes[held..]), Err(refusal));
            check_same(&after, &before);
            after.update(&bytes[held..WHOLE]).unwrap();
            check_same(&after, &hashed(part, &bytes[..WHOLE]));
        }
        check(0, WHOLE, 1);
        check(1, WHOLE, 1);
        check(0, WHOLE - 1, 2);
        check(1, GROUP, WHOLE - GROUP + 1);
        check(0, 0, WHOLE + 1);
        assert_eq!(hashed(0, &bytes(WHOLE)).update(b""), Ok(()));
    }

    #[test]
    fn a_tail_must_fit_its_state() {
        #[track_caller]
        fn check(held: usize, tail: usize, accepted: bool) {
            let state = hashed(0, &bytes(held)).state();
            let expected = BadTail { groups: state.groups(), tail: Length::of(&bytes(tail)) };
            let outcome = PartHasher::resume(PartNumber::FIRST, &state, &bytes(tail)).map(|_| ());
            assert_eq!(outcome, if accepted { Ok(()) } else { Err(expected) });
        }
        check(0, 0, true);
        check(0, 1, true);
        check(0, GROUP, true);
        check(0, GROUP + 1, false);
        check(GROUP + 1, 0, false);
        check(GROUP + 1, 1, true);
        check(WHOLE, GROUP, true);
        check(WHOLE, GROUP + 1, false);
    }

    #[test]
    fn an_open_state_has_one_layout() {
        #[track_caller]
        fn check(encoded: &[u8], expected: Result<u16, BadState>) {
            assert_eq!(OpenState::decode(encoded).map(|state| state.groups()), expected);
        }
        let with_stack = |groups: u16, stack: usize| [&groups.to_be_bytes()[..], &vec![7; stack]].concat();
        check(&[], Err(BadState::Short { found: 0 }));
        check(&[0], Err(BadState::Short { found: 1 }));
        check(&[0, 0], Ok(0));
        check(&with_stack(0, 32), Err(BadState::Stack { groups: 0, expected: 0, found: 32 }));
        check(&with_stack(1, 32), Ok(1));
        check(&with_stack(1, 31), Err(BadState::Stack { groups: 1, expected: 32, found: 31 }));
        check(&with_stack(1, 33), Err(BadState::Stack { groups: 1, expected: 32, found: 33 }));
        check(&with_stack(1, 64), Err(BadState::Stack { groups: 1, expected: 32, found: 64 }));
        check(&with_stack(6, 64), Ok(6));
        check(&with_stack(255, 256), Ok(255));
        check(&with_stack(256, 32), Err(BadState::Groups { groups: 256 }));
        check(&with_stack(u16::MAX, 512), Err(BadState::Groups { groups: u16::MAX }));
    }

    #[test]
    fn the_stack_holds_the_largest_subtree_first() {
        let bytes = bytes(3 * GROUP + 1);
        let start = PartNumber::new(2).start();
        let third = start.checked_add(Length::of(&bytes[..2 * GROUP])).unwrap();
        let (pair, single) = (
            subtree_value(&bytes[..2 * GROUP], start).unwrap(),
            subtree_value(&bytes[2 * GROUP..3 * GROUP], third).unwrap(),
        );
        let expected = [&[0, 3], &pair.as_bytes()[..], single.as_bytes()].concat();
        assert_eq!(hashed(2, &bytes).state().encode(), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn cuts_do_not_matter(
            part in 0..4u32,
            length in 0..40 * GROUP,
            pieces in proptest::collection::vec(1..5 * GROUP, 1..30),
        ) {
            let bytes = bytes(length);
            let mut hasher = PartHasher::new(PartNumber::new(part));
            let mut rest = &bytes[..];
            for piece in pieces {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                hasher.update(now).unwrap();
                rest = later;
            }
            hasher.update(rest).unwrap();
            check_same(&hasher, &hashed(part, &bytes));
            prop_assert_eq!(hasher.value(), subtree_value(&bytes, PartNumber::new(part).start()));
        }

        #[test]
        fn resuming_at_any_cut_equals_no_cut(
            part in 0..4u32,
            length in length_near_borders(12),
            cut in length_near_borders(12),
        ) {
            let bytes = bytes(length);
            check_same(&resumed(part, &bytes, cut.min(length)), &hashed(part, &bytes));
        }

        #[test]
        fn what_is_decoded_is_encoded_alike(
            groups in prop_oneof![0..=300u16, any::<u16>()],
            stack in proptest::collection::vec(any::<u8>(), 0..300),
            exact: bool,
        ) {
            let wanted = groups.count_ones() as usize * 32;
            let mut encoded = [&groups.to_be_bytes()[..], &stack].concat();
            if exact {
                encoded.resize(2 + wanted, 0xa5);
            }
            match OpenState::decode(&encoded) {
                Ok(state) => prop_assert_eq!(state.encode(), encoded),
                Err(_) => prop_assert!(groups > 255 || encoded.len() != 2 + wanted),
            }
        }

        #[test]
        fn decoding_random_bytes_never_panics(encoded in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(state) = OpenState::decode(&encoded) {
                prop_assert_eq!(state.encode(), encoded);
            }
        }
    }
}
