//! The patterns of one selector.

use std::{cell::RefCell, fmt, sync::Arc};

use crate::{
    TopicPattern,
    automaton::Scratch,
    pattern_index::{PatternIndex, Prepared},
};

/// Some patterns of topics, of which only those are asked whose [literal prefix](TopicPattern::literal_prefix) a topic has; many of one
/// prefix are asked at once, where their [parts](TopicPattern::parts) are known.
///
/// Cloning shares them.
#[derive(Clone, Default)]
pub struct PatternSet {
    /// Nothing is allocated for none, which most selectors have.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    patterns: Box<[Arc<dyn TopicPattern>]>,
    index: PatternIndex,
}

thread_local! {
    static SCRATCH: RefCell<(Scratch, Vec<u64>)> = RefCell::default();
}

impl PatternSet {
    /// Whether one of them means the topic.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let Some(shared) = self.shared.as_deref() else {
            return false;
        };
        // Taken out, because a pattern that is asked may ask others.
        let (mut scratch, mut numbers) = SCRATCH.take();
        numbers.clear();
        let mut is_match = false;
        shared
            .index
            .find(topic, &mut scratch, &mut numbers, |_, pattern| {
                is_match = is_match || pattern.matches(topic);
            });
        is_match |= !numbers.is_empty();
        SCRATCH.set((scratch, numbers));
        is_match
    }

    /// The patterns, in the order in which they were given.
    #[must_use]
    pub fn as_slice(&self) -> &[Arc<dyn TopicPattern>] {
        self.shared
            .as_deref()
            .map_or(&[], |shared| &shared.patterns)
    }

    /// The same as [`as_slice`](Self::as_slice), one after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<dyn TopicPattern>> {
        self.as_slice().iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.is_none()
    }
}

impl FromIterator<Arc<dyn TopicPattern>> for PatternSet {
    fn from_iter<I: IntoIterator<Item = Arc<dyn TopicPattern>>>(patterns: I) -> Self {
        let patterns: Box<[_]> = patterns.into_iter().collect();
        if patterns.is_empty() {
            return Self::default();
        }
        let mut index = PatternIndex::default();
        for (number, pattern) in (0..).zip(&patterns) {
            let _dropped = index.insert(number, pattern.literal_prefix(), Prepared::new(pattern));
        }
        index.settle();
        Self {
            shared: Some(Arc::new(Shared { patterns, index })),
        }
    }
}

impl From<Vec<Arc<dyn TopicPattern>>> for PatternSet {
    fn from(patterns: Vec<Arc<dyn TopicPattern>>) -> Self {
        patterns.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a PatternSet {
    type Item = &'a Arc<dyn TopicPattern>;
    type IntoIter = std::slice::Iter<'a, Arc<dyn TopicPattern>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for PatternSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}
