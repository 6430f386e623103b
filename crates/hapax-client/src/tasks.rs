//! Work on other threads and tasks. Owns how their panics come back to whoever waits for them.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

/// Threads that work on one file: more than a disk keeps busy, and so few that others find one to write the checkpoint with.
const THREADS_MAX: usize = 16;

/// Work on many things, on every core. Nothing is waited for between two of them: a hand-over to another thread and back
/// takes as long as a tenth of hashing a part. The threads end behind what they are at when this is dropped.
pub(crate) struct EveryCore<T> {
    results: mpsc::Receiver<T>,
    threads: JoinSet<()>,
}

impl<T: Send + 'static> EveryCore<T> {
    /// Begins; things are taken in order, as far as other threads leave them.
    pub(crate) fn begin<I: Send + 'static>(
        things: impl IntoIterator<Item = I, IntoIter: Send + 'static>,
        work: impl Fn(I) -> T + Clone + Send + 'static,
    ) -> Self {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
        let things = Arc::new(Mutex::new(things.into_iter()));
        let (sender, results) = mpsc::channel(2 * count);
        let mut threads = JoinSet::new();
        for _ in 0..count {
            let (things, work, sender) = (Arc::clone(&things), work.clone(), sender.clone());
            threads.spawn_blocking(move || {
                let next = || things.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some(thing) = next() {
                    if sender.blocking_send(work(thing)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { results, threads }
    }

    /// Returns the next result, in whatever order they come; `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Option<T> {
        if let Some(result) = self.results.recv().await {
            return Some(result);
        }
        while let Some(ended) = self.threads.join_next().await {
            joined(ended);
        }
        None
    }
}

/// Runs work that blocks on a thread where that harms nobody.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// Returns what a task returned; a panic in it goes on here.
pub(crate) fn joined<T>(ended: Result<T, JoinError>) -> T {
    match ended {
        Ok(ended) => ended,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("tasks are aborted only together with whoever waits for them"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_thing_is_done_once_and_a_panic_comes_back() {
        let mut work = EveryCore::begin(0..1_000_u64, |number| number);
        let mut sum = 0;
        while let Some(number) = work.next().await {
            sum += number;
        }
        assert_eq!(sum, 499_500);
        let mut work = EveryCore::begin(0..9, |number| assert!(number != 5));
        let ended = tokio::spawn(async move { while work.next().await.is_some() {} });
        assert!(ended.await.unwrap_err().is_panic());
    }
}
