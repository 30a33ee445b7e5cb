//! Opening the log: what is there, whether it is ours, and which epoch it has.
//!
//! The table `meta` holds, each with a checksum behind it:
//!
//! | name | value |
//! |---|---|
//! | `format` | the version of the tables and their values, u32 |
//! | `epoch` | u64 |
//! | `floor` | the newest offset that was trimmed, and what everything up to it weighed, two u64 |
//! | `indexed` | the offset up to which `topics` and `ids` cover the records, u64 |
//! | `id_key` | what publishers' ids are hashed with, 16 bytes |
//! | `thinned` | where the rules of topics stand and what they have taken, see `thin` |
//! | `session` | there while a log is open at a level below `fsync`: the level, and the machine's boot |

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableError};

use super::block::Block;
use super::codec::RecordView;
use super::ids::{IdKey, Ids};
use super::index::{Index, Recent, read_recent};
use super::storage::{Guarded, Watch};
use super::tables::{
    BLOCKS, IDS, META, SNAPSHOTS, STATES, TOPICS, checked, look_at_each, with_checksum,
};
use super::topic_retention::{self, Thinned};
use super::{DiskConfig, Offset, tools};
use crate::topic_retention::Rules;
use crate::{Durability, Epoch};

/// The version of tables and values that is written, and the only one that is read.
const FORMAT: u32 = 2;

/// The log's file within its folder.
pub(super) const FILE_NAME: &str = "events.redb";

/// What a log is created as, until it is complete.
const NEW_FILE_NAME: &str = "events.redb.new";

/// Held while a log is open, so that a second hub is refused before it looks at anything.
const LOCK_FILE_NAME: &str = "lock";

/// How every redb file begins.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Why a log could not be opened. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder or a file in it cannot be made, read or written.
    #[error("cannot use {path} for the log: {source}", path = .path.display())]
    Unusable {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another hub has it open.
    #[error("the log in {path} is in use by another process", path = .path.display())]
    InUse {
        /// The log's folder.
        path: PathBuf,
    },
    /// There is no log, and none is to be made.
    #[error("there is no event log in {path}", path = .path.display())]
    NoLog {
        /// The folder.
        path: PathBuf,
    },
    /// There is a file of that name, but it is no log.
    #[error("{path} is not an event log", path = .path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version of this program.
    #[error("{path} has the format {found}, newer than {FORMAT}, the newest known here", path = .path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It was written by an older version of this program, from before the first release.
    #[error("{path} has the format {found}, which only the version that wrote it can read: export it there and import the copy here", path = .path.display())]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is damaged beyond what can be left out and announced.
    #[error("{path} is damaged: {reason}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The storage failed while it was being opened.
    #[error("{path} cannot be opened: {reason}", path = .path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// Where the log is kept; it can be opened again.
pub(super) struct Place {
    /// For messages.
    pub(super) path: PathBuf,
    open: Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>,
    /// Free bytes of the disk, where that is known.
    available_bytes: Box<dyn Fn() -> Option<u64> + Send>,
    /// Locked as long as this lives.
    _lock: Option<File>,
}

impl Place {
    /// The log in `folder`, made when there is none.
    pub(super) fn folder(folder: &Path) -> Result<Self, OpenError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Unusable { path, source }
        };
        let lock = lock_folder(folder)?;
        let path = folder.join(FILE_NAME);
        if !path.try_exists().map_err(unusable(&path))? {
            create(folder, &path)?;
        }
        let mut magic = Vec::new();
        let file = open_read_write(&path, false).map_err(unusable(&path))?;
        file.take(MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(unusable(&path))?;
        if magic != MAGIC {
            return Err(OpenError::NotALog { path });
        }
        let (to_open, to_measure) = (path.clone(), folder.to_owned());
        Ok(Self {
            path,
            open: Box::new(move || {
                let file = open_read_write(&to_open, false)?;
                let backend = redb::backends::FileBackend::new(file).map_err(io::Error::other)?;
                Ok(Box::new(backend))
            }),
            available_bytes: Box::new(move || available_bytes(&to_measure)),
            _lock: Some(lock),
        })
    }

    /// A log on whatever `open` opens.
    pub(super) fn storage(
        open: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + 'static,
        available_bytes: impl Fn() -> Option<u64> + Send + 'static,
    ) -> Self {
        Self {
            path: PathBuf::from("the given storage"),
            open: Box::new(open),
            available_bytes: Box::new(available_bytes),
            _lock: None,
        }
    }

    pub(super) fn available_bytes(&self) -> Option<u64> {
        (self.available_bytes)()
    }

    /// Opens the database and reads where the log stands. `session` is what becomes of the mark that
    /// tells a clean end from a crash.
    pub(super) fn open(
        &self,
        config: &DiskConfig,
        known_epoch: Option<Epoch>,
    ) -> Result<Opened, OpenError> {
        let path = || self.path.clone();
        let watch = Arc::new(Watch::default());
        let opening = || {
            let backend = (self.open)().map_err(|source| OpenError::Unusable {
                path: path(),
                source,
            })?;
            let file_bytes = backend.len().unwrap_or(0);
            let guarded = Guarded::new(backend, Arc::clone(&watch));
            let mut db = redb::Builder::new()
                .set_cache_size(config.cache_bytes)
                .create_with_backend(guarded)
                .map_err(|error| self.explain_open(error))?;
            let found = prepare(&db, config, known_epoch).map_err(|e| self.explain_prepare(e))?;
            let is_mostly_free = file_bytes / MIN_COMPACT_FACTOR > found.state.weight_bytes();
            if file_bytes > config.compact_above_bytes && is_mostly_free {
                tools::compact(&mut db).map_err(|e| self.explain(e))?;
            }
            Ok((db, found))
        };
        // redb checks much, but not every page of a damaged file before it follows it.
        let opened = catch_unwind(AssertUnwindSafe(opening)).unwrap_or_else(|panic| {
            Err(OpenError::Damaged {
                path: path(),
                reason: panic_message(&*panic),
            })
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
            id_key: found.id_key,
        })
    }

    fn explain_prepare(&self, error: Prepare) -> OpenError {
        let path = || self.path.clone();
        match error {
            Prepare::NewerFormat(found) => OpenError::NewerFormat {
                path: path(),
                found,
            },
            Prepare::OlderFormat(found) => OpenError::OlderFormat {
                path: path(),
                found,
            },
            Prepare::Damaged(reason) => OpenError::Damaged {
                path: path(),
                reason,
            },
            Prepare::Redb(error) => self.explain(*error),
        }
    }

    fn explain_open(&self, error: redb::DatabaseError) -> OpenError {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
                path: self.path.clone(),
            },
            other => self.explain(other.into()),
        }
    }

    fn explain(&self, error: redb::Error) -> OpenError {
        let path = self.path.clone();
        match error {
            redb::Error::Io(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                OpenError::Unusable { path, source }
            }
            redb::Error::Io(error)
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                OpenError::Storage {
                    path,
                    reason: error.to_string(),
                }
            }
            other => OpenError::Damaged {
                path,
                reason: other.to_string(),
            },
        }
    }
}

/// How many times larger than its records a file must be to be worth it: what is not free may take up to this.
const MIN_COMPACT_FACTOR: u64 = 4;

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    // On one line, as errors are.
    let text = text.unwrap_or("for no stated reason").replace('\n', ",");
    format!("the storage engine panicked: {text}")
}

/// Makes the folder when there is none, and locks it for as long as the file is held.
pub(super) fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Unusable { path, source }
    };
    std::fs::create_dir_all(folder).map_err(unusable(folder))?;
    let lock_path = folder.join(LOCK_FILE_NAME);
    let lock = open_read_write(&lock_path, true).map_err(unusable(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: folder.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(OpenError::Unusable {
            path: lock_path,
            source,
        }),
    }
}

fn open_read_write(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
}

/// Makes an empty log under another name and moves it into place when it is whole, so that a file
/// under the log's name is a log or none of ours.
fn create(folder: &Path, path: &Path) -> Result<(), OpenError> {
    let new = folder.join(NEW_FILE_NAME);
    let unusable = |source| OpenError::Unusable {
        path: new.clone(),
        source,
    };
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    let db = Database::create(&new).map_err(|error| match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(source)) => unusable(source),
        other => unusable(io::Error::other(other)),
    })?;
    drop(db);
    std::fs::rename(&new, path).map_err(unusable)?;
    // So that the name is as safe as the file. Not every system can sync a folder.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogState {
    pub(super) epoch: Epoch,
    pub(super) floor: Offset,
    pub(super) head: Offset,
    /// What everything up to `floor` weighed.
    pub(super) floor_weight: u64,
    /// What everything up to `head` weighs.
    pub(super) head_weight: u64,
    /// Where the rules of topics stand.
    pub(super) thinned: Thinned,
}

/// A log that is open.
pub(super) struct Opened {
    pub(super) db: Database,
    pub(super) watch: Arc<Watch>,
    pub(super) state: LogState,
    /// Up to where the file's indexes reach.
    pub(super) indexed: Offset,
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
        // A damaged file may make redb panic.
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|panic| Err(redb::Error::Corrupted(panic_message(&*panic))))
    }
}

/// What the tables say.
struct Found {
    state: LogState,
    indexed: Offset,
    id_key: IdKey,
}

pub(super) enum Prepare {
    NewerFormat(u32),
    OlderFormat(u32),
    Damaged(String),
    Redb(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Prepare {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// Reads where the log stands, makes the tables when it is new, decides on the epoch, and marks the
/// log as open. What it writes is synced, whatever the level.
fn prepare(
    db: &Database,
    config: &DiskConfig,
    known_epoch: Option<Epoch>,
) -> Result<Found, Prepare> {
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
        let has_lost = session.is_some_and(|mark| may_have_lost(&mark)) && known_epoch.is_none();
        let epoch = match (known_epoch.or(stored_epoch), has_lost) {
            (Some(epoch), false) => epoch,
            (Some(old), true) => next_epoch(old, config.epoch),
            (None, _) => config.epoch.unwrap_or_else(Epoch::random),
        };
        put_meta(&mut meta, "epoch", &epoch.0.to_le_bytes())?;
        match config.durability {
            Durability::Fsync => _ = meta.remove("session")?,
            level => put_meta(&mut meta, "session", &session_mark(level))?,
        }

        if meta.get("id_key")?.is_none() {
            put_meta(&mut meta, "id_key", &random_id_key())?;
        }
        let mut found = read_found(&blocks, &meta, epoch)?;
        let rules = Rules::fingerprint(&config.retention.topics);
        let floor = found.state.floor;
        found.state.thinned.begin(&txn, &mut meta, rules, floor)?;
        found
    };
    txn.commit()?;
    Ok(found)
}

/// The format that a log says it has, when it is one that is known here.
fn known_format(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u32, Prepare> {
    match get_meta::<4>(meta, "format")?.map(u32::from_le_bytes) {
        Some(FORMAT) => Ok(FORMAT),
        Some(found) if found > FORMAT => Err(Prepare::NewerFormat(found)),
        Some(found) => Err(Prepare::OlderFormat(found)),
        None => Err(Prepare::Damaged(
            "it does not say which format it has".into(),
        )),
    }
}

fn random_id_key() -> IdKey {
    (u128::from(Epoch::random().0) << 64 | u128::from(Epoch::random().0)).to_le_bytes()
}

/// What the tables say of a log that has been prepared.
fn read_found(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    epoch: Epoch,
) -> Result<Found, Prepare> {
    let id_key = get_meta::<16>(meta, "id_key")?;
    Ok(Found {
        state: read_state(blocks, meta, epoch)?,
        indexed: get_meta::<8>(meta, "indexed")?.map_or(0, u64::from_le_bytes),
        id_key: id_key.ok_or_else(|| Prepare::Damaged("it has no key for ids".into()))?,
    })
}

/// Where the log stands, by its tables.
fn read_state(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    epoch: Epoch,
) -> Result<LogState, Prepare> {
    let (floor, floor_weight) = match get_meta::<16>(meta, "floor")? {
        Some(bytes) => {
            let (offset, weight) = bytes.split_at(8);
            let number = |b: &[u8]| b.try_into().map_or(0, u64::from_le_bytes);
            (number(offset), number(weight))
        }
        None => (0, 0),
    };
    let thinned = read_thinned(meta)?;
    let mut state = LogState {
        epoch,
        floor,
        // The newest may have been taken by a rule.
        head: floor.max(thinned.newest),
        floor_weight,
        head_weight: floor_weight.max(thinned.newest_weight),
        thinned,
    };
    if let Some((last, bytes)) = blocks.first()?
        && thinned.newest <= floor
    {
        let last = last.value();
        // A first block that is damaged has lost its beginning: what is left of it is a gap.
        let first = Block::decode(last, bytes.value()).map_or(0, |block| block.first);
        state.floor = floor.max(first.saturating_sub(1));
    }
    if let Some((last, _)) = blocks.last()? {
        state.head = last.value().max(state.floor).max(thinned.newest);
    }
    // The newest record that is whole says what all weigh; damaged ones behind it count nothing.
    'blocks: for entry in blocks.range(state.floor + 1..)?.rev() {
        let (last, bytes) = entry?;
        let Ok(block) = Block::decode(last.value(), bytes.value()) else {
            continue;
        };
        for (offset, bytes) in block.records_from(state.floor + 1).rev() {
            if let Ok(record) = RecordView::decode(offset, bytes) {
                state.head_weight = record.running_weight.max(state.head_weight);
                break 'blocks;
            }
        }
    }
    Ok(state)
}

/// Where the rules of topics stand.
pub(super) fn read_thinned(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Thinned, Prepare> {
    let bytes = get_meta::<{ Thinned::BYTES }>(meta, topic_retention::NAME)?;
    Ok(bytes.as_ref().map(Thinned::from_bytes).unwrap_or_default())
}

/// The offset up to which everything is gone, as a reader's transaction has it.
pub(super) fn read_floor(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Offset, Prepare> {
    let bytes = get_meta::<16>(meta, "floor")?;
    let first = bytes.as_ref().and_then(|bytes| bytes.first_chunk());
    Ok(first.map_or(0, |bytes| Offset::from_le_bytes(*bytes)))
}

/// A log that was opened without deciding or writing anything.
pub(super) struct AsItIs {
    pub(super) opened: Opened,
    pub(super) format: u32,
    /// Whether it was left open at a level below `fsync`.
    pub(super) was_left_open: bool,
}

/// Opens the log for tools: redb repairs a file that was not closed, and that is all that is written.
pub(super) fn read_as_it_is(place: &Place, cache_bytes: usize) -> Result<AsItIs, OpenError> {
    let opening = || {
        let backend = (place.open)().map_err(|source| OpenError::Unusable {
            path: place.path.clone(),
            source,
        })?;
        let watch = Arc::<Watch>::default();
        let db = redb::Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(Guarded::new(backend, Arc::clone(&watch)))
            .map_err(|error| place.explain_open(error))?;
        let reading = || -> Result<(Found, u32, bool), Prepare> {
            let txn = db.begin_read()?;
            let meta = txn.open_table(META)?;
            let format = known_format(&meta)?;
            let epoch = get_meta::<8>(&meta, "epoch")?
                .map(u64::from_le_bytes)
                .map(Epoch)
                .ok_or_else(|| Prepare::Damaged("it does not say which epoch it has".into()))?;
            let was_left_open = meta.get("session")?.is_some();
            let found = read_found(&txn.open_table(BLOCKS)?, &meta, epoch)?;
            Ok((found, format, was_left_open))
        };
        let (found, format, was_left_open) = reading().map_err(|e| place.explain_prepare(e))?;
        let opened = Opened {
            db,
            watch,
            state: found.state,
            indexed: found.indexed,
            id_key: found.id_key,
        };
        Ok(AsItIs {
            opened,
            format,
            was_left_open,
        })
    };
    catch_unwind(AssertUnwindSafe(opening)).unwrap_or_else(|panic| {
        Err(OpenError::Damaged {
            path: place.path.clone(),
            reason: panic_message(&*panic),
        })
    })
}

/// A new epoch, other than the old one even when a test fixes it.
fn next_epoch(old: Epoch, fixed: Option<Epoch>) -> Epoch {
    fixed
        .filter(|epoch| *epoch != old)
        .unwrap_or_else(Epoch::random)
}

fn get_meta<const N: usize>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<[u8; N]>, Prepare> {
    let Some(value) = meta.get(name)? else {
        return Ok(None);
    };
    match checked(name.as_bytes(), value.value()).map(<[u8; N]>::try_from) {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        _ => Err(Prepare::Damaged(format!("its entry {name:?} is not whole"))),
    }
}

pub(super) fn put_meta(
    meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
    name: &str,
    bytes: &[u8],
) -> Result<(), redb::StorageError> {
    meta.insert(name, &*with_checksum(name.as_bytes(), bytes))
        .map(drop)
}

fn session_mark(level: Durability) -> Vec<u8> {
    let mut mark = vec![level as u8];
    mark.extend_from_slice(&boot_id().unwrap_or_default());
    mark
}

/// Whether a log that was left open with this mark may lack what it had acknowledged.
///
/// At the level `os` what a process wrote outlives it as long as the machine runs: the same boot as
/// then means that nothing is lost.
fn may_have_lost(mark: &[u8]) -> bool {
    let Ok(mark) = checked(b"session", mark) else {
        return true;
    };
    let same_boot = boot_id().is_some_and(|boot| mark.get(1..) == Some(&boot[..]));
    !(mark.first() == Some(&(Durability::Os as u8)) && same_boot)
}

/// What tells one run of the machine from another, where the system says it.
fn boot_id() -> Option<Vec<u8>> {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_ascii().to_vec()).filter(|id| !id.is_empty())
}

#[cfg(unix)]
fn available_bytes(folder: &Path) -> Option<u64> {
    let stats = rustix::fs::statvfs(folder).ok()?;
    stats.f_bavail.checked_mul(stats.f_frsize)
}

#[cfg(not(unix))]
fn available_bytes(_: &Path) -> Option<u64> {
    None
}
