//! Records, as the rule of visibility looks at them.

use std::sync::Arc;

use sse_broker::{AudienceRef, NewRecord, RecordRef, Scope, Topic, TopicPattern};
use sse_pool::{Audience, ConnectionId, Routed, TopicFilter, Visibility};

/// Topics that are a reader rather than a place: what is published to them is private to it.
pub(crate) const PRIVATE_PREFIXES: [&str; 3] = ["session", "user", "connection"];

/// Whether only the reader that a topic stands for gets what is published to it.
pub(crate) fn is_private(topic: &str) -> bool {
    PRIVATE_PREFIXES.iter().any(|prefix| {
        let rest = topic.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with('/'))
    })
}

/// A record that the log lends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logged<'a>(pub(crate) &'a RecordRef<'a>);

impl Routed for Logged<'_> {
    fn topics(&self) -> impl Iterator<Item = &str> {
        self.0.topics()
    }

    fn owners(&self) -> impl Iterator<Item = &str> {
        let names = match self.0.audience {
            AudienceRef::Owners(names) => Some(names),
            _ => None,
        };
        names.into_iter().flatten()
    }

    fn needs_grant(&self) -> bool {
        matches!(self.0.audience, AudienceRef::Granted)
    }

    fn is_addressed(&self) -> bool {
        self.0
            .topics()
            .any(|topic| connection_name(topic).is_some())
    }

    fn is_addressed_to(&self, id: &ConnectionId) -> bool {
        let names = self.0.topics().filter_map(connection_name);
        names
            .filter_map(|name| name.parse().ok())
            .any(|it: ConnectionId| it == *id)
    }

    fn label(&self) -> Option<&str> {
        Some(self.0.label.or(self.0.event_type).unwrap_or(MESSAGE))
    }
}

/// The same for a record on its way to the pool: whom it is for, and the connections it is addressed to.
pub(crate) fn audience(content: &NewRecord) -> (Audience, Option<Arc<[ConnectionId]>>) {
    let owners = content.audience.owners();
    let audience = match content.audience {
        sse_broker::Audience::Granted => Audience::Granted,
        _ if owners.is_empty() => Audience::Everyone,
        _ => Audience::Owners(owners.iter().map(|topic| topic.as_arc().clone()).collect()),
    };
    let mut names = content
        .topics
        .iter()
        .filter_map(|topic| connection_name(topic.as_str()))
        .peekable();
    // A name that no connection can have still addresses the event: to nobody.
    let recipients = names
        .peek()
        .is_some()
        .then(|| names.filter_map(|name| name.parse().ok()).collect());
    (audience, recipients)
}

/// What a type filter compares a record with.
pub(crate) fn label(content: &NewRecord) -> &str {
    let label = content.label.as_ref().or(content.event.event_type.as_ref());
    label.map_or(MESSAGE, |label| label.as_str())
}

fn connection_name(topic: &str) -> Option<&str> {
    topic.strip_prefix("connection/")
}

/// The pages of the log that hold what a reader may want: its topics where they can be listed, and else what it wants of all.
///
/// `connection` is the topic of the connection that it is.
pub(crate) fn scope(
    filter: &TopicFilter,
    visibility: &Visibility,
    connection: Option<Arc<str>>,
) -> Scope {
    let own: Vec<Arc<str>> = visibility.own().iter().cloned().chain(connection).collect();
    match filter {
        TopicFilter::Topics { exact, patterns } if patterns.is_empty() => {
            let names = exact.iter().chain(&own);
            let topics = names.filter_map(|name| Topic::new(Arc::clone(name)).ok());
            Scope::Topics(topics.collect())
        }
        filter => Scope::Matching(Arc::new(Selected {
            filter: filter.clone(),
            own,
            visibility: visibility.clone(),
        })),
    }
}

/// The topics that a reader of patterns, or of all that is public, wants.
#[derive(Debug)]
struct Selected {
    filter: TopicFilter,
    own: Vec<Arc<str>>,
    visibility: Visibility,
}

impl TopicPattern for Selected {
    fn matches(&self, topic: &str) -> bool {
        if self.own.iter().any(|own| &**own == topic) {
            return true;
        }
        self.filter.means(topic) && (!is_private(topic) || self.visibility.stands_for(topic))
    }

    fn as_str(&self) -> &str {
        "what a reader selects"
    }
}

/// The type of an event that has none.
const MESSAGE: &str = "message";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_means_all_that_is_public_and_what_the_reader_is() {
        let me = Visibility::owning(["user/me"]);
        let Scope::Matching(all) = scope(&TopicFilter::All, &me, None) else {
            panic!("all cannot be listed");
        };
        for (topic, is_meant) in [
            ("news", true),
            ("user/me", true),
            ("user/you", false),
            ("session/s", false),
            ("connection/c", false),
            ("users/all", true),
            ("user", true),
        ] {
            assert_eq!(all.matches(topic), is_meant, "{topic}");
        }
    }
}
