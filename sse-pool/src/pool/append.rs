//! Entries come: every shard gets them, and the readers that waited are woken when the locks are gone.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::Pool;
use crate::{Entry, patterns::Matching};

/// What an append did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Entries that went into the window.
    pub appended: usize,
    /// Entries that were not after the head, and were ignored.
    pub stale: usize,
    /// Waiting readers that wanted an entry and were woken. Readers that are busy reading find it by
    /// themselves and are not counted.
    pub readers: usize,
}

impl<T> Pool<T> {
    /// Bounds the window anew, from the next append on: for a caller whose payloads grow after they were appended.
    pub fn set_max_window_bytes(&self, max_bytes: usize) {
        self.inner.max_window_bytes.store(max_bytes, Relaxed);
    }
}

impl<T> Pool<T> {
    /// Takes every entry up to `offset` out of the window, because it is not to be given out from here any more. Readers that had
    /// not read that far are told to read on from the log ([`Lagged`](crate::Read::Lagged)), if it concerned them.
    ///
    /// Cost: what is taken out.
    pub fn evict_upto(&self, offset: u64) {
        for shard in &self.inner.shards {
            let mut fx = crate::shard::Effects::default();
            shard.lock().evict_upto(offset, &mut fx);
            self.carry_out(&mut fx);
        }
    }
}

impl<T: Clone> Pool<T> {
    /// Appends entries to the window and wakes the readers that wait for them.
    ///
    /// For **one writer at a time**, in the order of the offsets: the caller is whoever learns the log's order.
    /// An entry that is not after the [head](Self::head) is ignored and counted, so appending something twice
    /// is harmless. Readers are woken after the locks are gone, once per call however many entries they get.
    ///
    /// Cost: per shard one lock, and per entry its own topics' waiting readers, whatever else is connected. Each
    /// shard but the first gets a clone of every entry, made before its lock is taken: the counts of what readers hold
    /// then never travel from one core to another. Payloads that are large are best an `Arc`.
    ///
    /// # Panics
    ///
    /// With debug assertions, when two threads append at the same time.
    pub fn append(&self, entries: &[Arc<Entry<T>>], now: Instant) -> AppendOutcome {
        let inner = &*self.inner;
        debug_assert!(!inner.appending.swap(true, Relaxed), "one writer at a time");
        // Patterns are foreign code: they are asked before anything is locked.
        let matching = inner.patterns.matching(entries);
        let mut fx = inner.spare.lock().take().unwrap_or_default();
        let mut outcome = AppendOutcome::default();
        let mut clones;
        let max_bytes = inner.max_window_bytes.load(Relaxed);
        for (number, shard) in inner.shards.iter().enumerate() {
            outcome = AppendOutcome::default();
            let mut own = entries;
            if number > 0 {
                clones = entries
                    .iter()
                    .map(|entry| Arc::new(Entry::clone(entry)))
                    .collect::<Vec<_>>();
                own = &clones;
            }
            let mut shard = shard.lock();
            shard.set_max_bytes(max_bytes);
            let mut rest = matching.found();
            for (index, entry) in own.iter().enumerate() {
                let found = Matching::take(&mut rest, index);
                let meant = matching.meant(found);
                if shard.append(entry, found, meant, matching.last_number, now, &mut fx) {
                    outcome.appended += 1;
                    inner.head.fetch_max(entry.offset, Relaxed);
                } else {
                    outcome.stale += 1;
                }
            }
            shard.take_ready_waker(&mut fx);
        }
        outcome.readers = fx.readers;
        inner
            .appended_entries
            .fetch_add(outcome.appended as u64, Relaxed);
        inner.stale_entries.fetch_add(outcome.stale as u64, Relaxed);
        if outcome.stale == 0 {
            let bytes: usize = entries.iter().map(|entry| entry.size_bytes).sum();
            inner.appended_bytes.fetch_add(bytes as u64, Relaxed);
        }
        // A woken task may append: the turn ends before the wakes.
        inner.appending.store(false, Relaxed);
        self.carry_out(&mut fx);
        if fx.wakers.capacity() <= MAX_SPARE_WAKERS {
            *inner.spare.lock() = Some(fx);
        }
        outcome
    }
}

/// The most wakers an idle pool keeps room for (16 bytes each).
const MAX_SPARE_WAKERS: usize = 16_384;
