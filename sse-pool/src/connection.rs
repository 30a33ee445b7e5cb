//! A reader with a waker of its own: what a task holds.

use std::{
    any::Any,
    fmt,
    net::IpAddr,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    CloseReason, ConnectionId, Entry, Held, Pool, ReaderKey, Selector, Visibility, shard::Waiter,
};

/// Who a connection is. The pool routes by `id` and the client's `visibility` and only keeps the rest.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its name, unique among the open connections of the pool.
    pub id: ConnectionId,
    /// The client's address.
    pub ip: PackedIp,
    /// What is known of the client; shared by connections that have it alike.
    pub client: Arc<ClientInfo>,
    /// When it connected, in milliseconds since the Unix epoch.
    pub connected_at_unix_ms: u64,
    /// What is to live as long as this connection, such as a place that it takes, and hears why it ended.
    pub held: Option<Arc<dyn HeldByConnection>>,
}

/// What a [`ConnectionInfo`] keeps alive.
pub trait HeldByConnection: Send + Sync + fmt::Debug {
    /// The connection has ended for this reason. Called once, without any lock of the pool; what is kept is dropped with the
    /// connection, which may be later.
    fn ended(&self, reason: CloseReason) {
        let _ = reason;
    }
}

/// The client of whom nothing is known.
static UNKNOWN: LazyLock<Arc<ClientInfo>> = LazyLock::new(Arc::default);

/// What is known of the client at the other end.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo {
    /// The `User-Agent` it sent.
    pub user_agent: Option<Arc<str>>,
    /// The session it belongs to.
    pub session: Option<Arc<str>>,
    /// The user it belongs to.
    pub user: Option<Arc<str>>,
    /// What it may have: among others the names that it owns (`session/…`, `user/…`), whose entries it always gets.
    pub visibility: Visibility,
    /// What the application knows of it besides; the pool never looks at it.
    pub held: Option<Arc<dyn Held>>,
}

impl ConnectionInfo {
    /// A connection of which nothing else is known.
    #[must_use]
    pub fn new(id: ConnectionId, ip: IpAddr) -> Self {
        Self {
            id,
            ip: ip.into(),
            client: Arc::clone(&UNKNOWN),
            connected_at_unix_ms: 0,
            held: None,
        }
    }
}

/// An address in the bytes that it has, an IPv4 one mapped into IPv6: one less than an `IpAddr`, in every connection.
///
/// ```
/// # use std::net::IpAddr;
/// # use sse_pool::PackedIp;
/// let ip: IpAddr = [192, 0, 2, 1].into();
/// assert_eq!(IpAddr::from(PackedIp::from(ip)), ip);
/// assert_eq!(PackedIp::from(ip).to_string(), "192.0.2.1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedIp([u8; 16]);

impl From<IpAddr> for PackedIp {
    fn from(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        })
    }
}

impl From<PackedIp> for IpAddr {
    fn from(ip: PackedIp) -> Self {
        Self::V6(ip.0.into()).to_canonical()
    }
}

impl fmt::Display for PackedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for PackedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next entry.
    Live,
    /// After this offset. When entries after it may be missing (the window does not reach back to it, and
    /// its topics are not known to be complete from there), the first read says [`Lagged`](Read::Lagged); an offset beyond the head skips what the window gets up to it.
    After(u64),
}

/// A place for a reader's cursor, chosen by somebody else; see [`Pool::seek`].
#[derive(Clone, Debug)]
pub struct Seek {
    /// The series of the offset.
    pub series: u64,
    /// What the reader gets next comes after this.
    pub after: u64,
    /// What the reader is to be told with it: see [`Pool::take_note`].
    pub note: Option<Note>,
}

/// What a reader is told when it was moved, which means nothing to the pool.
pub type Note = Arc<dyn Any + Send + Sync>;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Read {
    /// Entries, at the end of the given vector.
    Entries,
    /// Something this reader may want was evicted before it was read. Read on from the log after `after`
    /// (the log reaches back to at most `floor` + 1 here: from `floor` on the window is complete), then
    /// [rejoin](Connection::rejoin). Until then every read says so again.
    Lagged {
        /// The reader's cursor.
        after: u64,
        /// The offset after which the window is complete.
        floor: u64,
    },
    /// The offsets are another log's from here on: see [`Pool::reset`]. Said once for each reset that the reader has not
    /// heard of, and before anything of the new series; several resets in a row are one. A reader that was
    /// [placed](Pool::seek) in the new series meanwhile hears of that instead.
    Reset {
        /// The series of the reader's cursor until now; `None` when there was more than one reset since.
        from_series: Option<u64>,
        /// The reader's cursor until now, in that series.
        before: u64,
        /// Which series it is now.
        series: u64,
        /// The cursor from here on: the offset that the new series began after.
        after: u64,
    },
    /// Somebody has [placed](Pool::seek) the cursor elsewhere. Said before anything from there is read; several moves in a row
    /// are one, the last. Until it is said, [rejoining](Connection::rejoin) has no effect.
    Moved {
        /// The series of the offset.
        series: u64,
        /// The cursor from here on.
        after: u64,
    },
    /// The connection was closed; nothing more will come.
    Closed(CloseReason),
}

/// A connection of the pool: a cursor, a selector and a waker. Leaves the pool when it is dropped.
///
/// One task reads; anyone may close it, look at it or change its selector through the [`Pool`].
pub struct Connection<T> {
    pool: Pool<T>,
    key: ReaderKey,
    leaves_on_drop: bool,
}

impl<T> Connection<T> {
    pub(crate) fn new(pool: Pool<T>, key: ReaderKey) -> Self {
        Self {
            pool,
            key,
            leaves_on_drop: true,
        }
    }

    /// Hands the reader over to the [handle](crate::ShardHandle) of its shard, by its key.
    ///
    /// From here on it is announced by [`ShardHandle::poll_ready`](crate::ShardHandle::poll_ready), and stays until
    /// [`ShardHandle::leave`](crate::ShardHandle::leave). As a new reader of a handle it is not announced at first: read it once.
    #[must_use = "nobody else knows the reader any more"]
    pub fn into_key(mut self) -> ReaderKey {
        self.leaves_on_drop = false;
        self.pool.hand_over(self.key);
        self.key
    }

    /// The place of this connection in the pool.
    #[must_use]
    pub fn key(&self) -> ReaderKey {
        self.key
    }

    /// The name of this connection.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.info().id.clone()
    }

    /// Who this connection is.
    #[must_use]
    pub fn info(&self) -> Arc<ConnectionInfo> {
        self.pool
            .info(self.key)
            .expect("the reader stays until its connection is dropped")
    }

    /// What this connection wants now.
    #[must_use]
    pub fn selector(&self) -> Arc<Selector> {
        self.pool
            .selector(self.key)
            .expect("the reader stays until its connection is dropped")
    }

    /// Everything up to this offset was delivered to it or is not for it.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.pool.cursor(self.key).unwrap_or_default()
    }

    /// Takes what is ready, or waits.
    ///
    /// Appends entries to `out` in order, up to `max_bytes` of [`size_bytes`](Entry::size_bytes) but always at
    /// least one. On `Pending`, `Lagged`, `Reset` and `Closed` nothing is appended. When nothing is ready the task is
    /// woken by the first entry this reader wants, and the reader costs nothing until then: however far the
    /// window moves on meanwhile, it is not lost.
    ///
    /// `now` is taken as a sign of life. Cost: the entries of the reader's own topics; with patterns, all
    /// entries since its cursor.
    ///
    /// # Cancel safety
    ///
    /// Dropping a future that waits on this loses nothing. Entries that were handed out are not handed out
    /// again.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
    ) -> Poll<Read> {
        match self
            .pool
            .read(self.key, now, max_bytes, out, Waiter::Task(cx.waker()))
        {
            Some(read) => Poll::Ready(read),
            None => Poll::Pending,
        }
    }

    /// Which series its cursor is in; `None` while it has yet to hear of a [reset](Pool::reset).
    ///
    /// Whoever places a connection by an offset asks this afterwards: any other answer than the series of that offset
    /// means that the log has changed in between, and the connection is to be made anew.
    #[must_use]
    pub fn series(&self) -> Option<u64> {
        self.pool.series(self.key)
    }

    /// Sets the cursor: what was read from elsewhere reached `after`.
    ///
    /// An offset beyond the pool's head is fine; what the window gets up to it is skipped. Without effect while the
    /// reader has yet to hear of a [reset](Pool::reset): the offset is of the log before.
    pub fn rejoin(&mut self, after: u64) {
        self.pool.rejoin(self.key, after);
    }

    /// A sign of life: something was written, a heartbeat or a batch of a replay.
    pub fn touch(&self, now: Instant) {
        self.pool.touch(self.key, now);
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        if self.leaves_on_drop {
            self.pool.leave(self.key);
        }
    }
}

impl<T> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
