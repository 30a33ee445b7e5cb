//! Lines and events without end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sse_client::{CloseReason, Error, EventId, EventSource, Limits, Mode, Notice, position_fn};

use crate::rogue::{HEAD, Peer, Rogue, soon, take};

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
        Some("6"),
        "behind the dropped event"
    );
    assert!(
        sent.load(Ordering::Relaxed) < 64 << 20,
        "{} bytes were read",
        sent.load(Ordering::Relaxed)
    );
}

/// What a source told: the data of events, what was dropped, and the error that ended it.
type Told = (Vec<String>, Vec<String>, Option<Error>);

/// What a source tells until it ends or has delivered `data`.
async fn told_until(events: &mut EventSource, data: &str) -> Told {
    // As a whole, so that one that goes on for ever fails.
    soon(async {
        let (mut seen, mut dropped) = (Vec::new(), Vec::new());
        loop {
            match events.next_notice().await.unwrap() {
                Notice::Event(event) => {
                    seen.push(event.data().to_owned());
                    if event.data() == data {
                        return (seen, dropped, None);
                    }
                }
                Notice::Dropped(event) => dropped.push(event.to_string()),
                Notice::Closed(CloseReason::Failed { error, .. }) => {
                    return (seen, dropped, Some(error));
                }
                Notice::Closed(other) => panic!("{other:?}"),
                _ => {}
            }
        }
    })
    .await
}

fn huge() -> String {
    "x".repeat(100_000)
}

fn last_event_ids(rogue: &Rogue) -> Vec<Option<String>> {
    let of = |request: &crate::rogue::Request| request.header("last-event-id").map(str::to_owned);
    rogue.requests().iter().map(of).collect()
}

/// Sends what a hub keeps after the reader's position, one huge event among it, and cuts the connection behind that.
async fn replay(mut peer: Peer) {
    match peer.request.header("last-event-id") {
        Some("huge") => {
            peer.events("id: 3\ndata: behind\n\n").await;
            peer.hang().await;
        }
        _ => {
            let huge = huge();
            let event = format!("event: e\nid: huge\ndata: {huge}\n\n");
            peer.events(&format!("id: 1\ndata: before\n\n{event}"))
                .await;
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_after_an_event_over_the_limit_goes_on_behind_it() {
    let rogue = Rogue::start(replay).await;
    let saved = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&saved);
    let store = position_fn(
        || Ok(None),
        move |id: &EventId| {
            log.lock().unwrap().push(id.to_string());
            Ok(())
        },
    );
    let mut events = rogue
        .source()
        .limits(small())
        .position(store)
        .save_interval(std::time::Duration::ZERO)
        .build()
        .unwrap();
    let (seen, dropped, _) = told_until(&mut events, "behind").await;
    assert_eq!(seen, ["before", "behind"]);
    assert_eq!(
        dropped,
        [r#"the event "huge" was dropped: line is over the limit of 65536 bytes"#],
        "told once"
    );
    assert_eq!(last_event_ids(&rogue), [None, Some("huge".to_owned())]);
    assert_eq!(
        *saved.lock().unwrap(),
        ["1", "huge"],
        "another process goes on behind it too"
    );
}

#[tokio::test]
async fn an_event_over_the_limit_that_no_id_leads_past_ends_it_when_it_is_met_again() {
    let id_behind = || format!("data: {}\nid: huge\n\n", huge());
    for (event, place) in [
        (format!("data: {}\n\n", huge()), r#"after "1""#),
        (id_behind(), r#"after "1""#),
        // This server has never heard of Last-Event-ID.
        (format!("id: huge\ndata: {}\n\n", huge()), r#""huge""#),
        (format!("id: {0}\ndata: {0}\n\n", huge()), r#"after "1""#),
    ] {
        let event = Arc::new(event);
        let served = Arc::clone(&event);
        let rogue = Rogue::start(move |mut peer| {
            let event = Arc::clone(&served);
            async move {
                peer.events(&format!("id: 1\ndata: before\n\n{event}"))
                    .await;
            }
        })
        .await;
        let mut events = rogue.source().limits(small()).build().unwrap();
        let (seen, dropped, error) = told_until(&mut events, "never").await;
        assert_eq!(seen, ["before", "before"]);
        assert_eq!(dropped.len(), 1, "told once: {dropped:?}");
        assert_eq!(
            error.unwrap().to_string(),
            format!(
                "the event {place} is over the limit of 65536 bytes and comes again with every connection; raise the limit"
            )
        );
        assert_eq!(rogue.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_stream_without_ids_may_have_events_over_the_limit_as_long_as_others_follow() {
    let rogue = Rogue::start(|mut peer| async move {
        let end = if peer.n == 3 { "last" } else { "behind" };
        let huge = huge();
        peer.events(&format!("data: {huge}\n\ndata: {huge}\n\ndata: {end}\n\n"))
            .await;
    })
    .await;
    let mut events = rogue.source().limits(small()).build().unwrap();
    let (seen, dropped, error) = told_until(&mut events, "last").await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(seen, ["behind", "behind", "behind", "last"]);
    assert_eq!(dropped.len(), 8, "each of them");
}

#[tokio::test]
async fn connections_that_bring_only_events_over_the_limit_are_failures_whose_delays_grow() {
    let rogue = Rogue::start(|mut peer| async move {
        // Seventeen events would prove a connection good, but what comes last counts.
        let events: String = (0..17).map(|n| format!("data: {n}\n\n")).collect();
        let (n, huge) = (peer.n, huge());
        peer.events(&format!("{events}id: {n}\ndata: {huge}\n\n"))
            .await;
    })
    .await;
    for mode in [Mode::Resilient, Mode::Standard] {
        let mut events = rogue.source().mode(mode).limits(small()).build().unwrap();
        let mut attempts = Vec::new();
        while attempts.len() < 4 {
            if let Notice::Interrupted(what) = soon(events.next_notice()).await.unwrap() {
                attempts.push(what.next_attempt());
            }
        }
        assert_eq!(attempts, [2, 3, 4, 5], "{mode:?}");
    }
}
