//! Two WebSocket clients that know nothing of each other, Python's `websockets` and Node's `ws`, at the real hub.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::clients::reading::Scripts;
use crate::hub::{Guard, Hub, self_signed, wait_until};
use crate::{data, next, subscriber};

const SCRIPTS: [&str; 2] = ["websockets_.py", "ws.mjs"];

/// A client at work.
struct Socket {
    name: &'static str,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: ChildStdin,
    _process: Guard,
}

impl Socket {
    /// Opens one and reads its greeting.
    fn open(scripts: &Scripts, name: &'static str, url: &str, more: &[&str]) -> Self {
        let child = scripts
            .command(name)
            .arg(url)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = Guard(child.unwrap());
        let mut socket = Self {
            name,
            lines: BufReader::new(process.0.stdout.take().unwrap()).lines(),
            stdin: process.0.stdin.take().unwrap(),
            _process: process,
        };
        let greeting = socket.event();
        assert_eq!(greeting["event"], "connected", "{name}: {greeting}");
        socket
    }

    fn line(&mut self) -> String {
        let line = self.lines.next();
        line.unwrap_or_else(|| panic!("{} ended", self.name))
            .unwrap()
    }

    fn event(&mut self) -> Value {
        let line = self.line();
        let message = line.strip_prefix("message ");
        let message = message.unwrap_or_else(|| panic!("{}: {line}", self.name));
        serde_json::from_str(message).unwrap()
    }

    fn ask(&mut self, message: &Value) -> Value {
        writeln!(self.stdin, "{message}").unwrap();
        self.event()
    }

    /// The code and the reason that it was closed with.
    fn closed(&mut self) -> (String, String) {
        let line = self.line();
        let end = line
            .strip_prefix("close ")
            .and_then(|end| end.split_once(' '));
        let (code, reason) = end.unwrap_or_else(|| panic!("{}: {line}", self.name));
        (code.to_owned(), reason.to_owned())
    }
}

fn url(hub: &Hub, query: &str) -> String {
    format!("ws://{}/events/ws?{query}", hub.address())
}

#[test]
fn both_get_what_was_published_in_the_order_of_a_stream_and_come_back_without_loss() {
    let scripts = Scripts::lay_out();
    let hub = Hub::start(&["--heartbeat", "1s"]);
    let mut sockets: Vec<Socket> = SCRIPTS
        .iter()
        .map(|name| Socket::open(&scripts, name, &url(&hub, "topic=t"), &[]))
        .collect();
    let (_stream, mut lines) = subscriber(&format!("{}?topic=t", hub.events()), &[]);
    wait_until("all are connected", || hub.connections() == 3);
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
            assert!(event["data"] == *value, "{}", socket.name);
            assert_eq!(event["id"], published["id"], "{}", socket.name);
        }
    }
    let streamed: Vec<Value> = values.iter().map(|_| next(&mut lines)).collect();
    assert_eq!(data(&streamed)[5], "two\nlines");

    // Back after the third.
    let third = published[2]["id"].as_str().unwrap();
    for name in SCRIPTS {
        let url = url(&hub, &format!("topic=t&last_event_id={third}"));
        let mut again = Socket::open(&scripts, name, &url, &[]);
        for value in &values[3..] {
            assert!(again.event()["data"] == *value, "{name}");
        }
    }
}

#[test]
fn both_subscribe_publish_acknowledge_and_are_told_of_errors_and_of_the_end() {
    let scripts = Scripts::lay_out();
    let hub = Hub::start(&["--heartbeat", "1s"]);
    let mut sockets = Vec::new();
    for name in SCRIPTS {
        let place = url(&hub, &format!("topic={name}&durable=place-{}", name.len()));
        let mut socket = Socket::open(&scripts, name, &place, &[]);
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
        let mut socket = Socket::open(&scripts, name, &place, &[]);
        assert_eq!(socket.event()["data"], "second");
        sockets.push(socket);
    }
    assert!(hub.ends_well());
    for socket in &mut sockets {
        let (code, reason) = socket.closed();
        assert_eq!(code, "1012", "{}: {reason}", socket.name);
        let reason: Value = serde_json::from_str(&reason).unwrap();
        assert_eq!(reason["reason"], "draining");
        assert!(reason["retry"].is_u64(), "{reason}");
    }
}

#[test]
fn both_speak_over_tls() {
    let scripts = Scripts::lay_out();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = self_signed(folder.path());
    let hub = Hub::start_secure(
        &["--tls-cert", &certificate, "--tls-key", &key],
        &certificate,
    );
    let (_, port) = hub.address().rsplit_once(':').unwrap();
    let url = format!("wss://localhost:{port}/events/ws?topic=t");
    let mut sockets: Vec<Socket> = SCRIPTS
        .iter()
        .map(|name| Socket::open(&scripts, name, &url, &[&certificate]))
        .collect();
    hub.post(&json!({"topic": "t", "data": "x".repeat(1_000_000)}));
    for socket in &mut sockets {
        assert_eq!(socket.event()["data"].as_str().unwrap().len(), 1_000_000);
    }
    assert!(hub.ends_well());
    for socket in &mut sockets {
        assert_eq!(socket.closed().0, "1012", "{}", socket.name);
    }
}
