//! The distinct patterns of all connections, and which of them an entry matches.
//!
//! Patterns are foreign code, so they are asked before any shard is locked: once per distinct pattern and
//! topic of an entry, not once per reader. A pattern that joined a shard between the asking and the append is
//! newer than the snapshot, and its readers are simply woken: they look for themselves.

use std::{collections::HashMap, sync::Arc};

use crate::{Entry, TopicPattern, high_water::HighWater, sync::Mutex};

#[derive(Debug)]
pub(crate) struct Patterns(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_text: HashMap<Arc<str>, Known>,
    most_texts: HighWater,
    /// Numbers are never used twice, so "newer" is a comparison.
    last_number: u64,
    /// Built by the first append after a change.
    snapshot: Option<Snapshot>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    users: usize,
    pattern: Arc<dyn TopicPattern>,
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

/// The patterns known at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) last_number: u64,
    patterns: Arc<[(u64, Arc<dyn TopicPattern>)]>,
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
        let texts: Vec<Arc<str>> = patterns
            .iter()
            .map(|pattern| Arc::from(pattern.as_str()))
            .collect();
        let mut stale = None;
        let mut most = 0;
        let mut table = self.0.lock();
        let mut keys: Vec<PatternKey> = Vec::with_capacity(patterns.len());
        for (text, pattern) in texts.into_iter().zip(patterns) {
            if let Some((text, known)) = table.by_text.get_key_value(&text) {
                let (text, number) = (Arc::clone(text), known.number);
                if let Some(known) = table.by_text.get_mut(&text) {
                    known.users += 1;
                }
                keys.push(PatternKey { number, text });
            } else {
                table.last_number += 1;
                let number = table.last_number;
                let known = Known {
                    number,
                    users: 1,
                    pattern: Arc::clone(pattern),
                };
                table.by_text.insert(Arc::clone(&text), known);
                most = most.max(table.by_text.len());
                stale = stale.or(table.snapshot.take());
                keys.push(PatternKey { number, text });
            }
        }
        table.most_texts.grown(most);
        drop(table);
        drop(stale);
        PatternKeys(Some(Box::new(keys)))
    }

    pub(crate) fn release(&self, keys: PatternKeys) {
        if keys.is_empty() {
            return;
        }
        let mut dropped = Vec::new();
        let mut stale = None;
        let mut table = self.0.lock();
        for key in keys.as_slice() {
            if let Some(known) = table.by_text.get_mut(&key.text) {
                known.users -= 1;
                if known.users == 0 {
                    dropped.extend(table.by_text.remove(&key.text));
                    stale = stale.or(table.snapshot.take());
                }
            }
        }
        let len = table.by_text.len();
        if let Some(capacity) = table.most_texts.shrunk(len) {
            table.by_text.shrink_to(capacity);
        }
        drop(table);
        drop((dropped, stale, keys));
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut table = self.0.lock();
        if let Some(snapshot) = &table.snapshot {
            return snapshot.clone();
        }
        let snapshot = Snapshot {
            last_number: table.last_number,
            patterns: table
                .by_text
                .values()
                .map(|known| (known.number, Arc::clone(&known.pattern)))
                .collect(),
        };
        table.snapshot = Some(snapshot.clone());
        snapshot
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().by_text.len()
    }
}

impl Snapshot {
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The numbers of the patterns that match one of the entry's topics.
    pub(crate) fn matching<T>(&self, entry: &Entry<T>, out: &mut Vec<u64>) {
        if entry.recipients.is_some() {
            return;
        }
        for (number, pattern) in &*self.patterns {
            if entry.topics.iter().any(|topic| pattern.matches(topic)) {
                out.push(*number);
            }
        }
    }
}
