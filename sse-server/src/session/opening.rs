//! What a stream begins with.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use sse_broker::{Gap, Offset, Position, Topic};
use sse_protocol::{EventId, EventRef, EventType, Retry, encoder};

use crate::clock;
use crate::hub::{Format, Hub};

/// The first bytes of a stream, and what is in them already.
pub(crate) struct Prelude {
    pub(crate) bytes: Bytes,
    /// Job topics whose state was shown, and up to which offset it holds.
    pub(crate) snapshots: Vec<(Topic, Offset)>,
}

/// What the `connected` event says.
#[derive(Serialize)]
pub(crate) struct Connected<'a> {
    pub(crate) connection_id: &'a str,
    pub(crate) message: &'static str,
    /// The event types; none means all.
    pub(crate) subscriptions: &'a [String],
    /// The topics; none means all that are public.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) topics: &'a [String],
    /// Whether the stream goes on where the reader left off.
    pub(crate) resumed: bool,
    /// Whether something may have been missed; the `gap` event that follows says what.
    pub(crate) gap: bool,
    /// The durable name it reads under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) durable: Option<NamedSubscriptionJson<'a>>,
    pub(crate) timestamp: String,
}

#[derive(Serialize)]
pub(crate) struct NamedSubscriptionJson<'a> {
    pub(crate) name: &'a str,
    /// Whether nothing was known under this name before.
    pub(crate) created: bool,
}

impl Prelude {
    /// Writes `retry`, `connected`, the gap where there is one, and the state of each job that the
    /// reader follows, unless it goes on where it left off.
    pub(crate) fn new(
        hub: &Hub,
        connected: &Connected<'_>,
        at: Position,
        gap: Option<&Gap>,
        job_topics: &[Topic],
        form: Format,
    ) -> Self {
        let mut bytes = Vec::with_capacity(512);
        let data = serde_json::to_string(connected).expect("texts and booleans are always JSON");
        encoder::event(
            EventRef {
                // A cursor from the first byte on: a reader cut off before its first event resumes here.
                id: Some(&position_id(at)),
                event_type: Some(&event_type("connected")),
                data: &data,
                retry: Some(Retry::from_millis(jittered_retry(hub.config().retry))),
            },
            &mut bytes,
        );
        if let Some(gap) = gap {
            gap_event(gap, &mut bytes);
        }
        let mut snapshots = Vec::new();
        if !connected.resumed || gap.is_some() {
            for topic in job_topics {
                let Some((job, offset)) = topic.under("job").and_then(|job_id| hub.job_at(job_id))
                else {
                    continue;
                };
                let event = job.snapshot_event();
                let name = if form.job_names {
                    format!("job_{}", event.kind)
                } else {
                    event.kind.to_owned()
                };
                encoder::event(
                    EventRef {
                        id: None,
                        event_type: Some(&event_type(&name)),
                        data: &Value::Object(event.data).to_string(),
                        retry: None,
                    },
                    &mut bytes,
                );
                snapshots.push((topic.clone(), offset));
            }
        }
        Self {
            bytes: Bytes::from(bytes),
            snapshots,
        }
    }
}

/// Writes the event that tells of a gap. Its id moves the reader behind it, so that it is told once.
pub(crate) fn gap_event(gap: &Gap, out: &mut Vec<u8>) {
    let data = serde_json::json!({
        "from": gap.from.map(|position| position.to_string()),
        "to": gap.to.to_string(),
        "until": gap.until.to_string(),
        "reason": gap.reason.as_str(),
        "timestamp": clock::rfc3339(clock::unix_millis()),
    });
    encoder::event(
        EventRef {
            id: Some(&position_id(gap.to)),
            event_type: Some(&event_type("gap")),
            data: &data.to_string(),
            retry: None,
        },
        out,
    );
}

/// A reconnection time between `base` and one and a half of it, in milliseconds.
pub(crate) fn jittered_retry(base: Duration) -> u64 {
    let millis = base.mul_f64(1.0 + fastrand::f64() / 2.0).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}

fn position_id(position: Position) -> EventId {
    EventId::new(position.to_string()).expect("a position is hexadecimal digits, a dash and digits")
}

fn event_type(name: &str) -> EventType {
    EventType::new(name).expect("the hub's own names have no line breaks")
}
