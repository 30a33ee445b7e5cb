//! What the application answers, and what that means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use sse_broker::UnixMillis;

use super::AuthenticationError;
use crate::access::authentication::jwt::{MAX_ID_BYTES, segment};
use crate::access::{Credential, CredentialKind, Grants};

/// An answer as it came.
#[derive(Debug)]
pub(in super::super) struct Answer {
    pub(in super::super) status: StatusCode,
    /// Only of a 200.
    pub(in super::super) body: Bytes,
}

/// What an answer means.
#[derive(Clone, Debug)]
pub(in super::super) enum Outcome {
    /// Who the caller is.
    Told(Arc<Told>),
    /// 401: nobody whom the application knows.
    Unauthenticated,
    /// 403: somebody who may not come in.
    Forbidden,
    /// Nothing that is clear.
    Unavailable,
}

/// What the application says of a caller.
#[derive(Clone, Debug)]
pub(in super::super) struct Told {
    pub(in super::super) user: Option<String>,
    pub(in super::super) session: Option<String>,
    /// `None` where it names none.
    pub(in super::super) grants: Option<Grants>,
    pub(in super::super) credential: Arc<Credential>,
    pub(super) expires_in: Option<Duration>,
}

/// A good answer, as it is written. What it has besides is not looked at.
#[derive(Deserialize)]
struct ToldJson {
    user: Option<Value>,
    session: Option<Value>,
    grants: Option<Grants>,
    expires_in: Option<f64>,
}

impl Answer {
    /// What it means; the reason when it means nothing.
    pub(super) fn read(&self, asked_at: UnixMillis) -> Result<Outcome, String> {
        match self.status {
            StatusCode::OK => self.told(asked_at),
            StatusCode::UNAUTHORIZED => Ok(Outcome::Unauthenticated),
            StatusCode::FORBIDDEN => Ok(Outcome::Forbidden),
            other => Err(format!("it answered {other}, and not 200, 401 or 403")),
        }
    }

    fn told(&self, asked_at: UnixMillis) -> Result<Outcome, String> {
        let wrong = |error: serde_json::Error| format!("its answer is not as agreed: {error}");
        // An object and nothing else: a list would be taken for its fields, one after the other.
        let fields: Map<String, Value> = serde_json::from_slice(&self.body).map_err(wrong)?;
        let told: ToldJson = serde_json::from_value(Value::Object(fields)).map_err(wrong)?;
        let expires_in = told.expires_in.map(|seconds| {
            let seconds = seconds.clamp(0.0, MAX_EXPIRES_IN.as_secs_f64());
            Duration::from_secs_f64(seconds)
        });
        if expires_in.is_some_and(|it| it.is_zero()) {
            return Ok(Outcome::Unauthenticated);
        }
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Ok(Outcome::Told(Arc::new(Told {
            user: name("user", told.user)?,
            session: name("session", told.session)?,
            grants: told.grants,
            credential: Arc::new(Credential {
                kind: CredentialKind::Application,
                id: None,
                issued_at: Some(asked_at),
                expires_at: expires_in.map(|span| asked_at.saturating_add(millis(span))),
            }),
            expires_in,
        })))
    }
}

/// A user or a session, as one segment of a topic.
fn name(field: &str, value: Option<Value>) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) if name.len() <= MAX_ID_BYTES => {
            Ok(Some(segment(&name).into_owned()))
        }
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!(
            "the `{field}` of its answer is not a text of at most {MAX_ID_BYTES} bytes"
        )),
    }
}

impl Outcome {
    pub(super) fn into_result(self) -> Result<Arc<Told>, AuthenticationError> {
        Err(match self {
            Self::Told(told) => return Ok(told),
            Self::Unauthenticated => {
                AuthenticationError::Invalid("the application does not know you".into())
            }
            Self::Forbidden => {
                AuthenticationError::Forbidden("the application does not let you in".into())
            }
            Self::Unavailable => AuthenticationError::Unavailable(
                "the application cannot say who you are now; try again later".into(),
            ),
        })
    }
}

/// Ten years: as good as for ever.
const MAX_EXPIRES_IN: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Outcome, String> {
        let answer = Answer {
            status: StatusCode::OK,
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        answer.read(1000)
    }

    #[test]
    fn a_good_answer_says_what_it_says_and_no_more() {
        let told = |body: &str| match read(body) {
            Ok(Outcome::Told(told)) => told,
            other => panic!("{body}: {other:?}"),
        };
        let all = told(
            r#"{"user": "a/b", "session": 7, "grants": {"publish": ["x"]}, "expires_in": 1.5, "more": []}"#,
        );
        assert_eq!(all.user.as_deref(), Some("a%2Fb"));
        assert_eq!(all.session.as_deref(), Some("7"));
        let grants = all.grants.as_ref().unwrap();
        assert!(grants.may_publish("x", "t") && !grants.may_publish("y", "t"));
        assert_eq!(all.credential.expires_at, Some(2500));
        assert_eq!(all.credential.issued_at, Some(1000));
        for nothing in ["{}", r#"{"user": null, "session": "", "expires_in": null}"#] {
            let told = told(nothing);
            assert!(told.user.is_none() && told.session.is_none() && told.grants.is_none());
            assert_eq!(told.credential.expires_at, None);
        }
        assert!(told(r#"{"expires_in": 1e300}"#).expires_in < Some(Duration::MAX));
    }

    #[test]
    fn what_is_not_clear_is_no_answer() {
        let long = format!(r#"{{"user": "{}"}}"#, "a".repeat(MAX_ID_BYTES + 1));
        for body in [
            "",
            "<!doctype html>",
            "null",
            "[]",
            r#"["ann"]"#,
            r#"{"user": "ann"} {"user": "bob"}"#,
            r#"{"user": ["ann"]}"#,
            r#"{"user": true}"#,
            r#"{"session": {}}"#,
            r#"{"grants": ["*"]}"#,
            r#"{"grants": {"write": ["*"]}}"#,
            r#"{"expires_in": "60"}"#,
            &long,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        for over in [r#"{"expires_in": 0}"#, r#"{"expires_in": -1}"#] {
            assert!(matches!(read(over), Ok(Outcome::Unauthenticated)), "{over}");
        }
        for status in [200, 201, 204, 302, 400, 404, 500, 503] {
            let answer = Answer {
                status: StatusCode::from_u16(status).unwrap(),
                body: Bytes::new(),
            };
            assert!(answer.read(0).is_err(), "{status}");
        }
    }
}
