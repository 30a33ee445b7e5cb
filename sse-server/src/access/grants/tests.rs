//! Grants against their naive rules.

use proptest::prelude::*;
use sse_pool::PatternSet;

use super::json::MAX_RULES;
use super::*;
use crate::topic_pattern::is_pattern;

fn grants(json: serde_json::Value) -> Grants {
    serde_json::from_value(json).unwrap()
}

fn reading(topics: &[&str]) -> Grants {
    grants(serde_json::json!({ "subscribe": topics }))
}

fn asking(topics: &[&str]) -> Selector {
    let (patterns, exact): (Vec<&str>, Vec<&str>) = topics.iter().partition(|it| is_pattern(it));
    if patterns.contains(&"*") {
        return Selector::all();
    }
    let patterns: PatternSet = patterns
        .into_iter()
        .map(|it| Arc::new(Pattern::new(it).unwrap()) as Arc<dyn TopicPattern>)
        .collect();
    Selector {
        topics: TopicFilter::Topics {
            exact: exact.into_iter().map(Arc::from).collect(),
            patterns,
        },
        ..Selector::all()
    }
}

fn follows(selector: &Selector, topic: &str) -> bool {
    selector.topics.means(topic)
}

#[test]
fn an_exact_topic_is_granted_or_refused_by_its_name() {
    let own = [Arc::from("user/me")];
    let grants = reading(&["news", "job/*", "user/boss"]);
    for topic in ["news", "job/7", "user/me", "user/boss"] {
        assert!(grants.narrow(&asking(&[topic]), &own).is_ok(), "{topic}");
    }
    for topic in ["olds", "jobs/7", "user/you", "session/x"] {
        let refused = grants.narrow(&asking(&["news", topic]), &own).unwrap_err();
        assert!(refused.to_string().contains(topic), "{refused}");
    }
    assert!(
        reading(&["*"])
            .narrow(&asking(&["user/you"]), &own)
            .is_err()
    );
    assert!(
        reading(&["user/*"])
            .narrow(&asking(&["user/you"]), &own)
            .is_ok()
    );
    assert!(Grants::nothing().narrow(&Selector::all(), &[]).is_err());
    // What is one's own needs no grant.
    assert!(Grants::nothing().narrow(&Selector::all(), &own).is_ok());
    assert!(
        Grants::everything()
            .narrow(&asking(&["news", "*"]), &[])
            .is_ok()
    );
}

#[test]
fn a_publisher_may_mean_readers_by_a_pattern_and_types_are_checked() {
    let grants = grants(serde_json::json!({
        "publish": ["*/news", {"topic": "job/*", "event_types": ["progress", "done"]}, {"topic_exact": "a*b"}],
    }));
    for (topic, event_type, is_allowed) in [
        ("user/7/news", "x", true),
        ("job/7", "progress", true),
        ("job/7", "error", false),
        ("a*b", "x", true),
        ("axb", "x", false),
        ("olds", "x", false),
    ] {
        assert_eq!(
            grants.may_publish(topic, event_type),
            is_allowed,
            "{topic} {event_type}"
        );
    }
    let refused = grants.check_publish("job/7", "error").unwrap_err();
    assert!(refused.to_string().contains("\"error\""), "{refused}");
}

#[test]
fn what_is_no_grant_is_refused() {
    for json in [
        serde_json::json!({"publsh": ["a"]}),
        serde_json::json!({"publish": "a"}),
        serde_json::json!({"publish": [1]}),
        serde_json::json!({"publish": [""]}),
        serde_json::json!({"publish": ["a\nb"]}),
        serde_json::json!({"publish": ["{a"]}),
        serde_json::json!({"publish": [{"topic": "a", "topic_exact": "a"}]}),
        serde_json::json!({"publish": [{"event_types": ["a"]}]}),
        serde_json::json!({"subscribe": vec!["a"; MAX_RULES + 1]}),
        serde_json::json!({"admin": "yes"}),
        serde_json::json!([]),
        serde_json::json!([["a"]]),
        serde_json::json!({"publish": [["a"]]}),
    ] {
        assert!(
            serde_json::from_value::<Grants>(json.clone()).is_err(),
            "{json}"
        );
    }
}

#[test]
fn nothing_wider_is_covered() {
    let all = Grants::everything();
    assert!(all.covers(&reading(&["*", "job/*", "news"])));
    assert!(!all.covers(&reading(&["user/you"])));
    assert!(!all.covers(&reading(&["user/*"])));
    let jobs = reading(&["job/*"]);
    for (asked, is_covered) in [
        ("job/7", true),
        ("job/*", true),
        ("job/7/*", true),
        ("job/:id", true),
        ("job*", false),
        ("*", false),
        ("news", false),
        ("user/7", false),
    ] {
        assert_eq!(jobs.covers(&reading(&[asked])), is_covered, "{asked}");
    }
    assert!(!reading(&["u*"]).covers(&reading(&["user/*"])));
    assert!(!jobs.covers(&Grants::everything()));
    let typed =
        grants(serde_json::json!({"subscribe": [{"topic": "job/*", "event_types": ["a"]}]}));
    assert!(jobs.covers(&typed) && !typed.covers(&jobs));
}

const TOPICS: [&str; 8] = [
    "news",
    "job/1",
    "job/2",
    "job/1/log",
    "user/a",
    "user/b",
    "session/s",
    "x",
];
const WISHES: [&str; 10] = [
    "*", "news", "job/1", "job/*", "job/:id", "*1*", "user/a", "user/*", "u*", "{job}/*",
];

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(of), 1..4)
}

proptest! {
    /// The naive rule: a topic is read that is asked for and granted, or is the reader's own.
    #[test]
    fn what_is_narrowed_is_asked_for_and_granted(granted in some(&WISHES), asked in some(&WISHES)) {
        let own = [Arc::from("user/a")];
        let grants = reading(&granted);
        let Ok(narrowed) = grants.narrow(&asking(&asked), &own) else {
            let exact_is_missing = asked.iter().any(|it| {
                !is_pattern(it) && *it != "user/a" && !grants.may_subscribe(it)
            });
            let nothing_is_left = TOPICS.iter().all(|topic| {
                !asked.iter().any(|it| Granted::new(it).unwrap().means_to_read(topic)) || !grants.may_subscribe(topic)
            });
            prop_assert!(exact_is_missing || nothing_is_left);
            return Ok(());
        };
        // What is one's own is got in any case.
        for topic in TOPICS.into_iter().filter(|it| *it != "user/a") {
            let is_granted = grants.may_subscribe(topic);
            let is_asked = asked.iter().any(|it| Granted::new(it).unwrap().means_to_read(topic));
            let reads = follows(&narrowed, topic) && (is_granted || !is_private(topic));
            prop_assert!(!reads || is_granted, "{topic} is not granted");
            prop_assert!(!reads || is_asked || is_private(topic), "{topic} is not asked for");
            prop_assert!(reads || !(is_asked && is_granted), "{topic} is left out");
        }
    }

    #[test]
    fn what_is_covered_is_allowed(more in some(&WISHES), less in some(&WISHES)) {
        let (more, less) = (reading(&more), reading(&less));
        if more.covers(&less) {
            for topic in TOPICS {
                prop_assert!(!less.may_subscribe(topic) || more.may_subscribe(topic), "{topic}");
            }
        }
    }
}
