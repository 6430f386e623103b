//! The retry loop. Owns the waiting between attempts and the count of those that failed; what is worth another
//! attempt is said by the error's advice, and how long to wait by `hapax_proto::retry`.

use std::sync::Arc;

use hapax_proto::problem::{Advice, Kind};
use hapax_proto::retry::{Failures, Policy, Progress as Achieved, Retry, decide_retry};

use crate::error::TransferError;
use crate::progress::{Event, Progress};

/// How often a server that is full is asked again before somebody has to make room.
const FULL_MAX: u32 = 2;

/// The attempts at one thing.
pub struct Attempts {
    policy: Arc<Policy>,
    progress: Arc<dyn Progress>,
    failures: Failures,
    /// How often the server was full since anything was achieved.
    full: u32,
    mark: u64,
}

impl Attempts {
    /// Begins without a failure. `mark` is any number that grows with progress.
    pub fn new(policy: &Arc<Policy>, progress: &Arc<dyn Progress>, mark: u64) -> Self {
        Self {
            policy: Arc::clone(policy),
            progress: Arc::clone(progress),
            failures: Failures::default(),
            full: 0,
            mark,
        }
    }

    /// Takes note of a failure, and returns after the wait that the next attempt needs. The mark tells whether
    /// anything was achieved since the last failure; if so, the budget begins anew.
    ///
    /// # Errors
    /// The failure itself, if another attempt of the same thing is useless or one too many: then its advice is
    /// `Restart` or `GiveUp`, or the budget is used up.
    pub async fn after(&mut self, failure: TransferError, mark: u64) -> Result<(), TransferError> {
        if !matches!(failure.advice(), Advice::Retry | Advice::Reprobe) {
            return Err(failure);
        }
        let achieved = if mark > self.mark { Achieved::Some } else { Achieved::None };
        self.mark = self.mark.max(mark);
        self.failures = self.failures.after(achieved);
        match (achieved, failure.problem()) {
            (Achieved::None, Some(Kind::OutOfSpace)) if self.full >= FULL_MAX => return Err(failure),
            (Achieved::None, Some(Kind::OutOfSpace)) => self.full += 1,
            (Achieved::Some, _) => self.full = 0,
            (Achieved::None, _) => {}
        }
        match decide_retry(&self.policy, self.failures, failure.retry_after(), random_fraction()) {
            Retry::Stop => Err(failure),
            Retry::Wait(after) => {
                tracing::debug!(?after, %failure, "waiting for another attempt");
                self.progress.event(Event::Retrying { after, reason: reason(&failure) });
                tokio::time::sleep(after).await;
                Ok(())
            }
        }
    }
}

/// Repeats a request that is safe to repeat until it succeeds, is refused for good, or the budget is used up.
pub async fn repeat<T, F: Future<Output = Result<T, TransferError>>>(
    policy: &Arc<Policy>,
    progress: &Arc<dyn Progress>,
    mut request: impl FnMut() -> F,
) -> Result<T, TransferError> {
    let mut attempts = Attempts::new(policy, progress, 0);
    loop {
        match request().await {
            Ok(done) => return Ok(done),
            Err(failure) => attempts.after(failure, 0).await?,
        }
    }
}

/// Returns an error and its causes in one line.
fn reason(failure: &TransferError) -> String {
    let causes = std::iter::successors(std::error::Error::source(failure), |cause| cause.source());
    let said = causes.fold(failure.to_string(), |line, cause| line + ": " + &cause.to_string());
    // It becomes a part of a sentence.
    said.trim_end_matches('.').to_owned()
}

/// Draws a number of `[0, 1)`; without a source of randomness, the middle, which spreads nobody but waits.
fn random_fraction() -> f64 {
    let Ok(random) = getrandom::u32() else { return 0.5 };
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hapax_proto::problem::{Kind, Problem};

    use super::*;
    use crate::progress::Silent;

    /// Returns a policy that does not wait.
    fn impatient(attempts_max: u32) -> Arc<Policy> {
        Arc::new(Policy {
            base: Duration::ZERO,
            retry_after_max: Duration::ZERO,
            attempts_max,
            ..Policy::default()
        })
    }

    fn refused(kind: Kind) -> TransferError {
        TransferError::Refused {
            doing: String::new(),
            problem: Box::new(Problem::new(kind)),
            retry_after: None,
        }
    }

    fn disconnected() -> TransferError {
        TransferError::Disconnected { doing: String::new(), source: None }
    }

    #[tokio::test]
    async fn only_what_may_pass_is_repeated() {
        #[track_caller]
        fn check(
            failures: usize,
            error: fn() -> TransferError,
            requests: usize,
            succeeds: bool,
        ) -> impl Future {
            let caller = std::panic::Location::caller();
            async move {
                let (policy, silent): (_, Arc<dyn Progress>) = (impatient(3), Arc::new(Silent));
                let mut sent = 0;
                let done = repeat(&policy, &silent, || {
                    sent += 1;
                    let answer = if sent > failures { Ok(()) } else { Err(error()) };
                    async { answer }
                })
                .await;
                assert_eq!((sent, done.is_ok()), (requests, succeeds), "at {caller}");
            }
        }
        check(0, disconnected, 1, true).await;
        check(2, disconnected, 3, true).await;
        check(3, disconnected, 3, false).await;
        check(1, || refused(Kind::Unavailable), 2, true).await;
        check(1, || refused(Kind::Superseded), 2, true).await;
        check(1, || refused(Kind::Quota), 1, false).await;
        check(1, || refused(Kind::UploadGone), 1, false).await;
    }

    #[tokio::test]
    async fn progress_renews_the_budget() {
        let silent: Arc<dyn Progress> = Arc::new(Silent);
        let mut attempts = Attempts::new(&impatient(2), &silent, 5);
        for mark in 6..50 {
            assert!(attempts.after(disconnected(), mark).await.is_ok());
        }
        assert!(attempts.after(disconnected(), 49).await.is_err());
    }

    #[test]
    fn fractions_lie_below_one() {
        for _ in 0..1_000 {
            assert!((0.0..1.0).contains(&random_fraction()));
        }
    }
}
