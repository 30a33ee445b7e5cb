//! Where a log stands: its ends, what it weighs, and how far topic retention has come.

use redb::{ReadableTable, StorageError, Table};

use super::block::RecordBlock;
use super::codec::RecordView;
use super::meta::{MetaError, get_meta, put_meta};
use crate::{Bounds, Epoch, Offset};

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
    /// How far topic retention has come.
    pub(super) retention: RuleProgress,
}

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
        let retention = &mut self.retention;
        if retention.newest_removed <= offset {
            (retention.records, retention.weight_bytes) = (0, 0);
        } else {
            retention.records = retention.records.saturating_sub(holes);
            retention.weight_bytes = retention.weight_bytes.saturating_sub(of_holes);
        }
    }

    /// How many records are kept.
    pub(super) fn records(&self) -> u64 {
        (self.head - self.floor).saturating_sub(self.retention.records)
    }

    /// What the kept records weigh.
    pub(super) fn weight_bytes(&self) -> u64 {
        let all = self.head_weight.saturating_sub(self.floor_weight);
        all.saturating_sub(self.retention.weight_bytes)
    }

    /// What readers may be told of it.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            epoch: self.epoch,
            floor: self.floor,
            head: self.head,
        }
    }
}

/// Where the log stands, by its tables.
pub(super) fn read_state(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    epoch: Epoch,
) -> Result<LogState, MetaError> {
    let (floor, floor_weight) = match get_meta::<16>(meta, "floor")? {
        Some(bytes) => {
            let (offset, weight) = bytes.split_at(8);
            let number = |b: &[u8]| b.try_into().map_or(0, u64::from_le_bytes);
            (number(offset), number(weight))
        }
        None => (0, 0),
    };
    let retention = read_progress(meta)?;
    let mut state = LogState {
        epoch,
        floor,
        // The newest may have been taken by a rule.
        head: floor.max(retention.newest_removed),
        floor_weight,
        head_weight: floor_weight.max(retention.newest_removed_weight),
        retention,
    };
    if let Some((last, bytes)) = blocks.first()?
        && retention.newest_removed <= floor
    {
        let last = last.value();
        // A first block that is damaged has lost its beginning: what is left of it is a gap.
        let first = RecordBlock::decode(last, bytes.value()).map_or(0, |block| block.first);
        state.floor = floor.max(first.saturating_sub(1));
    }
    if let Some((last, _)) = blocks.last()? {
        state.head = last.value().max(state.floor).max(retention.newest_removed);
    }
    // The newest record that is whole says what all weigh; damaged ones behind it count nothing.
    'blocks: for entry in blocks.range(state.floor + 1..)?.rev() {
        let (last, bytes) = entry?;
        let Ok(block) = RecordBlock::decode(last.value(), bytes.value()) else {
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

/// How far topic retention has come.
pub(super) fn read_progress(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<RuleProgress, MetaError> {
    let bytes = get_meta::<{ RuleProgress::BYTES }>(meta, NAME)?;
    Ok(bytes
        .as_ref()
        .map(RuleProgress::from_bytes)
        .unwrap_or_default())
}

/// The offset up to which everything is gone, as a reader's transaction has it.
pub(super) fn read_floor(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Offset, MetaError> {
    let bytes = get_meta::<16>(meta, "floor")?;
    let first = bytes.as_ref().and_then(|bytes| bytes.first_chunk());
    Ok(first.map_or(0, |bytes| Offset::from_le_bytes(*bytes)))
}

/// How far topic retention has come, and what it has removed. All zero when there never was a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleProgress {
    /// Which rules they are, see [`Rules::fingerprint`](crate::topic_retention::Rules::fingerprint).
    pub(super) fingerprint: u64,
    /// The rules were applied to everything up to here.
    pub(super) applied_upto: Offset,
    /// How many records they have removed above the floor.
    pub(super) records: u64,
    /// And what these weighed.
    pub(super) weight_bytes: u64,
    /// The newest record they have removed.
    pub(super) newest_removed: Offset,
    /// What all records up to that one weighed.
    pub(super) newest_removed_weight: u64,
    /// What was removed up to here may have been forgotten.
    pub(super) forgotten_upto: Offset,
}

impl RuleProgress {
    pub(super) const BYTES: usize = 7 * 8;

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |n: usize| {
            let bytes = bytes[n * 8..].first_chunk().copied();
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        Self {
            fingerprint: number(0),
            applied_upto: number(1),
            records: number(2),
            weight_bytes: number(3),
            newest_removed: number(4),
            newest_removed_weight: number(5),
            forgotten_upto: number(6),
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let numbers = [
            self.fingerprint,
            self.applied_upto,
            self.records,
            self.weight_bytes,
            self.newest_removed,
            self.newest_removed_weight,
            self.forgotten_upto,
        ];
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// Whether there ever was a rule.
    pub(super) fn is_in_use(&self) -> bool {
        *self != Self::default()
    }

    /// Notes it in `meta`.
    pub(super) fn put(
        self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), StorageError> {
        put_meta(meta, NAME, &self.to_bytes())
    }
}

/// The entry of `meta`.
const NAME: &str = "thinned";
