//! Making tickets over HTTP.

use std::sync::Arc;

use http::{Response, header};
use serde::Deserialize;
use serde_json::Value;

use super::body::Body;
use super::json;
use super::problem::Problem;
use super::request::Request;
use crate::access::authentication::TICKET_LIFETIME;
use crate::access::{Caller, Credential, Forbidden, Grants};
use crate::clock;

/// What a ticket is to be for; all of it may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketJson {
    /// Only these topics and patterns may be read.
    #[serde(default)]
    topics: Option<Vec<String>>,
    /// Or this may be done, said in full.
    #[serde(default)]
    grants: Option<Value>,
    /// The user that it is for, if not whoever asks.
    #[serde(default, alias = "user_id")]
    user: Option<String>,
    /// The session that it is for.
    #[serde(default, alias = "session_id")]
    session: Option<String>,
}

/// Makes a ticket that goes no further than whoever asks for it.
pub(super) fn make(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let asked: TicketJson = match request.body.trim_ascii() {
        b"" => TicketJson::default(),
        body => serde_json::from_slice(body).map_err(|error| {
            Problem::bad_request(format!(
                "the body must be a JSON object such as {{\"topics\": [\"news\"]}}: {error}"
            ))
        })?,
    };
    let caller = &request.caller;
    if request.authentication.is_open() {
        return Err(Problem::bad_request(
            "nobody needs a ticket here: this hub asks nobody who they are",
        ));
    }
    let grants = match (asked.topics, asked.grants) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_field(
                "grants",
                "give topics or grants, not both",
            ));
        }
        (None, None) => caller.grants().without_administration(),
        (Some(topics), None) => grants("topics", serde_json::json!({"subscribe": topics}))?,
        (None, Some(asked)) => grants("grants", asked)?,
    };
    let of_another = asked.user.is_some() || asked.session.is_some();
    if of_another && !caller.grants().may_issue() {
        return Err(Forbidden::Issue.into());
    }
    let holder = match of_another {
        false => caller.clone(),
        true => Caller::new(
            caller.address(),
            asked.user.as_deref(),
            asked.session.as_deref(),
        )
        .map_err(|error| Problem::bad_field(error.field, error.to_string()))?,
    };
    if !caller
        .grants()
        .covers_for(&grants, holder.visibility().own())
    {
        return Err(Forbidden::Everything.into());
    }
    let holder = holder.with_grants(grants);
    let holder = match caller.credential() {
        // The rights of somebody else begin now: what was taken from them before does not count.
        Some(credential) if of_another => holder.with_credential(Arc::new(Credential {
            issued_at: Some(clock::unix_millis()),
            ..(**credential).clone()
        })),
        Some(credential) => holder.with_credential(credential.clone()),
        None => holder,
    };
    let origin = request.header(header::ORIGIN);
    let ticket = request
        .authentication
        .make_ticket(holder, origin.as_deref())?;
    json(&serde_json::json!({
        "ticket": ticket,
        "expires_in": TICKET_LIFETIME.as_secs(),
    }))
}

fn grants(field: &str, value: Value) -> Result<Grants, Problem> {
    serde_json::from_value(value).map_err(|error| Problem::bad_field(field, error.to_string()))
}
