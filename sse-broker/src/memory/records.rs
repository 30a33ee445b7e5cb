//! The records in memory and what points at them, as the rules of topics use it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use sse_protocol::EventId;

use crate::record::allocated_bytes;
use crate::tombstones::{MAX_ACCOUNTS, MAX_LOOKED_AT, MAX_REMEMBERED_IDS};
use crate::topic_retention::{Account, RecordSummary, RuleStore};
use crate::{Epoch, NewRecord, Offset, Record, Scope, Topic, TopicPattern, UnixMillis};

/// Records, their indexes, and the account of what was removed.
#[derive(Default)]
pub(super) struct Records {
    records: BTreeMap<Offset, Arc<Record>>,
    weight_bytes: u64,
    /// What records, topics and indexes take in memory.
    memory_bytes: u64,
    by_topic: HashMap<Topic, VecDeque<Offset>>,
    by_id: HashMap<EventId, Offset>,
    /// What went, to be dropped when no lock is held.
    pub(super) evicted: Vec<Arc<Record>>,

    queues: Vec<(Account, BTreeSet<Offset>)>,
    newest: HashMap<Box<str>, VecDeque<Offset>>,
    /// The newest removed offset of each topic, and the same in the order of offsets.
    removed: HashMap<Topic, Offset>,
    removed_order: BTreeSet<(Offset, Topic)>,
    /// What was removed up to here may have been forgotten.
    forgotten_upto: Offset,
    /// The ids of removed records, with the fingerprint of what they said.
    old_ids: BTreeMap<Offset, (EventId, u64)>,
}

impl Records {
    pub(super) fn new(rules: usize) -> Self {
        Self {
            queues: vec![<(Account, BTreeSet<Offset>)>::default(); rules],
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(super) fn get(&self, offset: Offset) -> Option<&Arc<Record>> {
        self.records.get(&offset)
    }

    /// Gives each record its position in another epoch.
    pub(super) fn move_to(&mut self, epoch: Epoch) {
        for record in self.records.values_mut() {
            Arc::make_mut(record).position.epoch = epoch;
        }
    }

    pub(super) fn oldest(&self) -> Option<&Arc<Record>> {
        self.records.first_key_value().map(|(_, record)| record)
    }

    pub(super) fn after(&self, offset: Offset) -> impl Iterator<Item = &Arc<Record>> {
        let range = self.records.range(offset.saturating_add(1)..);
        range.map(|(_, record)| record)
    }

    pub(super) fn of_topic(&self, topic: &Topic) -> Option<&VecDeque<Offset>> {
        self.by_topic.get(topic)
    }

    pub(super) fn locate(&self, id: &EventId) -> Option<Offset> {
        self.by_id.get(id).copied()
    }

    /// Where a record with this id stands or stood, and whether it says the same.
    pub(super) fn known(&self, id: &EventId, content: &NewRecord) -> Option<(Offset, bool)> {
        let at = self.locate(id)?;
        let same = match (self.get(at), self.old_ids.get(&at)) {
            (Some(record), _) => record.content.says_the_same_as(content),
            (None, Some((_, fingerprint))) => *fingerprint == content.fingerprint(),
            (None, None) => return None,
        };
        Some((at, same))
    }

    /// Notes the topics of a record that is about to be put. Equal topics share their names from here on.
    pub(super) fn index_topics(&mut self, offset: Offset, topics: &mut [Topic]) {
        for topic in topics {
            match self.by_topic.entry(topic.clone()) {
                Entry::Occupied(mut known) => {
                    topic.share_text(known.key().as_arc());
                    let offsets = known.get_mut();
                    // It may stand twice in one record.
                    if offsets.back() != Some(&offset) {
                        offsets.push_back(offset);
                    }
                }
                Entry::Vacant(new) => {
                    self.memory_bytes += topic_bytes(topic);
                    new.insert(VecDeque::from([offset]));
                }
            }
        }
    }

    /// Puts a record whose topics are noted.
    pub(super) fn put(&mut self, record: Arc<Record>) {
        let offset = record.position.offset;
        if let Some(id) = record.content.publisher_id() {
            self.by_id.insert(id.clone(), offset);
        }
        self.weight_bytes += record.content.weight_bytes() as u64;
        self.memory_bytes += record_bytes(&record.content);
        self.records.insert(offset, record);
    }

    /// Takes a record out, and out of the index of topics; its id stays.
    fn take_all_but_its_id(&mut self, offset: Offset) -> Option<Arc<Record>> {
        let record = self.records.remove(&offset)?;
        self.weight_bytes -= record.content.weight_bytes() as u64;
        self.memory_bytes -= record_bytes(&record.content);
        for topic in &record.content.topics {
            if let Some(offsets) = self.by_topic.get_mut(topic) {
                if let Ok(at) = offsets.binary_search(&offset) {
                    offsets.remove(at);
                }
                if offsets.is_empty() {
                    self.memory_bytes -= topic_bytes(topic);
                    self.by_topic.remove(topic);
                    self.newest.remove(topic.as_str());
                }
            }
        }
        self.evicted.push(Arc::clone(&record));
        Some(record)
    }

    /// Takes a record out, with all that points at it.
    pub(super) fn take(&mut self, offset: Offset) {
        if let Some(record) = self.take_all_but_its_id(offset)
            && let Some(id) = record.content.publisher_id()
        {
            self.forget_id(id, offset);
        }
    }

    /// The same, and its readers are to hear of it.
    pub(super) fn erase(&mut self, offset: Offset) {
        let Some(record) = self.get(offset).map(Arc::clone) else {
            return;
        };
        self.take(offset);
        for topic in &record.content.topics {
            self.note_removed(offset, topic);
        }
    }

    fn forget_id(&mut self, id: &EventId, offset: Offset) {
        if self.by_id.get(id) == Some(&offset) {
            self.by_id.remove(id);
        }
    }

    /// Forgets what was removed up to the log's floor: all up to it may be gone anyway.
    pub(super) fn forget_upto(&mut self, floor: Offset) {
        while self
            .removed_order
            .first()
            .is_some_and(|(at, _)| *at <= floor)
        {
            if let Some((_, topic)) = self.removed_order.pop_first() {
                self.removed.remove(&topic);
            }
        }
        while let Some(entry) = self.old_ids.first_entry()
            && *entry.key() <= floor
        {
            let (offset, (id, _)) = entry.remove_entry();
            self.forget_id(&id, offset);
        }
    }

    /// The newest removed offset after `after` of a topic within the scope; for patterns what was forgotten alone.
    pub(super) fn removed(&self, after: Offset, scope: &Scope) -> Option<Offset> {
        let known = match scope {
            Scope::All => self.removed_order.last().map(|(offset, _)| *offset),
            Scope::Topics(topics) => {
                let offsets = topics.iter().filter_map(|topic| self.removed.get(topic));
                offsets.copied().max()
            }
            // Patterns are asked when the store's lock is gone; see `removed_after`.
            Scope::Matching(_) => None,
        };
        let newest = known.unwrap_or(0).max(self.forgotten_upto);
        Some(newest).filter(|offset| *offset > after)
    }

    /// What was removed after an offset, newest first, for a pattern that is asked later.
    pub(super) fn removed_after(&self, after: Offset) -> RemovedAfter {
        let newest = self.removed_order.iter().rev();
        let newest = newest.take_while(|(offset, _)| *offset > after);
        RemovedAfter {
            newest: newest.take(MAX_LOOKED_AT + 1).cloned().collect(),
        }
    }

    fn note_removed(&mut self, offset: Offset, topic: &Topic) {
        if let Some(before) = self.removed.get(topic) {
            if *before >= offset {
                return;
            }
            self.removed_order.remove(&(*before, topic.clone()));
        }
        self.removed.insert(topic.clone(), offset);
        self.removed_order.insert((offset, topic.clone()));
        if self.removed.len() > MAX_ACCOUNTS
            && let Some((offset, topic)) = self.removed_order.pop_first()
        {
            self.removed.remove(&topic);
            self.forgotten_upto = self.forgotten_upto.max(offset);
        }
    }

    fn remember_id(&mut self, offset: Offset, record: &Record) {
        let Some(id) = record.content.publisher_id() else {
            return;
        };
        let said = record.content.fingerprint();
        self.old_ids.insert(offset, (id.clone(), said));
        if self.old_ids.len() > MAX_REMEMBERED_IDS
            && let Some((offset, (id, _))) = self.old_ids.pop_first()
        {
            self.forget_id(&id, offset);
        }
    }
}

/// The newest removed offsets of topics after an offset.
#[derive(Default)]
pub(super) struct RemovedAfter {
    newest: Vec<(Offset, Topic)>,
}

impl RemovedAfter {
    /// The newest of a topic that is meant; one that may not be, when too many would have to be looked at.
    pub(super) fn of(&self, pattern: &dyn TopicPattern) -> Option<Offset> {
        let mut newest = self.newest.iter().enumerate();
        newest
            .find(|(n, (_, topic))| *n == MAX_LOOKED_AT || pattern.matches(topic.as_str()))
            .map(|(_, (offset, _))| *offset)
    }
}

/// What a record takes with its places in the indexes.
fn record_bytes(content: &NewRecord) -> u64 {
    let topics = REFERENCE_BYTES * content.topics.len();
    let id = content
        .publisher_id()
        .map_or(0, |id| allocated_bytes(id.as_str().len()) + ID_PLACE_BYTES);
    (content.memory_bytes() + RECORD_PLACE_BYTES + topics + id) as u64
}

/// What a topic takes that has records: its name, and its place in the index with a list.
fn topic_bytes(topic: &Topic) -> u64 {
    (topic.memory_bytes() + TOPIC_PLACE_BYTES) as u64
}

/// A place in the tree of records, with its part of the tree's nodes. These are counted by the memory test.
const RECORD_PLACE_BYTES: usize = 32;
/// An offset in the list of a topic, which grows by doubling.
const REFERENCE_BYTES: usize = 10;
/// A place in the table of topics, and the first room of its list.
const TOPIC_PLACE_BYTES: usize = 112;
/// A place in the table of ids.
const ID_PLACE_BYTES: usize = 40;

impl RecordSummary for Arc<Record> {
    fn topics(&self) -> impl Iterator<Item = &str> {
        self.content.topics.iter().map(Topic::as_str)
    }

    fn retention_time(&self, now: UnixMillis) -> UnixMillis {
        self.content.retention_time(now)
    }

    fn weight_bytes(&self) -> u64 {
        self.content.weight_bytes() as u64
    }
}

impl RuleStore for Records {
    type Summary = Arc<Record>;
    type Error = Infallible;

    fn account(&mut self, rule: usize) -> Result<&mut Account, Infallible> {
        Ok(&mut self.queues[rule].0)
    }

    fn enqueue(&mut self, rule: usize, offset: Offset) {
        self.queues[rule].1.insert(offset);
    }

    fn first(&mut self, rule: usize) -> Result<Option<Offset>, Infallible> {
        Ok(self.queues[rule].1.first().copied())
    }

    fn dequeue(&mut self, rule: usize, offset: Offset) {
        self.queues[rule].1.remove(&offset);
    }

    fn newest(&mut self, topic: &str) -> Result<&mut VecDeque<Offset>, Infallible> {
        if !self.newest.contains_key(topic) {
            self.newest.insert(topic.into(), VecDeque::new());
        }
        Ok(self
            .newest
            .get_mut(topic)
            .expect("it was put there one line above"))
    }

    fn summary(&mut self, offset: Offset) -> Result<Option<Arc<Record>>, Infallible> {
        Ok(self.get(offset).cloned())
    }

    fn remove(
        &mut self,
        offset: Offset,
        summary: Arc<Record>,
        announced: bool,
    ) -> Result<(), Infallible> {
        self.take_all_but_its_id(offset);
        self.remember_id(offset, &summary);
        for topic in &summary.content.topics {
            if announced {
                self.note_removed(offset, topic);
            }
        }
        Ok(())
    }
}
