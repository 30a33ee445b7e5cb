//! The window begins anew with another log's offsets, and every reader is told so once.
//!
//! A reader keeps its old cursor until it has heard, so that the news can say where it was. What it reads meanwhile is
//! the news and nothing else, and nobody can move it: an offset from outside would be one of the log before.

use std::time::Instant;

use super::{Effects, Shard, Step, park::announce};
use crate::{
    ReaderKey,
    reader::{Break, State},
};

/// Which log the offsets are of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series {
    now: u64,
    /// The one before the last reset.
    before: u64,
    /// The offset that it began after.
    began_after: u64,
}

impl Series {
    pub(super) fn new(series: u64, began_after: u64) -> Self {
        Self {
            now: series,
            before: series,
            began_after,
        }
    }
}

impl<T> Shard<T> {
    /// Empties the window, and readies every reader to hear of it.
    pub(crate) fn reset(&mut self, series: u64, offset: u64, now: Instant, fx: &mut Effects<T>) {
        let head = self.window.head();
        fx.evicted.extend(self.window.clear(offset));
        self.index.clear(offset);
        self.directs.clear();
        self.direct_after = offset;
        fx.notes.extend(self.notes.drain().map(|(_, note)| note));
        self.series = Series {
            now: series,
            before: self.series.now,
            began_after: offset,
        };
        let now = self.compact(now);
        for slot in 0..u32::try_from(self.readers.end()).unwrap_or(u32::MAX) {
            let Some(reader) = self.readers.get_mut(slot) else {
                continue;
            };
            let was_parked = match reader.state {
                State::Closed(_) => continue,
                State::Parked => true,
                State::Ready => false,
            };
            reader.broken = match reader.broken {
                Break::None | Break::Lagging | Break::Moved => Break::Reset,
                Break::Reset | Break::ResetAgain => Break::ResetAgain,
            };
            reader.seeks = reader.seeks.wrapping_add(1);
            reader.next_seq = self.window.end();
            reader.direct_after = offset;
            if !was_parked {
                continue;
            }
            // It had seen everything.
            reader.cursor = reader.cursor.max(head);
            reader.state = State::Ready;
            reader.since = reader.since.max(now);
            for link in reader.links.as_slice() {
                if let Some(node) = self.index.node_mut(link.node) {
                    node.parked -= 1;
                }
            }
            let key = ReaderKey {
                shard: self.number,
                slot,
                generation: reader.generation,
            };
            announce(reader, key, &mut self.ready, &mut fx.wakers);
        }
        self.take_ready_waker(fx);
    }

    /// The series of a reader's cursor; `None` while it has yet to hear of a reset.
    pub(crate) fn series(&self, key: ReaderKey) -> Option<u64> {
        let reader = self.reader(key)?;
        (!reader.broken.is_reset()).then_some(self.series.now)
    }

    pub(super) fn series_now(&self) -> u64 {
        self.series.now
    }

    /// Tells a reader of the resets that it has not heard of; `None` when there are none.
    pub(super) fn tell_of_reset(&mut self, slot: u32) -> Option<Step<T>> {
        let reader = self.readers.get_mut(slot)?;
        let from_series = match reader.broken {
            Break::None | Break::Lagging | Break::Moved => return None,
            Break::Reset => Some(self.series.before),
            Break::ResetAgain => None,
        };
        reader.broken = Break::None;
        let after = self.series.began_after;
        let before = std::mem::replace(&mut reader.cursor, after);
        Some(Step::Reset {
            from_series,
            before,
            series: self.series.now,
            after,
        })
    }
}
