//! Records get their places in the order of the calls, and keep them.

use sse_broker::{AppendError, Appended, Retention};

use crate::support::*;

use super::Backend;

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
