//! How many connections one download uses. Owns the climb: one at first, twice as many as long as that is faster by
//! more than a tenth, back to where it was if not, and fewer when the server says so. Measures nothing itself.

/// The most connections to one server, whatever they would gain.
pub const CONNECTIONS_MAX: usize = 8;

/// How many measurements pass before more connections are tried again: lines change.
const REST: u32 = 30;

/// What is known of how many connections pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    connections: usize,
    cap: usize,
    state: State,
}

/// Where the climb stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing was measured yet with this many.
    First,
    /// With half as many it was this fast.
    Climbing { before: u64 },
    /// More did not pay; so many measurements ago.
    Resting { since: u32 },
}

impl Pace {
    /// Begins with one connection; never more than `cap`, nor than [`CONNECTIONS_MAX`].
    pub fn new(cap: usize) -> Self {
        Self { connections: 1, cap: cap.clamp(1, CONNECTIONS_MAX), state: State::First }
    }

    /// Returns how many connections to use.
    pub const fn connections(&self) -> usize {
        self.connections
    }

    /// Takes in how many bytes a second came while all those connections were busy.
    pub fn measured(&mut self, rate: u64) {
        match self.state {
            State::First => self.climb(rate),
            // More than a tenth faster: 10 · rate > 11 · before.
            State::Climbing { before } if u128::from(rate) * 10 > u128::from(before) * 11 => self.climb(rate),
            State::Climbing { .. } => {
                self.connections = (self.connections / 2).max(1);
                self.state = State::Resting { since: 0 };
            }
            State::Resting { since } if since >= REST => self.climb(rate),
            State::Resting { since } => self.state = State::Resting { since: since + 1 },
        }
    }

    fn climb(&mut self, rate: u64) {
        let more = self.connections.saturating_mul(2).min(self.cap);
        self.state = if more > self.connections {
            State::Climbing { before: rate }
        } else {
            State::Resting { since: 0 }
        };
        self.connections = more;
    }

    /// Takes in that the server refused one more connection while `busy` others were at work: it never gets more
    /// than that many again.
    pub fn refused(&mut self, busy: usize) {
        self.cap = busy.clamp(1, self.cap);
        self.connections = self.connections.min(self.cap);
        self.state = State::Resting { since: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_added_while_they_pay() {
        #[track_caller]
        fn check(cap: usize, rates: &[u64], expected: &[usize]) {
            let mut pace = Pace::new(cap);
            assert_eq!(pace.connections(), 1);
            let found: Vec<_> = rates
                .iter()
                .map(|rate| {
                    pace.measured(*rate);
                    pace.connections()
                })
                .collect();
            assert_eq!(found, expected);
        }
        check(8, &[100, 200, 400, 800, 800], &[2, 4, 8, 8, 8]);
        check(8, &[100, 111, 122, 122], &[2, 4, 2, 2]);
        check(8, &[100, 110], &[2, 1]);
        check(8, &[100, 50], &[2, 1]);
        check(8, &[0, 0], &[2, 1]);
        check(3, &[100, 200, 300, 300], &[2, 3, 3, 3]);
        check(1, &[100, 200, 400], &[1, 1, 1]);
        check(0, &[100], &[1]);
        check(100, &[1, 2, 4, 8, 16], &[2, 4, 8, 8, 8]);
    }

    #[test]
    fn after_a_rest_it_is_tried_again() {
        let mut pace = Pace::new(8);
        pace.measured(100);
        pace.measured(100);
        assert_eq!(pace.connections(), 1);
        for _ in 0..REST {
            pace.measured(100);
            assert_eq!(pace.connections(), 1);
        }
        pace.measured(100);
        assert_eq!(pace.connections(), 2);
    }

    #[test]
    fn a_refusal_is_for_ever() {
        #[track_caller]
        fn check(busy: usize, expected: usize) {
            let mut pace = Pace::new(8);
            for rate in [100, 200, 400] {
                pace.measured(rate);
            }
            pace.refused(busy);
            assert_eq!(pace.connections(), expected);
            for _ in 0..3 * REST {
                pace.measured(1_000);
                assert!(pace.connections() <= expected);
            }
        }
        check(7, 7);
        check(2, 2);
        check(1, 1);
        check(0, 1);
    }
}
