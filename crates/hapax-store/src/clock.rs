//! Time that jumps cannot fool. Owns the one clock that expiry and deletion go by, as a pure function of readings;
//! it reads no clock itself (that is `Clock`'s part) and persists nothing (a catalog row of the caller does).
//!
//! ```text
//!   wall clock   ------/    may jump, both ways, at boot or any time
//!   uptime       ______     counts from the start of the process, never jumps
//!   steady time  = persisted time + uptime + lead,   0 <= lead <= one hour per restart
//! ```
//!
//! Steady time is late rather than early: a server that was off for a week has aged by at most an hour. So nothing
//! expires before its time; something may expire later.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far steady time may run ahead of the uptime in the life of one process.
pub const LEAD_MAX: Duration = Duration::from_hours(1);

/// A moment, in milliseconds since 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Wraps milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Wraps seconds since 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Returns milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the time `duration` before, but not before the epoch.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Returns the moment `duration` later; the end of time if there is none.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns how long ago `earlier` was, or nothing if it is still to come.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the steady clock: what expiry and grace are counted by.
    pub steady: Timestamp,
    /// By the wall clock: what people and `Last-Modified` are told.
    pub wall: Timestamp,
}

impl From<Timestamp> for Moment {
    /// Returns a moment at which both clocks agree.
    fn from(time: Timestamp) -> Self {
        Self { steady: time, wall: time }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Returns what the wall clock says. It may jump.
    fn now(&self) -> Timestamp;
    /// Returns how long this process has been running, sleep of the machine not counted. It never jumps.
    fn uptime(&self) -> Duration;
    /// Returns both at once.
    fn reading(&self) -> Reading {
        Reading { wall: self.now(), uptime: self.uptime() }
    }
}

/// A clock may be held by the store and by whoever moves it.
impl<C: Clock> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        C::now(self)
    }

    fn uptime(&self) -> Duration {
        C::uptime(self)
    }

    fn reading(&self) -> Reading {
        C::reading(self)
    }
}

/// The clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts counting the uptime.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A wall clock before 1970 is one that was never set.
        Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct TestClock {
    reading: Mutex<Reading>,
}

impl TestClock {
    /// Makes a clock that says `wall`, with no uptime.
    pub fn at(wall: Timestamp) -> Self {
        Self { reading: Mutex::new(Reading { wall, uptime: Duration::ZERO }) }
    }

    /// Lets time pass: wall clock and uptime go on together.
    pub fn advance(&self, duration: Duration) {
        let mut reading = self.locked();
        reading.wall = reading.wall.after(duration);
        reading.uptime = reading.uptime.saturating_add(duration);
    }

    /// Lets the wall clock jump; no time passes.
    pub fn jump(&self, wall: Timestamp) {
        self.locked().wall = wall;
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Reading> {
        self.reading.lock().expect("nothing panics while it holds this lock")
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.locked().wall
    }

    fn uptime(&self) -> Duration {
        self.locked().uptime
    }

    fn reading(&self) -> Reading {
        *self.locked()
    }
}

/// What both clocks said at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// The uptime of the process.
    pub uptime: Duration,
}

/// The steady clock of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteadyClock {
    /// Steady time when the uptime was zero, without the lead.
    origin: Timestamp,
    /// INVARIANT: never shrinks, never passes [`LEAD_MAX`].
    lead: Duration,
    /// How far the wall clock was off steady time when last seen, in milliseconds; positive: ahead.
    skew_ms: i128,
    /// The uptime when a jump was last seen.
    jumped_at: Option<Duration>,
}

impl SteadyClock {
    /// Starts from the last persisted steady time, or from the wall clock if there never was one.
    ///
    /// A wall clock that is behind, or more than [`LEAD_MAX`] ahead, counts as a jump: whether the machine was off or
    /// its clock is wrong cannot be told apart.
    pub fn resume(persisted: Option<Timestamp>, first: Reading) -> Self {
        let origin = persisted
            .unwrap_or_else(|| Timestamp(first.wall.as_millis().saturating_sub(millis(first.uptime))));
        let mut clock = Self { origin, lead: Duration::ZERO, skew_ms: 0, jumped_at: None };
        clock.observe(first);
        clock
    }

    /// Takes in a reading and returns steady time. Persist it now and then: a restart goes on from there.
    pub fn observe(&mut self, reading: Reading) -> Timestamp {
        let bare = self.origin.after(reading.uptime);
        self.lead = self.lead.max(reading.wall.since(bare).min(LEAD_MAX));
        let skew_ms = i128::from(reading.wall.as_millis()) - i128::from(bare.as_millis());
        let step_ms = (skew_ms - self.skew_ms).unsigned_abs();
        self.skew_ms = skew_ms;
        if step_ms > LEAD_MAX.as_millis() {
            self.jumped_at = Some(reading.uptime);
        }
        self.steady(reading.uptime)
    }

    /// Returns steady time at an uptime, without a look at the wall clock.
    pub fn steady(&self, uptime: Duration) -> Timestamp {
        self.origin.after(uptime).after(self.lead)
    }

    /// Decides whether anything may be deleted: not before one full `grace` of uptime has passed since a jump.
    pub fn may_delete(&self, uptime: Duration, grace: Duration) -> bool {
        self.jumped_at.is_none_or(|jumped_at| uptime.saturating_sub(jumped_at) >= grace)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 60 * 60;
    const DAY: u64 = 24 * HOUR;
    /// Some moment in 2026, in seconds.
    const THEN: u64 = 1_790_000_000;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn reading(wall_secs: u64, uptime_secs: u64) -> Reading {
        Reading { wall: Timestamp::from_secs(wall_secs), uptime: secs(uptime_secs) }
    }

    #[test]
    fn a_restart_ages_by_at_most_an_hour() {
        #[track_caller]
        fn check(wall: u64, steady: u64, jumped: bool) {
            let mut clock = SteadyClock::resume(Some(Timestamp::from_secs(THEN)), reading(wall, 0));
            assert_eq!(clock.observe(reading(wall, 0)).as_secs(), steady);
            assert_eq!(clock.may_delete(secs(0), secs(DAY)), !jumped);
            assert!(clock.may_delete(secs(DAY), secs(DAY)));
        }
        check(THEN, THEN, false);
        check(THEN + 60, THEN + 60, false);
        check(THEN + HOUR, THEN + HOUR, false);
        check(THEN + HOUR + 1, THEN + HOUR, true);
        check(THEN + 365 * DAY, THEN + HOUR, true);
        check(THEN - 60, THEN, false);
        check(THEN - HOUR - 1, THEN, true);
        check(0, THEN, true);
    }

    #[test]
    fn a_first_start_takes_the_wall_clock() {
        let clock = SteadyClock::resume(None, reading(THEN, 2));
        assert_eq!(clock.steady(secs(2)).as_secs(), THEN);
        assert!(clock.may_delete(secs(2), secs(DAY)));
    }

    #[test]
    fn a_jump_while_running_stops_deletion_for_one_grace() {
        let mut clock = SteadyClock::resume(None, reading(THEN, 0));
        assert_eq!(clock.observe(reading(THEN + 100, 100)).as_secs(), THEN + 100);
        assert_eq!(clock.observe(reading(THEN + 30 * DAY, 101)).as_secs(), THEN + 101 + HOUR);
        assert!(!clock.may_delete(secs(101 + DAY - 1), secs(DAY)));
        assert!(clock.may_delete(secs(101 + DAY), secs(DAY)));
        assert_eq!(clock.observe(reading(THEN + 30 * DAY + 10, 111)).as_secs(), THEN + 111 + HOUR);
        assert!(clock.may_delete(secs(101 + DAY), secs(DAY)), "a clock that stays wrong jumps once");
        clock.observe(reading(THEN + 200, 200));
        assert!(!clock.may_delete(secs(101 + DAY), secs(DAY)), "the way back is a jump too");
    }

    #[test]
    fn a_frozen_wall_clock_holds_nothing_up() {
        let mut clock = SteadyClock::resume(None, reading(THEN, 0));
        assert_eq!(clock.observe(reading(THEN, 7 * DAY)).as_secs(), THEN + 7 * DAY);
    }

    #[test]
    fn a_test_clock_moves_as_told() {
        let clock = TestClock::at(Timestamp::from_secs(THEN));
        clock.advance(secs(5));
        assert_eq!(clock.reading(), reading(THEN + 5, 5));
        clock.jump(Timestamp::from_secs(3));
        assert_eq!(clock.reading(), reading(3, 5));
    }

    proptest! {
        #[test]
        fn steady_time_never_goes_back_and_never_runs_ahead(
            persisted in 0..2 * THEN,
            steps in prop::collection::vec((0..2 * THEN, 0..DAY), 1..30),
        ) {
            let start = Timestamp::from_secs(persisted);
            let mut clock = SteadyClock::resume(Some(start), reading(steps[0].0, 0));
            let (mut uptime, mut before) = (0, start);
            for (wall, passed) in steps {
                uptime += passed;
                let steady = clock.observe(reading(wall, uptime));
                prop_assert!(steady >= before);
                prop_assert!(steady >= start.after(secs(uptime)));
                prop_assert!(steady <= start.after(secs(uptime + HOUR)));
                before = steady;
            }
        }
    }
}
