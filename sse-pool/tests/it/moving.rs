use std::{sync::Arc, task::Poll, time::Instant};

use sse_pool::{Note, Pool, Read, Seek, Selector, Start};

use crate::support::*;

#[test]
fn a_connection_can_be_sent_back_and_is_woken_for_it() {
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    pool.append(&[entry(1, &["t"]), entry(2, &["t"])], Instant::now());
    assert_eq!(reader.entries(), [1, 2]);
    reader.waits();
    assert!(pool.seek(&id("r"), &seek(0, 1)));
    assert_eq!(reader.wakes.count(), 1);
    assert_eq!(reader.read(), (moved(0, 1), vec![]));
    assert_eq!(reader.entries(), [2]);
    assert!(!pool.seek(&id("nobody"), &seek(0, 1)));
}

#[test]
fn who_was_moved_hears_of_it_before_it_reads_on_and_its_own_place_is_void() {
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    pool.append(
        &[entry(1, &["t"]), entry(2, &["u"]), entry(3, &["u"])],
        Instant::now(),
    );
    assert_eq!(reader.entries(), [1]);
    let note: Note = Arc::new("told");
    let to = Seek {
        note: Some(note),
        ..seek(0, 1)
    };
    let new = pool.update_selector_and_seek(&id("r"), &to, |_| Selector::topics(["u"]));
    assert_eq!(new.unwrap().topic_count(), 1);
    let key = reader.connection.key();
    assert!(pool.is_moved(key));
    reader.connection.rejoin(3);
    assert_eq!(reader.connection.cursor(), 1);
    assert_eq!(reader.read(), (moved(0, 1), vec![]));
    let told = pool.take_note(key).unwrap().downcast::<&str>().unwrap();
    assert_eq!((*told, pool.take_note(key).is_none()), ("told", true));
    assert!(!pool.is_moved(key));
    assert_eq!(reader.entries(), [2, 3]);
}

#[test]
fn of_several_moves_the_last_one_counts_and_a_reset_takes_them_all_back() {
    let pool = Pool::new(config(10));
    let mut reader = Client::connect(&pool, "r", Selector::topics(["t"]), Start::Live);
    pool.append(&[entry(1, &["t"]), entry(2, &["t"])], Instant::now());
    let note: Note = Arc::new(());
    let weak = Arc::downgrade(&note);
    let first = Seek {
        note: Some(note),
        ..seek(0, 0)
    };
    assert!(pool.seek(&id("r"), &first));
    drop(first);
    assert!(weak.upgrade().is_some());
    assert!(pool.seek(&id("r"), &seek(0, 1)));
    assert!(weak.upgrade().is_none(), "the note of the first is gone");
    assert_eq!(reader.read(), (moved(0, 1), vec![]));
    assert_eq!(reader.entries(), [2]);
    assert!(pool.seek(&id("r"), &seek(0, 1)));
    pool.reset(1, 7, Instant::now());
    let news = Read::Reset {
        from_series: Some(0),
        before: 1,
        series: 1,
        after: 7,
    };
    assert_eq!(reader.read(), (Poll::Ready(news), vec![]));
    reader.waits();
}
