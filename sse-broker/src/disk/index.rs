//! The indexes of topics and ids: their newest part is in memory, the rest on the disk.
//!
//! A commit writes its records and nothing else. What points at them is collected here and written
//! some thousand records later, all at once and in the order of the keys: a topic that has many
//! records then costs one insertion and not one for each commit. Up to where the disk's indexes
//! reach stands in `meta`, in the same commit; when the log is opened, what comes after it is read
//! from the records themselves.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, WriteTransaction};

use super::codec::TopicCache;
use super::ids::{IdAt, Ids, MAX_LIST, list, list_value};
use super::log_state::LogState;
use super::meta::put_meta;
use super::panics::caught;
use super::runs::{MAX_RUN, run_key, run_value};
use super::scan::for_each_record;
use super::tables::{BLOCKS, IDS, META, TOPICS};
use crate::{Offset, Topic};

/// What is needed to find records by topic and id.
pub(super) struct Index {
    pub(super) ids: Ids,
    parts: Mutex<Parts>,
}

/// What is not in the file's indexes yet.
#[derive(Debug)]
struct Parts {
    /// Being written; nothing is added to it, so that who writes it holds no lock.
    frozen: Option<Arc<Recent>>,
    growing: Recent,
}

/// What points at a stretch of the newest records.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// It is of the records after this,
    after: Offset,
    /// and, when it is complete, up to this.
    pub(super) upto: Offset,
    topics: HashMap<Topic, Vec<Offset>>,
    ids: Vec<IdAt>,
    /// How much there is of both, and of records.
    weight: usize,
}

impl Recent {
    /// Nothing yet, of the records after this.
    pub(super) fn new(after: Offset) -> Self {
        Self {
            after,
            ..Self::default()
        }
    }

    /// Takes note of the topics of a record, which comes after all before it.
    pub(super) fn add_topic(&mut self, topic: &Topic, offset: Offset) {
        self.weight += 1;
        if let Some(offsets) = self.topics.get_mut(topic.as_str()) {
            if offsets.last() != Some(&offset) {
                offsets.push(offset);
            }
        } else {
            self.weight += 1 + topic.as_str().len() / 16;
            self.topics.insert(topic.clone(), vec![offset]);
        }
    }

    /// Records of a topic, in order, are no more.
    pub(super) fn forget(&mut self, topic: &str, gone: &[Offset]) {
        if let Some(offsets) = self.topics.get_mut(topic) {
            offsets.retain(|offset| gone.binary_search(offset).is_err());
            if offsets.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    pub(super) fn add_id(&mut self, id: IdAt) {
        self.weight += 1;
        self.ids.push(id);
    }

    fn is_full(&self, head: Offset) -> bool {
        head.saturating_sub(self.after) >= MAX_RECORDS || self.weight >= MAX_WEIGHT
    }

    fn of(&self, topic: &str, after: Offset) -> &[Offset] {
        self.topics.get(topic).map_or(&[], |offsets| {
            &offsets[offsets.partition_point(|offset| *offset <= after)..]
        })
    }

    /// The names of its topics.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.keys()
    }

    /// The ids of the records after `floor`.
    pub(super) fn ids_after(&self, floor: Offset) -> impl Iterator<Item = &IdAt> {
        self.ids.iter().filter(move |(_, offset)| *offset > floor)
    }

    /// The ids of the records up to `floor`.
    pub(super) fn ids_upto(&self, floor: Offset) -> impl Iterator<Item = &IdAt> {
        self.ids.iter().filter(move |(_, offset)| *offset <= floor)
    }

    /// Writes it, without what is trimmed, into the file's indexes, which then cover all up to its end.
    pub(super) fn write(&self, txn: &WriteTransaction, floor: Offset) -> Result<(), redb::Error> {
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let mut runs = txn.open_table(TOPICS)?;
        for (topic, offsets) in topics {
            let kept = &offsets[offsets.partition_point(|offset| *offset <= floor)..];
            for run in kept.chunks(MAX_RUN) {
                let key = run_key(topic.as_str(), run[0]);
                runs.insert(&*key, &*run_value(&key, run))?;
            }
        }
        let kept: Vec<_> = self.ids_after(floor).copied().collect();
        if !kept.is_empty() {
            let mut lists = txn.open_table(IDS)?;
            for ids in kept.chunks(MAX_LIST) {
                let last = ids.last().map_or(self.upto, |(_, offset)| *offset);
                lists.insert(last, &*list_value(&last.to_le_bytes(), ids))?;
            }
        }
        let mut meta = txn.open_table(META)?;
        Ok(put_meta(&mut meta, "indexed", &self.upto.to_le_bytes())?)
    }
}

impl Index {
    /// With what is not in the file's indexes yet; the ids are still to be loaded.
    pub(super) fn new(ids: Ids, growing: Recent) -> Self {
        let frozen = None;
        Self {
            ids,
            parts: Mutex::new(Parts { frozen, growing }),
        }
    }

    /// What both take in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let parts = self.parts.lock();
        let frozen = parts.frozen.as_ref().map_or(0, |frozen| frozen.weight);
        let recent = (frozen + parts.growing.weight) * BYTES_OF_WEIGHT;
        drop(parts);
        recent + self.ids.memory_bytes()
    }

    /// The offsets after `after` of a topic's records that the file's index may not have. To be asked
    /// before the transaction begins that reads the file's: what leaves this is there then.
    pub(super) fn recent_of(&self, topic: &str, after: Offset) -> Vec<Offset> {
        let parts = self.parts.lock();
        let frozen = parts
            .frozen
            .as_ref()
            .map_or(&[][..], |f| f.of(topic, after));
        [frozen, parts.growing.of(topic, after)].concat()
    }

    /// What is to be written with the next commit: everything up to `head` when it has become much, or
    /// when this is the last commit.
    pub(super) fn freeze(&self, head: Offset, is_last: bool) -> Option<Arc<Recent>> {
        let mut parts = self.parts.lock();
        let is_due = parts.growing.is_full(head) || is_last && parts.growing.after < head;
        if is_due && parts.frozen.is_none() {
            let mut frozen = std::mem::replace(&mut parts.growing, Recent::new(head));
            frozen.upto = head;
            parts.frozen = Some(Arc::new(frozen));
        }
        parts.frozen.clone()
    }

    /// Adds what points at the records of a commit, which wrote what was frozen.
    pub(super) fn note(&self, add: impl FnOnce(&mut Recent)) {
        let written = {
            let mut parts = self.parts.lock();
            add(&mut parts.growing);
            parts.frozen.take()
        };
        drop(written);
    }

    /// What is recent becomes this, read anew.
    pub(super) fn replace(&self, growing: Recent) {
        let frozen = None;
        let old = std::mem::replace(&mut *self.parts.lock(), Parts { frozen, growing });
        drop(old);
    }

    /// Fills the table of ids; whatever happens, those who wait for it go on. A list that is damaged
    /// is made up for by the records it was made of.
    pub(super) fn load_ids(&self, db: &Database, state: &LogState) -> Result<(), redb::Error> {
        let load = || -> Result<(), redb::Error> {
            let txn = db.begin_read()?;
            let mut upto = state.floor;
            let lists = txn.open_table(IDS)?;
            // As many as the records can have, should each have one.
            let records = usize::try_from(state.head - state.floor).unwrap_or(usize::MAX);
            let listed = usize::try_from(lists.len()?).unwrap_or(usize::MAX);
            self.ids
                .reserve(records.min(listed.saturating_mul(MAX_LIST)));
            for entry in lists.range(state.floor + 1..)? {
                let (last, value) = entry?;
                let last = last.value();
                if let Ok(ids) = list(&last.to_le_bytes(), value.value()) {
                    for (hash, offset) in ids {
                        if offset > state.floor {
                            self.ids.insert(hash, offset);
                        }
                    }
                } else {
                    let blocks = txn.open_table(BLOCKS)?;
                    for_each_record(&blocks, upto + 1, last, |offset, view| {
                        if let Some(id) = view.publisher_id() {
                            self.ids.insert(self.ids.hash(id), offset);
                        }
                    })?;
                }
                upto = last;
            }
            let recent = self.parts.lock().growing.ids.clone();
            for (hash, offset) in recent {
                self.ids.insert(hash, offset);
            }
            Ok(())
        };
        let loaded = caught(load, redb::Error::Corrupted);
        self.ids.has_loaded();
        loaded
    }
}

/// Reads from the records what the file's indexes, which reach up to `indexed`, do not cover.
pub(super) fn read_recent(
    db: &Database,
    ids: &Ids,
    indexed: Offset,
    state: &LogState,
) -> Result<Recent, redb::Error> {
    let txn = db.begin_read()?;
    let mut recent = Recent::new(indexed.max(state.floor));
    let mut topics = TopicCache::default();
    let blocks = txn.open_table(BLOCKS)?;
    for_each_record(&blocks, recent.after + 1, state.head, |offset, view| {
        for name in view.topics {
            if let Ok(topic) = topics.get(name) {
                recent.add_topic(&topic, offset);
            }
        }
        if let Some(id) = view.publisher_id() {
            recent.add_id((ids.hash(id), offset));
        }
    })?;
    Ok(recent)
}

/// How many records may be there that the file's indexes do not cover: some milliseconds of reading
/// when the log is opened.
const MAX_RECORDS: Offset = 4096;

/// How much memory what is recent may take, roughly in units of 16 bytes: one MiB. Records with many
/// topics fill it before they are many.
const MAX_WEIGHT: usize = 65_536;
/// What is taken for each unit of weight, more or less: a topic's place, its list and its name are a few of them.
const BYTES_OF_WEIGHT: usize = 48;
