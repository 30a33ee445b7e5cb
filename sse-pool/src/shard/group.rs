//! Readers at the same position of the same topic get the same entries, so one look at the window serves them all.

use std::{sync::Arc, time::Instant};

use super::{Shard, park::Waiter};
use crate::{
    Entry, ReaderKey,
    reader::{Links, Reader, State},
};

/// Where a reader stands in the one list that it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListPosition {
    node: u32,
    cursor: u64,
    is_changed: bool,
}

impl ListPosition {
    fn of(reader: &Reader) -> Option<Self> {
        match (&reader.links, reader.state) {
            (Links::One(link), State::Ready) if reader.batch && !reader.broken.is_news() => {
                Some(Self {
                    node: link.node,
                    cursor: reader.cursor,
                    is_changed: reader.is_changed,
                })
            }
            _ => None,
        }
    }
}

impl<T> Shard<T> {
    /// Where a reader stands, if others may stand there too.
    pub(crate) fn list_position(&self, key: ReaderKey) -> Option<ListPosition> {
        // Entries for single readers are in lists of their own.
        let is_alone = key.shard != self.number || !self.directs.is_empty();
        ListPosition::of(self.reader(key).filter(|_| !is_alone)?)
    }

    /// Lets the first few of `keys` take what a reader took that stood at `position`, was left nothing out and waits now;
    /// says how many did. The others are to be read.
    pub(crate) fn repeat(
        &mut self,
        position: ListPosition,
        taken: &[Arc<Entry<T>>],
        keys: &[ReaderKey],
        now: Instant,
    ) -> usize {
        if taken.iter().any(|entry| !entry.audience.is_everyone()) {
            return 0;
        }
        let has_labels = taken.iter().any(|entry| entry.label.is_some());
        let bytes = taken.iter().map(|entry| entry.size_bytes).sum();
        let mut count = 0;
        for &key in keys {
            if self.list_position(key) != Some(position) || self.has_lost(key.slot) {
                break;
            }
            let Some(reader) = self.readers.get_mut(key.slot) else {
                break;
            };
            if has_labels && reader.filters_labels {
                break;
            }
            reader.next_seq = self.window.end();
            reader.cursor = reader
                .cursor
                .max(self.window.offset_before(reader.next_seq));
            self.totals.count_taken(reader, taken.len(), bytes);
            let _parked = self.park(key, Waiter::Batch, &mut None, now);
            count += 1;
        }
        count
    }
}
