//! The distinct patterns of all connections, and which of them an entry matches.
//!
//! Patterns are foreign code, so they are asked before any shard is locked, and without the table's own lock: for each topic
//! of an entry the distinct patterns whose literal prefix it has, not once per reader, and many of one prefix in one walk. What
//! was found for a topic is remembered until the patterns change. A pattern that joined a shard between
//! the asking and the append is newer than what was looked up, and its readers are simply woken: they look for themselves.
//!
//! What was found stays with the entry in the window ([`Meant`]), so that a reader of patterns compares numbers.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Entry, TopicPattern,
    automaton::Scratch,
    high_water::HighWater,
    pattern_index::{Asked, PatternIndex, PatternPlace, Prepared},
    sync::Mutex,
};

#[derive(Debug)]
pub(crate) struct Patterns(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_text: HashMap<Arc<str>, Known>,
    most_texts: HighWater,
    index: PatternIndex,
    /// What was found for the newest topics, since the patterns have changed.
    found: HashMap<Box<str>, Box<[u64]>>,
    /// How often the patterns have changed.
    version: u64,
    scratch: Scratch,
    /// Numbers are never used twice, so "newer" is a comparison.
    last_number: u64,
}

#[derive(Debug)]
struct Known {
    number: u64,
    users: usize,
    place: PatternPlace,
}

/// A pattern's number and text, as a reader holds it.
#[derive(Clone, Debug)]
pub(crate) struct PatternKey {
    pub(crate) number: u64,
    pub(crate) text: Arc<str>,
}

/// The patterns of one reader: most have none, and pay one pointer for that.
/// They are in the order of their numbers.
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

/// Which patterns mean an entry.
#[derive(Clone, Debug)]
pub(crate) enum Meant {
    /// Who wants to know asks the patterns.
    Unknown,
    /// These, of those that were known.
    By {
        /// The newest that was.
        known: u64,
        /// Ascending.
        numbers: Box<[u64]>,
    },
}

impl Meant {
    /// Whether one of a reader's patterns means it; `None` when they have to be asked.
    pub(crate) fn by_any(&self, keys: &PatternKeys) -> Option<bool> {
        let keys = keys.as_slice();
        let Self::By { known, numbers } = self else {
            return None;
        };
        let is_one = |number| keys.binary_search_by_key(number, |key| key.number).is_ok();
        match keys.last() {
            Some(newest) if newest.number > *known => None,
            _ => Some(numbers.iter().any(is_one)),
        }
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

    /// What of `found`, which is all of one entry, stays with it: of very many it would take too much memory.
    pub(crate) fn meant(&self, found: &[(usize, u64)]) -> Meant {
        if found.len() > MAX_KEPT {
            return Meant::Unknown;
        }
        Meant::By {
            known: self.last_number,
            numbers: found.iter().map(|(_, number)| *number).collect(),
        }
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
        let mut texts: Vec<(Arc<str>, &str, Option<Prepared>)> = patterns
            .iter()
            .map(|it| (Arc::from(it.as_str()), it.literal_prefix(), None))
            .collect();
        let new: Vec<bool> = {
            let table = self.0.lock();
            let is_new = |(text, ..): &(Arc<str>, _, _)| !table.by_text.contains_key(text);
            texts.iter().map(is_new).collect()
        };
        // So are its parts, for which only a new one is asked.
        for (((_, _, prepared), pattern), is_new) in texts.iter_mut().zip(patterns).zip(new) {
            *prepared = is_new.then(|| Prepared::new(pattern));
        }
        let mut most = 0;
        let mut dropped: Vec<Asked> = Vec::new();
        let mut guard = self.0.lock();
        let table = &mut *guard;
        let mut keys: Vec<PatternKey> = Vec::with_capacity(patterns.len());
        for ((text, prefix, prepared), pattern) in texts.into_iter().zip(patterns) {
            if let Some((text, known)) = table.by_text.get_key_value(&text) {
                let (text, number) = (Arc::clone(text), known.number);
                if let Some(known) = table.by_text.get_mut(&text) {
                    known.users += 1;
                }
                keys.push(PatternKey { number, text });
            } else {
                table.last_number += 1;
                let number = table.last_number;
                // One that was known a moment ago and has gone since is asked for nothing: it is asked for each topic.
                let prepared = prepared.unwrap_or_else(|| Prepared::unknown(pattern));
                let (place, asked) = table.index.insert(number, prefix, prepared);
                dropped.push(asked);
                table.changed();
                let known = Known {
                    number,
                    users: 1,
                    place,
                };
                table.by_text.insert(Arc::clone(&text), known);
                most = most.max(table.by_text.len());
                keys.push(PatternKey { number, text });
            }
        }
        table.most_texts.grown(most);
        drop(guard);
        drop(dropped);
        keys.sort_unstable_by_key(|key| key.number);
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
                    dropped.extend(table.index.remove(known.number, &known.place));
                    table.changed();
                }
            }
        }
        let len = table.by_text.len();
        if let Some(capacity) = table.most_texts.shrunk(len) {
            table.by_text.shrink_to(capacity);
            table.index.shrink_to(capacity);
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
        let mut asked = Asked::new();
        let mut numbers: Vec<u64> = Vec::new();
        let public = entries.iter().enumerate();
        for (at, entry) in public.filter(|(_, entry)| entry.recipients.is_none()) {
            for topic in &*entry.topics {
                let before = numbers.len();
                let version = self.0.lock().find(topic, &mut numbers, &mut asked);
                for (number, pattern) in asked.drain(..) {
                    if pattern.matches(topic) {
                        numbers.push(number);
                    }
                }
                if let Some(version) = version {
                    let found = numbers.get(before..).unwrap_or_default();
                    self.0.lock().remember(version, topic, found);
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

impl Table {
    /// Adds the numbers of the patterns that mean the topic, and those that are to be asked besides. Where it is worth
    /// remembering what comes of that, the version of which it holds.
    fn find(&mut self, topic: &str, numbers: &mut Vec<u64>, asked: &mut Asked) -> Option<u64> {
        if !self.found.is_empty()
            && let Some(found) = self.found.get(topic)
        {
            numbers.extend(found);
            return None;
        }
        let ask = |number, pattern: &Arc<_>| asked.push((number, Arc::clone(pattern)));
        let had_many = self.index.find(topic, &mut self.scratch, numbers, ask);
        had_many.then_some(self.version)
    }

    fn remember(&mut self, version: u64, topic: &str, found: &[u64]) {
        let is_small = topic.len() <= MAX_REMEMBERED_BYTES && found.len() <= MAX_KEPT;
        if version != self.version || !is_small {
            return;
        }
        if self.found.len() >= MAX_REMEMBERED {
            self.found.clear();
        }
        self.found.insert(topic.into(), found.into());
    }

    fn changed(&mut self) {
        self.version += 1;
        self.found.clear();
    }
}

/// Patterns that an entry of the window remembers, 8 bytes each.
const MAX_KEPT: usize = 32;
/// Topics for which it is remembered what means them: half a MiB at most.
const MAX_REMEMBERED: usize = 1024;
const MAX_REMEMBERED_BYTES: usize = 256;

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
