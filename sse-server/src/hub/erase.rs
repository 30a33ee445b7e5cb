//! Erasing: what was published is taken back for good, from the log, from the window, and from the states of jobs.

use sse_broker::{AppendError, Offset, Position, ReadError, ReadRequest, Record, Scope, Topic};
use sse_protocol::EventId;

use super::{Hub, Job, JobError};

/// What is to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erase {
    /// The event with this id: the publisher's own, or its position.
    Event(String),
    /// Every event of this topic, also where it has other topics. The jobs that have it go too.
    Topic(Topic),
    /// Every event that is for this user or session alone, and every one of its topic; `user/…` or `session/…`. Its jobs too.
    Owner(Topic),
}

/// Why not all of it was erased. What was stays so, and the same can be asked for again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// A job could not be forgotten.
    #[error(transparent)]
    Job(#[from] JobError),
}

impl Hub {
    /// Erases events for good, and answers how many that were. Positions of others stay as they are. A reader that has not read so
    /// far is served from the log from then on, where a gap (`thinned`) tells that something is missing.
    ///
    /// It goes through the log up to where that ends now, a page at a time; what is published meanwhile is not looked at. An owner's
    /// events may be anywhere, so all of the log is read for them. Each page's are gone for good when the next is read: after a
    /// crash in between, asking again erases the rest.
    ///
    /// # Errors
    ///
    /// See [`EraseError`].
    pub async fn erase(&self, what: &Erase) -> Result<u64, EraseError> {
        for job_id in self.jobs_to_erase(what) {
            self.forget_job(&job_id).await?;
        }
        let scope = match what {
            Erase::Event(id) => {
                let offset = self.offset_of(id).await?;
                return self.erase_offsets(offset.into_iter().collect()).await;
            }
            Erase::Topic(topic) => Scope::Topics([topic.clone()].into()),
            Erase::Owner(_) => Scope::All,
        };
        let broker = &self.inner.broker;
        let (mut after, head) = (broker.bounds().floor, broker.bounds().head);
        let mut erased = 0;
        while after < head {
            // As polls that look at many events: one at a time, and between two pages the sockets have their turn.
            let turn = self.inner.poll_turns.acquire().await;
            let page = broker.read(ReadRequest {
                after,
                scope: scope.clone(),
                max_records: PAGE_RECORDS,
                max_bytes: PAGE_BYTES,
                // What is too old for readers is there nevertheless.
                now: 0,
            });
            let page = page.await?;
            let meant = page.records.iter().filter(|record| is_meant(what, record));
            let offsets: Vec<Offset> = meant.map(|record| record.position.offset).collect();
            erased += self.erase_offsets(offsets).await?;
            drop(turn);
            if page.upto <= after {
                break;
            }
            after = page.upto;
            tokio::task::yield_now().await;
        }
        Ok(erased)
    }

    async fn erase_offsets(&self, offsets: Vec<Offset>) -> Result<u64, EraseError> {
        let Some(newest) = offsets.last().copied() else {
            return Ok(0);
        };
        let erased = self.inner.broker.erase(offsets).await?;
        // Readers that are behind get what comes from the log, which has it no more.
        self.inner.pool.evict_upto(newest);
        Ok(erased)
    }

    async fn offset_of(&self, id: &str) -> Result<Option<Offset>, ReadError> {
        if let Ok(event_id) = EventId::new(id)
            && let Some(offset) = self.inner.broker.locate(event_id).await?
        {
            return Ok(Some(offset));
        }
        let position: Option<Position> = id.parse().ok();
        let epoch = self.bounds().epoch;
        Ok(position.filter(|it| it.epoch == epoch).map(|it| it.offset))
    }

    /// The jobs whose events go: their states say what these did.
    fn jobs_to_erase(&self, what: &Erase) -> Vec<String> {
        let (Erase::Topic(topic) | Erase::Owner(topic)) = what else {
            return Vec::new();
        };
        let is_meant = |job: &Job| {
            topic.under("job") == Some(&job.job_id)
                || job.topic.as_deref() == Some(topic.as_str())
                || job.owner_topics().any(|owner| owner == topic)
        };
        let jobs = self.jobs(None, usize::MAX);
        let meant = jobs.iter().filter(|job| is_meant(job));
        meant.map(|job| job.job_id.clone()).collect()
    }
}

fn is_meant(what: &Erase, record: &Record) -> bool {
    let content = &record.content;
    match what {
        Erase::Event(_) => false,
        Erase::Topic(topic) => content.topics.contains(topic),
        Erase::Owner(owner) => {
            content.topics.contains(owner) || content.audience.owners().iter().any(|it| it == owner)
        }
    }
}

/// So many events are looked at at once, and so much of their data. Stated guesses: some milliseconds.
const PAGE_RECORDS: usize = 512;
const PAGE_BYTES: usize = 1 << 20;
