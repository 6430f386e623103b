//! How long to wait before the next attempt, and when to stop. It neither sleeps nor draws the random number nor
//! knows what is attempted; what is worth repeating at all is said by the advice of an error.

use std::time::Duration;

use http::HeaderValue;

use crate::validator::HttpDate;

/// How patient a caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The longest first wait; each further failure doubles it.
    pub base: Duration,
    /// What the doubling ends at.
    pub cap: Duration,
    /// The longest `Retry-After` that is honoured; a server cannot park a client for longer.
    pub retry_after_max: Duration,
    /// The most attempts in a row that may fail without progress.
    pub attempts_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            cap: Duration::from_secs(30),
            retry_after_max: Duration::from_mins(5),
            attempts_max: 10,
        }
    }
}

/// How many attempts in a row failed without progress. Progress is whatever the server calls durable, so a line
/// that breaks every second still finishes, and a dead one does not hold the caller for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    in_a_row: u32,
}

impl Failures {
    /// Counts one more failed attempt; one that made progress first begins a new row.
    #[must_use]
    pub const fn after(self, progress: Progress) -> Self {
        match progress {
            Progress::None => Self { in_a_row: self.in_a_row.saturating_add(1) },
            Progress::Some => Self { in_a_row: 1 },
        }
    }

    /// Returns the count.
    pub const fn in_a_row(self) -> u32 {
        self.in_a_row
    }
}

/// Whether a failed attempt achieved something before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing became durable.
    None,
    /// At least one byte became durable.
    Some,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Try again after this long.
    Wait(Duration),
    /// The budget is used up.
    Stop,
}

/// Decides how long to wait after a failure: exponential back-off with full jitter, on top of what the server
/// asked for.
///
/// `random` lies in `[0, 1)`. Full jitter spreads the clients that one fault hit over the whole interval (Brooker,
/// "Exponential Backoff and Jitter", 2015). It is added to `Retry-After` rather than replaced by it, because else
/// all of them would come back in the same second.
pub fn decide_retry(
    policy: &Policy,
    failures: Failures,
    retry_after: Option<Duration>,
    random: f64,
) -> Retry {
    debug_assert!((0.0..1.0).contains(&random), "{random} is outside [0, 1)");
    if failures.in_a_row >= policy.attempts_max {
        return Retry::Stop;
    }
    let doublings = failures.in_a_row.saturating_sub(1);
    let interval = policy.base.saturating_mul(2_u32.saturating_pow(doublings)).min(policy.cap);
    let asked = retry_after.unwrap_or_default().min(policy.retry_after_max);
    Retry::Wait(asked + interval.mul_f64(random.clamp(0.0, 1.0)))
}

/// Reads `Retry-After` (RFC 9110 §10.2.3), seconds or a date, as the time to wait from `now` on. A date that has
/// passed is no wait; `None` means that the value is neither.
pub fn parse_retry_after(value: &HeaderValue, now: HttpDate) -> Option<Duration> {
    let text = value.as_bytes();
    if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        let seconds = value.to_str().ok()?.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds));
    }
    HttpDate::parse(text).map(|date| date.since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALMOST_ONE: f64 = 1.0 - f64::EPSILON;

    fn failures(in_a_row: u32) -> Failures {
        Failures { in_a_row }
    }

    #[test]
    fn the_interval_doubles_up_to_the_cap() {
        #[track_caller]
        fn check(in_a_row: u32, longest_ms: u64) {
            let policy = Policy { attempts_max: u32::MAX, ..Policy::default() };
            let wait = |random| decide_retry(&policy, failures(in_a_row), None, random);
            assert_eq!(wait(0.0), Retry::Wait(Duration::ZERO));
            assert_eq!(wait(0.5), Retry::Wait(Duration::from_millis(longest_ms) / 2));
        }
        check(1, 250);
        check(2, 500);
        check(3, 1_000);
        check(7, 16_000);
        check(8, 30_000);
        check(9, 30_000);
        check(33, 30_000);
        check(u32::MAX - 1, 30_000);
    }

    #[test]
    fn retry_after_is_the_least_wait_and_has_a_limit() {
        #[track_caller]
        fn check(retry_after: u64, random: f64, wait_ms: u64) {
            let asked = Some(Duration::from_secs(retry_after));
            let wait = decide_retry(&Policy::default(), failures(1), asked, random);
            assert_eq!(wait, Retry::Wait(Duration::from_millis(wait_ms)));
        }
        check(0, 0.0, 0);
        check(2, 0.0, 2_000);
        check(2, 0.5, 2_125);
        check(300, 0.0, 300_000);
        check(301, 0.0, 300_000);
        check(u64::MAX, 0.5, 300_125);
    }

    #[test]
    fn the_budget_counts_failures_since_the_last_progress() {
        #[track_caller]
        fn check(attempts: &[Progress], stops: bool) {
            let policy = Policy { attempts_max: 3, ..Policy::default() };
            let failures =
                attempts.iter().fold(Failures::default(), |failures, progress| failures.after(*progress));
            assert_eq!(decide_retry(&policy, failures, None, 0.0) == Retry::Stop, stops);
        }
        let (none, some) = (Progress::None, Progress::Some);
        check(&[none], false);
        check(&[none, none], false);
        check(&[none, none, none], true);
        check(&[none, none, some], false);
        check(&[none, none, some, none], false);
        check(&[none, none, some, none, none], true);
        check(&[some; 100], false);
    }

    #[test]
    fn rfc9110_10_2_3_retry_after() {
        #[track_caller]
        fn check(value: &'static str, seconds: Option<u64>) {
            let now = HttpDate::parse(b"Fri, 31 Dec 1999 23:59:59 GMT").unwrap();
            let wait = parse_retry_after(&HeaderValue::from_static(value), now);
            assert_eq!(wait, seconds.map(Duration::from_secs));
        }
        check("120", Some(120));
        check("0", Some(0));
        check("99999999999999999999999", Some(u64::MAX));
        check("Sat, 01 Jan 2000 00:00:04 GMT", Some(5));
        check("Fri, 31 Dec 1999 23:59:59 GMT", Some(0));
        check("Fri, 31 Dec 1999 00:00:00 GMT", Some(0));
        check("", None);
        check("-1", None);
        check("+1", None);
        check("1.5", None);
        check("soon", None);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_policy_allows(in_a_row in 0_u32..9, asked in any::<Option<u32>>(), random in 0.0..ALMOST_ONE) {
            let policy = Policy::default();
            let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
            let Retry::Wait(wait) = decide_retry(&policy, failures(in_a_row), asked, random) else {
                panic!("eight failures in a row are within the budget")
            };
            prop_assert!(wait <= policy.cap + policy.retry_after_max);
            prop_assert!(wait >= asked.unwrap_or_default().min(policy.retry_after_max));
        }
    }
}
