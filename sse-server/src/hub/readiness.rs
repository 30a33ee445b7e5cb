//! Whether the hub should get new clients, and what it lacks.

use std::time::{Duration, Instant};

use sse_broker::AppendError;

use super::Hub;
use crate::clock;

/// What a ready hub has, beside being up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The log is written to: it is not fenced.
    Log,
    /// What was published last found room. After ten seconds without anybody's trying it is taken to be there again.
    Storage,
    /// There are places for streams.
    Places,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Log, Self::Storage, Self::Places];
}

/// How publishing went lately.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// When there was no room, if nothing was stored since.
    full_at: Option<Instant>,
    told_at: Option<Instant>,
    untold_failures: u64,
}

impl Hub {
    /// What a ready hub has and this one lacks, for people; empty when it is ready. [`HubConfig::ready_needs`](super::HubConfig::ready_needs)
    /// says what counts.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        if !self.is_serving() {
            return vec!["the hub is shutting down".to_owned()];
        }
        let needs = self.inner.config.ready_needs.iter();
        needs.filter_map(|need| self.lacks(*need)).collect()
    }

    fn lacks(&self, need: Need) -> Option<String> {
        match need {
            Need::Log => {
                let reason = self.log_health().fenced?;
                Some(format!("the log cannot be written: {reason}"))
            }
            Need::Storage => {
                let full_at = self.inner.storage.lock().full_at?;
                let is_recent = clock::now().saturating_duration_since(full_at) < FULL;
                is_recent.then(|| "there is no room for events: publishing answers 507".to_owned())
            }
            Need::Places => {
                let active = self.inner.pool.stats().active;
                let max = self.inner.config.max_connections;
                (active >= max).then(|| format!("all {max} places for streams are taken"))
            }
        }
    }

    /// Notes how an append went, and tells of failures: of the first at once, of others together.
    pub(super) fn note_append(&self, failure: Option<&AppendError>) {
        let now = clock::now();
        let Some(error) = failure else {
            self.inner.storage.lock().full_at = None;
            return;
        };
        self.inner.metrics.record_error(now);
        let failures = {
            let mut storage = self.inner.storage.lock();
            if matches!(error, AppendError::Full) {
                storage.full_at = Some(now);
            }
            storage.untold_failures += 1;
            let told_at = storage.told_at;
            if told_at.is_some_and(|at| now.saturating_duration_since(at) < TOLD) {
                return;
            }
            storage.told_at = Some(now);
            std::mem::take(&mut storage.untold_failures)
        };
        tracing::warn!(%error, failures, "publishing failed");
    }
}

/// For so long nobody is sent to a hub that had no room.
const FULL: Duration = Duration::from_secs(10);
/// How often it is told that publishing fails.
const TOLD: Duration = Duration::from_secs(10);
