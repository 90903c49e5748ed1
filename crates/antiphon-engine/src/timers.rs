//! What is due when.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// At most one due time a key.
pub(crate) struct Timers<K> {
    due_of: HashMap<K, u64>,
    by_due: BTreeSet<(u64, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { due_of: HashMap::new(), by_due: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Timers<K> {
    /// Sets the key's time; the one it had does not count any more.
    pub(crate) fn set(&mut self, key: K, due: u64) {
        self.clear(&key);
        self.due_of.insert(key.clone(), due);
        self.by_due.insert((due, key));
    }

    /// The key has no time any more.
    pub(crate) fn clear(&mut self, key: &K) {
        if let Some((key, due)) = self.due_of.remove_entry(key) {
            self.by_due.remove(&(due, key));
        }
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Takes out the earliest key, if its time has come.
    pub(crate) fn pop(&mut self, now: u64) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_due.pop_first()?;
        self.due_of.remove(&key);
        Some(key)
    }
}
