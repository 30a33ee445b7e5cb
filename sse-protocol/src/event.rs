//! An event as an application means it.

use alloc::boxed::Box;

use crate::event_id::EventId;
use crate::event_type::EventType;
use crate::retry::Retry;

/// An event to be written: what an application means, before it is bytes.
///
/// Every value of this type can be written: id and type were checked when they were made, and data may hold
/// any text. Line ends inside data (CR, LF, CRLF) all arrive as LF; the format has no other way.
///
/// ```
/// use sse_protocol::{Event, EventType};
///
/// let event = Event::new("42 %").with_type(EventType::new("progress")?);
/// assert_eq!(&*event.data, "42 %");
/// # Ok::<(), sse_protocol::InvalidEventType>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Event {
    /// What a reader sends back to resume after this event; `None` leaves its last event id as it is.
    pub id: Option<EventId>,
    /// The name readers listen for; `None` means [`EventType::MESSAGE`].
    pub event_type: Option<EventType>,
    /// The payload.
    pub data: Box<str>,
    /// A reconnection time for the reader, sent along with this event.
    pub retry: Option<Retry>,
}

impl Event {
    /// An event with `data` and nothing else.
    #[must_use]
    pub fn new(data: impl Into<Box<str>>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// The same event with this id.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// The same event with this type.
    #[must_use]
    pub fn with_type(mut self, event_type: EventType) -> Self {
        self.event_type = Some(event_type);
        self
    }

    /// The same event with this reconnection time.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// The event by reference, as the encoder takes it.
    #[must_use]
    pub fn as_event_ref(&self) -> EventRef<'_> {
        EventRef {
            id: self.id.as_ref(),
            event_type: self.event_type.as_ref(),
            data: &self.data,
            retry: self.retry,
        }
    }
}

impl<'a> From<&'a Event> for EventRef<'a> {
    fn from(event: &'a Event) -> Self {
        event.as_event_ref()
    }
}

/// An [`Event`] by reference: what the [`encoder`](crate::encoder) takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EventRef<'a> {
    /// See [`Event::id`].
    pub id: Option<&'a EventId>,
    /// See [`Event::event_type`].
    pub event_type: Option<&'a EventType>,
    /// See [`Event::data`].
    pub data: &'a str,
    /// See [`Event::retry`].
    pub retry: Option<Retry>,
}

impl<'a> EventRef<'a> {
    /// An event with `data` and nothing else.
    #[must_use]
    pub const fn new(data: &'a str) -> Self {
        Self {
            id: None,
            event_type: None,
            data,
            retry: None,
        }
    }

    /// The same event, owned.
    #[must_use]
    pub fn to_event(self) -> Event {
        Event {
            id: self.id.cloned(),
            event_type: self.event_type.cloned(),
            data: self.data.into(),
            retry: self.retry,
        }
    }
}
