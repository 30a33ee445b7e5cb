//! What a publish, a read and a connection cost, each beside the least work that gives the same answer.
//!
//! The floor of an append is waking as many wakers and keeping the entry, or looking one topic up in a map of
//! all; the floor of a read is cloning as many `Arc`s; the floor of a delivery is both; the floor of a connection
//! is allocating what describes it, and of one with a topic of its own putting that into a map and taking it out
//! again. Every benchmark checks its answer.

use std::{
    collections::{HashMap, VecDeque},
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sse_pool::{
    Connection, ConnectionId, ConnectionInfo, Entry, Limits, PatternPart, Pool, PoolConfig, Read,
    Selector, Start, TopicPattern, WindowConfig,
};

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn pool() -> Pool<u64> {
    Pool::new(PoolConfig {
        window: WindowConfig {
            max_bytes: usize::MAX,
            max_entries: 1_024,
        },
        limits: Limits {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_topics_per_connection: 64,
        },
        ..PoolConfig::default()
    })
}

fn info(n: usize) -> ConnectionInfo {
    ConnectionInfo::new(ConnectionId::from_uuid((n as u128).to_be_bytes()), IP)
}

fn connect(pool: &Pool<u64>, n: usize, selector: Arc<Selector>, now: Instant) -> Connection<u64> {
    let permit = pool.admit(IP).expect("there is no limit");
    pool.connect(permit, info(n), selector, Start::Live, now)
        .expect("the id is free")
}

fn connect_all(
    pool: &Pool<u64>,
    count: usize,
    topic: impl Fn(usize) -> String,
    now: Instant,
) -> Vec<Connection<u64>> {
    (0..count)
        .map(|n| connect(pool, n, Arc::new(Selector::topics([topic(n)])), now))
        .collect()
}

/// A pattern that means what ends so.
#[derive(Debug)]
struct Ending {
    end: String,
    has_parts: bool,
}

impl TopicPattern for Ending {
    fn matches(&self, topic: &str) -> bool {
        topic.ends_with(&self.end)
    }

    fn as_str(&self) -> &str {
        &self.end
    }

    fn parts(&self) -> Option<Vec<PatternPart<'_>>> {
        let parts = [PatternPart::Any, PatternPart::Literal(&self.end)];
        self.has_parts.then(|| parts.to_vec())
    }
}

/// Means the topics that begin so.
#[derive(Debug)]
struct Below(String);

impl TopicPattern for Below {
    fn matches(&self, topic: &str) -> bool {
        topic.starts_with(&self.0)
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn literal_prefix(&self) -> &str {
        &self.0
    }
}

fn entry(offset: u64, topic: &str) -> Arc<Entry<u64>> {
    Arc::new(Entry::new(offset, offset, 100, vec![Arc::from(topic)]))
}

/// Reads everything, and then finds nothing, which parks the reader.
fn drain(connection: &mut Connection<u64>, now: Instant, out: &mut Vec<Arc<Entry<u64>>>) {
    let mut cx = Context::from_waker(Waker::noop());
    out.clear();
    while connection
        .poll_read(&mut cx, now, usize::MAX, out)
        .is_ready()
    {}
}

fn append(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("append");
    for readers in [1_000, 10_000_usize] {
        group.throughput(Throughput::Elements(readers as u64));
        group.bench_function(format!("one_topic_{readers}_waiting_readers"), |b| {
            let pool = pool();
            let mut all = connect_all(&pool, readers, |_| "t".into(), now);
            let mut out = Vec::new();
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    all.iter_mut()
                        .for_each(|reader| drain(reader, now, &mut out));
                    let entries = [entry(pool.head() + 1, "t")];
                    let start = Instant::now();
                    let delivery = pool.append(&entries, now);
                    spent += start.elapsed();
                    assert_eq!(delivery.readers, readers);
                }
                spent
            });
        });
        group.bench_function(format!("floor_wake_{readers}"), |b| {
            let mut window = VecDeque::new();
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for offset in 0..rounds {
                    let mut wakers: Vec<_> = vec![Some(Waker::noop().clone()); readers];
                    let news = entry(offset, "t");
                    let start = Instant::now();
                    window.push_back(news);
                    if window.len() > 1_024 {
                        window.pop_front();
                    }
                    let woken = wakers
                        .iter_mut()
                        .filter_map(Option::take)
                        .map(Waker::wake)
                        .count();
                    spent += start.elapsed();
                    assert_eq!(black_box(woken), readers);
                }
                spent
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    for topics in [1, 10_000_usize] {
        group.bench_function(format!("one_of_{topics}_topics"), |b| {
            let pool = pool();
            let mut all = connect_all(&pool, topics, |n| format!("t{n}"), now);
            let mut out = Vec::new();
            all.iter_mut()
                .for_each(|reader| drain(reader, now, &mut out));
            let mut turn = 0;
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    turn = (turn + 7_919) % topics;
                    let entries = [entry(pool.head() + 1, &format!("t{turn}"))];
                    let start = Instant::now();
                    let delivery = pool.append(&entries, now);
                    spent += start.elapsed();
                    assert_eq!(delivery.readers, 1);
                    drain(&mut all[turn], now, &mut out);
                }
                spent
            });
        });
    }
    for (name, is_pattern) in [
        ("100_readers_of_64_topics", false),
        ("100_readers_of_64_patterns", true),
    ] {
        group.bench_function(name, |b| {
            let pool = pool();
            let text = |reader: usize, n: usize| format!("room/{reader}/{n}/");
            let selectors = (0..100).map(|reader| {
                let texts = (0..64).map(|n| text(reader, n));
                if is_pattern {
                    let patterns = texts.map(|text| Arc::new(Below(text)) as Arc<dyn TopicPattern>);
                    Selector::patterns(patterns)
                } else {
                    Selector::topics(texts.map(|text| text + "x"))
                }
            });
            let mut all: Vec<_> = { selectors.enumerate() }
                .map(|(n, selector)| connect(&pool, n, Arc::new(selector), now))
                .collect();
            let mut out = Vec::new();
            all.iter_mut()
                .for_each(|reader| drain(reader, now, &mut out));
            let mut turn = 0;
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    turn = (turn + 7_919) % 6_400;
                    let topic = text(turn / 64, turn % 64) + "x";
                    let entries = [entry(pool.head() + 1, &topic)];
                    let start = Instant::now();
                    let delivery = pool.append(&entries, now);
                    spent += start.elapsed();
                    assert_eq!(delivery.readers, 1);
                    drain(&mut all[turn / 64], now, &mut out);
                }
                spent
            });
        });
    }
    // No topic says by its beginning which of them it could mean.
    for (name, has_parts) in [
        ("90_readers_of_64_suffixes", true),
        ("90_readers_of_64_suffixes_one_by_one", false),
    ] {
        group.bench_function(name, |b| {
            const READERS: usize = 90;
            let pool = pool();
            let selectors = (0..READERS).map(|reader| {
                let texts = (0..64).map(|n| format!("/{reader}/{n}"));
                Selector::patterns(
                    texts.map(|end| Arc::new(Ending { end, has_parts }) as Arc<dyn TopicPattern>),
                )
            });
            let mut all: Vec<_> = { selectors.enumerate() }
                .map(|(n, selector)| connect(&pool, n, Arc::new(selector), now))
                .collect();
            let mut out = Vec::new();
            all.iter_mut()
                .for_each(|reader| drain(reader, now, &mut out));
            let mut turn = 0;
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    turn += 1;
                    let (reader, n) = (turn * 7_919 % READERS, turn % 64);
                    // Each topic is new.
                    let topic = format!("room-{turn}/{reader}/{n}");
                    let entries = [entry(pool.head() + 1, &topic)];
                    let start = Instant::now();
                    let delivery = pool.append(&entries, now);
                    spent += start.elapsed();
                    assert_eq!(delivery.readers, 1);
                    drain(&mut all[reader], now, &mut out);
                }
                spent
            });
        });
    }
    group.bench_function("floor_map_of_10000_topics", |b| {
        let mut wakers: HashMap<Arc<str>, Option<Waker>> = (0..10_000)
            .map(|n| (Arc::from(format!("t{n}")), None))
            .collect();
        let mut window = VecDeque::new();
        let mut turn = 0;
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for offset in 0..rounds {
                turn = (turn + 7_919) % 10_000;
                let topic: Arc<str> = Arc::from(format!("t{turn}"));
                *wakers.get_mut(&topic).expect("it is there") = Some(Waker::noop().clone());
                let news = entry(offset, &topic);
                let start = Instant::now();
                window.push_back(news);
                if window.len() > 1_024 {
                    window.pop_front();
                }
                let waker = wakers.get_mut(&topic).and_then(Option::take);
                let woken = waker.map(Waker::wake).is_some();
                spent += start.elapsed();
                assert!(black_box(woken));
            }
            spent
        });
    });
    group.bench_function("one_topic_10000_busy_readers", |b| {
        let pool = pool();
        let all = connect_all(&pool, 10_000, |_| "t".into(), now);
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let entries = [entry(pool.head() + 1, "t")];
                let start = Instant::now();
                let delivery = pool.append(&entries, now);
                spent += start.elapsed();
                assert_eq!((delivery.appended, delivery.readers), (1, 0));
            }
            spent
        });
        drop(all);
    });
    group.finish();
}

/// An event's whole way through a shard, as a reactor takes it: appended, announced with one wake, read by each
/// of its readers.
fn deliver(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("deliver");
    for readers in [1_000, 10_000_usize] {
        group.throughput(Throughput::Elements(readers as u64));
        group.bench_function(format!("shard_of_{readers}"), |b| {
            let pool = pool();
            let shard = pool.shard(0).expect("the first shard");
            let selector = Arc::new(Selector::topics(["t"]));
            let (mut keys, mut out) = (Vec::new(), Vec::new());
            for n in 0..readers {
                let permit = pool.admit(IP).expect("there is no limit");
                let joined =
                    shard.connect(permit, info(n), Arc::clone(&selector), Start::Live, now);
                let key = joined.expect("the id is free");
                assert_eq!(shard.read(key, now, usize::MAX, &mut out), None);
            }
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let entries = [entry(pool.head() + 1, "t")];
                    keys.clear();
                    out.clear();
                    let mut cx = Context::from_waker(Waker::noop());
                    let start = Instant::now();
                    pool.append(&entries, now);
                    assert!(shard.poll_ready(&mut cx, &mut keys).is_ready());
                    for key in &keys {
                        let read = shard.read(*key, now, usize::MAX, &mut out);
                        assert_eq!(read, Some(Read::Entries));
                        assert_eq!(shard.read(*key, now, usize::MAX, &mut out), None);
                    }
                    spent += start.elapsed();
                    assert_eq!((keys.len(), out.len()), (readers, readers));
                }
                spent
            });
        });
        group.bench_function(format!("floor_clone_for_{readers}"), |b| {
            let mut window = VecDeque::new();
            let mut out = Vec::new();
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for offset in 0..rounds {
                    let news = entry(offset, "t");
                    out.clear();
                    let start = Instant::now();
                    window.push_back(Arc::clone(&news));
                    if window.len() > 1_024 {
                        window.pop_front();
                    }
                    Waker::noop().wake_by_ref();
                    for _ in 0..readers {
                        out.push(Arc::clone(black_box(&news)));
                    }
                    spent += start.elapsed();
                    assert_eq!(out.len(), readers);
                }
                spent
            });
        });
    }
    group.finish();
}

/// A thousand readers read the same entries, so that the clock's own cost does not count.
fn read(c: &mut Criterion) {
    const READERS: usize = 1_000;
    let now = Instant::now();
    let mut group = c.benchmark_group("read");
    for count in [1, 16_u64] {
        group.throughput(Throughput::Elements(READERS as u64));
        for (name, all_topics) in [("topic", false), ("all", true)] {
            group.bench_function(format!("{name}_{count}_entries"), |b| {
                let pool = pool();
                let selector = Arc::new(if all_topics {
                    Selector::all()
                } else {
                    Selector::topics(["t"])
                });
                let mut readers: Vec<_> = (0..READERS)
                    .map(|n| connect(&pool, n, Arc::clone(&selector), now))
                    .collect();
                let mut out = Vec::new();
                b.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        readers
                            .iter_mut()
                            .for_each(|reader| drain(reader, now, &mut out));
                        let head = pool.head();
                        let entries: Vec<_> = (1..=count).map(|n| entry(head + n, "t")).collect();
                        pool.append(&entries, now);
                        let start = Instant::now();
                        for reader in &mut readers {
                            out.clear();
                            let mut cx = Context::from_waker(Waker::noop());
                            let read = reader.poll_read(&mut cx, now, usize::MAX, &mut out);
                            assert_eq!(
                                (read, out.len()),
                                (Poll::Ready(Read::Entries), count as usize)
                            );
                        }
                        spent += start.elapsed();
                    }
                    spent
                });
            });
        }
        group.bench_function(format!("floor_clone_{count}"), |b| {
            let entries: Vec<_> = (1..=count).map(|n| entry(n, "t")).collect();
            let mut out = Vec::new();
            b.iter(|| {
                for _ in 0..READERS {
                    out.clear();
                    out.extend(entries.iter().cloned());
                    assert_eq!(black_box(&out).len(), count as usize);
                }
            });
        });
    }
    // Finding nothing and waiting for it: what every reader does once per batch.
    group.throughput(Throughput::Elements(1));
    group.bench_function("park_and_stay", |b| {
        let pool = pool();
        let mut reader = connect(&pool, 1, Arc::new(Selector::topics(["t"])), now);
        let mut out = Vec::new();
        b.iter(|| {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(
                reader
                    .poll_read(&mut cx, now, usize::MAX, &mut out)
                    .is_pending()
            );
        });
    });
    group.finish();
}

fn connections(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("connect_and_drop");
    for others in [0, 10_000_usize] {
        group.bench_function(format!("among_{others}"), |b| {
            let pool = pool();
            let all = connect_all(&pool, others, |n| format!("t{n}"), now);
            let selector = Arc::new(Selector::topics(["t"]));
            b.iter(|| {
                let made = connect(&pool, others + 1, Arc::clone(&selector), now);
                assert_eq!(made.key().shard(), 0);
                drop(made);
            });
            assert_eq!(pool.stats().active, all.len());
        });
    }
    group.bench_function("floor_allocate", |b| {
        b.iter(|| {
            let info = Arc::new(black_box(info(1)));
            assert_eq!(info.ip, IP.into());
            info
        });
    });
    // A topic that comes with its only reader, and goes with it.
    for others in [0, 10_000_usize] {
        group.bench_function(format!("own_topic_among_{others}"), |b| {
            let pool = pool();
            let all = connect_all(&pool, others, |n| format!("t{n}"), now);
            b.iter(|| {
                let own = Arc::new(Selector::topics([black_box("a-topic-of-its-own")]));
                let made = connect(&pool, others + 1, own, now);
                assert_eq!(made.key().shard(), 0);
                drop(made);
            });
            assert_eq!(pool.stats().active, all.len());
        });
        group.bench_function(format!("floor_own_topic_in_map_of_{others}"), |b| {
            let name = |n| Arc::<str>::from(format!("t{n}"));
            let mut topics: HashMap<Arc<str>, usize> = (0..others).map(|n| (name(n), n)).collect();
            b.iter(|| {
                let own: Arc<str> = Arc::from(black_box("a-topic-of-its-own"));
                topics.insert(Arc::clone(&own), others);
                let info = Arc::new((info(1), Arc::clone(&own)));
                assert_eq!(topics.remove(&own), Some(others));
                info
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, deliver, read, connections);
criterion_main!(benches);
