//! What the hub says that it holds, account by account, held against what the process takes.
//!
//! Each test fills one kind and compares how much the process has grown with how much the sum of all gauges has.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{ALONE, Server};

/// How far the two may be apart.
const TOLERANCE: f64 = 0.25;
/// What a first use of anything takes once, in KiB: code that had not run, and what an allocator gets at a time.
const ONCE_KIB: f64 = 2_048.0;

/// A server whose growth is looked at.
struct Watched {
    server: Server,
    process_kib: f64,
    gauges_kib: f64,
}

impl Watched {
    fn start(args: &[&str]) -> Self {
        let limits = ["--memory", "640MiB"];
        Self::watch(Server::start_with(&[&limits, args].concat()))
    }

    fn watch(server: Server) -> Self {
        // What a first request and a first event set up.
        server.publish(1);
        server.settle();
        Self {
            process_kib: server.pss_kib(),
            gauges_kib: gauges_kib(&server),
            server,
        }
    }

    /// Asserts that the process and its gauges have grown alike, and by so much at least.
    #[track_caller]
    fn assert_grown(&self, what: &str, at_least_kib: f64) {
        self.server.settle();
        let process = self.server.pss_kib() - self.process_kib;
        let gauges = gauges_kib(&self.server) - self.gauges_kib;
        println!("{what}: the process takes {process:.0} KiB more, the gauges say {gauges:.0}");
        let metrics = self.server.get("/metrics");
        let held = metrics
            .lines()
            .filter(|line| line.starts_with("sse_memory_held_bytes{"));
        held.for_each(|line| println!("  {line}"));
        assert!(gauges >= at_least_kib, "{what}: {gauges} KiB are said");
        let apart = (gauges - process).abs();
        assert!(
            apart <= TOLERANCE * process + ONCE_KIB,
            "{what}: {process} KiB are taken, {gauges} said"
        );
    }

    fn post(&self, path: &str, body: &str) -> String {
        let length = body.len();
        let answer = self.server.ask(
            &format!(
                "POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}"
            ),
            body,
        );
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        answer
    }
}

/// The sum of all gauges.
fn gauges_kib(server: &Server) -> f64 {
    let metrics = server.get("/metrics");
    let held = metrics
        .lines()
        .filter(|line| line.starts_with("sse_memory_held_bytes{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    held.sum::<f64>() / 1024.0
}

/// A JSON array of so many events.
fn events(count: usize, event: impl Fn(usize) -> String) -> String {
    let events: Vec<String> = (0..count).map(event).collect();
    format!("[{}]", events.join(","))
}

fn long_topics(from: usize) -> String {
    let names: Vec<String> = (from..from + 64)
        .map(|n| format!("\"{n:0>1000}\""))
        .collect();
    names.join(",")
}

const EPHEMERAL: &[&str] = &[
    "--ephemeral",
    "--window",
    "32MiB",
    "--retention-size",
    "64MiB",
];

#[test]
fn window_and_log_of_small_events() {
    let _alone = ALONE.lock();
    let watched = Watched::start(EPHEMERAL);
    for _ in 0..600 {
        let body = events(500, |n| format!(r#"{{"data":{n}}}"#));
        watched.post("/events?receipts=last", &body);
    }
    watched.assert_grown("300,000 small events", 60_000.0);
}

#[test]
fn window_and_log_of_events_with_many_long_topics() {
    let _alone = ALONE.lock();
    for (what, is_same, least) in [("equal", true, 2_000.0), ("different", false, 60_000.0)] {
        let watched = Watched::start(EPHEMERAL);
        for request in 0..150 {
            let body = events(10, |n| {
                let from = if is_same { 0 } else { (request * 10 + n) * 64 };
                format!(r#"{{"data":1,"topics":[{}]}}"#, long_topics(from))
            });
            watched.post("/events", &body);
        }
        watched.assert_grown(&format!("1,500 events with 64 {what} topics"), least);
    }
}

#[test]
fn window_and_log_of_large_events_with_ids_and_owners() {
    let _alone = ALONE.lock();
    let watched = Watched::start(EPHEMERAL);
    let data = "x".repeat(100 << 10);
    for n in 0..1_200 {
        watched.post(
            "/events",
            &format!(r#"{{"data":"{data}","id":"large-{n}","user_id":"u{n}"}}"#),
        );
    }
    watched.assert_grown("1,200 events of 100 KiB", 70_000.0);
}

#[test]
fn window_and_log_in_every_format() {
    let _alone = ALONE.lock();
    let watched = Watched::start(EPHEMERAL);
    let mut readers: Vec<TcpStream> = ["/sse?compression=none", "/events?compression=gzip"]
        .iter()
        .enumerate()
        .map(|(n, path)| watched.server.open_path(path, n))
        .collect();
    readers.push(websocket(&watched.server, 7));
    for _ in 0..40 {
        let data = "x".repeat(1 << 10);
        let body = events(500, |n| format!(r#"{{"data":"{data}{n}"}}"#));
        watched.post("/events?receipts=last", &body);
        for reader in &mut readers {
            reader.set_nonblocking(true).unwrap();
            while super::read_what_is_there(reader) > 0 {}
        }
    }
    watched.assert_grown("20,000 events, read in four formats", 40_000.0);
}

#[test]
fn the_log_on_disk() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let server = Server::start_on(&[
        "--memory",
        "640MiB",
        "--data-dir",
        folder,
        "--durability",
        "os",
    ]);
    let watched = Watched::watch(server);
    let data = "x".repeat(1 << 10);
    for round in 0..100 {
        let body = events(1_000, |n| {
            format!(r#"{{"data":"{data}","id":"{round}-{n}"}}"#)
        });
        watched.post("/events?receipts=last", &body);
    }
    watched.assert_grown("100,000 events of 1 KiB on disk", 40_000.0);
}

#[test]
fn bodies_that_arrive_slowly() {
    let _alone = ALONE.lock();
    let watched = Watched::start(&["--ephemeral", "--max-body", "4MiB"]);
    let bodies: Vec<TcpStream> = (0..6)
        .map(|number| {
            let mut socket = watched.server.connect(number);
            let bytes = 3_500_000;
            let host = watched.server.address;
            let head = format!("POST /events HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n");
            socket.write_all(head.as_bytes()).unwrap();
            socket.write_all(&vec![b' '; bytes - 1]).unwrap();
            socket
        })
        .collect();
    watched.assert_grown("6 bodies of 3.5 MB", 18_000.0);
    drop(bodies);
}

#[test]
fn jobs_of_many_small_values() {
    let _alone = ALONE.lock();
    let watched = Watched::start(&["--ephemeral"]);
    let values = |of: &str, count: usize| {
        let values = vec![of; count];
        format!("[{}]", values.join(","))
    };
    for n in 0..60 {
        watched.post("/jobs", &format!(r#"{{"job_id":"j{n}"}}"#));
        let result = match n % 3 {
            0 => values("1", 10_000),
            1 => values(r#"{"a":1,"b":"c"}"#, 2_000),
            _ => values(r#""text""#, 4_000),
        };
        watched.post(
            &format!("/jobs/j{n}/complete"),
            &format!(r#"{{"result":{result}}}"#),
        );
    }
    watched.assert_grown("60 jobs with results of many values", 4_000.0);
}

#[test]
fn selectors_and_patterns() {
    let _alone = ALONE.lock();
    let watched = Watched::start(&["--ephemeral"]);
    let streams: Vec<TcpStream> = (0..400)
        .map(|number| {
            let topics: Vec<String> = (0..60)
                .map(|n| format!("topic=own/{number:0>100}/{n}"))
                .collect();
            let path = format!("/events?{}", topics.join("&"));
            watched.server.open_path(&path, number)
        })
        .collect();
    watched.assert_grown("400 streams of 60 topics each", 6_000.0);
    let patterns = Watched::start(&["--ephemeral"]);
    let more: Vec<TcpStream> = (0..100)
        .map(|number| {
            let topics: Vec<String> = (0..60)
                .map(|n| format!("topic=own/{number:0>100}/:id/{n}/*"))
                .collect();
            let path = format!("/events?{}", topics.join("&"));
            patterns.server.open_path(&path, number)
        })
        .collect();
    patterns.assert_grown("100 streams of 60 patterns each", 3_000.0);
    drop((streams, more));
}

#[test]
fn encoders_of_compressed_streams() {
    let _alone = ALONE.lock();
    let watched = Watched::start(&[
        "--ephemeral",
        "--stream-compression",
        "64MiB",
        "--window",
        "1MiB",
        "--retention-size",
        "1MiB",
    ]);
    let mut streams: Vec<TcpStream> = (0..60)
        .map(|number| {
            let mut socket = watched.server.connect(number);
            let host = watched.server.address;
            let request = format!("GET /events?topic=t&topic=own/{number} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n");
            socket.write_all(request.as_bytes()).unwrap();
            let mut first = [0; 1024];
            let read = socket.read(&mut first).unwrap();
            assert!(String::from_utf8_lossy(&first[..read]).contains("gzip"));
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    for round in 0..20 {
        let data: String = (0..4_000)
            .map(|n| format!("{:x}", n * 2_654_435_761_u64 + round))
            .collect();
        watched.post("/events", &format!(r#"{{"topic":"t","data":"{data}"}}"#));
        std::thread::sleep(std::time::Duration::from_millis(20));
        for stream in &mut streams {
            while super::read_what_is_there(stream) > 0 {}
        }
    }
    watched.assert_grown("60 compressed streams", 25_000.0);
}

#[test]
fn answers_that_nobody_reads() {
    let _alone = ALONE.lock();
    let watched = Watched::start(&["--ephemeral", "--send-timeout", "60s"]);
    let data = "x".repeat(10_000);
    watched.post(
        "/events",
        &events(100, |_| format!(r#"{{"data":"{data}"}}"#)),
    );
    let watched = Watched::watch(watched.server);
    let position = "earliest";
    let waiting: Vec<TcpStream> = (0..40)
        .map(|number| {
            let mut socket = watched.server.connect_small(number);
            let host = watched.server.address;
            let request = format!(
                "GET /events/poll?after={position}&limit=1000 HTTP/1.1\r\nHost: {host}\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).unwrap();
            socket
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_secs(2));
    watched.assert_grown("40 answers of 1 MB", 8_000.0);
    drop(waiting);
}

#[test]
fn connections_of_every_kind() {
    let _alone = ALONE.lock();
    let keep_alive = Watched::start(&["--ephemeral"]);
    let count = 1_500;
    let idle: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut socket = keep_alive.server.connect(number);
            let request = format!(
                "GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n",
                keep_alive.server.address
            );
            socket.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 512];
            assert!(socket.read(&mut answer).unwrap() > 0);
            socket
        })
        .collect();
    keep_alive.assert_grown("idle connections", 5_000.0);
    drop(idle);

    let sockets = Watched::start(&["--ephemeral"]);
    let open: Vec<TcpStream> = (0..count)
        .map(|number| websocket(&sockets.server, number))
        .collect();
    sockets.assert_grown("WebSockets", 5_000.0);
    drop(open);

    let http_2 = Watched::start(&["--ephemeral"]);
    let open: Vec<TcpStream> = (0..600)
        .map(|number| http_2_stream(&http_2.server, number))
        .collect();
    http_2.assert_grown("streams over HTTP/2", 5_000.0);
    drop(open);

    let streams = Watched::start(&["--ephemeral"]);
    let open: Vec<TcpStream> = (0..10_000)
        .map(|number| {
            streams
                .server
                .open_path(&format!("/events?topic=own/{number}"), number)
        })
        .collect();
    streams.assert_grown("streams", 4_000.0);
    drop(open);
}

#[test]
fn connections_over_tls() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let server = Server::start_with(&[
        "--ephemeral",
        "--memory",
        "640MiB",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ]);
    let open = |number: usize, path: &str| {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&client), name).unwrap();
        let mut stream = StreamOwned::new(connection, server.connect(number));
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let mut space = [0; 4096];
        while !answer.contains("\r\n\r\n")
            || path != "/events" && !answer.contains("sse_memory_refused_total{account=\"log\"}")
        {
            let read = stream.read(&mut space).unwrap();
            answer.push_str(&String::from_utf8_lossy(&space[..read]));
        }
        (stream, answer)
    };
    let gauges = || {
        let (_, metrics) = open(9_999, "/metrics");
        let held = metrics
            .lines()
            .filter(|line| line.starts_with("sse_memory_held_bytes{"));
        held.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
            / 1024.0
    };
    drop(open(0, "/events"));
    server.settle();
    let (process, said) = (server.pss_kib(), gauges());
    let streams: Vec<_> = (0..2_000).map(|number| open(number, "/events").0).collect();
    server.settle();
    let (process, said) = (server.pss_kib() - process, gauges() - said);
    println!("streams over TLS: the process takes {process:.0} KiB more, the gauges say {said:.0}");
    assert!((said - process).abs() <= TOLERANCE * process + ONCE_KIB);
    drop(streams);
}

/// A WebSocket whose handshake is answered.
fn websocket(server: &Server, number: usize) -> TcpStream {
    let mut socket = server.connect(number);
    let request = format!(
        "GET /events/ws HTTP/1.1\r\nHost: {}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let read = socket.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 101"));
    socket
}

/// A connection that speaks HTTP/2 from the beginning, with one stream of events on it.
fn http_2_stream(server: &Server, number: usize) -> TcpStream {
    let mut socket = server.connect(number);
    let host = server.address.to_string();
    // RFC 7541: indexed GET and http, then :path and :authority as literals.
    let mut headers = vec![0x82, 0x86];
    for (name, value) in [(0x04, "/events"), (0x01, host.as_str())] {
        headers.extend([name, u8::try_from(value.len()).unwrap()]);
        headers.extend(value.as_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([0, 0, u8::try_from(headers.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend(headers);
    socket.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    let mut space = [0; 1024];
    while !answer.windows(7).any(|part| part == b"event: ") {
        let read = socket.read(&mut space).unwrap();
        assert!(read > 0, "the connection ended");
        answer.extend_from_slice(&space[..read]);
    }
    socket
}
