//! Values by text, found by all texts that begin with it.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use hashbrown::HashTable;

/// Values, each under a prefix.
///
/// A look-up hashes the text once, byte by byte, and looks into a table at each length that one of the prefixes has. How many
/// prefixes there are makes no difference. The prefixes themselves are not kept: a hash stands for each.
#[derive(Clone, Debug)]
pub(crate) struct PrefixMap<V> {
    groups: HashTable<Group<V>>,
    /// How many values have a prefix of this length.
    lengths: BTreeMap<usize, usize>,
    hasher: RandomState,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrefixKey {
    hash: u64,
    len: usize,
}

/// The values of one prefix. Most have one, which needs no allocation.
#[derive(Clone, Debug)]
struct Group<V> {
    hash: u64,
    first: V,
    others: Vec<V>,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self {
            groups: HashTable::new(),
            lengths: BTreeMap::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<V> PrefixMap<V> {
    /// Where the values of a prefix stand.
    pub(crate) fn key(&self, prefix: &str) -> PrefixKey {
        let mut hasher = self.hasher.build_hasher();
        prefix.bytes().for_each(|byte| hasher.write_u8(byte));
        PrefixKey {
            hash: hasher.finish(),
            len: prefix.len(),
        }
    }

    /// The values that stand there.
    pub(crate) fn at(&self, key: PrefixKey) -> impl Iterator<Item = &V> {
        let group = self.groups.find(key.hash, |it| it.hash == key.hash);
        group
            .into_iter()
            .flat_map(|group| std::iter::once(&group.first).chain(&group.others))
    }

    /// Does something to each value.
    pub(crate) fn for_each(&mut self, mut change: impl FnMut(&mut V)) {
        for group in self.groups.iter_mut() {
            change(&mut group.first);
            group.others.iter_mut().for_each(&mut change);
        }
    }

    pub(crate) fn insert(&mut self, prefix: &str, value: V) -> PrefixKey {
        let key = self.key(prefix);
        let PrefixKey { hash, len } = key;
        *self.lengths.entry(len).or_default() += 1;
        match self.groups.find_mut(hash, |it| it.hash == hash) {
            Some(group) => group.others.push(value),
            None => {
                let group = Group {
                    hash,
                    first: value,
                    others: Vec::new(),
                };
                self.groups.insert_unique(hash, group, |it| it.hash);
            }
        }
        key
    }

    /// Takes out the value that stands there and is the one that is meant.
    pub(crate) fn remove(&mut self, key: PrefixKey, is_it: impl Fn(&V) -> bool) -> Option<V> {
        let PrefixKey { hash, len } = key;
        let mut entry = self.groups.find_entry(hash, |it| it.hash == hash).ok()?;
        let group = entry.get_mut();
        let removed = if let Some(at) = group.others.iter().position(&is_it) {
            group.others.swap_remove(at)
        } else if !is_it(&group.first) {
            return None;
        } else if let Some(other) = group.others.pop() {
            std::mem::replace(&mut group.first, other)
        } else {
            entry.remove().0.first
        };
        if let Some(values) = self.lengths.get_mut(&len) {
            *values -= 1;
            if *values == 0 {
                self.lengths.remove(&len);
            }
        }
        Some(removed)
    }

    /// Gives back what is allocated for more than `capacity` prefixes.
    pub(crate) fn shrink_to(&mut self, capacity: usize) {
        self.groups.shrink_to(capacity, |it| it.hash);
    }

    /// The values whose prefixes `text` begins with; others as well where hashes collide.
    pub(crate) fn of(&self, text: &str) -> impl Iterator<Item = &V> {
        let text = text.as_bytes();
        // The hash of a text goes on from that of its beginning, because both are made byte by byte.
        let mut hasher = self.hasher.build_hasher();
        let mut hashed = 0;
        let hashes = self.lengths.keys().map_while(move |&len| {
            let more = text.get(hashed..len)?;
            more.iter().for_each(|&byte| hasher.write_u8(byte));
            hashed = len;
            Some(hasher.finish())
        });
        let groups = hashes.filter_map(|hash| self.groups.find(hash, |it| it.hash == hash));
        groups.flat_map(|group| std::iter::once(&group.first).chain(&group.others))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_the_text_begins_with(
            prefixes in prop::collection::vec("[abé]{0,4}", 0..12),
            gone in prop::collection::vec(any::<bool>(), 12),
            texts in prop::collection::vec("[abé]{0,6}", 8),
        ) {
            let mut map = PrefixMap::default();
            let inserted = prefixes.iter().enumerate().map(|(n, prefix)| map.insert(prefix, n));
            let keys: Vec<_> = inserted.collect();
            let mut left = Vec::new();
            for ((n, prefix), is_gone) in prefixes.iter().enumerate().zip(gone) {
                if is_gone {
                    prop_assert_eq!(map.remove(keys[n], |it| *it == n), Some(n));
                } else {
                    left.push((n, prefix));
                }
            }
            for text in &texts {
                let mut found: Vec<usize> = map.of(text).copied().collect();
                found.sort_unstable();
                let begins = left.iter().filter(|(_, prefix)| text.starts_with(prefix.as_str()));
                let expected: Vec<usize> = begins.map(|(n, _)| *n).collect();
                prop_assert_eq!(found, expected, "{}", text);
            }
        }
    }
}
