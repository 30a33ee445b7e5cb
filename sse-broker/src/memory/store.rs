//! What the memory broker holds, and its indexes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sse_protocol::EventId;

use super::records::{Records, RemovedAfter};
use crate::topic_retention::{self, Rules};
use crate::{
    Appended, Bounds, Epoch, NewRecord, Offset, Page, Position, ReadRequest, Record, Retention,
    Scope, Snapshot, Topic, UnixMillis,
};

/// Records in the order of their offsets; and beside them the offsets of each topic, the offset of each
/// publisher's id, and what the rules of topics remember.
pub(super) struct Store {
    epoch: Epoch,
    retention: Retention,
    /// What records and snapshots may take in memory.
    max_memory_bytes: u64,
    rules: Arc<Rules>,
    records: Records,
    /// Everything up to here is gone.
    floor: Offset,
    head: Offset,
    /// Of each topic, with the offset of the record that put it.
    snapshots: BTreeMap<Topic, (Offset, Bytes)>,
    /// What they take.
    snapshot_bytes: u64,
}

impl Store {
    pub(super) fn new(
        epoch: Epoch,
        retention: Retention,
        max_memory_bytes: u64,
        rules: Arc<Rules>,
    ) -> Self {
        Self {
            epoch,
            max_memory_bytes,
            snapshot_bytes: 0,
            rules,
            records: Records::new(retention.topics.len()),
            retention,
            floor: 0,
            head: 0,
            snapshots: BTreeMap::new(),
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            epoch: self.epoch,
            floor: self.floor,
            head: self.head,
        }
    }

    fn position(&self, offset: Offset) -> Position {
        Position {
            epoch: self.epoch,
            offset,
        }
    }

    /// Appends a batch: `stored` takes what is new, as the tail is to hear of it; `evicted` what
    /// retention has taken for it, to be dropped after the lock.
    pub(super) fn append(
        &mut self,
        records: Vec<NewRecord>,
        stored: &mut Vec<Arc<Record>>,
        evicted: &mut Vec<Arc<Record>>,
    ) -> Vec<Appended> {
        let is_stale = |record: &NewRecord| self.stale_version(record).is_some();
        if records.iter().any(is_stale) {
            return records.iter().map(|record| self.withhold(record)).collect();
        }
        let appended = records
            .into_iter()
            .map(|record| self.append_one(record, stored))
            .collect();
        while self.is_over() {
            self.evict();
        }
        evicted.append(&mut self.records.evicted);
        appended
    }

    /// Whether more is kept than may be; the newest record always stays.
    fn is_over(&self) -> bool {
        let records = self.records.len() as u64;
        let is_too_large = records > 1 && self.memory_bytes() > self.max_memory_bytes;
        is_too_large || (self.retention).is_over(records, self.records.weight_bytes())
    }

    /// What records and snapshots take in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.records.memory_bytes() + self.snapshot_bytes
    }

    /// Changes a topic's snapshot.
    fn put_snapshot(&mut self, topic: &Topic, snapshot: Option<(Offset, Bytes)>) {
        let bytes = |bytes: &Bytes| (bytes.len() + topic.memory_bytes() + SNAPSHOT_BYTES) as u64;
        self.snapshot_bytes += snapshot.as_ref().map_or(0, |(_, put)| bytes(put));
        let before = match snapshot {
            Some(put) => self.snapshots.insert(topic.clone(), put),
            None => self.snapshots.remove(topic),
        };
        self.snapshot_bytes -= before.map_or(0, |(_, before)| bytes(&before));
    }

    /// What became of its id, where the log has it.
    fn known(&self, content: &NewRecord) -> Option<Appended> {
        let (at, is_same) = self.records.known(content.publisher_id()?, content)?;
        let at = self.position(at);
        Some(if is_same {
            Appended::Duplicate(at)
        } else {
            Appended::Conflict(at)
        })
    }

    pub(super) fn snapshot_version(&self, topic: &Topic) -> Position {
        self.position(self.snapshots.get(topic).map_or(0, |(version, _)| *version))
    }

    /// The version that its topic's snapshot has, when it is new and expects another.
    fn stale_version(&self, content: &NewRecord) -> Option<Position> {
        let expected = content.expects?;
        let version = content
            .topics
            .first()
            .map_or(self.position(0), |topic| self.snapshot_version(topic));
        (version != expected && self.known(content).is_none()).then_some(version)
    }

    /// Its answer in an append of which nothing is stored.
    fn withhold(&self, content: &NewRecord) -> Appended {
        let stale = || self.stale_version(content).map(Appended::Stale);
        self.known(content)
            .or_else(stale)
            .unwrap_or(Appended::Withheld)
    }

    /// The new bounds, and whether the epoch is another one than before.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch) -> (Bounds, bool) {
        let before = std::mem::replace(&mut self.epoch, epoch);
        self.records.move_to(epoch);
        (self.bounds(), before != epoch)
    }

    fn append_one(&mut self, mut content: NewRecord, stored: &mut Vec<Arc<Record>>) -> Appended {
        if let Some(known) = self.known(&content) {
            return known;
        }
        let offset = self.head + 1;
        content.topics.shrink_to_fit();
        self.records.index_topics(offset, &mut content.topics);
        if let (Some(topic), Some(snapshot)) = (content.topics.first(), &content.snapshot) {
            let put = match snapshot {
                Snapshot::Put(bytes) => Some((offset, bytes.clone())),
                Snapshot::Remove => None,
            };
            self.put_snapshot(topic, put);
        }
        let position = self.position(offset);
        let told = Arc::new(Record { position, content });
        let kept = if told.content.snapshot.is_some() {
            let content = NewRecord {
                snapshot: None,
                ..told.content.clone()
            };
            Arc::new(Record { position, content })
        } else {
            Arc::clone(&told)
        };
        self.head = offset;
        self.records.put(Arc::clone(&kept));
        if !self.rules.is_empty() {
            let Ok(()) = topic_retention::apply(&self.rules, &mut self.records, offset, &kept);
        }
        stored.push(told);
        Appended::Stored(position)
    }

    /// Takes out the oldest record and what the indexes know of it.
    fn evict(&mut self) {
        let Some(record) = self.records.oldest().map(Arc::clone) else {
            return;
        };
        let offset = record.position.offset;
        self.floor = offset;
        if !self.rules.is_empty() {
            let Ok(()) = topic_retention::forget(&self.rules, &mut self.records, offset, &record);
        }
        self.records.take(offset);
        self.records.forget_upto(offset);
    }

    /// Takes out at most `max` records that are too old; returns the floor, and whether that was all.
    pub(super) fn trim(
        &mut self,
        now: UnixMillis,
        max: usize,
        evicted: &mut Vec<Arc<Record>>,
    ) -> (Offset, bool) {
        let Ok(is_done) = topic_retention::expire(&self.rules, &mut self.records, now, max);
        if let Some(too_old) = self.retention.too_old_at(now) {
            while self.records.evicted.len() < max
                && self
                    .records
                    .oldest()
                    .is_some_and(|r| r.content.retention_time(now) <= too_old)
            {
                self.evict();
            }
        }
        evicted.append(&mut self.records.evicted);
        (self.floor, is_done && evicted.len() < max)
    }

    /// Takes records out of the middle; returns how many were there.
    pub(super) fn erase(&mut self, offsets: &[Offset], evicted: &mut Vec<Arc<Record>>) -> u64 {
        let mut erased = 0;
        for offset in offsets {
            let Some(record) = self.records.get(*offset).map(Arc::clone) else {
                continue;
            };
            if !self.rules.is_empty() {
                let Ok(()) =
                    topic_retention::forget(&self.rules, &mut self.records, *offset, &record);
            }
            self.records.erase(*offset);
            erased += 1;
        }
        evicted.append(&mut self.records.evicted);
        erased
    }

    pub(super) fn locate(&self, id: &EventId) -> Option<Offset> {
        self.records.locate(id)
    }

    pub(super) fn snapshots(&self, prefix: &str) -> Vec<(Topic, Bytes)> {
        self.snapshots
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(topic, _)| topic.as_str().starts_with(prefix))
            .map(|(topic, (_, bytes))| (topic.clone(), bytes.clone()))
            .collect()
    }

    /// What the page says of what was removed lacks what only patterns can tell: that is the second answer.
    pub(super) fn read(&self, request: &ReadRequest) -> (Page, RemovedAfter) {
        let start = request.after.max(self.floor);
        let mut page = PageBuilder::new(request);
        match &request.scope {
            Scope::All | Scope::Matching(_) => {
                for record in self.records.after(start) {
                    if !page.push(record) {
                        break;
                    }
                }
            }
            Scope::Topics(topics) => {
                // One cursor for each topic; the smallest offset is next, and a record of several
                // topics comes up several times in a row.
                let mut cursors: BinaryHeap<_> = topics
                    .iter()
                    .filter_map(|topic| self.records.of_topic(topic))
                    .map(|offsets| offsets.range(offsets.partition_point(|at| *at <= start)..))
                    .filter_map(|mut rest| {
                        Some(Cursor {
                            at: Reverse(*rest.next()?),
                            rest,
                        })
                    })
                    .collect();
                let mut last = 0;
                while let Some(mut cursor) = cursors.pop() {
                    let offset = cursor.at.0;
                    if offset != last {
                        last = offset;
                        if let Some(record) = self.records.get(offset)
                            && !page.push(record)
                        {
                            break;
                        }
                    }
                    if let Some(next) = cursor.rest.next() {
                        cursor.at = Reverse(*next);
                        cursors.push(cursor);
                    }
                }
            }
        }
        let removed_after = match request.scope {
            Scope::Matching(_) => self.records.removed_after(start),
            _ => RemovedAfter::default(),
        };
        let page = Page {
            removed: { self.records.removed(request.after, &request.scope) }
                .filter(|offset| *offset > self.floor),
            ..page.finish(self.floor, self.head)
        };
        (page, removed_after)
    }
}

/// A place in a topic's offsets; ordered by the offset alone, smallest on top.
struct Cursor<'a> {
    at: Reverse<Offset>,
    rest: std::collections::vec_deque::Iter<'a, Offset>,
}

impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Cursor<'_> {}

impl PartialOrd for Cursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cursor<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// A page that fills up to the bounds of its request.
struct PageBuilder {
    after: Offset,
    records: Vec<Arc<Record>>,
    records_left: usize,
    /// What may still be added; `None` once the first record was larger than the whole page.
    bytes_left: Option<usize>,
    is_full: bool,
}

impl PageBuilder {
    fn new(request: &ReadRequest) -> Self {
        Self {
            after: request.after,
            records: Vec::new(),
            records_left: request.max_records.clamp(1, MAX_PAGE_RECORDS),
            bytes_left: Some(request.max_bytes),
            is_full: false,
        }
    }

    /// Adds a record unless the page is full.
    fn push(&mut self, record: &Arc<Record>) -> bool {
        let bytes = record.content.event.data.len();
        let bytes_left = self.bytes_left.and_then(|left| left.checked_sub(bytes));
        if !self.records.is_empty() && (self.records_left == 0 || bytes_left.is_none()) {
            self.is_full = true;
            return false;
        }
        self.records_left -= 1;
        self.bytes_left = bytes_left;
        self.records.push(Arc::clone(record));
        true
    }

    fn finish(self, floor: Offset, head: Offset) -> Page {
        let upto = match self.records.last() {
            Some(last) if self.is_full => last.position.offset,
            _ => head.max(self.after),
        };
        Page {
            records: self.records,
            upto,
            trimmed: self.after < floor,
            removed: None,
        }
    }
}

/// A snapshot's place in the tree, and what holds its bytes.
const SNAPSHOT_BYTES: usize = 112;

/// The largest page: so long is the store's lock held. A thousand events are more than a socket takes.
const MAX_PAGE_RECORDS: usize = 1024;
