//! Any JSON is grants or is refused; and what they let somebody read and publish is what their rules say, one by one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sse_server::access::{Caller, Grants};

fuzz_target!(|input: (&str, &str, &str, &str)| {
    let (json, more, topic, event_type) = input;
    let Ok(grants) = serde_json::from_str::<Grants>(json) else {
        return;
    };
    let (may_publish, may_subscribe) = (
        grants.may_publish(topic, event_type),
        grants.may_subscribe(topic),
    );
    // There is a rule for what is allowed, and it says so again when it is written anew.
    assert!(!may_publish || !grants.publish_rules(Some(topic)).is_empty());
    assert_eq!(
        may_subscribe,
        !grants.subscribe_rules(Some(topic)).is_empty()
    );
    // What is another's own is meant by name alone.
    let is_private = ["user/", "session/", "connection/"]
        .iter()
        .any(|prefix| topic.starts_with(prefix));
    if may_subscribe && is_private {
        let begins = |rule: &String| {
            ["user/", "session/", "connection/"]
                .iter()
                .any(|prefix| rule.starts_with(prefix))
        };
        assert!(
            grants.subscribe_rules(Some(topic)).iter().all(begins),
            "{json} {topic}"
        );
    }
    assert!(grants.covers(&grants) || grants.subscribe_rules(None).iter().any(|rule| rule == "*"));
    assert!(grants.covers(&Grants::nothing()));
    // More never takes anything away, and without administration nothing else is lost.
    if let Ok(more) = serde_json::from_str::<Grants>(more) {
        let both = grants.and(&more);
        assert!(both.may_publish(topic, event_type) || !may_publish);
        assert!(both.may_subscribe(topic) || !may_subscribe);
        assert_eq!(both.is_admin(), grants.is_admin() || more.is_admin());
        if grants.covers(&more) {
            assert!(
                may_subscribe || !more.may_subscribe(topic),
                "{json} {topic}"
            );
            assert!(
                may_publish || !more.may_publish(topic, event_type),
                "{json} {topic}"
            );
        }
    }
    let plain = grants.without_administration();
    assert_eq!(plain.may_publish(topic, event_type), may_publish);
    assert_eq!(plain.may_subscribe(topic), may_subscribe);
    assert!(!plain.is_admin() && !plain.may_issue());
    let caller = Caller::default().with_grants(grants);
    assert_eq!(
        caller.check_publish([topic], event_type).is_ok(),
        may_publish
    );
});
