//! What a client sends next: the difference between the source it has and the upload a server holds. Owns that
//! difference, part by part; never reads a source, asks a server or keeps a checkpoint.
//!
//! ```text
//!   source, by its values     v0   v1   v2'  ?    v4          the checkpoint knows some, hashing finds the rest
//!   upload, by its values     v0   v1   v2   v3   ◐           whole parts, a kept prefix, nothing
//!                             ─────────────────────────
//!   plan                      keep keep send cmp  continue
//! ```
//!
//! A byte is kept only where values prove it equal. So a source that changed between two sessions, or while it was
//! sent, costs the parts that differ and no others; and it costs the same plan, because nothing here asks whether
//! this is a resume.

use std::collections::BTreeMap;

use crate::span::{Length, Span};
use crate::tree::{PartNumber, PartValue, parts};
use crate::upload::{Held, State};

/// The source as the client knows it now.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its size.
    pub size: Length,
    /// The values of the parts that were hashed, and of which it is certain that they still hold.
    pub values: &'a BTreeMap<PartNumber, PartValue>,
    /// The values that were declared when the parts were last sent, over however many sessions. They vouch for the
    /// prefixes that the server kept of runs that were cut, even if the source changed since.
    pub declared: &'a BTreeMap<PartNumber, PartValue>,
}

/// The upload as the server told it.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// Where it is in its life.
    pub state: State,
    /// The size agreed on, if one was.
    pub size: Option<Length>,
    /// What is held of its parts; a part that is not in here holds nothing.
    pub held: &'a BTreeMap<PartNumber, Held>,
}

/// What to do with one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The server holds the very bytes.
    Keep,
    /// The server holds a part of which it is not known whether it equals the source's: hash, then decide again.
    Compare,
    /// Its bytes from `from` on must be sent, under the value of the whole part.
    Send {
        /// How many bytes of the part are kept; they are proven equal.
        from: Length,
    },
}

/// What to do with an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// There is none that could become this source: create one, under a new key.
    Begin,
    /// Tell the server the source's size, ask what it holds then, and plan again. What happens to the parts at the
    /// old end is the server's to say.
    Resize,
    /// Walk through the parts in order, then complete. An upload that is done needs no part any more, but the
    /// values of all, so that what it became can be compared.
    Fill(Vec<(PartNumber, Step)>),
}

/// Plans the way from what the server holds to the source.
///
/// `None` for the upload means that none was created, or that the server does not know it any more.
pub fn plan_resume(source: &Source<'_>, upload: Option<&Upload<'_>>) -> Plan {
    let Some(upload) = upload else { return Plan::Begin };
    match upload.state {
        State::Expired | State::Cancelled | State::Poisoned => Plan::Begin,
        // What is published cannot grow: another size is another file.
        State::Done if upload.size != Some(source.size) => Plan::Begin,
        State::Done => Plan::Fill(parts(source.size).map(|(part, _)| (part, Step::Keep)).collect()),
        State::Open if upload.size != Some(source.size) => Plan::Resize,
        State::Open => Plan::Fill(
            parts(source.size)
                .map(|(part, _)| {
                    let held = upload.held.get(&part).copied().unwrap_or(Held::Nothing);
                    (part, decide_step(source, part, held))
                })
                .collect(),
        ),
    }
}

/// Decides what to do with one part, of which the server holds `held`.
pub fn decide_step(source: &Source<'_>, part: PartNumber, held: Held) -> Step {
    let ours = source.values.get(&part);
    match (held, ours) {
        (Held::Whole { .. } | Held::Partial { .. }, None) => Step::Compare,
        (Held::Whole { value }, Some(ours)) if value == *ours => Step::Keep,
        (Held::Nothing, _) | (Held::Whole { .. }, Some(_)) => Step::Send { from: Length::ZERO },
        (Held::Partial { have }, Some(ours)) => {
            let vouched = source.declared.get(&part) == Some(ours);
            // A prefix as long as the part cannot be continued by a byte; it is sent again as a whole.
            let continues = part.span(source.size).is_some_and(|span| have < span.length());
            Step::Send { from: if vouched && continues { have } else { Length::ZERO } }
        }
    }
}

/// Returns how many bytes of the part a step leaves to be sent, at most.
pub fn outstanding(step: Step, span: Span) -> Length {
    match step {
        Step::Keep => Length::ZERO,
        Step::Compare => span.length(),
        Step::Send { from } => span.length().checked_sub(from).unwrap_or(Length::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::tree::PART;

    const P: u64 = PART.get();

    fn number(part: u32) -> PartNumber {
        PartNumber::new(part)
    }

    fn value(byte: u8) -> PartValue {
        PartValue::new([byte; 32])
    }

    fn values(of: &[(u32, u8)]) -> BTreeMap<PartNumber, PartValue> {
        of.iter().map(|(part, byte)| (number(*part), value(*byte))).collect()
    }

    fn whole(byte: u8) -> Held {
        Held::Whole { value: value(byte) }
    }

    fn partial(have: u64) -> Held {
        Held::Partial { have: Length::new(have) }
    }

    fn send(from: u64) -> Step {
        Step::Send { from: Length::new(from) }
    }

    #[test]
    fn a_part_is_kept_only_where_values_prove_it_equal() {
        #[track_caller]
        fn check(ours: Option<u8>, declared: Option<u8>, held: Held, step: Step) {
            let known = |byte: Option<u8>| byte.map(|byte| (number(0), value(byte))).into_iter().collect();
            let (ours, declared) = (known(ours), known(declared));
            let source = Source { size: Length::new(100), values: &ours, declared: &declared };
            assert_eq!(decide_step(&source, number(0), held), step);
        }
        check(Some(1), None, whole(1), Step::Keep);
        check(Some(1), Some(2), whole(1), Step::Keep);
        check(Some(1), Some(1), whole(2), send(0));
        check(None, Some(1), whole(1), Step::Compare);
        check(None, None, Held::Nothing, send(0));
        check(Some(1), Some(1), Held::Nothing, send(0));
        check(Some(1), Some(1), partial(7), send(7));
        check(Some(1), Some(2), partial(7), send(0));
        check(Some(1), None, partial(7), send(0));
        check(None, Some(1), partial(7), Step::Compare);
        check(Some(1), Some(1), partial(100), send(0));
        check(Some(1), Some(1), partial(101), send(0));
    }

    #[test]
    fn an_upload_is_continued_begun_anew_or_given_its_new_size() {
        #[track_caller]
        fn check(size: u64, upload: Option<(State, Option<u64>)>, plan: &Plan) {
            let (none, held) = (BTreeMap::new(), BTreeMap::from([(number(0), whole(1))]));
            let ours = values(&[(0, 1)]);
            let source = Source { size: Length::new(size), values: &ours, declared: &none };
            let upload =
                upload.map(|(state, size)| Upload { state, size: size.map(Length::new), held: &held });
            assert_eq!(&plan_resume(&source, upload.as_ref()), plan);
        }
        let fill = |steps: &[Step]| Plan::Fill((0..).map(number).zip(steps.iter().copied()).collect());
        check(P + 1, None, &Plan::Begin);
        check(P + 1, Some((State::Open, Some(P + 1))), &fill(&[Step::Keep, send(0)]));
        check(P + 1, Some((State::Open, Some(P))), &Plan::Resize);
        check(P, Some((State::Open, Some(P + 1))), &Plan::Resize);
        check(P, Some((State::Open, None)), &Plan::Resize);
        check(P, Some((State::Expired, Some(P))), &Plan::Begin);
        check(P, Some((State::Cancelled, Some(P))), &Plan::Begin);
        check(P, Some((State::Poisoned, Some(P))), &Plan::Begin);
        check(P + 1, Some((State::Done, Some(P + 1))), &fill(&[Step::Keep, Step::Keep]));
        check(P + 1, Some((State::Done, Some(P))), &Plan::Begin);
        check(0, Some((State::Open, Some(0))), &fill(&[]));
    }

    /// A part in the model: how long its prefix of the source's bytes is, and of which version.
    #[derive(Debug, Clone, Copy)]
    enum Kept {
        Nothing,
        Prefix { version: u8, have: u64 },
        Whole { version: u8 },
    }

    fn kept() -> impl Strategy<Value = Kept> {
        prop_oneof![
            Just(Kept::Nothing),
            (0..3_u8, 1..P).prop_map(|(version, have)| Kept::Prefix { version, have }),
            (0..3_u8).prop_map(|version| Kept::Whole { version }),
        ]
    }

    proptest! {
        /// Walks a plan as the engine does, over a server whose parts are of versions 0 to 2 of the source. At the
        /// end every part is of the source's own version, and no byte was sent that could be known to be there.
        #[test]
        fn a_plan_covers_exactly_the_difference(
            versions in vec(0..3_u8, 1..6),
            last in 1..=P,
            server in vec(kept(), 6),
            known in vec(any::<bool>(), 6),
            declared in btree_map(0..6_u32, 0..3_u8, 0..6),
        ) {
            let count = versions.len();
            let size = Length::new(u64::try_from(count - 1).unwrap() * P + last);
            let mut ours: BTreeMap<_, _> = (0..).zip(&versions).filter(|(part, _)| known[*part as usize])
                .map(|(part, version)| (number(part), value(*version))).collect();
            // The client declares a value before it sends a byte under it, so what is kept vouches for itself
            // wherever the checkpoint survived; where it says another value, the run is not ours.
            let declared: BTreeMap<_, _> = declared.into_iter().map(|(part, version)| {
                let version = match server[part as usize] { Kept::Prefix { version, .. } => version, _ => version };
                (number(part), value(version))
            }).collect();
            let held: BTreeMap<_, _> = (0..).zip(&server).filter_map(|(part, kept)| Some((number(part), match kept {
                Kept::Nothing => return None,
                Kept::Prefix { have, .. } => partial(*have),
                Kept::Whole { version } => whole(*version),
            }))).collect();
            let upload = Upload { state: State::Open, size: Some(size), held: &held };
            let source = Source { size, values: &ours, declared: &declared };
            let Plan::Fill(steps) = plan_resume(&source, Some(&upload)) else { panic!("the sizes agree") };
            prop_assert_eq!(steps.len(), count);
            for ((index, version), (part, mut step)) in (0_usize..).zip(&versions).zip(steps) {
                if step == Step::Compare {
                    prop_assert!(!ours.contains_key(&part), "what is known is not hashed again");
                    ours.insert(part, value(*version));
                    let source = Source { size, values: &ours, declared: &declared };
                    step = decide_step(&source, part, held[&part]);
                }
                let length = part.span(size).unwrap().length();
                match (step, server[index]) {
                    (Step::Keep, Kept::Whole { version: theirs }) => prop_assert_eq!(theirs, *version),
                    (Step::Send { from }, Kept::Whole { version: theirs }) => {
                        prop_assert_ne!(theirs, *version);
                        prop_assert!(from.is_zero());
                    }
                    (Step::Send { from }, Kept::Prefix { version: theirs, have }) => {
                        let provable = declared.get(&part) == Some(&value(*version)) && have < length.get();
                        prop_assert_eq!(from.get(), if provable { have } else { 0 });
                        prop_assert!(from.is_zero() || theirs == *version, "two versions in one part");
                    }
                    (Step::Send { from }, Kept::Nothing) => prop_assert!(from.is_zero()),
                    (step, kept) => prop_assert!(false, "{:?} for {:?}", step, kept),
                }
                prop_assert!(outstanding(step, part.span(size).unwrap()) <= length);
            }
        }
    }
}
