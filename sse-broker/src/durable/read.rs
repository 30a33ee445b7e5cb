//! Reading the log: pages, ids, snapshots, on a few threads of its own.
//!
//! A read costs a seek in an index and what it returns, however long the history is; it holds one page
//! in memory. The threads are few on purpose: they are how much replay may take from live traffic.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};
use sse_protocol::EventId;
use tokio::sync::{Semaphore, oneshot};

use super::codec::{Damaged, RecordView, TopicCache};
use super::open::panic_message;
use super::tables::{IDS, RECORDS, SNAPSHOTS, TOPICS, checked, run_key, run_offsets};
use crate::broker::BoxFuture;
use crate::{Bounds, Epoch, Offset, Page, Position, ReadError, ReadRequest, Record, Scope, Topic};

type Job = Box<dyn FnOnce() + Send>;

/// A few threads that read.
pub(super) struct Readers {
    shared: Arc<Shared>,
    /// One for each read that waits or runs. Who finds none waits for it in its own future.
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_over: bool,
}

/// How many reads may wait for a thread.
const MAX_WAITING: usize = 64;

impl Readers {
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let readers = Self {
            shared,
            permits: Arc::new(Semaphore::new(MAX_WAITING)),
        };
        for n in 0..threads.max(1) {
            let shared = Arc::clone(&readers.shared);
            std::thread::Builder::new()
                .name(format!("sse-log-read-{n}"))
                .spawn(move || work(&shared))?;
        }
        Ok(readers)
    }

    /// Runs `read` on one of the threads.
    pub(super) fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ReadError>> {
        let shared = Arc::clone(&self.shared);
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            let permit = permits
                .acquire_owned()
                .await
                .map_err(|_| ReadError::Closed)?;
            let (answer, answered) = oneshot::channel();
            let job: Job = Box::new(move || {
                let _permit = permit;
                if !answer.is_closed() {
                    let _ = answer.send(caught(read));
                }
            });
            {
                let mut jobs = shared.jobs.lock();
                if jobs.is_over {
                    return Err(ReadError::Closed);
                }
                jobs.waiting.push_back(job);
            }
            shared.changed.notify_one();
            answered.await.unwrap_or(Err(ReadError::Closed))
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let waiting = {
            let mut jobs = self.shared.jobs.lock();
            jobs.is_over = true;
            std::mem::take(&mut jobs.waiting)
        };
        self.shared.changed.notify_all();
        drop(waiting);
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut jobs = shared.jobs.lock();
            loop {
                if let Some(job) = jobs.waiting.pop_front() {
                    break job;
                }
                if jobs.is_over {
                    return;
                }
                shared.changed.wait(&mut jobs);
            }
        };
        job();
    }
}

/// A damaged file may make redb panic; that is the file's fault and no reason to stop.
fn caught<T>(read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        Err(ReadError::Storage {
            reason: panic_message(&*panic).into(),
        })
    })
}

fn storage_error(error: impl Into<redb::Error>) -> ReadError {
    ReadError::Storage {
        reason: error.into().to_string().into(),
    }
}

/// Reads a page of what was committed up to `bounds.head`.
pub(super) fn page(
    db: &Database,
    bounds: Bounds,
    request: &ReadRequest,
) -> Result<Page, ReadError> {
    let txn = db.begin_read().map_err(storage_error)?;
    let records = txn.open_table(RECORDS).map_err(storage_error)?;
    // What this transaction sees, rather than what the bounds say: they may be of different moments.
    let floor = match records.first().map_err(storage_error)? {
        Some((first, _)) => first.value().saturating_sub(1).max(bounds.floor),
        None => bounds.head,
    };
    let start = request.after.max(floor);
    let mut page = PageBuilder::new(request, bounds, floor);
    match &request.scope {
        Scope::All => page.read_all(&records, start)?,
        Scope::Topics(topics) => {
            let runs = txn.open_table(TOPICS).map_err(storage_error)?;
            match page.read_topics(&records, &runs, topics, start)? {
                Ok(()) => {}
                // The index is damaged: what it points at is not, so everything is read instead.
                // A page may be too wide.
                Err(Damaged) => {
                    page = PageBuilder::new(request, bounds, floor);
                    page.read_all(&records, start)?;
                }
            }
        }
    }
    Ok(page.finish())
}

/// A page that fills up to the bounds of its request.
struct PageBuilder {
    epoch: Epoch,
    head: Offset,
    after: Offset,
    records: Vec<Arc<Record>>,
    records_left: usize,
    /// What may still be added; `None` once the first record was larger than the whole page.
    bytes_left: Option<usize>,
    /// Where the page ends, when that is before the head.
    ends_at: Option<Offset>,
    trimmed: bool,
    topics: TopicCache,
}

/// The largest page by number; what it weighs is up to who asks.
const MAX_PAGE_RECORDS: usize = 8 * 1024;

impl PageBuilder {
    fn new(request: &ReadRequest, bounds: Bounds, floor: Offset) -> Self {
        Self {
            epoch: bounds.epoch,
            head: bounds.head,
            after: request.after,
            records: Vec::new(),
            records_left: request.max_records.clamp(1, MAX_PAGE_RECORDS),
            bytes_left: Some(request.max_bytes),
            ends_at: None,
            trimmed: request.after < floor,
            topics: TopicCache::default(),
        }
    }

    fn read_all(
        &mut self,
        records: &ReadOnlyTable<Offset, &'static [u8]>,
        start: Offset,
    ) -> Result<(), ReadError> {
        if start >= self.head {
            return Ok(());
        }
        let mut expected = start + 1;
        for entry in records
            .range(start + 1..=self.head)
            .map_err(storage_error)?
        {
            let (offset, bytes) = entry.map_err(storage_error)?;
            let offset = offset.value();
            // A hole is damage of the table itself.
            let is_whole = offset == expected || self.skip_damaged(expected);
            if !is_whole || !self.push(offset, bytes.value()) {
                break;
            }
            expected = offset + 1;
        }
        Ok(())
    }

    fn read_topics(
        &mut self,
        records: &ReadOnlyTable<Offset, &'static [u8]>,
        runs: &ReadOnlyTable<&'static [u8], &'static [u8]>,
        topics: &[Topic],
        start: Offset,
    ) -> Result<Result<(), Damaged>, ReadError> {
        let mut cursors = BinaryHeap::new();
        let mut rests = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut rest = match TopicCursor::new(runs, topic.as_str(), start)? {
                Ok(rest) => rest,
                Err(Damaged) => return Ok(Err(Damaged)),
            };
            match rest.next()? {
                Ok(Some(first)) => {
                    cursors.push(Reverse((first, rests.len())));
                    rests.push(rest);
                }
                Ok(None) => {}
                Err(Damaged) => return Ok(Err(Damaged)),
            }
        }
        // The smallest offset is next; a record of several topics comes up several times in a row.
        let mut last = start;
        while let Some(Reverse((offset, n))) = cursors.pop() {
            if offset > self.head {
                continue;
            }
            if offset != last {
                last = offset;
                let goes_on = match records.get(offset).map_err(storage_error)? {
                    Some(bytes) => self.push(offset, bytes.value()),
                    None => self.skip_damaged(offset),
                };
                if !goes_on {
                    break;
                }
            }
            match rests[n].next()? {
                Ok(Some(next)) => cursors.push(Reverse((next, n))),
                Ok(None) => {}
                Err(Damaged) => return Ok(Err(Damaged)),
            }
        }
        Ok(Ok(()))
    }

    /// Adds a record; `false` when the page ends before it.
    fn push(&mut self, offset: Offset, bytes: &[u8]) -> bool {
        let Ok(view) = RecordView::decode(offset, bytes) else {
            return self.skip_damaged(offset);
        };
        let len = view.data_len();
        let bytes_left = self.bytes_left.and_then(|left| left.checked_sub(len));
        if !self.records.is_empty() && (self.records_left == 0 || bytes_left.is_none()) {
            self.ends_at = self.records.last().map(|last| last.position.offset);
            return false;
        }
        let Ok(content) = view.to_record(&mut self.topics) else {
            return self.skip_damaged(offset);
        };
        self.records_left -= 1;
        self.bytes_left = bytes_left;
        let position = Position {
            epoch: self.epoch,
            offset,
        };
        self.records.push(Arc::new(Record { position, content }));
        true
    }

    /// A damaged record is a gap like a trimmed one, and a gap comes at the beginning of a page: the
    /// page ends before it, or, when it has nothing yet, begins behind it.
    fn skip_damaged(&mut self, offset: Offset) -> bool {
        if self.records.is_empty() {
            self.trimmed = true;
            return true;
        }
        self.ends_at = Some(offset - 1);
        false
    }

    fn finish(self) -> Page {
        let upto = self.ends_at.unwrap_or(self.head.max(self.after));
        Page {
            records: self.records,
            upto,
            trimmed: self.trimmed,
        }
    }
}

/// The offsets of one topic, run by run.
struct TopicCursor {
    runs: redb::Range<'static, &'static [u8], &'static [u8]>,
    run: VecDeque<Offset>,
}

impl TopicCursor {
    fn new(
        runs: &ReadOnlyTable<&'static [u8], &'static [u8]>,
        topic: &str,
        start: Offset,
    ) -> Result<Result<Self, Damaged>, ReadError> {
        let (first, from, last) = (
            run_key(topic, 0),
            run_key(topic, start),
            run_key(topic, Offset::MAX),
        );
        // The run that began at or before `start` may reach beyond it.
        let before = runs
            .range::<&[u8]>(&*first..=&*from)
            .map_err(storage_error)?
            .next_back();
        let mut run = VecDeque::new();
        if let Some(entry) = before {
            let (key, value) = entry.map_err(storage_error)?;
            let Ok(offsets) = run_offsets(key.value(), value.value()) else {
                return Ok(Err(Damaged));
            };
            run.extend(offsets.into_iter().filter(|offset| *offset > start));
        }
        let after = (
            std::ops::Bound::Excluded(&*from),
            std::ops::Bound::Included(&*last),
        );
        let runs = runs.range::<&[u8]>(after).map_err(storage_error)?;
        Ok(Ok(Self { runs, run }))
    }

    fn next(&mut self) -> Result<Result<Option<Offset>, Damaged>, ReadError> {
        if self.run.is_empty()
            && let Some(entry) = self.runs.next()
        {
            let (key, value) = entry.map_err(storage_error)?;
            match run_offsets(key.value(), value.value()) {
                Ok(offsets) => self.run.extend(offsets),
                Err(Damaged) => return Ok(Err(Damaged)),
            }
        }
        Ok(Ok(self.run.pop_front()))
    }
}

/// Where the retained record with this id stands.
pub(super) fn locate(
    db: &Database,
    bounds: Bounds,
    id: &EventId,
) -> Result<Option<Offset>, ReadError> {
    let txn = db.begin_read().map_err(storage_error)?;
    let ids = txn.open_table(IDS).map_err(storage_error)?;
    let offset = ids
        .get(id.as_str().as_bytes())
        .map_err(storage_error)?
        .map(|at| at.value());
    Ok(offset.filter(|offset| (bounds.floor + 1..=bounds.head).contains(offset)))
}

pub(super) fn snapshots(db: &Database, prefix: &str) -> Result<Vec<(Topic, Bytes)>, ReadError> {
    let txn = db.begin_read().map_err(storage_error)?;
    let snapshots = txn.open_table(SNAPSHOTS).map_err(storage_error)?;
    let mut found = Vec::new();
    for entry in snapshots.range(prefix..).map_err(storage_error)? {
        let (topic, value) = entry.map_err(storage_error)?;
        let name = topic.value();
        if !name.starts_with(prefix) {
            break;
        }
        let damaged = || ReadError::Storage {
            reason: format!("the snapshot of {name:?} is damaged").into(),
        };
        let topic = Topic::new(name).map_err(|_| damaged())?;
        let bytes = checked(name.as_bytes(), value.value()).map_err(|Damaged| damaged())?;
        found.push((topic, Bytes::copy_from_slice(bytes)));
    }
    Ok(found)
}
