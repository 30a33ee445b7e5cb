//! What a log holds, at a glance.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableError};

use super::block::RecordBlock;
use super::codec::RecordView;
use super::error::{LogToolError, caught};
use super::ids::list;
use super::index::Recent;
use super::runs::{run_key, topic_of};
use super::stopped::StoppedLog;
use super::tables::{BLOCKS, IDS, SNAPSHOTS, STATES, TOPICS};
use crate::{Bounds, Offset, UnixMillis};

/// What a log holds, see [`StoppedLog::inspect`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The size of its file.
    pub file_bytes: u64,
    /// The version of its tables and values.
    pub format: u32,
    /// What it covers.
    pub bounds: Bounds,
    /// How many records it has, damaged and missing ones included.
    pub records: u64,
    /// What they weigh, as retention counts it.
    pub weight_bytes: u64,
    /// When the oldest whole record was published.
    pub oldest: Option<UnixMillis>,
    /// When the newest whole record was published.
    pub newest: Option<UnixMillis>,
    /// How many topics they have.
    pub topics: u64,
    /// How many publishers' ids it knows.
    pub ids: u64,
    /// How many snapshots stand beside topics.
    pub snapshots: u64,
    /// How many other states stand beside it.
    pub states: u64,
    /// Whether it was left open at a level below `fsync`: who opens it next may begin a new epoch.
    pub was_left_open: bool,
}

impl StoppedLog {
    /// What it holds. Costs a seek for each topic.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn inspect(&self) -> Result<Inspection, LogToolError> {
        caught(|| {
            let txn = self.db.begin_read()?;
            // What the file's indexes do not have yet.
            let recent = self.index.freeze(self.state.head, true);
            let (oldest, newest) = ages(&txn, self.state.floor + 1)?;
            Ok(Inspection {
                file_bytes: self.file_bytes(),
                format: self.format,
                bounds: self.bounds(),
                records: self.state.records(),
                weight_bytes: self.state.weight_bytes(),
                oldest,
                newest,
                topics: count_topics(&txn, recent.as_deref())?,
                ids: count_ids(&txn, self.state.floor, recent.as_deref())?,
                snapshots: txn.open_table(SNAPSHOTS)?.len()?,
                states: count_states(&txn)?,
                was_left_open: self.was_left_open,
            })
        })
    }
}

/// When the oldest and the newest whole record from an offset on were published.
fn ages(
    txn: &ReadTransaction,
    from: Offset,
) -> Result<(Option<UnixMillis>, Option<UnixMillis>), redb::Error> {
    let blocks = txn.open_table(BLOCKS)?;
    let published_at = |(offset, bytes): (Offset, &[u8])| {
        let view = RecordView::decode(offset, bytes).ok()?;
        Some(view.published_at)
    };
    let mut oldest = None;
    for entry in blocks.range(from..)? {
        let (last, bytes) = entry?;
        oldest = RecordBlock::decode(last.value(), bytes.value())
            .ok()
            .and_then(|block| block.records_from(from).find_map(published_at));
        if oldest.is_some() {
            break;
        }
    }
    let mut newest = None;
    for entry in blocks.range(from..)?.rev() {
        let (last, bytes) = entry?;
        newest = RecordBlock::decode(last.value(), bytes.value())
            .ok()
            .and_then(|block| block.records_from(from).rev().find_map(published_at));
        if newest.is_some() {
            break;
        }
    }
    Ok((oldest, newest))
}

fn count_topics(txn: &ReadTransaction, recent: Option<&Recent>) -> Result<u64, redb::Error> {
    let runs = txn.open_table(TOPICS)?;
    let mut topics = 0;
    let mut from = Bound::Unbounded;
    loop {
        let bounds = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
        let Some(entry) = runs.range::<&[u8]>(bounds)?.next() else {
            break;
        };
        let (key, _) = entry?;
        topics += 1;
        from = Bound::Excluded(run_key(&topic_of(key.value()), Offset::MAX));
    }
    for topic in recent.into_iter().flat_map(Recent::topics) {
        let name = topic.as_str();
        let (first, last) = (run_key(name, 0), run_key(name, Offset::MAX));
        let is_new = runs.range::<&[u8]>(&*first..=&*last)?.next().is_none();
        topics += u64::from(is_new);
    }
    Ok(topics)
}

fn count_ids(
    txn: &ReadTransaction,
    floor: Offset,
    recent: Option<&Recent>,
) -> Result<u64, redb::Error> {
    let mut ids = recent.map_or(0, |recent| recent.ids_after(floor).count());
    for entry in txn.open_table(IDS)?.range(floor + 1..)? {
        let (last, value) = entry?;
        let list = list(&last.value().to_le_bytes(), value.value()).unwrap_or_default();
        ids += list.iter().filter(|(_, offset)| *offset > floor).count();
    }
    Ok(ids as u64)
}

fn count_states(txn: &ReadTransaction) -> Result<u64, redb::Error> {
    match txn.open_table(STATES) {
        Ok(table) => Ok(table.len()?),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(other) => Err(other.into()),
    }
}
