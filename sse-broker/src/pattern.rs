//! [`TopicPattern`]: many topics by one pattern, whose syntax is the caller's.

use std::fmt;

use crate::Topic;

/// A rule that says which topics are meant.
///
/// The log knows no syntax of patterns; who configures it brings one. A [`Topic`] is the pattern that
/// means itself alone.
///
/// It is asked once for each topic as long as the answer is remembered, and never while a lock is held
/// that publishers wait for.
pub trait TopicPattern: Send + Sync + fmt::Debug {
    /// Whether `topic` is meant. Always answers the same for the same topic.
    fn matches(&self, topic: &str) -> bool;

    /// The rule as it was written. Two patterns of the same text mean the same topics.
    fn as_str(&self) -> &str;
}

impl TopicPattern for Topic {
    fn matches(&self, topic: &str) -> bool {
        Topic::as_str(self) == topic
    }

    fn as_str(&self) -> &str {
        Topic::as_str(self)
    }
}
