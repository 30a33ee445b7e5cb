//! Every socket and every request has a place, and nobody takes those of others.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Wire, eventually};
use crate::server::Server;

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn connect_from(server: &Server, from: IpAddr) -> Wire {
    Wire::connect_from(server.address, from, None).unwrap()
}

/// How the places of one kind are.
fn places(server: &Server, of: &str) -> Value {
    server.get("/events/stats").ok()["places"][of].clone()
}

#[test]
fn requests_that_wait_for_a_job_take_the_places_of_streams() {
    let server = Server::with(&["--max-connections", "5", "--max-connections-per-ip", "3"]);
    server.post("/jobs", &json!({"job_id": "j"}));
    let wait = |from: IpAddr, path: &str| {
        let mut wire = connect_from(&server, from);
        wire.write(&server.bytes("GET", path, &[], None));
        wire
    };
    let local = Ipv4Addr::LOCALHOST.into();
    let mut waiting = vec![
        wait(local, "/jobs/j?wait=55"),
        wait(local, "/jobs/j?wait=55"),
        wait(local, "/events/poll?wait=55"),
    ];
    eventually("three wait", || (server.active() == 3).then_some(()));
    for path in ["/jobs/j?wait=55", "/events/poll?wait=55", "/events"] {
        let refused = server.get(path);
        let problem = refused.problem(503);
        assert!(refused.header("retry-after").is_some());
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("--max-connections-per-ip"), "{detail}");
    }
    waiting.extend([
        wait(OTHER, "/jobs/j?wait=55"),
        wait(OTHER, "/jobs/j?wait=55"),
    ]);
    eventually("five wait", || (server.active() == 5).then_some(()));
    let mut third = wait(OTHER, "/jobs/j?wait=55");
    let problem = third.reply(false).unwrap().problem(503);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("--max-connections)"), "{detail}");
    // Those that wait for nothing are answered all the same.
    server.get("/jobs/j").ok();
    server.get("/jobs/j?wait=0").ok();
    server
        .post("/jobs/j/progress", &json!({"progress": 1}))
        .ok();
    for (n, wire) in waiting.iter_mut().enumerate() {
        if n != 2 {
            assert_eq!(wire.reply(false).unwrap().ok()["progress"], 1);
        }
    }
    drop(waiting);
    eventually("all places are free", || {
        (server.active() == 0).then_some(())
    });
}

#[test]
fn requests_under_way_are_counted_by_address_and_in_all() {
    let server = Server::with(&["--max-requests", "3", "--max-requests-per-ip", "2"]);
    let begin = |from: IpAddr| {
        let mut wire = connect_from(&server, from);
        let head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n";
        wire.write(head.as_bytes());
        wire
    };
    let taken = || places(&server, "requests")["taken"].as_u64().unwrap() - 1;
    let mut begun = vec![begin(OTHER), begin(OTHER)];
    eventually("two are under way", || (taken() == 2).then_some(()));
    let mut third = begin(OTHER);
    let refused = third.reply(false).unwrap();
    let problem = refused.problem(503);
    assert!(refused.header("retry-after").is_some());
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("--max-requests-per-ip"), "{detail}");
    begun.push(begin(Ipv4Addr::new(127, 0, 0, 3).into()));
    // Now all are taken: a stream is not a request under way, but its opening is, and so is any other.
    let refused = eventually("all places are taken", || {
        let reply = server.get("/events/stats");
        (reply.status == 503).then_some(reply)
    });
    let detail = refused.problem(503)["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("--max-requests)"), "{detail}");
    // Whoever would restart it hears that it lives.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for wire in &mut begun {
        wire.write(b"{\"data\": 1}");
        wire.reply(false).unwrap().ok();
    }
    eventually("all places are free", || (taken() == 0).then_some(()));
    let requests = places(&server, "requests");
    assert_eq!(requests["refused_per_ip"], 1, "{requests}");
    let metrics = server.get("/metrics").text();
    for line in [
        "sse_places_taken{of=\"requests\"} 0",
        "sse_places_max{of=\"requests\"} 3",
        "sse_places_refused_total{of=\"requests\",by=\"ip\"} 1",
        "sse_places_max{of=\"sockets\"} 10003",
    ] {
        assert!(metrics.contains(line), "{line} is missing:\n{metrics}");
    }
}

#[test]
fn an_address_has_so_many_sockets_and_is_told_so() {
    let server = Server::with(&[
        "--max-connections-per-ip",
        "2",
        "--max-requests-per-ip",
        "3",
    ]);
    let mut idle: Vec<_> = (0..5).map(|_| connect_from(&server, OTHER)).collect();
    for wire in &mut idle {
        // Half of a request, without which the kernel keeps the connection to itself for a second.
        wire.write(b"GET /health HTTP/1.1\r\nHost: loc");
    }
    eventually("five sockets are open", || {
        (places(&server, "sockets")["taken"].as_u64()? >= 6).then_some(())
    });
    for _ in 0..3 {
        let mut wire = connect_from(&server, OTHER);
        wire.write(&server.bytes("GET", "/health", &[], None));
        let refused = wire.reply(false).unwrap();
        let problem = refused.problem(503);
        assert!(refused.header("retry-after").is_some());
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("5 sockets are open from this address"),
            "{detail}"
        );
        assert!(wire.is_ended());
    }
    server.get("/health").ok();
    assert_eq!(places(&server, "sockets")["refused_per_ip"], 3);
    // The others go on.
    for wire in &mut idle {
        wire.write(b"alhost\r\n\r\n");
        wire.reply(false).unwrap().ok();
    }
    drop(idle);
    eventually("their places are free", || {
        (places(&server, "sockets")["taken"] == 1).then_some(())
    });
}

#[test]
fn sockets_that_wait_give_way_and_publishers_get_in() {
    let flags = ["--max-connections", "10", "--max-requests", "10"];
    let server = Server::with(&[&flags[..], &["--max-connections-per-ip", "100"]].concat());
    let mut streams: Vec<_> = (0..10).map(|_| server.open("/events")).collect();
    let mut publisher = connect_from(&server, OTHER);
    let publish = |publisher: &mut Wire, n: u64| {
        let body = format!("{{\"data\": {n}}}");
        let headers = [("Connection", "keep-alive")];
        publisher.write(&server.bytes("POST", "/events", &headers, Some(body.as_bytes())));
        publisher.reply(false).unwrap().ok();
    };
    publish(&mut publisher, 0);
    // Many times as many sockets as there are places: nothing sent, or half of a request.
    let mut hostile = Vec::new();
    for n in 0..100_u8 {
        let mut wire = connect_from(&server, Ipv4Addr::new(127, 0, 1, n).into());
        if n.is_multiple_of(2) {
            wire.write(b"POST /events HTTP/1.1\r\nHost: localhost\r\n");
        }
        hostile.push(wire);
    }
    eventually("sockets have given way", || {
        (server.get("/events/stats").ok()["evicted_sockets"].as_u64()? >= 80).then_some(())
    });
    // One that has published before goes on, and new ones get in.
    publish(&mut publisher, 1);
    for n in 2..20 {
        server.publish(&json!({"data": n}));
    }
    for stream in &mut streams {
        for n in 0..20 {
            assert_eq!(stream.next().data, n.to_string());
        }
    }
    let sockets = places(&server, "sockets");
    assert_eq!(sockets["max"], 20);
    assert!(sockets["taken"].as_u64().unwrap() <= 20, "{sockets}");
    let closed = hostile.iter_mut().filter_map(|wire| {
        wire.socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let is_closed = matches!(std::io::Read::read(&mut wire.socket, &mut [0; 64]), Ok(0));
        is_closed.then_some(())
    });
    assert!(closed.count() >= 80);
    // A full house of streams is still one.
    let Err(refused) = server.try_open("/events", &[]) else {
        panic!("an eleventh stream was taken")
    };
    refused.problem(503);
}

#[test]
fn streams_that_end_give_their_sockets_places_back() {
    let server = Server::with(&["--max-connections", "4", "--max-requests", "4"]);
    for round in 0..5 {
        let mut streams: Vec<_> = (0..4).map(|_| server.open("/events")).collect();
        let taken = places(&server, "sockets")["taken"].as_u64().unwrap();
        assert_eq!(taken, 5, "round {round}: the streams and the one who asks");
        let id = streams[0].connection_id();
        let path = format!("/events/connections/{id}");
        server.request("DELETE", &path, &[], b"").ok();
        while streams[0].try_next().is_ok() {}
        // Its socket is there for other requests, and one that waits.
        let mut wire = streams.remove(0).into_wire();
        wire.write(&server.bytes("GET", "/health", &[], None));
        wire.reply(false).unwrap().ok();
        drop((streams, wire));
        eventually("all sockets are gone", || {
            (places(&server, "sockets")["taken"] == 1).then_some(())
        });
    }
    let stats = server.get("/events/stats").ok();
    assert_eq!(stats["places"]["sockets"]["refused"], 0);
    assert_eq!(stats["evicted_sockets"], 0);
}

/// Frames of HTTP/2 by hand, as no client leaves its server no room.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection whose client takes no byte of any answer, and that has asked for so many.
fn without_window(server: &Server, from: IpAddr, requests: u32) -> Wire {
    let mut wire = connect_from(server, from);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE of 0.
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for n in 0..requests {
        // `:method: GET`, `:scheme: http`, `:path` and `:authority` as they are (RFC 7541, appendix A).
        let mut head = vec![0x82, 0x86, 0x04, 7];
        head.extend(b"/health");
        head.extend([0x01, 9]);
        head.extend(b"localhost");
        // END_STREAM and END_HEADERS.
        bytes.extend(frame(1, 5, 2 * n + 1, &head));
    }
    wire.write(&bytes);
    wire
}

#[test]
fn answers_that_an_http_2_client_does_not_take_are_requests_under_way() {
    let server = Server::with(&["--max-requests-per-ip", "50", "--send-timeout", "60s"]);
    let begun = Instant::now();
    let _without_window: Vec<_> = (0..5).map(|_| without_window(&server, OTHER, 40)).collect();
    let requests = eventually("no more are taken from the one address", || {
        let requests = places(&server, "requests");
        (requests["refused_per_ip"].as_u64()? >= 100).then_some(requests)
    });
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(requests["taken"], 51, "and the one who asks: {requests}");
    server.get("/health").ok();
    server.publish(&json!({"data": 1}));
}
