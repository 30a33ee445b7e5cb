//! Power cuts, failing and full disks, torn and flipped files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sse_broker::{
    AppendError, Appended, Broker, DiskBroker, DiskConfig, Durability, NewRecord, OpenError,
    ReadError, Retention, Scope,
};

use crate::disk::config;
use crate::sim_disk::SimDisk;
use crate::support::*;

/// The seeds that a test runs: `SSE_BROKER_SEEDS`, a number or a piece such as `5000..10000`, or so many.
pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("SSE_BROKER_SEEDS") else {
        return 0..default;
    };
    let number = |text: &str| {
        text.parse()
            .expect("a number, or two with dots between them")
    };
    match asked.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&asked),
    }
}

pub(crate) fn open_on(disk: &SimDisk, config: DiskConfig) -> Result<Arc<DiskBroker>, OpenError> {
    let disk = disk.clone();
    DiskBroker::open_on(move || disk.file(), || None, config)
}

pub(crate) fn numbered(n: u64) -> NewRecord {
    let name = ["a", "b", "c"][n as usize % 3];
    record_with_id(
        name,
        &format!("event {n} {}", "x".repeat(n as usize % 300)),
        &format!("id-{n}"),
    )
}

/// Appends batches until the power goes; what was acknowledged goes into `acked`, by number.
async fn append_until_it_fails(
    broker: &DiskBroker,
    next: &mut u64,
    acked: &mut BTreeMap<u64, u64>,
    random: &mut fastrand::Rng,
) {
    for _ in 0..20 {
        let mut calls = Vec::new();
        for _ in 0..random.u64(1..4) {
            let numbers: Vec<_> = (*next..*next + random.u64(1..6)).collect();
            *next += numbers.len() as u64;
            calls.push((
                numbers.clone(),
                broker.append(numbers.into_iter().map(numbered).collect()),
            ));
        }
        for (numbers, call) in calls {
            match call.await {
                Ok(appended) => acked.extend(numbers.into_iter().zip(appended.iter().map(stored))),
                Err(AppendError::Fenced { .. } | AppendError::Unknown { .. }) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_operation() {
    let mut survived = 0;
    let range = seeds(100);
    for seed in range.clone() {
        let random = &mut fastrand::Rng::with_seed(seed);
        let disk = SimDisk::new();
        let (mut next, mut acked) = (0, BTreeMap::new());
        for round in 0..3 {
            // The first round may lose the power while the log is made, the others while it is repaired.
            disk.cut_power_after(if round == 0 {
                random.u64(20..150)
            } else {
                random.u64(1..80)
            });
            if let Ok(broker) = open_on(&disk, config(Retention::UNBOUNDED)) {
                block_on(append_until_it_fails(
                    &broker, &mut next, &mut acked, random,
                ));
            }
            disk.restart(random);
        }
        if acked.is_empty() && !disk.bytes().starts_with(b"redb") {
            // The power went before there was a log. In a folder such a file has another name.
            continue;
        }
        let broker = open_on(&disk, config(Retention::UNBOUNDED))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let records = block_on(read_all(&*broker, 0, Scope::All, 100));
        let offsets = offsets(&records);
        assert_eq!(
            offsets,
            (1..=broker.bounds().head).collect::<Vec<_>>(),
            "seed {seed}"
        );
        let mut found = BTreeMap::new();
        for record in &records {
            let id = record.content.event.id.as_ref().expect("an id");
            let n: u64 = id.as_str()[3..].parse().expect("a number");
            assert_eq!(record.content, numbered(n), "seed {seed}");
            assert_eq!(
                found.insert(n, record.position.offset),
                None,
                "seed {seed}: twice"
            );
            let located = block_on(broker.locate(id.clone())).expect("readable");
            assert_eq!(located, Some(record.position.offset), "seed {seed}");
        }
        for (n, offset) in &acked {
            assert_eq!(
                found.get(n),
                Some(offset),
                "seed {seed}: event {n} was acknowledged"
            );
        }
        for name in ["a", "b", "c"] {
            let of_topic = block_on(read_all(&*broker, 0, topics(&[name]), 100));
            assert!(
                of_topic
                    .iter()
                    .all(|r| r.content.topics[0].as_str() == name)
            );
            let expected = records
                .iter()
                .filter(|r| r.content.topics[0].as_str() == name)
                .count();
            assert_eq!(of_topic.len(), expected, "seed {seed}");
        }
        survived += acked.len();
    }
    eprintln!(
        "{survived} acknowledged events survived {} seeds",
        range.end
    );
    assert!(
        survived as u64 > range.end,
        "the power went too early to show anything"
    );
}

#[test]
fn below_fsync_a_power_cut_that_may_have_lost_something_is_another_epoch() {
    let disk = SimDisk::new();
    let config = |durability| DiskConfig {
        durability,
        epoch: None,
        ..config(Retention::UNBOUNDED)
    };
    let broker = open_on(&disk, config(Durability::Memory)).expect("a log");
    let first = broker.bounds().epoch;
    block_on(append_one(&*broker, numbered(1)));
    disk.cut_power_after(0);
    drop(broker);
    disk.restart(&mut fastrand::Rng::with_seed(1));
    // At the next start the level is `fsync`; what counts is the level at which it was lost.
    let broker = open_on(&disk, config(Durability::Fsync)).expect("a log");
    assert_ne!(broker.bounds().epoch, first);
    let second = broker.bounds().epoch;
    drop(broker);
    let broker = open_on(&disk, config(Durability::Fsync)).expect("a log");
    assert_eq!(broker.bounds().epoch, second);
}

#[test]
fn a_failed_sync_fences_the_writer_and_leaves_the_readers_alone() {
    for syncs in 0..8 {
        let disk = SimDisk::new();
        let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
        let listener = Listener::follow(&*broker);
        block_on(append(&*broker, (0..50).map(numbered).collect()));
        disk.fail_a_sync_after(syncs);
        let mut stored = 50;
        let failed = loop {
            // Large enough that the file grows now and then: that syncs as well.
            let mut large = numbered(stored);
            large.event.data = "x".repeat(100_000).into();
            match block_on(broker.append(vec![large])) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, AppendError::Unknown { .. }), "{failed:?}");
        assert!(broker.health().fenced.is_some());
        let operations = disk.operations();
        for _ in 0..3 {
            let later = block_on(broker.append(vec![numbered(1_000)]));
            assert!(
                matches!(later, Err(AppendError::Fenced { .. })),
                "{later:?}"
            );
        }
        // What was committed is there to read, and only that; nothing else was heard.
        assert_eq!(broker.bounds().head, stored);
        let read = block_on(read_all(&*broker, 0, Scope::All, 1_000));
        assert_eq!(offsets(&read), (1..=stored).collect::<Vec<_>>());
        assert_eq!(offsets(&listener.heard()), (1..=stored).collect::<Vec<_>>());
        assert_eq!(
            block_on(broker.locate(id("id-7"))).expect("readable"),
            Some(8)
        );
        drop(broker);
        assert_eq!(
            disk.operations(),
            operations,
            "the file is not touched after the failure"
        );

        disk.restart(&mut fastrand::Rng::with_seed(syncs));
        let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
        let read = block_on(read_all(&*broker, 0, Scope::All, 1_000));
        assert!(read.len() as u64 >= stored, "nothing acknowledged is lost");
        block_on(append_one(&*broker, record("a", "on it goes")));
    }
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_commit_loses_nothing_and_recovers_by_itself() {
    let disk = SimDisk::new();
    let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
    let listener = Listener::follow(&*broker);
    block_on(append(&*broker, (0..50).map(numbered).collect()));
    disk.set_capacity(Some(disk.bytes().len() as u64));
    let large = |n: u64| NewRecord {
        event: sse_protocol::Event::new("x".repeat(200_000)).with_id(id(&format!("large-{n}"))),
        ..numbered(n)
    };
    let mut stored = 50;
    let refused = loop {
        match block_on(broker.append(vec![large(stored)])) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full), "{refused:?}");
    for _ in 0..3 {
        let still = block_on(broker.append(vec![large(stored)]));
        assert!(matches!(still, Err(AppendError::Full)), "{still:?}");
        let read = block_on(read_all(&*broker, 0, Scope::All, 1_000));
        assert_eq!(offsets(&read), (1..=stored).collect::<Vec<_>>());
    }
    disk.set_capacity(None);
    for _ in 0..5 {
        let appended = block_on(append_one(&*broker, large(stored)));
        stored += 1;
        assert_eq!(
            appended,
            Appended::Stored(sse_broker::Position {
                epoch: broker.bounds().epoch,
                offset: stored,
            })
        );
    }
    assert_eq!(offsets(&listener.heard()), (1..=stored).collect::<Vec<_>>());
    drop(broker);
    let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
    let read = block_on(read_all(&*broker, 0, Scope::All, 1_000));
    assert_eq!(offsets(&read), (1..=stored).collect::<Vec<_>>());
}

#[test]
fn a_disk_with_less_than_the_reserve_takes_nothing_until_there_is_space() {
    let disk = SimDisk::new();
    let available = Arc::new(AtomicU64::new(u64::MAX));
    let (file, free) = (disk.clone(), Arc::clone(&available));
    let broker = DiskBroker::open_on(
        move || file.file(),
        move || Some(free.load(Ordering::Relaxed)),
        DiskConfig {
            min_free_bytes: 1 << 20,
            ..config(Retention::UNBOUNDED)
        },
    )
    .expect("a log");
    block_on(append_one(&*broker, numbered(1)));
    available.store(1 << 20, Ordering::Relaxed);
    let syncs = disk.syncs();
    let refused = block_on(broker.append(vec![numbered(2)]));
    assert!(matches!(refused, Err(AppendError::Full)), "{refused:?}");
    assert_eq!(disk.syncs(), syncs, "the disk is left alone");
    block_on(broker.trim(0)).expect("trimming is still allowed");
    available.store(2 << 20, Ordering::Relaxed);
    assert_eq!(stored(&block_on(append_one(&*broker, numbered(2)))), 2);
}

#[test]
#[ignore = "mounts a small tmpfs, and so needs root"]
fn a_small_disk_that_fills_up_answers_full_and_recovers_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program)
            .args(args)
            .arg(folder.path())
            .status();
        assert!(status.expect("started").success(), "{program} {args:?}");
    };
    mount("mount", &["-t", "tmpfs", "-o", "size=32m", "tmpfs"]);
    let filler = folder.path().join("filler");
    let log = folder.path().join("log");
    let outcome = std::panic::catch_unwind(|| {
        for min_free_bytes in [0, 4 << 20] {
            std::fs::write(&filler, vec![1; 8 << 20]).expect("written");
            let config = || DiskConfig {
                min_free_bytes,
                ..config(Retention::UNBOUNDED)
            };
            let broker = DiskBroker::open(&log, config()).expect("a log");
            let before = broker.bounds().head;
            let mut stored = before;
            let refused = loop {
                let many = (0..64).map(|_| record("a", &"x".repeat(1_000))).collect();
                match block_on(broker.append(many)) {
                    Ok(_) => stored += 64,
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, AppendError::Full), "{refused:?}");
            let begun = std::time::Instant::now();
            let still = block_on(broker.append(vec![record("a", &"x".repeat(300_000))]));
            assert!(matches!(still, Err(AppendError::Full)), "{still:?}");
            eprintln!(
                "full after {} records, answered in {:?}",
                stored - before,
                begun.elapsed()
            );
            assert_eq!(
                block_on(read_all(&*broker, 0, Scope::All, 100)).len() as u64,
                stored
            );
            std::fs::remove_file(&filler).expect("space");
            let begun = std::time::Instant::now();
            block_on(append_one(&*broker, record("a", "there is space again")));
            eprintln!("recovered in {:?}", begun.elapsed());
            drop(broker);
            std::fs::remove_dir_all(&log).expect("an empty disk");
        }
    });
    mount("umount", &[]);
    outcome.expect("the test");
}

/// Opens a file that may be damaged: what it gives must be what was written, or an error.
fn open_damaged(bytes: Vec<u8>, written: &[NewRecord], what: &str) -> Outcome {
    let disk = SimDisk::image(bytes);
    let broker = match open_on(&disk, config(Retention::UNBOUNDED)) {
        Ok(broker) => broker,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{what}: {error}");
            return Outcome::Refused;
        }
    };
    let head = broker.bounds().head;
    let (mut after, mut missing, mut is_announced) = (0, false, true);
    while after < head {
        match block_on(broker.read(everything_after(after))) {
            Ok(page) => {
                let mut expected = after + 1;
                for record in &page.records {
                    let offset = record.position.offset;
                    let said = &written[offset as usize - 1];
                    assert_eq!(&record.content, said, "{what}: not what was written");
                    missing |= offset != expected;
                    is_announced &= offset == expected || page.trimmed;
                    expected = offset + 1;
                }
                assert!(page.upto > after, "{what}");
                after = page.upto;
            }
            Err(ReadError::Storage { .. }) => return Outcome::Unreadable,
            Err(other) => panic!("{what}: {other}"),
        }
    }
    assert!(is_announced, "{what}: a silent hole");
    if missing || head < written.len() as u64 {
        Outcome::Part
    } else {
        Outcome::Whole
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Whole,
    Part,
    Unreadable,
    Refused,
}

fn a_log_of(records: &[NewRecord]) -> SimDisk {
    let disk = SimDisk::new();
    let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
    for batch in records.chunks(7) {
        block_on(append(&*broker, batch.to_vec()));
    }
    drop(broker);
    disk
}

#[test]
fn a_commit_syncs_once_and_writes_little() {
    let disk = SimDisk::new();
    let broker = open_on(&disk, config(Retention::UNBOUNDED)).expect("a log");
    for batch in (0..2_000).collect::<Vec<_>>().chunks(20) {
        block_on(append(
            &*broker,
            batch.iter().copied().map(numbered).collect(),
        ));
    }
    let (syncs, written) = (disk.syncs(), disk.written_bytes());
    for n in 2_000..2_100 {
        block_on(append_one(&*broker, numbered(n)));
    }
    let written = (disk.written_bytes() - written) / 100;
    eprintln!("a commit of one record of some 300 bytes writes {written} bytes");
    assert!(written < 64 * 1024, "{written} bytes");
    // The file may grow meanwhile, which is a sync of its own.
    assert!((100..110).contains(&(disk.syncs() - syncs)));
}

#[test]
fn a_file_cut_short_is_whole_or_refused() {
    let written: Vec<_> = (0..200).map(numbered).collect();
    let whole = a_log_of(&written).bytes();
    let mut outcomes = BTreeMap::<_, u32>::new();
    let random = &mut fastrand::Rng::with_seed(5);
    let lens = (0..40)
        .map(|n| n * 103)
        .chain((0..60).map(|_| random.usize(..whole.len())));
    for len in lens.chain([whole.len() - 1, whole.len()]) {
        if len == 0 {
            continue; // An empty file is a new log; in a folder it is refused.
        }
        let outcome = open_damaged(whole[..len].to_vec(), &written, &format!("cut at {len}"));
        assert!(len == whole.len() || outcome != Outcome::Whole || len > whole.len() / 2);
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!("a file of {} bytes cut short: {outcomes:?}", whole.len());
}

/// The engine panicked here while other tables were open, and the process ended.
#[test]
fn a_table_whose_name_is_damaged_is_refused_and_nothing_ends() {
    let written: Vec<_> = (0..50).map(numbered).collect();
    let whole = a_log_of(&written).bytes();
    let mut refused = 0;
    for name in ["blocks", "topics", "ids", "snapshots", "states", "meta"] {
        let places = whole.windows(name.len()).enumerate();
        let places = places.filter_map(|(at, bytes)| (bytes == name.as_bytes()).then_some(at));
        for at in places {
            for flip in [0x80, 0x01] {
                let mut bytes = whole.clone();
                bytes[at + 1] ^= flip;
                let what = format!("{name} at {at}");
                refused += u32::from(open_damaged(bytes, &written, &what) == Outcome::Refused);
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_flipped_bit_is_found_out_or_changes_nothing() {
    let written: Vec<_> = (0..200).map(numbered).collect();
    let whole = a_log_of(&written).bytes();
    // Most of a small file is empty: the bits that matter are where something is.
    let used: Vec<_> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut outcomes = BTreeMap::<_, u32>::new();
    for seed in seeds(200) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let at = used[random.usize(..used.len())];
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.u8(..8);
        let outcome = open_damaged(bytes, &written, &format!("seed {seed}, a bit of byte {at}"));
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!(
        "a flipped bit among {} used bytes: {outcomes:?}",
        used.len()
    );
}
