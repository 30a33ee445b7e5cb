//! States beside the log: the same for every backend, and what the log on disk keeps.

use std::sync::Arc;

use bytes::Bytes;
use sse_broker::{AppendError, Broker, MemoryBroker, MemoryConfig, StateChange, StoredState};

use crate::support::*;

fn put(key: &str, value: &str) -> StateChange {
    StateChange {
        key: key.into(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    }
}

fn remove(key: &str) -> StateChange {
    StateChange {
        key: key.into(),
        value: None,
    }
}

async fn states(broker: &dyn Broker, prefix: &str) -> Vec<(String, String)> {
    let states = broker.states(prefix).await.expect("a readable log");
    let text = |state: StoredState| {
        let value = state.value.expect("a whole state");
        let value = String::from_utf8(value.to_vec()).expect("a text");
        (state.key.into_string(), value)
    };
    states.into_iter().map(text).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    expected.iter().map(owned).collect()
}

async fn keeps_states(broker: &dyn Broker) {
    assert_eq!(states(broker, "").await, []);
    let changes = vec![put("b/2", "two"), put("b/1", "one"), put("c", "see")];
    broker.put_states(changes).await.expect("a commit");
    let both = pairs(&[("b/1", "one"), ("b/2", "two")]);
    assert_eq!(states(broker, "b/").await, both);
    // The calls take effect in their order, also within one commit and beside records.
    let first = broker.put_states(vec![put("b/1", "older"), remove("b/2")]);
    let second = broker.put_states(vec![put("b/1", "newer")]);
    let records = broker.append(vec![record("a", "x")]);
    records.await.expect("a commit");
    second.await.expect("a commit");
    first.await.expect("a commit");
    let newest = pairs(&[("b/1", "newer"), ("c", "see")]);
    assert_eq!(states(broker, "").await, newest);
    // They are no records.
    assert_eq!(broker.bounds().head, 1);
}

async fn takes_no_more_once_closed(broker: &dyn Broker) {
    broker.close().await;
    let late = broker.put_states(vec![put("a", "b")]).await;
    assert!(matches!(late, Err(AppendError::Closed)), "{late:?}");
}

#[test]
fn states_are_read_by_prefix_and_change_in_the_order_of_the_calls() {
    block_on(async {
        let broker: Arc<dyn Broker> = MemoryBroker::new(MemoryConfig::default());
        keeps_states(&*broker).await;
        takes_no_more_once_closed(&*broker).await;
    });
}

#[cfg(feature = "disk")]
mod disk {
    use redb::{Database, TableDefinition};
    use sse_broker::{DiskBroker, Retention};

    use super::*;
    use crate::disk::{config, open};
    use crate::sim_disk::SimDisk;

    /// Puts `n` under two keys in one call, again and again, until the power goes; the last `n` that was
    /// answered.
    async fn put_until_it_fails(broker: &dyn Broker, from: u64) -> u64 {
        for n in from.. {
            let value = n.to_string();
            let answered = broker.put_states(vec![put("a", &value), put("b", &value)]);
            let appended = broker.append(vec![record("t", &value)]);
            if answered.await.is_err() {
                return n - 1;
            }
            let _ = appended.await;
        }
        from
    }

    #[test]
    fn what_was_answered_survives_a_power_cut_and_a_call_is_whole_or_not_there() {
        for seed in 0..40 {
            let random = &mut fastrand::Rng::with_seed(seed);
            let disk = SimDisk::new();
            let open = || {
                let disk = disk.clone();
                DiskBroker::open_on(move || disk.file(), || None, config(Retention::UNBOUNDED))
            };
            let broker = open().expect("a new log");
            disk.cut_power_after(random.u64(1..200));
            let answered = block_on(put_until_it_fails(&*broker, 1));
            drop(broker);
            disk.restart(random);
            let broker = open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let found = block_on(states(&*broker, ""));
            let numbers: Vec<u64> = found
                .iter()
                .map(|(_, value)| value.parse().expect("a number"))
                .collect();
            match numbers[..] {
                [] => assert_eq!(answered, 0, "seed {seed}"),
                // What was under way may be there, too.
                [a, b] => assert!(
                    a == b && (answered..=answered + 1).contains(&a),
                    "seed {seed}"
                ),
                _ => panic!("seed {seed}: {found:?}"),
            }
        }
    }

    #[test]
    fn states_on_disk_are_the_same_after_the_log_was_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        block_on(async {
            let broker = open(folder.path());
            keeps_states(&*broker).await;
            takes_no_more_once_closed(&*broker).await;
        });
        block_on(async {
            let broker = open(folder.path());
            let kept = pairs(&[("b/1", "newer"), ("c", "see")]);
            assert_eq!(states(&*broker, "").await, kept);
        });
    }

    #[test]
    fn states_outlive_the_records_that_retention_takes() {
        let folder = tempfile::tempdir().expect("a folder");
        block_on(async {
            let one = Retention {
                max_records: Some(1),
                ..Retention::UNBOUNDED
            };
            let broker = DiskBroker::open(folder.path(), config(one)).expect("a log");
            broker.put_states(vec![put("a", "b")]).await.expect("kept");
            append(&*broker, vec![record("a", "x"), record("a", "y")]).await;
            assert_eq!(broker.bounds().floor, 1);
            assert_eq!(states(&*broker, "").await, pairs(&[("a", "b")]));
        });
    }

    #[test]
    fn a_damaged_state_is_said_to_be_damaged_and_the_others_are_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        block_on(async {
            let broker = open(folder.path());
            let changes = vec![put("a", "one"), put("b", "two")];
            broker.put_states(changes).await.expect("a commit");
            broker.close().await;
        });
        let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("states");
        let db = Database::open(folder.path().join("events.redb")).expect("a file");
        let txn = db.begin_write().expect("a transaction");
        let mut states = txn.open_table(table).expect("a table");
        states.insert("a", &b"not what it was"[..]).expect("taken");
        drop(states);
        txn.commit().expect("a commit");
        drop(db);
        block_on(async {
            let broker = open(folder.path());
            let found = broker.states("").await.expect("a readable log");
            let whole: Vec<_> = found.iter().map(|s| (&*s.key, s.value.is_some())).collect();
            assert_eq!(whole, [("a", false), ("b", true)]);
        });
    }
}
