//! Bounds: one budget of memory for what is held for clients, and what a request may ask for.

use serde_json::{Value, json};

use crate::client::{Wire, eventually};
use crate::server::Server;

/// A body of which all has come but the last byte.
fn unfinished(server: &Server, bytes: usize) -> Wire {
    let mut wire = Wire::connect(server.address);
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
    );
    wire.write(head.as_bytes());
    wire.write(&vec![b' '; bytes - 1]);
    wire
}

fn bodies(server: &Server) -> Value {
    server.get("/events/stats").ok()["memory"]["bodies"].clone()
}

#[test]
fn one_address_gets_half_of_what_there_is_and_then_a_503_that_names_it() {
    let server = Server::with(&["--memory", "80MiB"]);
    // Three of 32 parts are for bodies.
    assert_eq!(bodies(&server)["max_bytes"], 6 << 20);
    let first = unfinished(&server, 2 << 20);
    eventually("the first body", || {
        (bodies(&server)["held_bytes"].as_u64()? > 2_000_000).then_some(())
    });
    let metrics = server.get("/metrics").text();
    // What has come of it, and room for the pieces that are on their way.
    assert!(metrics.contains("sse_memory_held_bytes{account=\"bodies\"} 21"));
    let mut second = unfinished(&server, 2 << 20);
    let refused = second.reply(false).unwrap();
    let problem = refused.problem(503);
    assert!(problem["detail"].as_str().unwrap().contains("bodies"));
    assert!(refused.header("retry-after").is_some());
    // Small ones find room yet, and all of it is free again once its holder is gone.
    server.publish(&json!({"data": 1}));
    drop(first);
    eventually("all is given back", || {
        (bodies(&server)["held_bytes"] == 0).then_some(())
    });
    server.publish(&json!({"data": "x".repeat(400_000)}));
}

#[test]
fn a_request_publishes_so_many_events_and_can_ask_for_the_last_receipt_alone() {
    let server = Server::start();
    let lines = |n: usize| "{\"data\":1}\n".repeat(n);
    server.post_text("/events", &lines(10_001)).problem(413);
    let array = format!("[{}1]", "1,".repeat(1_000_000));
    server.post_text("/events", &array).problem(413);
    let receipts = server.post_text("/events?receipts=all", &lines(3)).ok();
    assert_eq!(receipts.as_array().unwrap().len(), 3);
    let last = server
        .post_text("/events?receipts=last", &lines(10_000))
        .ok();
    assert_eq!(
        (&last["count"], &last["refused"]),
        (&json!(10_000), &json!([]))
    );
    let position = last["last"]["position"].as_str().unwrap();
    assert_eq!(position, server.head());
    server
        .post_text("/events?receipts=some", &lines(1))
        .problem(400);
    assert_eq!(server.get("/events/stats").ok()["events_published"], 10_003);
}

#[test]
fn an_answer_that_is_not_taken_is_given_up_and_its_memory_with_it() {
    let server = Server::with(&["--send-timeout", "1s"]);
    let events: Vec<Value> = (0..100)
        .map(|_| json!({"data": "x".repeat(2_000)}))
        .collect();
    let start = server.head();
    server.publish(&json!(events));
    let mut wire = Wire::connect(server.address);
    // More than all buffers between hold, and each asks for as much again.
    let poll =
        format!("GET /events/poll?after={start}&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for _ in 0..100 {
        wire.write(poll.as_bytes());
    }
    let answers = || {
        let stats = server.get("/events/stats").ok();
        stats["memory"]["answers"]["held_bytes"].as_u64().unwrap()
    };
    eventually("an answer waits", || (answers() > 100_000).then_some(()));
    eventually("it is given up", || (answers() == 0).then_some(()));
    while wire.fill() {}
}

#[test]
fn what_nobody_could_get_is_refused_and_so_are_too_many_topics() {
    let server = Server::start();
    for (event, field) in [
        (
            json!({"data": 1, "session_id": "a", "session_filter": "b"}),
            "session_filter",
        ),
        (
            json!({"data": 1, "topics": ["session/a", "session/b"]}),
            "session_filter",
        ),
        (
            json!({"data": 1, "topic": "user/x", "user_id": "y"}),
            "user_id",
        ),
    ] {
        let problem = server.post("/events", &event).problem(400);
        assert_eq!(problem["field"], field, "{event}");
    }
    server.publish(&json!({"data": 1, "topic": "user/x", "user_id": "x", "session_id": "a"}));
    let topics: Vec<String> = (0..64).map(|n| format!("t/{n}")).collect();
    let events: Vec<Value> = (0..200)
        .map(|_| json!({"data": 1, "topics": topics}))
        .collect();
    server.post("/events", &json!(events)).problem(413);
    server.publish(&json!(&events[..100]));
}

#[test]
fn connections_are_told_in_pages() {
    let server = Server::start();
    let _streams: Vec<_> = (0..5).map(|_| server.open("/events")).collect();
    let mut ids = std::collections::BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = server
            .get(&format!("/events/connections?limit=2{after}"))
            .ok();
        for connection in page["connections"].as_array().unwrap() {
            ids.insert(connection["connection_id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(ids.len(), 5);
    server.get("/events/connections?limit=1001").problem(400);
    server.get("/events/connections?limit=0").problem(400);
    server.get("/events/connections?after=x").problem(400);
}

#[test]
fn large_jobs_are_listed_in_pages_that_always_find_memory() {
    let server = Server::with(&["--memory", "20MiB"]);
    let count = 12;
    for n in 0..count {
        let id = format!("{n} ä");
        server
            .post("/jobs", &json!({"job_id": id, "title": "t".repeat(40_000)}))
            .ok();
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut after = String::new();
    let mut pages = 0;
    loop {
        let page = server.get(&format!("/jobs?limit=1000{after}")).ok();
        pages += 1;
        for job in page["jobs"].as_array().unwrap() {
            assert!(ids.insert(job["job_id"].as_str().unwrap().to_owned()));
        }
        assert_eq!(page["counts"]["total"], count);
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(ids.len(), count);
    assert!((3..=count).contains(&pages), "{pages} pages");
    let two = server.get("/jobs?limit=2").ok();
    assert_eq!(two["jobs"].as_array().unwrap().len(), 2);
    assert!(two["next"].is_string());
    for after in ["x", "0", "7a7"] {
        server.get(&format!("/jobs?after={after}")).problem(400);
    }
}

#[test]
fn a_poll_of_events_that_are_long_as_json_always_finds_memory() {
    let server = Server::with(&["--memory", "10MiB"]);
    // Six times as long as JSON.
    let data = "\u{1}".repeat(40_000);
    for n in 0..6 {
        server.publish(&json!({"data": data, "id": format!("long-{n}")}));
    }
    let mut after = "earliest".to_owned();
    let mut found = 0;
    while found < 6 {
        let page = server
            .get(&format!("/events/poll?limit=1000&after={after}"))
            .ok();
        let events = page["events"].as_array().unwrap();
        assert!(!events.is_empty(), "no event after {after}");
        for event in events {
            assert_eq!(event["id"], format!("long-{found}"));
            found += 1;
        }
        after = page["position"].as_str().unwrap().to_owned();
    }
}

#[test]
fn a_foreign_page_takes_no_named_subscription_over() {
    let server = Server::start();
    let mut own = server.open("/events?durable=mailer");
    for header in [
        "Sec-Fetch-Site: cross-site",
        "Referer: https://evil.example/",
    ] {
        let (name, value) = header.split_once(": ").unwrap();
        server
            .request("GET", "/events?durable=mailer", &[(name, value)], b"")
            .problem(403);
    }
    server.get("/events?durable=").problem(400);
    server.publish(&json!({"data": "still here"}));
    assert_eq!(own.next().data, "still here");
}
