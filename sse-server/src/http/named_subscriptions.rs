//! Named subscriptions over HTTP.

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use sse_broker::AppendError;

use super::body::Body;
use super::json;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::publication::check_is_object;
use super::request::Request;
use crate::clock;
use crate::hub::{NamedSubscriptionError, NamedSubscriptionStatus, SubscriptionPlace};
use crate::units::Quoted;

#[derive(Serialize)]
struct NamedSubscriptionsJson {
    total: usize,
    subscriptions: Vec<NamedSubscriptionJson>,
}

#[derive(Serialize)]
struct NamedSubscriptionJson {
    name: String,
    /// Everything up to here is acknowledged.
    position: String,
    /// How many positions the log is ahead of it, whatever their topics.
    behind: Option<u64>,
    user_id: Option<String>,
    created_at: String,
    last_used: String,
    /// The stream that reads under this name now.
    connection_id: Option<String>,
}

impl From<NamedSubscriptionStatus> for NamedSubscriptionJson {
    fn from(status: NamedSubscriptionStatus) -> Self {
        Self {
            name: status.name,
            position: status.acked.to_string(),
            behind: status.behind,
            user_id: status.user,
            created_at: clock::rfc3339(status.created_at),
            last_used: clock::rfc3339(status.used_at),
            connection_id: status.connection.map(|id| id.to_string()),
        }
    }
}

/// A place in the order: one of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceJson {
    #[serde(default)]
    position: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

pub(super) fn list(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let limit: usize = request
        .query
        .read("limit", "a number of subscriptions")?
        .unwrap_or(DEFAULT_LIMIT);
    let (total, statuses) = request.hub.named_subscriptions(limit.min(MAX_LIMIT));
    json(&NamedSubscriptionsJson {
        total,
        subscriptions: statuses
            .into_iter()
            .map(NamedSubscriptionJson::from)
            .collect(),
    })
}

pub(super) fn one(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    answer(request.hub.named_subscription(&request.id, &request.caller))
}

pub(super) async fn ack(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let place = place(&request.body, false)?;
    let Request {
        hub, id, caller, ..
    } = &request;
    answer(hub.ack_named_subscription(id, caller, place).await)
}

pub(super) async fn reset(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let place = place(&request.body, true)?;
    let Request {
        hub, id, caller, ..
    } = &request;
    answer(hub.reset_named_subscription(id, caller, place).await)
}

pub(super) async fn delete(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let Request {
        hub, id, caller, ..
    } = &request;
    hub.delete_named_subscription(id, caller)
        .await
        .map_err(hidden)?;
    json(&serde_json::json!({"status": "deleted", "name": id}))
}

fn answer(
    result: Result<NamedSubscriptionStatus, NamedSubscriptionError>,
) -> Result<Response<Body>, Problem> {
    let status = result.map_err(hidden)?;
    json(&NamedSubscriptionJson::from(status))
}

/// The same problem for a name that is somebody else's as for one that nobody has.
fn hidden(error: NamedSubscriptionError) -> Problem {
    problem(&match error {
        NamedSubscriptionError::NotYours(name) => NamedSubscriptionError::Unknown(name),
        error => error,
    })
}

/// Reads a place; the two words are for a reset alone, where nothing is promised by them.
fn place(body: &[u8], takes_words: bool) -> Result<SubscriptionPlace, Problem> {
    check_is_object(body)?;
    let place: PlaceJson = serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!(
            "the body must be a JSON object such as {{\"id\": \"…\"}} or {{\"position\": \"…\"}}: {error}"
        ))
    })?;
    match (place.position.as_deref(), place.id) {
        (Some("earliest"), None) if takes_words => Ok(SubscriptionPlace::Earliest),
        (Some("latest"), None) if takes_words => Ok(SubscriptionPlace::Latest),
        (Some(position), None) => position
            .parse()
            .map(SubscriptionPlace::At)
            .map_err(|error| {
                Problem::bad_field("position", format!("{} is {error}", Quoted(position)))
            }),
        (None, Some(id)) => Ok(SubscriptionPlace::Event(id)),
        (None, None) => Err(Problem::bad_field(
            "position",
            "is missing: give position or id",
        )),
        (Some(_), Some(_)) => Err(Problem::bad_field("id", "give position or id, not both")),
    }
}

/// What somebody hears who asked for what cannot be.
pub(super) fn problem(error: &NamedSubscriptionError) -> Problem {
    let detail = error.to_string();
    match error {
        NamedSubscriptionError::InvalidName => Problem::bad_field("durable", detail),
        NamedSubscriptionError::NotAPosition(_) | NamedSubscriptionError::BeyondHead(_) => {
            Problem::bad_field("position", detail)
        }
        NamedSubscriptionError::Unknown(_) => Problem::not_found(detail),
        NamedSubscriptionError::NotYours(_) => Problem {
            field: Some("user_id".to_owned()),
            ..Problem::new(StatusCode::FORBIDDEN, detail)
        },
        NamedSubscriptionError::ForeignEpoch(_) => Problem {
            field: Some("position".to_owned()),
            ..Problem::new(StatusCode::CONFLICT, detail)
        },
        NamedSubscriptionError::UnknownId(_) => Problem {
            field: Some("id".to_owned()),
            ..Problem::new(StatusCode::CONFLICT, detail)
        },
        NamedSubscriptionError::InUse { retry_after, .. } => {
            Problem::unavailable(detail, *retry_after)
        }
        NamedSubscriptionError::Log(AppendError::Full) => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
        }
        NamedSubscriptionError::Full { .. }
        | NamedSubscriptionError::AddressFull { .. }
        | NamedSubscriptionError::Log(_)
        | NamedSubscriptionError::Read(_) => Problem::unavailable(detail, REFUSED_RETRY_AFTER),
    }
}

/// As many subscriptions as are listed when nothing is said.
const DEFAULT_LIMIT: usize = 1000;
/// And at most.
const MAX_LIMIT: usize = 100_000;
