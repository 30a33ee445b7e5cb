//! Keeping the bounds of the whole log.

use std::collections::HashSet;

use redb::{ReadableTable, WriteTransaction};

use super::block::Block;
use super::codec::RecordView;
use super::ids::{self, IdAt};
use super::open::{LogState, put_meta};
use super::tables::{BLOCKS, IDS, META, TOPICS, run_key, run_offsets};
use super::topic_retention::{self, Taken};
use crate::topic_retention::Rules;
use crate::{Offset, Retention, UnixMillis};

impl LogState {
    /// Everything up to `offset` goes: the record there, of this weight, and the holes before it.
    pub(super) fn raise_floor(
        &mut self,
        offset: Offset,
        running_weight: Option<u64>,
        weight_bytes: u64,
    ) {
        let holes = offset.saturating_sub(self.floor + 1);
        self.floor = offset;
        let before = self.floor_weight;
        if let Some(running_weight) = running_weight {
            self.floor_weight = running_weight.clamp(before, self.head_weight);
        }
        let of_holes = (self.floor_weight - before).saturating_sub(weight_bytes);
        let thinned = &mut self.thinned;
        if thinned.newest <= offset {
            (thinned.records, thinned.weight_bytes) = (0, 0);
        } else {
            thinned.records = thinned.records.saturating_sub(holes);
            thinned.weight_bytes = thinned.weight_bytes.saturating_sub(of_holes);
        }
    }

    /// How many records are kept.
    pub(super) fn records(&self) -> u64 {
        (self.head - self.floor).saturating_sub(self.thinned.records)
    }

    /// What the kept records weigh.
    pub(super) fn weight_bytes(&self) -> u64 {
        let all = self.head_weight.saturating_sub(self.floor_weight);
        all.saturating_sub(self.thinned.weight_bytes)
    }
}

/// What was trimmed.
#[derive(Default)]
pub(super) struct Trimming {
    pub(super) records: u64,
    /// Whether there is more to do.
    pub(super) has_more: bool,
    /// The ids that no record has any more.
    pub(super) ids: Vec<IdAt>,
}

/// What the bounds of the whole log are to be kept for.
pub(super) struct Piece<'a> {
    pub(super) retention: &'a Retention,
    pub(super) too_old: Option<UnixMillis>,
    /// Records after this one's head count for nothing yet.
    pub(super) settled: LogState,
}

/// Takes out the oldest records as far as retention asks, but not many more than [`MAX_TRIM`].
///
/// The floor moves record by record; a block leaves the file when all of it is below.
pub(super) fn trim(
    txn: &WriteTransaction,
    piece: &Piece<'_>,
    rules: &mut Rules,
    state: &mut LogState,
) -> Result<Trimming, redb::Error> {
    let Piece {
        retention,
        too_old,
        settled,
    } = *piece;
    let later = state.head - settled.head;
    let later_weight = state.head_weight - settled.head_weight;
    let is_over = |state: &LogState| {
        let records = state.records().saturating_sub(later);
        let weight_bytes = state.weight_bytes().saturating_sub(later_weight);
        retention.is_over(records, weight_bytes)
    };
    let mut done = Trimming::default();
    if !is_over(state) && too_old.is_none() {
        return Ok(done);
    }
    let mut topics: HashSet<Box<str>> = HashSet::new();
    let mut gone: Vec<(Offset, Taken)> = Vec::new();
    let old_floor = state.floor;
    let mut blocks = txn.open_table(BLOCKS)?;
    'blocks: for entry in blocks.range(state.floor + 1..)? {
        let (last, bytes) = entry?;
        let last = last.value();
        if done.records >= MAX_TRIM {
            done.has_more = true;
            break;
        }
        let Ok(block) = Block::decode(last, bytes.value()) else {
            // What is damaged goes with what is before it, but not the newest.
            if last >= state.head {
                break;
            }
            done.records += last - state.floor;
            state.raise_floor(last, None, 0);
            continue;
        };
        for (offset, bytes) in block.records_from(state.floor + 1) {
            if offset > settled.head {
                break 'blocks;
            }
            if bytes.is_empty() && offset <= state.thinned.newest {
                // A rule has taken it; the floor passes it with the next record.
                continue;
            }
            let view = RecordView::decode(offset, bytes);
            let goes = is_over(state)
                || view.is_ok_and(|view| too_old.is_some_and(|time| view.published_at <= time))
                || view.is_err() && offset < state.head;
            if !goes {
                break 'blocks;
            }
            done.records += 1;
            let weight_bytes = view.map_or(0, |view| view.weight_bytes());
            state.raise_floor(
                offset,
                view.ok().map(|view| view.running_weight),
                weight_bytes,
            );
            if let Ok(view) = view {
                if !rules.is_empty() {
                    gone.push((offset, Taken::new(&view)));
                }
                for topic in view.topics {
                    if !topics.contains(topic) {
                        topics.insert(topic.into());
                    }
                }
            }
        }
    }
    if state.floor == old_floor {
        return Ok(done);
    }
    blocks.retain_in(..=state.floor, |_, _| false)?;
    drop(blocks);
    topic_retention::trimmed(txn, rules, &gone, state)?;

    let mut lists = txn.open_table(IDS)?;
    lists.retain_in(..=state.floor, |last, value| {
        // What a damaged list has forgotten is passed over when it is found.
        done.ids
            .extend(ids::list(&last.to_le_bytes(), value).into_iter().flatten());
        false
    })?;
    let mut runs = txn.open_table(TOPICS)?;
    for topic in topics {
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

/// How many records a commit trims at most: some milliseconds.
const MAX_TRIM: u64 = 4096;
