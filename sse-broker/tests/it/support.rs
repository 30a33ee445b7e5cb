//! What the tests share: small records, and a tail that remembers.

use std::sync::Arc;

use parking_lot::Mutex;
use sse_broker::{
    Appended, Bounds, Broker, NewRecord, Offset, Page, ReadRequest, Record, Scope, Tail, Topic,
    TopicPattern, TopicRetention,
};
use sse_protocol::{Event, EventId};

pub(crate) fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a topic")
}

pub(crate) fn id(text: &str) -> EventId {
    EventId::new(text).expect("an id")
}

pub(crate) fn record(topic_name: &str, data: &str) -> NewRecord {
    NewRecord::new(topic(topic_name), Event::new(data), 1_000)
}

pub(crate) fn record_with_id(topic_name: &str, data: &str, publisher_id: &str) -> NewRecord {
    NewRecord::new(
        topic(topic_name),
        Event::new(data).with_id(id(publisher_id)),
        1_000,
    )
}

/// The offset at which a record was stored now.
pub(crate) fn stored(appended: &Appended) -> Offset {
    match appended {
        Appended::Stored(position) => position.offset,
        other => panic!("not stored: {other:?}"),
    }
}

pub(crate) async fn append(broker: &dyn Broker, records: Vec<NewRecord>) -> Vec<Appended> {
    broker.append(records).await.expect("an append that works")
}

pub(crate) async fn append_one(broker: &dyn Broker, record: NewRecord) -> Appended {
    let mut appended = append(broker, vec![record]).await;
    assert_eq!(appended.len(), 1);
    appended.remove(0)
}

pub(crate) fn everything_after(after: Offset) -> ReadRequest {
    ReadRequest {
        after,
        scope: Scope::All,
        max_records: usize::MAX,
        max_bytes: usize::MAX,
        now: 0,
    }
}

pub(crate) fn topics(names: &[&str]) -> Scope {
    Scope::Topics(names.iter().map(|name| topic(name)).collect())
}

/// The topics that begin so.
#[derive(Clone, Debug)]
pub(crate) struct Beginning(pub(crate) &'static str);

impl TopicPattern for Beginning {
    fn matches(&self, topic: &str) -> bool {
        topic.starts_with(self.0)
    }

    fn as_str(&self) -> &str {
        self.0
    }
}

/// A rule for the topics that begin so.
pub(crate) fn rule(beginning: &'static str) -> TopicRetention {
    TopicRetention::of([Arc::new(Beginning(beginning)) as _])
}

/// Waits until the rules of topics have been kept for all that was acknowledged.
pub(crate) async fn settle(broker: &dyn Broker) {
    broker.trim(0).await.expect("a trim that works");
}

/// Reads on from `after` until the pages reach the head, as a replay does.
pub(crate) async fn read_all(
    broker: &dyn Broker,
    after: Offset,
    scope: Scope,
    max_records: usize,
) -> Vec<Arc<Record>> {
    let mut records = Vec::new();
    let mut request = ReadRequest {
        after,
        scope,
        max_records,
        max_bytes: usize::MAX,
        now: 0,
    };
    while request.after < broker.bounds().head {
        let page: Page = broker.read(request.clone()).await.expect("a readable log");
        assert!(page.upto > request.after, "a page below the head gets on");
        assert!(
            page.records
                .iter()
                .all(|r| r.position.offset > request.after)
        );
        assert!(page.records.iter().all(|r| r.position.offset <= page.upto));
        request.after = page.upto;
        records.extend(page.records);
    }
    records
}

pub(crate) fn offsets(records: &[Arc<Record>]) -> Vec<Offset> {
    records
        .iter()
        .map(|record| record.position.offset)
        .collect()
}

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Listener {
    heard: Mutex<Vec<Arc<Record>>>,
}

impl Listener {
    pub(crate) fn follow(broker: &dyn Broker) -> Arc<Self> {
        let listener = Arc::new(Self::default());
        broker.follow(listener.clone());
        listener
    }

    pub(crate) fn heard(&self) -> Vec<Arc<Record>> {
        self.heard.lock().clone()
    }
}

impl Tail for Listener {
    fn epoch_changed(&self, _: Bounds) {}

    fn committed(&self, records: &[Arc<Record>]) {
        self.heard.lock().extend_from_slice(records);
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}
