//! What is kept, by count, bytes and age, and how a reader learns what is gone.

use std::time::Duration;

use sse_broker::{NewRecord, ReadRequest, Retention, Scope};

use crate::support::*;

use super::Backend;

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
