//! The standard envelope: one shape for the progress of long-running work.
//!
//! ```json
//! {"event": "progress",
//!  "data": {"step": 1, "progress": 10, "message": "Processing...", "timestamp": "2024-01-01T00:00:00Z"}}
//! ```
//!
//! On an event stream `event` is the event's type and `data` its data ([`Message::to_event`]); elsewhere, as in
//! the answer to a poll, the envelope is JSON as a whole ([`Message::to_json`]). [`Message::parse`] reads both.

use alloc::string::{String, ToString};
use core::error::Error;
use core::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::event::Event;
use crate::event_type::EventType;

/// An envelope: what happened, and the details.
///
/// ```
/// use sse_protocol::message::{Message, MessageEvent};
///
/// let message = Message::new(MessageEvent::Progress, "2024-01-01T00:00:00Z")
///     .with_step(1)
///     .with_progress(10)
///     .with_message("Processing...");
/// let event = message.to_event();
/// assert_eq!(event.event_type.as_ref().map(|t| t.as_str()), Some("progress"));
/// assert_eq!(
///     &*event.data,
///     r#"{"step":1,"progress":10,"message":"Processing...","timestamp":"2024-01-01T00:00:00Z"}"#,
/// );
/// assert_eq!(Message::parse("progress", &event.data)?, message);
/// # Ok::<(), sse_protocol::message::InvalidMessage>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What happened.
    pub event: MessageEvent,
    /// The details.
    pub data: MessageData,
}

/// What an envelope reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageEvent {
    /// The work goes on.
    Progress,
    /// The work is done.
    Complete,
    /// The work failed.
    Error,
    /// Something to read while waiting.
    Educational,
    /// Where the work stands, or that the line is alive.
    Status,
}

impl MessageEvent {
    /// Every event, in the envelope's order.
    pub const ALL: [Self; 5] = [
        Self::Progress,
        Self::Complete,
        Self::Error,
        Self::Educational,
        Self::Status,
    ];

    /// The name as the envelope writes it, and as the event type on a stream.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Progress => "progress",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Educational => "educational",
            Self::Status => "status",
        }
    }

    /// The event of this name, compared exactly.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

impl fmt::Display for MessageEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<MessageEvent> for EventType {
    fn from(event: MessageEvent) -> Self {
        // The names hold no line end.
        Self::new(event.as_str()).expect("an envelope's event name is a valid event type")
    }
}

/// The details of an envelope. Only the timestamp must be there; a field that is `None` is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageData {
    /// Which step of the work this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Number>,
    /// How far the work is; usually percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Number>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Something to read while waiting; any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub educational_content: Option<Value>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When, as RFC 3339 text. The caller says it: this crate knows no clock, and does not check it.
    pub timestamp: String,
    /// Any further keys.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// An envelope with only a timestamp (RFC 3339 text).
    #[must_use]
    pub fn new(event: MessageEvent, timestamp: impl Into<String>) -> Self {
        let data = MessageData {
            timestamp: timestamp.into(),
            ..MessageData::default()
        };
        Self { event, data }
    }

    /// The same envelope with this step.
    #[must_use]
    pub fn with_step(mut self, step: impl Into<Number>) -> Self {
        self.data.step = Some(step.into());
        self
    }

    /// The same envelope with this progress. For a fraction use [`Number::from_f64`], which refuses NaN.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Into<Number>) -> Self {
        self.data.progress = Some(progress.into());
        self
    }

    /// The same envelope with this sentence.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.data.message = Some(message.into());
        self
    }

    /// The same envelope with this to read.
    #[must_use]
    pub fn with_educational_content(mut self, content: impl Into<Value>) -> Self {
        self.data.educational_content = Some(content.into());
        self
    }

    /// The same envelope with this error.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<String>) -> Self {
        self.data.error = Some(error.into());
        self
    }

    /// The same envelope with a further key.
    ///
    /// A key that is a field of [`MessageData`] sets that field, if the value fits it, and is left out
    /// otherwise: a key never stands twice.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        let (key, value) = (key.into(), value.into());
        match (key.as_str(), value) {
            ("step", Value::Number(step)) => self.data.step = Some(step),
            ("progress", Value::Number(progress)) => self.data.progress = Some(progress),
            ("message", Value::String(message)) => self.data.message = Some(message),
            ("educational_content", content) => self.data.educational_content = Some(content),
            ("error", Value::String(error)) => self.data.error = Some(error),
            ("timestamp", Value::String(timestamp)) => self.data.timestamp = timestamp,
            ("step" | "progress" | "message" | "error" | "timestamp", _) => {}
            (_, value) => {
                self.data.extra.insert(key, value);
            }
        }
        self
    }

    /// The envelope as an event: its `event` is the type, its `data` the data as JSON.
    #[must_use]
    pub fn to_event(&self) -> Event {
        Event::new(self.data.to_json()).with_type(self.event.into())
    }

    /// The whole envelope as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// Reads an envelope from an event's type and data.
    ///
    /// The data may be the envelope's `data` alone, and then the type says what happened; or the whole
    /// envelope as JSON, and then the type does not matter.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] if the data is not JSON of either shape, or the type is none of
    /// [`MessageEvent::ALL`].
    pub fn parse(event_type: &str, data: &str) -> Result<Self, InvalidMessage> {
        let value: Value = serde_json::from_str(data).map_err(InvalidMessage::Json)?;
        let is_whole =
            value.get("data").is_some_and(Value::is_object) && value.get("event").is_some();
        if is_whole && let Ok(message) = Self::deserialize(&value) {
            return Ok(message);
        }
        let event = MessageEvent::from_name(event_type)
            .ok_or_else(|| InvalidMessage::UnknownEvent(event_type.to_string()))?;
        let data = MessageData::deserialize(value).map_err(InvalidMessage::Json)?;
        Ok(Self { event, data })
    }
}

impl MessageData {
    /// The details as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .expect("strings, numbers and JSON values with string keys always serialise")
}

impl From<&Message> for Event {
    fn from(message: &Message) -> Self {
        message.to_event()
    }
}

/// Why an event is no envelope. The fault is the sender's.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// The data is not JSON, or lacks a field, or has one of another type.
    Json(serde_json::Error),
    /// The event type is none of the envelope's.
    UnknownEvent(String),
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(_) => f.write_str("data is no envelope"),
            Self::UnknownEvent(name) => write!(f, "event type {name:?} is none of the envelope's"),
        }
    }
}

impl Error for InvalidMessage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::UnknownEvent(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_whole_envelope_and_its_data_alone_mean_the_same() {
        let message = Message::new(MessageEvent::Educational, "2024-01-01T00:00:00Z")
            .with_progress(Number::from_f64(12.5).expect("not NaN"))
            .with_educational_content(json!({"title": "Why"}))
            .with("job_id", "42");
        let event = message.to_event();
        assert_eq!(
            Message::parse("educational", &event.data).expect("data alone"),
            message
        );
        assert_eq!(
            Message::parse("message", &message.to_json()).expect("whole"),
            message
        );
    }

    #[test]
    fn a_known_key_never_stands_twice() {
        let message = Message::new(MessageEvent::Status, "t")
            .with("step", 3)
            .with("error", 7);
        assert_eq!(message.data.to_json(), r#"{"step":3,"timestamp":"t"}"#);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        assert!(matches!(
            Message::parse("progress", "{"),
            Err(InvalidMessage::Json(_))
        ));
        assert!(matches!(
            Message::parse("progress", "{}"),
            Err(InvalidMessage::Json(_))
        ));
        let unknown = Message::parse("tick", r#"{"timestamp":"t"}"#);
        assert!(matches!(unknown, Err(InvalidMessage::UnknownEvent(name)) if name == "tick"));
    }

    #[test]
    fn names_are_those_of_the_envelope() {
        for event in MessageEvent::ALL {
            assert_eq!(
                serde_json::to_value(event).expect("a string"),
                json!(event.as_str())
            );
        }
    }
}
