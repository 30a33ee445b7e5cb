//! `sse pub --stdin`, and lines that cannot be published.

use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::cli::sse;
use crate::rogue::{Peer, Rogue, soon};

/// What a hub has stored: ids and data, in order.
type Stored = Arc<Mutex<Vec<(String, String)>>>;

/// A hub that takes so many bytes at once. It refuses a request that holds `malformed` as a whole, stores nothing of
/// the event `conflict` alone, and has no time for its request number `busy`.
async fn hub(max_body_bytes: usize, busy: usize) -> (Rogue, Stored) {
    let stored = Stored::default();
    let log = Arc::clone(&stored);
    let rogue = Rogue::start(move |mut peer| {
        let log = Arc::clone(&log);
        async move {
            let (status, answer) = if peer.n == busy {
                ("503 Busy", json!({"title": "Busy", "status": 503}))
            } else {
                answer(&peer, max_body_bytes, &log)
            };
            let body = answer.to_string();
            let length = body.len();
            let head = "Content-Type: application/json\r\nConnection: close";
            peer.write(format!(
                "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        }
    })
    .await;
    (rogue, stored)
}

fn answer(peer: &Peer, max_body_bytes: usize, stored: &Stored) -> (&'static str, Value) {
    let body = &peer.request.body;
    if body.len() > max_body_bytes {
        let problem = json!({"title": "Too large", "status": 413});
        return ("413 Payload Too Large", problem);
    }
    let lines = body.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let events: Vec<Value> = lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    if events.iter().any(|event| event["data"] == "malformed") {
        return (
            "400 Bad Request",
            json!({"title": "Malformed", "status": 400}),
        );
    }
    let results = events.iter().map(|event| {
        if event["data"] == "conflict" {
            return json!({"title": "Conflict", "status": 409, "detail": "other content"});
        }
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        stored.lock().unwrap().push((text("id"), text("data")));
        json!({"id": event["id"], "durability": "fsync"})
    });
    ("200 OK", Value::Array(results.collect()))
}

/// Runs `sse pub --stdin` over this input: exit code, and what standard error says.
async fn publish(rogue: &Rogue, more: &[&str], input: &[u8]) -> (i32, Vec<String>) {
    let url = rogue.url("/events");
    let arguments = [["pub", &url, "--stdin", "--run-id", "run"].as_slice(), more].concat();
    let mut child = sse(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = async {
        // It may end before it has read everything.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (Output { status, stderr, .. }, ()) = soon(async {
        let (output, ()) = tokio::join!(child.wait_with_output(), writing);
        (output.unwrap(), ())
    })
    .await;
    let err = String::from_utf8(stderr).unwrap();
    (
        status.code().unwrap(),
        err.lines().map(str::to_owned).collect(),
    )
}

fn stored_data(stored: &Stored) -> Vec<String> {
    let stored = stored.lock().unwrap();
    stored.iter().map(|(_, data)| data.clone()).collect()
}

#[tokio::test]
async fn a_line_that_cannot_be_published_is_skipped_and_told_and_the_others_go_out_in_order() {
    for batch in ["1", "3", "256"] {
        let (rogue, stored) = hub(1 << 20, 1).await;
        let large = "x".repeat(3_000_000);
        let longest = "y".repeat(40 << 20);
        let mut input =
            format!("one\n{large}\n\nmalformed\nfive\n{longest}\nseven\nconflict\n").into_bytes();
        input.extend_from_slice(b"caf\xe9\nten without an end");
        let (code, err) = publish(&rogue, &["--batch", batch], &input).await;
        assert_eq!(code, 4, "{err:?}");
        let (told, skipped): (Vec<_>, Vec<_>) =
            err.iter().partition(|line| !line.contains("was skipped"));
        // In order of what is found out when: the hub is asked last.
        let mut skipped = skipped.clone();
        skipped.sort();
        assert_eq!(
            skipped,
            [
                "sse: line 2 was skipped: 3000000 bytes; server answered 413 Payload Too Large: Too large",
                "sse: line 4 was skipped: 9 bytes; server answered 400 Bad Request: Malformed",
                "sse: line 6 was skipped: longer than 16777216 bytes",
                "sse: line 8 was skipped: 8 bytes; server answered 409 Conflict: other content",
                "sse: line 9 was skipped: not UTF-8 at byte 4",
            ]
        );
        assert!(
            told[0].contains("; trying again in "),
            "a 503 is waited for: {told:?}"
        );
        assert_eq!(told[1], "sse: 5 events published (fsync), 5 lines skipped");
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(
            *stored.lock().unwrap(),
            [
                ("1", "one"),
                ("3", ""),
                ("5", "five"),
                ("7", "seven"),
                ("10", "ten without an end")
            ]
            .map(|(n, data)| (format!("run-{n}"), data.to_owned())),
            "the id of a line is its number"
        );
    }
}

#[tokio::test]
async fn lines_that_are_too_large_only_together_are_all_published() {
    let (rogue, stored) = hub(2_000, usize::MAX).await;
    let lines: Vec<String> = (0..40)
        .map(|n| format!("{n} {}", "x".repeat(300)))
        .collect();
    let (code, err) = publish(&rogue, &[], lines.join("\n").as_bytes()).await;
    assert_eq!(
        (code, err),
        (0, vec!["sse: 40 events published (fsync)".to_owned()])
    );
    assert_eq!(stored_data(&stored), lines);
}

#[tokio::test]
async fn a_hub_that_refuses_every_line_is_not_asked_for_ever() {
    let (rogue, stored) = hub(1 << 20, usize::MAX).await;
    let (code, err) = publish(&rogue, &[], "malformed\n".repeat(5000).as_bytes()).await;
    assert_eq!(code, 1);
    assert_eq!(err.len(), 101, "a hundred lines and a sentence");
    assert_eq!(
        err[100],
        "sse: the hub refused the first 100 lines; are --topic and --type right?"
    );
    assert_eq!(stored_data(&stored), [""; 0]);
}

#[tokio::test]
async fn what_would_meet_every_line_ends_the_run_with_another_code() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let (code, err) = publish(&rogue, &[], b"caf\xe9\ntwo\nthree\n").await;
    assert_eq!(code, 1);
    assert_eq!(err[0], "sse: line 1 was skipped: not UTF-8 at byte 4");
    assert!(
        err[1].starts_with("sse: line 2: server answered 403 Forbidden")
            && err[1]
                .contains("the lines before it are stored, except for 1 skipped (--run-id run "),
        "{err:?}"
    );
    assert_eq!(err.len(), 2);
}

/// The most memory that the process has held so far.
#[cfg(target_os = "linux")]
fn peak_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_line_of_any_length_is_skipped_in_bounded_memory() {
    let (rogue, stored) = hub(1 << 20, usize::MAX).await;
    let url = rogue.url("/events");
    let mut child = sse(&["pub", &url, "--stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..200 {
        soon(stdin.write_all(&piece)).await.unwrap();
    }
    soon(stdin.write_all(b"\nafter\n")).await.unwrap();
    soon(async {
        while stored_data(&stored).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let peak = peak_bytes(child.id().unwrap());
    assert!(peak < 80 << 20, "{peak} bytes for a line of 200 MiB");
    drop(stdin);
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(4));
    assert_eq!(stored_data(&stored), ["after"]);
}
