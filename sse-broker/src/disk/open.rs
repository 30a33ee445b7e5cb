//! Opening the log: what is there, whether it is ours, and which epoch it has.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableError};

use super::compact::compact;
use super::config::DiskConfig;
use super::error::OpenError;
use super::ids::{IdKey, Ids};
use super::index::{Index, Recent, read_recent};
use super::location::Location;
use super::log_state::{LogState, read_state};
use super::meta::{FORMAT, MetaError, get_meta, known_format, put_meta};
use super::panics::caught;
use super::seal::NewEpoch;
use super::session::{may_have_lost, session_mark};
use super::storage::{Guarded, Watch};
use super::tables::{BLOCKS, IDS, META, SNAPSHOTS, STATES, TOPICS, look_at_each};
use super::topic_retention;
use crate::topic_retention::Rules;
use crate::{Durability, Epoch, Offset};

/// A log that is open.
pub(super) struct Opened {
    pub(super) db: Database,
    pub(super) watch: Arc<Watch>,
    pub(super) state: LogState,
    /// Up to where the file's indexes reach.
    pub(super) indexed: Offset,
    /// Why it has another epoch than before.
    pub(super) new_epoch: Option<NewEpoch>,
    id_key: IdKey,
}

impl Opened {
    /// The index of its topics and ids, of which the ids are still to be loaded.
    pub(super) fn index(&self) -> Result<Index, redb::Error> {
        let ids = Ids::new(self.id_key);
        let recent = self.read_recent(&ids)?;
        Ok(Index::new(ids, recent))
    }

    /// What the file's indexes do not cover.
    pub(super) fn read_recent(&self, ids: &Ids) -> Result<Recent, redb::Error> {
        let read = || read_recent(&self.db, ids, self.indexed, &self.state);
        caught(read, redb::Error::Corrupted)
    }
}

/// Opens the database, reads where the log stands, and marks it as open. A log that is opened anew after its
/// disk was full keeps its `known_epoch`.
pub(super) fn open(
    location: &Location,
    config: &DiskConfig,
    known_epoch: Option<Epoch>,
) -> Result<Opened, OpenError> {
    let path = || location.path.clone();
    let watch = Arc::new(Watch::default());
    let opening = || {
        let backend = location.open_storage()?;
        let file_bytes = backend.len().unwrap_or(0);
        let guarded = Guarded::new(backend, Arc::clone(&watch));
        let mut db = redb::Builder::new()
            .set_cache_size(config.cache_bytes)
            .create_with_backend(guarded)
            .map_err(|error| OpenError::database(&location.path, error))?;
        let found = prepare(&db, location, config, known_epoch)
            .map_err(|error| OpenError::meta(&location.path, error))?;
        let LogState { epoch, head, .. } = found.state;
        location
            .seal(epoch, head)
            .map_err(|source| OpenError::Unusable {
                path: path(),
                source,
            })?;
        let is_mostly_free = file_bytes / MIN_COMPACT_FACTOR > found.state.weight_bytes();
        if file_bytes > config.compact_above_bytes && is_mostly_free {
            compact(&mut db).map_err(|error| OpenError::storage(path(), error))?;
        }
        Ok((db, found))
    };
    // redb checks much, but not every page of a damaged file before it follows it.
    let opened = caught(opening, |reason| OpenError::Damaged {
        path: path(),
        reason,
    });
    // A storage that froze meanwhile did not take what was written.
    if let Some(failure) = watch.failure() {
        return Err(OpenError::Storage {
            path: path(),
            reason: failure.reason.to_string(),
        });
    }
    let (db, found) = opened?;
    watch.skip_sync(config.durability != Durability::Fsync);
    Ok(Opened {
        db,
        watch,
        state: found.state,
        indexed: found.indexed,
        new_epoch: found.new_epoch,
        id_key: found.id_key,
    })
}

/// How many times larger than its records a file must be to be compacted: records with their indexes may take up to this.
const MIN_COMPACT_FACTOR: u64 = 4;

/// What the tables say.
struct Found {
    state: LogState,
    indexed: Offset,
    new_epoch: Option<NewEpoch>,
    id_key: IdKey,
}

/// Reads where the log stands, makes the tables when it is new, decides on the epoch, and marks the
/// log as open. What it writes is synced, whatever the level.
fn prepare(
    db: &Database,
    location: &Location,
    config: &DiskConfig,
    known_epoch: Option<Epoch>,
) -> Result<Found, MetaError> {
    // Looked at first without writing, so that a log that is refused is left as it is.
    match db.begin_read()?.open_table(META) {
        Ok(meta) => _ = known_format(&meta)?,
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(other) => return Err(other.into()),
    }

    // redb panics when a damaged page says where tables are, and when another table is open for writing
    // meanwhile that one panics, too, which ends the process.
    look_at_each(&db.begin_read()?)?;
    let txn = db.begin_write()?;
    let found = {
        let blocks = txn.open_table(BLOCKS)?;
        txn.open_table(TOPICS)?;
        txn.open_table(IDS)?;
        txn.open_table(SNAPSHOTS)?;
        txn.open_table(STATES)?;
        let mut meta = txn.open_table(META)?;
        put_meta(&mut meta, "format", &FORMAT.to_le_bytes())?;

        let stored_epoch = get_meta::<8>(&meta, "epoch")?
            .map(u64::from_le_bytes)
            .map(Epoch);
        let session = meta.get("session")?.map(|value| value.value().to_vec());
        let stamp = get_meta::<8>(&meta, "stamp")?.map(u64::from_le_bytes);
        let new_epoch = match (known_epoch, stored_epoch) {
            (None, Some(_)) if session.is_some_and(|mark| may_have_lost(&mark)) => {
                Some(NewEpoch::Unsynced)
            }
            (None, Some(epoch)) => {
                let head = read_state(&blocks, &meta, epoch)?.head;
                location.judge(stamp, epoch, head, config.same_log)
            }
            _ => None,
        };
        let epoch = match (known_epoch.or(stored_epoch), &new_epoch) {
            (Some(epoch), None) => epoch,
            (Some(old), Some(_)) => next_epoch(old, config.epoch),
            (None, _) => config.epoch.unwrap_or_else(Epoch::random),
        };
        put_meta(&mut meta, "epoch", &epoch.0.to_le_bytes())?;
        let next_stamp = location.next_stamp().map_err(redb::Error::Io)?;
        if let Some(stamp) = next_stamp {
            put_meta(&mut meta, "stamp", &stamp.to_le_bytes())?;
        }
        match config.durability {
            Durability::Fsync => _ = meta.remove("session")?,
            level => put_meta(&mut meta, "session", &session_mark(level))?,
        }

        if meta.get("id_key")?.is_none() {
            put_meta(&mut meta, "id_key", &random_id_key())?;
        }
        let mut found = Found {
            new_epoch,
            ..read_found(&blocks, &meta, epoch)?
        };
        let rules = Rules::fingerprint(&config.retention.topics);
        let floor = found.state.floor;
        let progress = &mut found.state.retention;
        topic_retention::begin(progress, &txn, &mut meta, rules, floor)?;
        found
    };
    txn.commit()?;
    Ok(found)
}

fn random_id_key() -> IdKey {
    (u128::from(Epoch::random().0) << 64 | u128::from(Epoch::random().0)).to_le_bytes()
}

/// What the tables say of a log that has been prepared.
fn read_found(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    epoch: Epoch,
) -> Result<Found, MetaError> {
    let id_key = get_meta::<16>(meta, "id_key")?;
    Ok(Found {
        state: read_state(blocks, meta, epoch)?,
        indexed: get_meta::<8>(meta, "indexed")?.map_or(0, u64::from_le_bytes),
        new_epoch: None,
        id_key: id_key.ok_or_else(|| MetaError::Damaged("it has no key for ids".into()))?,
    })
}

/// A log that was opened without deciding or writing anything.
pub(super) struct AsItIs {
    pub(super) opened: Opened,
    pub(super) format: u32,
    /// Whether it was left open at a level below `fsync`.
    pub(super) was_left_open: bool,
}

/// Opens the log for tools: redb repairs a file that was not closed, and that is all that is written.
pub(super) fn open_as_it_is(location: &Location, cache_bytes: usize) -> Result<AsItIs, OpenError> {
    let opening = || {
        let watch = Arc::<Watch>::default();
        let guarded = Guarded::new(location.open_storage()?, Arc::clone(&watch));
        let db = redb::Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(guarded)
            .map_err(|error| OpenError::database(&location.path, error))?;
        let (found, format, was_left_open) =
            read_as_it_is(&db).map_err(|error| OpenError::meta(&location.path, error))?;
        let opened = Opened {
            db,
            watch,
            state: found.state,
            indexed: found.indexed,
            new_epoch: None,
            id_key: found.id_key,
        };
        Ok(AsItIs {
            opened,
            format,
            was_left_open,
        })
    };
    caught(opening, |reason| OpenError::Damaged {
        path: location.path.clone(),
        reason,
    })
}

/// What the tables say, the format, and whether the log was left open.
fn read_as_it_is(db: &Database) -> Result<(Found, u32, bool), MetaError> {
    let txn = db.begin_read()?;
    let meta = txn.open_table(META)?;
    let format = known_format(&meta)?;
    let epoch = get_meta::<8>(&meta, "epoch")?
        .map(u64::from_le_bytes)
        .map(Epoch)
        .ok_or_else(|| MetaError::Damaged("it does not say which epoch it has".into()))?;
    let was_left_open = meta.get("session")?.is_some();
    let found = read_found(&txn.open_table(BLOCKS)?, &meta, epoch)?;
    Ok((found, format, was_left_open))
}

/// A new epoch, other than the old one even when a test fixes it.
fn next_epoch(old: Epoch, fixed: Option<Epoch>) -> Epoch {
    fixed
        .filter(|epoch| *epoch != old)
        .unwrap_or_else(Epoch::random)
}
