//! The state of a topic, kept beside its records.

use bytes::Bytes;
use sse_broker::{Appended, NewRecord, Retention, Snapshot};

use crate::support::*;

use super::Backend;

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
