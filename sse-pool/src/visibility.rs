//! Who may have an entry: the one rule for live delivery, replay and everything else.
//!
//! ```text
//!   addressed to connections   the reader must be one of them
//!   Audience::Everyone         nothing more
//!   Audience::Owners           each of the names must be the reader's own, or granted to it by name or pattern
//!   Audience::Granted          one of the entry's topics must have been granted to the reader
//! ```
//!
//! A reader with [limits](Visibility::with_limits) gets an entry only where one of them allows it besides.
//!
//! [`Selector::wants`](crate::Selector::wants) asks this rule first and then what the reader follows. A caller that reads
//! entries elsewhere, such as a log, describes them with [`Routed`] and asks the same function.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{ConnectionId, TopicFilter};

/// Whom an entry is for, among those who follow one of its topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Everyone.
    #[default]
    Everyone,
    /// A reader that owns every one of these names. No names mean everyone.
    Owners(Arc<[Arc<str>]>),
    /// A reader that was granted one of the entry's topics.
    Granted,
}

impl Audience {
    /// Whether nobody is left out.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        match self {
            Self::Everyone => true,
            Self::Owners(names) => names.is_empty(),
            Self::Granted => false,
        }
    }
}

/// What routing looks at in an entry of the window, or in a record of a log.
pub trait Routed {
    /// The topics it was published to.
    fn topics(&self) -> impl Iterator<Item = &str>;

    /// The names that a reader must own, every one of them.
    fn owners(&self) -> impl Iterator<Item = &str>;

    /// Whether a reader must have been granted one of the topics.
    fn needs_grant(&self) -> bool;

    /// Whether it is addressed to single connections, and to nobody else.
    fn is_addressed(&self) -> bool;

    /// Whether this connection is one of those it is addressed to.
    fn is_addressed_to(&self, id: &ConnectionId) -> bool;

    /// What a type filter compares; without a label it passes every filter.
    fn label(&self) -> Option<&str>;
}

/// What a reader may have, whatever it follows: the names that it owns, the topics that it was granted, and its limits.
///
/// Cloning it is cheap. Two that are equal allow the same, so readers with equal ones may share what is made for them.
///
/// ```
/// use std::sync::Arc;
/// use sse_pool::{Audience, Entry, Visibility};
///
/// let mut entry = Entry::new(1, "for the user alone", 18, vec![Arc::from("news")]);
/// entry.audience = Audience::Owners(vec![Arc::from("user/7")].into());
/// assert!(!Visibility::default().allows(&entry, None));
/// assert!(Visibility::owning(["user/7"]).allows(&entry, None));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Visibility {
    own: Arc<[Arc<str>]>,
    granted: Option<TopicFilter>,
    limits: Option<Arc<[Limit]>>,
    scope: u64,
}

/// Entries that a limited reader may have: those about some topics, perhaps only with some labels.
#[derive(Clone, Debug)]
pub struct Limit {
    /// The topics.
    pub topics: TopicFilter,
    /// The labels; `None` means all. An entry without a label passes.
    pub labels: Option<Arc<[Arc<str>]>>,
}

impl Limit {
    fn passes(&self, what: &impl Routed) -> bool {
        let label = what.label();
        let passes_label = match (&self.labels, label) {
            (Some(labels), Some(label)) => labels.iter().any(|it| &**it == label),
            _ => true,
        };
        passes_label && self.topics.follows(what.topics(), &[])
    }

    fn is_same(&self, other: &Self) -> bool {
        self.labels == other.labels && self.topics.is_same(&other.topics)
    }
}

impl Visibility {
    /// Of a reader that owns these names (`user/…`, `session/…`).
    pub fn owning<I>(names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Arc<str>>,
    {
        Self {
            own: names.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same, with these topics granted. A topic that is granted by name or pattern stands for a name that it owns, too.
    #[must_use]
    pub fn with_granted(self, topics: TopicFilter) -> Self {
        Self {
            granted: Some(topics),
            ..self
        }
    }

    /// The same, with nothing but what one of these limits allows, what is about a name that it owns, and what is addressed to it.
    /// Limits are asked for each entry, without a lock.
    #[must_use]
    pub fn with_limits(self, limits: impl Into<Arc<[Limit]>>) -> Self {
        Self {
            limits: Some(limits.into()),
            ..self
        }
    }

    /// The same, apart from readers of other scopes: it is equal to none of theirs, so nothing is made for both.
    #[must_use]
    pub fn in_scope(self, scope: u64) -> Self {
        Self { scope, ..self }
    }

    /// The names it owns. A reader always gets the entries of the topics of these names.
    #[must_use]
    pub fn own(&self) -> &[Arc<str>] {
        &self.own
    }

    /// Whether a reader may have an entry. `id` is the connection that it is; `None` for one that is no connection, such as a
    /// poller, to whom nothing can be addressed.
    #[must_use]
    pub fn allows(&self, what: &impl Routed, id: Option<&ConnectionId>) -> bool {
        self.judge(what, id, Patterns::Ask)
    }

    /// The same without asking patterns, which is not done under a lock: where only they can tell, it answers yes, and
    /// whoever takes the entry asks [`allows`](Self::allows) later.
    pub(crate) fn may_allow(&self, what: &impl Routed, id: Option<&ConnectionId>) -> bool {
        self.judge(what, id, Patterns::Assume)
    }

    /// Whether patterns or limits must be asked for each entry.
    pub(crate) fn must_be_asked(&self) -> bool {
        self.limits.is_some()
            || matches!(&self.granted, Some(TopicFilter::Topics { patterns, .. }) if !patterns.is_empty())
    }

    fn judge(&self, what: &impl Routed, id: Option<&ConnectionId>, patterns: Patterns) -> bool {
        if what.is_addressed() && !id.is_some_and(|id| what.is_addressed_to(id)) {
            return false;
        }
        let mut owners = what.owners();
        owners.all(|name| self.owns(name) || self.is_granted_by_name(name, patterns))
            && (!what.needs_grant() || what.topics().any(|topic| self.is_granted(topic, patterns)))
            && (matches!(patterns, Patterns::Assume) || self.is_within_limits(what))
    }

    /// Whether a name that an entry may be for is the reader's own, or was granted to it by name or pattern.
    #[must_use]
    pub fn stands_for(&self, name: &str) -> bool {
        self.owns(name) || self.is_granted_by_name(name, Patterns::Ask)
    }

    fn owns(&self, name: &str) -> bool {
        self.own.iter().any(|own| &**own == name)
    }

    fn is_granted_by_name(&self, name: &str, how: Patterns) -> bool {
        !matches!(self.granted, Some(TopicFilter::All)) && self.is_granted(name, how)
    }

    fn is_within_limits(&self, what: &impl Routed) -> bool {
        self.limits.as_deref().is_none_or(|limits| {
            what.is_addressed()
                || what.topics().any(|topic| self.owns(topic))
                || limits.iter().any(|limit| limit.passes(what))
        })
    }

    fn is_granted(&self, topic: &str, how: Patterns) -> bool {
        match &self.granted {
            None => false,
            Some(TopicFilter::All) => true,
            Some(TopicFilter::Topics { exact, patterns }) => {
                exact.iter().any(|name| &**name == topic)
                    || match how {
                        Patterns::Ask => patterns.matches(topic),
                        Patterns::Assume => !patterns.is_empty(),
                    }
            }
        }
    }
}

/// Whether patterns are asked, which are foreign code.
#[derive(Clone, Copy)]
enum Patterns {
    Ask,
    Assume,
}

impl PartialEq for Visibility {
    fn eq(&self, other: &Self) -> bool {
        let same_grants = match (&self.granted, &other.granted) {
            (None, None) => true,
            (Some(a), Some(b)) => a.is_same(b),
            _ => false,
        };
        let same_limits = match (&self.limits, &other.limits) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| a.is_same(b))
            }
            _ => false,
        };
        self.scope == other.scope && same_grants && same_limits && self.own == other.own
    }
}

impl Eq for Visibility {}

impl Hash for Visibility {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.own.hash(state);
        // Equal grants have equally many topics; which ones, equality tells.
        let granted = self.granted.as_ref().map(TopicFilter::topic_count);
        granted.hash(state);
        self.scope.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Entry, TopicPattern};

    #[derive(Debug)]
    struct Prefix(String);

    impl TopicPattern for Prefix {
        fn matches(&self, topic: &str) -> bool {
            topic.starts_with(&self.0)
        }

        fn as_str(&self) -> &str {
            &self.0
        }
    }

    fn entry(audience: Audience, recipients: Option<Vec<ConnectionId>>) -> Entry<()> {
        Entry {
            audience,
            recipients: recipients.map(Into::into),
            ..Entry::new(1, (), 1, vec![Arc::from("news"), Arc::from("room/1")])
        }
    }

    fn name(n: u8) -> Arc<str> {
        Arc::from(format!("user/{n}"))
    }

    #[test]
    fn nobody_is_not_a_connection() {
        let zero = ConnectionId::from_uuid([0; 16]);
        let to_zero = entry(Audience::Everyone, Some(vec![zero.clone()]));
        let to_nobody = entry(Audience::Everyone, Some(Vec::new()));
        let reader = Visibility::default();
        assert!(reader.allows(&to_zero, Some(&zero)));
        assert!(!reader.allows(&to_zero, None));
        assert!(!reader.allows(&to_nobody, Some(&zero)));
        assert!(!reader.allows(&to_nobody, None));
    }

    #[test]
    fn a_grant_is_for_one_of_the_topics_and_a_name_for_all_of_them() {
        let granted = entry(Audience::Granted, None);
        let topics = |exact: &[&str], patterns: &[&str]| TopicFilter::Topics {
            exact: exact.iter().map(|&name| Arc::from(name)).collect(),
            patterns: patterns
                .iter()
                .map(|&prefix| Arc::new(Prefix(prefix.to_owned())) as Arc<dyn TopicPattern>)
                .collect(),
        };
        for (filter, is_allowed) in [
            (None, false),
            (Some(TopicFilter::All), true),
            (Some(topics(&["room/1"], &[])), true),
            (Some(topics(&["room/2"], &[])), false),
            (Some(topics(&[], &["room/"])), true),
            (Some(topics(&[], &["hall/"])), false),
        ] {
            let reader = match filter {
                None => Visibility::owning(["news"]),
                Some(filter) => Visibility::default().with_granted(filter),
            };
            assert_eq!(reader.allows(&granted, None), is_allowed, "{reader:?}");
            // Without asking patterns it may only be too generous.
            assert!(reader.may_allow(&granted, None) || !is_allowed);
        }
    }

    #[test]
    fn a_name_that_is_granted_stands_for_one_that_is_owned() {
        let private = entry(Audience::Owners(vec![name(7)].into()), None);
        let granted = |filter| Visibility::default().with_granted(filter);
        let exact = TopicFilter::Topics {
            exact: vec![name(7)].into(),
            patterns: crate::PatternSet::default(),
        };
        assert!(granted(exact).allows(&private, None));
        // Whoever was granted every topic was not made everyone.
        assert!(!granted(TopicFilter::All).allows(&private, None));
        assert!(!Visibility::default().allows(&private, None));
    }

    #[test]
    fn limits_leave_what_is_own_and_what_is_addressed() {
        let limit = |topic: &str, label: Option<&str>| Limit {
            topics: TopicFilter::Topics {
                exact: vec![Arc::from(topic)].into(),
                patterns: crate::PatternSet::default(),
            },
            labels: label.map(|label| vec![Arc::from(label)].into()),
        };
        let labelled = Entry {
            label: Some(Arc::from("progress")),
            ..entry(Audience::Everyone, None)
        };
        for (limits, is_allowed) in [
            (vec![], false),
            (vec![limit("news", None)], true),
            (vec![limit("olds", None)], false),
            (vec![limit("news", Some("progress"))], true),
            (vec![limit("news", Some("done"))], false),
            (
                vec![
                    limit("news", Some("done")),
                    limit("room/1", Some("progress")),
                ],
                true,
            ),
        ] {
            let reader = Visibility::default().with_limits(limits);
            assert_eq!(reader.allows(&labelled, None), is_allowed, "{reader:?}");
            assert!(reader.may_allow(&labelled, None));
        }
        let limited = Visibility::owning([name(7)]).with_limits([]);
        let own = Entry {
            audience: Audience::Owners(vec![name(7)].into()),
            ..Entry::new(1, (), 1, vec![name(7)])
        };
        assert!(limited.allows(&own, None));
        let id = ConnectionId::from_uuid([1; 16]);
        assert!(limited.allows(
            &entry(Audience::Everyone, Some(vec![id.clone()])),
            Some(&id)
        ));
    }

    #[test]
    fn readers_of_other_scopes_are_not_equal() {
        let reader = |scope| Visibility::owning(["user/7"]).in_scope(scope);
        assert_eq!(reader(1), reader(1));
        assert_ne!(reader(1), reader(2));
        let limited = |label: &str| {
            Visibility::default().with_limits([Limit {
                topics: TopicFilter::All,
                labels: Some(vec![Arc::from(label)].into()),
            }])
        };
        assert_eq!(limited("a"), limited("a"));
        assert_ne!(limited("a"), limited("b"));
    }

    proptest! {
        #[test]
        fn owners_are_all_own(own in prop::collection::vec(0_u8..4, 0..4), owners in prop::collection::vec(0_u8..4, 0..4)) {
            let reader = Visibility::owning(own.iter().map(|&n| name(n)));
            let private = entry(Audience::Owners(owners.iter().map(|&n| name(n)).collect()), None);
            prop_assert_eq!(reader.allows(&private, None), owners.iter().all(|n| own.contains(n)));
        }
    }
}
