//! What can be wrong with text from outside, and with a stream.

use core::error::Error;
use core::fmt;

/// Why text cannot be an [`EventId`](crate::EventId). The fault is the caller's; trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidEventId {
    /// It holds CR or LF, which would end the field and forge another.
    LineBreak {
        /// Byte offset of the first offender.
        at: usize,
    },
    /// It holds NUL, and readers ignore such an id.
    Nul {
        /// Byte offset of the first offender.
        at: usize,
    },
}

impl fmt::Display for InvalidEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineBreak { at } => write!(f, "event id holds a line break at byte {at}"),
            Self::Nul { at } => write!(f, "event id holds NUL at byte {at}"),
        }
    }
}

impl Error for InvalidEventId {}

/// Why text cannot be an [`EventType`](crate::EventType). The fault is the caller's; trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidEventType {
    /// It is empty, which on the wire is no type at all.
    Empty,
    /// It holds CR or LF, which would end the field and forge another.
    LineBreak {
        /// Byte offset of the first offender.
        at: usize,
    },
}

impl fmt::Display for InvalidEventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("event type is empty"),
            Self::LineBreak { at } => write!(f, "event type holds a line break at byte {at}"),
        }
    }
}

impl Error for InvalidEventType {}

/// Which of the decoder's [`Limits`](crate::Limits) a stream went over. The fault is the sender's, or the
/// limit is too small for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// One line was longer than the limit.
    Line {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// One event's data, type and id together were larger than the limit.
    Event {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { limit_bytes } => {
                write!(f, "line is over the limit of {limit_bytes} bytes")
            }
            Self::Event { limit_bytes } => {
                write!(f, "event is over the limit of {limit_bytes} bytes")
            }
        }
    }
}

impl Error for LimitExceeded {}
