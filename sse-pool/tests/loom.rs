//! Every interleaving of a few operations, with everything shrunk to two or three.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p sse-pool --test loom --release`
#![cfg(loom)]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use loom::{future::block_on, thread};
use sse_pool::{
    CloseReason, Connection, ConnectionInfo, Entry, Limits, Pool, PoolConfig, Read, Selector,
    Start, TopicPattern, WindowConfig,
};

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The models run without time.
fn now() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn pool(shards: usize, max_entries: usize) -> Pool<u64> {
    Pool::new(PoolConfig {
        shards,
        window: WindowConfig {
            max_bytes: 1_000,
            max_entries,
        },
        limits: Limits {
            max_connections: 2,
            max_connections_per_ip: 2,
            max_topics_per_connection: 2,
        },
        ..PoolConfig::default()
    })
}

fn connect(pool: &Pool<u64>, name: &str, selector: Selector) -> Connection<u64> {
    let permit = pool.admit(IP).expect("there is room in the model");
    let info = ConnectionInfo::new(name.parse().expect("a fine name"), IP);
    pool.connect(permit, info, selector, Start::After(0), now())
        .expect("the name is free")
}

fn entry(offset: u64, topic: &str) -> Arc<Entry<u64>> {
    Arc::new(Entry::new(offset, offset, 1, vec![Arc::from(topic)]))
}

/// Waits for the next batch; a lag is made up for from the log, which is the numbers themselves.
async fn next(connection: &mut Connection<u64>) -> Result<Vec<u64>, CloseReason> {
    std::future::poll_fn(|cx: &mut Context<'_>| {
        let mut out = Vec::new();
        match connection.poll_read(cx, now(), 1_000, &mut out) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Read::Entries) => {
                Poll::Ready(Ok(out.iter().map(|entry| entry.offset).collect()))
            }
            Poll::Ready(Read::Lagged { after, floor }) => {
                connection.rejoin(floor);
                Poll::Ready(Ok((after + 1..=floor).collect()))
            }
            Poll::Ready(Read::Reset { .. } | Read::Moved { .. }) => {
                unreachable!("nobody resets it")
            }
            Poll::Ready(Read::Closed(reason)) => Poll::Ready(Err(reason)),
        }
    })
    .await
}

async fn until(connection: &mut Connection<u64>, last: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.extend(next(connection).await.expect("nobody closes it"));
    }
    seen
}

#[test]
fn no_wake_is_lost_between_reading_and_waiting() {
    loom::model(|| {
        let pool = pool(1, 3);
        let mut reader = connect(&pool, "r", Selector::topics(["t"]));
        let writer = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.append(&[entry(1, "t")], now());
                pool.append(&[entry(2, "t")], now());
            })
        };
        assert_eq!(block_on(until(&mut reader, 2)), [1, 2]);
        writer.join().expect("the writer has no reason to fail");
    });
}

#[test]
fn no_announcement_is_lost_when_the_last_entry_is_taken() {
    loom::model(|| {
        let pool = pool(1, 3);
        let shard = pool.shard(0).expect("there is one");
        let reader = connect(&pool, "r", Selector::topics(["t"]));
        let key = reader.into_key();
        let writer = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.append(&[entry(1, "t")], now());
                pool.append(&[entry(2, "t")], now());
            })
        };
        let seen = block_on(async {
            let (mut seen, mut out, mut keys) = (Vec::new(), Vec::new(), vec![key]);
            while seen.len() < 2 {
                // As a reactor does: whoever is not waiting is read again, all others are announced.
                while let Some(key) = keys.pop() {
                    let taken = shard.read_group(&[key], now(), usize::MAX, &mut out);
                    if !taken.is_waiting {
                        keys.push(key);
                    }
                    seen.extend(out.iter().map(|entry| entry.offset));
                }
                if seen.len() < 2 {
                    std::future::poll_fn(|cx| shard.poll_ready(cx, &mut keys)).await;
                }
            }
            seen
        });
        assert_eq!(seen, [1, 2]);
        writer.join().expect("the writer has no reason to fail");
    });
}

#[test]
fn a_window_of_one_loses_nothing_without_saying_so() {
    loom::model(|| {
        let pool = pool(1, 1);
        let mut reader = connect(&pool, "r", Selector::topics(["t"]));
        let writer = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.append(&[entry(1, "t")], now());
                pool.append(&[entry(2, "t"), entry(3, "t")], now());
            })
        };
        assert_eq!(block_on(until(&mut reader, 3)), [1, 2, 3]);
        writer.join().expect("the writer has no reason to fail");
    });
}

#[derive(Debug)]
struct Everything;

impl TopicPattern for Everything {
    fn matches(&self, _: &str) -> bool {
        true
    }

    fn as_str(&self) -> &str {
        "*"
    }
}

#[test]
fn a_pattern_that_joins_while_an_entry_is_appended_gets_it() {
    loom::model(|| {
        let pool = pool(1, 2);
        let writer = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.append(&[entry(1, "t")], now());
            })
        };
        let pattern: Arc<dyn TopicPattern> = Arc::new(Everything);
        let mut reader = connect(&pool, "r", Selector::patterns([pattern]));
        assert_eq!(block_on(until(&mut reader, 1)), [1]);
        writer.join().expect("the writer has no reason to fail");
    });
}

#[test]
fn a_close_is_heard_while_an_append_is_under_way() {
    loom::model(|| {
        let pool = pool(1, 2);
        let mut reader = connect(&pool, "r", Selector::topics(["t"]));
        let writer = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.append(&[entry(1, "t")], now());
            })
        };
        let closer = {
            let pool = pool.clone();
            thread::spawn(move || {
                assert!(pool.close(&"r".parse().expect("a fine name"), CloseReason::Server));
            })
        };
        let heard = block_on(async {
            loop {
                if let Err(reason) = next(&mut reader).await {
                    return reason;
                }
            }
        });
        assert_eq!(heard, CloseReason::Server);
        drop(reader);
        writer.join().expect("the writer has no reason to fail");
        closer.join().expect("the closer has no reason to fail");
        assert_eq!(pool.stats().active, 0);
    });
}

#[test]
fn a_reader_that_leaves_during_an_append_leaves_nothing() {
    loom::model(|| {
        let pool = pool(1, 1);
        let mut reader = connect(&pool, "r", Selector::topics(["t"]));
        let writer = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.append(&[entry(1, "t")], now());
                pool.append(&[entry(2, "u")], now());
            })
        };
        let mut out = Vec::new();
        let waker = std::task::Waker::noop();
        let _ = reader.poll_read(&mut Context::from_waker(waker), now(), 1, &mut out);
        drop(reader);
        writer.join().expect("the writer has no reason to fail");
        let stats = pool.stats();
        assert_eq!((stats.active, stats.topics), (0, 1));
    });
}

#[test]
fn a_selector_changed_while_an_entry_is_appended_is_the_old_one_or_the_new_one() {
    loom::model(|| {
        let pool = pool(1, 3);
        let mut reader = connect(&pool, "r", Selector::topics(["a"]));
        let changer = {
            let pool = pool.clone();
            thread::spawn(move || {
                let id = "r".parse().expect("a fine name");
                pool.update_selector(&id, |_| Selector::topics(["b"]))
                    .expect("it is open");
            })
        };
        pool.append(&[entry(1, "a")], now());
        changer.join().expect("the changer has no reason to fail");
        pool.append(&[entry(2, "b")], now());
        let seen = block_on(until(&mut reader, 2));
        assert_eq!(seen, [2], "nobody read before the change");
    });
}

#[test]
fn an_id_is_taken_once_over_two_shards() {
    loom::model(|| {
        let pool = pool(2, 1);
        let attempt = |pool: Pool<u64>, shard| {
            let permit = pool.admit(IP).expect("there is room in the model");
            let info = ConnectionInfo::new("r".parse().expect("a fine name"), IP);
            pool.connect_on(
                shard,
                permit,
                info,
                Selector::topics(["t"]),
                Start::Live,
                now(),
            )
        };
        let other = {
            let pool = pool.clone();
            thread::spawn(move || attempt(pool, 1).ok())
        };
        let one = attempt(pool.clone(), 0).ok();
        let two = other.join().expect("an attempt has no reason to fail");
        assert!(one.is_some() != two.is_some());
    });
}

#[test]
fn admission_never_exceeds_its_limit_and_gets_every_place_back() {
    loom::model(|| {
        let pool = pool(1, 1);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let permit = pool.admit(IP);
                    assert!(pool.stats().active <= 2);
                    drop(permit);
                })
            })
            .collect();
        let mine = pool.admit(IP);
        assert!(pool.stats().active <= 2);
        for other in others {
            other.join().expect("nobody has a reason to fail");
        }
        drop(mine);
        assert_eq!(pool.stats().active, 0);
        assert!(pool.stats().peak <= 2);
    });
}
