//! Grants: what a caller may publish and read, by topic.
//!
//! ```json
//! {"publish": ["job/*"], "subscribe": ["news", {"topic": "job/*", "event_types": ["progress"]}], "issue": true, "admin": false}
//! ```
//!
//! In `subscribe` a pattern never means a topic under `user/`, `session/` or `connection/`, unless it begins with that
//! prefix as it stands. What a caller reads is [narrowed](Grants::narrow) once, when it asks: an exact topic must be granted, and
//! patterns keep what is granted of them.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value};
use sse_broker::Topic;
use sse_pool::{Limit, Selector, TopicFilter, TopicPattern, Visibility};

use super::visibility::is_private;
use crate::topic_pattern::{Pattern, is_pattern};

/// What a caller may do. Cloning it is cheap.
///
/// ```
/// # use sse_server::access::Grants;
/// let grants: Grants = serde_json::from_str(r#"{"publish": ["job/*"]}"#)?;
/// assert!(grants.may_publish("job/7", "progress"));
/// assert!(!grants.may_publish("news", "progress"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Grants {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    publish: Rules,
    subscribe: Rules,
    issue: bool,
    admin: bool,
    /// Different for different grants, as far as anybody can bring about.
    scope: u64,
}

/// Somebody may not do what they asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// A topic is not granted.
    #[error("{verb} {topic:?} is not granted")]
    Topic {
        /// `publishing to` or `reading`.
        verb: &'static str,
        /// The topic.
        topic: String,
    },
    /// A topic is granted, but not for events of this type.
    #[error("{verb} {topic:?} is not granted for events of the type {event_type:?}")]
    EventType {
        /// `publishing to` or `reading`.
        verb: &'static str,
        /// The topic.
        topic: String,
        /// The type.
        event_type: String,
    },
    /// Nothing of what is asked for is granted.
    #[error("nothing of what is asked for is granted")]
    Everything,
    /// The request is for those who administer the hub.
    #[error("this needs the grant admin")]
    Admin,
    /// The request is for those who may make tickets for others.
    #[error("a ticket for somebody else needs the grant issue")]
    Issue,
    /// So many patterns meet so many grants that this would take too much.
    #[error("{0} combinations of patterns and grants are too many; ask for fewer patterns")]
    TooMany(usize),
}

/// A text that is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidGrants(String);

/// Every rule for one verb.
#[derive(Debug, Default)]
struct Rules(Box<[Rule]>);

#[derive(Debug)]
struct Rule {
    topic: Granted,
    /// `None` for all.
    event_types: Option<Box<[Arc<str>]>>,
}

#[derive(Debug)]
enum Granted {
    Every,
    Exact(Topic),
    Pattern(Arc<Pattern>),
}

impl Grants {
    /// Everything: what a caller has where nobody is asked who they are.
    #[must_use]
    pub fn everything() -> Self {
        static EVERYTHING: LazyLock<Grants> = LazyLock::new(|| {
            let every = || Rules(Box::new([Rule::every()]));
            Grants::new(every(), every(), true, true, EVERYTHING_SCOPE)
        });
        EVERYTHING.clone()
    }

    /// Nothing but what is a caller's own.
    #[must_use]
    pub fn nothing() -> Self {
        static NOTHING: LazyLock<Grants> = LazyLock::new(|| {
            let text = GrantsJson::default();
            Grants::try_from(text).expect("nothing is a valid grant")
        });
        NOTHING.clone()
    }

    fn new(publish: Rules, subscribe: Rules, issue: bool, admin: bool, scope: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                publish,
                subscribe,
                issue,
                admin,
                scope,
            }),
        }
    }

    /// Whether an event of this type may be published to this topic.
    #[must_use]
    pub fn may_publish(&self, topic: &str, event_type: &str) -> bool {
        self.check_publish(topic, event_type).is_ok()
    }

    /// The same, and why not.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] names the topic, or the type where the topic is granted for others.
    pub fn check_publish(&self, topic: &str, event_type: &str) -> Result<(), Forbidden> {
        let rules = &self.shared.publish;
        rules.check(PUBLISH, topic, event_type, Granted::means)
    }

    /// Whether events of this topic may be read, of some type at least.
    #[must_use]
    pub fn may_subscribe(&self, topic: &str) -> bool {
        self.shared
            .subscribe
            .0
            .iter()
            .any(|rule| rule.topic.means_to_read(topic))
    }

    /// Whether nothing is left out: then nothing that is asked for is refused, though what is another's own still is not read.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.shared.scope == EVERYTHING_SCOPE
    }

    /// Whether tickets may be made for others.
    #[must_use]
    pub fn may_issue(&self) -> bool {
        self.shared.issue
    }

    /// Whether the hub may be administered.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.shared.admin
    }

    /// What may be read of what a reader asks for.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] for an exact topic that is neither granted nor the reader's `own`, and when nothing is left.
    pub fn narrow(&self, asked: &Selector, own: &[Arc<str>]) -> Result<Selector, Forbidden> {
        if self.is_everything() {
            return Ok(asked.clone());
        }
        let rules = &self.shared.subscribe;
        let topics = match &asked.topics {
            TopicFilter::All if rules.has_every() => TopicFilter::All,
            TopicFilter::All => rules.filter(Rule::is_any),
            TopicFilter::Topics { exact, patterns } => {
                let mut narrowed = Narrowed::default();
                for topic in exact.iter() {
                    if !own.contains(topic) && !self.may_subscribe(topic) {
                        return Err(Forbidden::Topic {
                            verb: SUBSCRIBE,
                            topic: topic.to_string(),
                        });
                    }
                    narrowed.add_exact(topic);
                }
                for pattern in patterns {
                    rules.narrow(pattern, &mut narrowed)?;
                }
                narrowed.into_filter()
            }
        };
        let is_nothing = matches!(&topics, TopicFilter::Topics { exact, patterns } if exact.is_empty() && patterns.is_empty());
        // Whoever asks for all gets at least what is its own.
        let gets_own = matches!(asked.topics, TopicFilter::All) && !own.is_empty();
        if is_nothing && !gets_own {
            return Err(Forbidden::Everything);
        }
        Ok(Selector {
            topics,
            ..asked.clone()
        })
    }

    /// What readers with these grants may have besides what is theirs.
    #[must_use]
    pub fn visibility(&self, own: Vec<Arc<str>>) -> Visibility {
        let rules = &self.shared.subscribe;
        let mut visibility = Visibility::owning(own).in_scope(self.shared.scope);
        if rules.0.iter().any(Rule::is_private) {
            visibility = visibility.with_granted(rules.filter(Rule::is_private));
        }
        if rules.0.iter().any(|rule| rule.event_types.is_some()) {
            visibility =
                visibility.with_limits(rules.0.iter().map(Rule::limit).collect::<Vec<_>>());
        }
        visibility
    }

    /// What both have together.
    #[must_use]
    pub fn and(&self, more: &Self) -> Self {
        if self.shared.scope == more.shared.scope {
            return self.clone();
        }
        let (a, b) = (&*self.shared, &*more.shared);
        let both = |a: &Rules, b: &Rules| Rules(a.0.iter().chain(&b.0).map(Rule::clone).collect());
        Self::new(
            both(&a.publish, &b.publish),
            both(&a.subscribe, &b.subscribe),
            a.issue || b.issue,
            a.admin || b.admin,
            SCOPES.hash_one((a.scope, b.scope)),
        )
    }

    /// The same without the rights to administer the hub and to make tickets for others.
    #[must_use]
    pub fn without_administration(&self) -> Self {
        let shared = &*self.shared;
        if !shared.issue && !shared.admin {
            return self.clone();
        }
        let copy = |rules: &Rules| Rules(rules.0.iter().map(Rule::clone).collect());
        Self::new(
            copy(&shared.publish),
            copy(&shared.subscribe),
            false,
            false,
            SCOPES.hash_one((shared.scope, "without administration")),
        )
    }

    /// The same as [`covers`](Self::covers), for a reader that owns these names and needs no grant for them.
    #[must_use]
    pub fn covers_for(&self, less: &Self, own: &[Arc<str>]) -> bool {
        let own = own
            .iter()
            .filter_map(|name| Topic::new(Arc::clone(name)).ok());
        let own = Rules(own.map(Rule::exactly).collect());
        let own = Self::new(Rules::default(), own, false, false, OWN_SCOPE);
        self.and(&own).covers(less)
    }

    /// Whether everything that `less` allows is allowed here too. It is careful: a pattern counts as allowed where the same one, or a
    /// prefix of its own literal one with a `*` behind it, is granted.
    #[must_use]
    pub fn covers(&self, less: &Self) -> bool {
        let (a, b) = (&*self.shared, &*less.shared);
        a.publish.covers(&b.publish, false)
            && a.subscribe.covers(&b.subscribe, true)
            && (a.issue || !b.issue)
            && (a.admin || !b.admin)
    }
}

impl PartialEq for Grants {
    fn eq(&self, other: &Self) -> bool {
        self.shared.scope == other.shared.scope
    }
}

impl Eq for Grants {}

impl Rules {
    fn check(
        &self,
        verb: &'static str,
        topic: &str,
        event_type: &str,
        means: fn(&Granted, &str) -> bool,
    ) -> Result<(), Forbidden> {
        let mut rules = self
            .0
            .iter()
            .filter(|rule| means(&rule.topic, topic))
            .peekable();
        if rules.peek().is_none() {
            return Err(Forbidden::Topic {
                verb,
                topic: topic.to_owned(),
            });
        }
        if rules.any(|rule| rule.passes(event_type)) {
            return Ok(());
        }
        Err(Forbidden::EventType {
            verb,
            topic: topic.to_owned(),
            event_type: event_type.to_owned(),
        })
    }

    fn has_every(&self) -> bool {
        self.0
            .iter()
            .any(|rule| matches!(rule.topic, Granted::Every))
    }

    /// The topics of the rules that are meant, without their types.
    fn filter(&self, is_meant: impl Fn(&Rule) -> bool) -> TopicFilter {
        let mut narrowed = Narrowed::default();
        for rule in self.0.iter().filter(|rule| is_meant(rule)) {
            match &rule.topic {
                Granted::Every => {}
                Granted::Exact(topic) => narrowed.add_exact(topic.as_arc()),
                Granted::Pattern(pattern) => narrowed.add_pattern(Arc::clone(pattern) as _),
            }
        }
        narrowed.into_filter()
    }

    /// Adds what is granted of a pattern that is asked for.
    fn narrow(
        &self,
        asked: &Arc<dyn TopicPattern>,
        narrowed: &mut Narrowed,
    ) -> Result<(), Forbidden> {
        if self.has_every() && !is_private(asked.literal_prefix()) {
            narrowed.add_pattern(Arc::clone(asked));
            return Ok(());
        }
        for rule in &self.0 {
            match &rule.topic {
                Granted::Every => {}
                Granted::Exact(topic) => {
                    if means_to_read(&**asked, topic.as_str()) {
                        narrowed.add_exact(topic.as_arc());
                    }
                }
                Granted::Pattern(granted) if granted.as_str() == asked.as_str() => {
                    narrowed.add_pattern(Arc::clone(asked));
                }
                Granted::Pattern(granted) => {
                    let (a, b) = (granted.literal_prefix(), asked.literal_prefix());
                    if a.starts_with(b) || b.starts_with(a) {
                        let both = Both::new(Arc::clone(granted), Arc::clone(asked));
                        narrowed.add_pattern(Arc::new(both));
                    }
                }
            }
            if narrowed.patterns.len() > MAX_COMBINATIONS {
                return Err(Forbidden::TooMany(narrowed.patterns.len()));
            }
        }
        Ok(())
    }

    /// Whether each rule of others is within one of these.
    fn covers(&self, less: &Self, reads: bool) -> bool {
        less.0
            .iter()
            .all(|it| self.0.iter().any(|rule| rule.covers(it, reads)))
    }
}

impl Rule {
    fn every() -> Self {
        Self {
            topic: Granted::Every,
            event_types: None,
        }
    }

    fn exactly(topic: Topic) -> Self {
        Self {
            topic: Granted::Exact(topic),
            event_types: None,
        }
    }

    fn passes(&self, event_type: &str) -> bool {
        let types = self.event_types.as_deref();
        types.is_none_or(|types| types.iter().any(|it| &**it == event_type))
    }

    fn is_any(&self) -> bool {
        true
    }

    /// Whether it is about topics that are somebody's own.
    fn is_private(&self) -> bool {
        match &self.topic {
            Granted::Every => false,
            Granted::Exact(topic) => is_private(topic.as_str()),
            Granted::Pattern(pattern) => is_private(pattern.literal_prefix()),
        }
    }

    fn limit(&self) -> Limit {
        let topics = match &self.topic {
            Granted::Every => TopicFilter::All,
            Granted::Exact(topic) => TopicFilter::Topics {
                exact: Arc::new([Arc::clone(topic.as_arc())]),
                patterns: Vec::new().into(),
            },
            Granted::Pattern(pattern) => TopicFilter::Topics {
                exact: Arc::default(),
                patterns: vec![Arc::clone(pattern) as Arc<dyn TopicPattern>].into(),
            },
        };
        Limit {
            topics,
            labels: self.event_types.as_deref().map(Arc::from),
        }
    }

    fn covers(&self, less: &Self, reads: bool) -> bool {
        let covers_types = match (&self.event_types, &less.event_types) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(more), Some(less)) => less.iter().all(|it| more.contains(it)),
        };
        let covers_topics = match (&self.topic, &less.topic) {
            (Granted::Every, Granted::Every) => true,
            (_, Granted::Every) => false,
            (granted, Granted::Exact(topic)) if reads => granted.means_to_read(topic.as_str()),
            (granted, Granted::Exact(topic)) => granted.means(topic.as_str()),
            (Granted::Every, Granted::Pattern(pattern)) => {
                !(reads && is_private(pattern.literal_prefix()))
            }
            (Granted::Exact(_), Granted::Pattern(_)) => false,
            (Granted::Pattern(more), Granted::Pattern(less)) => {
                let is_same = more.as_str() == less.as_str();
                let prefix = more
                    .as_str()
                    .strip_suffix('*')
                    .filter(|it| *it == more.literal_prefix());
                let is_private_alike = !reads
                    || is_private(more.literal_prefix()) == is_private(less.literal_prefix());
                is_same
                    || (is_private_alike
                        && prefix.is_some_and(|it| less.literal_prefix().starts_with(it)))
            }
        };
        covers_types && covers_topics
    }
}

impl Clone for Rule {
    fn clone(&self) -> Self {
        Self {
            topic: match &self.topic {
                Granted::Every => Granted::Every,
                Granted::Exact(topic) => Granted::Exact(topic.clone()),
                Granted::Pattern(pattern) => Granted::Pattern(Arc::clone(pattern)),
            },
            event_types: self.event_types.clone(),
        }
    }
}

impl Granted {
    fn means(&self, topic: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Exact(granted) => granted.as_str() == topic,
            Self::Pattern(pattern) => pattern.is_match(topic),
        }
    }

    fn means_to_read(&self, topic: &str) -> bool {
        match self {
            Self::Every => !is_private(topic),
            Self::Exact(granted) => granted.as_str() == topic,
            Self::Pattern(pattern) => means_to_read(&**pattern, topic),
        }
    }
}

/// Whether a pattern means a topic for a reader: topics that are somebody's own must be meant expressly.
fn means_to_read<P: TopicPattern + ?Sized>(pattern: &P, topic: &str) -> bool {
    (!is_private(topic) || is_private(pattern.literal_prefix())) && pattern.matches(topic)
}

/// The topics that two patterns mean, one granted and one asked for.
#[derive(Debug)]
struct Both {
    granted: Arc<Pattern>,
    asked: Arc<dyn TopicPattern>,
    text: String,
}

impl Both {
    fn new(granted: Arc<Pattern>, asked: Arc<dyn TopicPattern>) -> Self {
        let text = format!("{} & {}", asked.as_str(), granted.as_str());
        Self {
            granted,
            asked,
            text,
        }
    }
}

impl TopicPattern for Both {
    fn matches(&self, topic: &str) -> bool {
        means_to_read(&*self.asked, topic) && means_to_read(&*self.granted, topic)
    }

    fn as_str(&self) -> &str {
        &self.text
    }

    fn literal_prefix(&self) -> &str {
        let (a, b) = (self.granted.literal_prefix(), self.asked.literal_prefix());
        if a.len() > b.len() { a } else { b }
    }
}

/// Topics and patterns, each once.
#[derive(Default)]
struct Narrowed {
    exact: Vec<Arc<str>>,
    patterns: Vec<Arc<dyn TopicPattern>>,
    seen: HashSet<Box<str>>,
}

impl Narrowed {
    fn add_exact(&mut self, topic: &Arc<str>) {
        // A topic has no line break, so it is no pattern's text with one before it.
        if self.seen.insert(format!("\n{topic}").into()) {
            self.exact.push(Arc::clone(topic));
        }
    }

    fn add_pattern(&mut self, pattern: Arc<dyn TopicPattern>) {
        if self.seen.insert(pattern.as_str().into()) {
            self.patterns.push(pattern);
        }
    }

    fn into_filter(self) -> TopicFilter {
        TopicFilter::Topics {
            exact: self.exact.into(),
            patterns: self.patterns.into(),
        }
    }
}

/// Grants, as they are written.
#[derive(Debug, Default, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantsJson {
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
    fn new(topic: &str) -> Result<Self, InvalidGrants> {
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

/// Nobody outside can make two different grants that have one scope.
static SCOPES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Of the grants that leave nothing out.
const EVERYTHING_SCOPE: u64 = 0;
/// Of grants that are made for one comparison.
const OWN_SCOPE: u64 = 1;
const PUBLISH: &str = "publishing to";
const SUBSCRIBE: &str = "reading";
/// So many rules grants may have. A stated guess: more than a token of some KiB can hold.
const MAX_RULES: usize = 256;
/// So many patterns a reader's wish may become.
const MAX_COMBINATIONS: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sse_pool::PatternSet;

    use super::*;

    fn grants(json: serde_json::Value) -> Grants {
        serde_json::from_value(json).unwrap()
    }

    fn reading(topics: &[&str]) -> Grants {
        grants(serde_json::json!({ "subscribe": topics }))
    }

    fn asking(topics: &[&str]) -> Selector {
        let (patterns, exact): (Vec<&str>, Vec<&str>) =
            topics.iter().partition(|it| is_pattern(it));
        if patterns.contains(&"*") {
            return Selector::all();
        }
        let patterns: PatternSet = patterns
            .into_iter()
            .map(|it| Arc::new(Pattern::new(it).unwrap()) as Arc<dyn TopicPattern>)
            .collect();
        Selector {
            topics: TopicFilter::Topics {
                exact: exact.into_iter().map(Arc::from).collect(),
                patterns,
            },
            ..Selector::all()
        }
    }

    fn follows(selector: &Selector, topic: &str) -> bool {
        selector.topics.means(topic)
    }

    #[test]
    fn an_exact_topic_is_granted_or_refused_by_its_name() {
        let own = [Arc::from("user/me")];
        let grants = reading(&["news", "job/*", "user/boss"]);
        for topic in ["news", "job/7", "user/me", "user/boss"] {
            assert!(grants.narrow(&asking(&[topic]), &own).is_ok(), "{topic}");
        }
        for topic in ["olds", "jobs/7", "user/you", "session/x"] {
            let refused = grants.narrow(&asking(&["news", topic]), &own).unwrap_err();
            assert!(refused.to_string().contains(topic), "{refused}");
        }
        assert!(
            reading(&["*"])
                .narrow(&asking(&["user/you"]), &own)
                .is_err()
        );
        assert!(
            reading(&["user/*"])
                .narrow(&asking(&["user/you"]), &own)
                .is_ok()
        );
        assert!(Grants::nothing().narrow(&Selector::all(), &[]).is_err());
        // What is one's own needs no grant.
        assert!(Grants::nothing().narrow(&Selector::all(), &own).is_ok());
        assert!(
            Grants::everything()
                .narrow(&asking(&["news", "*"]), &[])
                .is_ok()
        );
    }

    #[test]
    fn a_publisher_may_mean_readers_by_a_pattern_and_types_are_checked() {
        let grants = grants(serde_json::json!({
            "publish": ["*/news", {"topic": "job/*", "event_types": ["progress", "done"]}, {"topic_exact": "a*b"}],
        }));
        for (topic, event_type, is_allowed) in [
            ("user/7/news", "x", true),
            ("job/7", "progress", true),
            ("job/7", "error", false),
            ("a*b", "x", true),
            ("axb", "x", false),
            ("olds", "x", false),
        ] {
            assert_eq!(
                grants.may_publish(topic, event_type),
                is_allowed,
                "{topic} {event_type}"
            );
        }
        let refused = grants.check_publish("job/7", "error").unwrap_err();
        assert!(refused.to_string().contains("\"error\""), "{refused}");
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for json in [
            serde_json::json!({"publsh": ["a"]}),
            serde_json::json!({"publish": "a"}),
            serde_json::json!({"publish": [1]}),
            serde_json::json!({"publish": [""]}),
            serde_json::json!({"publish": ["a\nb"]}),
            serde_json::json!({"publish": ["{a"]}),
            serde_json::json!({"publish": [{"topic": "a", "topic_exact": "a"}]}),
            serde_json::json!({"publish": [{"event_types": ["a"]}]}),
            serde_json::json!({"subscribe": vec!["a"; MAX_RULES + 1]}),
            serde_json::json!({"admin": "yes"}),
            serde_json::json!([]),
            serde_json::json!([["a"]]),
            serde_json::json!({"publish": [["a"]]}),
        ] {
            assert!(
                serde_json::from_value::<Grants>(json.clone()).is_err(),
                "{json}"
            );
        }
    }

    #[test]
    fn nothing_wider_is_covered() {
        let all = Grants::everything();
        assert!(all.covers(&reading(&["*", "job/*", "news"])));
        assert!(!all.covers(&reading(&["user/you"])));
        assert!(!all.covers(&reading(&["user/*"])));
        let jobs = reading(&["job/*"]);
        for (asked, is_covered) in [
            ("job/7", true),
            ("job/*", true),
            ("job/7/*", true),
            ("job/:id", true),
            ("job*", false),
            ("*", false),
            ("news", false),
            ("user/7", false),
        ] {
            assert_eq!(jobs.covers(&reading(&[asked])), is_covered, "{asked}");
        }
        assert!(!reading(&["u*"]).covers(&reading(&["user/*"])));
        assert!(!jobs.covers(&Grants::everything()));
        let typed =
            grants(serde_json::json!({"subscribe": [{"topic": "job/*", "event_types": ["a"]}]}));
        assert!(jobs.covers(&typed) && !typed.covers(&jobs));
    }

    const TOPICS: [&str; 8] = [
        "news",
        "job/1",
        "job/2",
        "job/1/log",
        "user/a",
        "user/b",
        "session/s",
        "x",
    ];
    const WISHES: [&str; 10] = [
        "*", "news", "job/1", "job/*", "job/:id", "*1*", "user/a", "user/*", "u*", "{job}/*",
    ];

    fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(of), 1..4)
    }

    proptest! {
        /// The naive rule: a topic is read that is asked for and granted, or is the reader's own.
        #[test]
        fn what_is_narrowed_is_asked_for_and_granted(granted in some(&WISHES), asked in some(&WISHES)) {
            let own = [Arc::from("user/a")];
            let grants = reading(&granted);
            let Ok(narrowed) = grants.narrow(&asking(&asked), &own) else {
                let exact_is_missing = asked.iter().any(|it| {
                    !is_pattern(it) && *it != "user/a" && !grants.may_subscribe(it)
                });
                let nothing_is_left = TOPICS.iter().all(|topic| {
                    !asked.iter().any(|it| Granted::new(it).unwrap().means_to_read(topic)) || !grants.may_subscribe(topic)
                });
                prop_assert!(exact_is_missing || nothing_is_left);
                return Ok(());
            };
            // What is one's own is got in any case.
            for topic in TOPICS.into_iter().filter(|it| *it != "user/a") {
                let is_granted = grants.may_subscribe(topic);
                let is_asked = asked.iter().any(|it| Granted::new(it).unwrap().means_to_read(topic));
                let reads = follows(&narrowed, topic) && (is_granted || !is_private(topic));
                prop_assert!(!reads || is_granted, "{topic} is not granted");
                prop_assert!(!reads || is_asked || is_private(topic), "{topic} is not asked for");
                prop_assert!(reads || !(is_asked && is_granted), "{topic} is left out");
            }
        }

        #[test]
        fn what_is_covered_is_allowed(more in some(&WISHES), less in some(&WISHES)) {
            let (more, less) = (reading(&more), reading(&less));
            if more.covers(&less) {
                for topic in TOPICS {
                    prop_assert!(!less.may_subscribe(topic) || more.may_subscribe(topic), "{topic}");
                }
            }
        }
    }
}
