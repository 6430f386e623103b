//! What a transfer tells whoever watches it. Owns the events and the door they go through; never draws them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hapax_proto::span::Length;
use hapax_proto::tree::PartNumber;

/// One thing that happened in a transfer. Byte counts are increments unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A walk begins; a source that changes, or a file that changes on the server, makes it begin again.
    Begun {
        /// The size of the whole, if known.
        size: Option<Length>,
        /// Bytes that are there already, as far as is known without reading the source.
        kept: Length,
    },
    /// Bytes of the source were hashed.
    Hashed(Length),
    /// Bytes went onto the wire, or came from it.
    Moved(Length),
    /// Bytes that went onto the wire before are known to be lost and will be moved again.
    Lost(Length),
    /// Bytes are safe: durable at the server, or proven and durable on the local disk.
    Solid(Length),
    /// The server may have the content: all of it is hashed before anything more is sent.
    HashingFirst,
    /// The content was recognised: nothing more is sent.
    Instant,
    /// The source, or the file on the server, is another version than the one the transfer began with.
    Changed,
    /// A part arrived damaged and is fetched again.
    Damaged(PartNumber),
    /// An attempt failed; the next one follows.
    Retrying {
        /// After how long.
        after: Duration,
        /// What went wrong, for people.
        reason: String,
    },
    /// The transfer is complete.
    Done,
}

/// Whoever watches a transfer. Called from several tasks; it must not block.
pub trait Progress: Send + Sync {
    /// Takes note of an event.
    fn event(&self, event: Event);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}

/// Hands all events on, and counts what goes onto the wire.
pub(crate) struct Counted {
    watcher: Arc<dyn Progress>,
    moved: AtomicU64,
}

impl Counted {
    /// Begins to count at nothing.
    pub(crate) fn new(watcher: &Arc<dyn Progress>) -> Self {
        Self { watcher: Arc::clone(watcher), moved: AtomicU64::new(0) }
    }

    /// Returns how many bytes went onto the wire, those included that were lost there.
    pub(crate) fn moved(&self) -> Length {
        Length::new(self.moved.load(Ordering::Relaxed))
    }
}

impl Progress for Counted {
    fn event(&self, event: Event) {
        if let Event::Moved(length) = &event {
            self.moved.fetch_add(length.get(), Ordering::Relaxed);
        }
        self.watcher.event(event);
    }
}

impl Progress for tokio::sync::mpsc::UnboundedSender<Event> {
    fn event(&self, event: Event) {
        // The watcher may have left; the transfer goes on without it.
        let _ = self.send(event);
    }
}
