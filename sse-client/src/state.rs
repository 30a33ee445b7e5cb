//! What can be seen of an event source from outside: its state, and notices of what happens to it.

use std::fmt;
use std::time::{Duration, Instant};

use http::{HeaderMap, Version};
use sse_protocol::{EventBuf, EventId, LimitExceeded};
use url::Url;

use crate::error::{Cause, Error};

/// What an event source is doing.
///
/// A browser knows three of these states (`readyState`): `CONNECTING` covers `Connecting`, `Polling` and
/// `Waiting` here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// Dialling, or waiting for the response; the `attempt`th in a row, from 1.
    Connecting {
        /// How many attempts in a row this makes.
        attempt: u32,
    },
    /// Events may arrive.
    Open,
    /// Streams failed repeatedly; events are fetched by long polling.
    Polling,
    /// Waiting for the next attempt.
    Waiting {
        /// When it begins.
        until: Instant,
        /// Which in a row it will be.
        attempt: u32,
        /// Why it is needed.
        error: Error,
    },
    /// Ended; nothing follows.
    Closed(CloseReason),
}

impl State {
    /// Whether events may arrive by the stream.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether nothing will arrive any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

/// Why an event source ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`close`](crate::EventSource::close) was called.
    Closed,
    /// The server answered 204, which asks the client not to reconnect.
    NoContent,
    /// The server ended the stream, and the policy is not to reconnect.
    Ended,
    /// It failed, and no further attempt is allowed or would help.
    Failed {
        /// What failed; with status, headers and body when it was an answer.
        error: Error,
        /// Which attempt in a row it was that failed last, from 1.
        attempt: u32,
    },
}

/// What happens to an event source, in order; [`next`](crate::EventSource::next) gives only events and the end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A stream was opened; a browser fires `open`.
    Open(Opened),
    /// An event arrived.
    Event(EventBuf),
    /// A comment arrived, often a heartbeat.
    Comment(String),
    /// An event over a limit was dropped, and the source goes on behind it.
    Dropped(DroppedEvent),
    /// A connection or an attempt failed, and another one will follow; a browser fires `error`. A hub that refuses
    /// in-band, by an event `unavailable`, has refused the attempt: the error has the status that it names.
    Interrupted(Interruption),
    /// The last event id cannot be sent in a header (it has control characters, or is longer than 4 KiB), so the
    /// request was sent without it.
    IdNotSent(EventId),
    /// The position could not be saved; it will be tried again with the next event.
    NotSaved(Cause),
    /// The end; nothing follows.
    Closed(CloseReason),
}

/// An event over one of the [limits](crate::EventSourceBuilder::limits), which was dropped.
///
/// If the server wrote its id before its data, a reconnect resumes after it. Otherwise a connection that is lost
/// before the next event meets it again, and then the source ends with
/// [`Error::Impassable`](crate::Error::Impassable).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedEvent {
    pub(crate) limit: LimitExceeded,
    pub(crate) id: Option<EventId>,
    pub(crate) after: EventId,
}

impl DroppedEvent {
    /// The limit that it went over.
    #[must_use]
    pub fn limit(&self) -> LimitExceeded {
        self.limit
    }

    /// Its id, if that stood before what was too long.
    #[must_use]
    pub fn id(&self) -> Option<&EventId> {
        self.id.as_ref()
    }

    /// The last event id before it; empty if there was none.
    #[must_use]
    pub fn after(&self) -> &EventId {
        &self.after
    }
}

impl fmt::Display for DroppedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = crate::error::place(self.id.as_ref(), &self.after);
        write!(f, "the event {place} was dropped: {}", self.limit)
    }
}

/// The head of the response that opened a stream.
#[derive(Clone)]
pub struct Opened {
    pub(crate) url: Url,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) attempt: u32,
}

impl Opened {
    /// The URL that answered, after redirects. Its origin is the origin of the events.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The HTTP version spoken.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Which attempt in a row it was, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold cookies; only their number is shown.
        f.debug_struct("Opened")
            .field("url", &self.url.as_str())
            .field("version", &self.version)
            .field("headers", &self.headers.len())
            .field("attempt", &self.attempt)
            .finish()
    }
}

/// A failure that is being repaired.
#[derive(Clone, Debug)]
pub struct Interruption {
    pub(crate) error: Error,
    pub(crate) attempt: u32,
    pub(crate) next_attempt: u32,
    pub(crate) retry_at: Instant,
    pub(crate) retry_in: Duration,
}

impl Interruption {
    /// What failed; with status, headers and body when it was an answer.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Which attempt in a row failed, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Which attempt in a row comes next; 1 if the connection that failed had proved good.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        self.next_attempt
    }

    /// When it begins.
    #[must_use]
    pub fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// The time from the failure to the next attempt.
    #[must_use]
    pub fn retry_in(&self) -> Duration {
        self.retry_in
    }
}
