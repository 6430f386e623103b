//! What is proven is kept: made durable, then recorded, in this order; and what a record says is proven again when
//! another command goes on. Owns that order and its batching; what arrives is proven where it is fetched.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use hapax_proto::span::Length;
use hapax_proto::tree::{PartNumber, ProvenParts};

use super::plan::Record;
use crate::checkpoint::Log;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::sink::Sink;
use crate::tasks::EveryCore;

/// Returns those of the parts that a file still holds, after reading them.
pub(super) async fn still_here(
    sink: &Sink,
    proven: &Arc<ProvenParts>,
    here: BTreeSet<PartNumber>,
) -> Result<BTreeSet<PartNumber>, TransferError> {
    let (file, expected, size) = (sink.clone(), Arc::clone(proven), proven.identity().size);
    let mut reading = EveryCore::begin(here, move |part| {
        let Some(span) = part.span(size) else { return Ok((part, false)) };
        file.hash_part_now(part, span).map(|hashed| (part, expected.proves(&hashed)))
    });
    let mut still = BTreeSet::new();
    while let Some(found) = reading.next().await {
        let (part, is_proven) = found?;
        if is_proven {
            still.insert(part);
        } else {
            tracing::debug!(%part, path = %sink.path().display(), "a part is not what it was");
        }
    }
    Ok(still)
}

/// Keeps parts, all those that wait at once.
pub(super) struct Keeper {
    sink: Sink,
    log: Arc<Log<Record>>,
    progress: Arc<dyn Progress>,
    waiting: Mutex<Vec<(PartNumber, Length)>>,
    /// Held by whoever syncs; the others queue up, and one of them syncs for all.
    turn: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub(super) fn new(sink: Sink, log: Arc<Log<Record>>, progress: Arc<dyn Progress>) -> Self {
        Self { sink, log, progress, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Keeps a part that is proven and written.
    ///
    /// DURABILITY: on return its bytes and, behind them, its record are on disk.
    pub(super) async fn keep(&self, part: PartNumber, length: Length) -> Result<(), TransferError> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((part, length));
        let _turn = self.turn.lock().await;
        let batch = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if batch.is_empty() {
            return Ok(());
        }
        self.sink.sync().await?;
        self.log.append([Record::Proven { parts: batch.iter().map(|(part, _)| *part).collect() }]).await?;
        self.log.sync().await?;
        for (_, length) in batch {
            self.progress.event(Event::Solid(length));
        }
        Ok(())
    }
}
