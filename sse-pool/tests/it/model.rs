//! The pool against a naive one, in which every reader has a full queue of its own.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use sse_pool::{
    CloseReason, Connection, ConnectionId, ConnectionInfo, Entry, Pool, PoolConfig, Read,
    ReaderKey, Selector, ShardHandle, Start, TopicFilter, WindowConfig,
};

use crate::support::*;

#[derive(Clone, Debug)]
enum Op {
    Connect {
        name: u8,
        batch: bool,
        shard: u8,
        selector: Wish,
        identities: Vec<u8>,
        start: Option<u8>,
    },
    Append(Vec<NewEntry>),
    Read {
        reader: u8,
        max_bytes: u8,
    },
    Update {
        reader: u8,
        selector: Wish,
    },
    Seek {
        reader: u8,
        back: u8,
    },
    Drop {
        reader: u8,
    },
    Close {
        reader: u8,
    },
    Touch {
        reader: u8,
    },
    Sweep,
    Wait {
        seconds: u8,
    },
}

#[derive(Clone, Debug)]
struct NewEntry {
    step: u8,
    size: u8,
    topics: Vec<u8>,
    audience: Vec<u8>,
    recipients: Vec<u8>,
    label: Option<u8>,
}

/// A selector, as the generator makes it.
#[derive(Clone, Debug)]
struct Wish {
    all: bool,
    exact: Vec<u8>,
    patterns: Vec<u8>,
    labels: Option<Vec<u8>>,
}

const TOPICS: [&str; 6] = ["aa", "ab", "b", "c", "me", "you"];
const IDENTITIES: [&str; 2] = ["me", "you"];
const PATTERNS: [&str; 3] = ["a", "b", "y"];
const LABELS: [&str; 2] = ["x", "y"];
const NAMES: u8 = 5;

fn pick(from: &[&str], which: &[u8]) -> Arc<[Arc<str>]> {
    which
        .iter()
        .map(|&n| Arc::from(from[usize::from(n) % from.len()]))
        .collect()
}

fn name(n: u8) -> ConnectionId {
    id(&format!("r{}", n % NAMES))
}

impl Wish {
    fn selector(&self) -> Selector {
        let patterns = self
            .patterns
            .iter()
            .map(|&n| prefix(PATTERNS[usize::from(n) % 3]))
            .collect();
        Selector {
            topics: if self.all {
                TopicFilter::All
            } else {
                TopicFilter::Topics {
                    exact: pick(&TOPICS, &self.exact),
                    patterns,
                }
            },
            labels: self.labels.as_deref().map(|labels| pick(&LABELS, labels)),
        }
    }
}

fn few(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=max)
}

fn wish() -> impl Strategy<Value = Wish> {
    let patterns = prop_oneof![2 => Just(vec![]), 1 => few(2)];
    (
        prop::bool::weighted(0.2),
        few(3),
        patterns,
        prop::option::weighted(0.3, few(2)),
    )
        .prop_map(|(all, exact, patterns, labels)| Wish {
            all,
            exact,
            patterns,
            labels,
        })
}

fn new_entry() -> impl Strategy<Value = NewEntry> {
    let rarely = || prop_oneof![5 => Just(vec![]), 1 => few(2)];
    (
        1..4_u8,
        0..20_u8,
        few(3),
        rarely(),
        rarely(),
        any::<Option<u8>>(),
    )
        .prop_map(
            |(step, size, topics, audience, recipients, label)| NewEntry {
                step,
                size,
                topics,
                audience,
                recipients,
                label,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let reader = any::<u8>();
    prop_oneof![
        4 => (reader, any::<bool>(), any::<u8>(), wish(), few(2), any::<Option<u8>>()).prop_map(
            |(name, batch, shard, selector, identities, start)| Op::Connect {
                name, batch, shard, selector, identities, start,
            }
        ),
        8 => prop::collection::vec(new_entry(), 0..4).prop_map(Op::Append),
        10 => (reader, any::<u8>()).prop_map(|(reader, max_bytes)| Op::Read { reader, max_bytes }),
        1 => (reader, wish()).prop_map(|(reader, selector)| Op::Update { reader, selector }),
        1 => (reader, 0..20_u8).prop_map(|(reader, back)| Op::Seek { reader, back }),
        1 => reader.prop_map(|reader| Op::Drop { reader }),
        1 => reader.prop_map(|reader| Op::Close { reader }),
        1 => reader.prop_map(|reader| Op::Touch { reader }),
        1 => Just(Op::Sweep),
        1 => (0..7_u8).prop_map(|seconds| Op::Wait { seconds }),
    ]
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
    identities: Arc<[Arc<str>]>,
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
}

struct World {
    pool: Pool<u64>,
    log: Vec<Arc<Entry<u64>>>,
    readers: Vec<Reader>,
    now: Instant,
    start_offset: u64,
    bounds: WindowConfig,
    delivered: u64,
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
        for (index, entry) in self.log.iter().enumerate().rev() {
            entries += 1;
            bytes += entry.size_bytes;
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
        reader: (&Selector, &[Arc<str>], &ConnectionId),
    ) -> VecDeque<Arc<Entry<u64>>> {
        let (selector, identities, id) = reader;
        let wanted = |entry: &&Arc<Entry<u64>>| {
            entry.offset > cursor && selector.wants(entry, identities, id)
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
                identities,
                start,
            } => {
                let id = name(n);
                let identities = pick(&IDENTITIES, &identities);
                let selector = selector.selector();
                let start = match start {
                    None => Start::Live,
                    // From well before the log to somewhat beyond its head.
                    Some(n) => Start::After((self.head() + 5).saturating_sub(u64::from(n % 32))),
                };
                let info = ConnectionInfo {
                    identities: identities.clone(),
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
                    queue: self.queue_after(cursor, (&selector, &identities, &id)),
                    id,
                    identities,
                    selector,
                    parked: false,
                    closed: None,
                    in_hand: false,
                    since: self.now,
                    skip_to: cursor,
                    blind: cursor < self.floor(),
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
                let identities = self.readers[index].identities.clone();
                let queue = self.queue_after(cursor, (&selector, &identities, &id));
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
                let (id, identities) = (
                    self.readers[index].id.clone(),
                    self.readers[index].identities.clone(),
                );
                let queue =
                    self.queue_after(after, (&self.readers[index].selector, &identities, &id));
                let floor = self.floor();
                assert!(self.pool.seek(&id, after));
                let reader = &mut self.readers[index];
                reader.queue = queue;
                reader.skip_to = after;
                reader.blind = after < floor;
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

    fn append(&mut self, new: Vec<NewEntry>) {
        let mut offset = self.head();
        let mut entries = Vec::new();
        for new in new {
            offset += u64::from(new.step);
            entries.push(Arc::new(Entry {
                audience: pick(&IDENTITIES, &new.audience),
                recipients: new.recipients.iter().map(|&n| name(n)).collect(),
                label: new.label.map(|n| Arc::from(LABELS[usize::from(n) % 2])),
                ..Entry::new(
                    offset,
                    offset,
                    usize::from(new.size),
                    pick(&TOPICS, &new.topics),
                )
            }));
        }
        let delivery = self.pool.append(&entries, self.now);
        assert_eq!((delivery.appended, delivery.stale), (entries.len(), 0));
        let mut called = Vec::new();
        for entry in &entries {
            self.log.push(Arc::clone(entry));
            for (index, reader) in self.readers.iter_mut().enumerate() {
                if reader.closed.is_none()
                    && reader.selector.wants(entry, &reader.identities, &reader.id)
                    && entry.offset > reader.skip_to
                {
                    reader.queue.push_back(Arc::clone(entry));
                    if std::mem::take(&mut reader.parked) {
                        reader.since = self.now;
                        called.push(index);
                    }
                }
            }
        }
        assert_eq!(
            delivery.readers,
            called.len(),
            "woken are those who waited for it"
        );
        for index in called {
            self.expect_call(index);
        }
    }

    /// This reader must have been told by now, once more than before.
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

    fn read(&mut self, index: usize, max_bytes: usize) {
        let floor = self.floor();
        let head = self.head();
        let now = self.now;
        let reader = &mut self.readers[index];
        let mut out = Vec::new();
        let read = match &mut reader.handle {
            Handle::Task(connection) => {
                let waker = Waker::from(Arc::clone(&reader.calls));
                let mut cx = Context::from_waker(&waker);
                match connection.poll_read(&mut cx, now, max_bytes, &mut out) {
                    Poll::Ready(read) => Some(read),
                    Poll::Pending => None,
                }
            }
            Handle::Batch(shard, key) => shard.read(*key, now, max_bytes, &mut out),
        };
        if let Some(reason) = reader.closed {
            assert_eq!((read, out.len()), (Some(Read::Closed(reason)), 0));
            return;
        }
        if !reader.parked {
            reader.since = now;
            reader.in_hand = false;
        }
        match read {
            None => {
                assert!(out.is_empty());
                assert!(
                    reader.queue.is_empty(),
                    "{} waits and misses {:?}",
                    reader.id,
                    reader.queue
                );
                reader.parked = true;
            }
            Some(Read::Entries) => {
                let mut bytes = 0;
                for (taken, entry) in out.iter().enumerate() {
                    let expected = reader.queue.pop_front().expect("more than was wanted");
                    assert_eq!(entry.offset, expected.offset);
                    bytes += entry.size_bytes;
                    assert!(taken == 0 || bytes <= max_bytes, "over the budget");
                }
                assert!(!out.is_empty());
                let next = reader.queue.front();
                assert!(
                    next.is_none_or(|next| bytes + next.size_bytes > max_bytes),
                    "took too few"
                );
                reader.in_hand = true;
                self.delivered += out.len() as u64;
            }
            Some(Read::Lagged { after, floor: said }) => {
                assert!(out.is_empty());
                assert_eq!(said, floor);
                assert!(
                    reader.queue.iter().all(|entry| entry.offset > after),
                    "a cursor past its queue"
                );
                assert!(after < floor);
                let blind = reader.blind;
                let may_want = |entry: &Arc<Entry<u64>>| reader.may_want(entry);
                let lost = self
                    .log
                    .iter()
                    .any(|entry| entry.offset > after && entry.offset <= floor && may_want(entry));
                assert!(lost || blind, "{} lagged for nothing", reader.id);
                // Read on from the log, as far as the window reaches back or as the log goes.
                let target = if max_bytes.is_multiple_of(2) {
                    floor
                } else {
                    head
                };
                while reader
                    .queue
                    .front()
                    .is_some_and(|entry| entry.offset <= target)
                {
                    reader.queue.pop_front();
                }
                match &mut reader.handle {
                    Handle::Task(connection) => connection.rejoin(target),
                    Handle::Batch(shard, key) => shard.rejoin(*key, target),
                }
                reader.blind = false;
            }
            Some(Read::Closed(reason)) => panic!("{} was closed: {reason}", reader.id),
        }
    }

    fn sweep(&mut self) {
        let swept = self.pool.sweep(self.now);
        let config = self.pool.config().clone();
        for index in 0..self.readers.len() {
            let reader = &self.readers[index];
            if reader.closed.is_some() {
                continue;
            }
            let quiet = self.now - reader.since;
            let may_stall = !reader.parked && quiet >= config.send_timeout;
            let must_stall = may_stall && (reader.in_hand || !reader.queue.is_empty());
            let stalled = swept.stalled.contains(&reader.id);
            let idle = swept.idle.contains(&reader.id);
            assert!(
                stalled || !must_stall,
                "{} should have been let go",
                reader.id
            );
            assert!(may_stall || !stalled, "{} should have stayed", reader.id);
            assert!(!idle || quiet >= config.idle_timeout);
            assert!(idle || stalled || quiet < config.idle_timeout);
            if stalled || idle {
                let reason = if stalled {
                    CloseReason::Stalled
                } else {
                    CloseReason::Idle
                };
                self.closed(index, reason);
            }
        }
    }

    fn finish(mut self) {
        // Whoever is open gets the rest of what it wants.
        for index in 0..self.readers.len() {
            while self.readers[index].closed.is_none() && !self.readers[index].parked {
                self.read(index, 63);
            }
        }
        let stats = self.pool.stats();
        assert_eq!(stats.active, self.readers.len());
        assert_eq!(stats.delivered_entries, self.delivered);
        assert_eq!(stats.appended_entries, self.log.len() as u64);
        assert_eq!((stats.floor, stats.head), (self.floor(), self.head()));
        let open = self
            .readers
            .iter()
            .filter(|reader| reader.closed.is_none())
            .count();
        assert_eq!(self.pool.statuses(None, usize::MAX).len(), open);
        for reader in self.readers.drain(..) {
            if let Handle::Batch(shard, key) = &reader.handle {
                assert!(shard.leave(*key));
            }
        }
        let window = self.log.iter().filter(|entry| entry.offset > stats.floor);
        let mut topics: Vec<_> = window
            .filter(|entry| entry.recipients.is_empty())
            .flat_map(|entry| entry.topics.iter())
            .collect();
        topics.sort();
        topics.dedup();
        let stats = self.pool.stats();
        assert_eq!(
            (stats.active, stats.topics, stats.patterns),
            (0, topics.len(), 0)
        );
        assert_eq!(
            stats.closed.iter().sum::<u64>(),
            stats.accepted - self.refused
        );
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
        if !entry.recipients.is_empty() {
            return entry.recipients.contains(&self.id);
        }
        entry
            .topics
            .iter()
            .any(|topic| exact.contains(topic) || self.identities.contains(topic))
    }
}

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
        max_bytes in 10..80_usize,
    ) {
        let mut world = World::new(shards, WindowConfig { max_bytes, max_entries });
        for op in ops {
            world.apply(op);
            world.check_calls();
        }
        world.finish();
    }
}
