//! Reading the log: pages, ids, snapshots, on a few threads of its own.
//!
//! A read costs a seek in an index and what it returns, however long the history is; it holds one page
//! in memory. The threads are few on purpose: they are how much replay may take from live traffic. And they
//! are polite ([`Courtesy`]): a replay of everything is a busy processor for a long time, and who publishes or
//! delivers must not wait for its end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use redb::{AccessGuard, Database, ReadOnlyTable, ReadableDatabase, ReadableTable};
use sse_protocol::EventId;
use tokio::sync::{Semaphore, oneshot};

use super::block::Block;
use super::codec::{Damaged, RecordView, TopicCache};
use super::index::Index;
use super::open::{Prepare, panic_message, read_floor, read_thinned};
use super::tables::{BLOCKS, META, SNAPSHOTS, TOPICS, checked, run_key, run_offsets};
use super::tombstones;
use super::yield_budget::Courtesy;
use crate::broker::BoxFuture;
use crate::{
    Bounds, Epoch, Offset, Page, Position, ReadError, ReadRequest, Record, Render, Rendered, Scope,
    Topic,
};

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

fn damaged_meta(error: Prepare) -> ReadError {
    match error {
        Prepare::Redb(error) => storage_error(*error),
        Prepare::Damaged(reason) => ReadError::Storage {
            reason: reason.into(),
        },
        Prepare::NewerFormat(_) | Prepare::OlderFormat(_) => ReadError::Storage {
            reason: "it has another format".into(),
        },
    }
}

/// Reads a page of what was committed up to `bounds.head`.
pub(super) fn page(
    db: &Database,
    index: &Index,
    bounds: Bounds,
    request: &ReadRequest,
) -> Result<Page, ReadError> {
    let read = read(db, index, bounds, request, Copies::default())?;
    Ok(Page {
        upto: read.upto(),
        trimmed: read.trimmed,
        removed: read.removed,
        records: read.sink.records,
    })
}

/// The same, as the bytes that `render` makes of it.
pub(super) fn rendered(
    db: &Database,
    index: &Index,
    bounds: Bounds,
    request: &ReadRequest,
    render: Render,
) -> Result<Rendered, ReadError> {
    let sink = Renders {
        render,
        rendered: Rendered::default(),
        max_bytes: request.max_bytes,
    };
    let read = read(db, index, bounds, request, sink)?;
    Ok(Rendered {
        upto: read.upto(),
        trimmed: read.trimmed,
        removed: read.removed,
        first: read.first,
        ..read.sink.rendered
    })
}

fn read<S: Sink>(
    db: &Database,
    index: &Index,
    bounds: Bounds,
    request: &ReadRequest,
    sink: S,
) -> Result<PageBuilder<S>, ReadError> {
    // Before the transaction begins: what the index no longer has is in the file then.
    let recent: Vec<_> = match &request.scope {
        Scope::All | Scope::Matching(_) => Vec::new(),
        Scope::Topics(topics) => topics
            .iter()
            .map(|topic| index.recent_of(topic.as_str(), request.after))
            .collect(),
    };
    let txn = db.begin_read().map_err(storage_error)?;
    let blocks = txn.open_table(BLOCKS).map_err(storage_error)?;
    // What this transaction sees, rather than what the bounds say: they may be of different moments.
    let meta = txn.open_table(META).map_err(storage_error)?;
    let thinned = read_thinned(&meta).map_err(damaged_meta)?;
    let floor = match blocks.first().map_err(storage_error)? {
        // A rule may have taken the oldest, and not only them.
        _ if thinned.newest > bounds.floor => {
            bounds.floor.max(read_floor(&meta).map_err(damaged_meta)?)
        }
        Some((last, bytes)) => Block::decode(last.value(), bytes.value())
            .map_or(0, |block| block.first.saturating_sub(1))
            .max(bounds.floor),
        None => bounds.head,
    };
    let start = request.after.max(floor);
    let removed = tombstones::newest(&txn, &thinned, request.after, &request.scope);
    let removed = removed.map_err(storage_error)?;
    let new_page = |sink| PageBuilder {
        thinned_upto: thinned.newest,
        removed,
        ..PageBuilder::new(request, bounds, floor, sink)
    };
    let mut page = new_page(sink);
    match &request.scope {
        Scope::All | Scope::Matching(_) => page.read_all(&blocks, start)?,
        Scope::Topics(topics) => {
            let runs = txn.open_table(TOPICS).map_err(storage_error)?;
            let of_each = topics.iter().zip(recent);
            match page.read_topics(&blocks, &runs, of_each, start)? {
                Ok(()) => {}
                // The index is damaged: what it points at is not, so everything is read instead.
                // A page may be too wide.
                Err(Damaged) => {
                    page.sink.clear();
                    page = new_page(page.sink);
                    page.read_all(&blocks, start)?;
                }
            }
        }
    }
    Ok(page)
}

type Blocks = ReadOnlyTable<Offset, &'static [u8]>;

/// What becomes of the records of a page.
trait Sink {
    /// Takes a record if it fits; the first always does.
    fn take(&mut self, position: Position, view: RecordView<'_>, is_first: bool) -> Taken;

    fn clear(&mut self);
}

enum Taken {
    Yes,
    /// The page is full.
    No,
    /// The record is not what was written.
    Damaged,
}

/// They are copied.
#[derive(Default)]
struct Copies {
    records: Vec<Arc<Record>>,
    topics: TopicCache,
}

impl Sink for Copies {
    fn take(&mut self, position: Position, view: RecordView<'_>, _is_first: bool) -> Taken {
        let Ok(content) = view.to_record(&mut self.topics) else {
            return Taken::Damaged;
        };
        self.records.push(Arc::new(Record { position, content }));
        Taken::Yes
    }

    fn clear(&mut self) {
        self.records.clear();
    }
}

/// They are written by who asked.
struct Renders {
    render: Render,
    rendered: Rendered,
    max_bytes: usize,
}

impl Sink for Renders {
    fn take(&mut self, position: Position, view: RecordView<'_>, is_first: bool) -> Taken {
        let (len, events) = (self.rendered.bytes.len(), self.rendered.events);
        self.rendered.add(&view.to_ref(position), &mut self.render);
        if self.rendered.bytes.len() > self.max_bytes && !is_first {
            self.rendered.bytes.truncate(len);
            self.rendered.events = events;
            return Taken::No;
        }
        Taken::Yes
    }

    fn clear(&mut self) {
        self.rendered = Rendered::default();
    }
}

/// A page that fills up to the bounds of its request.
struct PageBuilder<S> {
    epoch: Epoch,
    head: Offset,
    after: Offset,
    sink: S,
    first: Option<Offset>,
    /// The newest record that was taken.
    last: Offset,
    records_left: usize,
    /// What may still be added; `None` once the first record was larger than the whole page.
    bytes_left: Option<usize>,
    /// Where the page ends, when that is before the head.
    ends_at: Option<Offset>,
    trimmed: bool,
    /// The newest record that a rule of a topic has taken: up to it there are holes that are no damage.
    thinned_upto: Offset,
    removed: Option<Offset>,
    courtesy: Courtesy,
}

/// The largest page by number; what it weighs is up to who asks.
const MAX_PAGE_RECORDS: usize = 8 * 1024;

impl<S: Sink> PageBuilder<S> {
    fn new(request: &ReadRequest, bounds: Bounds, floor: Offset, sink: S) -> Self {
        Self {
            epoch: bounds.epoch,
            head: bounds.head,
            after: request.after,
            sink,
            first: None,
            last: 0,
            records_left: request.max_records.clamp(1, MAX_PAGE_RECORDS),
            bytes_left: Some(request.max_bytes),
            ends_at: None,
            trimmed: request.after < floor,
            thinned_upto: 0,
            removed: None,
            courtesy: Courtesy::default(),
        }
    }

    fn read_all(&mut self, blocks: &Blocks, start: Offset) -> Result<(), ReadError> {
        if start >= self.head {
            return Ok(());
        }
        let mut expected = start + 1;
        for entry in blocks.range(expected..).map_err(storage_error)? {
            self.courtesy.after_you();
            let (last, bytes) = entry.map_err(storage_error)?;
            let last = last.value();
            let Ok(block) = Block::decode(last, bytes.value()) else {
                if !self.skip_damaged(expected) {
                    break;
                }
                expected = last + 1;
                continue;
            };
            for (offset, bytes) in block.records_from(expected) {
                if offset > self.head {
                    return Ok(());
                }
                // A hole that no rule has made is damage of the table itself.
                let is_hole = offset != expected && offset > self.thinned_upto.saturating_add(1);
                let is_whole = !is_hole || self.skip_damaged(expected);
                if !is_whole || !self.push(offset, bytes) {
                    return Ok(());
                }
                expected = offset + 1;
            }
        }
        Ok(())
    }

    fn read_topics<'t>(
        &mut self,
        blocks: &Blocks,
        runs: &ReadOnlyTable<&'static [u8], &'static [u8]>,
        topics: impl Iterator<Item = (&'t Topic, Vec<Offset>)>,
        start: Offset,
    ) -> Result<Result<(), Damaged>, ReadError> {
        let mut cursors = BinaryHeap::new();
        let mut rests = Vec::new();
        for (topic, recent) in topics {
            let mut rest = match TopicCursor::new(runs, topic.as_str(), recent, start)? {
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
        let mut block = None;
        // The smallest offset is next; a record of several topics comes up several times in a row.
        let mut last = start;
        while let Some(Reverse((offset, n))) = cursors.pop() {
            if offset > self.head {
                continue;
            }
            if offset != last {
                last = offset;
                if !self.push_from(&mut block, blocks, offset)? {
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

    /// Adds the record at an offset, from the block that was used last when it is there.
    fn push_from(
        &mut self,
        at_hand: &mut Option<(Offset, AccessGuard<'static, &'static [u8]>)>,
        blocks: &Blocks,
        offset: Offset,
    ) -> Result<bool, ReadError> {
        if at_hand.as_ref().is_none_or(|(last, _)| *last < offset) {
            self.courtesy.after_you();
            let found = blocks.range(offset..).map_err(storage_error)?.next();
            let found = found.transpose().map_err(storage_error)?;
            *at_hand = found.map(|(last, bytes)| (last.value(), bytes));
        }
        let bytes = at_hand
            .as_ref()
            .and_then(|(last, bytes)| Block::decode(*last, bytes.value()).ok())
            .and_then(|block| block.record(offset));
        Ok(match bytes {
            Some(bytes) => self.push(offset, bytes),
            // The index may be behind what a rule has taken.
            None => offset <= self.thinned_upto || self.skip_damaged(offset),
        })
    }

    /// Adds a record; `false` when the page ends before it.
    fn push(&mut self, offset: Offset, bytes: &[u8]) -> bool {
        if bytes.is_empty() && offset <= self.thinned_upto {
            // A rule has taken it, which the page says as a whole.
            return true;
        }
        let Ok(view) = RecordView::decode(offset, bytes) else {
            return self.skip_damaged(offset);
        };
        let is_first = self.first.is_none();
        let bytes_left = { self.bytes_left }.and_then(|left| left.checked_sub(view.data_len()));
        let is_full = self.records_left == 0 || bytes_left.is_none();
        let position = Position {
            epoch: self.epoch,
            offset,
        };
        let taken = if is_full && !is_first {
            Taken::No
        } else {
            self.sink.take(position, view, is_first)
        };
        match taken {
            Taken::Yes => {
                self.records_left -= 1;
                self.bytes_left = bytes_left;
                self.first.get_or_insert(offset);
                self.last = offset;
                true
            }
            Taken::No => {
                self.ends_at = Some(self.last);
                false
            }
            Taken::Damaged => self.skip_damaged(offset),
        }
    }

    /// A damaged record is a gap like a trimmed one, and a gap comes at the beginning of a page: the
    /// page ends before it, or, when it has nothing yet, begins behind it.
    fn skip_damaged(&mut self, offset: Offset) -> bool {
        if self.first.is_none() {
            self.trimmed = true;
            return true;
        }
        self.ends_at = Some(offset - 1);
        false
    }

    /// How far the page reaches.
    fn upto(&self) -> Offset {
        self.ends_at.unwrap_or(self.head.max(self.after))
    }
}

/// The offsets of one topic, run by run, and then those that are in no run yet.
struct TopicCursor {
    runs: redb::Range<'static, &'static [u8], &'static [u8]>,
    run: VecDeque<Offset>,
    recent: std::vec::IntoIter<Offset>,
    /// Only what comes after this; a run may have been written since `recent` was looked at.
    after: Offset,
}

impl TopicCursor {
    fn new(
        runs: &ReadOnlyTable<&'static [u8], &'static [u8]>,
        topic: &str,
        recent: Vec<Offset>,
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
            run.extend(offsets);
        }
        let after = (
            std::ops::Bound::Excluded(&*from),
            std::ops::Bound::Included(&*last),
        );
        let runs = runs.range::<&[u8]>(after).map_err(storage_error)?;
        Ok(Ok(Self {
            runs,
            run,
            recent: recent.into_iter(),
            after: start,
        }))
    }

    fn next(&mut self) -> Result<Result<Option<Offset>, Damaged>, ReadError> {
        loop {
            let next = match self.run.pop_front() {
                Some(next) => next,
                None => match self.runs.next() {
                    Some(entry) => {
                        let (key, value) = entry.map_err(storage_error)?;
                        match run_offsets(key.value(), value.value()) {
                            Ok(offsets) => self.run = offsets.into(),
                            Err(Damaged) => return Ok(Err(Damaged)),
                        }
                        continue;
                    }
                    None => match self.recent.next() {
                        Some(next) => next,
                        None => return Ok(Ok(None)),
                    },
                },
            };
            if next > self.after {
                self.after = next;
                return Ok(Ok(Some(next)));
            }
        }
    }
}

/// Where the retained record with this id stands.
pub(super) fn locate(
    db: &Database,
    index: &Index,
    bounds: Bounds,
    id: &EventId,
) -> Result<Option<Offset>, ReadError> {
    index.ids.wait_until_loaded();
    let hash = index.ids.hash(id.as_str());
    let candidates = index.ids.candidates(hash, bounds.floor, bounds.head);
    if candidates.is_empty() {
        return Ok(None);
    }
    let txn = db.begin_read().map_err(storage_error)?;
    let blocks = txn.open_table(BLOCKS).map_err(storage_error)?;
    for offset in candidates {
        let found = match blocks.range(offset..).map_err(storage_error)?.next() {
            Some(entry) => {
                let (last, bytes) = entry.map_err(storage_error)?;
                Block::decode(last.value(), bytes.value())
                    .ok()
                    .and_then(|block| block.record(offset))
                    .and_then(|bytes| RecordView::decode(offset, bytes).ok())
                    .map(|view| view.publisher_id() == Some(id.as_str()))
            }
            None => None,
        };
        let is_it = match found {
            Some(is_it) => is_it,
            // A rule may have taken it, and its id is remembered.
            None => tombstones::had_id(&txn, offset, id.as_str()).map_err(storage_error)?,
        };
        if is_it {
            return Ok(Some(offset));
        }
    }
    Ok(None)
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
