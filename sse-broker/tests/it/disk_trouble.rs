//! A disk that is slow, that cannot be written, or that tears the last commit; and a file that does not grow.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use sse_broker::{
    AppendError, Broker, DiskBroker, MemoryBroker, MemoryConfig, Retention, Scope, TopicRetention,
};

use crate::disk::config;
use crate::faults::{numbered, open_on, seeds};
use crate::sim_disk::SimDisk;
use crate::support::*;

#[test]
fn a_slow_disk_makes_publishers_wait_and_nobody_else_and_loses_nothing() {
    let disk = SimDisk::new();
    let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
    let listener = Listener::follow(&*broker);
    block_on(append(&*broker, (0..50).map(numbered).collect()));
    let mut waited = 0;
    for round in 0..10u64 {
        disk.hold_syncs(true);
        let mut calls: Vec<_> = (0..20)
            .map(|n| broker.append(vec![numbered(50 + round * 20 + n)]))
            .collect();
        // While the sync lasts, nobody is answered, nobody hears of it, and all that is safe can be read.
        for _ in 0..20 {
            let kept = 50 + round * 20;
            let read = block_on(read_all(&*broker, 0, Scope::All, 100));
            assert_eq!(offsets(&read), (1..=kept).collect::<Vec<_>>());
            assert_eq!(listener.heard().len() as u64, kept);
            let mut cx = Context::from_waker(Waker::noop());
            for call in &mut calls {
                assert!(matches!(call.as_mut().poll(&mut cx), Poll::Pending));
            }
            waited += 1;
        }
        disk.hold_syncs(false);
        for call in calls {
            block_on(call).expect("acknowledged in the end");
        }
    }
    drop(broker);
    disk.restart(&mut fastrand::Rng::with_seed(0));
    let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
    assert_eq!(broker.bounds().head, 250);
    eprintln!("200 appends waited for 10 slow syncs, with {waited} whole replays meanwhile");
}

#[test]
fn a_disk_that_cannot_be_written_fences_the_writer_and_can_be_read() {
    // Linux says EIO as an error without a kind of its own.
    for kind in [ErrorKind::ReadOnlyFilesystem, ErrorKind::Other] {
        let disk = SimDisk::new();
        let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
        block_on(append(&*broker, (0..50).map(numbered).collect()));
        disk.fail_writes(Some(kind));
        let failed = block_on(broker.append(vec![numbered(50)]));
        assert!(
            matches!(failed, Err(AppendError::Unknown { .. })),
            "{failed:?}"
        );
        for _ in 0..3 {
            let failed = block_on(broker.append(vec![numbered(50)]));
            assert!(
                matches!(failed, Err(AppendError::Fenced { .. })),
                "{failed:?}"
            );
        }
        let read = block_on(read_all(&*broker, 0, Scope::All, 100));
        assert_eq!(offsets(&read), (1..=50).collect::<Vec<_>>());
        drop(broker);
        disk.restart(&mut fastrand::Rng::with_seed(0));
        // Such a disk cannot be opened for writing, and that is said in a line.
        let error = open_on(&disk, config(Retention::UNBOUNDED)).expect_err("not writable");
        assert!(!error.to_string().contains('\n'), "{error}");
        disk.fail_writes(None);
        let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
        assert_eq!(stored(&block_on(append_one(&*broker, numbered(50)))), 51);
    }
}

#[test]
fn a_commit_that_is_torn_anywhere_is_whole_or_not_there() {
    let disk = SimDisk::new();
    let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
    block_on(append(&*broker, (0..50).map(numbered).collect()));
    // Until the sync fails, all that the commit writes stands in the disk's own memory.
    disk.fail_a_sync_after(0);
    let failed = block_on(broker.append((50..60).map(numbered).collect()));
    assert!(
        matches!(failed, Err(AppendError::Unknown { .. })),
        "{failed:?}"
    );
    let bytes = disk.unsynced_bytes();
    drop(broker);
    // Every byte in the long run, some of them always.
    let step = if seeds(0).end >= 1_000 {
        1
    } else {
        1 + bytes / 60
    };
    let (mut before, mut after) = (0, 0);
    for torn in (0..=bytes).step_by(step) {
        let image = SimDisk::image(disk.torn_after(torn));
        let broker = open_on(&image, config(Retention::UNBOUNDED))
            .unwrap_or_else(|error| panic!("torn after {torn} of {bytes} bytes: {error}"));
        let read = block_on(read_all(&*broker, 0, Scope::All, 100));
        match read.len() {
            50 => before += 1,
            60 => after += 1,
            other => panic!("torn after {torn} of {bytes} bytes: {other} records"),
        }
        for (n, record) in read.iter().enumerate() {
            assert_eq!(record.content, numbered(n as u64), "torn after {torn}");
        }
        assert_eq!(
            stored(&block_on(append_one(&*broker, numbered(100)))),
            read.len() as u64 + 1
        );
    }
    eprintln!("a commit of {bytes} bytes torn: {before} times not there, {after} times whole");
    assert!(before > 0);
}

#[test]
fn a_hub_that_publishes_for_ever_has_a_file_that_does_not_grow() {
    let retention = Retention {
        max_records: Some(2_000),
        topics: vec![TopicRetention {
            keep_latest: std::num::NonZeroU32::new(1),
            ..rule("value/")
        }],
        ..Retention::UNBOUNDED
    };
    let folder = tempfile::tempdir().expect("a folder");
    let size = || {
        let file = std::fs::metadata(folder.path().join("events.redb"));
        file.expect("a file").len()
    };
    let broker = DiskBroker::open(folder.path(), config(retention)).expect("a log");
    let mut sizes = Vec::new();
    for round in 0..12u64 {
        for batch in 0..10u64 {
            let records = (0..400).map(|n| {
                // Half are values of a hundred topics, half are an event each.
                let name = if n % 2 == 0 {
                    format!("value/{}", n % 100)
                } else {
                    "news".into()
                };
                record(&name, &format!("{round} {batch} {}", "x".repeat(200)))
            });
            block_on(append(&*broker, records.collect()));
        }
        block_on(settle(&*broker));
        sizes.push(size() >> 10);
    }
    eprintln!("KiB after each 4,000 events of about 300 bytes: {sizes:?}");
    let settled = sizes[3..6].iter().max().expect("sizes");
    let last = sizes[9..].iter().max().expect("sizes");
    assert!(*last <= 2 * settled, "it grows: {sizes:?}");
}

#[test]
fn a_file_that_is_mostly_free_gives_it_back_when_it_is_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.redb");
    let size = || std::fs::metadata(&path).expect("a file").len();
    let open = |max_records| {
        let retention = Retention {
            max_records,
            ..Retention::UNBOUNDED
        };
        let config = sse_broker::DiskConfig {
            compact_above_bytes: 2 << 20,
            ..config(retention)
        };
        DiskBroker::open(folder.path(), config).expect("a log")
    };
    let broker = open(None);
    for batch in 0..40u64 {
        let records = (0..200).map(|n| record("a", &format!("{batch} {n} {}", "x".repeat(1_000))));
        block_on(append(&*broker, records.collect()));
    }
    drop(broker);
    let full = size();
    drop(open(None));
    assert!(size() >= full / 2, "a full file is left as it is");
    let broker = open(Some(100));
    block_on(settle(&*broker));
    drop(broker);
    let trimmed = size();
    let broker = open(Some(100));
    let kept = block_on(read_all(&*broker, broker.bounds().floor, Scope::All, 50));
    assert_eq!(offsets(&kept), (7_901..=8_000).collect::<Vec<_>>());
    eprintln!(
        "{full} bytes full, {trimmed} when all but 100 records were trimmed, {} opened again",
        size()
    );
    assert!(size() < full / 4);
}

/// Replays race with publishers whose events retention takes at once, by rules and by the bounds of the log.
fn races(broker: Arc<dyn Broker>, replays: u32) {
    let is_over = Arc::new(AtomicBool::new(false));
    let publisher = std::thread::spawn({
        let (broker, is_over) = (Arc::clone(&broker), Arc::clone(&is_over));
        move || {
            let mut n = 0u64;
            while !is_over.load(Ordering::Relaxed) {
                let records = (0..8).map(|k| {
                    n += 1;
                    record(
                        ["all", "history/a", "value/a", "history/b"][k % 4],
                        &n.to_string(),
                    )
                });
                block_on(append(&*broker, records.collect()));
            }
            n
        }
    });
    let (mut read, mut gaps) = (0u64, 0u64);
    for replay in 0..replays {
        let name = ["history/a", "value/a", "all", "history/b"][replay as usize % 4];
        let mut after = broker.bounds().floor;
        let mut told = after;
        let mut last: Option<u64> = None;
        for _ in 0..5 {
            let request = sse_broker::ReadRequest {
                after,
                scope: topics(&[name]),
                max_records: 7,
                max_bytes: usize::MAX,
                now: 0,
            };
            let page = block_on(broker.read(request)).expect("a page");
            if let Some(removed) = page.removed.filter(|removed| *removed > told) {
                gaps += 1;
                told = removed;
            }
            if page.trimmed {
                let first = page.records.first();
                told = told.max(first.map_or(page.upto, |r| r.position.offset - 1));
            }
            for record in &page.records {
                let offset = record.position.offset;
                // Each topic's events come every fourth (the histories every fourth of eight, twice).
                if let Some(last) = last
                    && name != "value/a"
                    && offset > last + 4
                {
                    assert!(
                        told >= offset - 4,
                        "{name}: a silent hole from {last} to {offset}"
                    );
                }
                last = Some(offset);
                read += 1;
            }
            assert!(page.upto >= after);
            after = page.upto;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let published = publisher.join().expect("a publisher that got through");
    eprintln!(
        "{replays} replays of {read} records raced with {published} events: {gaps} gaps told, none silent"
    );
}

#[test]
fn five_hundred_replays_race_with_retention_and_have_no_silent_hole() {
    let retention = || Retention {
        max_records: Some(400),
        topics: vec![
            TopicRetention {
                max_records: Some(60),
                ..rule("history/")
            },
            TopicRetention {
                keep_latest: std::num::NonZeroU32::new(1),
                ..rule("value/")
            },
        ],
        ..Retention::UNBOUNDED
    };
    races(
        MemoryBroker::new(MemoryConfig {
            retention: retention(),
            ..MemoryConfig::default()
        }),
        500,
    );
    let folder = tempfile::tempdir().expect("a folder");
    races(
        DiskBroker::open(folder.path(), config(retention())).expect("a log"),
        500,
    );
}
