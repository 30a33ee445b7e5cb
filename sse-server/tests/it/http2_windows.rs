//! Clients over HTTP/2 that ask and do not take the answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Wire, eventually};
use crate::http2::{CANCEL, Http2};
use crate::server::Server;

/// A server with events, and the path of a poll that gets 200 KB of them.
fn with_events(flags: &[&str]) -> (Server, String) {
    let mut all = vec!["--send-timeout", "1s"];
    all.extend_from_slice(flags);
    let server = Server::with(&all);
    let start = server.head();
    let events: Vec<Value> = (0..100)
        .map(|n| json!({"data": format!("{n} {}", "x".repeat(2_000))}))
        .collect();
    server.publish(&json!(events));
    let path = format!("/events/poll?after={start}&limit=1000");
    (server, path)
}

fn held_for_answers(server: &Server) -> u64 {
    let stats = server.get("/events/stats").ok();
    stats["memory"]["answers"]["held_bytes"].as_u64().unwrap()
}

#[test]
fn answers_without_a_window_are_reset_and_give_their_memory_back() {
    let (server, poll) = with_events(&[]);
    let mut clients: Vec<_> = (0..4).map(|_| Http2::connect(&server, 0)).collect();
    for client in &mut clients {
        for n in 0..100 {
            client.get(2 * n + 1, &poll);
        }
    }
    eventually("answers wait", || {
        (held_for_answers(&server) > 1_000_000).then_some(())
    });
    let begun = Instant::now();
    eventually("their memory is free", || {
        (held_for_answers(&server) == 0).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(20));
    for client in &mut clients {
        client.until("all are reset", |it| it.reset.len() == 100);
        assert!(client.reset.values().all(|code| *code == CANCEL));
        // The connection is good for others.
        client.assert_alive();
        client.get(201, "/livez");
        client.open_window(201, 100);
        client.until("another answer", |it| it.ended.contains(&201));
        assert_eq!(client.text(201), "ok\n");
    }
}

#[test]
fn a_window_that_opens_by_one_byte_and_shuts_again_holds_no_memory_either() {
    let (server, poll) = with_events(&[]);
    let mut client = Http2::connect(&server, 0);
    let paths = [poll.as_str(), "/events/stats", "/livez"];
    for (path, stream) in paths.iter().zip([1, 3, 5]) {
        client.get(stream, path);
        client.open_window(stream, 1);
        client.until("a byte", |it| it.data.contains_key(&stream));
    }
    // All but the last byte of an answer whose length is known.
    client.get(7, "/livez");
    client.open_window(7, 2);
    client.until("all are reset", |it| it.reset.len() == 4);
    assert!(client.ended.is_empty());
    assert_eq!((client.text(5), client.text(7)), ("o".into(), "ok".into()));
    eventually("their memory is free", || {
        (held_for_answers(&server) == 0).then_some(())
    });
    client.assert_alive();
}

#[test]
fn an_answer_of_which_a_little_is_taken_within_each_timeout_comes_whole() {
    let (server, poll) = with_events(&[]);
    let mut client = Http2::connect(&server, 0);
    client.get(1, &poll);
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(250));
        client.open_window(1, 10);
        sent += 10;
        client.until("ten bytes", |it| it.text(1).len() == sent);
    }
    client.open_window(0, 1 << 20);
    client.open_window(1, 1 << 20);
    client.until("the rest", |it| it.ended.contains(&1));
    let answer: Value = serde_json::from_str(&client.text(1)).unwrap();
    assert_eq!(answer["events"].as_array().unwrap().len(), 100);
}

#[test]
fn streams_go_on_whose_connection_had_its_window_used_up_by_answers_that_nobody_takes() {
    let (server, poll) = with_events(&[]);
    let mut client = Http2::connect(&server, 1 << 20);
    client.get(1, "/events?topic=a");
    client.until("the greeting", |it| it.text(1).contains("event: connected"));
    client.get(3, "/events?topic=b");
    client.until("the greeting", |it| it.text(3).contains("event: connected"));
    let greeted: usize = [1, 3].iter().map(|stream| client.text(*stream).len()).sum();
    let stuck = [5, 7, 9];
    for stream in stuck {
        client.get(stream, &poll);
    }
    // Nothing is given back to the connection's window.
    let used = |it: &Http2| it.data.values().map(Vec::len).sum::<usize>();
    client.until("the window is used up", |it| used(it) == 65_535);
    client.until("they are reset", |it| it.reset.len() == stuck.len());
    assert!(stuck.iter().all(|stream| client.reset[stream] == CANCEL));
    assert_eq!(server.active(), 2);
    // A client gives back what it throws away.
    let thrown_away = u32::try_from(65_535 - greeted).unwrap();
    client.open_window(0, thrown_away);
    server.publish(&json!({"data": "for a", "topic": "a"}));
    server.publish(&json!({"data": "for b", "topic": "b"}));
    client.until("an event", |it| it.text(1).contains("data: for a"));
    client.until("an event", |it| it.text(3).contains("data: for b"));
    client.get(11, "/livez");
    client.until("another answer", |it| it.ended.contains(&11));
}

/// An answer that waits for the window of its connection, because another one has used it up, is not reset with that one.
#[test]
fn an_answer_that_waited_for_the_connection_comes_when_the_one_before_it_is_reset() {
    let (server, poll) = with_events(&[]);
    let mut client = Http2::connect(&server, 1 << 20);
    client.get(1, &poll);
    client.until("the window is used up", |it| it.text(1).len() == 65_535);
    client.get(3, "/livez");
    client.until("the first is reset", |it| it.reset.contains_key(&1));
    client.open_window(0, 65_535);
    client.until("the other comes", |it| it.ended.contains(&3));
    assert_eq!(client.text(3), "ok\n");
}

#[test]
fn a_stream_of_events_with_a_shut_window_is_reset_and_its_place_is_free() {
    let (server, _) = with_events(&[]);
    let mut client = Http2::connect(&server, 0);
    // One has not even room for its greeting, the other one for more than that.
    client.get(1, "/events?topic=a");
    client.get(3, "/events?topic=a");
    client.open_window(3, 2_000);
    client.until("the greeting", |it| it.text(3).contains("event: connected"));
    assert_eq!(server.active(), 2);
    server.publish(&json!({"data": "x".repeat(4_000), "topic": "a"}));
    eventually("their places are free", || {
        (server.active() == 0).then_some(())
    });
    client.until("both are reset", |it| it.reset.len() == 2);
    assert_eq!(server.get("/events/stats").ok()["evicted_connections"], 2);
    client.assert_alive();
}

#[test]
fn a_stream_of_events_of_which_a_little_is_taken_within_each_timeout_is_kept() {
    let server = Server::with(&["--send-timeout", "2s", "--heartbeat", "0"]);
    let mut client = Http2::connect(&server, 0);
    client.get(1, "/events?topic=a");
    client.open_window(1, 2_000);
    client.until("the greeting", |it| it.text(1).contains("event: connected"));
    for n in 0..20 {
        server.publish(&json!({"data": format!("{n} {}", "x".repeat(4_000)), "topic": "a"}));
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(500));
        let had = client.text(1).len();
        client.open_window(1, 10);
        client.until("more", |it| it.text(1).len() > had);
    }
    assert_eq!(server.active(), 1);
    client.open_window(0, 1 << 20);
    client.open_window(1, 1 << 20);
    client.until("the last event", |it| it.text(1).contains("data: 19 "));
}

#[test]
fn a_connection_that_is_not_read_at_all_is_closed() {
    let (server, poll) = with_events(&[]);
    // Windows without end; it is the socket that is full.
    let wire = Wire::connect_from(server.address, [127, 0, 0, 1].into(), Some(4 << 10)).unwrap();
    let mut client = Http2::begin(wire, (1 << 31) - 1);
    client.open_window(0, (1 << 31) - 1 - 65_535);
    for n in 0..100 {
        client.get(2 * n + 1, &poll);
    }
    eventually("answers wait", || {
        (held_for_answers(&server) > 1_000_000).then_some(())
    });
    eventually("their memory is free", || {
        (held_for_answers(&server) == 0).then_some(())
    });
    // What was sent is read, and then the end.
    let begun = Instant::now();
    while client.read() {}
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "it was still open"
    );
    assert!(client.ended.len() < 100);
}
