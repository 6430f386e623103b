//! Lanes: where one writer at a time may write. Owns who holds which lane of which upload, and the signal by which a
//! newer request ends an older one. Never touches the catalog; the epoch it hands out fences what is committed.
//!
//! ```text
//!   request 1  take ──> guard(epoch 1) ──── writes ────┐ evicted: keeps what arrived, commits, lets go
//!   request 2             take ── signals ─────────────┴──> guard(epoch 2)
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hapax_proto::tree::PartNumber;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, watch};

use crate::catalog::{LaneId, UploadId};

/// All lanes that somebody holds or waits for.
#[derive(Default, Clone)]
pub struct Lanes {
    slots: Arc<Mutex<Slots>>,
}

type Slots = HashMap<(UploadId, LaneId), Slot>;

/// One lane.
struct Slot {
    /// Held by whoever may write.
    turn: Arc<Turn<()>>,
    /// The number of the newest request; a holder with a smaller one must end.
    newest: watch::Sender<u64>,
    /// How many guards there are, waiting or holding; the last one takes the slot away.
    guards: usize,
}

/// The right to write in a lane until a newer request asks for it. Dropping it gives the lane free.
pub struct LaneGuard {
    lanes: Lanes,
    key: (UploadId, LaneId),
    number: u64,
    newest: watch::Receiver<u64>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Lanes {
    /// Takes a lane over: whoever holds it is told to end at once, and this waits until it has.
    ///
    /// Of several requests that wait, the newest wins: the others find themselves evicted when their turn comes.
    pub async fn take(&self, upload: UploadId, lane: LaneId) -> LaneGuard {
        let key = (upload, lane);
        let (number, newest, turn) = {
            let mut slots = self.locked();
            let slot = slots.entry(key).or_insert_with(|| Slot {
                turn: Arc::default(),
                newest: watch::Sender::new(0),
                guards: 0,
            });
            slot.guards += 1;
            let mut number = 0;
            slot.newest.send_modify(|newest| {
                *newest += 1;
                number = *newest;
            });
            (number, slot.newest.subscribe(), Arc::clone(&slot.turn))
        };
        let mut guard = LaneGuard { lanes: self.clone(), key, number, newest, turn: None };
        guard.turn = Some(turn.lock_owned().await);
        guard
    }

    /// Tells every holder of a lane of an upload to end: the upload is being completed or cancelled.
    pub fn evict_all(&self, upload: UploadId) {
        for ((id, _), slot) in self.locked().iter() {
            if *id == upload {
                slot.newest.send_modify(|newest| *newest += 1);
            }
        }
    }

    /// Tells the holders of a part and of all parts behind it to end: an append is about to write there.
    pub fn evict_parts_from(&self, upload: UploadId, first: PartNumber) {
        for ((id, lane), slot) in self.locked().iter() {
            if *id == upload && matches!(lane, LaneId::Part(part) if *part >= first) {
                slot.newest.send_modify(|newest| *newest += 1);
            }
        }
    }

    /// Ends whoever holds a part or a part behind it, as [`Self::evict_parts_from`], and waits until they have. Tells
    /// whether there was anybody.
    pub async fn end_parts_from(&self, upload: UploadId, first: PartNumber) -> bool {
        let is_meant = |(id, lane): &(UploadId, LaneId)| {
            *id == upload && matches!(lane, LaneId::Part(part) if *part >= first)
        };
        let lanes: Vec<_> = self.locked().keys().filter(|key| is_meant(key)).map(|(_, lane)| *lane).collect();
        for lane in &lanes {
            drop(self.take(upload, *lane).await);
        }
        !lanes.is_empty()
    }

    /// Returns how many lanes are held or waited for.
    pub fn count(&self) -> usize {
        self.locked().len()
    }

    fn locked(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneGuard {
    /// Returns which lane of which upload this is.
    pub fn lane(&self) -> (UploadId, LaneId) {
        self.key
    }

    /// Tells whether a newer request asked for the lane.
    pub fn is_evicted(&self) -> bool {
        *self.newest.borrow() > self.number
    }

    /// Waits until a newer request asks for the lane.
    pub async fn evicted(&mut self) {
        let number = self.number;
        // An error means that the slot is gone, which cannot be while this guard lives.
        drop(self.newest.wait_for(|newest| *newest > number).await);
    }
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.turn = None;
        let mut slots = self.lanes.locked();
        let Some(slot) = slots.get_mut(&self.key) else { return };
        slot.guards -= 1;
        if slot.guards == 0 {
            slots.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const UPLOAD: UploadId = UploadId([7; 16]);

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn ready<F: Future>(future: F) -> F::Output {
        match poll(pin!(future)) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it should not have to wait"),
        }
    }

    #[test]
    fn a_newer_request_takes_a_lane_over() {
        let lanes = Lanes::default();
        let older = ready(lanes.take(UPLOAD, LaneId::Append));
        assert!(!older.is_evicted());
        let mut take = pin!(lanes.take(UPLOAD, LaneId::Append));
        assert!(poll(take.as_mut()).is_pending());
        assert!(older.is_evicted());
        drop(older);
        let Poll::Ready(newer) = poll(take.as_mut()) else { panic!("the lane is free") };
        assert!(!newer.is_evicted());
    }

    #[test]
    fn of_several_that_wait_only_the_newest_is_not_evicted() {
        let lanes = Lanes::default();
        let first = ready(lanes.take(UPLOAD, LaneId::Append));
        let mut second = pin!(lanes.take(UPLOAD, LaneId::Append));
        let mut third = pin!(lanes.take(UPLOAD, LaneId::Append));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(second) = poll(second.as_mut()) else { panic!("its turn has come") };
        assert!(second.is_evicted());
        drop(second);
        let Poll::Ready(third) = poll(third.as_mut()) else { panic!("its turn has come") };
        assert!(!third.is_evicted());
    }

    #[test]
    fn lanes_of_one_upload_do_not_disturb_each_other() {
        let lanes = Lanes::default();
        let one = ready(lanes.take(UPLOAD, LaneId::Part(PartNumber::new(1))));
        let two = ready(lanes.take(UPLOAD, LaneId::Part(PartNumber::new(2))));
        assert!(!one.is_evicted() && !two.is_evicted());
        lanes.evict_all(UploadId([8; 16]));
        assert!(!one.is_evicted());
        lanes.evict_parts_from(UPLOAD, PartNumber::new(2));
        assert!(!one.is_evicted() && two.is_evicted());
        lanes.evict_all(UPLOAD);
        assert!(one.is_evicted());
    }

    #[test]
    fn whoever_ends_parts_waits_until_they_have_ended() {
        let lanes = Lanes::default();
        assert!(!ready(lanes.end_parts_from(UPLOAD, PartNumber::FIRST)));
        let before = ready(lanes.take(UPLOAD, LaneId::Part(PartNumber::new(1))));
        assert!(!ready(lanes.end_parts_from(UPLOAD, PartNumber::new(2))));
        let behind = ready(lanes.take(UPLOAD, LaneId::Part(PartNumber::new(2))));
        let mut ending = pin!(lanes.end_parts_from(UPLOAD, PartNumber::new(2)));
        assert!(poll(ending.as_mut()).is_pending());
        assert!(behind.is_evicted() && !before.is_evicted());
        drop(behind);
        assert_eq!(poll(ending.as_mut()), Poll::Ready(true));
    }

    #[test]
    fn a_lane_nobody_holds_takes_no_memory() {
        let lanes = Lanes::default();
        let guard = ready(lanes.take(UPLOAD, LaneId::Append));
        {
            // A request that goes away while it waits.
            let mut waiting = Box::pin(lanes.take(UPLOAD, LaneId::Append));
            assert!(poll(waiting.as_mut()).is_pending());
        }
        assert_eq!(lanes.count(), 1);
        drop(guard);
        assert_eq!(lanes.count(), 0);
    }
}
