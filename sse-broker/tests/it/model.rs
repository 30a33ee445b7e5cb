//! A naive log, and any sequence of operations against it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sse_broker::{
    Appended, NewRecord, Page, Position, ReadRequest, Retention, Scope, Snapshot, Topic,
    TopicRetention,
};

use crate::contract::{Backend, Reopened};
use crate::support::*;

/// Everything that was ever stored, and how much of it is forgotten.
#[derive(Clone)]
struct Model {
    retention: Retention,
    log: Vec<NewRecord>,
    /// The offsets that are kept.
    kept: BTreeSet<u64>,
    floor: u64,
    erased: BTreeSet<u64>,
    /// Up to where a rule has taken something, by topic.
    removed: BTreeMap<String, u64>,
    snapshots: BTreeMap<String, Bytes>,
    /// Of each topic whose rule keeps the latest, those.
    newest: BTreeMap<String, Vec<u64>>,
}

impl Model {
    fn new(retention: Retention) -> Self {
        Self {
            retention,
            log: Vec::new(),
            kept: BTreeSet::new(),
            floor: 0,
            erased: BTreeSet::new(),
            removed: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    fn at(&self, offset: u64) -> &NewRecord {
        &self.log[offset as usize - 1]
    }

    /// The id of a record that a rule has taken is known as long as the floor is below.
    fn locate(&self, publisher_id: &str) -> Option<u64> {
        let is_it = |offset: &u64| {
            if self.erased.contains(offset) {
                return false;
            }
            let id = self.at(*offset).event.id.as_ref();
            id.is_some_and(|i| i.as_str() == publisher_id)
        };
        (self.floor + 1..=self.log.len() as u64).find(is_it)
    }

    /// The rule that all topics of a record have.
    fn rule_of(&self, offset: u64) -> Option<usize> {
        let rule_of_topic = |topic: &Topic| {
            let mut rules = self.retention.topics.iter();
            rules.position(|rule| rule.topics.iter().any(|t| t.matches(topic.as_str())))
        };
        let mut rules = self.at(offset).topics.iter().map(rule_of_topic);
        let first = rules.next()??;
        rules.all(|rule| rule == Some(first)).then_some(first)
    }

    fn of_rule(&self, rule: usize) -> Vec<u64> {
        let of_rule = |offset: &u64| self.rule_of(*offset) == Some(rule);
        self.kept.iter().copied().filter(of_rule).collect()
    }

    fn weight(&self, offsets: &[u64]) -> u64 {
        let weights = offsets.iter().map(|at| self.at(*at).weight_bytes() as u64);
        weights.sum()
    }

    fn take(&mut self, offset: u64, announced: bool) {
        self.kept.remove(&offset);
        self.forget_newest(offset);
        for topic in self.at(offset).topics.clone() {
            if announced {
                let upto = self.removed.entry(topic.to_string()).or_default();
                *upto = offset.max(*upto);
            }
        }
    }

    /// What the rules take for the newest record.
    fn thin(&mut self) {
        let Some(number) = self.rule_of(self.log.len() as u64) else {
            return;
        };
        let rule = self.retention.topics[number].clone();
        if let Some(keep) = rule.keep_latest {
            let offset = self.log.len() as u64;
            let mut replaced = BTreeSet::new();
            for topic in self.at(offset).topics.clone() {
                let newest = self.newest.entry(topic.to_string()).or_default();
                if newest.last() != Some(&offset) {
                    newest.push(offset);
                }
                while newest.len() > keep.get() as usize {
                    replaced.insert(newest.remove(0));
                }
            }
            for offset in replaced {
                // One that is still among the latest of another of its topics stays.
                let mut topics = self.at(offset).topics.iter();
                let is_latest = |topic: &Topic| {
                    let newest = self.newest.get(topic.as_str());
                    newest.is_some_and(|newest| newest.contains(&offset))
                };
                if !topics.any(is_latest) {
                    self.take(offset, keep.get() > 1);
                }
            }
        }
        loop {
            let offsets = self.of_rule(number);
            let is_over = rule
                .max_records
                .is_some_and(|max| offsets.len() as u64 > max)
                || rule
                    .max_bytes
                    .is_some_and(|max| self.weight(&offsets) > max);
            if offsets.len() < 2 || !is_over {
                return;
            }
            self.take(offsets[0], true);
        }
    }

    fn forget_newest(&mut self, offset: u64) {
        for newest in self.newest.values_mut() {
            newest.retain(|at| *at != offset);
        }
    }

    fn raise_floor(&mut self) {
        self.floor = self.kept.pop_first().expect("something to take");
        self.forget_newest(self.floor);
        self.removed.retain(|_, upto| *upto > self.floor);
    }

    fn append(&mut self, records: &[NewRecord]) -> Vec<(&'static str, u64)> {
        let answers = records.iter().map(|record| {
            let known = record
                .event
                .id
                .as_ref()
                .and_then(|i| self.locate(i.as_str()));
            if let Some(offset) = known {
                let same = self.at(offset).says_the_same_as(record);
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
            self.kept.insert(self.log.len() as u64);
            self.thin();
            ("stored", self.log.len() as u64)
        });
        let answers = answers.collect();
        loop {
            let offsets: Vec<_> = self.kept.iter().copied().collect();
            let retention = &self.retention;
            let is_over = retention
                .max_records
                .is_some_and(|max| offsets.len() as u64 > max)
                || retention
                    .max_bytes
                    .is_some_and(|max| self.weight(&offsets) > max);
            if offsets.len() < 2 || !is_over {
                break;
            }
            self.raise_floor();
        }
        answers
    }

    fn trim(&mut self, now: u64) {
        let too_old = |max_age: Option<Duration>| now.checked_sub(max_age?.as_millis() as u64);
        for number in 0..self.retention.topics.len() {
            let Some(too_old) = too_old(self.retention.topics[number].max_age) else {
                continue;
            };
            for offset in self.of_rule(number) {
                if self.at(offset).published_at > too_old {
                    break;
                }
                self.take(offset, true);
            }
        }
        if let Some(too_old) = too_old(self.retention.max_age) {
            while let Some(first) = self.kept.first()
                && self.at(*first).published_at <= too_old
            {
                self.raise_floor();
            }
        }
    }

    fn erase(&mut self, offsets: &[u64]) -> u64 {
        let mut count = 0;
        for offset in offsets {
            if self.kept.contains(offset) {
                self.take(*offset, true);
                self.erased.insert(*offset);
                count += 1;
            }
        }
        count
    }

    fn trim_to_the_end(&mut self, now: u64) {
        let mut before = usize::MAX;
        while self.kept.len() < before {
            before = self.kept.len();
            self.trim(now);
        }
    }

    /// The records of the page, how far it reaches, whether something is gone, and what a rule has taken.
    fn read(&self, request: &ReadRequest) -> (Vec<u64>, u64, bool, Option<u64>) {
        let (mut offsets, mut bytes) = (Vec::new(), 0);
        let mut upto = request.after.max(self.log.len() as u64);
        for offset in self.kept.range(request.after + 1..).copied() {
            let record = self.at(offset);
            let concerns = match &request.scope {
                Scope::Topics(topics) => record.topics.iter().any(|t| topics.contains(t)),
                _ => true,
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
        let is_meant = |name: &str| match &request.scope {
            Scope::All => true,
            Scope::Topics(topics) => topics.contains(&topic(name)),
            Scope::Matching(pattern) => pattern.matches(name),
        };
        let removed = self.removed.iter().filter(|(name, _)| is_meant(name));
        let removed = removed.map(|(_, upto)| *upto).max();
        let removed = removed.filter(|upto| *upto > request.after);
        (offsets, upto, request.after < self.floor, removed)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<NewRecord>),
    Trim {
        now: u64,
    },
    Read(ReadRequest),
    /// A read at a later time, before and after a trim.
    ReadAt(ReadRequest),
    Locate(String),
    Erase(Vec<u64>),
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
    // Settling is a trim at the time zero: nothing may be too old for it, or the order of rules and bounds would be seen.
    (
        names,
        0..8u8,
        "[pq]{0,40}",
        1..50u64,
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
    let matching = any_beginning().prop_map(|text| Scope::Matching(Arc::new(Beginning(text))));
    prop_oneof![Just(Scope::All), some, matching]
}

fn any_beginning() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&["", "a", "a/", "job/", "job/1", "nothing"][..])
}

fn any_rule() -> impl Strategy<Value = TopicRetention> {
    let max_age = proptest::option::weighted(0.3, (0..60u64).prop_map(Duration::from_secs));
    let max_records = proptest::option::weighted(0.4, 1..8u64);
    let max_bytes = proptest::option::weighted(0.2, 1..2_000u64);
    let latest = proptest::option::of(prop_oneof![3 => Just(1), 2 => 2..4u32]);
    let topics = proptest::collection::vec(any_beginning(), 1..3);
    (topics, max_age, max_records, max_bytes, latest).prop_map(
        |(topics, max_age, max_records, max_bytes, latest)| TopicRetention {
            max_age,
            max_records,
            max_bytes,
            keep_latest: latest.and_then(NonZeroU32::new),
            ..TopicRetention::of(topics.into_iter().map(|t| Arc::new(Beginning(t)) as _))
        },
    )
}

fn any_request() -> impl Strategy<Value = ReadRequest> {
    let max_bytes = prop_oneof![0..80usize, Just(usize::MAX)];
    (0..60u64, any_scope(), 0..12usize, max_bytes).prop_map(
        |(after, scope, max_records, max_bytes)| ReadRequest {
            after,
            scope,
            max_records,
            max_bytes,
            now: 0,
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    let read = any_request().prop_map(Op::Read);
    let read_at = (any_request(), 0..80u64).prop_map(|(request, seconds)| {
        Op::ReadAt(ReadRequest {
            now: seconds * 1_000,
            ..request
        })
    });
    prop_oneof![
        2 => read_at,
        6 => proptest::collection::vec(any_record(), 0..6).prop_map(Op::Append),
        1 => (0..80u64).prop_map(|seconds| Op::Trim { now: seconds * 1_000 }),
        6 => read,
        1 => proptest::collection::vec(0..60u64, 0..6).prop_map(Op::Erase),
        1 => (0..5u8).prop_map(|n| Op::Locate(format!("id-{n}"))),
        1 => prop_oneof![Just(""), Just("job/"), Just("a"), Just("nothing")].prop_map(Op::Snapshots),
        1 => Just(Op::Reopen),
    ]
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let max_age = proptest::option::of((0..60u64).prop_map(Duration::from_secs));
    let max_records = proptest::option::of(1..30u64);
    let max_bytes = proptest::option::of(1..5_000u64);
    let topics = proptest::collection::vec(any_rule(), 0..4);
    (max_age, max_records, max_bytes, topics).prop_map(
        |(max_age, max_records, max_bytes, topics)| Retention {
            max_age,
            max_records,
            max_bytes,
            topics,
        },
    )
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
    let mut backend = B::new(retention.clone());
    let is_bounded_by_rules_alone =
        retention.max_records.is_none() && retention.max_bytes.is_none();
    let mut model = Model::new(retention);
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
                // The file follows the rules of topics a commit later; readers are told as if it did already.
                model.trim(0);
                if is_bounded_by_rules_alone {
                    let request = everything_after(0);
                    let page = broker.read(request.clone()).await.expect("a page");
                    prop_assert_eq!(told_by(&page), model.read(&request));
                }
                settle(&*broker).await;
            }
            Op::Trim { now } => {
                let before = model.kept.len();
                model.trim(now);
                let trimmed = broker.trim(now).await.expect("a trim that works");
                prop_assert_eq!(trimmed.records as usize, before - model.kept.len());
                prop_assert_eq!(trimmed.floor, model.floor);
            }
            Op::Read(request) => {
                let page = broker.read(request.clone()).await.expect("a page");
                prop_assert_eq!(told_by(&page), model.read(&request));
                for record in page.records {
                    let said = model.at(record.position.offset);
                    prop_assert_eq!(&record.content, said);
                }
            }
            Op::ReadAt(request) => {
                let before = broker.read(request.clone()).await.expect("a page");
                model.trim(request.now);
                prop_assert_eq!(told_by(&before), model.read(&request));
                // What the bound of the whole log took can leave a rule's next record too old, for the next trim.
                while broker
                    .trim(request.now)
                    .await
                    .expect("a trim that works")
                    .records
                    > 0
                {}
                model.trim_to_the_end(request.now);
                let after = broker.read(request.clone()).await.expect("a page");
                prop_assert_eq!(told_by(&after), model.read(&request));
            }
            Op::Erase(offsets) => {
                let expected = model.erase(&offsets);
                let erased = broker.erase(offsets).await.expect("an erasure that works");
                prop_assert_eq!(erased, expected);
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
        prop_assert_eq!(bounds.floor, model.floor);
        prop_assert_eq!(bounds.head as usize, model.log.len());
    }
    let rest = read_all(&*broker, broker.bounds().floor, Scope::All, 7).await;
    prop_assert_eq!(offsets(&rest), model.kept.into_iter().collect::<Vec<_>>());
    drop::<Vec<Arc<_>>>(rest);
    Ok(())
}

fn told_by(page: &Page) -> (Vec<u64>, u64, bool, Option<u64>) {
    let Page {
        records,
        upto,
        trimmed,
        removed,
    } = page;
    (offsets(records), *upto, *trimmed, *removed)
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
