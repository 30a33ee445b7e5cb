//! An event as a reader receives it: lent, or kept.

use alloc::boxed::Box;
use alloc::string::String;

use crate::event::Event;
use crate::event_id::EventId;
use crate::event_type::EventType;
use crate::retry::Retry;

/// An event as a reader receives it, lent by the decoder: what a browser knows as `MessageEvent`.
///
/// It borrows from the chunk and from the decoder, and lasts until the next call of
/// [`Feed::next`](crate::Feed::next). [`to_buf`](Self::to_buf) keeps it with one allocation.
#[derive(Clone, Copy)]
pub struct EventView<'a> {
    pub(crate) data: &'a str,
    pub(crate) head: &'a Head,
}

/// What an event says beside its data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The `event` field of the block; empty means none.
    pub(crate) event_type: String,
    /// The last event id as of the last dispatch step.
    pub(crate) last_event_id: String,
    /// Whether the block had an `id` field that counts.
    pub(crate) has_id: bool,
    /// The last valid `retry` field of the block.
    pub(crate) retry: Option<Retry>,
}

impl<'a> EventView<'a> {
    /// The payload: the values of all data lines, joined by LF.
    #[must_use]
    #[inline]
    pub fn data(&self) -> &'a str {
        self.data
    }

    /// The type; [`EventType::MESSAGE`] if the event names none. Never empty.
    #[must_use]
    #[inline]
    pub fn event_type(&self) -> &'a str {
        if self.head.event_type.is_empty() {
            EventType::MESSAGE
        } else {
            &self.head.event_type
        }
    }

    /// What to send back to resume after this event; empty if the stream has set none, or reset it. An event
    /// without an id has that of an earlier one.
    #[must_use]
    #[inline]
    pub fn last_event_id(&self) -> &'a str {
        &self.head.last_event_id
    }

    /// The event's own id, if it has one; an empty one resets the last event id.
    #[must_use]
    #[inline]
    pub fn id(&self) -> Option<&'a str> {
        self.head.has_id.then_some(&self.head.last_event_id)
    }

    /// The reconnection time sent along with this event. (It was in force as soon as its line was read.)
    #[must_use]
    #[inline]
    pub fn retry(&self) -> Option<Retry> {
        self.head.retry
    }

    /// Keeps the event; one allocation for all its text.
    #[must_use]
    pub fn to_buf(&self) -> EventBuf {
        EventBuf::new(self)
    }

    /// The event as one to be written, for passing it on; an allocation for each text it has.
    ///
    /// Its type is `None` if the stream said `message` or nothing, and its id is the event's own.
    #[must_use]
    pub fn to_event(&self) -> Event {
        to_event(self.data, &self.head.event_type, self.id(), self.head.retry)
    }
}

impl core::fmt::Debug for EventView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EventView")
            .field("event_type", &self.event_type())
            .field("data", &self.data())
            .field("last_event_id", &self.last_event_id())
            .field("id", &self.id())
            .field("retry", &self.retry())
            .finish()
    }
}

/// An event as a reader receives it, kept: all its text in one allocation.
///
/// ```
/// use sse_protocol::Decoder;
///
/// let mut decoder = Decoder::new();
/// let events: Vec<_> = decoder.feed(b"id: 1\ndata: a\n\ndata: b\n\n").owned().collect();
/// assert_eq!(events[1].data(), "b");
/// assert_eq!(events[1].last_event_id(), "1");
/// assert_eq!(events[1].id(), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventBuf {
    /// Data, then type, then last event id.
    text: Box<str>,
    data_len: usize,
    type_len: usize,
    has_id: bool,
    retry: Option<Retry>,
}

impl EventBuf {
    fn new(view: &EventView<'_>) -> Self {
        let head = view.head;
        let len = view.data.len() + head.event_type.len() + head.last_event_id.len();
        let mut text = String::with_capacity(len);
        text.push_str(view.data);
        text.push_str(&head.event_type);
        text.push_str(&head.last_event_id);
        Self {
            text: text.into_boxed_str(),
            data_len: view.data.len(),
            type_len: head.event_type.len(),
            has_id: head.has_id,
            retry: head.retry,
        }
    }

    /// See [`EventView::data`].
    #[must_use]
    pub fn data(&self) -> &str {
        &self.text[..self.data_len]
    }

    /// See [`EventView::event_type`].
    #[must_use]
    pub fn event_type(&self) -> &str {
        if self.type_len == 0 {
            EventType::MESSAGE
        } else {
            self.own_type()
        }
    }

    /// See [`EventView::last_event_id`].
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.text[self.data_len + self.type_len..]
    }

    /// See [`EventView::id`].
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.has_id.then(|| self.last_event_id())
    }

    /// See [`EventView::retry`].
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        self.retry
    }

    /// See [`EventView::to_event`].
    #[must_use]
    pub fn to_event(&self) -> Event {
        to_event(self.data(), self.own_type(), self.id(), self.retry)
    }

    fn own_type(&self) -> &str {
        &self.text[self.data_len..self.data_len + self.type_len]
    }
}

impl core::fmt::Debug for EventBuf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EventBuf")
            .field("event_type", &self.event_type())
            .field("data", &self.data())
            .field("last_event_id", &self.last_event_id())
            .field("id", &self.id())
            .field("retry", &self.retry())
            .finish()
    }
}

fn to_event(data: &str, event_type: &str, id: Option<&str>, retry: Option<Retry>) -> Event {
    let event_type = if event_type == EventType::MESSAGE {
        ""
    } else {
        event_type
    };
    Event {
        // Neither fails: a decoded id has no line end or NUL, and a decoded type no line end.
        id: id.and_then(|id| EventId::new(id).ok()),
        event_type: EventType::new(event_type).ok(),
        data: data.into(),
        retry,
    }
}
