//! The tables of the log's file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `blocks` | offset of the last record | records side by side, see `block` and `codec` |
//! | `topics` | topic, NUL, first offset (big-endian) | the offsets that follow it, as differences, see `runs`; checksum |
//! | `ids` | offset of the last | hashes of publishers' ids and their offsets, see `ids`; checksum |
//! | `snapshots` | topic | the bytes and their version, see `snapshots`; checksum |
//! | `states` | key | the bytes; checksum |
//! | `meta` | name | see `meta` |
//! | `queues` | a rule's number, NUL, first offset | the offsets of a rule's records, as in `topics` |
//! | `accounts` | a rule's number | how many records and bytes it has |
//! | `newest` | topic | the offsets of its newest records, as in `topics` |
//! | `removed` | topic | the newest offset that a rule has removed of it |
//! | `removed_order` | that offset (big-endian), topic | |
//! | `old_ids` | offset that a rule has removed | the fingerprint of what stood there, and its id |
//!
//! The last six are there only once there was a rule for topics, see `topic_retention` and `tombstones`.
//!
//! A commit writes a few entries of `blocks` and, unless there are snapshots or states, nothing else;
//! `topics` and `ids` follow some thousand records later, see `index`.

use redb::{Key, ReadTransaction, TableDefinition, TableError, Value};

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
