//! Changing what a live connection is subscribed to.

use std::fmt;

use http::Response;
use serde::de::{self, SeqAccess};
use serde::{Deserialize, Deserializer, Serialize};
use sse_pool::{ConnectionId, Selector, TopicFilter};

use super::body::Body;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::publication::{check_event_type, check_is_object, no_text};
use super::request::Request;
use super::{json, stream};
use crate::hub::{ChangeError, InvalidInterest, SubscriptionChange};
use crate::wire;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeJson {
    #[serde(default)]
    connection_id: Option<String>,
    #[serde(default, alias = "subscribe", alias = "subscriptions")]
    event_types: Option<Names>,
    #[serde(default, alias = "topic")]
    topics: Option<OneOrMany>,
    /// Topics whose names are taken as they are.
    #[serde(default)]
    topic_exact: Option<OneOrMany>,
    #[serde(default)]
    project_id: Option<String>,
    #[serde(default)]
    last_event_id: Option<String>,
}

/// An array of names; an error never repeats what stands there instead.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of names")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Names, E> {
                Err(no_text(&self))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut array: S) -> Result<Names, S::Error> {
                let mut names = Vec::new();
                while let Some(name) = array.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        // Asked for an array, the library would make the error itself.
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(topic) => vec![topic],
            Self::Many(topics) => topics,
        }
    }
}

#[derive(Serialize)]
struct ChangedJson {
    status: &'static str,
    connection_id: String,
    event_types: Vec<String>,
    subscriptions: Vec<String>,
    topics: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<String>,
    /// Whether events behind `last_event_id` are missing.
    gap: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_reason: Option<&'static str>,
}

pub(super) async fn change(request: Request<'_>) -> Result<Response<Body>, Problem> {
    let (hub, query) = (request.hub, &request.query);
    check_is_object(&request.body)?;
    let change: ChangeJson = serde_json::from_slice(&request.body).map_err(|error| {
        Problem::bad_request(format!(
            "the body must be a JSON object such as {{\"connection_id\": \"…\", \"event_types\": [\"progress\"]}}: {error}"
        ))
    })?;
    let connection_id = change
        .connection_id
        .or_else(|| query.get("connection_id").map(str::to_owned))
        .ok_or_else(|| {
            Problem::bad_field(
                "connection_id",
                "is missing: the `connected` event of the stream tells it",
            )
        })?;
    let id: ConnectionId = connection_id
        .parse()
        .map_err(|error| Problem::bad_field("connection_id", format!("{error}")))?;
    let mut event_types = change.event_types.map(|Names(types)| types);
    for event_type in event_types.iter().flatten() {
        check_event_type("event_types", event_type)?;
    }
    let topics = change.topics.map(OneOrMany::into_vec);
    let mut exact_topics = change.topic_exact.map(OneOrMany::into_vec);
    if let Some(project) = &change.project_id {
        exact_topics
            .get_or_insert_default()
            .push(format!("project/{project}"));
    }
    let names_topics = topics.is_some() || exact_topics.is_some();
    if event_types.is_none() && !names_topics && change.last_event_id.is_none() {
        return Err(Problem::bad_field(
            "event_types",
            "is missing: give event_types, topics, topic_exact, project_id or last_event_id",
        ));
    }
    let is_own = hub
        .caller_of(&id)
        .is_ok_and(|opener| request.caller.is_or_administers(&opener));
    if !is_own {
        return Err(change_problem(&ChangeError::Unknown(id)));
    }
    let (changed, gap) = hub
        .change_subscriptions(
            &id,
            SubscriptionChange {
                event_types: event_types.take().map(|mut types| {
                    types.append(&mut wire::short_job_names(&types));
                    types
                }),
                topics,
                exact_topics,
                last_event_id: change.last_event_id,
            },
        )
        .await
        .map_err(|error| change_problem(&error))?;
    let event_types = labels(&changed);
    json(&ChangedJson {
        status: "subscribed",
        connection_id,
        subscriptions: event_types.clone(),
        event_types,
        topics: topics_of(&changed),
        project_id: change.project_id,
        gap: gap.is_some(),
        gap_reason: gap.map(|gap| gap.reason.as_str()),
    })
}

/// The problem for a change that was not made.
pub(super) fn change_problem(error: &ChangeError) -> Problem {
    match error {
        ChangeError::Unknown(_) => Problem::not_found(error.to_string()),
        ChangeError::Interest(error) => {
            let mut problem = stream::invalid_interest(error);
            // As the fields of a message are called, and not the parameters of a query.
            let name = match (error, problem.field.as_deref()) {
                (InvalidInterest::TooMany { .. }, Some("topic")) => "topics",
                (
                    InvalidInterest::TooMany { .. } | InvalidInterest::EventTypeNotAllowed { .. },
                    _,
                ) => "event_types",
                _ => return problem,
            };
            let detail = error.to_string();
            problem.field = Some(name.to_owned());
            problem.detail = format!("{name}: {detail}");
            problem
        }
        ChangeError::Read(error) => Problem::unavailable(error.to_string(), REFUSED_RETRY_AFTER),
    }
}

/// The event types a selector lets through; none means all.
pub(super) fn labels(selector: &Selector) -> Vec<String> {
    selector
        .labels
        .iter()
        .flat_map(|labels| labels.iter())
        .map(ToString::to_string)
        .collect()
}

/// The topics a selector names; none means every public one.
pub(super) fn topics_of(selector: &Selector) -> Vec<String> {
    match &selector.topics {
        TopicFilter::All => Vec::new(),
        TopicFilter::Topics { exact, patterns } => {
            let patterns = patterns.iter().map(|pattern| pattern.as_str().to_owned());
            exact
                .iter()
                .map(ToString::to_string)
                .chain(patterns)
                .collect()
        }
    }
}
