//! The block under construction, and the fields that make it.

use alloc::string::String;

use crate::input::push_lossy;
use crate::line::KEPT_CAPACITY_BYTES;
use crate::view::Head;

/// The block under construction: all between two blank lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    pub(crate) head: Head,
    /// The standard's data buffer: each data line's value, and LF. Empty only if there was no data line.
    pub(crate) data: String,
    /// The id that the next dispatch step commits, if `head.has_id`.
    pub(crate) id: String,
    /// The block had a type, an id or a time.
    pub(crate) touched: bool,
    /// The block was dispatched; it is cleared before the next line, so that a view can still lend from it.
    pub(crate) dispatched: bool,
}

impl Block {
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.head.event_type.clear();
        self.head.has_id = false;
        self.head.retry = None;
        self.touched = false;
        self.data.clear();
        if self.data.capacity() > KEPT_CAPACITY_BYTES {
            self.data = String::new();
        }
        self.dispatched = false;
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.dispatched
            && (!self.data.is_empty() || self.head.has_id || !self.head.event_type.is_empty())
    }

    /// Appends a data line; `lent` is the value as text, if it is known to be.
    #[inline]
    pub(crate) fn push_data(&mut self, value: &[u8], lent: Option<&str>) {
        match lent {
            Some(text) => self.data.push_str(text),
            None => push_lossy(&mut self.data, value),
        }
        self.data.push('\n');
    }

    /// The size that the event limit bounds: each data line and one more byte, type and id.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.head_bytes()
    }

    #[inline]
    pub(crate) fn head_bytes(&self) -> usize {
        if !self.touched {
            return 0;
        }
        let id = if self.head.has_id { self.id.len() } else { 0 };
        id + self.head.event_type.len()
    }

    /// The dispatch step: commits the id, and says whether there is an event.
    #[inline]
    pub(crate) fn dispatch(&mut self) -> bool {
        if self.touched {
            self.commit_id();
        }
        if !self.data.is_empty() {
            self.dispatched = true;
        } else if self.touched {
            self.clear();
        }
        self.dispatched
    }

    /// The dispatch step of a block whose only data line was lent, not pushed.
    #[inline]
    pub(crate) fn dispatch_lent(&mut self) {
        if self.touched {
            self.commit_id();
            self.dispatched = true;
        }
        // Else there is nothing to clear.
    }

    #[inline]
    pub(crate) fn commit_id(&mut self) {
        if self.head.has_id {
            core::mem::swap(&mut self.head.last_event_id, &mut self.id);
        }
    }
}

/// What a line is, as far as the standard layer cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Blank,
    Comment,
    Data,
    Type,
    Id,
    Retry,
    Unknown,
}

impl Field {
    /// Tells the field, and where its value begins. Agrees with [`Line::parse`](crate::Line::parse), but looks
    /// only at the names the standard knows, so it need not search for the colon.
    #[inline]
    pub(crate) fn of(line: &[u8]) -> (Self, usize) {
        let (field, name_len) = match line {
            [] => return (Self::Blank, 0),
            [b':', ..] => (Self::Comment, 0),
            [b'd', b'a', b't', b'a', ..] => (Self::Data, 4),
            [b'i', b'd', ..] => (Self::Id, 2),
            [b'e', b'v', b'e', b'n', b't', ..] => (Self::Type, 5),
            [b'r', b'e', b't', b'r', b'y', ..] => (Self::Retry, 5),
            _ => (Self::Unknown, 0),
        };
        match &line[name_len..] {
            [] => (field, name_len),
            [b':', b' ', ..] => (field, name_len + 2),
            [b':', ..] => (field, name_len + 1),
            _ => (Self::Unknown, 0),
        }
    }
}
