//! A reader goes on where it was: after any position, from its greeting, from the earliest event.

use serde_json::json;

use crate::server::Server;

use super::{data, publish_numbers};

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
