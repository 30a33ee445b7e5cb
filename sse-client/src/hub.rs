//! The hub's own events: the greeting, the heartbeat, gaps, and refusals.

use std::borrow::Cow;

use http::StatusCode;
use serde::Deserialize;
use sse_protocol::EventBuf;

/// Events are missing: the hub's `gap` event.
///
/// ```
/// use sse_client::{EventBuf, Gap};
///
/// fn on_event(event: &EventBuf) {
///     if let Some(gap) = Gap::of(event) {
///         eprintln!("missing from {:?} to {:?}: {:?}", gap.from, gap.to, gap.reason);
///     }
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Gap {
    /// The position that was asked for, or read last; nothing after it is certain.
    #[serde(default)]
    pub from: Option<String>,
    /// Where it goes on.
    #[serde(default)]
    pub to: Option<String>,
    /// Up to where events may be missing: beyond `to` when only some of what follows was kept.
    #[serde(default)]
    pub until: Option<String>,
    /// The reason, in the hub's words.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Gap {
    /// The gap that `event` tells of, if it is of the type `gap`. One whose data says nothing is a gap too.
    #[must_use]
    pub fn of(event: &EventBuf) -> Option<Self> {
        (event.event_type() == "gap")
            .then(|| serde_json::from_str(event.data()).unwrap_or_default())
    }
}

/// The first event of a hub's stream, `connected`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Greeting {
    /// This connection's id, for changing its subscriptions.
    pub connection_id: String,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// The event types subscribed to.
    #[serde(default)]
    pub subscriptions: Vec<String>,
    /// Whether the stream goes on where the last one ended.
    #[serde(default)]
    pub resumed: bool,
    /// Whether events may be missing; a [`Gap`] says which.
    #[serde(default)]
    pub gap: bool,
}

impl Greeting {
    /// The greeting that `event` is. Other servers' events of the type `connected` look different.
    #[must_use]
    pub fn of(event: &EventBuf) -> Option<Self> {
        (event.event_type() == "connected").then(|| serde_json::from_str(event.data()).ok())?
    }
}

/// Whether `event` is a hub's heartbeat: `ping` with `keep-alive`.
#[must_use]
pub fn is_heartbeat(event: &EventBuf) -> bool {
    event.event_type() == "ping" && event.data() == "keep-alive"
}

/// The status of a refusal that a hub tells in-band: an event `unavailable` with a problem document, for browsers,
/// whose `EventSource` gives up for good on any status but 200.
pub(crate) fn refusal(event_type: &str, data: &str) -> Option<StatusCode> {
    #[derive(Deserialize)]
    struct Problem<'a> {
        status: u16,
        #[serde(borrow, rename = "title")]
        _title: Cow<'a, str>,
    }
    if event_type != "unavailable" {
        return None;
    }
    let problem: Problem<'_> = serde_json::from_str(data).ok()?;
    let status = StatusCode::from_u16(problem.status).ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

/// Whether an event of this type may come before a refusal: a hub says it on its own.
pub(crate) fn is_preface(event_type: &str) -> bool {
    matches!(event_type, "connected" | "ping")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sse_protocol::Decoder;

    fn event(event_type: &str, data: &str) -> EventBuf {
        let text = format!("event: {event_type}\ndata: {data}\n\n");
        Decoder::new().feed(text.as_bytes()).owned().next().unwrap()
    }

    #[test]
    fn a_gap_is_one_whatever_its_data_says() {
        let full = Gap::of(&event(
            "gap",
            r#"{"from":"1-2","to":"1-9","reason":"trimmed","x":1}"#,
        ))
        .unwrap();
        assert_eq!(
            (full.from.as_deref(), full.reason.as_deref()),
            (Some("1-2"), Some("trimmed"))
        );
        assert_eq!(Gap::of(&event("gap", "no json")), Some(Gap::default()));
        assert_eq!(Gap::of(&event("message", "{}")), None);
    }

    #[test]
    fn a_refusal_is_a_problem_of_the_type_unavailable() {
        let full = r#"{"status":503,"title":"Full","detail":"the hub is \"full\"","code":"full"}"#;
        assert_eq!(
            refusal("unavailable", full),
            Some(StatusCode::SERVICE_UNAVAILABLE)
        );
        assert_eq!(refusal("message", full), None);
        for other in [
            "",
            "no JSON",
            "{}",
            r#"{"status":503}"#,
            r#"{"status":200,"title":"OK"}"#,
            r#"{"status":"503","title":"Full"}"#,
        ] {
            assert_eq!(refusal("unavailable", other), None, "{other}");
        }
    }

    #[test]
    fn greeting_and_heartbeat_are_told_from_others_of_their_name() {
        let greeting = event(
            "connected",
            r#"{"connection_id":"c","resumed":true,"gap":false}"#,
        );
        assert!(Greeting::of(&greeting).unwrap().resumed);
        assert_eq!(Greeting::of(&event("connected", "hello")), None);
        assert!(is_heartbeat(&event("ping", "keep-alive")));
        assert!(!is_heartbeat(&event("ping", r#"{"type":"ping"}"#)));
    }
}
