//! The ladder of a claim: what is looked up for "I have this content", and what the answer is for what was found. A digest
//! is no credential: what others hold is handed to nobody who only knows what it is called, and where the scope ends at the
//! caller it is not even looked up. It looks nothing up itself and links nothing.
//!
//! ```text
//!   BLAKE3 and size      ─▶ that very content ─┬─ held ─▶ link
//!                                              └─ not ──▶ wider
//!   MD5, SHA-1, SHA-256  ─▶ what has it ───────┬─ some ─▶ candidates: their BLAKE3, to be claimed next
//!     and size, if on                          └─ none ─▶ wider
//!   quick and size       ─▶ what is as large ──┬─ alike ▶ maybe
//!                                              └─ none ─▶ absent
//!   anything else        ─▶ nothing ─────────────────────▶ upload
//!
//!   wider: the scope ends at the caller, or the file is small ───────────────▶ upload
//!          fewer others hold it than the scope demands ──────────────────────▶ upload
//!          else ─▶ challenge: a keyed hash over the whole file ─┬─ right ────▶ link
//!                                                               └─ any other ▶ upload
//! ```

mod proof;
mod quick;

use std::fmt;
use std::str::FromStr;

pub use proof::{CHALLENGE_LIFETIME, Proof, ProofHasher, Seed, more_time};
pub use quick::{QuickHasher, quick_spans};

use crate::digest::{Algorithm, Digest, FileHash, Identity};
use crate::span::Length;

/// The algorithms by whose digests a server may let contents be found, besides BLAKE3. It computes those it was told to.
pub const LOOKUPS: &[Algorithm] = &[Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha1];

/// The most candidates of one claim: more contents of one digest have only whoever forges them.
pub const CANDIDATES_MAX: usize = 16;

/// The most contents that one challenge may be about.
pub const CHALLENGED_MAX: usize = 4;

/// Whose contents a claim may be answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scope {
    /// Nobody's: everything is sent, and stored once all the same.
    Off,
    /// The caller's own.
    #[default]
    User,
    /// Also those of the accounts in the caller's group, for who proves to have the file.
    Group,
    /// Also those of any account, if enough of them have it, for who proves to have the file.
    Server,
}

impl Scope {
    /// Every scope, the narrowest first.
    pub const ALL: &'static [Self] = &[Self::Off, Self::User, Self::Group, Self::Server];

    /// Returns how it is spelled.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::User => "user",
            Self::Group => "group",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is none of off, user, group and server")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.iter().copied().find(|scope| scope.key() == text).ok_or(UnknownScope)
    }
}

/// How claims are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whose contents they may be answered from.
    pub scope: Scope,
    /// The algorithms that contents are found by besides BLAKE3.
    pub lookups: Vec<Algorithm>,
    /// The smallest file that is looked up beyond the caller's own: a small one can be guessed.
    pub wide_min: Length,
    /// How many other accounts must hold a content in scope `server`, at the most; for each content it is another number
    /// from two to this one, which nobody outside knows. Less than two is one.
    pub holders_max: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            scope: Scope::User,
            lookups: vec![Algorithm::Sha256, Algorithm::Md5],
            wide_min: Length::new(1 << 20),
            holders_max: 8,
        }
    }
}

impl Rules {
    /// Tells whether a file of this size is looked up beyond the caller's own.
    pub fn reach_beyond_the_caller(&self, size: Length) -> bool {
        self.scope >= Scope::Group && size >= self.wide_min
    }

    /// Returns how many other accounts within the scope must hold a content so that it is spoken of. In scope `server` the
    /// number depends on the content's fingerprint, which is secret: who adds accounts of their own until an answer changes
    /// does not learn how many others there were (Harnik, Pinkas, Shulman-Peleg: Side Channels in Cloud Services, 2010).
    pub fn holders_wanted(&self, fingerprint: &[u8; 32]) -> u32 {
        if self.scope != Scope::Server || self.holders_max < 2 {
            return 1;
        }
        let choices = u64::from(self.holders_max - 1);
        let random = blake3::derive_key("hapax 2026-11 holders of a content", fingerprint);
        let random = u64::from_le_bytes(random[..8].try_into().expect("eight of 32 bytes"));
        // The remainder of 64 bits is as good as uniform for so few choices.
        2 + u32::try_from(random % choices).expect("less than a u32")
    }
}

/// What is to be looked up in the caller's space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// This very content.
    Content(Identity),
    /// Contents of this digest and size.
    Digest(Digest, Length),
    /// Contents of this quick digest and size.
    Quick(FileHash, Length),
    /// Nothing: what was said finds nothing here.
    Nothing,
}

/// Decides what a claim has looked up. Who tells a digest need not tell the quick one.
pub fn decide_question(
    digest: Option<Digest>,
    quick: Option<FileHash>,
    size: Length,
    rules: &Rules,
) -> Question {
    match (digest, quick) {
        _ if rules.scope == Scope::Off => Question::Nothing,
        (Some(digest), _) => match digest.file_hash() {
            Some(blake3) => Question::Content(Identity { blake3, size }),
            None if rules.lookups.contains(&digest.algorithm()) => Question::Digest(digest, size),
            None => Question::Nothing,
        },
        (None, Some(quick)) => Question::Quick(quick, size),
        (None, None) => Question::Nothing,
    }
}

/// What was found in the caller's space, by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// For a content: whether it is there.
    Content(bool),
    /// For a digest: what has it.
    Digest(Vec<FileHash>),
    /// For a quick digest: whether something there may have it.
    Quick(bool),
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
    /// The bytes are to be sent, unless others have them and may be asked.
    Upload,
    /// Nothing of the caller's is like it: hashing it first is not worth it.
    Absent,
    /// Something of the caller's may be it: hash it first.
    Maybe,
}

/// Decides a claim from what was found in the caller's space.
pub fn decide_claim(found: Found) -> Verdict {
    match found {
        Found::Content(true) => Verdict::Link,
        Found::Digest(mut contents) if !contents.is_empty() => {
            contents.truncate(CANDIDATES_MAX);
            Verdict::Candidates(contents)
        }
        Found::Quick(true) => Verdict::Maybe,
        Found::Quick(false) => Verdict::Absent,
        Found::Content(false) | Found::Digest(_) | Found::Nothing => Verdict::Upload,
    }
}

/// A content beyond the caller's own that a claim named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wide<'a> {
    /// Its fingerprint.
    pub fingerprint: &'a [u8; 32],
    /// How many other accounts within the scope hold it.
    pub holders: u32,
}

/// Decides whether a content beyond the caller's own is spoken of, which is to say that the caller is challenged to prove
/// that it has it: whether as many hold it as the scope demands. What is not spoken of is answered like what nobody has.
pub fn decide_challenge(rules: &Rules, size: Length, content: Wide<'_>) -> bool {
    rules.reach_beyond_the_caller(size) && content.holders >= rules.holders_wanted(content.fingerprint)
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
            let rules = Rules { lookups: lookups.to_vec(), ..Rules::default() };
            let digest = algorithm.map(digest);
            assert_eq!(decide_question(digest, None, SIZE, &rules), expected);
            let quick = Some(FileHash::new([8; 32]));
            let expected =
                if digest.is_none() { Question::Quick(FileHash::new([8; 32]), SIZE) } else { expected };
            assert_eq!(decide_question(digest, quick, SIZE, &rules), expected);
            let off = Rules { scope: Scope::Off, ..rules };
            assert_eq!(decide_question(digest, quick, SIZE, &off), Question::Nothing);
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
        check(Found::Quick(false), &Verdict::Absent);
        check(Found::Quick(true), &Verdict::Maybe);
        check(Found::Digest(contents(0)), &Verdict::Upload);
        check(Found::Digest(contents(1)), &Verdict::Candidates(contents(1)));
        check(Found::Digest(contents(2)), &Verdict::Candidates(contents(2)));
        check(Found::Digest(contents(40)), &Verdict::Candidates(contents(16)));
    }

    fn rules(scope: Scope, holders_max: u32) -> Rules {
        Rules { scope, holders_max, wide_min: Length::new(10), ..Rules::default() }
    }

    #[test]
    fn what_others_have_is_spoken_of_only_within_the_scope() {
        #[track_caller]
        fn check(scope: Scope, size: u64, holders: u32, expected: bool) {
            let content = Wide { fingerprint: &[7; 32], holders };
            assert_eq!(decide_challenge(&rules(scope, 2), Length::new(size), content), expected);
        }
        for size in [9, 10] {
            check(Scope::Off, size, 99, false);
            check(Scope::User, size, 99, false);
            check(Scope::Group, size, 0, false);
            check(Scope::Group, size, 1, size == 10);
            check(Scope::Server, size, 1, false);
            check(Scope::Server, size, 2, size == 10);
        }
    }

    #[test]
    fn how_many_must_hold_it_is_another_number_for_each_content_and_always_the_same_one() {
        let wanted = |holders_max, n: u8| rules(Scope::Server, holders_max).holders_wanted(&[n; 32]);
        let of_eight: std::collections::BTreeSet<_> = (0..=255).map(|n| wanted(8, n)).collect();
        assert_eq!(of_eight, (2..=8).collect());
        assert!((0..=255).all(|n| wanted(8, n) == wanted(8, n)));
        assert!((0..=255).all(|n| wanted(2, n) == 2 && wanted(1, n) == 1 && wanted(0, n) == 1));
        assert_eq!(rules(Scope::Group, 8).holders_wanted(&[7; 32]), 1);
    }

    #[test]
    fn scopes_are_spelled_as_they_are_read() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(*scope));
        }
        assert_eq!("User".parse::<Scope>(), Err(UnknownScope));
    }
}
