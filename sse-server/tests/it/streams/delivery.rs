//! What is published arrives: in one order, once, in time, and as it was written.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::client::eventually;
use crate::server::Server;

use super::data;

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
