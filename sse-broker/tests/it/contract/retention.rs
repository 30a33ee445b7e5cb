//! What is kept, by count, bytes and age, and how a reader learns what is gone.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sse_broker::{Appended, Broker, NewRecord, ReadRequest, Retention, Scope, TopicRetention};

use crate::support::*;

use super::{Backend, Reopened};

pub(crate) async fn count_and_bytes_are_kept_as_records_arrive<B: Backend>() {
    let backend = B::new(Retention {
        max_records: Some(10),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    for n in 1..=35u64 {
        append_one(&*broker, record("a", "x")).await;
        assert_eq!(broker.bounds().floor, n.saturating_sub(10));
    }
    append(&*broker, (0..25).map(|_| record("a", "y")).collect()).await;
    assert_eq!((broker.bounds().floor, broker.bounds().head), (50, 60));
    let page = broker.read(everything_after(50)).await.expect("a page");
    assert_eq!(offsets(&page.records), (51..=60).collect::<Vec<_>>());
    let page = broker
        .read(ReadRequest {
            scope: topics(&["a"]),
            ..everything_after(0)
        })
        .await;
    assert_eq!(
        offsets(&page.expect("a page").records),
        (51..=60).collect::<Vec<_>>()
    );

    let weight = record("a", "x").weight_bytes() as u64;
    let backend = B::new(Retention {
        max_bytes: Some(5 * weight),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    append(&*broker, (0..8).map(|_| record("a", "x")).collect()).await;
    assert_eq!(broker.bounds().floor, 3);
    append_one(&*broker, record("a", &"large".repeat(1_000))).await;
    assert_eq!(
        (broker.bounds().floor, broker.bounds().head),
        (8, 9),
        "the newest stays"
    );
}

pub(crate) async fn age_is_kept_when_the_time_is_told<B: Backend>() {
    let max_age = Some(Duration::from_secs(60));
    let mut backend = B::new(Retention {
        max_age,
        ..Retention::UNBOUNDED
    });
    {
        let broker = backend.broker();
        for second in 1..=10u64 {
            let published_at = second * 1_000;
            append_one(
                &*broker,
                NewRecord {
                    published_at,
                    ..record_with_id("a", "x", &second.to_string())
                },
            )
            .await;
        }
        assert_eq!(broker.trim(59_000).await.expect("trimmed").records, 0);
        let trimmed = broker.trim(64_000).await.expect("trimmed");
        assert_eq!((trimmed.records, trimmed.floor), (4, 4));
        assert_eq!(broker.bounds().floor, 4);
        assert_eq!(broker.locate(id("4")).await.expect("readable"), None);
        assert_eq!(broker.locate(id("5")).await.expect("readable"), Some(5));
        // Age alone may take the last record; the order goes on where it was.
        let trimmed = broker.trim(u64::MAX).await.expect("trimmed");
        assert_eq!((trimmed.records, trimmed.floor), (6, 10));
    }
    backend.reopen();
    let broker = backend.broker();
    assert_eq!((broker.bounds().floor, broker.bounds().head), (10, 10));
    assert_eq!(stored(&append_one(&*broker, record("a", "x")).await), 11);
}

pub(crate) async fn a_page_says_when_what_was_asked_for_is_gone<B: Backend>() {
    let backend = B::new(Retention {
        max_records: Some(3),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    append(&*broker, (0..10).map(|_| record("a", "x")).collect()).await;
    for scope in [Scope::All, topics(&["a"])] {
        for after in 0..=10 {
            let request = ReadRequest {
                scope: scope.clone(),
                ..everything_after(after)
            };
            let page = broker.read(request).await.expect("a page");
            assert_eq!(page.trimmed, after < 7, "after {after}");
            assert_eq!(
                offsets(&page.records),
                (after.max(7) + 1..=10).collect::<Vec<_>>()
            );
        }
    }
}

pub(crate) async fn a_replay_that_races_with_retention_has_no_silent_hole<B: Backend>() {
    let backend = B::new(Retention {
        max_records: Some(50),
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    let publisher = std::thread::spawn({
        let broker = broker.clone();
        move || {
            block_on(async {
                for n in 0..300u64 {
                    let names = [["a", "b"][n as usize % 2], "all"];
                    append(&*broker, names.map(|name| record(name, "x")).into()).await;
                }
            });
        }
    });
    let mut replays = 0;
    while !publisher.is_finished() || replays == 0 {
        replays += 1;
        for (scope, step) in [(Scope::All, 1), (topics(&["all"]), 2)] {
            let mut after = broker.bounds().floor;
            while after < broker.bounds().head {
                let request = ReadRequest {
                    after,
                    scope: scope.clone(),
                    max_records: 7,
                    max_bytes: usize::MAX,
                    now: 0,
                };
                let page = broker.read(request).await.expect("a page");
                assert!(page.upto > after);
                let offsets = offsets(&page.records);
                assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + step));
                if let (Some(first), false) = (offsets.first(), page.trimmed) {
                    assert!(first - after <= step, "a hole after {after}: {offsets:?}");
                }
                after = page.upto;
            }
        }
    }
    publisher.join().expect("a publisher that got through");
    assert_eq!(broker.bounds().head, 600);
}

fn keep_latest(beginning: &'static str, n: u32) -> TopicRetention {
    TopicRetention {
        keep_latest: NonZeroU32::new(n),
        ..rule(beginning)
    }
}

async fn page(broker: &dyn Broker, after: u64, scope: Scope) -> (Vec<u64>, Option<u64>) {
    let request = ReadRequest {
        scope,
        ..everything_after(after)
    };
    let page = broker.read(request).await.expect("a page");
    assert!(!page.trimmed);
    (offsets(&page.records), page.removed)
}

pub(crate) async fn the_newest_of_each_topic_is_kept_and_a_replaced_value_is_no_gap<B: Backend>() {
    let mut backend = B::new(Retention {
        topics: vec![keep_latest("value/", 1), keep_latest("history/", 2)],
        ..Retention::UNBOUNDED
    });
    for round in 0..2u64 {
        let broker = backend.broker();
        for n in 0..5 {
            for name in ["value/a", "value/b", "history/a", "other"] {
                append_one(&*broker, record(name, &n.to_string())).await;
            }
        }
        settle(&*broker).await;
        let begin = 20 * round;
        assert_eq!(broker.bounds().floor, 0);
        let newest = vec![begin + 15, begin + 17, begin + 18, begin + 19, begin + 20];
        let mut expected: Vec<_> = (1..=5 * (round + 1)).map(|n| n * 4).collect();
        expected.extend(newest);
        expected.sort_unstable();
        expected.dedup();
        let (kept, removed) = page(&*broker, 0, Scope::All).await;
        assert_eq!(kept, expected);
        assert_eq!(removed, Some(begin + 11), "the history's, not the values'");
        let values = page(&*broker, 0, topics(&["value/a", "value/b", "other"])).await;
        assert_eq!(values.1, None);
        let history = topics(&["history/a"]);
        let (kept, removed) = page(&*broker, begin + 3, history.clone()).await;
        assert_eq!(
            (kept, removed),
            (vec![begin + 15, begin + 19], Some(begin + 11))
        );
        // Who has had it misses nothing.
        assert_eq!(page(&*broker, begin + 11, history).await.1, None);
        let values = Scope::Matching(Arc::new(Beginning("value/")));
        assert_eq!(page(&*broker, 0, values).await.1, None);
        drop(broker);
        if backend.reopen() == Reopened::LeftOpen {
            break;
        }
    }
}

pub(crate) async fn only_readers_of_what_a_rule_has_taken_hear_of_it<B: Backend>() {
    let by_count = TopicRetention {
        max_records: Some(3),
        ..rule("chat/")
    };
    let by_age = TopicRetention {
        max_age: Some(Duration::from_secs(10)),
        ..rule("soon/")
    };
    let weight = record("bulk/1", "x").weight_bytes() as u64;
    let by_bytes = TopicRetention {
        max_bytes: Some(2 * weight),
        ..rule("bulk/")
    };
    let backend = B::new(Retention {
        topics: vec![by_count, by_age, by_bytes],
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    let names = ["chat/1", "chat/2", "soon/1", "bulk/1", "quiet"];
    for _ in 0..4 {
        let records = names.iter().map(|name| record(name, "x")).collect();
        append(&*broker, records).await;
    }
    settle(&*broker).await;
    // Each rule bounds its topics together: of chat the newest three, of bulk the newest two.
    let (kept, _) = page(&*broker, 0, topics(&["chat/1", "chat/2"])).await;
    assert_eq!(kept, [12, 16, 17]);
    let (kept, _) = page(&*broker, 0, topics(&["bulk/1"])).await;
    assert_eq!(kept, [14, 19]);
    let trimmed = broker.trim(11_000).await.expect("trimmed");
    assert_eq!((trimmed.records, trimmed.floor), (4, 0));
    for (scope, removed) in [
        (topics(&["chat/1"]), Some(11)),
        (topics(&["chat/2"]), Some(7)),
        (topics(&["soon/1"]), Some(18)),
        (topics(&["bulk/1"]), Some(9)),
        (topics(&["quiet"]), None),
        (topics(&["quiet", "chat/2"]), Some(7)),
        (topics(&["never/published"]), None),
        (Scope::All, Some(18)),
        (Scope::Matching(Arc::new(Beginning("chat/"))), Some(11)),
        (Scope::Matching(Arc::new(Beginning("qui"))), None),
    ] {
        assert_eq!(
            page(&*broker, 0, scope.clone()).await.1,
            removed,
            "{scope:?}"
        );
        for after in 0..20 {
            let expected = removed.filter(|removed| *removed > after);
            assert_eq!(page(&*broker, after, scope.clone()).await.1, expected);
        }
    }
}

pub(crate) async fn a_record_of_several_topics_is_kept_while_one_of_them_keeps_it<B: Backend>() {
    let backend = B::new(Retention {
        topics: vec![keep_latest("value/", 1), keep_latest("state/", 1)],
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    let of = |names: &[&str]| NewRecord {
        topics: names.iter().map(|name| topic(name)).collect(),
        ..record("a", "x")
    };
    let records = [
        &["value/a", "value/b"][..],
        &["value/a", "value/a"],
        &["value/a", "other"],
        &["value/a", "state/a"],
        &["value/a"],
    ];
    append(&*broker, records.map(of).into()).await;
    settle(&*broker).await;
    // The first is the newest of `value/b`; the third and the fourth have no rule that all their topics have.
    assert_eq!(
        page(&*broker, 0, Scope::All).await,
        (vec![1, 3, 4, 5], None)
    );
    append_one(&*broker, of(&["value/b"])).await;
    settle(&*broker).await;
    assert_eq!(page(&*broker, 0, Scope::All).await.0, [3, 4, 5, 6]);
}

pub(crate) async fn an_id_that_a_rule_has_taken_is_not_stored_again<B: Backend>() {
    let mut backend = B::new(Retention {
        topics: vec![keep_latest("value/", 1)],
        ..Retention::UNBOUNDED
    });
    let broker = backend.broker();
    append_one(&*broker, record_with_id("value/a", "old", "first")).await;
    append_one(&*broker, record_with_id("value/a", "new", "second")).await;
    settle(&*broker).await;
    drop(broker);
    backend.reopen();
    let broker = backend.broker();
    assert_eq!(page(&*broker, 0, Scope::All).await.0, [2]);
    // A retry that comes late must not make the old value the newest.
    let again = append_one(&*broker, record_with_id("value/a", "old", "first")).await;
    assert!(
        matches!(again, Appended::Duplicate(p) if p.offset == 1),
        "{again:?}"
    );
    let other = append_one(&*broker, record_with_id("value/a", "else", "first")).await;
    assert!(
        matches!(other, Appended::Conflict(p) if p.offset == 1),
        "{other:?}"
    );
    // And its reader resumes where it was.
    assert_eq!(broker.locate(id("first")).await.expect("readable"), Some(1));
    settle(&*broker).await;
    assert_eq!(
        page(&*broker, 1, topics(&["value/a"])).await,
        (vec![2], None)
    );
}

/// Each second one record of each topic, from second 1 to `seconds`; the clock stands at the last of them.
async fn publish_each_second(broker: &dyn Broker, names: &[&str], seconds: u64) {
    for second in 1..=seconds {
        for name in names {
            let content = NewRecord {
                published_at: second * 1_000,
                ..record(name, "x")
            };
            append_one(broker, content).await;
        }
    }
}

type Told = (Vec<u64>, bool, Option<u64>);

/// What a reader is told at a time: the records, whether older ones are gone, and what rules have removed.
async fn told(broker: &dyn Broker, now: u64, after: u64, scope: &Scope) -> Told {
    let request = ReadRequest {
        now,
        scope: scope.clone(),
        ..everything_after(after)
    };
    let page = broker.read(request.clone()).await.expect("a page");
    let render = |record: &sse_broker::RecordRef<'_>, out: &mut Vec<u8>| {
        out.extend(record.position.offset.to_le_bytes());
    };
    let rendered = broker.render(request, Box::new(render)).await;
    let rendered = rendered.expect("a page");
    let (numbers, _) = rendered.bytes.as_chunks::<8>();
    let numbers: Vec<_> = numbers.iter().map(|n| u64::from_le_bytes(*n)).collect();
    let offsets = offsets(&page.records);
    assert_eq!(numbers, offsets, "what is rendered is what is read");
    assert_eq!(
        (rendered.upto, rendered.trimmed, rendered.removed),
        (page.upto, page.trimmed, page.removed)
    );
    (offsets, page.trimmed, page.removed)
}

/// What readers of several scopes are told, from several positions.
async fn all_told(broker: &dyn Broker, now: u64) -> Vec<(Scope, u64, Told)> {
    let scopes = [
        Scope::All,
        topics(&["ruled/a"]),
        topics(&["ruled/a", "ruled/b", "free"]),
        topics(&["free"]),
        Scope::Matching(Arc::new(Beginning("ruled/"))),
    ];
    let mut answers = Vec::new();
    for scope in scopes {
        for after in 0..=18 {
            answers.push((scope.clone(), after, told(broker, now, after, &scope).await));
        }
    }
    answers
}

fn assert_same(before: &[(Scope, u64, Told)], now: &[(Scope, u64, Told)], step: &str) {
    for ((scope, after, before), (_, _, now)) in before.iter().zip(now) {
        assert_eq!(now, before, "{step}: {scope:?} after {after}");
    }
}

/// Reads before anything is trimmed, after the log was opened again, and after trimming: all tell the same.
async fn is_one_answer<B: Backend>(retention: Retention, now: u64, expected: &[u64]) {
    let mut backend = B::new(retention);
    let broker = backend.broker();
    publish_each_second(&*broker, &["ruled/a", "ruled/b", "free"], 6).await;
    // At once, while the rules may not have been applied to the newest.
    assert_eq!(told(&*broker, now, 0, &Scope::All).await.0, expected);
    let before = all_told(&*broker, now).await;
    drop(broker);
    backend.reopen();
    let broker = backend.broker();
    assert_same(&before, &all_told(&*broker, now).await, "opened again");
    broker.trim(now).await.expect("trimmed");
    assert_same(&before, &all_told(&*broker, now).await, "trimmed");
    drop(broker);
    backend.reopen();
    let broker = backend.broker();
    assert_same(
        &before,
        &all_told(&*broker, now).await,
        "trimmed and opened again",
    );
}

fn ruled(of: impl FnOnce(TopicRetention) -> TopicRetention) -> Retention {
    Retention {
        topics: vec![of(rule("ruled/"))],
        ..Retention::UNBOUNDED
    }
}

pub(crate) async fn a_superseded_value_is_not_read_whether_or_not_it_was_trimmed<B: Backend>() {
    let latest = |n| {
        move |rule| TopicRetention {
            keep_latest: NonZeroU32::new(n),
            ..rule
        }
    };
    is_one_answer::<B>(ruled(latest(1)), 6_000, &[3, 6, 9, 12, 15, 16, 17, 18]).await;
    is_one_answer::<B>(
        ruled(latest(2)),
        6_000,
        &[3, 6, 9, 12, 13, 14, 15, 16, 17, 18],
    )
    .await;
}

pub(crate) async fn what_is_beyond_a_rules_number_is_not_read_whether_or_not_it_was_trimmed<
    B: Backend,
>() {
    let by_number = |rule| TopicRetention {
        max_records: Some(3),
        ..rule
    };
    is_one_answer::<B>(ruled(by_number), 6_000, &[3, 6, 9, 12, 14, 15, 16, 17, 18]).await;
    let weight = record("ruled/a", "x").weight_bytes() as u64;
    let by_bytes = |rule| TopicRetention {
        max_bytes: Some(2 * weight),
        ..rule
    };
    is_one_answer::<B>(ruled(by_bytes), 6_000, &[3, 6, 9, 12, 15, 16, 17, 18]).await;
}

pub(crate) async fn what_is_too_old_is_not_read_whether_or_not_it_was_trimmed<B: Backend>() {
    let by_age = |rule| TopicRetention {
        max_age: Some(Duration::from_secs(3)),
        ..rule
    };
    is_one_answer::<B>(
        ruled(by_age),
        6_999,
        &[3, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18],
    )
    .await;
    is_one_answer::<B>(ruled(by_age), 9_000, &[3, 6, 9, 12, 15, 18]).await;
    let all_by_age = |seconds| Retention {
        max_age: Some(Duration::from_secs(seconds)),
        ..Retention::UNBOUNDED
    };
    is_one_answer::<B>(all_by_age(2), 6_000, &[13, 14, 15, 16, 17, 18]).await;
    is_one_answer::<B>(all_by_age(2), 8_000, &[]).await;
    let both = Retention {
        max_age: Some(Duration::from_secs(4)),
        ..ruled(by_age)
    };
    is_one_answer::<B>(both, 7_000, &[12, 13, 14, 15, 16, 17, 18]).await;
}

pub(crate) async fn as_time_goes_on_readers_get_less_without_any_trimming<B: Backend>() {
    let by_age = |rule| TopicRetention {
        max_age: Some(Duration::from_secs(3)),
        ..rule
    };
    let backend = B::new(ruled(by_age));
    let broker = backend.broker();
    let ruled = topics(&["ruled/a"]);
    for second in 1..=9u64 {
        let content = NewRecord {
            published_at: second * 1_000,
            ..record("ruled/a", "x")
        };
        append_one(&*broker, content).await;
        let now = second * 1_000 + 500;
        let (kept, trimmed, removed) = told(&*broker, now, 0, &ruled).await;
        let oldest = second.saturating_sub(2).max(1);
        assert_eq!(kept, (oldest..=second).collect::<Vec<_>>());
        assert_eq!(
            (trimmed, removed),
            (false, (oldest > 1).then(|| oldest - 1))
        );
        if second == 6 {
            let trimmed = broker.trim(now).await.expect("trimmed");
            assert_eq!(trimmed.floor, 0);
        }
    }
    assert!(told(&*broker, 12_000, 0, &ruled).await.0.is_empty());
}

pub(crate) async fn a_broker_says_which_topics_have_a_rule<B: Backend>() {
    let backend = B::new(ruled(|rule| rule));
    let broker = backend.broker();
    assert!(broker.has_topic_rules());
    assert!(broker.has_rule_for("ruled/a"));
    assert!(!broker.has_rule_for("free"));
    let backend = B::new(Retention::UNBOUNDED);
    assert!(!backend.broker().has_topic_rules());
    assert!(!backend.broker().has_rule_for("ruled/a"));
}

pub(crate) async fn a_topic_of_one_value_has_one_at_any_moment<B: Backend>() {
    let backend = B::new(ruled(|rule| TopicRetention {
        keep_latest: NonZeroU32::new(1),
        ..rule
    }));
    let broker = backend.broker();
    append_one(&*broker, record("ruled/a", "0")).await;
    let publisher = std::thread::spawn({
        let broker = broker.clone();
        move || {
            block_on(async {
                for n in 1..200u64 {
                    append_one(&*broker, record("ruled/a", &n.to_string())).await;
                }
            });
        }
    });
    let value = topics(&["ruled/a"]);
    let mut reads = 0;
    while !publisher.is_finished() || reads == 0 {
        reads += 1;
        for scope in [&value, &Scope::All] {
            let (kept, removed) = page(&*broker, 0, scope.clone()).await;
            assert_eq!((kept.len(), removed), (1, None), "{scope:?}: {kept:?}");
        }
    }
    publisher.join().expect("a publisher that got through");
}

/// A clock was ten years ahead for a while, and another time ten years behind; the owner of the clock reckoned on.
pub(crate) async fn where_the_clock_jumped_the_later_time_counts_unless_it_is_to_come<
    B: Backend,
>() {
    const YEARS: u64 = 10 * 365 * 24 * 3_600_000;
    let now = 2 * YEARS;
    let aged = |ages_from: u64, published_at| NewRecord {
        published_at,
        ages_from: Some(ages_from),
        ..record("ruled/a", "x")
    };
    let all = |max_age| Retention {
        max_age: Some(Duration::from_secs(max_age)),
        ..Retention::UNBOUNDED
    };
    let by_rule = |max_age| Retention {
        topics: vec![TopicRetention {
            max_age: Some(Duration::from_secs(max_age)),
            ..rule("ruled/")
        }],
        ..Retention::UNBOUNDED
    };
    for retention in [all(10), by_rule(10)] {
        let backend = B::new(retention);
        let broker = backend.broker();
        let records = [
            aged(now - 20_000, now - 20_000 + YEARS),
            aged(now - 15_000, now - 15_000 - YEARS),
            aged(now - 5_000, now - 5_000 - YEARS),
            aged(now - 4_000, now - 4_000 + YEARS),
        ];
        append(&*broker, records.to_vec()).await;
        let ruled = topics(&["ruled/a"]);
        let (kept, ..) = told(&*broker, now, 0, &ruled).await;
        assert_eq!(kept, [3, 4], "before anything is trimmed");
        broker.trim(now).await.expect("trimmed");
        let (kept, ..) = told(&*broker, now, 0, &ruled).await;
        assert_eq!(kept, [3, 4]);
        // The clock that was ahead is the right one after all: what it stamped is not older than it says.
        broker.trim(now - 10_000).await.expect("trimmed");
        let later = NewRecord {
            published_at: now + YEARS,
            ..record("ruled/a", "x")
        };
        append_one(&*broker, later).await;
        let (kept, ..) = told(&*broker, now + YEARS + 5_000, 0, &ruled).await;
        assert_eq!(kept, [4, 5]);
    }
}
