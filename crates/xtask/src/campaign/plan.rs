//! From a seed to what happens when: pure choices, so that a seed replays them. Moments are chosen by the bytes
//! seen on the line, as shares of what is still to come, because how much that will be depends on what survives.

use std::time::Duration;

use crate::rig::bytes::{MIB, PART};
use crate::rig::dice::Dice;
use crate::rig::link::{Counts, Moment, Way};

/// Which faults of all that there could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    /// So many of the first calls.
    First(usize),
    /// So many, spread over all calls.
    Spread(usize),
}

/// How much of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scale {
    /// The smallest and the largest file. Sizes between are drawn to the byte.
    pub(crate) size_min: u64,
    pub(crate) size_max: u64,
    /// Kills and cuts of each kind.
    pub(crate) strikes: u32,
    /// Edits, replacements, races and refusals of each kind: each moves a whole file, so there are fewer.
    pub(crate) events: u32,
    /// The size of the disk that gets full: the server's reserve, and room for two files.
    pub(crate) disk: u64,
    /// The size of the file by which memory is measured, and of each of a crowd.
    pub(crate) memory: u64,
    pub(crate) crowd: u64,
    /// Calls on the catalog's files that fail.
    pub(crate) faults: Faults,
    /// How long one command may take before it counts as hanging.
    pub(crate) patience: Duration,
}

impl Scale {
    /// What every change is measured by: a few minutes on two busy cores in the dev profile.
    pub(crate) const SHORT: Self = Self {
        size_min: 64 * MIB,
        size_max: 96 * MIB,
        strikes: 20,
        events: 5,
        disk: 1_024 * MIB,
        memory: 256 * MIB,
        crowd: 4 * MIB,
        faults: Faults::Spread(20),
        patience: Duration::from_mins(2),
    };
    /// What a release is measured by.
    pub(crate) const FULL: Self = Self {
        size_min: 2_048 * MIB - PART,
        size_max: 2_048 * MIB,
        strikes: 200,
        events: 100,
        disk: 6_144 * MIB,
        memory: 2_048 * MIB,
        crowd: 32 * MIB,
        faults: Faults::First(200),
        patience: Duration::from_mins(30),
    };

    /// Returns the scale with files of another size, and with disk and patience for them.
    pub(crate) fn with_size(self, size: u64) -> Self {
        Self {
            size_min: size.saturating_sub(PART).max(1),
            size_max: size,
            disk: RESERVE + size * 5 / 2,
            memory: size,
            patience: self.patience.max(Duration::from_secs(120 + size / CRAWL)),
            ..self
        }
    }

    /// Returns the scale with so many strikes of each kind that kills or cuts.
    pub(crate) fn with_strikes(self, strikes: u32) -> Self {
        Self { strikes, ..self }
    }
}

/// What a server keeps free on its disk, with something to spare.
const RESERVE: u64 = 1_024 * MIB;
/// So many bytes a second any transfer makes that does not hang, also on a slow line and a busy machine.
const CRAWL: u64 = 2 * MIB;

/// Reads a size: a number of bytes, or of `KiB`, `MiB` or `GiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => MIB,
        "GiB" => MIB << 10,
        unit => return Err(format!("{unit:?} is no unit; there are KiB, MiB and GiB")),
    };
    let number = digits.parse::<u64>().map_err(|error| format!("{digits:?}: {error}"))?;
    number.checked_mul(factor).filter(|size| *size > 0).ok_or_else(|| "no size of a file".to_owned())
}

/// Which way a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Put,
    Get,
}

impl Direction {
    /// Returns the way of the content.
    pub(crate) fn content(self) -> Way {
        match self {
            Self::Put => Way::Up,
            Self::Get => Way::Down,
        }
    }

    /// Returns the way of the answers or requests.
    fn control(self) -> Way {
        match self {
            Self::Put => Way::Down,
            Self::Get => Way::Up,
        }
    }
}

/// What is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Client,
    Server,
    Both,
    Line,
}

/// When it is struck, in thousandths of what is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// When so much content is on its way.
    Content(u64),
    /// When so much of the other way has been said: right behind an acknowledgement, or a request.
    Control(u64),
    /// When the last content is on its way and the finish begins.
    Finish,
}

/// About how many bytes of control come with a part.
const CONTROL_PER_PART: u64 = 400;
/// What is always taken to be still to come, so that a moment is not in the past.
const REST_MIN: u64 = MIB / 4;

impl At {
    fn draw(dice: &mut Dice) -> Self {
        match dice.within(0..=9) {
            0..=5 => Self::Content(dice.within(0..=999)),
            6..=8 => Self::Control(dice.within(0..=999)),
            _ => Self::Finish,
        }
    }

    /// Returns the moment on a line that has carried `now`, when `rest` bytes of content are still to come.
    pub(crate) fn moment(self, direction: Direction, now: Counts, rest: u64) -> Moment {
        let rest = rest.max(REST_MIN);
        let (way, more) = match self {
            Self::Content(share) => (direction.content(), rest * share / 1_000),
            Self::Control(share) => {
                (direction.control(), (rest.div_ceil(PART) + 2) * CONTROL_PER_PART * share / 1_000)
            }
            Self::Finish => (direction.content(), rest),
        };
        Moment { way, bytes: now.of(way) + more + 1 }
    }
}

/// One transfer and what befalls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The size of the file.
    pub(crate) size: u64,
    /// The seed of its content.
    pub(crate) content: u64,
    /// How many parts are on the way at once.
    pub(crate) parallel: u64,
    /// Whether the remote name is taken by an older file.
    pub(crate) replaces: bool,
    /// When it is struck, in this order.
    pub(crate) strikes: Vec<At>,
}

impl Plan {
    /// Draws a transfer.
    pub(crate) fn draw(scale: &Scale, dice: &mut Dice) -> Self {
        let strikes = dice.within(2..=5);
        Self {
            size: dice.within(scale.size_min..=scale.size_max),
            content: dice.any(),
            parallel: dice.within(1..=3),
            replaces: dice.chance(50),
            strikes: (0..strikes).map(|_| At::draw(dice)).collect(),
        }
    }

    /// Returns how many bytes may cross the line when it was struck `losses` times: the content once, at each
    /// strike what was on its way, and half a per cent for everything that is no content.
    pub(crate) fn allowance(&self, losses: u32) -> u64 {
        self.size + self.size / 200 + u64::from(losses) * self.parallel * PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_with_its_unit() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
        check("7", Some(7));
        check("64KiB", Some(64 << 10));
        check("96MiB", Some(96 * MIB));
        check("2GiB", Some(2_048 * MIB));
        check("0", None);
        check("2GB", None);
        check("GiB", None);
        check("99999999999GiB", None);
    }

    #[test]
    fn another_size_takes_its_disk_and_its_time_along() {
        let scale = Scale::SHORT.with_size(2_048 * MIB).with_strikes(7);
        let full = Scale::FULL;
        assert_eq!((scale.size_min, scale.size_max), (full.size_min, full.size_max));
        assert_eq!((scale.disk, scale.strikes), (full.disk, 7));
        assert!(scale.patience > Scale::SHORT.patience);
    }

    #[test]
    fn a_seed_is_a_plan() {
        let draw = |seed| {
            let mut dice = Dice::new(seed, "plan");
            (0..5).map(|_| Plan::draw(&Scale::SHORT, &mut dice)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for plan in draw(3) {
            assert!((Scale::SHORT.size_min..=Scale::SHORT.size_max).contains(&plan.size));
            assert!(!plan.strikes.is_empty() && (1..=3).contains(&plan.parallel));
        }
    }

    #[test]
    fn moments_lie_in_what_is_still_to_come() {
        #[track_caller]
        fn check(at: At, direction: Direction, rest: u64, way: Way, bytes: u64) {
            let now = Counts { up: 1_000_000, down: 2_000 };
            assert_eq!(at.moment(direction, now, rest), Moment { way, bytes });
        }
        check(At::Content(500), Direction::Put, 4 * MIB, Way::Up, 1_000_001 + 2 * MIB);
        check(At::Content(0), Direction::Put, 4 * MIB, Way::Up, 1_000_001);
        check(At::Content(500), Direction::Get, 4 * MIB, Way::Down, 2_001 + 2 * MIB);
        check(At::Control(500), Direction::Put, 2 * PART, Way::Down, 2_001 + 4 * CONTROL_PER_PART / 2);
        check(At::Control(0), Direction::Get, 2 * PART, Way::Up, 1_000_001);
        check(At::Finish, Direction::Put, PART, Way::Up, 1_000_001 + PART);
        check(At::Finish, Direction::Put, 0, Way::Up, 1_000_001 + REST_MIN);
    }

    #[test]
    fn every_strike_costs_what_was_on_its_way() {
        let plan = Plan { size: 1_000, content: 0, parallel: 2, replaces: false, strikes: Vec::new() };
        assert_eq!(plan.allowance(0), 1_005);
        assert_eq!(plan.allowance(3), 1_005 + 6 * PART);
    }
}
