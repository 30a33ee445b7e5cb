//! The table of mistakes: each request beside the status it must have and the field it must name.

use serde_json::json;

use crate::server::Server;

/// One row: a request, the status it must have, and the field it must name.
type Row<'a> = (&'a str, &'a str, &'a str, u16, Option<&'a str>);

#[test]
fn every_mistake_is_told_by_status_and_field_and_publishes_nothing() {
    let server = Server::with(&[
        "--max-body",
        "16KiB",
        "--max-event",
        "4KiB",
        "--max-subscriptions",
        "4",
        "--allowed-event-type",
        "message,test,progress",
    ]);
    server.post("/jobs", &json!({"job_id": "open"})).ok();
    server.post("/jobs", &json!({"job_id": "ended"})).ok();
    server.post("/jobs/ended/complete", &json!({})).ok();
    server.publish(&json!({"id": "taken", "data": "this"}));
    let head = server.head();

    let deep = format!(
        r#"{{"data": 1, "topic": {}1{}}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let large_event = format!(r#"{{"data": "{}"}}"#, "x".repeat(5_000));
    let large_in_array = format!(r#"[{{"data": 1}}, {{"data": "{}"}}]"#, "x".repeat(5_000));
    let large_body = format!(r#"{{"data": "{}"}}"#, "x".repeat(20_000));
    let long_type = format!(r#"{{"event_type": "{}", "data": 1}}"#, "t".repeat(300));
    let long_id = format!(r#"{{"id": "{}", "data": 1}}"#, "i".repeat(200));
    let long_topic = format!(r#"{{"topic": "{}", "data": 1}}"#, "t".repeat(2_000));
    let many_topics = format!(r#"{{"topic": {}, "data": 1}}"#, json!(vec!["t"; 100]));
    let position = format!(r#"{{"id": "{head}", "data": 1}}"#);
    let long_query = format!("/events?topic={}", "t".repeat(2_000));
    let rows: &[Row<'_>] = &[
        // A publish that is no JSON, or not an event.
        ("POST", "/events", "", 400, None),
        ("POST", "/events", " \n", 400, None),
        ("POST", "/events", "{", 400, None),
        ("POST", "/events", "{}", 400, Some("data")),
        ("POST", "/events", "[]", 400, None),
        ("POST", "/events", "7", 400, None),
        ("POST", "/events", "null", 400, None),
        ("POST", "/events", r#""text""#, 400, None),
        ("POST", "/events", r#"{"data": 1}}"#, 400, None),
        ("POST", "/events", r#"{"data": 1} tail"#, 400, None),
        ("POST", "/events", r#"{"data": 01}"#, 400, None),
        ("POST", "/events", r#"{"data": 1,}"#, 400, None),
        ("POST", "/events", r#"{'data': 1}"#, 400, None),
        ("POST", "/events", r#"{"data": NaN}"#, 400, None),
        ("POST", "/events", r#"{"data": 1, "data": 2}"#, 400, None),
        (
            "POST",
            "/events",
            r#"{"data": 1, "d\u0061ta": 2}"#,
            400,
            None,
        ),
        // A field that is wrong.
        (
            "POST",
            "/events",
            r#"{"data": "\ud800"}"#,
            400,
            Some("data"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "test"}"#,
            400,
            Some("data"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": 7, "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "a\nb", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "a\rb", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "a\u0000b", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event": "a\nb", "data": 1}"#,
            400,
            Some("event"),
        ),
        (
            "POST",
            "/events",
            r#"{"type": "a\nb", "data": 1}"#,
            400,
            Some("type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "secret", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "ping", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "connected", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        (
            "POST",
            "/events",
            r#"{"event_type": "gap", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        ("POST", "/events", &long_type, 400, Some("event_type")),
        (
            "POST",
            "/events",
            r#"{"event": "test", "type": "test", "data": 1}"#,
            400,
            Some("type"),
        ),
        (
            "POST",
            "/events",
            r#"{"id": "a\nb", "data": 1}"#,
            400,
            Some("id"),
        ),
        (
            "POST",
            "/events",
            r#"{"id": "a\rb", "data": 1}"#,
            400,
            Some("id"),
        ),
        (
            "POST",
            "/events",
            r#"{"id": "a\u0000b", "data": 1}"#,
            400,
            Some("id"),
        ),
        (
            "POST",
            "/events",
            r#"{"id": "", "data": 1}"#,
            400,
            Some("id"),
        ),
        (
            "POST",
            "/events",
            r#"{"id": " a", "data": 1}"#,
            400,
            Some("id"),
        ),
        (
            "POST",
            "/events",
            r#"{"id": "earliest", "data": 1}"#,
            400,
            Some("id"),
        ),
        ("POST", "/events", &position, 400, Some("id")),
        (
            "POST",
            "/events",
            r#"{"id": 7, "data": 1}"#,
            400,
            Some("id"),
        ),
        ("POST", "/events", &long_id, 400, Some("id")),
        (
            "POST",
            "/events",
            r#"{"topic": "", "data": 1}"#,
            400,
            Some("topic"),
        ),
        (
            "POST",
            "/events",
            r#"{"topic": "*", "data": 1}"#,
            400,
            Some("topic"),
        ),
        (
            "POST",
            "/events",
            r#"{"topic": "a\nb", "data": 1}"#,
            400,
            Some("topic"),
        ),
        (
            "POST",
            "/events",
            r#"{"topic": 7, "data": 1}"#,
            400,
            Some("topic"),
        ),
        (
            "POST",
            "/events",
            r#"{"topic": ["a", 7], "data": 1}"#,
            400,
            Some("topic"),
        ),
        ("POST", "/events", &long_topic, 400, Some("topic")),
        ("POST", "/events", &many_topics, 400, Some("topic")),
        ("POST", "/events", &deep, 400, Some("topic")),
        (
            "POST",
            "/events",
            r#"{"session_filter": "", "data": 1}"#,
            400,
            Some("session_filter"),
        ),
        (
            "POST",
            "/events",
            r#"{"session_filter": ["a"], "data": 1}"#,
            400,
            Some("session_filter"),
        ),
        (
            "POST",
            "/events",
            r#"{"sesion_filter": "a", "data": 1}"#,
            400,
            Some("sesion_filter"),
        ),
        (
            "POST",
            "/events",
            r#"{"user_id": 7, "data": 1}"#,
            400,
            Some("user_id"),
        ),
        (
            "POST",
            "/events",
            r#"{"project_id": "a\nb", "data": 1}"#,
            400,
            Some("project_id"),
        ),
        (
            "POST",
            "/events",
            r#"{"subscription_filter": "a\nb", "data": 1}"#,
            400,
            Some("subscription_filter"),
        ),
        (
            "POST",
            "/events",
            r#"{"retry": -1, "data": 1}"#,
            400,
            Some("retry"),
        ),
        (
            "POST",
            "/events",
            r#"{"retry": 1.5, "data": 1}"#,
            400,
            Some("retry"),
        ),
        (
            "POST",
            "/events",
            r#"{"retry": "1", "data": 1}"#,
            400,
            Some("retry"),
        ),
        (
            "POST",
            "/events",
            r#"{"priority": "urgent", "data": 1}"#,
            400,
            Some("priority"),
        ),
        (
            "POST",
            "/events",
            r#"{"priority": 1, "data": 1}"#,
            400,
            Some("priority"),
        ),
        (
            "POST",
            "/events",
            r#"{"ttl_seconds": -1, "data": 1}"#,
            400,
            Some("ttl_seconds"),
        ),
        (
            "POST",
            "/events",
            r#"{"ttl_seconds": "1", "data": 1}"#,
            400,
            Some("ttl_seconds"),
        ),
        (
            "POST",
            "/events",
            r#"{"ttl_seconds": 1e400, "data": 1}"#,
            400,
            Some("ttl_seconds"),
        ),
        // One of many.
        (
            "POST",
            "/events",
            r#"[{"data": 1}, {"data": 2, "topic": 7}]"#,
            400,
            Some("[1].topic"),
        ),
        ("POST", "/events", r#"[{"data": 1}, 7]"#, 400, Some("[1]")),
        (
            "POST",
            "/events",
            "{\"data\": 1}\n{\"data\": 2, \"id\": 7}",
            400,
            Some("[1].id"),
        ),
        ("POST", "/events", "{\"data\": 1}\nnot json", 400, None),
        (
            "POST",
            "/events",
            r#"[{"data": 1}, {"data": 1, "event_type": "secret"}]"#,
            400,
            Some("[1].event_type"),
        ),
        // The other doors to the same.
        (
            "POST",
            "/events/broadcast",
            r#"{"event_type": "secret", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        ("POST", "/events/broadcast", "{", 400, None),
        (
            "POST",
            "/sse/test-event",
            r#"{"event_type": "secret", "data": 1}"#,
            400,
            Some("event_type"),
        ),
        ("POST", "/sse/test-event", "{", 400, None),
        // Too much.
        ("POST", "/events", &large_event, 413, Some("data")),
        ("POST", "/events", &large_in_array, 413, Some("[1].data")),
        ("POST", "/events", &large_body, 413, None),
        ("POST", "/jobs", &large_body, 413, None),
        ("POST", "/sse/subscribe", &large_body, 413, None),
        // An id that is another event's.
        (
            "POST",
            "/events",
            r#"{"id": "taken", "data": "that"}"#,
            409,
            Some("id"),
        ),
        (
            "POST",
            "/events",
            r#"{"id": "taken", "data": "this", "topic": "elsewhere"}"#,
            409,
            Some("id"),
        ),
        // Streams and polls.
        ("GET", "/events?subscribe=a%0Ab", "", 400, Some("subscribe")),
        (
            "GET",
            "/events?subscribe=a,b,c,d,e",
            "",
            400,
            Some("subscribe"),
        ),
        ("GET", "/events?topic=%7F", "", 400, Some("topic")),
        ("GET", "/events?topic=room/(", "", 400, Some("topic")),
        ("GET", &long_query, "", 400, Some("topic")),
        (
            "GET",
            "/events?topic=a&topic=b&topic=c&topic=d&topic=e",
            "",
            400,
            Some("topic"),
        ),
        (
            "GET",
            "/events?compression=brotli",
            "",
            400,
            Some("compression"),
        ),
        ("GET", "/events/poll?limit=0", "", 400, Some("limit")),
        ("GET", "/events/poll?limit=many", "", 400, Some("limit")),
        ("GET", "/events/poll?wait=soon", "", 400, Some("wait")),
        ("GET", "/events/poll?wait=-1", "", 400, Some("wait")),
        (
            "GET",
            "/events/poll?subscribe=a%0Ab",
            "",
            400,
            Some("subscribe"),
        ),
        ("GET", "/events/connections?limit=x", "", 400, Some("limit")),
        // What does not exist.
        ("GET", "/nothing", "", 404, None),
        ("GET", "/events/connections/nobody", "", 404, None),
        ("GET", "/events/connections/%FF", "", 400, Some("id")),
        ("DELETE", "/events/connections/nobody", "", 404, None),
        (
            "POST",
            "/sse/subscribe",
            r#"{"connection_id": "nobody", "event_types": ["a"]}"#,
            404,
            None,
        ),
        ("GET", "/jobs/nobody", "", 404, None),
        ("GET", "/jobs/nobody?wait=30", "", 404, None),
        (
            "POST",
            "/jobs/nobody/progress",
            r#"{"progress": -1}"#,
            400,
            Some("progress"),
        ),
        ("POST", "/jobs/nobody/cancel", "", 404, None),
        // Subscriptions.
        ("POST", "/events/subscriptions", "", 400, None),
        (
            "POST",
            "/events/subscriptions",
            "[]",
            400,
            Some("connection_id"),
        ),
        (
            "POST",
            "/events/subscriptions",
            r#"{"event_types": ["a"]}"#,
            400,
            Some("connection_id"),
        ),
        (
            "POST",
            "/events/subscriptions",
            r#"{"connection_id": "c"}"#,
            400,
            Some("event_types"),
        ),
        (
            "POST",
            "/events/subscriptions",
            r#"{"connection_id": "c", "event_types": ["a\nb"]}"#,
            400,
            Some("event_types"),
        ),
        (
            "POST",
            "/events/subscriptions",
            r#"{"connection_id": "c", "event_tipes": ["a"]}"#,
            400,
            None,
        ),
        // Jobs.
        ("POST", "/jobs", "[]", 400, None),
        ("POST", "/jobs", "{", 400, None),
        ("POST", "/jobs", r#"{"job_id": ""}"#, 400, Some("job_id")),
        ("POST", "/jobs", r#"{"job_id": "a/b"}"#, 400, Some("job_id")),
        (
            "POST",
            "/jobs",
            r#"{"job_id": "a\nb"}"#,
            400,
            Some("job_id"),
        ),
        ("POST", "/jobs", r#"{"job_id": 7}"#, 400, Some("job_id")),
        ("POST", "/jobs", r#"{"title": 7}"#, 400, Some("title")),
        ("POST", "/jobs", r#"{"total": "ten"}"#, 400, Some("total")),
        ("POST", "/jobs", r#"{"topic": "*"}"#, 400, Some("topic")),
        (
            "POST",
            "/jobs",
            r#"{"topic": "session/s"}"#,
            400,
            Some("topic"),
        ),
        ("POST", "/jobs", r#"{"tittle": "x"}"#, 400, Some("tittle")),
        ("POST", "/jobs", r#"{"job_id": "open"}"#, 409, None),
        ("POST", "/jobs/open/progress", "", 400, Some("progress")),
        (
            "POST",
            "/jobs/open/progress",
            r#"{"progress": "half"}"#,
            400,
            Some("progress"),
        ),
        (
            "POST",
            "/jobs/open/complete",
            r#"{"reslt": 1}"#,
            400,
            Some("reslt"),
        ),
        ("POST", "/jobs/open/error", "{}", 400, Some("error")),
        (
            "POST",
            "/jobs/ended/progress",
            r#"{"progress": 1}"#,
            409,
            None,
        ),
        ("POST", "/jobs/ended/complete", "", 409, None),
        ("POST", "/jobs/ended/error", r#"{"error": "x"}"#, 409, None),
        ("POST", "/jobs/ended/cancel", "", 409, None),
    ];
    for (method, path, body, status, field) in rows {
        let reply = server.request(method, path, &[], body.as_bytes());
        let shown = format!(
            "{method} {path} {:.200}: {} {}",
            body,
            reply.status,
            reply.text()
        );
        assert_eq!(reply.status, *status, "{shown}");
        let problem = reply.problem(*status);
        assert_eq!(problem["field"].as_str(), *field, "{shown}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{shown}");
    }
    assert_eq!(server.head(), head, "something was published");
    assert_eq!(server.active(), 0);
    // The same id with the same content is no mistake.
    let again = server.publish(&json!({"id": "taken", "data": "this"}));
    assert_eq!(
        (&again["id"], &again["duplicate"]),
        (&json!("taken"), &json!(true))
    );
    assert_eq!(server.head(), head);
}
