use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use sse_pool::{
    CloseReason, ConnectionInfo, Pool, PoolConfig, Read, ReaderKey, Selector, ShardHandle, Start,
};

use crate::support::*;

pub(crate) struct Reactor {
    pub(crate) shard: ShardHandle<u64>,
    wakes: Arc<Wakes>,
    pub(crate) now: Instant,
}

impl Reactor {
    pub(crate) fn new(pool: &Pool<u64>, shard: usize) -> Self {
        let shard = pool.shard(shard).unwrap();
        Self {
            shard,
            wakes: Arc::default(),
            now: Instant::now(),
        }
    }

    pub(crate) fn connect(&self, name: &str, selector: Selector) -> ReaderKey {
        self.connect_as(info(name), selector)
    }

    pub(crate) fn connect_as(&self, info: ConnectionInfo, selector: Selector) -> ReaderKey {
        let permit = self.shard.pool().admit(LOCAL).unwrap();
        self.shard
            .connect(permit, info, selector, Start::Live, self.now)
            .unwrap()
    }

    pub(crate) fn ready(&self) -> Option<Vec<ReaderKey>> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut keys = Vec::new();
        match self
            .shard
            .poll_ready(&mut Context::from_waker(&waker), &mut keys)
        {
            Poll::Ready(()) => Some(keys),
            Poll::Pending => None,
        }
    }

    pub(crate) fn read(&self, key: ReaderKey) -> (Option<Read>, Vec<u64>) {
        let mut out = Vec::new();
        let read = self.shard.read(key, self.now, usize::MAX, &mut out);
        (read, out.iter().map(|entry| entry.offset).collect())
    }
}

#[test]
fn a_shard_is_woken_once_per_append_however_many_readers_it_serves() {
    let pool = Pool::new(PoolConfig {
        shards: 2,
        ..config(100)
    });
    let reactor = Reactor::new(&pool, 1);
    let keys: Vec<_> = (0..100)
        .map(|n| reactor.connect(&format!("r{n}"), Selector::topics(["t"])))
        .collect();
    for &key in &keys {
        assert_eq!(reactor.read(key), (None, vec![]));
    }
    assert_eq!(reactor.ready(), None);
    let delivery = pool.append(&[entry(1, &["t"]), entry(2, &["t"])], reactor.now);
    assert_eq!((delivery.readers, reactor.wakes.count()), (100, 1));
    pool.append(&[entry(3, &["t"])], reactor.now);
    assert_eq!(reactor.wakes.count(), 1, "it knows already");
    assert_eq!(
        reactor.ready(),
        Some(keys.clone()),
        "each of them once, in order"
    );
    for &key in &keys {
        assert_eq!(reactor.read(key), (Some(Read::Entries), vec![1, 2, 3]));
        assert_eq!(reactor.read(key), (None, vec![]));
    }
    assert_eq!(reactor.ready(), None);
}

#[test]
fn a_reader_that_is_still_writing_is_not_announced_again() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let key = reactor.connect("r", Selector::topics(["t"]));
    pool.append(&[entry(1, &["t"])], reactor.now);
    assert_eq!(
        reactor.ready(),
        None,
        "a new reader is read once, not announced"
    );
    assert_eq!(reactor.read(key).1, [1]);
    pool.append(&[entry(2, &["t"])], reactor.now);
    assert_eq!(reactor.ready(), None, "it has not waited since");
    assert_eq!(reactor.read(key).1, [2]);
    assert_eq!(reactor.read(key).0, None);
    pool.append(&[entry(3, &["t"])], reactor.now);
    assert_eq!(reactor.ready(), Some(vec![key]));
}

#[test]
fn a_closed_reader_is_announced_and_leaves_with_its_key() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let key = reactor.connect("r", Selector::all());
    assert_eq!(reactor.read(key).0, None);
    assert_eq!(reactor.ready(), None);
    assert!(pool.close(&id("r"), CloseReason::Server));
    assert_eq!(
        (reactor.wakes.count(), reactor.ready()),
        (1, Some(vec![key]))
    );
    assert_eq!(reactor.read(key).0, Some(Read::Closed(CloseReason::Server)));
    assert!(reactor.shard.leave(key));
    assert!(!reactor.shard.leave(key));
    assert_eq!(pool.stats().active, 0);
}

#[test]
fn a_key_whose_reader_is_gone_finds_nothing_even_when_its_slot_is_taken_again() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let old = reactor.connect("old", Selector::all());
    reactor.shard.leave(old);
    let new = reactor.connect("new", Selector::all());
    assert_eq!(old.slot(), new.slot());
    pool.append(&[entry(1, &["t"])], reactor.now);
    assert_eq!(
        reactor.read(old),
        (Some(Read::Closed(CloseReason::Client)), vec![])
    );
    assert!(!reactor.shard.leave(old));
    reactor.shard.rejoin(old, 1);
    assert_eq!(
        (reactor.shard.cursor(old), reactor.shard.cursor(new)),
        (None, Some(0))
    );
    assert_eq!(reactor.read(new).1, [1]);
}

#[test]
fn a_reader_that_was_sent_back_is_announced() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let key = reactor.connect("r", Selector::topics(["t"]));
    pool.append(&[entry(1, &["t"])], reactor.now);
    assert_eq!(reactor.read(key).1, [1]);
    assert_eq!(reactor.read(key).0, None);
    assert!(pool.seek(&id("r"), &seek(0, 0)));
    assert!(pool.seek(&id("r"), &seek(0, 0)));
    assert_eq!(reactor.ready(), Some(vec![key]), "once, though sent twice");
    let moved = Read::Moved {
        series: 0,
        after: 0,
    };
    assert_eq!(reactor.read(key), (Some(moved), vec![]));
    assert_eq!(reactor.read(key).1, [1]);
}

#[test]
fn a_reader_that_took_the_last_waits_at_once_and_one_that_did_not_does_not() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let key = reactor.connect("r", Selector::topics(["t"]));
    let read = |max_bytes| {
        let mut out = Vec::new();
        let taken = reactor
            .shard
            .read_group(&[key], reactor.now, max_bytes, &mut out);
        let offsets: Vec<_> = out.iter().map(|entry| entry.offset).collect();
        (taken.read, offsets, taken.is_waiting)
    };
    assert_eq!(read(usize::MAX), (None, vec![], true));
    pool.append(&[entry(1, &["t"]), entry(2, &["t"])], reactor.now);
    assert_eq!(reactor.ready(), Some(vec![key]));
    assert_eq!(read(1), (Some(Read::Entries), vec![1], false));
    assert_eq!(read(1), (Some(Read::Entries), vec![2], true));
    assert_eq!(reactor.ready(), None);
    pool.append(&[entry(3, &["other"]), entry(4, &["t"])], reactor.now);
    assert_eq!(reactor.ready(), Some(vec![key]), "it has waited");
    assert_eq!(read(usize::MAX), (Some(Read::Entries), vec![4], true));
}

#[test]
fn tasks_and_reactors_share_a_shard() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let key = reactor.connect("batch", Selector::topics(["t"]));
    let mut task = Client::connect(&pool, "task", Selector::topics(["t"]), Start::Live);
    task.waits();
    assert_eq!(reactor.read(key).0, None);
    assert_eq!(reactor.ready(), None);
    pool.append(&[entry(1, &["t"])], reactor.now);
    assert_eq!((task.wakes.count(), reactor.wakes.count()), (1, 1));
    assert_eq!((task.entries(), reactor.read(key).1), (vec![1], vec![1]));
}
