//! An event to be published, and the hub's receipt.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sse_protocol::{EventId, EventType};

/// An event to be published.
///
/// ```
/// use sse_client::{EventType, Publication};
///
/// let plain = Publication::text("hello");
/// let progress = Publication::json(&serde_json::json!({ "progress": 3, "total": 10 }))?
///     .event_type(EventType::new("summary_progress")?)
///     .topic("job/42");
/// # let _ = (plain, progress);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[must_use = "it is published by a `Publisher`"]
pub struct Publication {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topic: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u64>,
    data: Box<RawValue>,
}

/// How important an event is when a reader cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Dropped first.
    Low,
    /// The default.
    Normal,
    /// Dropped last.
    High,
}

impl Publication {
    /// An event whose data is this text, sent as it is.
    pub fn text(data: impl AsRef<str>) -> Self {
        let quoted = serde_json::Value::from(data.as_ref()).to_string();
        Self::raw(RawValue::from_string(quoted).expect("a quoted string is JSON"))
    }

    /// An event whose data is this value as JSON. Readers get exactly the bytes that are written here.
    ///
    /// # Errors
    ///
    /// When `data` cannot be JSON.
    pub fn json<T: Serialize + ?Sized>(data: &T) -> Result<Self, serde_json::Error> {
        let raw = serde_json::value::to_raw_value(data)?;
        // A JSON string would be taken for plain text, so it is quoted once more.
        if raw.get().starts_with('"') {
            return Ok(Self::text(raw.get()));
        }
        Ok(Self::raw(raw))
    }

    fn raw(data: Box<RawValue>) -> Self {
        Self {
            id: None,
            event_type: None,
            topic: Vec::new(),
            session_filter: None,
            user_id: None,
            project_id: None,
            subscription_filter: None,
            priority: None,
            ttl_seconds: None,
            retry: None,
            data,
        }
    }

    /// The publisher's own id. Published twice under the same id, an event is stored and delivered once.
    ///
    /// Left out, the [`Publisher`](crate::Publisher) makes one, so that its own retries are safe.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = (!id.is_empty()).then(|| id.into_boxed_str().into_string());
        self
    }

    /// The event type. Left out: `message`.
    pub fn event_type(mut self, event_type: EventType) -> Self {
        self.event_type = Some(event_type.into_boxed_str().into_string());
        self
    }

    /// Adds a topic. Left out: the hub's public default topic.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic.push(topic.into());
        self
    }

    /// Only for that session's connections.
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.session_filter = Some(session.into());
        self
    }

    /// Only for that user's connections.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user_id = Some(user.into());
        self
    }

    /// For that project.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project_id = Some(project.into());
        self
    }

    /// For connections that subscribed to this event type, whatever this event's own type is.
    pub fn subscription(mut self, event_type: EventType) -> Self {
        self.subscription_filter = Some(event_type.into_boxed_str().into_string());
        self
    }

    /// How important it is. Default [`Priority::Normal`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How long it is worth delivering; whole seconds, rounded up.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl_seconds = Some(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        self
    }

    /// The reconnection time that readers get with it, in whole milliseconds.
    pub fn retry(mut self, retry: Duration) -> Self {
        self.retry = Some(u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Gives it an id if it has none.
    pub(crate) fn ensure_id(&mut self, make: impl FnOnce() -> String) {
        self.id.get_or_insert_with(make);
    }
}

/// The hub's receipt for a published event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// The id under which readers get it.
    pub id: String,
    /// Its position in the hub's log.
    #[serde(default)]
    pub position: Option<String>,
    /// Its durability: `fsync`, `os`, `memory` or `redis`.
    #[serde(default)]
    pub durability: Option<String>,
    /// Whether it had been published before, so that nothing was stored or delivered now.
    #[serde(default)]
    pub duplicate: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(publication: &Publication) -> String {
        serde_json::to_string(publication).unwrap()
    }

    #[test]
    fn text_is_a_json_string_and_json_stays_as_it_is() {
        assert_eq!(
            wire(&Publication::text("say \"hi\"\n")),
            r#"{"data":"say \"hi\"\n"}"#
        );
        let json = Publication::json(&serde_json::json!({"a": [1, 2.50]})).unwrap();
        assert_eq!(wire(&json), r#"{"data":{"a":[1,2.5]}}"#);
        assert_eq!(
            wire(&Publication::json("x").unwrap()),
            r#"{"data":"\"x\""}"#
        );
    }

    #[test]
    fn every_field_has_the_contracts_name() {
        let full = Publication::text("x")
            .id(EventId::new("7").unwrap())
            .event_type(EventType::new("t").unwrap())
            .topic("a")
            .topic("b")
            .session("s")
            .user("u")
            .project("p")
            .subscription(EventType::new("f").unwrap())
            .priority(Priority::High)
            .ttl(Duration::from_millis(1500))
            .retry(Duration::from_secs(3));
        let expected = concat!(
            r#"{"id":"7","event_type":"t","topic":["a","b"],"session_filter":"s","user_id":"u","#,
            r#""project_id":"p","subscription_filter":"f","priority":"high","ttl_seconds":2,"#,
            r#""retry":3000,"data":"x"}"#
        );
        assert_eq!(wire(&full), expected);
    }
}
