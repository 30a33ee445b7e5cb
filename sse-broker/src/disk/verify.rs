//! Looking at everything in a log, and saying what is wrong.

use std::collections::HashSet;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
};

use super::block::RecordBlock;
use super::codec::{RecordView, TopicCache};
use super::error::{LogToolError, caught};
use super::ids::list;
use super::panics;
use super::runs::{run_offsets, topic_of};
use super::scan::view_at;
use super::snapshots;
use super::states;
use super::stopped::{Progress, StoppedLog};
use super::tables::{BLOCKS, IDS, SNAPSHOTS, TOPICS};
use crate::Offset;

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

impl StoppedLog {
    /// Looks at everything: every page's checksum, every record, every entry of the indexes, in both
    /// directions. Costs a read of all and a seek for each record and topic, and a page of memory.
    ///
    /// # Errors
    ///
    /// When the storage fails in the middle; damage is no error but a [`LogProblem`].
    pub fn verify(
        &mut self,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Verification, LogToolError> {
        let mut found = Verification::default();
        let db = &mut self.db;
        let check = || db.check_integrity().map_err(|error| error.to_string());
        match panics::caught(check, std::convert::identity) {
            Ok(true) => {}
            Ok(false) => found.found(LogProblem::Pages(
                "redb's own records of it were repaired".into(),
            )),
            Err(reason) => found.found(LogProblem::Pages(reason)),
        }
        match caught(|| self.verify_tables(&mut found, progress)) {
            Ok(()) => {}
            // What a damaged page hides cannot be looked at.
            Err(LogToolError::Storage(reason)) if found.problem_count > 0 => {
                found.found(LogProblem::Pages(reason));
            }
            Err(other) => return Err(other),
        }
        Ok(found)
    }

    fn verify_tables(
        &self,
        found: &mut Verification,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), LogToolError> {
        let txn = self.db.begin_read()?;
        let mut check = Check {
            log: self,
            blocks: txn.open_table(BLOCKS)?,
            found,
            steps: Steps::of(
                self.state.head - self.state.floor
                    + txn.open_table(TOPICS)?.len()?
                    + txn.open_table(IDS)?.len()?,
                progress,
            ),
        };
        let wanted = check.records()?;
        check.topic_index(&txn, wanted.topics)?;
        check.id_index(&txn, wanted.ids)?;
        check.values(&txn)
    }
}

/// A check that is under way.
struct Check<'a> {
    log: &'a StoppedLog,
    blocks: ReadOnlyTable<Offset, &'static [u8]>,
    found: &'a mut Verification,
    steps: Steps<'a>,
}

/// How many entries the file's indexes should have, by the records.
#[derive(Default)]
struct Wanted {
    topics: u64,
    ids: u64,
}

impl Check<'_> {
    fn records(&mut self) -> Result<Wanted, LogToolError> {
        let state = &self.log.state;
        let removed_upto = state.retention.newest_removed;
        let mut wanted = Wanted::default();
        let mut last = state.floor;
        for entry in self.blocks.range(state.floor + 1..)? {
            let (key, bytes) = entry?;
            let Ok(block) = RecordBlock::decode(key.value(), bytes.value()) else {
                self.steps.add(key.value() - last);
                for offset in last + 1..=key.value() {
                    self.found.found(LogProblem::Record(offset));
                }
                last = key.value();
                continue;
            };
            if block.first > last + 1 && block.first > removed_upto + 1 {
                self.found.found(LogProblem::Missing {
                    after: last,
                    before: block.first,
                });
            }
            self.steps.add(block.last - last);
            for (offset, bytes) in block.records_from(last + 1) {
                if bytes.is_empty() && offset <= removed_upto {
                    // A rule has removed it.
                    continue;
                }
                self.found.records += 1;
                let Ok(view) = RecordView::decode(offset, bytes) else {
                    self.found.found(LogProblem::Record(offset));
                    continue;
                };
                if offset <= self.log.indexed {
                    let topics: HashSet<&str> = view.topics.collect();
                    wanted.topics += topics.len() as u64;
                    wanted.ids += u64::from(view.publisher_id().is_some());
                }
                if view.to_record(&mut TopicCache::default()).is_err() {
                    self.found.found(LogProblem::Record(offset));
                }
            }
            last = block.last;
        }
        Ok(wanted)
    }

    /// Each entry that is right names one topic of one record, and no two name the same: so the index is complete
    /// when there are as many as the records have topics.
    fn topic_index(&mut self, txn: &ReadTransaction, wanted: u64) -> Result<(), LogToolError> {
        let floor = self.log.state.floor;
        let mut right = 0u64;
        for entry in txn.open_table(TOPICS)?.iter()? {
            self.steps.add(1);
            let (key, value) = entry?;
            let topic = topic_of(key.value());
            let Ok(offsets) = run_offsets(key.value(), value.value()) else {
                self.found.found(LogProblem::Run(topic));
                continue;
            };
            self.found.index_entries += offsets.len() as u64;
            for offset in offsets.into_iter().filter(|at| *at > floor) {
                let has_topic = view_at(&self.blocks, offset, |view| {
                    { view.topics }.any(|name| name == topic)
                })?;
                match has_topic {
                    Some(true) => right += 1,
                    Some(false) => self.found.found(LogProblem::WrongRun {
                        offset,
                        topic: topic.clone(),
                    }),
                    // The record itself was told of already.
                    None => {}
                }
            }
        }
        if right != wanted {
            self.found.found(LogProblem::Index(right.abs_diff(wanted)));
        }
        Ok(())
    }

    fn id_index(&mut self, txn: &ReadTransaction, wanted: u64) -> Result<(), LogToolError> {
        let floor = self.log.state.floor;
        let mut right = 0u64;
        for entry in txn.open_table(IDS)?.iter()? {
            self.steps.add(1);
            let (last, value) = entry?;
            let last = last.value();
            let Ok(ids) = list(&last.to_le_bytes(), value.value()) else {
                self.found.found(LogProblem::IdList(last));
                continue;
            };
            self.found.index_entries += ids.len() as u64;
            for (hash, offset) in ids.into_iter().filter(|(_, at)| *at > floor) {
                let has_id = view_at(&self.blocks, offset, |view| {
                    let id = view.publisher_id();
                    id.is_some_and(|id| self.log.index.ids.hash(id) == hash)
                })?;
                match has_id {
                    Some(true) => right += 1,
                    Some(false) => self.found.found(LogProblem::WrongId(offset)),
                    None => {}
                }
            }
        }
        if right < wanted {
            self.found.found(LogProblem::Ids(wanted - right));
        }
        Ok(())
    }

    /// Snapshots and states.
    fn values(&mut self, txn: &ReadTransaction) -> Result<(), LogToolError> {
        for entry in txn.open_table(SNAPSHOTS)?.iter()? {
            let (topic, value) = entry?;
            if snapshots::decode(topic.value(), value.value()).is_err() {
                let topic = topic.value().to_owned();
                self.found.found(LogProblem::Snapshot(topic));
            }
        }
        for state in states::read(&self.log.db, "").map_err(LogToolError::read)? {
            if state.value.is_none() {
                self.found.found(LogProblem::State(state.key.into()));
            }
        }
        Ok(())
    }
}

/// How far it has got.
struct Steps<'a> {
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
}

impl<'a> Steps<'a> {
    fn of(of: u64, tell: &'a mut dyn FnMut(Progress)) -> Self {
        let progress = Progress { done: 0, of };
        Self { progress, tell }
    }

    fn add(&mut self, steps: u64) {
        let Progress { done, of } = &mut self.progress;
        let before = *done;
        *done = (*of).min(before + steps);
        if *done / PROGRESS_STEP > before / PROGRESS_STEP || done == of {
            (self.tell)(self.progress);
        }
    }
}

/// So many problems are told one by one.
const MAX_PROBLEMS: usize = 100;
/// Progress is told this often: every few milliseconds.
const PROGRESS_STEP: u64 = 4096;
