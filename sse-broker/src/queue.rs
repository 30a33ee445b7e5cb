//! What waits to be committed.
//!
//! Publishers put batches in, in the order of their calls; whoever commits takes all that waits, and
//! that is the next group. No timer is involved: under load a group is what arrived during the commit
//! before it, and without load it is one batch, at once.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::{AppendError, Appended, NewRecord};

/// The answer to an append.
pub(crate) type Answer = Result<Vec<Appended>, AppendError>;

/// An answer on its way, and what is left of the append.
///
/// What a thread has allocated it had better free itself: where one makes records and another frees
/// them, both wait for the allocator's lock again and again. That was a sixth of what an append cost.
pub(crate) struct Answered<R> {
    pub(crate) answer: Answer,
    /// To be dropped where the answer is taken.
    pub(crate) left: Vec<R>,
}

impl<R> Answered<R> {
    /// The answer; what is left is freed here.
    pub(crate) fn take(self) -> Answer {
        drop(self.left);
        self.answer
    }
}

/// The records of one append, and where their answer goes.
pub(crate) struct Batch<R = NewRecord> {
    pub(crate) records: Vec<R>,
    pub(crate) weight_bytes: usize,
    pub(crate) answer: oneshot::Sender<Answered<R>>,
}

#[cfg(feature = "disk")]
impl<R> Batch<R> {
    /// Answers it. Whoever dropped the future does not want the answer.
    pub(crate) fn answer(self, answer: Answer) {
        let left = self.records;
        let _ = self.answer.send(Answered { answer, left });
    }
}

/// How much may wait to be committed: 64 MiB, some seconds of what a disk takes. A stated guess.
pub const DEFAULT_MAX_PENDING_BYTES: usize = 64 << 20;

/// Batches that wait, bounded in bytes.
pub(crate) struct Waiting<R = NewRecord> {
    batches: VecDeque<Batch<R>>,
    weight_bytes: usize,
    max_weight_bytes: usize,
}

impl<R> Waiting<R> {
    pub(crate) fn new(max_weight_bytes: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            weight_bytes: 0,
            max_weight_bytes,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    #[cfg(feature = "disk")]
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether a batch of this weight may wait too. One that is heavier than the bound all alone
    /// may, when nothing else waits; it is in memory anyway.
    pub(crate) fn has_room_for(&self, weight_bytes: usize) -> bool {
        self.batches.is_empty()
            || self.weight_bytes.saturating_add(weight_bytes) <= self.max_weight_bytes
    }

    pub(crate) fn push(&mut self, batch: Batch<R>) {
        self.weight_bytes += batch.weight_bytes;
        self.batches.push_back(batch);
    }

    /// Takes the oldest batches: all, or as many as weigh `max_group_bytes` together, but one at
    /// least.
    pub(crate) fn take_group(&mut self, max_group_bytes: usize) -> VecDeque<Batch<R>> {
        let mut group_bytes = 0usize;
        let fits = |batch: &&Batch<R>| {
            group_bytes = group_bytes.saturating_add(batch.weight_bytes);
            group_bytes <= max_group_bytes
        };
        let count = self
            .batches
            .iter()
            .take_while(fits)
            .count()
            .max(1)
            .min(self.batches.len());
        let rest = self.batches.split_off(count);
        let group = std::mem::replace(&mut self.batches, rest);
        self.weight_bytes -= group.iter().map(|batch| batch.weight_bytes).sum::<usize>();
        group
    }
}

/// What the batches of a group weigh.
pub(crate) fn weight_bytes(records: &[NewRecord]) -> usize {
    records.iter().map(NewRecord::weight_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(weight_bytes: usize) -> Batch<()> {
        Batch {
            records: Vec::new(),
            weight_bytes,
            answer: oneshot::channel().0,
        }
    }

    #[test]
    fn a_group_is_what_waits_up_to_its_bound_and_one_batch_at_least() {
        let mut waiting = Waiting::new(100);
        for weight in [10, 20, 500, 1, 1] {
            waiting.push(batch(weight));
        }
        let sizes = |group: VecDeque<Batch<()>>| {
            group
                .iter()
                .map(|batch| batch.weight_bytes)
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(waiting.take_group(30)), [10, 20]);
        assert_eq!(sizes(waiting.take_group(30)), [500]);
        assert!(!waiting.has_room_for(99));
        assert!(waiting.has_room_for(98));
        assert_eq!(sizes(waiting.take_group(30)), [1, 1]);
        assert!(waiting.take_group(30).is_empty());
        assert!(waiting.has_room_for(1_000_000));
        assert_eq!(waiting.weight_bytes, 0);
    }
}
