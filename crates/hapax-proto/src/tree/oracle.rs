//! The naive twin that the tests of this folder compare with: BLAKE3's tree written down as its paper defines
//! it, by recursion from the root, without stacks, counters or laziness. Never used outside tests.

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use proptest::prelude::*;

use super::PartValue;
use crate::digest::FileHash;
use crate::span::{Length, Offset};

/// Returns reproducible bytes without any pattern that a part, group or chunk could share with another.
pub(super) fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"bytes for tests").finalize_xof().fill(&mut bytes);
    bytes
}

/// Draws a length in bytes of up to so many groups: anywhere, or within two bytes of a group's or part's border.
pub(super) fn length_near_borders(groups_max: usize) -> impl Strategy<Value = usize> {
    const GROUP: usize = 64 * 1024;
    const GROUPS_PER_PART: usize = 256;
    let near = |border: usize| (0..5usize).prop_map(move |around| (border + around).saturating_sub(2));
    let group = (0..=groups_max).prop_flat_map(move |group| near(group * GROUP));
    let part =
        (0..=groups_max / GROUPS_PER_PART).prop_flat_map(move |part| near(part * GROUPS_PER_PART * GROUP));
    prop_oneof![group, part, 0..=groups_max * GROUP].prop_map(move |length| length.min(groups_max * GROUP))
}

/// Returns the value of `bytes` as a subtree that begins at `offset`, or `None` if there are none.
pub(super) fn subtree_value(bytes: &[u8], offset: Offset) -> Option<PartValue> {
    (!bytes.is_empty()).then(|| PartValue(subtree(bytes, offset)))
}

fn subtree(bytes: &[u8], offset: Offset) -> ChainingValue {
    if bytes.len() <= blake3::CHUNK_LEN {
        return blake3::Hasher::new().set_input_offset(offset.get()).update(bytes).finalize_non_root();
    }
    let (left, right) = bytes.split_at(usize::try_from(left_subtree_len(Length::of(bytes).get())).unwrap());
    let middle = offset.checked_add(Length::of(left)).unwrap();
    merge_subtrees_non_root(&subtree(left, offset), &subtree(right, middle), Mode::Hash)
}

/// Returns the root over part values, or `None` for fewer than two.
pub(super) fn merged_root(values: &[PartValue]) -> Option<FileHash> {
    if values.len() < 2 {
        return None;
    }
    let (left, right) = values.split_at(left_count(values.len()));
    Some(merge_subtrees_root(&merged(left), &merged(right), Mode::Hash).into())
}

fn merged(values: &[PartValue]) -> ChainingValue {
    if let [value] = values {
        return value.0;
    }
    let (left, right) = values.split_at(left_count(values.len()));
    merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
}

/// The largest power of two that is less than `count`, which is at least 2.
fn left_count(count: usize) -> usize {
    1 << (count - 1).ilog2()
}
