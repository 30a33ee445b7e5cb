//! What the memory broker holds, and its indexes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sse_protocol::EventId;

use crate::{
    Appended, Bounds, Epoch, NewRecord, Offset, Page, Position, ReadRequest, Record, Retention,
    Scope, Snapshot, Topic, UnixMillis,
};

/// Records in a ring, side by side in the order of their offsets, so that an offset is found by
/// subtraction; and beside it the offsets of each topic, the offset of each publisher's id.
pub(super) struct Store {
    epoch: Epoch,
    retention: Retention,
    /// The record at index `i` has the offset `floor + 1 + i`.
    records: VecDeque<Arc<Record>>,
    floor: Offset,
    weight_bytes: u64,
    by_topic: HashMap<Topic, VecDeque<Offset>>,
    by_id: HashMap<EventId, Offset>,
    snapshots: BTreeMap<Topic, Bytes>,
}

impl Store {
    pub(super) fn new(epoch: Epoch, retention: Retention) -> Self {
        Self {
            epoch,
            retention,
            records: VecDeque::new(),
            floor: 0,
            weight_bytes: 0,
            by_topic: HashMap::new(),
            by_id: HashMap::new(),
            snapshots: BTreeMap::new(),
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            epoch: self.epoch,
            floor: self.floor,
            head: self.head(),
        }
    }

    fn head(&self) -> Offset {
        self.floor + self.records.len() as u64
    }

    fn position(&self, offset: Offset) -> Position {
        Position {
            epoch: self.epoch,
            offset,
        }
    }

    fn get(&self, offset: Offset) -> Option<&Arc<Record>> {
        let index = offset.checked_sub(self.floor + 1)?;
        self.records.get(usize::try_from(index).ok()?)
    }

    /// Appends a batch: `stored` takes what is new, as the tail is to hear of it; `evicted` what
    /// retention has taken for it, to be dropped after the lock.
    pub(super) fn append(
        &mut self,
        records: Vec<NewRecord>,
        stored: &mut Vec<Arc<Record>>,
        evicted: &mut Vec<Arc<Record>>,
    ) -> Vec<Appended> {
        let appended = records
            .into_iter()
            .map(|record| self.append_one(record, stored))
            .collect();
        while self
            .retention
            .is_over(self.records.len() as u64, self.weight_bytes)
        {
            evicted.extend(self.evict());
        }
        appended
    }

    fn append_one(&mut self, content: NewRecord, stored: &mut Vec<Arc<Record>>) -> Appended {
        let offset = self.head() + 1;
        if let Some(id) = content.publisher_id() {
            match self.by_id.get(id).and_then(|at| self.get(*at)) {
                Some(known) if known.content.says_the_same_as(&content) => {
                    return Appended::Duplicate(known.position);
                }
                Some(known) => return Appended::Conflict(known.position),
                None => _ = self.by_id.insert(id.clone(), offset),
            }
        }
        for topic in &content.topics {
            match self.by_topic.get_mut(topic) {
                // The same topic twice in one record.
                Some(offsets) if offsets.back() == Some(&offset) => {}
                Some(offsets) => offsets.push_back(offset),
                None => {
                    _ = self
                        .by_topic
                        .insert(topic.clone(), VecDeque::from([offset]))
                }
            }
        }
        if let (Some(topic), Some(snapshot)) = (content.topics.first(), &content.snapshot) {
            match snapshot {
                Snapshot::Put(bytes) => self.snapshots.insert(topic.clone(), bytes.clone()),
                Snapshot::Remove => self.snapshots.remove(topic),
            };
        }
        self.weight_bytes += content.weight_bytes() as u64;
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
        self.records.push_back(kept);
        stored.push(told);
        Appended::Stored(position)
    }

    /// Takes out the oldest record and what the indexes know of it.
    fn evict(&mut self) -> Option<Arc<Record>> {
        let record = self.records.pop_front()?;
        let offset = record.position.offset;
        self.floor = offset;
        self.weight_bytes -= record.content.weight_bytes() as u64;
        for topic in &record.content.topics {
            if let Some(offsets) = self.by_topic.get_mut(topic) {
                if offsets.front() == Some(&offset) {
                    offsets.pop_front();
                }
                if offsets.is_empty() {
                    self.by_topic.remove(topic);
                }
            }
        }
        if let Some(id) = record.content.publisher_id()
            && self.by_id.get(id) == Some(&offset)
        {
            self.by_id.remove(id);
        }
        Some(record)
    }

    /// Takes out at most `max` records that are too old; returns the floor.
    pub(super) fn trim(
        &mut self,
        now: UnixMillis,
        max: usize,
        evicted: &mut Vec<Arc<Record>>,
    ) -> Offset {
        if let Some(too_old) = self.retention.too_old_at(now) {
            while evicted.len() < max
                && self
                    .records
                    .front()
                    .is_some_and(|r| r.content.published_at <= too_old)
            {
                evicted.extend(self.evict());
            }
        }
        self.floor
    }

    pub(super) fn locate(&self, id: &EventId) -> Option<Offset> {
        self.by_id.get(id).copied()
    }

    pub(super) fn snapshots(&self, prefix: &str) -> Vec<(Topic, Bytes)> {
        self.snapshots
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(topic, _)| topic.as_str().starts_with(prefix))
            .map(|(topic, bytes)| (topic.clone(), bytes.clone()))
            .collect()
    }

    pub(super) fn read(&self, request: &ReadRequest) -> Page {
        let start = request.after.max(self.floor);
        let mut page = PageBuilder::new(request);
        match &request.scope {
            Scope::All => {
                let skip = usize::try_from(start - self.floor).unwrap_or(usize::MAX);
                let from = skip.min(self.records.len());
                for record in self.records.range(from..) {
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
                    .filter_map(|topic| self.by_topic.get(topic))
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
                        if let Some(record) = self.get(offset)
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
        page.finish(self.floor, self.head())
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
        }
    }
}

/// The largest page: so long is the store's lock held. A thousand events are more than a socket takes.
const MAX_PAGE_RECORDS: usize = 1024;
