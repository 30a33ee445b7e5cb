//! Closing connections: one, some, all, and those that a sweep finds stalled or idle.

use std::time::Instant;

use super::{Pool, SLICE};
use crate::{CloseReason, ConnectionId, SweepOutcome, shard::Effects};

impl<T> Pool<T> {
    /// Closes a connection: its reader hears [`Closed`](crate::Read::Closed) at once. False when no open one has this
    /// id.
    ///
    /// Its id is free from here on; its place only when the [`Connection`](crate::Connection) is dropped.
    pub fn close(&self, id: &ConnectionId, reason: CloseReason) -> bool {
        self.inner.shards.iter().any(|shard| {
            let mut fx = Effects::default();
            let closed = {
                let mut shard = shard.lock();
                shard
                    .key_of(id)
                    .is_some_and(|key| shard.close(key, reason, &mut fx))
            };
            self.carry_out(&mut fx);
            closed
        })
    }

    /// Closes every connection and says how many there were.
    pub fn close_all(&self, reason: CloseReason) -> usize {
        self.close_some(reason, usize::MAX)
    }

    /// Closes up to `limit` connections and says how many: a drain in slices, so that not everyone comes back
    /// at the same moment. Fewer than `limit` means that none is left.
    pub fn close_some(&self, reason: CloseReason, limit: usize) -> usize {
        let mut closed = 0;
        for shard in &self.inner.shards {
            let mut slot = 0;
            while closed < limit {
                let mut fx = Effects::default();
                {
                    let mut shard = shard.lock();
                    if slot >= shard.slots() {
                        break;
                    }
                    let slice = slot..shard.slots().min(slot + SLICE);
                    slot = slice.end;
                    let keys: Vec<_> = shard.keys_in(slice).take(limit - closed).collect();
                    for key in keys {
                        closed += usize::from(shard.close(key, reason, &mut fx));
                    }
                }
                self.carry_out(&mut fx);
            }
        }
        closed
    }

    /// Closes the connections that are stalled or idle at `now`, and says how far the slowest one was behind.
    ///
    /// *Stalled*: it has unread entries, or took some and did not come back, and gave no sign of life for the
    /// send timeout. *Idle*: no sign of life for the idle timeout. Reading, waiting and
    /// [`touch`](crate::Connection::touch) are signs of life.
    ///
    /// Cost: looks at every reader, a slice at a time, so that nobody waits for it long.
    pub fn sweep(&self, now: Instant) -> SweepOutcome {
        let config = &self.inner.config;
        let mut swept = SweepOutcome::default();
        let (mut open, mut behind) = (0, Vec::new());
        for shard in &self.inner.shards {
            let mut slot = 0;
            loop {
                let mut fx = Effects::default();
                {
                    let mut shard = shard.lock();
                    if slot >= shard.slots() {
                        break;
                    }
                    let slice = slot..shard.slots().min(slot + SLICE);
                    slot = slice.end;
                    for entries in shard.behind(slice.clone()) {
                        open += 1;
                        behind.extend((entries > 0).then_some(entries));
                    }
                    let at = shard.compact(now);
                    let (send, idle) = (config.send_timeout, config.idle_timeout);
                    let verdicts: Vec<_> = shard
                        .keys_in(slice)
                        .filter_map(|key| Some((key, shard.verdict(key, at, send, idle)?)))
                        .collect();
                    for (key, reason) in verdicts {
                        let id = shard.reader(key).map(|reader| reader.info.id.clone());
                        if shard.close(key, reason, &mut fx) {
                            match reason {
                                CloseReason::Stalled => swept.stalled.extend(id),
                                _ => swept.idle.extend(id),
                            }
                        }
                    }
                }
                self.carry_out(&mut fx);
            }
        }
        swept.most_behind_entries = behind.iter().copied().max().unwrap_or(0);
        swept.typically_behind_entries = typical(open, &mut behind);
        swept
    }
}

/// What half of so many have at least, given those that have anything.
fn typical(open: usize, behind: &mut [usize]) -> usize {
    let half = open.div_ceil(2);
    if open < FEW || behind.len() < half {
        return 0;
    }
    let at = behind.len() - half;
    *behind.select_nth_unstable(at).1
}

/// Of fewer than these none is typical.
const FEW: usize = 3;
