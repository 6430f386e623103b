//! Appends: bytes that come in order behind what an upload holds, through however many parts they reach. Owns the way
//! from one run of bytes to one run per part; what a part is, and when it is durable, is [`crate::upload`]'s.
//!
//! ```text
//!   at            a border of parts      a border
//!   |--- run of part n ---|--- run of part n + 1 ---|--- ...
//!         \ kept back until the whole append is verified: while it is, the durable prefix does not move
//! ```
//!
//! A part that is full is handed to the committer while the next one fills, so an append of any length holds little
//! memory and its announced offset follows it.

use std::sync::Arc;

use hapax_proto::span::{Length, Offset, SIZE_MAX};
use hapax_proto::tree::PartNumber;

use crate::catalog::{LaneId, Refusal, Upload};
use crate::error::StoreError;
use crate::store::Store;
use crate::upload::{Ending, Meets, PartIntake, PendingRun};

/// Runs kept back at once. An append that is longer commits what is behind them, which counts for as little, being
/// behind a hole; but then a crash leaves it there, and what lay there before is superseded also by wrong bytes.
const KEPT_BACK_MAX: usize = 16;

/// When the bytes of an append count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// As they become durable.
    AtOnce,
    /// All at once in the end, when their sender's digest is known to fit; or not at all.
    OnceVerified,
}

/// An append on its way in.
pub struct AppendIntake {
    store: Arc<Store>,
    upload: Upload,
    counts: Counts,
    /// How many bytes are still to come, if that is known.
    expected: Length,
    /// Where the next byte belongs.
    at: Offset,
    /// Until the first byte comes: the epoch that the lane of its part had when the append was let in. Whatever was
    /// stored there since then is newer than what the append goes on behind.
    let_in: Option<u64>,
    /// The runs with which the append begins, full and not committed: nothing behind the first is part of the prefix.
    kept_back: Vec<PartIntake>,
    /// The run that is being filled.
    part: Option<PartIntake>,
    /// The run before, on its way to be durable.
    pending: Option<PendingRun>,
    /// Parts that were committed behind those that are kept back.
    islands: Vec<PartNumber>,
}

impl Store {
    /// Begins to take bytes in behind the durable prefix, which ends at `at`. The caller holds the append lane and has
    /// decided that `expected` bytes fit, if it knows how many come. Ends part requests that write behind `at`.
    pub fn begin_append(
        self: &Arc<Self>,
        upload: &Upload,
        at: Offset,
        expected: Option<Length>,
        counts: Counts,
    ) -> Result<AppendIntake, StoreError> {
        self.admit()?;
        let let_in = match PartNumber::holding(at) {
            Some(part) => {
                self.lanes().evict_parts_from(upload.id, part);
                let lane = self.catalog().lane(upload.id, LaneId::Part(part))?;
                Some(lane.map_or(0, |lane| lane.epoch))
            }
            None => None,
        };
        Ok(AppendIntake {
            store: Arc::clone(self),
            upload: upload.clone(),
            counts,
            expected: expected.unwrap_or_default(),
            at,
            let_in,
            kept_back: Vec::new(),
            part: None,
            pending: None,
            islands: Vec::new(),
        })
    }

    /// Makes the last part of an upload whole, where its end was not known when the bytes came. `upload` has its size.
    pub fn close_last_part(self: &Arc<Self>, upload: &Upload) -> Result<(), StoreError> {
        let end = upload.size.unwrap_or_default().end();
        let Some(last) = end.get().checked_sub(1).and_then(|last| PartNumber::holding(Offset::new(last)))
        else {
            return Ok(());
        };
        let open = self.catalog().lane(upload.id, LaneId::Part(last))?.and_then(|lane| lane.open);
        let length = end.since(last.start()).unwrap_or_default();
        match open {
            Some(open) if open.have == length => self
                .begin_part(upload, last, length, length, None)?
                .finish(Ending::Complete)?
                .wait()
                .map(drop),
            _ => Ok(()),
        }
    }
}

impl AppendIntake {
    /// Returns where the next byte belongs.
    pub fn at(&self) -> Offset {
        self.at
    }

    /// Takes in bytes; hand over about 256 KiB at a time. Blocks for the disk now and then.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] if the bytes pass the end of the upload; what fits was taken.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let mut part = match self.part.take() {
                Some(part) => part,
                None => self.next_part(Length::of(bytes))?,
            };
            let room = usize::try_from(part.room().get()).expect("a part fits into memory");
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            part.push(now)?;
            self.advance(Length::of(now));
            if part.room().is_zero() {
                self.commit(part)?;
            } else {
                self.part = Some(part);
            }
            bytes = later;
        }
        Ok(())
    }

    fn advance(&mut self, length: Length) {
        self.at = self.at.checked_add(length).expect("parts end at or before the largest size");
        self.expected = self.expected.checked_sub(length).unwrap_or_default();
    }

    /// Begins the run of the part that the next byte belongs to.
    fn next_part(&mut self, offered: Length) -> Result<PartIntake, StoreError> {
        let too_long = || StoreError::TooLong { bytes: offered, room: Length::ZERO };
        let limit = self.upload.size.unwrap_or(Length::new(SIZE_MAX));
        let number = PartNumber::holding(self.at).ok_or_else(too_long)?;
        let whole = number.span(limit).ok_or_else(too_long)?.length();
        let from = self.at.since(number.start()).expect("it lies in its part");
        let part = self.store.begin_part(&self.upload, number, from, whole, None)?;
        if self.let_in.take().is_some_and(|epoch| part.epoch() != epoch + 1) {
            return Err(Refusal::Superseded.into());
        }
        let mut part = part.meeting(Meets::Bytes);
        part.expect(self.expected.min(part.room()))?;
        Ok(part)
    }

    /// Hands a run to the committer, or keeps it back. At most one is on its way to the disk besides the one that fills.
    fn commit(&mut self, part: PartIntake) -> Result<(), StoreError> {
        if let Some(pending) = self.pending.take() {
            pending.wait()?;
        }
        if self.counts == Counts::OnceVerified && self.kept_back.len() < KEPT_BACK_MAX {
            self.kept_back.push(part);
            return Ok(());
        }
        if !self.kept_back.is_empty() {
            self.islands.push(part.part());
        }
        // However the body ended, what it brought is worth keeping.
        self.pending = Some(part.finish(Ending::Complete)?);
        Ok(())
    }

    /// Makes what came durable.
    ///
    /// DURABILITY: on `Ok` every byte that was pushed survives power loss and is part of the prefix.
    pub fn finish(mut self) -> Result<(), StoreError> {
        if let Some(part) = self.part.take() {
            self.commit(part)?;
        }
        // From here on all of it counts.
        self.islands.clear();
        if let Some(pending) = self.pending.take() {
            pending.wait()?;
        }
        let kept_back = std::mem::take(&mut self.kept_back).into_iter();
        let pending: Vec<_> =
            kept_back.map(|part| part.finish(Ending::Complete)).collect::<Result<_, _>>()?;
        pending.into_iter().try_for_each(|pending| pending.wait().map(drop))
    }

    /// Throws away what came: it is not what its sender says it is. The prefix is what it was. Only what counts
    /// [once verified](Counts::OnceVerified) can be thrown away.
    pub fn discard(mut self) -> Result<(), StoreError> {
        debug_assert_eq!(self.counts, Counts::OnceVerified, "what counted already stays");
        self.forget()
    }

    /// Removes what was committed behind the run that is kept back.
    fn forget(&mut self) -> Result<(), StoreError> {
        if let Some(pending) = self.pending.take() {
            pending.wait()?;
        }
        for part in std::mem::take(&mut self.islands) {
            self.store.clear_part(&self.upload, part)?;
        }
        Ok(())
    }
}

impl Drop for AppendIntake {
    /// An append that failed half way leaves nothing that was not verified.
    fn drop(&mut self) {
        if self.islands.is_empty() {
            return;
        }
        if let Err(error) = self.forget() {
            tracing::warn!(%error, upload = %self.upload.id, "bytes that were not verified stay behind a hole");
        }
    }
}
