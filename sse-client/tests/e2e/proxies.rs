//! The hub behind nginx and haproxy, with the configurations of `docs/proxies.md`. Each user is an address of this machine, so that it is
//! the proxy itself that tells them apart.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::hub::{Guard, Hub, wait_until};

const PAGE: &str = include_str!("../../../docs/proxies.md");
/// More than the hundred places that one address has.
const USERS: usize = 300;

/// The address of a user.
fn user(n: usize) -> IpAddr {
    let [.., high, low] = u32::try_from(n).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1, high, low).into()
}

/// A section of the page: the hub's flags and the proxy's configuration.
fn section(title: &str, language: &str) -> (Vec<String>, String) {
    let heading = format!("\n## {title}\n");
    let section = PAGE.split_once(&heading).expect("such a section").1;
    let section = section.split("\n## ").next().unwrap();
    let block = |language: &str| {
        let begin = format!("```{language}\n");
        let block = section.split_once(&begin).expect("such a block").1;
        block.split_once("```").unwrap().0.to_owned()
    };
    let flags = block("sh");
    let flags = flags.strip_prefix("sse-server ").unwrap();
    let flags = flags.split_whitespace().map(str::to_owned).collect();
    (flags, block(language))
}

/// The hub with its proxy in front of it.
struct Behind {
    hub: Hub,
    proxy: SocketAddr,
    _process: Guard,
    _folder: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Nginx,
    Haproxy,
}

impl Program {
    fn language(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Where it is. It is not left out where it is missing: `cargo xtask setup` installs it.
    fn path(self) -> PathBuf {
        let name = self.language();
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders)
            .chain([PathBuf::from("/usr/sbin")])
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        found.unwrap_or_else(|| panic!("{name} is missing; `cargo xtask setup` installs it"))
    }

    pub(crate) fn start(self, folder: &Path, configuration: &str) -> Guard {
        let file = folder.join("proxy.conf");
        let mut command = Command::new(self.path());
        let text = match self {
            Self::Haproxy => {
                command.arg("-db").arg("-f").arg(&file);
                format!("global\n    maxconn 4000\n\n{configuration}")
            }
            Self::Nginx => {
                let prefix = format!("{}/", folder.display());
                command.args(["-p", &prefix, "-e", "error.log", "-c", "proxy.conf"]);
                let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .iter()
                    .map(|name| format!("{name}_temp_path {name};\n"))
                    .collect();
                // One process, so that nothing is left of it when it is killed.
                format!(
                    "daemon off;\nmaster_process off;\npid nginx.pid;\n\
                     worker_rlimit_nofile 4000;\nevents {{ worker_connections 2000; }}\n\
                     http {{\naccess_log off;\n{temp}{configuration}}}\n"
                )
            }
        };
        std::fs::write(&file, text).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Guard(child.unwrap())
    }
}

impl Behind {
    fn start(program: Program, title: &str, change: (&str, &str)) -> Self {
        let (flags, configuration) = section(title, program.language());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("hub.sock").display().to_string();
        let flags: Vec<String> = flags
            .iter()
            .map(|flag| flag.replace("/run/hub.sock", &socket))
            .chain(["--max-connections-per-ip".to_owned(), "2".to_owned()])
            .collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let hub = Hub::start(&flags);
        // Free a moment ago.
        let proxy = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let is_changed = change.0.is_empty() || configuration.contains(change.0);
        assert!(is_changed, "{:?} is not in {configuration}", change.0);
        let configuration = if change.0.is_empty() {
            configuration
        } else {
            configuration.replace(change.0, change.1)
        };
        let configuration = configuration
            .replace("127.0.0.1:8080", hub.address())
            .replace("/run/hub.sock", &socket)
            .replace("listen 8000", &format!("listen {proxy}"))
            .replace("bind :8000", &format!("bind {proxy}"));
        let process = program.start(folder.path(), &configuration);
        wait_until("the proxy listens", || TcpStream::connect(proxy).is_ok());
        Self {
            hub,
            proxy,
            _process: process,
            _folder: folder,
        }
    }

    /// Sends a request from an address.
    fn ask(&self, from: IpAddr, head: &str) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&self.proxy.into()).unwrap();
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "{head}\r\nHost: localhost\r\n\r\n").unwrap();
        socket
    }

    /// Opens a stream, or gives the refusal's head and body.
    fn open(&self, from: IpAddr, headers: &str) -> Result<TcpStream, String> {
        let mut socket = self.ask(from, &format!("GET /events HTTP/1.1{headers}"));
        let text = read_until(&mut socket, "}");
        match text.starts_with("HTTP/1.1 200") && text.contains("event: connected") {
            true => Ok(socket),
            false => Err(text),
        }
    }

    /// A JSON answer, through the proxy.
    fn get(&self, path: &str) -> Value {
        let from = Ipv4Addr::new(127, 2, 0, 1).into();
        let head = format!("GET {path} HTTP/1.1\r\nConnection: close");
        let mut text = String::new();
        self.ask(from, &head).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        // In one chunk, where it comes in chunks.
        let begin = body.find('{').unwrap();
        let end = body.rfind('}').unwrap();
        serde_json::from_str(&body[begin..=end]).unwrap()
    }

    /// The addresses of all open streams, as the hub sees them.
    fn addresses(&self) -> Vec<String> {
        let answer = self.get("/events/connections?limit=1000");
        let connections = answer["connections"].as_array().unwrap();
        let address = |connection: &Value| connection["user_ip"].as_str().unwrap().to_owned();
        connections.iter().map(address).collect()
    }
}

/// Reads until the text has come, or the socket has ended.
fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    let mut space = [0; 4096];
    while !read.contains(text) {
        match socket.read(&mut space) {
            Ok(0) | Err(_) => break,
            Ok(count) => read.push_str(&String::from_utf8_lossy(&space[..count])),
        }
    }
    read
}

/// Three hundred users behind one proxy have the limits of their own addresses, and none takes another's.
fn users_are_told_apart(program: Program, title: &str, change: (&str, &str)) {
    let behind = Behind::start(program, title, change);
    let mut streams: Vec<_> = (0..USERS)
        .map(|n| match behind.open(user(n), "") {
            Ok(stream) => stream,
            Err(refused) => panic!("user {n}: {refused}"),
        })
        .collect();
    let expected: BTreeSet<String> = (0..USERS).map(|n| user(n).to_string()).collect();
    let seen = behind.addresses();
    assert_eq!(seen.len(), USERS);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);

    // Who writes the headers itself is not taken for somebody else, nor does it get away from its own limit.
    let forger = Ipv4Addr::new(127, 3, 0, 1).into();
    let forged = |n: usize| {
        let victim = user(n);
        format!(
            "\r\nX-Forwarded-For: {victim}\r\nForwarded: for={victim}\r\nX-Real-IP: {victim}\r\n\
             X-Forwarded-For: 127.0.0.1, {victim}"
        )
    };
    let mut own: Vec<_> = (0..2)
        .map(|n| behind.open(forger, &forged(n)).expect("its own place"))
        .collect();
    for n in 2..12 {
        let refused = behind.open(forger, &forged(n)).expect_err("its own limit");
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        assert!(refused.contains("--max-connections-per-ip"), "{refused}");
        assert!(refused.to_lowercase().contains("retry-after"), "{refused}");
    }
    let seen = behind.addresses();
    let of_forger = seen
        .iter()
        .filter(|address| **address == forger.to_string());
    assert_eq!(of_forger.count(), 2);
    assert_eq!(seen.len(), USERS + 2);

    // Each user has a second place, and no third.
    for n in [0, 1, 150, 299] {
        let _second = behind.open(user(n), "").expect("a second place");
        behind.open(user(n), "").expect_err("a third place");
    }
    // And all of them get what is published, through the proxy too.
    let body = r#"{"data": "for all"}"#;
    let length = body.len();
    let mut publisher = behind.ask(user(7), "GET /livez HTTP/1.1");
    assert!(read_until(&mut publisher, "ok").contains("200"));
    write!(
        publisher,
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    assert!(read_until(&mut publisher, "position").contains(" 200 "));
    for stream in streams.iter_mut().chain(&mut own) {
        assert!(read_until(stream, "for all").contains("for all"));
    }
    drop((streams, own));
    wait_until("all have left", || behind.addresses().is_empty());
}

const AS_IT_IS: (&str, &str) = ("", "");

#[test]
fn users_behind_nginx_are_told_apart() {
    users_are_told_apart(Program::Nginx, "nginx", AS_IT_IS);
}

#[test]
fn users_behind_nginx_on_a_unix_socket_are_told_apart() {
    users_are_told_apart(Program::Nginx, "nginx on a Unix socket", AS_IT_IS);
}

#[test]
fn users_behind_haproxy_are_told_apart() {
    users_are_told_apart(Program::Haproxy, "haproxy", AS_IT_IS);
}

#[test]
fn users_behind_haproxy_with_either_version_of_the_proxy_protocol_are_told_apart() {
    let title = "haproxy with the PROXY protocol";
    users_are_told_apart(Program::Haproxy, title, AS_IT_IS);
    users_are_told_apart(Program::Haproxy, title, ("send-proxy-v2", "send-proxy"));
}

/// haproxy as a relay of bytes: each of its connections is one user's, and all requests on it are.
#[test]
fn users_behind_haproxy_that_knows_no_http_are_told_apart() {
    let title = "haproxy with the PROXY protocol";
    users_are_told_apart(Program::Haproxy, title, ("mode http", "mode tcp"));
}

#[test]
fn a_websocket_goes_through_either_proxy() {
    for (program, title) in [(Program::Nginx, "nginx"), (Program::Haproxy, "haproxy")] {
        let behind = Behind::start(program, title, AS_IT_IS);
        let mut socket = behind.ask(
            user(1),
            "GET /events/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        );
        let text = read_until(&mut socket, "connection_id");
        assert!(text.starts_with("HTTP/1.1 101"), "{title}: {text}");
        assert_eq!(behind.addresses(), [user(1).to_string()], "{title}");
    }
}

/// Without the flag it is as the page says: one address, and its places are soon taken.
#[test]
fn users_behind_a_proxy_that_is_not_trusted_are_one_address() {
    let (_, configuration) = section("nginx", "nginx");
    let hub = Hub::start(&["--max-connections-per-ip", "2"]);
    let folder = tempfile::tempdir().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let configuration = configuration
        .replace("127.0.0.1:8080", hub.address())
        .replace("listen 8000", &format!("listen {proxy}"));
    let process = Program::Nginx.start(folder.path(), &configuration);
    wait_until("the proxy listens", || TcpStream::connect(proxy).is_ok());
    let behind = Behind {
        hub,
        proxy,
        _process: process,
        _folder: folder,
    };
    let _streams = [
        behind.open(user(1), "").unwrap(),
        behind.open(user(2), "").unwrap(),
    ];
    let refused = behind.open(user(3), "").unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(behind.hub.connections(), 2);
}
