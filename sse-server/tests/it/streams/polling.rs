//! The stream for those who cannot stream: polls that wait, and pages of any size.

use serde_json::json;

use crate::server::Server;

use super::publish_numbers;

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
