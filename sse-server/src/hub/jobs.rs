//! The jobs that are known, as a projection of the log.
//!
//! Every change of a job is one record: the event for readers, and the job's new state as the snapshot
//! of its topic, in one commit. The map below is filled by the tail alone, in the log's order, so it
//! is the same after a restart, and the same as what readers were told. A change is computed from the
//! state before it, so changes of one job take turns; jobs do not wait for each other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use sse_broker::{Audience, DataKind, NewRecord, Offset, Record, Snapshot, Topic, UnixMillis};
use sse_protocol::message::{Message, MessageEvent};
use tokio::sync::{Notify, Semaphore};

use super::job::{InvalidProgress, Job, JobChange, JobEnded, JobEvent, JobState, NewJob};
use super::job_details::Details;
use super::{Hub, PublishError};
use crate::access::budget::{Account, NoMemory};
use crate::clock;
use crate::units::Quoted;

/// Why a job could not be created or changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// There is no such job.
    #[error("there is no job {}", Quoted(.0))]
    Unknown(String),
    /// There is one with this name already.
    #[error("there is a job {} already", Quoted(.0))]
    Exists(String),
    /// The name cannot be part of a topic.
    #[error(
        "{} cannot be a job's id: it needs 1 to 128 bytes without control characters, `/`, or blanks around it",
        Quoted(.0)
    )]
    InvalidId(String),
    /// The job's own topic is not a valid one.
    #[error("the job's topic is not a valid one: {0}")]
    InvalidTopic(#[from] sse_broker::InvalidTopic),
    /// It cannot be so far.
    #[error(transparent)]
    InvalidProgress(#[from] InvalidProgress),
    /// It has ended.
    #[error(transparent)]
    Ended(#[from] JobEnded),
    /// Its state would be larger than it may be.
    #[error("the job's state would have {bytes} bytes, and may have {max} at most")]
    TooLarge {
        /// How much it would have.
        bytes: usize,
        /// How much it may have.
        max: usize,
    },
    /// It would have more details than it may.
    #[error("the job would have {0} details, and may have {max} at most", max = Details::MAX)]
    TooManyDetails(usize),
    /// There is no memory left for it.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// As many jobs as there may be are under way.
    #[error("there is no room for another job: {0} are under way, and no more may be")]
    TooMany(usize),
    /// The change could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// How many jobs there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobCounts {
    /// All that are remembered.
    pub total: usize,
    /// Created, not begun.
    pub pending: usize,
    /// Under way.
    pub in_progress: usize,
    /// Ended with a result.
    pub completed: usize,
    /// Ended because someone wished so.
    pub cancelled: usize,
    /// Ended with an error.
    pub error: usize,
}

pub(super) struct Jobs {
    max: usize,
    max_bytes: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    slots: HashMap<String, Slot>,
    /// Names whose first record is on its way.
    beginning: HashSet<String>,
    /// Ended jobs in the order of their ends: the first to be forgotten stands in front.
    ended: VecDeque<String>,
    counts: JobCounts,
    /// What the states of all of them take.
    bytes: usize,
}

struct Slot {
    job: Arc<Job>,
    /// What its state takes.
    bytes: usize,
    /// Where the record stands that made the job what it is.
    offset: Offset,
    turn: Arc<Semaphore>,
    changed: Arc<Notify>,
}

impl JobCounts {
    fn of(&mut self, state: JobState) -> &mut usize {
        match state {
            JobState::Pending => &mut self.pending,
            JobState::InProgress => &mut self.in_progress,
            JobState::Completed => &mut self.completed,
            JobState::Cancelled => &mut self.cancelled,
            JobState::Error => &mut self.error,
        }
    }
}

impl Table {
    fn put(&mut self, job: Job, offset: Offset) -> Option<Arc<Notify>> {
        let bytes = job.memory_bytes() + SLOT_BYTES;
        self.bytes += bytes;
        self.beginning.remove(&job.job_id);
        let state = job.status;
        *self.counts.of(state) += 1;
        if state.has_ended() {
            self.ended.push_back(job.job_id.clone());
        }
        if let Some(slot) = self.slots.get_mut(&job.job_id) {
            let before = slot.job.status;
            *self.counts.of(before) -= 1;
            self.bytes -= slot.bytes;
            slot.job = Arc::new(job);
            slot.bytes = bytes;
            slot.offset = offset;
            return Some(Arc::clone(&slot.changed));
        }
        self.counts.total += 1;
        let slot = Slot {
            turn: Arc::new(Semaphore::new(1)),
            changed: Arc::new(Notify::new()),
            offset,
            bytes,
            job: Arc::new(job),
        };
        self.slots.insert(slot.job.job_id.clone(), slot);
        None
    }

    /// The job that was created longest ago of those that never began, if that is long ago.
    fn oldest_pending(&self, now: UnixMillis, but_not: &[String]) -> Option<String> {
        let before = clock::rfc3339(now.saturating_sub(PENDING_EXPIRY_MILLIS));
        let pending = self.slots.values().map(|slot| &slot.job).filter(|job| {
            job.status == JobState::Pending
                && job.updated_at < before
                && !but_not.contains(&job.job_id)
        });
        let oldest = pending.min_by(|a, b| a.updated_at.cmp(&b.updated_at))?;
        Some(oldest.job_id.clone())
    }

    /// An ended job is not forgotten after all.
    fn restore(&mut self, job_id: String) {
        let has_ended = |slot: &Slot| slot.job.status.has_ended();
        if self.slots.get(&job_id).is_some_and(has_ended) {
            self.ended.push_front(job_id);
        }
    }

    fn remove(&mut self, job_id: &str) {
        if let Some(slot) = self.slots.remove(job_id) {
            self.counts.total -= 1;
            self.bytes -= slot.bytes;
            *self.counts.of(slot.job.status) -= 1;
            self.ended.retain(|ended| ended != job_id);
        }
    }
}

impl Jobs {
    /// The jobs as the log remembers them. A snapshot that cannot be read is left out and logged, and so are the oldest ones
    /// where all of them take more memory than there is for jobs.
    pub(super) fn new(max: usize, max_bytes: usize, snapshots: Vec<(Topic, Bytes)>) -> Self {
        let mut states: Vec<(usize, Job)> = Vec::new();
        for (topic, state) in snapshots {
            match serde_json::from_slice::<Job>(&state) {
                Ok(job) => states.push((job.memory_bytes(), job)),
                Err(error) => tracing::error!(%topic, %error, "a job's snapshot cannot be read"),
            }
        }
        // The newest are kept, and stand in the order in which they were changed.
        states.sort_by(|(_, a), (_, b)| b.updated_at.cmp(&a.updated_at));
        let total = states.len();
        let mut left = max_bytes;
        states.retain(|(bytes, _)| {
            let fits = bytes + SLOT_BYTES <= left;
            left = left.saturating_sub(bytes + SLOT_BYTES);
            fits
        });
        if states.len() < total {
            let forgotten = total - states.len();
            tracing::warn!(
                forgotten,
                "there is not enough memory for all jobs: the oldest are forgotten"
            );
        }
        let mut table = Table::default();
        for (_, job) in states.into_iter().rev() {
            table.put(job, 0);
        }
        Self {
            max,
            max_bytes,
            table: Mutex::new(table),
        }
    }

    /// What the states of all jobs take.
    pub(super) fn bytes(&self) -> usize {
        self.table.lock().bytes
    }

    /// The offsets were another log's: nobody's stream is taken to have what comes next.
    pub(super) fn forget_offsets(&self) {
        for slot in self.table.lock().slots.values_mut() {
            slot.offset = 0;
        }
    }

    /// Takes over what was committed; called by the tail.
    pub(super) fn observe(&self, records: &[Arc<Record>]) {
        for record in records {
            let Some(snapshot) = &record.content.snapshot else {
                continue;
            };
            let Some(job_id) = record
                .content
                .topics
                .first()
                .and_then(|topic| topic.under("job"))
            else {
                continue;
            };
            let changed = match snapshot {
                Snapshot::Put(bytes) => match serde_json::from_slice::<Job>(bytes) {
                    Ok(job) => {
                        let mut table = self.table.lock();
                        table.put(job, record.position.offset)
                    }
                    Err(error) => {
                        tracing::error!(job_id, %error, "a job's snapshot cannot be read");
                        None
                    }
                },
                Snapshot::Remove => {
                    self.table.lock().remove(job_id);
                    None
                }
            };
            if let Some(changed) = changed {
                changed.notify_waiters();
            }
        }
    }
}

impl Hub {
    /// Creates a job; its events go to the topic `job/{job_id}` and to one of its own, if it has one.
    ///
    /// # Errors
    ///
    /// When the name is taken or cannot be one, when too many jobs are under way, or when it could
    /// not be published.
    pub async fn create_job(&self, new: NewJob) -> Result<Arc<Job>, JobError> {
        let job_id = new
            .job_id
            .clone()
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        check_job_id(&job_id)?;
        let now = clock::unix_millis();
        let job = Job::new(job_id.clone(), new, now);
        job.check_progress()?;
        let (mut records, forgotten) = self.make_room(&job_id, now)?;
        let record = job_record(&job, job.created_event(), now);
        let appended = match record.and_then(|record| self.check_job_size(&job, record)) {
            Ok(record) => {
                records.push(record);
                self.append(records).await.map_err(JobError::from)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = appended {
            self.give_room_back(&job_id, forgotten);
            return Err(error);
        }
        Ok(Arc::new(job))
    }

    /// A place for a new job, and the records that forget others for it: ended ones first, the oldest in front, then those that
    /// were created long ago and never begun.
    fn make_room(
        &self,
        job_id: &str,
        now: UnixMillis,
    ) -> Result<(Vec<NewRecord>, Vec<String>), JobError> {
        let jobs = &self.inner.jobs;
        let mut table = jobs.table.lock();
        if table.slots.contains_key(job_id) || !table.beginning.insert(job_id.to_owned()) {
            return Err(JobError::Exists(job_id.to_owned()));
        }
        let mut forgotten = Vec::new();
        let mut bytes = table.bytes + self.inner.config.max_job_bytes;
        let mut count = table.slots.len() + table.beginning.len();
        while count > jobs.max || bytes > jobs.max_bytes {
            let oldest = table.ended.pop_front();
            let Some(oldest) = oldest.or_else(|| table.oldest_pending(now, &forgotten)) else {
                table.beginning.remove(job_id);
                for ended in forgotten.into_iter().rev() {
                    table.restore(ended);
                }
                if count > jobs.max {
                    return Err(JobError::TooMany(jobs.max));
                }
                let wanted = self.inner.config.max_job_bytes;
                return Err(self.inner.budget.exhausted(Account::Jobs, wanted).into());
            };
            bytes -= table.slots.get(&oldest).map_or(0, |slot| slot.bytes);
            count -= 1;
            forgotten.push(oldest);
        }
        drop(table);
        Ok((self.forget_records(&forgotten, now), forgotten))
    }

    /// Forgets a job, whatever its state: its readers are told, and its snapshot goes. A change that is under way comes first, so
    /// that it does not bring the job back.
    pub(super) async fn forget_job(&self, job_id: &str) -> Result<(), JobError> {
        let turn = {
            let table = self.inner.jobs.table.lock();
            table.slots.get(job_id).map(|slot| Arc::clone(&slot.turn))
        };
        let Some(turn) = turn else { return Ok(()) };
        let Ok(_turn) = turn.acquire().await else {
            return Ok(());
        };
        let records = self.forget_records(&[job_id.to_owned()], clock::unix_millis());
        self.append(records).await?;
        Ok(())
    }

    fn forget_records(&self, job_ids: &[String], now: UnixMillis) -> Vec<NewRecord> {
        let owners = |job_id: &str| {
            let job = self.job(job_id)?;
            Some(job.owner_topics().cloned().collect())
        };
        let record = |id: &String| forget_record(id, owners(id).unwrap_or_default(), now);
        job_ids.iter().map(record).collect()
    }

    /// Nothing was created, and nothing forgotten after all.
    fn give_room_back(&self, job_id: &str, forgotten: Vec<String>) {
        let mut table = self.inner.jobs.table.lock();
        table.beginning.remove(job_id);
        for ended in forgotten.into_iter().rev() {
            table.restore(ended);
        }
    }

    /// Lets something happen to a job and tells its readers.
    ///
    /// # Errors
    ///
    /// When there is no such job, it has ended, or the change could not be published.
    pub async fn change_job(&self, job_id: &str, change: JobChange) -> Result<Arc<Job>, JobError> {
        let unknown = || JobError::Unknown(job_id.to_owned());
        let turn = {
            let table = self.inner.jobs.table.lock();
            Arc::clone(&table.slots.get(job_id).ok_or_else(unknown)?.turn)
        };
        let _turn = turn.acquire().await.map_err(|_| unknown())?;
        let job = self.job(job_id).ok_or_else(unknown)?;
        let now = clock::unix_millis();
        let (job, event) = job.apply(change, now)?;
        job.check_progress()?;
        let record = self.check_job_size(&job, job_record(&job, event, now)?)?;
        let forgotten = self.make_room_for_state(&job)?;
        let mut records = self.forget_records(&forgotten, now);
        records.push(record);
        if let Err(error) = self.append(records).await {
            self.give_room_back(job_id, forgotten);
            return Err(error.into());
        }
        Ok(Arc::new(job))
    }

    /// Room for a job's new state: ended jobs are forgotten for it, the oldest first. One that ends is taken in any case.
    fn make_room_for_state(&self, job: &Job) -> Result<Vec<String>, NoMemory> {
        let jobs = &self.inner.jobs;
        let state_bytes = job.memory_bytes();
        let mut table = jobs.table.lock();
        let mut forgotten = Vec::new();
        let mut bytes = table.bytes + state_bytes;
        while bytes > jobs.max_bytes {
            let Some(oldest) = table.ended.pop_front() else {
                if job.status.has_ended() {
                    break;
                }
                for ended in forgotten.into_iter().rev() {
                    table.restore(ended);
                }
                return Err(self.inner.budget.exhausted(Account::Jobs, state_bytes));
            };
            bytes -= table.slots.get(&oldest).map_or(0, |slot| slot.bytes);
            forgotten.push(oldest);
        }
        Ok(forgotten)
    }

    /// Refuses a change that is larger than an event may be, and one that lets the job outgrow its bound little by little. The
    /// end of a job may find it as large as it was: it can always be ended.
    fn check_job_size(&self, job: &Job, record: NewRecord) -> Result<NewRecord, JobError> {
        if job.details.len() > Details::MAX {
            return Err(JobError::TooManyDetails(job.details.len()));
        }
        let config = &self.inner.config;
        let bytes = record.event.data.len();
        if bytes > config.max_event_bytes {
            let max = config.max_event_bytes;
            return Err(PublishError::TooLarge { bytes, max }.into());
        }
        let state_bytes = state_bytes(&record);
        let max = config.max_job_bytes;
        // What ends a job carries a result, and that has the same bound.
        let max = if job.status.has_ended() { 2 * max } else { max };
        // JSON of many small values takes many times its text, and two jobs must find room.
        let (in_memory, max_in_memory) = (job.memory_bytes(), self.inner.jobs.max_bytes / 4);
        let max_in_memory = match job.status.has_ended() {
            true => 2 * max_in_memory,
            false => max_in_memory,
        };
        for (bytes, max) in [(state_bytes, max), (in_memory, max_in_memory)] {
            if bytes > max {
                return Err(JobError::TooLarge { bytes, max });
            }
        }
        Ok(record)
    }

    /// Answers everyone who waits for a job: the hub is leaving.
    pub(super) fn wake_job_waiters(&self) {
        let waiting: Vec<_> = {
            let table = self.inner.jobs.table.lock();
            let changed = table.slots.values().map(|slot| &slot.changed);
            changed.map(Arc::clone).collect()
        };
        waiting.iter().for_each(|changed| changed.notify_waiters());
    }

    /// The job of this name.
    #[must_use]
    pub fn job(&self, job_id: &str) -> Option<Arc<Job>> {
        self.inner
            .jobs
            .table
            .lock()
            .slots
            .get(job_id)
            .map(|slot| Arc::clone(&slot.job))
    }

    /// The job and the offset of the record that made it what it is.
    pub(crate) fn job_at(&self, job_id: &str) -> Option<(Arc<Job>, Offset)> {
        let table = self.inner.jobs.table.lock();
        table
            .slots
            .get(job_id)
            .map(|slot| (Arc::clone(&slot.job), slot.offset))
    }

    /// The jobs in this state, or all, newest first.
    #[must_use]
    pub fn jobs(&self, state: Option<JobState>, limit: usize) -> Vec<Arc<Job>> {
        let mut jobs: Vec<_> = {
            let table = self.inner.jobs.table.lock();
            table
                .slots
                .values()
                .map(|slot| Arc::clone(&slot.job))
                .collect()
        };
        jobs.retain(|job| state.is_none_or(|state| job.status == state));
        jobs.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| a.job_id.cmp(&b.job_id))
        });
        jobs.truncate(limit);
        jobs
    }

    /// How many jobs there are, by state.
    #[must_use]
    pub fn job_counts(&self) -> JobCounts {
        self.inner.jobs.table.lock().counts
    }

    /// The job as soon as it is newer than version `after` or has ended, and after `within` or when the
    /// hub shuts down at the latest.
    pub async fn wait_for_job(
        &self,
        job_id: &str,
        after: u64,
        within: Duration,
    ) -> Option<Arc<Job>> {
        let deadline: Instant = clock::now() + within;
        loop {
            let (job, changed) = {
                let table = self.inner.jobs.table.lock();
                let slot = table.slots.get(job_id)?;
                (Arc::clone(&slot.job), Arc::clone(&slot.changed))
            };
            let changed = changed.notified();
            // It may have changed between the look and the registration.
            let current = self.job(job_id)?;
            if current.version > after
                || current.status.has_ended()
                || current.version != job.version
                || !self.is_serving()
            {
                return Some(current);
            }
            if tokio::time::timeout_at(deadline.into(), changed)
                .await
                .is_err()
            {
                return self.job(job_id);
            }
        }
    }
}

fn check_job_id(job_id: &str) -> Result<(), JobError> {
    let fine = (1..=128).contains(&job_id.len())
        && job_id.trim() == job_id
        && !job_id.chars().any(|c| c.is_control() || c == '/');
    if fine {
        Ok(())
    } else {
        Err(JobError::InvalidId(job_id.to_owned()))
    }
}

fn job_record(job: &Job, event: JobEvent, now: UnixMillis) -> Result<NewRecord, JobError> {
    let topic = Topic::new(format!("job/{}", job.job_id))?;
    let mut record = NewRecord::new(topic, event.into_event(), now);
    if let Some(topic) = &job.topic {
        record.topics.push(Topic::new(topic.as_str())?);
    }
    keep_for(job.owner_topics().cloned().collect(), &mut record);
    let state = serde_json::to_vec(job).expect("a job is text, numbers and JSON");
    record.data_kind = DataKind::Json;
    // The log keeps it, and nothing that it was written in.
    record.snapshot = Some(Snapshot::Put(Bytes::from(state.into_boxed_slice())));
    Ok(record)
}

/// Makes a record its owners' alone. They have it on their own topics too, which they follow without a grant.
fn keep_for(owners: Vec<Topic>, record: &mut NewRecord) {
    if !owners.is_empty() {
        record.topics.extend(owners.iter().cloned());
        record.audience = Audience::Owners(owners);
    }
}

/// How large the state is that comes with a job's record.
fn state_bytes(record: &NewRecord) -> usize {
    match &record.snapshot {
        Some(Snapshot::Put(state)) => state.len(),
        _ => 0,
    }
}

/// Tells that an ended job is no longer remembered, and takes its snapshot out of the log.
fn forget_record(job_id: &str, owners: Vec<Topic>, now: UnixMillis) -> NewRecord {
    let message = Message::new(MessageEvent::Status, clock::rfc3339(now))
        .with("job_id", job_id)
        .with("status", "forgotten")
        .with_progress(100);
    let topic = Topic::new(format!("job/{job_id}")).expect("it was a job's topic");
    let mut record = NewRecord {
        snapshot: Some(Snapshot::Remove),
        data_kind: DataKind::Json,
        ..NewRecord::new(topic, message.to_event(), now)
    };
    keep_for(owners, &mut record);
    record
}

/// What a job takes beside its state: a place in the table, its name, and what wakes those who wait.
const SLOT_BYTES: usize = 512;
/// A job that was created so long ago and never begun makes room for others. A stated guess.
const PENDING_EXPIRY_MILLIS: UnixMillis = 3_600_000;
