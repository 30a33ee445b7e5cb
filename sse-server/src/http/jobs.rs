//! Jobs over HTTP.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use sse_pool::Routed as _;

use super::body::Body;
use super::poll::MAX_WAIT;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::request::Request;
use super::{json, publish};
use crate::access::{Caller, visibility};
use crate::clock;
use crate::hub::{Hub, Job, JobChange, JobCounts, JobError, JobState, NewJob, Progress};

#[derive(Serialize)]
struct JobsJson<'a> {
    jobs: Vec<&'a Job>,
    counts: JobCounts,
}

pub(super) fn list(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let (hub, query) = (request.hub, &request.query);
    let state = match query.get("status").or_else(|| query.get("state")) {
        None => None,
        Some(name) => Some(
            serde_json::from_value::<JobState>(Value::from(name)).map_err(|_| {
                Problem::bad_field("status", format!("{name:?} is not a job's state"))
            })?,
        ),
    };
    let limit: usize = query
        .read("limit", "a number of jobs")?
        .unwrap_or(DEFAULT_LIMIT);
    let mut jobs = hub.jobs(state, limit.min(MAX_LIMIT));
    jobs.retain(|job| request.caller.may_have(&**job));
    json(&JobsJson {
        jobs: jobs.iter().map(|job| &**job).collect(),
        counts: hub.job_counts(),
    })
}

pub(super) async fn create(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let hub = request.hub;
    let mut fields = object(&request.body)?;
    let new = NewJob {
        job_id: take(&mut fields, "job_id", "text")?,
        title: take(&mut fields, "title", "text")?,
        topic: take(&mut fields, "topic", "text")?,
        total: number(&mut fields, "total")?,
    };
    nothing_left(&fields, "job_id, title, topic, total")?;
    if new.topic.as_deref().is_some_and(visibility::is_private) {
        return Err(Problem::bad_field(
            "topic",
            "a job's events are public; choose a topic that is not a session, user or connection",
        ));
    }
    let new = NewJob {
        job_id: new
            .job_id
            .or_else(|| Some(uuid::Uuid::new_v4().to_string())),
        ..new
    };
    let topic = new.job_id.as_ref().map(|id| format!("job/{id}"));
    let topics = topic.iter().chain(&new.topic).map(String::as_str);
    request.caller.check_publish(topics, JOB_CREATED)?;
    let job = hub.create_job(new).await.map_err(problem)?;
    let mut response = json(&*job)?;
    *response.status_mut() = StatusCode::CREATED;
    let path = format!(
        "/jobs/{}",
        percent_encoding::utf8_percent_encode(&job.job_id, percent_encoding::NON_ALPHANUMERIC)
    );
    if let Ok(location) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The job, at once or when it has changed.
pub(super) async fn one(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let (hub, id, query) = (request.hub, request.id.as_str(), &request.query);
    let wait = query.seconds("wait", MAX_WAIT)?;
    let wait = request
        .caller
        .no_longer_than_valid(wait, clock::unix_millis());
    let job = visible(hub, &request.caller, id)?;
    if wait.is_zero() {
        return json(&*job);
    }
    let after = query
        .read("after", "a job's version")?
        .unwrap_or(job.version);
    let job = hub
        .wait_for_job(id, after, wait)
        .await
        .ok_or_else(|| unknown(id))?;
    json(&*job)
}

/// The job, for a caller that may have its events.
fn visible(hub: &Hub, caller: &Caller, id: &str) -> Result<Arc<Job>, Problem> {
    let job = hub.job(id).filter(|job| caller.may_have(&**job));
    job.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    problem(JobError::Unknown(id.to_owned()))
}

pub(super) async fn progress(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let mut fields = object(&request.body)?;
    let progress = Progress {
        progress: number(&mut fields, "progress")?,
        total: number(&mut fields, "total")?,
        message: take(&mut fields, "message", "text")?,
        details: fields,
    };
    if progress.progress.is_none() && progress.message.is_none() && progress.details.is_empty() {
        return Err(Problem::bad_field(
            "progress",
            "is missing: give progress, message, or anything else to show",
        ));
    }
    change(&request, JobChange::Progress(progress)).await
}

pub(super) async fn complete(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let mut fields = object(&request.body)?;
    let message = take(&mut fields, "message", "text")?;
    let result = fields.shift_remove("result").unwrap_or(Value::Null);
    nothing_left(&fields, "result, message")?;
    change(&request, JobChange::Complete { result, message }).await
}

pub(super) async fn error(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let mut fields = object(&request.body)?;
    let message: Option<String> = take(&mut fields, "message", "text")?;
    let error = take(&mut fields, "error", "text")?
        .or_else(|| message.clone())
        .ok_or_else(|| Problem::bad_field("error", "is missing: say what went wrong"))?;
    nothing_left(&fields, "error, message")?;
    change(&request, JobChange::Error { error, message }).await
}

pub(super) async fn cancel(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let mut fields = object(&request.body)?;
    let message = take(&mut fields, "message", "text")?;
    nothing_left(&fields, "message")?;
    change(&request, JobChange::Cancel { message }).await
}

async fn change(request: &Request<'_>, change: JobChange) -> Result<Response<Body>, Problem> {
    let Request {
        hub, id, caller, ..
    } = request;
    let job = visible(hub, caller, id)?;
    caller.check_publish(job.topics(), change.event_name())?;
    let job = hub.change_job(id, change).await.map_err(problem)?;
    json(&*job)
}

/// The body's object; an empty body is an empty one.
fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!("the body must be a JSON object: {error}"))
    })?;
    for (name, value) in &fields {
        check_value(name, value, 1)?;
        check_key(name, name)?;
    }
    Ok(fields)
}

/// Refuses JSON that could not be read back: it is kept within other JSON, which may be nested so deep and no deeper.
fn check_value(field: &str, value: &Value, depth: usize) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        let problem = format!("is nested deeper than {MAX_DEPTH} levels");
        return Err(Problem::bad_field(field, problem));
    }
    match value {
        Value::Array(values) => values
            .iter()
            .try_for_each(|it| check_value(field, it, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, it)| {
            check_key(field, name)?;
            check_value(field, it, depth + 1)
        }),
        _ => Ok(()),
    }
}

/// Names that mean something of its own to the JSON library.
fn check_key(field: &str, name: &str) -> Result<(), Problem> {
    if name.starts_with("$serde_json::") {
        return Err(Problem::bad_field(
            field,
            "has a name that begins with `$serde_json::`",
        ));
    }
    Ok(())
}

fn take<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, Problem> {
    match fields.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|_| Problem::bad_field(name, format!("must be {expected}"))),
    }
}

/// A number as it was written. Whole numbers that do not fit in 64 bits would be rounded, so they are refused.
fn number(fields: &mut Map<String, Value>, name: &str) -> Result<Option<Number>, Problem> {
    let number: Option<Number> = take(fields, name, "a number")?;
    let is_rounded = |number: &Number| {
        let float = number.is_f64().then(|| number.as_f64()).flatten();
        float.is_some_and(|float| float.abs() >= MAX_EXACT)
    };
    match number {
        Some(number) if is_rounded(&number) => Err(Problem::bad_field(
            name,
            "must fit in 64 bits; a larger number would be rounded",
        )),
        number => Ok(number),
    }
}

fn nothing_left(fields: &Map<String, Value>, known: &str) -> Result<(), Problem> {
    match fields.keys().next() {
        Some(name) => Err(Problem::bad_field(
            name.as_str(),
            format!("no such field; there are {known}"),
        )),
        None => Ok(()),
    }
}

fn problem(error: JobError) -> Problem {
    match error {
        JobError::Unknown(_) => Problem::not_found(error.to_string()),
        JobError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        JobError::NoMemory(error) => error.into(),
        JobError::NotANumber => Problem::bad_field("progress", error.to_string()),
        JobError::Exists(_) | JobError::Ended(_) => {
            Problem::new(StatusCode::CONFLICT, error.to_string())
        }
        JobError::InvalidId(_) => Problem::bad_field("job_id", error.to_string()),
        JobError::InvalidTopic(_) => Problem::bad_field("topic", error.to_string()),
        JobError::TooMany(_) => Problem::unavailable(error.to_string(), REFUSED_RETRY_AFTER),
        // The fields of an event are not those of a job.
        JobError::Publish(error) => Problem {
            field: None,
            ..publish::problem(&error)
        },
    }
}

/// The type of the event that says that there is a new job.
const JOB_CREATED: &str = "status";
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;
/// Numbers that are whole from here on are not held exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// As deep as a job's fields may be nested: half of what can be read.
const MAX_DEPTH: usize = 64;
