//! What a pool is built with.

use std::time::Duration;

/// How a [`Pool`](crate::Pool) is cut, bounded and timed.
///
/// Values that cannot work are raised to the smallest that can (no shard becomes one shard, an empty window
/// becomes a window of one entry): see each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// How many independently locked parts the connections are spread over, usually one per core. At least 1
    /// and at most 65,535. Every append visits every shard, and every shard keeps 8 bytes per entry of the
    /// window and per topic of an entry; the entries themselves are shared.
    pub shards: usize,
    /// How much of the newest history is kept in memory.
    pub window: WindowConfig,
    /// How many connections, and how wide each may be.
    pub limits: Limits,
    /// A connection that owes progress (it has unread entries, or took some and did not come back) and makes
    /// none for this long is closed as [`Stalled`](crate::CloseReason::Stalled) by the next sweep.
    pub send_timeout: Duration,
    /// A connection for which nothing happened for this long (nothing read, no heartbeat) is closed as
    /// [`Idle`](crate::CloseReason::Idle) by the next sweep.
    pub idle_timeout: Duration,
    /// The head of the log when the pool starts: the window is complete after this offset, and empty.
    pub start_offset: u64,
    /// Which log the offsets are of, as a number of the caller's choice; [`Pool::reset`](crate::Pool::reset) changes it.
    pub start_series: u64,
}

impl Default for PoolConfig {
    /// One shard, the default window and limits, 5 s to make progress, 300 s of idleness, offset 0 of series 0.
    fn default() -> Self {
        Self {
            shards: 1,
            window: WindowConfig::default(),
            limits: Limits::default(),
            send_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            start_offset: 0,
            start_series: 0,
        }
    }
}

/// The bounds of the window of newest entries; whichever is met first evicts the oldest.
///
/// The newest entry always stays, so the real bound in bytes is the larger of `max_bytes` and one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// How much memory the window may take: the sum of [`Entry::memory_bytes`](crate::Entry::memory_bytes), and
    /// [`topic_bytes`](crate::topic_bytes) for each topic that has an entry in it.
    pub max_bytes: usize,
    /// How many entries may be kept. At least 1.
    pub max_entries: usize,
}

impl Default for WindowConfig {
    /// 16 MiB and 16,384 entries: a stated guess of a few seconds of busy traffic at 1 KiB per event.
    fn default() -> Self {
        Self {
            max_bytes: 16 * 1024 * 1024,
            max_entries: 16_384,
        }
    }
}

/// The limits on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub max_connections: usize,
    /// Connections per client address (an IPv6 client is its /64).
    pub max_connections_per_ip: usize,
    /// Topics and patterns one connection may name; its own names are not counted.
    pub max_topics_per_connection: usize,
}

impl Default for Limits {
    /// 10,000 connections, 100 per address, 128 topics each: stated guesses.
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_ip: 100,
            max_topics_per_connection: 128,
        }
    }
}
