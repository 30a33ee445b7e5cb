//! Refusals that an `EventSource` survives.
//!
//! An `EventSource` gives up for good on any status but 200 (HTML standard, section 9.2.3), and its page hears no reason. So
//! what passes by itself, such as a full hub, is told to it in a stream: when to come back, an event `unavailable` that says
//! why, and the end. Every other client gets the status.

use clap::ValueEnum;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use sse_protocol::Retry;

use super::body::Body;
use super::problem::Problem;
use crate::wire::{self, Unavailable};

/// How a browser's `EventSource` is told of a refusal that passes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Refusals {
    /// In a stream, as an event `unavailable`
    #[default]
    Event,
    /// By its status, as everyone else
    Status,
}

/// What a client can be told in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    /// Nothing: it wants no stream.
    Nothing,
    /// That what made its address good was used up.
    UsedTickets,
    /// That too, and what passes by itself.
    Refusals,
}

/// What the sender of a request can be told in a stream: one that takes nothing but event streams, and is a browser's if it shows
/// no token, which an `EventSource` cannot.
pub(super) fn hears(method: &Method, headers: &HeaderMap, refusals: Refusals) -> Hears {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let takes_streams_alone =
        text(header::ACCEPT).is_some_and(|it| it.trim().eq_ignore_ascii_case("text/event-stream"));
    if *method != Method::GET || !takes_streams_alone {
        return Hears::Nothing;
    }
    let is_browser = headers.contains_key("sec-fetch-mode")
        || text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"));
    let shows_token = headers.contains_key(header::AUTHORIZATION);
    match is_browser && !shows_token && refusals == Refusals::Event {
        true => Hears::Refusals,
        false => Hears::UsedTickets,
    }
}

/// The answer to a request that was refused.
pub(super) fn answer(problem: Problem, hears: Hears) -> Response<Body> {
    let passes_by_itself = problem.retry_after.is_some();
    let is_event = match hears {
        Hears::Nothing => false,
        Hears::UsedTickets => problem.is_used_ticket(),
        Hears::Refusals => problem.is_used_ticket() || passes_by_itself,
    };
    if !is_event {
        return problem.into_response();
    }
    let retry = problem
        .retry_after
        .map(|after| Retry::from_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
    let body = wire::unavailable(&Unavailable {
        status: problem.status.as_u16(),
        title: problem.status.canonical_reason().unwrap_or("Error"),
        detail: &problem.detail,
        code: problem.code.unwrap_or("unavailable"),
        retry,
    });
    let mut response = Response::new(Body::full(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_source_of_a_browser_hears_of_refusals() {
        let hears = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            hears(&Method::GET, &headers, Refusals::Event)
        };
        let stream = ("accept", "text/event-stream");
        for (lines, expected) in [
            (vec![stream, ("sec-fetch-mode", "cors")], Hears::Refusals),
            (vec![stream, ("user-agent", "Mozilla/5.0")], Hears::Refusals),
            (vec![stream, ("user-agent", "curl/8")], Hears::UsedTickets),
            (
                vec![
                    stream,
                    ("sec-fetch-mode", "cors"),
                    ("authorization", "Bearer x"),
                ],
                Hears::UsedTickets,
            ),
            (
                vec![
                    ("accept", "text/event-stream, application/json"),
                    ("sec-fetch-mode", "cors"),
                ],
                Hears::Nothing,
            ),
            (
                vec![("accept", "*/*"), ("user-agent", "Mozilla/5.0")],
                Hears::Nothing,
            ),
            (vec![], Hears::Nothing),
        ] {
            assert_eq!(hears(&lines), expected, "{lines:?}");
        }
    }
}
