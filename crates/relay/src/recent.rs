//! A bounded memory of what came lately: two generations, the older one forgotten as a whole when
//! the younger is full. No entry costs more than its place, and nothing grows with an attacker.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Remembers between `size` and `2 * size` entries, the youngest; fewer where they are heavy.
pub(crate) struct RecentMemory<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    size: usize,
    /// Of the younger generation, and how much it may be.
    weight: usize,
    most_weight: usize,
}

impl<K: Eq + Hash, V> RecentMemory<K, V> {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            size,
            weight: 0,
            most_weight: usize::MAX,
        }
    }

    /// The same, where each generation weighs no more than this.
    pub(crate) fn of_weight(size: usize, most_weight: usize) -> Self {
        Self {
            most_weight,
            ..Self::new(size)
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.insert_heavy(key, value, 0);
    }

    /// Inserts an entry of some weight. What it takes the place of stays in the balance until its
    /// generation goes.
    pub(crate) fn insert_heavy(&mut self, key: K, value: V, weight: usize) {
        if self.young.len() >= self.size || self.weight.saturating_add(weight) > self.most_weight {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_stay_and_the_number_is_bounded() {
        let mut memory = RecentMemory::new(10);
        for n in 0..1_000 {
            memory.insert(n, n * 2);
        }
        assert!((990..1_000).all(|n| memory.get(&n) == Some(&(n * 2))));
        assert_eq!((0..1_000).filter(|n| memory.get(n).is_some()).count(), 20);
        memory.clear();
        assert_eq!(memory.get(&999), None);
    }

    #[test]
    fn what_is_heavy_is_bounded_by_its_weight() {
        let mut memory = RecentMemory::of_weight(1_000, 100);
        for n in 0..1_000 {
            memory.insert_heavy(n, (), 30);
        }
        assert!((997..1_000).all(|n| memory.get(&n).is_some()));
        assert!(memory.len() <= 6, "{}", memory.len());
        // What is heavier than all that may be is remembered alone.
        memory.insert_heavy(2_000, (), 200);
        assert!(memory.get(&2_000).is_some());
        memory.insert_heavy(2_001, (), 1);
        assert!(memory.len() <= 3);
    }
}
