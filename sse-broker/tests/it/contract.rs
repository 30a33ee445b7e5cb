//! Every promise of the trait, for every backend.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sse_broker::{
    AppendError, Appended, Broker, Epoch, NewRecord, Priority, ReadRequest, Record, Retention,
    Scope, Snapshot, Tail,
};
use sse_protocol::{Event, EventType, Retry};

use crate::support::*;

/// Makes a broker for a test: what it needs (a folder, say) lives as long as the `Self` does.
pub(crate) trait Backend {
    /// An empty log.
    fn new(retention: Retention) -> Self;

    /// The broker.
    fn broker(&self) -> Arc<dyn Broker>;

    /// Closes the log and opens it again, where that keeps what it holds.
    fn reopen(&mut self) -> Reopened;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reopened {
    /// Everything is still there.
    Kept,
    /// This backend forgets, so it was left open.
    LeftOpen,
}

/// The suite for one backend, each promise a test.
macro_rules! contract {
    ($backend:ty: $($promise:ident,)*) => {
        $(
            #[test]
            fn $promise() {
                $crate::support::block_on($crate::contract::$promise::<$backend>());
            }
        )*

        #[test]
        fn any_sequence_of_operations_does_what_the_model_says() {
            $crate::model::check::<$backend>();
        }
    };
    ($backend:ty) => {
        $crate::contract::contract! { $backend:
            offsets_begin_at_one_and_have_no_holes,
            the_order_of_the_calls_is_the_order_of_the_log,
            a_dropped_answer_does_not_drop_the_records,
            the_tail_hears_every_record_once_and_before_the_publisher,
            what_the_tail_hears_can_be_read,
            the_tail_may_append_to_the_broker_itself,
            an_append_of_nothing_stores_nothing,
            a_publishers_id_is_stored_once,
            an_id_is_compared_by_its_whole_content,
            an_id_twice_in_one_append_is_stored_once,
            the_empty_id_names_nothing,
            a_duplicate_leaves_no_hole_between_its_neighbours,
            a_trimmed_id_may_be_used_again,
            everything_about_a_record_comes_back,
            a_page_ends_at_its_bounds_and_says_how_far_it_reaches,
            a_page_has_one_record_at_least,
            a_reader_of_several_topics_gets_each_record_once_in_order,
            a_topic_is_not_the_beginning_of_another,
            snapshots_change_with_their_record_and_outlive_it,
            count_and_bytes_are_kept_as_records_arrive,
            age_is_kept_when_the_time_is_told,
            a_page_says_when_what_was_asked_for_is_gone,
            many_publishers_at_once_get_distinct_offsets_in_their_own_order,
            a_replay_that_races_with_retention_has_no_silent_hole,
            a_closed_log_takes_nothing_more,
        }
    };
}
pub(crate) use contract;

pub(crate) async fn offsets_begin_at_one_and_have_no_holes<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    assert_eq!((broker.bounds().floor, broker.bounds().head), (0, 0));
    for offset in 1..=5 {
        let appended = append_one(&*broker, record("a", "x")).await;
        assert_eq!(stored(&appended), offset);
        assert_eq!(broker.bounds().head, offset);
    }
    let batch = append(&*broker, (0..5).map(|_| record("b", "y")).collect()).await;
    assert_eq!(
        batch.iter().map(stored).collect::<Vec<_>>(),
        [6, 7, 8, 9, 10]
    );
    let epoch = broker.bounds().epoch;
    let Appended::Stored(position) = batch[0] else {
        panic!("not stored")
    };
    assert_eq!(position.epoch, epoch);
}

pub(crate) async fn the_order_of_the_calls_is_the_order_of_the_log<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    // The futures are polled backwards, and only after all calls.
    let calls: Vec<_> = (1..=50u64)
        .map(|n| (n, broker.append(vec![record("a", &n.to_string())])))
        .collect();
    for (n, call) in calls.into_iter().rev() {
        assert_eq!(stored(&call.await.expect("stored")[0]), n);
    }
}

pub(crate) async fn a_dropped_answer_does_not_drop_the_records<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    for _ in 0..10 {
        drop(broker.append(vec![record("a", "dropped")]));
    }
    assert_eq!(stored(&append_one(&*broker, record("a", "kept")).await), 11);
}

pub(crate) async fn the_tail_hears_every_record_once_and_before_the_publisher<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let listener = Listener::follow(&*broker);
    for round in 1..=20u64 {
        append(
            &*broker,
            (0..round).map(|n| record("a", &n.to_string())).collect(),
        )
        .await;
        let heard = offsets(&listener.heard());
        assert_eq!(heard, (1..=broker.bounds().head).collect::<Vec<_>>());
    }
}

pub(crate) async fn what_the_tail_hears_can_be_read<B: Backend>() {
    /// Looks into the log the moment it hears of a record.
    struct Prompt {
        broker: Arc<dyn Broker>,
        behind: Mutex<Vec<u64>>,
    }

    impl Tail for Prompt {
        fn committed(&self, records: &[Arc<Record>]) {
            let last = records
                .last()
                .expect("a tail hears of something")
                .position
                .offset;
            if self.broker.bounds().head < last {
                self.behind.lock().push(last);
            }
        }
    }

    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let prompt = Arc::new(Prompt {
        broker: broker.clone(),
        behind: Mutex::default(),
    });
    broker.follow(prompt.clone());
    for _ in 0..20 {
        append(&*broker, vec![record("a", "x"), record("a", "y")]).await;
    }
    assert_eq!(*prompt.behind.lock(), []);
}

pub(crate) async fn the_tail_may_append_to_the_broker_itself<B: Backend>() {
    /// Answers what comes to `question`.
    struct Echo(Arc<dyn Broker>);

    impl Tail for Echo {
        fn committed(&self, records: &[Arc<Record>]) {
            for question in records
                .iter()
                .filter(|r| r.content.topics[0].as_str() == "question")
            {
                drop(
                    self.0
                        .append(vec![record("answer", &question.content.event.data)]),
                );
            }
        }
    }

    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    broker.follow(Arc::new(Echo(broker.clone())));
    append_one(&*broker, record("question", "why?")).await;
    append_one(&*broker, record("other", "so")).await;
    let answers = read_all(&*broker, 0, topics(&["answer"]), 10).await;
    assert_eq!(answers.len(), 1);
    assert_eq!(&*answers[0].content.event.data, "why?");
    // The echo holds the broker, and the broker the echo: it is let go by closing.
    broker.close().await;
}

pub(crate) async fn an_append_of_nothing_stores_nothing<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let listener = Listener::follow(&*broker);
    assert_eq!(append(&*broker, Vec::new()).await, []);
    assert_eq!(broker.bounds().head, 0);
    assert!(listener.heard().is_empty());
    let page = broker.read(everything_after(0)).await.expect("a page");
    assert!(page.records.is_empty() && page.upto == 0 && !page.trimmed);
}

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
    original.audience = vec![topic("user/7")];
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
    let changes: [Change; 8] = [
        |r| r.topics.push(topic("b")),
        |r| r.audience.clear(),
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

pub(crate) async fn snapshots_change_with_their_record_and_outlive_it<B: Backend>() {
    let mut backend = B::new(Retention {
        max_records: Some(1),
        ..Retention::UNBOUNDED
    });
    let put = |name: &str, state: &'static str| NewRecord {
        snapshot: Some(Snapshot::Put(Bytes::from_static(state.as_bytes()))),
        ..record(name, state)
    };
    {
        let broker = backend.broker();
        append(
            &*broker,
            vec![
                put("job/2", "1 %"),
                put("job/1", "5 %"),
                put("job/2", "2 %"),
            ],
        )
        .await;
        append_one(&*broker, put("user/1", "here")).await;
        // What is not stored changes no snapshot either.
        let mut with_id = put("job/1", "6 %");
        with_id.event.id = Some(id("1"));
        append_one(&*broker, with_id.clone()).await;
        with_id.snapshot = Some(Snapshot::Remove);
        let again = append_one(&*broker, with_id).await;
        assert!(matches!(again, Appended::Duplicate(_)));
    }
    backend.reopen();
    let broker = backend.broker();
    let read = |prefix: &'static str| {
        let snapshots = broker.snapshots(prefix);
        async move {
            let snapshots = snapshots.await.expect("readable");
            let text = |b: Bytes| String::from_utf8(b.to_vec()).expect("text");
            snapshots
                .into_iter()
                .map(|(t, b)| (t.to_string(), text(b)))
                .collect::<Vec<_>>()
        }
    };
    let pair = |t: &str, s: &str| (t.to_owned(), s.to_owned());
    assert_eq!(
        read("job/").await,
        [pair("job/1", "6 %"), pair("job/2", "2 %")]
    );
    assert_eq!(read("").await.len(), 3);
    assert_eq!(read("z").await, []);
    let gone = NewRecord {
        snapshot: Some(Snapshot::Remove),
        ..record("job/1", "over")
    };
    append_one(&*broker, gone).await;
    assert_eq!(read("job/").await, [pair("job/2", "2 %")]);
}

pub(crate) async fn count_and_bytes_are_kept_as_records_arrive<B: Backend>() {
    let backend = B::new(Retention {
        max_records: Some(10),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    for n in 1..=35u64 {
        append_one(&*broker, record("a", "x")).await;
        assert_eq!(broker.bounds().floor, n.saturating_sub(10));
    }
    append(&*broker, (0..25).map(|_| record("a", "y")).collect()).await;
    assert_eq!((broker.bounds().floor, broker.bounds().head), (50, 60));
    let page = broker.read(everything_after(50)).await.expect("a page");
    assert_eq!(offsets(&page.records), (51..=60).collect::<Vec<_>>());
    let page = broker
        .read(ReadRequest {
            scope: topics(&["a"]),
            ..everything_after(0)
        })
        .await;
    assert_eq!(
        offsets(&page.expect("a page").records),
        (51..=60).collect::<Vec<_>>()
    );

    let weight = record("a", "x").weight_bytes() as u64;
    let backend = B::new(Retention {
        max_bytes: Some(5 * weight),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    append(&*broker, (0..8).map(|_| record("a", "x")).collect()).await;
    assert_eq!(broker.bounds().floor, 3);
    append_one(&*broker, record("a", &"large".repeat(1_000))).await;
    assert_eq!(
        (broker.bounds().floor, broker.bounds().head),
        (8, 9),
        "the newest stays"
    );
}

pub(crate) async fn age_is_kept_when_the_time_is_told<B: Backend>() {
    let max_age = Some(Duration::from_secs(60));
    let mut backend = B::new(Retention {
        max_age,
        ..Retention::UNBOUNDED
    });
    {
        let broker = backend.broker();
        for second in 1..=10u64 {
            let published_at = second * 1_000;
            append_one(
                &*broker,
                NewRecord {
                    published_at,
                    ..record_with_id("a", "x", &second.to_string())
                },
            )
            .await;
        }
        assert_eq!(broker.trim(59_000).await.expect("trimmed").records, 0);
        let trimmed = broker.trim(64_000).await.expect("trimmed");
        assert_eq!((trimmed.records, trimmed.floor), (4, 4));
        assert_eq!(broker.bounds().floor, 4);
        assert_eq!(broker.locate(id("4")).await.expect("readable"), None);
        assert_eq!(broker.locate(id("5")).await.expect("readable"), Some(5));
        // Age alone may take the last record; the order goes on where it was.
        let trimmed = broker.trim(u64::MAX).await.expect("trimmed");
        assert_eq!((trimmed.records, trimmed.floor), (6, 10));
    }
    backend.reopen();
    let broker = backend.broker();
    assert_eq!((broker.bounds().floor, broker.bounds().head), (10, 10));
    assert_eq!(stored(&append_one(&*broker, record("a", "x")).await), 11);
}

pub(crate) async fn a_page_says_when_what_was_asked_for_is_gone<B: Backend>() {
    let backend = B::new(Retention {
        max_records: Some(3),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    append(&*broker, (0..10).map(|_| record("a", "x")).collect()).await;
    for scope in [Scope::All, topics(&["a"])] {
        for after in 0..=10 {
            let request = ReadRequest {
                scope: scope.clone(),
                ..everything_after(after)
            };
            let page = broker.read(request).await.expect("a page");
            assert_eq!(page.trimmed, after < 7, "after {after}");
            assert_eq!(
                offsets(&page.records),
                (after.max(7) + 1..=10).collect::<Vec<_>>()
            );
        }
    }
}

pub(crate) async fn many_publishers_at_once_get_distinct_offsets_in_their_own_order<B: Backend>() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 200;
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let listener = Listener::follow(&*broker);
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let broker = broker.clone();
            std::thread::spawn(move || {
                let name = format!("publisher/{publisher}");
                block_on(async {
                    let mut offsets = Vec::new();
                    for n in 0..EACH {
                        let both = vec![record(&name, &n.to_string()), record("all", &name)];
                        let appended = append(&*broker, both).await;
                        let (first, second) = (stored(&appended[0]), stored(&appended[1]));
                        assert_eq!(second, first + 1, "an append lies side by side");
                        offsets.push(first);
                    }
                    offsets
                })
            })
        })
        .collect();
    for (publisher, thread) in threads.into_iter().enumerate() {
        let appended = thread.join().expect("a publisher that got through");
        assert!(appended.is_sorted());
        let read = read_all(
            &*broker,
            0,
            topics(&[&format!("publisher/{publisher}")]),
            64,
        )
        .await;
        assert_eq!(offsets(&read), appended);
        let said: Vec<_> = read
            .iter()
            .map(|r| r.content.event.data.parse().ok())
            .collect();
        assert_eq!(said, (0..EACH).map(Some).collect::<Vec<Option<usize>>>());
    }
    let total = (PUBLISHERS * EACH * 2) as u64;
    assert_eq!(broker.bounds().head, total);
    assert_eq!(offsets(&listener.heard()), (1..=total).collect::<Vec<_>>());
}

pub(crate) async fn a_replay_that_races_with_retention_has_no_silent_hole<B: Backend>() {
    let backend = B::new(Retention {
        max_records: Some(50),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    let publisher = std::thread::spawn({
        let broker = broker.clone();
        move || {
            block_on(async {
                for n in 0..300u64 {
                    let names = [["a", "b"][n as usize % 2], "all"];
                    append(&*broker, names.map(|name| record(name, "x")).into()).await;
                }
            });
        }
    });
    let mut replays = 0;
    while !publisher.is_finished() || replays == 0 {
        replays += 1;
        for (scope, step) in [(Scope::All, 1), (topics(&["all"]), 2)] {
            let mut after = broker.bounds().floor;
            while after < broker.bounds().head {
                let request = ReadRequest {
                    after,
                    scope: scope.clone(),
                    max_records: 7,
                    max_bytes: usize::MAX,
                };
                let page = broker.read(request).await.expect("a page");
                assert!(page.upto > after);
                let offsets = offsets(&page.records);
                assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + step));
                if let (Some(first), false) = (offsets.first(), page.trimmed) {
                    assert!(first - after <= step, "a hole after {after}: {offsets:?}");
                }
                after = page.upto;
            }
        }
    }
    publisher.join().expect("a publisher that got through");
    assert_eq!(broker.bounds().head, 600);
}

pub(crate) async fn a_closed_log_takes_nothing_more<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let under_way = broker.append(vec![record("a", "x")]);
    broker.close().await;
    broker.close().await;
    assert_eq!(
        stored(&under_way.await.expect("what was under way is committed")[0]),
        1
    );
    let late = broker.append(vec![record("a", "y")]).await;
    assert!(matches!(late, Err(AppendError::Closed)), "{late:?}");
    let late = broker.trim(0).await;
    assert!(matches!(late, Err(AppendError::Closed)), "{late:?}");
    assert_eq!(broker.bounds().head, 1);
}

/// An epoch for tests that compare positions.
pub(crate) const EPOCH: Epoch = Epoch(0xfeed);
