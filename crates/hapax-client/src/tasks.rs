//! Work on other threads and tasks. Owns how their panics come back to whoever waits for them.

use tokio::task::JoinError;

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
