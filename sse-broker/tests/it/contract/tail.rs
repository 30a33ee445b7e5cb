//! The tail hears of every record, before its publisher, and may use the broker meanwhile.

use std::sync::Arc;

use parking_lot::Mutex;
use sse_broker::{Bounds, Broker, Record, Retention, Tail};

use crate::support::*;

use super::Backend;

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
        fn epoch_changed(&self, _: Bounds) {}

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
    assert!(prompt.behind.lock().is_empty());
}

pub(crate) async fn the_tail_may_append_to_the_broker_itself<B: Backend>() {
    /// Answers what comes to `question`.
    struct Echo(Arc<dyn Broker>);

    impl Tail for Echo {
        fn epoch_changed(&self, _: Bounds) {}

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
