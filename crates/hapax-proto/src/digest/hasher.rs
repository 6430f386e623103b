//! Hashing with several algorithms in one pass. Owns the running states; which algorithms there are, and what their
//! values look like, is the module's above.

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::{Algorithm, Digest, Digests, FileHash};

/// How many bytes [`Hasher`] gives to one algorithm before the next one gets them: few enough to stay in the
/// cache, enough for BLAKE3 to hash with all its SIMD lanes.
const STRIDE: usize = 64 * 1024;

/// Hashes bytes with several algorithms in one pass, while they are in the cache.
#[derive(Debug, Clone)]
pub struct Hasher(Vec<State>);

/// The running state of one algorithm.
#[derive(Debug, Clone)]
enum State {
    Blake3(Box<blake3::Hasher>),
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    Sha1(Sha1),
    Crc32c(crc_fast::Digest),
}

impl Hasher {
    /// Begins at no bytes. An algorithm named twice is computed once.
    pub fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let mut chosen: Vec<_> = algorithms.into_iter().collect();
        chosen.sort_unstable();
        chosen.dedup();
        Self(chosen.into_iter().map(State::new).collect())
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for stride in bytes.chunks(STRIDE) {
            for state in &mut self.0 {
                state.update(stride);
            }
        }
    }

    /// Returns the digests of all bytes so far; more may follow.
    pub fn digests(&self) -> Digests {
        self.0.iter().map(State::digest).collect()
    }
}

impl State {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Blake3 => Self::Blake3(Box::default()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Crc32c => Self::Crc32c(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Crc32c(sum) => sum.update(bytes),
        }
    }

    fn digest(&self) -> Digest {
        let digest = |algorithm, value: &[u8]| {
            Digest::new(algorithm, value).expect("an algorithm's own value has its length")
        };
        match self {
            Self::Blake3(hasher) => FileHash::from(hasher.finalize()).into(),
            Self::Sha256(hasher) => digest(Algorithm::Sha256, &hasher.clone().finalize()),
            Self::Sha512(hasher) => digest(Algorithm::Sha512, &hasher.clone().finalize()),
            Self::Md5(hasher) => digest(Algorithm::Md5, &hasher.clone().finalize()),
            Self::Sha1(hasher) => digest(Algorithm::Sha1, &hasher.clone().finalize()),
            Self::Crc32c(sum) => {
                let sum = u32::try_from(sum.finalize()).expect("a CRC-32 has 32 bits");
                digest(Algorithm::Crc32c, &sum.to_be_bytes())
            }
        }
    }
}
