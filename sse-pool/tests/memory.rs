//! What a connection holds, counted by the allocator.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use allocation_counter::measure;
use sse_pool::{
    Audience, Connection, ConnectionId, ConnectionInfo, Entry, Limits, Pool, PoolConfig, ReaderKey,
    Selector, Start, WindowConfig,
};

const CONNECTIONS: usize = 10_000;

fn pool() -> Pool<u64> {
    Pool::new(PoolConfig {
        window: WindowConfig {
            max_bytes: 1_000_000,
            max_entries: 16,
        },
        limits: Limits {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_topics_per_connection: 8,
        },
        ..PoolConfig::default()
    })
}

fn address(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(
        u32::try_from(n).expect("a small number"),
    ))
}

fn info(n: usize) -> ConnectionInfo {
    ConnectionInfo::new(
        ConnectionId::from_uuid((n as u128).to_be_bytes()),
        address(n),
    )
}

/// Bytes per connection that stay after connecting so many and letting them wait.
fn bytes_per_connection(what: &str, selector: impl Fn(usize) -> Arc<Selector>) -> u64 {
    let pool = pool();
    let now = Instant::now();
    let mut connections: Vec<Connection<u64>> = Vec::with_capacity(CONNECTIONS);
    let mut out = Vec::new();
    let used = measure(|| {
        for n in 0..CONNECTIONS {
            let permit = pool.admit(address(n)).unwrap();
            let mut made = pool
                .connect(permit, info(n), selector(n), Start::Live, now)
                .unwrap();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(made.poll_read(&mut cx, now, 1, &mut out).is_pending());
            connections.push(made);
        }
    });
    let each = used.bytes_current.unsigned_abs() / CONNECTIONS as u64;
    println!(
        "{what}: {each} bytes per connection, {} with its handle",
        each + size_of::<Connection<u64>>() as u64
    );
    each
}

#[test]
fn a_connection_holds_about_a_quarter_of_a_kibibyte() {
    let shared = Arc::new(Selector::topics(["news"]));
    let one_topic = bytes_per_connection("one topic, shared selector", |_| Arc::clone(&shared));
    let all = Arc::new(Selector::all());
    let everything = bytes_per_connection("all topics, shared selector", |_| Arc::clone(&all));
    let own = bytes_per_connection("a topic and a selector of its own", |n| {
        Arc::new(Selector::topics([format!("session/{n}")]))
    });
    assert!(one_topic <= 260, "{one_topic}");
    assert!(everything <= 260, "{everything}");
    assert!(own <= one_topic + 224, "{own}");
}

#[test]
fn many_topics_leave_memory_flat_when_their_readers_are_gone() {
    let topics = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let pool = pool();
    let shard = pool.shard(0).unwrap();
    let now = Instant::now();
    let mut most = 0;
    let used = measure(|| {
        let during = measure(|| {
            let mut keys: Vec<ReaderKey> = Vec::new();
            for n in 0..topics {
                let permit = pool.admit(address(n)).unwrap();
                let selector = Selector::topics([format!("session/{n}")]);
                keys.push(
                    shard
                        .connect(permit, info(n), selector, Start::Live, now)
                        .unwrap(),
                );
            }
            // An entry each, so that the window's side of the index is used too.
            for n in 0..topics {
                let topic: Arc<[Arc<str>]> = [format!("session/{n}").into()].into();
                pool.append(&[Arc::new(Entry::new(n as u64 + 1, 0, 1, topic))], now);
            }
            for key in keys {
                assert!(shard.leave(key));
            }
        });
        most = during.bytes_max;
    });
    let stats = pool.stats();
    assert_eq!((stats.active, stats.topics), (0, 16), "the window's own");
    let left = used.bytes_current;
    println!("{topics} topics: {most} bytes at the most, {left} left");
    // The window's sixteen topics stand in the last of the places, so the list of pages of 32 places stays
    // as long as it was: eight bytes each, and four in the list of those with room.
    let pages = topics.div_ceil(32).next_power_of_two() as i64;
    assert!(left < 16 * 1024 + 12 * pages, "{left} bytes left");
}

/// What the window says that it takes is what it takes, within a quarter, whatever the entries are made of.
#[test]
fn the_window_takes_what_it_says() {
    let long = |n: usize| Arc::from(format!("{n:0>1024}"));
    let shared: Arc<[Arc<str>]> = (0..64).map(long).collect();
    let one: Arc<[Arc<str>]> = [Arc::from("news")].into();
    let same = |names: &Arc<[Arc<str>]>| names.iter().cloned().collect::<Vec<_>>();
    for shards in [1, 2, 4] {
        window_takes("one topic", shards, 5_000, |n| {
            Entry::new(n, 0, 0, same(&one))
        });
        window_takes("a topic each", shards, 5_000, |n| {
            Entry::new(n, 0, 0, vec![format!("session/{n}").into()])
        });
        window_takes("64 long topics that all have", shards, 1_000, |n| {
            Entry::new(n, 0, 0, same(&shared))
        });
        window_takes("64 long topics each", shards, 500, |n| {
            let names = (0..64).map(|topic| long(n as usize * 64 + topic));
            Entry::new(n, 0, 0, names.collect::<Vec<_>>())
        });
        window_takes("owners", shards, 5_000, |n| Entry {
            audience: Audience::Owners(vec![Arc::clone(&one[0]); 4].into()),
            ..Entry::new(n, 0, 0, same(&one))
        });
        window_takes("for single connections", shards, 5_000, |n| {
            let id = ConnectionId::from_uuid(u128::from(n).to_be_bytes());
            Entry {
                recipients: Some(vec![id].into()),
                ..Entry::new(n, 0, 0, vec![format!("connection/{n}").into()])
            }
        });
    }
}

fn window_takes(what: &str, shards: usize, entries: u64, entry: impl Fn(u64) -> Entry<u64>) {
    let pool = Pool::new(PoolConfig {
        shards,
        window: WindowConfig {
            max_bytes: usize::MAX,
            max_entries: usize::MAX,
        },
        ..PoolConfig::default()
    });
    let now = Instant::now();
    let used = measure(|| {
        for n in 1..=entries {
            pool.append(&[Arc::new(entry(n))], now);
        }
    });
    // An allocator adds a word to each, and rounds it up to a pair of them.
    let taken = used.bytes_current + 16 * used.count_current;
    let (takes, says) = (taken as f64, pool.stats().window_bytes as f64);
    println!(
        "{what}, {shards} shards: {:.0} bytes each, {:.0} said",
        takes / entries as f64,
        says / entries as f64
    );
    assert!(
        (0.75..=1.25).contains(&(says / takes)),
        "{what}, {shards} shards: {says} said, {takes} taken"
    );
}
