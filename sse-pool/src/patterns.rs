//! The distinct patterns of all connections, and which of them an entry matches.
//!
//! Patterns are foreign code, so they are asked before any shard is locked, and without the table's own lock: for each topic
//! of an entry the distinct patterns whose literal prefix it has, not once per reader. A pattern that joined a shard between
//! the asking and the append is newer than what was looked up, and its readers are simply woken: they look for themselves.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Entry, TopicPattern,
    high_water::HighWater,
    prefix_map::{PrefixKey, PrefixMap},
    sync::Mutex,
};

#[derive(Debug)]
pub(crate) struct Patterns(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_text: HashMap<Arc<str>, Known>,
    most_texts: HighWater,
    by_prefix: PrefixMap<(u64, Arc<dyn TopicPattern>)>,
    /// Numbers are never used twice, so "newer" is a comparison.
    last_number: u64,
}

#[derive(Debug)]
struct Known {
    number: u64,
    users: usize,
    key: PrefixKey,
}

/// A pattern's number and text, as a reader holds it.
#[derive(Clone, Debug)]
pub(crate) struct PatternKey {
    pub(crate) number: u64,
    pub(crate) text: Arc<str>,
}

/// The patterns of one reader: most have none, and pay one pointer for that.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "a thin pointer, because every reader has one"
)]
pub(crate) struct PatternKeys(Option<Box<Vec<PatternKey>>>);

impl PatternKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn as_slice(&self) -> &[PatternKey] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

/// Which patterns match the entries of an append, among those that are known at that moment.
#[derive(Debug, Default)]
pub(crate) struct Matching {
    pub(crate) last_number: u64,
    /// The place of the entry in the append, and the number of the pattern; ascending by the place.
    found: Vec<(usize, u64)>,
}

impl Matching {
    /// Takes what belongs to the first entry from `rest`, which begins as all that [`found`](Self::found) has.
    pub(crate) fn take<'a>(rest: &mut &'a [(usize, u64)], index: usize) -> &'a [(usize, u64)] {
        let len = rest.iter().take_while(|(at, _)| *at == index).count();
        let (taken, left) = rest.split_at(len);
        *rest = left;
        taken
    }

    pub(crate) fn found(&self) -> &[(usize, u64)] {
        &self.found
    }
}

impl Patterns {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table::default()))
    }

    /// Registers a use of each pattern; the keys must be given to [`release`](Self::release) once.
    pub(crate) fn intern(&self, patterns: &[Arc<dyn TopicPattern>]) -> PatternKeys {
        if patterns.is_empty() {
            return PatternKeys::default();
        }
        // `as_str` is foreign code too.
        let texts: Vec<(Arc<str>, &str)> = patterns
            .iter()
            .map(|it| (Arc::from(it.as_str()), it.literal_prefix()))
            .collect();
        let mut most = 0;
        let mut table = self.0.lock();
        let mut keys: Vec<PatternKey> = Vec::with_capacity(patterns.len());
        for ((text, prefix), pattern) in texts.into_iter().zip(patterns) {
            if let Some((text, known)) = table.by_text.get_key_value(&text) {
                let (text, number) = (Arc::clone(text), known.number);
                if let Some(known) = table.by_text.get_mut(&text) {
                    known.users += 1;
                }
                keys.push(PatternKey { number, text });
            } else {
                table.last_number += 1;
                let number = table.last_number;
                let entry = (number, Arc::clone(pattern));
                let key = table.by_prefix.insert(prefix, entry);
                let known = Known {
                    number,
                    users: 1,
                    key,
                };
                table.by_text.insert(Arc::clone(&text), known);
                most = most.max(table.by_text.len());
                keys.push(PatternKey { number, text });
            }
        }
        table.most_texts.grown(most);
        drop(table);
        PatternKeys(Some(Box::new(keys)))
    }

    pub(crate) fn release(&self, keys: PatternKeys) {
        if keys.is_empty() {
            return;
        }
        let mut dropped = Vec::new();
        let mut guard = self.0.lock();
        let table = &mut *guard;
        for key in keys.as_slice() {
            if let Some(known) = table.by_text.get_mut(&key.text) {
                known.users -= 1;
                if known.users == 0
                    && let Some(known) = table.by_text.remove(&key.text)
                {
                    let is_it = |(number, _): &(u64, _)| *number == known.number;
                    dropped.extend(table.by_prefix.remove(known.key, is_it));
                }
            }
        }
        let len = table.by_text.len();
        if let Some(capacity) = table.most_texts.shrunk(len) {
            table.by_text.shrink_to(capacity);
            table.by_prefix.shrink_to(capacity);
        }
        drop(guard);
        drop((dropped, keys));
    }

    /// Asks the patterns for the entries' topics. One topic at a time: what all of them together could match is as much as
    /// entries, topics and patterns multiplied.
    pub(crate) fn matching<T>(&self, entries: &[Arc<Entry<T>>]) -> Matching {
        let mut matching = Matching::default();
        {
            let table = self.0.lock();
            matching.last_number = table.last_number;
            if table.by_text.is_empty() {
                return matching;
            }
        }
        let mut candidates: Vec<(u64, Arc<dyn TopicPattern>)> = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let public = entries.iter().enumerate();
        for (at, entry) in public.filter(|(_, entry)| entry.recipients.is_none()) {
            for topic in &*entry.topics {
                {
                    let table = self.0.lock();
                    let of_topic = table.by_prefix.of(topic);
                    let known = of_topic.filter(|(number, _)| *number <= matching.last_number);
                    candidates.extend(known.cloned());
                }
                for (number, pattern) in candidates.drain(..) {
                    if pattern.matches(topic) {
                        numbers.push(number);
                    }
                }
                numbers.sort_unstable();
                numbers.dedup();
            }
            matching
                .found
                .extend(numbers.drain(..).map(|number| (at, number)));
        }
        matching
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().by_text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Any(String);

    impl TopicPattern for Any {
        fn as_str(&self) -> &str {
            &self.0
        }

        fn literal_prefix(&self) -> &str {
            ""
        }

        fn matches(&self, _: &str) -> bool {
            true
        }
    }

    #[test]
    fn a_pattern_is_found_once_for_an_entry_however_many_topics_of_it_match() {
        let patterns = Patterns::new();
        let all: Vec<Arc<dyn TopicPattern>> = (0..3)
            .map(|n| Arc::new(Any(n.to_string())) as Arc<dyn TopicPattern>)
            .collect();
        let keys = patterns.intern(&all);
        let topics: Vec<Arc<str>> = (0..64).map(|n| Arc::from(n.to_string())).collect();
        let entries = [
            Arc::new(Entry::new(1, (), 1, topics.clone())),
            Arc::new(Entry::new(2, (), 1, topics)),
        ];
        let matching = patterns.matching(&entries);
        let expected = [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)];
        assert_eq!(matching.found(), expected);
        patterns.release(keys);
    }
}
