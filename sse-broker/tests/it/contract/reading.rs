//! Pages: everything about a record, in order, within bounds, of the topics asked for.

use bytes::Bytes;
use sse_broker::{
    Audience, AudienceRef, DataKind, NewRecord, Priority, ReadRequest, RecordRef, Retention, Scope,
    Snapshot,
};
use sse_protocol::{Event, EventType, Retry};

use crate::support::*;

use super::Backend;

pub(crate) async fn everything_about_a_record_comes_back<B: Backend>() {
    let mut backend = B::new(Retention::UNBOUNDED);
    let full = NewRecord {
        data_kind: DataKind::Json,
        topics: vec![topic("job/42"), topic("project/π"), topic("job/42")],
        audience: Audience::Owners(vec![topic("user/ä"), topic("session/1")]),
        label: Some(EventType::new("summary\u{0}label").expect("a type")),
        event: Event::new("zwei\r\nZeilen \u{0} \u{1F980}")
            .with_id(id("event-12345"))
            .with_type(EventType::new("summary_progress").expect("a type"))
            .with_retry(Retry::from_millis(u64::MAX)),
        priority: Priority::High,
        published_at: u64::MAX,
        ages_from: None,
        expires_at: Some(0),
        snapshot: Some(Snapshot::Put(Bytes::from_static(b"\x00state"))),
        expects: None,
    };
    let plain = NewRecord {
        priority: Priority::Low,
        audience: Audience::Granted,
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

/// All that a record says, as one line.
fn line(record: &RecordRef<'_>, out: &mut Vec<u8>) {
    let topics: Vec<_> = record.topics().collect();
    let audience: Vec<_> = match record.audience {
        AudienceRef::Everyone => Vec::new(),
        AudienceRef::Granted => vec!["granted"],
        AudienceRef::Owners(names) => names.collect(),
    };
    let all = (
        (record.position, record.id, record.event_type, record.data),
        (record.retry, record.label, record.priority),
        (record.published_at, record.expires_at, topics, audience),
    );
    out.extend_from_slice(format!("{all:?}\n").as_bytes());
}

pub(crate) async fn what_is_rendered_is_what_is_read<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    for n in 0..30u64 {
        let mut record = record(["a", "b", "c"][n as usize % 3], &format!("data {n}\n"));
        record.topics.push(topic("all"));
        if n % 2 == 0 {
            record.audience = Audience::Owners(vec![topic("user/ä"), topic("session/1")]);
            record.label = Some(EventType::new("label").expect("a type"));
            record.event = record
                .event
                .with_id(id(&format!("id {n}")))
                .with_type(EventType::new("type").expect("a type"))
                .with_retry(Retry::from_millis(n));
            record.priority = Priority::High;
            record.expires_at = Some(n);
        }
        if n % 5 == 0 {
            record.audience = Audience::Granted;
        }
        append(&*broker, vec![record]).await;
    }
    for scope in [Scope::All, topics(&["b", "c"]), topics(&["none"])] {
        for max_records in [1, 7, 100] {
            let mut after = 0;
            while after < 30 {
                let request = ReadRequest {
                    scope: scope.clone(),
                    max_records,
                    ..everything_after(after)
                };
                let page = broker.read(request.clone()).await.expect("a page");
                let rendered = broker.render(request, Box::new(line)).await;
                let rendered = rendered.expect("a page");
                let mut expected = Vec::new();
                for record in &page.records {
                    line(&RecordRef::from(&**record), &mut expected);
                }
                assert_eq!(rendered.bytes, expected);
                assert_eq!(rendered.events, page.records.len() as u64);
                assert_eq!((rendered.upto, rendered.trimmed), (page.upto, page.trimmed));
                let first = page.records.first().map(|first| first.position.offset);
                assert_eq!(rendered.first, first);
                after = page.upto;
            }
        }
    }
}

pub(crate) async fn a_rendered_page_ends_at_its_bounds<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    append(
        &*broker,
        (0..10).map(|_| record("a", "0123456789")).collect(),
    )
    .await;
    let (mut after, mut events) = (0, 0);
    while after < 10 {
        let request = ReadRequest {
            max_bytes: 30,
            ..everything_after(after)
        };
        // Every second one is not wanted.
        let some = |record: &RecordRef<'_>, out: &mut Vec<u8>| {
            if record.position.offset.is_multiple_of(2) {
                out.extend_from_slice(record.data.as_bytes());
            }
        };
        let page = broker
            .render(request, Box::new(some))
            .await
            .expect("a page");
        assert!(page.bytes.len() <= 30, "{page:?}");
        assert_eq!(page.bytes.len() as u64, page.events * 10);
        assert!(page.upto > after);
        after = page.upto;
        events += page.events;
    }
    assert_eq!(events, 5);
    // The first is there, however large it is.
    let request = ReadRequest {
        max_bytes: 3,
        ..everything_after(0)
    };
    let all = |record: &RecordRef<'_>, out: &mut Vec<u8>| {
        out.extend_from_slice(record.data.as_bytes());
    };
    let page = broker.render(request, Box::new(all)).await.expect("a page");
    assert_eq!((page.bytes.len(), page.events, page.upto), (10, 1, 1));
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
            now: 0,
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
            now: 0,
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
