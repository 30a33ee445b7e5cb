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
    Connection, ConnectionId, ConnectionInfo, Entry, Limits, Pool, PoolConfig, ReaderKey, Selector,
    Start, WindowConfig,
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
