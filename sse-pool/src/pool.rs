//! The pool: the shards together, and what is said to all of them.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Instant,
};

use crate::{
    CloseReason, Connection, ConnectionId, ConnectionInfo, ConnectionStatus, Entry, Permit,
    PoolConfig, Read, ReaderKey, Refusal, Selector, ShardHandle, Start, Stats, Swept,
    admission::Admission,
    patterns::{PatternKey, Patterns},
    reader::{Links, Reader, State},
    shard::{Effects, Exchange, Park, Shard, Step, Waiter},
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
    appended_entries: AtomicU64,
    appended_bytes: AtomicU64,
    stale_entries: AtomicU64,
    /// Whether someone is appending; only to catch two writers while debugging.
    appending: AtomicBool,
    /// The lists an append collects into, kept for their capacity.
    spare: Mutex<Option<Effects<T>>>,
}

/// How many ids may be taken at a time when there are several shards.
const ID_STRIPES: usize = 16;

/// How many readers are looked at per visit to a shard's lock, when all are to be looked at.
const SLICE: usize = 512;

/// The most wakers an idle pool keeps room for (16 bytes each).
const MAX_SPARE_WAKERS: usize = 16_384;

/// Why a connection could not be made. Its permit is given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The selector names more topics and patterns than one connection may.
    #[error("{asked} topics asked for, {limit} allowed")]
    TooManyTopics {
        /// How many the selector names.
        asked: usize,
        /// How many it may name.
        limit: usize,
    },
    /// An open connection has this id.
    #[error("the connection id is in use")]
    IdInUse,
    /// There is no shard with this number.
    #[error("there is no shard {0}")]
    NoSuchShard(usize),
    /// The permit was given out by another pool.
    #[error("the permit is another pool's")]
    ForeignPermit,
}

/// Why a selector could not be changed. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// No open connection has this id.
    #[error("no such connection")]
    NotFound,
    /// The new selector names more topics and patterns than one connection may.
    #[error("{asked} topics asked for, {limit} allowed")]
    TooManyTopics {
        /// How many the selector names.
        asked: usize,
        /// How many it may name.
        limit: usize,
    },
}

/// What an append did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Entries that went into the window.
    pub appended: usize,
    /// Entries that were not after the head, and were ignored.
    pub stale: usize,
    /// Waiting readers that wanted an entry and were woken. Readers that are busy reading find it by
    /// themselves and are not counted.
    pub readers: usize,
}

impl<T> Pool<T> {
    /// A pool with an empty window and no connections.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        let shards = u16::try_from(config.shards.max(1)).unwrap_or(u16::MAX);
        let stripes = if shards == 1 { 1 } else { ID_STRIPES };
        let inner = Inner {
            shards: (0..shards)
                .map(|number| Mutex::new(Shard::new(number, config.window, config.start_offset)))
                .collect(),
            id_stripes: (0..stripes).map(|_| Mutex::new(())).collect(),
            admission: Arc::new(Admission::new(&config.limits)),
            patterns: Patterns::new(),
            next_shard: AtomicUsize::new(0),
            head: AtomicU64::new(config.start_offset),
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

    /// Asks for a place for a client at this address.
    ///
    /// # Errors
    ///
    /// When the pool is full or draining, or the address (an IPv6 /64) has its share.
    pub fn admit(&self, ip: IpAddr) -> Result<Permit, Refusal> {
        self.inner.admission.admit(ip)
    }

    /// Makes a connection, on the next shard in turn.
    ///
    /// The info and the selector may be shared with other connections (`Arc`), which saves their memory.
    ///
    /// # Errors
    ///
    /// When the selector is too wide or the id is in use.
    pub fn connect(
        &self,
        permit: Permit,
        info: impl Into<Arc<ConnectionInfo>>,
        selector: impl Into<Arc<Selector>>,
        start: Start,
        now: Instant,
    ) -> Result<Connection<T>, ConnectError> {
        let shard = self.inner.next_shard.fetch_add(1, Relaxed) % self.inner.shards.len();
        self.connect_on(shard, permit, info, selector, start, now)
    }

    /// Makes a connection on a given shard, for a runtime per core.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and when there is no such shard.
    pub fn connect_on(
        &self,
        shard: usize,
        permit: Permit,
        info: impl Into<Arc<ConnectionInfo>>,
        selector: impl Into<Arc<Selector>>,
        start: Start,
        now: Instant,
    ) -> Result<Connection<T>, ConnectError> {
        let key = self.join(
            shard,
            permit,
            info.into(),
            selector.into(),
            start,
            now,
            false,
        )?;
        Ok(Connection::new(self.clone(), key))
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

    /// Appends entries to the window and wakes the readers that wait for them.
    ///
    /// For **one writer at a time**, in the order of the offsets: the caller is whoever learns the log's order.
    /// An entry that is not after the [head](Self::head) is ignored and counted, so appending something twice
    /// is harmless. Readers are woken after the locks are gone, once per call however many entries they get.
    ///
    /// Cost: per shard one lock, and per entry its own topics' waiting readers, whatever else is connected.
    ///
    /// # Panics
    ///
    /// With debug assertions, when two threads append at the same time.
    pub fn append(&self, entries: &[Arc<Entry<T>>], now: Instant) -> Delivery {
        let inner = &*self.inner;
        debug_assert!(!inner.appending.swap(true, Relaxed), "one writer at a time");
        // Patterns are foreign code: they are asked before anything is locked.
        let patterns = inner.patterns.snapshot();
        let mut matching = Vec::new();
        let mut ends = Vec::new();
        if !patterns.is_empty() {
            for entry in entries {
                patterns.matching(entry, &mut matching);
                ends.push(matching.len());
            }
        }
        let mut fx = inner.spare.lock().take().unwrap_or_default();
        let mut delivery = Delivery::default();
        for shard in &inner.shards {
            delivery = Delivery::default();
            let mut shard = shard.lock();
            let mut start = 0;
            for (index, entry) in entries.iter().enumerate() {
                let end = ends.get(index).copied().unwrap_or(0);
                let matching = matching.get(start..end).unwrap_or_default();
                start = end;
                if shard.append(entry, matching, patterns.last_number, now, &mut fx) {
                    delivery.appended += 1;
                    inner.head.fetch_max(entry.offset, Relaxed);
                } else {
                    delivery.stale += 1;
                }
            }
            shard.take_ready_waker(&mut fx);
        }
        delivery.readers = fx.readers;
        inner
            .appended_entries
            .fetch_add(delivery.appended as u64, Relaxed);
        inner
            .stale_entries
            .fetch_add(delivery.stale as u64, Relaxed);
        if delivery.stale == 0 {
            let bytes: usize = entries.iter().map(|entry| entry.size_bytes).sum();
            inner.appended_bytes.fetch_add(bytes as u64, Relaxed);
        }
        // A woken task may append: the turn ends before the wakes.
        inner.appending.store(false, Relaxed);
        self.carry_out(&mut fx);
        if fx.wakers.capacity() <= MAX_SPARE_WAKERS {
            *inner.spare.lock() = Some(fx);
        }
        delivery
    }

    /// The offset of the newest entry, or the start offset.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.inner.head.load(Relaxed)
    }

    /// A connection at this moment; `None` when no open one has this id.
    #[must_use]
    pub fn status(&self, id: &ConnectionId) -> Option<ConnectionStatus> {
        self.inner.shards.iter().find_map(|shard| {
            let shard = shard.lock();
            shard.status(shard.key_of(id)?)
        })
    }

    /// Up to `limit` connections, beginning after `after`: a page at a time.
    ///
    /// The order is by place, so a connection that is open all the while is seen once. The last status's
    /// [`key`](ConnectionStatus::key) is where the next page begins; an empty page is the end.
    #[must_use]
    pub fn statuses(&self, after: Option<ReaderKey>, limit: usize) -> Vec<ConnectionStatus> {
        let mut page = Vec::new();
        let (first, mut slot) = after.map_or((0, 0), |key| (key.shard(), key.slot() + 1));
        for shard in self.inner.shards.iter().skip(first) {
            loop {
                let shard = shard.lock();
                if slot >= shard.slots() || page.len() >= limit {
                    break;
                }
                let slice = slot..shard.slots().min(slot.saturating_add(SLICE));
                slot = slice.end;
                let room = limit - page.len();
                page.extend(
                    shard
                        .keys_in(slice)
                        .filter_map(|key| shard.status(key))
                        .take(room),
                );
            }
            slot = 0;
        }
        page
    }

    /// The connections for which `pred` says so. It is called without a lock.
    pub fn find(&self, mut pred: impl FnMut(&ConnectionStatus) -> bool) -> Vec<ConnectionId> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.statuses(after, SLICE);
            let Some(last) = page.last() else {
                return found;
            };
            after = Some(last.key);
            let matching = page.iter().filter(|status| pred(status));
            found.extend(matching.map(|status| status.info.id.clone()));
        }
    }

    /// Closes a connection: its reader hears [`Closed`](Read::Closed) at once. False when no open one has this
    /// id.
    ///
    /// Its id is free from here on; its place only when the [`Connection`] is dropped.
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

    /// Admits nobody any more (or again). Connections stay; see [`close_some`](Self::close_some).
    pub fn set_draining(&self, draining: bool) {
        self.inner.admission.set_draining(draining);
    }

    /// Changes what a connection wants, and answers what it wants now.
    ///
    /// `change` is called without a lock, and again if someone else changed the selector meanwhile. A reader
    /// that waits gets what the new selector wants from here on; one that is behind, from its cursor on.
    ///
    /// # Errors
    ///
    /// When no open connection has this id, or the new selector is too wide.
    pub fn update_selector(
        &self,
        id: &ConnectionId,
        mut change: impl FnMut(&Selector) -> Selector,
    ) -> Result<Arc<Selector>, UpdateError> {
        let inner = &*self.inner;
        loop {
            let (key, seen) = inner
                .shards
                .iter()
                .find_map(|shard| {
                    let shard = shard.lock();
                    let key = shard.key_of(id)?;
                    Some((key, Arc::clone(&shard.open_reader(key)?.selector)))
                })
                .ok_or(UpdateError::NotFound)?;
            let new = Arc::new(change(&seen));
            let (asked, limit) = (
                new.topic_count(),
                inner.config.limits.max_topics_per_connection,
            );
            if asked > limit {
                return Err(UpdateError::TooManyTopics { asked, limit });
            }
            let patterns = inner.patterns.intern(new.topic_patterns()).into();
            let shard = inner.shards.get(key.shard()).ok_or(UpdateError::NotFound)?;
            let exchanged = shard.lock().exchange_selector(key, &seen, &new, patterns);
            let patterns = match exchanged {
                Exchange::Done { selector, patterns } => {
                    inner.patterns.release(patterns.into());
                    drop(selector);
                    return Ok(new);
                }
                Exchange::Gone { patterns } => {
                    inner.patterns.release(patterns.into());
                    return Err(UpdateError::NotFound);
                }
                Exchange::Changed { patterns } => patterns,
            };
            inner.patterns.release(patterns.into());
        }
    }

    /// Sets a connection's cursor from outside; a waiting one is woken. False when no open one has this id.
    pub fn seek(&self, id: &ConnectionId, after: u64) -> bool {
        self.inner.shards.iter().any(|shard| {
            let mut fx = Effects::default();
            let found = {
                let mut shard = shard.lock();
                shard
                    .key_of(id)
                    .is_some_and(|key| shard.seek(key, after, Some(&mut fx)))
            };
            self.carry_out(&mut fx);
            found
        })
    }

    /// Closes the connections that are stalled or idle at `now`.
    ///
    /// *Stalled*: it has unread entries, or took some and did not come back, and gave no sign of life for the
    /// send timeout. *Idle*: no sign of life for the idle timeout. Reading, waiting and
    /// [`touch`](Connection::touch) are signs of life.
    ///
    /// Cost: looks at every reader, a slice at a time, so that nobody waits for it long.
    pub fn sweep(&self, now: Instant) -> Swept {
        let config = &self.inner.config;
        let mut swept = Swept::default();
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
                    let (send, idle) = (config.send_timeout, config.idle_timeout);
                    let verdicts: Vec<_> = shard
                        .keys_in(slice)
                        .filter_map(|key| Some((key, shard.verdict(key, now, send, idle)?)))
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
        swept
    }

    /// The pool in numbers. Cost: one short visit to every shard.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = &*self.inner;
        let admission = inner.admission.stats();
        let mut stats = Stats {
            active: admission.active,
            peak: admission.peak,
            accepted: admission.accepted,
            refused_full: admission.refused_full,
            refused_address: admission.refused_address,
            refused_draining: admission.refused_draining,
            appended_entries: inner.appended_entries.load(Relaxed),
            appended_bytes: inner.appended_bytes.load(Relaxed),
            stale_entries: inner.stale_entries.load(Relaxed),
            head: self.head(),
            patterns: inner.patterns.count(),
            ..Stats::default()
        };
        for shard in &inner.shards {
            let shard = shard.lock();
            let totals = shard.totals();
            stats.delivered_entries += totals.delivered_entries;
            stats.delivered_bytes += totals.delivered_bytes;
            stats.lagged += totals.lagged;
            for (sum, count) in stats.closed.iter_mut().zip(totals.closed) {
                *sum += count;
            }
            // The windows are alike; between two shards of one append the last one counts.
            stats.window_entries = shard.window().len();
            stats.window_bytes = shard.window().bytes();
            stats.floor = shard.window().floor();
            stats.topics = stats.topics.max(shard.index().topic_count());
        }
        stats
    }

    // ---- what connections and shard handles are made of ----------------------------------------------

    #[expect(
        clippy::too_many_arguments,
        reason = "the one place both kinds of reader come through"
    )]
    pub(crate) fn join(
        &self,
        shard: usize,
        permit: Permit,
        info: Arc<ConnectionInfo>,
        selector: Arc<Selector>,
        start: Start,
        now: Instant,
        batch: bool,
    ) -> Result<ReaderKey, ConnectError> {
        let inner = &*self.inner;
        let (asked, limit) = (
            selector.topic_count(),
            inner.config.limits.max_topics_per_connection,
        );
        if asked > limit {
            return Err(ConnectError::TooManyTopics { asked, limit });
        }
        if !permit.is_from(&inner.admission) {
            return Err(ConnectError::ForeignPermit);
        }
        let home = inner
            .shards
            .get(shard)
            .ok_or(ConnectError::NoSuchShard(shard))?;
        let stripe = inner.stripe(&info.id);
        let reader = Box::new(Reader {
            patterns: inner.patterns.intern(selector.topic_patterns()).into(),
            info,
            selector,
            links: Links::none(),
            waker: None,
            address: permit.into_address(),
            next_seq: 0,
            cursor: 0,
            direct_after: 0,
            delivered_entries: 0,
            delivered_bytes: 0,
            since: now,
            generation: 0,
            seeks: 0,
            state: State::Ready,
            batch,
            in_hand: false,
            lagging: false,
        });
        let joined = {
            let _taking = stripe.map(Mutex::lock);
            let others = inner
                .shards
                .iter()
                .enumerate()
                .filter(|&(number, _)| number != shard);
            let mut others = others.map(|(_, other)| other);
            if others.any(|other| other.lock().find(&reader.info.id).is_some()) {
                Err(reader)
            } else {
                home.lock().join(reader, start)
            }
        };
        joined.map_err(|mut reader| {
            inner
                .patterns
                .release(std::mem::take(&mut reader.patterns).into());
            inner.admission.release(reader.address);
            ConnectError::IdInUse
        })
    }

    pub(crate) fn leave(&self, key: ReaderKey) -> bool {
        let Some(shard) = self.inner.shards.get(key.shard()) else {
            return false;
        };
        let mut fx = Effects::default();
        let reader = shard.lock().leave(key, &mut fx);
        self.carry_out(&mut fx);
        let Some(reader) = reader else { return false };
        self.inner.admission.release(reader.address);
        true
    }

    pub(crate) fn read(
        &self,
        key: ReaderKey,
        now: Instant,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
        waiter: Waiter<'_>,
    ) -> Option<Read> {
        let Some(shard) = self.inner.shards.get(key.shard()) else {
            return Some(Read::Closed(CloseReason::Client));
        };
        let out_start = out.len();
        let mut scan = None;
        let mut spare = None;
        loop {
            let mut guard = shard.lock();
            match guard.step(key, now, max_bytes, &mut scan, out, out_start) {
                Step::Entries => return Some(Read::Entries),
                Step::Lagged { after, floor } => return Some(Read::Lagged { after, floor }),
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
                            spare = Some(waker.clone());
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
                Some(Park::NeedsWaker) => spare = Some(waker.clone()),
            }
        }
    }

    pub(crate) fn rejoin(&self, key: ReaderKey, after: u64) {
        if let Some(shard) = self.inner.shards.get(key.shard()) {
            shard.lock().seek(key, after, None);
        }
    }

    pub(crate) fn touch(&self, key: ReaderKey, now: Instant) {
        if let Some(shard) = self.inner.shards.get(key.shard()) {
            shard.lock().touch(key, now);
        }
    }

    pub(crate) fn cursor(&self, key: ReaderKey) -> Option<u64> {
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

    /// Does what could not be done under the lock: wakes, drops, releases.
    fn carry_out(&self, fx: &mut Effects<T>) {
        fx.wakers.drain(..).for_each(Waker::wake);
        fx.evicted.clear();
        fx.readers = 0;
        let released: Vec<PatternKey> = std::mem::take(&mut fx.released);
        self.inner.patterns.release(released);
    }
}

impl<T> Inner<T> {
    /// The lock under which this id is taken; one shard alone needs none.
    fn stripe(&self, id: &ConnectionId) -> Option<&Mutex<()>> {
        if self.shards.len() == 1 {
            return None;
        }
        let hash = id.stripe_hash();
        self.id_stripes.get(hash % self.id_stripes.len())
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
