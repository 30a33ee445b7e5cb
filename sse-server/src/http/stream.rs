//! `GET /events`: a stream is opened, or refused with a reason.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use sse_compress::{AcceptEncoding, Coding};
use sse_pool::Refusal;

use super::body::Body;
use super::named_subscriptions;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::query::Query;
use super::query::READER_PARAMETERS;
use super::request::Request;
use crate::access::Limited;
use crate::clock;
use crate::hub::{AdmissionError, Hub, InvalidInterest, NamedSubscription};
use crate::session::{ConnectError, ConnectionRequest, EventStream};
use crate::units::{Quoted, Span};
use crate::wire::{self, Format, Protocol};

pub(super) async fn open(request: Request<'_>) -> Result<Response<Body>, Problem> {
    check_accept(&request.headers)?;
    let wanted = wanted(&request, Protocol::EventStream)?;
    let hub = request.hub;
    if hub.is_excluded(&request.caller, wanted.user_agent.as_deref()) {
        // The one answer after which an EventSource does not come back (HTML standard, section 9.2.3).
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let (rates, caller, now) = (hub.rates(), &request.caller, clock::now());
    if request.method == Method::HEAD {
        rates.check(Limited::Connect, caller, 1, now)?;
        let checked = hub.check_connect(&wanted);
        checked.map_err(|error| refusal(hub, error))?;
        return Ok(response(Body::empty(), Coding::Identity));
    }
    rates.take(Limited::Connect, caller, 1, now)?;
    let stream = hub
        .connect(wanted)
        .await
        .map_err(|error| refusal(hub, error))?;
    keep_renewed(&request, &stream);
    let coding = stream.coding();
    Ok(response(Body::events(stream), coding))
}

/// The stream of a WebSocket.
pub(super) async fn open_for_websocket(request: &Request<'_>) -> Result<EventStream, Problem> {
    let wanted = wanted(request, Protocol::WebSocket)?;
    let hub = request.hub;
    if hub.is_excluded(&request.caller, wanted.user_agent.as_deref()) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "this client was sent away for a while, and that time is not over; connect again later",
        ));
    }
    hub.rates()
        .take(Limited::Connect, &request.caller, 1, clock::now())?;
    let stream = hub
        .connect(wanted)
        .await
        .map_err(|error| refusal(hub, error))?;
    keep_renewed(request, &stream);
    Ok(stream)
}

/// Lets the application be asked again before the lifetime that it has said is over.
fn keep_renewed(request: &Request<'_>, stream: &EventStream) {
    if let Some(renewable) = &request.renewable {
        let budget = request.hub.budget();
        let authentication = request.authentication;
        authentication.keep_renewed(renewable, stream.id(), budget);
    }
}

fn wanted(request: &Request<'_>, protocol: Protocol) -> Result<ConnectionRequest, Problem> {
    let query = &request.query;
    let known: Vec<&str> = READER_PARAMETERS
        .into_iter()
        .chain(STREAM_PARAMETERS)
        .collect();
    query.check_names(&known)?;
    let dialect = request.dialect;
    let compressed = is_on(request, "compression", dialect.wraps_large_messages)?;
    let may_code = is_on(request, "stream_compression", true)?;
    let batch = batch_interval(query)?;
    let mut interest = query.interest()?;
    if dialect.has_short_job_names
        && let Some(types) = &mut interest.event_types
    {
        types.append(&mut wire::short_job_names(types));
    }
    if query.is_left_empty("durable") {
        return Err(Problem::bad_field(
            "durable",
            "must not be empty: it names a subscription",
        ));
    }
    let subscription = query.get("durable").map(|name| NamedSubscription {
        name: name.to_owned(),
        start: query.last_event_id().map(str::to_owned),
    });
    Ok(ConnectionRequest {
        id: None,
        caller: request.caller.clone(),
        user_agent: request.user_agent(),
        interest,
        last_event_id: match subscription {
            // The query says where a new name begins; only the header says what the reader has seen.
            Some(_) => request.header("last-event-id"),
            None => request.last_event_id(),
        },
        subscription,
        format: Format {
            protocol,
            job_names: dialect.has_short_job_names,
            compressed,
            shows_topics: shows_topics(query)?,
        },
        // Compressed messages in a compressed stream would be work for nothing.
        // Readers that collect events have none of their writes in common.
        coding: if compressed || batch.is_some() || !may_code || protocol == Protocol::WebSocket {
            Coding::Identity
        } else {
            wanted_coding(&request.headers)
        },
        batch,
        shard: request.shard,
    })
}

/// How long events are to be collected.
fn batch_interval(query: &Query) -> Result<Option<Duration>, Problem> {
    let wrong = |what: String| Err(Problem::bad_field("batch", what));
    match query.get("batch").map(str::parse) {
        None => Ok(None),
        Some(Ok(Span(Duration::ZERO))) => Ok(None),
        Some(Ok(Span(interval))) if interval <= MAX_BATCH => Ok(Some(interval)),
        Some(Ok(_)) => wrong(format!("must be at most {} s", MAX_BATCH.as_secs())),
        Some(Err(problem)) => wrong(problem),
    }
}

/// Whether the topics of each event are to be told.
pub(super) fn shows_topics(query: &Query) -> Result<bool, Problem> {
    match query.get("show") {
        None => Ok(false),
        Some("topics") => Ok(true),
        Some(other) => {
            let problem = format!("{} is nothing that can be shown; topics can", Quoted(other));
            Err(Problem::bad_field("show", problem))
        }
    }
}

/// Whether a compression is wanted: `gzip`, or `none`.
fn is_on(request: &Request<'_>, name: &str, default: bool) -> Result<bool, Problem> {
    match request.query.get(name) {
        Some("gzip") => Ok(true),
        Some("none" | "identity") => Ok(false),
        Some(other) => Err(Problem::bad_field(
            name,
            format!("{} is not gzip or none", Quoted(other)),
        )),
        None => Ok(default),
    }
}

/// Refuses a client that can take no stream, which would wait for its end for ever.
fn check_accept(headers: &HeaderMap) -> Result<(), Problem> {
    let ranges: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .collect();
    // Of the ranges that mean a stream the closest one says whether it is wanted (RFC 9110, section 12.5.1).
    let accepts = ["text/event-stream", "text/*", "*/*", "*"]
        .iter()
        .find_map(|name| {
            let named = ranges.iter().filter(|range| {
                let kind = range.split(';').next().unwrap_or_default();
                kind.trim().eq_ignore_ascii_case(name)
            });
            named
                .map(|range| !is_refused(range))
                .reduce(|one, other| one || other)
        });
    if ranges.is_empty() || accepts == Some(true) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        "this is a stream of text/event-stream, which the Accept header leaves out; for the same events as JSON use /events/poll",
    ))
}

/// Whether a range of `Accept` has the weight zero.
fn is_refused(range: &str) -> bool {
    range.split(';').skip(1).map(str::trim).any(|part| {
        let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
        weight.is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|q| q <= 0.0))
    })
}

fn response(body: Body, coding: Coding) -> Response<Body> {
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
    response
}

/// The content coding that the client prefers for a stream.
fn wanted_coding(headers: &HeaderMap) -> Coding {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let accepted = lines
        .filter_map(|line| line.to_str().ok())
        .fold(AcceptEncoding::absent(), AcceptEncoding::and);
    accepted.choose(OFFERED).unwrap_or_default()
}

/// The problem for a stream that was not opened.
pub(super) fn refusal(hub: &Hub, error: ConnectError) -> Problem {
    match error {
        ConnectError::Refused(refusal) => no_place(hub, &refusal),
        ConnectError::IdTaken(_) => Problem::new(StatusCode::CONFLICT, error.to_string()),
        ConnectError::Interest(error) => invalid_interest(&error),
        ConnectError::Subscription(error) => named_subscriptions::problem(&error),
        ConnectError::Read(error) => {
            Problem::unavailable(error.to_string(), REFUSED_RETRY_AFTER).with_code("log")
        }
    }
}

/// The problem for a reader for which there is no place.
pub(super) fn no_place(hub: &Hub, refused: &AdmissionError) -> Problem {
    tracing::debug!(reason = %refused, "stream refused");
    let config = hub.config();
    let refusal = match refused {
        AdmissionError::TooManyOfUser(error) => {
            let detail = format!("{error} (--max-connections-per-user)");
            return Problem::unavailable(detail, REFUSED_RETRY_AFTER).with_code("user_full");
        }
        AdmissionError::Refused(refusal) => refusal,
    };
    let detail = match refusal {
        Refusal::Full => {
            format!(
                "the hub is full: {} connections are open (--max-connections)",
                config.max_connections
            )
        }
        Refusal::TooManyFromAddress => format!(
            "{} connections are open from this address, and no more are taken (--max-connections-per-ip)",
            config.max_connections_per_ip
        ),
        _ => "the hub is shutting down; connect again".to_owned(),
    };
    let code = match refusal {
        Refusal::Full => "full",
        Refusal::TooManyFromAddress => "address_full",
        _ => "draining",
    };
    Problem::unavailable(detail, REFUSED_RETRY_AFTER).with_code(code)
}

/// The problem for topics or types that are not valid, or that no memory is left for.
pub(super) fn invalid_interest(error: &InvalidInterest) -> Problem {
    let field = match error {
        InvalidInterest::NoMemory(error) => return (*error).into(),
        InvalidInterest::Forbidden(error) => return error.clone().into(),
        InvalidInterest::TooMany { wanted, topics, .. } => {
            if topics * 2 <= *wanted {
                "subscribe"
            } else {
                "topic"
            }
        }
        InvalidInterest::EventTypeNotAllowed { .. } => "subscribe",
        InvalidInterest::Topic { is_exact: true, .. } => "topic_exact",
        InvalidInterest::Topic { .. } => "topic",
    };
    Problem::bad_field(field, error.to_string())
}

/// What a stream can be told beside what every reader can.
const STREAM_PARAMETERS: [&str; 4] = ["durable", "compression", "stream_compression", "batch"];
/// Events may be collected for no longer: the end of a stream may wait as long.
const MAX_BATCH: Duration = Duration::from_secs(10);
/// The codings of streams; of those that a client likes equally, the first is chosen.
const OFFERED: &[Coding] = &[Coding::Gzip, Coding::Identity];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_take_no_stream_is_told_where_the_same_events_are() {
        let check = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, HeaderValue::from_static(line));
            }
            check_accept(&headers)
        };
        for fine in [
            &[][..],
            &["text/event-stream"],
            &["*/*"],
            &["application/json, text/*;q=0.1"],
            &["application/json", "Text/Event-Stream"],
            &["*/*;q=0, text/event-stream"],
            &[""],
        ] {
            assert!(check(fine).is_ok(), "{fine:?}");
        }
        for refused in [
            &["application/json"][..],
            &["application/json, text/html"],
            &["application/json, */*;q=0"],
            &["text/event-stream; q=0.0, application/json"],
            &["text/event-stream;q=0"],
            &["application/json, text/event-stream;q=0"],
            &["text/event-stream;q=0, */*"],
            &["*/*", "text/*;q=0"],
        ] {
            let problem = check(refused).unwrap_err();
            assert_eq!(problem.status, StatusCode::NOT_ACCEPTABLE, "{refused:?}");
            assert!(problem.detail.contains("/events/poll"));
        }
    }
}
