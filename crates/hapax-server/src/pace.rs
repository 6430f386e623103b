//! How fast background work goes, and what it did: a pacer that jobs share, and the numbers of each job. It starts no
//! job and stops none.
//!
//! ```text
//!   job ──(about to read so many bytes)──> pacer: wait until what was read before is paid for ──> read
//! ```

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_proto::span::Length;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::config::JobLimits;
use crate::metrics;

/// What each step of a job costs at least, in bytes: whatever little it reads, it looks something up and opens something.
pub const STEP_COST: u64 = 64 << 10;

/// The least rate of the scrub, in bytes a second: what no disk notices.
const SCRUB_RATE_MIN: u64 = 1 << 20;

/// In how short a time what is left of a scrub is done, if it is late.
const SCRUB_TIME_MIN: Duration = Duration::from_hours(24);

/// Bytes a second, given out in the order in which they are asked for. What nobody asked for is not saved up: in any
/// time, at most what belongs to it is read, and one step more.
#[derive(Debug)]
pub struct Pacer {
    /// Bytes a second; 0 is as fast as it goes.
    rate: AtomicU64,
    /// When what was given out is paid for.
    paid: Mutex<Instant>,
}

impl Pacer {
    /// Makes a pacer of so many bytes a second, or of as many as it can be.
    pub fn new(rate: Option<NonZero<u64>>) -> Self {
        let pacer = Self { rate: AtomicU64::new(0), paid: Mutex::new(Instant::now()) };
        pacer.set_rate(rate);
        pacer
    }

    /// Changes the rate, from the next step on.
    pub fn set_rate(&self, rate: Option<NonZero<u64>>) {
        self.rate.store(rate.map_or(0, NonZero::get), Ordering::Relaxed);
    }

    /// Resolves when a step that reads so many bytes may begin.
    pub async fn turn(&self, length: Length) {
        let now = Instant::now();
        let begin = self.reserve(now, length);
        if begin > now {
            sleep_until(begin).await;
        }
    }

    /// Gives out a step, and returns when it may begin.
    fn reserve(&self, now: Instant, length: Length) -> Instant {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rate) = NonZero::new(self.rate.load(Ordering::Relaxed)) else {
            *paid = now;
            return now;
        };
        let begin = (*paid).max(now);
        *paid = begin + duration_of(length.get().max(STEP_COST), rate);
        begin
    }
}

/// Returns how fast everything is to be scrubbed that is left, so that it is done in time. Slower than the least it never
/// is: then the pass is done early, and the next one waits.
pub fn decide_scrub_rate(left: u64, time: Duration) -> NonZero<u64> {
    let rate = u128::from(left) / u128::from(time.max(SCRUB_TIME_MIN).as_secs());
    let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(SCRUB_RATE_MIN);
    NonZero::new(rate).expect("the least is more than nothing")
}

/// Returns how long so many bytes take at a rate.
fn duration_of(bytes: u64, rate: NonZero<u64>) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// One job: what it may use, and what it did since the process began.
#[derive(Debug)]
pub struct Job {
    /// What it is called.
    pub name: &'static str,
    /// How fast it goes.
    pub pacer: Arc<Pacer>,
    running: AtomicBool,
    runs: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
}

/// The numbers of a job at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Whether it runs.
    pub running: bool,
    /// How often it ran to its end.
    pub runs: u64,
    /// How often it failed.
    pub failures: u64,
    /// How many bytes it read.
    pub bytes: u64,
}

impl Job {
    fn new(name: &'static str, pacer: &Arc<Pacer>) -> Self {
        let (running, pacer) = (AtomicBool::new(false), Arc::clone(pacer));
        let (runs, failures, bytes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { name, pacer, running, runs, failures, bytes }
    }

    /// Counts a run that begins.
    pub fn begin(&self) {
        self.running.store(true, Ordering::Relaxed);
    }

    /// Counts a run that ended.
    pub fn end(&self, failed: bool) {
        self.running.store(false, Ordering::Relaxed);
        if failed { &self.failures } else { &self.runs }.fetch_add(1, Ordering::Relaxed);
        metrics::job_ended(self.name, failed);
    }

    /// Counts bytes that are read.
    pub fn read(&self, length: Length) {
        self.bytes.fetch_add(length.get(), Ordering::Relaxed);
        metrics::job_read(self.name, length.get());
    }

    /// Returns its numbers.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            running: self.running.load(Ordering::Relaxed),
            runs: self.runs.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// All jobs. All but the scrub and the identification together read as fast as the operator lets them.
#[derive(Debug)]
pub struct Jobs {
    /// Ends what ran out, removes what nobody points to.
    pub sweep: Job,
    /// Finds out what composed files are, as fast as it goes.
    pub identify: Job,
    /// Hashes contents by the algorithms they are to be found by.
    pub lookup: Job,
    /// Compares the copies of contents that have several.
    pub heal: Job,
    /// Puts pieces together.
    pub compact: Job,
    /// Reads and authenticates everything, at a rate of its own.
    pub scrub: Job,
    /// Told when somebody waits for a scrub.
    pub hurry: Notify,
}

impl Jobs {
    /// Has everything scrubbed now, as fast as it goes: goes on with the pass that was begun, or begins one.
    pub fn hurry_scrub(&self) {
        self.scrub.pacer.set_rate(None);
        if !self.scrub.numbers().running {
            self.hurry.notify_one();
        }
    }

    /// Makes the jobs of a process, none of which runs yet.
    pub fn new(limits: &JobLimits) -> Self {
        let shared = Arc::new(Pacer::new(limits.rate));
        let job = |name| Job::new(name, &shared);
        Self {
            sweep: job("sweep"),
            // Whoever composed a file waits for its hash before it can be proven.
            identify: Job::new("identify", &Arc::new(Pacer::new(None))),
            lookup: job("lookup"),
            heal: job("heal"),
            compact: job("compact"),
            scrub: Job::new("scrub", &Arc::new(Pacer::new(None))),
            hurry: Notify::new(),
        }
    }

    /// Returns all of them.
    pub fn all(&self) -> impl Iterator<Item = &Job> {
        [&self.sweep, &self.identify, &self.lookup, &self.heal, &self.compact, &self.scrub].into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pacer(rate: u64) -> Pacer {
        Pacer::new(NonZero::new(rate))
    }

    /// Takes steps one after the other, and returns how long that took by the paused clock.
    async fn take(pacer: &Pacer, steps: &[u64]) -> Duration {
        let start = Instant::now();
        for step in steps {
            pacer.turn(Length::new(*step)).await;
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_waits_for_what_was_read_before_it() {
        let pacer = pacer(MIB);
        assert_eq!(take(&pacer, &[MIB]).await, Duration::ZERO);
        assert_eq!(take(&pacer, &[MIB / 2, MIB / 2, 0]).await.as_millis(), 2_000);
        // The smallest step costs something too.
        assert_eq!(take(&pacer, &[1; 16]).await.as_millis(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_saved_up() {
        let pacer = pacer(MIB);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(take(&pacer, &[MIB, MIB, MIB]).await.as_millis(), 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_share_a_pacer() {
        let pacer = pacer(MIB);
        let start = Instant::now();
        tokio::join!(take(&pacer, &[MIB; 4]), take(&pacer, &[MIB; 4]));
        assert_eq!(start.elapsed().as_millis(), 7_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_can_change_and_go() {
        let pacer = pacer(MIB);
        assert_eq!(take(&pacer, &[MIB, MIB]).await.as_millis(), 1_000);
        pacer.set_rate(None);
        assert_eq!(take(&pacer, &[MIB; 100]).await, Duration::ZERO);
        pacer.set_rate(NonZero::new(2 * MIB));
        assert_eq!(take(&pacer, &[MIB, MIB, MIB]).await.as_millis(), 1_000);
    }

    #[test]
    fn a_scrub_is_done_in_time() {
        #[track_caller]
        fn check(left: u64, days: u64, rate: u64) {
            assert_eq!(decide_scrub_rate(left, Duration::from_hours(24 * days)).get(), rate);
        }
        let day = 24 * 60 * 60;
        check(0, 30, MIB);
        check(100 * MIB, 30, MIB);
        check(30 * day * 5 * MIB, 30, 5 * MIB);
        check(30 * day * 5 * MIB, 10, 15 * MIB);
        // Late: within a day, and not at once.
        check(day * 7 * MIB, 0, 7 * MIB);
        check(u64::MAX, 1, u64::MAX / day);
    }

    #[test]
    fn no_length_and_no_rate_is_too_much() {
        assert_eq!(duration_of(3, NonZero::new(2).unwrap()), Duration::from_millis(1_500));
        assert_eq!(duration_of(u64::MAX, NonZero::new(1).unwrap()).as_nanos(), u128::from(u64::MAX));
    }

    #[test]
    fn a_job_counts_what_it_did() {
        let job = Job::new("sweep", &Arc::new(pacer(MIB)));
        job.begin();
        assert!(job.numbers().running);
        job.read(Length::new(7));
        job.end(false);
        job.begin();
        job.end(true);
        assert_eq!(job.numbers(), Numbers { running: false, runs: 1, failures: 1, bytes: 7 });
    }
}
