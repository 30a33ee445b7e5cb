//! Erasing over HTTP.

use http::{Response, StatusCode};
use sse_broker::{AppendError, Topic};

use super::audited::What;
use super::body::Body;
use super::json;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::publish;
use super::request::Request;
use crate::hub::{Erase, EraseError, JobError};

/// Erases what one parameter names.
pub(super) async fn erase(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let query = &request.query;
    query.check_names(&PARAMETERS)?;
    let given: Vec<(&str, &str)> = PARAMETERS
        .into_iter()
        .filter_map(|name| Some((name, query.get(name)?)))
        .collect();
    let is_one = |name: &str| query.all(name).count() == 1;
    let [(field, name)] = given[..] else {
        return Err(Problem::bad_field(
            "id",
            "give one of id, topic, user_id and session_id, and nothing else: it says what is erased",
        ));
    };
    if !is_one(field) {
        return Err(Problem::bad_field(
            field,
            "is given twice; erase one after the other",
        ));
    }
    let topic = |prefix: &str| {
        if name.is_empty() {
            return Err(Problem::bad_field(field, "must not be empty"));
        }
        Topic::new(format!("{prefix}{name}"))
            .map_err(|error| Problem::bad_field(field, error.to_string()))
    };
    let what = match field {
        "id" => Erase::Event(name.to_owned()),
        "topic" => Erase::Topic(topic("")?),
        "user_id" => Erase::Owner(topic("user/")?),
        _ => Erase::Owner(topic("session/")?),
    };
    let erased = request.hub.erase(&what).await.map_err(problem)?;
    let mut response = json(&serde_json::json!({
        "status": "erased",
        field: name,
        "events": erased,
    }))?;
    let told = format!("{field} {name}: {erased} events");
    response.extensions_mut().insert(What(told));
    Ok(response)
}

fn problem(error: EraseError) -> Problem {
    match error {
        EraseError::Log(AppendError::Full) => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "no space is left for the log, and erasing needs a little",
        ),
        EraseError::Job(JobError::Publish(error)) => publish::problem(&error),
        other => Problem::unavailable(
            format!("not all of it was erased; ask again: {other}"),
            REFUSED_RETRY_AFTER,
        ),
    }
}

const PARAMETERS: [&str; 4] = ["id", "topic", "user_id", "session_id"];
