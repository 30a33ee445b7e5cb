//! Answers that are no stream.

use std::time::{Duration, Instant};

use sse_client::{CloseReason, Error, Mode, Notice, ReconnectPolicy, RedirectPolicy, State};

use crate::rogue::{Rogue, quick, soon, take};

#[tokio::test]
async fn a_wrong_type_fails_for_good_and_no_event_is_read_from_it() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Trace: 7\r\n\r\n")
            .await;
        peer.write("data: <h1>not for you</h1>\n\n").await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let error = soon(events.next()).await.unwrap().unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(
        error.to_string(),
        "server answered with text/html instead of text/event-stream"
    );
    assert_eq!(refusal.headers()["x-trace"], "7");
    assert_eq!(&refusal.body()[..], b"data: <h1>not for you</h1>\n\n");
    assert!(events.next().await.is_none());
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn a_temporary_refusal_is_retried_after_what_the_server_asks() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.n == 0 {
            let body = r#"{"type":"about:blank","title":"Full","status":503,"detail":"the hub is full"}"#;
            let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
                Retry-After: 1\r\nConnection: close\r\n\r\n";
            peer.write(head).await;
            peer.write(body).await;
        } else {
            peer.events("data: x\n\n").await;
            peer.hang().await;
        }
    })
    .await;
    // The ceiling of the test's policy makes 300 ms of it.
    let mut events = rogue.source().build().unwrap();
    let begin = Instant::now();
    let Some(Notice::Interrupted(what)) = soon(events.next_notice()).await else {
        panic!()
    };
    assert_eq!((what.attempt(), what.next_attempt()), (1, 2));
    assert_eq!(what.error().status().unwrap(), 503);
    assert_eq!(
        what.error().report(),
        "server answered 503 Service Unavailable: the hub is full"
    );
    assert!(what.retry_in() >= Duration::from_millis(300));
    take(&mut events, 1).await;
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn the_standard_mode_gives_up_where_the_resilient_one_goes_on() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let mut events = rogue.source().mode(Mode::Standard).build().unwrap();
    assert_eq!(
        soon(events.next())
            .await
            .unwrap()
            .unwrap_err()
            .status()
            .unwrap(),
        503
    );
    assert_eq!(rogue.requests().len(), 1);
    for status in [404, 410, 205, 206, 299, 501] {
        let rogue = Rogue::start(move |mut peer| async move {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: text/event-stream\r\n\r\n");
            peer.write(head + "data: no\n\n").await;
        })
        .await;
        let mut events = rogue.source().build().unwrap();
        let error = soon(events.next()).await.unwrap().unwrap_err();
        assert_eq!(error.status().unwrap(), status);
    }
}

#[tokio::test]
async fn half_a_response_and_an_endless_head_are_failures_that_end() {
    let rogue = Rogue::start(|mut peer| async move {
        match peer.n {
            0 => peer.write("HTTP/1.1 200 OK\r\nContent-Ty").await,
            1 => peer.write("SSH-2.0-OpenSSH_9.2\r\n").await,
            2 => {
                peer.write("HTTP/1.1 200 OK\r\n").await;
                for n in 0..100_000 {
                    peer.write(format!("X-{n}: {}\r\n", "y".repeat(100))).await;
                }
            }
            _ => {
                peer.events("data: at last\n\n").await;
                peer.hang().await;
            }
        }
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    for _ in 0..3 {
        let Some(Notice::Interrupted(what)) = soon(events.next_notice()).await else {
            panic!()
        };
        assert!(
            matches!(what.error(), Error::Transport { .. }),
            "{:?}",
            what.error()
        );
    }
    assert_eq!(take(&mut events, 1).await, ["at last"]);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_left_after_the_header_time() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.n > 0 {
            peer.events("data: x\n\n").await;
        }
        peer.hang().await;
    })
    .await;
    let connector = sse_client::Connector::builder()
        .no_proxy()
        .header_timeout(Duration::from_millis(100))
        .build();
    let mut events = rogue.source().connector(connector).build().unwrap();
    let Some(Notice::Interrupted(what)) = soon(events.next_notice()).await else {
        panic!()
    };
    assert!(matches!(what.error(), Error::HeaderTimeout { .. }));
    assert_eq!(take(&mut events, 1).await, ["x"]);
}

#[tokio::test]
async fn the_body_of_a_refusal_is_bounded_in_size_and_time() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 404 Nope\r\nContent-Type: text/plain\r\n\r\n")
            .await;
        for _ in 0..10_000 {
            peer.write("x".repeat(1000)).await;
        }
    })
    .await;
    let mut events = rogue.source().error_body_limit(5000).build().unwrap();
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert_eq!(error.refusal().unwrap().body().len(), 5000);
}

#[tokio::test]
async fn redirects_are_followed_from_the_original_url_each_time_and_without_secrets() {
    let elsewhere = Rogue::start(|mut peer| async move {
        peer.events("id: 1\ndata: elsewhere\n\n").await;
    })
    .await;
    let target = elsewhere.url("/there");
    let rogue = Rogue::start(move |mut peer| {
        let target = target.clone();
        async move {
            let to = if peer.request.line().contains("/events") {
                "/next"
            } else {
                target.as_str()
            };
            peer.write(format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        }
    })
    .await;
    let builder = rogue
        .source()
        .bearer("secret")
        .sensitive_header("x-key", "k")
        .header("x-plain", "p");
    let mut events = builder.build().unwrap();
    take(&mut events, 2).await;
    assert_eq!(events.url().path(), "/there");
    let asked = rogue.requests();
    assert_eq!(asked[0].line(), "GET /events HTTP/1.1");
    assert_eq!(asked[1].line(), "GET /next HTTP/1.1");
    assert_eq!(
        asked[1].header("authorization"),
        Some("Bearer secret"),
        "still the same origin"
    );
    assert_eq!(
        asked[2].line(),
        "GET /events HTTP/1.1",
        "nothing is remembered"
    );
    assert_eq!(asked[2].header("last-event-id"), Some("1"));
    for request in elsewhere.requests() {
        for secret in ["authorization", "x-key", "last-event-id"] {
            assert_eq!(request.header(secret), None, "{secret} leaked");
        }
        assert_eq!(request.header("x-plain"), Some("p"));
    }
}

#[tokio::test]
async fn a_redirect_loop_and_a_forbidden_redirect_are_errors() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 307 Again\r\nLocation: /events\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Redirect(_)));
    assert_eq!(rogue.requests().len(), 11);
    let mut events = rogue
        .source()
        .redirects(RedirectPolicy::none())
        .build()
        .unwrap();
    assert!(matches!(
        soon(events.next()).await,
        Some(Err(Error::Redirect(_)))
    ));
}

#[tokio::test]
async fn a_post_is_not_repeated_once_a_response_began() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events("data: token\n\n").await;
        peer.reset();
    })
    .await;
    let ask = serde_json::json!({"prompt": "hi"});
    let mut events = rogue.source().json(&ask).build().unwrap();
    while let Some(Ok(_)) = soon(events.next()).await {}
    assert!(matches!(
        events.state(),
        State::Closed(CloseReason::Failed { .. } | CloseReason::Ended)
    ));
    let requests = rogue.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].line(), "POST /events HTTP/1.1");
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(requests[0].body, br#"{"prompt":"hi"}"#);

    let mut events = rogue
        .source()
        .json(&ask)
        .repeat_unsafe()
        .reconnect(quick().max_attempts(3))
        .build()
        .unwrap();
    while let Some(Ok(_)) = soon(events.next()).await {}
    let requests = rogue.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests
            .iter()
            .all(|request| request.body == br#"{"prompt":"hi"}"#)
    );
}

#[tokio::test]
async fn a_post_that_was_refused_for_now_is_sent_again() {
    let rogue = Rogue::start(|mut peer| async move {
        match peer.n {
            0 => {
                peer.write("HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n")
                    .await
            }
            _ => peer.events("data: ok\n\n").await,
        }
    })
    .await;
    let mut events = rogue.source().json("x").build().unwrap();
    assert_eq!(take(&mut events, 1).await, ["ok"]);
    assert!(
        soon(events.next()).await.is_none(),
        "and the end of its stream is the end"
    );
    assert_eq!(rogue.requests().len(), 2);
}

/// What a hub sends to those who cannot read a status.
fn unavailable(status: u16) -> String {
    format!(
        "retry: 1\n\nevent: unavailable\ndata: {{\"status\":{status},\"title\":\"Unavailable\",\"detail\":\"the hub is full\",\"code\":\"full\"}}\n\n"
    )
}

#[tokio::test]
async fn a_refusal_within_the_stream_is_a_failed_attempt_and_not_an_event() {
    for mode in [Mode::Resilient, Mode::Standard] {
        let rogue = Rogue::start(|mut peer| async move {
            match peer.n {
                0 => peer.events("id: 7\ndata: before\n\n").await,
                // The connection stays open: the refusal alone ends it.
                1..4 => {
                    peer.events(&unavailable(503)).await;
                    peer.hang().await;
                }
                _ => {
                    peer.events("data: again\n\n").await;
                    peer.hang().await;
                }
            }
        })
        .await;
        // A single event, or the time that a connection stood, would prove it good.
        let policy = quick().proven_events(1).proven_after(Duration::ZERO);
        let mut events = rogue.source().mode(mode).reconnect(policy).build().unwrap();
        let (mut seen, mut refused) = (Vec::new(), Vec::new());
        while seen.len() < 2 {
            match soon(events.next_notice()).await.unwrap() {
                Notice::Event(event) => seen.push(event.data().to_owned()),
                Notice::Interrupted(what) => {
                    if let Some(refusal) = what.error().refusal() {
                        assert_eq!(refusal.status(), 503);
                        assert_eq!(refusal.detail().unwrap(), "the hub is full");
                        refused.push(what.next_attempt());
                    }
                }
                _ => {}
            }
        }
        assert_eq!(seen, ["before", "again"]);
        // The first refusal follows a connection that was good.
        assert_eq!(refused, [2, 3, 4], "{mode:?}");
        let requests = rogue.requests();
        assert!(
            requests[1..]
                .iter()
                .all(|r| r.header("last-event-id") == Some("7"))
        );
    }
}

#[tokio::test]
async fn refusals_within_streams_use_up_the_attempts_and_one_that_waiting_does_not_help_is_final() {
    for (status, attempts) in [(503, 3), (403, 1)] {
        let rogue =
            Rogue::start(move |mut peer| async move { peer.events(&unavailable(status)).await })
                .await;
        let policy = quick().max_attempts(3);
        let mut events = rogue.source().reconnect(policy).build().unwrap();
        let error = soon(events.next()).await.unwrap().unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert!(
            error.report().ends_with(": the hub is full"),
            "{}",
            error.report()
        );
        assert_eq!(rogue.requests().len(), attempts, "{status}");
    }
}

#[tokio::test]
async fn an_event_unavailable_after_others_or_of_another_form_is_an_event() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events("event: unavailable\ndata: tomorrow\n\n").await;
        peer.write(unavailable(503)).await;
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let data = take(&mut events, 2).await;
    assert_eq!(data[0], "tomorrow");
    assert!(data[1].contains("the hub is full"));
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn the_mode_decides_how_far_delays_are_spread_whatever_the_policy() {
    for (mode, low, high) in [(Mode::Standard, 360, 440), (Mode::Resilient, 400, 600)] {
        for policy in [ReconnectPolicy::standard(), ReconnectPolicy::default()] {
            let rogue =
                Rogue::start(|mut peer| async move { peer.events("retry: 400\n\n").await }).await;
            let mut events = rogue.source().mode(mode).reconnect(policy).build().unwrap();
            for _ in 0..2 {
                let retry_in = loop {
                    if let Notice::Interrupted(what) = soon(events.next_notice()).await.unwrap() {
                        break what.retry_in();
                    }
                };
                let bounds = Duration::from_millis(low)..=Duration::from_millis(high);
                assert!(bounds.contains(&retry_in), "{mode:?} {retry_in:?}");
                if mode == Mode::Resilient {
                    break; // the next one is twice as long
                }
            }
        }
    }
}
