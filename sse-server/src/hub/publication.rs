//! [`Publication`]: an event to be published, checked.

use std::time::Duration;

use sse_broker::{Audience, DataKind, NewRecord, Priority, Snapshot, Topic, UnixMillis};
use sse_protocol::{Event, EventId, EventType, Retry};

/// The topic of an event that names none.
pub const DEFAULT_TOPIC: &str = "public";

/// Event types that only the hub itself sends.
pub const RESERVED_EVENT_TYPES: [&str; 4] = ["connected", "gap", "ping", "unavailable"];

/// An event to publish and whom it is for.
///
/// ```
/// # use sse_server::hub::Publication;
/// # use sse_broker::Topic;
/// # use sse_protocol::EventType;
/// let publication = Publication::new(r#"{"progress":3}"#)
///     .with_type(EventType::new("progress").unwrap())
///     .to_topic(Topic::new("job/42").unwrap());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// The event's type; `None` means `message`.
    pub event_type: Option<EventType>,
    /// The event's data, as readers get it.
    pub data: Box<str>,
    /// What the data was: JSON, or the content of a string.
    pub data_kind: DataKind,
    /// Where it goes; none means [`DEFAULT_TOPIC`].
    pub topics: Vec<Topic>,
    /// Who alone may see it: every one of these must be the reader's own session or user.
    pub audience: Vec<Topic>,
    /// The event type that readers must have subscribed to, whatever this event's own is.
    pub subscription_filter: Option<EventType>,
    /// The publisher's id: published twice, it is stored and delivered once.
    pub id: Option<EventId>,
    /// A reconnection time to tell readers.
    pub retry: Option<Retry>,
    /// How much it matters to a reader that cannot take everything.
    pub priority: Priority,
    /// How long it is worth delivering.
    pub time_to_live: Option<Duration>,
    /// What the first topic's snapshot becomes with it.
    pub(crate) snapshot: Option<Snapshot>,
}

impl Publication {
    /// A public event of type `message`.
    #[must_use]
    pub fn new(data: impl Into<Box<str>>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// The same with a type.
    #[must_use]
    pub fn with_type(mut self, event_type: EventType) -> Self {
        self.event_type = Some(event_type);
        self
    }

    /// The same with a publisher's id.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// The same, going to one more topic. One under `session/`, `user/` or `connection/` makes it
    /// private to that reader.
    #[must_use]
    pub fn to_topic(mut self, topic: Topic) -> Self {
        self.topics.push(topic);
        self
    }

    /// The same, private to the readers that are this session or user.
    #[must_use]
    pub fn only_for(mut self, audience: Topic) -> Self {
        self.audience.push(audience);
        self
    }

    /// The topics that it goes to, whether they were named or follow from the rest.
    pub(crate) fn all_topics(&self) -> impl Iterator<Item = &str> {
        let topics = match self.topics.is_empty() {
            true => &self.audience,
            false => &self.topics,
        };
        let default = topics.is_empty().then_some(DEFAULT_TOPIC);
        topics.iter().map(Topic::as_str).chain(default)
    }

    /// The record that goes into the log.
    pub(crate) fn into_record(mut self, now: UnixMillis) -> NewRecord {
        for topic in &self.topics {
            let personal = ["session", "user"]
                .iter()
                .any(|prefix| topic.under(prefix).is_some());
            if personal && !self.audience.contains(topic) {
                self.audience.push(topic.clone());
            }
        }
        if self.topics.is_empty() {
            self.topics = if self.audience.is_empty() {
                vec![Topic::new(DEFAULT_TOPIC).expect("the default topic is a valid one")]
            } else {
                self.audience.clone()
            };
        }
        let ttl = self
            .time_to_live
            .map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        NewRecord {
            topics: self.topics,
            audience: Audience::Owners(self.audience),
            label: self.subscription_filter,
            event: Event {
                id: self.id,
                event_type: self.event_type,
                data: self.data,
                retry: self.retry,
            },
            data_kind: self.data_kind,
            priority: self.priority,
            published_at: now,
            ages_from: None,
            expires_at: ttl.map(|ttl| now.saturating_add(ttl)),
            snapshot: self.snapshot,
            expects: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn an_event_without_a_topic_is_public() {
        let record = Publication::new("x").into_record(0);
        assert_eq!(
            (record.topics, record.audience),
            (vec![topic("public")], Audience::Everyone)
        );
    }

    #[test]
    fn an_event_for_a_session_is_private_however_that_was_said() {
        let by_filter = Publication::new("x")
            .only_for(topic("session/s"))
            .into_record(0);
        let by_topic = Publication::new("x")
            .to_topic(topic("session/s"))
            .into_record(0);
        assert_eq!(by_filter, by_topic);
        let owners = Audience::Owners(vec![topic("session/s")]);
        assert_eq!(by_filter.audience, owners);
    }

    #[test]
    fn a_topic_and_a_session_mean_both() {
        let record = Publication::new("x")
            .to_topic(topic("job/1"))
            .only_for(topic("session/s"))
            .into_record(0);
        assert_eq!(
            (record.topics, record.audience),
            (
                vec![topic("job/1")],
                Audience::Owners(vec![topic("session/s")])
            )
        );
    }

    #[test]
    fn a_time_to_live_counts_from_the_publish() {
        let publication = Publication {
            time_to_live: Some(Duration::MAX),
            ..Publication::new("x")
        };
        assert_eq!(publication.into_record(5).expires_at, Some(u64::MAX));
    }
}
