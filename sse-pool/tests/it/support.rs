//! What the tests are written with.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use sse_pool::{
    Connection, ConnectionId, ConnectionInfo, Entry, Limits, Pool, PoolConfig, Read, Seek,
    Selector, Start, TopicPattern, WindowConfig,
};

/// Counts how often it was woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Matches the topics that begin so.
#[derive(Debug)]
pub(crate) struct Prefix(pub(crate) String);

impl TopicPattern for Prefix {
    fn matches(&self, topic: &str) -> bool {
        topic.starts_with(&self.0)
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    /// Of some all of it, of others half, which may be nothing.
    fn literal_prefix(&self) -> &str {
        let is_odd = self.0.bytes().next().is_some_and(|first| first % 2 == 1);
        &self.0[..self.0.len() / if is_odd { 1 } else { 2 }]
    }
}

pub(crate) fn prefix(text: &str) -> Arc<dyn TopicPattern> {
    Arc::new(Prefix(text.into()))
}

pub(crate) fn seek(series: u64, after: u64) -> Seek {
    Seek {
        series,
        after,
        note: None,
    }
}

/// What a reader hears that was moved.
pub(crate) fn moved(series: u64, after: u64) -> Poll<Read> {
    Poll::Ready(Read::Moved { series, after })
}

pub(crate) fn names(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|&name| Arc::from(name)).collect()
}

/// One shard, a window of `max_entries`, no other limit in the way.
pub(crate) fn config(max_entries: usize) -> PoolConfig {
    PoolConfig {
        window: WindowConfig {
            max_bytes: usize::MAX,
            max_entries,
        },
        limits: Limits {
            max_connections: 100_000,
            max_connections_per_ip: 100_000,
            max_topics_per_connection: 1_000,
        },
        ..PoolConfig::default()
    }
}

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn id(text: &str) -> ConnectionId {
    text.parse().unwrap()
}

pub(crate) fn info(name: &str) -> ConnectionInfo {
    ConnectionInfo::new(id(name), LOCAL)
}

pub(crate) fn entry(offset: u64, topics: &[&str]) -> Arc<Entry<u64>> {
    Arc::new(Entry::new(offset, offset, 10, names(topics)))
}

/// A connection with a counted waker and a readable face.
pub(crate) struct Client {
    pub(crate) connection: Connection<u64>,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) now: Instant,
}

impl Client {
    pub(crate) fn connect(pool: &Pool<u64>, name: &str, selector: Selector, start: Start) -> Self {
        Self::connect_as(pool, info(name), selector, start, Instant::now())
    }

    pub(crate) fn connect_as(
        pool: &Pool<u64>,
        info: ConnectionInfo,
        selector: Selector,
        start: Start,
        now: Instant,
    ) -> Self {
        let permit = pool.admit(info.ip.into()).unwrap();
        let connection = pool.connect(permit, info, selector, start, now).unwrap();
        Self {
            connection,
            wakes: Arc::default(),
            now,
        }
    }

    /// What one read gives: the outcome and the offsets.
    pub(crate) fn read_up_to(&mut self, max_bytes: usize) -> (Poll<Read>, Vec<u64>) {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut out = Vec::new();
        let mut cx = Context::from_waker(&waker);
        let read = self
            .connection
            .poll_read(&mut cx, self.now, max_bytes, &mut out);
        (read, out.iter().map(|entry| entry.offset).collect())
    }

    pub(crate) fn read(&mut self) -> (Poll<Read>, Vec<u64>) {
        self.read_up_to(usize::MAX)
    }

    /// Reads and expects entries.
    pub(crate) fn entries(&mut self) -> Vec<u64> {
        let (read, offsets) = self.read();
        assert_eq!(read, Poll::Ready(Read::Entries));
        offsets
    }

    /// Reads and expects to wait.
    pub(crate) fn waits(&mut self) {
        assert_eq!(self.read(), (Poll::Pending, vec![]));
    }
}
