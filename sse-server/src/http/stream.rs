//! Opening a stream.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use sse_compress::{AcceptEncoding, Coding};
use sse_pool::Refusal;

use super::body::Body;
use super::problem::Problem;
use super::query::Query;
use super::routes::Dialect;
use crate::hub::{ConnectError, ConnectionRequest, Durable, Format, Hub, REFUSED_RETRY_AFTER};

pub(super) async fn open(
    hub: &Hub,
    head: &Parts,
    query: &Query,
    dialect: Dialect,
    ip: IpAddr,
    shard: Option<usize>,
) -> Result<Response<Body>, Problem> {
    let compressed = match query.get("compression") {
        Some("gzip") => true,
        Some("none" | "identity") => false,
        Some(other) => {
            return Err(Problem::bad_field(
                "compression",
                format!("{other:?} is not gzip or none"),
            ));
        }
        None => dialect == Dialect::Enhanced,
    };
    let mut event_types = query.event_types()?;
    if dialect == Dialect::Enhanced {
        event_types = event_types.map(with_job_events);
    }
    let durable = query.get("durable");
    let request = ConnectionRequest {
        id: None,
        ip,
        user_agent: head
            .headers
            .get(header::USER_AGENT)
            .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
        session: query.get("session_id").map(str::to_owned),
        user: query.get("user_id").map(str::to_owned),
        topics: query.topics(),
        event_types,
        last_event_id: match durable {
            // The query says where a new name begins; only the header says what the reader has seen.
            Some(_) => head
                .headers
                .get("last-event-id")
                .map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned()),
            None => query
                .last_event_id(&head.headers)
                .map(std::borrow::Cow::into_owned),
        },
        durable: durable.map(|name| Durable {
            name: name.to_owned(),
            start: query.last_event_id_parameter().map(str::to_owned),
        }),
        form: Format {
            job_names: dialect == Dialect::Enhanced,
            compressed,
        },
        // Compressed messages in a compressed stream would be work for nothing.
        coding: if compressed {
            Coding::Identity
        } else {
            wanted_coding(&head.headers)
        },
        shard,
    };
    let mut coding = Coding::Identity;
    let body = if head.method == Method::HEAD {
        Body::empty()
    } else {
        let stream = hub
            .connect(request)
            .await
            .map_err(|error| refusal(hub, error))?;
        coding = stream.coding();
        Body::events(stream)
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    if coding != Coding::Identity {
        headers.insert(
            header::CONTENT_ENCODING,
            HeaderValue::from_static(coding.name()),
        );
    }
    // no-transform keeps proxies from compressing, and so from collecting, the stream.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

/// The content coding that the client prefers for a stream.
fn wanted_coding(headers: &HeaderMap) -> Coding {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let accepted = lines
        .filter_map(|line| line.to_str().ok())
        .fold(AcceptEncoding::absent(), AcceptEncoding::and);
    accepted.choose(OFFERED).unwrap_or_default()
}

/// The codings of streams. Among those that a client wants equally, the first is chosen.
const OFFERED: &[Coding] = &[Coding::Gzip, Coding::Identity];

/// The answer to a reader, poller or subscriber that asked for what cannot be.
pub(super) fn refusal(hub: &Hub, error: ConnectError) -> Problem {
    match error {
        ConnectError::Refused(refusal) => {
            let config = hub.config();
            let detail = match refusal {
                Refusal::Full => format!(
                    "the hub is full: {} connections are open",
                    config.max_connections
                ),
                Refusal::TooManyFromAddress => {
                    format!(
                        "{} connections are open from this address, and no more are taken",
                        config.max_connections_per_ip
                    )
                }
                _ => "the hub is shutting down; connect again".to_owned(),
            };
            Problem::unavailable(detail, REFUSED_RETRY_AFTER)
        }
        ConnectError::IdTaken(_) => Problem::new(http::StatusCode::CONFLICT, error.to_string()),
        ConnectError::TooManySubscriptions { .. } => {
            Problem::bad_field("subscribe", error.to_string())
        }
        ConnectError::InvalidTopic { .. } => Problem::bad_field("topic", error.to_string()),
        ConnectError::Durable(error) => super::named_subscriptions::problem(&error),
        ConnectError::Read(error) => Problem::unavailable(error.to_string(), REFUSED_RETRY_AFTER),
    }
}

/// Who listens for `job_progress` means the jobs' `progress`.
pub(super) fn with_job_events(types: Vec<String>) -> Vec<String> {
    let plain = types
        .iter()
        .filter_map(|name| name.strip_prefix("job_"))
        .filter(|name| ["progress", "complete", "error", "status"].contains(name))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    types.into_iter().chain(plain).collect()
}
