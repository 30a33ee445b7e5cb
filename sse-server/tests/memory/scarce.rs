//! When an account is full, what only stands there gives way: others get their turn within seconds, not when a time-out of half a
//! minute is over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::{ALONE, Server};

/// Enough for some fifty connections at once.
const LITTLE: &[&str] = &[
    "--ephemeral",
    "--memory",
    "10MiB",
    "--max-connections",
    "64",
    "--send-timeout",
    "60s",
];
/// Less than any time-out of the hub. What stands still has two seconds, and is looked at once a second; a busy machine has more.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn connections_that_wait_for_a_request_give_way_to_others() {
    let _alone = ALONE.lock();
    let server = Server::start_bare(LITTLE);
    let mut held = Vec::new();
    let mut refused = None;
    while refused.is_none() {
        assert!(held.len() < 150, "the account is never full");
        let mut socket = server.connect(held.len());
        match ask(&mut socket, &get(&server, "/livez")) {
            Some(200) => held.push(socket),
            status => refused = Some(status),
        }
    }
    assert_eq!(refused, Some(Some(503)));
    std::thread::sleep(Duration::from_millis(1_100));
    for number in 150..170 {
        let mut socket = server.connect(number);
        let status = ask(&mut socket, &get(&server, "/livez"));
        assert_eq!(status, Some(200), "of connection {number}");
        held.push(socket);
    }
    // Those that had waited longest are closed, and the newest are there.
    assert!(is_closed(&mut held[0]));
    let last = held.last_mut().expect("a socket");
    assert_eq!(ask(last, &get(&server, "/livez")), Some(200));
}

#[test]
fn bodies_that_stand_still_give_way_to_others() {
    let _alone = ALONE.lock();
    let server = Server::start_bare(LITTLE);
    let begun = publish(&server, 200_000, b"\"half of it");
    let mut held = fill(&server, &begun);
    let mut small = server.connect(999);
    let whole = publish(&server, 12, b"{\"data\":\"1\"}");
    let waited = answered(&mut small, &whole, || server.connect(999));
    assert!(waited < SOON, "after {waited:?}");
    // Where there is room again, a slow body has all its time.
    held.clear();
    let mut slow = server.connect(998);
    slow.write_all(&publish(&server, 12, b"{\"data\"")).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(ask(&mut slow, b":\"1\"}"), Some(200));
}

#[test]
fn answers_that_nobody_takes_give_way_to_others() {
    let _alone = ALONE.lock();
    let server = Server::start_bare(LITTLE);
    let event = format!("{{\"data\":\"{}\"}}", "x".repeat(30_000));
    for number in 0..8 {
        let mut socket = server.connect(number);
        let request = publish(&server, event.len(), event.as_bytes());
        assert_eq!(ask(&mut socket, &request), Some(200));
    }
    // More than the system takes of it before the client does, and few enough that nothing goes on for long.
    let polls = get(&server, "/events/poll?after=earliest").repeat(8);
    let _held = fill(&server, &polls);
    let waited = answered(
        &mut server.connect(999),
        &get(&server, "/events/poll?after=earliest"),
        || server.connect(999),
    );
    assert!(waited < SOON, "after {waited:?}");
}

/// Sockets that have sent this, from an address each, and take nothing.
fn fill(server: &Server, request: &[u8]) -> Vec<TcpStream> {
    let sockets = (0..120).map(|number| {
        let mut socket = server.connect_small(number);
        let _ = socket.set_write_timeout(Some(Duration::from_millis(200)));
        // Whoever is refused may find the connection closed.
        let _ = socket.write_all(request);
        socket
    });
    let sockets = sockets.collect();
    std::thread::sleep(Duration::from_millis(600));
    sockets
}

/// How long it took until this was answered with 200, however often it was to be asked for.
fn answered(socket: &mut TcpStream, request: &[u8], connect: impl Fn() -> TcpStream) -> Duration {
    let begun = Instant::now();
    let mut status = ask(socket, request);
    while status != Some(200) && begun.elapsed() < 2 * SOON {
        std::thread::sleep(Duration::from_millis(100));
        status = ask(&mut connect(), request);
    }
    assert_eq!(status, Some(200), "after {:?}", begun.elapsed());
    begun.elapsed()
}

fn get(server: &Server, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).into_bytes()
}

/// A publication of so many bytes, of which these are sent.
fn publish(server: &Server, length: usize, begin: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
        server.address
    );
    [head.as_bytes(), begin].concat()
}

/// The status of the answer.
fn ask(socket: &mut TcpStream, request: &[u8]) -> Option<u16> {
    let _ = socket.set_read_timeout(Some(Duration::from_secs(20)));
    let _ = socket.write_all(request);
    let mut answer = vec![0; 64 << 10];
    let length = socket.read(&mut answer).ok()?;
    let head = String::from_utf8_lossy(&answer[..length]).into_owned();
    head.get(9..12)?.parse().ok()
}

fn is_closed(socket: &mut TcpStream) -> bool {
    matches!(socket.read(&mut [0; 1024]), Ok(0) | Err(_))
}
