//! What is wrong is refused, in words, with the field named, and nothing of it is published.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use serde_json::{Value, json};
use sse_broker::{
    AppendError, Appended, Bounds, BoxFuture, Broker, Durability, MemoryBroker, MemoryConfig,
    NewRecord, Page, ReadError, ReadRequest, Tail, Topic, Trimmed, UnixMillis,
};
use sse_protocol::EventId;
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};

use crate::client::{Wire, eventually};
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
            Some("subscribe"),
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
        ("GET", "/events/connections/%FF", "", 404, None),
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
            r#"{"progress": 1}"#,
            404,
            None,
        ),
        ("POST", "/jobs/nobody/complete", "", 404, None),
        ("POST", "/jobs/nobody/error", r#"{"error": "x"}"#, 404, None),
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

/// The routes as the index lists them, `{id}` filled in.
fn routes(server: &Server) -> Vec<(String, String)> {
    let index = server.get("/").text();
    let routes: Vec<_> = index
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(method, path)| {
            ["GET", "POST", "DELETE"].contains(method) && path.starts_with('/')
        })
        .map(|(method, path)| (method.to_owned(), path.replace("{id}", "x")))
        .collect();
    assert!(routes.len() > 25, "{index}");
    routes
}

#[test]
fn a_method_that_is_not_there_is_answered_by_those_that_are() {
    let server = Server::start();
    let routes = routes(&server);
    for (_, path) in &routes {
        let mut expected: Vec<_> = routes
            .iter()
            .filter(|(_, other)| other == path)
            .map(|(method, _)| method.as_str())
            .collect();
        if expected.contains(&"GET") {
            expected.push("HEAD");
        }
        expected.push("OPTIONS");
        expected.sort_unstable();
        for wrong in ["PUT", "PATCH", "PROPFIND"] {
            let reply = server.request(wrong, path, &[], b"{}");
            reply.problem(405);
            let mut allow: Vec<_> = reply.header("allow").unwrap().split(", ").collect();
            allow.sort_unstable();
            assert_eq!(allow, expected, "{path}");
        }
        let options = server.request("OPTIONS", path, &[], b"");
        assert_eq!(options.status, 204);
        assert!(options.header("allow").unwrap().contains("OPTIONS"));
    }
}

#[test]
fn no_route_answers_to_a_name_that_nobody_configured() {
    let server = Server::with(&["--allowed-host", "hub.example"]);
    let head = server.head();
    let port = server.address.port();
    for (method, path) in routes(&server) {
        for host in [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            format!("localhost.evil.example:{port}"),
        ] {
            let reply = server.request(&method, &path, &[("Host", &host)], b"{\"data\":1}");
            reply.problem(421);
        }
    }
    assert_eq!(server.head(), head);
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        "hub.example".to_owned(),
        "HUB.example:80".to_owned(),
        "[::1]".to_owned(),
    ] {
        assert_eq!(
            server
                .request("GET", "/livez", &[("Host", &host)], b"")
                .status,
            200,
            "{host}"
        );
    }
    for host in ["", "a b", "evil.example, localhost"] {
        let status = server
            .request("GET", "/livez", &[("Host", host)], b"")
            .status;
        assert!(status == 400 || status == 421, "{host:?}: {status}");
    }
    // The name in the request line is one too.
    let reply = server.request(
        "GET",
        "http://evil.example/livez",
        &[("Host", "evil.example")],
        b"",
    );
    assert_eq!(reply.status, 421);
}

#[test]
fn a_page_from_elsewhere_may_change_nothing_and_read_nothing() {
    let server = Server::with(&["--allowed-origin", "https://app.example"]);
    let connection = server.open("/events");
    let connection_path = format!("/events/connections/{}", connection.connection_id());
    let head = server.head();
    for foreign in [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "http://localhost:1",
    ] {
        for (method, path) in routes(&server) {
            if method == "GET" {
                continue;
            }
            let path = path.replace("/events/connections/x", &connection_path);
            let reply = server.request(&method, &path, &[("Origin", foreign)], b"{\"data\":1}");
            reply.problem(403);
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
        let reply = server.request("GET", "/health", &[("Origin", foreign)], b"");
        assert_eq!(reply.header("access-control-allow-origin"), None);
        let reply = server.request(
            "OPTIONS",
            "/events",
            &[
                ("Origin", foreign),
                ("Access-Control-Request-Method", "POST"),
            ],
            b"",
        );
        assert_eq!(reply.header("access-control-allow-origin"), None);
        assert_eq!(reply.header("access-control-allow-methods"), None);
    }
    assert_eq!(server.head(), head);
    assert_eq!(server.active(), 1, "a foreign page closed a connection");

    // The page that is on the list, and the hub's own.
    let known = [("Origin", "https://app.example")];
    let reply = server.request("POST", "/events", &known, b"{\"data\":1}");
    reply.ok();
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(
        reply.header("access-control-allow-credentials"),
        Some("true")
    );
    let reply = server.request("POST", "/events", &known, b"{");
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://app.example"),
        "errors can be read too"
    );
    let reply = server.request("OPTIONS", "/events", &known, b"");
    assert!(
        reply
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    assert!(
        reply
            .header("access-control-allow-headers")
            .unwrap()
            .contains("last-event-id")
    );
    let own = format!("http://{}", server.address);
    server
        .request("POST", "/events", &[("Origin", &own)], b"{\"data\":1}")
        .ok();
}

#[test]
fn a_batch_with_a_conflict_tells_each_events_fate() {
    let server = Server::start();
    server.publish(&json!({"id": "a", "data": 1}));
    let mut stream = server.open("/events");
    let results = server.publish(&json!([
        {"id": "b", "data": 2},
        {"id": "a", "data": "other"},
        {"id": "a", "data": 1},
        {"data": 3},
    ]));
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), 4);
    assert_eq!(results[0]["id"], "b");
    assert_eq!(
        (&results[1]["status"], &results[1]["field"]),
        (&json!(409), &json!("id"))
    );
    assert_eq!(
        (&results[2]["id"], &results[2]["duplicate"]),
        (&json!("a"), &json!(true))
    );
    assert_eq!(results[3]["id"], results[3]["position"]);
    let data: Vec<_> = stream.take(2).into_iter().map(|event| event.data).collect();
    assert_eq!(data, ["2", "3"]);
    server.assert_nothing_came(&mut [&mut stream], "message");
}

#[test]
fn hostile_requests_harm_nobody() {
    let server = Server::start();
    let mut witness = server.open("/events");

    // Deep JSON as data is text like any other; where it must be understood it is refused.
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    server
        .post_text("/events", &format!(r#"{{"data": {deep}}}"#))
        .ok();
    assert_eq!(witness.next().data, deep);
    for (path, body) in [
        ("/events", format!(r#"{{"data": 1, "topic": {deep}}}"#)),
        ("/events", deep.clone()),
        ("/events", "[".repeat(1_000_000)),
        ("/events", r#"{"a":"#.repeat(200_000)),
        ("/jobs", format!(r#"{{"title": {deep}}}"#)),
        ("/sse/subscribe", format!(r#"{{"event_types": {deep}}}"#)),
    ] {
        server.post_text(path, &body).problem(400);
    }
    // Bytes that are no text, anywhere.
    for body in [
        &b"\xff\xfe"[..],
        b"{\"data\": \"\xff\"}",
        b"{\"data\": \"\xed\xa0\x80\"}",
        b"{\"\xff\": 1}",
        b"\0",
    ] {
        for path in [
            "/events",
            "/events/broadcast",
            "/sse/test-event",
            "/jobs",
            "/sse/subscribe",
        ] {
            server.request("POST", path, &[], body).problem(400);
        }
    }
    // Very many fields, very many parameters.
    let many: serde_json::Map<String, Value> =
        (0..10_000).map(|n| (format!("f{n}"), json!(1))).collect();
    server.post("/events", &Value::Object(many)).problem(400);
    let query: String = (0..500).map(|n| format!("&x{n}={n}")).collect();
    assert_eq!(
        server.get(&format!("/events/poll?limit=1{query}")).status,
        200
    );

    // A head without end is cut off or refused.
    let mut wire = Wire::connect(server.address);
    use std::io::Write as _;
    let _ = wire
        .socket
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nX: ");
    for _ in 0..16 {
        if wire.socket.write_all(&[b'x'; 64 << 10]).is_err() {
            break;
        }
    }
    if let Some(reply) = wire.head() {
        assert_eq!(reply.status, 431);
    }

    // What is no HTTP.
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nBad Header: 1\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    ] {
        let mut wire = Wire::connect(server.address);
        wire.write(garbage);
        let shown = String::from_utf8_lossy(garbage).into_owned();
        if let Some(reply) = wire.head() {
            assert!((400..=599).contains(&reply.status), "{shown:?}: {reply:?}");
        }
        drop(wire);
    }

    // A length that promises more than comes publishes nothing; one that promises less leaves no second request.
    let event = r#"{"data": "cut short"}"#;
    let mut wire = Wire::connect(server.address);
    wire.write(
        format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{event}",
            event.len() + 1
        )
        .as_bytes(),
    );
    wire.socket.shutdown(std::net::Shutdown::Write).unwrap();
    if let Some(reply) = wire.reply(false) {
        assert_eq!(reply.status, 400);
    }
    let mut wire = Wire::connect(server.address);
    wire.write(
        format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{event}",
            event.len() - 1
        )
        .as_bytes(),
    );
    assert_eq!(wire.reply(false).unwrap().status, 400);
    // The rest is no request: it is refused, or the connection ends.
    wire.write(b"\r\n\r\n");
    if let Some(reply) = wire.head() {
        assert_eq!(reply.status, 400);
    }

    // Two ways to say where a body ends: whichever counts, the bytes behind it are no request of their own.
    let mut wire = Wire::connect(server.address);
    wire.write(
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\n\r\nPOST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19\r\n\r\n{\"data\":\"smuggled\"}",
    );
    let first = wire.reply(false);
    assert!(first.is_none_or(|reply| reply.status == 400));

    // Nothing of all this was published (the smuggled one perhaps lawfully, as a second request), nobody was disturbed.
    server.publish(&json!({"data": "end"}));
    let rest: Vec<_> = std::iter::from_fn(|| Some(witness.next().data))
        .take_while(|data| data != "end")
        .collect();
    assert!(rest.iter().all(|data| data == "smuggled"), "{rest:?}");
    assert!(rest.is_empty(), "a request was smuggled: {rest:?}");
    assert_eq!(server.get("/livez").status, 200);
    let log = server.stderr();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_head_that_never_ends_and_a_silent_peer_are_let_go() {
    let server = Server::start();
    let mut halves: Vec<_> = [&b"GET /events HTTP/1.1\r\nHost: local"[..], b"P", b""]
        .into_iter()
        .map(|start| {
            let mut wire = Wire::connect(server.address);
            wire.write(start);
            wire
        })
        .collect();
    for wire in &mut halves {
        assert!(wire.is_ended());
    }
}

/// A body that never comes.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn answer(
    service: &HubService,
    method: &str,
    path: &str,
    body: &'static str,
) -> (u16, Option<String>, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = service.handle(request, LOCALHOST).await;
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        retry_after,
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let service = HubService::new(hub, HttpConfig::default());
    let request = Request::builder()
        .method("POST")
        .uri("/events")
        .body(Never)
        .unwrap();
    assert_eq!(service.handle(request, LOCALHOST).await.status(), 408);
}

#[tokio::test]
async fn a_hub_that_is_leaving_takes_nothing_new() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let service = HubService::new(hub.clone(), HttpConfig::default());
    hub.drain(Duration::from_secs(10));
    for (method, path, body) in [
        ("GET", "/events", ""),
        ("GET", "/sse", ""),
        ("POST", "/events", "{\"data\":1}"),
        ("POST", "/jobs", "{}"),
        ("GET", "/readyz", ""),
    ] {
        let (status, retry_after, problem) = answer(&service, method, path, body).await;
        assert_eq!(status, 503, "{method} {path}: {problem}");
        assert!(retry_after.unwrap().parse::<u64>().unwrap() >= 1);
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("shutting down"),
            "{problem}"
        );
    }
    // Whoever only looks is still answered.
    for path in [
        "/livez",
        "/health",
        "/events/stats",
        "/events/poll",
        "/jobs",
    ] {
        let request = Request::get(path).body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(
            service.handle(request, LOCALHOST).await.status(),
            200,
            "{path}"
        );
    }
}

/// A log that reads but takes nothing.
struct Unwritable(Arc<MemoryBroker>, AppendError);

impl Broker for Unwritable {
    fn append(&self, _: Vec<NewRecord>) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        let error = self.1.clone();
        Box::pin(async move { Err(error) })
    }
    fn read(&self, request: ReadRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.0.read(request)
    }
    fn locate(&self, id: EventId) -> BoxFuture<'static, Result<Option<u64>, ReadError>> {
        self.0.locate(id)
    }
    fn snapshots(
        &self,
        prefix: &str,
    ) -> BoxFuture<'static, Result<Vec<(Topic, Bytes)>, ReadError>> {
        self.0.snapshots(prefix)
    }
    fn trim(&self, now: UnixMillis) -> BoxFuture<'static, Result<Trimmed, AppendError>> {
        self.0.trim(now)
    }
    fn bounds(&self) -> Bounds {
        self.0.bounds()
    }
    fn durability(&self) -> Durability {
        self.0.durability()
    }
    fn follow(&self, tail: Arc<dyn Tail>) {
        self.0.follow(tail);
    }
    fn close(&self) -> BoxFuture<'static, ()> {
        self.0.close()
    }
}

#[tokio::test]
async fn a_log_that_takes_nothing_is_told_apart_from_a_full_disk() {
    let fenced = AppendError::Fenced {
        reason: "an earlier write failed".into(),
    };
    for (error, status, retries) in [
        (AppendError::Full, 507, false),
        (AppendError::Busy, 503, true),
        (AppendError::Closed, 503, true),
        (fenced, 503, true),
    ] {
        let log = Unwritable(MemoryBroker::new(MemoryConfig::default()), error);
        let hub = Hub::open(HubConfig::default(), Arc::new(log))
            .await
            .unwrap();
        let service = HubService::new(hub, HttpConfig::default());
        for (path, body) in [
            ("/events", "{\"data\":1}"),
            ("/events", "[{\"data\":1},{\"data\":2}]"),
            ("/events/broadcast", "{\"data\":1}"),
            ("/sse/test-event", ""),
            ("/jobs", "{}"),
        ] {
            let (got, retry_after, problem) = answer(&service, "POST", path, body).await;
            assert_eq!(got, status, "{path}: {problem}");
            assert_eq!(retry_after.is_some(), retries, "{path}: {problem}");
        }
        // Streams live on.
        let request = Request::get("/events").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(service.handle(request, LOCALHOST).await.status(), 200);
    }
}

#[test]
fn a_job_that_could_not_be_created_costs_no_place() {
    let server = Server::with(&["--max-jobs", "1"]);
    server.post("/jobs", &json!({"job_id": "first"})).ok();
    let refused = server.post("/jobs", &json!({"job_id": "second"}));
    refused.problem(503);
    assert!(refused.header("retry-after").is_some());
    server.post("/jobs/first/complete", &json!({})).ok();
    server
        .post("/jobs", &json!({"job_id": "wrong", "topic": "*"}))
        .problem(400);
    server.post("/jobs", &json!({"job_id": "second"})).ok();
    eventually("the oldest ended job is forgotten", || {
        (server.get("/jobs/first").status == 404).then_some(())
    });
    assert_eq!(server.get("/jobs").ok()["counts"]["total"], 1);
}

#[test]
fn a_job_cannot_grow_beyond_an_events_size() {
    let server = Server::with(&["--max-event", "4KiB", "--max-body", "16KiB"]);
    let mut stream = server.open("/events?topic=job/*");
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    stream.next();
    let large = "x".repeat(5_000);
    server.post("/jobs", &json!({"title": large})).problem(413);
    server
        .post(
            "/jobs/j/progress",
            &json!({"progress": 1, "message": large}),
        )
        .problem(413);
    server
        .post("/jobs/j/complete", &json!({"result": large}))
        .problem(413);
    server
        .post("/jobs/j/error", &json!({"error": large}))
        .problem(413);
    // Nor little by little.
    let mut refused = false;
    for n in 0..20 {
        let reply = server.post(
            "/jobs/j/progress",
            &json!({"progress": n, format!("key{n}"): "x".repeat(500)}),
        );
        refused |= reply.status == 413;
    }
    assert!(refused, "a job grows without end");
    server
        .post("/jobs/j/complete", &json!({"result": "small"}))
        .ok();
    let events = stream.until("complete");
    assert!(events.iter().all(|event| event.data.len() < 8 << 10));
}
