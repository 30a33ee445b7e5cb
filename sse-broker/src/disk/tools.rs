//! The log of a hub that is not running: to look at, to check, to make small, to copy.
//!
//! A [`StoppedLog`] holds the folder's lock, so that no hub opens the log meanwhile, and writes nothing but
//! what redb itself repairs of a file that was not closed, and what [`compact`](StoppedLog::compact) moves.
//! A [`LogImport`] writes a log that it was told record by record.

use std::collections::HashSet;
use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::block::Block;
use super::codec::{RecordView, TopicCache};
use super::ids::list;
use super::index::Index;
use super::open::{FILE_NAME, LogState, Opened, Place, panic_message, read_as_it_is};
use super::states;
use super::tables::{BLOCKS, IDS, SNAPSHOTS, STATES, TOPICS, checked, run_key, run_offsets};
use super::{OpenError, read, tombstones};
use crate::{Bounds, Offset, Position, ReadError, Record, StoredState, Topic, UnixMillis};

/// The log in a folder that no hub has open.
pub struct StoppedLog {
    path: PathBuf,
    db: Database,
    state: LogState,
    /// What of it the file does not have, when it was not closed.
    index: Index,
    /// Up to where the file's indexes reach.
    indexed: Offset,
    format: u32,
    was_left_open: bool,
    _place: Place,
}

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

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogProblem {
    /// The file's pages are not what was written.
    #[error("the file's pages are damaged: {0}")]
    Pages(String),
    /// A record is not what was written: readers hear of a gap there.
    #[error("the record at {0} is damaged")]
    Record(Offset),
    /// Records that should be there are not: readers hear of a gap there.
    #[error("the records after {after} and before {before} are missing")]
    Missing {
        /// The last before the hole.
        after: Offset,
        /// The first after it.
        before: Offset,
    },
    /// An entry of the index of topics is not what was written; readers of its topic read everything.
    #[error("an entry in the index of the topic {0:?} is damaged")]
    Run(String),
    /// The index of topics and the records do not agree: readers of the topic may miss the record.
    #[error("the index of topics lacks, or has too much, {0} entries")]
    Index(u64),
    /// The index says of a record what the record does not.
    #[error("the index has the record at {offset} under the topic {topic:?}, where it is not")]
    WrongRun {
        /// Where it points.
        offset: Offset,
        /// Under which topic.
        topic: String,
    },
    /// An entry of the index of ids points at a record that has another id or none.
    #[error("the index of ids has the record at {0} under an id that is not its own")]
    WrongId(Offset),
    /// A part of the index of ids is not what was written; the hub makes up for it from the records.
    #[error("the part of the index of ids that ends at {0} is damaged")]
    IdList(Offset),
    /// Records whose ids are not in the index: published again, they would be stored twice.
    #[error("{0} ids are not in the index of ids")]
    Ids(u64),
    /// A topic's snapshot is not what was written.
    #[error("the snapshot of {0:?} is damaged")]
    Snapshot(String),
    /// A state beside the log is not what was written.
    #[error("the state {0:?} is damaged")]
    State(String),
}

/// What [`StoppedLog::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// How many records were looked at.
    pub records: u64,
    /// How many entries of the indexes.
    pub index_entries: u64,
    /// How many things are wrong.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<LogProblem>,
}

impl Verification {
    fn found(&mut self, problem: LogProblem) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// How far a tool has got, in whatever it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub of: u64,
}

/// Why a tool gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogToolError {
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage failed.
    #[error("the log cannot be read or written: {0}")]
    Storage(String),
    /// The folder of a new log must be empty.
    #[error("{path} is not empty", path = .0.display())]
    NotEmpty(PathBuf),
    /// Records must come in the order of their offsets.
    #[error("the record at {offset} comes after the one at {after}")]
    OutOfOrder {
        /// The record's offset.
        offset: Offset,
        /// The newest that was taken.
        after: Offset,
    },
    /// Two records of a new log have one id.
    #[error("the record at {0} has the id of an earlier one")]
    SameId(Offset),
}

impl<E: Into<redb::Error>> From<E> for LogToolError {
    fn from(error: E) -> Self {
        Self::Storage(error.into().to_string())
    }
}

impl StoppedLog {
    /// Opens the log in `folder`; makes nothing, and decides nothing that a hub would decide.
    ///
    /// A file that was not closed is repaired first, as any hub would do.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoLog`] when there is none, [`OpenError::InUse`] while a hub runs on it, and what
    /// else [`OpenError`] says.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        if !folder.join(FILE_NAME).is_file() {
            return Err(OpenError::NoLog {
                path: folder.to_owned(),
            });
        }
        let place = Place::folder(folder)?;
        let found = read_as_it_is(&place, CACHE_BYTES)?;
        let index = found.opened.index().map_err(|error| OpenError::Damaged {
            path: place.path.clone(),
            reason: error.to_string(),
        })?;
        let Opened {
            db, state, indexed, ..
        } = found.opened;
        Ok(Self {
            path: place.path.clone(),
            db,
            state,
            indexed,
            index,
            format: found.format,
            was_left_open: found.was_left_open,
            _place: place,
        })
    }

    /// What the log covers.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        super::bounds(&self.state)
    }

    /// How large its file is.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// What it holds. Costs a seek for each topic.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn inspect(&self) -> Result<Inspection, LogToolError> {
        caught(|| {
            let txn = self.db.begin_read()?;
            let blocks = txn.open_table(BLOCKS)?;
            let from = self.state.floor + 1;
            let published_at = |(offset, bytes): (Offset, &[u8])| {
                let view = RecordView::decode(offset, bytes).ok()?;
                Some(view.published_at)
            };
            let mut oldest = None;
            for entry in blocks.range(from..)? {
                let (last, bytes) = entry?;
                oldest = Block::decode(last.value(), bytes.value())
                    .ok()
                    .and_then(|block| block.records_from(from).find_map(published_at));
                if oldest.is_some() {
                    break;
                }
            }
            let mut newest = None;
            for entry in blocks.range(from..)?.rev() {
                let (last, bytes) = entry?;
                newest = Block::decode(last.value(), bytes.value())
                    .ok()
                    .and_then(|block| block.records_from(from).rev().find_map(published_at));
                if newest.is_some() {
                    break;
                }
            }
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
            let mut ids = 0;
            for entry in txn.open_table(IDS)?.range(self.state.floor + 1..)? {
                let (last, value) = entry?;
                let list = list(&last.value().to_le_bytes(), value.value()).unwrap_or_default();
                ids += { list.iter() }
                    .filter(|(_, offset)| *offset > self.state.floor)
                    .count() as u64;
            }
            if let Some(recent) = self.index.freeze(self.state.head, true) {
                ids += recent.ids_after(self.state.floor).count() as u64;
                for topic in recent.topics() {
                    let (first, last) = (
                        run_key(topic.as_str(), 0),
                        run_key(topic.as_str(), Offset::MAX),
                    );
                    let is_new = runs.range::<&[u8]>(&*first..=&*last)?.next().is_none();
                    topics += u64::from(is_new);
                }
            }
            let states = match txn.open_table(STATES) {
                Ok(table) => table.len()?,
                Err(redb::TableError::TableDoesNotExist(_)) => 0,
                Err(other) => return Err(other.into()),
            };
            Ok(Inspection {
                file_bytes: self.file_bytes(),
                format: self.format,
                bounds: self.bounds(),
                records: self.state.records(),
                weight_bytes: self.state.weight_bytes(),
                oldest,
                newest,
                topics,
                ids,
                snapshots: txn.open_table(SNAPSHOTS)?.len()?,
                states,
                was_left_open: self.was_left_open,
            })
        })
    }

    /// Looks at everything: every page's checksum, every record, every entry of the indexes, in both
    /// directions. Costs a read of all and a seek for each record and topic, and a page of memory.
    ///
    /// # Errors
    ///
    /// When the storage fails in the middle; damage is no error but a [`LogProblem`].
    pub fn verify(&mut self, progress: &mut dyn FnMut(Done)) -> Result<Verification, LogToolError> {
        let mut verification = Verification::default();
        let db = &mut self.db;
        match catch_unwind(AssertUnwindSafe(|| db.check_integrity())) {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => verification.found(LogProblem::Pages(
                "redb's own records of it were repaired".into(),
            )),
            Ok(Err(error)) => verification.found(LogProblem::Pages(error.to_string())),
            Err(panic) => verification.found(LogProblem::Pages(panic_message(&*panic))),
        }
        let looked = caught(|| self.verify_tables(&mut verification, progress));
        match looked {
            Ok(()) => {}
            // What a damaged page hides cannot be looked at.
            Err(LogToolError::Storage(reason)) if verification.problem_count > 0 => {
                verification.found(LogProblem::Pages(reason));
            }
            Err(other) => return Err(other),
        }
        Ok(verification)
    }

    fn verify_tables(
        &self,
        verification: &mut Verification,
        progress: &mut dyn FnMut(Done),
    ) -> Result<(), LogToolError> {
        let txn = self.db.begin_read()?;
        let blocks = txn.open_table(BLOCKS)?;
        let runs = txn.open_table(TOPICS)?;
        let lists = txn.open_table(IDS)?;
        let floor = self.state.floor;
        let of = self.state.head - floor + runs.len()? + lists.len()?;
        let mut done = 0;
        let mut step = |steps: u64| {
            let before = done;
            done = of.min(done + steps);
            if done / PROGRESS_STEP > before / PROGRESS_STEP || done == of {
                progress(Done { done, of });
            }
        };

        let (mut topics_wanted, mut ids_wanted) = (0u64, 0u64);
        let mut last = floor;
        for entry in blocks.range(floor + 1..)? {
            let (key, bytes) = entry?;
            let Ok(block) = Block::decode(key.value(), bytes.value()) else {
                step(key.value() - last);
                for offset in last + 1..=key.value() {
                    verification.found(LogProblem::Record(offset));
                }
                last = key.value();
                continue;
            };
            if block.first > last + 1 && block.first > self.state.thinned.newest + 1 {
                verification.found(LogProblem::Missing {
                    after: last,
                    before: block.first,
                });
            }
            step(block.last - last);
            for (offset, bytes) in block.records_from(last + 1) {
                if bytes.is_empty() && offset <= self.state.thinned.newest {
                    // A rule has taken it.
                    continue;
                }
                verification.records += 1;
                let Ok(view) = RecordView::decode(offset, bytes) else {
                    verification.found(LogProblem::Record(offset));
                    continue;
                };
                if offset <= self.indexed {
                    let topics: HashSet<&str> = view.topics.collect();
                    topics_wanted += topics.len() as u64;
                    ids_wanted += u64::from(view.publisher_id().is_some());
                }
                if view.to_record(&mut TopicCache::default()).is_err() {
                    verification.found(LogProblem::Record(offset));
                }
            }
            last = block.last;
        }

        // Each entry that is right names one topic of one record, and no two name the same: so the
        // index is complete when there are as many as the records have topics.
        let mut found = 0u64;
        for entry in runs.iter()? {
            step(1);
            let (key, value) = entry?;
            let topic = topic_of(key.value());
            let Ok(offsets) = run_offsets(key.value(), value.value()) else {
                verification.found(LogProblem::Run(topic));
                continue;
            };
            verification.index_entries += offsets.len() as u64;
            for offset in offsets.into_iter().filter(|at| *at > floor) {
                let has_topic = look_at(&blocks, offset, |view| {
                    { view.topics }.any(|name| name == topic)
                })?;
                match has_topic {
                    Some(true) => found += 1,
                    Some(false) => verification.found(LogProblem::WrongRun {
                        offset,
                        topic: topic.clone(),
                    }),
                    // The record itself was told of already.
                    None => {}
                }
            }
        }
        if found != topics_wanted {
            verification.found(LogProblem::Index(found.abs_diff(topics_wanted)));
        }

        let mut found = 0u64;
        for entry in lists.iter()? {
            step(1);
            let (last, value) = entry?;
            let last = last.value();
            let Ok(ids) = list(&last.to_le_bytes(), value.value()) else {
                verification.found(LogProblem::IdList(last));
                continue;
            };
            verification.index_entries += ids.len() as u64;
            for (hash, offset) in ids.into_iter().filter(|(_, at)| *at > floor) {
                let has_id = |id: &str| self.index.ids.hash(id) == hash;
                match look_at(&blocks, offset, |view| {
                    view.publisher_id().is_some_and(has_id)
                })? {
                    Some(true) => found += 1,
                    Some(false) => verification.found(LogProblem::WrongId(offset)),
                    None => {}
                }
            }
        }
        if found < ids_wanted {
            verification.found(LogProblem::Ids(ids_wanted - found));
        }

        for entry in txn.open_table(SNAPSHOTS)?.iter()? {
            let (topic, value) = entry?;
            if checked(topic.value().as_bytes(), value.value()).is_err() {
                verification.found(LogProblem::Snapshot(topic.value().to_owned()));
            }
        }
        for state in states::read(&self.db, "").map_err(read_error)? {
            if state.value.is_none() {
                verification.found(LogProblem::State(state.key.into()));
            }
        }
        Ok(())
    }

    /// Moves what is at the file's end into the free space before it, and gives the rest back. Returns
    /// the file's size before and after. Needs as much free space as the last pages it moves.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn compact(&mut self) -> Result<(u64, u64), LogToolError> {
        let before = self.file_bytes();
        let db = &mut self.db;
        caught(|| Ok(compact(db)?))?;
        Ok((before, self.file_bytes()))
    }

    /// Shows every record in order, or the offset of one that is damaged, until `visit` has enough.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn records(
        &self,
        visit: &mut dyn FnMut(Result<Record, Offset>, Done) -> ControlFlow<()>,
    ) -> Result<(), LogToolError> {
        caught(|| {
            let txn = self.db.begin_read()?;
            let blocks = txn.open_table(BLOCKS)?;
            let mut topics = TopicCache::default();
            let mut last = self.state.floor;
            let mut done = Done {
                done: 0,
                of: self.state.head - last,
            };
            for entry in blocks.range(last + 1..)? {
                let (key, bytes) = entry?;
                let block = Block::decode(key.value(), bytes.value()).ok();
                let from = block.map_or(last, |block| last.max(block.first - 1)) + 1;
                for offset in from..=key.value() {
                    let bytes = block.and_then(|block| block.record(offset));
                    if bytes.is_some_and(<[u8]>::is_empty) && offset <= self.state.thinned.newest {
                        // A rule has taken it.
                        continue;
                    }
                    let record = bytes
                        .and_then(|bytes| RecordView::decode(offset, bytes).ok())
                        .and_then(|view| view.to_record(&mut topics).ok())
                        .map(|content| Record {
                            position: Position {
                                epoch: self.state.epoch,
                                offset,
                            },
                            content,
                        })
                        .ok_or(offset);
                    done.done += offset - last;
                    last = offset;
                    if done.done.is_multiple_of(MAX_CACHED_RECORDS) {
                        topics = TopicCache::default();
                    }
                    if visit(record, done).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// The snapshots beside topics.
    ///
    /// # Errors
    ///
    /// When the storage fails or one is damaged.
    pub fn snapshots(&self) -> Result<Vec<(Topic, Bytes)>, LogToolError> {
        caught(|| read::snapshots(&self.db, "").map_err(read_error))
    }

    /// The newest record that the rule of a topic has taken; 0 when there was none.
    #[must_use]
    pub fn thinned_upto(&self) -> Offset {
        self.state.thinned.newest
    }

    /// The topics of which a rule has taken something that their readers are to hear of, and up to where.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn removed(&self) -> Result<Vec<(Topic, Offset)>, LogToolError> {
        caught(|| Ok(tombstones::all(&self.db)?))
    }

    /// The other states beside the log.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn states(&self) -> Result<Vec<StoredState>, LogToolError> {
        caught(|| states::read(&self.db, "").map_err(read_error))
    }
}

impl std::fmt::Debug for StoppedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoppedLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What `look` sees in the record at an offset, when that is there and whole.
fn look_at<T>(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    offset: Offset,
    look: impl FnOnce(RecordView<'_>) -> T,
) -> Result<Option<T>, LogToolError> {
    let Some(entry) = blocks.range(offset..)?.next() else {
        return Ok(None);
    };
    let (last, bytes) = entry?;
    let bytes = Block::decode(last.value(), bytes.value())
        .ok()
        .and_then(|block| block.record(offset));
    Ok(bytes
        .and_then(|bytes| RecordView::decode(offset, bytes).ok())
        .map(look))
}

/// Moves what is in the file together, and gives the rest back.
pub(super) fn compact(db: &mut Database) -> Result<(), redb::Error> {
    for _ in 0..MAX_COMPACTIONS {
        if !db.compact()? {
            break;
        }
    }
    Ok(())
}

/// Whether there is nothing in a folder, or no folder.
pub(super) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// The topic in a run's key; for people, so what is no text is shown as near as can be.
fn topic_of(key: &[u8]) -> String {
    let topic = key.len().saturating_sub(RUN_KEY_TAIL_BYTES);
    String::from_utf8_lossy(&key[..topic]).into_owned()
}

/// A damaged file may make redb panic.
pub(super) fn caught<T>(act: impl FnOnce() -> Result<T, LogToolError>) -> Result<T, LogToolError> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|panic| Err(LogToolError::Storage(panic_message(&*panic))))
}

fn read_error(error: ReadError) -> LogToolError {
    LogToolError::Storage(match error {
        ReadError::Storage { reason } => reason.to_string(),
        other => other.to_string(),
    })
}

/// NUL and the first offset, behind the topic.
const RUN_KEY_TAIL_BYTES: usize = 9;
/// How much of the file is kept in memory while a tool works.
const CACHE_BYTES: usize = 64 << 20;
/// So many problems are told one by one.
const MAX_PROBLEMS: usize = 100;
/// Progress is told this often: every few milliseconds.
const PROGRESS_STEP: u64 = 4096;
/// Each run of redb's compaction moves what it can; it says when there is nothing left to move.
const MAX_COMPACTIONS: u32 = 32;
/// So many records share their topics' texts while they are shown.
const MAX_CACHED_RECORDS: u64 = 65_536;
