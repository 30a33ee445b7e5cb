//! The tools for a log that no hub has open: they find what is wrong, and a copy is the same log.

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use redb::{Database, ReadableTable, TableDefinition};
use sse_broker::{
    Broker, DiskBroker, Epoch, LogImport, LogProblem, LogToolError, NewRecord, OpenError, Record,
    Retention, Snapshot, StateChange, StoppedLog, Verification,
};

use crate::contract::EPOCH;
use crate::disk::{config, open};
use crate::faults::seeds;
use crate::support::*;

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const TOPICS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("topics");
const IDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ids");
const STATES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("states");

/// Twelve records of which the first two are trimmed; a snapshot and a state.
fn fill(folder: &Path) {
    block_on(async {
        let ten = Retention {
            max_records: Some(10),
            ..Retention::UNBOUNDED
        };
        let broker = DiskBroker::open(folder, config(ten)).expect("a log");
        for n in 1..=12 {
            let mut record = record_with_id("a", &format!("data {n}"), &format!("id {n}"));
            record.topics.push(topic(["b", "c"][n % 2]));
            record.snapshot = Some(Snapshot::Put(Bytes::from(format!("state {n}"))));
            append(&*broker, vec![record]).await;
        }
        let state = StateChange {
            key: "k".into(),
            value: Some("v".into()),
        };
        broker.put_states(vec![state]).await.expect("a commit");
        broker.close().await;
    });
}

fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    folder
}

fn stopped(folder: &Path) -> StoppedLog {
    StoppedLog::open(folder).expect("a log")
}

fn verified(folder: &Path) -> Verification {
    stopped(folder).verify(&mut |_| ()).expect("readable")
}

fn change(folder: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = Database::open(folder.join("events.redb")).expect("a file");
    let txn = db.begin_write().expect("a transaction");
    change(&txn);
    txn.commit().expect("a commit");
}

fn records(folder: &Path) -> Vec<Result<Record, u64>> {
    let mut all = Vec::new();
    let mut visit = |record, _| {
        all.push(record);
        ControlFlow::Continue(())
    };
    stopped(folder).records(&mut visit).expect("readable");
    all
}

fn contents(folder: &Path) -> Vec<NewRecord> {
    let whole = records(folder).into_iter().map(|r| r.expect("whole"));
    whole.map(|record| record.content).collect()
}

#[test]
fn a_log_is_described_without_being_changed() {
    let folder = filled();
    let file = folder.path().join("events.redb");
    let before = std::fs::read(&file).expect("a file");
    let found = stopped(folder.path()).inspect().expect("readable");
    assert_eq!((found.bounds.floor, found.bounds.head), (2, 12));
    assert_eq!(found.bounds.epoch, EPOCH);
    assert_eq!((found.records, found.topics, found.ids), (10, 3, 10));
    assert_eq!((found.snapshots, found.states), (1, 1));
    assert_eq!((found.oldest, found.newest), (Some(1_000), Some(1_000)));
    assert!(!found.was_left_open);
    assert_eq!(found.file_bytes, before.len() as u64);
    // redb notes that the file is open, and that it was closed.
    let reopened = stopped(folder.path()).inspect().expect("readable");
    assert_eq!(reopened, found);
}

#[test]
fn a_log_that_is_whole_has_no_problem() {
    let folder = filled();
    let mut told = Vec::new();
    let verified = stopped(folder.path()).verify(&mut |done| told.push(done));
    let verified = verified.expect("readable");
    assert_eq!(verified.problems, []);
    assert_eq!((verified.records, verified.problem_count), (10, 0));
    let end = told.last().expect("progress");
    assert_eq!(end.done, end.of);
}

#[test]
fn each_kind_of_damage_is_named() {
    type Damage = fn(&redb::WriteTransaction);
    let cases: [(Damage, &[LogProblem]); 7] = [
        (
            |txn| {
                let mut records = txn.open_table(BLOCKS).expect("a table");
                records.insert(5, &b"not a record at all"[..]).expect("in");
            },
            &[LogProblem::Record(5)],
        ),
        (
            |txn| {
                let mut records = txn.open_table(BLOCKS).expect("a table");
                records.remove(5).expect("out");
            },
            &[LogProblem::Missing {
                after: 4,
                before: 6,
            }],
        ),
        (
            |txn| {
                let mut topics = txn.open_table(TOPICS).expect("a table");
                let key = b"a\0\0\0\0\0\0\0\0\x03";
                topics.insert(&key[..], &b"xxxxx"[..]).expect("in");
            },
            &[LogProblem::Run("a".into()), LogProblem::Index(10)],
        ),
        (
            |txn| {
                let mut topics = txn.open_table(TOPICS).expect("a table");
                topics.remove(&b"b\0\0\0\0\0\0\0\0\x04"[..]).expect("out");
            },
            &[LogProblem::Index(5)],
        ),
        (
            |txn| {
                let mut ids = txn.open_table(IDS).expect("a table");
                ids.insert(12, &b"not a list"[..]).expect("in");
            },
            &[LogProblem::IdList(12), LogProblem::Ids(10)],
        ),
        (
            |txn| {
                let mut ids = txn.open_table(IDS).expect("a table");
                let list = ids.get(12).expect("readable");
                let mut list = list.expect("a list").value().to_vec();
                // A whole list, but the hash of its first id is another's.
                list[1] ^= 1;
                let body = list.len() - 4;
                let mut checksum = crc32fast::Hasher::new();
                checksum.update(&12u64.to_le_bytes());
                checksum.update(&list[..body]);
                list[body..].copy_from_slice(&checksum.finalize().to_le_bytes());
                ids.insert(12, &*list).expect("in");
            },
            &[LogProblem::WrongId(3), LogProblem::Ids(1)],
        ),
        (
            |txn| {
                let mut states = txn.open_table(STATES).expect("a table");
                states.insert("k", &b"other"[..]).expect("in");
            },
            &[LogProblem::State("k".into())],
        ),
    ];
    for (damage, expected) in cases {
        let folder = filled();
        change(folder.path(), damage);
        let verified = verified(folder.path());
        // A record that is gone takes what points at it along.
        let about_itself = |p: &&LogProblem| {
            !matches!(
                expected,
                [LogProblem::Record(_) | LogProblem::Missing { .. }]
            ) || !matches!(p, LogProblem::Ids(_) | LogProblem::Index(_))
        };
        let told: Vec<_> = verified.problems.iter().filter(about_itself).collect();
        assert_eq!(told, expected.iter().collect::<Vec<_>>());
        assert!(verified.problem_count > 0);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_file_is_found_or_harmless_and_never_a_panic() {
    let folder = filled();
    let file = folder.path().join("events.redb");
    let whole = std::fs::read(&file).expect("a file");
    let used: Vec<_> = (4096..whole.len()).filter(|at| whole[*at] != 0).collect();
    let expected = contents(folder.path());
    let mut found = 0;
    for seed in seeds(64) {
        let random = &mut fastrand::Rng::with_seed(seed);
        // The first page says what the file is; who cannot read it refuses it. Most of a small file is empty.
        let at = match seed % 2 {
            0 => used[random.usize(..used.len())],
            _ => random.usize(4096..whole.len()),
        };
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << random.u8(..8);
        std::fs::write(&file, &damaged).expect("written");
        let fine = match StoppedLog::open(folder.path()) {
            Ok(mut log) => log
                .verify(&mut |_| ())
                .is_ok_and(|verified| verified.problem_count == 0),
            Err(_) => false,
        };
        if fine {
            assert_eq!(contents(folder.path()), expected, "byte {at}");
        } else {
            found += 1;
        }
        std::fs::write(&file, &whole).expect("written");
    }
    assert!(found > 0, "some of the bits are of records");
}

#[test]
fn what_is_no_log_of_a_stopped_hub_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let nothing = StoppedLog::open(folder.path());
    assert!(
        matches!(nothing, Err(OpenError::NoLog { .. })),
        "{nothing:?}"
    );
    let nowhere = StoppedLog::open(&folder.path().join("nowhere"));
    assert!(matches!(nowhere, Err(OpenError::NoLog { .. })));
    let entries = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(entries, 0);

    let running = open(folder.path());
    let busy = StoppedLog::open(folder.path());
    assert!(matches!(busy, Err(OpenError::InUse { .. })), "{busy:?}");
    drop(running);

    std::fs::write(folder.path().join("events.redb"), "a diary").expect("written");
    let other = StoppedLog::open(folder.path());
    assert!(matches!(other, Err(OpenError::NotALog { .. })), "{other:?}");
}

#[test]
fn compacting_gives_space_back_and_keeps_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    block_on(async {
        let broker = open(folder.path());
        let large = || record("a", &"x".repeat(1 << 16));
        for _ in 0..64 {
            append(&*broker, vec![large()]).await;
        }
        broker.close().await;
        let few = Retention {
            max_records: Some(3),
            ..Retention::UNBOUNDED
        };
        let broker = DiskBroker::open(folder.path(), config(few)).expect("a log");
        append(&*broker, vec![large(), record("b", "last")]).await;
        broker.close().await;
    });
    let before = contents(folder.path());
    let sizes = stopped(folder.path()).compact().expect("compacted");
    assert!(sizes.1 < sizes.0, "{sizes:?}");
    assert_eq!(contents(folder.path()), before);
    assert_eq!(verified(folder.path()).problem_count, 0);
}

fn copy(from: &Path, import: &mut LogImport) {
    for record in records(from).into_iter().flatten() {
        let offset = record.position.offset;
        import.push(offset, record.content).expect("in order");
    }
}

#[test]
fn a_copy_is_the_same_log() {
    let (old, new) = (filled(), tempfile::tempdir().expect("a folder"));
    let mut import = LogImport::create(new.path(), EPOCH, 2).expect("an empty folder");
    copy(old.path(), &mut import);
    let log = stopped(old.path());
    let bytes = |(topic, bytes): (_, Bytes)| (topic, bytes.to_vec());
    let snapshots: Vec<_> = log
        .snapshots()
        .expect("whole")
        .into_iter()
        .map(bytes)
        .collect();
    let was = log.inspect().expect("whole");
    drop(log);
    import.put_snapshots(&snapshots).expect("a commit");
    let imported = import.finish().expect("a log");
    assert_eq!((imported.stored, imported.duplicates), (10, 0));

    assert_eq!(records(new.path()), records(old.path()));
    assert_eq!(verified(new.path()).problem_count, 0);
    let is = stopped(new.path()).inspect().expect("whole");
    assert_eq!((is.bounds, is.snapshots), (was.bounds, was.snapshots));
    // A hub goes on with it: positions, ids and topics are those that were.
    block_on(async {
        let broker = open(new.path());
        let again = append_one(&*broker, record("a", "13")).await;
        assert_eq!(stored(&again), 13);
        assert_eq!(broker.locate(id("id 7")).await.expect("readable"), Some(7));
        let of_b = read_all(&*broker, 2, topics(&["b"]), 100).await;
        assert_eq!(offsets(&of_b), [4, 6, 8, 10, 12]);
    });
}

#[test]
fn a_hole_in_a_copy_is_a_gap_that_is_announced() {
    let (old, new) = (filled(), tempfile::tempdir().expect("a folder"));
    change(old.path(), |txn| {
        let mut records = txn.open_table(BLOCKS).expect("a table");
        records.insert(5, &b"damaged"[..]).expect("in");
    });
    let mut import = LogImport::create(new.path(), EPOCH, 2).expect("an empty folder");
    copy(old.path(), &mut import);
    assert_eq!(import.finish().expect("a log").stored, 9);
    block_on(async {
        let broker = open(new.path());
        assert_eq!((broker.bounds().floor, broker.bounds().head), (2, 12));
        let page = broker.read(everything_after(4)).await.expect("readable");
        assert!(page.trimmed);
        assert_eq!(page.records[0].position.offset, 6);
    });
}

#[test]
fn a_new_log_wants_an_empty_folder_and_records_in_order() {
    let folder = filled();
    let refused = LogImport::create(folder.path(), EPOCH, 0);
    assert!(
        matches!(refused, Err(LogToolError::NotEmpty(_))),
        "{refused:?}"
    );

    let new = tempfile::tempdir().expect("a folder");
    let place = new.path().join("log");
    let mut import = LogImport::create(&place, EPOCH, 5).expect("no folder yet");
    for at in [5, 1] {
        let early = import.push(at, record("a", "x"));
        assert!(
            matches!(early, Err(LogToolError::OutOfOrder { .. })),
            "{early:?}"
        );
    }
    import
        .push(6, record_with_id("a", "x", "same"))
        .expect("taken");
    import
        .push(7, record_with_id("a", "x", "same"))
        .expect("taken");
    let twice = import.finish();
    assert!(matches!(twice, Err(LogToolError::SameId(7))), "{twice:?}");
    // What broke off is no log.
    let nothing = StoppedLog::open(&place);
    assert!(
        matches!(nothing, Err(OpenError::NoLog { .. })),
        "{nothing:?}"
    );
}

#[test]
fn an_appended_copy_gets_new_positions_and_stores_no_id_twice() {
    let (old, other) = (filled(), tempfile::tempdir().expect("a folder"));
    block_on(async {
        let config = sse_broker::DiskConfig {
            epoch: Some(Epoch(1)),
            ..config(Retention::UNBOUNDED)
        };
        let broker = DiskBroker::open(other.path(), config).expect("a log");
        append(
            &*broker,
            vec![record("a", "first"), record_with_id("a", "mine", "id 12")],
        )
        .await;
        broker.close().await;
    });
    for expected in [(9, 0, 1), (0, 9, 1)] {
        let mut import = LogImport::append(other.path()).expect("a log");
        copy(old.path(), &mut import);
        let done = import.finish().expect("a log");
        assert_eq!((done.stored, done.duplicates, done.conflicts), expected);
    }
    let all = records(other.path());
    let last = all.last().expect("records").as_ref().expect("whole");
    assert_eq!(last.position.to_string(), "0000000000000001-11");
    assert_eq!(last.content.event.data.as_ref(), "data 11");
    assert_eq!(verified(other.path()).problem_count, 0);
}
