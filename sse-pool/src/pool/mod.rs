//! The pool: the shards together, and what is said to all of them.
//!
//! This file is what a pool is made of; what it does is in the files below, one idea each.

mod append;
mod close;
mod connect;
mod look;
mod read;
mod reset;
mod update;

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};

pub use self::{append::AppendOutcome, connect::ConnectError, update::UpdateError};
use crate::{
    Permit, PoolConfig, Refusal, ShardHandle,
    admission::Admission,
    patterns::Patterns,
    shard::{Effects, Shard},
    sync::Mutex,
};

/// The connections of a hub, and the window of newest entries they read from.
///
/// A handle: cloning it is one reference count. See the [crate's page](crate) for the design, and
/// [`append`](Self::append) for who may write.
pub struct Pool<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    config: PoolConfig,
    shards: Box<[Mutex<Shard<T>>]>,
    /// Held while an id is looked for on all shards and then taken on one, so that two connections cannot
    /// take the same id on two shards. Outermost: a shard is locked inside, never the other way round.
    id_stripes: Box<[Mutex<()>]>,
    admission: Arc<Admission>,
    patterns: Patterns,
    next_shard: AtomicUsize,
    head: AtomicU64,
    max_window_bytes: AtomicUsize,
    appended_entries: AtomicU64,
    appended_bytes: AtomicU64,
    stale_entries: AtomicU64,
    /// Whether someone is appending; only to catch two writers while debugging.
    appending: AtomicBool,
    /// The lists an append collects into, kept for their capacity.
    spare: Mutex<Option<Effects<T>>>,
}

impl<T> Pool<T> {
    /// A pool with an empty window and no connections.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        let shards = u16::try_from(config.shards.max(1)).unwrap_or(u16::MAX);
        let stripes = if shards == 1 { 1 } else { ID_STRIPES };
        let inner = Inner {
            shards: (0..shards)
                .map(|number| {
                    let (offset, series) = (config.start_offset, config.start_series);
                    let window = config.window;
                    Mutex::new(Shard::new(number, shards.into(), window, offset, series))
                })
                .collect(),
            id_stripes: (0..stripes).map(|_| Mutex::new(())).collect(),
            admission: Arc::new(Admission::new(&config.limits)),
            patterns: Patterns::new(),
            next_shard: AtomicUsize::new(0),
            head: AtomicU64::new(config.start_offset),
            max_window_bytes: AtomicUsize::new(config.window.max_bytes),
            appended_entries: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            stale_entries: AtomicU64::new(0),
            appending: AtomicBool::new(false),
            spare: Mutex::new(None),
            config: PoolConfig {
                shards: usize::from(shards),
                ..config
            },
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What the pool was built with, as it is used.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.inner.config
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inner.shards.len()
    }

    /// One shard, for a caller that serves its readers itself; `None` beyond the last.
    #[must_use]
    pub fn shard(&self, number: usize) -> Option<ShardHandle<T>> {
        (number < self.shards()).then(|| ShardHandle::new(self.clone(), number))
    }

    /// The offset of the newest entry, or the start offset.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.inner.head.load(Relaxed)
    }

    /// Asks for a place for a client at this address.
    ///
    /// # Errors
    ///
    /// When the pool is full or draining, or the address (an IPv6 /64) has its share.
    pub fn admit(&self, ip: IpAddr) -> Result<Permit, Refusal> {
        self.inner.admission.admit(ip)
    }

    /// Whether [`admit`](Self::admit) would give a place now. Nothing is taken, and nothing counted.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    pub fn check_admission(&self, ip: IpAddr) -> Result<(), Refusal> {
        self.inner.admission.check(ip)
    }

    /// Admits nobody any more (or again). Connections stay; see [`close_some`](Self::close_some).
    pub fn set_draining(&self, draining: bool) {
        self.inner.admission.set_draining(draining);
    }

    /// Does what could not be done under the lock: wakes, drops, releases.
    fn carry_out(&self, fx: &mut Effects<T>) {
        fx.wakers.drain(..).for_each(Waker::wake);
        fx.evicted.clear();
        fx.notes.clear();
        for (held, reason) in fx.ended.drain(..) {
            held.ended(reason);
        }
        fx.readers = 0;
        for patterns in fx.released.drain(..) {
            self.inner.patterns.release(patterns);
        }
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

/// How many ids may be taken at a time when there are several shards.
const ID_STRIPES: usize = 16;

/// How many readers are looked at per visit to a shard's lock, when all are to be looked at.
const SLICE: usize = 512;
