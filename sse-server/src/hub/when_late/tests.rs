use std::collections::HashMap;
use std::time::Instant;

use proptest::prelude::*;
use sse_broker::{Audience, Epoch, NewRecord, Record, Topic};
use sse_protocol::{Event, EventType};

use super::*;
use crate::clock;
use crate::hub::{Hub, HubConfig};

const LATE_AFTER: Duration = Duration::from_secs(4);
const PUBLISHED_AT: UnixMillis = 1_000_000;

/// A hub with rules, and the records that have come to its window.
struct Window {
    hub: Hub,
    now: Instant,
    offset: Offset,
}

impl Window {
    async fn new(rules: &[(&str, LatePolicy)]) -> Self {
        let rules = rules.iter().map(|(topic, policy)| LateRule {
            topics: vec![Arc::new(crate::Pattern::new(topic).unwrap())],
            policy: policy.clone(),
        });
        let hub = Hub::in_memory(HubConfig {
            late: LateConfig {
                late_after: LATE_AFTER,
                rules: rules.collect(),
            },
            ..HubConfig::default()
        });
        Self {
            hub: hub.await.unwrap(),
            now: clock::now(),
            offset: 0,
        }
    }

    /// An event comes to the window.
    fn publish(&mut self, content: NewRecord) -> Batch {
        self.offset += 1;
        let record = Arc::new(Record {
            position: Position {
                epoch: Epoch(7),
                offset: self.offset,
            },
            content,
        });
        vec![Arc::new(self.hub.inner.entry(&record, self.now))]
    }

    fn publish_all(&mut self, all: impl IntoIterator<Item = NewRecord>) -> Batch {
        all.into_iter().flat_map(|it| self.publish(it)).collect()
    }

    /// What is left of a batch that has waited so long, and what was left out.
    fn after(&self, waited: Duration, batch: &Batch) -> (Vec<Offset>, LeftOut) {
        let mut batch = batch.clone();
        let millis = u64::try_from(waited.as_millis()).unwrap();
        let moment = Moment {
            now: self.now + waited,
            unix_millis: PUBLISHED_AT + millis,
        };
        let left_out = self.hub.leave_out(&mut batch, 1, moment);
        (batch.iter().map(|entry| entry.offset).collect(), left_out)
    }

    fn late(&self, batch: &Batch) -> Vec<Offset> {
        self.after(LATE_AFTER, batch).0
    }
}

fn event(topic: &str, data: &str) -> NewRecord {
    let topic = Topic::new(topic).unwrap();
    let event = Event {
        data: data.into(),
        ..Event::default()
    };
    NewRecord::new(topic, event, PUBLISHED_AT)
}

fn latest(field: Option<&str>) -> LatePolicy {
    LatePolicy::Latest {
        field: field.map(Into::into),
    }
}

#[tokio::test]
async fn without_a_rule_and_in_time_nothing_is_left_out() {
    let mut window = Window::new(&[("price/*", latest(None))]).await;
    let batch = window.publish_all([
        event("price/a", "1"),
        event("price/a", "2"),
        event("b", "1"),
        event("b", "2"),
    ]);
    let just_in_time = LATE_AFTER - Duration::from_millis(1);
    assert_eq!(
        window.after(just_in_time, &batch),
        (vec![1, 2, 3, 4], LeftOut::default())
    );
    assert_eq!(window.late(&batch), [2, 3, 4]);
}

#[tokio::test]
async fn the_latest_of_a_topic_is_that_of_each_type_and_audience() {
    let mut window = Window::new(&[("*", latest(None))]).await;
    let typed = |name: &str| {
        let mut record = event("t", "1");
        record.event.event_type = Some(EventType::new(name).unwrap());
        record
    };
    let mut private = event("t", "1");
    private.audience = Audience::Owners(vec![Topic::new("user/7").unwrap()]);
    let mut labelled = event("t", "1");
    labelled.label = Some(EventType::new("l").unwrap());
    let mut two_topics = event("t", "1");
    two_topics.topics.push(Topic::new("u").unwrap());
    let batch = window.publish_all([
        event("t", "1"),
        typed("a"),
        typed("b"),
        private,
        labelled,
        two_topics,
        event("u", "1"),
        typed("a"),
    ]);
    assert_eq!(window.late(&batch), [1, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn an_event_with_a_topic_that_no_rule_means_is_delivered() {
    let mut window = Window::new(&[("price/*", latest(None))]).await;
    let both = || {
        let mut record = event("price/a", "1");
        record.topics.push(Topic::new("audit").unwrap());
        record
    };
    let batch = window.publish_all([both(), both()]);
    assert_eq!(window.late(&batch), [1, 2]);
}

#[tokio::test]
async fn a_field_says_what_an_event_is_about() {
    let mut window = Window::new(&[("price/*", latest(Some("symbol")))]).await;
    let of = |data: &str| event("price/all", data);
    let batch = window.publish_all([
        of(r#"{"symbol": "a", "n": 1}"#),
        of(r#"{"symbol": "b"}"#),
        of(r#"{"n": {"symbol": "a"}}"#),
        of(r#"{"n": 2, "sym\u0062ol": "a"}"#),
        of("no JSON"),
        of("no JSON"),
        of(r#"["symbol", "a"]"#),
        of(r#"{"symbol": "a", "symbol": "b"}"#),
    ]);
    assert_eq!(window.late(&batch), [3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn of_each_interval_the_newest_is_left() {
    let sample = LatePolicy::Sample {
        interval: Duration::from_millis(100),
        field: None,
    };
    let mut window = Window::new(&[("*", sample)]).await;
    let at = |millis: u64| NewRecord {
        published_at: PUBLISHED_AT + millis,
        ..event("t", "1")
    };
    let batch = window.publish_all([at(0), at(99), at(100), at(150), at(199), at(200)]);
    let (left, left_out) = window.after(LATE_AFTER, &batch);
    assert_eq!(left, [2, 5, 6]);
    assert_eq!(left_out.counts[Reason::Sampled as usize], 3);
    assert_eq!(left_out.gap(), None, "newer ones say the same");
}

#[tokio::test]
async fn low_priority_goes_first_and_is_told_and_high_never_goes() {
    let mut window = Window::new(&[("log/*", LatePolicy::DropLow), ("*", latest(None))]).await;
    let with = |topic, priority| NewRecord {
        priority,
        ..event(topic, "1")
    };
    let batch = window.publish_all([
        with("log/a", Priority::Normal),
        with("log/a", Priority::Low),
        with("log/a", Priority::High),
        with("log/a", Priority::Low),
        with("t", Priority::High),
        with("t", Priority::Low),
        with("t", Priority::Normal),
        with("t", Priority::Normal),
    ]);
    let (left, left_out) = window.after(LATE_AFTER / 4, &batch);
    assert_eq!(
        left,
        [1, 3, 5, 7, 8],
        "a quarter of the time is late for low ones"
    );
    assert_eq!(left_out.counts, [0, 1, 0, 2]);
    let gap = left_out.gap().unwrap();
    assert_eq!(gap.from.unwrap().offset, 1);
    assert_eq!((gap.to.offset, gap.until.offset), (8, 8));
    assert_eq!(gap.reason.as_str(), "low_priority");
    assert_eq!(window.late(&batch), [1, 3, 5, 8]);
}

#[tokio::test]
async fn what_has_expired_is_counted_and_not_told() {
    let mut window = Window::new(&[]).await;
    let expires = NewRecord {
        expires_at: Some(PUBLISHED_AT + 10),
        ..event("t", "1")
    };
    let batch = window.publish_all([expires, event("t", "2")]);
    let (left, left_out) = window.after(Duration::from_millis(10), &batch);
    assert_eq!((left, left_out.counts), (vec![2], [1, 0, 0, 0]));
    assert_eq!(left_out.gap(), None);
    let stats = window.hub.stats();
    assert_eq!(stats.events_left_out["expired"], 1);
}

#[tokio::test]
async fn another_log_has_other_offsets() {
    let mut window = Window::new(&[("*", latest(None))]).await;
    window.offset = 1000;
    let _before = window.publish(event("t", "1"));
    window.hub.inner.when_late.forget();
    window.offset = 0;
    let batch = window.publish(event("t", "2"));
    assert_eq!(window.late(&batch), [1]);
}

#[test]
fn slots_are_bounded_and_a_forgotten_one_is_delivered() {
    let mut newest = Newest {
        max: 10,
        ..Newest::default()
    };
    for slot in 0..1000 {
        newest.put(slot, slot);
        newest.put(slot, slot + 1);
        assert!(newest.recent.len() <= 10 && newest.before.len() <= 10);
        assert_eq!(newest.get(slot), Some(slot + 1));
    }
    assert_eq!(newest.get(900), None);
}

proptest! {
    /// However a late reader's batches fall, it gets what a naive look at the whole sequence leaves: the newest of each thing.
    #[test]
    fn a_late_reader_gets_the_newest_of_each_thing_in_order(
        events in prop::collection::vec((0..3_usize, 0..3_u8, any::<bool>()), 1..40),
        cuts in prop::collection::vec(1..10_usize, 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut window = runtime.block_on(Window::new(&[("t/*", latest(Some("key")))]));
        let mut expected: HashMap<(usize, u8), Offset> = HashMap::new();
        let mut always = Vec::new();
        let mut all = Batch::new();
        for (n, &(topic, key, is_high)) in (1..).zip(&events) {
            let record = NewRecord {
                priority: if is_high { Priority::High } else { Priority::Normal },
                ..event(&format!("t/{topic}"), &format!(r#"{{"key": {key}}}"#))
            };
            all.extend(window.publish(record));
            if is_high {
                always.push(n);
            } else {
                expected.insert((topic, key), n);
            }
        }
        let mut expected: Vec<Offset> = expected.into_values().chain(always).collect();
        expected.sort_unstable();
        let mut got = Vec::new();
        let mut rest = &all[..];
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, behind) = rest.split_at(cut.min(rest.len()));
            got.extend(window.late(&batch.to_vec()));
            rest = behind;
        }
        prop_assert_eq!(got, expected);
    }
}
