//! What a reader wants: topics, patterns of topics and event types, checked once.

use std::sync::Arc;

use sse_broker::Topic;
use sse_pool::{Selector, TopicFilter};

use super::Hub;
use crate::topic_pattern::{Pattern, is_pattern};

/// What a reader wants, as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interest {
    /// Topics, patterns of topics, or `*`; none here and in [`exact_topics`](Self::exact_topics) means every public topic.
    pub topics: Vec<String>,
    /// Topics whose names are taken as they are, whatever they look like.
    pub exact_topics: Vec<String>,
    /// The event types; `None` for all.
    pub event_types: Option<Vec<String>>,
}

impl Interest {
    /// Whether it says anything of topics.
    pub(crate) fn names_topics(&self) -> bool {
        !self.topics.is_empty() || !self.exact_topics.is_empty()
    }

    /// Every topic and pattern.
    pub(crate) fn all_topics(&self) -> Vec<String> {
        self.topics
            .iter()
            .chain(&self.exact_topics)
            .cloned()
            .collect()
    }
}

/// Why nobody can want that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidInterest {
    /// It is too much.
    #[error("{wanted} subscriptions are wanted, and a connection may have {max}")]
    TooMany {
        /// How many topics and types are named.
        wanted: usize,
        /// How many may be.
        max: usize,
    },
    /// A topic or pattern is not a valid one.
    #[error("{topic:?} is not a valid topic: {reason}")]
    Topic {
        /// What was given.
        topic: String,
        /// Whether its name was to be taken as it is.
        is_exact: bool,
        /// What is wrong with it.
        reason: String,
    },
}

impl Hub {
    /// The selector for an interest; equal ones that come together share one.
    pub(crate) fn selector(&self, interest: &Interest) -> Result<Arc<Selector>, InvalidInterest> {
        let max = self.inner.config.max_subscriptions;
        self.inner
            .selectors
            .get(interest.clone(), |interest| compile(interest, max))
    }
}

fn compile(interest: &Interest, max: usize) -> Result<Selector, InvalidInterest> {
    let Interest {
        topics,
        exact_topics,
        event_types,
    } = interest;
    let types = event_types.as_deref().unwrap_or_default();
    let wanted = topics.len() + exact_topics.len() + types.len();
    if wanted > max {
        return Err(InvalidInterest::TooMany { wanted, max });
    }
    let labels =
        (!types.is_empty()).then(|| types.iter().map(|name| Arc::from(name.as_str())).collect());
    let is_all = topics.is_empty() && exact_topics.is_empty();
    if is_all || topics.iter().any(|topic| topic == "*") {
        return Ok(Selector {
            topics: TopicFilter::All,
            labels,
        });
    }
    let mut exact: Vec<Arc<str>> = Vec::new();
    let mut patterns: Vec<Arc<dyn sse_pool::TopicPattern>> = Vec::new();
    let mut add_exact = |topic: &str, is_exact| {
        let checked = Topic::new(topic).map_err(|error| invalid(topic, is_exact, &error))?;
        if !exact.contains(checked.as_arc()) {
            exact.push(Arc::clone(checked.as_arc()));
        }
        Ok(())
    };
    for topic in topics {
        if is_pattern(topic) {
            let pattern = Pattern::new(topic).map_err(|error| invalid(topic, false, &error))?;
            patterns.push(Arc::new(pattern));
        } else {
            add_exact(topic, false)?;
        }
    }
    for topic in exact_topics {
        add_exact(topic, true)?;
    }
    Ok(Selector {
        topics: TopicFilter::Topics {
            exact: exact.into(),
            patterns: patterns.into(),
        },
        labels,
    })
}

fn invalid(topic: &str, is_exact: bool, reason: &dyn std::fmt::Display) -> InvalidInterest {
    InvalidInterest::Topic {
        topic: topic.to_owned(),
        is_exact,
        reason: reason.to_string(),
    }
}
