//! What a reader that is late is spared, and what a reader collects that asks for its events together.

use std::collections::HashMap;
use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::client::{Event, Stream, Wire};
use crate::server::Server;

const RULES: [&str; 6] = [
    "--when-late",
    "price/*;latest=symbol",
    "--when-late",
    "log/*;drop-low",
    "--late-after",
    "400ms",
];
/// More than the system takes of them for a reader that reads nothing.
const EVENTS: u64 = 3_000;
const SYMBOLS: u64 = 5;

/// A reader with the small buffers of a network, which has read its first event and reads no more.
fn slow_reader(server: &Server, headers: &[(&str, &str)]) -> Stream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.set_tcp_mss(1_400).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut wire = Wire::from_socket(socket.into());
    wire.write(&server.bytes("GET", "/events", headers, None));
    Stream::read(wire).unwrap()
}

/// The `n`th event. Each is of another kind than the one before.
fn event(n: u64) -> Value {
    // Noise, so that compression does not make it all fit into the socket.
    let noise: String = (0..40)
        .map(|k| format!("{:x}", (n * 40 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let data = json!({"n": n, "symbol": n / 4 % SYMBOLS, "noise": noise});
    match n % 4 {
        0 => json!({"topic": "price/all", "event_type": "price", "data": data}),
        1 => json!({"topic": "log/a", "event_type": "low", "priority": "low", "data": data}),
        2 => json!({"topic": "log/a", "event_type": "high", "priority": "high", "data": data}),
        _ => json!({"topic": "other", "event_type": "other", "data": data}),
    }
}

fn publish_all(server: &Server) {
    for begin in (0..EVENTS).step_by(100) {
        let events: Vec<_> = (begin..begin + 100).map(event).collect();
        server.publish(&json!(events));
    }
}

/// Everything that is there, and what is told behind it.
fn rest(server: &Server, stream: &mut Stream) -> Vec<Event> {
    server.publish(&json!({"topic": "end", "event_type": "end", "data": 0}));
    let mut events = stream.until("end");
    events.pop();
    server.publish(&json!({"topic": "end", "event_type": "behind", "data": 0}));
    events.extend(stream.until("behind"));
    events.pop();
    events
}

#[test]
fn a_late_reader_gets_the_newest_of_each_thing_and_is_told_what_it_misses() {
    let in_window: &[&str] = &[];
    let from_the_log: &[&str] = &["--window", "64KiB"];
    let gzip: &[(&str, &str)] = &[("Accept-Encoding", "gzip")];
    for (flags, headers) in [
        (in_window, &[][..]),
        (in_window, gzip),
        (from_the_log, &[]),
        (from_the_log, gzip),
    ] {
        let server = Server::with(&[&RULES, flags, &["--send-timeout", "60s"]].concat());
        let mut late = slow_reader(&server, headers);
        publish_all(&server);
        std::thread::sleep(Duration::from_millis(500));
        let events = rest(&server, &mut late);

        let mut counts = HashMap::<&str, u64>::new();
        let mut newest = HashMap::new();
        let mut gaps = 0;
        let mut before = None;
        for event in &events {
            *counts.entry(event.name.as_str()).or_default() += 1;
            match event.name.as_str() {
                "gap" => {
                    assert_eq!(event.json()["reason"], "low_priority");
                    assert_eq!(event.json()["to"], event.id.as_deref().unwrap());
                    gaps += 1;
                }
                _ => {
                    let n = event.json()["n"].as_u64();
                    assert!(before < n, "out of order: {before:?}, {n:?}");
                    before = n;
                    if event.name == "price" {
                        newest.insert(event.json()["symbol"].clone(), n.unwrap());
                    }
                }
            }
        }
        let of_each = EVENTS / 4;
        assert_eq!(
            (counts["high"], counts["other"]),
            (of_each, of_each),
            "{flags:?} {counts:?}"
        );
        let mut newest: Vec<_> = newest.into_values().collect();
        newest.sort_unstable();
        let expected: Vec<_> = (0..EVENTS).filter(|n| n % 4 == 0).rev().take(5).collect();
        assert!(newest.iter().rev().eq(&expected), "{flags:?} {newest:?}");
        assert!(counts["price"] < of_each / 2, "{flags:?} {counts:?}");
        assert!(
            counts.get("low").copied().unwrap_or(0) < of_each / 2,
            "{flags:?} {counts:?}"
        );
        assert!(gaps > 0);

        // Nothing is lost that is not counted.
        let stats = server.get("/events/stats").ok();
        let left_out = &stats["events_left_out"];
        assert_eq!(
            left_out["superseded"],
            of_each - counts["price"],
            "{flags:?} {stats}"
        );
        let low = of_each - counts.get("low").copied().unwrap_or(0);
        assert_eq!(left_out["low_priority"], low, "{flags:?}");
        let by_reason = &stats["gaps_by_reason"]["low_priority"];
        assert_eq!(
            (&by_reason["gaps"], &by_reason["missed_events"]),
            (&json!(gaps), &json!(low))
        );
        assert_eq!(stats["success_rate"], 1.0, "policy is no failure");
        let metrics = server.get("/metrics").text();
        let line = format!("sse_events_left_out_total{{reason=\"low_priority\"}} {low}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn a_reader_that_resumes_late_is_late_and_a_poll_gets_everything() {
    let server = Server::with(&RULES);
    let start = server.head();
    publish_all(&server);
    std::thread::sleep(Duration::from_millis(500));
    let mut stream = server.resume("/events", &start);
    let events = rest(&server, &mut stream);
    let price = events.iter().filter(|event| event.name == "price").count();
    assert_eq!(price as u64, SYMBOLS);
    assert!(!events.iter().any(|event| event.name == "low"));
    let polled = server
        .get(&format!("/events/poll?after={start}&topic=log/a"))
        .ok();
    assert_eq!(polled["events"][0]["event"], "low");
}

#[test]
fn without_a_rule_a_late_reader_gets_everything() {
    let server = Server::with(&["--send-timeout", "60s", "--late-after", "1ms"]);
    let mut late = slow_reader(&server, &[]);
    publish_all(&server);
    assert_eq!(rest(&server, &mut late).len() as u64, EVENTS);
}

#[test]
fn wrong_rules_are_refused_in_one_line() {
    for (rule, complaint) in [
        ("price/*", "TOPICS;POLICY"),
        (";latest", "names no topic"),
        ("price/{;latest", "not a valid pattern"),
        ("a;newest", "drop-low"),
        ("a;latest=", "name of the field"),
        ("a;sample", "sample=100ms"),
        ("a;sample=0", "at least 1ms"),
        ("a;sample=soon", "not a valid duration"),
        ("a;drop-low=1", "drop-low"),
    ] {
        let output = crate::server::command()
            .args(["--ephemeral", "--when-late", rule])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.contains(complaint),
            "{rule}: {text}"
        );
    }
}

/// The bodies of the chunks that came until `last` was among them, and when.
fn chunks_until(wire: &mut Wire, last: &str) -> Vec<(Instant, String)> {
    let mut chunks = Vec::new();
    let mut bytes = Vec::new();
    wire.socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    while !chunks
        .iter()
        .any(|(_, body): &(Instant, String)| body.contains(last))
    {
        let mut some = [0; 4096];
        let read = wire.socket.read(&mut some).unwrap();
        assert!(read > 0, "the stream ended");
        bytes.extend_from_slice(&some[..read]);
        while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
            let length = std::str::from_utf8(&bytes[..end]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            let whole = end + 2 + length + 2;
            if bytes.len() < whole {
                break;
            }
            let body = String::from_utf8(bytes[end + 2..end + 2 + length].to_vec()).unwrap();
            chunks.push((Instant::now(), body));
            bytes.drain(..whole);
        }
    }
    chunks
}

#[test]
fn events_that_a_reader_collects_come_together() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address);
    wire.write(&server.bytes("GET", "/events?batch=500ms", &[], None));
    wire.head().unwrap();
    assert!(wire.buffer.is_empty() || wire.buffer.ends_with(b"\r\n"));
    wire.buffer.clear();
    server.publish(&json!({"data": "first"}));
    let mut chunks = chunks_until(&mut wire, "first");
    for n in 0..20 {
        server.publish(&json!({"data": format!("number {n}.")}));
    }
    chunks.extend(chunks_until(&mut wire, "number 19."));
    let with_events: Vec<_> = chunks
        .iter()
        .filter(|(_, body)| body.contains("first") || body.contains("number"))
        .collect();
    let text: String = with_events.iter().map(|(_, body)| &body[..]).collect();
    let places: Vec<_> = (0..20)
        .map(|n| text.find(&format!("number {n}.")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{text}");
    // Publishing takes some milliseconds, or longer on a busy machine.
    let took = with_events.last().unwrap().0 - with_events[0].0;
    assert!(took >= Duration::from_millis(450), "{took:?}");
    let most = 2 + took.as_millis() / 450;
    assert!(
        with_events.len() as u128 <= most,
        "{} in {took:?}",
        with_events.len()
    );
}

#[test]
fn every_kind_of_stream_collects_and_ends_at_once() {
    let server = Server::start();
    for path in ["/events?batch=10s", "/events?batch=10s&compression=gzip"] {
        let mut stream = server.open(path);
        server.publish(&json!({"data": 1}));
        assert_eq!(stream.next().data, "1", "the first one does not wait");
        server.publish(&json!({"data": 2}));
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        let path = format!("/events/connections/{}", stream.connection_id());
        server.request("DELETE", &path, &[], b"");
        let (events, _) = stream.rest();
        assert!(began.elapsed() < Duration::from_secs(8), "{events:?}");
    }
    for (batch, complaint) in [
        ("11s", "at most 10 s"),
        ("soon", "duration"),
        ("-1", "duration"),
    ] {
        let problem = server.get(&format!("/events?batch={batch}")).problem(400);
        assert_eq!(problem["field"], "batch");
        assert!(
            problem["detail"].as_str().unwrap().contains(complaint),
            "{problem}"
        );
    }
    server.get("/events/poll?batch=1s").problem(400);
}
