use std::{sync::Arc, task::Poll, time::Instant};

use sse_pool::{
    AppendOutcome, Audience, ClientInfo, CloseReason, ConnectError, Entry, Limits, Pool,
    PoolConfig, Read, ReaderState, Selector, Start, TopicFilter, TopicPattern, UpdateError,
    Visibility, WindowConfig, topic_bytes,
};

use crate::support::*;

fn append(pool: &Pool<u64>, entries: &[Arc<Entry<u64>>]) -> AppendOutcome {
    pool.append(entries, Instant::now())
}

#[test]
fn a_reader_takes_everything_that_is_ready_in_one_read() {
    let pool = Pool::new(config(100));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["a", "b"]), Start::Live);
    reader.waits();
    let all: Vec<_> = (1..=6)
        .map(|n| entry(n, &[if n % 2 == 0 { "a" } else { "b" }, "c"]))
        .collect();
    assert_eq!(
        append(&pool, &all),
        AppendOutcome {
            appended: 6,
            stale: 0,
            readers: 1
        }
    );
    assert_eq!(reader.wakes.count(), 1, "one wake however many entries");
    assert_eq!(reader.entries(), [1, 2, 3, 4, 5, 6]);
    reader.waits();
}

#[test]
fn a_publish_wakes_only_the_readers_of_its_topic() {
    let pool = Pool::new(PoolConfig {
        shards: 3,
        ..config(100)
    });
    let topic = |n: usize| format!("t{n}");
    let mut readers: Vec<Client> = (0..100)
        .map(|n| Client::connect(&pool, &topic(n), Selector::topics([topic(n)]), Start::Live))
        .collect();
    readers.iter_mut().for_each(Client::waits);
    assert_eq!(append(&pool, &[entry(1, &["t42"])]).readers, 1);
    let woken: Vec<usize> = (0..100).filter(|&n| readers[n].wakes.count() > 0).collect();
    assert_eq!(woken, [42]);
    assert_eq!(readers[42].entries(), [1]);
}

#[test]
fn a_waiting_reader_of_a_quiet_topic_is_not_lost_when_the_window_moves_on() {
    let pool = Pool::new(config(3));
    let mut quiet = Client::connect(&pool, "quiet", Selector::topics(["quiet"]), Start::Live);
    quiet.waits();
    for n in 1..=50 {
        append(&pool, &[entry(n, &["busy"])]);
    }
    assert_eq!(quiet.wakes.count(), 0);
    quiet.waits();
    append(&pool, &[entry(51, &["quiet"])]);
    assert_eq!((quiet.wakes.count(), quiet.entries()), (1, vec![51]));
    assert_eq!(quiet.connection.cursor(), 51);
}

#[test]
fn a_reader_that_is_behind_is_lost_only_when_its_own_topic_was_evicted() {
    let pool = Pool::new(config(3));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["mine"]), Start::Live);
    for n in 1..=50 {
        append(&pool, &[entry(n, &["busy"])]);
    }
    append(&pool, &[entry(51, &["mine"])]);
    // It has never read, so it is not waiting, and the window has wrapped many times.
    assert_eq!(reader.entries(), [51]);
    append(
        &pool,
        &[
            entry(52, &["mine"]),
            entry(53, &["busy"]),
            entry(54, &["busy"]),
        ],
    );
    append(&pool, &[entry(55, &["busy"])]);
    let lagged = Read::Lagged {
        after: 51,
        floor: 52,
    };
    assert_eq!(reader.read(), (Poll::Ready(lagged), vec![]));
    assert_eq!(
        reader.read(),
        (Poll::Ready(lagged), vec![]),
        "until it rejoins"
    );
    assert_eq!(pool.stats().lagged, 1, "and counted once");
    reader.connection.rejoin(52);
    reader.waits();
    append(&pool, &[entry(56, &["mine"])]);
    assert_eq!(reader.entries(), [56]);
}

#[test]
fn a_lagging_reader_does_not_delay_the_others() {
    let pool = Pool::new(config(4));
    let mut slow = Client::connect(&pool, "slow", Selector::topics(["t"]), Start::Live);
    let mut fast = Client::connect(&pool, "fast", Selector::topics(["t"]), Start::Live);
    for n in 1..=100 {
        append(&pool, &[entry(n, &["t"])]);
        assert_eq!(fast.entries(), [n]);
    }
    assert_eq!(
        slow.read().0,
        Poll::Ready(Read::Lagged {
            after: 0,
            floor: 96
        })
    );
    assert_eq!(pool.stats().window_entries, 4, "and costs no memory");
}

#[test]
fn a_replay_that_runs_ahead_of_the_window_is_not_delivered_twice() {
    let pool = Pool::new(config(100));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::After(7));
    let mut all = Client::connect(&pool, "all", Selector::all(), Start::After(7));
    let mut pattern = Client::connect(
        &pool,
        "p",
        Selector::patterns([prefix("t")]),
        Start::After(7),
    );
    for client in [&mut reader, &mut all, &mut pattern] {
        client.waits();
    }
    for n in 1..=7 {
        assert_eq!(append(&pool, &[entry(n, &["t"])]).readers, 0);
    }
    for client in [&mut reader, &mut all, &mut pattern] {
        client.waits();
        assert_eq!(client.connection.cursor(), 7);
    }
    assert_eq!(append(&pool, &[entry(8, &["t"])]).readers, 3);
    for client in [&mut reader, &mut all, &mut pattern] {
        assert_eq!(client.entries(), [8]);
    }
}

#[test]
fn a_read_stops_at_its_budget_but_always_makes_progress() {
    let pool = Pool::new(config(100));
    for selector in [
        Selector::topics(["t", "u"]),
        Selector::all(),
        Selector::patterns([prefix("t")]),
    ] {
        let after = pool.head();
        let mut reader = Client::connect(&pool, "r", selector, Start::Live);
        let all: Vec<_> = (after + 1..=after + 5)
            .map(|n| entry(n, &["t", "u"]))
            .collect();
        append(&pool, &all);
        let mut read = |bytes| {
            let (_, offsets) = reader.read_up_to(bytes);
            offsets
                .iter()
                .map(|offset| offset - after)
                .collect::<Vec<_>>()
        };
        assert_eq!(read(25), [1, 2]);
        assert_eq!(read(0), [3], "a budget below one entry still gives one");
        assert_eq!(read(20), [4, 5]);
    }
}

#[test]
fn starting_before_the_window_lags_and_starting_inside_it_does_not() {
    let pool = Pool::new(PoolConfig {
        start_offset: 100,
        ..config(2)
    });
    let mut early = Client::connect(&pool, "early", Selector::topics(["t"]), Start::After(99));
    assert_eq!(
        early.read().0,
        Poll::Ready(Read::Lagged {
            after: 99,
            floor: 100
        })
    );
    append(
        &pool,
        &[entry(110, &["t"]), entry(120, &["t"]), entry(130, &["t"])],
    );
    let mut inside = Client::connect(&pool, "inside", Selector::topics(["t"]), Start::After(110));
    assert_eq!(inside.entries(), [120, 130]);
    let mut between = Client::connect(&pool, "between", Selector::all(), Start::After(125));
    assert_eq!(between.entries(), [130]);
    let mut before = Client::connect(&pool, "before", Selector::topics(["t"]), Start::After(109));
    assert_eq!(
        before.read().0,
        Poll::Ready(Read::Lagged {
            after: 109,
            floor: 110
        })
    );
}

#[test]
fn an_entry_appended_again_is_ignored() {
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::all(), Start::Live);
    append(&pool, &[entry(5, &["t"])]);
    let twice = append(
        &pool,
        &[entry(4, &["t"]), entry(5, &["t"]), entry(6, &["t"])],
    );
    assert_eq!(
        (twice.appended, twice.stale, pool.stats().stale_entries),
        (1, 2, 2)
    );
    assert_eq!(reader.entries(), [5, 6]);
}

#[test]
fn a_private_entry_reaches_only_those_who_are_its_audience() {
    let pool = Pool::new(config(10));
    let with = |name: &str, own: &[&str], selector| {
        let info = sse_pool::ConnectionInfo {
            client: Arc::new(ClientInfo {
                visibility: Visibility::owning(own.iter().copied()),
                ..ClientInfo::default()
            }),
            ..info(name)
        };
        Client::connect_as(&pool, info, selector, Start::Live, Instant::now())
    };
    let mut owner = with(
        "owner",
        &["user/1", "session/9"],
        Selector::topics(["other"]),
    );
    let mut everything = with("everything", &["user/2"], Selector::all());
    let mut spy = with("spy", &["user/2"], Selector::topics(["user/1"]));
    let mut half = with("half", &["user/1"], Selector::all());
    let private = Entry {
        audience: Audience::Owners(names(&["user/1", "session/9"])),
        ..Entry::new(1, 1, 10, names(&["user/1"]))
    };
    for client in [&mut owner, &mut everything, &mut spy, &mut half] {
        client.waits();
    }
    assert_eq!(append(&pool, &[Arc::new(private)]).readers, 1);
    assert_eq!(owner.entries(), [1], "its own names are its topics");
    for client in [&mut everything, &mut spy, &mut half] {
        client.waits();
        assert_eq!(client.wakes.count(), 0);
    }
}

#[test]
fn an_addressed_entry_reaches_its_recipients_whatever_they_follow() {
    let pool = Pool::new(PoolConfig {
        shards: 2,
        ..config(2)
    });
    let mut one = Client::connect(&pool, "one", Selector::topics(["x"]), Start::Live);
    let mut two = Client::connect(&pool, "two", Selector::topics(["t"]), Start::Live);
    let mut all = Client::connect(&pool, "all", Selector::all(), Start::Live);
    one.waits();
    let to_one = |n| {
        Arc::new(Entry {
            recipients: Some([id("one")].into()),
            ..Entry::new(n, n, 1, names(&["t"]))
        })
    };
    assert_eq!(append(&pool, &[to_one(1)]).readers, 1);
    assert_eq!(one.entries(), [1]);
    two.waits();
    all.waits();
    append(&pool, &[to_one(2), entry(3, &["z"]), entry(4, &["z"])]);
    assert_eq!(
        one.read().0,
        Poll::Ready(Read::Lagged { after: 1, floor: 2 }),
        "an addressed entry that was evicted unread is a loss too"
    );
}

#[test]
fn labels_filter_and_unlabelled_entries_pass() {
    let pool = Pool::new(config(10));
    let selector = Selector::topics(["t"]).with_labels(["progress"]);
    let mut reader = Client::connect(&pool, "r", selector, Start::Live);
    reader.waits();
    let labelled = |n, label: &str| {
        Arc::new(Entry {
            label: Some(label.into()),
            ..Entry::new(n, n, 1, names(&["t"]))
        })
    };
    assert_eq!(append(&pool, &[labelled(1, "noise")]).readers, 0);
    append(
        &pool,
        &[
            labelled(2, "progress"),
            labelled(3, "noise"),
            entry(4, &["t"]),
        ],
    );
    assert_eq!(reader.entries(), [2, 4]);
}

#[test]
fn a_waiting_readers_new_selector_holds_from_here_on() {
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["a"]), Start::Live);
    append(&pool, &[entry(1, &["b"])]);
    reader.waits();
    pool.update_selector(&id("r"), |old| {
        assert_eq!(old.topic_count(), 1);
        Selector::topics(["a", "b"])
    })
    .unwrap();
    reader.waits();
    append(&pool, &[entry(2, &["b"]), entry(3, &["a"])]);
    assert_eq!(reader.entries(), [2, 3]);
    assert_eq!(
        pool.update_selector(&id("nobody"), Selector::clone)
            .unwrap_err(),
        UpdateError::NotFound
    );
}

#[test]
fn a_selector_that_is_too_wide_is_refused_and_the_old_one_stays() {
    let limits = Limits {
        max_topics_per_connection: 2,
        ..config(10).limits
    };
    let pool = Pool::new(PoolConfig {
        limits,
        ..config(10)
    });
    let wide = || Selector {
        topics: TopicFilter::Topics {
            exact: names(&["a", "b"]),
            patterns: vec![prefix("c")].into(),
        },
        labels: None,
        held: None,
    };
    let permit = pool.admit(LOCAL).unwrap();
    let refused = pool.connect(permit, info("r"), wide(), Start::Live, Instant::now());
    assert_eq!(
        refused.unwrap_err(),
        ConnectError::TooManyTopics { asked: 3, limit: 2 }
    );
    assert_eq!(pool.stats().active, 0, "the place came back");

    let reader = Client::connect(&pool, "r", Selector::topics(["a"]), Start::Live);
    let refused = pool.update_selector(&id("r"), |_| wide());
    assert_eq!(
        refused.unwrap_err(),
        UpdateError::TooManyTopics { asked: 3, limit: 2 }
    );
    assert_eq!(reader.connection.selector().topic_count(), 1);
    assert_eq!(pool.stats().patterns, 0);
}

#[test]
fn an_id_is_taken_once_over_all_shards_and_free_again_after_a_close() {
    let pool = Pool::new(PoolConfig {
        shards: 4,
        ..config(10)
    });
    let mut first = Client::connect(&pool, "r", Selector::all(), Start::Live);
    for shard in 0..4 {
        let permit = pool.admit(LOCAL).unwrap();
        let now = Instant::now();
        let again = pool.connect_on(shard, permit, info("r"), Selector::all(), Start::Live, now);
        assert_eq!(again.unwrap_err(), ConnectError::IdInUse);
    }
    assert_eq!(pool.stats().active, 1);
    first.waits();
    assert!(pool.close(&id("r"), CloseReason::Server));
    assert!(
        !pool.close(&id("r"), CloseReason::Idle),
        "it is closed already"
    );
    assert_eq!(first.wakes.count(), 1);
    assert_eq!(
        first.read().0,
        Poll::Ready(Read::Closed(CloseReason::Server))
    );
    assert!(pool.status(&id("r")).is_none());
    let second = Client::connect(&pool, "r", Selector::all(), Start::Live);
    assert_eq!(pool.stats().active, 2, "the first still holds its place");
    drop(first);
    assert_eq!(pool.stats().active, 1);
    assert_eq!(pool.status(&id("r")).unwrap().key, second.connection.key());
}

#[test]
fn a_permit_of_another_pool_is_refused() {
    let (ours, theirs) = (Pool::<u64>::new(config(1)), Pool::<u64>::new(config(1)));
    let permit = theirs.admit(LOCAL).unwrap();
    let refused = ours.connect(
        permit,
        info("r"),
        Selector::all(),
        Start::Live,
        Instant::now(),
    );
    assert_eq!(refused.unwrap_err(), ConnectError::ForeignPermit);
    let permit = ours.admit(LOCAL).unwrap();
    let now = Instant::now();
    let refused = ours.connect_on(1, permit, info("r"), Selector::all(), Start::Live, now);
    assert_eq!(refused.unwrap_err(), ConnectError::NoSuchShard(1));
    assert_eq!((ours.stats().active, theirs.stats().active), (0, 0));
}

#[test]
fn a_status_says_what_a_connection_is_doing() {
    let pool = Pool::new(config(2));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    append(&pool, &[entry(10, &["t"]), entry(20, &["t"])]);
    let status = pool.status(&id("r")).unwrap();
    assert_eq!(status.state, ReaderState::Reading);
    assert_eq!(
        (status.cursor, status.behind_offsets, status.behind_entries),
        (0, 20, 2)
    );
    reader.entries();
    reader.waits();
    let status = pool.status(&id("r")).unwrap();
    assert_eq!(status.state, ReaderState::Waiting);
    assert_eq!(
        (status.cursor, status.behind_offsets, status.behind_entries),
        (20, 0, 0)
    );
    assert_eq!((status.delivered_entries, status.delivered_bytes), (2, 20));
    append(
        &pool,
        &[entry(30, &["t"]), entry(40, &["t"]), entry(50, &["t"])],
    );
    assert!(matches!(
        reader.read().0,
        Poll::Ready(Read::Lagged {
            after: 20,
            floor: 30
        })
    ));
    assert_eq!(pool.status(&id("r")).unwrap().state, ReaderState::Lagging);
}

#[test]
fn statuses_come_in_pages_that_together_are_everyone_once() {
    let pool = Pool::new(PoolConfig {
        shards: 3,
        ..config(1)
    });
    let mut readers: Vec<Client> = (0..1_000)
        .map(|n| Client::connect(&pool, &format!("r{n}"), Selector::all(), Start::Live))
        .collect();
    readers.retain(|reader| !reader.connection.id().to_string().ends_with('7'));
    pool.close(&id("r8"), CloseReason::Server);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = pool.statuses(after, 7);
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 7);
        after = Some(last.key);
        seen.extend(page.into_iter().map(|status| status.info.id.to_string()));
    }
    assert_eq!(seen.len(), 899);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 899);
    let found = pool.find(|status| status.info.id.to_string().starts_with("r99"));
    assert_eq!(found.len(), 10, "r99 and r990 to r999, without r997");
}

#[test]
fn closing_in_slices_closes_everyone_once() {
    let pool = Pool::new(PoolConfig {
        shards: 2,
        ..config(1)
    });
    let mut readers: Vec<Client> = (0..25)
        .map(|n| Client::connect(&pool, &format!("r{n}"), Selector::all(), Start::Live))
        .collect();
    readers.iter_mut().for_each(Client::waits);
    pool.set_draining(true);
    assert!(pool.admit(LOCAL).is_err());
    let slices: Vec<usize> = (0..4)
        .map(|_| pool.close_some(CloseReason::Draining, 10))
        .collect();
    assert_eq!(slices, [10, 10, 5, 0]);
    for reader in &mut readers {
        assert_eq!(
            reader.read().0,
            Poll::Ready(Read::Closed(CloseReason::Draining))
        );
        assert_eq!(reader.wakes.count(), 1);
    }
    drop(readers);
    let stats = pool.stats();
    assert_eq!((stats.active, stats.peak), (0, 25));
    assert_eq!(stats.closed_for(CloseReason::Draining), 25);
    assert_eq!(
        stats.closed_for(CloseReason::Client),
        0,
        "a closed connection ends once"
    );
}

#[test]
fn the_window_holds_its_bytes_and_always_the_newest() {
    let each = entry(1, &["t"]).memory_bytes(1);
    let topic = topic_bytes("t", 1);
    let window = WindowConfig {
        max_bytes: 2 * each + topic + 5,
        max_entries: 100,
    };
    let pool = Pool::new(PoolConfig {
        window,
        ..config(1)
    });
    append(
        &pool,
        &[entry(1, &["t"]), entry(2, &["t"]), entry(3, &["t"])],
    );
    let stats = pool.stats();
    assert_eq!(
        (
            stats.window_entries,
            stats.window_bytes,
            stats.floor,
            stats.head
        ),
        (2, 2 * each + topic, 1, 3)
    );
    let mut large = Entry::new(4, 4, 1_000, names(&["u"]));
    large.payload_bytes = 3_000;
    large.shared_bytes = 2_000;
    let large_bytes = large.memory_bytes(1);
    assert_eq!(large_bytes, each - 10 + 3_000);
    append(&pool, &[Arc::new(large)]);
    let stats = pool.stats();
    assert_eq!(
        (stats.window_entries, stats.window_bytes, stats.floor),
        (1, large_bytes + topic, 3),
        "the name of a topic without entries counts no more"
    );
    let name = topic - (topic_bytes("t", 2) - topic);
    assert_eq!(stats.window_shared_bytes, 2_000 + name);
    pool.set_max_window_bytes(2 * (each + topic));
    append(
        &pool,
        &[entry(5, &["t"]), entry(6, &["t"]), entry(7, &["t"])],
    );
    assert_eq!(pool.stats().window_entries, 2);
}

#[test]
fn topics_and_patterns_are_forgotten_with_their_last_reader_and_entry() {
    let pool = Pool::new(config(1));
    let selector = || Selector {
        topics: TopicFilter::Topics {
            exact: names(&["a"]),
            patterns: vec![prefix("b")].into(),
        },
        labels: None,
        held: None,
    };
    let one = Client::connect(&pool, "one", selector(), Start::Live);
    let two = Client::connect(&pool, "two", selector(), Start::Live);
    assert_eq!((pool.stats().topics, pool.stats().patterns), (1, 1));
    append(&pool, &[entry(1, &["c"])]);
    drop(one);
    assert_eq!((pool.stats().topics, pool.stats().patterns), (2, 1));
    drop(two);
    assert_eq!((pool.stats().topics, pool.stats().patterns), (1, 0));
    append(&pool, &[entry(2, &[])]);
    assert_eq!(pool.stats().topics, 0);
}

/// Asks the pool while it is asked itself: with a lock held, this would hang or panic.
#[derive(Debug)]
struct Nosy(Pool<u64>);

impl TopicPattern for Nosy {
    fn matches(&self, topic: &str) -> bool {
        self.0.stats().head < 100 && topic == "t"
    }

    fn as_str(&self) -> &str {
        let _ = self.0.stats();
        "nosy"
    }
}

#[test]
fn patterns_are_asked_without_a_lock() {
    let pool = Pool::new(config(200));
    let pattern: Arc<dyn TopicPattern> = Arc::new(Nosy(pool.clone()));
    let mut reader = Client::connect(&pool, "r", Selector::patterns([pattern]), Start::Live);
    reader.waits();
    append(&pool, &[entry(1, &["t"]), entry(2, &["u"])]);
    assert_eq!(reader.entries(), [1]);
    drop(reader);
}

#[test]
fn wakers_are_woken_without_a_lock() {
    struct Curious(Pool<u64>, std::sync::atomic::AtomicU64);
    impl std::task::Wake for Curious {
        fn wake(self: Arc<Self>) {
            // It even publishes.
            let head = self.0.stats().head;
            self.0
                .append(&[entry(head + 1, &["other"])], Instant::now());
            self.1
                .store(self.0.head(), std::sync::atomic::Ordering::SeqCst);
        }
    }
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    let curious = Arc::new(Curious(pool.clone(), 0.into()));
    let waker = std::task::Waker::from(Arc::clone(&curious));
    let mut out = Vec::new();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(
        reader
            .connection
            .poll_read(&mut cx, reader.now, 1, &mut out)
            .is_pending()
    );
    append(&pool, &[entry(1, &["t"])]);
    assert_eq!(curious.1.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[test]
fn whoever_has_not_read_what_is_taken_out_is_told_and_others_go_on() {
    let pool = Pool::new(config(100));
    let mut behind = Client::connect(&pool, "behind", Selector::topics(["t"]), Start::Live);
    let mut fast = Client::connect(&pool, "fast", Selector::topics(["t"]), Start::Live);
    let mut quiet = Client::connect(&pool, "quiet", Selector::topics(["q"]), Start::Live);
    for n in 1..=6 {
        append(&pool, &[entry(n, &["t"])]);
    }
    assert_eq!(fast.entries(), [1, 2, 3, 4, 5, 6]);
    pool.evict_upto(4);
    pool.evict_upto(4);
    assert_eq!(pool.stats().window_entries, 2);
    fast.waits();
    quiet.waits();
    let lagged = Read::Lagged { after: 0, floor: 4 };
    assert_eq!(behind.read(), (Poll::Ready(lagged), vec![]));
    behind.connection.rejoin(4);
    assert_eq!(behind.entries(), [5, 6]);
    // All of it, and the window goes on.
    pool.evict_upto(u64::MAX);
    assert_eq!(pool.stats().window_entries, 0);
    append(&pool, &[entry(7, &["t"]), entry(8, &["q"])]);
    assert_eq!(
        (fast.entries(), behind.entries(), quiet.entries()),
        (vec![7], vec![7], vec![8])
    );
}
