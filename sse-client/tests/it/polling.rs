//! Polling where streams fail.

use std::time::Duration;

use sse_client::{Error, Limits, Notice, PollFallback, State};

use crate::rogue::{Rogue, soon, take};

fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn streams_that_keep_failing_are_replaced_by_polling_and_tried_again_later() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.request.line().starts_with("GET /events/poll?") {
            let after = peer.request.line().contains("after=1-5");
            tokio::time::sleep(Duration::from_millis(if after { 60 } else { 0 })).await;
            let body = if after {
                r#"{"events":[],"position":"1-5","gap":false}"#
            } else {
                r#"{"events":[{"id":"a","position":"1-4","event":"t","topic":"x","data":"polled"}],
                    "position":"1-5","gap":false}"#
            };
            peer.write(json(body)).await;
        } else if peer.n < 3 {
            peer.reset();
        } else {
            let last = peer
                .request
                .header("last-event-id")
                .unwrap_or_default()
                .to_owned();
            peer.events(&format!("data: streamed after {last}\n\n"))
                .await;
            peer.hang().await;
        }
    })
    .await;
    let mut events = rogue
        .source()
        .topic("x")
        .poll_fallback(
            PollFallback::default()
                .after_failures(2)
                .retry_stream_every(Duration::from_millis(200))
                .limit(50),
        )
        .build()
        .unwrap();
    let event = soon(events.next()).await.unwrap().unwrap();
    assert_eq!(
        (event.event_type(), event.id(), event.data()),
        ("t", Some("a"), "polled")
    );
    assert!(matches!(events.state(), State::Polling));
    assert_eq!(take(&mut events, 1).await, ["streamed after 1-5"]);
    assert!(events.state().is_open());
    let lines: Vec<_> = rogue
        .requests()
        .iter()
        .map(|r| r.line().to_owned())
        .collect();
    assert!(
        lines[2].starts_with("GET /events/poll?topic=x&wait=25&limit=50 "),
        "{lines:?}"
    );
    assert!(lines[3].contains("after=1-5"), "{lines:?}");
}

#[tokio::test]
async fn a_stream_refused_for_good_is_polled_at_once_and_a_bad_poll_ends_it() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.request.line().contains("/poll") && peer.n < 3 {
            peer.write(json(
                r#"{"events":[{"position":"1","data":{"n":1}}],"position":"1"}"#,
            ))
            .await;
        } else {
            peer.write("HTTP/1.1 406 No Streams\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let mut events = rogue
        .source()
        .poll_fallback(PollFallback::default())
        .build()
        .unwrap();
    assert_eq!(take(&mut events, 1).await, [r#"{"n":1}"#]);
    let mut rest = Vec::new();
    let end = loop {
        match soon(events.next_notice()).await {
            Some(Notice::Event(event)) => rest.push(event.data().to_owned()),
            Some(Notice::Closed(reason)) => break reason,
            Some(_) => {}
            None => panic!("no reason given"),
        }
    };
    assert_eq!(rest.len(), 1);
    assert!(format!("{end:?}").contains("406"), "{end:?}");
}

#[tokio::test]
async fn a_page_over_the_limit_that_comes_again_is_the_end() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.request.line().starts_with("GET /events/poll?") {
            let huge = "x".repeat(100_000);
            let event = format!(r#"{{"position":"1-4","data":"{huge}"}}"#);
            peer.write(json(&format!(r#"{{"events":[{event}],"position":"1-4"}}"#)))
                .await;
        } else {
            peer.reset();
        }
    })
    .await;
    let mut events = rogue
        .source()
        .limits(Limits::new().with_max_event_bytes(1000))
        .poll_fallback(PollFallback::default().after_failures(1))
        .build()
        .unwrap();
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Impassable { .. }), "{error:?}");
    assert_eq!(rogue.requests().len(), 3, "a stream and two pages");
}
