//! Writing a log record by record: a new one as it was, or more at the end of one that is there.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase};
use tokio::sync::oneshot;

use super::commit::{self, Group};
use super::config::DiskConfig;
use super::error::{LogToolError, OpenError, caught};
use super::ids::IdHash;
use super::index::Index;
use super::location::{FILE_NAME, Location, is_empty, lock_folder};
use super::log_state::LogState;
use super::meta::put_meta;
use super::open::{Opened, open};
use super::pending::{Encoded, StateCall};
use super::scan::{for_each_record, view_at};
use super::snapshots;
use super::states;
use super::storage::Watch;
use super::tables::{BLOCKS, META, SNAPSHOTS};
use super::tombstones;
use crate::queue::Batch;
use crate::topic_retention::Rules;
use crate::{
    Appended, Bounds, Epoch, NewRecord, Offset, Position, Retention, Snapshot, StateChange, Topic,
};

/// A log that is being written from a copy of one.
///
/// A new log is made beside its place and moved there when it is whole, so that an import that broke off
/// leaves nothing that looks like a log. Records that are appended to a log are committed in groups as
/// they come.
pub struct LogImport {
    location: Location,
    db: Database,
    watch: Arc<Watch>,
    config: DiskConfig,
    state: LogState,
    index: Index,
    waiting: Vec<Encoded>,
    /// The ids of what waits.
    waiting_ids: HashSet<IdHash>,
    weight_bytes: usize,
    target: Target,
    imported: Imported,
}

enum Target {
    /// Made in a folder within the log's own, and moved at the end.
    New {
        folder: PathBuf,
        _lock: File,
    },
    Existing,
}

/// What became of the records of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// They are in the log.
    pub stored: u64,
    /// The same was there already.
    pub duplicates: u64,
    /// Their id belongs to another record; they were left out.
    pub conflicts: u64,
}

impl LogImport {
    /// A new log in `folder`, which must be empty or not there, for records of `epoch` after `floor`.
    ///
    /// # Errors
    ///
    /// [`LogToolError::NotEmpty`], and what [`OpenError`] says.
    pub fn create(folder: &Path, epoch: Epoch, floor: Offset) -> Result<Self, LogToolError> {
        if !is_empty(folder) {
            return Err(LogToolError::NotEmpty(folder.to_owned()));
        }
        let lock = lock_folder(folder)?;
        let config = DiskConfig {
            epoch: Some(epoch),
            ..Self::config()
        };
        let location = Location::folder(&folder.join(BUILD_FOLDER))?;
        let mut opened = open(&location, &config, None)?;
        opened.state.floor = floor;
        opened.state.head = floor;
        let target = Target::New {
            folder: folder.to_owned(),
            _lock: lock,
        };
        caught(|| {
            let txn = opened.db.begin_write()?;
            let mut value = floor.to_le_bytes().to_vec();
            value.extend_from_slice(&0u64.to_le_bytes());
            put_meta(&mut txn.open_table(META)?, "floor", &value)?;
            Ok(txn.commit()?)
        })?;
        Self::new(location, config, opened, target)
    }

    /// The log in `folder`: records get new positions behind those that are there.
    ///
    /// # Errors
    ///
    /// What [`OpenError`] says.
    pub fn append(folder: &Path) -> Result<Self, LogToolError> {
        if !folder.join(FILE_NAME).is_file() {
            return Err(OpenError::NoLog {
                path: folder.to_owned(),
            }
            .into());
        }
        let location = Location::folder(folder)?;
        let config = Self::config();
        let opened = open(&location, &config, None)?;
        Self::new(location, config, opened, Target::Existing)
    }

    /// Synced, and nothing is trimmed: the hub will do it, when its own retention says so.
    fn config() -> DiskConfig {
        DiskConfig {
            retention: Retention::UNBOUNDED,
            ..DiskConfig::default()
        }
    }

    fn new(
        location: Location,
        config: DiskConfig,
        opened: Opened,
        target: Target,
    ) -> Result<Self, LogToolError> {
        let index = caught(|| {
            let index = opened.index()?;
            index.load_ids(&opened.db, &opened.state)?;
            Ok(index)
        })?;
        let Opened {
            db, watch, state, ..
        } = opened;
        // Until it is moved to its place nobody counts on it, and the last sync is of all of it.
        watch.skip_sync(matches!(target, Target::New { .. }));
        Ok(Self {
            location,
            db,
            watch,
            config,
            state,
            index,
            waiting: Vec::new(),
            waiting_ids: HashSet::new(),
            weight_bytes: 0,
            target,
            imported: Imported::default(),
        })
    }

    /// What the log covers so far, and what it was given but has not committed yet.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            head: self.state.head + self.waiting.len() as u64,
            ..self.state.bounds()
        }
    }

    /// Takes the next record. A new log gives it the offset of `at`, and leaves out those between as a
    /// damaged log does, to be announced; a log that is appended to gives it the next.
    ///
    /// # Errors
    ///
    /// When the records of a new log are not in order or two have one id, and when the storage fails.
    pub fn push(&mut self, at: Offset, content: NewRecord) -> Result<(), LogToolError> {
        if let Target::New { .. } = self.target {
            let after = self.bounds().head;
            if at <= after {
                return Err(LogToolError::OutOfOrder { offset: at, after });
            }
            if at > after + 1 {
                self.flush()?;
                self.state.head = at - 1;
            }
        }
        self.weight_bytes += content.weight_bytes();
        let encoded = Encoded::new(content, &self.index.ids);
        self.waiting_ids.extend(encoded.id_hash);
        self.waiting.push(encoded);
        if self.weight_bytes >= MAX_GROUP_BYTES || self.waiting.len() >= MAX_GROUP_RECORDS {
            self.flush()?;
        }
        Ok(())
    }

    /// As [`push`](Self::push), but leaves a record out whose id an earlier one has; whether it was taken.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub(super) fn push_unless_repeated(
        &mut self,
        at: Offset,
        content: NewRecord,
    ) -> Result<bool, LogToolError> {
        if let Some(id) = content.publisher_id() {
            let hash = self.index.ids.hash(id.as_str());
            if self.waiting_ids.contains(&hash) {
                self.flush()?;
            }
            let LogState { floor, head, .. } = self.state;
            let known = self.index.ids.candidates(hash, floor, head);
            if !known.is_empty() && self.has_id(&known, id.as_str())? {
                return Ok(false);
            }
        }
        self.push(at, content)?;
        Ok(true)
    }

    /// Whether a record at one of these offsets has this id.
    fn has_id(&self, offsets: &[Offset], id: &str) -> Result<bool, LogToolError> {
        caught(|| {
            let txn = self.db.begin_read()?;
            let blocks = txn.open_table(BLOCKS)?;
            for offset in offsets {
                let has_id = view_at(&blocks, *offset, |view| view.publisher_id() == Some(id))?;
                if has_id == Some(true) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Puts what stood beside a topic there.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn put_snapshots(&mut self, of_topics: &[(Topic, Vec<u8>)]) -> Result<(), LogToolError> {
        // As if the newest record had put them.
        let (db, version) = (&self.db, self.state.head.max(1));
        caught(|| {
            let txn = db.begin_write()?;
            let mut table = txn.open_table(SNAPSHOTS)?;
            for (topic, bytes) in of_topics {
                let snapshot = Snapshot::Put(Bytes::copy_from_slice(bytes));
                snapshots::store(&mut table, topic.as_str(), &snapshot, version)?;
            }
            drop(table);
            Ok(txn.commit()?)
        })
    }

    /// Notes what the rules of topics have removed from the log that a new one is the copy of: that records up
    /// to `upto` are missing because of it, and of which topics readers are to hear. To be called after the
    /// last record; a log that is appended to has its own account.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn put_removed(
        &mut self,
        upto: Offset,
        topics: &[(Topic, Offset)],
    ) -> Result<(), LogToolError> {
        self.flush()?;
        if let (Target::Existing, _) | (_, 0) = (&self.target, upto) {
            return Ok(());
        }
        let (db, state) = (&self.db, &mut self.state);
        caught(|| {
            let txn = db.begin_write()?;
            let mut kept = 0;
            for_each_record(&txn.open_table(BLOCKS)?, state.floor + 1, upto, |_, _| {
                kept += 1
            })?;
            state.head = state.head.max(upto);
            state.retention.newest_removed = upto;
            state.retention.newest_removed_weight = state.head_weight;
            state.retention.records = upto.saturating_sub(state.floor).saturating_sub(kept);
            let of_topics = topics.iter().map(|(topic, upto)| (topic.as_str(), *upto));
            state.retention.forgotten_upto = tombstones::note_removed(&txn, of_topics)?;
            state.retention.put(&mut txn.open_table(META)?)?;
            Ok(txn.commit()?)
        })
    }

    /// Puts states beside the log.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn put_states(&mut self, changes: Vec<StateChange>) -> Result<(), LogToolError> {
        let (answer, _) = oneshot::channel();
        let call = StateCall {
            changes,
            weight_bytes: 0,
            answer,
        };
        let db = &self.db;
        caught(|| {
            let txn = db.begin_write()?;
            states::store(&txn, std::slice::from_ref(&call))?;
            Ok(txn.commit()?)
        })
    }

    fn flush(&mut self) -> Result<(), LogToolError> {
        let records = std::mem::take(&mut self.waiting);
        self.waiting_ids.clear();
        self.weight_bytes = 0;
        if records.is_empty() {
            return Ok(());
        }
        let first = self.state.head + 1;
        let (answer, _) = oneshot::channel();
        let mut group = VecDeque::from([Batch {
            records,
            weight_bytes: 0,
            answer,
        }]);
        let to_commit = Group {
            batches: &mut group,
            states: &[],
            now: None,
        };
        let (db, config, state) = (&self.db, &self.config, &self.state);
        let rules = &Rules::new(&[]);
        let done = commit::commit(db, config, rules, state, &self.index, to_commit)
            .map_err(|reason| LogToolError::Storage(reason.to_string()))?;
        // The storage says that all is well once it has failed, and keeps in memory what it cannot write.
        if let Some(failure) = self.watch.failure() {
            return Err(LogToolError::Storage(failure.reason.to_string()));
        }
        done.note(&self.index, &group);
        for (outcome, expected) in done.outcomes.iter().flatten().zip(first..) {
            let epoch = self.state.epoch;
            match (outcome, &self.target) {
                (Appended::Stored(at), Target::Existing) if at.epoch == epoch => {
                    self.imported.stored += 1;
                }
                (Appended::Stored(at), Target::New { .. })
                    if *at
                        == (Position {
                            epoch,
                            offset: expected,
                        }) =>
                {
                    self.imported.stored += 1;
                }
                (_, Target::New { .. }) => return Err(LogToolError::SameId(expected)),
                (Appended::Duplicate(_), _) => self.imported.duplicates += 1,
                _ => self.imported.conflicts += 1,
            }
        }
        self.state = done.state;
        Ok(())
    }

    /// Commits the rest, and moves a new log into its place.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn finish(mut self) -> Result<Imported, LogToolError> {
        self.flush()?;
        self.watch.skip_sync(false);
        let failed = |reason: String| LogToolError::Storage(reason);
        let stamp = self.location.next_stamp();
        let stamp = stamp.map_err(|error| failed(error.to_string()))?;
        commit::write_end(&self.db, &self.state, &self.index, stamp)
            .map_err(|reason| failed(reason.to_string()))?;
        if let Some(failure) = self.watch.failure() {
            return Err(failed(failure.reason.to_string()));
        }
        let sealed = self.location.seal(self.state.epoch, self.state.head);
        sealed.map_err(|error| failed(error.to_string()))?;
        let Self {
            location,
            db,
            target,
            imported,
            ..
        } = self;
        drop(db);
        drop(location);
        if let Target::New { folder, _lock } = &target {
            let build = folder.join(BUILD_FOLDER);
            let move_it = || -> std::io::Result<()> {
                std::fs::rename(build.join(FILE_NAME), folder.join(FILE_NAME))?;
                std::fs::remove_dir_all(&build)?;
                // Not every system can sync a folder.
                if let Ok(folder) = File::open(folder) {
                    let _ = folder.sync_all();
                }
                Ok(())
            };
            move_it().map_err(|source| OpenError::Unusable {
                path: folder.clone(),
                source,
            })?;
        }
        Ok(imported)
    }
}

impl std::fmt::Debug for LogImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogImport")
            .field("bounds", &self.bounds())
            .finish_non_exhaustive()
    }
}

/// Where a new log is made, within its folder.
const BUILD_FOLDER: &str = "import";
/// One commit's worth, as the hub has it.
const MAX_GROUP_BYTES: usize = 4 << 20;
/// The same, counted: small records cost memory, too.
const MAX_GROUP_RECORDS: usize = 16_384;
