//! The receiver's side of a tree: part values that were told by somebody else become usable only after they
//! merged to a hash that is trusted. Owns that check and the check of each part; never fetches anything.
//!
//! ```text
//!   identity (trusted) ─┐
//!   values (claimed) ───┴─▶ ProvenParts ─▶ proves(part as it arrived)? ─▶ keep, or fetch this part again
//! ```

use super::{PartHasher, PartNumber, PartValue, merge_parts, part_count};
use crate::digest::{FileHash, Identity};
use crate::span::Length;

/// The values of all parts of a file, which belong to the file's identity for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenParts {
    identity: Identity,
    /// INVARIANT: of every part, or none at all for a file of at most one part, whose proof is its hash.
    values: Vec<PartValue>,
}

/// Why values do not belong to an identity. Whoever told them is wrong about the file or speaks of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unproven {
    /// There are not as many values as the size demands.
    #[error("a file of {size} bytes is proven by {expected} part values, here are {found}")]
    Count {
        /// The size of the file.
        size: Length,
        /// How many values its tree has.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The values merge to another hash, or the size is 0 and the hash is not that of no bytes.
    #[error("the parts merge to {found}, not to {expected}")]
    Root {
        /// The hash of the identity.
        expected: FileHash,
        /// The hash of the values.
        found: FileHash,
    },
}

impl ProvenParts {
    /// Takes the values of all parts if they merge to the identity's hash.
    ///
    /// A file of one part or none has no values to tell: its hash says it all, so they must be empty.
    pub fn prove(identity: Identity, values: Vec<PartValue>) -> Result<Self, Unproven> {
        let size = identity.size;
        let (expected, found) = (value_count(size), values.len() as u64);
        if found != expected {
            return Err(Unproven::Count { size, expected, found });
        }
        let known = if size.is_zero() { Some(FileHash::of(b"")) } else { merge_parts(&values) };
        match known {
            Some(found) if found != identity.blake3 => {
                Err(Unproven::Root { expected: identity.blake3, found })
            }
            _ => Ok(Self { identity, values }),
        }
    }

    /// Returns the identity that the values belong to.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the value of a part, or `None` if the file ends before it or has no values.
    pub fn value(&self, part: PartNumber) -> Option<PartValue> {
        self.values.get(usize::try_from(part.get()).ok()?).copied()
    }

    /// Tells whether what was hashed is that part of the file: all of it, and nothing else.
    ///
    /// The length is compared too, because a size is only as true as who told it: values of the last part do not
    /// show how long it is.
    pub fn proves(&self, hashed: &PartHasher) -> bool {
        let whole =
            hashed.part().span(self.identity.size).is_some_and(|span| span.length() == hashed.length());
        whole
            && match self.value(hashed.part()) {
                Some(value) => hashed.value() == Some(value),
                None => hashed.root() == Some(self.identity.blake3),
            }
    }
}

/// Returns how many values prove a file of this size.
const fn value_count(size: Length) -> u64 {
    match part_count(size) {
        0 | 1 => 0,
        parts => parts,
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle::bytes;
    use super::*;

    const WHOLE: usize = 16 * 1024 * 1024;

    fn hashers(bytes: &[u8]) -> Vec<PartHasher> {
        (0u32..)
            .zip(bytes.chunks(WHOLE))
            .map(|(part, chunk)| {
                let mut hasher = PartHasher::new(PartNumber::new(part));
                hasher.update(chunk).unwrap();
                hasher
            })
            .collect()
    }

    fn values(hashers: &[PartHasher]) -> Vec<PartValue> {
        hashers.iter().map(|hasher| hasher.value().unwrap()).collect()
    }

    #[test]
    fn true_values_prove_every_part() {
        #[track_caller]
        fn check(length: usize) {
            let bytes = bytes(length);
            let hashers = hashers(&bytes);
            let told = if hashers.len() > 1 { values(&hashers) } else { Vec::new() };
            let proven = ProvenParts::prove(Identity::of(&bytes), told).unwrap();
            for hasher in &hashers {
                assert!(proven.proves(hasher), "part {} of {length} bytes", hasher.part());
            }
        }
        check(0);
        check(1);
        check(WHOLE);
        check(WHOLE + 1);
        check(2 * WHOLE + 70_000);
    }

    #[test]
    fn wrong_values_prove_nothing() {
        let bytes = bytes(2 * WHOLE + 1);
        let identity = Identity::of(&bytes);
        let told = values(&hashers(&bytes));
        let check = |identity: Identity, values: &[PartValue], is_expected: fn(&Unproven) -> bool| {
            let error = ProvenParts::prove(identity, values.to_vec()).unwrap_err();
            assert!(is_expected(&error), "{error:?}");
        };
        let count = |error: &Unproven| matches!(error, Unproven::Count { .. });
        let root = |error: &Unproven| matches!(error, Unproven::Root { .. });
        check(identity, &[], count);
        check(identity, &told[..2], count);
        check(Identity { size: Length::new(u64::MAX), ..identity }, &told, count);
        check(Identity::of(b"one part"), &told[..1], count);
        check(identity, &[told[1], told[0], told[2]], root);
        check(identity, &[told[0], told[1], told[1]], root);
        check(Identity { blake3: FileHash::of(b"another"), ..identity }, &told, root);
        check(Identity { size: Length::ZERO, ..identity }, &[], root);
    }

    #[test]
    fn a_part_that_differs_is_not_proven() {
        #[track_caller]
        fn check(proven: &ProvenParts, part: u32, bytes: &[u8], expected: bool) {
            let mut hasher = PartHasher::new(PartNumber::new(part));
            hasher.update(bytes).unwrap();
            assert_eq!(proven.proves(&hasher), expected);
        }
        let bytes = bytes(WHOLE + 1000);
        let (first, second) = bytes.split_at(WHOLE);
        let long = ProvenParts::prove(Identity::of(&bytes), values(&hashers(&bytes))).unwrap();
        let mut flipped = second.to_vec();
        flipped[500] ^= 1;
        check(&long, 0, first, true);
        check(&long, 1, second, true);
        check(&long, 1, &flipped, false);
        check(&long, 1, &second[..999], false);
        check(&long, 1, b"", false);
        check(&long, 0, second, false);
        check(&long, 2, second, false);

        let wrong_size = Identity { size: Length::of(&second[..999]), ..Identity::of(second) };
        check(&ProvenParts::prove(wrong_size, Vec::new()).unwrap(), 0, second, false);
        let short = ProvenParts::prove(Identity::of(second), Vec::new()).unwrap();
        check(&short, 0, second, true);
        check(&short, 0, &flipped, false);
        check(&short, 0, &second[..999], false);
        check(&short, 1, second, false);
    }
}
