//! What the log holds.

use bytes::Bytes;
use sse_protocol::{Event, EventType};

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
}

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
    #[must_use]
    pub fn public_id(&self) -> String {
        match &self.content.event.id {
            Some(id) => id.as_str().to_owned(),
            None => self.position.to_string(),
        }
    }

    /// Whether it is past its time at `now`.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.content.expires_at.is_some_and(|at| at <= now)
    }
}
