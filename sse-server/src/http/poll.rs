//! Events without a stream.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Response};
use serde::Serialize;
use sse_broker::Record;

use super::body::Body;
use super::problem::Problem;
use super::query::Query;
use super::{json, stream};
use crate::clock;
use crate::hub::{Hub, PollRequest};

#[derive(Serialize)]
struct PolledJson {
    events: Vec<EventJson>,
    position: String,
    gap: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct EventJson {
    id: String,
    position: String,
    event: String,
    topic: String,
    data: String,
    published_at: String,
}

impl From<&Record> for EventJson {
    fn from(record: &Record) -> Self {
        let content = &record.content;
        Self {
            id: record.public_id(),
            position: record.position.to_string(),
            event: content
                .event
                .event_type
                .as_ref()
                .map_or("message", |event_type| event_type.as_str())
                .to_owned(),
            topic: content
                .topics
                .first()
                .map_or_else(String::new, ToString::to_string),
            data: content.event.data.clone().into_string(),
            published_at: clock::rfc3339(content.published_at),
        }
    }
}

pub(super) async fn poll(
    hub: &Hub,
    query: &Query,
    headers: &HeaderMap,
    ip: IpAddr,
) -> Result<Response<Body>, Problem> {
    let limit = query
        .read("limit", "a number of events")?
        .unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Problem::bad_field("limit", "must be at least 1"));
    }
    let after = match query.get("after") {
        Some(after) => Some(after.to_owned()),
        None => query
            .last_event_id(headers)
            .map(std::borrow::Cow::into_owned),
    };
    let polled = hub
        .poll(PollRequest {
            ip,
            session: query.get("session_id").map(str::to_owned),
            user: query.get("user_id").map(str::to_owned),
            topics: query.topics(),
            event_types: query.event_types()?,
            after,
            wait: query.seconds("wait", MAX_WAIT)?,
            limit: limit.min(MAX_LIMIT),
        })
        .await
        .map_err(|error| stream::refusal(hub, error))?;
    json(&PolledJson {
        events: polled
            .records
            .iter()
            .map(|record| EventJson::from(&**record))
            .collect(),
        position: polled.position.to_string(),
        gap: polled.gap.is_some(),
        gap_reason: polled.gap.map(|gap| gap.reason.as_str()),
    })
}

/// As long as a poll may wait: less than the minute after which many proxies give up.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(55);
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
