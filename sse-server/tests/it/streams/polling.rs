//! The stream for those who cannot stream: polls that wait, and pages of any size.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use sse_server::access::Caller;
use sse_server::hub::{Hub, HubConfig, Interest, PollRequest, Publication};

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

#[test]
fn a_poll_that_finds_nothing_in_a_long_log_answers_on_its_way() {
    let server = Server::start();
    let events: Vec<_> = (0..1_000)
        .map(|n| json!({"topic": format!("other/{n}"), "data": 1}))
        .collect();
    for _ in 0..70 {
        server.publish(&json!(events));
    }
    server.publish(&json!({"topic": "room/7/chat", "data": "found"}));
    let head = server.head();
    let poll = |topic: &str, after: &str, limit: usize| {
        let path = format!("/events/poll?topic={topic}&after={after}&wait=20&limit={limit}");
        let polled = server.get(&path).ok();
        let position = polled["position"].as_str().unwrap().to_owned();
        (polled["events"].as_array().unwrap().clone(), position)
    };
    let (events, on_the_way) = poll("room/*/chat", "earliest", 10);
    assert!(events.is_empty(), "{events:?}");
    assert_ne!(on_the_way, head);
    let (events, end) = poll("room/*/chat", &on_the_way, 10);
    assert_eq!(events[0]["data"], "found");
    assert_eq!((events.len(), &end), (1, &head));
    // What is looked at ahead of a small limit is not passed over.
    let mut after = "earliest".to_owned();
    for n in ["5", "50", "500"] {
        let (events, position) = poll(&format!("other/{n}"), &after, 1);
        assert_eq!(events[0]["topic"], format!("other/{n}"));
        after = position;
    }
    let mut topics = Vec::new();
    while topics.len() < 30 {
        let (events, position) = poll("*/:n", &after, 7);
        topics.extend(
            events
                .iter()
                .map(|event| event["topic"].as_str().unwrap().to_owned()),
        );
        after = position;
    }
    let expected: Vec<_> = (501..501 + topics.len())
        .map(|n| format!("other/{n}"))
        .collect();
    assert_eq!(topics, expected);
}

/// The log in memory has every page at once, and a poll once went through all of it without letting go of its thread.
#[tokio::test]
async fn a_poll_over_a_long_log_lets_others_have_their_turn() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    for _ in 0..20 {
        let events = (0..1_000).map(|n| Publication::new(n.to_string()));
        hub.publish_all(events.collect()).await.unwrap();
    }
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let poll = || {
        hub.poll(PollRequest {
            caller: Caller::default(),
            interest: Interest {
                topics: vec!["room/:id/*".to_owned()],
                ..Interest::default()
            },
            after: Some("earliest".to_owned()),
            wait: Duration::ZERO,
            limit: 1,
        })
    };
    let before = turns.load(Relaxed);
    let (first, second) = tokio::join!(poll(), poll());
    for polled in [first.unwrap(), second.unwrap()] {
        assert!(polled.records.is_empty());
        assert_eq!(polled.position.offset, 20_000);
    }
    // Two polls, 256 events at most between two turns.
    let taken = turns.load(Relaxed) - before;
    assert!(taken >= 2 * 20_000 / 256, "{taken} turns");
    other.abort();
}
