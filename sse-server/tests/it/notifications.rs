//! The notification service of a video summariser: `/events`, its status and its manual broadcast.

use serde_json::json;

use crate::client::eventually;
use crate::server::{Server, is_rfc3339};

#[test]
fn the_availability_check_by_curl_streams() {
    let server = Server::start();
    let stream =
        server.curl_stream(r#"curl -H "Accept: text/event-stream" http://localhost:5001/events"#);
    let reply = &stream.reply;
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert_eq!(
        reply.header("cache-control"),
        Some("no-store, no-transform")
    );
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let varies: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("vary"))
        .flat_map(|(_, value)| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    assert!(
        varies.contains(&"origin".into()) && varies.contains(&"accept-encoding".into()),
        "{varies:?}"
    );
    let raw = String::from_utf8(stream.raw.clone()).unwrap();
    assert!(raw.contains("retry: "), "no reconnection time in {raw}");
}

#[test]
fn a_stream_begins_with_connected_and_what_it_is_subscribed_to() {
    let server = Server::start();
    let stream = server.open("/events?subscribe=summary_complete,summary_progress,system");
    let connected = &stream.connected;
    assert!(!stream.connection_id().is_empty());
    assert_eq!(connected["message"], "Connected to notification stream");
    assert_eq!(
        connected["subscriptions"],
        json!(["summary_complete", "summary_progress", "system"])
    );
    assert_eq!(
        (&connected["resumed"], &connected["gap"]),
        (&json!(false), &json!(false))
    );
}

#[test]
fn the_documented_messages_arrive_as_they_were_written() {
    let server = Server::start();
    let mut stream = server.open("/events?subscribe=summary_complete,summary_progress,system");
    let messages = [
        (
            "summary_progress",
            r#"{
  "status": "processing",
  "message": "Processing: Video Title...",
  "progress": 3,
  "total": 10,
  "current_video": {
    "id": "video-id",
    "title": "Video Title",
    "playlist": "Optional Playlist Name"
  }
}"#,
        ),
        (
            "summary_complete",
            r#"{"video_id": "video-id", "title": "Video Title", "source": "cache", "model_used": "gpt-4o", "playlist": "Optional Playlist Name"}"#,
        ),
        (
            "system",
            r#"{"message": "System notification message", "type": "info", "timestamp": "2024-01-15T10:30:00Z"}"#,
        ),
    ];
    for (event_type, data) in messages {
        let body = format!(r#"{{"event_type": "{event_type}", "data": {data}}}"#);
        server.post_text("/events/broadcast", &body).ok();
        let event = stream.next();
        assert_eq!(
            (event.name.as_str(), event.data.as_str()),
            (event_type, data)
        );
        assert!(event.id.is_some(), "every event can be resumed after");
    }
}

#[test]
fn silence_is_broken_by_a_ping_that_says_keep_alive() {
    let server = Server::with(&["--heartbeat", "1"]);
    let mut stream = server.open("/events?subscribe=system");
    for _ in 0..2 {
        let ping = stream.next_or_ping();
        assert_eq!(
            (ping.name.as_str(), ping.data.as_str()),
            ("ping", "keep-alive")
        );
        assert_eq!(ping.id, None, "a heartbeat moves nobody's position");
    }
}

#[test]
fn the_status_has_every_field_of_every_connection() {
    let server = Server::start();
    let stream = server.open_with(
        "/events?subscribe=summary_complete,summary_progress&session_id=session-id",
        &[("User-Agent", "a browser")],
    );
    let status = server.get("/events/status").ok();
    assert_eq!(status["total_connections"], 1);
    let connection = &status["connections"][0];
    assert_eq!(connection["connection_id"], stream.connection_id());
    assert_eq!(connection["session_id"], "session-id");
    assert_eq!(connection["user_ip"], "127.0.0.1");
    assert_eq!(connection["user_agent"], "a browser");
    assert!(is_rfc3339(&connection["created_at"]), "{connection}");
    assert!(is_rfc3339(&connection["last_activity"]), "{connection}");
    assert_eq!(connection["is_active"], true);
    let mut subscriptions: Vec<_> = connection["subscriptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    subscriptions.sort_unstable();
    assert_eq!(subscriptions, ["summary_complete", "summary_progress"]);
    assert_eq!(connection["queue_size"], 0);

    let one = server.get(&format!("/events/connections/{}", stream.connection_id()));
    assert_eq!(one.ok()["session_id"], "session-id");

    drop(stream);
    eventually("the status forgets who has left", || {
        (server.get("/events/status").ok()["total_connections"] == 0).then_some(())
    });
}

#[test]
fn the_broadcast_check_by_curl_reaches_a_reader() {
    let server = Server::start();
    let mut stream = server.open("/events");
    let reply = server.curl(
        r#"curl -X POST http://localhost:5001/events/broadcast \
  -H "Content-Type: application/json" \
  -d '{"event_type":"test","data":{"message":"test"}}'"#,
    );
    let published = reply.ok();
    let event = stream.next();
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("test", r#"{"message":"test"}"#)
    );
    assert_eq!(event.id.as_deref(), published["id"].as_str());
    assert_eq!(published["id"], published["position"]);
    assert_eq!(published["durability"], "memory");
}

#[test]
fn a_broadcast_filtered_by_session_and_subscription_reaches_who_has_both() {
    let server = Server::start();
    let mut both =
        server.open("/events?session_id=optional-session-id&subscribe=summary_complete,marker");
    let mut only_session =
        server.open("/events?session_id=optional-session-id&subscribe=system,marker");
    let mut only_subscription = server.open("/events?subscribe=summary_complete,marker");
    let mut other_session =
        server.open("/events?session_id=another&subscribe=summary_complete,marker");
    server
        .post(
            "/events/broadcast",
            &json!({
                "event_type": "test",
                "data": {"message": "Test notification"},
                "session_filter": "optional-session-id",
                "subscription_filter": "summary_complete"
            }),
        )
        .ok();
    let event = both.next();
    assert_eq!(
        (event.name.as_str(), &event.json()["message"]),
        ("test", &json!("Test notification"))
    );
    server.assert_nothing_came(
        &mut [
            &mut both,
            &mut only_session,
            &mut only_subscription,
            &mut other_session,
        ],
        "marker",
    );
}

#[test]
fn a_test_notification_goes_to_whoever_listens_to_system_events() {
    let server = Server::start();
    let mut system = server.open("/events?subscribe=summary_complete,system");
    let mut everything = server.open("/events");
    let mut other = server.open("/events?subscribe=summary_complete");
    server
        .post(
            "/events/broadcast",
            &json!({"event_type": "test", "data": {"message": "Test notification"}, "subscription_filter": "system"}),
        )
        .ok();
    assert_eq!(system.next().name, "test");
    assert_eq!(everything.next().name, "test");
    server.assert_nothing_came(
        &mut [&mut system, &mut everything, &mut other],
        "summary_complete",
    );
}

#[test]
fn event_types_are_checked_against_the_list_of_allowed_ones() {
    let server = Server::with(&["--allowed-event-type", "summary_progress,system"]);
    let head = server.head();
    let refused = server.post(
        "/events/broadcast",
        &json!({"event_type": "test", "data": 1}),
    );
    let problem = refused.problem(400);
    assert_eq!(problem["field"], "event_type");
    assert!(problem["detail"].as_str().unwrap().contains("test"));
    assert_eq!(server.head(), head);
    server
        .post(
            "/events/broadcast",
            &json!({"event_type": "system", "data": 1}),
        )
        .ok();
}

#[test]
fn a_page_whose_streams_fail_can_poll_the_same_events() {
    let server = Server::start();
    let start = server.get("/events/poll?subscribe=summary_progress").ok();
    assert_eq!(start["events"], json!([]));
    server.publish(&json!([
        {"event_type": "summary_progress", "data": {"progress": 3}, "id": "p-3"},
        {"event_type": "system", "data": "not for this page"},
        {"event_type": "summary_progress", "data": {"progress": 4}},
    ]));
    let after = start["position"].as_str().unwrap();
    let polled = server
        .get(&format!(
            "/events/poll?subscribe=summary_progress&after={after}"
        ))
        .ok();
    let events = polled["events"].as_array().unwrap();
    assert_eq!(events.len(), 2, "{polled}");
    let first = &events[0];
    assert_eq!(first["id"], "p-3");
    assert_ne!(first["position"], first["id"]);
    assert_eq!(first["event"], "summary_progress");
    assert_eq!(first["topic"], "public");
    assert_eq!(first["data"], r#"{"progress":3}"#);
    assert!(is_rfc3339(&first["published_at"]));
    assert_eq!(events[1]["id"], events[1]["position"]);
    assert_eq!(polled["gap"], false);
}
