//! What the database still reaches in the damaged file: which copy of a block is the one that counts, where the log
//! begins, and what stands beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable};

use super::super::block::RecordBlock;
use super::super::checked::checked;
use super::super::error::{LogToolError, caught};
use super::super::log_state::{read_floor, read_progress};
use super::super::meta::{MetaError, get_meta};
use super::super::snapshots;
use super::super::storage::{Guarded, Watch};
use super::super::tables::{BLOCKS, META, SNAPSHOTS, STATES};
use super::sorted::Find;
use super::source::{ReadOnly, Source};
use crate::{Epoch, Offset, Topic};

/// What the database says.
#[derive(Default)]
pub(super) struct Reached {
    /// Why it does not say all; nothing when it does.
    pub(super) failed: Option<String>,
    pub(super) epoch: Option<Epoch>,
    pub(super) floor: Option<Offset>,
    /// The newest record that the rule of a topic has taken.
    pub(super) removed_upto: Offset,
    /// Its last block.
    pub(super) head: Offset,
    /// Whether all of its blocks were shown, and each was whole.
    pub(super) has_all_blocks: bool,
    pub(super) snapshots: Values<Topic, (Offset, Bytes)>,
    pub(super) states: Values<Box<str>, Bytes>,
}

/// The small values of a table.
pub(super) struct Values<K, V> {
    pub(super) whole: BTreeMap<K, V>,
    /// The names of those that are damaged.
    pub(super) damaged: Vec<String>,
    /// Whether the table was read to its end.
    pub(super) is_complete: bool,
}

impl<K, V> Default for Values<K, V> {
    fn default() -> Self {
        Self {
            whole: BTreeMap::new(),
            damaged: Vec::new(),
            is_complete: false,
        }
    }
}

impl<K: Ord, V> Values<K, V> {
    /// Adds what was found elsewhere under names that have nothing, or something that it is newer than. What is known to
    /// be damaged stays that, unless the table could not be read to its end.
    pub(super) fn with(
        mut self,
        others: impl Iterator<Item = (K, V)>,
        is_newer: impl Fn(&V, &V) -> bool,
    ) -> Self
    where
        K: AsRef<str>,
    {
        for (key, value) in others {
            match self.whole.get(&key) {
                Some(known) if !is_newer(known, &value) => {}
                _ => {
                    self.damaged.retain(|name| name != key.as_ref());
                    self.whole.insert(key, value);
                }
            }
        }
        self
    }
}

/// Reads what the database reaches, and shows each of its blocks.
pub(super) fn look(
    source: &Arc<Source>,
    found_block: &mut dyn FnMut(Find) -> Result<(), LogToolError>,
) -> Result<Reached, LogToolError> {
    let mut reached = Reached::default();
    let opened = caught(|| {
        let guarded = Guarded::new(
            Box::new(ReadOnly(Arc::clone(source))),
            Arc::<Watch>::default(),
        );
        let mut builder = redb::Builder::new();
        let builder = builder.set_cache_size(CACHE_BYTES);
        Ok(builder
            .create_with_backend(guarded)
            .map_err(redb::Error::from)?)
    });
    let db = match opened {
        Ok(db) => db,
        Err(error) => {
            reached.failed = Some(error.to_string());
            return Ok(reached);
        }
    };
    // Each by itself: what one table has lost is no reason to do without the others.
    let mut stopped = None;
    for read in [
        read_meta as fn(&mut Reached, &ReadTransaction) -> Result<(), LogToolError>,
        read_snapshots,
        read_states,
    ] {
        let outcome = with_txn(&db, |txn| read(&mut reached, txn));
        note(&mut reached.failed, outcome);
    }
    let blocks = with_txn(&db, |txn| {
        let blocks = txn.open_table(BLOCKS)?;
        read_blocks(&mut reached, &blocks, &mut |find| {
            found_block(find).inspect_err(|_| stopped = Some(()))
        })
    });
    // It may write, into memory, and panic again.
    let closed = caught(|| {
        drop(db);
        Ok(())
    });
    if stopped.is_some() {
        // Nothing that the database is to blame for.
        blocks?;
    } else {
        reached.has_all_blocks &= blocks.is_ok();
        note(&mut reached.failed, blocks);
    }
    note(&mut reached.failed, closed);
    Ok(reached)
}

fn note(failed: &mut Option<String>, outcome: Result<(), LogToolError>) {
    if let Err(error) = outcome {
        failed.get_or_insert(error.to_string());
    }
}

fn with_txn(
    db: &Database,
    read: impl FnOnce(&ReadTransaction) -> Result<(), LogToolError>,
) -> Result<(), LogToolError> {
    caught(|| read(&db.begin_read()?))
}

fn read_meta(reached: &mut Reached, txn: &ReadTransaction) -> Result<(), LogToolError> {
    let meta = txn.open_table(META)?;
    let epoch = whole(get_meta::<8>(&meta, "epoch"))?.flatten();
    reached.epoch = epoch.map(u64::from_le_bytes).map(Epoch);
    reached.floor = whole(read_floor(&meta))?;
    let progress = whole(read_progress(&meta))?;
    reached.removed_upto = progress.map_or(0, |progress| progress.newest_removed);
    Ok(())
}

/// An entry that is damaged is none.
fn whole<T>(entry: Result<T, MetaError>) -> Result<Option<T>, LogToolError> {
    match entry {
        Ok(entry) => Ok(Some(entry)),
        Err(MetaError::Redb(error)) => Err((*error).into()),
        Err(_) => Ok(None),
    }
}

fn read_blocks(
    reached: &mut Reached,
    blocks: &ReadOnlyTable<Offset, &'static [u8]>,
    found_block: &mut dyn FnMut(Find) -> Result<(), LogToolError>,
) -> Result<(), LogToolError> {
    let mut are_whole = true;
    for entry in blocks.iter()? {
        let (last, bytes) = entry?;
        let (last, bytes) = (last.value(), bytes.value());
        let Ok(block) = RecordBlock::decode(last, bytes) else {
            are_whole = false;
            continue;
        };
        reached.head = reached.head.max(last);
        found_block(Find {
            first: block.first,
            last,
            digest: crc32fast::hash(bytes),
            at: Find::REACHED,
        })?;
    }
    reached.has_all_blocks = are_whole;
    Ok(())
}

fn read_snapshots(reached: &mut Reached, txn: &ReadTransaction) -> Result<(), LogToolError> {
    let found = &mut reached.snapshots;
    for entry in txn.open_table(SNAPSHOTS)?.iter()? {
        let (name, value) = entry?;
        let decoded = snapshots::decode(name.value(), value.value());
        match (Topic::new(name.value()), decoded) {
            (Ok(topic), Ok((version, bytes))) => {
                let value = (version, Bytes::copy_from_slice(bytes));
                found.whole.insert(topic, value);
            }
            _ => found.damaged.push(name.value().to_owned()),
        }
    }
    found.is_complete = true;
    Ok(())
}

fn read_states(reached: &mut Reached, txn: &ReadTransaction) -> Result<(), LogToolError> {
    let found = &mut reached.states;
    for entry in txn.open_table(STATES)?.iter()? {
        let (key, value) = entry?;
        match checked(key.value().as_bytes(), value.value()) {
            Ok(bytes) => {
                let value = Bytes::copy_from_slice(bytes);
                found.whole.insert(key.value().into(), value);
            }
            Err(_) => found.damaged.push(key.value().to_owned()),
        }
    }
    found.is_complete = true;
    Ok(())
}

/// How much of the file redb keeps in memory.
const CACHE_BYTES: usize = 16 << 20;
