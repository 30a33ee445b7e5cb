//! The bounded window of the newest entries.
//!
//! Two numberings are used. *Offsets* are the log's and may have holes. *Sequence numbers* count the entries
//! of this window one by one, since the pool began, and are what cursors and topic lists use inside: an entry
//! is found by a subtraction.

use std::{collections::VecDeque, sync::Arc};

use crate::patterns::Meant;
use crate::{
    Entry, WindowConfig,
    entry::{name_bytes, topic_bytes},
};

#[derive(Debug)]
pub(crate) struct Window<T> {
    entries: VecDeque<Slot<T>>,
    /// The sequence number of the oldest entry, or of the next one when there is none. Starts at 1.
    base: u64,
    /// What the entries and their topics take, in all shards together.
    bytes: usize,
    /// The part of it that others may hold too.
    shared_bytes: usize,
    /// How many windows there are of these entries.
    shards: usize,
    /// The offset after which the window is complete.
    floor: u64,
    head: u64,
    bounds: WindowConfig,
}

#[derive(Debug)]
struct Slot<T> {
    entry: Arc<Entry<T>>,
    meant: Meant,
}

impl<T> Window<T> {
    pub(crate) fn new(bounds: WindowConfig, shards: usize, start_offset: u64) -> Self {
        Self {
            shards,
            shared_bytes: 0,
            entries: VecDeque::new(),
            base: 1,
            bytes: 0,
            floor: start_offset,
            head: start_offset,
            bounds,
        }
    }

    /// The window may take so many bytes from the next entry on.
    pub(crate) const fn set_max_bytes(&mut self, max_bytes: usize) {
        self.bounds.max_bytes = max_bytes;
    }

    pub(crate) const fn head(&self) -> u64 {
        self.head
    }

    pub(crate) const fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// A topic has its first entry here.
    pub(crate) const fn add_topic(&mut self, name: &str) {
        self.bytes += topic_bytes(name, self.shards);
        self.shared_bytes += name_bytes(name);
    }

    /// A topic has no entry here any more.
    pub(crate) const fn remove_topic(&mut self, name: &str) {
        self.bytes -= topic_bytes(name, self.shards);
        self.shared_bytes -= name_bytes(name);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The sequence number of the oldest entry.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// The sequence number the next entry will have.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Arc<Entry<T>>> {
        self.entries
            .get(usize::try_from(seq.checked_sub(self.base)?).ok()?)
            .map(|slot| &slot.entry)
    }

    /// The entries from `seq` on.
    pub(crate) fn range_from(&self, seq: u64) -> impl Iterator<Item = &Arc<Entry<T>>> {
        self.meant_from(seq).map(|(entry, _)| entry)
    }

    /// The same, and which patterns mean each.
    pub(crate) fn meant_from(&self, seq: u64) -> impl Iterator<Item = (&Arc<Entry<T>>, &Meant)> {
        let start = usize::try_from(seq.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let slots = self.entries.range(start.min(self.entries.len())..);
        slots.map(|slot| (&slot.entry, &slot.meant))
    }

    /// The first entry in the window after `offset`.
    pub(crate) fn seq_after(&self, offset: u64) -> u64 {
        if offset >= self.head {
            self.end()
        } else {
            self.base
                + self
                    .entries
                    .partition_point(|slot| slot.entry.offset <= offset) as u64
        }
    }

    /// The offset just before `seq`, which must lie in the window or at its end.
    pub(crate) fn offset_before(&self, seq: u64) -> u64 {
        self.get(seq.wrapping_sub(1))
            .map_or(self.floor, |entry| entry.offset)
    }

    pub(crate) fn push(&mut self, entry: Arc<Entry<T>>, meant: Meant) -> u64 {
        let seq = self.end();
        self.head = entry.offset;
        self.bytes += entry.memory_bytes(self.shards);
        self.shared_bytes += entry.shared_bytes;
        self.entries.push_back(Slot { entry, meant });
        seq
    }

    /// Takes everything out; the window is complete after `offset` of another series.
    pub(crate) fn clear(&mut self, offset: u64) -> impl Iterator<Item = Arc<Entry<T>>> {
        self.base = self.end();
        (self.floor, self.head) = (offset, offset);
        (self.bytes, self.shared_bytes) = (0, 0);
        let slots = std::mem::take(&mut self.entries);
        slots.into_iter().map(|slot| slot.entry)
    }

    /// Takes the oldest entry out while the window is over its bounds; the newest always stays.
    pub(crate) fn evict(&mut self) -> Option<(u64, Arc<Entry<T>>)> {
        let over =
            self.bytes > self.bounds.max_bytes || self.entries.len() > self.bounds.max_entries;
        if !over || self.entries.len() <= 1 {
            return None;
        }
        self.pop_first()
    }

    /// Takes the oldest entry out if it is not after `offset`.
    pub(crate) fn evict_upto(&mut self, offset: u64) -> Option<(u64, Arc<Entry<T>>)> {
        let first = self.entries.front()?;
        match first.entry.offset <= offset {
            true => self.pop_first(),
            false => None,
        }
    }

    fn pop_first(&mut self) -> Option<(u64, Arc<Entry<T>>)> {
        let Slot { entry, .. } = self.entries.pop_front()?;
        let seq = self.base;
        self.base += 1;
        self.bytes -= entry.memory_bytes(self.shards);
        self.shared_bytes -= entry.shared_bytes;
        self.floor = entry.offset;
        Some((seq, entry))
    }
}
