//! Polling: the events after a position, at once or when there are any.

use std::sync::Arc;
use std::time::Duration;

use sse_broker::{Gap, Position, ReadError, ReadRequest, Record, RecordRef, ResumeFrom, Splice};
use sse_pool::Refusal;

use super::{Hub, Interest, InvalidInterest};
use crate::access::Caller;
use crate::access::budget::{Account, NoMemory, Permit};
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
#[derive(Debug)]
pub struct Polled {
    /// The events, oldest first.
    pub records: Vec<Arc<Record>>,
    /// Where to poll on from. It may be before the end of the log, also where there are no records.
    pub position: Position,
    /// What may have been missed before the first event.
    pub gap: Option<Gap>,
    /// The right to hold all that.
    pub permit: Permit,
}

/// Why a poll was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// There is no memory left for the answer.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// There is no place to wait in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What it asks for is not valid.
    #[error(transparent)]
    Interest(#[from] InvalidInterest),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Hub {
    /// The events after a position, as soon as there are any, and none when the wait is over.
    ///
    /// It looks at a bounded number of events, of which perhaps none is wanted: then it answers with none, and with the
    /// position that it has reached. Where it goes on for more than a page, it yields after each, and only one such poll of the hub reads at a time.
    ///
    /// # Errors
    ///
    /// When the request is wrong or the log cannot be read.
    pub async fn poll(&self, request: PollRequest) -> Result<Polled, PollError> {
        let inner = &self.inner;
        let address = request.caller.address();
        // A poll that waits takes a place, as a stream does.
        let _place = if request.wait.is_zero() {
            None
        } else {
            Some(self.admit_address(address)?)
        };
        let selector = self.selector(&request.interest, address)?;
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
        let mut permit = inner.budget.try_take(Account::Answers, address, 0)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut page_records = request.limit.min(MAX_PAGE_RECORDS);
        let mut left = MAX_LOOKED_AT;
        loop {
            let head_now = *head.borrow_and_update();
            let mut is_first = true;
            while after < head_now
                && records.len() < request.limit
                && bytes < MAX_POLL_BYTES
                && left > 0
            {
                if permit.bytes() < PAGE_PERMIT_BYTES {
                    permit.grow(PAGE_PERMIT_BYTES - permit.bytes()).await?;
                }
                // The first page is what any request costs; those that go on share a turn.
                let turn = match std::mem::take(&mut is_first) {
                    true => None,
                    false => Some(inner.poll_turns.acquire().await),
                };
                let page = inner
                    .broker
                    .read(ReadRequest {
                        after,
                        scope: scope.clone(),
                        max_records: page_records.min(left),
                        max_bytes: MAX_POLL_BYTES - bytes,
                        now: clock::unix_millis(),
                    })
                    .await?;
                if inner.broker.bounds().epoch != bounds.epoch {
                    break;
                }
                left = left.saturating_sub(page.records.len().max(1));
                page_records = (page_records * 2).min(MAX_PAGE_RECORDS);
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
                        if records.len() == request.limit {
                            // The page was larger than what is left of the answer.
                            after = record.position.offset - 1;
                            break;
                        }
                        bytes += record.content.event.data.len();
                        records.push(record);
                    }
                }
                if turn.is_some() {
                    // With the turn in hand: this thread looks at its sockets before any poll goes on.
                    tokio::task::yield_now().await;
                }
            }
            // What is waited for is held by nobody yet.
            permit.shrink_to(bytes);
            let at = Position {
                epoch: bounds.epoch,
                offset: after,
            };
            if let Some((position, gap)) = self.other_epoch(at, !records.is_empty(), gap) {
                return Ok(Polled {
                    records,
                    position,
                    gap,
                    permit,
                });
            }
            let is_answered =
                !records.is_empty() || gap.is_some() || left == 0 || !self.is_serving();
            if is_answered
                || tokio::time::timeout_at(deadline.into(), head.changed())
                    .await
                    .is_err()
            {
                return Ok(Polled {
                    records,
                    position: at,
                    gap,
                    permit,
                });
            }
        }
    }

    /// What a poll answers when the log has begun another epoch meanwhile: the place of what was found before, or else the gap.
    fn other_epoch(
        &self,
        at: Position,
        has_found: bool,
        gap: Option<Gap>,
    ) -> Option<(Position, Option<Gap>)> {
        let bounds = self.inner.broker.bounds();
        if bounds.epoch == at.epoch {
            return None;
        }
        if has_found {
            return Some((at, gap));
        }
        let (splice, gap) = Splice::begin(ResumeFrom::Position(at), bounds);
        Some((splice.position(), gap))
    }
}

/// How many events a poll looks at before it answers. A stated guess: some ten milliseconds of work.
const MAX_LOOKED_AT: usize = 65_536;
/// How many of them at a time, which takes about 0.1 ms: what is live waits so long.
const MAX_PAGE_RECORDS: usize = 256;
/// As much event data as one answer holds, give or take one event.
const MAX_POLL_BYTES: usize = 256 << 10;
/// What a poll may hold while it reads: as much, and a page of the log.
const PAGE_PERMIT_BYTES: usize = 2 * MAX_POLL_BYTES;
