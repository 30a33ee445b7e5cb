//! Finding a record by its publisher's id, and the snapshots of topics.

use bytes::Bytes;
use redb::{Database, ReadableDatabase};
use sse_protocol::EventId;

use super::index::Index;
use super::read_error::storage_error;
use super::scan::view_at;
use super::snapshots;
use super::tables::{BLOCKS, SNAPSHOTS};
use super::tombstones;
use crate::encoding::Damaged;
use crate::{Bounds, Offset, Position, ReadError, Topic};

/// Where the retained record with this id stands.
pub(super) fn locate(
    db: &Database,
    index: &Index,
    bounds: Bounds,
    id: &EventId,
) -> Result<Option<Offset>, ReadError> {
    index.ids.wait_until_loaded();
    let hash = index.ids.hash(id.as_str());
    let candidates = index.ids.candidates(hash, bounds.floor, bounds.head);
    if candidates.is_empty() {
        return Ok(None);
    }
    let txn = db.begin_read().map_err(storage_error)?;
    let blocks = txn.open_table(BLOCKS).map_err(storage_error)?;
    for offset in candidates {
        let has_id = view_at(&blocks, offset, |view| {
            view.publisher_id() == Some(id.as_str())
        });
        let is_it = match has_id.map_err(storage_error)? {
            Some(is_it) => is_it,
            // A rule may have removed it, and its id is remembered.
            None => tombstones::had_id(&txn, offset, id.as_str()).map_err(storage_error)?,
        };
        if is_it {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

pub(super) fn snapshots(db: &Database, prefix: &str) -> Result<Vec<(Topic, Bytes)>, ReadError> {
    let txn = db.begin_read().map_err(storage_error)?;
    let table = txn.open_table(SNAPSHOTS).map_err(storage_error)?;
    let mut found = Vec::new();
    for entry in table.range(prefix..).map_err(storage_error)? {
        let (topic, value) = entry.map_err(storage_error)?;
        let name = topic.value();
        if !name.starts_with(prefix) {
            break;
        }
        let damaged = || ReadError::Storage {
            reason: format!("the snapshot of {name:?} is damaged").into(),
        };
        let topic = Topic::new(name).map_err(|_| damaged())?;
        let (_, bytes) = snapshots::decode(name, value.value()).map_err(|Damaged| damaged())?;
        found.push((topic, Bytes::copy_from_slice(bytes)));
    }
    Ok(found)
}

/// The version of a topic's snapshot.
pub(super) fn snapshot_version(
    db: &Database,
    bounds: Bounds,
    topic: &str,
) -> Result<Position, ReadError> {
    let txn = db.begin_read().map_err(storage_error)?;
    let table = txn.open_table(SNAPSHOTS).map_err(storage_error)?;
    Ok(Position {
        epoch: bounds.epoch,
        offset: snapshots::version(&table, topic).map_err(storage_error)?,
    })
}
