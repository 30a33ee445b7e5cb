//! Which entries a connection wants.

use std::{any::Any, fmt, sync::Arc};

use crate::{ConnectionId, PatternSet, Routed, Visibility};

/// What a connection wants: some topics, and perhaps only some labels.
///
/// Rights are not part of it: a connection gets an entry only when its [`Visibility`] allows it, whatever it asks for, and it
/// always gets the entries of the topics that are its own.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// The topics.
    pub topics: TopicFilter,
    /// The labels; `None` means all. An entry without a label passes every filter.
    pub labels: Option<Arc<[Arc<str>]>>,
    /// What is to live as long as this selector, such as the right to the memory that it takes. The pool never looks at it.
    pub held: Option<Arc<dyn Held>>,
}

/// What a [`Selector`] or a [`ClientInfo`](crate::ClientInfo) keeps alive. Whoever put it there finds it again as [`Any`].
pub trait Held: Any + Send + Sync + fmt::Debug {}

impl<T: Any + Send + Sync + fmt::Debug> Held for T {}

/// The topics a connection follows.
#[derive(Clone, Debug, Default)]
pub enum TopicFilter {
    /// Every topic.
    #[default]
    All,
    /// The topics named, and those a pattern matches.
    Topics {
        /// Topics by name: served from an index, whatever the number of topics.
        exact: Arc<[Arc<str>]>,
        /// Topics by pattern. A topic of an appended entry costs a look at the *distinct* patterns whose literal prefix it has: one
        /// by one where they are few, at once where they are many and their [parts](TopicPattern::parts) are known.
        patterns: PatternSet,
    },
}

/// A rule that says which topics are meant.
///
/// The pool never calls it while it holds a lock. Two patterns with the same [`as_str`](Self::as_str) count as
/// the same pattern, and only one of them is asked.
pub trait TopicPattern: Send + Sync + fmt::Debug {
    /// Whether `topic` is meant. Always answers the same for the same topic.
    fn matches(&self, topic: &str) -> bool;

    /// The rule as it was written.
    fn as_str(&self) -> &str;

    /// What every topic that is meant begins with; the longer, the fewer topics the pattern is asked for. Always the same.
    fn literal_prefix(&self) -> &str {
        ""
    }

    /// What it is made of, where that is all it is: then it is asked together with many others, and has the same answer. The
    /// first part is the literal prefix, if it has one. Always the same.
    fn parts(&self) -> Option<Vec<PatternPart<'_>>> {
        None
    }
}

/// A part of a [`TopicPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternPart<'a> {
    /// This text, which is not empty.
    Literal(&'a str),
    /// Any text, also none.
    Any,
    /// One character or more without `/`.
    Segment,
    /// A `/` and a segment, once or more.
    Segments,
    /// The next so many parts may be left out. None of them is of this kind.
    Optional(usize),
}

impl Selector {
    /// Everything: all topics, all labels.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            topics: TopicFilter::All,
            labels: None,
            held: None,
        }
    }

    /// These topics, all labels.
    ///
    /// ```
    /// let selector = sse_pool::Selector::topics(["news", "weather"]);
    /// assert_eq!(selector.topic_count(), 2);
    /// ```
    pub fn topics<I>(names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Arc<str>>,
    {
        let exact = names.into_iter().map(Into::into).collect();
        Self {
            topics: TopicFilter::Topics {
                exact,
                patterns: PatternSet::default(),
            },
            labels: None,
            held: None,
        }
    }

    /// The topics these patterns match, all labels.
    pub fn patterns(patterns: impl IntoIterator<Item = Arc<dyn TopicPattern>>) -> Self {
        let patterns = patterns.into_iter().collect();
        Self {
            topics: TopicFilter::Topics {
                exact: Arc::default(),
                patterns,
            },
            labels: None,
            held: None,
        }
    }

    /// The same, but only entries with one of these labels (or without a label).
    #[must_use]
    pub fn with_labels<I>(mut self, labels: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Arc<str>>,
    {
        self.labels = Some(labels.into_iter().map(Into::into).collect());
        self
    }

    /// How many topics and patterns it names, what
    /// [`Limits::max_topics_per_connection`](crate::Limits::max_topics_per_connection) bounds.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.topic_count()
    }

    /// Whether a reader with this selector gets an entry.
    ///
    /// This is the whole rule, and the definition the pool's index is tested against: the label passes, the
    /// [visibility](Visibility) allows it, and the entry is either addressed to this connection or is about a topic that is
    /// followed or is the reader's own. `id` is `None` for a reader that is no connection.
    #[must_use]
    pub fn wants(
        &self,
        what: &impl Routed,
        visibility: &Visibility,
        id: Option<&ConnectionId>,
    ) -> bool {
        self.passes_label(what.label())
            && visibility.allows(what, id)
            && (what.is_addressed() || self.topics.follows(what.topics(), visibility.own()))
    }

    /// The same where it is known whether one of the patterns means one of the topics.
    pub(crate) fn wants_known(
        &self,
        what: &impl Routed,
        visibility: &Visibility,
        id: &ConnectionId,
        is_meant: bool,
    ) -> bool {
        self.passes_label(what.label())
            && visibility.allows(what, Some(id))
            && (what.is_addressed()
                || is_meant
                || self.topics.names(what.topics(), visibility.own()))
    }

    /// This selector and what another names beside it; `names_topics` says whether the other's topics count. One that follows
    /// everything, or takes every label, is narrowed to what the other names.
    #[must_use]
    pub fn plus(&self, more: &Self, names_topics: bool) -> Self {
        let topics = match (&self.topics, &more.topics) {
            _ if !names_topics => self.topics.clone(),
            (
                TopicFilter::Topics { exact, patterns },
                TopicFilter::Topics {
                    exact: more_exact,
                    patterns: more_patterns,
                },
            ) => TopicFilter::Topics {
                exact: union(exact, more_exact, |a, b| a == b),
                patterns: union(patterns.as_slice(), more_patterns.as_slice(), |a, b| {
                    a.as_str() == b.as_str()
                }),
            },
            _ => more.topics.clone(),
        };
        let labels = match (&self.labels, &more.labels) {
            (Some(labels), Some(more)) => Some(union(labels, more, |a, b| a == b)),
            (None, Some(more)) => Some(Arc::clone(more)),
            (labels, None) => labels.clone(),
        };
        Self {
            topics,
            labels,
            held: None,
        }
    }

    /// This selector without what another names; `names_topics` says whether the other's topics count. What is left may be
    /// nothing; a selector that follows everything stays as it is, for it names nothing.
    #[must_use]
    pub fn minus(&self, less: &Self, names_topics: bool) -> Self {
        let topics = match (&self.topics, &less.topics) {
            (
                TopicFilter::Topics { exact, patterns },
                TopicFilter::Topics {
                    exact: less_exact,
                    patterns: less_patterns,
                },
            ) if names_topics => TopicFilter::Topics {
                exact: difference(exact, less_exact, |a, b| a == b),
                patterns: difference(patterns.as_slice(), less_patterns.as_slice(), |a, b| {
                    a.as_str() == b.as_str()
                }),
            },
            _ => self.topics.clone(),
        };
        let labels = match (&self.labels, &less.labels) {
            (Some(labels), Some(less)) => Some(difference(labels, less, |a, b| a == b)),
            (labels, _) => labels.clone(),
        };
        Self {
            topics,
            labels,
            held: None,
        }
    }

    /// Whether entries with this label are wanted.
    pub(crate) fn passes_label(&self, label: Option<&str>) -> bool {
        match (&self.labels, label) {
            (Some(labels), Some(label)) => labels.iter().any(|wanted| &**wanted == label),
            _ => true,
        }
    }

    pub(crate) fn exact_topics(&self) -> &[Arc<str>] {
        match &self.topics {
            TopicFilter::All => &[],
            TopicFilter::Topics { exact, .. } => exact,
        }
    }

    pub(crate) fn topic_patterns(&self) -> &[Arc<dyn TopicPattern>] {
        match &self.topics {
            TopicFilter::All => &[],
            TopicFilter::Topics { patterns, .. } => patterns.as_slice(),
        }
    }
}

impl TopicFilter {
    /// How many topics and patterns it names.
    pub(crate) fn topic_count(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Topics { exact, patterns } => exact.len() + patterns.len(),
        }
    }

    /// Whether a topic is meant.
    #[must_use]
    pub fn means(&self, topic: &str) -> bool {
        self.follows(std::iter::once(topic), &[])
    }

    /// Whether one of the topics is followed, or is one of the reader's own.
    pub(crate) fn follows<'a>(
        &self,
        mut topics: impl Iterator<Item = &'a str>,
        own: &[Arc<str>],
    ) -> bool {
        match self {
            Self::All => true,
            Self::Topics { exact, patterns } => topics.any(|topic| {
                let is_topic = |name: &Arc<str>| &**name == topic;
                exact.iter().any(is_topic) || own.iter().any(is_topic) || patterns.matches(topic)
            }),
        }
    }

    /// Whether one of the topics is followed by its name, or is one of the reader's own.
    fn names<'a>(&self, mut topics: impl Iterator<Item = &'a str>, own: &[Arc<str>]) -> bool {
        match self {
            Self::All => true,
            Self::Topics { exact, .. } => {
                topics.any(|topic| exact.iter().chain(own).any(|name| **name == *topic))
            }
        }
    }

    /// Whether it is written the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (
                Self::Topics { exact, patterns },
                Self::Topics {
                    exact: other_exact,
                    patterns: other_patterns,
                },
            ) => {
                let texts = patterns.iter().map(|it| it.as_str());
                exact == other_exact && texts.eq(other_patterns.iter().map(|it| it.as_str()))
            }
            _ => false,
        }
    }
}

fn union<T: Clone, C: FromIterator<T>>(
    some: &[T],
    more: &[T],
    is_same: impl Fn(&T, &T) -> bool,
) -> C {
    let new = more
        .iter()
        .filter(|it| !some.iter().any(|known| is_same(known, it)));
    some.iter().chain(new).cloned().collect()
}

fn difference<T: Clone, C: FromIterator<T>>(
    some: &[T],
    less: &[T],
    is_same: impl Fn(&T, &T) -> bool,
) -> C {
    let left = some
        .iter()
        .filter(|it| !less.iter().any(|gone| is_same(gone, it)));
    left.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(selector: &Selector) -> Option<Vec<&str>> {
        match &selector.topics {
            TopicFilter::All => None,
            TopicFilter::Topics { exact, .. } => Some(exact.iter().map(|name| &**name).collect()),
        }
    }

    #[test]
    fn more_and_less_are_named_and_the_last_topic_leaves_nothing() {
        let a = Selector::topics(["a"]);
        let both = a.plus(&Selector::topics(["a", "b"]).with_labels(["x"]), true);
        assert_eq!(exact(&both), Some(vec!["a", "b"]));
        assert_eq!(both.labels.as_deref().map(<[_]>::len), Some(1));
        let none = both.minus(&Selector::topics(["a", "b"]).with_labels(["x"]), true);
        assert_eq!(exact(&none), Some(vec![]));
        assert_eq!(
            none.labels.as_deref().map(<[_]>::len),
            Some(0),
            "no label is left"
        );
        assert_eq!(exact(&Selector::all().plus(&a, true)), Some(vec!["a"]));
        assert_eq!(exact(&Selector::all().minus(&a, true)), None);
        let labels_alone = Selector::all().with_labels(["y"]);
        assert_eq!(exact(&a.plus(&labels_alone, false)), Some(vec!["a"]));
    }
}
