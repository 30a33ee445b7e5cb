//! The end of a drain: it comes in time whatever clients do, and sooner when they do well.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Wire, eventually};
use crate::frames::WebSocket;
use crate::http2::Http2;
use crate::limits::with_small_buffers;
use crate::secure::Files;
use crate::server::Server;

const DRAIN: Duration = Duration::from_secs(3);
/// What a busy machine needs to end a process.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A server that lets nobody go by itself, so that only the drain ends what is stuck.
fn patient(flags: &[&str]) -> Server {
    let mut all = vec![
        "--drain-timeout",
        "3s",
        "--send-timeout",
        "60s",
        "--heartbeat",
        "0",
    ];
    all.extend_from_slice(flags);
    Server::with(&all)
}

/// Tells it to end, and says how long that takes.
#[track_caller]
fn ended(server: &mut Server) -> Duration {
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    begun.elapsed()
}

#[track_caller]
fn assert_in_time(server: &mut Server) {
    let took = ended(server);
    println!("it took {took:?}");
    assert!(took < DRAIN + TOLERANCE, "{took:?}");
}

fn publish_megabytes(server: &Server) {
    for _ in 0..16 {
        let events: Vec<_> = (0..16)
            .map(|_| json!({"data": "x".repeat(32 << 10)}))
            .collect();
        server.publish(&json!(events));
    }
}

fn stuck_readers(server: &Server) -> Vec<Wire> {
    let readers: Vec<_> = (0..10)
        .map(|_| with_small_buffers(server, 4 << 10))
        .collect();
    eventually("they are connected", || {
        (server.active() >= 10).then_some(())
    });
    readers
}

fn shut_windows(server: &Server) -> Vec<Http2> {
    let clients = (0..3).map(|_| {
        let mut client = Http2::connect(server, 0);
        for n in 0..5 {
            client.get(4 * n + 1, "/events");
            client.get(4 * n + 3, "/events/poll?after=earliest");
        }
        client
    });
    clients.collect()
}

fn half_requests(server: &Server) -> Vec<Wire> {
    let halves = [
        "GET /events HTTP/1.1\r\nHost: loc",
        "GET /livez HTTP/1.1\r\n",
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        // An answered one before it.
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /jobs HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
    ];
    let sent = halves.iter().map(|half| {
        let mut wire = Wire::connect(server.address);
        wire.write(half.as_bytes());
        wire
    });
    sent.collect()
}

#[test]
fn readers_that_take_nothing_do_not_delay_the_end() {
    let mut server = patient(&[]);
    let _readers = stuck_readers(&server);
    publish_megabytes(&server);
    assert_in_time(&mut server);
    assert!(server.stderr().contains("were cut"), "{}", server.stderr());
}

#[test]
fn shut_windows_do_not_delay_the_end() {
    let mut server = patient(&[]);
    server.publish(&json!({"data": 1}));
    let _clients = shut_windows(&server);
    eventually("they are connected", || {
        (server.active() == 15).then_some(())
    });
    assert_in_time(&mut server);
}

#[test]
fn half_sent_requests_do_not_delay_the_end() {
    let mut server = patient(&[]);
    let _wires = half_requests(&server);
    // Those that were accepted before this have been read.
    server.publish(&json!({"data": 1}));
    assert_in_time(&mut server);
}

#[test]
fn websockets_that_never_answer_do_not_delay_the_end() {
    let mut server = patient(&[]);
    let sockets: Vec<_> = (0..5).map(|_| WebSocket::open(&server, "")).collect();
    // Others say something and stop in the middle of it.
    let mut half = WebSocket::open(&server, "");
    half.wire.write(&[0x81, 0xfe, 0x10, 0x00, 1, 2, 3, 4, 5]);
    publish_megabytes(&server);
    assert_in_time(&mut server);
    drop((sockets, half));
}

#[test]
fn handshakes_and_streams_over_tls_do_not_delay_the_end() {
    let files = Files::new();
    let (certificate, key) = (files.certificate(), files.key());
    let mut server = patient(&[
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ]);
    let connect = || TcpStream::connect(server.address).unwrap();
    let mut silent = connect();
    silent.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    let _only_connected = connect();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut streams = Vec::new();
    for protocol in [&b"http/1.1"[..], b"http/1.1", b"h2"] {
        let client = files.client(protocol);
        let session = rustls::ClientConnection::new(client, name.clone()).unwrap();
        streams.push(rustls::StreamOwned::new(session, connect()));
    }
    let [stuck, idle, http_2] = &mut streams[..] else {
        unreachable!("three were made")
    };
    // Neither reads what it asked for.
    stuck
        .write_all(b"GET /events?last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    http_2
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    assert_in_time(&mut server);
}

/// All of them at once, and publishers that go on as long as they are answered.
#[test]
fn the_end_comes_in_time_whatever_clients_do() {
    let folder = crate::server::folder();
    let mut server = Server::on_disk(
        folder.path(),
        &["--drain-timeout", "3s", "--send-timeout", "60s"],
    );
    let readers = stuck_readers(&server);
    let clients = shut_windows(&server);
    let wires = half_requests(&server);
    let sockets: Vec<_> = (0..5).map(|_| WebSocket::open(&server, "")).collect();
    publish_megabytes(&server);
    let took = std::thread::scope(|scope| {
        let publisher = {
            let body = json!({"data": "x".repeat(1000)}).to_string();
            let headers = [("Connection", "keep-alive")];
            let request = server.bytes("POST", "/events", &headers, Some(body.as_bytes()));
            let address = server.address;
            move || {
                let mut answered = 0;
                while let Ok(mut socket) = TcpStream::connect(address) {
                    while socket.write_all(&request).is_ok() {
                        let mut wire = Wire::from_socket(socket.try_clone().unwrap());
                        match wire.reply_or_cut().map(|reply| reply.status) {
                            Some(200) => answered += 1,
                            Some(503) | None => return answered,
                            Some(status) => panic!("{status}"),
                        }
                    }
                }
                answered
            }
        };
        let publishers: Vec<_> = (0..4).map(|_| scope.spawn(publisher.clone())).collect();
        std::thread::sleep(Duration::from_millis(300));
        let took = ended(&mut server);
        for publisher in publishers {
            assert!(publisher.join().unwrap() > 0);
        }
        took
    });
    println!("it took {took:?}");
    assert!(took < DRAIN + TOLERANCE, "{took:?}");
    drop((readers, clients, wires, sockets));
}

#[test]
fn a_request_under_way_gets_its_answer_and_the_end_comes_with_that() {
    let mut server = Server::with(&["--drain-timeout", "20s"]);
    let mut wire = Wire::connect(server.address);
    wire.write(
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"da",
    );
    let mut idle = Wire::connect(server.address);
    idle.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.reply(false).unwrap().text(), "ok\n");
    let begun = Instant::now();
    server.signal("TERM");
    assert!(!idle.fill(), "a connection without a request is closed");
    // Longer than anything else takes here.
    std::thread::sleep(Duration::from_secs(4));
    wire.write(b"ta\": 1}");
    // Events are no longer taken, and it hears so.
    wire.reply(false).unwrap().problem(503);
    assert_eq!(server.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn without_clients_a_drain_is_over_at_once() {
    let mut server = Server::with(&["--drain-timeout", "60s"]);
    let took = ended(&mut server);
    assert!(took < Duration::from_secs(2), "{took:?}");
}
