//! What a reader asked for and cannot have is told as a gap, once.

use serde_json::json;

use crate::client::{Stream, Wire};
use crate::server::Server;

use super::publish_numbers;

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
