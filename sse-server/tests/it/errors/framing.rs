//! Requests that two readers of a connection could understand differently: none of them is carried out, and nothing behind them
//! is taken for a request.

use crate::client::Wire;
use crate::server::Server;

/// What a smuggler would like to have carried out.
const SMUGGLED: &str =
    "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19\r\n\r\n{\"data\":\"smuggled\"}";
const EVENT: &str = "{\"data\":\"carried\"}\n";

/// Sends it with a smuggled request behind it, and gives the status of each answer until the connection ends.
fn answers(server: &Server, request: &str) -> Vec<u16> {
    let mut wire = Wire::connect(server.address);
    wire.write(request.as_bytes());
    use std::io::Write as _;
    // It may be closed by now.
    let _ = wire.socket.write_all(SMUGGLED.as_bytes());
    let mut statuses = Vec::new();
    while let Some(reply) = wire.reply(false) {
        statuses.push(reply.status);
    }
    statuses
}

#[test]
fn a_request_whose_end_is_in_doubt_is_refused_and_its_connection_closed() {
    let server = Server::start();
    let before = server.head();
    let chunks = format!("{:x}\r\n{EVENT}\r\n0\r\n\r\n", EVENT.len());
    let length = EVENT.len();
    for head in [
        format!("Content-Length: {length}\r\nContent-Length: {}", length + 1),
        format!("Content-Length: {length}, {}", length + 1),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: gzip, chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        format!("Content-Length: +{length}"),
        format!("Content-Length: 0x{length:x}"),
        "Content-Length: 18446744073709551616".to_owned(),
    ] {
        let request = format!("POST /events HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{chunks}");
        let answers = answers(&server, &request);
        assert!(
            answers.is_empty() || answers == [400],
            "{head}: {answers:?}"
        );
        assert_eq!(server.head(), before, "{head} was carried out");
    }
}

/// RFC 9112, section 6.1: the length is what the chunks say, and the connection ends. hyper does not show a `Content-Length` that
/// stands beside a `Transfer-Encoding`, so every connection ends behind a body in chunks.
#[test]
fn nothing_behind_a_chunked_body_is_taken_for_a_request() {
    let server = Server::start();
    let mut stream = server.open("/events");
    let chunks = format!("{:x}\r\n{EVENT}\r\n0\r\n\r\n", EVENT.len());
    for head in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
    ] {
        let request = format!("POST /events HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{chunks}");
        assert_eq!(answers(&server, &request), [200], "{head}");
        assert_eq!(stream.next().data, "carried");
    }
    server.assert_nothing_came(&mut [&mut stream], "message");
}

#[test]
fn a_host_in_doubt_is_refused() {
    let server = Server::start();
    for (target, headers, status) in [
        ("/livez", "Host: localhost:abc\r\n", 400),
        ("/livez", "Host: evil@localhost\r\n", 400),
        ("/livez", "Host: localhost\r\nHost: localhost\r\n", 400),
        ("/livez", "Host: localhost\r\nHost: evil.example\r\n", 400),
        ("/livez", "Host: local host\r\n", 400),
        ("/livez", "Host:\r\n", 400),
        ("/livez", "", 400),
        ("/livez", "Host: evil.example\r\n", 421),
        // The target's authority is what counts (RFC 9112, section 3.2.2), and the two must agree.
        ("http://evil.example/livez", "Host: localhost\r\n", 400),
        ("http://localhost/livez", "Host: evil.example\r\n", 400),
        ("http://evil.example/livez", "Host: evil.example\r\n", 421),
        ("http://evil@localhost/livez", "Host: localhost\r\n", 400),
        ("http://localhost:81/livez", "Host: localhost\r\n", 400),
        ("http://localhost/livez", "", 400),
        ("http://localhost/livez", "Host: localhost\r\n", 200),
        ("http://LOCALHOST:80/livez", "Host: localhost:80\r\n", 200),
        ("/livez", "Host: localhost\r\n", 200),
    ] {
        let mut wire = Wire::connect(server.address);
        wire.write(format!("GET {target} HTTP/1.1\r\n{headers}\r\n").as_bytes());
        let reply = wire.reply(false).map(|reply| reply.status);
        assert_eq!(reply, Some(status), "{target} with {headers:?}");
    }
}

#[test]
fn heads_with_controls_or_without_end_are_refused() {
    let server = Server::start();
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = "x".repeat(15 << 10);
    for (request, statuses) in [
        (
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\x01b\r\n\r\n".to_owned(),
            &[400][..],
        ),
        (
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\x7fb\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX\x0b: a\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "GET /livez\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
            &[431],
        ),
        (
            format!("GET /livez?_={long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            &[414],
        ),
        (
            format!("GET /livez?_={long}{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            &[414, 431],
        ),
    ] {
        let mut wire = Wire::connect(server.address);
        wire.write(request.as_bytes());
        let shown = &request[..request.len().min(80)];
        let reply = wire
            .reply(false)
            .unwrap_or_else(|| panic!("no answer to {shown:?}"));
        assert!(statuses.contains(&reply.status), "{shown:?}: {reply:?}");
    }
    let problem = server.get(&format!("/livez?_={long}")).problem(414);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("14336 are taken"), "{detail}");
}
