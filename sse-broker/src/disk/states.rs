//! The small states beside the log: written with the group that is under way, read by prefix.

use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableError, WriteTransaction};

use super::checked::{checked, with_checksum};
use super::pending::StateCall;
use super::tables::STATES;
use crate::{ReadError, StoredState};

/// Writes the changes, in the order of the calls.
pub(super) fn store(txn: &WriteTransaction, calls: &[StateCall]) -> Result<(), redb::Error> {
    if calls.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(STATES)?;
    for change in calls.iter().flat_map(|call| &call.changes) {
        match &change.value {
            Some(value) => {
                table.insert(&*change.key, &*with_checksum(change.key.as_bytes(), value))?;
            }
            None => _ = table.remove(&*change.key)?,
        }
    }
    Ok(())
}

/// The states whose keys begin with `prefix`, in the order of the keys.
pub(super) fn read(db: &Database, prefix: &str) -> Result<Vec<StoredState>, ReadError> {
    read_all(db, prefix).map_err(|error| ReadError::Storage {
        reason: error.to_string().into(),
    })
}

fn read_all(db: &Database, prefix: &str) -> Result<Vec<StoredState>, redb::Error> {
    let txn = db.begin_read()?;
    let table = match txn.open_table(STATES) {
        Ok(table) => table,
        // A log from before there were states, opened by nobody since.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(other) => return Err(other.into()),
    };
    let mut found = Vec::new();
    for entry in table.range(prefix..)? {
        let (key, value) = entry?;
        let key = key.value();
        if !key.starts_with(prefix) {
            break;
        }
        found.push(StoredState {
            key: key.into(),
            value: checked(key.as_bytes(), value.value())
                .ok()
                .map(Bytes::copy_from_slice),
        });
    }
    Ok(found)
}
