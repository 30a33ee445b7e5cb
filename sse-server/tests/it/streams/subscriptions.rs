//! What a reader asks for: subscriptions and topics, exact, by pattern, or all.

use serde_json::json;

use crate::server::Server;

use super::data;

#[test]
fn a_subscription_filter_asks_for_the_subscription_and_not_for_the_type() {
    let server = Server::start();
    let mut listens_to_filter = server.open("/events?subscribe=orders");
    let mut listens_to_type = server.open("/events?subscribe=invoice");
    let mut listens_to_all = server.open("/events");
    let start = server.head();
    server.publish(
        &json!({"event_type": "invoice", "data": "filtered", "subscription_filter": "orders"}),
    );
    let event = listens_to_filter.next();
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("invoice", "filtered")
    );
    assert_eq!(listens_to_all.next().data, "filtered");
    server.assert_nothing_came(&mut [&mut listens_to_type, &mut listens_to_all], "invoice");
    let mut replayed = server.open(&format!("/events?subscribe=orders&last_event_id={start}"));
    assert_eq!(replayed.next().data, "filtered");
}

#[test]
fn topics_can_be_exact_patterns_or_all() {
    let server = Server::start();
    let mut streams = [
        server.open("/events?topic=room/1&topic=marker"),
        server.open("/events?topic=room/:id/chat&topic=marker"),
        server.open("/events?topic=room/*&topic=marker"),
        server.open("/events?topic=*"),
        server.open("/events"),
        server.open("/events?topic=https://example.com/books/:id&topic=marker"),
    ];
    let topics = [
        "room/1",
        "room/2",
        "room/7/chat",
        "other",
        "https://example.com/books/1",
    ];
    for topic in topics {
        server.publish(&json!({"topic": topic, "data": topic}));
    }
    let expected: [&[&str]; 6] = [
        &["room/1"],
        &["room/7/chat"],
        &topics[..3],
        &topics,
        &topics,
        &topics[4..],
    ];
    for (stream, expected) in streams.iter_mut().zip(expected) {
        assert_eq!(data(&stream.take(expected.len())), expected);
    }
    server.assert_nothing_came(&mut streams.iter_mut().collect::<Vec<_>>(), "message");
}

#[test]
fn a_change_that_goes_on_after_an_event_says_whether_any_are_missing() {
    let server = Server::start();
    let start = server.head();
    let mut stream = server.open("/events?topic=a");
    server.publish(&json!({"topic": "b", "data": "before"}));
    let id = stream.connection_id();
    let change = |last_event_id: &str| {
        server
            .post(
                "/events/subscriptions",
                &json!({"connection_id": id, "topics": ["b"], "last_event_id": last_event_id}),
            )
            .ok()
    };
    let changed = change(&start);
    assert_eq!(
        (&changed["gap"], changed.get("gap_reason")),
        (&json!(false), None)
    );
    assert_eq!(stream.next().data, "before");
    let changed = change("nobody-knows-it");
    assert_eq!(changed["gap"], true);
    assert_eq!(changed["gap_reason"], "unknown_id");
    let gap = stream.next();
    assert_eq!(gap.name, "gap", "the stream says so, too");
    assert_eq!(gap.json()["reason"], "unknown_id");
    server.publish(&json!({"topic": "b", "data": "after"}));
    assert_eq!(stream.next().data, "after");
}
