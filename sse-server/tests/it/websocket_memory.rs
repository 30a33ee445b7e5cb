//! What WebSockets take of memory, and that they give it back.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::client::eventually;
use crate::frames::{CONTINUATION, PING, PONG, TEXT, WebSocket, head, masked};
use crate::server::Server;

/// A frame's head says how long it will be; memory is only used for what has come.
#[test]
fn a_promise_of_much_costs_little() {
    let server = Server::start();
    let before = resident_bytes(&server);
    let promise = [head(true, TEXT, 4 << 20, true), vec![0; 4]].concat();
    let sockets: Vec<WebSocket> = (0..90)
        .map(|_| {
            let mut socket = WebSocket::open(&server, "?topic=t");
            socket.wire.write(&promise);
            socket.wire.write(b"a little");
            socket
        })
        .collect();
    eventually("all are there", || (server.active() == 90).then_some(()));
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "{grown} bytes for {} sockets",
        sockets.len()
    );
}

/// What a message on its way holds is of the same account as a request's body.
#[test]
fn messages_that_do_not_end_find_no_memory_at_last() {
    let server = Server::with(&["--memory", "80MiB"]);
    let promise = [head(true, TEXT, 2_000_000, true), vec![0; 4]].concat();
    let mut sockets: Vec<WebSocket> = (0..3)
        .map(|_| {
            let mut socket = WebSocket::open(&server, "?topic=t");
            socket.wire.write(&promise);
            socket
        })
        .collect();
    let part = vec![b' '; 1_400_000];
    sockets[0].wire.write(&part);
    let held = || server.get("/events/stats").ok()["memory"]["bodies"]["held_bytes"].as_u64();
    eventually("the first is there", || (held()? > 1_400_000).then_some(()));
    sockets[1].wire.write(&part);
    eventually("the second is there", || {
        (held()? > 2_800_000).then_some(())
    });
    sockets[2].wire.write(&part);
    let (code, reason) = sockets[2].closed();
    assert_eq!(code, 1013, "{reason}");
    assert!(
        reason.contains("bodies") && reason.contains("retry"),
        "{reason}"
    );
    // A small one needs none.
    let mut small = WebSocket::open(&server, "?topic=t");
    small.ask(&json!({"type": "publish", "topic": "t", "data": 1}));
    drop(sockets);
    eventually("all is given back", || (held()? == 0).then_some(()));
}

/// The library keeps a buffer as large as the largest frame it has read.
#[test]
fn a_large_message_leaves_nothing_behind() {
    let server = Server::start();
    let held = || server.get("/events/stats").ok()["memory"]["bodies"]["held_bytes"].clone();
    let mut sockets: Vec<WebSocket> = (0..30)
        .map(|_| WebSocket::open(&server, "?topic=nothing"))
        .collect();
    let padding = " ".repeat(3_000_000);
    let message = format!("{{\"type\": \"subscribe\", \"topic\": \"a\"{padding}}}");
    let ask = |socket: &mut WebSocket| {
        socket.write(TEXT, message.as_bytes());
        assert_eq!(socket.event()["type"], "subscribed");
    };
    // What one takes for the time being, all may take in turn.
    ask(&mut sockets[0]);
    let before = resident_bytes(&server);
    for socket in &mut sockets[1..] {
        ask(socket);
    }
    eventually("its memory is free", || (held() == 0).then_some(()));
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes");
    for socket in &mut sockets {
        let answer = socket.ask(&json!({"type": "unsubscribe", "topic": "a"}));
        assert_eq!(answer["type"], "subscribed");
    }
}

/// Whatever comes behind a large message comes whole, as the memory of that is given back in between.
#[test]
fn large_and_small_messages_come_in_turn_however_they_are_cut() {
    let server = Server::start();
    let mut chance = fastrand::Rng::with_seed(7);
    for _ in 0..10 {
        let mut bytes = Vec::new();
        let mut pings = 0;
        for n in 0..20 {
            let padding = " ".repeat(
                *chance
                    .choice(&[0, 10, 4_000, 9_000, 70_000, 300_000])
                    .unwrap(),
            );
            let message =
                json!({"type": "subscribe", "topic": "a", "ref": n}).to_string() + &padding;
            let message = message.as_bytes();
            let (mut at, mut opcode) = (0, TEXT);
            while at < message.len() {
                let to = match chance.bool() {
                    true => message.len(),
                    false => chance.usize(at..=message.len()),
                };
                bytes.extend(masked(to == message.len(), opcode, &message[at..to]));
                (at, opcode) = (to, CONTINUATION);
                if chance.bool() {
                    pings += 1;
                    bytes.extend(masked(true, PING, b"within or between"));
                }
            }
        }
        let mut socket = WebSocket::open(&server, "?topic=nothing");
        let mut writer = socket.wire.socket.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(chance.usize(1..20_000)));
                writer.write_all(now).unwrap();
                rest = later;
            }
            chance
        });
        let mut answers = 0;
        while answers < 20 || pings > 0 {
            let frame = socket.frame().unwrap();
            match frame.opcode {
                PONG => pings -= 1,
                TEXT => {
                    let answer: Value = serde_json::from_slice(&frame.payload).unwrap();
                    assert_eq!(answer["ref"], answers, "{answer}");
                    answers += 1;
                }
                _ => {}
            }
        }
        chance = writing.join().unwrap();
        eventually("their memory is free", || {
            let stats = server.get("/events/stats").ok();
            (stats["memory"]["bodies"]["held_bytes"] == 0).then_some(())
        });
    }
}

/// The buffer of the largest message stayed with every connection.
#[test]
fn a_large_event_leaves_nothing_behind() {
    let server = Server::with(&[
        "--max-connections-per-ip",
        "100",
        "--max-event",
        "4MiB",
        // They are read one after the other.
        "--send-timeout",
        "60s",
    ]);
    let mut sockets: Vec<WebSocket> = (0..50)
        .map(|_| WebSocket::open(&server, "?topic=t"))
        .collect();
    let before = resident_bytes(&server);
    server.publish(&json!({"topic": "t", "data": "x".repeat(3_000_000)}));
    for socket in &mut sockets {
        assert_eq!(socket.event()["data"].as_str().unwrap().len(), 3_000_000);
    }
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(
        grown < 60 << 20,
        "{grown} bytes for {} readers",
        sockets.len()
    );
}

/// What a process has in memory, in bytes.
pub(crate) fn resident_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes << 10
}
