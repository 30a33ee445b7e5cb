//! Management on addresses of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::client::{Reply, Wire};
use crate::frames::HANDSHAKE;
use crate::server::{Server, folder};
use crate::starting::complaint;

/// Where it says that management is.
fn management(server: &Server) -> SocketAddr {
    let mut lines = server.welcome.lines();
    let line = lines.find_map(|line| line.strip_prefix("management on http://"));
    line.unwrap_or_else(|| panic!("{}", server.welcome))
        .parse()
        .unwrap()
}

fn ask(server: &Server, at: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    let mut wire = Wire::connect(at);
    let headers: &[_] = match path.contains("/ws") {
        true => &HANDSHAKE,
        false => &[],
    };
    wire.write(&server.bytes(method, path, headers, Some(body.as_bytes())));
    wire.reply(method == "HEAD").unwrap()
}

fn rows(index: &str) -> Vec<(String, String)> {
    let rows = index.lines().filter_map(|line| {
        let (method, path) = line.trim().split_once(' ')?;
        path.starts_with('/')
            .then(|| (method.to_owned(), path.to_owned()))
    });
    rows.collect()
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap().trim_end_matches('/')
}

#[test]
fn management_is_on_its_own_address_and_nowhere_else() {
    let server = Server::with(&["--admin-listen", "127.0.0.1:0"]);
    let admin = management(&server);
    let all = rows(&ask(&server, admin, "GET", "/", "").text());
    let offered = rows(&server.get("/").text());
    let mut apart: Vec<_> = all.iter().filter(|row| !offered.contains(row)).collect();
    assert!(offered.iter().all(|row| all.contains(row)), "{offered:?}");
    for (method, path) in &apart {
        let path = path.replace("{id}", "x");
        for path in [path.clone(), format!("{path}/"), format!("{path}?a=b")] {
            let reply = server.request(method, &path, &[], b"");
            if offered
                .iter()
                .any(|(_, offered)| offered == without_query(&path))
            {
                // The path is there for others.
                reply.problem(405);
                continue;
            }
            let problem = reply.problem(404);
            // As where nothing ever was.
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("nothing at"), "{method} {path}: {problem}");
            let there = ask(&server, admin, method, &path, "");
            assert!(
                there.status != 404 || path.contains("connections/x"),
                "{method} {path}: {}",
                there.status
            );
        }
    }
    let is_apart = |path: &str| {
        let is_left = offered.iter().any(|(_, offered)| offered == path);
        !is_left && apart.iter().any(|(_, apart)| apart == path)
    };
    for path in ["/metrics", "/health", "/events/stats", "/admin/revocations"] {
        assert!(is_apart(path), "{path}");
    }
    for path in ["/livez", "/readyz", "/events", "/jobs", "/events/tickets"] {
        assert!(!is_apart(path), "{path}");
    }
    apart.retain(|(method, _)| method == "DELETE");
    assert_eq!(apart.len(), 2, "{apart:?}");
    // Everything else is there too, and it is the same hub.
    let stream = server.open("/events");
    let published = ask(
        &server,
        admin,
        "POST",
        "/events",
        "{\"data\": \"from there\"}",
    );
    published.ok();
    let connections = ask(&server, admin, "GET", "/events/connections", "").ok();
    assert_eq!(connections["total_connections"], 1);
    let close = format!("/events/connections/{}", stream.connection_id());
    assert_eq!(ask(&server, admin, "DELETE", &close, "").status, 200);
}

#[test]
fn whoever_fills_the_hub_does_not_keep_administrators_out() {
    let server = Server::with(&[
        "--admin-listen",
        "127.0.0.1:0",
        "--max-connections",
        "2",
        "--max-connections-per-ip",
        "2",
        "--max-requests",
        "1",
    ]);
    let admin = management(&server);
    let _streams = [server.open("/events"), server.open("/events")];
    // A publisher that does not end takes the only place for a request. One that comes while the
    // question after it is being answered is refused itself, so each turn brings another.
    let mut slow = Vec::new();
    crate::client::eventually("the place is taken", || {
        let mut wire = Wire::connect(server.address);
        wire.write(b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{");
        slow.push(wire);
        let mut wire = Wire::connect(server.address);
        wire.write(&server.bytes("GET", "/jobs", &[], Some(b"")));
        let refused = wire.reply(false).is_none_or(|reply| reply.status == 503);
        refused.then_some(())
    });
    for _ in 0..3 {
        let connections = ask(&server, admin, "GET", "/events/connections", "").ok();
        assert_eq!(connections["total_connections"], 2);
        assert_eq!(ask(&server, admin, "GET", "/metrics", "").status, 200);
    }
}

#[test]
fn a_unix_socket_for_administrators_is_its_owners_alone_and_goes_with_the_server() {
    let folder = folder();
    let path = folder.path().join("admin.sock");
    let mut server = Server::with(&["--admin-listen", &format!("unix:{}", path.display())]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut socket = UnixStream::connect(&path).unwrap();
    socket
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.get("/health").status, 404);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn an_admin_address_that_others_reach_needs_authentication_and_each_address_is_named_once() {
    let said = complaint(&["--ephemeral", "--admin-listen", ":0"], &[]);
    assert!(said.contains("without authentication"), "{said}");
    let said = complaint(
        &[
            "--ephemeral",
            "--listen",
            "127.0.0.1:7999",
            "--admin-listen",
            "127.0.0.1:7999",
        ],
        &[],
    );
    assert!(said.contains("--admin-listen"), "{said}");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    let said = complaint(
        &[
            "--ephemeral",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            &busy,
        ],
        &[],
    );
    assert!(said.contains(&busy) && said.contains("in use"), "{said}");
}

#[test]
fn a_stream_on_it_is_served_like_any_other() {
    let server = Server::with(&["--admin-listen", "127.0.0.1:0"]);
    let mut socket = TcpStream::connect(management(&server)).unwrap();
    socket
        .write_all(b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut read = String::new();
    let mut read_until = |words: &str| {
        while !read.contains(words) {
            let mut part = [0; 4096];
            let count = socket.read(&mut part).unwrap();
            assert!(count > 0, "{read}");
            read.push_str(std::str::from_utf8(&part[..count]).unwrap());
        }
    };
    read_until("event: connected");
    server.publish(&json!({"topic": "a", "data": "hello"}));
    read_until("data: hello");
}
