//! The same events without a stream: ask, and perhaps wait, for what comes after a position.

use std::sync::Arc;
use std::time::Duration;

use sse_broker::{
    Epoch, Gap, Offset, Position, ReadError, ReadRequest, Record, RecordRef, ResumeFrom, Splice,
};
use sse_pool::Refusal;

use super::{Hub, Interest, InvalidInterest};
use crate::access::Caller;
use crate::access::visibility::{Logged, scope};
use crate::clock;

/// What a poller wants to know.
#[derive(Clone, Debug)]
pub struct PollRequest {
    /// Who polls.
    pub caller: Caller,
    /// What it wants.
    pub interest: Interest,
    /// An id it has seen, a position, `earliest`; `None` for what comes from now on.
    pub after: Option<String>,
    /// How long it is willing to wait for an event.
    pub wait: Duration,
    /// How many events it takes at most.
    pub limit: usize,
}

/// What a poller hears.
#[derive(Clone, Debug)]
pub struct Polled {
    /// The events, oldest first.
    pub records: Vec<Arc<Record>>,
    /// Where to poll on from.
    pub position: Position,
    /// What may have been missed before the first event.
    pub gap: Option<Gap>,
}

/// Why a poll was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// There is no place to wait in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What it wants cannot be.
    #[error(transparent)]
    Interest(#[from] InvalidInterest),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Hub {
    /// The events after a position, as soon as there are any, and none when the wait is over.
    ///
    /// # Errors
    ///
    /// When the request is wrong or the log cannot be read.
    pub async fn poll(&self, request: PollRequest) -> Result<Polled, PollError> {
        let inner = &self.inner;
        // A poll that waits takes a place, as a stream does.
        let _place = if request.wait.is_zero() {
            None
        } else {
            Some(self.admit_address(request.caller.address())?)
        };
        let selector = self.selector(&request.interest)?;
        let visibility = request.caller.visibility();
        let from = match request.after.as_deref().filter(|after| !after.is_empty()) {
            Some(id) => self.resume_from(id).await?,
            None => ResumeFrom::Live,
        };
        let mut head = inner.head.subscribe();
        let bounds = inner.broker.bounds();
        let (mut splice, mut gap) = Splice::begin(from, bounds);
        let mut after = splice.position().offset;
        let scope = scope(&selector.topics, visibility, None);
        let deadline = clock::now() + request.wait;
        let mut records = Vec::new();
        let mut bytes = 0;
        loop {
            let head_now = *head.borrow_and_update();
            if let Some(polled) = self.other_epoch(&mut records, after, bounds.epoch, gap) {
                return Ok(polled);
            }
            while after < head_now && records.len() < request.limit && bytes < MAX_POLL_BYTES {
                let page = inner
                    .broker
                    .read(ReadRequest {
                        after,
                        scope: scope.clone(),
                        max_records: request.limit - records.len(),
                        max_bytes: MAX_POLL_BYTES - bytes,
                        now: clock::unix_millis(),
                    })
                    .await?;
                if let Some(polled) = self.other_epoch(&mut records, after, bounds.epoch, gap) {
                    return Ok(polled);
                }
                let found = splice.handle_page(&page);
                gap = gap.or(found);
                if page.upto <= after {
                    break;
                }
                after = page.upto;
                let now = clock::unix_millis();
                for record in page.records {
                    // A poller is no connection, so nothing can be addressed to it as one.
                    let is_wanted =
                        selector.wants(&Logged(&RecordRef::from(&*record)), visibility, None);
                    if is_wanted && !record.is_expired(now) {
                        bytes += record.content.event.data.len();
                        records.push(record);
                    }
                }
            }
            let waited = !records.is_empty() || gap.is_some() || !self.is_serving();
            if waited
                || tokio::time::timeout_at(deadline.into(), head.changed())
                    .await
                    .is_err()
            {
                let position = Position {
                    epoch: bounds.epoch,
                    offset: after,
                };
                return Ok(Polled {
                    records,
                    position,
                    gap,
                });
            }
        }
    }

    /// The answer to a poll when the log has begun another epoch meanwhile: what was found before, or else the gap.
    fn other_epoch(
        &self,
        records: &mut Vec<Arc<Record>>,
        after: Offset,
        epoch: Epoch,
        gap: Option<Gap>,
    ) -> Option<Polled> {
        let bounds = self.inner.broker.bounds();
        if bounds.epoch == epoch {
            return None;
        }
        let position = Position {
            epoch,
            offset: after,
        };
        if !records.is_empty() {
            return Some(Polled {
                records: std::mem::take(records),
                position,
                gap,
            });
        }
        let (splice, gap) = Splice::begin(ResumeFrom::Position(position), bounds);
        Some(Polled {
            records: Vec::new(),
            position: splice.position(),
            gap,
        })
    }
}

/// As much event data as one answer holds, give or take one event.
const MAX_POLL_BYTES: usize = 1 << 20;
