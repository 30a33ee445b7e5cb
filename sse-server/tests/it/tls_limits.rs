//! HTTPS at its limits: what a stream costs, what garbage costs, and what a client may not do over HTTP/2.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use sse_server::hub::{Hub, HubConfig};
use sse_server::serve::{ServerConfig, StreamWriter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::eventually;
use crate::http2::frame;
use crate::limits::memory_kib;
use crate::secure::{Files, GET, Secure, ask, body_until, soon, until};
use crate::server::Server;

/// The real binary behind a certificate.
struct SecureProcess {
    files: Files,
    server: Server,
}

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

impl SecureProcess {
    fn with(flags: &[&str]) -> Self {
        let files = Files::new();
        let (certificate, key) = (files.certificate(), files.key());
        let mut all = vec![
            "--tls-cert",
            certificate.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ];
        all.extend_from_slice(flags);
        let server = Server::with(&all);
        Self { files, server }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.address.port())
    }

    fn connect(&self) -> TlsClient {
        let config = self.files.client(b"http/1.1");
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(config, name).unwrap();
        StreamOwned::new(session, TcpStream::connect(self.server.address).unwrap())
    }

    /// Opens a stream and reads its first event.
    fn open(&self) -> TlsClient {
        let mut client = self.connect();
        client.write_all(GET.as_bytes()).unwrap();
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains("event: connected") {
            let mut space = [0; 4096];
            let count = client.read(&mut space).unwrap();
            assert!(count > 0, "it ended before the first event");
            read.extend_from_slice(&space[..count]);
        }
        client
    }

    /// Everything of one answer, after its head.
    fn get(&self, path: &str) -> String {
        let mut client = self.connect();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn active(&self) -> u64 {
        let stats: serde_json::Value = serde_json::from_str(&self.get("/events/stats")).unwrap();
        stats["active_connections"].as_u64().unwrap()
    }

    fn curl(&self, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-N", "--cacert"])
            .arg(self.files.certificate())
            .args(["--resolve"])
            .arg(format!(
                "localhost:{}:127.0.0.1",
                self.server.address.port()
            ))
            .args(arguments);
        curl
    }
}

/// What an idle stream over TLS may cost. 8.9 KiB were measured at 10,000, of which rustls takes 4 for what it
/// might read.
const MAX_BYTES_PER_IDLE_STREAM: u64 = 10 << 10;

/// Opens so many streams, and gives what each takes of the server's memory, in bytes.
fn cost_of_idle_streams(count: u64) -> u64 {
    let server = SecureProcess::with(&[
        "--max-connections",
        "15000",
        "--max-connections-per-ip",
        "15000",
        "--heartbeat",
        "0",
        "--log",
        "error",
    ]);
    // The first ones fill what all share.
    drop((0..32).map(|_| server.open()).collect::<Vec<_>>());
    eventually("they are gone", || (server.active() == 0).then_some(()));
    let before = memory_kib(&server.server);
    let streams: Vec<_> = (0..count).map(|_| server.open()).collect();
    assert_eq!(server.active(), count);
    // What the last handshakes needed goes when the server has come to it.
    let enough = before + count * MAX_BYTES_PER_IDLE_STREAM / 1024;
    let mut after = memory_kib(&server.server);
    for _ in 0..50 {
        if after <= enough {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        after = after.min(memory_kib(&server.server));
    }
    drop(streams);
    let each = after.saturating_sub(before) * 1024 / count;
    println!(
        "{count} idle streams over TLS: {before} KiB before, {after} KiB with them, {each} bytes each"
    );
    each
}

#[test]
fn an_idle_stream_over_tls_costs_ten_kib_at_most() {
    assert!(cost_of_idle_streams(500) <= MAX_BYTES_PER_IDLE_STREAM);
}

#[test]
#[ignore = "ten thousand handshakes: cargo test --release -p sse-server --test it -- --ignored --nocapture ten_thousand"]
fn each_of_ten_thousand_idle_streams_costs_ten_kib_at_most() {
    assert!(cost_of_idle_streams(10_000) <= MAX_BYTES_PER_IDLE_STREAM);
}

/// What lands on an open port: scans, other protocols, handshakes that break off.
fn send_garbage(server: &SecureProcess, rounds: usize) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(server.files.client(b"h2"), name)
        .unwrap()
        .write_tls(&mut hello)
        .unwrap();
    let kinds: [&[u8]; 8] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        // A record that announces more than any may have.
        &[22, 3, 1, 0xff, 0xff, 1, 2, 3],
        &[0; 3000],
        &hello[..1],
        &hello[..hello.len() / 2],
        // A whole one, after which nothing comes.
        &hello,
    ];
    let mut open = Vec::new();
    for n in 0..rounds {
        let mut socket = TcpStream::connect(server.server.address).unwrap();
        // The server may have closed it already.
        let _ = socket.write_all(kinds[n % kinds.len()]);
        open.push(socket);
        // Most leave at once, some stay, and there are never more of those than this.
        if open.len() > 100 {
            open.clear();
        }
    }
}

#[test]
fn a_thousand_clients_that_speak_no_tls_leave_no_trace() {
    let server = SecureProcess::with(&["--log", "error"]);
    let mut reader = server.open();
    send_garbage(&server, 400);
    assert_eq!(server.active(), 1);
    // An allocator takes pages when it likes, once or twice; a leak grows in every round.
    let mut grown_kib = Vec::new();
    for _ in 0..4 {
        let before = memory_kib(&server.server);
        send_garbage(&server, 1000);
        assert_eq!(server.active(), 1);
        grown_kib.push(memory_kib(&server.server).saturating_sub(before));
        if grown_kib.last() < Some(&128) {
            break;
        }
    }
    assert!(
        grown_kib.last() < Some(&128),
        "a thousand of them took {grown_kib:?} KiB, round after round"
    );
    assert_eq!(server.server.stderr(), "");
    // The reader who was there all the time has missed nothing.
    let status = server
        .curl(&["-d", "{\"data\": \"still here\", \"topic\": \"a\"}"])
        .args(["-H", "content-type: application/json", "-o", "/dev/null"])
        .arg(server.url("/events"))
        .status()
        .unwrap();
    assert!(status.success());
    let mut read = String::new();
    while !read.contains("data: still here") {
        let mut space = [0; 4096];
        let count = reader.read(&mut space).unwrap();
        assert!(count > 0);
        read.push_str(&String::from_utf8_lossy(&space[..count]));
    }
}

#[test]
fn curl_reads_a_stream_over_both_versions_and_both_versions_of_tls() {
    let server = SecureProcess::with(&[]);
    for version in [
        ["--http1.1", "--tls-max", "1.2"],
        ["--http1.1", "--tlsv1.3", "--compressed"],
        ["--http2", "--tls-max", "1.2"],
        ["--http2", "--tlsv1.3", "--compressed"],
    ] {
        let mut curl = server.curl(&version);
        curl.args(["-D", "/dev/stderr"])
            .arg(server.url("/events"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut curl = curl.spawn().unwrap();
        let mut out = curl.stdout.take().unwrap();
        let mut read = String::new();
        let mut read_until = |text: &str| {
            while !read.contains(text) {
                let mut space = [0; 4096];
                let count = out.read(&mut space).unwrap();
                assert!(count > 0, "{version:?} ended with {read}");
                read.push_str(&String::from_utf8_lossy(&space[..count]));
            }
        };
        read_until("event: connected");
        let publish = server
            .curl(&version)
            .args(["--json", &json!({"data": "over TLS"}).to_string()])
            .args(["-o", "/dev/null", "-w", "%{http_code}"])
            .arg(server.url("/events"))
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&publish.stdout),
            "200",
            "{version:?}"
        );
        read_until("data: over TLS");
        curl.kill().unwrap();
        curl.wait().unwrap();
        let mut head = String::new();
        curl.stderr
            .take()
            .unwrap()
            .read_to_string(&mut head)
            .unwrap();
        let is_compressed = version.contains(&"--compressed");
        assert_eq!(
            head.contains("content-encoding: gzip"),
            is_compressed,
            "{head}"
        );
        assert_eq!(
            head.starts_with("HTTP/2 200"),
            version[0] == "--http2",
            "{head}"
        );
    }
    eventually("all have left", || (server.active() == 0).then_some(()));
}

#[test]
fn an_end_is_told_and_a_stream_that_broke_off_is_not_one() {
    for (signal, is_clean) in [("TERM", true), ("KILL", false)] {
        let mut server = SecureProcess::with(&["--drain-timeout", "5s"]);
        let mut reader = server.open();
        server.server.signal(signal);
        let mut rest = Vec::new();
        let end = reader.read_to_end(&mut rest);
        if is_clean {
            assert!(
                end.is_ok() && rest.ends_with(b"0\r\n\r\n"),
                "{end:?} {rest:?}"
            );
        } else {
            let kind = end.map_err(|error| error.kind());
            assert!(
                matches!(
                    kind,
                    Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)
                ),
                "{kind:?}"
            );
        }
        server.server.wait();
    }
}

#[test]
fn who_speaks_plain_http_to_the_tls_port_is_told_so() {
    let server = SecureProcess::with(&[]);
    let answer = Command::new("curl")
        .args(["-sS", "-i", "-d"])
        .arg("x".repeat(20_000))
        .arg(format!("http://{}/events", server.server.address))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{answer:?}");
    assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
    assert!(said.contains("use https://"), "{said}");
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_their_connection_alone() {
    let server = Secure::start().await;
    let mut other = server.open(GET).await;
    until(&mut other, "event: connected").await;
    let mut attacker = server.connect(b"h2").await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // GET, https, /events, localhost (RFC 7541, section 6), and CANCEL right behind it.
    let head = b"\x82\x87\x04\x07/events\x01\x09localhost";
    for n in 0..2000 {
        bytes.extend(frame(1, 0b101, 2 * n + 1, head));
        bytes.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    let _ = attacker.write_all(&bytes).await;
    let mut answer = Vec::new();
    let _ = soon(attacker.read_to_end(&mut answer)).await;
    // GOAWAY with ENHANCE_YOUR_CALM.
    assert!(
        answer.windows(4).any(|code| code == 11_u32.to_be_bytes()),
        "{answer:?}"
    );
    server.publish("still here", "a").await;
    until(&mut other, "data: still here").await;
    soon(async {
        while server.hub.connections(100).len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_taken_is_reset_and_the_others_on_its_connection_go_on() {
    let hub = Hub::in_memory(HubConfig {
        send_timeout: Duration::from_millis(500),
        ..HubConfig::default()
    })
    .await
    .unwrap();
    let server = Secure::with(hub, StreamWriter::default(), ServerConfig::default());
    let socket = TokioIo::new(server.connect(b"h2").await);
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    // One stream that is not read does not use up what all have together.
    builder
        .initial_stream_window_size(32 << 10)
        .initial_connection_window_size(8 << 20);
    let (mut requests, connection) = builder.handshake::<_, Full<Bytes>>(socket).await.unwrap();
    tokio::spawn(connection);
    let stuck = ask(&mut requests, "GET", "/events?topic=a", &[], "").await;
    let mut stuck = stuck.into_body();
    body_until(&mut stuck, "event: connected").await;
    let reads = ask(&mut requests, "GET", "/events?topic=b", &[], "").await;
    let mut reads = reads.into_body();
    body_until(&mut reads, "event: connected").await;
    let data = "x".repeat(100_000);
    for n in 0..10 {
        server.publish(&data, "a").await;
        server.publish(&format!("number {n}"), "b").await;
        body_until(&mut reads, &format!("number {n}")).await;
    }
    soon(async {
        while server.hub.connections(100).len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Long enough for two looks.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let end = soon(async {
        loop {
            match stuck.frame().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    })
    .await;
    let Some(Err(error)) = end else {
        panic!("the stream seems to be complete");
    };
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    server.publish("goes on", "b").await;
    body_until(&mut reads, "data: goes on").await;
}

#[tokio::test]
async fn what_is_limited_is_streams_however_many_share_a_connection() {
    let hub = Hub::in_memory(HubConfig {
        max_connections: 3,
        ..HubConfig::default()
    })
    .await
    .unwrap();
    let server = Secure::with(hub, StreamWriter::default(), ServerConfig::default());
    let mut requests = server.multiplexed().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = ask(&mut requests, "GET", "/events", &[], "").await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    let refused = ask(&mut requests, "GET", "/events", &[], "").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    // What is no stream takes no place.
    let stats = ask(&mut requests, "GET", "/events/stats", &[], "").await;
    assert_eq!(stats.status(), StatusCode::OK);
    streams.pop();
    soon(async {
        while server.hub.connections(100).len() > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let again = ask(&mut requests, "GET", "/events", &[], "").await;
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let server = Secure::start().await;
    let mut requests = server.multiplexed().await;
    let request = Request::get("https://localhost/events")
        .header("x-large", "x".repeat(20_000))
        .body(Full::default())
        .unwrap();
    let answer = soon(requests.send_request(request)).await;
    assert!(
        answer.is_err()
            || answer.is_ok_and(|a| a.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    );
    let mut stream = ask(&mut requests, "GET", "/events", &[], "")
        .await
        .into_body();
    body_until(&mut stream, "event: connected").await;
}

#[tokio::test]
async fn a_reader_that_says_close_notify_has_left() {
    let server = Secure::start().await;
    let mut leaves = server.open(GET).await;
    until(&mut leaves, "event: connected").await;
    assert_eq!(server.hub.connections(100).len(), 1);
    leaves.shutdown().await.unwrap();
    soon(async {
        while !server.hub.connections(100).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_compressed_stream_says_over_both_versions_what_it_says_in_clear() {
    let mut server = Secure::start().await;
    let zipped = GET.replace("\r\n\r\n", "\r\nAccept-Encoding: gzip\r\n\r\n");
    let mut plain = server.open(GET).await;
    let mut first = server.open(&zipped).await;
    let mut requests = server.multiplexed().await;
    let gzip = [("accept-encoding", "gzip")];
    let second = ask(&mut requests, "GET", "/events?topic=a", &gzip, "").await;
    assert_eq!(second.headers()["content-encoding"], "gzip");
    soon(async {
        while server.hub.connections(100).len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for n in 0..50 {
        server
            .publish(&format!("token {n} {}", "é".repeat(n * 31)), "a")
            .await;
    }
    server.stop();
    let (mut clear, mut packed) = (Vec::new(), Vec::new());
    soon(plain.read_to_end(&mut clear)).await.unwrap();
    soon(first.read_to_end(&mut packed)).await.unwrap();
    let second = soon(second.into_body().collect()).await.unwrap().to_bytes();
    let (_, clear) = crate::writers::split(&clear, GET);
    let (lines, packed) = crate::writers::split(&packed, &zipped);
    assert!(
        lines
            .iter()
            .any(|line| line.eq_ignore_ascii_case("content-encoding: gzip")),
        "{lines:?}"
    );
    let events = crate::writers::events(&clear);
    assert!(events.len() >= 50);
    for packed in [&packed[..], &second[..]] {
        let mut unpacked = Vec::new();
        // To the trailer: a wrong one is an error.
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(crate::writers::events(&unpacked), events);
    }
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_to_who_knows_that_it_is() {
    let server = Server::start();
    let socket = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut requests, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let mut stream = ask(&mut requests, "GET", "/events", &[], "")
        .await
        .into_body();
    body_until(&mut stream, "event: connected").await;
    let json = [("content-type", "application/json")];
    let answer = ask(
        &mut requests,
        "POST",
        "/events",
        &json,
        "{\"data\": \"in clear\"}",
    )
    .await;
    assert_eq!(answer.status(), StatusCode::OK);
    body_until(&mut stream, "data: in clear").await;
}
