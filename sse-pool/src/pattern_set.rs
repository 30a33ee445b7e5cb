//! The patterns of one selector.

use std::{fmt, sync::Arc};

use crate::{TopicPattern, prefix_map::PrefixMap};

/// Some patterns of topics, of which only those are asked whose [literal prefix](TopicPattern::literal_prefix) a topic has.
///
/// Cloning shares them.
#[derive(Clone, Default)]
pub struct PatternSet {
    /// Nothing is allocated for none, which most selectors have.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    patterns: Box<[Arc<dyn TopicPattern>]>,
    by_prefix: PrefixMap<u32>,
}

impl PatternSet {
    /// Whether one of them means the topic.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.shared.as_deref().is_some_and(|shared| {
            let mut candidates = shared.by_prefix.of(topic);
            candidates.any(|at| shared.patterns[*at as usize].matches(topic))
        })
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
        let mut by_prefix = PrefixMap::default();
        for (at, pattern) in (0..).zip(&patterns) {
            by_prefix.insert(pattern.literal_prefix(), at);
        }
        Self {
            shared: Some(Arc::new(Shared {
                patterns,
                by_prefix,
            })),
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
