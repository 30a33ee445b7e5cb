//! What is meant for one session, user or connection reaches no other, by no door.

use serde_json::json;

use crate::server::Server;

use super::data;

#[test]
fn a_private_event_reaches_its_session_alone() {
    let server = Server::start();
    let mut owner = server.open("/events?session_id=secret");
    let mut same_user = server.open("/events?user_id=u");
    let mut others = [
        server.open("/events"),
        server.open("/events?topic=*"),
        server.open("/events?session_id=other"),
        server.open("/events?topic=session/secret&topic=marker"),
        server.open("/events?topic=session/*&topic=marker"),
        server.open("/events?topic=user/u&topic=marker"),
        server.open("/events?user_id=secret"),
        server.open("/sse?session_id=secrets"),
    ];
    let start = server.head();
    server.publish(&json!([
        {"data": "by filter", "session_filter": "secret"},
        {"data": "by id", "session_id": "secret"},
        {"data": "by topic", "topic": "session/secret"},
        {"data": "by user", "user_id": "u"},
        {"data": "both", "topic": ["session/secret", "public"]},
        {"data": "for a session of this user", "session_id": "secret", "user_id": "u"},
    ]));
    assert_eq!(
        data(&owner.take(4)),
        ["by filter", "by id", "by topic", "both"]
    );
    assert_eq!(same_user.next().data, "by user");
    let mut streams: Vec<_> = others.iter_mut().collect();
    streams.push(&mut owner);
    streams.push(&mut same_user);
    server.assert_nothing_came(&mut streams, "message");
    // Nor by replay, by poll, or by an id.
    for query in [
        "",
        "&topic=*",
        "&topic=session/secret",
        "&topic=session/*",
        "&session_id=other",
        "&topic=user/u",
    ] {
        let mut replay = server.open(&format!("/events?last_event_id={start}{query}"));
        let polled = server
            .get(&format!("/events/poll?after={start}{query}"))
            .ok();
        let leaked = polled["events"].to_string();
        assert!(
            !leaked.contains("by ") && !leaked.contains("both"),
            "{query}: {leaked}"
        );
        if !query.contains("topic") {
            assert!(replay.next().data.starts_with("marker"), "{query}");
        }
    }
    let polled = server
        .get(&format!("/events/poll?after={start}&session_id=secret"))
        .ok();
    assert_eq!(polled["events"].as_array().unwrap().len(), 5, "{polled}");
    let mut replay = server.open(&format!("/events?last_event_id={start}&session_id=secret"));
    assert_eq!(
        data(&replay.take(4)),
        ["by filter", "by id", "by topic", "both"]
    );
    // A subscription changed later gives no more rights.
    let mut late = server.open("/events?subscribe=nothing");
    server
        .post(
            "/events/subscriptions",
            &json!({"connection_id": late.connection_id(), "event_types": [], "topics": ["session/secret", "marker"], "last_event_id": start}),
        )
        .ok();
    assert!(late.next().data.starts_with("marker"));
}

#[test]
fn an_event_sent_to_one_connection_is_seen_by_no_other() {
    let server = Server::start();
    let mut one = server.open("/events");
    let topic = format!("connection/{}", one.connection_id());
    let mut others = [
        server.open("/events?topic=*"),
        server.open(&format!("/events?topic={topic}&topic=marker")),
        server.open("/events?topic=connection/*&topic=marker"),
    ];
    let start = server.head();
    server.publish(&json!({"topic": topic, "data": "for one"}));
    assert_eq!(one.next().data, "for one");
    server.assert_nothing_came(&mut others.iter_mut().collect::<Vec<_>>(), "message");
    let polled = server
        .get(&format!("/events/poll?after={start}&topic={topic}"))
        .ok();
    assert_eq!(polled["events"], json!([]));
}
