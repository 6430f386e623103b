//! Several transfers at a time: as many as have room beside each other. Owns the room; what a transfer weighs, and what
//! becomes of it, is its command's.

use std::panic::resume_unwind;

use hapax_proto::span::Length;
use hapax_proto::tree::part_count;
use tokio::task::JoinSet;

/// Transfers under way. Dropping it ends them.
pub(super) struct Abreast<T> {
    tasks: JoinSet<(u64, T)>,
    weight: u64,
    room: u64,
}

impl<T: Send + 'static> Abreast<T> {
    /// Begins with none; `room` is how many parts may be on the way at once.
    pub(super) fn new(room: u16) -> Self {
        Self { tasks: JoinSet::new(), weight: 0, room: room.into() }
    }

    /// Returns what a file weighs: the parts of it that may be on the way at once.
    pub(super) fn weigh(&self, size: u64) -> u64 {
        part_count(Length::new(size)).clamp(1, self.room)
    }

    /// Returns the weight of what must have all others of before behind it, and nothing beside it.
    pub(super) fn alone(&self) -> u64 {
        self.room
    }

    /// Tells whether there is room for so much more.
    pub(super) fn takes(&self, weight: u64) -> bool {
        self.weight == 0 || self.weight + weight <= self.room
    }

    /// Begins a transfer.
    pub(super) fn begin(&mut self, weight: u64, transfer: impl Future<Output = T> + Send + 'static) {
        self.weight += weight;
        self.tasks.spawn(async move { (weight, transfer.await) });
    }

    /// Waits for one to end; `None` if none is under way.
    pub(super) async fn next(&mut self) -> Option<T> {
        let (weight, ended) =
            self.tasks.join_next().await?.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        self.weight -= weight;
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use hapax_proto::tree::PART;

    use super::*;

    #[tokio::test]
    async fn there_is_room_for_so_many_parts_and_for_one_file_always() {
        let mut abreast = Abreast::new(4);
        let part = PART.get();
        let weights = [0, 1, part, part + 1, 3 * part, 9 * part].map(|size| abreast.weigh(size));
        assert_eq!(weights, [1, 1, 1, 2, 3, 4]);
        assert_eq!(abreast.alone(), 4);
        assert!(abreast.takes(4));
        for number in 0..4 {
            assert!(abreast.takes(1));
            abreast.begin(1, async move { number });
        }
        assert!(!abreast.takes(1));
        abreast.next().await.unwrap();
        assert!(abreast.takes(1) && !abreast.takes(2));
        let mut rest = 0;
        while abreast.next().await.is_some() {
            rest += 1;
        }
        assert_eq!((rest, abreast.takes(4)), (3, true));
    }
}
