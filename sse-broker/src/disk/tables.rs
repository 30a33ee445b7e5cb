//! The tables of the log's file, and the keys and values of those that are indexes.
//!
//! | table | key | value |
//! |---|---|---|
//! | `blocks` | offset of the last record | records side by side, see `block` and `codec` |
//! | `topics` | topic, NUL, first offset (big-endian) | the offsets that follow it, as differences; checksum |
//! | `ids` | offset of the last | hashes of publishers' ids and their offsets, see `ids`; checksum |
//! | `snapshots` | topic | the bytes; checksum |
//! | `states` | key | the bytes; checksum |
//! | `meta` | name | see `open` |
//! | `queues` | a rule's number, NUL, first offset | the offsets of a rule's records, as in `topics` |
//! | `accounts` | a rule's number | how many records and bytes it has |
//! | `newest` | topic | the offsets of its newest records, as in `topics` |
//! | `removed` | topic | the newest offset that a rule has taken of it |
//! | `removed_order` | that offset (big-endian), topic | |
//! | `old_ids` | offset that a rule has taken | the fingerprint of what stood there, and its id |
//!
//! The last six are there only once a rule for topics was; see `thin`.
//!
//! A commit writes a few entries of `blocks` and, unless there are snapshots or states, nothing else;
//! `topics` and `ids` follow some thousand records later, see `index`.

use redb::{
    Key, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, TableError, Value,
};

use super::codec::{Damaged, Rest, put_number};
use crate::Offset;

pub(super) const BLOCKS: TableDefinition<'_, Offset, &[u8]> = TableDefinition::new("blocks");
pub(super) const TOPICS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("topics");
pub(super) const IDS: TableDefinition<'_, Offset, &[u8]> = TableDefinition::new("ids");
pub(super) const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
pub(super) const STATES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("states");
pub(super) const QUEUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("queues");
pub(super) const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");
pub(super) const NEWEST: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("newest");
pub(super) const REMOVED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("removed");
pub(super) const REMOVED_ORDER: TableDefinition<'_, &[u8], ()> =
    TableDefinition::new("removed_order");
pub(super) const OLD_IDS: TableDefinition<'_, Offset, &[u8]> = TableDefinition::new("old_ids");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Opens each table there is for reading, one at a time, and closes it again.
pub(super) fn look_at_each(txn: &ReadTransaction) -> Result<(), TableError> {
    fn look<K: Key + 'static, V: Value + 'static>(
        txn: &ReadTransaction,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), TableError> {
        match txn.open_table(table) {
            Ok(_) | Err(TableError::TableDoesNotExist(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }
    look(txn, BLOCKS)?;
    look(txn, TOPICS)?;
    look(txn, IDS)?;
    look(txn, SNAPSHOTS)?;
    look(txn, STATES)?;
    look(txn, META)?;
    look(txn, QUEUES)?;
    look(txn, ACCOUNTS)?;
    look(txn, NEWEST)?;
    look(txn, REMOVED)?;
    look(txn, REMOVED_ORDER)?;
    look(txn, OLD_IDS)
}

/// How many offsets an entry of `topics` holds at most: a page's worth.
pub(super) const MAX_RUN: usize = 512;

/// The key of a topic's run that begins at `first`. A topic holds no control character, so NUL ends
/// it and keys of a topic lie side by side in the order of their offsets.
pub(super) fn run_key(topic: &str, first: Offset) -> Vec<u8> {
    let mut key = Vec::with_capacity(topic.len() + 9);
    key.extend_from_slice(topic.as_bytes());
    key.push(0);
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// The value for ascending offsets of which the first stands in the key.
pub(super) fn run_value(key: &[u8], offsets: &[Offset]) -> Vec<u8> {
    let mut value = Vec::with_capacity(offsets.len() * 2 + 4);
    for pair in offsets.windows(2) {
        put_number(&mut value, pair[1].saturating_sub(pair[0]));
    }
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum.to_le_bytes());
    value
}

/// The offsets of a run, ascending.
pub(super) fn run_offsets(key: &[u8], value: &[u8]) -> Result<Vec<Offset>, Damaged> {
    let first = key
        .last_chunk::<8>()
        .map(|bytes| Offset::from_be_bytes(*bytes))
        .ok_or(Damaged)?;
    let (differences, stored) = value.split_last_chunk::<4>().ok_or(Damaged)?;
    if checksum(key, differences) != u32::from_le_bytes(*stored) {
        return Err(Damaged);
    }
    let mut rest = Rest(differences);
    let mut offsets = vec![first];
    let mut last = first;
    while !rest.0.is_empty() {
        last = last.checked_add(rest.number()?).ok_or(Damaged)?;
        offsets.push(last);
    }
    Ok(offsets)
}

/// Takes offsets, which ascend, out of the runs of `topic`. Costs the runs that they are in.
pub(super) fn take_out_of_runs(
    runs: &mut Table<'_, &'static [u8], &'static [u8]>,
    topic: &str,
    offsets: &[Offset],
) -> Result<(), StorageError> {
    let mut rest = offsets;
    while let Some(next) = rest.first() {
        let (first, upto) = (run_key(topic, 0), run_key(topic, *next));
        let found = match runs.range::<&[u8]>(&*first..=&*upto)?.next_back() {
            None => None,
            Some(entry) => {
                let (key, value) = entry?;
                let run = run_offsets(key.value(), value.value());
                run.ok().map(|run| (key.value().to_vec(), run))
            }
        };
        let Some((key, run)) = found else {
            rest = &rest[1..];
            continue;
        };
        let last = run.last().copied().unwrap_or_default();
        let within = rest.partition_point(|offset| *offset <= last).max(1);
        let (taken, after) = rest.split_at(within);
        rest = after;
        let kept: Vec<_> = run
            .iter()
            .copied()
            .filter(|offset| taken.binary_search(offset).is_err())
            .collect();
        if kept.len() == run.len() {
            continue;
        }
        runs.remove(&*key)?;
        if let Some(first) = kept.first() {
            let key = run_key(topic, *first);
            runs.insert(&*key, &*run_value(&key, &kept))?;
        }
    }
    Ok(())
}

/// Bytes with their checksum behind them, for the small values of other tables.
pub(super) fn with_checksum(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes.len() + 4);
    value.extend_from_slice(bytes);
    value.extend_from_slice(&checksum(key, bytes).to_le_bytes());
    value
}

/// What [`with_checksum`] was given.
pub(super) fn checked<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (bytes, stored) = value.split_last_chunk::<4>().ok_or(Damaged)?;
    if checksum(key, bytes) == u32::from_le_bytes(*stored) {
        Ok(bytes)
    } else {
        Err(Damaged)
    }
}

fn checksum(key: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_was_written_or_found_out() {
        for offsets in [vec![1], vec![5, 6, 7], vec![1, 1_000, u64::MAX]] {
            let key = run_key("job/42", offsets[0]);
            let value = run_value(&key, &offsets);
            assert_eq!(run_offsets(&key, &value), Ok(offsets.clone()));
            for at in 0..value.len() {
                let mut flipped = value.clone();
                flipped[at] ^= 1;
                assert_eq!(run_offsets(&key, &flipped), Err(Damaged));
                assert_eq!(run_offsets(&key, &value[..at]), Err(Damaged));
            }
            assert_eq!(
                run_offsets(&run_key("job/43", offsets[0]), &value),
                Err(Damaged)
            );
        }
        assert_eq!(run_offsets(b"", b""), Err(Damaged));
    }

    #[test]
    fn runs_of_a_topic_lie_side_by_side_in_order() {
        let mut keys: Vec<_> = ["a", "a/b", "ab", "b"]
            .iter()
            .flat_map(|topic| [0, 1, 255, 256, u64::MAX].map(|first| run_key(topic, first)))
            .collect();
        let in_order = keys.clone();
        keys.sort();
        assert_eq!(keys, in_order);
    }

    #[test]
    fn a_checked_value_is_whole_and_under_its_own_key() {
        let value = with_checksum(b"job/1", b"state");
        assert_eq!(checked(b"job/1", &value), Ok(&b"state"[..]));
        assert_eq!(checked(b"job/2", &value), Err(Damaged));
        assert_eq!(checked(b"job/1", &value[..3]), Err(Damaged));
    }
}
