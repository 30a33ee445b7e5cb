//! Behind proxies: whose word counts for an address, and how it is told. The proxies here are sockets from other addresses of this
//! machine; real ones are in `sse-client/tests/e2e`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use sse_server::access::TrustedProxies;
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};
use sse_server::serve::{ServerConfig, StreamWriter};

use crate::client::{DEADLINE, Stream, Wire, eventually};
use crate::secure::Files;
use crate::server::{Server, folder};

/// The proxy's address; others are not trusted.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const TRUSTED: [&str; 3] = ["--trusted-proxy", "127.0.0.9", "--allow-anonymous"];

/// The address that the hub shows for a connection.
fn address_of(server: &Server, stream: &Stream) -> String {
    let id = stream.connection_id();
    let connection = server.get(&format!("/events/connections/{id}")).ok();
    connection["user_ip"].as_str().unwrap().to_owned()
}

fn open_from(server: &Server, from: IpAddr, headers: &[(&str, &str)]) -> Stream {
    match server.try_open_from("/events", headers, from) {
        Ok(stream) => stream,
        Err(refused) => panic!("{} {}", refused.status, refused.text()),
    }
}

#[test]
fn the_header_of_a_trusted_proxy_counts_and_that_of_nobody_else() {
    let server = Server::with(&TRUSTED);
    for (from, headers, expected) in [
        (PROXY, &[("X-Forwarded-For", "192.0.2.1")][..], "192.0.2.1"),
        // What stands left of it came from the client.
        (
            PROXY,
            &[("X-Forwarded-For", "198.51.100.1, 192.0.2.1")],
            "192.0.2.1",
        ),
        (
            PROXY,
            &[
                ("X-Forwarded-For", "198.51.100.1"),
                ("X-Forwarded-For", "192.0.2.1"),
            ],
            "192.0.2.1",
        ),
        (
            PROXY,
            &[("X-Forwarded-For", "192.0.2.1, 127.0.0.9")],
            "192.0.2.1",
        ),
        (PROXY, &[("X-Forwarded-For", "unknown")], "127.0.0.9"),
        (
            PROXY,
            &[("Forwarded", "for=192.0.2.1"), ("X-Real-IP", "192.0.2.1")],
            "127.0.0.9",
        ),
        (PROXY, &[], "127.0.0.9"),
        (
            Ipv4Addr::new(127, 0, 0, 8).into(),
            &[("X-Forwarded-For", "192.0.2.1")],
            "127.0.0.8",
        ),
    ] {
        let stream = open_from(&server, from, headers);
        assert_eq!(address_of(&server, &stream), expected, "{from} {headers:?}");
    }
}

#[test]
fn each_request_of_a_connection_has_its_own_address() {
    let server = Server::with(&[&TRUSTED[..], &["--max-connections-per-ip", "1"]].concat());
    let user = |n: usize| format!("2001:db8:0:{:x}::1", n + 1);
    let mut first = Wire::connect_from(server.address, PROXY, None).unwrap();
    let mut streams = Vec::new();
    for n in 0..20 {
        let user = user(n);
        let headers = [("X-Forwarded-For", user.as_str())];
        streams.push(open_from(&server, PROXY, &headers));
        // The same user is refused on a connection that serves others too, with any address of its network.
        let other = user.replace("::1", "::77");
        first.write(&server.bytes("GET", "/events", &[("X-Forwarded-For", &other)], None));
        let problem = first.reply(false).unwrap().problem(503);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("--max-connections-per-ip"), "{detail}");
    }
    assert_eq!(server.active(), 20);
    for (n, stream) in streams.iter().enumerate() {
        assert_eq!(address_of(&server, stream), user(n));
    }
}

#[test]
fn peers_of_a_unix_socket_are_trusted_when_the_flag_says_so() {
    let folder = folder();
    let path = folder.path().join("hub.sock");
    let listen = format!("unix:{}", path.display());
    let server = Server::with(&[
        "--listen",
        &listen,
        "--trusted-proxy",
        "unix",
        "--allow-anonymous",
    ]);
    let mut socket = UnixStream::connect(&path).unwrap();
    socket
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
        .unwrap();
    eventually("the stream is open", || {
        let all = server.get("/events/connections").ok();
        (all["connections"][0]["user_ip"] == "192.0.2.7").then_some(())
    });
    // Over TCP the same header says nothing.
    let stream = server.open_with("/events", &[("X-Forwarded-For", "192.0.2.7")]);
    assert_eq!(address_of(&server, &stream), "127.0.0.1");
}

#[test]
fn a_proxy_that_nobody_trusts_is_told_of_once() {
    let server = Server::start();
    for _ in 0..3 {
        let headers = [("Forwarded", "for=192.0.2.1")];
        server.request("GET", "/health", &headers, b"").ok();
        let headers = [("X-Forwarded-For", "192.0.2.1")];
        server.request("GET", "/health", &headers, b"").ok();
    }
    let told = eventually("a warning", || {
        let log = server.stderr();
        log.contains("--trusted-proxy").then_some(log)
    });
    let lines: Vec<_> = told
        .lines()
        .filter(|line| line.contains("--trusted-proxy"))
        .collect();
    assert_eq!(lines.len(), 1, "{told}");
    let advice = "--trusted-proxy 127.0.0.1 --trusted-proxy-header Forwarded";
    assert!(lines[0].contains(advice), "{told}");

    let server = Server::start();
    let mut wire = Wire::connect(server.address);
    wire.write(b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\nGET /health HTTP/1.1\r\n\r\n");
    assert_eq!(wire.reply(false).unwrap().status, 400);
    eventually("a warning", || {
        let advice = "--trusted-proxy 127.0.0.1 --trusted-proxy-header PROXY";
        server.stderr().contains(advice).then_some(())
    });
}

#[test]
fn the_log_names_the_trusted_networks_at_the_start() {
    let flags = [
        "--trusted-proxy",
        "10.1.0.0/16,private",
        "--allow-anonymous",
    ];
    let server = Server::with(&[&flags[..], &["--trusted-proxy-header", "x-real-ip"]].concat());
    eventually("the networks are in the log", || {
        let log = server.stderr();
        (log.contains("10.1.0.0/16, private") && log.contains("X-Real-IP")).then_some(())
    });
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n";
/// The same in version 2, with a TLV.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x01\x7f\0\0\x01\x12\x67\0\x50\x01\0\x02h2";
/// The proxy speaks for itself, as for a health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

fn in_proxy_mode(more: &[&str]) -> Server {
    let flags = ["--trusted-proxy-header", "PROXY"];
    Server::with(&[&TRUSTED[..], &flags, more].concat())
}

#[test]
fn a_connection_with_the_proxy_protocol_is_its_clients_in_all_its_requests() {
    let server = in_proxy_mode(&[]);
    for (header, expected) in [
        (V1, "192.0.2.1"),
        (V2, "192.0.2.1"),
        (LOCAL, "127.0.0.9"),
        (UNKNOWN, "127.0.0.9"),
    ] {
        // The header arrives whole, in pieces, and with the request behind it.
        for cut in [0, 1, 7, 13, header.len()] {
            let mut wire = Wire::connect_from(server.address, PROXY, None).unwrap();
            wire.write(&header[..cut]);
            let forged = [
                ("X-Forwarded-For", "203.0.113.1"),
                ("Connection", "keep-alive"),
            ];
            let health = server.bytes("GET", "/health", &forged, None);
            wire.write(&[&header[cut..], &health].concat());
            wire.reply(false).unwrap().ok();
            let get = server.bytes("GET", "/events", &forged, None);
            wire.write(&get);
            let mut stream = Stream::read(wire).unwrap();
            assert_eq!(address_of(&server, &stream), expected, "{header:?}");
            // After the stream the connection is still its client's.
            let id = stream.connection_id();
            let path = format!("/events/connections/{id}");
            server.request("DELETE", &path, &[], b"").ok();
            while stream.try_next().is_ok() {}
            let mut wire = stream.into_wire();
            wire.write(&get);
            let stream = Stream::read(wire).unwrap();
            assert_eq!(address_of(&server, &stream), expected, "{header:?}");
        }
    }
    // Who is not trusted speaks plain HTTP, as ever.
    let stream = server.open_with("/events", &[("X-Forwarded-For", "203.0.113.1")]);
    assert_eq!(address_of(&server, &stream), "127.0.0.1");
}

#[test]
fn a_proxy_that_leaves_the_header_out_is_not_served() {
    let server = in_proxy_mode(&[]);
    for begin in [
        &b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PROXY TCP4 nonsense\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut wire = Wire::connect_from(server.address, PROXY, None).unwrap();
        wire.write(begin);
        assert!(wire.is_ended(), "{:?}", String::from_utf8_lossy(begin));
        assert!(wire.buffer.is_empty());
    }
    server.get("/health").ok();
}

#[test]
fn limits_are_by_the_clients_that_the_proxy_protocol_tells_of() {
    let server = in_proxy_mode(&[
        "--max-connections-per-ip",
        "1",
        "--max-requests-per-ip",
        "1",
    ]);
    let connect = |last: u8| {
        let mut wire = Wire::connect_from(server.address, PROXY, None).unwrap();
        let header = format!("PROXY TCP4 192.0.2.{last} 127.0.0.1 4711 80\r\n");
        wire.write(header.as_bytes());
        wire
    };
    let open = |last: u8| {
        let mut wire = connect(last);
        wire.write(&server.bytes("GET", "/events", &[], None));
        Stream::read(wire)
    };
    let streams: Vec<_> = (1..100).map(|last| open(last).ok().unwrap()).collect();
    for last in 1..100 {
        assert_eq!(open(last).err().unwrap().status, 503);
    }
    // Its sockets without a stream are bounded too.
    let mut idle = [connect(1), connect(1)];
    for wire in &mut idle {
        wire.write(&server.bytes("GET", "/health", &[], None));
        wire.reply(false).unwrap().ok();
    }
    let mut third = connect(1);
    let _ = third.socket.write_all(b"GET /health HTTP/1.1\r\n");
    assert!(third.is_ended() && third.buffer.is_empty());
    drop(idle);
    drop(streams);
    server.get("/health").ok();
}

#[test]
fn the_proxy_protocol_comes_before_the_handshake_of_tls() {
    let files = Files::new();
    let (certificate, key) = (files.certificate(), files.key());
    let server = in_proxy_mode(&[
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ]);
    let mut clients = Vec::new();
    for header in [V1, V2] {
        let mut socket = Wire::connect_from(server.address, PROXY, None)
            .unwrap()
            .socket;
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(header).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let config = Arc::clone(&files.client(b"http/1.1"));
        let session = ClientConnection::new(config, name).unwrap();
        let mut client = StreamOwned::new(session, socket);
        let mut ask = |path: &str, until: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            while !text.contains(until) {
                let mut space = [0; 4096];
                let count = client.read(&mut space).unwrap();
                assert!(count > 0, "it ended: {text}");
                text.push_str(&String::from_utf8_lossy(&space[..count]));
            }
            text
        };
        ask("/health", "\"status\"");
        ask("/events", "event: connected");
        clients.push(client);
    }
    // Asked by one who is not trusted, and so without the header.
    let mut client = {
        let socket = TcpStream::connect(server.address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(files.client(b"http/1.1"), name).unwrap();
        StreamOwned::new(session, socket)
    };
    client
        .write_all(
            b"GET /events/connections HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut listed = String::new();
    client.read_to_string(&mut listed).unwrap();
    assert_eq!(listed.matches("192.0.2.1").count(), 2, "{listed}");
}

/// Serves in this process, so that the time for a header can be short.
async fn serve(header_timeout: Duration) -> SocketAddr {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let http = HttpConfig {
        trusted_proxies: TrustedProxies {
            peers: vec!["127.0.0.1".parse().unwrap()],
            header: "PROXY".parse().unwrap(),
        },
        ..HttpConfig::default()
    };
    let config = ServerConfig {
        header_timeout,
        writer: StreamWriter::default(),
        ..ServerConfig::default()
    };
    let service = HubService::new(hub, http);
    let server =
        sse_server::serve::Server::bind(([127, 0, 0, 1], 0).into(), service, config).unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending(), Duration::from_secs(1)));
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_header_is_not_waited_for_and_its_bytes_do_not_lengthen_the_wait() {
    let address = serve(Duration::from_millis(400)).await;
    let slow = tokio::task::spawn_blocking(move || {
        let mut wire = Wire::connect(address);
        let begun = Instant::now();
        for byte in V2.iter().cycle().take(V2.len() - 1) {
            if wire.socket.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(wire.is_ended());
        begun.elapsed()
    });
    let waited = slow.await.unwrap();
    let all = Duration::from_millis(50) * u32::try_from(V2.len()).unwrap();
    assert!(
        waited < DEADLINE && waited >= Duration::from_millis(300),
        "{waited:?} of {all:?}"
    );
    let asked = tokio::task::spawn_blocking(move || {
        let mut wire = Wire::connect(address);
        wire.write(V2);
        wire.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        wire.reply(false).unwrap().ok()
    });
    assert_ne!(asked.await.unwrap(), json!(null));
}
