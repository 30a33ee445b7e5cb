//! What can be read of a damaged log is saved, whatever the damage is.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use sse_broker::{
    Broker, DiskBroker, DiskConfig, Durability, LogToolError, NewRecord, OpenError, Retention,
    Salvaged, Scope, Snapshot, StateChange, StoppedLog, TopicRetention, salvage,
};

use crate::disk::{config, open};
use crate::faults::seeds;
use crate::support::*;

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");

/// A log to be damaged, and what is known of it.
struct Original {
    name: &'static str,
    bytes: Vec<u8>,
    seal: Vec<u8>,
    published: BTreeMap<u64, NewRecord>,
    floor: u64,
    head: u64,
    /// The records that the database has: of each copy in the file, where the block's head and the record lie.
    copies: Vec<(u64, std::ops::Range<usize>, std::ops::Range<usize>)>,
}

fn event(n: u64) -> NewRecord {
    let len = match n % 40 {
        7 => 20_000,
        n => n as usize * 17 % 400,
    };
    let mut event = record_with_id(
        &format!("job/{}", n % 7),
        &format!("event {n} {}", "x".repeat(len)),
        &format!("id {n}"),
    );
    event.published_at += n;
    event.snapshot = n
        .is_multiple_of(3)
        .then(|| Snapshot::Put(Bytes::from(format!("state of {n}"))));
    event
}

/// Appends events in small and large groups, with states beside them, until there are so many.
fn publish(broker: &DiskBroker, published: &mut BTreeMap<u64, NewRecord>, upto: u64) {
    let mut next = published.len() as u64 + 1;
    while next <= upto {
        let count = if next.is_multiple_of(11) {
            90
        } else {
            1 + next % 3
        };
        let events: Vec<_> = (next..next + count).map(event).collect();
        let appended = block_on(append(broker, events.clone()));
        for (answer, mut event) in appended.iter().zip(events) {
            event.snapshot = None;
            published.insert(stored(answer), event);
        }
        next += count;
        let state = StateChange {
            key: format!("durable/{}", next % 5).into(),
            value: Some(format!("{{\"v\":{next}}}").into()),
        };
        block_on(broker.put_states(vec![state])).expect("a commit");
    }
}

fn make(name: &'static str, retention: Retention, is_killed: bool) -> Original {
    let folder = tempfile::tempdir().expect("a folder");
    let mut published = BTreeMap::new();
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("readable");
    let broker = DiskBroker::open(folder.path(), config(retention.clone())).expect("a log");
    publish(&broker, &mut published, 900);
    block_on(broker.close());
    let broker = DiskBroker::open(folder.path(), config(retention)).expect("a log");
    publish(&broker, &mut published, 1_400);
    // As a kill leaves the files: what the process wrote is there, and nothing is said of an end.
    let (mut bytes, mut seal) = (read("events.redb"), read("events.seal"));
    let bounds = broker.bounds();
    block_on(broker.close());
    if !is_killed {
        (bytes, seal) = (read("events.redb"), read("events.seal"));
    }
    let mut original = Original {
        name,
        bytes,
        seal,
        published,
        floor: bounds.floor,
        head: bounds.head,
        copies: Vec::new(),
    };
    original.find_copies();
    original
}

impl Original {
    /// Where in the file the records are that the database has, found by comparing bytes.
    fn find_copies(&mut self) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("copy.redb");
        std::fs::write(&path, &self.bytes).expect("written");
        let db = Database::open(&path).expect("a database");
        let txn = db.begin_read().expect("a transaction");
        let blocks = txn.open_table(BLOCKS).expect("a table");
        // Where bytes lie that a block might begin with: an offset, and how many records.
        let mut beginnings: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, bytes) in self.bytes.windows(12).enumerate() {
            if bytes[8] != 0 && bytes[10..] == [0, 0] && bytes[3..8] == [0; 5] {
                beginnings.entry(bytes).or_default().push(at);
            }
        }
        for entry in blocks.iter().expect("readable") {
            let (last, value) = entry.expect("readable");
            let (last, value) = (last.value(), value.value());
            let number =
                |at: usize| u32::from_le_bytes(value[at..at + 4].try_into().expect("four"));
            let count = number(8) as usize;
            let head = 12 + 4 * count + 4;
            let mut found = beginnings[&value[..12]].clone();
            found.retain(|at| self.bytes[*at..].starts_with(value));
            assert!(
                !found.is_empty(),
                "the block that ends with {last} is in the file"
            );
            for at in found {
                let mut begin = head;
                for n in 0..count {
                    let end = head + number(12 + 4 * n) as usize;
                    let offset = last + 1 + n as u64 - count as u64;
                    if end > begin && offset > self.floor {
                        let record = at + begin..at + end;
                        self.copies.push((offset, at..at + head, record));
                    }
                    begin = end;
                }
            }
        }
        assert!(self.copies.len() > 100, "{}", self.name);
    }

    /// Damages it, saves what can be saved, and checks that this is all that must be, and nothing else.
    fn check(&self, what: &str, damaged: &[u8]) -> Option<Salvaged> {
        let what = &format!("{}: {what}", self.name);
        let folder = tempfile::tempdir().expect("a folder");
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        std::fs::create_dir(&old).expect("a folder");
        let file = old.join("events.redb");
        std::fs::write(&file, damaged).expect("written");
        std::fs::write(old.join("events.seal"), &self.seal).expect("written");
        std::fs::write(old.join("lock"), "").expect("written");
        let mut told = Vec::new();
        let done = salvage(&old, &new, &mut |done| told.push(done));
        assert_eq!(
            std::fs::read(&file).expect("readable"),
            damaged,
            "{what}: written to"
        );
        let mut names = names_in(&old);
        names.sort();
        assert_eq!(names, ["events.redb", "events.seal", "lock"], "{what}");
        let is_same = |range: &std::ops::Range<usize>| {
            damaged.get(range.clone()) == Some(&self.bytes[range.clone()])
        };
        let mut wanted: Vec<u64> = { self.copies.iter() }
            .filter(|(_, head, record)| is_same(head) && is_same(record))
            .map(|(offset, ..)| *offset)
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let done = match done {
            Ok(done) => done,
            Err(LogToolError::NothingFound(_)) => {
                assert!(wanted.is_empty(), "{what}: nothing was saved of {wanted:?}");
                assert!(!new.exists(), "{what}");
                return None;
            }
            Err(other) => panic!("{what}: {other}"),
        };
        let broker = open(&new);
        let after = broker.bounds().floor;
        let saved = block_on(read_all(&*broker, after, Scope::All, 1_000));
        assert_eq!(saved.len() as u64, done.events, "{what}");
        let saved: BTreeMap<u64, &NewRecord> = { saved.iter() }
            .map(|record| (record.position.offset, &record.content))
            .collect();
        assert_eq!(saved.len() as u64, done.events, "{what}");
        for (offset, content) in &saved {
            assert_eq!(
                Some(*content),
                self.published.get(offset),
                "{what}: {offset}"
            );
        }
        for offset in wanted {
            assert!(
                saved.contains_key(&offset),
                "{what}: {offset} was not saved: {done:?}"
            );
        }
        // A reader of the damaged log hears of a gap, and publishing goes on.
        assert_ne!(done.bounds.epoch, crate::contract::EPOCH, "{what}");
        let next = block_on(append_one(&*broker, record("a", "on we go")));
        assert!(
            stored(&next) > saved.keys().last().copied().unwrap_or(0),
            "{what}"
        );
        let end = told.last().expect("progress");
        assert!(end.done <= end.of);
        Some(done)
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("readable");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("readable").file_name();
        name.to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

fn originals() -> Vec<Original> {
    let few = Retention {
        max_records: Some(1_000),
        ..Retention::UNBOUNDED
    };
    let latest = Retention {
        topics: vec![TopicRetention {
            keep_latest: NonZeroU32::new(20),
            ..rule("job/1")
        }],
        ..Retention::UNBOUNDED
    };
    vec![
        make("stopped", few.clone(), false),
        make("killed", few, true),
        make("killed, with rules", latest.clone(), true),
        make("stopped, with rules", latest, false),
    ]
}

#[test]
fn every_record_whose_block_is_whole_is_saved_whatever_the_damage_is() {
    let originals = originals();
    let mut outcomes = [0; 3];
    for seed in seeds(120) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let original = &originals[seed as usize % originals.len()];
        let mut damaged = original.bytes.clone();
        let pages = damaged.len() / 4096;
        let mut what = Vec::new();
        for _ in 0..random.usize(1..4) {
            let page = random.usize(0..pages) * 4096;
            let used = &original.copies[random.usize(0..original.copies.len())];
            let len = damaged.len();
            let piece = page.min(len)..(page + 4096 * random.usize(1..5)).min(len);
            what.push(match random.u8(0..8) {
                0 => {
                    for _ in 0..random.usize(1..200) {
                        if let Some(byte) = damaged.get_mut(random.usize(0..len.max(1))) {
                            *byte ^= 1 << random.u8(0..8);
                        }
                    }
                    "flipped bits"
                }
                1 => {
                    // Where it hurts: in a record or in the head of its block.
                    let (_, head, record) = used;
                    let within = if random.bool() { head } else { record };
                    let within = within.clone();
                    if let Some(byte) = damaged.get_mut(random.usize(within)) {
                        *byte ^= 1 << random.u8(0..8);
                    }
                    "a flipped bit in a block"
                }
                2 => {
                    damaged[piece].fill(0);
                    "zeroed pages"
                }
                3 => {
                    damaged[piece]
                        .iter_mut()
                        .for_each(|byte| *byte = random.u8(..));
                    "overwritten pages"
                }
                4 => {
                    damaged.truncate(random.usize(0..len.max(1)));
                    "cut short"
                }
                5 => {
                    let from = random.usize(0..pages) * 4096;
                    if from + piece.len() <= len {
                        damaged.copy_within(from..from + piece.len(), piece.start);
                    }
                    "pages written in another's place"
                }
                6 => {
                    let end = len.min(4096);
                    damaged[..end].fill(random.u8(..));
                    "no first page"
                }
                _ => {
                    let (_, head, _) = used;
                    if let Some(page) = damaged.get_mut(head.start / 4096 * 4096..head.start) {
                        page.fill(0xee);
                    }
                    "what stands before a block overwritten"
                }
            });
        }
        let what = format!("seed {seed}, {}", what.join(", "));
        match original.check(&what, &damaged) {
            None => outcomes[0] += 1,
            Some(done) if done.is_complete() => outcomes[1] += 1,
            Some(_) => outcomes[2] += 1,
        }
    }
    let [nothing, all, some] = outcomes;
    println!("{all} times all, {some} times a part, {nothing} times nothing to be found");
    assert!(some > 0);
}

#[test]
fn of_a_log_that_is_whole_everything_is_saved() {
    for original in originals() {
        let done = original.check("whole", &original.bytes).expect("a log");
        assert!(done.is_complete(), "{}: {done:?}", original.name);
        assert_eq!(done.floor, Some(original.floor));
        assert_eq!(done.head, Some(original.head));
        assert_eq!((done.snapshots, done.states), (7, 5));
        let with_rules = original.name.ends_with("rules");
        if !with_rules {
            assert_eq!(done.events, original.head - original.floor);
        }
        // What the rules had taken does not come back.
        let mut of_database: Vec<_> = original.copies.iter().map(|(at, ..)| *at).collect();
        of_database.sort_unstable();
        of_database.dedup();
        assert_eq!(done.events, of_database.len() as u64, "{}", original.name);
    }
}

#[test]
fn what_is_missing_is_told() {
    let original = make("told", Retention::UNBOUNDED, false);
    // A bit of each copy of one record, and all of another's block.
    let mut damaged = original.bytes.clone();
    let copies_of = |offset: u64| { original.copies.iter() }.filter(move |(at, ..)| *at == offset);
    for (_, _, record) in copies_of(100) {
        damaged[record.start + 20] ^= 1;
    }
    for (_, head, _) in copies_of(700) {
        damaged[head.clone()].fill(0xff);
    }
    let done = original.check("told", &damaged).expect("a log");
    assert!(!done.is_complete());
    assert_eq!(done.damaged, 1);
    assert!(done.damaged_bytes > 20);
    assert_eq!(done.missing_offsets[0], (100, 100), "{done:?}");
    let (from, to) = done.missing_offsets[1];
    assert!((from..=to).contains(&700), "{done:?}");
    assert_eq!(done.missing, 1 + to - from + 1);
    assert_eq!(done.missing_stretches, 2);
    assert_eq!(done.events, original.head - done.missing);
    assert_eq!(done.offsets, Some((1, original.head)));
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_missing_by_the_seal() {
    let original = make("cut", Retention::UNBOUNDED, true);
    let half = &original.bytes[..original.bytes.len() / 2];
    let done = original.check("cut in half", half).expect("a log");
    assert_eq!(done.head, Some(original.head));
    assert_eq!(done.events + done.missing, original.head);
    assert!(done.missing > 0 && done.events > 0, "{done:?}");
}

#[test]
fn snapshots_and_states_are_found_without_the_database() {
    let original = make("headless", Retention::UNBOUNDED, false);
    let mut damaged = original.bytes.clone();
    damaged[..4096].fill(0);
    let done = original.check("headless", &damaged).expect("a log");
    assert!(done.database.is_some() && done.has_guessed_values);
    assert_eq!((done.snapshots, done.states), (7, 5), "{done:?}");
    assert_eq!(done.events, original.head);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("headless");
    std::fs::write(&file, &damaged).expect("written");
    // The file alone is enough, under whatever name.
    let new = folder.path().join("new");
    salvage(&file, &new, &mut |_| ()).expect("saved");
    let saved = StoppedLog::open(&new).expect("a log");
    let newest = |topic: u64| {
        let of_topic = (1..=original.head).filter(|n| n.is_multiple_of(3) && n % 7 == topic);
        format!("state of {}", of_topic.max().expect("some"))
    };
    for (topic, bytes) in saved.snapshots().expect("readable") {
        let number = topic.as_str()[4..].parse().expect("a number");
        assert_eq!(bytes, newest(number), "the newest version");
    }
}

#[test]
fn what_holds_nothing_of_a_log_is_refused_and_no_log_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let new = folder.path().join("new");
    let random = &mut fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(3 << 20)
        .collect();
    for (name, bytes) in [
        ("empty", vec![]),
        ("noise", noise),
        ("zeros", vec![0; 1 << 20]),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).expect("written");
        let refused = salvage(&file, &new, &mut |_| ());
        assert!(
            matches!(&refused, Err(LogToolError::NothingFound(path)) if *path == file),
            "{name}: {refused:?}"
        );
        assert!(!new.exists());
    }
    let nowhere = salvage(&folder.path().join("nowhere"), &new, &mut |_| ());
    assert!(
        matches!(nowhere, Err(LogToolError::Open(OpenError::NoLog { .. }))),
        "{nowhere:?}"
    );
    let mut left = names_in(folder.path());
    left.sort();
    assert_eq!(left, ["empty", "noise", "zeros"]);
}

#[test]
fn a_log_without_events_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    block_on(open(&old).close());
    let done = salvage(&old, &new, &mut |_| ()).expect("a log");
    assert_eq!((done.events, done.offsets), (0, None));
    assert!(done.is_complete());
    block_on(append_one(&*open(&new), record("a", "first")));
}

#[test]
fn a_log_in_use_and_a_folder_in_use_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let running = open(&old);
    block_on(append_one(&*running, record("a", "x")));
    let busy = salvage(&old, &new, &mut |_| ());
    assert!(
        matches!(busy, Err(LogToolError::Open(OpenError::InUse { .. }))),
        "{busy:?}"
    );
    drop(running);
    std::fs::create_dir(&new).expect("a folder");
    let diary: PathBuf = new.join("diary");
    std::fs::write(&diary, "dear diary").expect("written");
    for taken in [&new, &old] {
        let refused = salvage(&old, taken, &mut |_| ());
        assert!(
            matches!(refused, Err(LogToolError::NotEmpty(_))),
            "{refused:?}"
        );
    }
    assert_eq!(std::fs::read(&diary).expect("readable"), b"dear diary");
}

/// An event whose data is a block of records, byte for byte. No event is made of it.
#[test]
fn what_a_publisher_wrote_is_not_taken_for_a_block() {
    let folder = tempfile::tempdir().expect("a folder");
    let (own, old, new) = (
        folder.path().join("own"),
        folder.path().join("old"),
        folder.path().join("new"),
    );
    // Events are text, and so are the checksums of one block in some hundred, by chance.
    let at_level_os = DiskConfig {
        durability: Durability::Os,
        ..config(Retention::UNBOUNDED)
    };
    let broker = DiskBroker::open(&own, at_level_os).expect("a log");
    for n in 0..3_000 {
        let text = "forged".repeat(1 + n % 19);
        let forged = NewRecord {
            published_at: 0,
            ..record("admin", &text)
        };
        block_on(append_one(&*broker, forged));
    }
    block_on(broker.close());
    let db = Database::open(own.join("events.redb")).expect("a database");
    let txn = db.begin_read().expect("a transaction");
    let blocks = txn.open_table(BLOCKS).expect("a table");
    let mut forged = blocks.iter().expect("readable").filter_map(|entry| {
        let (_, value) = entry.expect("readable");
        String::from_utf8(value.value().to_vec()).ok()
    });
    let forged = forged.next().expect("one of three thousand is text");

    let broker = open(&old);
    for data in ["before", &forged, "after"] {
        block_on(append_one(&*broker, record("a", data)));
    }
    block_on(broker.close());
    let file = old.join("events.redb");
    let mut bytes = std::fs::read(&file).expect("readable");
    let mut windows = bytes.windows(forged.len());
    assert!(windows.any(|bytes| bytes == forged.as_bytes()));
    bytes[..4096].fill(0);
    std::fs::write(&file, bytes).expect("written");
    let done = salvage(&old, &new, &mut |_| ()).expect("saved");
    assert_eq!((done.events, done.offsets), (3, Some((1, 3))), "{done:?}");
}

/// Beyond what is in memory at once: an event of several megabytes, and many small ones around it.
#[test]
fn a_large_event_is_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let broker = DiskBroker::open(
        &old,
        DiskConfig {
            max_pending_bytes: 64 << 20,
            ..config(Retention::UNBOUNDED)
        },
    );
    let broker = broker.expect("a log");
    let large = "long ".repeat(2 << 20);
    for data in ["before", &large, "after"] {
        block_on(append_one(&*broker, record("a", data)));
    }
    block_on(broker.close());
    let file = old.join("events.redb");
    let mut bytes = std::fs::read(&file).expect("readable");
    bytes[..4096].fill(0);
    std::fs::write(&file, bytes).expect("written");
    let done = salvage(&old, &new, &mut |_| ()).expect("saved");
    assert_eq!((done.events, done.missing), (3, 0));
    let saved = block_on(read_all(&*open(&new), 0, Scope::All, 10));
    assert_eq!(*saved[1].content.event.data, *large);
}
