//! WebSockets as readers: many at once, at a full hub, from a page, and back at a place that is not known.

use std::sync::Barrier;

use serde_json::{Value, json};

use crate::client::{Wire, eventually};
use crate::frames::{HANDSHAKE, WebSocket, refused};
use crate::server::Server;

/// Of the same origin is whoever was served under the host that is asked.
#[test]
fn a_page_of_the_hubs_own_origin_opens_one_and_one_beside_it_does_not() {
    let server = Server::start();
    let own = format!("http://{}", server.address);
    let beside = format!("http://{}:{}", server.address.ip(), 1);
    for (origin, is_taken) in [(&*own, true), (&*beside, false), ("null", false)] {
        let headers = [&HANDSHAKE[..], &[("Origin", origin)]].concat();
        if is_taken {
            let mut wire = Wire::connect(server.address);
            wire.write(&server.bytes("GET", "/events/ws", &headers, None));
            WebSocket::greeted(wire);
        } else {
            refused(&server, "GET", &headers).problem(403);
        }
    }
}

#[test]
fn two_hundred_sockets_at_once_get_every_event_in_the_same_order() {
    const SOCKETS: usize = 200;
    const PUBLISHERS: usize = 4;
    const EACH: usize = 120;
    let server = Server::with(&["--max-connections-per-ip", "300"]);
    let ready = Barrier::new(SOCKETS + PUBLISHERS);
    let seen: Vec<Vec<Value>> = std::thread::scope(|threads| {
        let readers: Vec<_> = (0..SOCKETS)
            .map(|_| {
                threads.spawn(|| {
                    let mut socket = WebSocket::open(&server, "?topic=t");
                    ready.wait();
                    let mut events = vec![socket.event()];
                    while events.last().is_some_and(|last| last["data"] != "the last") {
                        events.push(socket.event());
                    }
                    events
                })
            })
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let (server, ready) = (&server, &ready);
                threads.spawn(move || {
                    ready.wait();
                    for n in 0..EACH {
                        // Some go out without a copy.
                        let pad = "x".repeat(if n % 40 == 7 { 20_000 } else { n });
                        let data = json!({"publisher": publisher, "n": n, "pad": pad});
                        server.publish(&json!({"topic": "t", "data": data}));
                    }
                })
            })
            .collect();
        publishers
            .into_iter()
            .for_each(|publisher| publisher.join().unwrap());
        server.publish(&json!({"topic": "t", "data": "the last"}));
        let readers = readers.into_iter();
        readers.map(|reader| reader.join().unwrap()).collect()
    });
    let offsets = |events: &[Value]| -> Vec<usize> {
        let offset = |event: &Value| {
            let position = event["position"].as_str().unwrap();
            position.rsplit_once('-').unwrap().1.parse().unwrap()
        };
        events.iter().map(offset).collect()
    };
    let all: Vec<usize> = (1..=PUBLISHERS * EACH + 1).collect();
    assert_eq!(offsets(&seen[0]), all);
    for publisher in 0..PUBLISHERS {
        let of_it = seen[0]
            .iter()
            .filter(|event| event["data"]["publisher"] == publisher);
        let numbers: Vec<&Value> = of_it.map(|event| &event["data"]["n"]).collect();
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>());
    }
    for (n, events) in seen.iter().enumerate() {
        assert!(*events == seen[0], "socket {n}: {:?}", offsets(events));
    }
}

#[test]
fn a_full_hub_refuses_a_socket_as_it_refuses_a_stream() {
    let server = Server::with(&["--max-connections", "2"]);
    let stream = server.open("/events");
    let mut socket = WebSocket::open(&server, "?topic=t");
    let as_stream = server.try_open("/events", &[]).err().unwrap();
    let as_socket = refused(&server, "GET", &HANDSHAKE);
    let [socket_problem, stream_problem] = [&as_socket, &as_stream].map(|refusal| {
        let mut problem = refusal.problem(503);
        // It is drawn for each, so that not all come back at once.
        let seconds = problem["retry_after"].take().as_u64().unwrap();
        assert!(seconds > 0);
        let header = refusal.header("retry-after").unwrap();
        assert_eq!(header, seconds.to_string());
        problem
    });
    assert_eq!(socket_problem, stream_problem);
    // Those who are there are not disturbed.
    server.publish(&json!({"topic": "t", "data": "still here"}));
    assert_eq!(socket.event()["data"], "still here");
    drop(stream);
    eventually("a place is free", || (server.active() == 1).then_some(()));
    WebSocket::open(&server, "?topic=t");
}

#[test]
fn a_place_that_cannot_be_gone_on_from_is_told_as_to_a_stream_and_before_anything_else() {
    let server = Server::with(&["--retention-events", "5", "--sweep-interval", "50ms"]);
    let first = server.publish(&json!({"topic": "t", "data": 0}));
    for n in 1..20 {
        server.publish(&json!({"topic": "t", "data": n}));
    }
    let trimmed = first["position"].as_str().unwrap();
    let beyond = trimmed.replace("-1", "-1000");
    // Everything that is to go is gone.
    let settled = || {
        let log = server.get("/events/stats").ok()["log"].clone();
        let offset = |of: &str| -> u64 {
            let position = log[of].as_str().unwrap();
            position.rsplit_once('-').unwrap().1.parse().unwrap()
        };
        (offset("head") - offset("floor") <= 5).then_some(())
    };
    for (id, reason) in [
        (trimmed, "trimmed"),
        ("0123456789abcdef-3", "foreign_epoch"),
        ("nobody-knows-this", "unknown_id"),
        (&*beyond, "beyond_head"),
    ] {
        eventually("old events are gone", settled);
        let query = format!("?topic=t&last_event_id={id}");
        let mut socket = WebSocket::open(&server, &query);
        assert_eq!(socket.connected["gap"], true, "{id}: {}", socket.connected);
        assert_eq!(socket.connected["resumed"], false, "{id}");
        let gap = socket.event();
        assert_eq!(gap["event"], "gap", "{id}: {gap}");
        assert_eq!(gap["data"]["reason"], reason, "{id}: {gap}");
        assert_eq!(gap["position"], gap["data"]["to"], "{gap}");
        let mut stream = server.open(&format!("/events{query}"));
        let as_stream = stream.next();
        assert_eq!(as_stream.name, "gap");
        let without_time = |gap: &Value| {
            let mut gap = gap.clone();
            gap["timestamp"].take();
            gap
        };
        assert_eq!(
            without_time(&gap["data"]),
            without_time(&as_stream.json()),
            "{id}"
        );
        assert_eq!(gap["id"].as_str(), as_stream.id.as_deref());
        // Both go on from there, and so does who comes back with the gap's id: no further gap.
        let again = format!("?topic=t&last_event_id={}", gap["id"].as_str().unwrap());
        let mut again = WebSocket::open(&server, &again);
        assert_eq!(again.connected["gap"], false, "{id}: {}", again.connected);
        server.publish(&json!({"topic": "t", "data": "last"}));
        let rest = |next: &mut dyn FnMut() -> Value| {
            let mut rest = Vec::new();
            while rest.last().is_none_or(|last| *last != "last") {
                rest.push(next());
            }
            rest
        };
        let came = rest(&mut || socket.event()["data"].clone());
        let as_text = rest(&mut || {
            let data = stream.next().data;
            serde_json::from_str(&data).unwrap_or(Value::String(data))
        });
        assert_eq!(came, as_text, "{id}");
        assert_eq!(rest(&mut || again.event()["data"].clone()), came, "{id}");
    }
}
