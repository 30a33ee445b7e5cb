//! Resetting the pool when its log begins another epoch, whose offsets start anew.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use super::Pool;
use crate::{ReaderKey, shard::Effects};

impl<T> Pool<T> {
    /// Empties the window: offsets are another log's from here on, and what comes next is after `offset`.
    ///
    /// Every reader hears [`Read::Reset`](crate::Read::Reset) once, before anything else, and goes on after `offset`; one
    /// that waited is woken. No entry from before is handed out after this call. `series` is a number of the caller's
    /// choice that names the log; the pool only hands it on.
    ///
    /// For the **one writer** that also [appends](Self::append), in the order of the log. Costs a visit to each reader and
    /// each topic.
    ///
    /// # Panics
    ///
    /// With debug assertions, when another thread appends at the same time.
    pub fn reset(&self, series: u64, offset: u64, now: Instant) {
        let inner = &*self.inner;
        debug_assert!(!inner.appending.swap(true, Relaxed), "one writer at a time");
        let mut fx = Effects::default();
        for shard in &inner.shards {
            shard.lock().reset(series, offset, now, &mut fx);
        }
        inner.head.store(offset, Relaxed);
        inner.appending.store(false, Relaxed);
        self.carry_out(&mut fx);
    }

    /// Which series a reader's cursor is in, as [`Connection::series`](crate::Connection::series).
    #[must_use]
    pub fn series(&self, key: ReaderKey) -> Option<u64> {
        self.inner.shards.get(key.shard())?.lock().series(key)
    }
}
