//! Jobs over HTTP.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Number, Value};
use sse_broker::Topic;
use sse_pool::Routed;

use super::body::Body;
use super::poll::MAX_WAIT;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::publication::{Fields, plain};
use super::request::Request;
use super::{json, publish, stream};
use crate::access::budget::Account;
use crate::access::{Caller, visibility};
use crate::clock;
use crate::hub::{
    Details, Hub, InvalidProgress, Job, JobChange, JobCounts, JobError, JobState, JsonText, NewJob,
    Progress,
};
use crate::units::Quoted;

#[derive(Serialize)]
struct JobsJson {
    jobs: Vec<Box<RawValue>>,
    counts: JobCounts,
    /// The `after` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) fn list(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let (hub, query) = (request.hub, &request.query);
    let state = match query.get("status").or_else(|| query.get("state")) {
        None => None,
        Some(name) => Some(
            serde_json::from_value::<JobState>(Value::from(name)).map_err(|_| {
                Problem::bad_field("status", format!("{} is not a job's state", Quoted(name)))
            })?,
        ),
    };
    let limit: usize = query
        .read("limit", "a number of jobs")?
        .unwrap_or(DEFAULT_LIMIT);
    let after =
        match query.get("after") {
            None => None,
            Some(text) => Some(place(text).ok_or_else(|| {
                Problem::bad_field("after", "is not the `next` of a page of jobs")
            })?),
        };
    // The newest first, and of two that were created together the one whose id comes first.
    let is_after = |job: &Job| {
        after.as_ref().is_none_or(|(created_at, id)| {
            job.created_at < *created_at || job.created_at == *created_at && job.job_id > *id
        })
    };
    let mut jobs = hub.jobs(state, usize::MAX);
    jobs.retain(|job| is_after(job) && may_have(&request.caller, job));
    // Large jobs end a page early, so that it always finds memory.
    let max_bytes = MAX_PAGE_BYTES.min(hub.budget().max_bytes(Account::Answers) / 8);
    let mut page = Vec::new();
    let mut bytes = 0;
    for job in jobs.iter().take(limit.min(MAX_LIMIT)) {
        let text = serde_json::value::to_raw_value(&**job)
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        bytes += text.get().len();
        if bytes > max_bytes && !page.is_empty() {
            break;
        }
        page.push(text);
    }
    let last = page.len().checked_sub(1).and_then(|last| jobs.get(last));
    json(&JobsJson {
        next: last
            .filter(|_| page.len() < jobs.len())
            .map(|job| next(job)),
        jobs: page,
        counts: hub.job_counts(),
    })
}

/// Where the page after this job begins. In hexadecimal digits, so that it stands in an address as it is.
fn next(job: &Job) -> String {
    let place = format!("{}/{}", job.created_at, job.job_id);
    place.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The creation and id that stand in a [`next`].
fn place(text: &str) -> Option<(String, String)> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let place = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
    let (created_at, id) = place.split_once('/')?;
    Some((created_at.to_owned(), id.to_owned()))
}

pub(super) async fn create(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let hub = request.hub;
    let mut fields = object(&request.body)?;
    let new = NewJob {
        job_id: take(&mut fields, "job_id", "text")?,
        title: take(&mut fields, "title", "text")?,
        topic: take(&mut fields, "topic", "text")?,
        user_topic: owner(&request.caller, &mut fields, "user_id", "user")?,
        session_topic: owner(&request.caller, &mut fields, "session_id", "session")?,
        total: number(&mut fields, "total")?,
    };
    nothing_left(&fields, "job_id, title, topic, total, user_id, session_id")?;
    if new.topic.as_deref().is_some_and(visibility::is_private) {
        return Err(Problem::bad_field(
            "topic",
            "a job's topic is not a session's, user's or connection's: say whose the job is with user_id or session_id",
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
    // Who waits takes a place, as a stream does.
    let _place = hub
        .admit(&request.caller)
        .map_err(|refusal| stream::no_place(hub, &refusal))?;
    let job = hub
        .wait_for_job(id, after, wait)
        .await
        .ok_or_else(|| unknown(id))?;
    json(&*job)
}

/// The job, for a caller that may have its events.
fn visible(hub: &Hub, caller: &Caller, id: &str) -> Result<Arc<Job>, Problem> {
    let job = hub.job(id).filter(|job| may_have(caller, job));
    job.ok_or_else(|| unknown(id))
}

/// A user or session whose the new job is to be: the caller's own, or one whose events it may have.
fn owner(
    caller: &Caller,
    fields: &mut Fields<'_>,
    field: &'static str,
    prefix: &str,
) -> Result<Option<Topic>, Problem> {
    let name: Option<String> = take(fields, field, "text")?;
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let topic = Topic::new(format!("{prefix}/{name}"))
        .map_err(|error| Problem::bad_field(field, error.to_string()))?;
    if caller.grants().is_admin() || caller.visibility().stands_for(topic.as_str()) {
        return Ok(Some(topic));
    }
    let problem = format!(
        "{field}: a job of somebody else needs `admin`, or `subscribe` on {}",
        Quoted(topic.as_str())
    );
    Err(Problem {
        field: Some(field.to_owned()),
        needs_grant: true,
        ..Problem::new(StatusCode::FORBIDDEN, problem)
    })
}

/// Whether somebody may see a job: whoever may have its events, and whoever administers the hub where it is somebody's in particular.
fn may_have(caller: &Caller, job: &Job) -> bool {
    let is_for_admin = job.has_owner() && caller.grants().is_admin();
    let shown = job.as_event();
    is_for_admin || caller.may_have(&shown, shown.topics())
}

/// The topic that has the events of a job in any case.
fn own_topic(job: &Job) -> String {
    format!("job/{}", job.job_id)
}

/// That one, and the topic of its creator's choice.
fn topics<'a>(own: &'a str, job: &'a Job) -> impl Iterator<Item = &'a str> {
    std::iter::once(own).chain(job.topic.as_deref())
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
        details: details(&fields)?,
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
    let result = match remove(&mut fields, "result") {
        Some(result) => json_text("result", result)?,
        None => JsonText::from(Value::Null),
    };
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
    let Some(job) = hub.job(id) else {
        return begin(request, change).await;
    };
    let own = own_topic(&job);
    let is_visible = may_have(caller, &job);
    let granted = caller.check_publish(topics(&own, &job), change.event_name());
    // Whoever works on a job need not be somebody who may read it.
    if !is_visible && (job.has_owner() || granted.is_err()) {
        return Err(unknown(id));
    }
    // Whose a job is may end it.
    let is_own_to_end = job.has_owner() && matches!(change, JobChange::Cancel { .. });
    if !is_own_to_end {
        granted?;
    }
    let job = hub.change_job(id, change).await.map_err(problem)?;
    if is_visible {
        return json(&*job);
    }
    json(&serde_json::json!({
        "job_id": job.job_id,
        "status": job.status,
        "version": job.version,
    }))
}

/// A report of a job that nobody has created creates it: a worker that only reports need not ask before. Whoever may not create it
/// hears that there is none.
async fn begin(request: &Request<'_>, change: JobChange) -> Result<Response<Body>, Problem> {
    let Request {
        hub, id, caller, ..
    } = request;
    let own = format!("job/{id}");
    let may = |event_type| {
        let topics = std::iter::once(own.as_str());
        caller.check_publish(topics, event_type).is_ok()
    };
    if !may(JOB_CREATED) || !may(change.event_name()) {
        return Err(unknown(id));
    }
    let job = hub.change_or_begin(id, change).await.map_err(problem)?;
    json(&*job)
}

/// The body's object; an empty body is an empty one. Its values stay text: parsed, they would take many times that.
fn object(body: &[u8]) -> Result<Fields<'_>, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Fields(Vec::new()));
    }
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body must be a JSON object: {error}")))
}

fn details(fields: &Fields<'_>) -> Result<Details, Problem> {
    let mut details = Details::default();
    for (name, value) in &fields.0 {
        if name.starts_with("$serde_json::") {
            let problem = "has a name that begins with `$serde_json::`";
            return Err(Problem::bad_field(&**name, problem));
        }
        details.insert(name, json_text(name, value)?);
    }
    Ok(details)
}

/// JSON that could be read back: it is kept within other JSON, which may be nested so deep and no deeper.
fn json_text(field: &str, value: &RawValue) -> Result<JsonText, Problem> {
    JsonText::read(value, MAX_DEPTH).map_err(|error| Problem::bad_field(field, plain(&error)))
}

fn remove<'a>(fields: &mut Fields<'a>, name: &str) -> Option<&'a RawValue> {
    let place = fields.0.iter().position(|(known, _)| known == name)?;
    Some(fields.0.remove(place).1)
}

fn take<T: DeserializeOwned>(
    fields: &mut Fields<'_>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, Problem> {
    let Some(value) = remove(fields, name) else {
        return Ok(None);
    };
    serde_json::from_str(value.get())
        .map_err(|_| Problem::bad_field(name, format!("must be {expected}")))
}

/// A number as it was written. Whole numbers that do not fit in 64 bits would be rounded, so they are refused.
fn number(fields: &mut Fields<'_>, name: &str) -> Result<Option<Number>, Problem> {
    let is_text =
        |(known, raw): &(Cow<'_, str>, &RawValue)| known == name && raw.get().starts_with('"');
    // The library's error would have the text in it.
    if fields.0.iter().any(is_text) {
        return Err(Problem::bad_field(name, "must be a number"));
    }
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

fn nothing_left(fields: &Fields<'_>, known: &str) -> Result<(), Problem> {
    match fields.0.first() {
        Some((name, _)) => Err(Problem::bad_field(
            &**name,
            format!("no such field; there are {known}"),
        )),
        None => Ok(()),
    }
}

fn problem(error: JobError) -> Problem {
    match error {
        JobError::Unknown(_) => Problem::not_found(error.to_string()),
        JobError::TooLarge { .. } | JobError::TooManyDetails(_) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
        }
        JobError::NoMemory(error) => error.into(),
        JobError::InvalidProgress(ref reason) => Problem::bad_field(
            match reason {
                InvalidProgress::Negative(field) => field,
                _ => "progress",
            },
            error.to_string(),
        ),
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
/// As much as a page of jobs may have, give or take one job.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// Numbers that are whole from here on are not held exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// As deep as a job's fields may be nested: half of what can be read.
const MAX_DEPTH: usize = 64;
