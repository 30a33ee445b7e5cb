//! A naive log, and any sequence of operations against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sse_broker::{Appended, NewRecord, Position, ReadRequest, Retention, Scope, Snapshot};

use crate::contract::{Backend, Reopened};
use crate::support::*;

/// Everything that was ever stored, and how much of it is forgotten.
struct Model {
    retention: Retention,
    log: Vec<NewRecord>,
    floor: usize,
    snapshots: BTreeMap<String, Bytes>,
}

impl Model {
    fn kept(&self) -> impl DoubleEndedIterator<Item = (u64, &NewRecord)> {
        self.log
            .iter()
            .enumerate()
            .skip(self.floor)
            .map(|(n, r)| (n as u64 + 1, r))
    }

    fn locate(&self, publisher_id: &str) -> Option<u64> {
        let is_it = |r: &NewRecord| {
            r.event
                .id
                .as_ref()
                .is_some_and(|i| i.as_str() == publisher_id)
        };
        self.kept()
            .find(|(_, r)| is_it(r))
            .map(|(offset, _)| offset)
    }

    fn append(&mut self, records: &[NewRecord]) -> Vec<(&'static str, u64)> {
        let answers = records.iter().map(|record| {
            let known = record
                .event
                .id
                .as_ref()
                .and_then(|i| self.locate(i.as_str()));
            if let Some(offset) = known {
                let same = self.log[offset as usize - 1].says_the_same_as(record);
                return (if same { "duplicate" } else { "conflict" }, offset);
            }
            let name = record.topics[0].to_string();
            match &record.snapshot {
                Some(Snapshot::Put(bytes)) => _ = self.snapshots.insert(name, bytes.clone()),
                Some(Snapshot::Remove) => _ = self.snapshots.remove(&name),
                None => {}
            }
            self.log.push(NewRecord {
                snapshot: None,
                ..record.clone()
            });
            ("stored", self.log.len() as u64)
        });
        let answers = answers.collect();
        let is_over = |m: &Self| {
            let (count, weight) = m.kept().fold((0, 0), |(c, w), (_, r)| {
                (c + 1, w + r.weight_bytes() as u64)
            });
            count > 1
                && (m.retention.max_records.is_some_and(|max| count > max)
                    || m.retention.max_bytes.is_some_and(|max| weight > max))
        };
        while is_over(self) {
            self.floor += 1;
        }
        answers
    }

    fn trim(&mut self, now: u64) {
        let Some(max_age) = self.retention.max_age else {
            return;
        };
        let Some(too_old) = now.checked_sub(max_age.as_millis() as u64) else {
            return;
        };
        while self
            .log
            .get(self.floor)
            .is_some_and(|r| r.published_at <= too_old)
        {
            self.floor += 1;
        }
    }

    /// The records of the page, how far it reaches, and whether something is gone.
    fn read(&self, request: &ReadRequest) -> (Vec<u64>, u64, bool) {
        let (mut offsets, mut bytes) = (Vec::new(), 0);
        let mut upto = request.after.max(self.log.len() as u64);
        for (offset, record) in self.kept().filter(|(offset, _)| *offset > request.after) {
            let concerns = match &request.scope {
                Scope::All => true,
                Scope::Topics(topics) => record.topics.iter().any(|t| topics.contains(t)),
            };
            if !concerns {
                continue;
            }
            bytes += record.event.data.len();
            let is_full = offsets.len() >= request.max_records || bytes > request.max_bytes;
            if !offsets.is_empty() && is_full {
                upto = *offsets.last().expect("a record");
                break;
            }
            offsets.push(offset);
        }
        (offsets, upto, request.after < self.floor as u64)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<NewRecord>),
    Trim { now: u64 },
    Read(ReadRequest),
    Locate(String),
    Snapshots(&'static str),
    Reopen,
}

const TOPICS: [&str; 5] = ["a", "a/b", "b", "job/1", "job/2"];

fn any_record() -> impl Strategy<Value = NewRecord> {
    let snapshot = prop_oneof![
        4 => Just(None),
        2 => "[xyz]{0,3}".prop_map(|s| Some(Snapshot::Put(s.into()))),
        1 => Just(Some(Snapshot::Remove)),
    ];
    let names = proptest::collection::vec(0..TOPICS.len(), 1..4);
    (
        names,
        0..8u8,
        "[pq]{0,40}",
        0..50u64,
        snapshot,
        any::<bool>(),
    )
        .prop_map(
            |(names, publisher_id, data, published_at, snapshot, short_lived)| {
                let mut r = record("a", &data);
                r.topics = names.into_iter().map(|n| topic(TOPICS[n])).collect();
                // Ids are scarce, so that they meet.
                r.event.id = (publisher_id < 5).then(|| id(&format!("id-{publisher_id}")));
                if publisher_id < 3 {
                    r.event.data = "same".into();
                    r.topics = vec![topic("a")];
                }
                r.published_at = published_at * 1_000;
                r.expires_at = short_lived.then_some(r.published_at + 1);
                r.snapshot = snapshot;
                r
            },
        )
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let some = proptest::collection::vec(0..TOPICS.len(), 0..4)
        .prop_map(|names| Scope::Topics(names.into_iter().map(|n| topic(TOPICS[n])).collect()));
    prop_oneof![Just(Scope::All), some]
}

fn any_op() -> impl Strategy<Value = Op> {
    let read = (
        0..60u64,
        any_scope(),
        0..12usize,
        prop_oneof![0..80usize, Just(usize::MAX)],
    )
        .prop_map(|(after, scope, max_records, max_bytes)| {
            Op::Read(ReadRequest {
                after,
                scope,
                max_records,
                max_bytes,
            })
        });
    prop_oneof![
        6 => proptest::collection::vec(any_record(), 0..6).prop_map(Op::Append),
        1 => (0..80u64).prop_map(|seconds| Op::Trim { now: seconds * 1_000 }),
        6 => read,
        1 => (0..5u8).prop_map(|n| Op::Locate(format!("id-{n}"))),
        1 => prop_oneof![Just(""), Just("job/"), Just("a"), Just("nothing")].prop_map(Op::Snapshots),
        1 => Just(Op::Reopen),
    ]
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let max_age = proptest::option::of((0..60u64).prop_map(Duration::from_secs));
    let max_records = proptest::option::of(1..30u64);
    let max_bytes = proptest::option::of(1..5_000u64);
    (max_age, max_records, max_bytes).prop_map(|(max_age, max_records, max_bytes)| Retention {
        max_age,
        max_records,
        max_bytes,
    })
}

/// Runs sequences of operations against the backend and the model alike.
pub(crate) fn check<B: Backend>() {
    let cases = std::env::var("SSE_BROKER_CASES").map_or(48, |n| n.parse().expect("a number"));
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    });
    let sequences = (any_retention(), proptest::collection::vec(any_op(), 1..40));
    runner
        .run(&sequences, |(retention, ops)| {
            block_on(run::<B>(retention, ops))
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

async fn run<B: Backend>(retention: Retention, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut backend = B::new(retention);
    let mut model = Model {
        retention,
        log: Vec::new(),
        floor: 0,
        snapshots: BTreeMap::new(),
    };
    let mut broker = backend.broker();
    let epoch = broker.bounds().epoch;
    let mut listener = Listener::follow(&*broker);
    let mut heard_before = 0;
    for op in ops {
        match op {
            Op::Append(records) => {
                let expected = model.append(&records);
                let answers = append(&*broker, records).await;
                let answers: Vec<_> = answers.iter().map(|answer| told(answer, epoch)).collect();
                prop_assert_eq!(answers, expected);
                let heard = offsets(&listener.heard());
                let expected: Vec<_> = (heard_before + 1..=model.log.len() as u64).collect();
                prop_assert_eq!(heard, expected);
            }
            Op::Trim { now } => {
                let before = model.floor;
                model.trim(now);
                let trimmed = broker.trim(now).await.expect("a trim that works");
                prop_assert_eq!(trimmed.records as usize, model.floor - before);
                prop_assert_eq!(trimmed.floor as usize, model.floor);
            }
            Op::Read(request) => {
                let page = broker.read(request.clone()).await.expect("a page");
                let read = (offsets(&page.records), page.upto, page.trimmed);
                prop_assert_eq!(read, model.read(&request));
                for record in page.records {
                    let said = &model.log[record.position.offset as usize - 1];
                    prop_assert_eq!(&record.content, said);
                }
            }
            Op::Locate(text) => {
                let located = broker.locate(id(&text)).await.expect("readable");
                prop_assert_eq!(located, model.locate(&text));
            }
            Op::Snapshots(prefix) => {
                let snapshots = broker.snapshots(prefix).await.expect("readable");
                let snapshots: Vec<_> = snapshots
                    .into_iter()
                    .map(|(t, b)| (t.to_string(), b))
                    .collect();
                let expected: Vec<_> = model
                    .snapshots
                    .iter()
                    .filter(|(name, _)| name.starts_with(prefix))
                    .map(|(name, bytes)| (name.clone(), bytes.clone()))
                    .collect();
                prop_assert_eq!(snapshots, expected);
            }
            Op::Reopen => {
                drop(broker);
                let reopened = backend.reopen();
                broker = backend.broker();
                if reopened == Reopened::Kept {
                    listener = Listener::follow(&*broker);
                    heard_before = model.log.len() as u64;
                }
            }
        }
        let bounds = broker.bounds();
        prop_assert_eq!(bounds.epoch, epoch);
        prop_assert_eq!(bounds.floor as usize, model.floor);
        prop_assert_eq!(bounds.head as usize, model.log.len());
    }
    let rest = read_all(&*broker, broker.bounds().floor, Scope::All, 7).await;
    prop_assert_eq!(
        offsets(&rest),
        model.kept().map(|(offset, _)| offset).collect::<Vec<_>>()
    );
    drop::<Vec<Arc<_>>>(rest);
    Ok(())
}

fn told(appended: &Appended, expected_epoch: sse_broker::Epoch) -> (&'static str, u64) {
    let check = |position: &Position| {
        assert_eq!(position.epoch, expected_epoch);
        position.offset
    };
    match appended {
        Appended::Stored(position) => ("stored", check(position)),
        Appended::Duplicate(position) => ("duplicate", check(position)),
        Appended::Conflict(position) => ("conflict", check(position)),
        other => panic!("an answer the suite does not know: {other:?}"),
    }
}
