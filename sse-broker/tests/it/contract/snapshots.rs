//! The state of a topic, kept beside its records.

use std::sync::Arc;

use bytes::Bytes;
use sse_broker::{Appended, Broker, Epoch, NewRecord, Position, Retention, Snapshot};

use crate::support::*;

use super::{Backend, EPOCH};

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

fn put(topic: &str, state: &str, expects: Position) -> NewRecord {
    NewRecord {
        snapshot: Some(Snapshot::Put(Bytes::copy_from_slice(state.as_bytes()))),
        expects: Some(expects),
        ..record(topic, state)
    }
}

pub(crate) async fn a_record_is_stored_only_on_the_snapshot_that_it_expects<B: Backend>() {
    let mut backend = B::new(Retention {
        max_records: Some(1),
        ..Retention::UNBOUNDED
    });
    let at = |offset| Position {
        epoch: EPOCH,
        offset,
    };
    {
        let broker = backend.broker();
        let version = async |name: &str| {
            broker
                .snapshot_version(topic(name))
                .await
                .expect("readable")
        };
        assert_eq!(version("job/1").await, at(0), "there is none");
        assert_eq!(
            append_one(&*broker, put("job/1", "new", at(0))).await,
            Appended::Stored(at(1))
        );
        // Somebody else thinks that there is none, too.
        assert_eq!(
            append_one(&*broker, put("job/1", "new", at(0))).await,
            Appended::Stale(at(1))
        );
        // A record without a snapshot leaves the version as it is, and may expect one.
        let note = NewRecord {
            snapshot: None,
            ..put("job/1", "note", at(1))
        };
        assert_eq!(append_one(&*broker, note).await, Appended::Stored(at(2)));
        assert_eq!(
            append_one(&*broker, put("job/2", "new", at(0))).await,
            Appended::Stored(at(3))
        );
        assert_eq!(
            append_one(&*broker, put("job/1", "50 %", at(1))).await,
            Appended::Stored(at(4))
        );
        assert_eq!(version("job/1").await, at(4));
    }
    backend.reopen();
    let broker = backend.broker();
    assert_eq!(
        append_one(&*broker, put("job/1", "60 %", at(1))).await,
        Appended::Stale(at(4))
    );
    // A version of another log is none of this one.
    let foreign = Position {
        epoch: Epoch(1),
        offset: 4,
    };
    assert_eq!(
        append_one(&*broker, put("job/1", "60 %", foreign)).await,
        Appended::Stale(at(4))
    );
    let gone = NewRecord {
        snapshot: Some(Snapshot::Remove),
        ..put("job/1", "over", at(4))
    };
    assert_eq!(append_one(&*broker, gone).await, Appended::Stored(at(5)));
    assert_eq!(
        append_one(&*broker, put("job/1", "60 %", at(4))).await,
        Appended::Stale(at(0))
    );
    assert_eq!(
        append_one(&*broker, put("job/1", "anew", at(0))).await,
        Appended::Stored(at(6))
    );
    assert_eq!(broker.bounds().head, 6, "what is stale takes no offset");
}

pub(crate) async fn an_append_with_a_stale_record_stores_nothing_of_itself<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let listener = Listener::follow(&*broker);
    let at = |offset| Position {
        epoch: EPOCH,
        offset,
    };
    append_one(&*broker, record_with_id("a", "known", "known")).await;
    let with_id = |record: NewRecord, text: &str| NewRecord {
        event: record.event.clone().with_id(id(text)),
        ..record
    };
    let all = |version| {
        vec![
            record_with_id("a", "known", "known"),
            record_with_id("a", "first", "first"),
            record_with_id("a", "first", "first"),
            with_id(put("job/1", "new", version), "job"),
            record_with_id("a", "other", "known"),
            record("a", "last"),
        ]
    };
    let refused = append(&*broker, all(at(7))).await;
    let (known, conflict) = (Appended::Duplicate(at(1)), Appended::Conflict(at(1)));
    let expected = [
        known.clone(),
        Appended::Withheld,
        Appended::Withheld,
        Appended::Stale(at(0)),
        conflict.clone(),
        Appended::Withheld,
    ];
    assert_eq!(refused, expected);
    assert_eq!((broker.bounds().head, listener.heard().len()), (1, 1));
    assert!(broker.snapshots("").await.expect("readable").is_empty());
    assert_eq!(
        broker.locate(id("first")).await.expect("readable"),
        None,
        "its id is free"
    );
    // With what is right it is stored, and a retry of that is answered as what it is.
    for n in 0..2 {
        let stored = append(&*broker, all(at(0))).await;
        let new = |offset| match n {
            0 => Appended::Stored(at(offset)),
            _ => Appended::Duplicate(at(offset)),
        };
        assert_eq!(
            stored[..5],
            [
                known.clone(),
                new(2),
                Appended::Duplicate(at(2)),
                new(3),
                conflict.clone()
            ]
        );
    }
    // What is expected is what stood before the append, for each of its records.
    let twice = vec![put("job/1", "a", at(3)), put("job/1", "b", at(3))];
    assert_eq!(
        append(&*broker, twice).await,
        [Appended::Stored(at(6)), Appended::Stored(at(7))]
    );
}

pub(crate) async fn publishers_that_compare_and_append_lose_no_update<B: Backend>() {
    const PUBLISHERS: u64 = 4;
    const EACH: u64 = 25;
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let add_one = |broker: &Arc<dyn Broker>| {
        block_on(async {
            loop {
                let version = broker.snapshot_version(topic("n")).await.expect("readable");
                let snapshots = broker.snapshots("n").await.expect("readable");
                let n: u64 = snapshots.first().map_or(0, |(_, bytes)| {
                    std::str::from_utf8(bytes)
                        .expect("text")
                        .parse()
                        .expect("a number")
                });
                match append_one(&**broker, put("n", &(n + 1).to_string(), version)).await {
                    Appended::Stored(_) => return,
                    Appended::Stale(_) => {}
                    other => panic!("neither stored nor stale: {other:?}"),
                }
            }
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..PUBLISHERS {
            scope.spawn(|| (0..EACH).for_each(|_| add_one(&broker)));
        }
    });
    let snapshots = broker.snapshots("n").await.expect("readable");
    let total = (PUBLISHERS * EACH).to_string();
    assert_eq!(snapshots, [(topic("n"), Bytes::from(total.into_bytes()))]);
}
