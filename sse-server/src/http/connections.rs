//! Connections over HTTP: the list, one of them, and ending its stream.

use std::time::Instant;

use http::Response;
use serde::Serialize;
use sse_pool::{ConnectionId, ConnectionStatus, ReaderKey};

use super::audited::What;
use super::body::Body;
use super::problem::Problem;
use super::request::Request;
use super::subscription_change::{labels, topics_of};
use super::{json, stream};
use crate::access::Caller;
use crate::clock;
use crate::hub::{Hub, MAX_EXCLUSION, RenewError};
use crate::units::{Quoted, Span};

#[derive(Serialize)]
struct ConnectionsJson {
    total_connections: usize,
    connections: Vec<ConnectionJson>,
    /// The `after` of the next page, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A connection, with the fields of every dialect side by side.
#[derive(Serialize)]
struct ConnectionJson {
    connection_id: String,
    session_id: Option<String>,
    user_id: Option<String>,
    user_ip: String,
    user_agent: Option<String>,
    created_at: String,
    last_activity: String,
    is_active: bool,
    /// The event types; none means all.
    subscriptions: Vec<String>,
    /// The topics; none means every public one.
    topics: Vec<String>,
    project_filter: Option<String>,
    last_event_id: String,
    /// How many events the reader is behind.
    queue_size: u64,
    /// The same, under its other name.
    message_queue: u64,
    delivered_events: u64,
}

impl ConnectionJson {
    fn new(hub: &Hub, status: &ConnectionStatus, now: Instant, unix_now: u64) -> Self {
        let info = &status.info;
        let topics = topics_of(&status.selector);
        let quiet_for = u64::try_from(now.saturating_duration_since(status.since).as_millis())
            .unwrap_or(u64::MAX);
        let queue_size = status.behind_entries as u64;
        let position = sse_broker::Position {
            epoch: hub.head().epoch,
            offset: status.cursor,
        };
        Self {
            connection_id: info.id.to_string(),
            session_id: info.client.session.as_deref().map(str::to_owned),
            user_id: info.client.user.as_deref().map(str::to_owned),
            user_ip: info.ip.to_string(),
            user_agent: info.client.user_agent.as_deref().map(str::to_owned),
            created_at: clock::rfc3339(info.connected_at_unix_ms),
            last_activity: clock::rfc3339(unix_now.saturating_sub(quiet_for)),
            is_active: true,
            subscriptions: labels(&status.selector),
            project_filter: topics
                .iter()
                .find_map(|topic| topic.strip_prefix("project/"))
                .map(str::to_owned),
            topics,
            last_event_id: position.to_string(),
            queue_size,
            message_queue: queue_size,
            delivered_events: status.delivered_entries,
        }
    }
}

pub(super) fn list(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let hub = request.hub;
    let limit: usize = request
        .query
        .read("limit", "a number of connections")?
        .unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        let problem = format!("is a number from 1 to {MAX_LIMIT}; go on with after=");
        return Err(Problem::bad_field("limit", problem));
    }
    let after = match request.query.get("after") {
        None => None,
        Some(text) => Some(place(text).ok_or_else(|| {
            Problem::bad_field("after", "is not the `next` of a page of connections")
        })?),
    };
    let (now, unix_now) = (clock::now(), clock::unix_millis());
    let statuses = hub.connections_after(after, limit);
    let last = statuses.last().filter(|_| statuses.len() == limit);
    let is_admin = request.caller.grants().is_admin();
    let own = statuses
        .iter()
        .filter(|status| is_admin || is_expressly_own(request, status));
    json(&ConnectionsJson {
        total_connections: match is_admin {
            true => hub.active_connections(),
            false => own.clone().count(),
        },
        connections: own
            .map(|status| ConnectionJson::new(hub, status, now, unix_now))
            .collect(),
        next: last.map(|last| format!("{}.{}", last.key.shard(), last.key.slot())),
    })
}

fn place(text: &str) -> Option<ReaderKey> {
    let (shard, slot) = text.split_once('.')?;
    ReaderKey::place(shard.parse().ok()?, slot.parse().ok()?)
}

pub(super) fn one(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let (hub, id) = (request.hub, request.id.as_str());
    let status = parse(id)
        .and_then(|id| hub.connection_status(&id))
        .filter(|status| is_own(request, status))
        .ok_or_else(|| unknown(id))?;
    let (now, unix_now) = (clock::now(), clock::unix_millis());
    json(&ConnectionJson::new(hub, &status, now, unix_now))
}

/// Ends a stream. An EventSource comes back by itself; with `for=10m` its client is sent away until then.
pub(super) fn close(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let (hub, id) = (request.hub, request.id.as_str());
    let within: Option<Span> = request
        .query
        .read("for", "a duration such as 10m, of a day at most")?;
    let within = within.map(|span| span.0);
    if within.is_some_and(|within| within > MAX_EXCLUSION) {
        return Err(Problem::bad_field("for", "may be a day at most, 24h"));
    }
    let connection = parse(id)
        .filter(|id| {
            let status = hub.connection_status(id);
            status.is_some_and(|status| is_own(request, &status))
        })
        .ok_or_else(|| unknown(id))?;
    if let Some(within) = within {
        hub.exclude_connection(&connection, within);
    }
    if hub.close_connection(&connection) {
        json(&serde_json::json!({
            "status": "closed",
            "connection_id": id,
            "excluded_seconds": within.map(|within| within.as_secs()),
        }))
    } else {
        Err(unknown(id))
    }
}

/// Looks for idle and stalled streams now, not at the next second, and ends them.
pub(super) fn clean_up(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let swept = request.hub.sweep_connections(clock::now());
    let told = format!("{} idle, {} stalled", swept.idle.len(), swept.stalled.len());
    let mut response = json(&serde_json::json!({
        "status": "cleaned",
        "closed": swept.len(),
        "idle": swept.idle.len(),
        "stalled": swept.stalled.len(),
        "total_connections": request.hub.active_connections(),
    }))?;
    response.extensions_mut().insert(What(told));
    Ok(response)
}

/// Gives a stream the rights of whoever asks, who must be the same user and session: its token is about to expire.
pub(super) fn renew(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let (hub, id) = (request.hub, request.id.as_str());
    let connection = parse(id).ok_or_else(|| unknown(id))?;
    hub.renew(&connection, &request.caller)
        .map_err(|error| match error {
            RenewError::Unknown(_) => unknown(id),
            RenewError::Interest(error) => stream::invalid_interest(&error),
        })?;
    let expires_at = request.caller.credential().and_then(|it| it.expires_at);
    json(&serde_json::json!({
        "status": "renewed",
        "connection_id": id,
        "expires_at": expires_at.map(clock::rfc3339),
    }))
}

/// Whether a connection is the caller's own, or the caller administers the hub.
fn is_own(request: &Request<'_>, status: &ConnectionStatus) -> bool {
    request.caller.is_or_administers(&Caller::of(&status.info))
}

/// The same, without those that belong to nobody in particular, whose names are not told to just anybody.
fn is_expressly_own(request: &Request<'_>, status: &ConnectionStatus) -> bool {
    let client = &status.info.client;
    (client.user.is_some() || client.session.is_some()) && is_own(request, status)
}

fn parse(id: &str) -> Option<ConnectionId> {
    id.parse().ok()
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("there is no connection {}", Quoted(id)))
}

/// As many connections as are listed when nothing is said.
const DEFAULT_LIMIT: usize = 1000;
/// And at most.
const MAX_LIMIT: usize = 1000;
