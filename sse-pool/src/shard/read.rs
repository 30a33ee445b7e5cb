//! One read: which kind it is, and what each kind says of loss, of closing and of what was taken.

use std::{sync::Arc, time::Instant};

use super::{Shard, scan::Scan};
use crate::{
    CloseReason, ConnectionInfo, Entry, ReaderKey, Selector,
    reader::{Break, State},
    topics::Content,
};

/// What a look at the window gave.
pub(crate) enum Step<T> {
    /// Entries, and whether nothing was left out that stood in the reader's lists.
    Entries {
        is_all: bool,
    },
    Nothing,
    Lagged {
        after: u64,
        floor: u64,
    },
    Reset {
        from_series: Option<u64>,
        before: u64,
        series: u64,
        after: u64,
    },
    Moved {
        series: u64,
        after: u64,
    },
    Closed(CloseReason),
    /// Entries to be filtered without the lock; then come back with the same [`Scan`].
    Filter {
        /// Each with whether the reader's patterns mean it, where that is known.
        chunk: Vec<(Arc<Entry<T>>, Option<bool>)>,
        selector: Arc<Selector>,
        info: Arc<ConnectionInfo>,
    },
}

impl<T> Shard<T> {
    /// Looks for what is ready: everything for exact readers, one chunk at a time for pattern readers.
    pub(crate) fn step(
        &mut self,
        key: ReaderKey,
        now: Instant,
        max_bytes: usize,
        scan: &mut Option<Scan>,
        out: &mut Vec<Arc<Entry<T>>>,
        out_start: usize,
    ) -> Step<T> {
        let Some(reader) = self.reader(key) else {
            return Step::Closed(CloseReason::Client);
        };
        match reader.state {
            State::Closed(reason) => {
                out.truncate(out_start);
                return Step::Closed(reason);
            }
            State::Parked => return Step::Nothing,
            State::Ready => {}
        }
        let now = self.compact(now);
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return Step::Closed(CloseReason::Client);
        };
        reader.since = reader.since.max(now);
        reader.in_hand = false;
        if let Some(reset) = self.tell_of_reset(key.slot) {
            out.truncate(out_start);
            return reset;
        }
        if let Some(moved) = self.tell_of_move(key.slot) {
            out.truncate(out_start);
            return moved;
        }
        let Some(reader) = self.readers.get(key.slot) else {
            return Step::Closed(CloseReason::Client);
        };
        if reader.scans() || scan.is_some() {
            self.step_scan(key.slot, scan, out, out_start)
        } else {
            self.step_exact(key.slot, max_bytes, out, out_start)
        }
    }

    pub(super) fn lag(&mut self, slot: u32) -> Step<T> {
        let floor = self.window.floor();
        let Some(reader) = self.readers.get_mut(slot) else {
            return Step::Nothing;
        };
        if std::mem::replace(&mut reader.broken, Break::Lagging) != Break::Lagging {
            self.totals.lagged += 1;
        }
        Step::Lagged {
            after: reader.cursor,
            floor,
        }
    }

    /// Whether something this reader may want was evicted before it was read.
    pub(super) fn has_lost(&self, slot: u32) -> bool {
        let Some(reader) = self.readers.get(slot) else {
            return false;
        };
        if reader.is_linked_to_all() || reader.scans() {
            return reader.cursor < self.window.floor();
        }
        reader.cursor < reader.direct_after
            || reader.links.as_slice().iter().any(|link| {
                matches!(
                    self.index.node(link.node).map(|node| &node.content),
                    Some(Content::Topic { complete_after, .. }) if reader.cursor < *complete_after
                )
            })
    }
}
