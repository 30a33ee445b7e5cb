//! What late readers are spared, as people write it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sse_broker::{Topic, TopicPattern};

use crate::hub::{LatePolicy, LateRule};
use crate::topic_pattern::{Pattern, is_pattern};
use crate::units::Span;

/// A rule as it was given: `PATTERN,…;latest`, `…;latest=FIELD`, `…;sample=DURATION`, `…;sample=DURATION,FIELD` or
/// `…;drop-low`.
#[derive(Clone, Debug)]
pub struct LateRuleSetting(LateRule);

impl LateRuleSetting {
    pub(super) fn build(self) -> LateRule {
        self.0
    }
}

impl FromStr for LateRuleSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (names, policy) = text
            .split_once(';')
            .ok_or("a rule is written TOPICS;POLICY, as in price/*;latest")?;
        let names = names.split(',').map(str::trim);
        let topics: Vec<_> = names
            .filter(|name| !name.is_empty())
            .map(topic)
            .collect::<Result<_, _>>()?;
        if topics.is_empty() {
            return Err("it names no topic".to_owned());
        }
        let policy = policy_of(policy.trim())?;
        Ok(Self(LateRule { topics, policy }))
    }
}

fn topic(name: &str) -> Result<Arc<dyn TopicPattern>, String> {
    if is_pattern(name) {
        let pattern = Pattern::new(name).map_err(|error| format!("{name:?} is {error}"))?;
        Ok(Arc::new(pattern))
    } else {
        let topic = Topic::new(name).map_err(|error| format!("{name:?}: {error}"))?;
        Ok(Arc::new(topic))
    }
}

fn policy_of(text: &str) -> Result<LatePolicy, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (text, None),
    };
    match (name, value) {
        ("latest", field) => Ok(LatePolicy::Latest {
            field: field.map(field_name).transpose()?,
        }),
        ("sample", Some(value)) => {
            let (interval, field) = match value.split_once(',') {
                Some((interval, field)) => (interval.trim(), Some(field.trim())),
                None => (value, None),
            };
            let Span(interval) = interval.parse()?;
            if interval < Duration::from_millis(1) {
                return Err("sample: the interval must be at least 1ms".to_owned());
            }
            Ok(LatePolicy::Sample {
                interval,
                field: field.map(field_name).transpose()?,
            })
        }
        ("sample", None) => Err("sample needs an interval, as in sample=100ms".to_owned()),
        ("drop-low", None) => Ok(LatePolicy::DropLow),
        _ => Err(format!(
            "{text:?} is not one of latest, latest=FIELD, sample=DURATION and drop-low"
        )),
    }
}

fn field_name(name: &str) -> Result<Box<str>, String> {
    match name {
        "" => Err("the name of the field is missing".to_owned()),
        _ => Ok(name.into()),
    }
}
