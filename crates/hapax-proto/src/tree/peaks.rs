//! The stack of subtree values behind both levels of the tree: groups within a part, parts within a file. Owns
//! the order of merging; knows neither bytes nor lengths, and nothing of which leaf is the last one.

use blake3::hazmat::{ChainingValue, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::digest::FileHash;

/// The values of the whole subtrees over the leaves so far, the largest subtree first (what the BLAKE3 paper
/// calls the chaining value stack, §5.1.2).
///
/// It is a binary counter: every 1 in `leaves` stands for a subtree of so many leaves, and a new leaf carries
/// as in an addition. A file of 2³² parts needs 32 entries.
///
/// INVARIANT: there are as many values as ones in `leaves`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Peaks {
    leaves: u64,
    values: Vec<ChainingValue>,
}

impl Peaks {
    /// Joins a count and a stack that were kept apart, or returns `None` if they do not belong together.
    pub(super) fn new(leaves: u64, values: Vec<ChainingValue>) -> Option<Self> {
        (u64::from(leaves.count_ones()) == values.len() as u64).then_some(Self { leaves, values })
    }

    /// Returns how many leaves were pushed.
    pub(super) const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Returns the stack, the largest subtree first.
    pub(super) fn values(&self) -> &[ChainingValue] {
        &self.values
    }

    /// Adds a whole leaf that is known not to be the last one.
    pub(super) fn push(&mut self, leaf: ChainingValue) {
        let mut value = leaf;
        for _ in 0..self.leaves.trailing_ones() {
            let left = self.values.pop().expect("a value for every 1 in the count");
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
        }
        self.values.push(value);
        self.leaves += 1;
    }

    /// Returns the value of all leaves and `last` behind them, as a subtree that is not the root.
    pub(super) fn value_with(&self, last: ChainingValue) -> ChainingValue {
        fold(&self.values, last)
    }

    /// Returns the root over all leaves and `last` behind them, or `None` if there is no leaf: a root is a
    /// merge of two.
    pub(super) fn root_with(&self, last: ChainingValue) -> Option<FileHash> {
        let (largest, smaller) = self.values.split_first()?;
        Some(merge_subtrees_root(largest, &fold(smaller, last), Mode::Hash).into())
    }
}

/// Merges from the right, where the subtrees are smallest, to the left.
fn fold(values: &[ChainingValue], last: ChainingValue) -> ChainingValue {
    values.iter().rev().fold(last, |right, left| merge_subtrees_non_root(left, &right, Mode::Hash))
}
