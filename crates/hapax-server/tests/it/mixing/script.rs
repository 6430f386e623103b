//! What may be done to an upload, in any order: the steps of a script, and how they are drawn. Sends nothing.

use proptest::prelude::*;

use super::model::{LONGEST, P, VERSIONS};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Tus,
    Ietf,
    Native,
}

/// How many bytes, as far as there is room for them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    Few(u64),
    Some(u64),
    /// Up to a border of segments, and so many bytes more or less.
    Segment(i64),
    /// Up to a border of parts.
    Part(i64),
    All,
}

/// How a body ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ends {
    Whole,
    /// The line breaks behind a share of it, in thousandths.
    Cut(u64),
    /// It is held open there.
    Held(u64),
}

/// What is declared of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    Nothing,
    Right,
    Wrong,
}

/// Bytes behind what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Append {
    pub(super) dialect: Dialect,
    pub(super) amount: Amount,
    pub(super) version: usize,
    pub(super) ends: Ends,
    pub(super) declared: Declared,
    /// Whether it says how long the whole is, or that it is the last one.
    pub(super) tells_size: bool,
}

/// A run of a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) number: u32,
    /// Whether it goes on behind what is kept.
    pub(super) goes_on: bool,
    pub(super) amount: Amount,
    pub(super) version: usize,
    pub(super) ends: Ends,
    pub(super) declared: Declared,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Append(Append),
    /// An append of somebody who is out of step.
    Stray {
        dialect: Dialect,
        off: u64,
    },
    Part(Run),
    Head {
        dialect: Dialect,
    },
    Digest {
        start: u64,
        length: u64,
    },
    List,
    Complete {
        declared: Declared,
    },
    Cancel {
        dialect: Dialect,
    },
    /// The request that is held open sends the rest, or breaks.
    LetGo {
        breaks: bool,
    },
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let any_dialect = || prop_oneof![Just(Dialect::Tus), Just(Dialect::Ietf), Just(Dialect::Native)];
    let appender = || prop_oneof![Just(Dialect::Tus), Just(Dialect::Ietf)];
    let amount = || {
        prop_oneof![
            2 => (0..10_u64).prop_map(Amount::Few),
            3 => (1..300_000_u64).prop_map(Amount::Some),
            3 => (-1..=1_i64).prop_map(Amount::Segment),
            3 => (-1..=1_i64).prop_map(Amount::Part),
            2 => Just(Amount::All),
        ]
    };
    let ends = || {
        prop_oneof![
            6 => Just(Ends::Whole),
            2 => (0..1_000_u64).prop_map(Ends::Cut),
            2 => (0..1_000_u64).prop_map(Ends::Held),
        ]
    };
    let declared =
        || prop_oneof![3 => Just(Declared::Nothing), 3 => Just(Declared::Right), 1 => Just(Declared::Wrong)];
    let append = (appender(), amount(), 0..VERSIONS, ends(), declared(), any::<bool>()).prop_map(
        |(dialect, amount, version, ends, declared, tells_size)| {
            Step::Append(Append { dialect, amount, version, ends, declared, tells_size })
        },
    );
    let part = (0..3_u32, any::<bool>(), amount(), 0..VERSIONS, ends(), declared()).prop_map(
        |(number, goes_on, amount, version, ends, declared)| {
            Step::Part(Run { number, goes_on, amount, version, ends, declared })
        },
    );
    prop_oneof![
        12 => append,
        12 => part,
        2 => (appender(), 1..100_000_u64).prop_map(|(dialect, off)| Step::Stray { dialect, off }),
        4 => any_dialect().prop_map(|dialect| Step::Head { dialect }),
        3 => (0..LONGEST, 0..200_000_u64).prop_map(|(start, length)| Step::Digest { start, length }),
        1 => Just(Step::List),
        2 => declared().prop_map(|declared| Step::Complete { declared }),
        1 => any_dialect().prop_map(|dialect| Step::Cancel { dialect }),
        5 => any::<bool>().prop_map(|breaks| Step::LetGo { breaks }),
    ]
}

/// An upload and what is done to it.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) creator: Dialect,
    pub(super) last: Dialect,
    pub(super) size: u64,
    pub(super) is_known: bool,
    pub(super) version: usize,
    pub(super) steps: Vec<Step>,
}

pub(super) fn any_script() -> impl Strategy<Value = Script> {
    let any_dialect = || prop_oneof![Just(Dialect::Tus), Just(Dialect::Ietf), Just(Dialect::Native)];
    let size = prop_oneof![
        1 => 0..3_u64,
        6 => 1..300_000_u64,
        2 => (0..3_u64).prop_map(|more| (128 << 10) - 1 + more),
        1 => (0..3_u64).prop_map(|more| P - 1 + more),
        2 => P..LONGEST,
        1 => (0..3_u64).prop_map(|more| 2 * P - 1 + more),
    ];
    let steps = proptest::collection::vec(any_step(), 0..20);
    (any_dialect(), any_dialect(), size, any::<bool>(), 0..VERSIONS, steps).prop_map(
        |(creator, last, size, is_known, version, steps)| Script {
            creator,
            last,
            size,
            is_known,
            version,
            steps,
        },
    )
}
