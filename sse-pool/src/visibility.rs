//! Who may have an entry: the one rule for live delivery, replay and everything else.
//!
//! ```text
//!   addressed to connections   the reader must be one of them
//!   Audience::Everyone         nothing more
//!   Audience::Owners           each of the names must be the reader's own
//!   Audience::Granted          one of the entry's topics must have been granted to the reader
//! ```
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

/// What a reader may have, whatever it follows: the names that it owns, and the topics that it was granted.
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
            granted: None,
        }
    }

    /// The same, with these topics granted.
    #[must_use]
    pub fn with_granted(self, topics: TopicFilter) -> Self {
        Self {
            granted: Some(topics),
            ..self
        }
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

    /// Whether only patterns can tell if something was granted.
    pub(crate) fn has_granted_patterns(&self) -> bool {
        matches!(&self.granted, Some(TopicFilter::Topics { patterns, .. }) if !patterns.is_empty())
    }

    fn judge(&self, what: &impl Routed, id: Option<&ConnectionId>, patterns: Patterns) -> bool {
        if what.is_addressed() && !id.is_some_and(|id| what.is_addressed_to(id)) {
            return false;
        }
        let mut owners = what.owners();
        owners.all(|name| self.own.iter().any(|own| &**own == name))
            && (!what.needs_grant() || what.topics().any(|topic| self.is_granted(topic, patterns)))
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
        same_grants && self.own == other.own
    }
}

impl Eq for Visibility {}

impl Hash for Visibility {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.own.hash(state);
        // Equal grants have equally many topics; which ones, equality tells.
        let granted = self.granted.as_ref().map(TopicFilter::topic_count);
        granted.hash(state);
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

    proptest! {
        #[test]
        fn owners_are_all_own(own in prop::collection::vec(0_u8..4, 0..4), owners in prop::collection::vec(0_u8..4, 0..4)) {
            let reader = Visibility::owning(own.iter().map(|&n| name(n)));
            let private = entry(Audience::Owners(owners.iter().map(|&n| name(n)).collect()), None);
            prop_assert_eq!(reader.allows(&private, None), owners.iter().all(|n| own.contains(n)));
        }
    }
}
