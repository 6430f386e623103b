//! A long and lossy line: how late the bytes of one way of a connection arrive. Owns the delay, the window and the
//! losses; what is carried, and who counts it, is for the link.
//!
//! It is kinder than the real thing: a loss delays what stands behind it, as in any TCP, but does not shrink the
//! window, and connections never take room from each other.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::dice::Dice;

/// The most bytes that are lost, or not, at once.
const CHUNK: usize = 16 << 10;

/// How many chunks wait at most for a receiver that does not take them.
const WAITING_MAX: usize = 64;

/// What a line is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// How long it takes from one end to the other and back.
    pub(crate) round_trip: Duration,
    /// The most bytes of one way of one connection that are on the line and not acknowledged.
    pub(crate) window: usize,
    /// How many of a hundred chunks are lost.
    pub(crate) lost_percent: u64,
    /// How long it takes until a lost chunk is sent again.
    pub(crate) stall: Duration,
}

/// When what arrives.
///
/// INVARIANT: nothing arrives before what was sent before it.
#[derive(Debug)]
struct Schedule {
    weather: Weather,
    latest: Instant,
    /// When how many bytes will be acknowledged.
    under_way: VecDeque<(Instant, usize)>,
}

impl Schedule {
    /// Begins with a line on which nothing arrives before this.
    fn begin(weather: Weather, earliest: Instant) -> Self {
        Self { weather, latest: earliest, under_way: VecDeque::new() }
    }

    /// Returns until when nothing more may be sent, if the window is full.
    fn full_until(&mut self, now: Instant) -> Option<Instant> {
        while self.under_way.front().is_some_and(|(acknowledged, _)| *acknowledged <= now) {
            self.under_way.pop_front();
        }
        let bytes = self.under_way.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let (next, _) = self.under_way.front()?;
        (bytes >= self.weather.window).then_some(*next)
    }

    /// Returns when bytes arrive that are sent now.
    fn arrival(&mut self, now: Instant, bytes: usize, is_lost: bool) -> Instant {
        let one_way = self.weather.round_trip / 2;
        let again = if is_lost { self.weather.stall } else { Duration::ZERO };
        self.latest = self.latest.max(now + one_way + again);
        self.under_way.push_back((self.latest + one_way, bytes));
        self.latest
    }
}

impl Weather {
    /// Carries one way of a connection until its end; nothing arrives before `earliest`. Asks `goes_on` with the
    /// size of each chunk before it is sent.
    pub(crate) fn carry(
        self,
        (mut from, mut to): (&TcpStream, &TcpStream),
        (earliest, mut dice): (Instant, Dice),
        mut goes_on: impl FnMut(usize) -> bool,
    ) {
        let (send, receive) = mpsc::sync_channel::<(Instant, Vec<u8>)>(WAITING_MAX);
        thread::scope(|scope| {
            scope.spawn(move || {
                for (arrival, bytes) in receive {
                    thread::sleep(arrival.saturating_duration_since(Instant::now()));
                    if to.write_all(&bytes).is_err() {
                        break;
                    }
                }
            });
            let mut schedule = Schedule::begin(self, earliest);
            let mut chunk = vec![0; CHUNK];
            loop {
                while let Some(until) = schedule.full_until(Instant::now()) {
                    thread::sleep(until.saturating_duration_since(Instant::now()));
                }
                let Ok(read @ 1..) = from.read(&mut chunk) else { break };
                if !goes_on(read) {
                    break;
                }
                let arrival = schedule.arrival(Instant::now(), read, dice.chance(self.lost_percent));
                if send.send((arrival, chunk[..read].to_vec())).is_err() {
                    break;
                }
            }
            drop(send);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEATHER: Weather = Weather {
        round_trip: Duration::from_millis(100),
        window: 30,
        lost_percent: 1,
        stall: Duration::from_millis(200),
    };

    #[test]
    fn a_loss_holds_up_what_stands_behind_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::begin(WEATHER, start);
        let mut check = |sent, is_lost, arrives| {
            assert_eq!(schedule.arrival(at(sent), 1, is_lost), at(arrives), "sent at {sent}");
        };
        check(0, false, 50);
        check(10, true, 260);
        check(20, false, 260);
        check(209, false, 260);
        check(220, false, 270);
    }

    #[test]
    fn a_full_window_waits_for_acknowledgements() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::begin(WEATHER, start);
        assert_eq!(schedule.full_until(at(0)), None);
        schedule.arrival(at(0), 10, false);
        assert_eq!(schedule.full_until(at(1)), None);
        schedule.arrival(at(5), 20, false);
        assert_eq!(schedule.full_until(at(6)), Some(at(100)));
        assert_eq!(schedule.full_until(at(100)), None);
        schedule.arrival(at(100), 10, false);
        assert_eq!(schedule.full_until(at(101)), Some(at(105)));
    }

    #[test]
    fn a_handshake_comes_first() {
        let start = Instant::now();
        let mut schedule = Schedule::begin(WEATHER, start + Duration::from_millis(150));
        assert_eq!(schedule.arrival(start, 1, false), start + Duration::from_millis(150));
    }
}
