//! `GET /events/poll`: events as JSON, for clients without a stream.

use std::borrow::Cow;
use std::time::Duration;

use http::Response;
use serde::Serialize;
use sse_broker::{Record, RecordRef, Topic};
use sse_protocol::EventType;

use super::body::Body;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::query::READER_PARAMETERS;
use super::request::Request;
use super::{json, stream};
use crate::clock;
use crate::hub::{PollError, PollRequest};
use crate::wire::{About, shown_data};

#[derive(Serialize)]
struct PolledJson<'a> {
    events: Vec<EventJson<'a>>,
    position: String,
    gap: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_reason: Option<&'static str>,
    /// Who asks, as the event `connected` tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

#[derive(Serialize)]
struct EventJson<'a> {
    id: String,
    position: String,
    event: &'a str,
    topic: &'a str,
    data: Cow<'a, str>,
    published_at: String,
    /// All of its topics, where they are asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    about: Option<About<'a>>,
}

impl<'a> EventJson<'a> {
    fn new(record: &'a Record, shows_topics: bool) -> Self {
        let content = &record.content;
        let topics = content.topics.iter().map(Topic::as_str);
        let label = content.label.as_ref().map(EventType::as_str);
        Self {
            about: shows_topics.then(|| About::new(topics, label)),
            id: record.public_id(),
            position: record.position.to_string(),
            event: content
                .event
                .event_type
                .as_ref()
                .map_or("message", |event_type| event_type.as_str()),
            topic: content.topics.first().map_or("", Topic::as_str),
            data: shown_data(&RecordRef::from(record)),
            published_at: clock::rfc3339(content.published_at),
        }
    }
}

pub(super) async fn poll(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let query = &request.query;
    let known: Vec<&str> = READER_PARAMETERS
        .into_iter()
        .chain(POLL_PARAMETERS)
        .collect();
    query.check_names(&known)?;
    let limit = query
        .read("limit", "a number of events")?
        .unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Problem::bad_field("limit", "must be at least 1"));
    }
    let after = query.get("after").map(str::to_owned);
    let wait = query.seconds("wait", MAX_WAIT)?;
    let shows_topics = stream::shows_topics(query)?;
    let wanted = PollRequest {
        caller: request.caller.clone(),
        interest: query.interest()?,
        after: after.or_else(|| request.last_event_id()),
        wait: request
            .caller
            .no_longer_than_valid(wait, clock::unix_millis()),
        limit: limit.min(MAX_LIMIT),
    };
    let polled = request
        .hub
        .poll(wanted)
        .await
        .map_err(|error| match error {
            PollError::Refused(refusal) => stream::no_place(request.hub, &refusal),
            PollError::NoMemory(error) => error.into(),
            PollError::Interest(error) => stream::invalid_interest(&error),
            PollError::Read(error) => Problem::unavailable(error.to_string(), REFUSED_RETRY_AFTER),
        })?;
    json(&PolledJson {
        events: polled
            .records
            .iter()
            .map(|record| EventJson::new(record, shows_topics))
            .collect(),
        position: polled.position.to_string(),
        gap: polled.gap.is_some(),
        gap_reason: polled.gap.map(|gap| gap.reason.as_str()),
        identity: request.caller.identity(),
    })
}

/// As long as a poll may wait: less than the minute after which many proxies give up.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(55);
/// What a poll can be told beside what every reader can.
const POLL_PARAMETERS: [&str; 3] = ["after", "wait", "limit"];
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
