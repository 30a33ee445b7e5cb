//! The stream itself: resume, replay and live as one, filters, privacy, and the ways a socket is used.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use sse_protocol::Decoder;
use sse_server::hub::{ConnectionRequest, Hub, HubConfig};

use crate::client::{End, Event, Stream, Wire, eventually};
use crate::server::Server;

/// Publishes the numbers of a range, many at once, and gives their positions.
fn publish_numbers(server: &Server, numbers: std::ops::Range<usize>, topic: &str) -> Vec<String> {
    let events: Vec<Value> = numbers
        .map(|n| json!({"data": n, "topic": topic}))
        .collect();
    let published = server.publish(&json!(events));
    published
        .as_array()
        .unwrap()
        .iter()
        .map(|published| published["position"].as_str().unwrap().to_owned())
        .collect()
}

fn data(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.data.as_str()).collect()
}

#[test]
fn a_reader_resumes_after_any_position() {
    let server = Server::start();
    let positions = publish_numbers(&server, 0..20, "public");
    for (n, position) in positions.iter().enumerate() {
        let mut stream = server.resume("/events", position);
        assert_eq!(
            (&stream.connected["resumed"], &stream.connected["gap"]),
            (&json!(true), &json!(false))
        );
        for (expected, position) in positions.iter().enumerate().skip(n + 1) {
            let event = stream.next();
            assert_eq!(event.data, expected.to_string());
            assert_eq!(event.id.as_ref(), Some(position));
        }
        assert_eq!(stream.last_id, positions[19]);
    }
}

#[test]
fn a_reader_cut_off_before_its_first_event_resumes_from_its_greeting() {
    let server = Server::start();
    publish_numbers(&server, 0..3, "public");
    let stream = server.open("/events");
    let greeting = stream.last_id.clone();
    assert!(!greeting.is_empty());
    drop(stream);
    publish_numbers(&server, 3..5, "public");
    let mut stream = server.resume("/events", &greeting);
    assert_eq!(data(&stream.take(2)), ["3", "4"]);
}

#[test]
fn earliest_means_all_that_is_kept() {
    let server = Server::start();
    publish_numbers(&server, 0..5, "public");
    for path in [
        "/events?last_event_id=earliest",
        "/stream?lastEventId=earliest",
    ] {
        assert_eq!(data(&server.open(path).take(5)), ["0", "1", "2", "3", "4"]);
    }
}

#[test]
fn the_header_wins_over_the_query() {
    let server = Server::start();
    let positions = publish_numbers(&server, 0..5, "public");
    let mut stream = server.resume(
        &format!("/events?last_event_id={}", positions[0]),
        &positions[3],
    );
    assert_eq!(stream.next().data, "4");
    // A browser that never had an id sends none, or an empty one; the page's own in the query counts then.
    let mut stream = server.resume(&format!("/events?last_event_id={}", positions[3]), "");
    assert_eq!(stream.next().data, "4");
}

#[test]
fn what_cannot_be_continued_is_a_gap_that_a_plain_reader_hears() {
    let server = Server::start();
    let positions = publish_numbers(&server, 0..5, "public");
    let epoch = positions[0].split_once('-').unwrap().0;
    let beyond = format!("{epoch}-999999");
    let over_long = "x".repeat(4_000);
    for (last_event_id, reason) in [
        ("0123456789abcdef-3", "foreign_epoch"),
        (beyond.as_str(), "beyond_head"),
        ("never-published", "unknown_id"),
        ("-", "unknown_id"),
        ("0", "unknown_id"),
        ("' OR 1=1 --", "unknown_id"),
        (over_long.as_str(), "unknown_id"),
    ] {
        let head = server.head();
        let mut stream = server.resume("/events", last_event_id);
        let shown = format!("{last_event_id:.60}");
        assert_eq!(
            (&stream.connected["resumed"], &stream.connected["gap"]),
            (&json!(false), &json!(true)),
            "{shown}"
        );
        let gap = stream.next();
        assert_eq!(gap.name, "gap", "{shown}");
        assert_eq!(gap.json()["reason"], reason, "{shown}");
        assert_eq!(gap.json()["to"], head);
        assert_eq!(
            gap.id.as_ref(),
            Some(&head),
            "or the gap is told again and again"
        );
        let mut again = server.resume("/events", &stream.last_id);
        assert_eq!(again.connected["resumed"], true);
        server.assert_nothing_came(&mut [&mut stream, &mut again], "message");
        let polled = server
            .get(&format!(
                "/events/poll?after={}",
                last_event_id.replace(' ', "+")
            ))
            .ok();
        assert_eq!(
            (&polled["gap"], &polled["gap_reason"]),
            (&json!(true), &json!(reason))
        );
    }
}

#[test]
fn an_id_that_is_no_text_is_a_gap_and_no_error() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address);
    wire.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: \xff\xfe\x80\r\n\r\n");
    let mut stream = Stream::read(wire).ok().unwrap();
    assert_eq!(stream.next().name, "gap");
    // A reader's own non-ASCII id is one, as bytes.
    server.publish(&json!([{"id": "größe-1", "data": 1}, {"data": 2}]));
    let mut stream = server.resume("/events", "größe-1");
    assert_eq!(stream.next().data, "2");
}

#[test]
fn what_is_no_longer_kept_is_a_gap_and_the_rest_follows() {
    let server = Server::with(&["--retention-events", "10", "--window", "1KiB"]);
    let positions = publish_numbers(&server, 0..100, "public");
    let mut stream = server.resume("/events", &positions[3]);
    assert_eq!(stream.connected["gap"], true);
    let gap = stream.next();
    assert_eq!(
        (gap.name.as_str(), &gap.json()["reason"]),
        ("gap", &json!("trimmed"))
    );
    assert_eq!(gap.json()["from"], positions[3]);
    assert_eq!(gap.json()["to"], positions[89]);
    let rest = stream.take(10);
    assert_eq!(rest[0].data, "90");
    assert_eq!(rest[9].data, "99");
    // Who asked for all that is kept was promised no more.
    let mut stream = server.open("/events?last_event_id=earliest");
    assert_eq!(stream.connected["gap"], false);
    assert_eq!(stream.next().data, "90");

    let polled = server
        .get(&format!("/events/poll?after={}", positions[3]))
        .ok();
    assert_eq!(
        (&polled["gap"], &polled["gap_reason"]),
        (&json!(true), &json!("trimmed"))
    );
    assert_eq!(polled["events"].as_array().unwrap().len(), 10);
}

#[test]
fn a_replay_larger_than_the_window_joins_the_live_stream_without_loss_or_repeat() {
    let server = Server::with(&["--window", "64KiB"]);
    const BEFORE: usize = 3_000;
    const TOTAL: usize = 8_000;
    let positions = publish_numbers(&server, 0..BEFORE, "public");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (server, done, positions) = (&server, &done, &positions);
        scope.spawn(move || {
            for begin in (BEFORE..TOTAL).step_by(50) {
                publish_numbers(server, begin..begin + 50, "public");
            }
            done.store(true, Ordering::Relaxed);
        });
        let readers: Vec<_> = [0, 1, 1_000, 2_500, BEFORE - 1]
            .into_iter()
            .map(|from| {
                scope.spawn(move || {
                    let mut stream = server.resume("/events", &positions[from]);
                    // Some break off now and then, and go on where they were.
                    let mut breaks = 0;
                    for expected in from + 1..TOTAL {
                        let event = stream.next();
                        assert_eq!(event.data, expected.to_string(), "reader from {from}");
                        if from % 2 == 1 && expected % 977 == 0 {
                            let last_id = stream.last_id.clone();
                            stream = server.resume("/events", &last_id);
                            breaks += 1;
                        }
                    }
                    assert!(from % 2 == 0 || breaks > 3);
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert!(done.into_inner());
    let stats = server.get("/events/stats").ok();
    assert_eq!(stats["gaps"], 0);
    assert!(
        stats["window"]["bytes"].as_u64().unwrap() <= 64 << 10,
        "{stats}"
    );
}

#[test]
fn a_filtered_replay_gives_just_what_live_readers_got() {
    let server = Server::with(&["--window", "16KiB"]);
    let paths = [
        "/events?topic=room/1",
        "/events?topic=room/1&topic=room/2&subscribe=chat",
        "/events?topic=room/:id",
        "/events?topic=*",
        "/events?session_id=s&topic=room/1",
        "/events?user_id=u",
        "/events?subscribe=chat",
    ];
    let mut live: Vec<_> = paths.iter().map(|path| server.open(path)).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut events = Vec::new();
    let mut one_of = |names: &[&'static str]| names[random.usize(..names.len())];
    for n in 0..500 {
        let event_type = one_of(&["chat", "typing", "message"]);
        let mut event = json!({"data": n, "event_type": event_type});
        match one_of(&["one", "two", "session", "user", "both", "none"]) {
            "one" => event["topic"] = json!("room/1"),
            "two" => event["topic"] = json!(["room/2", "room/3"]),
            "session" => event["session_filter"] = json!(one_of(&["s", "t"])),
            "user" => event["user_id"] = json!(one_of(&["u", "v"])),
            "both" => {
                event["topic"] = json!("room/1");
                event["session_id"] = json!("s");
            }
            _ => {}
        }
        events.push(event);
    }
    for batch in events.chunks(20) {
        server.publish(&json!(batch));
    }
    let end = json!({"data": "end", "event_type": "chat", "topic": ["room/1", "room/2", "public"]});
    server.publish(&end);
    let mut sizes = HashSet::new();
    for (path, live) in paths.iter().zip(&mut live) {
        let until_end = |stream: &mut Stream| {
            let events = std::iter::from_fn(|| Some(stream.next()));
            events
                .take_while(|event| event.data != "end")
                .collect::<Vec<_>>()
        };
        let heard = until_end(live);
        let replayed = until_end(&mut server.open(&format!("{path}&last_event_id=earliest")));
        assert_eq!(heard, replayed, "{path}");
        let mut polled = Vec::new();
        let mut after = "earliest".to_owned();
        while polled.last() != Some(&json!("end")) {
            let page = server
                .get(&format!("{path}&limit=33&after={after}").replace("/events", "/events/poll"))
                .ok();
            polled.extend(
                page["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|event| event["data"].clone()),
            );
            page["position"].as_str().unwrap().clone_into(&mut after);
        }
        polled.pop();
        assert_eq!(polled, data(&heard), "{path}");
        sizes.insert(heard.len());
    }
    assert!(sizes.len() > 3, "the filters made no difference: {sizes:?}");
}

#[test]
fn all_readers_see_one_order_whoever_publishes() {
    let server = Server::start();
    let mut readers: Vec<_> = (0..4).map(|_| server.open("/events")).collect();
    const PUBLISHERS: usize = 6;
    const EACH: usize = 40;
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let server = &server;
            scope.spawn(move || {
                for n in 0..EACH {
                    server.publish(&json!({"data": format!("{publisher}/{n}")}));
                }
            });
        }
    });
    let orders: Vec<_> = readers
        .iter_mut()
        .map(|reader| reader.take(PUBLISHERS * EACH))
        .collect();
    for order in &orders {
        assert_eq!(order, &orders[0]);
    }
    for publisher in 0..PUBLISHERS {
        let own: Vec<_> = data(&orders[0])
            .into_iter()
            .filter(|data| data.starts_with(&format!("{publisher}/")))
            .collect();
        let expected: Vec<_> = (0..EACH).map(|n| format!("{publisher}/{n}")).collect();
        assert_eq!(own, expected);
    }
}

#[test]
fn an_id_published_twice_is_delivered_once_even_at_the_same_time() {
    let server = Server::start();
    let mut stream = server.open("/events");
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let server = &server;
                scope.spawn(move || {
                    server.publish(&json!({"id": "once", "data": "the same", "topic": "t"}))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let positions: HashSet<_> = answers
        .iter()
        .map(|answer| answer["position"].to_string())
        .collect();
    assert_eq!(positions.len(), 1, "{answers:?}");
    let duplicates = answers
        .iter()
        .filter(|answer| answer["duplicate"] == true)
        .count();
    assert_eq!(duplicates, 15);
    assert_eq!(stream.next().id.as_deref(), Some("once"));
    server.assert_nothing_came(&mut [&mut stream], "message");
}

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
fn every_priority_is_taken_and_delivered_in_order() {
    let server = Server::start();
    let mut stream = server.open("/events");
    for priority in ["low", "normal", "high"] {
        server.publish(&json!({"data": priority, "priority": priority}));
    }
    assert_eq!(data(&stream.take(3)), ["low", "normal", "high"]);
}

#[test]
fn an_event_past_its_time_is_not_delivered() {
    let server = Server::start();
    server.publish(
        &json!([{"data": "short", "ttl_seconds": 0.2}, {"data": "long", "ttl_seconds": 3600}]),
    );
    let poll = || {
        server.get("/events/poll?after=earliest").ok()["events"]
            .as_array()
            .unwrap()
            .len()
    };
    eventually("the short-lived event is over", || {
        (poll() == 1).then_some(())
    });
    let mut stream = server.open("/events?last_event_id=earliest");
    assert_eq!(stream.next().data, "long");
}

#[test]
fn a_closed_connection_ends_properly_and_is_gone() {
    let server = Server::start();
    let mut stream = server.open("/events");
    let mut other = server.open("/events");
    let path = format!("/events/connections/{}", stream.connection_id());
    assert_eq!(
        server.request("DELETE", &path, &[], b"").ok()["connection_id"],
        stream.connection_id()
    );
    assert_eq!(stream.rest(), (Vec::new(), End::Clean));
    server.get(&path).problem(404);
    server.request("DELETE", &path, &[], b"").problem(404);
    server.assert_nothing_came(&mut [&mut other], "message");
    assert_eq!(server.active(), 1);
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
fn data_arrives_as_it_was_published() {
    let server = Server::start();
    let mut stream = server.open("/events");
    for (sent, received) in [
        (
            r#"{"b":1,  "a":1.50, "a":2}"#,
            r#"{"b":1,  "a":1.50, "a":2}"#,
        ),
        (r#""plain text""#, "plain text"),
        (r#""two\nlines""#, "two\nlines"),
        (r#""\r\n\r""#, "\n\n"),
        (
            r#""data: forged\n\nevent: evil\nid: 1\n\n""#,
            "data: forged\n\nevent: evil\nid: 1\n\n",
        ),
        (r#""\u0000 and \ufeff""#, "\u{0} and \u{feff}"),
        (r#""  spaces ""#, "  spaces "),
        (r#""""#, ""),
        ("null", "null"),
        (
            "12345678901234567890.123456789",
            "12345678901234567890.123456789",
        ),
        ("[1,\n 2]", "[1,\n 2]"),
        (r#""\ud83d\ude00 é""#, "😀 é"),
    ] {
        server
            .post_text("/events", &format!(r#"{{"data": {sent}}}"#))
            .ok();
        let event = stream.next();
        assert_eq!(
            (event.name.as_str(), event.data.as_str()),
            ("message", received),
            "{sent}"
        );
    }
}

#[test]
fn lines_of_json_are_many_events() {
    let server = Server::start();
    let mut stream = server.open("/events");
    let headers = [("Content-Type", "application/x-ndjson")];
    let body = "{\"data\": 1}\n{\"data\": 2, \"id\": \"two\"}\r\n\n{\"data\": 3}\n";
    let answers = server
        .request("POST", "/events", &headers, body.as_bytes())
        .ok();
    assert_eq!(answers.as_array().unwrap().len(), 3);
    assert_eq!(answers[1]["id"], "two");
    assert_eq!(data(&stream.take(3)), ["1", "2", "3"]);
}

#[test]
fn asking_for_the_head_opens_no_stream() {
    let server = Server::start();
    for path in ["/events", "/sse", "/sse/events", "/stream"] {
        let reply = server.request("HEAD", path, &[], b"");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    }
    assert_eq!(server.active(), 0);
    assert_eq!(server.get("/events/stats").ok()["accepted_connections"], 0);
    assert_eq!(server.request("HEAD", "/health", &[], b"").body, b"");
}

#[test]
fn an_old_client_reads_until_the_connection_closes() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address);
    wire.write(b"GET /events HTTP/1.0\r\n\r\n");
    let mut stream = Stream::read(wire).ok().unwrap();
    assert_eq!(stream.reply.version, "HTTP/1.0");
    assert_eq!(stream.reply.header("transfer-encoding"), None);
    server.publish(&json!({"data": "old"}));
    assert_eq!(stream.next().data, "old");
    let path = format!("/events/connections/{}", stream.connection_id());
    server.request("DELETE", &path, &[], b"").ok();
    assert_eq!(stream.rest(), (Vec::new(), End::Clean));
}

#[test]
fn many_requests_share_one_connection_and_a_stream_may_be_the_last() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address);
    let body = br#"{"data": 1}"#;
    for _ in 0..5 {
        wire.write(&server.bytes(
            "POST",
            "/events",
            &[("Connection", "keep-alive")],
            Some(body),
        ));
        assert_eq!(wire.reply(false).unwrap().status, 200);
        wire.write(&server.bytes("GET", "/health", &[], None));
        assert_eq!(wire.reply(false).unwrap().status, 200);
        wire.write(&server.bytes(
            "POST",
            "/events",
            &[("Connection", "keep-alive")],
            Some(b"{"),
        ));
        assert_eq!(wire.reply(false).unwrap().status, 400);
    }
    wire.write(&server.bytes("GET", "/events?last_event_id=earliest", &[], None));
    let mut stream = Stream::read(wire).ok().unwrap();
    assert_eq!(stream.take(5).len(), 5);
    server.assert_nothing_came(&mut [&mut stream], "message");
}

#[test]
fn requests_sent_ahead_are_answered_in_turn() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address);
    let mut ahead = Vec::new();
    for n in 0..3 {
        let body = format!(r#"{{"data": {n}}}"#);
        ahead.extend(server.bytes(
            "POST",
            "/events",
            &[("Connection", "keep-alive")],
            Some(body.as_bytes()),
        ));
    }
    wire.write(&ahead);
    for _ in 0..3 {
        assert_eq!(wire.reply(false).unwrap().status, 200);
    }
}

#[test]
fn bytes_behind_the_request_of_a_stream_do_not_hinder_it() {
    let server = Server::with(&["--heartbeat", "500ms"]);
    let mut wire = Wire::connect(server.address);
    let mut bytes = server.bytes("GET", "/events", &[], None);
    bytes.extend_from_slice(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire.write(&bytes);
    let mut stream = Stream::read(wire).ok().unwrap();
    server.publish(&json!({"data": "first"}));
    assert_eq!(stream.next().data, "first");
    assert_eq!(server.active(), 1);
    // More input later, of any kind, is nothing to the stream either.
    let mut wire = stream.into_wire();
    let _ = wire.socket.write_all(&[b'x'; 1000]);
    server.publish(&json!({"data": "second"}));
    let begun = Instant::now();
    while !String::from_utf8_lossy(&wire.buffer).contains("data: second") {
        assert!(wire.fill() && begun.elapsed().as_secs() < 60);
    }
    // And its end is noticed all the same, by a heartbeat that cannot be written.
    drop(wire);
    eventually("the stream is gone", || {
        (server.active() == 0).then_some(())
    });
}

#[test]
fn a_reader_that_shuts_its_sending_half_is_gone() {
    let server = Server::start();
    let stream = server.open("/events");
    let wire = stream.into_wire();
    wire.socket.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("the half-closed stream is gone", || {
        (server.active() == 0).then_some(())
    });
}

#[test]
fn a_poll_waits_for_the_next_event_and_no_longer() {
    let server = Server::start();
    let start = server.head();
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| {
            server
                .get(&format!("/events/poll?after={start}&topic=t&wait=50"))
                .ok()
        });
        let mut n = 0;
        while !poll.is_finished() {
            // Events of other topics do not end the wait; this one does.
            server.publish(&json!([{"topic": "other", "data": n}, {"topic": "t", "data": n}]));
            n += 1;
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let polled = poll.join().unwrap();
        assert_eq!(polled["events"][0]["topic"], "t");
    });
    let head = server.head();
    let polled = server
        .get(&format!("/events/poll?after={head}&wait=1"))
        .ok();
    assert_eq!(
        (&polled["events"], &polled["position"]),
        (&json!([]), &json!(head))
    );
}

#[test]
fn a_poll_gives_as_much_as_it_is_asked_for() {
    let server = Server::start();
    publish_numbers(&server, 0..10, "public");
    let mut after = "earliest".to_owned();
    let mut all = Vec::new();
    for expected in [4, 4, 2, 0] {
        let polled = server
            .get(&format!("/events/poll?limit=4&after={after}"))
            .ok();
        let events = polled["events"].as_array().unwrap().clone();
        assert_eq!(events.len(), expected);
        all.extend(
            events
                .iter()
                .map(|event| event["data"].as_str().unwrap().to_owned()),
        );
        polled["position"].as_str().unwrap().clone_into(&mut after);
    }
    assert_eq!(all, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    // The header of a fallback client means the same as `after`.
    let polled = server
        .request("GET", "/events/poll", &[("Last-Event-ID", "earliest")], b"")
        .ok();
    assert_eq!(polled["events"].as_array().unwrap().len(), 10);
    // One that asks for nothing in particular hears from now on.
    assert_eq!(server.get("/events/poll").ok()["events"], json!([]));
}

#[test]
fn a_jobs_stream_begins_with_its_state_and_repeats_nothing() {
    let server = Server::start();
    server
        .post("/jobs", &json!({"job_id": "j", "total": 100}))
        .ok();
    std::thread::scope(|scope| {
        let server = &server;
        let publisher = scope.spawn(move || {
            for n in 1..=100 {
                server
                    .post("/jobs/j/progress", &json!({"progress": n}))
                    .ok();
            }
            server.post("/jobs/j/complete", &json!({})).ok();
        });
        let mut readers = Vec::new();
        while !publisher.is_finished() {
            readers.push(scope.spawn(move || {
                let mut stream = server.open("/events?topic=job/j");
                let snapshot = stream.next();
                let mut last = snapshot.json()["progress"].as_u64().unwrap();
                if snapshot.name == "complete" {
                    return;
                }
                assert_eq!(snapshot.name, "status");
                loop {
                    let event = stream.next();
                    if event.name == "complete" {
                        assert_eq!(last, 100);
                        return;
                    }
                    let progress = event.json()["progress"].as_u64().unwrap();
                    assert_eq!((event.name.as_str(), progress), ("progress", last + 1));
                    last = progress;
                }
            }));
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        assert!(!readers.is_empty());
        for reader in readers {
            reader.join().unwrap();
        }
    });
    // Whoever comes after the end hears how it ended.
    assert_eq!(server.open("/events?topic=job/j").next().name, "complete");
    assert_eq!(server.open("/sse?topic=job/j").next().name, "job_complete");
}

#[test]
fn a_jobs_reader_that_resumes_gets_what_it_missed_instead_of_a_snapshot() {
    let server = Server::start();
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    let mut stream = server.open("/events?topic=job/j");
    stream.next();
    server
        .post("/jobs/j/progress", &json!({"progress": 10}))
        .ok();
    stream.next();
    let last_id = stream.last_id.clone();
    drop(stream);
    for n in [20, 30] {
        server
            .post("/jobs/j/progress", &json!({"progress": n}))
            .ok();
    }
    let mut stream = server.resume("/events?topic=job/j", &last_id);
    let progress: Vec<_> = stream
        .take(2)
        .iter()
        .map(|event| event.json()["progress"].clone())
        .collect();
    assert_eq!(progress, [json!(20), json!(30)]);
}

#[test]
fn a_body_may_come_in_pieces_and_after_a_question() {
    let server = Server::start();
    let mut stream = server.open("/events");
    let mut wire = Wire::connect(server.address);
    wire.write(b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["{\"da", "ta\": \"in pi", "eces\"}"] {
        wire.write(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    wire.write(b"0\r\n\r\n");
    assert_eq!(wire.reply(false).unwrap().status, 200);
    assert_eq!(stream.next().data, "in pieces");

    // What curl does with large bodies.
    let body = format!("{{\"data\": \"{}\"}}", "x".repeat(900_000));
    let headers = [("Expect", "100-continue"), ("Connection", "keep-alive")];
    let request = server.bytes("POST", "/events", &headers, Some(body.as_bytes()));
    let (head, body) = request.split_at(request.len() - body.len());
    wire.write(head);
    assert_eq!(wire.head().unwrap().status, 100);
    wire.write(body);
    assert_eq!(wire.reply(false).unwrap().status, 200);
    assert_eq!(stream.next().data.len(), 900_000);
    // One that is refused by its length alone is told before it is sent.
    wire.write(b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(wire.reply(false).unwrap().status, 413);
}

#[test]
fn a_reader_may_cut_its_stream_anywhere_and_go_on() {
    let server = Server::with(&["--window", "8KiB"]);
    let total = 300;
    publish_numbers(&server, 0..total, "public");
    let mut random = fastrand::Rng::with_seed(11);
    let mut last_id = "earliest".to_owned();
    let mut next = 0;
    while next < total {
        let mut stream = server.resume("/events", &last_id);
        for _ in 0..random.usize(1..20) {
            if next == total {
                break;
            }
            assert_eq!(stream.next().data, next.to_string());
            next += 1;
        }
        last_id = stream.last_id;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_moves_while_its_reader_connects_is_not_told_twice() {
    const STEPS: u32 = 3_000;
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    hub.send_progress_update("j", 0.0, "").await.unwrap();
    let publisher = tokio::spawn({
        let hub = hub.clone();
        async move {
            for n in 1..=STEPS {
                hub.send_progress_update("j", n.into(), "").await.unwrap();
            }
        }
    });
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move {
                let mut rounds = 0;
                while hub.job("j").unwrap().progress < (STEPS - 10).into() {
                    let mut stream = hub
                        .connect(ConnectionRequest {
                            topics: vec!["job/j".into()],
                            ..ConnectionRequest::from_ip([127, 0, 0, 1].into())
                        })
                        .await
                        .unwrap();
                    let (mut decoder, mut told) = (Decoder::new(), Vec::new());
                    while told.len() < 3 {
                        let chunk = stream.next_chunk().await.unwrap();
                        let mut feed = decoder.feed(&chunk);
                        while let Some(event) = feed.next_event() {
                            if event.event_type() != "connected" {
                                let data: Value = serde_json::from_str(event.data()).unwrap();
                                told.push(data["progress"].as_u64().unwrap());
                            }
                        }
                    }
                    for pair in told.windows(2) {
                        assert_eq!(pair[0] + 1, pair[1], "{told:?}");
                    }
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let mut rounds = 0;
    for reader in readers {
        rounds += reader.await.unwrap();
    }
    publisher.await.unwrap();
    assert!(rounds > 10, "{rounds}");
}
