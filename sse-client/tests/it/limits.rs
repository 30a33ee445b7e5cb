//! Lines and events without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sse_client::{Error, Limits, Notice};

use crate::rogue::{HEAD, Rogue, soon, take};

fn small() -> Limits {
    Limits::new()
        .with_max_line_bytes(64 * 1024)
        .with_max_event_bytes(64 * 1024)
}

#[tokio::test]
async fn an_event_over_the_limit_is_dropped_and_told_and_the_stream_goes_on() {
    let rogue = Rogue::start(|mut peer| async move {
        let huge = "x".repeat(100_000);
        peer.events(&format!(
            "id: 1\ndata: a\n\nid: 2\ndata: {huge}\n\nid: 3\ndata: c\n\n"
        ))
        .await;
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().limits(small()).build().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match soon(events.next_notice()).await.unwrap() {
            Notice::Event(event) => seen.push(event.last_event_id().to_owned()),
            Notice::Dropped(_) => seen.push("dropped".to_owned()),
            _ => {}
        }
    }
    assert_eq!(seen, ["1", "dropped", "3"]);
    assert_eq!(events.dropped_events(), 1);
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn an_endless_line_costs_little_and_the_connection_is_given_up() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let rogue = Rogue::start(move |mut peer| {
        let sent = Arc::clone(&count);
        async move {
            if peer.n > 0 {
                peer.events("data: sane again\n\n").await;
                return peer.hang().await;
            }
            peer.write(HEAD).await;
            peer.write("id: 5\ndata: before\n\nid: 6\ndata: ").await;
            let piece = "x".repeat(64 * 1024);
            while sent.load(Ordering::Relaxed) < 1 << 30 {
                if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, piece.as_bytes())
                    .await
                    .is_err()
                {
                    return;
                }
                sent.fetch_add(piece.len(), Ordering::Relaxed);
            }
        }
    })
    .await;
    let mut events = rogue.source().limits(small()).build().unwrap();
    assert_eq!(take(&mut events, 1).await, ["before"]);
    let (mut dropped, mut error) = (0, None);
    while error.is_none() {
        match soon(events.next_notice()).await.unwrap() {
            Notice::Dropped(_) => dropped += 1,
            Notice::Interrupted(what) => error = Some(what.error().clone()),
            _ => {}
        }
    }
    assert_eq!(dropped, 1);
    assert!(
        matches!(error, Some(Error::TooLarge { limit_bytes: 65536 })),
        "{error:?}"
    );
    assert_eq!(take(&mut events, 1).await, ["sane again"]);
    assert_eq!(
        rogue.requests()[1].header("last-event-id"),
        Some("5"),
        "not past the dropped event"
    );
    assert!(
        sent.load(Ordering::Relaxed) < 64 << 20,
        "{} bytes were read",
        sent.load(Ordering::Relaxed)
    );
}
