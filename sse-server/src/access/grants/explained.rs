//! Grants as people read them, for saying why something is allowed or is not.

use std::fmt;

use sse_pool::TopicPattern as _;

use super::{Granted, Grants, Rule, Rules};

impl Grants {
    /// The rules for publishing, as they were written; with a topic only those that mean it.
    #[must_use]
    pub fn publish_rules(&self, topic: Option<&str>) -> Vec<String> {
        let rules = &self.shared.publish;
        rules.texts(|rule| topic.is_none_or(|topic| rule.topic.means(topic)))
    }

    /// The rules for reading, as they were written; with a topic only those that mean it to a reader.
    #[must_use]
    pub fn subscribe_rules(&self, topic: Option<&str>) -> Vec<String> {
        let rules = &self.shared.subscribe;
        rules.texts(|rule| topic.is_none_or(|topic| rule.topic.means_to_read(topic)))
    }
}

impl Rules {
    fn texts(&self, is_meant: impl Fn(&Rule) -> bool) -> Vec<String> {
        let meant = self.0.iter().filter(|rule| is_meant(rule));
        meant.map(ToString::to_string).collect()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.topic {
            Granted::Every => f.write_str("*")?,
            Granted::Exact(topic) => f.write_str(topic.as_str())?,
            Granted::Pattern(pattern) => f.write_str(pattern.as_str())?,
        }
        match &self.event_types {
            None => Ok(()),
            Some(types) => write!(f, " (only {})", types.join(", ")),
        }
    }
}
