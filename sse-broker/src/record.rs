//! What the log holds.

use bytes::Bytes;
use sse_protocol::{Event, EventId, EventType};

use crate::{Position, Topic};

/// Milliseconds since the Unix epoch.
pub type UnixMillis = u64;

/// How much an event matters to a reader that cannot take them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Dropped first.
    Low,
    /// What an event has that says nothing.
    #[default]
    Normal,
    /// Dropped last.
    High,
}

/// An event on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Where it goes; at least one. A reader of any of them gets it, once.
    pub topics: Vec<Topic>,
    /// Who may see it: every topic here must be one that the reader *is* (`session/…`, `user/…`).
    /// Empty means everyone.
    pub audience: Vec<Topic>,
    /// What a filter by event type compares, when that is not the event's own type.
    pub label: Option<EventType>,
    /// The event. Its `id`, where there is one, is the publisher's and is stored once.
    pub event: Event,
    /// How much it matters to a reader that cannot take them all.
    pub priority: Priority,
    /// When it was published.
    pub published_at: UnixMillis,
    /// From when on it is no longer delivered or replayed.
    pub expires_at: Option<UnixMillis>,
    /// What its first topic's snapshot becomes with it, in the same commit.
    pub snapshot: Option<Snapshot>,
}

impl NewRecord {
    /// A public record of normal priority that never expires.
    #[must_use]
    pub fn new(topic: Topic, event: Event, published_at: UnixMillis) -> Self {
        Self {
            topics: vec![topic],
            audience: Vec::new(),
            label: None,
            event,
            priority: Priority::Normal,
            published_at,
            expires_at: None,
            snapshot: None,
        }
    }

    /// The publisher's id, under which the record is stored once. The empty id names nothing.
    #[must_use]
    pub fn publisher_id(&self) -> Option<&EventId> {
        self.event.id.as_ref().filter(|id| !id.is_empty())
    }

    /// Whether `other` says the same: the same event, for the same topics and readers, as important,
    /// and living as long. When it was said does not count, so that a publisher's retry is the
    /// same, nor does the snapshot, which is not kept with the record.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let lives_for = |r: &Self| r.expires_at.map(|at| at.saturating_sub(r.published_at));
        self.event == other.event
            && self.topics == other.topics
            && self.audience == other.audience
            && self.label == other.label
            && self.priority == other.priority
            && lives_for(self) == lives_for(other)
    }

    /// What the record counts for in bounds by bytes: its texts and data, and a fixed amount for
    /// what surrounds them.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let topics = self.topics.iter().chain(&self.audience);
        let event = &self.event;
        OVERHEAD_BYTES
            + topics
                .map(|topic| topic.as_str().len() + TOPIC_OVERHEAD_BYTES)
                .sum::<usize>()
            + self.label.as_ref().map_or(0, |label| label.as_str().len())
            + event.id.as_ref().map_or(0, |id| id.as_str().len())
            + event.event_type.as_ref().map_or(0, |t| t.as_str().len())
            + event.data.len()
    }
}

/// What a record costs beside its texts, in memory and on disk. A stated guess.
const OVERHEAD_BYTES: usize = 96;

/// What each of a record's topics costs beside its text. A stated guess.
const TOPIC_OVERHEAD_BYTES: usize = 16;

/// A change of the small state that may stand beside a topic: a job's status, for instance.
///
/// It is committed together with the record that carries it and outlives that record's retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// The topic's snapshot is now this.
    Put(Bytes),
    /// The topic has no snapshot any more.
    Remove,
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the order.
    pub position: Position,
    /// What was published. The snapshot is there when the record is handed to the tail; a record
    /// that is read back from the log has none.
    pub content: NewRecord,
}

impl Record {
    /// The id that readers see and resume with: the publisher's own, or else the position.
    ///
    /// A publisher's id that reads as a position is not shown, lest a reader resume somewhere else.
    #[must_use]
    pub fn public_id(&self) -> String {
        match self.content.publisher_id() {
            Some(id) if id.as_str().parse::<Position>().is_err() => id.as_str().to_owned(),
            _ => self.position.to_string(),
        }
    }

    /// Whether it is past its time at `now`.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.content.expires_at.is_some_and(|at| at <= now)
    }
}
