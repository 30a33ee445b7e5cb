//! Taking rights away over HTTP.

use http::{Response, StatusCode};
use serde::Deserialize;

use super::audited::What;
use super::body::Body;
use super::json;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::request::Request;
use crate::clock;
use crate::hub::{RevokeError, Revoked};
use crate::units::Span;

/// One of the first three, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationJson {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    session: Option<String>,
    /// The id of a credential.
    #[serde(default, alias = "token")]
    jti: Option<String>,
    /// How long it is remembered: as long as such a credential can hold.
    #[serde(default, rename = "for")]
    within: Option<String>,
}

/// Revokes what the body names.
pub(super) async fn revoke(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let asked: RevocationJson = serde_json::from_slice(&request.body).map_err(|error| {
        Problem::bad_request(format!(
            "the body must be a JSON object such as {{\"user\": \"ann\"}}: {error}"
        ))
    })?;
    let what = match (asked.user, asked.session, asked.jti) {
        (Some(user), None, None) => Revoked::User(user),
        (None, Some(session), None) => Revoked::Session(session),
        (None, None, Some(id)) => Revoked::Credential(id),
        _ => {
            return Err(Problem::bad_field(
                "user",
                "give one of user, session and jti",
            ));
        }
    };
    if what.name().is_empty() || what.name().len() > MAX_NAME_BYTES {
        let problem = format!("is a name of 1 to {MAX_NAME_BYTES} bytes");
        return Err(Problem::bad_field(what.field(), problem));
    }
    let within = match asked.within.as_deref().map(str::parse::<Span>) {
        None => DEFAULT_SPAN,
        Some(Ok(span)) => span,
        Some(Err(_)) => return Err(Problem::bad_field("for", "is not a duration such as 24h")),
    };
    let millis = u64::try_from(within.0.as_millis()).unwrap_or(u64::MAX);
    let until = clock::unix_millis().saturating_add(millis);
    let field = what.field();
    let name = what.name().to_owned();
    let ended = request
        .hub
        .revoke(what, until)
        .await
        .map_err(|error| match error {
            RevokeError::Full(_) => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
            RevokeError::Log(_) => Problem::unavailable(error.to_string(), REFUSED_RETRY_AFTER),
        })?;
    // Whoever is let in from now on is by what the application says now.
    request.authentication.forget_answers();
    let what = What(format!("{field} {name}"));
    let mut response = json(&serde_json::json!({
        "status": "revoked",
        field: name,
        "until": clock::rfc3339(until),
        "streams_ended": ended,
    }))?;
    response.extensions_mut().insert(what);
    Ok(response)
}

/// As long as the name of a user, a session or a credential may be, escaped.
const MAX_NAME_BYTES: usize = 768;
/// How long a revocation is remembered when nobody says. A stated guess: longer than tokens hold.
const DEFAULT_SPAN: Span = Span(std::time::Duration::from_secs(30 * 24 * 3600));
