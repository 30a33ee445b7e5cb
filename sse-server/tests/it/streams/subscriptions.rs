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

#[test]
fn the_topics_of_an_event_are_told_to_those_who_ask_and_whose_it_is_to_nobody() {
    let server = Server::start();
    let path = "/events?topic=a/*&user_id=ann&show=topics";
    let mut shown = server.open(path);
    let mut gzip = server.open_with(path, &[("Accept-Encoding", "gzip")]);
    let mut plain = server.open("/events?topic=a/*&user_id=ann");
    server.publish(&json!([
        {"topic": ["b", "a/1", "a/1"], "data": 1},
        {"topic": "a/2", "user_id": "ann", "data": 2},
        {"topic": "user/ann", "subscription_filter": "x", "data": 3},
    ]));
    let about = [
        ": about {\"topics\":[\"b\",\"a/1\"]}\n",
        ": about {\"topics\":[\"a/2\"]}\n",
        ": about {\"topics\":[\"user/\"],\"label\":\"x\"}\n",
    ];
    for stream in [&mut shown, &mut gzip] {
        let data: Vec<String> = stream.take(3).into_iter().map(|it| it.data).collect();
        assert_eq!(
            data,
            ["1", "2", "3"],
            "whoever does not know comments reads on"
        );
        let text = String::from_utf8(stream.raw.clone()).unwrap();
        let mut rest = text.as_str();
        for about in about {
            let at = rest
                .find(about)
                .unwrap_or_else(|| panic!("{about} in {text}"));
            rest = &rest[at + about.len()..];
        }
    }
    plain.take(3);
    assert!(!String::from_utf8_lossy(&plain.raw).contains("about"));
    // As fields where events are JSON.
    let polled = server
        .get("/events/poll?after=earliest&topic=a/*&user_id=ann&show=topics")
        .ok();
    assert_eq!(polled["events"][0]["topics"], json!(["b", "a/1"]));
    assert_eq!(polled["events"][2]["label"], "x");
    // A replay is told the same, and a job's state, too.
    let mut replay = server.open(&format!("{path}&last_event_id=earliest"));
    replay.take(3);
    assert!(String::from_utf8_lossy(&replay.raw).contains(about[2]));
    server.get("/events?show=names").problem(400);
}
