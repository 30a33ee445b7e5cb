//! Replay while others publish: it joins the live stream, and gives what the live stream gave.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::client::Stream;
use crate::server::Server;

use super::{data, publish_numbers};

#[test]
fn a_replay_larger_than_the_window_joins_the_live_stream_without_loss_or_repeat() {
    let server = Server::with(&["--window", "64KiB"]);
    const BEFORE: usize = 3_000;
    const TOTAL: usize = 8_000;
    let positions = publish_numbers(&server, 0..BEFORE, "public");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (server, done, positions) = (&server, &done, &positions);
        scope.spawn(move || {
            for begin in (BEFORE..TOTAL).step_by(50) {
                publish_numbers(server, begin..begin + 50, "public");
            }
            done.store(true, Ordering::Relaxed);
        });
        let readers: Vec<_> = [0, 1, 1_000, 2_500, BEFORE - 1]
            .into_iter()
            .map(|from| {
                scope.spawn(move || {
                    let mut stream = server.resume("/events", &positions[from]);
                    // Some break off now and then, and go on where they were.
                    let mut breaks = 0;
                    for expected in from + 1..TOTAL {
                        let event = stream.next();
                        assert_eq!(event.data, expected.to_string(), "reader from {from}");
                        if from % 2 == 1 && expected % 977 == 0 {
                            let last_id = stream.last_id.clone();
                            stream = server.resume("/events", &last_id);
                            breaks += 1;
                        }
                    }
                    assert!(from % 2 == 0 || breaks > 3);
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert!(done.into_inner());
    let stats = server.get("/events/stats").ok();
    assert_eq!(stats["gaps"], 0);
    assert!(
        stats["window"]["bytes"].as_u64().unwrap() <= 64 << 10,
        "{stats}"
    );
}

#[test]
fn a_filtered_replay_gives_just_what_live_readers_got() {
    let server = Server::with(&["--window", "16KiB"]);
    let paths = [
        "/events?topic=room/1",
        "/events?topic=room/1&topic=room/2&subscribe=chat",
        "/events?topic=room/:id",
        "/events?topic=*",
        "/events?session_id=s&topic=room/1",
        "/events?user_id=u",
        "/events?subscribe=chat",
    ];
    let mut live: Vec<_> = paths.iter().map(|path| server.open(path)).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut events = Vec::new();
    let mut one_of = |names: &[&'static str]| names[random.usize(..names.len())];
    for n in 0..500 {
        let event_type = one_of(&["chat", "typing", "message"]);
        let mut event = json!({"data": n, "event_type": event_type});
        match one_of(&["one", "two", "session", "user", "both", "none"]) {
            "one" => event["topic"] = json!("room/1"),
            "two" => event["topic"] = json!(["room/2", "room/3"]),
            "session" => event["session_filter"] = json!(one_of(&["s", "t"])),
            "user" => event["user_id"] = json!(one_of(&["u", "v"])),
            "both" => {
                event["topic"] = json!("room/1");
                event["session_id"] = json!("s");
            }
            _ => {}
        }
        events.push(event);
    }
    for batch in events.chunks(20) {
        server.publish(&json!(batch));
    }
    let end = json!({"data": "end", "event_type": "chat", "topic": ["room/1", "room/2", "public"]});
    server.publish(&end);
    let mut sizes = HashSet::new();
    for (path, live) in paths.iter().zip(&mut live) {
        let until_end = |stream: &mut Stream| {
            let events = std::iter::from_fn(|| Some(stream.next()));
            events
                .take_while(|event| event.data != "end")
                .collect::<Vec<_>>()
        };
        let heard = until_end(live);
        let replayed = until_end(&mut server.open(&format!("{path}&last_event_id=earliest")));
        assert_eq!(heard, replayed, "{path}");
        let mut polled = Vec::new();
        let mut after = "earliest".to_owned();
        while polled.last() != Some(&json!("end")) {
            let page = server
                .get(&format!("{path}&limit=33&after={after}").replace("/events", "/events/poll"))
                .ok();
            polled.extend(
                page["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|event| event["data"].clone()),
            );
            page["position"].as_str().unwrap().clone_into(&mut after);
        }
        polled.pop();
        assert_eq!(polled, data(&heard), "{path}");
        sizes.insert(heard.len());
    }
    assert!(sizes.len() > 3, "the filters made no difference: {sizes:?}");
}
