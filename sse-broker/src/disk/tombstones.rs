//! Tombstones: what is remembered of the records that the rules of topics have removed.
//!
//! Of each topic the newest removed offset, so that its readers can be told; and the ids of removed records, so
//! that a late retry does not store one again.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableError,
    WriteTransaction,
};

use super::checked::{checked, with_checksum};
use super::ids::{IdAt, Ids, list, list_value};
use super::log_state::RuleProgress;
use super::runs::take_out_of_runs;
use super::tables::{IDS, OLD_IDS, REMOVED, REMOVED_ORDER, TOPICS};
use crate::encoding::Damaged;
use crate::tombstones::{MAX_ACCOUNTS, MAX_LOOKED_AT, MAX_REMEMBERED_IDS};
use crate::{NewRecord, Offset, Scope, Topic};

/// Offsets by topic.
pub(super) type ByTopic = BTreeMap<Box<str>, Vec<Offset>>;

/// What one commit removes.
#[derive(Default)]
pub(super) struct Batch {
    records: BTreeMap<Offset, RemovedRecord>,
}

pub(super) struct RemovedRecord {
    pub(super) topics: Vec<Box<str>>,
    /// Its id, and the fingerprint of what it said.
    old_id: Option<(String, u64)>,
    announced: bool,
}

impl Batch {
    pub(super) fn add(
        &mut self,
        offset: Offset,
        topics: Vec<Box<str>>,
        old_id: Option<(String, u64)>,
        announced: bool,
    ) {
        let record = RemovedRecord {
            topics,
            old_id,
            announced,
        };
        self.records.insert(offset, record);
    }

    /// The first that was removed from an offset on.
    pub(super) fn first_from(&self, offset: Offset) -> Option<Offset> {
        let mut rest = self.records.range(offset..);
        rest.next().map(|(offset, _)| *offset)
    }

    pub(super) fn has(&self, offset: Offset) -> bool {
        self.records.contains_key(&offset)
    }

    /// The newest record after `after` that a topic within the scope has lost, as far as its readers are to hear.
    pub(super) fn newest(&self, after: Offset, scope: &Scope) -> Option<Offset> {
        let beyond = (Bound::Excluded(after), Bound::Unbounded);
        let announced = { self.records.range(beyond).rev() }.filter(|(_, record)| record.announced);
        let mut concerned = announced.filter(|(_, record)| match scope {
            Scope::All => true,
            Scope::Topics(wanted) => { record.topics.iter() }
                .any(|topic| wanted.iter().any(|wanted| wanted.as_str() == &**topic)),
            Scope::Matching(pattern) => record.topics.iter().any(|topic| pattern.matches(topic)),
        });
        concerned.next().map(|(offset, _)| *offset)
    }

    /// What was removed of each topic, in order.
    pub(super) fn by_topic(&self) -> ByTopic {
        let mut by_topic = ByTopic::new();
        for (offset, record) in self.records() {
            for topic in &record.topics {
                match by_topic.get_mut(topic) {
                    Some(offsets) if offsets.last() == Some(&offset) => {}
                    Some(offsets) => offsets.push(offset),
                    None => _ = by_topic.insert(topic.clone(), vec![offset]),
                }
            }
        }
        by_topic
    }

    /// The removed records in the order of their offsets.
    pub(super) fn records(&self) -> impl Iterator<Item = (Offset, &RemovedRecord)> {
        self.records
            .iter()
            .map(|(offset, record)| (*offset, record))
    }

    /// Writes the account; returns up to where it had to be forgotten.
    pub(super) fn store(&self, txn: &WriteTransaction) -> Result<Offset, redb::Error> {
        let mut of_topics: HashMap<&str, Offset> = HashMap::new();
        for (offset, record) in self.records().filter(|(_, record)| record.announced) {
            for topic in &record.topics {
                of_topics.insert(topic, offset);
            }
        }
        let forgotten_upto = if of_topics.is_empty() {
            0
        } else {
            note_removed(txn, of_topics)?
        };
        let ids = self.records().filter_map(|(offset, record)| {
            let (id, fingerprint) = record.old_id.as_ref()?;
            Some((offset, &**id, *fingerprint))
        });
        remember_ids(txn, ids)?;
        Ok(forgotten_upto)
    }
}

/// Notes up to where records of topics were removed; returns up to where that had to be forgotten.
pub(super) fn note_removed<'a>(
    txn: &WriteTransaction,
    of_topics: impl IntoIterator<Item = (&'a str, Offset)>,
) -> Result<Offset, redb::Error> {
    let mut removed = txn.open_table(REMOVED)?;
    let mut order = txn.open_table(REMOVED_ORDER)?;
    for (topic, offset) in of_topics {
        let before = removed
            .get(topic)?
            .and_then(|value| removed_upto(topic, value.value()).ok());
        if let Some(before) = before {
            if before >= offset {
                continue;
            }
            order.remove(&*order_key(before, topic))?;
        }
        removed.insert(
            topic,
            &*with_checksum(topic.as_bytes(), &offset.to_le_bytes()),
        )?;
        order.insert(&*order_key(offset, topic), ())?;
    }
    let mut forgotten_upto = 0;
    while order.len()? > MAX_ACCOUNTS as u64 {
        let Some((key, _)) = order.pop_first()? else {
            break;
        };
        if let Some((offset, topic)) = split_order_key(key.value()) {
            forgotten_upto = offset;
            removed.remove(topic)?;
        }
    }
    Ok(forgotten_upto)
}

fn remember_ids<'a>(
    txn: &WriteTransaction,
    ids: impl Iterator<Item = (Offset, &'a str, u64)>,
) -> Result<(), redb::Error> {
    let mut ids = ids.peekable();
    if ids.peek().is_none() {
        return Ok(());
    }
    let mut old = txn.open_table(OLD_IDS)?;
    for (offset, id, fingerprint) in ids {
        let mut value = fingerprint.to_le_bytes().to_vec();
        value.extend_from_slice(id.as_bytes());
        old.insert(offset, &*with_checksum(&offset.to_le_bytes(), &value))?;
    }
    Ok(())
}

/// Takes what was removed out of the file's index of topics, and the ids that have been remembered long enough
/// out of its lists; `gone_ids` are then to be forgotten in memory, too.
pub(super) fn take_out_of_indexes(
    txn: &WriteTransaction,
    ids: &Ids,
    batch: &Batch,
    gone_ids: &mut Vec<IdAt>,
) -> Result<(), redb::Error> {
    if batch.records.is_empty() {
        return Ok(());
    }
    let mut runs = txn.open_table(TOPICS)?;
    for (topic, offsets) in batch.by_topic() {
        take_out_of_runs(&mut runs, &topic, &offsets)?;
    }
    drop(runs);
    let mut old = txn.open_table(OLD_IDS)?;
    // Many at once, so that a list is not written anew for each.
    if old.len()? < (MAX_REMEMBERED_IDS + MAX_FORGOTTEN) as u64 {
        return Ok(());
    }
    let mut gone: BTreeMap<Offset, IdAt> = BTreeMap::new();
    while old.len()? > MAX_REMEMBERED_IDS as u64
        && let Some((offset, value)) = old.pop_first()?
    {
        let offset = offset.value();
        if let Ok((_, id)) = old_id(offset, value.value())
            && let Ok(id) = std::str::from_utf8(id)
        {
            gone.insert(offset, (ids.hash(id), offset));
        }
    }
    let mut lists = txn.open_table(IDS)?;
    let mut from = 0;
    while let Some((next, _)) = gone.range(from..).next() {
        let found = match lists.range(*next..)?.next() {
            None => break,
            Some(entry) => {
                let (last, value) = entry?;
                let last = last.value();
                (last, list(&last.to_le_bytes(), value.value()))
            }
        };
        let (last, found_ids) = found;
        if let Ok(mut kept) = found_ids {
            kept.retain(|(_, offset)| !gone.contains_key(offset));
            if kept.is_empty() {
                lists.remove(last)?;
            } else {
                lists.insert(last, &*list_value(&last.to_le_bytes(), &kept))?;
            }
        }
        from = last + 1;
    }
    gone_ids.extend(gone.into_values());
    Ok(())
}

/// Forgets what was removed up to the log's floor, a bounded piece of it: all up to it may be gone anyway.
pub(super) fn forget_upto(txn: &WriteTransaction, floor: Offset) -> Result<(), redb::Error> {
    let mut removed = txn.open_table(REMOVED)?;
    let mut order = txn.open_table(REMOVED_ORDER)?;
    let beyond = floor.saturating_add(1).to_be_bytes();
    let keys: Vec<Vec<u8>> = order
        .range::<&[u8]>(..&beyond[..])?
        .take(MAX_FORGOTTEN)
        .map(|entry| Ok(entry?.0.value().to_vec()))
        .collect::<Result<_, redb::StorageError>>()?;
    for key in keys {
        order.remove(&*key)?;
        if let Some((_, topic)) = split_order_key(&key) {
            removed.remove(topic)?;
        }
    }
    let mut old = txn.open_table(OLD_IDS)?;
    // Their ids go with the lists that they are in.
    old.retain_in(..=floor, |_, _| false)?;
    Ok(())
}

/// Whether the record that a rule has taken from `offset` had the same id and said the same; `None` when it is
/// not known or had another.
pub(super) fn said_the_same(
    txn: &WriteTransaction,
    progress: RuleProgress,
    offset: Offset,
    record: &NewRecord,
) -> Result<Option<bool>, redb::Error> {
    if offset > progress.newest_removed {
        return Ok(None);
    }
    let old = txn.open_table(OLD_IDS)?;
    let value = old.get(offset)?;
    Ok(value.and_then(|value| {
        let (fingerprint, id) = old_id(offset, value.value()).ok()?;
        let is_it = record.publisher_id().map(|id| id.as_str().as_bytes()) == Some(id);
        is_it.then(|| fingerprint == record.fingerprint())
    }))
}

/// Whether the record that a rule has taken from `offset` had this id.
pub(super) fn had_id(txn: &ReadTransaction, offset: Offset, id: &str) -> Result<bool, redb::Error> {
    let Some(old) = opened(txn.open_table(OLD_IDS))? else {
        return Ok(false);
    };
    let value = old.get(offset)?;
    Ok(value.is_some_and(|value| {
        old_id(offset, value.value()).is_ok_and(|(_, stood)| stood == id.as_bytes())
    }))
}

/// The newest removed offset after `after` of a topic within the scope.
pub(super) fn newest(
    txn: &ReadTransaction,
    progress: &RuleProgress,
    after: Offset,
    scope: &Scope,
) -> Result<Option<Offset>, redb::Error> {
    if progress.newest_removed <= after && progress.forgotten_upto <= after {
        return Ok(None);
    }
    let mut newest = progress.forgotten_upto;
    match scope {
        Scope::Topics(topics) => {
            if let Some(removed) = opened(txn.open_table(REMOVED))? {
                for topic in topics.iter() {
                    if let Some(value) = removed.get(topic.as_str())? {
                        // An account that is damaged names everything.
                        let upto = removed_upto(topic.as_str(), value.value());
                        newest = newest.max(upto.unwrap_or(progress.newest_removed));
                    }
                }
            }
        }
        Scope::All | Scope::Matching(_) => {
            if let Some(order) = opened(txn.open_table(REMOVED_ORDER))? {
                let beyond = after.saturating_add(1).to_be_bytes();
                for (n, entry) in order.range::<&[u8]>(&beyond[..]..)?.rev().enumerate() {
                    let (key, ()) = (entry?.0, ());
                    let Some((offset, topic)) = split_order_key(key.value()) else {
                        continue;
                    };
                    let is_meant = match scope {
                        Scope::Matching(pattern) => pattern.matches(topic),
                        _ => true,
                    };
                    if is_meant || n == MAX_LOOKED_AT {
                        newest = newest.max(offset);
                        break;
                    }
                }
            }
        }
    }
    Ok(Some(newest).filter(|offset| *offset > after))
}

/// All topics of which something was removed, and up to where.
pub(super) fn all(db: &Database) -> Result<Vec<(Topic, Offset)>, redb::Error> {
    let txn = db.begin_read()?;
    let mut found = Vec::new();
    if let Some(removed) = opened(txn.open_table(REMOVED))? {
        for entry in removed.iter()? {
            let (topic, value) = entry?;
            let upto = removed_upto(topic.value(), value.value());
            if let (Ok(topic), Ok(upto)) = (Topic::new(topic.value()), upto) {
                found.push((topic, upto));
            }
        }
    }
    Ok(found)
}

/// A table that is there only once it was needed.
fn opened<T>(table: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn removed_upto(topic: &str, value: &[u8]) -> Result<Offset, Damaged> {
    let bytes = checked(topic.as_bytes(), value)?;
    let bytes = bytes.try_into().map_err(|_| Damaged)?;
    Ok(Offset::from_le_bytes(bytes))
}

fn order_key(offset: Offset, topic: &str) -> Vec<u8> {
    let mut key = offset.to_be_bytes().to_vec();
    key.extend_from_slice(topic.as_bytes());
    key
}

fn split_order_key(key: &[u8]) -> Option<(Offset, &str)> {
    let (offset, topic) = key.split_first_chunk()?;
    let topic = std::str::from_utf8(topic).ok()?;
    Some((Offset::from_be_bytes(*offset), topic))
}

fn old_id(offset: Offset, value: &[u8]) -> Result<(u64, &[u8]), Damaged> {
    let bytes = checked(&offset.to_le_bytes(), value)?;
    let (fingerprint, id) = bytes.split_first_chunk().ok_or(Damaged)?;
    Ok((u64::from_le_bytes(*fingerprint), id))
}

/// As many entries as are forgotten in one commit.
const MAX_FORGOTTEN: usize = 4096;
