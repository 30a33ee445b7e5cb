//! What a connection and a shard's handle do with a reader: visits to the lock, until there is an answer.
//!
//! Between two visits is what must not happen under the lock: patterns are asked, wakers cloned and dropped.

use std::{
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use super::Pool;
use crate::{
    CloseReason, ConnectionInfo, Entry, GroupRead, Note, Read, ReaderKey, Selector,
    reader::{Break, Reader, State},
    shard::{Park, Step, Waiter},
};

impl<T> Pool<T> {
    pub(crate) fn read(
        &self,
        key: ReaderKey,
        now: Instant,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
        waiter: Waiter<'_>,
    ) -> Option<Read> {
        self.visit(key, now, max_bytes, out, waiter, None)
    }

    /// For a shard's handle, in place of what stands in `out`.
    pub(crate) fn read_group(
        &self,
        keys: &[ReaderKey],
        now: Instant,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
    ) -> GroupRead {
        let mut taken = GroupRead {
            readers: 0,
            read: None,
            is_waiting: false,
            may_have_changed: true,
        };
        if let Some((&first, others)) = keys.split_first() {
            taken.readers = 1;
            let group = Some((others, &mut taken));
            taken.read = self.visit(first, now, max_bytes, out, Waiter::Batch, group);
        }
        if taken.read != Some(Read::Entries) {
            out.clear();
        }
        taken.is_waiting |= taken.read.is_none();
        taken
    }

    /// With `group`, what is taken replaces what is in `out`, a reader that took the last of what there is waits from then
    /// on, and others that stand where it stood take the same.
    fn visit(
        &self,
        key: ReaderKey,
        now: Instant,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
        waiter: Waiter<'_>,
        group: Option<(&[ReaderKey], &mut GroupRead)>,
    ) -> Option<Read> {
        let Some(shard) = self.inner.shards.get(key.shard()) else {
            return Some(Read::Closed(CloseReason::Client));
        };
        let out_start = if group.is_some() { 0 } else { out.len() };
        let mut scan = None;
        let mut spare = None;
        loop {
            let mut guard = shard.lock();
            let position = group.as_ref().and_then(|_| guard.list_position(key));
            match guard.step(key, now, max_bytes, &mut scan, out, out_start) {
                Step::Entries { is_all } => {
                    if let Some((others, taken)) = group {
                        taken.is_waiting = guard.park_at_end(key, now);
                        taken.may_have_changed =
                            guard.reader(key).is_none_or(|reader| reader.is_changed);
                        if let Some(position) = position
                            && is_all
                        {
                            taken.readers += guard.repeat(position, out, others, now);
                        }
                    }
                    return Some(Read::Entries);
                }
                Step::Lagged { after, floor } => return Some(Read::Lagged { after, floor }),
                Step::Reset {
                    from_series,
                    before,
                    series,
                    after,
                } => {
                    return Some(Read::Reset {
                        from_series,
                        before,
                        series,
                        after,
                    });
                }
                Step::Moved { series, after } => return Some(Read::Moved { series, after }),
                Step::Closed(reason) => return Some(Read::Closed(reason)),
                Step::Nothing => match guard.park(key, waiter, &mut spare, now) {
                    Park::Parked(replaced) => {
                        drop(guard);
                        drop(replaced);
                        return None;
                    }
                    Park::NeedsWaker => {
                        drop(guard);
                        if let Waiter::Task(waker) = waiter {
                            spare = Some(Box::new(waker.clone()));
                        }
                    }
                },
                Step::Filter {
                    chunk,
                    selector,
                    info,
                } => {
                    drop(guard);
                    if let Some(scan) = &mut scan {
                        scan.filter(chunk, &selector, &info, max_bytes, out);
                    }
                }
            }
        }
    }

    pub(crate) fn poll_ready(
        &self,
        shard: usize,
        waker: &Waker,
        out: &mut Vec<ReaderKey>,
    ) -> Poll<()> {
        let Some(shard) = self.inner.shards.get(shard) else {
            return Poll::Pending;
        };
        let mut spare = None;
        loop {
            let taken = shard.lock().take_ready(waker, &mut spare, out);
            match taken {
                None => return Poll::Ready(()),
                Some(Park::Parked(replaced)) => {
                    drop(replaced);
                    return Poll::Pending;
                }
                Some(Park::NeedsWaker) => spare = Some(Box::new(waker.clone())),
            }
        }
    }

    /// Who a reader is; `None` when it is gone.
    #[must_use]
    pub fn info(&self, key: ReaderKey) -> Option<Arc<ConnectionInfo>> {
        self.with_reader(key, |reader| Arc::clone(&reader.info))
    }

    /// What a reader wants now; `None` when it is gone.
    #[must_use]
    pub fn selector(&self, key: ReaderKey) -> Option<Arc<Selector>> {
        self.with_reader(key, |reader| Arc::clone(&reader.selector))
    }

    /// Whether a reader still has this very selector: nobody has changed its subscriptions.
    #[must_use]
    pub fn has_selector(&self, key: ReaderKey, selector: &Arc<Selector>) -> bool {
        self.with_reader(key, |reader| Arc::ptr_eq(&reader.selector, selector))
            .unwrap_or(false)
    }

    /// Why a reader was closed, when it was and has not left; `None` for an open one. A reader that is gone was
    /// closed by its [client](CloseReason::Client). Takes nothing, unlike reading it.
    #[must_use]
    pub fn closed(&self, key: ReaderKey) -> Option<CloseReason> {
        self.with_reader(key, |reader| match reader.state {
            State::Closed(reason) => Some(reason),
            State::Ready | State::Parked => None,
        })
        .unwrap_or(Some(CloseReason::Client))
    }

    /// Makes a reader with a waker one that its shard's handle announces.
    pub(crate) fn hand_over(&self, key: ReaderKey) {
        let Some(shard) = self.inner.shards.get(key.shard()) else {
            return;
        };
        let waker = shard.lock().hand_over(key);
        drop(waker);
    }

    /// Sets a reader's cursor, as [`Connection::rejoin`](crate::Connection::rejoin). Read it afterwards.
    pub fn rejoin(&self, key: ReaderKey, after: u64) {
        if let Some(shard) = self.inner.shards.get(key.shard()) {
            shard.lock().rejoin(key, after);
        }
    }

    /// What the last [move](Read::Moved) of a reader was given to tell it.
    #[must_use]
    pub fn take_note(&self, key: ReaderKey) -> Option<Note> {
        self.inner.shards.get(key.shard())?.lock().take_note(key)
    }

    /// Whether somebody has [placed](Self::seek) a reader's cursor and it has not heard: what it reads elsewhere meanwhile is
    /// of no use any more.
    #[must_use]
    pub fn is_moved(&self, key: ReaderKey) -> bool {
        self.with_reader(key, |reader| reader.broken == Break::Moved)
            .unwrap_or(false)
    }

    /// A sign of life: something was written to this reader.
    pub fn touch(&self, key: ReaderKey, now: Instant) {
        if let Some(shard) = self.inner.shards.get(key.shard()) {
            shard.lock().touch(key, now);
        }
    }

    /// A reader's cursor; `None` when it is gone.
    #[must_use]
    pub fn cursor(&self, key: ReaderKey) -> Option<u64> {
        self.inner.shards.get(key.shard())?.lock().cursor(key)
    }

    pub(crate) fn with_reader<R>(
        &self,
        key: ReaderKey,
        look: impl FnOnce(&Reader) -> R,
    ) -> Option<R> {
        self.inner
            .shards
            .get(key.shard())?
            .lock()
            .reader(key)
            .map(look)
    }
}
