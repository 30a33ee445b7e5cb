//! What clients send that is easily misunderstood: each is taken as it was meant, or refused with what to do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{End, Wire, eventually};
use crate::frames::WebSocket;
use crate::server::{Server, folder};

#[test]
fn a_comment_as_heartbeat_is_one_line_and_ends_no_event() {
    let server = Server::with(&["--heartbeat-form", "comment", "--heartbeat", "200ms"]);
    let mut stream = server.open("/events?topic=quiet");
    let greeting = stream.raw.len();
    std::thread::sleep(Duration::from_secs(1));
    server.publish(&json!({"topic": "quiet", "data": "after the comments"}));
    assert_eq!(stream.next().data, "after the comments");
    let text = String::from_utf8_lossy(&stream.raw[greeting..]).into_owned();
    let (comments, event) = text.split_at(text.find("id: ").unwrap());
    assert!(!event.is_empty());
    assert_eq!(comments, ":\n".repeat(comments.len() / 2), "{text:?}");
    assert!(comments.len() >= 4, "{text:?}");
}

#[test]
fn what_a_reader_could_not_send_back_is_refused_and_names_its_field() {
    let server = Server::start();
    for text in [
        "a\u{1}b",
        "a\u{1b}[31m",
        "a\u{7f}",
        "a\tb",
        "a\u{85}b",
        "a\nb",
        "a\rb",
        "a\0b",
        " a",
        "a ",
        "\u{a0}a",
        "a\u{2003}",
        "\u{3000}",
    ] {
        for field in [
            "id",
            "event_type",
            "topic",
            "session_filter",
            "user_id",
            "project_id",
        ] {
            let mut event = json!({"data": 1});
            event[field] = text.into();
            let problem = server.post("/events", &event).problem(400);
            assert_eq!(problem["field"], field, "{text:?}: {problem}");
        }
        let job = server.post("/jobs", &json!({"job_id": text})).problem(400);
        assert_eq!(job["field"], "job_id", "{text:?}");
    }
    let fine = json!({"id": "a b-é🦀", "event_type": "a b", "topic": "é b", "data": 1});
    assert_eq!(server.publish(&fine)["id"], "a b-é🦀");
}

#[test]
fn a_byte_order_mark_before_a_body_is_passed_over() {
    let server = Server::start();
    let mut stream = server.open("/events");
    for body in [
        "{\"data\": 1}",
        "[{\"data\": 1}]",
        "{\"data\": 1}\n{\"data\": 1}",
    ] {
        server.post_text("/events", &format!("\u{feff}{body}")).ok();
    }
    server
        .post_text("/jobs", "\u{feff}{\"job_id\": \"j\"}")
        .ok();
    assert_eq!(
        stream
            .take(4)
            .iter()
            .filter(|event| event.data == "1")
            .count(),
        4
    );
    // Elsewhere it is a character like others.
    server
        .post_text("/events", "{\"data\": 1}\u{feff}")
        .problem(400);
    let kept = server.publish(&json!({"id": "\u{feff}x", "data": "\u{feff}y"}));
    assert_eq!(kept["id"], "\u{feff}x");
}

#[test]
fn numbers_of_a_job_are_exact_or_refused() {
    let server = Server::start();
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    let mut stream = server.open("/events?topic=job/j");
    stream.next();
    for text in [
        "9007199254740993",
        "18446744073709551615",
        "9223372036854775807",
        "0.1",
        "33.3",
    ] {
        let body = format!("{{\"progress\": {text}, \"total\": {text}, \"rows\": {text}}}");
        server.post_text("/jobs/j/progress", &body).ok();
        let data = stream.next().data;
        for field in ["progress", "total", "rows"] {
            assert!(
                data.contains(&format!("\"{field}\":{text}")),
                "{text} in {data}"
            );
        }
        assert_eq!(server.get("/jobs/j").ok()["progress"].to_string(), text);
    }
    for text in ["18446744073709551616", "1e300", "\"5\"", "true"] {
        let problem = server.post_text("/jobs/j/progress", &format!("{{\"progress\": {text}}}"));
        assert_eq!(problem.problem(400)["field"], "progress", "{text}");
    }
}

#[test]
fn the_head_of_a_stream_has_the_status_that_the_stream_would_have() {
    let server = Server::with(&["--max-connections", "1"]);
    let head = |path: &str| server.request("HEAD", path, &[], b"");
    assert_eq!(head("/events?topic=a").status, 200);
    for path in [
        "/events?topics=a",
        "/events?topic=%01",
        "/events?compression=br",
        "/events?durable=%01",
        "/events?user_id=%01",
        "/sse?nothing=1",
    ] {
        let reply = head(path);
        assert_eq!((reply.status, &reply.body[..]), (400, &b""[..]), "{path}");
    }
    let json_only = [("Accept", "application/json")];
    assert_eq!(
        server.request("HEAD", "/events", &json_only, b"").status,
        406
    );
    let _stream = server.open("/events");
    assert_eq!(head("/events").status, 503);
    assert!(head("/events").header("retry-after").is_some());
}

#[test]
fn a_client_that_takes_only_json_is_told_where_that_is() {
    let server = Server::start();
    for path in ["/events", "/sse", "/sse/events", "/stream"] {
        let reply = server.request("GET", path, &[("Accept", "application/json")], b"");
        let problem = reply.problem(406);
        assert!(
            problem["detail"].as_str().unwrap().contains("/events/poll"),
            "{problem}"
        );
    }
    server.open_with(
        "/events",
        &[("Accept", "application/json, text/event-stream")],
    );
    server.open_with("/events", &[("Accept", "*/*")]);
}

#[test]
fn a_parameter_that_nobody_knows_does_not_read_everything() {
    let server = Server::start();
    for (query, hint) in [
        ("topics=a", "topic"),
        ("topci=a", "topic"),
        ("subscribes=a", "subscribe"),
        ("channel=a", "topic_exact"),
        ("projectid=p", "project_id"),
        ("session=s", "session_id"),
        ("", ""),
    ] {
        for path in ["/events", "/sse", "/events/poll", "/stream"] {
            if query.is_empty() {
                continue;
            }
            let problem = server.get(&format!("{path}?{query}")).problem(400);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(hint), "{path}?{query}: {detail}");
        }
    }
    let many = "_=1&".repeat(256);
    server
        .get(&format!("/events?{many}topic=private-room"))
        .problem(400);
    server.get("/events?topic=").problem(400);
    // What pages and their libraries add by themselves.
    let extras = "topic=a&_=1700000000&utm_source=x&evs_preamble=2056&lastEventId=earliest";
    let mut stream = server.open(&format!("/events?{extras}"));
    server.publish(&json!({"topic": "b", "data": "not this"}));
    server.publish(&json!({"topic": "a", "data": "this"}));
    assert_eq!(stream.next().data, "this");
}

#[test]
fn a_topic_that_looks_like_a_pattern_can_be_read_by_its_name() {
    let server = Server::start();
    for topic in ["a*b", "{id}", "room/:x", "(a|b)", "job/*"] {
        let encoded: String = topic.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut exact = server.open(&format!("/events?topic_exact={encoded}"));
        let other = topic.replace(['*', '{', ':', '('], "x");
        server.publish(&json!({"topic": other, "data": "not this"}));
        server.publish(&json!({"topic": topic, "data": "this"}));
        assert_eq!(exact.next().data, "this", "{topic}");
        let polled = server.get(&format!(
            "/events/poll?after=earliest&topic_exact={encoded}"
        ));
        let polled = polled.ok();
        assert_eq!(polled["events"].as_array().unwrap().len(), 1, "{polled}");

        let mut changed = server.open("/events?topic=elsewhere");
        let change = json!({"connection_id": changed.connection_id(), "topic_exact": [topic]});
        let answer = server.post("/events/subscriptions", &change).ok();
        assert_eq!(answer["topics"], json!([topic]));
        server.publish(&json!({"topic": other, "data": "not this"}));
        server.publish(&json!({"topic": topic, "data": "this too"}));
        assert_eq!(changed.next().data, "this too", "{topic}");
    }
}

#[test]
fn whoever_names_an_audience_gets_it_or_an_error() {
    let server = Server::start();
    let mut everyone = server.open("/events");
    for (field, value) in [
        ("topic", json!([])),
        ("topics", json!([])),
        ("topic", Value::Null),
        ("topics", Value::Null),
        ("topic", json!("")),
        ("user_id", Value::Null),
        ("user_id", json!("")),
        ("session_filter", Value::Null),
        ("session_id", Value::Null),
        ("session_filter", json!("")),
        ("project_id", Value::Null),
        ("subscription_filter", Value::Null),
    ] {
        let mut event = json!({"data": "for somebody"});
        event[field] = value.clone();
        let problem = server.post("/events", &event).problem(400);
        assert_eq!(problem["field"], field, "{field}: {value}");
        let in_array = server
            .post("/events", &json!([{"data": 1}, event]))
            .problem(400);
        assert_eq!(in_array["field"], format!("[1].{field}"));
    }
    server.assert_nothing_came(&mut [&mut everyone], "message");
}

#[test]
fn an_id_belongs_to_one_event_of_the_whole_hub() {
    let server = Server::start();
    server.publish(&json!({"id": "x", "topic": "a", "data": 1}));
    let problem = server
        .post("/events", &json!({"id": "x", "topic": "b", "data": 1}))
        .problem(409);
    assert_eq!(problem["field"], "id");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("one event of the whole hub"), "{detail}");
    let same = server.publish(&json!({"id": "x", "topic": "a", "data": 1}));
    assert_eq!(same["duplicate"], true);
}

#[test]
fn what_a_retention_rule_has_taken_is_gone_on_every_path() {
    for (rule, expected) in [
        ("value;keep-latest=1", &["3"][..]),
        ("value;keep-latest=2", &["2", "3"]),
        ("value;max-count=1", &["3"]),
    ] {
        let folder = folder();
        let flags = ["--retain", rule, "--sweep-interval", "1h"];
        let on_disk = Server::on_disk(folder.path(), &flags);
        let in_memory = Server::with(&flags);
        for server in [&on_disk, &in_memory] {
            for n in 1..=3 {
                server.publish(&json!({"topic": "value", "data": n}));
                server.publish(&json!({"topic": "other", "data": n}));
            }
            paths_agree(server, rule, expected);
        }
        drop(on_disk);
        paths_agree(&Server::on_disk(folder.path(), &flags), rule, expected);
    }
}

/// Stream, stream of everything, pattern, poll and named subscription have the same events of the topic `value`.
fn paths_agree(server: &Server, rule: &str, expected: &[&str]) {
    server.publish(&json!({"topic": "end", "data": "end"}));
    for query in [
        "topic=value",
        "topic=*",
        "topic=valu*",
        "durable=all&topic=value",
    ] {
        let query = format!("{query}&topic=end&last_event_id=earliest");
        let mut stream = server.open(&format!("/events?{query}"));
        let mut got = Vec::new();
        loop {
            let event = stream.next();
            match event.data.as_str() {
                "end" => break,
                _ if event.name == "gap" => {}
                data => got.push(data.to_owned()),
            }
        }
        if query.starts_with("topic=*") {
            // The other topic has no rule: one of each pair is of it, and all of those are there.
            assert_eq!(got.len(), expected.len() + 3, "{rule}: {query}: {got:?}");
            continue;
        }
        assert_eq!(got, expected, "{rule}: {query}");
        if query.starts_with("durable") {
            server
                .request("DELETE", "/events/subscriptions/all", &[], b"")
                .ok();
        }
    }
    let polled = server.get("/events/poll?topic=value&after=earliest").ok();
    let events = polled["events"].as_array().unwrap();
    let got: Vec<_> = events
        .iter()
        .map(|event| event["data"].as_str().unwrap())
        .collect();
    assert_eq!(got, expected, "{rule}: poll");
}

#[test]
fn two_readers_that_insist_on_one_name_are_slowed_down_and_then_the_newcomer_is_refused() {
    let server = Server::with(&["--retry", "1s"]);
    let path = "/events?topic=t&durable=mine";
    let mut holder = server.open(path);
    let mut retries = Vec::new();
    let refused = loop {
        match server.try_open(path, &[]) {
            Ok(newer) => {
                let (_, end) = holder.rest();
                assert_eq!(end, End::Clean);
                let raw = String::from_utf8_lossy(&holder.raw).into_owned();
                let retry = raw.rsplit("retry: ").next().unwrap();
                retries.push(retry.trim().parse::<u64>().unwrap());
                holder = newer;
            }
            Err(refused) => break refused,
        }
        assert!(retries.len() < 20, "nobody is refused");
    };
    assert!(
        refused.problem(503)["detail"]
            .as_str()
            .unwrap()
            .contains("\"mine\"")
    );
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 60
    );
    assert!(
        retries.windows(2).all(|pair| pair[0] < pair[1]),
        "{retries:?}"
    );
    // The one that has it reads on.
    server.publish(&json!({"topic": "t", "data": "still read"}));
    assert_eq!(holder.next().data, "still read");
    for _ in 0..20 {
        assert_eq!(server.try_open(path, &[]).err().unwrap().status, 503);
    }
    let warnings = server
        .stderr()
        .matches("insist on one named subscription")
        .count();
    assert_eq!(warnings, 1, "{}", server.stderr());
    let stats = server.get("/events/stats").ok();
    assert_eq!(stats["subscription_takeovers"], retries.len());
    assert_eq!(stats["refused_takeovers"], 21);
    // When it goes, the name can be had at once.
    drop(holder);
    eventually("the name is free", || server.try_open(path, &[]).ok());
}

#[test]
fn a_reader_whose_line_breaks_again_and_again_is_never_refused() {
    let server = Server::start();
    for _ in 0..20 {
        let stream = server.open("/events?topic=t&durable=mine");
        drop(stream);
        eventually("the old stream is gone", || {
            (server.active() == 0).then_some(())
        });
    }
    assert_eq!(
        server.get("/events/stats").ok()["subscription_takeovers"],
        0
    );
}

#[test]
fn a_stream_can_be_ended_for_good() {
    let server = Server::start();
    let agent = |name: &'static str| [("User-Agent", name)];
    let close = |stream: &crate::client::Stream, within: &str| {
        let path = format!("/events/connections/{}{within}", stream.connection_id());
        server.request("DELETE", &path, &[], b"")
    };
    let stream = server.open_with("/events", &agent("page"));
    close(&stream, "?for=soon").problem(400);
    close(&stream, "?for=25h").problem(400);
    assert_eq!(close(&stream, "?for=10m").ok()["excluded_seconds"], 600);
    for path in ["/events", "/sse", "/events?topic=a"] {
        let reply = server.request("GET", path, &agent("page"), b"");
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{path}");
    }
    // Others, and the same one when it is somebody, are not meant.
    server.open_with("/events", &agent("another page"));
    server.open_with("/events?user_id=ann", &agent("page"));
    let again = server.open_with("/events?user_id=ann", &agent("page"));
    assert_eq!(close(&again, "").ok()["excluded_seconds"], Value::Null);
    server.open_with("/events?user_id=ann", &agent("page"));
    let short = server.open_with("/events?user_id=bob", &agent("page"));
    close(&short, "?for=1s").ok();
    eventually("the second is over", || {
        server.try_open("/events?user_id=bob", &agent("page")).ok()
    });
    close(&short, "?for=1s").problem(404);
}

#[test]
fn a_client_that_cannot_set_headers_can_turn_compression_off() {
    let server = Server::start();
    let gzip = [("Accept-Encoding", "gzip")];
    let coding = |path: &str| {
        let mut wire = Wire::connect(server.address);
        wire.write(&server.bytes("GET", path, &gzip, None));
        let head = wire.head().unwrap();
        head.header("content-encoding").map(str::to_owned)
    };
    assert_eq!(coding("/events").as_deref(), Some("gzip"));
    assert_eq!(
        coding("/events?stream_compression=gzip").as_deref(),
        Some("gzip")
    );
    assert_eq!(coding("/events?stream_compression=none"), None);
    server.get("/events?stream_compression=brotli").problem(400);
}

#[test]
fn an_event_for_nobody_reaches_nobody_on_any_path() {
    let server = Server::start();
    let mut stream = server.open("/events?topic=news");
    for nobody in [
        "connection/00000000-0000-0000-0000-000000000000",
        "connection/\u{e9}",
        &format!("connection/{}", "x".repeat(200)),
    ] {
        let event = json!({"topic": ["news", nobody], "data": "for nobody"});
        server.post("/events", &event).problem(404);
    }
    server.publish(&json!({"topic": "news", "data": "for all"}));
    assert_eq!(stream.next().data, "for all");
    let mut replayed = server.open("/events?topic=news&last_event_id=earliest");
    assert_eq!(replayed.next().data, "for all");
    for query in ["topic=news", "topic=new*", "limit=10"] {
        let polled = server
            .get(&format!("/events/poll?{query}&after=earliest"))
            .ok();
        let events = polled["events"].as_array().unwrap();
        assert_eq!(events.len(), 1, "{query}: {polled}");
    }
}

/// What was replaced would be another topic, which is then waited for in vain.
#[test]
fn what_cannot_be_percent_decoded_is_refused_and_names_its_parameter() {
    let server = Server::start();
    for (path, field) in [
        ("/events?topic=%ff", "topic"),
        ("/events?topic=%zz", "topic"),
        ("/events?topic_exact=50%", "topic_exact"),
        ("/events?subscribe=%c3", "subscribe"),
        ("/events/poll?after=%e9", "after"),
        ("/events/poll?user_id=%ff", "user_id"),
        ("/events/connections?limit=%zz", "limit"),
        ("/jobs/%ff", "id"),
        ("/jobs/%zz", "id"),
        ("/events/connections/%ff", "id"),
        ("/events/subscriptions/a%2", "id"),
    ] {
        let problem = server.get(path).problem(400);
        assert_eq!(problem["field"], field, "{path}: {problem}");
    }
    server
        .get("/events/poll?topic=gr%C3%B6%C3%9Fe&utm_campaign=100%")
        .ok();
}

#[test]
fn two_different_values_for_what_can_have_one_are_refused() {
    let server = Server::start();
    for (path, field) in [
        ("/events?durable=a&durable=b", "durable"),
        ("/events?user_id=a&user_id=b", "user_id"),
        ("/events?session_id=a&session_id=b", "session_id"),
        ("/events?last_event_id=a&last_event_id=b", "last_event_id"),
        ("/events/poll?wait=0&wait=1", "wait"),
        ("/events/poll?limit=1&limit=2", "limit"),
        ("/events/poll?after=a&after=b", "after"),
        ("/jobs?limit=1&limit=2", "limit"),
    ] {
        let problem = server.get(path).problem(400);
        assert_eq!(problem["field"], field, "{path}: {problem}");
    }
    server
        .get("/events/poll?limit=1&limit=1&topic=a&topic=b")
        .ok();
}

#[test]
fn an_error_names_what_is_wrong_as_the_client_called_it() {
    let server = Server::start();
    let problem = server.get("/events?session_id=a%0ab").problem(400);
    assert_eq!(problem["field"], "session_id");
    let detail = problem["detail"].as_str().unwrap();
    assert!(!detail.contains("topic"), "{detail}");
    let long = "x".repeat(1020);
    let problem = server.get(&format!("/events?user_id={long}")).problem(400);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("1019 are taken") && !detail.contains("topic"),
        "{detail}"
    );

    let problem = server.get("/events/poll?wait=-1").problem(400);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("0 to 55"), "{detail}");
    let problem = server.post("/events", &json!({"data": 1, "ttl_seconds": -1}));
    let problem = problem.problem(400);
    assert_eq!(problem["field"], "ttl_seconds");
    assert!(problem["detail"].as_str().unwrap().contains("0 or more"));

    let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
    let query: String = many.iter().map(|topic| format!("topic={topic}&")).collect();
    assert_eq!(
        server.get(&format!("/events?{query}")).problem(400)["field"],
        "topic"
    );
    let types = many.join(",");
    let problem = server
        .get(&format!("/events?subscribe={types}"))
        .problem(400);
    assert_eq!(problem["field"], "subscribe");
    let mut socket = WebSocket::open(&server, "?topic=t");
    let answer = socket.ask(&json!({"type": "subscribe", "topics": many}));
    assert_eq!(answer["field"], "topics", "{answer}");
    let answer = socket.ask(&json!({"type": "subscribe", "event_types": many}));
    assert_eq!(answer["field"], "event_types", "{answer}");
}

#[test]
fn a_weight_of_zero_means_not_acceptable() {
    let server = Server::start();
    for accept in [
        "text/event-stream;q=0",
        "application/json, text/event-stream;q=0",
        "text/event-stream;q=0, */*",
    ] {
        let refused = server.try_open("/events", &[("Accept", accept)]);
        refused.err().unwrap().problem(406);
    }
    let stream = server.open_with("/events", &[("Accept-Encoding", "gzip;q=0")]);
    assert_eq!(stream.reply.header("content-encoding"), None);
}
