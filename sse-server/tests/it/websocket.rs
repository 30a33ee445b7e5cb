//! WebSockets, and what no well-behaved client does to them.

use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Wire, eventually};
use crate::frames::{
    BINARY, CONTINUATION, HANDSHAKE, PING, PONG, TEXT, WebSocket, head, masked, refused,
};
use crate::server::Server;
use crate::websocket_memory::resident_bytes;

#[test]
fn data_is_in_a_message_what_it_was_in_the_publish() {
    let server = Server::start();
    let mut socket = WebSocket::open(&server, "?topic=t");
    let long = "wörd ".repeat(170_000);
    let many = [
        json!({"a": [1, {"b": null}]}),
        json!([1, "two", 3.50]),
        json!(42),
        Value::Null,
        json!("plain"),
        json!("{\"looks\": \"like JSON\"}"),
        json!("null"),
        json!("7"),
        json!(""),
        json!("two\nlines\r\nand \"quotes\" \u{2028} \u{0}"),
        json!(long),
        json!("the last"),
    ];
    for data in &many {
        let published = server.post("/events", &json!({"topic": "t", "data": data}));
        // A NUL is nothing that an event stream could carry.
        if published.status != 200 {
            assert!(data.as_str().is_some_and(|text| text.contains('\0')));
            continue;
        }
        let published = published.json();
        let event = socket.event();
        assert_eq!(event["data"], *data);
        assert_eq!(event["topic"], "t");
        assert_eq!(event["event"], "message");
        for field in ["id", "position"] {
            assert_eq!(event[field], published[field], "{event}");
        }
    }
    // Digits and blanks of the publisher's stay; a line break between values becomes a blank.
    server
        .post_text("/events", "{\"topic\":\"t\",\"data\":{\"a\":\r\n 1.50}}")
        .ok();
    let frame = socket.frame().unwrap();
    let text = String::from_utf8(frame.payload).unwrap();
    assert!(text.ends_with("\"data\":{\"a\":   1.50}}"), "{text}");
}

#[test]
fn lengths_around_every_limit_of_a_frame_arrive_whole() {
    let server = Server::start();
    let mut socket = WebSocket::open(&server, "?topic=t");
    let sizes = [
        0, 1, 125, 126, 16_000, 16_383, 16_384, 16_385, 65_535, 65_536,
    ];
    // Also many messages in one chunk.
    for n in 0..3 {
        let data = |size: usize| "x".repeat(size.saturating_sub(n * 60));
        let events: Vec<Value> = sizes
            .iter()
            .map(|&size| json!({"topic": "t", "data": data(size)}))
            .collect();
        server.publish(&json!(events));
        for size in sizes {
            assert_eq!(socket.event()["data"], data(size), "{size} {n}");
        }
    }
}

#[test]
fn a_message_may_come_in_pieces_with_pings_between_them() {
    let server = Server::start();
    let mut socket = WebSocket::open(&server, "?topic=t");
    let message = json!({"type": "publish", "topic": "t", "data": "é in pieces", "ref": 1});
    let message = message.to_string().into_bytes();
    socket.wire.write(&masked(false, TEXT, b""));
    for (n, byte) in message.iter().enumerate() {
        // The pieces cut characters, too.
        let is_last = n + 1 == message.len();
        socket.wire.write(&masked(is_last, CONTINUATION, &[*byte]));
        if n % 10 == 0 && !is_last {
            socket.write(PING, b"here?");
            let frame = socket.frame().unwrap();
            assert_eq!((frame.opcode, &*frame.payload), (PONG, &b"here?"[..]));
        }
    }
    // The event and the answer, whichever comes first.
    let mut both = [socket.event(), socket.event()];
    both.sort_by_key(|it| it["type"].is_null());
    assert_eq!(
        (&both[0]["type"], &both[0]["ref"]),
        (&json!("published"), &json!(1))
    );
    assert_eq!(both[1]["data"], "é in pieces");
    assert_eq!(both[0]["position"], both[1]["position"]);
}

#[test]
fn what_cannot_be_read_is_answered_with_the_code_that_says_why() {
    let server = Server::with(&["--max-body", "64KiB", "--max-event", "32KiB"]);
    let large = vec![b' '; 70 << 10];
    let half = vec![b' '; 40 << 10];
    let too_long_in_pieces = [
        masked(false, TEXT, &half),
        masked(false, CONTINUATION, &half),
    ]
    .concat();
    let text = |json: &Value| masked(true, TEXT, json.to_string().as_bytes());
    let unmasked = [head(true, TEXT, 2, false), b"{}".to_vec()].concat();
    let mut reserved = masked(true, TEXT, b"{}");
    reserved[0] |= 0x40;
    let behind = [
        masked(true, BINARY, b"x"),
        text(&json!({"type": "publish", "data": 1})),
    ];
    for (what, bytes, code) in [
        ("too long", masked(true, TEXT, &large), 1009),
        // Nothing but the head of a frame that lies about its length.
        (
            "says 1 EiB",
            [head(true, TEXT, 1 << 60, true), vec![0; 4]].concat(),
            1009,
        ),
        ("too long in pieces", too_long_in_pieces, 1009),
        ("binary", masked(true, BINARY, b"{}"), 1003),
        ("something behind", behind.concat(), 1003),
        ("not UTF-8", masked(true, TEXT, b"\xff\xfe"), 1007),
        (
            "cut UTF-8",
            masked(true, TEXT, "é".as_bytes().split_last().unwrap().1),
            1007,
        ),
        ("unmasked", unmasked, 1002),
        ("reserved bit", reserved, 1002),
        ("reserved opcode", masked(true, 3, b""), 1002),
        ("reserved control", masked(true, 11, b""), 1002),
        (
            "continuation of nothing",
            masked(true, CONTINUATION, b"x"),
            1002,
        ),
        ("ping in pieces", masked(false, PING, b"x"), 1002),
        ("long ping", masked(true, PING, &[b'x'; 126]), 1002),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1002),
    ] {
        let mut socket = WebSocket::open(&server, "?topic=t");
        socket.wire.write(&bytes);
        let (said, reason) = socket.closed();
        assert_eq!(said, code, "{what}: {reason}");
        assert!(!reason.is_empty(), "{what}");
    }
    let head = server.head();
    assert!(head.ends_with("-0"), "something was published: {head}");
    eventually("all are gone", || (server.active() == 0).then_some(()));
}

#[test]
fn requests_that_are_refused_say_why_and_the_socket_stays() {
    let server = Server::start();
    let mut socket = WebSocket::open(&server, "?topic=t");
    for (message, status, field) in [
        (json!({"ref": "r"}), 400, "type"),
        (json!({"type": "dance", "ref": "r"}), 400, "type"),
        (json!({"type": ["publish"], "ref": "r"}), 400, "type"),
        (json!({"type": "subscribe", "ref": "r"}), 400, "topics"),
        (
            json!({"type": "subscribe", "topics": 7, "ref": "r"}),
            400,
            "topics",
        ),
        (
            json!({"type": "subscribe", "topic": "a\nb", "ref": "r"}),
            400,
            "topic",
        ),
        (
            json!({"type": "subscribe", "tpoic": "a", "ref": "r"}),
            400,
            "tpoic",
        ),
        (
            json!({"type": "unsubscribe", "event_types": ["a\nb"], "ref": "r"}),
            400,
            "event_types",
        ),
        (json!({"type": "publish", "ref": "r"}), 400, "data"),
        (
            json!({"type": "publish", "data": 1, "topic": "a\nb", "ref": "r"}),
            400,
            "topic",
        ),
        (
            json!({"type": "publish", "data": 1, "session_filtre": "s", "ref": "r"}),
            400,
            "session_filtre",
        ),
        (json!({"type": "ack", "id": "x", "ref": "r"}), 400, ""),
    ] {
        let answer = socket.ask(&message);
        assert_eq!(answer["type"], "error", "{message}: {answer}");
        assert_eq!(answer["status"], status, "{message}: {answer}");
        assert_eq!(answer["ref"], "r", "{message}: {answer}");
        assert_eq!(
            answer["field"].as_str().unwrap_or_default(),
            field,
            "{message}: {answer}"
        );
    }
    for text in [
        "",
        "[]",
        "7",
        "{",
        "{} {}",
        "{\"type\":\"ack\",\"type\":\"ack\"}",
    ] {
        socket.write(TEXT, text.as_bytes());
        let answer = socket.event();
        assert_eq!(
            (&answer["type"], &answer["status"]),
            (&json!("error"), &json!(400)),
            "{text}"
        );
    }
    let answer = socket.ask(&json!({"type": "publish", "ref": "x".repeat(300), "data": 1}));
    assert_eq!(answer["field"], "ref");
    let deep = format!(
        "{{\"type\":\"publish\",\"data\":{}1{}}}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    socket.write(TEXT, deep.as_bytes());
    // Nothing of it is parsed, so depth is no trouble.
    assert_eq!(socket.event()["type"], "published");
    server.publish(&json!({"topic": "t", "data": "still here"}));
    assert_eq!(socket.event()["data"], "still here");
}

#[test]
fn topics_are_added_and_removed_until_none_is_left() {
    let server = Server::start();
    let mut socket = WebSocket::open(&server, "?topic=a");
    let answer = socket.ask(&json!({"type": "subscribe", "topics": ["b", "room/*"], "topic_exact": "x*", "ref": {"n": 1}}));
    assert_eq!(
        (&answer["type"], &answer["ref"]),
        (&json!("subscribed"), &json!({"n": 1}))
    );
    let mut topics: Vec<_> = answer["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    topics.sort_unstable();
    assert_eq!(topics, ["a", "b", "room/*", "x*"]);
    let publish = |topics: &[&str]| {
        for topic in topics {
            server.publish(&json!({"topic": topic, "data": topic}));
        }
    };
    publish(&["a", "b", "c", "room/1", "xy", "x*"]);
    for topic in ["a", "b", "room/1", "x*"] {
        assert_eq!(socket.event()["data"], topic);
    }
    let answer = socket
        .ask(&json!({"type": "unsubscribe", "topics": ["a", "room/*"], "topic_exact": ["x*"]}));
    assert_eq!(answer["topics"], json!(["b"]));
    publish(&["a", "room/1", "x*", "b"]);
    assert_eq!(socket.event()["data"], "b");
    // No topics at all would mean every public one: that is not what is left when the last one goes.
    let answer = socket.ask(&json!({"type": "unsubscribe", "topic": "b"}));
    assert_eq!(answer["type"], "subscribed", "{answer}");
    publish(&["a", "b", "c"]);
    let answer = socket.ask(&json!({"type": "subscribe", "topic": "d"}));
    assert_eq!(answer["topics"], json!(["d"]));
    publish(&["c", "d"]);
    assert_eq!(socket.event()["data"], "d");
}

#[test]
fn a_handshake_that_is_none_is_refused_with_what_is_missing() {
    let server = Server::start();
    let with = |name: &str, value: Option<&'static str>| -> Vec<(&str, &str)> {
        let kept = HANDSHAKE.into_iter().filter(|(known, _)| *known != name);
        let given = value.map(|value| (HANDSHAKE.iter().find(|it| it.0 == name).unwrap().0, value));
        kept.chain(given).collect()
    };
    for (headers, status) in [
        (with("Connection", Some("keep-alive")), 426),
        (with("Upgrade", None), 426),
        (with("Sec-WebSocket-Version", Some("8")), 426),
        (with("Sec-WebSocket-Version", None), 426),
        (with("Sec-WebSocket-Key", None), 400),
        (with("Sec-WebSocket-Key", Some("short")), 400),
    ] {
        let reply = refused(&server, "GET", &headers);
        reply.problem(status);
        if status == 426 {
            assert_eq!(reply.header("upgrade"), Some("websocket"));
            assert_eq!(reply.header("sec-websocket-version"), Some("13"));
        }
    }
    assert_eq!(refused(&server, "HEAD", &HANDSHAKE).status, 426);
    let foreign = [&HANDSHAKE[..], &[("Origin", "https://evil.example")]].concat();
    refused(&server, "GET", &foreign).problem(403);
    let old = server.bytes("GET", "/events/ws", &HANDSHAKE, None);
    let old = String::from_utf8(old)
        .unwrap()
        .replace("HTTP/1.1", "HTTP/1.0");
    let mut wire = Wire::connect(server.address);
    wire.write(old.as_bytes());
    wire.reply(false).unwrap().problem(426);
    assert_eq!(server.active(), 0);
}

#[test]
fn an_allowed_origin_opens_one() {
    let server = Server::with(&["--allowed-origin", "https://good.example"]);
    let headers = [&HANDSHAKE[..], &[("Origin", "https://good.example")]].concat();
    let mut wire = Wire::connect(server.address);
    wire.write(&server.bytes("GET", "/events/ws", &headers, None));
    WebSocket::greeted(wire);
}

#[test]
fn a_handshake_has_no_body_and_what_is_sent_right_behind_it_is_read() {
    let server = Server::start();
    // A body that is a frame must not become a message.
    let hidden = masked(true, TEXT, br#"{"type":"publish","data":"hidden"}"#);
    let length = hidden.len().to_string();
    for (name, value) in [
        ("Content-Length", length.as_str()),
        ("Transfer-Encoding", "chunked"),
    ] {
        let headers = [&HANDSHAKE[..], &[(name, value)]].concat();
        let mut wire = Wire::connect(server.address);
        wire.write(&server.bytes("GET", "/events/ws", &headers, None));
        wire.write(&hidden);
        wire.reply(false).unwrap().problem(400);
    }
    assert!(server.head().ends_with("-0"), "{}", server.head());

    let mut bytes = server.bytes("GET", "/events/ws?topic=t", &HANDSHAKE, None);
    for n in 0..100 {
        let message = json!({"type": "publish", "topic": "other", "data": n, "ref": n}).to_string();
        bytes.extend(masked(true, TEXT, message.as_bytes()));
    }
    let mut wire = Wire::connect(server.address);
    wire.write(&bytes);
    let mut socket = WebSocket::greeted(wire);
    for n in 0..100 {
        assert_eq!(socket.event()["ref"], n);
    }
}

#[test]
fn a_drain_and_a_closed_connection_are_told_with_reason_and_retry() {
    let mut server = Server::start();
    let mut closed = WebSocket::open(&server, "?topic=t");
    let mut drained = WebSocket::open(&server, "?topic=t");
    let id = closed.connected["connection_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let reply = server.request("DELETE", &format!("/events/connections/{id}"), &[], b"");
    assert!(matches!(reply.status, 200 | 204), "{reply:?}");
    let (code, reason) = closed.closed();
    assert_eq!(code, 1008, "{reason}");
    let reason: Value = serde_json::from_str(&reason).unwrap();
    assert!(reason["reason"].is_string(), "{reason}");

    server.publish(&json!({"topic": "t", "data": "before the end"}));
    server.signal("TERM");
    assert_eq!(drained.event()["data"], "before the end");
    let (code, reason) = drained.closed();
    assert_eq!(code, 1012, "{reason}");
    let reason: Value = serde_json::from_str(&reason).unwrap();
    assert_eq!(reason["reason"], "draining");
    assert!(reason["retry"].is_u64(), "{reason}");
    drop(drained);
    assert_eq!(server.wait().code(), Some(0));
}

/// By a WebSocket it came back all the same.
#[test]
fn a_client_that_was_sent_away_stays_away() {
    let server = Server::start();
    let socket = WebSocket::open(&server, "?topic=t");
    let id = socket.connected["connection_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/events/connections/{id}?for=60s");
    let reply = server.request("DELETE", &path, &[], b"");
    assert!(
        matches!(reply.status, 200 | 204),
        "{reply:?} {}",
        reply.text()
    );
    refused(&server, "GET", &HANDSHAKE).problem(403);
}

#[test]
fn places_are_counted_like_those_of_streams() {
    let server = Server::with(&["--max-connections-per-ip", "2"]);
    let _stream = server.open("/events");
    let socket = WebSocket::open(&server, "");
    let reply = refused(&server, "GET", &HANDSHAKE);
    reply.problem(503);
    assert!(reply.header("retry-after").is_some());
    drop(socket);
    eventually("the place is free", || (server.active() == 1).then_some(()));
    WebSocket::open(&server, "");
}

#[test]
fn a_client_that_ends_its_side_is_gone() {
    let server = Server::start();
    let mut socket = WebSocket::open(&server, "?topic=t");
    socket.wire.socket.shutdown(Shutdown::Write).unwrap();
    eventually("it is gone", || (server.active() == 0).then_some(()));
    assert_eq!(socket.frame(), None);
    // A close of the client's own is answered with its code.
    let mut socket = WebSocket::open(&server, "?topic=t");
    socket.write(
        crate::frames::CLOSE,
        &[&1000_u16.to_be_bytes()[..], b"bye"].concat(),
    );
    assert_eq!(socket.closed(), (1000, "bye".to_owned()));
}

#[test]
fn silence_is_filled_with_pings() {
    let server = Server::with(&["--heartbeat", "200ms"]);
    let mut socket = WebSocket::open(&server, "?topic=t");
    for _ in 0..3 {
        let frame = socket.frame().unwrap();
        assert_eq!((frame.opcode, frame.payload.len()), (PING, 0));
        socket.write(PONG, b"");
    }
    server.publish(&json!({"topic": "t", "data": 1}));
    assert_eq!(socket.event()["data"], 1);
}

/// The whole of a message had to be taken within the send timeout, so that a slow line never got a large one.
#[test]
fn a_slow_reader_gets_a_large_message_and_one_that_takes_nothing_is_let_go() {
    let server = Server::with(&["--send-timeout", "3s", "--max-event", "4MiB"]);
    let loopback = [127, 0, 0, 1].into();
    let wire = |bytes: usize| Wire::connect_from(server.address, loopback, Some(bytes)).unwrap();
    let mut slow = WebSocket::over(wire(64 << 10), &server, "?topic=t");
    let mut still = WebSocket::over(wire(16 << 10), &server, "?topic=t");
    let mut quick = WebSocket::open(&server, "?topic=t");
    let data = "x".repeat(4_000_000);
    // Socket buffers hold some of them; a reader that takes nothing is told of none.
    let count = 4;
    let reader = std::thread::spawn(move || {
        // The hub can write once a third of the socket's buffer, which grows to 4 MiB, is free: that is every 30 reads. A
        // busy machine may stretch each to 100 ms.
        slow.wire.pace = Some((48 << 10, Duration::from_millis(12)));
        for n in 0..count {
            let event = slow.event();
            assert_eq!(event["data"]["n"], n);
            assert_eq!(event["data"]["pad"].as_str().unwrap().len(), 4_000_000);
        }
        slow
    });
    let begun = Instant::now();
    for n in 0..count {
        server.publish(&json!({"topic": "t", "data": {"n": n, "pad": data}}));
        assert_eq!(quick.event()["data"]["n"], n);
    }
    let slow = reader.join().unwrap();
    assert!(
        begun.elapsed() > Duration::from_secs(3),
        "that was not slow"
    );
    eventually("the one that takes nothing is gone", || {
        (server.active() == 2).then_some(())
    });
    while still.wire.fill() {}
    drop(slow);
}

/// What it costs when a client asks and asks and never reads: the hub holds one answer, and stops reading.
#[test]
fn a_client_that_never_reads_its_answers_is_not_read_any_more_and_then_let_go() {
    let server = Server::with(&["--send-timeout", "2s"]);
    let before = resident_bytes(&server);
    let mut flood = Vec::new();
    for opcode in [TEXT, PING] {
        let mut socket = WebSocket::open(&server, "?topic=t");
        let message = json!({"type": "dance", "ref": "x".repeat(200)}).to_string();
        let payload = if opcode == PING {
            &message.as_bytes()[..125]
        } else {
            message.as_bytes()
        };
        let frames = masked(true, opcode, payload).repeat(1000);
        socket
            .wire
            .socket
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut written = 0;
        while let Ok(count) = socket.wire.socket.write(&frames) {
            written += count;
            assert!(written < 100 << 20, "it reads on and on");
        }
        flood.push(socket);
    }
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    eventually("both are gone", || (server.active() == 0).then_some(()));
}
