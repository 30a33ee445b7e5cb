//! The fallback: the same events as JSON pages, for networks where a proxy breaks streams.
//!
//! A page is turned into the bytes of a stream and goes through the same decoder, so that type, id and
//! position mean the same on both ways.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HeaderValue;
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_protocol::{EventId, EventRef, EventType, Frame, Limits};
use url::Url;

use crate::attempt::{Answer, Failure, Plan, read_into};
use crate::error::Error;
use crate::machine::{FallbackPolicy, Repair};
use crate::request::Template;

/// When to poll instead of streaming, and how: for networks where a proxy breaks streams.
///
/// The polling endpoint is that of the hub: JSON pages of events, `after=` an id, held for up to `wait=` seconds
/// until there is one.
///
/// ```
/// use sse_client::{EventSource, PollFallback};
///
/// let events = EventSource::builder("https://hub.example/events")
///     .poll_fallback(PollFallback::default().limit(500))
///     .build()?;
/// # Ok::<(), sse_client::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a policy does nothing by itself"]
pub struct PollFallback {
    url: Option<String>,
    after_failures: u32,
    retry_stream_every: Duration,
    wait: Duration,
    limit: Option<NonZeroU32>,
}

impl PollFallback {
    /// Where to poll. Default: the stream's URL with `/poll` appended to its path, as the hub has it.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// How many failures of the stream in a row lead to polling. Default 3; a stream that is refused for good is
    /// polled at once.
    pub fn after_failures(mut self, failures: u32) -> Self {
        self.after_failures = failures;
        self
    }

    /// After which time the stream is tried again. Default 60 s.
    pub fn retry_stream_every(mut self, time: Duration) -> Self {
        self.retry_stream_every = time;
        self
    }

    /// How long the server may hold a request while there is no event, in whole seconds. Default 25 s, under the
    /// 30 s after which many proxies give up.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The most events in one page, `limit=` in the query; 0 leaves it to the server, which is the default.
    pub fn limit(mut self, events: u32) -> Self {
        self.limit = NonZeroU32::new(events);
        self
    }

    pub(crate) fn policy(&self) -> FallbackPolicy {
        FallbackPolicy {
            after_failures: self.after_failures,
            retry_stream_every: self.retry_stream_every,
        }
    }

    /// How pages are asked for where `stream` fails.
    pub(crate) fn plan(self, stream: &Url, limits: Limits) -> Result<PollPlan, Error> {
        let url = if let Some(given) = &self.url {
            Template::new(given, "application/json")?.url
        } else {
            let mut url = stream.clone();
            let path = format!("{}/poll", url.path().trim_end_matches('/'));
            url.set_path(&path);
            url
        };
        Ok(PollPlan {
            url,
            wait: self.wait,
            limit: self.limit,
            max_page_bytes: limits.max_event_bytes().saturating_mul(2),
        })
    }
}

impl Default for PollFallback {
    fn default() -> Self {
        Self {
            url: None,
            after_failures: 3,
            retry_stream_every: Duration::from_secs(60),
            wait: Duration::from_secs(25),
            limit: None,
        }
    }
}

/// How pages are asked for.
pub(crate) struct PollPlan {
    url: Url,
    /// How long the server may hold a request without an event.
    wait: Duration,
    /// The most events in a page.
    limit: Option<NonZeroU32>,
    max_page_bytes: usize,
}

/// The events of one answer, as a stream would have them.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) frames: Bytes,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    events: Vec<WireEvent<'a>>,
    #[serde(default)]
    position: Option<String>,
    /// Whether events may be missing before the first one; some hubs say more than yes or no.
    #[serde(borrow, default)]
    gap: Option<&'a RawValue>,
    #[serde(default)]
    gap_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    position: Option<String>,
    #[serde(default)]
    event: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl PollPlan {
    /// Asks for what came after `after`.
    pub(crate) async fn fetch(&self, plan: &Plan, after: Option<EventId>) -> Result<Page, Failure> {
        let template = self.template(plan, after.as_ref());
        let limit = self.wait + plan.connector.header_timeout();
        let retry = |error| Failure {
            error,
            repair: Repair::Retry { after: None },
        };
        let stream = match plan
            .exchange(&template, "application/json", None, limit)
            .await?
        {
            Answer::Stream(stream) => stream,
            Answer::NoContent => {
                return Ok(Page {
                    frames: Bytes::new(),
                });
            }
        };
        let mut body = BytesMut::new();
        let reading = read_into(stream.body, stream.content, self.max_page_bytes, &mut body);
        match tokio::time::timeout(limit, reading).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                return Err(retry(Error::TooLarge {
                    limit_bytes: self.max_page_bytes,
                }));
            }
            Ok(Err(error)) => return Err(retry(error)),
            Err(_) => return Err(retry(Error::Idle { limit })),
        }
        let reason = |error: serde_json::Error| Error::Answer {
            reason: error.to_string(),
        };
        let wire = serde_json::from_slice(&body).map_err(|error| retry(reason(error)))?;
        Ok(Page {
            frames: frames(&wire),
        })
    }

    fn template(&self, plan: &Plan, after: Option<&EventId>) -> Template {
        let mut url = self.url.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(after) = after {
                query.append_pair("after", after.as_str());
            }
            query.append_pair("wait", &self.wait.as_secs().to_string());
            if let Some(limit) = self.limit {
                query.append_pair("limit", &limit.to_string());
            }
        }
        Template {
            url,
            method: http::Method::GET,
            body: Bytes::new(),
            accept: HeaderValue::from_static("application/json"),
            headers: plan.template.headers.clone(),
            sensitive: plan.template.sensitive.clone(),
            decode_content: plan.template.decode_content,
        }
    }
}

/// The page as a stream would have it. Its last block sets the position, so that the next page begins
/// after this one whether or not it held an event.
fn frames(wire: &Wire<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    if let Some(gap) = wire
        .gap
        .map(RawValue::get)
        .filter(|gap| !matches!(*gap, "false" | "null"))
    {
        let event_type = EventType::new("gap").ok();
        let yes = serde_json::json!({ "reason": wire.gap_reason }).to_string();
        let data = if gap == "true" { &yes } else { gap };
        let event = EventRef {
            event_type: event_type.as_ref(),
            ..EventRef::new(data)
        };
        bytes.extend_from_slice(Frame::event(event).as_bytes());
    }
    for event in &wire.events {
        let id = event.id.as_deref().or(event.position.as_deref());
        let id = id.and_then(|id| EventId::new(id).ok());
        let event_type = event
            .event
            .as_deref()
            .and_then(|name| EventType::new(name).ok());
        let data = event.data.map_or("", RawValue::get);
        // A string is sent as its content, as on the stream; any other JSON as it stands.
        let text = serde_json::from_str::<String>(data);
        let data = text.as_deref().unwrap_or(data);
        let event = EventRef {
            id: id.as_ref(),
            event_type: event_type.as_ref(),
            ..EventRef::new(data)
        };
        bytes.extend_from_slice(Frame::event(event).as_bytes());
    }
    if let Some(position) = wire
        .position
        .as_deref()
        .filter(|position| EventId::new(*position).is_ok())
    {
        bytes.extend_from_slice(format!("id: {position}\n\n").as_bytes());
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sse_protocol::Decoder;

    #[test]
    fn a_page_means_what_the_stream_would_have_meant() {
        let page = r#"{"events":[
            {"id":"a","position":"1-1","event":"progress","topic":"t","data":{"n": 1},"published_at":"x"},
            {"position":"1-2","data":"two\nlines"}],
            "position":"1-9","gap":false}"#;
        let frames = frames(&serde_json::from_str(page).unwrap());
        let mut decoder = Decoder::new();
        let events: Vec<_> = decoder.feed(&frames).owned().collect();
        let seen: Vec<_> = events
            .iter()
            .map(|e| (e.id(), e.event_type(), e.data()))
            .collect();
        let expected = [
            (Some("a"), "progress", r#"{"n": 1}"#),
            (Some("1-2"), "message", "two\nlines"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(decoder.last_event_id(), "1-9");
    }

    #[test]
    fn a_gap_comes_first_and_an_empty_page_moves_the_position() {
        let page = r#"{"events":[],"position":"2-0","gap":true,"gap_reason":"expired"}"#;
        let frames = frames(&serde_json::from_str(page).unwrap());
        let mut decoder = Decoder::new();
        let events: Vec<_> = decoder.feed(&frames).owned().collect();
        assert_eq!(events[0].event_type(), "gap");
        assert_eq!(events[0].data(), r#"{"reason":"expired"}"#);
        assert_eq!(decoder.last_event_id(), "2-0");
    }
}
