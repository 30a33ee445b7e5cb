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

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use sse_broker::UnixMillis;
use sse_pool::{ConnectionId, Routed};
use sse_protocol::message::{Message, MessageEvent};

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
    /// How far it is: `progress` of `total`, or percent when no total is known.
    pub progress: Number,
    /// How much there is to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Number>,
    /// The latest message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The latest values of whatever else was reported with progress: `current_item`, `step`, …
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
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
    /// How much there is to do.
    pub total: Option<Number>,
}

/// Something that happens to a job.
#[derive(Clone, Debug)]
pub enum JobChange {
    /// It has come further, or has something to say.
    Progress(Progress),
    /// It is done.
    Complete {
        /// What came of it.
        result: Value,
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
    pub details: Map<String, Value>,
}

/// Who may have a job's events may see the job: it is looked at as an event of its topic.
impl Routed for Job {
    fn topics(&self) -> impl Iterator<Item = &str> {
        self.topic.as_deref().into_iter()
    }

    fn owners(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
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
    /// A job that has just been created.
    #[must_use]
    pub fn new(job_id: String, new: NewJob, now: UnixMillis) -> Self {
        let at = rfc3339(now);
        Self {
            job_id,
            status: JobState::Pending,
            title: new.title,
            topic: new.topic,
            progress: Number::from(0),
            total: new.total,
            message: None,
            details: Map::new(),
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
    pub fn apply(&self, change: JobChange, now: UnixMillis) -> Result<(Self, Message), JobEnded> {
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
                    && reported.details.contains_key("educational_content");
                job.progress = reported.progress.unwrap_or(job.progress);
                job.total = reported.total.or(job.total);
                job.message = reported.message.or(job.message);
                for (key, value) in &reported.details {
                    job.details.insert(key.clone(), value.clone());
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
                (MessageEvent::Complete, Map::new())
            }
            JobChange::Error { error, message } => {
                job.status = JobState::Error;
                job.message = message.or(job.message);
                job.error = Some(error);
                (MessageEvent::Error, Map::new())
            }
            JobChange::Cancel { message } => {
                job.status = JobState::Cancelled;
                job.message = message.or(job.message);
                (MessageEvent::Status, Map::new())
            }
        };
        let message = job.message(kind, reported);
        Ok((job, message))
    }

    /// The event that shows the whole job to a reader that has just come: `complete` or `error`
    /// when it has ended so, that a reader who waits for the end hears of it, and else `status`.
    #[must_use]
    pub fn snapshot_event(&self) -> Message {
        let kind = match self.status {
            JobState::Completed => MessageEvent::Complete,
            JobState::Error => MessageEvent::Error,
            JobState::Pending | JobState::InProgress | JobState::Cancelled => MessageEvent::Status,
        };
        self.message(kind, self.details.clone())
    }

    /// What is told of it, with these details; they never overwrite what is the job's own.
    fn message(&self, kind: MessageEvent, details: Map<String, Value>) -> Message {
        let own = |key: &str| OWN_KEYS.contains(&key);
        let mut message = Message::new(kind, self.updated_at.clone());
        for (key, value) in details.into_iter().filter(|(key, _)| !own(key)) {
            if key == "step" && !value.is_number() {
                // The envelope's step is a number; a reporter's may be anything.
                message.data.extra.insert(key, value);
            } else {
                message = message.with(key, value);
            }
        }
        message = message
            .with("job_id", self.job_id.clone())
            .with("status", self.status.as_str())
            .with_progress(self.progress.clone());
        if let Some(total) = &self.total {
            message = message.with("total", total.clone());
        }
        if let Some(title) = &self.title {
            message = message.with("title", title.clone());
        }
        if let Some(text) = &self.message {
            message = message.with_message(text.clone());
        }
        if let Some(error) = &self.error {
            message = message.with_error(error.clone());
        }
        if let Some(result) = &self.result {
            message = message.with("result", result.clone());
        }
        message
    }
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
mod tests {
    use super::*;

    fn job() -> Job {
        Job::new(
            "42".into(),
            NewJob {
                total: Some(10.into()),
                ..NewJob::default()
            },
            0,
        )
    }

    fn progress(n: u64) -> JobChange {
        JobChange::Progress(Progress {
            progress: Some(n.into()),
            message: Some("working".into()),
            ..Progress::default()
        })
    }

    fn data(message: &Message) -> Value {
        serde_json::from_str(&message.data.to_json()).unwrap()
    }

    #[test]
    fn a_job_goes_from_pending_over_progress_to_its_end() {
        let (job, event) = job().apply(progress(3), 1_705_314_600_000).unwrap();
        assert_eq!(
            (job.status, event.event),
            (JobState::InProgress, MessageEvent::Progress)
        );
        assert_eq!(
            data(&event),
            serde_json::json!({"job_id": "42", "status": "in_progress", "progress": 3, "total": 10,
                "message": "working", "timestamp": "2024-01-15T10:30:00Z"})
        );
        let (job, event) = job
            .apply(
                JobChange::Complete {
                    result: serde_json::json!({"url": "/x"}),
                    message: None,
                },
                0,
            )
            .unwrap();
        assert_eq!(
            (job.status, job.progress, event.event),
            (JobState::Completed, 10.into(), MessageEvent::Complete)
        );
        assert_eq!(data(&event)["result"]["url"], "/x");
    }

    #[test]
    fn a_job_that_has_ended_takes_no_more() {
        let (job, event) = job().apply(JobChange::Cancel { message: None }, 0).unwrap();
        assert_eq!(
            (event.event, data(&event)["status"].as_str()),
            (MessageEvent::Status, Some("cancelled"))
        );
        assert_eq!(
            job.apply(progress(4), 0),
            Err(JobEnded(JobState::Cancelled))
        );
    }

    #[test]
    fn the_snapshot_of_an_ended_job_is_its_last_event() {
        let (job, _) = job()
            .apply(
                JobChange::Error {
                    error: "no disk".into(),
                    message: None,
                },
                0,
            )
            .unwrap();
        let snapshot = job.snapshot_event();
        assert_eq!(
            (snapshot.event, snapshot.data.error.as_deref()),
            (MessageEvent::Error, Some("no disk"))
        );
    }

    #[test]
    fn educational_content_alone_is_an_educational_event() {
        let mut details = Map::new();
        details.insert(
            "educational_content".into(),
            serde_json::json!({"title": "Did you know"}),
        );
        let (_, event) = job()
            .apply(
                JobChange::Progress(Progress {
                    details,
                    ..Progress::default()
                }),
                0,
            )
            .unwrap();
        assert_eq!(event.event, MessageEvent::Educational);
    }

    #[test]
    fn details_never_overwrite_the_job_itself() {
        let mut details = Map::new();
        details.insert("job_id".into(), "forged".into());
        let (_, event) = job()
            .apply(
                JobChange::Progress(Progress {
                    details,
                    ..Progress::default()
                }),
                0,
            )
            .unwrap();
        assert_eq!(data(&event)["job_id"], "42");
    }

    #[test]
    fn numbers_and_steps_are_told_as_they_were_reported() {
        let exact = 9_007_199_254_740_993_u64;
        let mut reported = Progress {
            progress: Some(exact.into()),
            ..Progress::default()
        };
        reported.details.insert("step".into(), "2 of 5".into());
        let (job, event) = job().apply(JobChange::Progress(reported), 0).unwrap();
        assert_eq!(data(&event)["progress"], exact);
        assert_eq!(data(&event)["step"], "2 of 5");
        let stored = serde_json::to_vec(&job).unwrap();
        assert_eq!(serde_json::from_slice::<Job>(&stored).unwrap(), job);
    }
}
