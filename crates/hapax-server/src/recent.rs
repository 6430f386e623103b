//! What was computed lately and may be asked for again: a map of bounded size that forgets the oldest. It is memory and
//! no more: whatever it has forgotten is computed anew.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Values by keys, at most so many.
#[derive(Debug)]
pub struct Recent<K, V> {
    max: usize,
    inner: Mutex<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    values: HashMap<K, V>,
    /// The keys, the oldest first.
    order: VecDeque<K>,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    /// Makes an empty one.
    pub fn new(max: usize) -> Self {
        Self { max, inner: Mutex::new(Inner { values: HashMap::new(), order: VecDeque::new() }) }
    }

    /// Returns what is kept under a key.
    pub fn get(&self, key: &K) -> Option<V> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).values.get(key).cloned()
    }

    /// Keeps a value, and forgets the oldest if there are too many.
    pub fn keep(&self, key: K, value: V) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.values.insert(key.clone(), value).is_none() {
            inner.order.push_back(key);
        }
        while inner.order.len() > self.max {
            if let Some(oldest) = inner.order.pop_front() {
                inner.values.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let recent = Recent::new(2);
        for (key, value) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
            recent.keep(key, value);
        }
        assert_eq!([recent.get(&1), recent.get(&2), recent.get(&3)], [None, Some("b"), Some("d")]);
        let inner = recent.inner.lock().unwrap();
        assert_eq!((inner.values.len(), inner.order.len()), (2, 2));
    }
}
