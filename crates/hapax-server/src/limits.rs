//! How many of a kind may be under way at once. Owns the counting; what is refused beyond a limit is answered by
//! whoever asked.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// A limit that holds for each key by itself: parts in flight per upload, requests per account.
///
/// A key that nothing is under way for takes no memory. Nobody waits here: a wait would hold a connection and
/// hide from the client that it should slow down.
#[derive(Debug)]
pub struct Gate<K: Eq + Hash + Clone> {
    max: u32,
    inside: Arc<Mutex<HashMap<K, u32>>>,
}

/// The right to be under way, given back when dropped.
#[derive(Debug)]
#[must_use = "dropping a pass gives the place back"]
pub struct Pass<K: Eq + Hash + Clone> {
    key: K,
    inside: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Eq + Hash + Clone> Gate<K> {
    /// Makes a gate that lets `max` through for each key.
    pub fn new(max: u32) -> Self {
        Self { max, inside: Arc::default() }
    }

    /// Returns how many the gate lets through for each key.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Lets one more through, or returns `None` if there are as many as may be.
    pub fn enter(&self, key: K) -> Option<Pass<K>> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inside.get(&key).copied().unwrap_or_default();
        if count >= self.max {
            return None;
        }
        inside.insert(key.clone(), count + 1);
        drop(inside);
        Some(Pass { key, inside: Arc::clone(&self.inside) })
    }
}

impl<K: Eq + Hash + Clone> Drop for Pass<K> {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        match inside.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                inside.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_as_many_through_as_it_may_for_each_key() {
        let gate = Gate::new(2);
        let first = gate.enter("a");
        let second = gate.enter("a");
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter("a").is_none());
        assert!(gate.enter("b").is_some());
        drop(first);
        assert!(gate.enter("a").is_some());
    }

    #[test]
    fn a_key_that_nothing_is_under_way_for_is_forgotten() {
        let gate = Gate::new(2);
        let passes = [gate.enter(1), gate.enter(1), gate.enter(2)];
        assert_eq!(gate.inside.lock().unwrap().len(), 2);
        drop(passes);
        assert!(gate.inside.lock().unwrap().is_empty());
    }

    #[test]
    fn a_closed_gate_remembers_nobody() {
        let gate = Gate::new(0);
        assert!(gate.enter(1).is_none());
        assert!(gate.inside.lock().unwrap().is_empty());
    }
}
