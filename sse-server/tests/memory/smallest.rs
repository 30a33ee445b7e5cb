//! A hub with the least memory that it takes, while everybody asks for everything at once.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ALONE, Server};

/// The least that is taken, and one less of it is refused.
const LEAST: &str = "10MiB";
/// How long the storm lasts. Long enough for each client to go round some times.
const STORM: Duration = Duration::from_secs(8);
const CLIENTS: usize = 48;
/// What one of the storm's jobs takes at most.
const MAX_JOB_BYTES: u64 = 64 << 10;
/// As long as anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// What the process may grow by: twice the memory, which is what an allocator keeps of a storm, and code that had not run.
const MOST_KIB: f64 = 2.0 * 10_240.0 + 8_192.0;
/// Below this a machine's own traffic is seen: a question needs a connection.
const RESTING_CONNECTIONS_BYTES: u64 = 64 << 10;

/// What came of all requests: how many had which status.
type Tally = Mutex<BTreeMap<(&'static str, u16), usize>>;

#[test]
fn the_smallest_hub_lives_through_everything_at_once() {
    let _alone = ALONE.lock();
    let mut less = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    let less = less
        .args(["--ephemeral", "--memory", "10485759"])
        .output()
        .unwrap();
    let less = String::from_utf8_lossy(&less.stderr).into_owned();
    assert!(less.contains("give 10MiB or more"), "{less}");
    let server = Server::start_bare(&["--ephemeral", "--memory", LEAST, "--send-timeout", "1s"]);
    let memory = |server: &Server| stats(server)["memory"].clone();
    let before = memory(&server);
    let idle_kib = server.pss_kib();
    let tally = Tally::default();
    let end = Instant::now() + STORM;
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (server, tally) = (&server, &tally);
            scope.spawn(move || {
                let client = Client {
                    server,
                    number,
                    tally,
                };
                let mut round = number;
                while Instant::now() < end {
                    client.go_round(round);
                    round += 1;
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    let grown_kib = server.pss_kib() - idle_kib;
    println!("{tally:?}; the process has grown by {grown_kib} KiB");
    // A body of the largest size is a third of what there is for bodies: that one is taken is shown below.
    for kind in KINDS.into_iter().filter(|kind| *kind != "body") {
        let good = tally
            .keys()
            .any(|(of, status)| *of == kind && *status < 300);
        assert!(good, "nothing came of any {kind}: {tally:?}");
    }
    assert!(tally.keys().any(|(_, status)| *status == 503), "{tally:?}");

    assert!(
        grown_kib <= MOST_KIB,
        "the process has grown by {grown_kib} KiB"
    );

    // All of it is given back, but for what is kept: events and jobs.
    for (account, before) in before.as_object().unwrap() {
        let most = match account.as_str() {
            "window" | "log" => before["max_bytes"].as_u64().unwrap(),
            // A job that ends is taken in any case.
            "jobs" => before["max_bytes"].as_u64().unwrap() + MAX_JOB_BYTES,
            "connections" => RESTING_CONNECTIONS_BYTES,
            _ => 0,
        };
        let end = Instant::now() + DEADLINE;
        while memory(&server)[account]["held_bytes"].as_u64().unwrap() > most {
            assert!(
                Instant::now() < end,
                "{account} is not given back: {}",
                memory(&server)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    // And everything works, for one whose jobs nobody has created.
    let none = Tally::default();
    let client = Client {
        server: &server,
        number: CLIENTS,
        tally: &none,
    };
    for round in 0..KINDS.len() {
        client.go_round(round);
    }
    let all = none.into_inner().unwrap();
    assert!(all.keys().all(|(_, status)| *status < 300), "{all:?}");
}

/// What `/events/stats` says.
fn stats(server: &Server) -> Value {
    let answer = server.get("/events/stats");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    serde_json::from_str(body.unwrap()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

const KINDS: [&str; 10] = [
    "batch",
    "body",
    "poll",
    "replay",
    "gzip",
    "websocket",
    "job",
    "jobs",
    "subscriptions",
    "metrics",
];

/// A client with an address of its own.
struct Client<'a> {
    server: &'a Server,
    number: usize,
    tally: &'a Tally,
}

impl Client<'_> {
    fn go_round(&self, round: usize) {
        let kind = KINDS[round % KINDS.len()];
        let id = format!("{}-{round}", self.number);
        match kind {
            "batch" => {
                let events: Vec<Value> = (0..300)
                    .map(|n| json!({"topic": format!("t/{n}"), "data": n}))
                    .collect();
                self.post(kind, "/events", &json!(events));
            }
            "body" => {
                let events = vec![json!({"topic": "t/1", "data": "x".repeat(60_000)}); 4];
                self.post(kind, "/events?receipts=last", &json!(events));
            }
            "poll" => self.ask(
                kind,
                "GET",
                "/events/poll?after=earliest&limit=1000",
                &[],
                b"",
            ),
            "job" => {
                self.post(
                    kind,
                    "/jobs",
                    &json!({"job_id": id, "title": "t".repeat(2_000)}),
                );
                self.post(
                    kind,
                    &format!("/jobs/{id}/progress"),
                    &json!({"progress": 1, "step": vec![1; 500]}),
                );
                self.post(
                    kind,
                    &format!("/jobs/{id}/complete"),
                    &json!({"result": "r".repeat(20_000)}),
                );
            }
            "jobs" => self.ask(kind, "GET", "/jobs?limit=1000", &[], b""),
            "metrics" => self.ask(kind, "GET", "/metrics", &[], b""),
            "replay" => _ = self.open(kind, "/events?last_event_id=earliest", &[]),
            "gzip" => {
                let path = format!("/events?topic=t/*&topic=own/{}", self.number);
                _ = self.open(kind, &path, &[("Accept-Encoding", "gzip")]);
            }
            "websocket" => {
                let headers = [
                    ("Connection", "upgrade"),
                    ("Upgrade", "websocket"),
                    ("Sec-WebSocket-Version", "13"),
                    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ];
                if let Some(mut socket) = self.open(kind, "/events/ws?topic=t/1", &headers) {
                    let _ =
                        socket.write_all(&masked(r#"{"type":"publish","topic":"t/2","data":1}"#));
                    read_for_a_moment(&mut socket);
                }
            }
            _ => {
                // Names that take memory, and another set of them for the open stream.
                let topics: Vec<String> = (0..40)
                    .map(|n| format!("topic=long/{id}/{n:0>60}"))
                    .collect();
                if let Some(_stream) =
                    self.open(kind, &format!("/events?{}", topics.join("&")), &[])
                {
                    self.ask(kind, "GET", "/events/connections?limit=100", &[], b"");
                }
            }
        }
    }

    fn post(&self, kind: &'static str, path: &str, body: &Value) {
        let body = body.to_string();
        self.ask(
            kind,
            "POST",
            path,
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        );
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n",
            self.server.address
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        [request.as_bytes(), body].concat()
    }

    /// Asks, and takes note of the answer.
    fn ask(
        &self,
        kind: &'static str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut socket = self.server.connect(self.number);
        let headers = [headers, &[("Connection", "close")]].concat();
        let request = self.request(method, path, &headers, body);
        // Whoever is refused early may find the connection closed while it still writes.
        let written = socket.write_all(&request);
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        if answer.is_empty() {
            panic!("{kind}: no answer; wrote {written:?}, read {read:?}");
        }
        self.note(kind, &answer);
    }

    /// Opens a stream, takes a little of it and leaves; or not even that, where it is refused.
    fn open(&self, kind: &'static str, path: &str, headers: &[(&str, &str)]) -> Option<TcpStream> {
        let mut socket = self.server.connect(self.number);
        let _ = socket.write_all(&self.request("GET", path, headers, b""));
        let mut answer = vec![0; 4096];
        let mut length = 0;
        while !answer[..length].windows(4).any(|part| part == b"\r\n\r\n") {
            match socket.read(&mut answer[length..]) {
                Ok(read @ 1..) => length += read,
                _ => break,
            }
        }
        let is_open = answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.1 101");
        if is_open {
            self.note(kind, &answer[..length]);
            read_for_a_moment(&mut socket);
            return Some(socket);
        }
        answer.truncate(length);
        let _ = socket.read_to_end(&mut answer);
        self.note(kind, &answer);
        None
    }

    /// Each answer is a good one, or says which account has nothing left.
    #[track_caller]
    fn note(&self, kind: &'static str, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        let status = text
            .get(9..12)
            .and_then(|status| status.parse::<u16>().ok());
        let status = status.unwrap_or_else(|| panic!("{kind}: no answer, but {text:?}"));
        let status = if status == 101 { 200 } else { status };
        if status >= 300 {
            let names_an_account = text.contains("no memory is left for ");
            // The job of a creation that was refused is not there.
            let is_missing = kind == "job" && status == 404;
            assert!(
                matches!(status, 413 | 503) && names_an_account || is_missing,
                "{kind}: {text}"
            );
        }
        *self
            .tally
            .lock()
            .unwrap()
            .entry((kind, status))
            .or_default() += 1;
    }
}

/// A short text message of a client, masked with zeros.
fn masked(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126, "a short message");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

fn read_for_a_moment(socket: &mut TcpStream) {
    socket
        .set_read_timeout(Some(Duration::from_millis(30)))
        .unwrap();
    let mut space = [0; 16 << 10];
    for _ in 0..20 {
        if !matches!(socket.read(&mut space), Ok(1..)) {
            break;
        }
    }
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
}
