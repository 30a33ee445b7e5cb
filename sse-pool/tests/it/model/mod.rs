//! The pool against a naive one, in which every reader has a full queue of its own.

mod deliver;
mod end;
mod ops;

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use sse_pool::{
    ClientInfo, CloseReason, Connection, ConnectionId, ConnectionInfo, Entry, PatternSet, Pool,
    PoolConfig, ReaderKey, Selector, ShardHandle, Start, TopicFilter, Visibility, WindowConfig,
    topic_bytes,
};

use self::ops::{OWN, Op, TOPICS, name, op, pick};
use crate::support::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_000), // PROPTEST_CASES asks for more
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_reader_gets_what_it_wants_once_in_order_or_hears_that_it_lagged(
        ops in prop::collection::vec(op(), 1..80),
        shards in 1..3_usize,
        max_entries in 1..6_usize,
        max_bytes in 100..4_000_usize,
    ) {
        let mut world = World::new(shards, WindowConfig { max_bytes, max_entries });
        for op in ops {
            world.apply(op);
            world.check_calls();
        }
        world.finish();
    }
}

/// How a reader of the pool under test is held.
enum Handle {
    Task(Connection<u64>),
    Batch(ShardHandle<u64>, ReaderKey),
}

/// A reader of the naive pool, beside its handle in the real one.
struct Reader {
    handle: Handle,
    calls: Arc<Wakes>,
    calls_expected: usize,
    id: ConnectionId,
    visibility: Visibility,
    selector: Selector,
    /// Everything it wants and has not got.
    queue: VecDeque<Arc<Entry<u64>>>,
    parked: bool,
    closed: Option<CloseReason>,
    in_hand: bool,
    since: Instant,
    /// Its cursor was put here: the window's entries up to it are not for it.
    skip_to: u64,
    /// Its cursor was put before the window's floor, so the pool may not know what it wants.
    blind: bool,
    /// Its cursor was put somewhere, and it has not heard.
    is_moved: bool,
}

struct World {
    pool: Pool<u64>,
    log: Vec<Arc<Entry<u64>>>,
    readers: Vec<Reader>,
    now: Instant,
    start_offset: u64,
    bounds: WindowConfig,
    delivered: u64,
    /// What the last reader got.
    last_taken: Vec<Arc<Entry<u64>>>,
    /// Permits that never became a connection, because the id was in use.
    refused: u64,
}

impl World {
    fn new(shards: usize, bounds: WindowConfig) -> Self {
        let start_offset = 10;
        let pool = Pool::new(PoolConfig {
            shards,
            window: bounds,
            start_offset,
            ..config(1)
        });
        let now = Instant::now();
        Self {
            pool,
            log: vec![],
            readers: vec![],
            now,
            start_offset,
            bounds,
            delivered: 0,
            last_taken: Vec::new(),
            refused: 0,
        }
    }

    fn head(&self) -> u64 {
        self.log
            .last()
            .map_or(self.start_offset, |entry| entry.offset)
    }

    /// The floor, by adding up from the newest.
    fn floor(&self) -> u64 {
        let (mut entries, mut bytes) = (0, 0);
        let mut topics = std::collections::HashSet::new();
        for (index, entry) in self.log.iter().enumerate().rev() {
            entries += 1;
            bytes += entry.memory_bytes(self.pool.shards());
            // An entry for single connections stands in no topic.
            for topic in entry.topics.iter().filter(|_| entry.recipients.is_none()) {
                if topics.insert(topic) {
                    bytes += topic_bytes(topic, self.pool.shards());
                }
            }
            if entries > 1 && (entries > self.bounds.max_entries || bytes > self.bounds.max_bytes) {
                return self.log[index].offset;
            }
        }
        self.start_offset
    }

    fn index(&self, reader: u8) -> Option<usize> {
        (!self.readers.is_empty()).then(|| usize::from(reader) % self.readers.len())
    }

    fn queue_after(
        &self,
        cursor: u64,
        reader: (&Selector, &Visibility, &ConnectionId),
    ) -> VecDeque<Arc<Entry<u64>>> {
        let (selector, visibility, id) = reader;
        let wanted = |entry: &&Arc<Entry<u64>>| {
            entry.offset > cursor && selector.wants(&***entry, visibility, Some(id))
        };
        self.log.iter().filter(wanted).cloned().collect()
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Connect {
                name: n,
                batch,
                shard,
                selector,
                own,
                granted,
                start,
            } => {
                let id = name(n);
                let visibility = Visibility::owning(pick(&OWN, &own).iter().cloned());
                let visibility = match granted {
                    Some(topics) => visibility.with_granted(TopicFilter::Topics {
                        exact: pick(&TOPICS, &topics),
                        patterns: PatternSet::default(),
                    }),
                    None => visibility,
                };
                let selector = selector.selector();
                let start = match start {
                    None => Start::Live,
                    // From well before the log to somewhat beyond its head.
                    Some(n) => Start::After((self.head() + 5).saturating_sub(u64::from(n % 32))),
                };
                let info = ConnectionInfo {
                    client: Arc::new(ClientInfo {
                        visibility: visibility.clone(),
                        ..ClientInfo::default()
                    }),
                    ..ConnectionInfo::new(id.clone(), LOCAL)
                };
                let permit = self.pool.admit(LOCAL).unwrap();
                let shard = usize::from(shard) % self.pool.shards();
                let handle = if batch {
                    let shard = self.pool.shard(shard).unwrap();
                    let key = shard.connect(permit, info, selector.clone(), start, self.now);
                    key.map(|key| Handle::Batch(shard, key))
                } else {
                    let made = self.pool.connect_on(
                        shard,
                        permit,
                        info,
                        selector.clone(),
                        start,
                        self.now,
                    );
                    made.map(Handle::Task)
                };
                let taken = self
                    .readers
                    .iter()
                    .any(|it| it.id == id && it.closed.is_none());
                assert_eq!(
                    handle.is_err(),
                    taken,
                    "an id is refused exactly when it is in use"
                );
                let Ok(handle) = handle else {
                    self.refused += 1;
                    return;
                };
                let cursor = match start {
                    Start::Live => self.head(),
                    Start::After(offset) => offset,
                };
                self.readers.push(Reader {
                    handle,
                    calls: Arc::default(),
                    calls_expected: 0,
                    queue: self.queue_after(cursor, (&selector, &visibility, &id)),
                    id,
                    visibility,
                    selector,
                    parked: false,
                    closed: None,
                    in_hand: false,
                    since: self.now,
                    skip_to: cursor,
                    blind: cursor < self.floor(),
                    is_moved: false,
                });
            }
            Op::Append(new) => self.append(new),
            Op::Read { reader, max_bytes } => {
                if let Some(index) = self.index(reader) {
                    self.read(index, usize::from(max_bytes % 64));
                }
            }
            Op::Update { reader, selector } => {
                let Some(index) = self.index(reader) else {
                    return;
                };
                let selector = selector.selector();
                let id = self.readers[index].id.clone();
                if self.readers[index].closed.is_some() {
                    return;
                }
                let cursor = self.pool.status(&id).unwrap().cursor;
                self.pool
                    .update_selector(&id, |_| selector.clone())
                    .unwrap();
                let floor = self.floor();
                let visibility = self.readers[index].visibility.clone();
                let queue = self.queue_after(cursor, (&selector, &visibility, &id));
                let reader = &mut self.readers[index];
                assert!(!reader.parked || queue.is_empty());
                reader.queue = queue;
                reader.selector = selector;
                reader.blind |= cursor < floor && !reader.parked;
            }
            Op::Seek { reader, back } => {
                let Some(index) = self.index(reader) else {
                    return;
                };
                let after = (self.head() + 3).saturating_sub(u64::from(back));
                if self.readers[index].closed.is_some() {
                    return;
                }
                let (id, visibility) = (
                    self.readers[index].id.clone(),
                    self.readers[index].visibility.clone(),
                );
                let queue =
                    self.queue_after(after, (&self.readers[index].selector, &visibility, &id));
                let floor = self.floor();
                assert!(self.pool.seek(&id, &seek(0, after)));
                let reader = &mut self.readers[index];
                reader.queue = queue;
                reader.skip_to = after;
                reader.blind = after < floor;
                reader.is_moved = true;
                if std::mem::take(&mut reader.parked) {
                    self.expect_call(index);
                }
            }
            Op::Drop { reader } => {
                let Some(index) = self.index(reader) else {
                    return;
                };
                let reader = self.readers.swap_remove(index);
                if let Handle::Batch(shard, key) = &reader.handle {
                    assert!(shard.leave(*key));
                }
            }
            Op::Close { reader } => {
                let Some(index) = self.index(reader) else {
                    return;
                };
                let id = self.readers[index].id.clone();
                // Another open reader may have taken the name since.
                let open = self
                    .readers
                    .iter()
                    .position(|it| it.id == id && it.closed.is_none());
                assert_eq!(self.pool.close(&id, CloseReason::Server), open.is_some());
                if let Some(open) = open {
                    self.closed(open, CloseReason::Server);
                }
            }
            Op::Touch { reader } => {
                let Some(index) = self.index(reader) else {
                    return;
                };
                let now = self.now;
                let reader = &mut self.readers[index];
                match &reader.handle {
                    Handle::Task(connection) => connection.touch(now),
                    Handle::Batch(shard, key) => shard.touch(*key, now),
                }
                reader.since = now;
            }
            Op::Sweep => self.sweep(),
            Op::Wait { seconds } => self.now += Duration::from_secs(seconds.into()),
        }
    }

    fn expect_call(&mut self, index: usize) {
        self.readers[index].calls_expected += 1;
    }

    /// Everyone was told as often as expected: tasks by their wakers, the others by their shard's list.
    fn check_calls(&self) {
        let mut called = Vec::new();
        for shard in 0..self.pool.shards() {
            let shard = self.pool.shard(shard).unwrap();
            let _ = shard.poll_ready(&mut Context::from_waker(Waker::noop()), &mut called);
        }
        for reader in &self.readers {
            for _ in called.iter().filter(|&&key| key == reader.key()) {
                Waker::from(Arc::clone(&reader.calls)).wake();
            }
            assert_eq!(
                reader.calls.count(),
                reader.calls_expected,
                "calls of {}",
                reader.id
            );
        }
    }

    fn closed(&mut self, index: usize, reason: CloseReason) {
        let reader = &mut self.readers[index];
        reader.closed = Some(reason);
        // A task that is not waiting has no waker to be woken by; a batch reader is always announced.
        let waited = std::mem::take(&mut reader.parked);
        if waited || matches!(reader.handle, Handle::Batch(..)) {
            self.expect_call(index);
        }
    }
}

impl Reader {
    fn key(&self) -> ReaderKey {
        match &self.handle {
            Handle::Task(connection) => connection.key(),
            Handle::Batch(_, key) => *key,
        }
    }

    /// What counts as lost when it is evicted: label and audience are not looked at then.
    fn may_want(&self, entry: &Entry<u64>) -> bool {
        let TopicFilter::Topics { exact, patterns } = &self.selector.topics else {
            return true;
        };
        if !patterns.is_empty() {
            return true;
        }
        if let Some(recipients) = &entry.recipients {
            return recipients.contains(&self.id);
        }
        entry
            .topics
            .iter()
            .any(|topic| exact.contains(topic) || self.visibility.own().contains(topic))
    }
}
