//! Readers that stand in the same place are read in one visit, and nobody gets what is not theirs by that.

use std::sync::Arc;

use sse_pool::{
    Audience, ClientInfo, ConnectionInfo, Entry, Pool, Read, ReaderKey, Selector, Start, Visibility,
};

use crate::{shard_handle::Reactor, support::*};

/// How many were read, what they got, and whether they wait.
type Got = (usize, Option<Read>, Vec<u64>, bool);

fn read(reactor: &Reactor, keys: &[ReaderKey]) -> Got {
    read_up_to(reactor, keys, usize::MAX)
}

fn read_up_to(reactor: &Reactor, keys: &[ReaderKey], max_bytes: usize) -> Got {
    // Something stands in it already.
    let mut out = vec![entry(77, &["t"])];
    let taken = reactor
        .shard
        .read_group(keys, reactor.now, max_bytes, &mut out);
    let offsets = out.iter().map(|entry| entry.offset).collect();
    (taken.readers, taken.read, offsets, taken.is_waiting)
}

fn entries(count: usize, offsets: &[u64]) -> Got {
    (count, Some(Read::Entries), offsets.to_vec(), true)
}

fn topic() -> Selector {
    Selector::topics(["t"])
}

#[test]
fn readers_in_the_same_place_are_read_together_and_others_are_not() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let follows = |name, selector| {
        let key = reactor.connect(name, selector);
        assert_eq!(reactor.read(key).0, None);
        key
    };
    let [a, b] = ["a", "b"].map(|name| follows(name, topic()));
    let other = follows("other", Selector::topics(["t", "u"]));

    pool.append(&[entry(1, &["t"]), entry(2, &["t"])], reactor.now);
    assert_eq!(read(&reactor, &[a, b, other]), entries(2, &[1, 2]));
    assert_eq!(read(&reactor, &[other]), entries(1, &[1, 2]), "it merges");
    assert_eq!(reactor.ready().map(|keys| keys.len()), Some(3));
    assert_eq!(reactor.ready(), None, "all of them wait");
    assert_eq!(read(&reactor, &[a, b]), (1, None, vec![], true));
    assert_eq!(read(&reactor, &[]), (0, None, vec![], true));
    assert_eq!(pool.stats().delivered_entries, 6);

    pool.append(&[entry(3, &["t"])], reactor.now);
    assert!(pool.seek(&id("b"), &seek(0, 1)));
    assert_eq!(read(&reactor, &[a, b]), entries(1, &[3]), "b is elsewhere");
    let moved = Read::Moved {
        series: 0,
        after: 1,
    };
    assert_eq!(read(&reactor, &[b, a]), (1, Some(moved), vec![], false));
    assert_eq!(read(&reactor, &[b]), entries(1, &[2, 3]));

    pool.append(&[entry(4, &["t"]), entry(5, &["t"])], reactor.now);
    let (count, _, taken, waits) = read_up_to(&reactor, &[a, b], 10);
    assert_eq!((count, taken, waits), (1, vec![4], false), "there is more");
    assert_eq!(read(&reactor, &[a, b]), entries(1, &[5]));
    assert_eq!(read(&reactor, &[b, a]), entries(1, &[4, 5]));
}

#[test]
fn who_asks_for_labels_is_asked() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let [a, b] = ["a", "b"].map(|name| reactor.connect(name, topic()));
    let labelled = reactor.connect("labelled", topic().with_labels(["x"]));
    let mut named = Entry::clone(&entry(2, &["t"]));
    named.label = Some("y".into());
    pool.append(&[entry(1, &["t"]), Arc::new(named)], reactor.now);
    assert_eq!(read(&reactor, &[a, labelled]), entries(1, &[1, 2]));
    assert_eq!(read(&reactor, &[labelled, b]), entries(1, &[1]));
    assert_eq!(read(&reactor, &[b]), entries(1, &[1, 2]));
}

#[test]
fn what_is_for_some_is_not_given_to_others() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let client = ClientInfo {
        visibility: Visibility::owning(["me"]),
        ..ClientInfo::default()
    };
    let me = ConnectionInfo {
        client: Arc::new(client),
        ..info("me")
    };
    let me = reactor.connect_as(me, Selector::all());
    let [a, b] = ["a", "b"].map(|name| reactor.connect(name, Selector::all()));
    let mut private = Entry::clone(&entry(2, &["t"]));
    private.audience = Audience::Owners(names(&["me"]));
    pool.append(&[entry(1, &["t"]), Arc::new(private)], reactor.now);
    assert_eq!(read(&reactor, &[me, a]), entries(1, &[1, 2]));
    assert_eq!(read(&reactor, &[a, b]), entries(1, &[1]), "not looked into");
    assert_eq!(read(&reactor, &[b]), entries(1, &[1]));

    pool.append(&[entry(3, &["t"])], reactor.now);
    assert_eq!(read(&reactor, &[me, a, b]), entries(3, &[3]));
}

#[test]
fn who_has_lost_something_of_their_own_hears_of_it() {
    let pool = Pool::new(config(2));
    let reactor = Reactor::new(&pool, 0);
    let [a, b] = ["a", "b"].map(|name| reactor.connect(name, topic()));
    let mut own = Entry::clone(&entry(1, &["t"]));
    own.recipients = Some(Arc::from([id("b")]));
    pool.append(&[Arc::new(own)], reactor.now);
    pool.append(&[entry(2, &["u"]), entry(3, &["t"])], reactor.now);
    assert_eq!(read(&reactor, &[a, b]), entries(1, &[3]));
    assert!(matches!(read(&reactor, &[b]).1, Some(Read::Lagged { .. })));
}

#[test]
fn a_reader_with_a_waker_of_its_own_is_left_to_its_task() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let mut task = Client::connect(&pool, "task", topic(), Start::Live);
    task.waits();
    let key = task.connection.key();
    let a = reactor.connect("a", topic());
    assert_eq!(reactor.read(a).0, None);
    pool.append(&[entry(1, &["t"])], reactor.now);
    assert_eq!(read(&reactor, &[a, key]), entries(1, &[1]));
    assert_eq!(task.entries(), [1]);
}

#[test]
fn whose_selector_was_changed_is_told_apart() {
    let pool = Pool::new(config(100));
    let reactor = Reactor::new(&pool, 0);
    let [a, b, c] = ["a", "b", "c"].map(|name| reactor.connect(name, topic()));
    pool.update_selector(&id("b"), |_| topic()).unwrap();
    pool.append(&[entry(1, &["t"])], reactor.now);
    let changed = |keys: &[ReaderKey]| {
        let mut out = Vec::new();
        let taken = reactor
            .shard
            .read_group(keys, reactor.now, usize::MAX, &mut out);
        (taken.readers, taken.may_have_changed)
    };
    assert_eq!(changed(&[a, b]), (1, false));
    assert_eq!(changed(&[b, c]), (1, true));
    assert_eq!(changed(&[c]), (1, false));
}
