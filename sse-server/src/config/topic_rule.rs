//! How long the events of some topics are kept, as people write it.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use sse_broker::{Topic, TopicPattern, TopicRetention};

use crate::topic_pattern::{Pattern, is_pattern};
use crate::units::{Size, Span};

/// A rule as it was given: as text
/// `PATTERN,…;max-age=…;max-count=…;max-bytes=…;keep-latest=…`, and in the file also as a table `[[retain]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TopicRule {
    topics: Names,
    #[serde(default, alias = "max_age")]
    max_age: Option<Span>,
    #[serde(default, alias = "max_count")]
    max_count: Option<u64>,
    #[serde(default, alias = "max_bytes")]
    max_bytes: Option<Size>,
    #[serde(default, alias = "keep_latest")]
    keep_latest: Option<u32>,
}

/// One name or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a topic or a list of topics")]
enum Names {
    One(String),
    Many(Vec<String>),
}

impl Names {
    fn all(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

impl FromStr for TopicRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(';').map(str::trim);
        let names = parts.next().unwrap_or_default().split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
        let mut rule = Self {
            topics: Names::Many(names.collect()),
            max_age: None,
            max_count: None,
            max_bytes: None,
            keep_latest: None,
        };
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim());
            let number = |_| format!("{name} must be a number, and is {value:?}");
            match name {
                "max-age" => rule.max_age = Some(value.parse().map_err(of(name))?),
                "max-count" => {
                    rule.max_count = Some(value.parse().map_err(number)?);
                }
                "max-bytes" => rule.max_bytes = Some(value.parse().map_err(of(name))?),
                "keep-latest" => {
                    rule.keep_latest = Some(value.parse().map_err(number)?);
                }
                _ => {
                    return Err(format!(
                        "{name:?} is not one of max-age, max-count, max-bytes and keep-latest"
                    ));
                }
            }
        }
        Ok(rule)
    }
}

/// Says of which part of the rule something is said.
fn of(name: &str) -> impl Fn(String) -> String {
    move |reason| format!("{name}: {reason}")
}

impl TopicRule {
    /// The rule as the log understands it; `number` is its place in the list, for messages.
    pub(super) fn build(self, number: usize) -> Result<TopicRetention, String> {
        let wrong = |what: String| format!("--retain, rule {number}: {what}");
        let names = self.topics.all();
        if names.is_empty() {
            return Err(wrong("it names no topic".to_owned()));
        }
        let mut topics: Vec<Arc<dyn TopicPattern>> = Vec::new();
        for name in names {
            if is_pattern(name) {
                let pattern = Pattern::new(name);
                let pattern = pattern.map_err(|error| wrong(format!("`{name}` is {error}")))?;
                topics.push(Arc::new(pattern));
            } else {
                let topic = Topic::new(name.as_str());
                topics.push(Arc::new(
                    topic.map_err(|error| wrong(format!("`{name}`: {error}")))?,
                ));
            }
        }
        let max = TopicRetention::MAX_KEEP_LATEST;
        let keep_latest = match self.keep_latest {
            None => None,
            Some(n) => match NonZeroU32::new(n).filter(|n| n.get() <= max) {
                Some(n) => Some(n),
                None => return Err(wrong(format!("keep-latest must be from 1 to {max}"))),
            },
        };
        if self.max_age.is_some_and(|age| age.0.is_zero()) {
            return Err(wrong("max-age must be longer than 0".to_owned()));
        }
        if self.max_count == Some(0) {
            return Err(wrong("max-count must be at least 1".to_owned()));
        }
        if self.max_bytes == Some(Size(0)) {
            return Err(wrong("max-bytes must be at least 1".to_owned()));
        }
        let rule = TopicRetention {
            max_age: self.max_age.map(|span| span.0),
            max_records: self.max_count,
            max_bytes: self.max_bytes.map(|size| size.0),
            keep_latest,
            ..TopicRetention::of(topics)
        };
        if rule == TopicRetention::of(rule.topics.clone()) {
            return Err(wrong(
                "it asks for nothing: give it max-age, max-count, max-bytes or keep-latest"
                    .to_owned(),
            ));
        }
        Ok(rule)
    }
}
