//! Where the server listens: addresses as people write them, and Unix sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::client::{DEADLINE, End, Wire, eventually};
use crate::server::{Server, command, folder};
use crate::starting::complaint;

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[track_caller]
fn listening_on(listen: &[&str]) -> Server {
    let mut command = command();
    command.args(["--ephemeral", "--allow-anonymous"]);
    for listen in listen {
        command.args(["--listen", listen]);
    }
    Server::spawn(command)
}

#[track_caller]
fn is_alive_at(address: SocketAddr) {
    let mut wire = Wire::from_socket(TcpStream::connect(address).unwrap());
    let request = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    wire.write(request.as_bytes());
    assert_eq!(wire.reply(false).unwrap().text(), "ok\n", "{address}");
}

#[test]
fn a_name_for_two_addresses_listens_on_both_with_one_port() {
    for (listen, v4, v6) in [
        ("localhost:0", "127.0.0.1", "[::1]"),
        (":0", "0.0.0.0", "[::]"),
        ("*:0", "0.0.0.0", "[::]"),
    ] {
        let server = listening_on(&[listen]);
        let port = server.address.port();
        let mut expected = vec![format!("http://{v4}:{port}")];
        is_alive_at(([127, 0, 0, 1], port).into());
        if has_ipv6() {
            expected.push(format!("http://{v6}:{port}"));
            is_alive_at(format!("[::1]:{port}").parse().unwrap());
        }
        assert_eq!(server.listening(), expected, "{listen}");
    }
    let server = listening_on(&["0"]);
    assert_eq!(server.listening(), [format!("http://{}", server.address)]);
    assert!(server.address.ip().is_loopback());
}

#[test]
fn several_addresses_are_listened_on_at_once() {
    let folder = folder();
    let path = folder.path().join("hub.sock");
    let unix = format!("unix:{}", path.display());
    let mut command = command();
    command
        .arg("--ephemeral")
        .env("SSE_LISTEN", format!("127.0.0.1:0,{unix},127.0.0.1:0"));
    let mut server = Server::spawn(command);
    let listening: Vec<_> = server.listening().into_iter().map(str::to_owned).collect();
    assert_eq!((listening.len(), &listening[1]), (3, &unix));
    for url in [&listening[0], &listening[2]] {
        is_alive_at(url.strip_prefix("http://").unwrap().parse().unwrap());
    }
    assert_ne!(listening[0], listening[2]);
    // What is published on one is heard on all.
    let mut other = Unix::connect(&path);
    other.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    other.read_until("event: connected");
    server.publish(&json!({"data": "for all"}));
    other.read_until("data: for all");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn one_address_that_is_taken_is_named() {
    let folder = folder();
    let path = folder.path().join("hub.sock");
    let unix = format!("unix:{}", path.display());
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap();
    let localhost = format!("localhost:{}", busy.port());
    let busy_text = busy.to_string();
    let said = complaint(&["--ephemeral", "--listen", &localhost], &[]);
    assert!(
        said.contains(&busy_text) && said.contains("in use"),
        "{said}"
    );
    // What was bound before is given back.
    let said = complaint(
        &["--ephemeral", "--listen", &unix, "--listen", &busy_text],
        &[],
    );
    assert!(said.contains(&busy_text), "{said}");
    assert!(!path.exists());
    if let Ok(v6) = TcpListener::bind("[::1]:0") {
        let v6 = v6.local_addr().unwrap();
        let localhost = format!("localhost:{}", v6.port());
        let said = complaint(&["--ephemeral", "--listen", &localhost], &[]);
        assert!(said.contains("in use"), "{said}");
    }
}

/// A client of a Unix socket.
struct Unix {
    socket: UnixStream,
    read: String,
}

impl Unix {
    #[track_caller]
    fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket,
            read: String::new(),
        }
    }

    fn send(&mut self, request: &str) {
        self.socket.write_all(request.as_bytes()).unwrap();
    }

    #[track_caller]
    fn read_until(&mut self, words: &str) {
        while !self.read.contains(words) {
            let mut part = [0; 64 << 10];
            let read = self.socket.read(&mut part).unwrap();
            assert!(read > 0, "it ended before {words:?}: {}", self.read);
            self.read
                .push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
    }

    fn read_to_end(&mut self) {
        self.socket.read_to_string(&mut self.read).unwrap();
    }
}

fn on_unix(path: &Path, flags: &[&str]) -> Server {
    let mut command = command();
    command
        .args(["--ephemeral", "--listen"])
        .arg(format!("unix:{}", path.display()))
        .args(flags);
    Server::spawn(command)
}

#[track_caller]
fn publish(path: &Path, data: &str) {
    let body = json!({"data": data}).to_string();
    let mut client = Unix::connect(path);
    client.send(&format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.read_to_end();
    assert!(client.read.starts_with("HTTP/1.1 200 "), "{}", client.read);
}

#[test]
fn a_unix_socket_is_served_and_goes_when_the_server_goes() {
    let folder = folder();
    let path = folder.path().join("hub.sock");
    let mut server = on_unix(&path, &["--heartbeat", "100ms"]);
    assert_eq!(server.listening(), [format!("unix:{}", path.display())]);
    let curl = format!(
        "curl -N --unix-socket {} http://localhost/events",
        path.display()
    );
    assert!(server.welcome.contains(&curl), "{}", server.welcome);

    let mut readers: Vec<_> = (0..5)
        .map(|_| {
            let mut reader = Unix::connect(&path);
            reader.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
            reader.read_until("event: connected");
            reader.read_until("event: ping");
            reader
        })
        .collect();
    let large = "x".repeat(300_000);
    publish(&path, &large);
    publish(&path, "last");
    for reader in &mut readers {
        reader.read_until("data: last\n\n");
        assert!(reader.read.contains(&large));
    }
    // Whoever leaves is noticed, and others stay.
    drop(readers.pop());
    let mut status = Unix::connect(&path);
    eventually("the reader that left is gone", || {
        status.send("GET /events/connections HTTP/1.1\r\nHost: localhost\r\n\r\n");
        status.read.clear();
        status.read_until("\r\n\r\n");
        std::thread::sleep(Duration::from_millis(20));
        status.read_until("}");
        (status.read.matches("127.0.0.1").count() == 4).then_some(())
    });
    drop(status);
    server.signal("TERM");
    for reader in &mut readers {
        reader.read_to_end();
        assert!(reader.read.ends_with("0\r\n\r\n"), "{:?}", reader.read);
    }
    assert_eq!(server.wait().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_unix_sockets_mode_is_what_the_umask_leaves() {
    for (umask, mode) in [("077", 0o700), ("007", 0o770), ("000", 0o777)] {
        let folder = folder();
        let path = folder.path().join("hub.sock");
        let script = format!(
            "umask {umask}; exec \"$0\" --ephemeral --listen unix:{}",
            path.display()
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_sse-server")])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let _server = Server::spawn(command);
        let found = std::fs::symlink_metadata(&path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "umask {umask}");
    }
}

#[test]
fn a_dead_hubs_socket_is_replaced_and_nothing_else_is() {
    let folder = folder();
    let path = folder.path().join("hub.sock");
    let listen = format!("unix:{}", path.display());
    let is_socket = |path: &Path| {
        std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
    };
    let mut dead = on_unix(&path, &[]);
    dead.signal("KILL");
    dead.wait();
    assert!(is_socket(&path), "a kill leaves the file");

    let live = on_unix(&path, &[]);
    publish(&path, "heard");
    let said = complaint(&["--ephemeral", "--listen", &listen], &[]);
    assert!(said.contains(&listen) && said.contains("in use"), "{said}");
    publish(&path, "still heard");
    drop(live);

    // Another program's socket, which does not even take connections.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    complaint(&["--ephemeral", "--listen", &listen], &[]);
    assert!(is_socket(&path));
    drop(other);

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let said = complaint(&["--ephemeral", "--listen", &listen], &[]);
    assert!(
        said.contains("not a socket") && said.contains("--listen"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

    let nowhere = format!("unix:{}/not/there.sock", folder.path().display());
    let said = complaint(&["--ephemeral", "--listen", &nowhere], &[]);
    assert!(said.contains(&nowhere), "{said}");
}

#[test]
fn a_successor_may_start_while_the_old_hub_drains() {
    let folder = folder();
    let path = folder.path().join("hub.sock");
    let mut old = on_unix(&path, &["--drain-timeout", "3s"]);
    let mut reader = Unix::connect(&path);
    reader.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reader.read_until("event: connected");
    old.signal("TERM");
    eventually("the file is gone", || (!path.exists()).then_some(()));
    let new = on_unix(&path, &[]);
    assert_eq!(old.wait().code(), Some(0));
    publish(&path, "to the new one");
    drop(new);
}

#[test]
fn over_tcp_a_stream_ends_the_same() {
    let mut server = listening_on(&["localhost:0"]);
    let mut stream = server.open("/events");
    server.publish(&json!({"data": 1}));
    server.signal("TERM");
    let (events, end) = stream.rest();
    assert_eq!((events.len(), end), (1, End::Clean));
    assert_eq!(server.wait().code(), Some(0));
}
