//! Errors as people and programs read them: RFC 9457 problem details.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::body::Body;
use crate::access::budget::NoMemory;
use crate::access::{AuthenticationError, Forbidden, TooFast};
use crate::clock;

/// An answer that says what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong with this request.
    pub detail: String,
    /// The field that is wrong, where it is one.
    pub field: Option<String>,
    /// When to try again, for what may pass by itself.
    pub retry_after: Option<Duration>,
    /// The methods there are, for a 405.
    pub allow: Option<Box<str>>,
    /// What `WWW-Authenticate` says, for a 401.
    pub challenge: Option<Box<str>>,
    /// The reason as one word, for programs.
    pub code: Option<&'static str>,
    /// A grant is missing; whoever shows who they are may have it.
    pub needs_grant: bool,
}

#[derive(Serialize)]
struct ProblemJson<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// The same as `detail`, under the name that many clients look for.
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem with this status.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: shortened(detail.into(), MAX_DETAIL_BYTES),
            field: None,
            retry_after: None,
            allow: None,
            challenge: None,
            code: None,
            needs_grant: false,
        }
    }

    /// 401: who sends this is not known (RFC 6750, section 3).
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>, error: Option<&'static str>) -> Self {
        let detail = detail.into();
        let challenge = match error {
            None => "Bearer realm=\"events\"".to_owned(),
            Some(error) => {
                let printable = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
                let description: String = detail.chars().filter(printable).collect();
                format!(
                    "Bearer realm=\"events\", error=\"{error}\", error_description=\"{description}\""
                )
            }
        };
        Self {
            challenge: Some(challenge.into()),
            ..Self::new(StatusCode::UNAUTHORIZED, detail)
        }
    }

    /// 400: the request is wrong.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400: this field of the request is wrong.
    #[must_use]
    pub fn bad_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let field = shortened(field.into(), MAX_FIELD_BYTES);
        let detail = shortened(detail.into(), MAX_DETAIL_BYTES);
        Self {
            detail: format!("{field}: {detail}"),
            field: Some(field),
            ..Self::bad_request("")
        }
    }

    /// 404: there is no such thing.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503: not now, but after `retry_after` and a little more, so that not all come back at once.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        let jittered = retry_after.mul_f64(1.0 + clock::chance());
        Self {
            retry_after: Some(jittered),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// Puts the place of an element of many before the field's name: `[3].topic`.
    #[must_use]
    pub fn in_element(mut self, index: usize) -> Self {
        self.field = Some(match self.field {
            Some(field) => format!("[{index}].{field}"),
            None => format!("[{index}]"),
        });
        self.detail = format!("event {index}: {}", self.detail);
        self
    }

    /// The same with a reason in one word.
    #[must_use]
    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// Whether it is that a ticket is not good any more.
    pub(super) fn is_used_ticket(&self) -> bool {
        self.code == Some(TICKET_USED)
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| after.as_secs().max(1))
    }

    /// The JSON of it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let json = ProblemJson {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            error: &self.detail,
            field: self.field.as_deref(),
            code: self.code,
            retry_after: self.retry_after_seconds(),
        };
        serde_json::to_vec(&json).expect("texts and numbers are always JSON")
    }

    /// The answer that carries it.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::from(self.to_json())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110, section 15.5.22, and RFC 6455, section 4.4.
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let version = HeaderValue::from_static("13");
            headers.insert(header::SEC_WEBSOCKET_VERSION, version);
        }
        if let Some(challenge) = self
            .challenge
            .and_then(|challenge| HeaderValue::try_from(&*challenge).ok())
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(allow) = self
            .allow
            .and_then(|methods| HeaderValue::try_from(&*methods).ok())
        {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

/// The text, without its middle where it is long: what is wrong with a request is not told in many times its size, and the
/// reason often stands at the end.
fn shortened(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        let from = text.floor_char_boundary(max_bytes / 2);
        let to = text.ceil_char_boundary(text.len() - max_bytes / 2);
        text.replace_range(from..to, "…");
        text.shrink_to_fit();
    }
    text
}

impl Problem {
    /// The bytes of such an answer over HTTP/1, after which the connection ends.
    pub(crate) fn to_http_1(&self) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or("Error");
        let retry_after = self
            .retry_after_seconds()
            .map(|seconds| format!("retry-after: {seconds}\r\n"))
            .unwrap_or_default();
        let json = self.to_json();
        let mut answer = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
             {retry_after}content-length: {}\r\nconnection: close\r\n\r\n",
            self.status.as_u16(),
            json.len()
        )
        .into_bytes();
        answer.extend(json);
        answer
    }
}

/// What could never be taken is too large; everything else is worth another try.
impl From<NoMemory> for Problem {
    fn from(error: NoMemory) -> Self {
        if error.wanted > error.most {
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string());
        }
        Self::unavailable(error.to_string(), REFUSED_RETRY_AFTER).with_code("memory")
    }
}

/// What waiting does not help is too large.
impl From<TooFast> for Problem {
    fn from(error: TooFast) -> Self {
        let Some(wait) = error.retry_after else {
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string());
        };
        // Exact and without jitter: each caller waits for its own turn.
        Self {
            retry_after: Some(wait),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()).with_code("rate")
        }
    }
}

impl From<Forbidden> for Problem {
    fn from(error: Forbidden) -> Self {
        Self {
            needs_grant: true,
            ..Self::new(StatusCode::FORBIDDEN, error.to_string())
        }
    }
}

impl From<AuthenticationError> for Problem {
    fn from(error: AuthenticationError) -> Self {
        match &error {
            AuthenticationError::Missing => Self::unauthorized(error.to_string(), None),
            AuthenticationError::Invalid(_) | AuthenticationError::Revoked => {
                Self::unauthorized(error.to_string(), Some("invalid_token"))
            }
            AuthenticationError::Forbidden(_) => {
                Self::new(StatusCode::FORBIDDEN, error.to_string())
            }
            // Its limit is asked again, which may have passed meanwhile.
            AuthenticationError::Throttled | AuthenticationError::Unavailable(_) => {
                Self::unavailable(error.to_string(), REFUSED_RETRY_AFTER)
                    .with_code("authentication")
            }
            AuthenticationError::UsedTicket => Self {
                retry_after: Some(USED_TICKET_RETRY_AFTER.mul_f64(1.0 + clock::chance())),
                ..Self::unauthorized(error.to_string(), Some("invalid_token"))
                    .with_code(TICKET_USED)
            },
            AuthenticationError::Identity(identity) => {
                Self::bad_field(identity.field, error.to_string())
            }
        }
    }
}

/// The reason of a refusal that a used ticket met.
const TICKET_USED: &str = "ticket_used";
/// How soon a client comes back whose ticket is used: it has another one by then, or has been told to get one.
const USED_TICKET_RETRY_AFTER: Duration = Duration::from_secs(2);

/// As much of a problem as is told. A stated guess: a topic and a sentence around it fit.
const MAX_DETAIL_BYTES: usize = 2 << 10;
/// As much of a field's name, which may be anything that a client sends.
const MAX_FIELD_BYTES: usize = 256;
/// How long a refused client is told to stay away, before jitter.
pub(crate) const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(5);
