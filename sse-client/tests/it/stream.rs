//! Reading, closing, cancelling.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sse_client::{CloseReason, Error, Notice, ReconnectPolicy, State};

use crate::rogue::{HEAD, Rogue, quick, soon, take};

#[tokio::test]
async fn events_arrive_with_type_id_and_data_as_they_are_written() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events(": hello\n\nid: 1\nevent: greeting\ndata: good\ndata: morning\n\ndata: x\n\n")
            .await;
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let first = soon(events.next()).await.unwrap().unwrap();
    assert_eq!(
        (first.event_type(), first.id(), first.data()),
        ("greeting", Some("1"), "good\nmorning")
    );
    let second = soon(events.next()).await.unwrap().unwrap();
    assert_eq!(
        (second.event_type(), second.id(), second.last_event_id()),
        ("message", None, "1")
    );
    let request = &rogue.requests()[0];
    assert_eq!(request.line(), "GET /events HTTP/1.1");
    assert_eq!(request.header("accept"), Some("text/event-stream"));
    assert_eq!(request.header("cache-control"), Some("no-cache"));
    assert_eq!(request.header("last-event-id"), None);
}

#[tokio::test]
async fn what_the_caller_asks_for_is_not_overwritten() {
    let rogue = served_forever().await;
    let mut events = rogue
        .source()
        .header("accept", "text/event-stream, application/json;q=0.5")
        .header("cache-control", "no-store")
        .build()
        .unwrap();
    take(&mut events, 1).await;
    let request = &rogue.requests()[0];
    assert_eq!(
        request.header("accept"),
        Some("text/event-stream, application/json;q=0.5")
    );
    assert_eq!(request.header("cache-control"), Some("no-store"));
    let asked = request.head.to_ascii_lowercase();
    assert_eq!(asked.matches("\r\naccept:").count(), 1);
    assert_eq!(asked.matches("\r\ncache-control:").count(), 1);
}

async fn served_forever() -> Rogue {
    Rogue::start(|mut peer| async move {
        peer.events("data: x\n\n").await;
        peer.hang().await;
    })
    .await
}

#[tokio::test]
async fn notices_tell_what_happens_in_order() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.n == 0 {
            peer.events(": beat\n\ndata: a\n\n").await;
        } else {
            peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let mut seen = Vec::new();
    while let Some(notice) = soon(events.next_notice()).await {
        seen.push(match notice {
            Notice::Open(opened) => format!("open {}", opened.url().path()),
            Notice::Comment(text) => format!("comment {text}"),
            Notice::Event(event) => format!("event {}", event.data()),
            Notice::Interrupted(what) => format!("{} {}", what.error(), what.attempt()),
            Notice::Closed(reason) => format!("closed {reason:?}"),
            other => format!("{other:?}"),
        });
    }
    let expected = [
        "open /events",
        "comment beat",
        "event a",
        "server ended the stream 1",
        "closed NoContent",
    ];
    assert_eq!(seen, expected);
    assert!(events.next().await.is_none(), "and nothing after the end");
    assert!(matches!(
        events.state(),
        State::Closed(CloseReason::NoContent)
    ));
}

#[tokio::test]
async fn after_close_nothing_is_delivered_and_the_socket_is_closed() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(1);
    let rogue = Rogue::start(move |mut peer| {
        let closed = closed.clone();
        async move {
            peer.events("data: 1\n\ndata: 2\n\ndata: 3\n\n").await;
            peer.closed().await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    assert_eq!(take(&mut events, 1).await, ["1"]);
    events.close();
    assert!(events.next().await.is_none());
    assert!(events.next_notice().await.is_none());
    events.reconnect();
    assert!(events.next().await.is_none());
    soon(seen.recv()).await.unwrap();
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn close_works_while_connecting_and_while_waiting() {
    let rogue = Rogue::start(|peer| peer.hang()).await;
    let mut events = rogue.source().build().unwrap();
    let pending = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    assert!(pending.is_err(), "no response head comes");
    assert!(matches!(events.state(), State::Connecting { attempt: 1 }));
    events.close();
    assert!(events.next().await.is_none());

    let rogue = Rogue::start(|peer| async move { peer.reset() }).await;
    let slow = ReconnectPolicy::default().initial_delay(Duration::from_secs(600));
    let mut events = rogue.source().reconnect(slow).build().unwrap();
    let notice = soon(events.next_notice()).await;
    assert!(matches!(notice, Some(Notice::Interrupted(_))));
    let State::Waiting {
        attempt: 2,
        error: Error::Transport { .. },
        ..
    } = events.state()
    else {
        panic!("{:?}", events.state());
    };
    let state = events.watch_state();
    drop(events);
    assert!(
        state.borrow().is_closed(),
        "whoever watches hears of the drop"
    );
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn dropping_the_source_closes_the_socket_at_once() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(1);
    let rogue = Rogue::start(move |mut peer| {
        let closed = closed.clone();
        async move {
            peer.events("data: 1\n\nda").await;
            peer.closed().await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    take(&mut events, 1).await;
    drop(events);
    soon(seen.recv()).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_next_loses_no_event() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write(HEAD).await;
        for n in 0..200 {
            peer.write(format!("id: {n}\ndata: {n}")).await;
            tokio::time::sleep(Duration::from_micros(300)).await;
            peer.write("\n\n").await;
        }
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let mut data = Vec::new();
    let mut cancelled = 0;
    while data.len() < 200 {
        tokio::select! {
            biased;
            event = events.next() => data.push(event.unwrap().unwrap().data().to_owned()),
            () = tokio::time::sleep(Duration::from_micros(50)) => cancelled += 1,
        }
    }
    let expected: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(data, expected);
    assert!(cancelled > 50, "only {cancelled} were cancelled");
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn what_came_before_an_error_is_delivered_before_it() {
    let rogue = Rogue::start(|mut peer| async move {
        // Chunked, and then garbage where the next chunk's size belongs.
        peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
            .await;
        peer.write("Transfer-Encoding: chunked\r\n\r\n").await;
        peer.write("12\r\ndata: 1\n\ndata: 2\n\n\r\nrubbish\r\n")
            .await;
        peer.hang().await;
    })
    .await;
    let mut events = rogue
        .source()
        .reconnect(ReconnectPolicy::never())
        .build()
        .unwrap();
    assert_eq!(take(&mut events, 2).await, ["1", "2"]);
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_source_that_never_reconnects_ends_with_the_stream() {
    let rogue = Rogue::start(|mut peer| async move { peer.events("data: 1\n\n").await }).await;
    let mut events = rogue
        .source()
        .reconnect(ReconnectPolicy::never())
        .build()
        .unwrap();
    assert_eq!(take(&mut events, 1).await, ["1"]);
    assert!(soon(events.next()).await.is_none());
    assert!(matches!(events.state(), State::Closed(CloseReason::Ended)));

    let rogue =
        Rogue::start(|mut peer| async move { peer.events("data: 1\n\ndata: half").await }).await;
    let mut events = rogue
        .source()
        .reconnect(ReconnectPolicy::never())
        .build()
        .unwrap();
    assert_eq!(take(&mut events, 1).await, ["1"]);
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::CutShort),
        "an event was cut off: {error:?}"
    );
}

#[tokio::test]
async fn a_silent_connection_is_given_up_and_a_comment_keeps_it_alive() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write(HEAD).await;
        if peer.n == 0 {
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                peer.write(":\n\n").await;
            }
            peer.write("id: 5\ndata: kept alive by comments\n\n").await;
        } else {
            let last = peer.request.header("last-event-id").unwrap().to_owned();
            peer.write(format!("data: again after {last}\n\n")).await;
        }
        peer.hang().await;
    })
    .await;
    let mut events = rogue
        .source()
        .idle_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    assert_eq!(take(&mut events, 1).await, ["kept alive by comments"]);
    let silence = loop {
        if let Notice::Interrupted(what) = soon(events.next_notice()).await.unwrap() {
            break what;
        }
    };
    assert!(matches!(silence.error(), Error::Idle { .. }));
    assert_eq!(take(&mut events, 1).await, ["again after 5"]);
}

#[tokio::test]
async fn the_watchdog_does_not_bark_because_the_consumer_is_slow() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events("data: 1\n\n").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        peer.write("data: 2\n\n").await;
        peer.hang().await;
    })
    .await;
    let mut events = rogue
        .source()
        .idle_timeout(Duration::from_millis(250))
        .build()
        .unwrap();
    take(&mut events, 1).await;
    // Busy for longer than the limit, while the server is silent for longer than it too.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(take(&mut events, 1).await, ["2"]);
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn a_slow_consumer_slows_the_server_down_and_costs_no_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let rogue = Rogue::start(move |mut peer| {
        let sent = Arc::clone(&counter);
        async move {
            peer.write(HEAD).await;
            let event = format!("data: {}\n\n", "x".repeat(16 * 1024));
            loop {
                peer.write(&event).await;
                sent.fetch_add(event.len(), Ordering::Relaxed);
            }
        }
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    take(&mut events, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = sent.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sent.load(Ordering::Relaxed), before, "the server stands");
    assert!(
        before < 16 * 1024 * 1024,
        "{before} bytes are in the kernel's buffers and ours"
    );
    take(&mut events, 2000).await;
    assert!(
        sent.load(Ordering::Relaxed) > before,
        "and goes on when it is read"
    );
}

#[tokio::test]
async fn a_manual_reconnect_resumes_or_begins_where_it_is_told() {
    let rogue = Rogue::start(|mut peer| async move {
        let last = peer
            .request
            .header("last-event-id")
            .unwrap_or("none")
            .to_owned();
        peer.events(&format!("id: {}\ndata: after {last}\n\n", peer.n))
            .await;
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().reconnect(quick()).build().unwrap();
    assert_eq!(take(&mut events, 1).await, ["after none"]);
    events.reconnect();
    assert_eq!(take(&mut events, 1).await, ["after 0"]);
    events.reconnect_after(&"far-7".parse().unwrap());
    assert_eq!(take(&mut events, 1).await, ["after far-7"]);
    events.reconnect_after(&"".parse().unwrap());
    assert_eq!(take(&mut events, 1).await, ["after none"]);
}
