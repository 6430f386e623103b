//! What is proven is kept: made durable, then recorded, in this order. Owns that order and its batching; proves
//! nothing itself.

use std::sync::{Arc, Mutex, PoisonError};

use hapax_proto::span::Length;
use hapax_proto::tree::PartNumber;

use super::plan::{Filling, Record};
use crate::checkpoint::Log;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::sink::Sink;

/// Keeps parts, all those that wait at once.
pub(super) struct Keeper {
    sink: Sink,
    log: Arc<Log<Record>>,
    filling: Option<Filling>,
    progress: Arc<dyn Progress>,
    waiting: Mutex<Vec<(PartNumber, Length)>>,
    /// Held by whoever syncs; the others queue up, and one of them syncs for all.
    turn: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub(super) fn new(
        (sink, filling): (Sink, Option<Filling>),
        log: Arc<Log<Record>>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self { sink, log, filling, progress, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
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
        let parts = batch.iter().map(|(part, _)| *part).collect();
        self.log.append([Record::Proven { parts, filling: self.filling }]).await?;
        self.log.sync().await?;
        for (_, length) in batch {
            self.progress.event(Event::Solid(length));
        }
        Ok(())
    }
}
