//! What the log in memory holds, counted by the allocator.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::Arc;

use allocation_counter::measure;
use bytes::Bytes;
use sse_broker::{
    Audience, Broker, MemoryBroker, MemoryConfig, NewRecord, Retention, Snapshot, StateChange,
    Topic,
};
use sse_protocol::{Event, EventId, EventType};

fn log(max_memory_bytes: Option<u64>) -> Arc<MemoryBroker> {
    MemoryBroker::new(MemoryConfig {
        retention: Retention::UNBOUNDED,
        max_memory_bytes,
        ..MemoryConfig::default()
    })
}

fn topic(name: String) -> Topic {
    Topic::new(name).unwrap()
}

/// A record of a topic that all others have too, each with a text of its own for it.
fn record(data: &str) -> NewRecord {
    NewRecord::new(topic("news".to_owned()), Event::new(data), 1)
}

fn long_topics(from: usize) -> Vec<Topic> {
    (from..from + 64)
        .map(|n| topic(format!("{n:0>1024}")))
        .collect()
}

/// What a kind of records is called, how many of them are looked at, and how they are made.
type Kind = (&'static str, usize, Box<dyn Fn(usize) -> NewRecord>);

/// The kinds of records that the documentation speaks of.
fn kinds() -> Vec<Kind> {
    let one_kib = "x".repeat(1 << 10);
    let hundred_kib = "x".repeat(100 << 10);
    vec![
        ("small", 10_000, Box::new(|_| record("x"))),
        (
            "a topic each",
            10_000,
            Box::new(|n| NewRecord {
                topics: vec![topic(format!("session/{n}"))],
                ..record("x")
            }),
        ),
        (
            "64 topics of 1 KiB that all have",
            1_000,
            Box::new(|_| NewRecord {
                topics: long_topics(0),
                ..record("x")
            }),
        ),
        (
            "64 topics of 1 KiB each",
            500,
            Box::new(|n| NewRecord {
                topics: long_topics(n * 64),
                ..record("x")
            }),
        ),
        ("1 KiB of data", 10_000, Box::new(move |_| record(&one_kib))),
        (
            "100 KiB of data",
            500,
            Box::new(move |_| record(&hundred_kib)),
        ),
        (
            "an audience",
            10_000,
            Box::new(|n| NewRecord {
                audience: Audience::Owners(vec![
                    topic(format!("user/{n}")),
                    topic(format!("session/{n}")),
                ]),
                ..record("x")
            }),
        ),
        (
            "an id and a type",
            10_000,
            Box::new(|n| {
                let mut record = record("x");
                record.event.id = Some(EventId::new(format!("publisher-{n}")).unwrap());
                record.event.event_type = Some(EventType::new("progress").unwrap());
                record
            }),
        ),
        (
            "a snapshot",
            10_000,
            Box::new(|n| NewRecord {
                topics: vec![topic(format!("job/{n}"))],
                snapshot: Some(Snapshot::Put(Bytes::from(vec![b'x'; 300]))),
                ..record("x")
            }),
        ),
    ]
}

/// What is held, an allocator's own part among it: it adds a word to each allocation and rounds to pairs of them.
fn held(info: &allocation_counter::AllocationInfo) -> f64 {
    (info.bytes_current + 16 * info.count_current) as f64
}

fn assert_close(what: &str, count: usize, says: f64, takes: f64) {
    println!(
        "{what}: {:.0} bytes each, {:.0} said",
        takes / count as f64,
        says / count as f64
    );
    assert!(
        (0.8..=1.25).contains(&(says / takes)),
        "{what}: {says} said, {takes} taken"
    );
}

#[test]
fn the_log_takes_what_it_says() {
    for (what, count, make) in kinds() {
        let log = log(None);
        let used = measure(|| {
            for n in 0..count {
                drop(log.append(vec![make(n)]));
            }
        });
        assert_close(what, count, log.memory_bytes() as f64, held(&used));
    }
}

/// Also after it has been full for a while, when names came and went.
#[test]
fn the_log_keeps_its_bound() {
    for (what, count, make) in kinds() {
        let each = {
            let log = log(None);
            for n in 0..100 {
                drop(log.append(vec![make(n)]));
            }
            log.memory_bytes() / 100
        };
        if what == "a snapshot" {
            // It outlives its record and is no part of the bound.
            continue;
        }
        let max = each * count / 4;
        let log = log(Some(max as u64));
        let used = measure(|| {
            for n in 0..count {
                drop(log.append(vec![make(n)]));
            }
        });
        assert!(log.memory_bytes() <= max, "{what}");
        assert!(log.bounds().floor > 0, "{what}");
        assert_close(what, count / 4, max as f64, held(&used));
    }
}

#[test]
fn states_take_what_is_said_and_nothing_when_they_are_gone() {
    let log = log(None);
    let change = |n: usize, value: Option<usize>| StateChange {
        key: format!("subscription/{n}").into(),
        value: value.map(|bytes| Bytes::from(vec![b'x'; bytes])),
    };
    let used = measure(|| {
        for n in 0..10_000 {
            drop(log.put_states(vec![change(n, Some(300))]));
            drop(log.put_states(vec![change(n, Some(200))]));
        }
    });
    assert_close("a state", 10_000, log.memory_bytes() as f64, held(&used));
    drop(log.put_states((0..10_000).map(|n| change(n, None)).collect()));
    assert_eq!(log.memory_bytes(), 0);
}
