//! What attempts cost: each key stands a burst of them and then one per interval (the generic cell rate algorithm). An
//! attempt may cost as much as several. Time comes in as an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many keys are remembered; beyond it, those that recovered are forgotten first.
const KEYS_MAX: usize = 16_384;

/// A limit on attempts, for each key by itself.
#[derive(Debug)]
pub struct Throttle<K: Eq + Hash + Clone> {
    interval: Duration,
    burst: Duration,
    /// When each key will have recovered from all its attempts.
    recovered: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    /// Makes a throttle that stands `attempts` at once and one more per `interval`.
    pub fn new(attempts: u32, interval: Duration) -> Self {
        Self { interval, burst: interval * attempts, recovered: Mutex::default() }
    }

    /// Counts an attempt that costs as much as `cost`, or returns how long to wait until it may be made.
    ///
    /// # Errors
    /// How long to wait. What costs more than the burst is never admitted.
    pub fn admit(&self, key: &K, cost: u32, now: Instant) -> Result<(), Duration> {
        let mut recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        let then = recovered.get(key).copied().unwrap_or(now).max(now) + self.interval * cost;
        let wait = (then - now).saturating_sub(self.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        if recovered.len() >= KEYS_MAX {
            recovered.retain(|_, then| *then > now);
            if recovered.len() >= KEYS_MAX {
                recovered.clear();
            }
        }
        recovered.insert(key.clone(), then);
        Ok(())
    }

    /// Counts an attempt that was made already, even if it was one too many.
    pub fn charge(&self, key: &K, cost: u32, now: Instant) {
        if self.admit(key, cost, now).is_err() {
            let mut recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
            recovered.insert(key.clone(), now + self.burst);
        }
    }

    /// Takes back an attempt that turned out well.
    pub fn forgive(&self, key: &K, cost: u32) {
        let mut recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(then) = recovered.get_mut(key)
            && let Some(earlier) = then.checked_sub(self.interval * cost)
        {
            *then = earlier;
        }
    }
}

/// Returns the network an address belongs to: its /24, or its /64, which is what one customer gets.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_and_then_one_per_interval() {
        let throttle = Throttle::new(3, SECOND);
        let begun = Instant::now();
        for _ in 0..3 {
            assert_eq!(throttle.admit(&"a", 1, begun), Ok(()));
        }
        assert_eq!(throttle.admit(&"a", 1, begun), Err(SECOND));
        assert_eq!(throttle.admit(&"b", 1, begun), Ok(()));
        assert_eq!(throttle.admit(&"a", 1, begun + SECOND / 4), Err(SECOND * 3 / 4));
        assert_eq!(throttle.admit(&"a", 1, begun + SECOND), Ok(()));
        assert_eq!(throttle.admit(&"a", 1, begun + SECOND), Err(SECOND));
        for _ in 0..3 {
            assert_eq!(throttle.admit(&"a", 1, begun + SECOND * 100), Ok(()));
        }
        assert!(throttle.admit(&"a", 1, begun + SECOND * 100).is_err());
    }

    #[test]
    fn one_attempt_may_cost_as_much_as_several() {
        let throttle = Throttle::new(3, SECOND);
        let begun = Instant::now();
        assert_eq!(throttle.admit(&"a", 4, begun), Err(SECOND));
        assert_eq!(throttle.admit(&"a", 2, begun), Ok(()));
        assert_eq!(throttle.admit(&"a", 3, begun), Err(SECOND * 2));
        throttle.forgive(&"a", 2);
        assert_eq!(throttle.admit(&"a", 3, begun), Ok(()));
        // What was done already is counted, and costs no more than the burst.
        throttle.charge(&"a", 100, begun);
        assert_eq!(throttle.admit(&"a", 1, begun), Err(SECOND));
        assert_eq!(throttle.admit(&"a", 1, begun + SECOND), Ok(()));
    }

    #[test]
    fn what_turned_out_well_costs_nothing() {
        let throttle = Throttle::new(1, SECOND);
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(throttle.admit(&"a", 1, now), Ok(()));
            throttle.forgive(&"a", 1);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::new(1, SECOND);
        let now = Instant::now();
        for key in 0..2 * KEYS_MAX {
            assert_eq!(throttle.admit(&key, 1, now), Ok(()));
        }
        assert!(throttle.recovered.lock().unwrap().len() <= KEYS_MAX);
    }

    #[test]
    fn neighbours_share_a_network() {
        #[track_caller]
        fn check(peer: &str, expected: &str) {
            assert_eq!(network(peer.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
        }
        check("192.0.2.77", "192.0.2.0");
        check("::ffff:192.0.2.77", "192.0.2.0");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }
}
