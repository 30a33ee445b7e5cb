//! Which entries a connection wants.

use std::{fmt, sync::Arc};

use crate::{ConnectionId, Entry};

/// What a connection wants: some topics, and perhaps only some labels.
///
/// Rights are not part of it: a connection gets a private entry only when its identities
/// ([`ClientInfo::identities`](crate::ClientInfo::identities)) allow it, whatever it asks for, and it
/// always gets the entries of the topics that *are* its identities.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// The topics.
    pub topics: TopicFilter,
    /// The labels; `None` means all. An entry without a label passes every filter.
    pub labels: Option<Arc<[Arc<str>]>>,
}

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
        /// Topics by pattern. Each *distinct* pattern costs one match per topic of every appended entry.
        patterns: Arc<[Arc<dyn TopicPattern>]>,
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
}

impl Selector {
    /// Everything: all topics, all labels.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            topics: TopicFilter::All,
            labels: None,
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
                patterns: Arc::default(),
            },
            labels: None,
        }
    }

    /// The topics these patterns match, all labels.
    pub fn patterns(patterns: impl Into<Arc<[Arc<dyn TopicPattern>]>>) -> Self {
        let patterns = patterns.into();
        Self {
            topics: TopicFilter::Topics {
                exact: Arc::default(),
                patterns,
            },
            labels: None,
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
        match &self.topics {
            TopicFilter::All => 0,
            TopicFilter::Topics { exact, patterns } => exact.len() + patterns.len(),
        }
    }

    /// Whether a connection with this selector, these identities and this id gets `entry`.
    ///
    /// This is the whole rule, and the definition the pool's index is tested against: the label passes, the
    /// audience is among the identities, and the entry is either addressed to this connection or, being
    /// addressed to no one in particular, about a topic that is followed or is one of the identities.
    #[must_use]
    pub fn wants<T>(&self, entry: &Entry<T>, identities: &[Arc<str>], id: &ConnectionId) -> bool {
        if !entry.recipients.is_empty() {
            return self.allows(entry, identities) && entry.recipients.contains(id);
        }
        let topics = entry.topics.iter().map(|topic| &**topic);
        let audience = entry.audience.iter().map(|name| &**name);
        self.wants_names(topics, audience, entry.label.as_deref(), identities)
    }

    /// The same for an entry that is not made, as a replay has it, and that is addressed to no connection in
    /// particular: its topics, its audience and its label.
    #[must_use]
    pub fn wants_names<'a>(
        &self,
        mut topics: impl Iterator<Item = &'a str>,
        audience: impl Iterator<Item = &'a str>,
        label: Option<&str>,
        identities: &[Arc<str>],
    ) -> bool {
        if !self.allows_names(audience, label, identities) {
            return false;
        }
        match &self.topics {
            TopicFilter::All => true,
            TopicFilter::Topics { exact, patterns } => topics.any(|topic| {
                let is_topic = |name: &Arc<str>| &**name == topic;
                exact.iter().any(is_topic)
                    || identities.iter().any(is_topic)
                    || patterns.iter().any(|pattern| pattern.matches(topic))
            }),
        }
    }

    /// The half of [`wants`](Self::wants) that no index answers: label and audience.
    pub(crate) fn allows<T>(&self, entry: &Entry<T>, identities: &[Arc<str>]) -> bool {
        let audience = entry.audience.iter().map(|name| &**name);
        self.allows_names(audience, entry.label.as_deref(), identities)
    }

    /// The half of [`wants_names`](Self::wants_names) that does not look at topics.
    #[must_use]
    pub fn allows_names<'a>(
        &self,
        mut audience: impl Iterator<Item = &'a str>,
        label: Option<&str>,
        identities: &[Arc<str>],
    ) -> bool {
        let label_passes = match (&self.labels, label) {
            (Some(labels), Some(label)) => labels.iter().any(|wanted| &**wanted == label),
            _ => true,
        };
        label_passes && audience.all(|name| identities.iter().any(|own| &**own == name))
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
            TopicFilter::Topics { patterns, .. } => patterns,
        }
    }
}
