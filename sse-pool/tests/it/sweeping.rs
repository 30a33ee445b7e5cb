use std::{
    task::Poll,
    time::{Duration, Instant},
};

use sse_pool::{CloseReason, Pool, Read, Selector, Start, SweepOutcome};

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_reader_that_does_not_fetch_its_entries_is_stalled() {
    let pool = Pool::new(config(10));
    let start = Instant::now();
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    reader.now = start;
    reader.waits();
    pool.append(&[entry(1, &["t"])], start + 100 * SECOND);
    let late = start + 104 * SECOND;
    assert!(
        pool.sweep(late).is_empty(),
        "the clock runs from when it was owed"
    );
    let swept = pool.sweep(late + SECOND);
    assert_eq!(
        swept,
        SweepOutcome {
            stalled: vec![id("r")],
            idle: vec![],
            most_behind_entries: 1,
            typically_behind_entries: 0,
        }
    );
    assert_eq!(
        reader.read().0,
        Poll::Ready(Read::Closed(CloseReason::Stalled))
    );
    drop(reader);
    assert_eq!((pool.stats().evicted(), pool.stats().active), (1, 0));
}

#[test]
fn a_reader_that_took_entries_and_never_came_back_is_stalled() {
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    pool.append(&[entry(1, &["t"])], reader.now);
    reader.entries();
    assert!(pool.sweep(reader.now + 4 * SECOND).is_empty());
    reader.connection.touch(reader.now + 4 * SECOND);
    assert!(
        pool.sweep(reader.now + 8 * SECOND).is_empty(),
        "something was written"
    );
    assert_eq!(pool.sweep(reader.now + 9 * SECOND).stalled.len(), 1);
}

#[test]
fn a_quiet_reader_is_idle_unless_heartbeats_are_written() {
    let pool = Pool::new(config(10));
    let mut quiet = Client::connect(&pool, "quiet", Selector::topics(["t"]), Start::Live);
    let mut beating = Client::connect(&pool, "beating", Selector::topics(["t"]), Start::Live);
    quiet.waits();
    beating.waits();
    let now = quiet.now;
    beating.connection.touch(now + 200 * SECOND);
    assert!(pool.sweep(now + 299 * SECOND).is_empty());
    assert_eq!(pool.sweep(now + 301 * SECOND).idle, [id("quiet")]);
    assert_eq!(quiet.wakes.count(), 1);
    assert_eq!(quiet.read().0, Poll::Ready(Read::Closed(CloseReason::Idle)));
    beating.waits();
}

#[test]
fn entries_for_others_do_not_make_a_reader_stalled() {
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    pool.append(&[entry(1, &["other"])], reader.now);
    assert!(
        pool.sweep(reader.now + 100 * SECOND).is_empty(),
        "it never read, but owes nothing"
    );
    reader.waits();
}

#[test]
fn a_sweep_says_how_far_the_slowest_reader_is_behind() {
    let pool = Pool::new(sse_pool::PoolConfig {
        shards: 2,
        ..config(4)
    });
    assert_eq!(pool.sweep(Instant::now()), SweepOutcome::default());
    let mut quick = Client::connect(&pool, "quick", Selector::topics(["t"]), Start::Live);
    let mut slow = Client::connect(&pool, "slow", Selector::all(), Start::Live);
    let mut asleep = Client::connect(&pool, "asleep", Selector::topics(["other"]), Start::Live);
    asleep.waits();
    let now = quick.now;
    for offset in 1..=3 {
        pool.append(&[entry(offset, &["t"])], now);
        quick.entries();
        quick.waits();
        let seen = pool.sweep(now).most_behind_entries;
        assert_eq!(seen, usize::try_from(offset).unwrap());
    }
    assert_eq!(
        pool.sweep(now).typically_behind_entries,
        0,
        "one slow reader of three is not typical"
    );
    slow.entries();
    assert_eq!(
        pool.sweep(now).most_behind_entries,
        0,
        "one that waits is not behind, however old its cursor"
    );
    let more: Vec<_> = (4..=9).map(|offset| entry(offset, &["t"])).collect();
    pool.append(&more, now);
    assert_eq!(
        pool.sweep(now).most_behind_entries,
        pool.stats().window_entries,
        "no more than the window: the rest is lost"
    );
    let last = pool.sweep(now + 400 * SECOND);
    assert_eq!(
        (last.len(), last.most_behind_entries),
        (3, 4),
        "those it closes are seen too"
    );
    assert_eq!(pool.sweep(now + 400 * SECOND), SweepOutcome::default());
}

#[test]
fn a_sweep_reaches_everyone() {
    let pool = Pool::new(sse_pool::PoolConfig {
        shards: 3,
        ..config(10)
    });
    let now = Instant::now();
    let readers: Vec<Client> = (0..2_000)
        .map(|n| {
            Client::connect_as(
                &pool,
                info(&format!("r{n}")),
                Selector::all(),
                Start::Live,
                now,
            )
        })
        .collect();
    assert_eq!(pool.sweep(now + 300 * SECOND).len(), 2_000);
    assert_eq!(pool.stats().closed_for(CloseReason::Idle), 2_000);
    drop(readers);
}

#[test]
fn time_that_goes_backwards_closes_nobody() {
    let pool = Pool::new(config(10));
    let reader = Client::connect(&pool, "r", Selector::all(), Start::Live);
    reader.connection.touch(reader.now + 1_000 * SECOND);
    reader.connection.touch(reader.now);
    assert!(pool.sweep(reader.now).is_empty());
    assert!(pool.sweep(reader.now + 1_100 * SECOND).is_empty());
}
