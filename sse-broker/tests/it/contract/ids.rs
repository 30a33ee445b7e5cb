//! A publisher's id names one content, and is stored once.

use sse_broker::{Appended, Audience, NewRecord, Priority, Retention, Snapshot};
use sse_protocol::{EventType, Retry};

use crate::support::*;

use super::{Backend, Reopened};

pub(crate) async fn a_publishers_id_is_stored_once<B: Backend>() {
    let mut backend = B::new(Retention::UNBOUNDED);
    for round in 0..2 {
        let broker = backend.broker();
        let listener = Listener::follow(&*broker);
        let mut retry = record_with_id("a", "x", "order-7");
        // A retry comes later.
        retry.published_at += 5_000 * round;
        let first = append_one(&*broker, retry.clone()).await;
        let again = append_one(&*broker, retry).await;
        let Appended::Duplicate(position) = again else {
            panic!("not a duplicate: {again:?}")
        };
        assert_eq!(position.offset, 1);
        match round {
            0 => assert_eq!(first, Appended::Stored(position)),
            _ => assert_eq!(first, again),
        }
        let other = append_one(&*broker, record_with_id("a", "y", "order-7")).await;
        assert_eq!(other, Appended::Conflict(position));
        assert_eq!(broker.bounds().head, 1);
        assert_eq!(listener.heard().len(), if round == 0 { 1 } else { 0 });
        assert_eq!(
            broker.locate(id("order-7")).await.expect("readable"),
            Some(1)
        );
        assert_eq!(broker.locate(id("order-8")).await.expect("readable"), None);
        drop(broker);
        if backend.reopen() == Reopened::LeftOpen {
            break;
        }
    }
}

pub(crate) async fn an_id_is_compared_by_its_whole_content<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let mut original = record_with_id("a", "x", "1");
    original.expires_at = Some(original.published_at + 60_000);
    original.audience = Audience::Owners(vec![topic("user/7")]);
    append_one(&*broker, original.clone()).await;

    let is_duplicate = |appended| matches!(appended, Appended::Duplicate(_));
    let mut later = original.clone();
    later.published_at += 9_000;
    later.expires_at = Some(later.published_at + 60_000);
    later.snapshot = Some(Snapshot::Remove);
    assert!(
        is_duplicate(append_one(&*broker, later).await),
        "the same, said later"
    );

    type Change = fn(&mut NewRecord);
    let changes: [Change; 9] = [
        |r| r.topics.push(topic("b")),
        |r| r.audience = Audience::Everyone,
        |r| r.audience = Audience::Granted,
        |r| r.label = Some(EventType::new("t").expect("a type")),
        |r| r.event.data = "y".into(),
        |r| r.event.event_type = Some(EventType::new("t").expect("a type")),
        |r| r.event.retry = Some(Retry::from_millis(1)),
        |r| r.priority = Priority::High,
        |r| r.expires_at = None,
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut changed = original.clone();
        change(&mut changed);
        let appended = append_one(&*broker, changed).await;
        assert!(
            matches!(appended, Appended::Conflict(_)),
            "change {n}: {appended:?}"
        );
    }
    assert_eq!(broker.bounds().head, 1);
}

pub(crate) async fn an_id_twice_in_one_append_is_stored_once<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let listener = Listener::follow(&*broker);
    let appended = append(
        &*broker,
        vec![
            record_with_id("a", "x", "1"),
            record_with_id("a", "x", "1"),
            record_with_id("a", "y", "1"),
            record_with_id("a", "z", "2"),
        ],
    )
    .await;
    let at = |offset| sse_broker::Position {
        epoch: broker.bounds().epoch,
        offset,
    };
    assert_eq!(
        appended,
        [
            Appended::Stored(at(1)),
            Appended::Duplicate(at(1)),
            Appended::Conflict(at(1)),
            Appended::Stored(at(2)),
        ]
    );
    assert_eq!(offsets(&listener.heard()), [1, 2]);
}

pub(crate) async fn the_empty_id_names_nothing<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    assert_eq!(
        stored(&append_one(&*broker, record_with_id("a", "x", "")).await),
        1
    );
    assert_eq!(
        stored(&append_one(&*broker, record_with_id("a", "y", "")).await),
        2
    );
    assert_eq!(broker.locate(id("")).await.expect("readable"), None);
    let page = broker.read(everything_after(0)).await.expect("a page");
    assert_eq!(
        page.records[0].public_id(),
        page.records[0].position.to_string()
    );
}

pub(crate) async fn a_duplicate_leaves_no_hole_between_its_neighbours<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    append_one(&*broker, record_with_id("a", "x", "1")).await;
    let appended = append(
        &*broker,
        vec![
            record("a", "p"),
            record_with_id("a", "x", "1"),
            record("a", "q"),
        ],
    )
    .await;
    assert_eq!((stored(&appended[0]), stored(&appended[2])), (2, 3));
}

pub(crate) async fn a_trimmed_id_may_be_used_again<B: Backend>() {
    let backend = B::new(Retention {
        max_records: Some(2),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    append_one(&*broker, record_with_id("a", "x", "1")).await;
    append(&*broker, vec![record("a", "p"), record("a", "q")]).await;
    assert_eq!(broker.locate(id("1")).await.expect("readable"), None);
    assert_eq!(
        stored(&append_one(&*broker, record_with_id("a", "other", "1")).await),
        4
    );
    assert_eq!(broker.locate(id("1")).await.expect("readable"), Some(4));
}
