//! Publishing over HTTP.

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use sse_broker::AppendError;
use sse_protocol::EventType;

use super::body::Body;
use super::json;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::publication::{self, Publications};
use super::request::Request;
use crate::access::budget::Account;
use crate::access::{Caller, Limited};
use crate::clock;
use crate::hub::{Hub, Publication, PublishError, Published};
use crate::units::Quoted;

/// What a publisher is told of one event.
#[derive(Serialize)]
pub(super) struct PublishedJson {
    id: String,
    position: String,
    durability: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl From<Published> for PublishedJson {
    fn from(published: Published) -> Self {
        Self {
            id: published.id,
            position: published.position.to_string(),
            durability: published.durability.as_str(),
            duplicate: published.duplicate,
        }
    }
}

/// Publishes what the body holds: one event is answered by an object, many by an array.
pub(super) async fn publish(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let hub = request.hub;
    let wants_last_alone = match request.query.get("receipts") {
        None | Some("all") => false,
        Some("last") => true,
        Some(other) => {
            let problem = format!("{} is not all or last", Quoted(other));
            return Err(Problem::bad_field("receipts", problem));
        }
    };
    let address = request.caller.address();
    // Waits for memory for the text; what many small events take beside it must be free at once.
    let bytes = request.body.len();
    let budget = hub.budget();
    let mut permit = budget.take(Account::Publications, address, bytes).await?;
    let mut reserved = 0;
    let publications = publication::parse_within(&request.body, |more| {
        reserved += more;
        let lacking = reserved.saturating_sub(permit.bytes());
        Ok(permit.try_grow(lacking)?)
    })?;
    match publications {
        Publications::One(publication) => {
            check_grant(&request.caller, &publication)?;
            take_events(hub, &request.caller, 1, bytes)?;
            one(hub, &request.caller, publication).await
        }
        Publications::Many(publications) => {
            for (index, publication) in publications.iter().enumerate() {
                check_grant(&request.caller, publication)
                    .map_err(|problem| problem.in_element(index))?;
            }
            take_events(hub, &request.caller, publications.len(), bytes)?;
            let results = hub
                .publish_as(&request.caller, publications)
                .await
                .map_err(|refused| problem(&refused.source).in_element(refused.index))?;
            if wants_last_alone {
                return last(results);
            }
            let results = results.into_iter().map(|result| match result {
                Ok(published) => {
                    serde_json::to_value(PublishedJson::from(published)).unwrap_or(Value::Null)
                }
                Err(error) => {
                    serde_json::from_slice(&problem(&error).to_json()).unwrap_or(Value::Null)
                }
            });
            let response = json(&results.collect::<Vec<Value>>())?;
            // The events are in the log; their receipts take less.
            permit.shrink_to(response.body().unheld_bytes());
            Ok(response.map(|body| body.held_by(permit)))
        }
    }
}

/// How many events there were, and what became of the last one; each that was refused is told by its place.
fn last(results: Vec<Result<Published, PublishError>>) -> Result<Response<Body>, Problem> {
    let count = results.len();
    let refused = results.iter().enumerate().filter_map(|(place, result)| {
        let error = result.as_ref().err()?;
        Some(problem(error).in_element(place))
    });
    let refused: Vec<Value> = refused
        .map(|problem| serde_json::from_slice(&problem.to_json()).unwrap_or(Value::Null))
        .collect();
    let last = results.into_iter().rev().find_map(Result::ok);
    json(&serde_json::json!({
        "count": count,
        "last": last.map(PublishedJson::from),
        "refused": refused,
    }))
}

async fn one(
    hub: &Hub,
    caller: &Caller,
    publication: Publication,
) -> Result<Response<Body>, Problem> {
    json(&publish_one(hub, caller, publication).await?)
}

/// Takes what a caller sends to publish from what it may send, also if that proves to be wrong.
pub(super) fn take_bytes(hub: &Hub, caller: &Caller, bytes: usize) -> Result<(), Problem> {
    let rates = hub.rates();
    Ok(rates.take(Limited::PublishBytes, caller, bytes, clock::now())?)
}

/// Takes events from what a caller may publish. If it may not, its bytes were not taken either.
pub(super) fn take_events(
    hub: &Hub,
    caller: &Caller,
    events: usize,
    bytes: usize,
) -> Result<(), Problem> {
    let rates = hub.rates();
    let taken = rates.take(Limited::Publish, caller, events, clock::now());
    taken.map_err(|error| {
        rates.give_back(Limited::PublishBytes, caller, bytes);
        error.into()
    })
}

/// Whether somebody may publish this event, to each of its topics.
pub(super) fn check_grant(caller: &Caller, publication: &Publication) -> Result<(), Problem> {
    let event_type = publication.event_type.as_ref();
    let event_type = event_type.map_or(EventType::MESSAGE, EventType::as_str);
    Ok(caller.check_publish(publication.all_topics(), event_type)?)
}

/// Publishes one event.
pub(super) async fn publish_one(
    hub: &Hub,
    caller: &Caller,
    publication: Publication,
) -> Result<PublishedJson, Problem> {
    let published = hub.publish_as(caller, vec![publication]).await;
    let mut results = published.map_err(|refused| problem(&refused.source))?;
    let published = results.pop().unwrap_or(Err(PublishError::Draining));
    published
        .map(PublishedJson::from)
        .map_err(|error| problem(&error))
}

/// Publishes the event in the body, or one of the hub's own when there is none.
pub(super) async fn test_event(request: Request<'_>) -> Result<Response<Body>, Problem> {
    if !request.body.trim_ascii().is_empty() {
        return publish(request).await;
    }
    let data = serde_json::json!({
        "message": "Test event",
        "type": "info",
        "timestamp": clock::rfc3339(clock::unix_millis()),
    });
    let event_type = EventType::new("system_status").expect("a name without line breaks");
    let publication = Publication::new(data.to_string()).with_type(event_type);
    check_grant(&request.caller, &publication)?;
    take_events(request.hub, &request.caller, 1, 0)?;
    one(request.hub, &request.caller, publication).await
}

/// The problem for an event that was not published.
pub(super) fn problem(error: &PublishError) -> Problem {
    match error {
        PublishError::ReservedEventType(_) | PublishError::EventTypeNotAllowed { .. } => {
            Problem::bad_field("event_type", error.to_string())
        }
        PublishError::NoSuchConnection(_) => Problem {
            field: Some("topic".to_owned()),
            ..Problem::not_found(error.to_string())
        },
        PublishError::TooLarge { .. } => Problem {
            field: Some("data".to_owned()),
            ..Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
        },
        PublishError::Conflict(_) => Problem {
            field: Some("id".to_owned()),
            ..Problem::new(
                StatusCode::CONFLICT,
                format!("{error}; an id belongs to one event of the whole hub, whatever its topic"),
            )
        },
        PublishError::Draining => Problem::unavailable(error.to_string(), REFUSED_RETRY_AFTER),
        PublishError::Log(AppendError::Full) => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "no space is left for the log; nothing was published",
        ),
        PublishError::Log(cause @ AppendError::Unknown { .. }) => {
            Problem::unavailable(cause.to_string(), REFUSED_RETRY_AFTER)
        }
        PublishError::Log(cause) => Problem::unavailable(
            format!("nothing was published: {cause}"),
            REFUSED_RETRY_AFTER,
        ),
    }
}
