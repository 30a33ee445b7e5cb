//! Looking at the pool: one connection, a page of them, and the sums.

use std::sync::atomic::Ordering::Relaxed;

use super::{Pool, SLICE};
use crate::{ConnectionId, ConnectionStatus, ReaderKey, Stats};

impl<T> Pool<T> {
    /// A connection at this moment; `None` when no open one has this id.
    #[must_use]
    pub fn status(&self, id: &ConnectionId) -> Option<ConnectionStatus> {
        self.inner.shards.iter().find_map(|shard| {
            let shard = shard.lock();
            shard.status(shard.key_of(id)?)
        })
    }

    /// Up to `limit` connections, beginning after `after`: a page at a time.
    ///
    /// The order is by place, so a connection that is open all the while is seen once. The last status's
    /// [`key`](ConnectionStatus::key) is where the next page begins; an empty page is the end.
    #[must_use]
    pub fn statuses(&self, after: Option<ReaderKey>, limit: usize) -> Vec<ConnectionStatus> {
        let mut page = Vec::new();
        let (first, mut slot) = after.map_or((0, 0), |key| (key.shard(), key.slot() + 1));
        for shard in self.inner.shards.iter().skip(first) {
            loop {
                let shard = shard.lock();
                if slot >= shard.slots() || page.len() >= limit {
                    break;
                }
                let slice = slot..shard.slots().min(slot.saturating_add(SLICE));
                slot = slice.end;
                let room = limit - page.len();
                page.extend(
                    shard
                        .keys_in(slice)
                        .filter_map(|key| shard.status(key))
                        .take(room),
                );
            }
            slot = 0;
        }
        page
    }

    /// The connections for which `pred` says so. It is called without a lock.
    pub fn find(&self, mut pred: impl FnMut(&ConnectionStatus) -> bool) -> Vec<ConnectionId> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.statuses(after, SLICE);
            let Some(last) = page.last() else {
                return found;
            };
            after = Some(last.key);
            let matching = page.iter().filter(|status| pred(status));
            found.extend(matching.map(|status| status.info.id.clone()));
        }
    }

    /// The pool in numbers. Cost: one short visit to every shard.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = &*self.inner;
        let admission = inner.admission.stats();
        let mut stats = Stats {
            active: admission.active,
            peak: admission.peak,
            accepted: admission.accepted,
            refused_full: admission.refused_full,
            refused_address: admission.refused_address,
            refused_draining: admission.refused_draining,
            appended_entries: inner.appended_entries.load(Relaxed),
            appended_bytes: inner.appended_bytes.load(Relaxed),
            stale_entries: inner.stale_entries.load(Relaxed),
            head: self.head(),
            patterns: inner.patterns.count(),
            ..Stats::default()
        };
        for shard in &inner.shards {
            let shard = shard.lock();
            let totals = shard.totals();
            stats.delivered_entries += totals.delivered_entries;
            stats.delivered_bytes += totals.delivered_bytes;
            stats.lagged += totals.lagged;
            for (sum, count) in stats.closed.iter_mut().zip(totals.closed) {
                *sum += count;
            }
            // The windows are alike; between two shards of one append the last one counts.
            stats.window_entries = shard.window().len();
            stats.window_bytes = shard.window().bytes();
            stats.window_shared_bytes = shard.window().shared_bytes();
            stats.floor = shard.window().floor();
            stats.topics = stats.topics.max(shard.index().topic_count());
        }
        stats
    }
}
