//! Proof of possession: that somebody who names a content has every byte of it now. Fresh for every claim, because its key
//! is drawn by who asks, and over the whole file, because who has nine tenths of a file passes a sample of it too often.

use std::fmt;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, parse_hex32};
use crate::span::Length;

/// How long a challenge may be answered, for a file that can be read in that time.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_mins(2);

/// What a slow disk reads in a second, in bytes.
const SLOW_DISK: u64 = 100_000_000;

/// Returns how much longer a challenge for a large file may be answered: as long as a slow disk takes to read it. The time
/// is no part of what a proof shows, for an accomplice reads as fast as an owner; it bounds what a server remembers.
pub fn more_time(size: Length) -> Duration {
    Duration::from_secs(size.get() / SLOW_DISK).saturating_sub(CHALLENGE_LIFETIME)
}

/// What the key of a proof is: random, and used once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed([u8; 32]);

/// What shows that somebody has a content. Equality takes the same time whatever differs.
#[derive(Clone, Copy)]
pub struct Proof(blake3::Hash);

impl Seed {
    /// Wraps 32 random bytes.
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Proof {}

/// Computes a proof:
/// `BLAKE3_keyed(seed, "hapax-proof-1\n" alg "\n" value "\n" size "\n" all bytes)`, value in hex and size in decimal.
#[derive(Debug, Clone)]
pub struct ProofHasher(blake3::Hasher);

impl ProofHasher {
    /// Begins with what was claimed; the bytes follow.
    pub fn new(seed: &Seed, digest: &Digest, size: Length) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&seed.0);
        let claimed = format!("hapax-proof-1\n{}\n{}\n{}\n", digest.algorithm(), digest.hex(), size.get());
        hasher.update(claimed.as_bytes());
        Self(hasher)
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the proof for everything taken.
    pub fn finish(&self) -> Proof {
        Proof(self.0.finalize())
    }
}

macro_rules! spelled_in_hex {
    ($name:ident, $bytes:expr, $from:expr) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // A seed and a proof together are worth a file.
                f.write_str(stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let bytes: fn(&Self) -> &[u8; 32] = $bytes;
                serializer.serialize_str(&HEXLOWER.encode(bytes(self)))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let from: fn([u8; 32]) -> Self = $from;
                parse_hex32(&text).map(from).map_err(serde::de::Error::custom)
            }
        }
    };
}

spelled_in_hex!(Seed, |seed| &seed.0, Seed);
spelled_in_hex!(Proof, |proof| proof.0.as_bytes(), |bytes| Proof(bytes.into()));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::FileHash;

    fn proof(seed: u8, content: &[u8], claimed: &[u8], pieces: usize) -> Proof {
        let seed = Seed::new([seed; 32]);
        let mut hasher =
            ProofHasher::new(&seed, &FileHash::of(claimed).into(), Length::new(content.len() as u64));
        content.chunks(pieces).for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    #[test]
    fn everything_that_was_claimed_and_every_byte_counts() {
        let right = proof(1, b"hapax", b"hapax", 5);
        assert_eq!(right, proof(1, b"hapax", b"hapax", 2));
        for wrong in [
            proof(2, b"hapax", b"hapax", 5),
            proof(1, b"hapay", b"hapax", 5),
            proof(1, b"hapax", b"other", 5),
            proof(1, b"hapa", b"hapax", 5),
        ] {
            assert_ne!(right, wrong);
        }
    }

    #[test]
    fn it_is_what_the_protocol_writes_down() {
        let blake3 = FileHash::of(b"abc");
        let text = format!("hapax-proof-1\nblake3\n{blake3}\n3\nabc");
        let expected = blake3::keyed_hash(&[7; 32], text.as_bytes());
        assert_eq!(proof(7, b"abc", b"abc", 1), Proof(expected));
    }

    #[test]
    fn they_are_spelled_in_hex_and_never_logged() {
        let proof = proof(7, b"abc", b"abc", 1);
        let text = serde_json::to_string(&proof).unwrap();
        assert_eq!(serde_json::from_str::<Proof>(&text).unwrap(), proof);
        assert_eq!(text.len(), 66);
        assert!(serde_json::from_str::<Seed>("\"07\"").is_err());
        assert_eq!(format!("{proof:?}{:?}", Seed::new([7; 32])), "ProofSeed");
    }
}
