//! Whether a log is the one that it was: copies, older states, lost commits, and a file that goes away.

use std::path::Path;
use std::time::{Duration, Instant};

use sse_broker::{
    AppendError, Broker, DiskBroker, DiskConfig, Epoch, LogImport, LogTime, OpenError,
};

use crate::disk::open;
use crate::faults::seeds;
use crate::support::*;

/// Opens it as a hub does, whose epochs are random.
fn hub(folder: &Path) -> std::sync::Arc<DiskBroker> {
    DiskBroker::open(folder, DiskConfig::default()).expect("a log")
}

fn hub_same_log(folder: &Path) -> std::sync::Arc<DiskBroker> {
    let config = DiskConfig {
        same_log: true,
        ..DiskConfig::default()
    };
    DiskBroker::open(folder, config).expect("a log")
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

fn append_some(broker: &DiskBroker, count: usize) {
    for _ in 0..count {
        block_on(append_one(broker, record("a", "x")));
    }
}

#[test]
fn a_restart_a_crash_and_compaction_keep_the_epoch() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = hub(folder.path());
    append_some(&broker, 3);
    let epoch = broker.bounds().epoch;
    // As a kill leaves it: what the process wrote is there, and nothing is said of an end.
    let (log, seal) = ("events.redb", "events.seal");
    let killed = [log, seal].map(|name| std::fs::read(folder.path().join(name)).expect("readable"));
    drop(broker);
    for (name, bytes) in [log, seal].iter().zip(&killed) {
        // Into the same file, whose place stays.
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    let broker = hub(folder.path());
    assert_eq!(
        (broker.bounds().epoch, broker.health().new_epoch),
        (epoch, None)
    );
    drop(broker);
    let mut stopped = sse_broker::StoppedLog::open(folder.path()).expect("a log");
    stopped.compact().expect("compacted");
    drop(stopped);
    for _ in 0..3 {
        let broker = hub(folder.path());
        assert_eq!(broker.bounds().epoch, epoch);
        append_some(&broker, 1);
    }
}

#[test]
fn the_time_that_was_noted_last_is_there_after_a_stop_and_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = hub(folder.path());
    assert_eq!(broker.last_time(), None);
    let time = |age| LogTime { age, wall: age + 7 };
    broker.note_time(time(1));
    append_some(&broker, 1);
    // As a kill leaves it.
    let seal = folder.path().join("events.seal");
    let killed = std::fs::read(&seal).expect("readable");
    broker.note_time(time(2));
    drop(broker);
    let broker = hub(folder.path());
    assert_eq!(broker.last_time(), Some(time(2)));
    drop(broker);
    std::fs::write(&seal, killed).expect("written");
    assert_eq!(hub(folder.path()).last_time(), Some(time(1)));
}

#[test]
fn a_copy_is_another_log_unless_the_operator_says_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = hub(folder.path());
    append_some(&broker, 3);
    let epoch = broker.bounds().epoch;
    drop(broker);
    let [copy, same] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    copy_folder(folder.path(), copy.path());
    copy_folder(folder.path(), same.path());
    let broker = hub(copy.path());
    let other = broker.bounds();
    assert_ne!(other.epoch, epoch);
    assert_eq!(other.head, 3, "with all that it had");
    assert!(broker.health().new_epoch.is_some() && !broker.health().has_lost);
    drop(broker);
    assert_eq!(hub(copy.path()).bounds().epoch, other.epoch, "once");
    assert_eq!(hub_same_log(same.path()).bounds().epoch, epoch);
    assert_eq!(
        hub(same.path()).bounds().epoch,
        epoch,
        "said once, it stays"
    );
    assert_eq!(
        hub(folder.path()).bounds().epoch,
        epoch,
        "the original is what it was"
    );
}

#[test]
fn an_older_state_that_is_put_back_is_another_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.redb");
    let broker = hub(folder.path());
    append_some(&broker, 3);
    let epoch = broker.bounds().epoch;
    drop(broker);
    let older = std::fs::read(&file).expect("readable");
    append_some(&hub(folder.path()), 2);
    // Into the same file: its place does not tell.
    std::fs::write(&file, older).expect("written");
    let broker = hub(folder.path());
    assert_ne!(broker.bounds().epoch, epoch);
    assert_eq!(broker.bounds().head, 3);
}

#[test]
fn an_import_is_another_log_unless_the_operator_says_otherwise() {
    let [new, same] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    for folder in [&new, &same] {
        let mut import = LogImport::create(folder.path(), Epoch(7), 2).expect("a folder");
        import.push(3, record("a", "3")).expect("taken");
        import.finish().expect("a log");
    }
    assert_ne!(hub(new.path()).bounds().epoch, Epoch(7));
    assert_eq!(hub_same_log(same.path()).bounds().epoch, Epoch(7));
}

/// A bit of a page is flipped after a kill. redb may go back to the commit before, without a word.
#[test]
fn a_log_that_opens_without_what_it_acknowledged_says_so_and_has_another_epoch() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = hub(folder.path());
    let epoch = broker.bounds().epoch;
    append_some(&broker, 20);
    for _ in 0..5 {
        block_on(append(
            &*broker,
            (0..100).map(|_| record("a", "many")).collect(),
        ));
    }
    let head = broker.bounds().head;
    let file = folder.path().join("events.redb");
    let killed = std::fs::read(&file).expect("readable");
    let seal = std::fs::read(folder.path().join("events.seal")).expect("readable");
    drop(broker);
    let (mut whole, mut refused, mut fell_back) = (0, 0, 0);
    for seed in seeds(200) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut damaged = killed.clone();
        match random.u8(0..3) {
            0 => damaged[random.usize(0..killed.len())] ^= 1 << random.u8(0..8),
            1 => damaged[random.usize(0..killed.len() / 4096) * 4096..][..4096].fill(0),
            _ => damaged.truncate(random.usize(0..killed.len())),
        }
        std::fs::write(&file, &damaged).expect("written");
        std::fs::write(folder.path().join("events.seal"), &seal).expect("written");
        match DiskBroker::open(folder.path(), DiskConfig::default()) {
            Err(OpenError::InUse { .. }) => panic!("seed {seed}: nobody has it"),
            Err(_) => refused += 1,
            Ok(broker) => {
                let (bounds, health) = (broker.bounds(), broker.health());
                if bounds.head >= head {
                    whole += 1;
                } else {
                    assert!(health.has_lost, "seed {seed}: {bounds:?} without a word");
                    assert_ne!(bounds.epoch, epoch, "seed {seed}");
                    fell_back += 1;
                }
            }
        }
    }
    println!("{whole} whole, {refused} refused, {fell_back} fell back and said so");
    assert!(whole > 0 && refused > 0);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_removed_or_replaced_is_not_written_to() {
    let remove = |folder: &Path| std::fs::remove_dir_all(folder).expect("removed");
    let replace = |folder: &Path| {
        let (file, other) = (folder.join("events.redb"), folder.join("other"));
        std::fs::copy(&file, &other).expect("copied");
        std::fs::rename(other, file).expect("moved");
    };
    for (harm, said) in [
        (&remove as &dyn Fn(&Path), "removed"),
        (&replace, "replaced"),
    ] {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("data");
        let broker = open(&folder);
        append_some(&broker, 1);
        harm(&folder);
        let error = block_on(broker.append(vec![record("a", "lost")])).expect_err("not stored");
        assert!(
            matches!(&error, AppendError::Unknown { reason } if reason.contains(said)),
            "{error}"
        );
        let later = block_on(broker.append(vec![record("a", "later")])).expect_err("fenced");
        assert!(
            matches!(&later, AppendError::Fenced { reason } if reason.contains(said)),
            "{later}"
        );
        assert!(
            broker
                .health()
                .fenced
                .is_some_and(|reason| reason.contains(said))
        );
        assert_eq!(broker.bounds().head, 1, "nobody hears of it");
    }
}

#[cfg(unix)]
#[test]
fn an_idle_log_notices_that_its_file_is_gone() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("data");
    let broker = open(&folder);
    std::fs::remove_dir_all(&folder).expect("removed");
    let begun = Instant::now();
    while broker.health().fenced.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not noticed");
        std::thread::sleep(Duration::from_millis(20));
    }
}
