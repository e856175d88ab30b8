//! A map that holds so many and no more: the one that was used longest ago goes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Lru<K, V> {
    most: usize,
    values: HashMap<K, (u64, V)>,
    /// By when they were used last.
    uses: BTreeMap<u64, K>,
    clock: u64,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), values: HashMap::new(), uses: BTreeMap::new(), clock: 0 }
    }

    /// The value of `key`, which counts as used now.
    pub(super) fn touch(&mut self, key: &K) -> Option<&V> {
        self.touch_mut(key).map(|value| &*value)
    }

    /// The same, to change it.
    pub(super) fn touch_mut(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.values.get_mut(key)?;
        self.uses.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.uses.insert(self.clock, *key);
        Some(value)
    }

    /// The value of `key`, put in where there is none yet; it counts as used now.
    pub(super) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.values.contains_key(&key) {
            self.insert(key, V::default());
        }
        self.clock += 1;
        let (used, value) = self.values.entry(key).or_default();
        self.uses.remove(used);
        *used = self.clock;
        self.uses.insert(self.clock, key);
        value
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        if self.values.len() >= self.most
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.values.remove(&oldest);
        }
        self.clock += 1;
        self.uses.insert(self.clock, key);
        self.values.insert(key, (self.clock, value));
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((used, _)) = self.values.remove(key) {
            self.uses.remove(&used);
        }
    }

    /// Looks at the `count` that were used longest ago, and drops those that are `over`.
    pub(super) fn sweep(&mut self, count: usize, over: impl Fn(&V) -> bool) {
        let oldest: Vec<K> = self.uses.values().take(count).copied().collect();
        for key in oldest {
            if self.values.get(&key).is_some_and(|(_, value)| over(value)) {
                self.remove(&key);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.uses.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(n: u8) -> [u8; 32] {
        [n; 32]
    }

    #[test]
    fn the_one_that_was_used_longest_ago_goes() {
        let mut map = Lru::new(3);
        for n in 1..=3 {
            map.insert(key(n), n);
        }
        assert_eq!(map.touch(&key(1)), Some(&1));
        map.insert(key(4), 4);
        map.insert(key(3), 33);
        assert_eq!((map.len(), map.uses.len()), (3, 3));
        for (n, want) in [(2, None), (3, Some(&33)), (1, Some(&1))] {
            assert_eq!(map.touch(&key(n)), want);
        }
        map.sweep(1, |value| *value == 33);
        assert_eq!(map.len(), 3, "the oldest is another");
        map.sweep(3, |value| *value == 33);
        assert_eq!((map.len(), map.uses.len()), (2, 2));
        assert_eq!(map.touch(&key(3)), None);
        map.clear();
        assert_eq!((map.len(), map.uses.len()), (0, 0));
    }
}
