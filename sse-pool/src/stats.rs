//! The pool's counters.

use crate::CloseReason;

/// The pool in numbers. Counters run since the pool was made; the others are of this moment.
///
/// The parts are read one after another, not under one lock, so sums may differ by what happened meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Places taken now: permits and connections.
    pub active: usize,
    /// The most places that were ever taken at once.
    pub peak: usize,
    /// Permits given out.
    pub accepted: u64,
    /// Refusals because every place was taken.
    pub refused_full: u64,
    /// Refusals because an address had its share.
    pub refused_address: u64,
    /// Refusals because the pool was draining.
    pub refused_draining: u64,
    /// Entries appended.
    pub appended_entries: u64,
    /// Bytes appended.
    pub appended_bytes: u64,
    /// Entries that were not after the head and were therefore ignored.
    pub stale_entries: u64,
    /// Entries taken by readers, each reader counted.
    pub delivered_entries: u64,
    /// Bytes taken by readers, each reader counted.
    pub delivered_bytes: u64,
    /// How often a reader was told that it fell out of the window.
    pub lagged: u64,
    /// Connections that ended, by [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::COUNT],
    /// Entries in the window now.
    pub window_entries: usize,
    /// What the window takes now, in all shards together.
    pub window_bytes: usize,
    /// The part of it that others may hold too: [`Entry::shared_bytes`](crate::Entry::shared_bytes), and the names of topics.
    pub window_shared_bytes: usize,
    /// The offset after which the window is complete.
    pub floor: u64,
    /// The offset of the newest entry.
    pub head: u64,
    /// Topics that have a reader or an entry in the window, on the shard that has most.
    pub topics: usize,
    /// Distinct patterns in use.
    pub patterns: usize,
}

impl Stats {
    /// How many connections ended for this reason.
    #[must_use]
    pub const fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason.index()]
    }

    /// How many connections the pool itself let go: idle, stalled or lagged.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        let evictions = CloseReason::ALL
            .into_iter()
            .filter(|reason| reason.is_eviction());
        evictions.map(|reason| self.closed_for(reason)).sum()
    }
}
