//! One transaction: a group's records, what goes along with them, and a piece of trimming.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, WriteTransaction};

use super::block::each_block;
use super::codec::{TopicCache, seal};
use super::config::DiskConfig;
use super::ids::{IdAt, IdHash};
use super::index::Index;
use super::log_state::LogState;
use super::meta::put_meta;
use super::panics::caught;
use super::pending::{Encoded, StateCall};
use super::scan::view_at;
use super::snapshots;
use super::states;
use super::tables::{BLOCKS, META, SNAPSHOTS};
use super::tombstones;
use super::topic_retention;
use super::trim::{self, Limits};
use crate::queue::Batch;
use crate::topic_retention::Rules;
use crate::{Appended, Durability, Epoch, NewRecord, Offset, Position, Snapshot, UnixMillis};

/// What is to be committed.
pub(super) struct Group<'a> {
    pub(super) batches: &'a mut VecDeque<Batch<Encoded>>,
    pub(super) states: &'a [StateCall],
    /// The time, when trimmed is called: what is too old then is to go.
    pub(super) now: Option<UnixMillis>,
}

/// What a commit did to the file. It is to be told to the index, by [`note`](Committed::note) or, when the
/// storage failed after all, by [`take_back`](Committed::take_back).
pub(super) struct Committed {
    pub(super) outcomes: Vec<Vec<Appended>>,
    pub(super) state: LogState,
    pub(super) trimmed: u64,
    pub(super) has_more_to_trim: bool,
    /// These are in the index already, so that a group does not store an id twice.
    new_ids: Vec<IdAt>,
    gone_ids: Vec<IdAt>,
    /// What the rules of topics have removed.
    gone: tombstones::ByTopic,
}

impl Committed {
    /// Tells the index in memory of what is committed, before any reader hears of it.
    pub(super) fn note(&self, index: &Index, group: &VecDeque<Batch<Encoded>>) {
        forget(index, &self.gone_ids);
        index.note(|recent| {
            for (topic, offsets) in &self.gone {
                recent.forget(topic, offsets);
            }
            for (offset, encoded) in stored(group, &self.outcomes) {
                for topic in &encoded.record.content.topics {
                    recent.add_topic(topic, offset);
                }
            }
            for id in &self.new_ids {
                recent.add_id(*id);
            }
        });
    }

    /// The storage failed: nothing was stored.
    pub(super) fn take_back(&self, index: &Index) {
        forget(index, &self.new_ids);
    }
}

fn forget(index: &Index, ids: &[IdAt]) {
    for (hash, offset) in ids {
        index.ids.remove(*hash, *offset);
    }
}

/// One transaction. When it fails, nothing has changed in the log nor in its index.
pub(super) fn commit(
    db: &Database,
    config: &DiskConfig,
    rules: &Rules,
    before: &LogState,
    index: &Index,
    group: Group<'_>,
) -> Result<Committed, Arc<str>> {
    let mut new_ids = Vec::new();
    let run = || {
        let done = run(db, config, rules, before, index, group, &mut new_ids);
        done.map_err(|error| error.to_string())
    };
    match caught(run, std::convert::identity) {
        Ok(done) => Ok(Committed { new_ids, ..done }),
        Err(reason) => {
            forget(index, &new_ids);
            Err(reason.into())
        }
    }
}

fn run(
    db: &Database,
    config: &DiskConfig,
    rules: &Rules,
    before: &LogState,
    index: &Index,
    group: Group<'_>,
    new_ids: &mut Vec<IdAt>,
) -> Result<Committed, redb::Error> {
    let mut state = *before;
    let mut txn = db.begin_write()?;
    let is_trim_called = group.now.is_some();
    if config.durability == Durability::Memory && !is_trim_called {
        // What is told by the time is also when this level goes to the disk.
        txn.set_durability(redb::Durability::None)?;
    }
    let outcomes = decide(&txn, index, group.batches, &mut state, new_ids)?;
    if state.head > before.head {
        store(&txn, group.batches, &outcomes, &mut state)?;
    }
    states::store(&txn, group.states)?;
    let applied = topic_retention::apply(&txn, rules, before.head, group.now, &mut state)?;
    let mut trimmed = trim::Trimmed::default();
    if !applied.has_more {
        // What the rules have not been shown yet may become less: the bounds wait for them.
        let settled = if rules.is_empty() { state } else { *before };
        let limits = Limits {
            retention: &config.retention,
            now: group.now.filter(|_| config.retention.max_age.is_some()),
            settled,
        };
        trimmed = trim::trim(&txn, &limits, rules, &mut state)?;
    }
    // What was recent before this group; its own is noted when it is committed.
    let recent = index.freeze(before.head, false);
    if let Some(recent) = &recent {
        recent.write(&txn, state.floor)?;
        trimmed.ids.extend(recent.ids_upto(state.floor));
    }
    // Now the file's indexes have all that was recent.
    tombstones::take_out_of_indexes(&txn, &index.ids, &applied.removed, &mut trimmed.ids)?;
    let is_flush = config.durability == Durability::Memory && is_trim_called;
    let has_changed = state != *before;
    if has_changed || is_flush || recent.is_some() || !group.states.is_empty() {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(Committed {
        outcomes,
        state,
        trimmed: trimmed.records + applied.records,
        has_more_to_trim: trimmed.has_more || applied.has_more,
        new_ids: Vec::new(),
        gone_ids: trimmed.ids,
        gone: applied.removed.by_topic(),
    })
}

/// The records of a group that are new, with their offsets.
pub(super) fn stored<'a>(
    group: &'a VecDeque<Batch<Encoded>>,
    outcomes: &'a [Vec<Appended>],
) -> impl Iterator<Item = (Offset, &'a Encoded)> {
    group.iter().zip(outcomes).flat_map(|(batch, outcomes)| {
        let all = batch.records.iter().zip(outcomes);
        all.filter_map(|(record, outcome)| match outcome {
            Appended::Stored(position) => Some((position.offset, record)),
            _ => None,
        })
    })
}

/// Gives each record its offset, or finds that its id is known. New ids are in the index at once.
fn decide(
    txn: &WriteTransaction,
    index: &Index,
    group: &VecDeque<Batch<Encoded>>,
    state: &mut LogState,
    new_ids: &mut Vec<IdAt>,
) -> Result<Vec<Vec<Appended>>, redb::Error> {
    let mut outcomes = Vec::with_capacity(group.len());
    let mut decision = Decision {
        txn,
        index,
        before: *state,
        head: &mut state.head,
        new: Vec::with_capacity(group.len()),
        new_ids,
        versions: Versions::default(),
    };
    for batch in group {
        outcomes.push(decision.batch(batch)?);
    }
    Ok(outcomes)
}

/// What is decided of a group so far.
struct Decision<'a> {
    txn: &'a WriteTransaction,
    index: &'a Index,
    /// The log before the group.
    before: LogState,
    head: &'a mut Offset,
    /// The records from there to the head.
    new: Vec<&'a NewRecord>,
    new_ids: &'a mut Vec<IdAt>,
    versions: Versions<'a>,
}

impl<'a> Decision<'a> {
    /// All of an append, or nothing when it expects another version of a snapshot.
    fn batch(&mut self, batch: &'a Batch<Encoded>) -> Result<Vec<Appended>, redb::Error> {
        let (head, ids) = (*self.head, self.new_ids.len());
        let mut answers = Vec::with_capacity(batch.records.len());
        for encoded in &batch.records {
            answers.push(self.record(encoded)?);
        }
        let is_stale = |answer: &Appended| matches!(answer, Appended::Stale(_));
        if answers.iter().any(is_stale) {
            self.go_back_to(head, ids);
            withhold_after(head, &mut answers);
        } else {
            self.versions.note(batch, &answers);
        }
        Ok(answers)
    }

    fn record(&mut self, encoded: &'a Encoded) -> Result<Appended, redb::Error> {
        let content = &encoded.record.content;
        let offset = *self.head + 1;
        if let Some(hash) = encoded.id_hash
            && let Some(known) = self.find_or_add_id(hash, offset, content)?
        {
            return Ok(known);
        }
        *self.head = offset;
        self.new.push(content);
        let stale = self.versions.stale(self.txn, content, self.before.epoch)?;
        Ok(stale.map_or_else(|| Appended::Stored(self.position(offset)), Appended::Stale))
    }

    /// The answer for a record whose id is known; otherwise its id stands at this offset now.
    fn find_or_add_id(
        &mut self,
        hash: IdHash,
        offset: Offset,
        content: &NewRecord,
    ) -> Result<Option<Appended>, redb::Error> {
        if let Some(alike) = self.index.ids.insert_new(hash, offset, self.before.floor) {
            for at in alike {
                let answer = match self.says_the_same(at, content)? {
                    Some(true) => Appended::Duplicate(self.position(at)),
                    Some(false) => Appended::Conflict(self.position(at)),
                    None => continue,
                };
                return Ok(Some(answer));
            }
            self.index.ids.insert(hash, offset);
        }
        self.new_ids.push((hash, offset));
        Ok(None)
    }

    /// Whether the record at an offset says the same; `None` when it has another id.
    fn says_the_same(&self, at: Offset, content: &NewRecord) -> Result<Option<bool>, redb::Error> {
        let compare = |known: &NewRecord| {
            let is_its_id = known.publisher_id() == content.publisher_id();
            is_its_id.then(|| known.says_the_same_as(content))
        };
        if let Some(n) = at.checked_sub(self.before.head + 1) {
            return Ok(self.new.get(n as usize).and_then(|known| compare(known)));
        }
        match retained(self.txn, at)? {
            Some(known) => Ok(compare(&known)),
            // A rule may have taken it, and what it said is remembered.
            None => tombstones::said_the_same(self.txn, self.before.retention, at, content),
        }
    }

    /// Forgets the records after `head`, and all but the first so many new ids.
    fn go_back_to(&mut self, head: Offset, ids: usize) {
        for (hash, offset) in self.new_ids.drain(ids..) {
            self.index.ids.remove(hash, offset);
        }
        self.new.truncate((head - self.before.head) as usize);
        *self.head = head;
    }

    fn position(&self, offset: Offset) -> Position {
        Position {
            epoch: self.before.epoch,
            offset,
        }
    }
}

/// Nothing after `head` is stored, and nothing is the same as what would have been.
fn withhold_after(head: Offset, answers: &mut [Appended]) {
    for answer in answers {
        if let Appended::Stored(at) | Appended::Duplicate(at) | Appended::Conflict(at) = answer
            && at.offset > head
        {
            *answer = Appended::Withheld;
        }
    }
}

/// Which versions the snapshots have that a group's records expect, as its earlier appends leave them.
#[derive(Default)]
struct Versions<'a> {
    /// Those of this group; only from the first append on that has a snapshot.
    changed: HashMap<&'a str, Offset>,
}

impl<'a> Versions<'a> {
    /// The version that is there, when the record expects another.
    fn stale(
        &self,
        txn: &WriteTransaction,
        content: &NewRecord,
        epoch: Epoch,
    ) -> Result<Option<Position>, redb::Error> {
        let Some(expected) = content.expects else {
            return Ok(None);
        };
        let topic = content.topics.first().map_or("", |topic| topic.as_str());
        let offset = match self.changed.get(topic) {
            Some(version) => *version,
            None => snapshots::version(&txn.open_table(SNAPSHOTS)?, topic)?,
        };
        let version = Position { epoch, offset };
        Ok((version != expected).then_some(version))
    }

    fn note(&mut self, batch: &'a Batch<Encoded>, answers: &[Appended]) {
        for (encoded, answer) in batch.records.iter().zip(answers) {
            let content = &encoded.record.content;
            let (Some(topic), Some(snapshot), Appended::Stored(at)) =
                (content.topics.first(), &content.snapshot, answer)
            else {
                continue;
            };
            let version = match snapshot {
                Snapshot::Put(_) => at.offset,
                Snapshot::Remove => 0,
            };
            self.changed.insert(topic.as_str(), version);
        }
    }
}

/// The record at an offset. One that is damaged is as good as gone: its id may be stored anew.
fn retained(txn: &WriteTransaction, offset: Offset) -> Result<Option<NewRecord>, redb::Error> {
    let blocks = txn.open_table(BLOCKS)?;
    let copy = view_at(&blocks, offset, |view| {
        view.to_record(&mut TopicCache::default()).ok()
    })?;
    Ok(copy.flatten())
}

/// Writes the records that are new, and the snapshots.
fn store(
    txn: &WriteTransaction,
    group: &mut VecDeque<Batch<Encoded>>,
    outcomes: &[Vec<Appended>],
    state: &mut LogState,
) -> Result<(), redb::Error> {
    let mut sealed: Vec<&[u8]> = Vec::with_capacity(group.len());
    let mut snapshots: Vec<(&str, &Snapshot, Offset)> = Vec::new();
    let mut first = state.head + 1;
    for (batch, outcomes) in group.iter_mut().zip(outcomes) {
        for (encoded, outcome) in batch.records.iter_mut().zip(outcomes) {
            let Appended::Stored(position) = *outcome else {
                continue;
            };
            let offset = position.offset;
            first = first.min(offset);
            let Encoded { record, bytes, .. } = encoded;
            // Nobody else has it yet, so nothing is cloned.
            Arc::make_mut(record).position = position;
            let content = &record.content;
            state.head_weight += content.weight_bytes() as u64;
            seal(bytes, offset, state.head_weight);
            sealed.push(bytes);
            if let (Some(topic), Some(snapshot)) = (content.topics.first(), &content.snapshot) {
                snapshots.push((topic.as_str(), snapshot, offset));
            }
        }
    }
    {
        let mut blocks = txn.open_table(BLOCKS)?;
        // Offsets ascend, so all go into the gap at the end.
        let mut end = blocks.upper_bound_mut(Bound::<Offset>::Unbounded)?;
        each_block(first, &sealed, |last, bytes| {
            end.insert_before(last, bytes).map_err(redb::Error::from)
        })?;
        end.close()?;
    }
    if !snapshots.is_empty() {
        let mut table = txn.open_table(SNAPSHOTS)?;
        for (topic, snapshot, version) in snapshots {
            snapshots::store(&mut table, topic, snapshot, version)?;
        }
    }
    Ok(())
}

/// Removes records from the middle of the log, in a transaction of their own that is on the disk when this returns.
pub(super) fn erase(
    db: &Database,
    rules: &Rules,
    before: &LogState,
    index: &Index,
    offsets: &[Offset],
) -> Result<Committed, Arc<str>> {
    let run = || {
        let done = erase_in_one(db, rules, before, index, offsets);
        done.map_err(|error| error.to_string())
    };
    caught(run, std::convert::identity).map_err(Arc::from)
}

fn erase_in_one(
    db: &Database,
    rules: &Rules,
    before: &LogState,
    index: &Index,
    offsets: &[Offset],
) -> Result<Committed, redb::Error> {
    let mut state = *before;
    let txn = db.begin_write()?;
    let removed = topic_retention::erase(&txn, rules, offsets, &mut state)?;
    let count = removed.records().count() as u64;
    let mut gone_ids = Vec::new();
    tombstones::take_out_of_indexes(&txn, &index.ids, &removed, &mut gone_ids)?;
    match count {
        0 => txn.abort()?,
        _ => txn.commit()?,
    }
    Ok(Committed {
        outcomes: Vec::new(),
        state,
        trimmed: count,
        has_more_to_trim: false,
        new_ids: Vec::new(),
        gone_ids,
        gone: removed.by_topic(),
    })
}

/// The log is under another epoch from here on.
pub(super) fn begin_epoch(db: &Database, epoch: Epoch) -> Result<(), Arc<str>> {
    let write = || -> Result<(), redb::Error> {
        let txn = db.begin_write()?;
        put_meta(&mut txn.open_table(META)?, "epoch", &epoch.0.to_le_bytes())?;
        Ok(txn.commit()?)
    };
    let written = || write().map_err(|error| error.to_string());
    caught(written, std::convert::identity).map_err(Arc::from)
}

/// Takes out the records after `head`, which were never acknowledged. Nothing points at them yet: a
/// commit writes the indexes of those before it.
pub(super) fn take_back(db: &Database, head: Offset) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    // A block is of one commit, and so all of it is behind the head or nothing.
    txn.open_table(BLOCKS)?
        .retain_in(head + 1.., |_, _| false)?;
    Ok(txn.commit()?)
}

/// Writes what is left of the indexes, and notes that this was a clean end, after which the file has this stamp.
pub(super) fn write_end(
    db: &Database,
    state: &LogState,
    index: &Index,
    stamp: Option<u64>,
) -> Result<(), Arc<str>> {
    let write = || -> Result<(), redb::Error> {
        let txn = db.begin_write()?;
        if let Some(recent) = index.freeze(state.head, true) {
            recent.write(&txn, state.floor)?;
        }
        let mut meta = txn.open_table(META)?;
        meta.remove("session")?;
        if let Some(stamp) = stamp {
            put_meta(&mut meta, "stamp", &stamp.to_le_bytes())?;
        }
        drop(meta);
        Ok(txn.commit()?)
    };
    let written = || write().map_err(|error| error.to_string());
    caught(written, std::convert::identity).map_err(Arc::from)
}
