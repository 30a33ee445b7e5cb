//! The `event` field: what kind of event this is.

use alloc::boxed::Box;
use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

use crate::error::InvalidEventType;

/// The type of an event: the name a reader listens for with `addEventListener`.
///
/// A type is one line of text without CR or LF, and not empty: on the wire an empty type and none at all
/// are the same, and both mean [`MESSAGE`](Self::MESSAGE), so leave the type out instead.
/// (The standard lets NUL pass in a type, so it is not refused here. A server that takes types from
/// strangers may want to refuse it.)
///
/// ```
/// # use sse_protocol::EventType;
/// assert!(EventType::new("progress").is_ok());
/// assert!(EventType::new("progress\nid: forged").is_err());
/// assert!(EventType::new("").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Box<str>);

impl EventType {
    /// The type of an event that names none: a browser calls `onmessage` for it.
    ///
    /// An event with this type and one without a type mean the same to every reader.
    pub const MESSAGE: &'static str = "message";

    /// Checks `text` and makes it an event type; allocates only if `text` is not owned already.
    ///
    /// # Errors
    ///
    /// [`InvalidEventType`] if `text` is empty or holds CR or LF.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, InvalidEventType> {
        let text = text.into();
        if text.is_empty() {
            return Err(InvalidEventType::Empty);
        }
        match memchr::memchr2(b'\r', b'\n', text.as_bytes()) {
            None => Ok(Self(text)),
            Some(at) => Err(InvalidEventType::LineBreak { at }),
        }
    }

    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type as owned text, without copying.
    #[must_use]
    pub fn into_boxed_str(self) -> Box<str> {
        self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for EventType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for EventType {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for EventType {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl TryFrom<&str> for EventType {
    type Error = InvalidEventType;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for EventType {
    type Error = InvalidEventType;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl TryFrom<Box<str>> for EventType {
    type Error = InvalidEventType;

    fn try_from(text: Box<str>) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl core::str::FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}
