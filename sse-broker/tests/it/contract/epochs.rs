//! The epoch changes while the log is open.

use std::sync::Arc;

use parking_lot::Mutex;
use sse_broker::{
    Appended, Bounds, Broker, Epoch, GapReason, Position, Record, ResumeFrom, Retention, Tail,
};

use crate::support::*;

use super::{Backend, EPOCH, Reopened};

const NEXT: Epoch = Epoch(0xbeef);

/// Remembers what it was told, in order: the position of a record, or what the log covers under another epoch.
#[derive(Default)]
struct Order(Mutex<Vec<Result<Position, Bounds>>>);

impl Tail for Order {
    fn committed(&self, records: &[Arc<Record>]) {
        self.0
            .lock()
            .extend(records.iter().map(|record| Ok(record.position)));
    }

    fn epoch_changed(&self, bounds: Bounds) {
        self.0.lock().push(Err(bounds));
    }
}

fn at(epoch: Epoch, offset: u64) -> Position {
    Position { epoch, offset }
}

pub(crate) async fn another_epoch_is_told_between_the_records_of_the_two<B: Backend>() {
    let mut backend = B::new(Retention::UNBOUNDED);
    let bounds = Bounds {
        epoch: NEXT,
        floor: 0,
        head: 2,
    };
    {
        let broker = backend.broker();
        let order = Arc::new(Order::default());
        broker.follow(order.clone());
        append(&*broker, vec![record("a", "1"), record("a", "2")]).await;
        assert_eq!(broker.begin_epoch(NEXT).await.expect("begun"), bounds);
        assert_eq!(broker.bounds(), bounds);
        // The epoch that it has is no other.
        assert_eq!(
            broker.begin_epoch(NEXT).await.expect("nothing to do"),
            bounds
        );
        let third = append_one(&*broker, record("a", "3")).await;
        assert_eq!(third, Appended::Stored(at(NEXT, 3)));
        let told = order.0.lock().clone();
        let expected = [
            Ok(at(EPOCH, 1)),
            Ok(at(EPOCH, 2)),
            Err(bounds),
            Ok(at(NEXT, 3)),
        ];
        assert_eq!(told, expected);
    }
    if backend.reopen() == Reopened::Kept {
        assert_eq!(backend.broker().bounds().epoch, NEXT, "it is in the log");
    }
    let broker = backend.broker();
    let read = read_all(&*broker, 0, topics(&["a"]), 10).await;
    let positions: Vec<_> = read.iter().map(|record| record.position).collect();
    assert_eq!(
        positions,
        [at(NEXT, 1), at(NEXT, 2), at(NEXT, 3)],
        "what is kept stays"
    );
}

pub(crate) async fn a_position_of_the_epoch_before_is_answered_by_a_gap<B: Backend>() {
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    append_one(&*broker, record_with_id("a", "1", "x")).await;
    broker.begin_epoch(NEXT).await.expect("begun");
    append_one(&*broker, record("a", "2")).await;
    let resume = |id: &'static str| ResumeFrom::last_event_id(&*broker, id);
    let old = resume("000000000000feed-1").await.expect("readable");
    let (to, gap) = old.resolve(broker.bounds());
    let gap = gap.expect("a gap");
    assert_eq!(
        (to, gap.reason, gap.from),
        (2, GapReason::ForeignEpoch, Some(at(EPOCH, 1)))
    );
    // Ids are the publishers' own and still known.
    assert_eq!(
        resume("x")
            .await
            .expect("readable")
            .resolve(broker.bounds()),
        (1, None)
    );
    let again = append_one(&*broker, record_with_id("a", "1", "x")).await;
    assert_eq!(again, Appended::Duplicate(at(NEXT, 1)));
}

pub(crate) async fn the_epoch_may_change_while_many_publish<B: Backend>() {
    const PUBLISHERS: u64 = 4;
    const EACH: u64 = 50;
    let backend = B::new(Retention::UNBOUNDED);
    let broker = backend.broker();
    let order = Arc::new(Order::default());
    broker.follow(order.clone());
    let publish = |broker: Arc<dyn Broker>| {
        std::thread::spawn(move || -> Vec<Position> {
            let publish = |_| match block_on(append_one(&*broker, record("a", "x"))) {
                Appended::Stored(position) => position,
                other => panic!("not stored: {other:?}"),
            };
            (0..EACH).map(publish).collect()
        })
    };
    let publishers: Vec<_> = (0..PUBLISHERS).map(|_| publish(broker.clone())).collect();
    let epochs: Vec<_> = (1..=5).map(Epoch).collect();
    for epoch in &epochs {
        broker.begin_epoch(*epoch).await.expect("begun");
        std::thread::yield_now();
    }
    let mut answered: Vec<_> = publishers
        .into_iter()
        .flat_map(|publisher| publisher.join().expect("no panic"))
        .collect();
    let told = order.0.lock().clone();
    let (mut epoch, mut head) = (EPOCH, 0);
    let mut changes = Vec::new();
    for news in &told {
        match news {
            Ok(position) => {
                head += 1;
                assert_eq!(
                    *position,
                    at(epoch, head),
                    "told under the epoch that was told"
                );
            }
            Err(bounds) => {
                epoch = bounds.epoch;
                assert_eq!(bounds.head, head, "after all that came before");
                changes.push(epoch);
            }
        }
    }
    assert_eq!((changes, head), (epochs, PUBLISHERS * EACH));
    // Publishers are answered what the tail was told.
    let mut told: Vec<_> = told.into_iter().filter_map(Result::ok).collect();
    told.sort();
    answered.sort();
    assert_eq!(answered, told);
}
