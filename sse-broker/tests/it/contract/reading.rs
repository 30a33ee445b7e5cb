//! Pages: everything about a record, in order, within bounds, of the topics asked for.

use bytes::Bytes;
use sse_broker::{NewRecord, Priority, ReadRequest, Retention, Scope, Snapshot};
use sse_protocol::{Event, EventType, Retry};

use crate::support::*;

use super::Backend;

pub(crate) async fn everything_about_a_record_comes_back<B: Backend>() {
    let mut backend = B::new(Retention::UNBOUNDED);
    let full = NewRecord {
        topics: vec![topic("job/42"), topic("project/π"), topic("job/42")],
        audience: vec![topic("user/ä"), topic("session/1")],
        label: Some(EventType::new("summary\u{0}label").expect("a type")),
        event: Event::new("zwei\r\nZeilen \u{0} \u{1F980}")
            .with_id(id("event-12345"))
            .with_type(EventType::new("summary_progress").expect("a type"))
            .with_retry(Retry::from_millis(u64::MAX)),
        priority: Priority::High,
        published_at: u64::MAX,
        expires_at: Some(0),
        snapshot: Some(Snapshot::Put(Bytes::from_static(b"\x00state"))),
    };
    let plain = NewRecord {
        priority: Priority::Low,
        ..record("a", "")
    };
    {
        let broker = backend.broker();
        let listener = Listener::follow(&*broker);
        append(&*broker, vec![full.clone(), plain.clone()]).await;
        let heard: Vec<_> = listener.heard().iter().map(|r| r.content.clone()).collect();
        assert_eq!(
            heard,
            [full.clone(), plain.clone()],
            "the tail hears of the snapshot too"
        );
    }
    backend.reopen();
    let broker = backend.broker();
    let page = broker.read(everything_after(0)).await.expect("a page");
    let read: Vec<_> = page.records.iter().map(|r| r.content.clone()).collect();
    assert_eq!(
        read,
        [
            NewRecord {
                snapshot: None,
                ..full
            },
            plain
        ]
    );
    assert!(page.records[0].is_expired(1));
    let snapshots = broker.snapshots("job/").await.expect("readable");
    assert_eq!(
        snapshots,
        [(topic("job/42"), Bytes::from_static(b"\x00state"))]
    );
}

pub(crate) async fn a_page_ends_at_its_bounds_and_says_how_far_it_reaches<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    append(
        &*broker,
        (0..10).map(|_| record("a", "0123456789")).collect(),
    )
    .await;
    append(
        &*broker,
        (0..10).map(|_| record("b", "0123456789")).collect(),
    )
    .await;
    let read = |after, scope, max_records, max_bytes| {
        let page = broker.read(ReadRequest {
            after,
            scope,
            max_records,
            max_bytes,
        });
        async move {
            let page = page.await.expect("a page");
            (offsets(&page.records), page.upto)
        }
    };
    assert_eq!(read(0, Scope::All, 3, 1_000).await, (vec![1, 2, 3], 3));
    assert_eq!(read(3, Scope::All, 100, 25).await, (vec![4, 5], 5));
    assert_eq!(
        read(17, Scope::All, 100, 1_000).await,
        (vec![18, 19, 20], 20)
    );
    assert_eq!(read(20, Scope::All, 100, 1_000).await, (vec![], 20));
    // A page that is not full reaches to the head, whatever its scope.
    assert_eq!(read(8, topics(&["a"]), 100, 1_000).await, (vec![9, 10], 20));
    assert_eq!(read(8, topics(&["a"]), 1, 1_000).await, (vec![9], 9));
    assert_eq!(read(3, topics(&["nobody's"]), 1, 1_000).await, (vec![], 20));
    assert_eq!(read(3, topics(&[]), 1, 1_000).await, (vec![], 20));
    assert_eq!(
        offsets(&read_all(&*broker, 0, Scope::All, 3).await),
        (1..=20).collect::<Vec<_>>()
    );
    assert_eq!(read_all(&*broker, 0, topics(&["b"]), 3).await.len(), 10);
}

pub(crate) async fn a_page_has_one_record_at_least<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    // The second is empty, and yet there is no room for it beside one that is too large alone.
    append(&*broker, vec![record("a", "large"), record("a", "")]).await;
    for scope in [Scope::All, topics(&["a"])] {
        let request = ReadRequest {
            scope: scope.clone(),
            max_bytes: 1,
            ..everything_after(0)
        };
        let page = broker.read(request).await.expect("a page");
        assert_eq!((offsets(&page.records), page.upto), (vec![1], 1));
        let request = ReadRequest {
            after: 0,
            scope,
            max_records: 0,
            max_bytes: 0,
        };
        let page = broker.read(request).await.expect("a page");
        assert_eq!((offsets(&page.records), page.upto), (vec![1], 1));
    }
}

pub(crate) async fn a_reader_of_several_topics_gets_each_record_once_in_order<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    for n in 0..30u64 {
        let mut r = record(["a", "b", "c"][n as usize % 3], "x");
        if n % 2 == 0 {
            r.topics.push(topic("even"));
        }
        append_one(&*broker, r).await;
    }
    for max_records in [1, 2, 7, 100] {
        let read = read_all(&*broker, 0, topics(&["a", "even", "a"]), max_records).await;
        let expected: Vec<_> = (0..30)
            .filter(|n| n % 3 == 0 || n % 2 == 0)
            .map(|n| n + 1)
            .collect();
        assert_eq!(offsets(&read), expected);
    }
}

pub(crate) async fn a_topic_is_not_the_beginning_of_another<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let long = "l".repeat(sse_broker::Topic::MAX_BYTES);
    for name in ["job/4", "job/42", "job/4/2", "job", "job/4\u{e9}", &long] {
        append_one(&*broker, record(name, name)).await;
    }
    for name in ["job/4", "job/42", "job/4/2", "job", "job/4\u{e9}", &long] {
        let read = read_all(&*broker, 0, topics(&[name]), 10).await;
        assert_eq!(read.len(), 1, "{name}");
        assert_eq!(&*read[0].content.event.data, name);
    }
}
