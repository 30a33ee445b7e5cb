//! Reconnecting and resuming.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sse_client::{
    CloseReason, Error, EventId, FilePosition, Gap, Notice, ReconnectPolicy, State, position_fn,
};

use crate::rogue::{HEAD, Rogue, quick, soon, take};

/// Events 0 to 39 of the kind that a log keeps.
fn log() -> Vec<String> {
    let event = |n: usize| {
        format!(
            "id: {n}\nevent: e{}\ndata: first {n}\ndata: ü second\n\n",
            n % 3
        )
    };
    (0..40).map(event).collect()
}

#[tokio::test]
async fn a_stream_cut_at_every_byte_loses_nothing_and_repeats_nothing() {
    let whole: usize = log().iter().map(String::len).sum();
    // Connection k sends what comes after the id it is asked to resume after, and is cut one byte later
    // than the one before; odd ones by RST.
    let rogue = Rogue::start(|mut peer| async move {
        let from = peer
            .request
            .header("last-event-id")
            .map_or(0, |id| id.parse::<usize>().unwrap() + 1);
        let text = log()[from..].concat();
        let cut = (peer.n % 90).min(text.len());
        peer.write(HEAD).await;
        peer.write(&text[..floor(&text, cut)]).await;
        if peer.n % 2 == 1 {
            // A reset discards what the client has not read yet; let it read.
            tokio::time::sleep(Duration::from_millis(2)).await;
            peer.reset();
        }
    })
    .await;
    assert!(whole > 1000);
    let fast = quick()
        .initial_delay(Duration::from_millis(1))
        .max_delay(Duration::from_millis(1));
    let mut events = rogue.source().reconnect(fast).build().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let event = soon(events.next()).await.unwrap().unwrap();
        assert_eq!(
            event.data(),
            format!("first {}\nü second", seen.len()),
            "no partial event"
        );
        seen.push(event.last_event_id().to_owned());
    }
    let expected: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    assert!(
        rogue.requests().len() > 40,
        "{} connections",
        rogue.requests().len()
    );
}

/// The character boundary at or before `at`; a cut character is tried in the decoder's own tests.
fn floor(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap()
}

#[tokio::test]
async fn every_cut_of_one_short_stream_gives_whole_events_only() {
    let text =
        b"\xef\xbb\xbfid: 1\r\ndata: \xc3\xbc\r\n\r\n: c\r\rid: 2\rdata: b\r\rid\ndata: c\n\n";
    for cut in 0..=text.len() {
        let rogue = Rogue::start(move |mut peer| async move {
            peer.write(HEAD).await;
            peer.write(&text[..cut]).await;
        })
        .await;
        let mut events = rogue
            .source()
            .reconnect(ReconnectPolicy::never())
            .build()
            .unwrap();
        let mut data = Vec::new();
        while let Some(Ok(event)) = soon(events.next()).await {
            data.push(event.data().to_owned());
        }
        let all = ["ü", "b", "c"];
        assert_eq!(data, all[..data.len()], "cut at {cut}");
        let at = match data.len() {
            0 => "",
            1 => "1",
            2 => "2",
            _ => "", // `id` alone resets it
        };
        assert_eq!(
            events.last_event_id(),
            at,
            "cut at {cut}: the position is that of the last event"
        );
    }
}

#[tokio::test]
async fn an_id_that_was_reset_or_cannot_be_sent_is_not_sent() {
    let rogue = Rogue::start(|mut peer| async move {
        match peer.n {
            0 => peer.events("id: 7\ndata: a\n\nid\ndata: b\n\n").await,
            1 => peer.events("id: \u{1}ctl\ndata: c\n\n").await,
            _ => {
                peer.events("data: d\n\n").await;
                peer.hang().await;
            }
        }
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let mut unsendable = false;
    let mut data = Vec::new();
    while data.len() < 4 {
        match soon(events.next_notice()).await.unwrap() {
            Notice::Event(event) => data.push(event.data().to_owned()),
            Notice::IdNotSent(id) => unsendable = id.as_str() == "\u{1}ctl",
            _ => {}
        }
    }
    assert_eq!(data, ["a", "b", "c", "d"]);
    assert!(unsendable, "it was told");
    assert!(
        rogue
            .requests()
            .iter()
            .all(|request| request.header("last-event-id").is_none())
    );
}

#[tokio::test]
async fn the_id_it_begins_with_is_sent_and_told_by_events_that_carry_none() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events("data: a\n\nid: 8-ü\ndata: b\n\n").await;
    })
    .await;
    let mut events = rogue.source().last_event_id("7-ü").build().unwrap();
    assert_eq!(events.last_event_id(), "7-ü");
    let first = soon(events.next()).await.unwrap().unwrap();
    assert_eq!((first.id(), first.last_event_id()), (None, "7-ü"));
    let second = soon(events.next()).await.unwrap().unwrap();
    assert_eq!(second.last_event_id(), "8-ü");
    soon(events.next()).await.unwrap().unwrap();
    let asked: Vec<_> = rogue.requests();
    assert_eq!(asked[0].header("last-event-id"), Some("7-ü"), "as UTF-8");
    assert_eq!(asked[1].header("last-event-id"), Some("8-ü"));
}

#[tokio::test]
async fn a_gap_that_the_hub_announces_is_an_event_that_can_be_told() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events("event: gap\ndata: {\"reason\":\"trimmed\"}\n\nid: 9\ndata: first kept\n\n")
            .await;
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().last_event_id("1").build().unwrap();
    let first = soon(events.next()).await.unwrap().unwrap();
    let gap = Gap::of(&first).expect("it is one");
    assert!(format!("{gap:?}").contains("trimmed"), "{gap:?}");
    let second = soon(events.next()).await.unwrap().unwrap();
    assert!(Gap::of(&second).is_none());
}

#[tokio::test]
async fn attempts_really_end_whether_refused_or_accepted_and_dropped() {
    // Nobody listens there any more.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let mut events = sse_client::EventSource::builder(url)
        .connector(crate::rogue::direct())
        .reconnect(quick().max_attempts(3))
        .build()
        .unwrap();
    let mut interrupted = 0;
    let (error, attempt) = loop {
        match soon(events.next_notice()).await.unwrap() {
            Notice::Interrupted(what) => {
                interrupted += 1;
                assert_eq!(what.attempt(), interrupted);
            }
            Notice::Closed(CloseReason::Failed { error, attempt }) => break (error, attempt),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((interrupted, attempt), (2, 3));
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.report().contains("refused"), "{}", error.report());

    let rogue = Rogue::start(|mut peer| async move { peer.events("data: hello\n\n").await }).await;
    let mut events = rogue
        .source()
        .reconnect(quick().max_attempts(5))
        .build()
        .unwrap();
    assert_eq!(take(&mut events, 5).await.len(), 5);
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Ended));
    assert!(soon(events.next()).await.is_none());
    assert!(matches!(
        events.state(),
        State::Closed(CloseReason::Failed { attempt: 5, .. })
    ));
    assert_eq!(rogue.requests().len(), 5, "five attempts are five requests");
}

#[tokio::test]
async fn accept_and_drop_does_not_storm() {
    let rogue =
        Rogue::start(|mut peer| async move { peer.events("retry: 0\ndata: hi\n\n").await }).await;
    let policy = ReconnectPolicy::default().initial_delay(Duration::from_millis(100));
    let mut events = rogue.source().reconnect(policy).build().unwrap();
    let reading = async { while events.next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_millis(1500), reading).await;
    // `retry: 0` is lifted to 250 ms, and the delays grow.
    let requests = rogue.requests().len();
    assert!((2..=6).contains(&requests), "{requests} requests in 1.5 s");
}

#[tokio::test]
async fn the_servers_retry_is_waited_for() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.n == 0 {
            peer.events("retry: 300\n\n").await;
        } else {
            peer.events("data: x\n\n").await;
            peer.hang().await;
        }
    })
    .await;
    let policy = ReconnectPolicy::default().initial_delay(Duration::from_millis(1));
    let mut events = rogue.source().reconnect(policy).build().unwrap();
    let begin = Instant::now();
    take(&mut events, 1).await;
    let elapsed = begin.elapsed();
    assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[tokio::test]
async fn duplicates_are_left_out_by_their_own_id_only() {
    let rogue = Rogue::start(|mut peer| async move {
        let extra = if peer.n == 0 {
            ""
        } else {
            "id: 4\ndata: e\n\n"
        };
        peer.events(&format!(
            "id: 1\ndata: a\n\ndata: b\n\ndata: c\n\nid: 2\ndata: d\n\n{extra}"
        ))
        .await;
    })
    .await;
    let mut events = rogue.source().dedupe(100).build().unwrap();
    let data = take(&mut events, 7).await;
    assert_eq!(
        data,
        ["a", "b", "c", "d", "b", "c", "e"],
        "b and c have no id of their own"
    );
    assert_eq!(events.duplicates(), 2);
}

#[tokio::test]
async fn a_position_file_resumes_the_next_process_and_is_saved_on_close() {
    let rogue = Rogue::start(|mut peer| async move {
        let from = peer
            .request
            .header("last-event-id")
            .map_or(0, |id| id.parse::<usize>().unwrap() + 1);
        peer.events(&log()[from..].concat()).await;
        peer.hang().await;
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("position");
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut events = rogue
            .source()
            .position(FilePosition::new(&file))
            .build()
            .unwrap();
        for _ in 0..10 {
            seen.push(
                soon(events.next())
                    .await
                    .unwrap()
                    .unwrap()
                    .last_event_id()
                    .to_owned(),
            );
        }
        events.close();
    }
    let expected: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "39\n");
}

#[tokio::test]
async fn a_source_that_is_dropped_repeats_only_the_event_in_hand() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events(&log().concat()).await;
        peer.hang().await;
    })
    .await;
    let saved = Arc::new(Mutex::new(None::<EventId>));
    let kept = Arc::clone(&saved);
    let store = position_fn(
        || Ok(None),
        move |id| {
            *kept.lock().unwrap() = Some(id.clone());
            Ok(())
        },
    );
    let mut events = rogue.source().position(store).build().unwrap();
    take(&mut events, 8).await;
    drop(events);
    assert_eq!(
        saved.lock().unwrap().as_ref().unwrap(),
        &"6",
        "event 7 may not have been dealt with"
    );
}

#[tokio::test]
async fn a_position_that_cannot_be_saved_is_told_and_does_not_stop_the_stream() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events("id: 1\ndata: a\n\n").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.write("id: 2\ndata: b\n\n").await;
        peer.hang().await;
    })
    .await;
    let store = position_fn(|| Ok(None), |_| Err("the disk is full".into()));
    let mut events = rogue.source().position(store).build().unwrap();
    let (mut told, mut data) = (0, 0);
    while data < 2 {
        match soon(events.next_notice()).await.unwrap() {
            Notice::Event(_) => data += 1,
            Notice::NotSaved(error) => {
                assert_eq!(error.to_string(), "the disk is full");
                told += 1;
            }
            _ => {}
        }
    }
    assert_eq!(told, 1);
}
