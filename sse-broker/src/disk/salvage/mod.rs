//! Saving what can be read of a damaged log into a new one.
//!
//! The damaged file is only read. It is looked at twice: the database is opened over a copy-on-write storage, to learn what it
//! still reaches, and every byte is searched for blocks and small values, whether or not the database reaches them. What
//! is found is sorted by offset, and the best copy of each record is written to a new log, whose epoch is its own, so that
//! every reader with an old position hears of a gap.
//!
//! Memory does not grow with the log, but for the table of ids, which a hub needs as well, and for the snapshots and states.
//!
//! * `source`: the file; `reached`: what the database reaches; `search`: what is in its bytes.
//! * `sorted`: finds in the order of their offsets; `choice`: which copy of a record is saved.

mod choice;
mod reached;
mod search;
mod sorted;
mod source;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use self::choice::{Choice, Choices};
use self::reached::Reached;
use self::search::Found;
use self::sorted::{Sorted, Sorter};
use self::source::Source;
use super::error::{LogToolError, OpenError};
use super::import::LogImport;
use super::location::{FILE_NAME, LOCK_FILE_NAME, is_empty};
use super::seal::{self, Seal};
use super::stopped::Progress;
use crate::{Bounds, Epoch, Offset, StateChange, Topic, UnixMillis};

/// What [`salvage`] saved, and what it could not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// What the new log covers.
    pub bounds: Bounds,
    /// How many events it has.
    pub events: u64,
    /// The offset of the first and the last of them.
    pub offsets: Option<(Offset, Offset)>,
    /// When the oldest and the newest of them were published.
    pub published: Option<(UnixMillis, UnixMillis)>,
    /// Up to where the damaged log was trimmed, when that could be read. Events before it are not missed.
    pub floor: Option<Offset>,
    /// Up to where its events had been acknowledged, as far as its seal or the database tells.
    pub head: Option<Offset>,
    /// How many events between the two were neither found nor known to be removed by the retention of a topic.
    pub missing: u64,
    /// Their offsets, from and to, a bounded number of stretches.
    pub missing_offsets: Vec<(Offset, Offset)>,
    /// How many stretches there are.
    pub missing_stretches: u64,
    /// How many of the missing events were found, but damaged: the rest was not found at all.
    pub damaged: u64,
    /// How many bytes these had.
    pub damaged_bytes: u64,
    /// How many events were left out because an earlier one has the same id.
    pub repeated_ids: u64,
    /// At how many offsets two events were found that differ, so that one had to be chosen.
    pub ambiguous: u64,
    /// How many snapshots of topics were saved.
    pub snapshots: u64,
    /// The topics whose snapshots are damaged.
    pub damaged_snapshots: Vec<String>,
    /// How many other states were saved.
    pub states: u64,
    /// The keys of states that are damaged.
    pub damaged_states: Vec<String>,
    /// Whether the database could not list the snapshots and states, so that they were searched for: some may be missing,
    /// and some older than what stood there, or removed since.
    pub has_guessed_values: bool,
    /// How many bytes of the file the disk could not give.
    pub unreadable_bytes: u64,
    /// What the database found wrong; `None` when it could be read to its end.
    pub database: Option<String>,
}

impl Salvaged {
    /// Whether something is known to be missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0
            && self.damaged_snapshots.is_empty()
            && self.damaged_states.is_empty()
            && !self.has_guessed_values
            && self.unreadable_bytes == 0
    }

    /// Takes note of a stretch that lies behind all before it.
    fn add_missing(&mut self, from: Offset, to: Offset) {
        if from > to {
            return;
        }
        self.missing += to - from + 1;
        if let Some(last) = self.missing_offsets.last_mut()
            && last.1 + 1 == from
        {
            last.1 = to;
            return;
        }
        self.missing_stretches += 1;
        if self.missing_offsets.len() < MAX_STRETCHES {
            self.missing_offsets.push((from, to));
        }
    }
}

/// Saves what can be read of the log at `damaged`, its folder or its file, in a new log in `folder`, which must be empty
/// or not there.
///
/// The damaged file is never written to. Every event whose block and record are whole by their checksums is saved under
/// its offset, from wherever in the file they are; so are the snapshots of topics and the states that can be read. The new log
/// has an epoch of its own. Needs free space for the new log, and a few bytes more for each block.
///
/// # Errors
///
/// [`LogToolError::NothingFound`] when there is no trace of a log, [`LogToolError::NotEmpty`],
/// [`OpenError::InUse`] while a hub has the damaged log open, and when the new log cannot be written.
pub fn salvage(
    damaged: &Path,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Salvaged, LogToolError> {
    let path = file_of(damaged)?;
    let log_folder = path.parent().unwrap_or(Path::new("."));
    let _lock = lock(log_folder)?;
    if !is_empty(folder) {
        return Err(LogToolError::NotEmpty(folder.to_owned()));
    }
    let source = Arc::new(Source::open(&path)?);
    let seal = seal::look(log_folder);

    let spill = spill_path(folder);
    let cannot_spill = |source| OpenError::Unusable {
        path: spill.clone(),
        source,
    };
    if let Some(parent) = spill.parent() {
        std::fs::create_dir_all(parent).map_err(cannot_spill)?;
    }
    let mut sorter = Sorter::new(&spill).map_err(cannot_spill)?;
    let of = 2 * source.len();
    let mut push = |find| Ok(sorter.push(find).map_err(cannot_spill)?);
    let reached = reached::look(&source, &mut push)?;
    let mut searched = |done| progress(Progress { done, of });
    let found = search::search(&source, &mut push, &mut searched)?;
    let finds = sorter.sorted().map_err(cannot_spill)?;
    if found.blocks == 0 && reached.epoch.is_none() {
        return Err(LogToolError::NothingFound(path));
    }
    Work {
        source,
        reached,
        found,
        seal,
    }
    .write(folder, finds, progress)
}

/// What was found, to be written.
struct Work {
    source: Arc<Source>,
    reached: Reached,
    found: Found,
    seal: Option<Seal>,
}

impl Work {
    fn write(
        self,
        folder: &Path,
        finds: Sorted,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Salvaged, LogToolError> {
        let Self {
            source,
            reached,
            found,
            seal,
        } = self;
        // A floor above all records that there are is not believed, unless the database says it. A higher one than the
        // database's is of a commit that it has gone back from.
        let searched = found.floor.filter(|floor| *floor <= found.head);
        let floor = reached.floor.max(searched);
        let lowest = finds.peek().map_or(0, |find| find.first - 1);
        let begin = floor.unwrap_or(lowest);
        let sealed = seal.filter(|seal| reached.epoch.is_none_or(|epoch| epoch.0 == seal.epoch));
        let head = sealed
            .map(|seal| seal.head)
            .max(reached.failed.is_none().then_some(reached.head));
        let trusted_upto = match reached.has_all_blocks {
            true => reached.removed_upto.min(reached.head),
            false => 0,
        };

        let epoch = Epoch::random();
        let mut log = LogImport::create(folder, epoch, begin)?;
        let mut done = Salvaged {
            bounds: log.bounds(),
            events: 0,
            offsets: None,
            published: None,
            floor,
            head,
            missing: 0,
            missing_offsets: Vec::new(),
            missing_stretches: 0,
            damaged: 0,
            damaged_bytes: 0,
            repeated_ids: 0,
            ambiguous: 0,
            snapshots: 0,
            damaged_snapshots: Vec::new(),
            states: 0,
            damaged_states: Vec::new(),
            has_guessed_values: false,
            unreadable_bytes: found.unreadable_bytes,
            database: reached.failed.clone(),
        };
        // Up to here an offset without a record is one that a rule may have removed.
        let removed_upto = reached.removed_upto;
        let of = 2 * source.len();
        let span = found.head.saturating_sub(begin).max(1);
        let mut choices = Choices::new(Arc::clone(&source), finds, begin, trusted_upto);
        let mut last = begin;
        while let Some((at, choice)) = choices.next()? {
            let share = (u128::from(at - begin) * u128::from(source.len())) / u128::from(span);
            progress(Progress {
                done: source.len() + u64::try_from(share).unwrap_or(0),
                of,
            });
            done.add_missing(last.max(trusted_upto) + 1, at - 1);
            last = at;
            match choice {
                Choice::Removed => {}
                Choice::Damaged(bytes) => {
                    done.damaged += 1;
                    done.damaged_bytes += bytes;
                    done.add_missing(at, at);
                }
                Choice::Record(record, has_others) => {
                    done.ambiguous += u64::from(has_others);
                    let published_at = record.published_at;
                    if !log.push_unless_repeated(at, *record)? {
                        done.repeated_ids += 1;
                        continue;
                    }
                    done.events += 1;
                    let first = done.offsets.map_or(at, |(first, _)| first);
                    done.offsets = Some((first, at));
                    let (oldest, newest) = done.published.unwrap_or((published_at, published_at));
                    done.published = Some((oldest.min(published_at), newest.max(published_at)));
                }
            }
        }
        if let Some(head) = head {
            done.add_missing(last.max(trusted_upto) + 1, head);
        }
        let known_head = log.bounds().head;
        log.put_removed(removed_upto.min(known_head), &[])?;

        done.has_guessed_values = !reached.snapshots.is_complete || !reached.states.is_complete;
        // What the database lists is all there is, up to where it has come.
        let listed_upto = match reached.snapshots.is_complete {
            true => reached.head,
            false => 0,
        };
        let searched = found.snapshots.into_iter();
        let searched =
            searched.filter(|(_, (version, _))| (listed_upto + 1..=known_head).contains(version));
        let snapshots = reached.snapshots.with(searched, |old, new| new.0 > old.0);
        let is_listed = reached.states.is_complete;
        let searched = found.states.into_iter().filter(|_| !is_listed);
        let states = reached.states.with(searched, |_, _| false);
        done.snapshots = snapshots.whole.len() as u64;
        done.damaged_snapshots = snapshots.damaged;
        done.states = states.whole.len() as u64;
        done.damaged_states = states.damaged;
        let bytes = |(topic, (_, bytes)): (Topic, (Offset, Bytes))| (topic, bytes.to_vec());
        let snapshots: Vec<_> = snapshots.whole.into_iter().map(bytes).collect();
        log.put_snapshots(&snapshots)?;
        let put = |(key, value)| StateChange {
            key,
            value: Some(value),
        };
        log.put_states(states.whole.into_iter().map(put).collect())?;
        done.bounds = log.bounds();
        log.finish()?;
        Ok(done)
    }
}

/// The log's file, of its folder or itself.
fn file_of(damaged: &Path) -> Result<PathBuf, OpenError> {
    if damaged.is_file() {
        return Ok(damaged.to_owned());
    }
    let path = damaged.join(FILE_NAME);
    if path.is_file() {
        return Ok(path);
    }
    Err(OpenError::NoLog {
        path: damaged.to_owned(),
    })
}

/// Makes sure that no hub has the log open, or opens it meanwhile. Makes no file: a folder that was never locked is in
/// nobody's use.
fn lock(folder: &Path) -> Result<Option<File>, OpenError> {
    let path = folder.join(LOCK_FILE_NAME);
    let Ok(file) = File::open(&path) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: folder.to_owned(),
        }),
        // A file system that cannot lock is no reason not to read.
        Err(std::fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// Beside the new log's folder, which must stay empty until the log is made.
fn spill_path(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".salvage");
    folder.with_file_name(name)
}

/// So many stretches of missing offsets are told one by one.
const MAX_STRETCHES: usize = 1000;
