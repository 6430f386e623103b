//! The upload machine: what happens to a request on an upload, decided before a byte of its body is read.
//!
//! An upload is a sparse, verified file being filled. It is `Open` until exactly one of the other states ends
//! it. Inside it, *lanes* say where one writer at a time may write: the append lane moves the contiguous prefix
//! forward, and each native part is a lane of its own.
//!
//! ```text
//!            store, resize
//!             +------+
//!   create    |      v      complete
//!  --------->  Open  ------------------> Done
//!              |  |  \
//!       cancel |  |   \ declared digest broken for good (tus, PUT)
//!              v  v    v
//!     Cancelled  Expired  Poisoned
//! ```
//!
//! This file is kept as the worked example of "decide, then do": values in, a verdict out; the order of the
//! checks is part of the protocol, because a client acts on the first thing it is told.

use serde::{Deserialize, Serialize};

use crate::span::{Length, Offset, SIZE_MAX, Span};
use crate::tree::{PART, PartNumber, PartValue, part_count};

/// Where an upload is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Takes bytes.
    Open,
    /// Its entry is visible.
    Done,
    /// Its time ran out before it was complete.
    Expired,
    /// Its owner ended it.
    Cancelled,
    /// What it declared can no longer become true.
    Poisoned,
}

/// What is durably known about an upload's append lane.
///
/// INVARIANT: `durable` does not pass `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The first byte not there yet.
    pub durable: Offset,
    /// The size of the whole, once known.
    pub total: Option<Length>,
}

/// An append as the client stated it; `length` is unknown for a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append {
    /// Where the client believes the upload stands.
    pub at: Offset,
    /// How many bytes it announced.
    pub length: Option<Length>,
}

/// How many bytes may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The size is known: exactly what is missing.
    Exactly(Length),
    /// The size is open: up to the largest size there is.
    AtMost(Length),
}

impl Room {
    /// Returns the room behind the durable prefix.
    pub fn behind(progress: &Progress) -> Self {
        let left = |total: Length| total.end().since(progress.durable).unwrap_or(Length::ZERO);
        match progress.total {
            Some(total) => Self::Exactly(left(total)),
            None => Self::AtMost(left(Length::new(SIZE_MAX))),
        }
    }

    /// Returns the largest number of bytes that fits.
    pub fn length(self) -> Length {
        match self {
            Self::Exactly(length) | Self::AtMost(length) => length,
        }
    }
}

/// The answer to an append request, before a byte of its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendVerdict {
    /// The bytes are taken.
    Write {
        /// How many at most.
        room: Room,
    },
    /// The client is out of step; here is the truth.
    Mismatch {
        /// The durable offset.
        durable: Offset,
    },
    /// The stated body does not fit.
    TooLong {
        /// How many bytes would.
        room: Length,
    },
}

/// Decides an append: the offsets must agree, then the stated body must fit.
///
/// The order is part of the protocol: a client that is out of step learns the true
/// offset first, because that is the answer it can act on.
pub fn decide_append(progress: &Progress, append: &Append) -> AppendVerdict {
    if append.at != progress.durable {
        return AppendVerdict::Mismatch { durable: progress.durable };
    }
    let room = Room::behind(progress);
    match append.length {
        Some(length) if length > room.length() => AppendVerdict::TooLong { room: room.length() },
        _ => AppendVerdict::Write { room },
    }
}

/// What is held of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Not a byte.
    Nothing,
    /// Its first `have` bytes, kept from runs that ended early.
    Partial {
        /// How many bytes.
        have: Length,
    },
    /// All of it, with its subtree value.
    Whole {
        /// The value the server computed.
        value: PartValue,
    },
}

/// A run of bytes for one part, as the client stated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRun {
    /// Which part.
    pub number: PartNumber,
    /// Where in the part the run begins.
    pub from: Length,
    /// How many bytes it carries.
    pub length: Length,
    /// The value of the *whole* part, if declared.
    pub value: Option<PartValue>,
}

/// The answer to a part request, before a byte of its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartVerdict {
    /// The bytes are taken; `whole` is the length at which the part is complete.
    Write {
        /// The length of the part when all of it is there.
        whole: Length,
    },
    /// The very part is held already: answer without reading the body.
    AlreadyHeld,
    /// The upload ended.
    Ended(State),
    /// The upload has no such part.
    OutOfRange {
        /// How many parts it has.
        parts: u64,
    },
    /// The run does not continue what is held.
    WrongOffset {
        /// How many bytes of the part are held.
        have: Length,
    },
    /// The run is empty or passes the end of its part.
    WrongLength {
        /// How many bytes of the part are missing behind `from`.
        expected: Length,
    },
}

/// Decides a run of a part.
///
/// While the size is unknown, a run that begins a part defines where that part ends (only the last part of the
/// finished file may be short; `complete` checks that nothing is missing).
///
/// An equal part already held is answered before the length is looked at: the client repeats after a lost
/// answer, and nothing it would send can change what is there.
pub fn decide_part(state: State, size: Option<Length>, held: Held, run: &PartRun) -> PartVerdict {
    if state != State::Open {
        return PartVerdict::Ended(state);
    }
    let Some(whole) = whole_length(size, run) else {
        return PartVerdict::OutOfRange { parts: part_count(size.unwrap_or(Length::new(SIZE_MAX))) };
    };
    match (held, run.value) {
        (Held::Whole { value: ours }, Some(theirs)) if ours == theirs => return PartVerdict::AlreadyHeld,
        _ => {}
    }
    let have = match held {
        Held::Partial { have } => have,
        Held::Nothing | Held::Whole { .. } => Length::ZERO,
    };
    if !run.from.is_zero() && run.from != have {
        return PartVerdict::WrongOffset { have };
    }
    let expected = whole.checked_sub(run.from).unwrap_or(Length::ZERO);
    if run.length.is_zero() || run.length > expected {
        return PartVerdict::WrongLength { expected };
    }
    PartVerdict::Write { whole }
}

/// Returns the length of the part that the run belongs to when all of it is there, or `None` if there is no such part.
fn whole_length(size: Option<Length>, run: &PartRun) -> Option<Length> {
    match size {
        Some(size) => run.number.span(size).map(Span::length),
        None if run.number.start().get() < SIZE_MAX => {
            let stated = run.from.checked_add(run.length)?;
            // A run past the border keeps the full part as its measure, so that it is refused as too long.
            Some(stated.min(PART))
        }
        None => None,
    }
}

/// What a client declares when it says that an upload is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// The size of the whole.
    pub size: Length,
}

/// What is known when a finish is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinishFacts {
    /// Where the upload is in its life.
    pub state: State,
    /// The size agreed on so far.
    pub size: Option<Length>,
    /// How many bytes are durable in front of the first hole.
    pub covered: Length,
}

/// The answer to `complete`, before the root is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishVerdict {
    /// Nothing is missing: compute the root and publish.
    Publish,
    /// It was published before: answer what was answered then.
    Replay,
    /// The upload ended otherwise.
    Ended(State),
    /// Another size was agreed on.
    WrongSize {
        /// That size.
        agreed: Length,
    },
    /// Bytes are missing.
    Incomplete,
}

/// Decides `complete`.
pub fn decide_finish(facts: &FinishFacts, finish: &Finish) -> FinishVerdict {
    match facts.state {
        State::Open => {}
        State::Done => return FinishVerdict::Replay,
        state => return FinishVerdict::Ended(state),
    }
    match facts.size {
        Some(agreed) if agreed != finish.size => FinishVerdict::WrongSize { agreed },
        _ if facts.covered != finish.size => FinishVerdict::Incomplete,
        _ => FinishVerdict::Publish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = PART.get();

    fn len(n: u64) -> Length {
        Length::new(n)
    }

    fn value(byte: u8) -> PartValue {
        PartValue::new([byte; 32])
    }

    #[test]
    fn an_append_agrees_on_the_offset_first() {
        #[track_caller]
        fn check(durable: u64, total: Option<u64>, at: u64, length: Option<u64>, verdict: AppendVerdict) {
            let progress = Progress { durable: Offset::new(durable), total: total.map(Length::new) };
            let append = Append { at: Offset::new(at), length: length.map(Length::new) };
            assert_eq!(decide_append(&progress, &append), verdict);
        }
        let exactly = |n| AppendVerdict::Write { room: Room::Exactly(len(n)) };
        check(0, Some(10), 0, Some(10), exactly(10));
        check(4, Some(10), 4, Some(6), exactly(6));
        check(4, Some(10), 4, None, exactly(6));
        check(10, Some(10), 10, Some(0), exactly(0));
        check(4, Some(10), 4, Some(7), AppendVerdict::TooLong { room: len(6) });
        check(4, Some(10), 3, Some(99), AppendVerdict::Mismatch { durable: Offset::new(4) });
        check(4, Some(10), 5, None, AppendVerdict::Mismatch { durable: Offset::new(4) });
        check(4, None, 4, None, AppendVerdict::Write { room: Room::AtMost(len(SIZE_MAX - 4)) });
        check(4, None, 4, Some(SIZE_MAX), AppendVerdict::TooLong { room: len(SIZE_MAX - 4) });
    }

    #[track_caller]
    fn check_part(size: Option<u64>, held: Held, run: (u32, u64, u64, Option<u8>), verdict: PartVerdict) {
        let (number, from, length, declared) = run;
        let run = PartRun {
            number: PartNumber::new(number),
            from: len(from),
            length: len(length),
            value: declared.map(value),
        };
        assert_eq!(decide_part(State::Open, size.map(Length::new), held, &run), verdict);
    }

    #[test]
    fn a_part_takes_what_belongs_to_it() {
        let write = |n| PartVerdict::Write { whole: len(n) };
        check_part(Some(3 * P), Held::Nothing, (0, 0, P, None), write(P));
        check_part(Some(2 * P + 5), Held::Nothing, (2, 0, 5, None), write(5));
        check_part(Some(2 * P + 5), Held::Nothing, (1, 0, 7, None), write(P));
        check_part(Some(P), Held::Partial { have: len(9) }, (0, 9, P - 9, Some(1)), write(P));
        check_part(Some(P), Held::Partial { have: len(9) }, (0, 0, P, Some(1)), write(P));
        check_part(Some(P), Held::Whole { value: value(1) }, (0, 0, P, Some(2)), write(P));
        check_part(Some(P), Held::Whole { value: value(1) }, (0, 0, P, None), write(P));
    }

    #[test]
    fn a_part_outside_the_size_does_not_exist() {
        check_part(Some(2 * P), Held::Nothing, (2, 0, 1, None), PartVerdict::OutOfRange { parts: 2 });
        check_part(Some(0), Held::Nothing, (0, 0, 1, None), PartVerdict::OutOfRange { parts: 0 });
        check_part(
            None,
            Held::Nothing,
            (u32::MAX, 0, 1, None),
            PartVerdict::OutOfRange { parts: 59_604_645 },
        );
    }

    #[test]
    fn a_run_continues_exactly_what_is_held() {
        let wrong = |n| PartVerdict::WrongOffset { have: len(n) };
        check_part(Some(P), Held::Nothing, (0, 1, 1, None), wrong(0));
        check_part(Some(P), Held::Partial { have: len(9) }, (0, 8, 1, None), wrong(9));
        check_part(Some(P), Held::Partial { have: len(9) }, (0, 10, 1, None), wrong(9));
        check_part(Some(P), Held::Whole { value: value(1) }, (0, 5, 1, Some(2)), wrong(0));
    }

    #[test]
    fn a_run_is_neither_empty_nor_passes_its_part() {
        check_part(Some(10), Held::Nothing, (0, 0, 11, None), PartVerdict::WrongLength { expected: len(10) });
        check_part(Some(10), Held::Nothing, (0, 0, 0, None), PartVerdict::WrongLength { expected: len(10) });
        check_part(
            Some(P),
            Held::Partial { have: len(9) },
            (0, 9, P, None),
            PartVerdict::WrongLength { expected: len(P - 9) },
        );
        check_part(None, Held::Nothing, (0, 0, P + 1, None), PartVerdict::WrongLength { expected: len(P) });
    }

    #[test]
    fn an_equal_part_is_answered_at_once() {
        check_part(Some(P), Held::Whole { value: value(1) }, (0, 0, P, Some(1)), PartVerdict::AlreadyHeld);
        check_part(Some(P), Held::Whole { value: value(1) }, (0, 7, 1, Some(1)), PartVerdict::AlreadyHeld);
    }

    #[test]
    fn while_the_size_is_unknown_a_run_says_where_its_part_ends() {
        check_part(None, Held::Nothing, (0, 0, P, None), PartVerdict::Write { whole: len(P) });
        check_part(None, Held::Nothing, (7, 0, 5, None), PartVerdict::Write { whole: len(5) });
        check_part(
            None,
            Held::Partial { have: len(5) },
            (7, 5, 5, None),
            PartVerdict::Write { whole: len(10) },
        );
    }

    #[test]
    fn an_ended_upload_takes_nothing() {
        for state in [State::Done, State::Expired, State::Cancelled, State::Poisoned] {
            let run = PartRun { number: PartNumber::new(9), from: len(1), length: len(0), value: None };
            assert_eq!(decide_part(state, Some(len(1)), Held::Nothing, &run), PartVerdict::Ended(state));
        }
    }

    #[test]
    fn a_finish_wants_every_byte() {
        #[track_caller]
        fn check(state: State, size: Option<u64>, covered: u64, declared: u64, verdict: FinishVerdict) {
            let facts = FinishFacts { state, size: size.map(Length::new), covered: len(covered) };
            assert_eq!(decide_finish(&facts, &Finish { size: len(declared) }), verdict);
        }
        check(State::Open, Some(10), 10, 10, FinishVerdict::Publish);
        check(State::Open, None, 10, 10, FinishVerdict::Publish);
        check(State::Open, Some(0), 0, 0, FinishVerdict::Publish);
        check(State::Open, Some(10), 9, 10, FinishVerdict::Incomplete);
        check(State::Open, None, 10, 9, FinishVerdict::Incomplete);
        check(State::Open, Some(10), 10, 11, FinishVerdict::WrongSize { agreed: len(10) });
        check(State::Done, Some(10), 10, 11, FinishVerdict::Replay);
        check(State::Expired, Some(10), 10, 10, FinishVerdict::Ended(State::Expired));
    }
}
