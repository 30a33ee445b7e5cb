//! The log under the pool becomes another one, and every reader hears of it once.

use std::{sync::Arc, task::Poll, time::Instant};

use proptest::prelude::*;
use sse_pool::{Entry, Pool, PoolConfig, Read, Selector, Start, TopicFilter};

use crate::support::*;

/// An entry whose payload says of which series it is.
fn entry_of(series: u64, offset: u64, topic: &str) -> Arc<Entry<u64>> {
    Arc::new(Entry::new(offset, series, 10, names(&[topic])))
}

#[test]
fn a_waiting_reader_is_woken_by_a_reset_and_hears_of_it_once() {
    let pool = Pool::new(config(100));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["a"]), Start::Live);
    let mut other = Client::connect(&pool, "o", Selector::topics(["b"]), Start::Live);
    pool.append(&[entry_of(0, 7, "a")], Instant::now());
    assert_eq!(reader.entries(), [7]);
    reader.waits();
    other.waits();
    pool.reset(5, 3, Instant::now());
    assert_eq!((reader.wakes.count(), other.wakes.count()), (1, 1));
    assert_eq!(reader.connection.series(), None);
    let news = Read::Reset {
        from_series: Some(0),
        before: 7,
        series: 5,
        after: 3,
    };
    assert_eq!(reader.read(), (Poll::Ready(news), vec![]));
    assert_eq!(other.read(), (Poll::Ready(news), vec![]));
    assert_eq!(reader.connection.series(), Some(5));
    reader.waits();
    assert_eq!((pool.head(), reader.connection.cursor()), (3, 3));
    // Offsets of the new series may be smaller than those that were read.
    pool.append(&[entry_of(5, 4, "a")], Instant::now());
    assert_eq!(reader.entries(), [4]);
    reader.waits();
}

#[test]
fn who_places_a_reader_by_an_offset_of_the_log_before_has_no_effect() {
    let pool = Pool::new(config(100));
    let mut reader = Client::connect(&pool, "r", Selector::all(), Start::After(0));
    pool.append(&[entry_of(0, 1, "a"), entry_of(0, 2, "a")], Instant::now());
    pool.reset(1, 0, Instant::now());
    reader.connection.rejoin(2);
    assert!(!pool.seek(&id("r"), &seek(0, 1)));
    pool.append(&[entry_of(1, 1, "a")], Instant::now());
    let (read, _) = reader.read();
    assert!(matches!(
        read,
        Poll::Ready(Read::Reset {
            before: 0,
            after: 0,
            ..
        })
    ));
    assert_eq!(reader.entries(), [1]);
    assert!(!pool.seek(&id("r"), &seek(0, 0)));
    assert!(pool.seek(&id("r"), &seek(1, 0)));
    assert_eq!(reader.read().0, moved(1, 0));
    assert_eq!(reader.entries(), [1]);
}

#[test]
fn who_is_placed_in_the_new_log_before_it_has_heard_of_it_hears_of_its_place() {
    let pool = Pool::new(config(100));
    let mut reader = Client::connect(&pool, "r", Selector::all(), Start::After(0));
    pool.reset(1, 0, Instant::now());
    pool.append(&[entry_of(1, 1, "a"), entry_of(1, 2, "a")], Instant::now());
    assert!(pool.seek(&id("r"), &seek(1, 1)));
    assert_eq!(reader.read(), (moved(1, 1), vec![]));
    assert_eq!(reader.connection.series(), Some(1));
    assert_eq!(reader.entries(), [2]);
    reader.waits();
}

#[test]
fn a_reader_that_slept_through_several_resets_hears_of_them_as_one() {
    let pool = Pool::new(config(100));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["a"]), Start::Live);
    pool.reset(1, 10, Instant::now());
    pool.reset(2, 20, Instant::now());
    let news = Read::Reset {
        from_series: None,
        before: 0,
        series: 2,
        after: 20,
    };
    assert_eq!(reader.read().0, Poll::Ready(news));
    reader.waits();
}

#[derive(Clone, Debug)]
enum Op {
    Append(u8),
    Read(u8, usize),
    Rejoin(u8, u64),
    Reset(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3u8).prop_map(Op::Append),
        6 => (0..6u8, 1..40usize).prop_map(|(reader, bytes)| Op::Read(reader, bytes)),
        2 => (0..6u8, 0..30u64).prop_map(|(reader, after)| Op::Rejoin(reader, after)),
        1 => (0..30u64).prop_map(Op::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Readers of one topic, of two, of all and of a pattern, on two shards, with a window that is often too small.
    #[test]
    fn no_reader_gets_anything_of_the_log_before_once_it_was_reset_and_none_hears_twice(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let pool = Pool::new(PoolConfig { shards: 2, ..config(4) });
        let patterns = || TopicFilter::Topics { exact: [].into(), patterns: vec![prefix("t")].into() };
        let selectors = [
            Selector::topics(["t0"]),
            Selector::topics(["t1", "t2"]),
            Selector::all(),
            Selector { topics: patterns(), ..Selector::all() },
            Selector::topics(["t2"]),
            Selector::all(),
        ];
        let mut readers: Vec<_> = selectors
            .into_iter()
            .enumerate()
            .map(|(n, selector)| (Client::connect(&pool, &format!("r{n}"), selector, Start::Live), 0u64))
            .collect();
        let (mut series, mut head) = (0, 0);
        for op in ops {
            match op {
                Op::Append(topic) => {
                    head += 1;
                    pool.append(&[entry_of(series, head, &format!("t{topic}"))], Instant::now());
                }
                Op::Reset(offset) => {
                    series += 1;
                    head = offset;
                    pool.reset(series, head, Instant::now());
                }
                Op::Rejoin(n, after) => readers[usize::from(n)].0.connection.rejoin(after),
                Op::Read(n, max_bytes) => {
                    let (client, known) = &mut readers[usize::from(n)];
                    let mut out = Vec::new();
                    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                    let read = client.connection.poll_read(&mut cx, client.now, max_bytes, &mut out);
                    if *known == series {
                        prop_assert!(!matches!(read, Poll::Ready(Read::Reset { .. })), "heard twice");
                        prop_assert_eq!(client.connection.series(), Some(series));
                    } else {
                        let is_told = matches!(
                            read,
                            Poll::Ready(Read::Reset { from_series, series: now, .. })
                                if now == series && from_series.is_none_or(|from| from == *known)
                        );
                        prop_assert!(is_told && out.is_empty(), "{read:?} instead of the news");
                        *known = series;
                    }
                    prop_assert!(out.iter().all(|entry| entry.payload == series), "of the log before");
                }
            }
        }
    }
}
