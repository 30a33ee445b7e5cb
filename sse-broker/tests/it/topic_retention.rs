//! The rules of topics on disk: other rules after a restart, power cuts, much at once, and forgetting.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use sse_broker::{
    AppendError, Broker, DiskBroker, MemoryBroker, MemoryConfig, NewRecord, Retention, Scope,
    StoppedLog, TopicRetention,
};

use crate::disk::config;
use crate::faults::{open_on, seeds};
use crate::sim_disk::SimDisk;
use crate::support::*;

fn with_rules(topics: Vec<TopicRetention>) -> Retention {
    Retention {
        topics,
        ..Retention::UNBOUNDED
    }
}

fn values() -> TopicRetention {
    TopicRetention {
        keep_latest: NonZeroU32::new(1),
        ..rule("value/")
    }
}

fn kept(broker: &dyn Broker) -> Vec<u64> {
    offsets(&block_on(read_all(broker, 0, Scope::All, 1_000)))
}

#[test]
fn other_rules_after_a_restart_are_kept_for_what_was_there_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |topics| {
        let broker = DiskBroker::open(folder.path(), config(with_rules(topics)));
        let broker = broker.expect("a log");
        block_on(settle(&*broker));
        broker
    };
    let broker = open(Vec::new());
    // More than the rules are shown in one commit.
    for batch in 0..10u64 {
        let records = (0..1_000).map(|n| {
            let name = format!("value/{}", n % 50);
            record_with_id(&name, "x", &format!("{batch}-{n}"))
        });
        block_on(append(&*broker, records.collect()));
    }
    assert_eq!(kept(&*broker).len(), 10_000);
    drop(broker);
    let by_count = |max| TopicRetention {
        max_records: Some(max),
        ..rule("value/")
    };
    for (topics, expected) in [
        (vec![by_count(500)], 9_501..=10_000),
        (vec![by_count(600)], 9_501..=10_000),
        (vec![], 9_501..=10_000),
        (vec![values()], 9_951..=10_000),
        (vec![by_count(10), values()], 9_991..=10_000),
    ] {
        let broker = open(topics);
        assert_eq!(kept(&*broker), expected.collect::<Vec<_>>());
        drop(broker);
        let mut log = StoppedLog::open(folder.path()).expect("a log");
        let found = log.verify(&mut |_| {}).expect("a whole log");
        assert_eq!(found.problems, []);
    }
    let log = StoppedLog::open(folder.path()).expect("a log");
    let found = log.inspect().expect("a whole log");
    let weight = record_with_id("value/49", "x", "9-999").weight_bytes() as u64;
    assert_eq!((found.records, found.weight_bytes), (10, 10 * weight));
}

#[test]
fn the_order_goes_on_after_a_rule_has_taken_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let soon = TopicRetention {
        max_age: Some(std::time::Duration::from_secs(1)),
        ..rule("")
    };
    let retention = with_rules(vec![soon]);
    for round in 0..3u64 {
        let broker = DiskBroker::open(folder.path(), config(retention.clone())).expect("a log");
        assert_eq!(
            (broker.bounds().floor, broker.bounds().head),
            (0, round * 5)
        );
        block_on(append(&*broker, (0..5).map(|_| record("a", "x")).collect()));
        let trimmed = block_on(broker.trim(1_000_000)).expect("trimmed");
        assert_eq!((trimmed.records, trimmed.floor), (5, 0));
        assert!(kept(&*broker).is_empty());
    }
}

#[test]
fn the_bounds_of_the_log_count_what_is_kept_and_not_what_the_rules_have_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let retention = Retention {
        max_records: Some(20),
        ..with_rules(vec![values()])
    };
    let mut head = 0;
    for _ in 0..3 {
        let broker = DiskBroker::open(folder.path(), config(retention.clone())).expect("a log");
        for n in 0..200u64 {
            block_on(append_one(
                &*broker,
                record(&format!("value/{}", n % 10), "x"),
            ));
            head += 1;
        }
        block_on(settle(&*broker));
        assert_eq!(kept(&*broker), (head - 9..=head).collect::<Vec<_>>());
        assert_eq!(broker.bounds().floor, 0, "nobody hears of a gap");
    }
    let broker = DiskBroker::open(folder.path(), config(retention)).expect("a log");
    block_on(append(
        &*broker,
        (0..25).map(|_| record("other", "x")).collect(),
    ));
    block_on(settle(&*broker));
    assert_eq!(kept(&*broker), (head + 6..=head + 25).collect::<Vec<_>>());
    assert_eq!(broker.bounds().floor, head + 5);
}

#[test]
fn rules_keep_their_word_across_a_power_cut_at_any_operation() {
    let retention = || {
        let history = TopicRetention {
            max_records: Some(5),
            ..rule("history/")
        };
        with_rules(vec![values(), history])
    };
    let (mut survived, mut taken) = (0, 0);
    let range = seeds(60);
    for seed in range.clone() {
        let random = &mut fastrand::Rng::with_seed(seed);
        let disk = SimDisk::new();
        // The newest acknowledged number of each topic, and every number that was ever sent.
        let mut acked: BTreeMap<String, u64> = BTreeMap::new();
        let mut next = 0u64;
        for round in 0..3 {
            let least = if round == 0 { 60 } else { 1 };
            disk.cut_power_after(random.u64(least..250));
            if let Ok(broker) = open_on(&disk, config(retention())) {
                for _ in 0..40 {
                    let numbers: Vec<_> = (next..next + random.u64(1..6)).collect();
                    next += numbers.len() as u64;
                    let numbered = |n: &u64| {
                        let kind = ["value", "history", "other"][*n as usize % 3];
                        let name = format!("{kind}/{}", n % 4);
                        record_with_id(&name, &n.to_string(), &format!("id-{n}"))
                    };
                    let records: Vec<_> = numbers.iter().map(numbered).collect();
                    let names = records.iter().map(|r| r.topics[0].to_string());
                    let names: Vec<_> = names.collect();
                    match block_on(broker.append(records)) {
                        Ok(_) => acked.extend(names.into_iter().zip(numbers)),
                        Err(AppendError::Fenced { .. } | AppendError::Unknown { .. }) => break,
                        Err(other) => panic!("{other}"),
                    }
                    if random.u8(..) < 20 && block_on(broker.trim(0)).is_err() {
                        break;
                    }
                }
            }
            disk.restart(random);
        }
        if acked.is_empty() {
            continue;
        }
        let broker = open_on(&disk, config(retention()))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        block_on(settle(&*broker));
        let records = block_on(read_all(&*broker, 0, Scope::All, 100));
        let mut of_topic: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for record in &records {
            let n: u64 = record.content.event.data.parse().expect("a number");
            let name = record.content.topics[0].to_string();
            of_topic.entry(name).or_default().push(n);
        }
        for (name, newest) in &acked {
            let kept = of_topic.get(name).map_or(&[][..], Vec::as_slice);
            assert!(kept.is_sorted(), "seed {seed}: {name}: {kept:?}");
            if name.starts_with("history/") {
                continue;
            }
            // A value that was acknowledged stands, or a newer one that was under way.
            assert!(
                kept.last().is_some_and(|n| n >= newest),
                "seed {seed}: {name} lost {newest}: {kept:?}"
            );
            assert!(
                !name.starts_with("value/") || kept.len() == 1,
                "seed {seed}: {kept:?}"
            );
        }
        let history: usize = of_topic
            .iter()
            .filter(|(name, _)| name.starts_with("history/"))
            .map(|(_, kept)| kept.len())
            .sum();
        assert!(history <= 5, "seed {seed}: {history}");
        for (name, kept) in &of_topic {
            let read = block_on(read_all(&*broker, 0, topics(&[name]), 100));
            assert_eq!(read.len(), kept.len(), "seed {seed}: {name}");
            // What is gone of a value's topic is no gap; of a history's it is one.
            let page = block_on(broker.read(sse_broker::ReadRequest {
                scope: topics(&[name]),
                ..everything_after(0)
            }));
            let removed = page.expect("a page").removed;
            assert!(
                removed.is_none() || name.starts_with("history/"),
                "seed {seed}: {name}"
            );
        }
        survived += acked.len();
        taken += broker.bounds().head - records.len() as u64;
    }
    eprintln!(
        "{survived} topics kept their newest value, and {taken} records were taken, in {} seeds",
        range.end
    );
    assert!(
        taken > range.end,
        "the power went too early to show anything"
    );
}

/// What of a topic was removed is forgotten when there are very many topics, and then everyone hears of it.
fn an_account_that_is_too_large_is_forgotten(broker: &dyn Broker) {
    let count = 100_011u64;
    for batch in 0..11 {
        let numbers = (batch * 10_000)..((batch + 1) * 10_000).min(count);
        let records: Vec<NewRecord> = numbers
            .map(|n| record_with_id(&format!("many/{n}"), "", &n.to_string()))
            .collect();
        block_on(append(broker, records));
    }
    block_on(settle(broker));
    let removed = |after, name: &str| {
        let request = sse_broker::ReadRequest {
            scope: topics(&[name]),
            ..everything_after(after)
        };
        block_on(broker.read(request)).expect("a page").removed
    };
    // 100,010 were taken, and the accounts of the ten oldest were forgotten.
    assert_eq!(removed(0, "many/99999"), Some(100_000));
    assert_eq!(removed(0, "quiet"), Some(10));
    assert_eq!(removed(9, "quiet"), Some(10));
    assert_eq!(removed(10, "quiet"), None);
    assert_eq!(removed(10, "many/3"), None);
    // The same goes for their ids, in time.
    let records = (0..5_000).map(|n| record_with_id("many/0", "", &format!("more-{n}")));
    block_on(append(broker, records.collect()));
    block_on(settle(broker));
    let located = |text| block_on(broker.locate(id(text))).expect("readable");
    assert_eq!(located("9"), None);
    assert_eq!(located("90000"), Some(90_001));
    let again = block_on(append_one(broker, record_with_id("quiet", "", "9")));
    assert_eq!(stored(&again), count + 5_001);
}

fn one_of_many() -> Retention {
    with_rules(vec![TopicRetention {
        max_records: Some(1),
        ..rule("many/")
    }])
}

#[test]
fn in_memory_everyone_hears_of_a_gap_when_the_account_is_too_large() {
    let broker = MemoryBroker::new(MemoryConfig {
        retention: one_of_many(),
        ..MemoryConfig::default()
    });
    an_account_that_is_too_large_is_forgotten(&*broker);
}

#[test]
#[ignore = "takes half a minute without optimisation: part of the long run"]
fn on_disk_everyone_hears_of_a_gap_when_the_account_is_too_large() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = DiskBroker::open(folder.path(), config(one_of_many())).expect("a log");
    an_account_that_is_too_large_is_forgotten(&*broker);
}
