//! A reader that found nothing waits, and is told: by its own waker, or on the shard's list of ready readers.
//!
//! Wakers are foreign code: they are cloned and dropped without the lock, which takes a second visit.

use std::{task::Waker, time::Instant};

use super::{Effects, Shard};
use crate::{
    ReaderKey,
    reader::{Reader, State},
    slab::give_back,
};

/// What became of an attempt to park.
pub(crate) enum Park {
    /// Parked; a waker that was replaced is to be dropped without the lock.
    Parked(Option<Box<Waker>>),
    /// Come back with a clone of the task's waker, made without the lock.
    NeedsWaker,
}

/// How a reader that finds nothing is told later.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiter<'a> {
    Task(&'a Waker),
    Batch,
}

impl<T> Shard<T> {
    /// Parks a reader that found nothing.
    pub(crate) fn park(
        &mut self,
        key: ReaderKey,
        waiter: Waiter<'_>,
        spare: &mut Option<Box<Waker>>,
        now: Instant,
    ) -> Park {
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return Park::Parked(None);
        };
        let mut replaced = None;
        if let Waiter::Task(waker) = waiter
            && !reader
                .waker
                .as_ref()
                .is_some_and(|known| known.will_wake(waker))
        {
            let Some(waker) = spare.take() else {
                return Park::NeedsWaker;
            };
            replaced = reader.waker.replace(waker);
        }
        if reader.state == State::Ready {
            reader.state = State::Parked;
            if let Some(origin) = self.origin {
                reader.since = reader.since.max(origin.compact(now));
            }
            for link in reader.links.as_slice() {
                if let Some(node) = self.index.node_mut(link.node) {
                    node.parked += 1;
                }
            }
        }
        Park::Parked(replaced)
    }

    /// Parks a reader that has just taken the last of what there is; whether it did. Only for readers that are announced
    /// on the ready list.
    pub(crate) fn park_at_end(&mut self, key: ReaderKey, now: Instant) -> bool {
        let Some(reader) = self.reader(key) else {
            return false;
        };
        if !reader.batch || reader.next_seq != self.window.end() || self.has_lost(key.slot) {
            return false;
        }
        matches!(
            self.park(key, Waiter::Batch, &mut None, now),
            Park::Parked(_)
        )
    }

    /// Takes a reader's waker away: from here on it is announced on the ready list.
    pub(crate) fn hand_over(&mut self, key: ReaderKey) -> Option<Box<Waker>> {
        let reader = self.reader_mut(key)?;
        reader.batch = true;
        reader.waker.take()
    }

    /// Moves the ready list out, or leaves the waker to be told; see [`Park`].
    pub(crate) fn take_ready(
        &mut self,
        waker: &Waker,
        spare: &mut Option<Box<Waker>>,
        out: &mut Vec<ReaderKey>,
    ) -> Option<Park> {
        if !self.ready.is_empty() {
            out.append(&mut self.ready);
            give_back(&mut self.ready);
            return None;
        }
        if self
            .ready_waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            return Some(Park::Parked(None));
        }
        let Some(waker) = spare.take() else {
            return Some(Park::NeedsWaker);
        };
        Some(Park::Parked(self.ready_waker.replace(*waker).map(Box::new)))
    }

    /// One wake for all the readers on the ready list.
    pub(crate) fn take_ready_waker(&mut self, fx: &mut Effects<T>) {
        if !self.ready.is_empty() {
            fx.wakers.extend(self.ready_waker.take());
        }
    }
}

/// Tells a reader that there is something to hear, by its waker or by the shard's list.
pub(super) fn announce(
    reader: &mut Reader,
    key: ReaderKey,
    ready: &mut Vec<ReaderKey>,
    wakers: &mut Vec<Waker>,
) {
    if reader.batch {
        ready.push(key);
    } else {
        wakers.extend(reader.waker.take().map(|waker| *waker));
    }
}
