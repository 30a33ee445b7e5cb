//! The log of a hub that is not running: to look at, to check, to make small, to copy.
//!
//! A [`StoppedLog`] holds the folder's lock, so that no hub opens the log meanwhile, and writes nothing but
//! what redb itself repairs of a file that was not closed, and what [`compact`](StoppedLog::compact) moves.
//! A [`LogImport`](crate::LogImport) writes a log record by record.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, ReadableDatabase};

use super::block::RecordBlock;
use super::codec::{RecordView, TopicCache};
use super::compact::compact;
use super::error::{LogToolError, OpenError, caught};
use super::index::Index;
use super::location::{FILE_NAME, Location};
use super::log_state::LogState;
use super::lookup;
use super::open::{Opened, open_as_it_is};
use super::states;
use super::tables::BLOCKS;
use super::tombstones;
use crate::{Bounds, Offset, Position, Record, StoredState, Topic};

/// The log in a folder that no hub has open.
pub struct StoppedLog {
    pub(super) path: PathBuf,
    pub(super) db: Database,
    pub(super) state: LogState,
    /// What of it the file does not have, when it was not closed.
    pub(super) index: Index,
    /// Up to where the file's indexes reach.
    pub(super) indexed: Offset,
    pub(super) format: u32,
    pub(super) was_left_open: bool,
    /// Locked meanwhile.
    _location: Location,
}

/// How far a tool has got, in whatever it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub of: u64,
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
        let location = Location::folder(folder)?;
        let found = open_as_it_is(&location, CACHE_BYTES)?;
        let index = found.opened.index().map_err(|error| OpenError::Damaged {
            path: location.path.clone(),
            reason: error.to_string(),
        })?;
        let Opened {
            db, state, indexed, ..
        } = found.opened;
        Ok(Self {
            path: location.path.clone(),
            db,
            state,
            indexed,
            index,
            format: found.format,
            was_left_open: found.was_left_open,
            _location: location,
        })
    }

    /// What the log covers.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.state.bounds()
    }

    /// How large its file is.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
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
        visit: &mut dyn FnMut(Result<Record, Offset>, Progress) -> ControlFlow<()>,
    ) -> Result<(), LogToolError> {
        caught(|| {
            let txn = self.db.begin_read()?;
            let blocks = txn.open_table(BLOCKS)?;
            let mut topics = TopicCache::default();
            let mut last = self.state.floor;
            let mut progress = Progress {
                done: 0,
                of: self.state.head - last,
            };
            for entry in blocks.range(last + 1..)? {
                let (key, bytes) = entry?;
                let block = RecordBlock::decode(key.value(), bytes.value()).ok();
                let from = block.map_or(last, |block| last.max(block.first - 1)) + 1;
                for offset in from..=key.value() {
                    let bytes = block.and_then(|block| block.record(offset));
                    if bytes.is_some_and(<[u8]>::is_empty)
                        && offset <= self.state.retention.newest_removed
                    {
                        // A rule has removed it.
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
                    progress.done += offset - last;
                    last = offset;
                    if progress.done.is_multiple_of(MAX_CACHED_RECORDS) {
                        topics = TopicCache::default();
                    }
                    if visit(record, progress).is_break() {
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
        caught(|| lookup::snapshots(&self.db, "").map_err(LogToolError::read))
    }

    /// The newest record that the rule of a topic has removed; 0 when there was none.
    #[must_use]
    pub fn removed_upto(&self) -> Offset {
        self.state.retention.newest_removed
    }

    /// The topics of which a rule has removed something that their readers are to hear of, and up to where.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn tombstones(&self) -> Result<Vec<(Topic, Offset)>, LogToolError> {
        caught(|| Ok(tombstones::all(&self.db)?))
    }

    /// The other states beside the log.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub fn states(&self) -> Result<Vec<StoredState>, LogToolError> {
        caught(|| states::read(&self.db, "").map_err(LogToolError::read))
    }
}

impl std::fmt::Debug for StoppedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoppedLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// How much of the file is kept in memory while a tool works.
const CACHE_BYTES: usize = 64 << 20;
/// So many records share their topics' texts while they are shown.
const MAX_CACHED_RECORDS: u64 = 65_536;
