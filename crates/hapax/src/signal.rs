//! The signals that end a command in order: Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

/// What ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Resolves when one of the signals comes. They are caught from this call on, not only once it is awaited.
pub(crate) fn signalled() -> impl Future<Output = Signal> {
    let listen = |kind| signal(kind).expect("a runtime with signals has room for a listener");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    async move {
        tokio::select! {
            _ = interrupt.recv() => Signal::Interrupt,
            _ = terminate.recv() => Signal::Terminate,
        }
    }
}
