//! Whom a sweep must let go, and what must be left when everyone has gone.

use sse_pool::CloseReason;

use super::{Handle, World};

impl World {
    pub(super) fn sweep(&mut self) {
        let behind = self.pool.statuses(None, usize::MAX);
        let behind = behind.iter().map(|status| status.behind_entries).max();
        let swept = self.pool.sweep(self.now);
        assert_eq!(swept.most_behind_entries, behind.unwrap_or(0));
        let config = self.pool.config().clone();
        for index in 0..self.readers.len() {
            let reader = &self.readers[index];
            if reader.closed.is_some() {
                continue;
            }
            let quiet = self.now - reader.since;
            let may_stall = !reader.parked && quiet >= config.send_timeout;
            let must_stall = may_stall && (reader.in_hand || !reader.queue.is_empty());
            let stalled = swept.stalled.contains(&reader.id);
            let idle = swept.idle.contains(&reader.id);
            assert!(
                stalled || !must_stall,
                "{} should have been let go",
                reader.id
            );
            assert!(may_stall || !stalled, "{} should have stayed", reader.id);
            assert!(!idle || quiet >= config.idle_timeout);
            assert!(idle || stalled || quiet < config.idle_timeout);
            if stalled || idle {
                let reason = if stalled {
                    CloseReason::Stalled
                } else {
                    CloseReason::Idle
                };
                self.closed(index, reason);
            }
        }
    }

    pub(super) fn finish(mut self) {
        // Whoever is open gets the rest of what it wants.
        for index in 0..self.readers.len() {
            while self.readers[index].closed.is_none() && !self.readers[index].parked {
                self.read(index, 63);
            }
        }
        let stats = self.pool.stats();
        assert_eq!(stats.active, self.readers.len());
        assert_eq!(stats.delivered_entries, self.delivered);
        assert_eq!(stats.appended_entries, self.log.len() as u64);
        assert_eq!((stats.floor, stats.head), (self.floor(), self.head()));
        let open = self
            .readers
            .iter()
            .filter(|reader| reader.closed.is_none())
            .count();
        assert_eq!(self.pool.statuses(None, usize::MAX).len(), open);
        for reader in self.readers.drain(..) {
            if let Handle::Batch(shard, key) = &reader.handle {
                assert!(shard.leave(*key));
            }
        }
        let window = self.log.iter().filter(|entry| entry.offset > stats.floor);
        let mut topics: Vec<_> = window
            .filter(|entry| entry.recipients.is_none())
            .flat_map(|entry| entry.topics.iter())
            .collect();
        topics.sort();
        topics.dedup();
        let stats = self.pool.stats();
        assert_eq!(
            (stats.active, stats.topics, stats.patterns),
            (0, topics.len(), 0)
        );
        assert_eq!(
            stats.closed.iter().sum::<u64>(),
            stats.accepted - self.refused
        );
    }
}
