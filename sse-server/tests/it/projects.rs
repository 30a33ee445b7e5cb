//! The event service of a project manager: `/sse/events` with project filters, subscriptions changed at run time,
//! statistics, replay by the publisher's own ids.

use std::time::Duration;

use serde_json::json;

use crate::client::eventually;
use crate::server::{Server, is_rfc3339};

#[test]
fn the_documented_message_reaches_a_reader_line_by_line() {
    let server = Server::start();
    let mut stream = server.open("/sse/events?project_id=p");
    let body = r#"{"id": "event-12345", "event_type": "progress_update", "project_id": "p",
        "data": {"progress":75,"message":"Update completed"}}"#;
    assert_eq!(server.post_text("/events", body).ok()["id"], "event-12345");
    let event = stream.next();
    assert_eq!(event.id.as_deref(), Some("event-12345"));
    assert_eq!(event.name, "progress_update");
    assert_eq!(
        event.data,
        r#"{"progress":75,"message":"Update completed"}"#
    );
    let raw = String::from_utf8(stream.raw.clone()).unwrap();
    let block = raw.trim_end().rsplit("\n\n").next().unwrap();
    let mut lines: Vec<_> = block.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"data: {"progress":75,"message":"Update completed"}"#,
            "event: progress_update",
            "id: event-12345",
        ]
    );
}

#[test]
fn a_project_filter_keeps_other_projects_out() {
    let server = Server::start();
    let mut mine = server.open("/sse/events?project_id=p");
    let mut other = server.open("/sse/events?project_id=q");
    let mut all = server.open("/sse/events");
    server.publish(&json!({"event_type": "commit", "project_id": "q", "data": "for q"}));
    assert_eq!(other.next().data, "for q");
    assert_eq!(all.next().data, "for q");
    server.publish(&json!({"event_type": "commit", "project_id": "p", "data": "for p"}));
    assert_eq!(mine.next().data, "for p");
    assert_eq!(all.next().data, "for p");
    server.assert_nothing_came(&mut [&mut mine, &mut all], "commit");
}

#[test]
fn the_documented_event_types_are_ordinary_types() {
    let server = Server::start();
    let types = [
        "file_change",
        "commit",
        "progress_update",
        "risk_alert",
        "task_update",
        "system_status",
    ];
    let mut all = server.open("/sse/events");
    for chosen in types {
        let mut one = server.open(&format!("/sse/events?event_types={chosen}"));
        for event_type in types {
            server.publish(&json!({"event_type": event_type, "data": {"type": event_type}}));
            assert_eq!(all.next().name, event_type);
        }
        assert_eq!(one.next().json()["type"], chosen);
        server.assert_nothing_came(&mut [&mut one, &mut all], chosen);
    }
}

#[test]
fn an_event_may_carry_a_reconnection_time() {
    let server = Server::start();
    let mut stream = server.open("/sse/events");
    server.publish(&json!({"event_type": "system_status", "data": 1, "retry": 7000}));
    assert_eq!(stream.next().retry_millis, Some(7000));
}

#[test]
fn subscriptions_change_while_the_connection_lives() {
    let server = Server::start();
    let mut stream = server.open("/sse/events?event_types=commit");
    let connection_id = stream.connection_id();
    server.publish(&json!({"event_type": "risk_alert", "data": "not wanted yet"}));
    server.publish(&json!({"event_type": "commit", "data": 1}));
    assert_eq!(stream.next().name, "commit");

    // The connection named in the body.
    let changed = server
        .post(
            "/sse/subscribe",
            &json!({"connection_id": connection_id, "event_types": ["risk_alert", "task_update"], "project_id": "p"}),
        )
        .ok();
    assert_eq!(changed["connection_id"], connection_id);
    assert_eq!(changed["event_types"], json!(["risk_alert", "task_update"]));
    assert_eq!(changed["project_id"], "p");
    server.publish(&json!([
        {"event_type": "commit", "data": "no longer wanted", "project_id": "p"},
        {"event_type": "risk_alert", "data": "another project", "project_id": "q"},
        {"event_type": "risk_alert", "data": "wanted", "project_id": "p"},
    ]));
    assert_eq!(stream.next().data, "wanted");

    // The connection named in the query.
    server
        .post(
            &format!("/sse/subscribe?connection_id={connection_id}"),
            &json!({"event_types": ["commit"]}),
        )
        .ok();
    server.publish(&json!([
        {"event_type": "risk_alert", "data": "no longer wanted", "project_id": "p"},
        {"event_type": "commit", "data": "wanted again", "project_id": "p"},
    ]));
    assert_eq!(stream.next().data, "wanted again");
    let listed = server.get("/sse/connections").ok();
    assert_eq!(listed["connections"][0]["subscriptions"], json!(["commit"]));
}

#[test]
fn a_change_of_subscription_may_go_back_to_an_event_the_page_has_seen() {
    let server = Server::start();
    server.publish(&json!([
        {"event_type": "commit", "data": 1, "id": "c-1"},
        {"event_type": "file_change", "data": 2},
        {"event_type": "commit", "data": 3},
    ]));
    let mut stream = server.open("/sse/events?event_types=system_status");
    server
        .post(
            "/sse/subscribe",
            &json!({"connection_id": stream.connection_id(), "event_types": ["file_change", "commit"], "last_event_id": "c-1"}),
        )
        .ok();
    let data: Vec<_> = stream.take(2).into_iter().map(|event| event.data).collect();
    assert_eq!(data, ["2", "3"]);
    server.assert_nothing_came(&mut [&mut stream], "commit");
}

#[test]
fn a_wrong_change_of_subscription_is_refused_with_its_reason() {
    let server = Server::start();
    let mut stream = server.open("/sse/events?event_types=commit");
    let connection_id = stream.connection_id();
    for (body, field) in [
        (json!({"event_types": ["commit"]}), "connection_id"),
        (json!({"connection_id": connection_id}), "event_types"),
        (
            json!({"connection_id": connection_id, "event_types": ["a\nb"]}),
            "event_types",
        ),
        (
            json!({"connection_id": connection_id, "event_types": [""]}),
            "event_types",
        ),
        (
            json!({"connection_id": connection_id, "topics": ["\u{7}"]}),
            "topic",
        ),
    ] {
        let problem = server.post("/sse/subscribe", &body).problem(400);
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
    let unknown =
        json!({"connection_id": "00000000-0000-4000-8000-000000000000", "event_types": ["commit"]});
    server.post("/sse/subscribe", &unknown).problem(404);
    server.assert_nothing_came(&mut [&mut stream], "commit");
}

#[test]
fn statistics_count_connections_and_messages() {
    let server = Server::start();
    let mut streams: Vec<_> = (0..3).map(|_| server.open("/sse/events")).collect();
    server.publish(&json!([{"data": 1}, {"data": 2}]));
    for stream in &mut streams {
        stream.take(2);
    }
    // A delivery is counted once its turn of writing is over.
    let stats = eventually("six deliveries", || {
        let stats = server.get("/sse/stats").ok();
        (stats["events_delivered"] == 6).then_some(stats)
    });
    assert_eq!(stats["active_connections"], 3);
    assert_eq!(stats["total_connections"], 3);
    assert_eq!(stats["events_published"], 2);
    assert_eq!(stats["total_messages"], 2);
    assert_eq!(stats["events_delivered"], 6);
    assert!(stats["bytes_delivered"].as_u64().unwrap() > 60);
    assert!(stats["latency_ms"]["p95"].as_f64().unwrap() >= 0.0);
    assert!(stats["max_connections"].is_u64());
    assert!(is_rfc3339(&stats["started_at"]));
    assert_eq!(server.get("/events/stats").ok()["events_published"], 2);
}

#[test]
fn what_a_reader_gets_late_because_it_asked_late_is_no_latency() {
    let server = Server::with(&["--window", "64KiB"]);
    // Some are in the window yet, some are not.
    let events: Vec<_> = (0..200)
        .map(|_| json!({"data": "x".repeat(1_000)}))
        .collect();
    server.publish(&json!(events));
    std::thread::sleep(Duration::from_secs(2));
    for _ in 0..2 {
        server.resume("/events", "earliest").take(200);
    }
    let stats = server.get("/sse/stats").ok();
    assert_eq!(stats["events_delivered"], 400);
    assert_eq!(stats["latency_ms"]["max"], 0.0, "{stats}");
    // What comes while a reader waits for it counts.
    let mut live = server.resume("/events", "earliest");
    live.take(200);
    // The reader may have its last event before the hub has seen that it waits, and what it has may be read before it is counted.
    let latency = eventually("the latency of what came live", || {
        server.publish(&json!({"data": "live"}));
        live.next();
        let max = server.get("/sse/stats").ok()["latency_ms"]["max"].as_f64();
        max.filter(|max| *max > 0.0)
    });
    assert!(latency < 2_000.0, "{latency}");
}

#[test]
fn connections_are_listed_with_filter_queue_and_last_event() {
    let server = Server::start();
    let mut stream = server.open("/sse/events?project_id=p&event_types=commit");
    server.publish(&json!({"event_type": "commit", "project_id": "p", "data": 1}));
    let position = stream.next().id.unwrap();
    let listed = server.get("/sse/connections").ok();
    let connection = &listed["connections"][0];
    assert_eq!(connection["connection_id"], stream.connection_id());
    assert_eq!(connection["message_queue"], 0);
    assert_eq!(connection["last_event_id"], position);
    assert_eq!(connection["subscriptions"], json!(["commit"]));
    assert_eq!(connection["project_filter"], "p");
}

#[test]
fn a_test_event_can_be_sent_with_and_without_a_body() {
    let server = Server::start();
    let mut stream = server.open("/sse/events");
    let empty = server.request("POST", "/sse/test-event", &[], b"").ok();
    let event = stream.next();
    assert_eq!(event.name, "system_status");
    assert_eq!(event.id.as_deref(), empty["id"].as_str());
    assert!(event.json()["message"].is_string() && is_rfc3339(&event.json()["timestamp"]));
    server
        .post(
            "/sse/test-event",
            &json!({"event_type": "task_update", "data": {"task": 7}}),
        )
        .ok();
    let event = stream.next();
    assert_eq!(
        (event.name.as_str(), &event.json()["task"]),
        ("task_update", &json!(7))
    );
}

#[test]
fn a_reader_resumes_after_the_publishers_own_id() {
    let server = Server::start();
    server.publish(&json!([
        {"id": "event-12344", "event_type": "progress_update", "project_id": "p", "data": 1},
        {"id": "event-12345", "event_type": "progress_update", "project_id": "p", "data": 2},
        {"id": "event-12346", "event_type": "progress_update", "project_id": "p", "data": 3},
        {"id": "event-12347", "event_type": "progress_update", "project_id": "q", "data": 4},
    ]));
    let path = "/sse/events?project_id=p";
    let by_header = server.resume(path, "event-12345");
    let by_query = server.open(&format!("{path}&last_event_id=event-12345"));
    server.publish(&json!({"event_type": "commit", "project_id": "p", "data": "live"}));
    for mut stream in [by_header, by_query] {
        assert_eq!(stream.connected["resumed"], true);
        assert_eq!(stream.connected["gap"], false);
        assert_eq!(stream.next().id.as_deref(), Some("event-12346"));
        assert_eq!(stream.next().data, "live");
    }
}
