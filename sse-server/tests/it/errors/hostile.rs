//! Requests made to do harm: bodies nested without end, bytes that are no HTTP, peers that fall silent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use serde_json::{Value, json};
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};

use crate::client::Wire;
use crate::limits::memory_kib;
use crate::server::Server;

use super::LOCALHOST;

/// A library for patterns once compiled each of these as a regular expression: 1.5 GiB for one request, and a panic.
#[test]
fn patterns_of_strangers_cost_little_and_panic_nowhere() {
    let server = Server::start();
    let long = "a".repeat(900);
    server.publish(&json!({"topic": long, "data": 1}));
    let query = |pattern: &dyn Fn(usize) -> String| -> String {
        let topics = (0..64).map(|n| {
            let text = pattern(n);
            let escaped = text.chars().map(|char| match char {
                '*' => "*".to_owned(),
                _ if char.is_ascii_alphanumeric() => char.to_string(),
                _ => format!("%{:02x}", u32::from(char)),
            });
            let escaped: String = escaped.collect();
            format!("topic={escaped}")
        });
        topics.collect::<Vec<_>>().join("&")
    };
    let regular = query(&|n| format!("({}){n}", r"\w{200}".repeat(4)));
    let wild = query(&|n| format!("{}{n}", "*a".repeat(31)));
    let groups = query(&|n| format!("{}{n}", "{a}?".repeat(16)));
    // Whatever comes once with a request is not a pattern's.
    server.get("/events/poll?topic=a/*&after=earliest").ok();
    let before = memory_kib(&server);
    for _ in 0..20 {
        for path in ["/events", "/events/poll"] {
            let problem = server.get(&format!("{path}?{regular}")).problem(400);
            assert_eq!(problem["field"], "topic");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("`:name` for one segment"), "{detail}");
        }
        for query in [&wild, &groups] {
            let polled = server
                .get(&format!("/events/poll?{query}&after=earliest"))
                .ok();
            assert_eq!(polled["events"], json!([]));
        }
    }
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(grown < 10 * 1024, "{grown} KiB");
    let mut stream = server.open("/events?topic=http://]*");
    server.publish(&json!({"topic": "http://]/x", "data": 1}));
    assert_eq!(stream.next().data, "1");
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
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
        ("/jobs", format!(r#"{{"title": {}}}"#, "[".repeat(100_000))),
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
    for path in ["/events/poll", "/events", "/jobs"] {
        server.get(&format!("{path}?limit=1{query}")).problem(400);
    }

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
