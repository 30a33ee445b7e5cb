//! Trimming: keeping the bounds of the whole log.

use std::collections::HashSet;

use redb::{ReadableTable, WriteTransaction};

use super::block::RecordBlock;
use super::codec::RecordView;
use super::ids::{self, IdAt};
use super::ledger::Summary;
use super::log_state::LogState;
use super::meta::put_meta;
use super::runs::{run_key, run_offsets};
use super::tables::{BLOCKS, IDS, META, TOPICS};
use super::topic_retention;
use crate::topic_retention::Rules;
use crate::{Offset, Retention, UnixMillis};

/// What was trimmed.
#[derive(Default)]
pub(super) struct Trimmed {
    pub(super) records: u64,
    /// Whether there is more to do.
    pub(super) has_more: bool,
    /// The ids that no record has any more.
    pub(super) ids: Vec<IdAt>,
}

/// What the log is trimmed to.
pub(super) struct Limits<'a> {
    pub(super) retention: &'a Retention,
    /// The time, when it is told: what is too old then is to go.
    pub(super) now: Option<UnixMillis>,
    /// Records after this one's head count for nothing yet.
    pub(super) settled: LogState,
}

impl Limits<'_> {
    fn is_too_old(&self, view: &RecordView<'_>) -> bool {
        self.now.is_some_and(|now| {
            let too_old = self.retention.too_old_at(now);
            too_old.is_some_and(|at| view.retention_time(now) <= at)
        })
    }

    fn is_over(&self, state: &LogState) -> bool {
        let later = state.head - self.settled.head;
        let later_weight = state.head_weight - self.settled.head_weight;
        let records = state.records().saturating_sub(later);
        let weight_bytes = state.weight_bytes().saturating_sub(later_weight);
        self.retention.is_over(records, weight_bytes)
    }
}

/// Removes the oldest records as far as retention asks, but not many more than [`MAX_TRIM`].
///
/// The floor moves record by record; a block leaves the file when all of it is below.
pub(super) fn trim(
    txn: &WriteTransaction,
    limits: &Limits<'_>,
    rules: &Rules,
    state: &mut LogState,
) -> Result<Trimmed, redb::Error> {
    let mut done = Trimmed::default();
    if !limits.is_over(state) && limits.now.is_none() {
        return Ok(done);
    }
    let old_floor = state.floor;
    let mut passed = Passed::default();
    let mut blocks = txn.open_table(BLOCKS)?;
    raise_floor(&blocks, limits, rules, state, &mut passed, &mut done)?;
    if state.floor == old_floor {
        return Ok(done);
    }
    blocks.retain_in(..=state.floor, |_, _| false)?;
    drop(blocks);
    topic_retention::forget_trimmed(txn, rules, &passed.records, state)?;

    let mut lists = txn.open_table(IDS)?;
    lists.retain_in(..=state.floor, |last, value| {
        // What a damaged list has forgotten is passed over when it is found.
        done.ids
            .extend(ids::list(&last.to_le_bytes(), value).into_iter().flatten());
        false
    })?;
    let mut runs = txn.open_table(TOPICS)?;
    for topic in passed.topics {
        let (first, last) = (run_key(&topic, 0), run_key(&topic, state.floor));
        let is_gone = |key: &[u8], value: &[u8]| {
            // A damaged run that begins below the floor is of no use either.
            run_offsets(key, value).map_or(true, |offsets| {
                offsets.last().is_none_or(|last| *last <= state.floor)
            })
        };
        runs.retain_in::<&[u8], _>(&*first..=&*last, |key, value| !is_gone(key, value))?;
    }
    let mut floor = state.floor.to_le_bytes().to_vec();
    floor.extend_from_slice(&state.floor_weight.to_le_bytes());
    put_meta(&mut txn.open_table(META)?, "floor", &floor)?;
    Ok(done)
}

/// What the floor has passed.
#[derive(Default)]
struct Passed {
    topics: HashSet<Box<str>>,
    /// The records, where there are rules that may know them.
    records: Vec<(Offset, Summary)>,
}

fn raise_floor(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    limits: &Limits<'_>,
    rules: &Rules,
    state: &mut LogState,
    passed: &mut Passed,
    done: &mut Trimmed,
) -> Result<(), redb::Error> {
    for entry in blocks.range(state.floor + 1..)? {
        let (last, bytes) = entry?;
        let last = last.value();
        if done.records >= MAX_TRIM {
            done.has_more = true;
            break;
        }
        let Ok(block) = RecordBlock::decode(last, bytes.value()) else {
            // What is damaged goes with what is before it, but not the newest.
            if last >= state.head {
                break;
            }
            done.records += last - state.floor;
            state.raise_floor(last, None, 0);
            continue;
        };
        for (offset, bytes) in block.records_from(state.floor + 1) {
            if offset > limits.settled.head {
                return Ok(());
            }
            if bytes.is_empty() && offset <= state.retention.newest_removed {
                // A rule has removed it; the floor passes it with the next record.
                continue;
            }
            let view = RecordView::decode(offset, bytes).ok();
            let goes = limits.is_over(state)
                || match view {
                    Some(view) => limits.is_too_old(&view),
                    None => offset < state.head,
                };
            if !goes {
                return Ok(());
            }
            done.records += 1;
            let weight_bytes = view.map_or(0, |view| view.weight_bytes());
            state.raise_floor(offset, view.map(|view| view.running_weight), weight_bytes);
            let Some(view) = view else { continue };
            if !rules.is_empty() {
                passed.records.push((offset, Summary::new(&view)));
            }
            for topic in view.topics {
                if !passed.topics.contains(topic) {
                    passed.topics.insert(topic.into());
                }
            }
        }
    }
    Ok(())
}

/// How many records a commit trims at most: some milliseconds.
const MAX_TRIM: u64 = 4096;
