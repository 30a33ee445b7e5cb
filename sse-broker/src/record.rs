//! Records: what the log holds, and what is given to it to be stored.

use bytes::Bytes;
use sse_protocol::{Event, EventId, EventType, Retry};

use crate::{Audience, AudienceRef, Position, Topic, TopicNames};

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

/// What an event's data was when it was published, which its text alone does not tell: `"7"` and `7` are the same text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// A string; the data is its content.
    #[default]
    Text,
    /// Any other JSON; the data is the JSON as it was written.
    Json,
}

/// An event on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Where it goes; at least one. A reader of any of them gets it, once.
    pub topics: Vec<Topic>,
    /// Who of these readers may see it.
    pub audience: Audience,
    /// What a filter by event type compares, when that is not the event's own type.
    pub label: Option<EventType>,
    /// The event. Its `id`, where there is one, is the publisher's and is stored once.
    pub event: Event,
    /// What its data was. It does not count as content: the same text is the same event.
    pub data_kind: DataKind,
    /// How much it matters to a reader that cannot take them all.
    pub priority: Priority,
    /// When it was published, by the wall clock.
    pub published_at: UnixMillis,
    /// From when on its age counts for retention, where that is not when it was published: whoever owns the clock has
    /// found that it jumped, and reckons by the time that has really passed. See [`retention_time`](Self::retention_time).
    pub ages_from: Option<UnixMillis>,
    /// From when on it is no longer delivered or replayed.
    pub expires_at: Option<UnixMillis>,
    /// What its first topic's snapshot becomes with it, in the same commit.
    pub snapshot: Option<Snapshot>,
    /// Which version its first topic's snapshot must have when it is stored: the position of the record that put it,
    /// offset 0 for none. Where it has another by then, nothing of its append is stored; see
    /// [`Appended::Stale`](crate::Appended::Stale). It is not kept with the record and no content of it.
    pub expects: Option<Position>,
}

impl NewRecord {
    /// A public record of normal priority that never expires.
    #[must_use]
    pub fn new(topic: Topic, event: Event, published_at: UnixMillis) -> Self {
        Self {
            topics: vec![topic],
            audience: Audience::Everyone,
            label: None,
            event,
            data_kind: DataKind::default(),
            priority: Priority::Normal,
            published_at,
            ages_from: None,
            expires_at: None,
            snapshot: None,
            expects: None,
        }
    }

    /// From when on its age counts, for retention at `now`.
    ///
    /// Where the clock jumped, one of its two times is of a clock that `now` is not of. The later one counts, unless it
    /// is still to come.
    #[must_use]
    pub fn retention_time(&self, now: UnixMillis) -> UnixMillis {
        retention_time(self.published_at, self.ages_from, now)
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

    /// A number that is the same for records that [say the same](Self::says_the_same_as), also in another
    /// process and version; others have another but for chance.
    pub(crate) fn fingerprint(&self) -> u64 {
        let event = &self.event;
        let mut hash = Fingerprint::default();
        let lives_for = self
            .expires_at
            .map(|at| at.saturating_sub(self.published_at));
        let retry = event.retry.map(Retry::as_millis);
        for number in [lives_for, retry, Some(self.priority as u64)] {
            hash.number(number.map_or(0, |number| number.saturating_add(1)));
        }
        let label = self.label.as_ref().map(EventType::as_str);
        let event_type = event.event_type.as_ref().map(EventType::as_str);
        let id = event.id.as_ref().map(EventId::as_str);
        for text in [label, event_type, id, Some(&*event.data)] {
            hash.text(text.unwrap_or("\0"));
        }
        for topics in [&self.topics[..], self.audience.owners()] {
            hash.number(topics.len() as u64);
            topics.iter().for_each(|topic| hash.text(topic.as_str()));
        }
        if self.audience.is_granted() {
            hash.number(1);
        }
        hash.0
    }

    /// What it takes in memory as a shared [`Record`], but for the names of its topics: records of one topic share those, and
    /// [`Topic::memory_bytes`] says what they take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let owners = self.audience.owners();
        let lists = [self.topics.len(), owners.len()];
        allocated_bytes(2 * size_of::<usize>() + size_of::<Record>())
            + lists
                .map(|len| allocated_bytes(len * size_of::<Topic>()))
                .iter()
                .sum::<usize>()
            + owners.iter().map(Topic::memory_bytes).sum::<usize>()
            + self
                .texts()
                .map(|text| allocated_bytes(text.len()))
                .sum::<usize>()
    }

    /// What the record counts for in bounds by bytes: its texts and data, and a fixed amount for
    /// what surrounds them.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let topics = self.topics.iter().chain(self.audience.owners());
        weight_bytes(topics.map(Topic::as_str), self.texts())
    }

    /// The texts that the record itself holds: label, id, type and data.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let event = &self.event;
        let texts = [
            self.label.as_ref().map(EventType::as_str),
            event.id.as_ref().map(EventId::as_str),
            event.event_type.as_ref().map(EventType::as_str),
            Some(&*event.data),
        ];
        texts.into_iter().flatten()
    }
}

/// See [`NewRecord::retention_time`].
pub(crate) fn retention_time(
    published_at: UnixMillis,
    ages_from: Option<UnixMillis>,
    now: UnixMillis,
) -> UnixMillis {
    let Some(ages_from) = ages_from else {
        return published_at;
    };
    let (earlier, later) = (published_at.min(ages_from), published_at.max(ages_from));
    // A clock may be set a little.
    match later <= now.saturating_add(MAX_AHEAD_MILLIS) {
        true => later,
        false => earlier,
    }
}

/// A time that is further ahead of now is still to come: five minutes. A stated guess.
const MAX_AHEAD_MILLIS: u64 = 5 * 60 * 1000;

/// What a record of these topics (its audience among them) and other texts weighs.
pub(crate) fn weight_bytes<'a>(
    topics: impl Iterator<Item = &'a str>,
    texts: impl Iterator<Item = &'a str>,
) -> usize {
    OVERHEAD_BYTES
        + topics
            .map(|topic| topic.len() + TOPIC_OVERHEAD_BYTES)
            .sum::<usize>()
        + texts.map(str::len).sum::<usize>()
}

/// What an allocator takes for so many bytes: nothing for nothing, and else a word more, in whole pairs of words.
pub(crate) const fn allocated_bytes(bytes: usize) -> usize {
    let whole = (bytes + 8).next_multiple_of(16);
    match bytes {
        0 => 0,
        1..=24 => 32,
        _ => whole,
    }
}

/// FNV-1a, 64 bits, over numbers and texts of stated length.
pub(crate) struct Fingerprint(pub(crate) u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

/// What a record costs beside its texts on disk. A stated guess.
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

/// A record, lent by the log for as long as it is looked at.
///
/// It is what a replay needs that turns records into bytes, as [`Broker::render`](crate::Broker::render)
/// does: nothing of it is copied or allocated.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RecordRef<'a> {
    /// Its place in the order.
    pub position: Position,
    /// See [`Event::id`](sse_protocol::Event::id).
    pub id: Option<&'a str>,
    /// See [`Event::event_type`](sse_protocol::Event::event_type).
    pub event_type: Option<&'a str>,
    /// See [`Event::data`](sse_protocol::Event::data).
    pub data: &'a str,
    /// See [`Event::retry`](sse_protocol::Event::retry).
    pub retry: Option<Retry>,
    /// See [`NewRecord::label`].
    pub label: Option<&'a str>,
    /// See [`NewRecord::data_kind`].
    pub data_kind: DataKind,
    /// See [`NewRecord::priority`].
    pub priority: Priority,
    /// See [`NewRecord::published_at`].
    pub published_at: UnixMillis,
    /// See [`NewRecord::expires_at`].
    pub expires_at: Option<UnixMillis>,
    /// See [`NewRecord::audience`].
    pub audience: AudienceRef<'a>,
    pub(crate) topics: TopicNames<'a>,
}

impl<'a> RecordRef<'a> {
    /// See [`NewRecord::topics`].
    #[must_use]
    pub fn topics(&self) -> TopicNames<'a> {
        self.topics
    }

    /// See [`Record::is_expired`].
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl<'a> From<&'a Record> for RecordRef<'a> {
    fn from(record: &'a Record) -> Self {
        let NewRecord { event, .. } = &record.content;
        Self {
            position: record.position,
            id: event.id.as_ref().map(EventId::as_str),
            event_type: event.event_type.as_ref().map(EventType::as_str),
            data: &event.data,
            retry: event.retry,
            label: record.content.label.as_ref().map(EventType::as_str),
            data_kind: record.content.data_kind,
            priority: record.content.priority,
            published_at: record.content.published_at,
            expires_at: record.content.expires_at,
            audience: record.content.audience.as_ref(),
            topics: TopicNames::of(&record.content.topics),
        }
    }
}
