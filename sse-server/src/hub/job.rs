//! One long-running job: what it is, and what may happen to it.
//!
//! ```text
//!             progress            complete
//!   Pending ───────────▶ InProgress ────────▶ Completed
//!      │                     │  └── error ──▶ Error
//!      └────── cancel ───────┴── cancel ────▶ Cancelled
//! ```
//!
//! A job that has ended takes no more. `complete`, `error` and `cancel` are possible from `Pending`
//! too: short jobs need no progress.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Number;
use sse_broker::{Topic, UnixMillis};
use sse_pool::{ConnectionId, Routed};
use sse_protocol::message::MessageEvent;
use sse_protocol::{Event, EventType};

use super::job_details::Details;
use super::json_text::JsonText;
use crate::clock::rfc3339;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Created, not begun.
    Pending,
    /// Progress was reported.
    InProgress,
    /// Ended with a result.
    Completed,
    /// Ended on request.
    Cancelled,
    /// Ended with an error.
    Error,
}

impl JobState {
    /// Whether nothing more can happen to the job.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Error)
    }

    /// The state's name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }
}

/// A job and all that is known of it, as `GET /jobs/{id}` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub job_id: String,
    /// Where it stands.
    pub status: JobState,
    /// What it is called for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A topic of the publisher's choice that gets the job's events too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The user whose it is: its topic `user/…`, written as the name alone.
    #[serde(
        rename = "user_id",
        default,
        skip_serializing_if = "Option::is_none",
        with = "owner::user"
    )]
    pub(crate) user_topic: Option<Topic>,
    /// The session whose it is, in the same way.
    #[serde(
        rename = "session_id",
        default,
        skip_serializing_if = "Option::is_none",
        with = "owner::session"
    )]
    pub(crate) session_topic: Option<Topic>,
    /// How far it is: `progress` of `total`, or percent when no total is known.
    pub progress: Number,
    /// How much there is to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Number>,
    /// The latest message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The latest values of whatever else was reported with progress: `current_item`, `step`, …
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonText>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was created.
    pub created_at: String,
    /// When something last happened to it.
    pub updated_at: String,
    /// Counts what happened to it; poll with `after=` this to wait for the next change.
    pub version: u64,
}

/// What a job begins with.
#[derive(Clone, Debug, Default)]
pub struct NewJob {
    /// Its name; one is made when none is given.
    pub job_id: Option<String>,
    /// What it is called for people.
    pub title: Option<String>,
    /// A topic that gets its events, besides `job/{job_id}`.
    pub topic: Option<String>,
    /// The user whose it is, as a topic `user/…`: then only that user has its events and sees it, and whoever administers the hub.
    pub user_topic: Option<Topic>,
    /// The same for a session, `session/…`. Where both are given, both must be the reader's.
    pub session_topic: Option<Topic>,
    /// How much there is to do.
    pub total: Option<Number>,
}

/// An owner's topic as the name alone, which is what JSON shows.
mod owner {
    macro_rules! of {
        ($module:ident, $prefix:literal) => {
            pub(super) mod $module {
                use serde::{Deserialize, Deserializer, Serializer, de};
                use sse_broker::Topic;

                pub(in super::super) fn serialize<S: Serializer>(
                    topic: &Option<Topic>,
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    let name = topic.as_ref().and_then(|topic| topic.under($prefix));
                    serializer.serialize_some(name.unwrap_or_default())
                }

                pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Option<Topic>, D::Error> {
                    let name = Option::<String>::deserialize(deserializer)?;
                    let topic = name.map(|name| Topic::new(format!("{}/{name}", $prefix)));
                    topic.transpose().map_err(de::Error::custom)
                }
            }
        };
    }
    of!(user, "user");
    of!(session, "session");
}

/// Something that happens to a job.
#[derive(Clone, Debug)]
pub enum JobChange {
    /// It has come further, or has something to say.
    Progress(Progress),
    /// It is done.
    Complete {
        /// What came of it.
        result: JsonText,
        /// A note for people.
        message: Option<String>,
    },
    /// It has failed.
    Error {
        /// What went wrong.
        error: String,
        /// A note for people.
        message: Option<String>,
    },
    /// Someone wants it to stop.
    Cancel {
        /// A note for people.
        message: Option<String>,
    },
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// How far: of the total, or percent.
    pub progress: Option<Number>,
    /// How much there is to do, when that is known only now.
    pub total: Option<Number>,
    /// A note for people.
    pub message: Option<String>,
    /// Whatever else is to be shown: `step`, `current_item`, `educational_content`, …
    pub details: Details,
}

/// A job as its events are, by which it is decided who may see it: with their topics and their owners, and of any type.
pub(crate) struct AsEvent<'a> {
    own: String,
    job: &'a Job,
}

impl Routed for AsEvent<'_> {
    fn topics(&self) -> impl Iterator<Item = &str> {
        let chosen = self.job.topic.as_deref();
        std::iter::once(&*self.own)
            .chain(chosen)
            .chain(self.owners())
    }

    fn owners(&self) -> impl Iterator<Item = &str> {
        self.job.owner_topics().map(Topic::as_str)
    }

    fn needs_grant(&self) -> bool {
        false
    }

    fn is_addressed(&self) -> bool {
        false
    }

    fn is_addressed_to(&self, _id: &ConnectionId) -> bool {
        false
    }

    fn label(&self) -> Option<&str> {
        None
    }
}

/// A job that has ended takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job has ended ({}) and takes no more", .0.as_str())]
pub struct JobEnded(pub JobState);

impl JobChange {
    /// The type of the event that tells it.
    #[must_use]
    pub fn event_name(&self) -> &'static str {
        let event = match self {
            Self::Progress(_) => MessageEvent::Progress,
            Self::Complete { .. } => MessageEvent::Complete,
            Self::Error { .. } => MessageEvent::Error,
            Self::Cancel { .. } => MessageEvent::Status,
        };
        event.as_str()
    }
}

impl Job {
    /// The topics of the user and the session whose it is.
    pub fn owner_topics(&self) -> impl Iterator<Item = &Topic> {
        self.user_topic.iter().chain(&self.session_topic)
    }

    /// It, as its events are.
    pub(crate) fn as_event(&self) -> AsEvent<'_> {
        AsEvent {
            own: format!("job/{}", self.job_id),
            job: self,
        }
    }

    /// Whether it is somebody's in particular.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.owner_topics().next().is_some()
    }

    /// What it takes in memory: texts and JSON, and what surrounds them.
    pub(crate) fn memory_bytes(&self) -> usize {
        let texts = [&self.title, &self.topic, &self.message, &self.error];
        let texts = texts.into_iter().flatten().chain([&self.job_id]);
        size_of::<Self>()
            + texts.map(String::capacity).sum::<usize>()
            + self
                .owner_topics()
                .map(|it| it.as_str().len())
                .sum::<usize>()
            + self.details.memory_bytes()
            + self.result.as_ref().map_or(0, JsonText::memory_bytes)
    }

    /// A job that has just been created.
    #[must_use]
    pub fn new(job_id: String, new: NewJob, now: UnixMillis) -> Self {
        let at = rfc3339(now);
        Self {
            job_id,
            status: JobState::Pending,
            title: new.title,
            topic: new.topic,
            user_topic: new.user_topic,
            session_topic: new.session_topic,
            progress: Number::from(0),
            total: new.total,
            message: None,
            details: Details::default(),
            result: None,
            error: None,
            created_at: at.clone(),
            updated_at: at,
            version: 1,
        }
    }

    /// The job after `change`, and the event that tells of it.
    ///
    /// # Errors
    ///
    /// When the job has ended already.
    pub fn apply(&self, change: JobChange, now: UnixMillis) -> Result<(Self, JobEvent), JobEnded> {
        if self.status.has_ended() {
            return Err(JobEnded(self.status));
        }
        let mut job = self.clone();
        job.version += 1;
        job.updated_at = rfc3339(now);
        let (kind, reported) = match change {
            JobChange::Progress(reported) => {
                job.status = JobState::InProgress;
                let only_teaches = reported.progress.is_none()
                    && reported.details.get("educational_content").is_some();
                job.progress = reported.progress.unwrap_or(job.progress);
                job.total = reported.total.or(job.total);
                job.message = reported.message.or(job.message);
                for (name, json) in reported.details.iter() {
                    job.details.insert(name, json.clone());
                }
                (
                    if only_teaches {
                        MessageEvent::Educational
                    } else {
                        MessageEvent::Progress
                    },
                    reported.details,
                )
            }
            JobChange::Complete { result, message } => {
                job.status = JobState::Completed;
                job.progress = job.total.clone().unwrap_or_else(|| Number::from(100));
                job.message = message.or(job.message);
                job.result = Some(result);
                (MessageEvent::Complete, Details::default())
            }
            JobChange::Error { error, message } => {
                job.status = JobState::Error;
                job.message = message.or(job.message);
                job.error = Some(error);
                (MessageEvent::Error, Details::default())
            }
            JobChange::Cancel { message } => {
                job.status = JobState::Cancelled;
                job.message = message.or(job.message);
                (MessageEvent::Status, Details::default())
            }
        };
        let event = job.event(kind, &reported);
        Ok((job, event))
    }

    /// Whether it can be so far: not before its beginning, and not beyond its end.
    ///
    /// # Errors
    ///
    /// When its progress or total is negative, or its progress is more than its total.
    pub fn check_progress(&self) -> Result<(), InvalidProgress> {
        let zero = Number::from(0);
        if is_less(&self.progress, &zero) {
            return Err(InvalidProgress::Negative("progress"));
        }
        match &self.total {
            Some(total) if is_less(total, &zero) => Err(InvalidProgress::Negative("total")),
            Some(total) if is_less(total, &self.progress) => Err(InvalidProgress::BeyondTotal {
                progress: self.progress.clone(),
                total: total.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The event that tells of a job that was created.
    #[must_use]
    pub fn created_event(&self) -> JobEvent {
        self.event(MessageEvent::Status, &self.details)
    }

    /// The event that shows the whole job to a reader that has just come and wants events of these types; none named means all.
    /// It is `complete` or `error` when the job has ended so, that a reader who waits for the end hears of it, and else `status`,
    /// or `progress` for a reader that wants only that. `None` when the reader wants no such event.
    #[must_use]
    pub fn snapshot_event(&self, types: &[String]) -> Option<JobEvent> {
        let kinds: &[MessageEvent] = match self.status {
            JobState::Completed => &[MessageEvent::Complete],
            JobState::Error => &[MessageEvent::Error],
            JobState::InProgress => &[MessageEvent::Status, MessageEvent::Progress],
            JobState::Pending | JobState::Cancelled => &[MessageEvent::Status],
        };
        let is_wanted =
            |kind: &&MessageEvent| types.is_empty() || types.iter().any(|it| it == kind.as_str());
        let kind = kinds.iter().find(is_wanted)?;
        Some(self.event(*kind, &self.details))
    }

    fn event(&self, kind: MessageEvent, details: &Details) -> JobEvent {
        let data = EventData { job: self, details };
        JobEvent {
            kind,
            data: serde_json::to_string(&data).expect("a job is text, numbers and JSON"),
        }
    }
}

/// A job cannot be so far.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidProgress {
    /// It cannot be said in JSON.
    #[error("the progress is not a finite number")]
    NotANumber,
    /// One of the two is below zero.
    #[error("{0} must not be negative")]
    Negative(&'static str),
    /// More is done than there is.
    #[error("progress is {progress}, and must be at most total, which is {total}")]
    BeyondTotal {
        /// How much is done.
        progress: Number,
        /// How much there is.
        total: Number,
    },
}

/// Whole numbers are compared exactly, also where a fraction could not hold them.
fn is_less(a: &Number, b: &Number) -> bool {
    let whole = |number: &Number| match (number.as_u64(), number.as_i64()) {
        (Some(whole), _) => Some(i128::from(whole)),
        (_, whole) => whole.map(i128::from),
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64().unwrap_or(f64::NAN) < b.as_f64().unwrap_or(f64::NAN),
    }
}

/// What readers are told of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// What happened.
    pub kind: MessageEvent,
    /// The `data` of the standard envelope, as JSON.
    pub data: String,
}

impl JobEvent {
    /// The event that is published.
    #[must_use]
    pub fn into_event(self) -> Event {
        Event::new(self.data).with_type(EventType::from(self.kind))
    }
}

/// The fields of the standard envelope in its order, then the others. The details never overwrite what is the job's own.
struct EventData<'a> {
    job: &'a Job,
    details: &'a Details,
}

impl Serialize for EventData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { job, details } = self;
        // The envelope's step is a number; a reporter's may be anything.
        let step = details.get("step").filter(|step| step.is_number());
        let lesson = details.get("educational_content");
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "step", step)?;
        entry(&mut map, "progress", Some(&job.progress))?;
        entry(&mut map, "message", job.message.as_ref())?;
        entry(&mut map, "educational_content", lesson)?;
        entry(&mut map, "error", job.error.as_ref())?;
        entry(&mut map, "timestamp", Some(&job.updated_at))?;
        for (name, json) in details.iter() {
            let is_told = match name {
                "step" => step.is_some(),
                "educational_content" => true,
                name => OWN_KEYS.contains(&name),
            };
            entry(&mut map, name, (!is_told).then_some(json))?;
        }
        entry(&mut map, "job_id", Some(&job.job_id))?;
        entry(&mut map, "status", Some(job.status.as_str()))?;
        entry(&mut map, "total", job.total.as_ref())?;
        entry(&mut map, "title", job.title.as_ref())?;
        entry(&mut map, "result", job.result.as_ref())?;
        map.end()
    }
}

fn entry<M: SerializeMap>(
    map: &mut M,
    name: &str,
    value: Option<&(impl Serialize + ?Sized)>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, value))
}

/// What a job says of itself, whatever its reporter puts beside it.
const OWN_KEYS: [&str; 9] = [
    "job_id",
    "status",
    "progress",
    "total",
    "title",
    "message",
    "error",
    "result",
    "timestamp",
];

#[cfg(test)]
mod tests;
