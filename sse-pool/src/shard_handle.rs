//! Readers without a waker of their own: what a reactor holds.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    ConnectError, ConnectionInfo, Entry, Permit, Pool, Read, ReaderKey, Selector, Start,
    shard::Waiter,
};

/// One shard of the pool, for a caller that serves all of its readers itself.
///
/// A reactor with a socket per reader wants one wake per publish, not one per reader, and no handle per
/// reader: it keeps a [`ReaderKey`] (12 bytes) beside each socket, waits once for the whole shard with
/// [`poll_ready`](Self::poll_ready) and reads by key.
///
/// ```text
/// connect ─▶ read ──▶ entries: write them, then read again
///             │  └──▶ None: wait for the key to come out of poll_ready
///             └─────▶ Lagged, Closed: as for a Connection
/// ```
///
/// A reader that a task connected comes here by [`Connection::into_key`](crate::Connection::into_key).
///
/// A new reader is *not* announced: read it once after connecting. A key that comes out of `poll_ready` may
/// be of a reader that was since read, or is gone; reading it is harmless. Readers do not leave by themselves:
/// whoever connected one calls [`leave`](Self::leave).
///
/// Other connections may live on the same shard, and everything else ([`Pool::close`], [`Pool::sweep`],
/// statuses, selectors) works on these readers too.
#[derive(Debug)]
pub struct ShardHandle<T> {
    pool: Pool<T>,
    shard: usize,
}

impl<T> Clone for ShardHandle<T> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            shard: self.shard,
        }
    }
}

impl<T> ShardHandle<T> {
    pub(crate) fn new(pool: Pool<T>, shard: usize) -> Self {
        Self { pool, shard }
    }

    /// The pool this is a shard of.
    #[must_use]
    pub fn pool(&self) -> &Pool<T> {
        &self.pool
    }

    /// The number of this shard.
    #[must_use]
    pub fn number(&self) -> usize {
        self.shard
    }

    /// Takes a reader into this shard; it stays until [`leave`](Self::leave).
    ///
    /// # Errors
    ///
    /// As [`Pool::connect`].
    pub fn connect(
        &self,
        permit: Permit,
        info: impl Into<Arc<ConnectionInfo>>,
        selector: impl Into<Arc<Selector>>,
        start: Start,
        now: Instant,
    ) -> Result<ReaderKey, ConnectError> {
        self.pool.join(
            self.shard,
            permit,
            info.into(),
            selector.into(),
            start,
            now,
            true,
        )
    }

    /// Appends the keys of the readers that have something to hear, or waits until one has.
    ///
    /// One task waits per shard: a second one replaces the first. The order of keys is that of the news.
    pub fn poll_ready(&self, cx: &mut Context<'_>, out: &mut Vec<ReaderKey>) -> Poll<()> {
        self.pool.poll_ready(self.shard, cx.waker(), out)
    }

    /// Takes what is ready for one reader; `None` means that it will be announced when something is.
    ///
    /// Otherwise as [`Connection::poll_read`](crate::Connection::poll_read).
    pub fn read(
        &self,
        key: ReaderKey,
        now: Instant,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
    ) -> Option<Read> {
        self.pool.read(key, now, max_bytes, out, Waiter::Batch)
    }

    /// Takes what is ready for the first of these readers, and with it for those right behind it that get the very same.
    ///
    /// For reader after reader of the same topics, in one visit to the lock. What is taken stands in `out` instead of what stood
    /// there, and costs little when it is the same. Readers that take the last of what is ready wait at once, as if they had
    /// been read again. Who follows one topic (or everything) is read together with others in the same place; who asks for
    /// labels that the entries have, or may see what others may not, is read alone.
    ///
    /// Each read is otherwise as [`read`](Self::read). Cost: that of one read, and a few nanoseconds for each reader more.
    pub fn read_group(
        &self,
        keys: &[ReaderKey],
        now: Instant,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
    ) -> GroupRead {
        self.pool.read_group(keys, now, max_bytes, out)
    }

    /// Sets the cursor, as [`Connection::rejoin`](crate::Connection::rejoin). Read it afterwards.
    pub fn rejoin(&self, key: ReaderKey, after: u64) {
        self.pool.rejoin(key, after);
    }

    /// A sign of life: something was written to this reader.
    pub fn touch(&self, key: ReaderKey, now: Instant) {
        self.pool.touch(key, now);
    }

    /// The reader's cursor; `None` when it is gone.
    #[must_use]
    pub fn cursor(&self, key: ReaderKey) -> Option<u64> {
        self.pool.cursor(key)
    }

    /// Lets a reader go and gives its place back; false when it was gone already.
    pub fn leave(&self, key: ReaderKey) -> bool {
        self.pool.leave(key)
    }
}

/// What [`ShardHandle::read_group`] gave each of the readers it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRead {
    /// How many of the keys were read, from the first on: at least one, unless there were none.
    pub readers: usize,
    /// As [`ShardHandle::read`].
    pub read: Option<Read>,
    /// They wait, and are announced when something is ready; otherwise they are to be read again.
    pub is_waiting: bool,
    /// They may have other selectors than they came with; see [`Pool::has_selector`].
    pub may_have_changed: bool,
}
