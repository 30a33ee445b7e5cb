//! What strangers send: each attack from addresses of its own, again and again until the siege is over.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::http2;
use crate::shell::{Failure, Outcome};

/// Runs the attacks at once, and prints how each was answered.
///
/// In turn, each attack has its part of each round, and ends before the next begins.
pub(super) fn run(hub: SocketAddr, length: Duration, only: &[String], in_turn: bool) -> Outcome {
    if let Some(unknown) = only
        .iter()
        .find(|name| !ATTACKS.iter().any(|(known, _)| known == name))
    {
        let known: Vec<&str> = ATTACKS.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        return Err(Failure::new(format!(
            "there is no attack {unknown}; there are {known}"
        )));
    }
    let answers = Answers::default();
    let is_meant = |name: &str| only.is_empty() || only.iter().any(|it| it == name);
    let attacks: Vec<_> = (1..)
        .zip(ATTACKS)
        .filter(|(_, (name, _))| is_meant(name))
        .collect();
    let turns = match in_turn {
        true => ROUNDS * attacks.len(),
        false => 1,
    };
    let each = length / u32::try_from(turns).unwrap_or(1);
    for turn in 0..turns {
        let deadline = Instant::now() + each;
        let mut threads = Vec::new();
        for (place, (number, (name, attack))) in attacks.iter().copied().enumerate() {
            if in_turn && place != turn % attacks.len() {
                continue;
            }
            let stranger = Stranger {
                name,
                number,
                hub,
                deadline,
                answers: answers.clone(),
            };
            threads.push(thread::spawn(move || attack(&stranger)));
        }
        for thread in threads {
            thread
                .join()
                .map_err(|_| Failure::new("an attack panicked"))?;
        }
    }
    println!(
        "{}",
        json!(*answers.0.lock().unwrap_or_else(PoisonError::into_inner))
    );
    Ok(())
}

type Attack = fn(&Stranger);

const ATTACKS: [(&str, Attack); 17] = [
    ("pattern-groups", pattern_groups),
    ("malformed-patterns", malformed_patterns),
    ("job-arrays", job_arrays),
    ("nested-jobs", nested_jobs),
    ("unread-polls", unread_polls),
    ("unread-polls-http2", unread_polls_http2),
    ("unread-connections", unread_connections),
    ("withheld-bodies", withheld_bodies),
    ("many-lines", many_lines),
    ("many-topics", many_topics),
    ("large-events", large_events),
    ("slow-replays", slow_replays),
    ("waiting-for-jobs", waiting_for_jobs),
    ("pattern-readers", pattern_readers),
    ("scanning-polls", scanning_polls),
    ("gzip-streams", gzip_streams),
    ("pending-jobs", pending_jobs),
];

/// How often each attack got which answer.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>>);

/// One who attacks.
struct Stranger {
    name: &'static str,
    number: u8,
    hub: SocketAddr,
    deadline: Instant,
    answers: Answers,
}

impl Stranger {
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn count(&self, answer: impl ToString) {
        let mut answers = self
            .answers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *answers
            .entry(self.name)
            .or_default()
            .entry(answer.to_string())
            .or_default() += 1;
    }

    /// A socket from one of the stranger's addresses, of which there are 250.
    fn socket(&self, from: usize) -> io::Result<TcpStream> {
        let last = u8::try_from(from % 250).unwrap_or_default() + 1;
        connect_from(Ipv4Addr::new(127, 3, self.number, last), self.hub)
    }

    /// Sends a request and reads its answer; says its status.
    fn ask(&self, from: usize, method: &str, path: &str, body: &[u8]) -> Option<u16> {
        let status = self.try_ask(from, method, path, body);
        match &status {
            Ok(status) => self.count(status),
            Err(error) => self.count(error.kind()),
        }
        if !matches!(status, Ok(200..300)) {
            // A refusal is cheap for both; the machine has other attackers too.
            thread::sleep(Duration::from_millis(20));
        }
        status.ok()
    }

    fn try_ask(&self, from: usize, method: &str, path: &str, body: &[u8]) -> io::Result<u16> {
        let mut socket = self.socket(from)?;
        socket.write_all(&self.head(method, path, body.len()))?;
        // A refused body is answered before all of it was sent.
        let _ = socket.write_all(body);
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        let status = String::from_utf8_lossy(&answer)
            .split(' ')
            .nth(1)
            .and_then(|it| it.parse().ok());
        match (status, read) {
            (Some(status), _) => Ok(status),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn head(&self, method: &str, path: &str, len: usize) -> Vec<u8> {
        let hub = self.hub;
        let length = match method {
            "GET" => String::new(),
            _ => format!("Content-Type: application/json\r\nContent-Length: {len}\r\n"),
        };
        format!("{method} {path} HTTP/1.1\r\nHost: {hub}\r\nConnection: close\r\n{length}\r\n")
            .into_bytes()
    }

    /// Keeps so many sockets that have sent this and read nothing, or little; those that the hub closed are opened again.
    fn hold(&self, count: usize, from: impl Fn(usize) -> usize, request: &[u8], reads: Reads) {
        let mut sockets: Vec<Option<TcpStream>> = Vec::new();
        sockets.resize_with(count, || None);
        let mut buffer = vec![0; 4 << 10];
        while !self.is_over() {
            for (number, place) in sockets.iter_mut().enumerate() {
                if self.is_over() {
                    return;
                }
                let is_gone = match place {
                    None => true,
                    Some(socket) => match reads {
                        Reads::Little => {
                            matches!(socket.read(&mut buffer), Ok(0))
                        }
                        Reads::Nothing => {
                            matches!(socket.peek(&mut buffer), Ok(0))
                                || socket.take_error().ok().flatten().is_some()
                        }
                    },
                };
                if is_gone {
                    *place = self.begin(from(number), request).ok();
                    self.count(if place.is_some() {
                        "held"
                    } else {
                        "not connected"
                    });
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn begin(&self, from: usize, request: &[u8]) -> io::Result<TcpStream> {
        let mut socket = self.socket(from)?;
        socket.set_nonblocking(true)?;
        let mut rest = request;
        let begun = Instant::now();
        while !rest.is_empty() {
            match socket.write(rest) {
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The hub does not read it: it stays as it is.
                    if begun.elapsed() > Duration::from_millis(200) {
                        break;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(socket)
    }
}

#[derive(Clone, Copy)]
enum Reads {
    Nothing,
    /// Four KiB ten times a second.
    Little,
}

/// A socket with a source address of its own; reading and writing take a few seconds at most.
pub(super) fn connect_from(source: Ipv4Addr, hub: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    socket.connect(&hub.into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket.into())
}

fn escaped(pattern: &str) -> String {
    pattern.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Patterns that a library for regular expressions would make much of.
fn pattern_groups(it: &Stranger) {
    let patterns = [
        r"a(\w{200})",
        "(x+x+)+y",
        "{a|b|c}*{d|e|f}*",
        ":a:b:c*",
        "**/**/**/{x}",
        r"[\u0000-\uffff]{1000}",
    ];
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        let pattern = escaped(patterns.get(turn % patterns.len()).unwrap_or(&""));
        let query: Vec<String> = (0..64).map(|n| format!("topic={pattern}{n}")).collect();
        it.ask(
            turn,
            "GET",
            &format!("/events/poll?{}", query.join("&")),
            b"",
        );
    }
}

fn malformed_patterns(it: &Stranger) {
    let patterns = [
        "http://]*",
        "http://[::*",
        "{",
        "}*",
        "(*",
        "a{{b}*",
        "%*",
        ":",
        "*\\",
        "\u{0}*",
        "{a}{b}{c}*",
        "[*",
    ];
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        let pattern = escaped(patterns.get(turn % patterns.len()).unwrap_or(&""));
        it.ask(turn, "GET", &format!("/events/poll?topic={pattern}"), b"");
    }
}

fn job_arrays(it: &Stranger) {
    let step = json!({"progress": 1, "step": vec![0; 500_000]}).to_string();
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        let name = format!("array-{}", turn % 200);
        it.ask(
            turn,
            "POST",
            "/jobs",
            json!({"job_id": name}).to_string().as_bytes(),
        );
        it.ask(
            turn,
            "POST",
            &format!("/jobs/{name}/progress"),
            step.as_bytes(),
        );
        let fits = json!({"progress": 1, "step": vec![0; 10_000]}).to_string();
        it.ask(
            turn,
            "POST",
            &format!("/jobs/{name}/progress"),
            fits.as_bytes(),
        );
    }
}

fn nested_jobs(it: &Stranger) {
    let deep = format!("{{\"result\":{}1{}}}", "[".repeat(126), "]".repeat(126));
    let raw = r#"{"result":{"$serde_json::private::RawValue":"1"}}"#;
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        let name = format!("nested-{turn}");
        it.ask(
            turn,
            "POST",
            "/jobs",
            json!({"job_id": name}).to_string().as_bytes(),
        );
        it.ask(
            turn,
            "POST",
            &format!("/jobs/{name}/complete"),
            deep.as_bytes(),
        );
        it.ask(
            turn,
            "POST",
            &format!("/jobs/{name}/complete"),
            raw.as_bytes(),
        );
    }
}

fn unread_polls(it: &Stranger) {
    let hub = it.hub;
    let one = format!("GET /events/poll?after=earliest&limit=1000 HTTP/1.1\r\nHost: {hub}\r\n\r\n");
    it.hold(200, |n| n, one.repeat(100).as_bytes(), Reads::Nothing);
}

fn unread_polls_http2(it: &Stranger) {
    let mut held: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    held.resize_with(8, || None);
    while !it.is_over() {
        for (number, place) in held.iter_mut().enumerate() {
            if let Some((socket, read)) = place
                && http2::keep_alive(socket, read)
            {
                continue;
            }
            let opened = it.socket(number).and_then(|socket| {
                socket.set_read_timeout(Some(Duration::from_millis(20)))?;
                http2::ask_and_take_nothing(socket, "/events/poll?after=earliest&limit=1000", 100)
            });
            it.count(if opened.is_ok() {
                "held"
            } else {
                "not connected"
            });
            *place = opened.ok().map(|socket| (socket, Vec::new()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn unread_connections(it: &Stranger) {
    let hub = it.hub;
    let one = format!("GET /events/connections?limit=1000 HTTP/1.1\r\nHost: {hub}\r\n\r\n");
    it.hold(100, |n| n, one.repeat(20).as_bytes(), Reads::Nothing);
}

fn withheld_bodies(it: &Stranger) {
    let body = vec![b' '; (3 << 20) - 1];
    let request = [it.head("POST", "/events", 3 << 20), body].concat();
    it.hold(500, |n| n / 50, &request, Reads::Nothing);
}

fn many_lines(it: &Stranger) {
    let most = "{\"data\":1}\n".repeat(300_000);
    let fits = "{\"data\":1,\"topic\":\"x\"}\n".repeat(9_000);
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        it.ask(turn, "POST", "/events", most.as_bytes());
        it.ask(turn, "POST", "/events", fits.as_bytes());
        thread::sleep(Duration::from_millis(200));
    }
}

fn many_topics(it: &Stranger) {
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        let topics: Vec<String> = (0..64)
            .map(|n| format!("{turn}/{n}/{}", "t".repeat(1000)))
            .collect();
        it.ask(
            turn,
            "POST",
            "/events",
            json!({"data": 1, "topics": topics}).to_string().as_bytes(),
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn large_events(it: &Stranger) {
    // As large as an event may be here; of newlines, so that it is six times as large on the way.
    let event = json!({"topic": "large", "data": "\n".repeat(300_000)}).to_string();
    while !it.is_over() {
        it.ask(0, "POST", "/events", event.as_bytes());
        thread::sleep(Duration::from_millis(300));
    }
}

fn slow_replays(it: &Stranger) {
    let hub = it.hub;
    let request =
        format!("GET /events?topic=large&last_event_id=earliest HTTP/1.1\r\nHost: {hub}\r\n\r\n");
    it.hold(100, |n| n, request.as_bytes(), Reads::Little);
}

fn waiting_for_jobs(it: &Stranger) {
    it.ask(0, "POST", "/jobs", br#"{"job_id":"waited-for"}"#);
    let hub = it.hub;
    let request = format!("GET /jobs/waited-for?wait=55 HTTP/1.1\r\nHost: {hub}\r\n\r\n");
    it.hold(4_000, |_| 0, request.as_bytes(), Reads::Nothing);
}

fn pattern_readers(it: &Stranger) {
    let hub = it.hub;
    let query: Vec<String> = (0..64)
        .map(|n| format!("topic={}", escaped(&format!("*/{n}/{{id}}"))))
        .collect();
    let request = format!(
        "GET /events?{} HTTP/1.1\r\nHost: {hub}\r\n\r\n",
        query.join("&")
    );
    it.hold(100, |n| n / 20, request.as_bytes(), Reads::Little);
}

fn scanning_polls(it: &Stranger) {
    let path = format!(
        "/events/poll?after=earliest&topic={}",
        escaped("*/nothing/{id}/like/*/this")
    );
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        it.ask(turn % 4, "GET", &path, b"");
    }
}

fn gzip_streams(it: &Stranger) {
    let hub = it.hub;
    let request = format!(
        "GET /events?topic=pulse/* HTTP/1.1\r\nHost: {hub}\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    it.hold(200, |n| n / 90, request.as_bytes(), Reads::Little);
}

fn pending_jobs(it: &Stranger) {
    let state: Value = json!({"note": "x".repeat(2000)});
    for turn in 0.. {
        if it.is_over() {
            return;
        }
        let job = json!({"job_id": format!("pending-{turn}"), "metadata": state});
        it.ask(turn / 1000, "POST", "/jobs", job.to_string().as_bytes());
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);
/// How often each attack has its turn.
pub(super) const ROUNDS: usize = 3;
