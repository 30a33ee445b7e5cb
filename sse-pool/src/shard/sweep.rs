//! Signs of life, and whom the sweep lets go when they are missing.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Shard;
use crate::{
    CloseReason, ReaderKey, compact_instant::CompactInstant, reader::State, topics::Content,
};

impl<T> Shard<T> {
    pub(crate) fn touch(&mut self, key: ReaderKey, now: Instant) {
        let now = self.compact(now);
        if let Some(reader) = self.reader_mut(key) {
            reader.since = reader.since.max(now);
        }
    }

    /// Why this reader should be let go now, if it should.
    pub(crate) fn verdict(
        &self,
        key: ReaderKey,
        now: CompactInstant,
        send_timeout: Duration,
        idle_timeout: Duration,
    ) -> Option<CloseReason> {
        let reader = self.open_reader(key)?;
        let quiet = now.saturating_since(reader.since);
        if quiet >= send_timeout
            && reader.state == State::Ready
            && (reader.in_hand || self.has_unread(key.slot))
        {
            Some(CloseReason::Stalled)
        } else if quiet >= idle_timeout {
            Some(CloseReason::Idle)
        } else {
            None
        }
    }

    /// Whether there may be something to read: exact for topics, a "perhaps" for patterns and labels.
    fn has_unread(&self, slot: u32) -> bool {
        let Some(reader) = self.readers.get(slot) else {
            return false;
        };
        if reader.state == State::Parked {
            return false;
        }
        if reader.follows_all() || reader.scans() {
            return reader.next_seq < self.window.end();
        }
        let holds = |seqs: &VecDeque<u64>| seqs.back().is_some_and(|&back| back >= reader.next_seq);
        self.has_lost(slot)
            || self.directs.get(&reader.info.id).is_some_and(holds)
            || reader.links.as_slice().iter().any(|link| {
                matches!(
                    self.index.node(link.node).map(|node| &node.content),
                    Some(Content::Topic { seqs, .. }) if holds(seqs)
                )
            })
    }
}
