//! Grants: what a caller may publish and read, by topic.
//!
//! ```json
//! {"publish": ["job/*"], "subscribe": ["news", {"topic": "job/*", "event_types": ["progress"]}], "issue": true, "admin": false}
//! ```
//!
//! In `subscribe` a pattern never means a topic under `user/`, `session/` or `connection/`, unless it begins with that
//! prefix as it stands. What a caller reads is [narrowed](Grants::narrow) once, when it asks: an exact topic must be granted, and
//! patterns keep what is granted of them.

mod explained;
mod json;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use sse_broker::Topic;
use sse_pool::{Limit, Selector, TopicFilter, TopicPattern, Visibility};

use super::visibility::{PRIVATE_PREFIXES, is_private};
use crate::topic_pattern::Pattern;
use json::GrantsJson;

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
        let is_nothing = |topics: &TopicFilter| matches!(topics, TopicFilter::Topics { exact, patterns } if exact.is_empty() && patterns.is_empty());
        // Whoever asks for all gets at least what is its own.
        let gets_own = matches!(asked.topics, TopicFilter::All) && !own.is_empty();
        if is_nothing(&topics) && !is_nothing(&asked.topics) && !gets_own {
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
        // Where nothing private is granted, a pattern cannot mean it either.
        let meant = match self.0.iter().any(Rule::is_private) {
            true => readable(Arc::clone(asked)),
            false => Arc::clone(asked),
        };
        if self.has_every() && !is_private(asked.literal_prefix()) {
            narrowed.add_pattern(meant);
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
                    narrowed.add_pattern(Arc::clone(&meant));
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
        let of_patterns = |pattern: Arc<dyn TopicPattern>| TopicFilter::Topics {
            exact: Arc::default(),
            patterns: vec![pattern].into(),
        };
        let topics = match &self.topic {
            Granted::Every => of_patterns(Arc::new(Public)),
            Granted::Exact(topic) => TopicFilter::Topics {
                exact: Arc::new([Arc::clone(topic.as_arc())]),
                patterns: Vec::new().into(),
            },
            Granted::Pattern(pattern) => of_patterns(readable(Arc::clone(pattern) as _)),
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

/// What `*` means for a reader.
#[derive(Debug)]
struct Public;

impl TopicPattern for Public {
    fn matches(&self, topic: &str) -> bool {
        !is_private(topic)
    }

    fn as_str(&self) -> &'static str {
        "*"
    }
}

/// What a pattern means for a reader, where that is less than what it means.
#[derive(Debug)]
struct Readable {
    pattern: Arc<dyn TopicPattern>,
    text: String,
}

/// A pattern that means for a reader what it says.
fn readable(pattern: Arc<dyn TopicPattern>) -> Arc<dyn TopicPattern> {
    let literal = pattern.literal_prefix();
    let reaches = |private: &&str| private.starts_with(literal);
    if is_private(literal) || !PRIVATE_PREFIXES.iter().any(reaches) {
        return pattern;
    }
    let text = format!("{} & public", pattern.as_str());
    Arc::new(Readable { pattern, text })
}

impl TopicPattern for Readable {
    fn matches(&self, topic: &str) -> bool {
        means_to_read(&*self.pattern, topic)
    }

    fn as_str(&self) -> &str {
        &self.text
    }

    fn literal_prefix(&self) -> &str {
        self.pattern.literal_prefix()
    }
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

/// Nobody outside can make two different grants that have one scope.
static SCOPES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Of the grants that leave nothing out.
const EVERYTHING_SCOPE: u64 = 0;
/// Of grants that are made for one comparison.
const OWN_SCOPE: u64 = 1;
const PUBLISH: &str = "publishing to";
const SUBSCRIBE: &str = "reading";
/// So many patterns a reader's wish may become.
const MAX_COMBINATIONS: usize = 1024;

#[cfg(test)]
mod tests;
