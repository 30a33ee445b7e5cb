//! Three WebSocket clients that know nothing of each other, Python's `websockets`, Node's `ws` and Chromium, at the real hub.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::{Browser, Page};
use crate::clients::reading::Scripts;
use crate::hub::{Guard, Hub, self_signed, wait_until};
use crate::relay::Relay;
use crate::{data, next, subscriber};

const CLIENTS: [&str; 3] = ["websockets_.py", "ws.mjs", CHROMIUM];
const CHROMIUM: &str = "chromium";

/// The clients, ready to open WebSockets.
struct Clients {
    scripts: Scripts,
    page: Page,
    browser: Browser,
    opened: AtomicUsize,
}

impl Clients {
    fn start() -> Self {
        let page = Page::serve();
        Self {
            scripts: Scripts::lay_out(),
            browser: page.open_and_wait(),
            page,
            opened: AtomicUsize::new(0),
        }
    }

    /// A hub that Chromium's page may use.
    fn hub(&self, arguments: &[&str]) -> Hub {
        Hub::start(&[&["--allowed-origin", &self.page.origin()], arguments].concat())
    }

    /// Opens one and reads its greeting.
    fn open(&self, client: &'static str, url: &str) -> Socket<'_> {
        self.open_trusting(client, url, None)
    }

    /// The same of a hub with this certificate.
    fn open_trusting(
        &self,
        client: &'static str,
        url: &str,
        certificate: Option<&str>,
    ) -> Socket<'_> {
        let mut socket = self.begin(client, url, certificate);
        let greeting = socket.event();
        assert_eq!(greeting["event"], "connected", "{client}: {greeting}");
        socket.connected = greeting["data"].clone();
        socket
    }

    /// One of each.
    fn open_all(&self, url: &str) -> Vec<Socket<'_>> {
        CLIENTS
            .iter()
            .map(|client| self.open(client, url))
            .collect()
    }

    /// Opens one that may be refused.
    fn begin(&self, client: &'static str, url: &str, certificate: Option<&str>) -> Socket<'_> {
        let source = if client == CHROMIUM {
            let name = format!("socket {}", self.opened.fetch_add(1, Ordering::Relaxed));
            self.browser.connect(&name, url);
            Source::Page {
                browser: &self.browser,
                name,
                read: 0,
            }
        } else {
            let child = self
                .scripts
                .command(client)
                .arg(url)
                .args(certificate)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            let mut process = Guard(child.unwrap());
            Source::Process {
                lines: BufReader::new(process.0.stdout.take().unwrap()).lines(),
                stdin: process.0.stdin.take().unwrap(),
                _process: process,
            }
        };
        Socket {
            client,
            source,
            connected: Value::Null,
        }
    }
}

/// A WebSocket of one of the clients.
struct Socket<'a> {
    client: &'static str,
    source: Source<'a>,
    /// What its greeting said.
    connected: Value,
}

enum Source<'a> {
    Process {
        lines: Lines<BufReader<ChildStdout>>,
        stdin: ChildStdin,
        _process: Guard,
    },
    Page {
        browser: &'a Browser,
        name: String,
        read: usize,
    },
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        if let Self::Page { browser, name, .. } = self {
            browser.close(name);
        }
    }
}

impl Socket<'_> {
    /// What it tells next; nothing when its process has ended.
    fn try_line(&mut self) -> Option<String> {
        match &mut self.source {
            Source::Process { lines, .. } => lines.next().map(Result::unwrap),
            Source::Page {
                browser,
                name,
                read,
            } => {
                *read += 1;
                Some(browser.line(name, *read - 1))
            }
        }
    }

    fn line(&mut self) -> String {
        self.try_line()
            .unwrap_or_else(|| panic!("{} ended", self.client))
    }

    fn event(&mut self) -> Value {
        let line = self.line();
        message(&line).unwrap_or_else(|| panic!("{}: {line}", self.client))
    }

    /// The next message; nothing when it could not be opened, or has ended.
    fn try_event(&mut self) -> Option<Value> {
        message(&self.try_line()?)
    }

    fn ask(&mut self, message: &Value) -> Value {
        match &mut self.source {
            Source::Process { stdin, .. } => writeln!(stdin, "{message}").unwrap(),
            Source::Page { browser, name, .. } => browser.send(name, &message.to_string()),
        }
        self.event()
    }

    /// The code and the reason that it was closed with.
    fn closed(&mut self) -> (String, String) {
        let line = self.line();
        let end = line
            .strip_prefix("close ")
            .and_then(|end| end.split_once(' '));
        let (code, reason) = end.unwrap_or_else(|| panic!("{}: {line}", self.client));
        (code.to_owned(), reason.to_owned())
    }
}

fn message(line: &str) -> Option<Value> {
    let message = line.strip_prefix("message ")?;
    Some(serde_json::from_str(message).unwrap())
}

fn url(hub: &Hub, query: &str) -> String {
    format!("ws://{}/events/ws?{query}", hub.address())
}

#[test]
fn all_get_what_was_published_in_the_order_of_a_stream_and_come_back_without_loss() {
    let clients = Clients::start();
    let hub = clients.hub(&["--heartbeat", "1s"]);
    let mut sockets = clients.open_all(&url(&hub, "topic=t"));
    let (_stream, mut lines) = subscriber(&format!("{}?topic=t", hub.events()), &[]);
    wait_until("all are connected", || hub.connections() == 4);
    let values = [
        json!({"a": [1, null]}),
        json!(["x"]),
        json!(3.5),
        Value::Null,
        json!("{\"looks\": \"like JSON\"}"),
        json!("two\nlines"),
        json!("é".repeat(500_000)),
    ];
    let mut published = Vec::new();
    for value in &values {
        published.push(hub.post(&json!({"topic": "t", "data": value, "event_type": "message"})));
    }
    for socket in &mut sockets {
        for (value, published) in values.iter().zip(&published) {
            let event = socket.event();
            assert!(event["data"] == *value, "{}", socket.client);
            assert_eq!(event["id"], published["id"], "{}", socket.client);
        }
    }
    let streamed: Vec<Value> = values.iter().map(|_| next(&mut lines)).collect();
    assert_eq!(data(&streamed)[5], "two\nlines");

    // Back after the third.
    let third = published[2]["id"].as_str().unwrap();
    for mut again in clients.open_all(&url(&hub, &format!("topic=t&last_event_id={third}"))) {
        assert_eq!(again.connected["resumed"], true, "{}", again.client);
        for value in &values[3..] {
            assert!(again.event()["data"] == *value, "{}", again.client);
        }
    }
}

#[test]
fn all_subscribe_publish_acknowledge_and_are_told_of_errors_and_of_the_end() {
    let clients = Clients::start();
    let hub = clients.hub(&["--heartbeat", "1s"]);
    let mut sockets = Vec::new();
    for name in CLIENTS {
        let place = url(&hub, &format!("topic={name}&durable=place-{}", name.len()));
        let mut socket = clients.open(name, &place);
        let answer = socket.ask(&json!({"type": "subscribe", "topics": "more", "ref": 1}));
        assert_eq!(
            (&answer["type"], &answer["ref"]),
            (&json!("subscribed"), &json!(1))
        );
        let answer = socket.ask(&json!({"type": "unsubscribe", "topics": ["more"]}));
        assert_eq!(answer["topics"], json!([name]));
        let refused = socket.ask(&json!({"type": "publish", "data": 1, "id": "a\nb", "ref": "r"}));
        assert_eq!(
            (&refused["status"], &refused["field"]),
            (&json!(400), &json!("id"))
        );
        let answer = socket.ask(&json!({"type": "publish", "data": 1, "topic": "other"}));
        assert_eq!(answer["type"], "published");
        hub.post(&json!([{"topic": name, "data": "first"}, {"topic": name, "data": "second"}]));
        let first = socket.event();
        assert_eq!(
            (&first["data"], &socket.event()["data"]),
            (&json!("first"), &json!("second"))
        );
        assert_eq!(
            socket.ask(&json!({"type": "ack", "id": first["id"]}))["type"],
            "acked"
        );
        drop(socket);
        // The place is kept: behind what was acknowledged.
        let mut socket = clients.open(name, &place);
        assert_eq!(socket.event()["data"], "second");
        sockets.push(socket);
    }
    assert!(hub.ends_well());
    for socket in &mut sockets {
        let (code, reason) = socket.closed();
        assert_eq!(code, "1012", "{}: {reason}", socket.client);
        let reason: Value = serde_json::from_str(&reason).unwrap();
        assert_eq!(reason["reason"], "draining");
        assert!(reason["retry"].is_u64(), "{reason}");
    }
}

#[test]
fn all_speak_over_tls() {
    let clients = Clients::start();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = self_signed(folder.path());
    let origin = clients.page.origin();
    let hub = Hub::start_secure(
        &[
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
            "--allowed-origin",
            &origin,
        ],
        &certificate,
    );
    let (_, port) = hub.address().rsplit_once(':').unwrap();
    let url = format!("wss://localhost:{port}/events/ws?topic=t");
    let mut sockets: Vec<Socket<'_>> = CLIENTS
        .iter()
        .map(|client| clients.open_trusting(client, &url, Some(&certificate)))
        .collect();
    hub.post(&json!({"topic": "t", "data": "x".repeat(1_000_000)}));
    for socket in &mut sockets {
        assert_eq!(socket.event()["data"].as_str().unwrap().len(), 1_000_000);
    }
    assert!(hub.ends_well());
    for socket in &mut sockets {
        assert_eq!(socket.closed().0, "1012", "{}", socket.client);
    }
}

#[test]
fn all_filter_by_patterns_and_types_and_change_that_while_open() {
    let clients = Clients::start();
    let hub = clients.hub(&[]);
    let query = "topic=room/*&topic=hall/:id&topic=plain&event_types=x,y";
    let mut sockets = clients.open_all(&url(&hub, query));
    // Publishes these, the last of them one that comes, and checks which come.
    let publish = |sockets: &mut [Socket<'_>], events: &[(&str, Option<&str>, bool)]| {
        let json = |(n, (topic, event_type, _)): (usize, &(&str, Option<&str>, bool))| {
            let mut json = json!({"topic": topic, "data": n});
            if let Some(event_type) = event_type {
                json["event_type"] = (*event_type).into();
            }
            json
        };
        let batch: Vec<Value> = events.iter().enumerate().map(json).collect();
        hub.post(&json!(batch));
        assert!(
            events.last().unwrap().2,
            "so that it is known when all came"
        );
        let expected = events.iter().enumerate().filter(|(_, event)| event.2);
        for (n, (topic, event_type, _)) in expected {
            for socket in &mut *sockets {
                let event = socket.event();
                let came = (&event["data"], &event["topic"], event["event"].as_str());
                let expected = (&json!(n), &json!(topic), *event_type);
                assert_eq!(came, expected, "{}: {event}", socket.client);
            }
        }
    };
    let events = [
        ("room/1", Some("x"), true),
        ("room/1", Some("z"), false),
        ("hall/7", None, false),
        ("hall/7", Some("y"), true),
        ("hall/7/side", Some("y"), false),
        ("other", Some("x"), false),
        ("plain", Some("z"), false),
        ("plain", Some("y"), true),
        ("room/2", Some("y"), true),
    ];
    publish(&mut sockets, &events);
    // A replay is filtered by the same.
    let replay = url(&hub, &format!("{query}&last_event_id=earliest"));
    for mut again in clients.open_all(&replay) {
        for (n, _) in events.iter().enumerate().filter(|(_, event)| event.2) {
            assert_eq!(again.event()["data"], n, "{}", again.client);
        }
    }
    for socket in &mut sockets {
        let more = json!({"type": "subscribe", "topics": ["oth*"], "event_types": ["z"], "ref": 1});
        let answer = socket.ask(&more);
        assert_eq!(
            (&answer["type"], &answer["ref"]),
            (&json!("subscribed"), &json!(1))
        );
        assert_eq!(
            answer["event_types"],
            json!(["x", "y", "z"]),
            "{}",
            socket.client
        );
    }
    publish(
        &mut sockets,
        &[
            ("other", None, false),
            ("other", Some("z"), true),
            ("room/1", Some("z"), true),
        ],
    );
    for socket in &mut sockets {
        let less =
            json!({"type": "unsubscribe", "topics": ["room/*", "plain"], "event_types": "x"});
        let answer = socket.ask(&less);
        assert_eq!(
            answer["event_types"],
            json!(["y", "z"]),
            "{}",
            socket.client
        );
    }
    publish(
        &mut sockets,
        &[
            ("room/1", Some("y"), false),
            ("plain", Some("y"), false),
            ("hall/1", Some("x"), false),
            ("hall/1", Some("y"), true),
            ("other", Some("z"), true),
        ],
    );
}

#[test]
fn all_are_told_of_the_gap_when_their_place_is_not_known() {
    let clients = Clients::start();
    // Without a folder each start is another log.
    let mut hub = clients.hub(&["--ephemeral"]);
    let mut sockets = clients.open_all(&url(&hub, "topic=t"));
    let before = hub.post(&json!({"topic": "t", "data": "before"}));
    let place = before["position"].as_str().unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.event()["position"], place, "{}", socket.client);
    }
    hub.kill();
    for socket in &mut sockets {
        assert_eq!(socket.closed().0, "1006", "{}", socket.client);
    }
    hub.start_again();
    hub.post(&json!({"topic": "t", "data": "not seen"}));
    for (id, reason, from) in [
        (place, "foreign_epoch", json!(place)),
        ("some-id", "unknown_id", Value::Null),
    ] {
        let mut sockets = clients.open_all(&url(&hub, &format!("topic=t&last_event_id={id}")));
        for socket in &mut sockets {
            assert_eq!(socket.connected["gap"], true, "{}", socket.client);
            let gap = socket.event();
            assert_eq!(gap["event"], "gap", "{}: {gap}", socket.client);
            let said = (&gap["data"]["reason"], &gap["data"]["from"]);
            assert_eq!(said, (&json!(reason), &from), "{}", socket.client);
        }
        hub.post(&json!({"topic": "t", "data": "the last"}));
        for socket in &mut sockets {
            while socket.event()["data"] != "the last" {}
        }
    }
}

#[test]
fn a_full_hub_says_so_and_when_to_come_back() {
    let clients = Clients::start();
    let hub = clients.hub(&["--max-connections", "1"]);
    let relay = Relay::watch(hub.address());
    let mut first = clients.open("ws.mjs", &url(&hub, "topic=t"));
    for client in CLIENTS {
        let mut refused = if client == CHROMIUM {
            // It tells a page nothing of the answer.
            let url = format!("ws://{}/events/ws?topic=t", relay.address());
            clients.begin(client, &url, None)
        } else {
            clients.begin(client, &url(&hub, "topic=t"), None)
        };
        let line = refused.line();
        if client == CHROMIUM {
            assert_eq!(line, "close 1006 ");
            let answer = relay.passed("GET /events/ws").answer.to_lowercase();
            assert!(answer.starts_with("http/1.1 503 "), "{answer}");
            assert!(answer.contains("\r\nretry-after: "), "{answer}");
            continue;
        }
        let mut said = line.splitn(4, ' ');
        assert_eq!(said.next(), Some("refused"), "{client}: {line}");
        assert_eq!(said.next(), Some("503"), "{client}: {line}");
        let seconds = said.next().unwrap().parse::<u64>();
        assert!(seconds.is_ok_and(|seconds| seconds > 0), "{client}: {line}");
        let problem: Value = serde_json::from_str(said.next().unwrap()).unwrap();
        assert_eq!(problem["status"], 503, "{client}: {line}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("the hub is full"), "{client}: {line}");
    }
    // The one that is there is not disturbed, and its place is another's when it goes.
    hub.post(&json!({"topic": "t", "data": 1}));
    assert_eq!(first.event()["data"], 1);
    drop(first);
    for client in CLIENTS {
        wait_until("a place is free", || hub.connections() == 0);
        clients.open(client, &url(&hub, "topic=t"));
    }
}

#[test]
fn a_page_of_a_foreign_origin_is_refused_in_a_browser_and_one_that_is_allowed_is_not() {
    let clients = Clients::start();
    let hub = clients.hub(&[]);
    let foreign = Page::serve();
    let browser = foreign.open_and_wait();
    let relay = Relay::watch(hub.address());
    let path = "events/ws?topic=t";
    browser.connect("foreign", &format!("ws://{}/{path}", hub.address()));
    assert_eq!(browser.line("foreign", 0), "close 1006 ");
    browser.connect("watched", &format!("ws://{}/{path}", relay.address()));
    assert_eq!(browser.line("watched", 0), "close 1006 ");
    let answer = relay.passed("GET /events/ws").answer;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(hub.connections(), 0);

    let mut allowed = clients.open(CHROMIUM, &url(&hub, "topic=t"));
    for n in 0..200 {
        match n % 2 {
            0 => drop(hub.post(&json!({"topic": "t", "data": n}))),
            // The event and the answer, whichever comes first.
            _ => {
                let publish = json!({"type": "publish", "topic": "t", "data": n});
                let both = [allowed.ask(&publish), allowed.event()];
                let has = |field: &str, value: Value| both.iter().any(|it| it[field] == value);
                assert!(
                    has("type", "published".into()) && has("data", n.into()),
                    "{both:?}"
                );
                continue;
            }
        }
        assert_eq!(allowed.event()["data"], n);
    }
}

#[test]
fn a_hub_that_is_killed_again_and_again_costs_nobody_an_event_and_repeats_none() {
    let clients = Clients::start();
    let mut hub = clients.hub(&[]);
    let address = hub.address().to_owned();
    let killed = AtomicUsize::new(0);
    let read = CLIENTS.map(|_| AtomicUsize::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for n in 0..(KILLS + 1) * ROUND {
                while n / ROUND > killed.load(Ordering::Relaxed) {
                    std::thread::sleep(SHORTLY);
                }
                while !is_published(&address, n) {
                    std::thread::sleep(SHORTLY);
                }
            }
        });
        let readers: Vec<_> = CLIENTS
            .iter()
            .zip(&read)
            .map(|(client, read)| threads.spawn(|| read_through(&clients, client, &address, read)))
            .collect();
        for round in 0..KILLS {
            // In the middle of it, for the publisher and for all who read.
            let is_there = |read: &AtomicUsize| read.load(Ordering::Relaxed) > round * ROUND + 10;
            wait_until("all read of this round", || read.iter().all(is_there));
            hub.kill();
            killed.fetch_add(1, Ordering::Relaxed);
            hub.start_again();
        }
        for (client, reader) in CLIENTS.iter().zip(readers) {
            let (events, opened) = reader.join().unwrap();
            let expected: Vec<usize> = (0..(KILLS + 1) * ROUND).collect();
            assert_eq!(events, expected, "{client}");
            assert!(opened > KILLS, "{client} was there at every kill");
        }
    });
}

/// Publishes an event once, however often it is asked to; whether that was acknowledged.
fn is_published(address: &str, n: usize) -> bool {
    let body = json!({"topic": "t", "id": format!("event-{n}"), "data": n}).to_string();
    let request = format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    let asked = TcpStream::connect(address).and_then(|mut socket| {
        socket.write_all(request.as_bytes())?;
        socket.read_to_string(&mut answer)
    });
    asked.is_ok() && answer.starts_with("HTTP/1.1 200 ")
}

/// Reads all rounds, coming back where it was whenever the socket ends; the events and how often it was open.
fn read_through(
    clients: &Clients,
    client: &'static str,
    address: &str,
    read: &AtomicUsize,
) -> (Vec<usize>, usize) {
    let (mut events, mut opened) = (Vec::new(), 0);
    let mut last = "earliest".to_owned();
    while events.len() < (KILLS + 1) * ROUND {
        let url = format!("ws://{address}/events/ws?topic=t&last_event_id={last}");
        let mut socket = clients.begin(client, &url, None);
        if let Some(greeting) = socket.try_event() {
            opened += 1;
            assert_eq!(greeting["data"]["gap"], false, "{client}: {greeting}");
            while let Some(event) = socket.try_event() {
                let n = usize::try_from(event["data"].as_u64().unwrap()).unwrap();
                events.push(n);
                read.store(events.len(), Ordering::Relaxed);
                // By its position, or by the publisher's id.
                let field = if n % 2 == 0 { "position" } else { "id" };
                last = event[field].as_str().unwrap().to_owned();
                if events.len() == (KILLS + 1) * ROUND {
                    break;
                }
            }
        }
        std::thread::sleep(SHORTLY);
    }
    (events, opened)
}

const KILLS: usize = 3;
/// Events between two kills.
const ROUND: usize = 100;
const SHORTLY: Duration = Duration::from_millis(2);
