//! Whether a file is worth recognising before all of it is sent, and when: the course of a put. Owns that choice; it
//! neither asks a server nor reads a file, and what a claim comes to is `claim`'s.
//!
//! ```text
//!   what the server does ─┐
//!   what is missing there ─┼─▶ probe? ─▶ absent, maybe, unknown ─▶ hash first   maybe: reading is cheaper than sending
//!   what was claimed ─────┘                                      ─▶ overlap      send, hash ahead, claim on the way
//!                                                                ─▶ send         no claim can succeed
//! ```
//!
//! Hashing costs the same whatever the course: every part needs its value. What differs is the order, and whether a claim
//! is made when the values of all parts are known.

use crate::span::Length;
use crate::tree::PART;

/// What a server does with claims, by the features that it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// It links what the caller has.
    pub claims: bool,
    /// It tells by three MiB of a file whether the caller may have it.
    pub quick: bool,
    /// It may link what others have, to who proves to have it.
    pub challenge: bool,
}

impl Abilities {
    /// Reads the features of a service; what is not among them is not asked for.
    pub fn of<T: AsRef<str>>(features: &[T]) -> Self {
        let has = |name: &str| features.iter().any(|feature| feature.as_ref() == name);
        let claims = has("claims");
        Self { claims, quick: claims && has("quick"), challenge: claims && has("challenge") }
    }
}

/// What a server says of a file of which only three places were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The caller has nothing like it.
    Absent,
    /// The caller may have it.
    Maybe,
    /// The server does not say.
    Unknown,
}

/// What is known of a put, apart from the server's abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prospect {
    /// How much of the file the server does not hold.
    pub missing: Length,
    /// Whether this very content was claimed already, and is to be sent.
    pub claimed: bool,
}

impl Prospect {
    /// Tells whether a claim could save more than it costs: the last part is sent about as fast as the claim is answered.
    pub fn is_worth_a_claim(self) -> bool {
        !self.claimed && self.missing > PART
    }
}

/// In which order a file is hashed and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Hash all of it, as fast as it can be read, claim it, and send only what the claim leaves.
    HashFirst,
    /// Send at once, hash ahead, claim when the hash is known, and drop the rest if the content is recognised.
    Overlap,
    /// Send; hash only what is sent. No claim can succeed.
    Send,
}

/// Decides whether a probe is worth its round trip. Without one, or until it is answered, the likeness is unknown.
pub fn is_worth_probing(abilities: Abilities, prospect: Prospect) -> bool {
    abilities.quick && prospect.is_worth_a_claim()
}

/// Decides the course.
///
/// A probe looks only at what is the caller's own. So "absent" ends the matter unless the server may also link what others
/// have; and "maybe" is worth waiting for the hash, because what is alike at three places mostly is the same file.
pub fn decide_course(abilities: Abilities, prospect: Prospect, likeness: Likeness) -> Course {
    if !abilities.claims || !prospect.is_worth_a_claim() {
        return Course::Send;
    }
    match likeness {
        Likeness::Maybe => Course::HashFirst,
        Likeness::Absent if !abilities.challenge => Course::Send,
        Likeness::Absent | Likeness::Unknown => Course::Overlap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: &[&str] = &["batch", "tree"];
    const OLD: &[&str] = &["tree", "claims"];
    const USER: &[&str] = &["tree", "claims", "candidates", "quick"];
    const WIDE: &[&str] = &["tree", "claims", "quick", "challenge"];

    fn missing(parts: u64, bytes: u64) -> Prospect {
        Prospect { missing: Length::new(parts * PART.get() + bytes), claimed: false }
    }

    #[test]
    fn the_course_follows_from_what_a_claim_could_save() {
        use Course::{HashFirst, Overlap, Send};
        #[track_caller]
        fn check(features: &[&str], prospect: Prospect, courses: [Course; 3]) {
            let abilities = Abilities::of(features);
            let by = |likeness| decide_course(abilities, prospect, likeness);
            assert_eq!([Likeness::Absent, Likeness::Maybe, Likeness::Unknown].map(by), courses);
        }
        let much = missing(640, 5);
        //          features         absent   maybe      unknown
        check(USER, much, [Send, HashFirst, Overlap]);
        check(WIDE, much, [Overlap, HashFirst, Overlap]);
        check(OLD, much, [Send, HashFirst, Overlap]);
        check(OFF, much, [Send, Send, Send]);
        // What the server holds of an interrupted upload need not be recognised.
        check(USER, missing(1, 1), [Send, HashFirst, Overlap]);
        for little in [missing(1, 0), missing(0, 1), missing(0, 0)] {
            check(WIDE, little, [Send, Send, Send]);
        }
        // A digest that was known was claimed before anything else.
        check(WIDE, Prospect { claimed: true, ..much }, [Send, Send, Send]);
    }

    #[test]
    fn only_what_could_be_answered_is_probed() {
        #[track_caller]
        fn check(features: &[&str], prospect: Prospect, expected: bool) {
            assert_eq!(is_worth_probing(Abilities::of(features), prospect), expected);
        }
        let much = missing(640, 5);
        check(USER, much, true);
        check(WIDE, much, true);
        check(OLD, much, false);
        check(OFF, much, false);
        check(USER, missing(1, 0), false);
        check(USER, Prospect { claimed: true, ..much }, false);
    }

    #[test]
    fn what_belongs_to_claims_is_nothing_without_them() {
        assert_eq!(Abilities::of(&["quick", "challenge"]), Abilities::default());
        assert_eq!(
            Abilities::of(&["challenge".to_owned(), "claims".to_owned()]),
            Abilities { claims: true, quick: false, challenge: true }
        );
    }
}
