//! How a socket may be used: old clients, shared connections, bodies in pieces, and every way to end.

use std::io::Write as _;
use std::time::Instant;

use serde_json::json;

use crate::client::{End, Stream, Wire, eventually};
use crate::server::Server;

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
fn a_body_may_come_in_pieces_and_after_a_question() {
    let server = Server::start();
    let mut stream = server.open("/events");
    let mut wire = Wire::connect(server.address);
    wire.write(b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["{\"da", "ta\": \"in pi", "eces\"}"] {
        wire.write(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    wire.write(b"0\r\n\r\n");
    let reply = wire.reply(false).unwrap();
    assert_eq!(
        (reply.status, reply.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(stream.next().data, "in pieces");

    // What curl does with large bodies.
    let mut wire = Wire::connect(server.address);
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
