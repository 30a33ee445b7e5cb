//! Reading a page of the log.
//!
//! A read costs a seek in an index and what it returns, however long the history is; it holds one page
//! in memory. The thread that reads yields now and then ([`YieldBudget`]): a replay of everything keeps a processor
//! busy for a long time, and whoever publishes or delivers must not wait for its end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use redb::{
    AccessGuard, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
};

use super::block::RecordBlock;
use super::codec::RecordView;
use super::due::{Due, LogView};
use super::log_state::{RuleProgress, read_floor, read_progress};
use super::read_error::{damaged_meta, storage_error};
use super::shared::Shared;
use super::sink::{Added, Copies, Renders, Sink};
use super::tables::{BLOCKS, META, TOPICS};
use super::tombstones;
use super::topic_cursor::TopicCursor;
use super::yield_budget::YieldBudget;
use crate::encoding::Damaged;
use crate::{
    Bounds, Epoch, Offset, Page, Position, ReadError, ReadRequest, Render, Rendered, Scope, Topic,
    UnixMillis,
};

/// Reads a page of what was committed up to `bounds.head`.
pub(super) fn read(
    db: &Database,
    shared: &Shared,
    bounds: Bounds,
    request: &ReadRequest,
) -> Result<Page, ReadError> {
    let page = fill(db, shared, bounds, request, Copies::default())?;
    Ok(Page {
        upto: page.upto(),
        trimmed: page.trimmed,
        removed: page.removed,
        records: page.sink.records,
    })
}

/// The same, as the bytes that `render` makes of it.
pub(super) fn render(
    db: &Database,
    shared: &Shared,
    bounds: Bounds,
    request: &ReadRequest,
    render: Render,
) -> Result<Rendered, ReadError> {
    let sink = Renders {
        render,
        rendered: Rendered::default(),
        max_bytes: request.max_bytes,
    };
    let page = fill(db, shared, bounds, request, sink)?;
    Ok(Rendered {
        upto: page.upto(),
        trimmed: page.trimmed,
        removed: page.removed,
        first: page.first,
        ..page.sink.rendered
    })
}

fn fill<S: Sink>(
    db: &Database,
    shared: &Shared,
    bounds: Bounds,
    request: &ReadRequest,
    sink: S,
) -> Result<PageBuilder<S>, ReadError> {
    let Snapshot {
        txn,
        bounds,
        progress,
        trimmed_at,
        recent,
    } = Snapshot::take(db, shared, bounds, request)?;
    let blocks = txn.open_table(BLOCKS).map_err(storage_error)?;
    // What this transaction sees, rather than what the bounds say: they may be of different moments.
    let floor = match blocks.first().map_err(storage_error)? {
        // A rule may have removed the oldest, and not only them.
        _ if progress.newest_removed > bounds.floor => {
            let meta = txn.open_table(META).map_err(storage_error)?;
            bounds.floor.max(read_floor(&meta).map_err(damaged_meta)?)
        }
        Some((last, bytes)) => RecordBlock::decode(last.value(), bytes.value())
            .map_or(0, |block| block.first.saturating_sub(1))
            .max(bounds.floor),
        None => bounds.head,
    };
    let view = LogView {
        progress,
        floor,
        head: bounds.head,
    };
    let due = shared
        .retention
        .due(&txn, &blocks, view, trimmed_at, request);
    let due = Arc::new(due.map_err(storage_error)?);
    let floor = floor.max(due.floor);
    let start = request.after.max(floor);
    let removed = tombstones::newest(&txn, &progress, request.after, &request.scope);
    let removed = removed.map_err(storage_error)?.max(due.removed);
    // Up to the floor everything may be gone, which `trimmed` says.
    let removed = removed.filter(|offset| *offset > floor);
    let new_page = |sink| PageBuilder {
        removed_upto: progress.newest_removed,
        removed,
        ..PageBuilder::new(request, bounds, floor, sink, Arc::clone(&due))
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

/// A transaction, and what belongs to it.
struct Snapshot {
    txn: ReadTransaction,
    bounds: Bounds,
    progress: RuleProgress,
    trimmed_at: UnixMillis,
    /// Of each topic that is asked for, what the file's index may not have.
    recent: Vec<Vec<Offset>>,
}

impl Snapshot {
    /// Takes one in which no record up to the bounds' head was removed for one after it: two commits may have
    /// passed since the bounds were looked at, and a topic of one value would seem to have none.
    fn take(
        db: &Database,
        shared: &Shared,
        mut bounds: Bounds,
        request: &ReadRequest,
    ) -> Result<Self, ReadError> {
        loop {
            // Before the transaction begins: what the index no longer has, and what was trimmed, is seen by it then.
            let trimmed_at = shared.retention.trimmed_at();
            let recent = match &request.scope {
                Scope::All | Scope::Matching(_) => Vec::new(),
                Scope::Topics(topics) => topics
                    .iter()
                    .map(|topic| shared.index.recent_of(topic.as_str(), request.after))
                    .collect(),
            };
            let txn = db.begin_read().map_err(storage_error)?;
            let meta = txn.open_table(META).map_err(storage_error)?;
            let progress = read_progress(&meta).map_err(damaged_meta)?;
            drop(meta);
            // What the rules were applied to had been acknowledged before, so the bounds have moved since.
            let bounds_now = *shared.bounds.lock();
            if progress.applied_upto <= bounds.head || bounds_now.head == bounds.head {
                return Ok(Self {
                    txn,
                    bounds,
                    progress,
                    trimmed_at,
                    recent,
                });
            }
            bounds = bounds_now;
        }
    }
}

type Blocks = ReadOnlyTable<Offset, &'static [u8]>;

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
    /// The newest record that a rule of a topic has removed: up to it there are holes that are no damage.
    removed_upto: Offset,
    removed: Option<Offset>,
    /// What is in the file and not for readers any more.
    due: Arc<Due>,
    yield_budget: YieldBudget,
}

/// The largest page by number; what it weighs is up to the caller.
const MAX_PAGE_RECORDS: usize = 8 * 1024;

impl<S: Sink> PageBuilder<S> {
    fn new(request: &ReadRequest, bounds: Bounds, floor: Offset, sink: S, due: Arc<Due>) -> Self {
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
            removed_upto: 0,
            removed: None,
            due,
            yield_budget: YieldBudget::default(),
        }
    }

    fn read_all(&mut self, blocks: &Blocks, start: Offset) -> Result<(), ReadError> {
        if start >= self.head {
            return Ok(());
        }
        let mut expected = start + 1;
        for entry in blocks.range(expected..).map_err(storage_error)? {
            self.yield_budget.yield_when_spent();
            let (last, bytes) = entry.map_err(storage_error)?;
            let last = last.value();
            let Ok(block) = RecordBlock::decode(last, bytes.value()) else {
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
                let is_hole = offset != expected && offset > self.removed_upto.saturating_add(1);
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
            self.yield_budget.yield_when_spent();
            let found = blocks.range(offset..).map_err(storage_error)?.next();
            let found = found.transpose().map_err(storage_error)?;
            *at_hand = found.map(|(last, bytes)| (last.value(), bytes));
        }
        let bytes = at_hand
            .as_ref()
            .and_then(|(last, bytes)| RecordBlock::decode(*last, bytes.value()).ok())
            .and_then(|block| block.record(offset));
        Ok(match bytes {
            Some(bytes) => self.push(offset, bytes),
            // The index may be behind what a rule has removed.
            None => offset <= self.removed_upto || self.skip_damaged(offset),
        })
    }

    /// Adds a record; `false` when the page ends before it.
    fn push(&mut self, offset: Offset, bytes: &[u8]) -> bool {
        if bytes.is_empty() && offset <= self.removed_upto {
            // A rule has removed it, which the page says as a whole.
            return true;
        }
        let Ok(view) = RecordView::decode(offset, bytes) else {
            return self.skip_damaged(offset);
        };
        if self.due.has(offset, &view) {
            return true;
        }
        let is_first = self.first.is_none();
        let bytes_left = { self.bytes_left }.and_then(|left| left.checked_sub(view.data_len()));
        let is_full = self.records_left == 0 || bytes_left.is_none();
        let position = Position {
            epoch: self.epoch,
            offset,
        };
        let added = if is_full && !is_first {
            Added::Full
        } else {
            self.sink.take(position, view, is_first)
        };
        match added {
            Added::Yes => {
                self.records_left -= 1;
                self.bytes_left = bytes_left;
                self.first.get_or_insert(offset);
                self.last = offset;
                true
            }
            Added::Full => {
                self.ends_at = Some(self.last);
                false
            }
            Added::Damaged => self.skip_damaged(offset),
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
