//! Which bytes of a file are fetched by whom, when several connections fetch one file. Owns the claims on spans: no
//! byte is claimed twice, and when nothing is free, the second half of the longest claim is. So whoever is done
//! takes work from the slow. Opens no connection and writes no byte.
//!
//! ```text
//!   [written][ claim 0: from··next─────end ][ claim 1 ······ ][ free ]
//!                        └ on its way to disk        a third claim, once nothing is free, begins here
//! ```

use std::collections::BTreeMap;

use super::spans::Spans;
use crate::span::{Length, Offset, Span};

/// The shortest piece that is worth a request of its own.
pub const PIECE_MIN: Length = Length::new(512 * 1024);

/// Who claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

/// A claim on a span.
///
/// INVARIANT: `from <= next <= end`.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// What lies before was written by this claim.
    from: Offset,
    /// What lies before has arrived.
    next: Offset,
    /// Where it ends.
    end: Offset,
}

impl Claim {
    fn rest(self) -> Span {
        Span::new(self.next, self.end).expect("what arrived of a claim lies within it")
    }
}

/// A file that is being fetched.
#[derive(Debug, Clone)]
pub struct Segments {
    size: Length,
    written: Spans,
    claims: BTreeMap<ClaimId, Claim>,
    next_id: u64,
    /// The claim that takes everything, if one does.
    lonely: Option<ClaimId>,
}

impl Segments {
    /// Begins with what is there of a file of this size.
    pub fn new(size: Length, written: Spans) -> Self {
        Self { size, written, claims: BTreeMap::new(), next_id: 0, lonely: None }
    }

    /// Returns what is written.
    pub fn written(&self) -> &Spans {
        &self.written
    }

    /// Returns how many claims there are.
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Claims the first bytes that nobody claims, else the second half of the longest claim; `None` if nothing is
    /// left that would be worth it, or one claim takes everything.
    pub fn claim(&mut self) -> Option<(ClaimId, Span)> {
        if self.lonely.is_some() {
            return None;
        }
        let span = self.free().or_else(|| self.steal())?;
        let id = ClaimId(self.next_id);
        self.next_id += 1;
        self.claims.insert(id, Claim { from: span.start(), next: span.start(), end: span.end() });
        Some((id, span))
    }

    fn free(&self) -> Option<Span> {
        let claimed = self.claims.values().filter_map(|claim| Span::new(claim.from, claim.end));
        let taken: Spans = self.written.iter().chain(claimed).collect();
        taken.missing(self.size).next()
    }

    fn steal(&mut self) -> Option<Span> {
        let victim = self.claims.values_mut().max_by_key(|claim| claim.rest().length())?;
        let rest = victim.rest();
        let half = Length::new(rest.length().get() / 2);
        if half < PIECE_MIN {
            return None;
        }
        let stolen = Span::new(rest.start().checked_add(half)?, rest.end())?;
        victim.end = stolen.start();
        Some(stolen)
    }

    /// Takes note that bytes arrived for a claim, right behind those before; returns how many of them still belong
    /// to it. None do once it is complete or given up.
    pub fn arrived(&mut self, id: ClaimId, length: Length) -> Length {
        let Some(claim) = self.claims.get_mut(&id) else { return Length::ZERO };
        let length = length.min(claim.rest().length());
        claim.next = claim.next.checked_add(length).expect("a claim ends within the file");
        length
    }

    /// Takes note that the next bytes of a claim, of those that arrived, are written.
    pub fn wrote(&mut self, id: ClaimId, length: Length) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let span = Span::at(claim.from, length).expect("a claim ends within the file");
        debug_assert!(span.end() <= claim.next, "more was written than arrived");
        claim.from = span.end();
        self.written.insert(span);
    }

    /// Returns what is still to come for a claim.
    pub fn rest(&self, id: ClaimId) -> Option<Span> {
        self.claims.get(&id).map(|claim| claim.rest())
    }

    /// Lets the only claim there is go on to the end of the file, over whatever is there: its server sends all of it
    /// in any case, so nothing is stolen from it. Returns whether it is the only one.
    pub fn extend(&mut self, id: ClaimId) -> bool {
        let size = self.size;
        match (self.claims.len(), self.claims.get_mut(&id)) {
            (1, Some(claim)) => {
                claim.end = size.end();
                self.lonely = Some(id);
                true
            }
            _ => false,
        }
    }

    /// Gives a claim up; what was not written of it is free again.
    pub fn release(&mut self, id: ClaimId) {
        self.claims.remove(&id);
        self.lonely = self.lonely.filter(|lonely| *lonely != id);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn span(start: u64, end: u64) -> Span {
        Span::new(Offset::new(start), Offset::new(end)).unwrap()
    }

    fn fresh(size: u64) -> Segments {
        Segments::new(Length::new(size), Spans::default())
    }

    #[test]
    fn the_first_claim_is_everything_and_the_next_ones_steal_half() {
        let mut segments = fresh(8 * MIB);
        let (first, whole) = segments.claim().unwrap();
        assert_eq!(whole, span(0, 8 * MIB));
        assert_eq!(segments.arrived(first, Length::new(2 * MIB)), Length::new(2 * MIB));
        assert_eq!(segments.claim().unwrap().1, span(5 * MIB, 8 * MIB));
        assert_eq!(segments.rest(first), Some(span(2 * MIB, 5 * MIB)));
        // What arrives behind the new end is not taken.
        assert_eq!(segments.arrived(first, Length::new(4 * MIB)), Length::new(3 * MIB));
        assert_eq!(segments.arrived(first, Length::new(1)), Length::ZERO);
    }

    #[test]
    fn what_is_short_is_not_cut() {
        let mut segments = fresh(2 * PIECE_MIN.get() - 1);
        segments.claim().unwrap();
        assert_eq!(segments.claim(), None);
    }

    #[test]
    fn holes_are_filled_in_order() {
        let written = [span(10, 20), span(30, 40)].into_iter().collect();
        let mut segments = Segments::new(Length::new(50), written);
        let claimed: Vec<_> = std::iter::from_fn(|| segments.claim()).map(|(_, claim)| claim).collect();
        assert_eq!(claimed, [span(0, 10), span(20, 30), span(40, 50)]);
    }

    #[test]
    fn a_claim_that_is_given_up_is_free_but_for_what_it_wrote() {
        let mut segments = fresh(100);
        let (id, _) = segments.claim().unwrap();
        segments.arrived(id, Length::new(30));
        segments.wrote(id, Length::new(20));
        segments.release(id);
        assert_eq!(segments.claim().map(|(_, claim)| claim), Some(span(20, 100)));
        assert_eq!(segments.arrived(id, Length::new(1)), Length::ZERO);
    }

    #[test]
    fn only_a_lonely_claim_takes_everything() {
        let mut segments = Segments::new(Length::new(4 * MIB), [span(10, 20)].into_iter().collect());
        let (first, _) = segments.claim().unwrap();
        let (second, _) = segments.claim().unwrap();
        assert!(!segments.extend(first));
        segments.release(second);
        assert!(segments.extend(first));
        assert_eq!(segments.rest(first), Some(span(0, 4 * MIB)));
        assert_eq!(segments.claim(), None);
        segments.release(first);
        assert_eq!(segments.claim().map(|(_, claim)| claim), Some(span(0, 10)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Claim,
        Arrive(prop::sample::Index, u64),
        Write(prop::sample::Index),
        Release(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Claim),
            (any::<prop::sample::Index>(), 1..3 * MIB).prop_map(|(who, length)| Step::Arrive(who, length)),
            any::<prop::sample::Index>().prop_map(Step::Write),
            any::<prop::sample::Index>().prop_map(Step::Release),
        ]
    }

    proptest! {
        /// Whatever order things happen in: no byte is claimed by two, and claiming until nothing is free covers all.
        #[test]
        fn every_byte_has_one_owner(size in 0..40 * MIB, steps in prop::collection::vec(step(), 0..60)) {
            let mut segments = fresh(size);
            let mut ids: Vec<(ClaimId, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Claim => ids.extend(segments.claim().map(|(id, _)| (id, 0))),
                    _ if ids.is_empty() => {}
                    Step::Arrive(who, length) => {
                        let (id, waiting) = who.get_mut(&mut ids);
                        *waiting += segments.arrived(*id, Length::new(length)).get();
                    }
                    Step::Write(who) => {
                        let (id, waiting) = who.get_mut(&mut ids);
                        segments.wrote(*id, Length::new(std::mem::take(waiting)));
                    }
                    Step::Release(who) => {
                        let (id, _) = ids.swap_remove(who.index(ids.len()));
                        segments.release(id);
                    }
                }
                let owned = segments.claims.values().map(|claim| claim.end.since(claim.from).unwrap().get());
                let owned = owned.sum::<u64>() + segments.written().length().get();
                let together: Spans = segments
                    .written()
                    .iter()
                    .chain(segments.claims.values().map(|claim| Span::new(claim.from, claim.end).unwrap()))
                    .collect();
                prop_assert_eq!(owned, together.length().get(), "two own the same byte");
                prop_assert!(together.length().get() <= size);
            }
            for (id, waiting) in ids {
                segments.wrote(id, Length::new(waiting));
                segments.release(id);
            }
            while let Some((id, claim)) = segments.claim() {
                segments.arrived(id, claim.length());
                segments.wrote(id, claim.length());
                segments.release(id);
            }
            prop_assert!(segments.written().is_whole(Length::new(size)));
        }
    }
}
