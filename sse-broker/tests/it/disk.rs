//! The log on disk keeps the contract, and keeps what it was told.

use std::path::Path;
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable};
use sse_broker::{
    AppendError, Appended, Broker, DiskBroker, DiskConfig, Durability, OpenError, Retention, Scope,
    StoppedLog,
};
use tempfile::TempDir;

use crate::contract::{Backend, EPOCH, Reopened, contract};
use crate::support::*;

/// No reserve: the tests' folders may be on a small disk.
pub(crate) fn config(retention: Retention) -> DiskConfig {
    DiskConfig {
        retention,
        epoch: Some(EPOCH),
        min_free_bytes: 0,
        full_retry_after: std::time::Duration::ZERO,
        cache_bytes: 4 << 20,
        ..DiskConfig::default()
    }
}

pub(crate) fn open(folder: &Path) -> Arc<DiskBroker> {
    DiskBroker::open(folder, config(Retention::UNBOUNDED)).expect("a log")
}

mod fsync {
    use super::*;

    struct OnDisk {
        folder: TempDir,
        retention: Retention,
        broker: Option<Arc<DiskBroker>>,
    }

    impl Backend for OnDisk {
        fn new(retention: Retention) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let broker = DiskBroker::open(folder.path(), config(retention.clone())).expect("a log");
            Self {
                folder,
                retention,
                broker: Some(broker),
            }
        }

        fn broker(&self) -> Arc<dyn Broker> {
            self.broker.clone().expect("an open log")
        }

        fn reopen(&mut self) -> Reopened {
            self.broker = None;
            let broker = DiskBroker::open(self.folder.path(), config(self.retention.clone()));
            self.broker = Some(broker.expect("the same log"));
            Reopened::Kept
        }
    }

    contract!(OnDisk);
}

#[test]
fn a_second_hub_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path());
    let second = DiskBroker::open(folder.path(), DiskConfig::default());
    let error = second.expect_err("in use");
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(!error.to_string().contains('\n'));
    block_on(append_one(&*first, record("a", "x")));
}

#[test]
fn a_folder_that_cannot_be_used_is_said_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").expect("written");
    let error = DiskBroker::open(&file.join("log"), DiskConfig::default()).expect_err("no");
    assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn a_file_that_is_no_log_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    let path = folder.path().join("events.redb");
    for content in [
        &b""[..],
        b"redb",
        b"Dear diary, today I was mistaken for a log.",
    ] {
        std::fs::write(&path, content).expect("written");
        let error = DiskBroker::open(folder.path(), DiskConfig::default()).expect_err("no log");
        assert!(matches!(error, OpenError::NotALog { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).expect("still there"), content);
    }
}

const META: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");

/// Says of a log that it has another format; what stands there then.
fn set_format(path: &Path, format: u32) -> Vec<u8> {
    let db = redb::Database::open(path).expect("a database");
    let txn = db.begin_write().expect("a transaction");
    let mut value = format.to_le_bytes().to_vec();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"format");
    hasher.update(&value);
    value.extend_from_slice(&hasher.finalize().to_le_bytes());
    txn.open_table(META)
        .expect("a table")
        .insert("format", &*value)
        .expect("written");
    txn.commit().expect("committed");
    value
}

#[test]
fn another_format_is_refused_and_left_alone() {
    for format in [1, 5] {
        let folder = tempfile::tempdir().expect("a folder");
        block_on(append_one(&*open(folder.path()), record("a", "x")));
        let path = folder.path().join("events.redb");
        let other = set_format(&path, format);
        let error = DiskBroker::open(folder.path(), DiskConfig::default());
        match error.expect_err("another") {
            OpenError::OlderFormat { found, .. } => assert_eq!((found, format), (1, 1)),
            OpenError::NewerFormat { found, .. } => assert_eq!((found, format), (5, 5)),
            other => panic!("{other}"),
        }
        let db = redb::Database::open(&path).expect("a database");
        let txn = db.begin_read().expect("a transaction");
        let meta = txn.open_table(META).expect("a table");
        assert_eq!(
            meta.get("format")
                .expect("readable")
                .map(|v| v.value().to_vec()),
            Some(other)
        );
    }
}

#[test]
fn the_formats_before_this_one_are_read_and_become_this_one() {
    for format in [2, 3] {
        let folder = tempfile::tempdir().expect("a folder");
        block_on(append_one(&*open(folder.path()), record("a", "x")));
        set_format(&folder.path().join("events.redb"), format);
        let broker = open(folder.path());
        assert_eq!(broker.bounds().head, 1);
        drop(broker);
        let log = StoppedLog::open(folder.path()).expect("a log");
        assert_eq!(log.inspect().expect("readable").format, 4);
    }
}

/// What points at the newest records is not in the file when the process is killed.
#[test]
fn the_indexes_of_a_log_that_was_not_closed_are_made_up_for() {
    let retention = Retention {
        max_records: Some(6_000),
        ..Retention::UNBOUNDED
    };
    let folder = tempfile::tempdir().expect("a folder");
    let broker = DiskBroker::open(folder.path(), config(retention.clone())).expect("a log");
    let of = |n: u64| {
        let mut record = record_with_id(&format!("t/{}", n % 7), "x", &format!("id {n}"));
        record.topics.push(topic(&format!("rare/{}", n / 1_000)));
        record
    };
    for group in 0..20 {
        let records = (group * 500..group * 500 + 500).map(of).collect();
        block_on(append(&*broker, records));
    }
    let check = |broker: &DiskBroker| {
        assert_eq!(
            (broker.bounds().floor, broker.bounds().head),
            (4_000, 10_000)
        );
        for n in (0..10_000).step_by(331) {
            let found = block_on(broker.locate(id(&format!("id {n}")))).expect("readable");
            assert_eq!(found, (n >= 4_000).then_some(n + 1), "{n}");
        }
        for (name, expected) in [
            (
                "t/3",
                (4_000..10_000).filter(|n| n % 7 == 3).collect::<Vec<_>>(),
            ),
            ("rare/3", vec![]),
            ("rare/8", (8_000..9_000).collect()),
        ] {
            let read = block_on(read_all(broker, 4_000, topics(&[name]), 100));
            let expected: Vec<_> = expected.into_iter().map(|n| n + 1).collect();
            assert_eq!(offsets(&read), expected, "{name}");
        }
        for n in [4_000, 7_777, 9_999] {
            let again = block_on(append_one(broker, of(n)));
            assert!(
                matches!(again, Appended::Duplicate(at) if at.offset == n + 1),
                "{again:?}"
            );
        }
    };
    check(&broker);
    // As a kill would leave it.
    let copy = tempfile::tempdir().expect("a folder");
    let name = "events.redb";
    std::fs::copy(folder.path().join(name), copy.path().join(name)).expect("copied");
    for _ in 0..2 {
        let mut stopped = StoppedLog::open(copy.path()).expect("a log");
        let found = stopped.inspect().expect("readable");
        assert_eq!((found.records, found.ids, found.topics), (6_000, 6_000, 13));
        let verified = stopped.verify(&mut |_| ()).expect("readable");
        assert_eq!(verified.problems, []);
        drop(stopped);
        // The second time it was closed.
        check(&DiskBroker::open(copy.path(), config(retention.clone())).expect("a log"));
    }
}

#[test]
fn the_epoch_stays_with_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = || DiskConfig {
        epoch: None,
        ..config(Retention::UNBOUNDED)
    };
    let epoch = || {
        DiskBroker::open(folder.path(), config())
            .expect("a log")
            .bounds()
            .epoch
    };
    let first = epoch();
    assert_eq!(epoch(), first);
    let other = tempfile::tempdir().expect("a folder");
    let other = DiskBroker::open(other.path(), config())
        .expect("a log")
        .bounds()
        .epoch;
    assert_ne!(first, other);
}

#[test]
fn below_fsync_a_clean_end_keeps_the_epoch_and_the_records() {
    for durability in [Durability::Os, Durability::Memory] {
        let folder = tempfile::tempdir().expect("a folder");
        for round in 1..=3 {
            let config = DiskConfig {
                durability,
                ..config(Retention::UNBOUNDED)
            };
            let broker = DiskBroker::open(folder.path(), config).expect("a log");
            assert_eq!(broker.durability(), durability);
            assert_eq!(broker.bounds().epoch, EPOCH);
            assert_eq!(
                stored(&block_on(append_one(&*broker, record("a", "x")))),
                round
            );
        }
    }
}

#[test]
fn what_waits_behind_a_slow_commit_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let weight = record("a", "x").weight_bytes();
    let config = DiskConfig {
        max_pending_bytes: 20 * weight,
        ..config(Retention::UNBOUNDED)
    };
    let broker = DiskBroker::open(folder.path(), config).expect("a log");
    let calls: Vec<_> = (0..5_000)
        .map(|_| broker.append(vec![record("a", "x")]))
        .collect();
    let (mut stored, mut busy) = (0, 0);
    block_on(async {
        for call in calls {
            match call.await {
                Ok(_) => stored += 1,
                Err(AppendError::Busy) => busy += 1,
                Err(other) => panic!("{other}"),
            }
        }
    });
    assert!(stored >= 20 && busy > 0, "{stored} stored, {busy} refused");
    assert_eq!(broker.bounds().head, stored);
}

const BLOCKS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("blocks");
const TOPICS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("topics");

#[test]
fn damaged_records_are_left_out_and_announced_and_the_rest_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let broker = open(folder.path());
        // Blocks of seven, one and two records.
        for count in [7, 1, 2] {
            let records = (0..count).map(|_| record("a", "x")).collect();
            block_on(append(&*broker, records));
        }
    }
    {
        let db = redb::Database::open(folder.path().join("events.redb")).expect("a database");
        let txn = db.begin_write().expect("a transaction");
        {
            let mut blocks = txn.open_table(BLOCKS).expect("a table");
            let block = blocks.get(7).expect("readable").expect("a block");
            let mut bytes = block.value().to_vec();
            let head = 12 + 7 * 4 + 4;
            let record_bytes = (bytes.len() - head) / 7;
            for offset in [1, 4, 5] {
                bytes[head + (offset - 1) * record_bytes + 20] ^= 1;
            }
            drop(block);
            blocks.insert(7, &*bytes).expect("written");
            blocks.remove(8).expect("removed");
        }
        txn.commit().expect("committed");
    }
    let broker = open(folder.path());
    for scope in [Scope::All, topics(&["a"])] {
        let (mut after, mut heard) = (0, Vec::new());
        while after < 10 {
            let page = block_on(broker.read(sse_broker::ReadRequest {
                scope: scope.clone(),
                ..everything_after(after)
            }))
            .expect("a page");
            assert!(page.upto > after);
            after = page.upto;
            heard.push((page.trimmed, offsets(&page.records)));
        }
        assert_eq!(
            heard,
            [(true, vec![2, 3]), (true, vec![6, 7]), (true, vec![9, 10])]
        );
    }
    assert_eq!(
        stored(&block_on(append_one(&*broker, record("a", "x")))),
        11
    );
}

#[test]
fn a_damaged_index_of_topics_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    block_on(append(
        &*open(folder.path()),
        (0..10).map(|_| record("a", "x")).collect(),
    ));
    {
        let db = redb::Database::open(folder.path().join("events.redb")).expect("a database");
        let txn = db.begin_write().expect("a transaction");
        {
            let mut runs = txn.open_table(TOPICS).expect("a table");
            runs.insert(&b"a\0\0\0\0\0\0\0\0\x01"[..], &b"not a run"[..])
                .expect("written");
        }
        txn.commit().expect("committed");
    }
    let broker = open(folder.path());
    let read = block_on(read_all(&*broker, 0, topics(&["a"]), 100));
    assert_eq!(offsets(&read), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_dropped_log_can_be_opened_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for n in 1..=20 {
        let broker = open(folder.path());
        drop(broker.append(vec![record("a", "x")]));
        drop(broker);
        assert_eq!(open(folder.path()).bounds().head, n);
    }
}

#[test]
fn a_read_after_the_end_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(folder.path());
    block_on(broker.close());
    let read = block_on(broker.read(everything_after(0)));
    assert!(
        matches!(read, Err(sse_broker::ReadError::Closed)),
        "{read:?}"
    );
    // And the folder is free, although the old broker still lives.
    open(folder.path());
}
