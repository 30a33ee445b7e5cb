//! Grants, as they are written: JSON in a token, in a file of tokens and in the configuration.

use std::hash::BuildHasher;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use sse_broker::Topic;

use super::{Granted, Grants, InvalidGrants, Rule, Rules, SCOPES};
use crate::topic_pattern::{Pattern, is_pattern};

/// Grants, as they are written.
#[derive(Debug, Default, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantsJson {
    #[serde(default)]
    publish: Vec<RuleJson>,
    #[serde(default)]
    subscribe: Vec<RuleJson>,
    #[serde(default)]
    issue: bool,
    #[serde(default)]
    admin: bool,
}

#[derive(Debug, Hash, Deserialize)]
#[serde(untagged)]
enum RuleJson {
    Topic(String),
    Rule(Map<String, Value>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongRuleJson {
    #[serde(default)]
    topic: Option<String>,
    /// A topic whose name is taken as it is.
    #[serde(default)]
    topic_exact: Option<String>,
    #[serde(default)]
    event_types: Option<Vec<String>>,
}

impl TryFrom<GrantsJson> for Grants {
    type Error = InvalidGrants;

    fn try_from(json: GrantsJson) -> Result<Self, InvalidGrants> {
        let count = json.publish.len() + json.subscribe.len();
        if count > MAX_RULES {
            return Err(InvalidGrants(format!(
                "{count} grants are more than {MAX_RULES}"
            )));
        }
        let scope = SCOPES.hash_one(&json);
        let rules = |rules: Vec<RuleJson>| {
            let rules: Result<Box<[Rule]>, _> = rules.into_iter().map(Rule::try_from).collect();
            rules.map(Rules)
        };
        let (publish, subscribe) = (rules(json.publish)?, rules(json.subscribe)?);
        Ok(Self::new(publish, subscribe, json.issue, json.admin, scope))
    }
}

impl TryFrom<RuleJson> for Rule {
    type Error = InvalidGrants;

    fn try_from(json: RuleJson) -> Result<Self, InvalidGrants> {
        let (topic, exact, types) = match json {
            RuleJson::Topic(topic) => (Some(topic), None, None),
            RuleJson::Rule(rule) => {
                let rule: LongRuleJson = serde_json::from_value(Value::Object(rule))
                    .map_err(|error| InvalidGrants(error.to_string()))?;
                (rule.topic, rule.topic_exact, rule.event_types)
            }
        };
        let topic = match (topic, exact) {
            (Some(topic), None) => Granted::new(&topic)?,
            (None, Some(exact)) => Granted::exact(&exact)?,
            _ => {
                return Err(InvalidGrants(
                    "a grant needs topic or topic_exact, one of the two".to_owned(),
                ));
            }
        };
        let event_types = types.map(|types| types.into_iter().map(Arc::from).collect());
        Ok(Self { topic, event_types })
    }
}

impl Granted {
    pub(super) fn new(topic: &str) -> Result<Self, InvalidGrants> {
        match topic {
            "*" => Ok(Self::Every),
            pattern if is_pattern(pattern) => Pattern::new(pattern)
                .map(|pattern| Self::Pattern(Arc::new(pattern)))
                .map_err(|error| InvalidGrants(format!("{pattern:?} cannot be granted: {error}"))),
            exact => Self::exact(exact),
        }
    }

    fn exact(topic: &str) -> Result<Self, InvalidGrants> {
        Topic::new(topic)
            .map(Self::Exact)
            .map_err(|error| InvalidGrants(format!("{topic:?} cannot be granted: {error}")))
    }
}

impl<'de> Deserialize<'de> for Grants {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An object and nothing else: a list would be taken for its fields, one after the other.
        let fields = Map::<String, Value>::deserialize(deserializer)?;
        let json: GrantsJson =
            serde_json::from_value(Value::Object(fields)).map_err(serde::de::Error::custom)?;
        Self::try_from(json).map_err(serde::de::Error::custom)
    }
}

/// So many rules grants may have. A stated guess: more than a token of some KiB can hold.
pub(super) const MAX_RULES: usize = 256;
