//! Polling: the events after a position, at once or when there are any.

use std::sync::Arc;
use std::time::Duration;

use sse_broker::{
    Gap, Offset, Page, Position, ReadError, ReadRequest, Record, RecordRef, ResumeFrom, Scope,
    Splice,
};
use sse_pool::{Selector, Visibility};

use super::{AdmissionError, Hub, Interest, InvalidInterest};
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
    Refused(#[from] AdmissionError),
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
    /// position that it has reached. Where it goes on for more than a page, it yields after each, rests while events are
    /// published, and only one such poll of the hub reads at a time.
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
            Some(self.admit(&request.caller)?)
        };
        let selector = self.selector(&request.interest, &request.caller)?;
        let visibility = request.caller.visibility();
        let from = match request.after.as_deref().filter(|after| !after.is_empty()) {
            Some(id) => self.resume_from(id).await?,
            None => ResumeFrom::Live,
        };
        let mut head = inner.head.subscribe();
        let bounds = inner.broker.bounds();
        let (splice, gap) = Splice::begin(from, bounds);
        let most = inner.budget.max_bytes(Account::Answers) / 2;
        let mut search = Search {
            hub: self,
            scope: scope(&selector.topics, visibility, None),
            selector,
            visibility,
            limit: request.limit,
            at: splice.position(),
            splice,
            gap,
            records: Vec::new(),
            bytes: 0,
            max_bytes: MAX_POLL_BYTES.min(most / 4),
            answer_bytes: 0,
            max_answer_bytes: most / 4 * 3,
            is_cut: false,
            page_records: request.limit.min(MAX_PAGE_RECORDS),
            left: MAX_LOOKED_AT,
            permit: inner.budget.try_take(Account::Answers, address, 0)?,
        };
        let deadline = clock::now() + request.wait;
        loop {
            let head_now = *head.borrow_and_update();
            search.read_to(head_now).await?;
            if search.is_answered()
                || tokio::time::timeout_at(deadline.into(), head.changed())
                    .await
                    .is_err()
            {
                return Ok(search.into_answer());
            }
        }
    }
}

/// What a poll has found so far.
struct Search<'a> {
    hub: &'a Hub,
    selector: Arc<Selector>,
    visibility: &'a Visibility,
    scope: Scope,
    /// How many events are wanted at most.
    limit: usize,
    /// Up to where it has looked.
    at: Position,
    splice: Splice,
    gap: Option<Gap>,
    records: Vec<Arc<Record>>,
    /// What their data takes.
    bytes: usize,
    /// About as much data as the answer may hold.
    max_bytes: usize,
    /// How long they are as JSON,
    answer_bytes: usize,
    /// and may be, if they are more than one: a poll always finds memory for its answer.
    max_answer_bytes: usize,
    /// One more would have been too many.
    is_cut: bool,
    page_records: usize,
    /// How many events it still looks at.
    left: usize,
    permit: Permit,
}

impl Search<'_> {
    /// Looks at the events up to an offset, or until it has enough.
    async fn read_to(&mut self, head: Offset) -> Result<(), PollError> {
        let inner = &self.hub.inner;
        let mut is_first = true;
        let mut effort = Effort::new(self.hub);
        while self.at.offset < head && !self.is_full() && !self.is_in_other_epoch() {
            // What it has found, and a page of the log.
            let more = (2 * self.max_bytes).saturating_sub(self.permit.bytes());
            self.permit.grow(more).await?;
            // The first page is what any request costs; those that go on share a turn.
            let turn = match std::mem::take(&mut is_first) {
                true => None,
                false => Some(inner.poll_turns.acquire().await),
            };
            let begun = clock::now();
            let page = inner
                .broker
                .read(ReadRequest {
                    after: self.at.offset,
                    scope: self.scope.clone(),
                    max_records: self.page_records.min(self.left),
                    max_bytes: self.max_bytes - self.bytes,
                    now: self.hub.age_now(),
                })
                .await?;
            if self.is_in_other_epoch() || !self.take(page) {
                break;
            }
            if turn.is_some() {
                // With the turn in hand: this thread looks at its sockets before any poll goes on.
                effort.spent(clock::now() - begun).await;
            }
        }
        // What is waited for is held by nobody yet.
        self.permit.shrink_to(self.bytes);
        Ok(())
    }

    /// Takes what is wanted of a page; whether that went any further.
    fn take(&mut self, page: Page) -> bool {
        self.left = self.left.saturating_sub(page.records.len().max(1));
        self.page_records = (self.page_records * 2).min(MAX_PAGE_RECORDS);
        let found = self.splice.handle_page(&page);
        self.gap = self.gap.or(found);
        if page.upto <= self.at.offset {
            return false;
        }
        self.at.offset = page.upto;
        let now = clock::unix_millis();
        for record in page.records {
            // A poller is no connection, so nothing can be addressed to it as one.
            let logged = RecordRef::from(&*record);
            let is_wanted = self.selector.wants(&Logged(&logged), self.visibility, None);
            if is_wanted && !record.is_expired(now) {
                let answer_bytes = self.answer_bytes + json_bytes(&record);
                let is_too_long = answer_bytes > self.max_answer_bytes && !self.records.is_empty();
                if self.records.len() == self.limit || is_too_long {
                    // The page was larger than what is left of the answer.
                    self.at.offset = record.position.offset - 1;
                    self.is_cut |= is_too_long;
                    break;
                }
                self.answer_bytes = answer_bytes;
                self.bytes += record.content.event.data.len();
                self.records.push(record);
            }
        }
        true
    }

    fn is_full(&self) -> bool {
        self.records.len() >= self.limit
            || self.bytes >= self.max_bytes
            || self.is_cut
            || self.left == 0
    }

    /// The log has begun another epoch meanwhile.
    fn is_in_other_epoch(&self) -> bool {
        self.hub.inner.broker.bounds().epoch != self.at.epoch
    }

    fn is_answered(&self) -> bool {
        let has_something = !self.records.is_empty() || self.gap.is_some();
        has_something || self.left == 0 || self.is_in_other_epoch() || !self.hub.is_serving()
    }

    /// What was found, and from where to go on. In another epoch, without anything found, that is the gap.
    fn into_answer(self) -> Polled {
        let (mut position, mut gap) = (self.at, self.gap);
        if self.records.is_empty() && self.is_in_other_epoch() {
            let bounds = self.hub.inner.broker.bounds();
            let (splice, found) = Splice::begin(ResumeFrom::Position(position), bounds);
            (position, gap) = (splice.position(), found);
        }
        Polled {
            records: self.records,
            position,
            gap,
            permit: self.permit,
        }
    }
}

/// What a search has taken of its thread, and how it gives that back.
struct Effort<'a> {
    hub: &'a Hub,
    /// Since the last rest.
    worked: Duration,
    /// The log's end at the last rest.
    head: Offset,
}

impl<'a> Effort<'a> {
    fn new(hub: &'a Hub) -> Self {
        Self {
            hub,
            worked: Duration::ZERO,
            head: *hub.inner.head.borrow(),
        }
    }

    /// Lets others go on. While events are published a search rests for most of the time: a publish is several threads
    /// that wake each other, and each of them may have to wait for a search to be moved off its processor.
    async fn spent(&mut self, time: Duration) {
        self.worked += time;
        if self.worked < WORK_BEFORE_REST {
            tokio::task::yield_now().await;
            return;
        }
        let worked = std::mem::take(&mut self.worked);
        let head = *self.hub.inner.head.borrow();
        if std::mem::replace(&mut self.head, head) == head {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep((worked * REST_PER_WORK).min(MAX_REST)).await;
        }
    }
}

/// How many events a poll looks at before it answers. A stated guess: some ten milliseconds of work.
const MAX_LOOKED_AT: usize = 65_536;
/// How many of them at a time, which takes about 0.1 ms: what is live waits so long.
const MAX_PAGE_RECORDS: usize = 256;
/// As much event data as one answer holds, give or take one event.
const MAX_POLL_BYTES: usize = 256 << 10;
/// What an event takes in an answer beside its data and topic: the names of fields, id, position and time. A stated guess.
const EVENT_JSON_BYTES: usize = 512;

/// How long a record is as JSON, in an answer.
fn json_bytes(record: &Record) -> usize {
    let content = &record.content;
    let escaped = content.event.data.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    });
    let topic = content
        .topics
        .first()
        .map_or(0, |topic| topic.as_str().len());
    escaped.sum::<usize>() + 2 * topic + EVENT_JSON_BYTES
}
/// A search works so long, and then rests so many times as long if an event was published meanwhile. Timers have a resolution of a
/// millisecond. What took much longer than it should was waiting itself, and does not rest so much longer.
const WORK_BEFORE_REST: Duration = Duration::from_micros(500);
const REST_PER_WORK: u32 = 3;
const MAX_REST: Duration = Duration::from_millis(10);
