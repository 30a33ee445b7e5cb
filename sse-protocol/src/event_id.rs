//! The `id` of an event.

use alloc::boxed::Box;
use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

use crate::error::InvalidEventId;

/// The `id` of an event: what a reader sends back to resume after it.
///
/// An id is one line of text without CR, LF or NUL. The wire format cannot carry those, so they are
/// refused here, once, and the encoder never has to look again.
///
/// The empty id is allowed: it *resets* the reader's last event id, so that it resumes from nowhere.
///
/// ```
/// # use sse_protocol::EventId;
/// assert!(EventId::new("7f3a-1042").is_ok());
/// assert!(EventId::new("").is_ok());
/// assert!(EventId::new("42\ndata: forged").is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Box<str>);

impl EventId {
    /// Checks `text` and makes it an id; allocates only if `text` is not owned already.
    ///
    /// # Errors
    ///
    /// [`InvalidEventId`] if `text` holds CR, LF or NUL.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, InvalidEventId> {
        let text = text.into();
        match memchr::memchr3(b'\r', b'\n', 0, text.as_bytes()) {
            None => Ok(Self(text)),
            Some(at) if text.as_bytes()[at] == 0 => Err(InvalidEventId::Nul { at }),
            Some(at) => Err(InvalidEventId::LineBreak { at }),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as owned text, without copying.
    #[must_use]
    pub fn into_boxed_str(self) -> Box<str> {
        self.0
    }

    /// Whether this is the id that resets the reader's last event id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for EventId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EventId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for EventId {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for EventId {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl TryFrom<&str> for EventId {
    type Error = InvalidEventId;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for EventId {
    type Error = InvalidEventId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl TryFrom<Box<str>> for EventId {
    type Error = InvalidEventId;

    fn try_from(text: Box<str>) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl core::str::FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}
