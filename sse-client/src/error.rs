//! What can go wrong with a request, a stream or a publish, and what the server said about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use sse_protocol::EventId;
use url::Url;

use crate::redirect::RedirectError;

/// The cause of an error, shared so that errors are cheap to clone.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Why a connection failed or could not be made.
///
/// Cheap to clone: the same error stands in the [`State`](crate::State), in the
/// [`Notice`](crate::Notice) and in what [`next`](crate::EventSource::next) returns at the very end.
///
/// ```
/// use std::time::Duration;
/// use sse_client::Error;
///
/// let error = Error::Idle { limit: Duration::from_secs(45) };
/// assert_eq!(error.to_string(), "nothing arrived for 45s");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work: an invalid URL, a header with a line break.
    #[error("bad configuration: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// No connection: refused, unreachable, an unknown name, a proxy that refused, a failed handshake.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port that were tried.
        host: String,
        /// What the system said.
        source: Cause,
    },
    /// No connection within the time for it.
    #[error("no connection to {host} within {limit:?}")]
    ConnectTimeout {
        /// Host and port that were tried.
        host: String,
        /// The configured limit.
        limit: Duration,
    },
    /// The connection was made, but no response head came in time.
    #[error("no response within {limit:?}")]
    HeaderTimeout {
        /// The configured limit.
        limit: Duration,
    },
    /// The server answered with a status other than 200, or told such a status in-band.
    #[error("server answered {}", .0.status())]
    Status(Arc<Refusal>),
    /// The server answered 200, but not with `text/event-stream`.
    #[error("server answered with {} instead of text/event-stream", .0.media_type())]
    ContentType(Arc<Refusal>),
    /// A redirect that was not followed.
    #[error("redirect not followed")]
    Redirect(#[from] RedirectError),
    /// The connection broke.
    #[error("connection broke")]
    Transport {
        /// What broke it.
        source: Cause,
    },
    /// The server ended the stream.
    #[error("server ended the stream")]
    Ended,
    /// The server ended the stream within an event, or before the end of the compressed content.
    #[error("server ended the stream within an event")]
    CutShort,
    /// Nothing arrived, not even a comment, within the idle timeout.
    #[error("nothing arrived for {limit:?}")]
    Idle {
        /// The configured limit.
        limit: Duration,
    },
    /// The compressed stream is damaged, or a bomb.
    #[error("cannot decode the content")]
    Content(#[from] crate::content::ContentError),
    /// An event over the limit went on for so long that the connection was given up.
    #[error("event over the limit of {limit_bytes} bytes does not end")]
    TooLarge {
        /// The limit of one event.
        limit_bytes: usize,
    },
    /// An event over the limit came again on the next connection: it has no id before its data to resume after, or the
    /// server does not go by `Last-Event-ID`. To get it, raise the limit; to go on without it, resume after a later
    /// event.
    #[error("the event {} is over the limit of {limit_bytes} bytes and comes again with every connection; raise the limit", place(id.as_ref(), after))]
    Impassable {
        /// The limit that it went over.
        limit_bytes: usize,
        /// Its id, if that stood before what was too long.
        id: Option<EventId>,
        /// The last event id before it; empty if there was none.
        after: EventId,
    },
    /// The credentials' provider failed.
    #[error("the credentials' provider failed")]
    Credentials {
        /// What it said.
        source: Cause,
    },
    /// The stored position could not be read.
    #[error("cannot load the position")]
    Position {
        /// What the store said.
        source: Cause,
    },
    /// The server's answer to a publish or a poll is not what the contract says.
    #[error("unexpected answer: {reason}")]
    Answer {
        /// What was wrong with it.
        reason: String,
    },
}

impl Error {
    /// What the server answered, when it was an answer that failed.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Status(refusal) | Self::ContentType(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The status of the answer, when it was an answer that failed.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.refusal().map(Refusal::status)
    }

    /// Whether the request cannot have reached the server, so that sending it again is safe.
    #[must_use]
    pub fn is_before_request(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::Credentials { .. }
        )
    }

    /// Whether no connection was made.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::ConnectTimeout { .. })
    }

    /// Whether a time limit passed: for connecting, for the response head, or for silence.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout { .. } | Self::HeaderTimeout { .. } | Self::Idle { .. }
        )
    }

    /// Whether no connection was made because the server's certificate is not trusted. A stream tries again, because
    /// networks with a login page show such certificates until the login; a publish does not.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Self::Connect { source, .. } = self {
            return crate::untrusted::is_untrusted(&**source);
        }
        false
    }

    pub(crate) fn config(reason: impl Into<String>) -> Self {
        Self::Config {
            reason: reason.into(),
        }
    }

    pub(crate) fn transport(source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Transport {
            source: Arc::new(source),
        }
    }

    /// The error and its causes on one line, separated by `: `; for a person.
    #[must_use]
    pub fn report(&self) -> String {
        let mut line = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some libraries repeat their cause in their own message.
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            source = cause.source();
        }
        if let Some(detail) = self.refusal().and_then(Refusal::detail) {
            line.push_str(": ");
            line.push_str(&detail);
        }
        line
    }
}

/// Which event of a stream is meant, for a person.
pub(crate) fn place(id: Option<&EventId>, after: &EventId) -> String {
    match id {
        Some(id) => format!("{:?}", id.as_str()),
        None if after.is_empty() => "at the beginning of the stream".to_owned(),
        None => format!("after {:?}", after.as_str()),
    }
}

/// An answer that was not a stream: status, headers and the beginning of the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Refusal {
    /// The URL that answered, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The beginning of the body, at most
    /// [`error_body_limit`](crate::EventSourceBuilder::error_body_limit) bytes of it.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The server's own explanation: `detail` or `title` of an RFC 9457 problem, or a short plain text.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Problem {
            detail: Option<String>,
            title: Option<String>,
            error: Option<serde_json::Value>,
        }
        let essence = self.media_type();
        if essence.ends_with("json") {
            let problem: Problem = serde_json::from_slice(&self.body).ok()?;
            let error = problem.error.as_ref().and_then(|error| {
                error
                    .as_str()
                    .or_else(|| error.get("message")?.as_str())
                    .map(str::to_owned)
            });
            return problem
                .detail
                .or(error)
                .or(problem.title)
                .map(|text| printable(&text));
        }
        let text = std::str::from_utf8(&self.body).ok()?.trim();
        (essence == "text/plain" && !text.is_empty()).then(|| printable(text))
    }

    /// The media type's essence, lower case; `no type` when there is none.
    pub(crate) fn media_type(&self) -> String {
        crate::verdict::essence(&self.headers).unwrap_or_else(|| "no type".to_owned())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold cookies; only their number is shown.
        f.debug_struct("Refusal")
            .field("url", &self.url.as_str())
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Text from a server, fit for one line of a terminal: control characters become spaces, and 300
/// characters are enough.
fn printable(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn refusal(media: &'static str, body: &'static str) -> Refusal {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media));
        Refusal {
            url: Url::parse("http://hub/events").unwrap(),
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn the_report_names_every_level_and_the_servers_own_words() {
        let problem = refusal(
            "application/problem+json",
            r#"{"title":"Full","detail":"the hub is full"}"#,
        );
        let error = Error::Status(Arc::new(problem));
        assert_eq!(
            error.report(),
            "server answered 503 Service Unavailable: the hub is full"
        );
        let refused = std::io::Error::other("connection refused");
        let error = Error::Connect {
            host: "hub:80".into(),
            source: Arc::new(refused),
        };
        assert_eq!(
            error.report(),
            "cannot connect to hub:80: connection refused"
        );
        assert!(error.is_connect() && !error.is_timeout() && !error.is_untrusted());
    }

    #[test]
    fn a_servers_words_cannot_steer_the_terminal() {
        let plain = refusal("text/plain", "bad\x1b[2J\r\nthing");
        assert_eq!(plain.detail().unwrap(), "bad [2J  thing");
        assert_eq!(refusal("text/html", "<h1>no</h1>").detail(), None);
        let api = refusal(
            "application/json",
            r#"{"error":{"message":"no such model"}}"#,
        );
        assert_eq!(api.detail().unwrap(), "no such model");
    }
}
