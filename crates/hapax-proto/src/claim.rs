//! The ladder of a claim: what is looked up for "I have this content", and what the answer is for what was found. A digest
//! is no credential: only what the caller's own space holds is ever looked up, so content that others have is answered
//! like content that nobody has, after the same work. It looks nothing up itself and links nothing.
//!
//! ```text
//!   BLAKE3 and size      ─▶ that very content ─┬─ held ─▶ link
//!                                              └─ not ──▶ upload
//!   MD5, SHA-1, SHA-256  ─▶ what has it ───────┬─ some ─▶ candidates: their BLAKE3, to be claimed next
//!     and size, if on                          └─ none ─▶ upload
//!   anything else        ─▶ nothing ─────────────────────▶ upload
//! ```

use crate::digest::{Algorithm, Digest, FileHash, Identity};
use crate::span::Length;

/// The algorithms by whose digests a server may let contents be found, besides BLAKE3. It computes those it was told to.
pub const LOOKUPS: &[Algorithm] = &[Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha1];

/// The most candidates of one claim: more contents of one digest have only whoever forges them.
pub const CANDIDATES_MAX: usize = 16;

/// What is to be looked up in the caller's space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// This very content.
    Content(Identity),
    /// Contents of this digest and size.
    Digest(Digest, Length),
    /// Nothing: what was said finds nothing here.
    Nothing,
}

/// Decides what a claim has looked up; `lookups` are the algorithms that contents are found by besides BLAKE3.
pub fn decide_question(digest: Option<Digest>, size: Length, lookups: &[Algorithm]) -> Question {
    let Some(digest) = digest else { return Question::Nothing };
    match digest.file_hash() {
        Some(blake3) => Question::Content(Identity { blake3, size }),
        None if lookups.contains(&digest.algorithm()) => Question::Digest(digest, size),
        None => Question::Nothing,
    }
}

/// What was found in the caller's space, by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// For a content: whether it is there.
    Content(bool),
    /// For a digest: what has it.
    Digest(Vec<FileHash>),
    /// Nothing was looked up.
    Nothing,
}

/// What a claim comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The content gets the name that was asked for.
    Link,
    /// These contents may be it. Only whoever has it knows which: a digest other than BLAKE3 may be forged, and nothing is
    /// linked by one.
    Candidates(Vec<FileHash>),
    /// The bytes are to be sent.
    Upload,
}

/// Decides a claim from what was found.
pub fn decide_claim(found: Found) -> Verdict {
    match found {
        Found::Content(true) => Verdict::Link,
        Found::Digest(mut contents) if !contents.is_empty() => {
            contents.truncate(CANDIDATES_MAX);
            Verdict::Candidates(contents)
        }
        Found::Content(false) | Found::Digest(_) | Found::Nothing => Verdict::Upload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Length = Length::new(3);

    fn digest(algorithm: Algorithm) -> Digest {
        let length = match algorithm {
            Algorithm::Blake3 | Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Crc32c => 4,
        };
        Digest::new(algorithm, &[7; 64][..length]).unwrap()
    }

    #[test]
    fn what_is_looked_up_is_what_was_named_and_is_on() {
        #[track_caller]
        fn check(algorithm: Option<Algorithm>, lookups: &[Algorithm], expected: Question) {
            assert_eq!(decide_question(algorithm.map(digest), SIZE, lookups), expected);
        }
        let by = |algorithm| Question::Digest(digest(algorithm), SIZE);
        let content = Question::Content(Identity { blake3: FileHash::new([7; 32]), size: SIZE });
        check(None, LOOKUPS, Question::Nothing);
        check(Some(Algorithm::Blake3), LOOKUPS, content);
        check(Some(Algorithm::Blake3), &[], content);
        for &algorithm in LOOKUPS {
            check(Some(algorithm), LOOKUPS, by(algorithm));
            check(Some(algorithm), &[algorithm], by(algorithm));
            check(Some(algorithm), &[], Question::Nothing);
        }
        check(Some(Algorithm::Md5), &[Algorithm::Sha256], Question::Nothing);
        check(Some(Algorithm::Sha512), LOOKUPS, Question::Nothing);
        check(Some(Algorithm::Crc32c), LOOKUPS, Question::Nothing);
    }

    #[test]
    fn only_the_content_itself_is_linked() {
        #[track_caller]
        fn check(found: Found, expected: &Verdict) {
            assert_eq!(decide_claim(found), *expected);
        }
        let contents = |count: u8| (0..count).map(|n| FileHash::new([n; 32])).collect::<Vec<_>>();
        check(Found::Content(true), &Verdict::Link);
        check(Found::Content(false), &Verdict::Upload);
        check(Found::Nothing, &Verdict::Upload);
        check(Found::Digest(contents(0)), &Verdict::Upload);
        check(Found::Digest(contents(1)), &Verdict::Candidates(contents(1)));
        check(Found::Digest(contents(2)), &Verdict::Candidates(contents(2)));
        check(Found::Digest(contents(40)), &Verdict::Candidates(contents(16)));
    }
}
