//! How fast one caller may connect and publish, and how many connections one user may have.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Guarded, admin, token};
use crate::client::{Reply, Stream, Wire, eventually};
use crate::frames::WebSocket;
use crate::server::Server;

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A refusal of somebody who is too fast; how many seconds it is to wait.
#[track_caller]
fn too_fast(reply: &Reply, flag: &str) -> u64 {
    let problem = reply.problem(429);
    assert_eq!(problem["code"], "rate", "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(flag), "{detail}");
    let seconds = reply.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(problem["retry_after"], seconds, "{problem}");
    assert!(
        detail.contains(&format!("try again in {seconds} second")),
        "{detail}"
    );
    seconds
}

/// Publishes from another address.
fn publish_from(server: &Server, from: IpAddr, event: &Value) -> Reply {
    let mut wire = Wire::connect_from(server.address, from, None).unwrap();
    let headers = [("Content-Type", "application/json")];
    let body = event.to_string();
    wire.write(&server.bytes("POST", "/events", &headers, Some(body.as_bytes())));
    wire.reply(false).unwrap()
}

fn line(server: &Server, metric: &str) -> String {
    let metrics = server.get("/metrics").text();
    let mut lines = metrics.lines();
    let found = lines.find(|line| line.starts_with(metric));
    found
        .unwrap_or_else(|| panic!("no {metric} in {metrics}"))
        .to_owned()
}

#[test]
fn events_beyond_the_rate_are_refused_until_it_allows_them_and_a_batch_costs_its_number() {
    let server = Server::with(&["--publish-rate", "1/m:5"]);
    let event = json!({"data": 1});
    let refused = |reply: &Reply| {
        let wait = too_fast(reply, "--publish-rate");
        assert!((50..=60).contains(&wait), "{wait}");
    };
    server.publish(&json!([1, 2, 3].map(|n| json!({"data": n}))));
    // Three more do not fit, two do; what is refused costs nothing, nor does what is wrong.
    let three = json!([1, 2, 3].map(|n| json!({"data": n})));
    refused(&server.post("/events", &three));
    server.post("/events", &json!({"dat": 1})).problem(400);
    server.publish(&event);
    server.post("/sse/test-event", &json!({"data": 1})).ok();
    refused(&server.post("/events", &event));
    // A change of a job is an event.
    refused(&server.post("/jobs", &json!({"job_id": "7"})));
    refused(&server.request("POST", "/sse/test-event", &[], b""));
    // Another address is another caller.
    publish_from(&server, OTHER, &event).ok();
    // More than ever fits is not worth another try.
    let six = json!([1, 2, 3, 4, 5, 6].map(|n| json!({"data": n})));
    let reply = server.post("/events", &six);
    let problem = reply.problem(413);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("--publish-rate") && detail.contains("smaller parts"),
        "{detail}"
    );
    assert_eq!(reply.header("retry-after"), None);
    assert_eq!(
        line(&server, "sse_rates_refused_total{limit=\"publish\"}"),
        "sse_rates_refused_total{limit=\"publish\"} 5"
    );
    let rates = server.get("/events/stats").ok()["rates"].clone();
    assert_eq!(
        rates["publish"],
        json!({"per_second": 1.0 / 60.0, "burst": 5, "refused": 5})
    );
    assert_eq!(rates["connect"], json!({"refused": 0}));
}

#[test]
fn whoever_waits_as_long_as_it_is_told_is_served() {
    let server = Server::with(&["--publish-rate", "1:1"]);
    let event = json!({"data": 1});
    let refused = eventually("one is too early", || {
        let reply = server.post("/events", &event);
        (reply.status != 200).then_some(reply)
    });
    assert_eq!(too_fast(&refused, "--publish-rate"), 1);
    std::thread::sleep(Duration::from_secs(1));
    server.publish(&event);
}

#[test]
fn bytes_are_limited_beside_events_and_neither_costs_what_the_other_refuses() {
    let server = Server::with(&[
        "--publish-bytes-rate",
        "1KiB:64KiB",
        "--max-event",
        "48KiB",
        "--publish-rate",
        "1/h:3",
    ]);
    let event = |bytes| json!({"data": "x".repeat(bytes)});
    server.publish(&event(40 << 10));
    let wait = too_fast(
        &server.post("/events", &event(40 << 10)),
        "--publish-bytes-rate",
    );
    assert!((14..=17).contains(&wait), "{wait}");
    let events = |count, bytes| Value::from(vec![event(bytes); count]);
    // These are three events where two are left; their bytes are not taken, so the next fit.
    too_fast(
        &server.post("/events", &events(3, 6 << 10)),
        "--publish-rate",
    );
    server.publish(&events(2, 10 << 10));
    let problem = server.post("/events", &events(2, 40 << 10)).problem(413);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("--publish-bytes-rate"), "{detail}");
}

#[test]
fn a_websocket_hears_of_it_in_an_answer_and_goes_on() {
    let server = Server::with(&["--publish-rate", "1/h:2", "--connect-rate", "1/h:2"]);
    let mut socket = WebSocket::open(&server, "?topic=t");
    let publish = json!({"type": "publish", "ref": 1, "topic": "other", "data": 1});
    for _ in 0..2 {
        assert_eq!(socket.ask(&publish)["type"], "published");
    }
    let answer = socket.ask(&publish);
    assert_eq!(
        (
            &answer["type"],
            &answer["status"],
            &answer["code"],
            &answer["ref"]
        ),
        (&json!("error"), &json!(429), &json!("rate"), &json!(1)),
        "{answer}"
    );
    assert_eq!(answer["retry_after"], 3600);
    assert!(
        answer["detail"]
            .as_str()
            .unwrap()
            .contains("--publish-rate"),
        "{answer}"
    );
    let more = socket.ask(&json!({"type": "subscribe", "topics": ["u"]}));
    assert_eq!(more["type"], "subscribed");
    // It was one connection, and there may be one more of either kind.
    let _second = server.open("/events");
    let mut wire = Wire::connect(server.address);
    wire.write(&server.bytes("GET", "/events/ws", &crate::frames::HANDSHAKE, None));
    too_fast(&wire.reply(false).unwrap(), "--connect-rate");
}

#[test]
fn whoever_connects_too_often_is_told_when_to_come_back_a_browser_in_a_stream() {
    let server = Server::with(&["--connect-rate", "1/m:3", "--log", "warn"]);
    let at_once: Vec<Stream> = (0..3).map(|_| server.open("/events")).collect();
    drop(at_once);
    let Err(refused) = server.try_open("/events", &[]) else {
        panic!("a fourth was opened")
    };
    let wait = too_fast(&refused, "--connect-rate");
    assert!((50..=60).contains(&wait), "{wait}");
    // HEAD says what a stream would hear. Polls are not connections.
    assert_eq!(server.request("HEAD", "/events", &[], b"").status, 429);
    server.get("/events/poll").ok();
    let browser = [
        ("Accept", "text/event-stream"),
        ("Sec-Fetch-Mode", "cors"),
        ("User-Agent", "Mozilla/5.0"),
    ];
    let heard = server.request("GET", "/events", &browser, b"");
    assert_eq!(heard.status, 200);
    let text = heard.text();
    for part in [
        "event: unavailable",
        "\"status\":429",
        "\"code\":\"rate\"",
        "retry: ",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(server.try_open_from("/events", &[], OTHER).is_ok());
    // One line for all of them.
    let told = eventually("the log tells", || {
        let log = server.stderr();
        log.contains("a limit has refused requests").then_some(log)
    });
    assert!(
        told.contains("--connect-rate") && told.contains("address 127.0.0.1"),
        "{told}"
    );
    for _ in 0..20 {
        assert!(server.try_open("/events", &[]).is_err());
    }
    std::thread::sleep(Duration::from_millis(2_500));
    let lines = server.stderr();
    assert_eq!(
        lines.matches("a limit has refused requests").count(),
        1,
        "{lines}"
    );
}

#[test]
fn a_user_is_one_caller_wherever_it_comes_from_and_whatever_token_it_has() {
    let hub = Guarded::start(&[
        "--publish-rate",
        "1/h:2",
        "--authenticated",
        r#"{"publish": ["*"], "subscribe": ["*"]}"#,
        "--anonymous",
        r#"{"publish": ["*"]}"#,
    ]);
    let event = json!({"data": 1});
    let of = |claims: Value| token(claims);
    hub.post(&of(json!({"sub": "ann", "jti": "1"})), "/events", &event)
        .ok();
    hub.post(
        &of(json!({"sub": "ann", "jti": "2", "sid": "s"})),
        "/events",
        &event,
    )
    .ok();
    let refused = hub.post(&of(json!({"sub": "ann"})), "/events", &event);
    too_fast(&refused, "--publish-rate");
    assert!(
        refused.problem(429)["detail"]
            .as_str()
            .unwrap()
            .starts_with("this user")
    );
    // Others at the same address have their own: a user, a session, a token, and whoever shows nothing.
    for claims in [
        json!({"sub": "bob"}),
        json!({"sid": "s"}),
        json!({"jti": "1"}),
    ] {
        for _ in 0..2 {
            hub.post(&of(claims.clone()), "/events", &event).ok();
        }
        too_fast(&hub.post(&of(claims), "/events", &event), "--publish-rate");
    }
    for _ in 0..2 {
        hub.server.publish(&event);
    }
    let refused = hub.server.post("/events", &event);
    too_fast(&refused, "--publish-rate");
    assert!(
        refused.problem(429)["detail"]
            .as_str()
            .unwrap()
            .starts_with("this address")
    );
}

#[test]
fn a_user_has_so_many_connections_and_gets_their_places_back() {
    let hub = Guarded::start(&[
        "--max-connections-per-user",
        "3",
        "--authenticated",
        r#"{"publish": ["*"], "subscribe": ["*"]}"#,
        "--anonymous",
        r#"{"subscribe": ["*"]}"#,
    ]);
    let (ann, bob) = (token(json!({"sub": "ann"})), token(json!({"sub": "bob"})));
    let bearer = format!("Bearer {ann}");
    let authorization = [("Authorization", bearer.as_str())];
    for round in 0..3 {
        let mut first = hub.open(&ann, "/events");
        let second = hub.server.try_open_from("/events", &authorization, OTHER);
        assert!(second.is_ok(), "{round}");
        let mut wire = Wire::connect(hub.server.address);
        let mut headers = crate::frames::HANDSHAKE.to_vec();
        headers.extend(authorization);
        wire.write(&hub.server.bytes("GET", "/events/ws", &headers, None));
        let socket = WebSocket::greeted(wire);
        for path in ["/events", "/events/poll?wait=5"] {
            let reply = hub.get(&ann, path);
            let problem = reply.problem(503);
            assert_eq!(problem["code"], "user_full", "{problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.contains("3 connections of this user")
                    && detail.contains("--max-connections-per-user"),
                "{detail}"
            );
            assert!(reply.header("retry-after").is_some());
        }
        assert_eq!(
            hub.request(&ann, "HEAD", "/events", &Value::Null).status,
            503
        );
        // A stream that has been live for a while still counts.
        hub.post(&bob, "/events", &json!({"topic": "t", "data": round}))
            .ok();
        assert_eq!(first.next().json(), round);
        let renewed = token(json!({"sub": "ann", "jti": "another"}));
        let path = format!("/events/connections/{}/token", first.connection_id());
        hub.post(&renewed, &path, &Value::Null).ok();
        hub.refused(&renewed, "/events", 503);
        // Others are not concerned, nor is what takes no place.
        drop(hub.open(&bob, "/events"));
        drop(hub.server.open("/events"));
        hub.get(&ann, "/events/poll").ok();
        drop((first, second, socket));
        eventually("the places are free", || {
            let stats = hub.get(&admin(), "/events/stats").ok();
            (stats["active_connections"] == 0).then_some(())
        });
    }
    let stats = hub.get(&admin(), "/events/stats").ok();
    let places = &stats["places"];
    assert_eq!(places["connections"]["max_per_user"], 3);
    assert_eq!(places["connections"]["refused_per_user"], 9, "{places}");
    assert_eq!(places["requests"].get("max_per_user"), None);
    let metrics = hub.get(&admin(), "/metrics").text();
    let line = "sse_places_refused_total{of=\"connections\",by=\"user\"} 9";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn pages_with_tickets_that_name_nobody_are_counted_by_their_address() {
    let hub = Guarded::start(&["--max-connections-per-user", "1"]);
    let backend = token(json!({"jti": "backend", "sse": {"subscribe": ["news"], "issue": true}}));
    let ticket = |body: &Value| {
        let ticket = hub.post(&backend, "/events/tickets", body).ok()["ticket"].clone();
        format!("/events?ticket={}", ticket.as_str().unwrap())
    };
    let anyone = json!({"topics": ["news"]});
    let _visitors = [(); 3].map(|()| hub.server.open(&ticket(&anyone)));
    let _backend = hub.open(&backend, "/events");
    hub.refused(&backend, "/events", 503);
    let ann = json!({"user": "ann", "topics": ["news"]});
    let _ann = hub.server.open(&ticket(&ann));
    let second = hub.server.try_open(&ticket(&ann), &[]);
    assert_eq!(second.err().unwrap().problem(503)["code"], "user_full");
}

#[test]
fn whoever_shows_too_much_that_is_not_good_is_heard_no_more_and_others_are() {
    let folder = crate::server::folder();
    let tokens = folder.path().join("tokens");
    let made = crate::server::command()
        .args(["token", "new", "--subscribe", "*", "--token-file"])
        .arg(&tokens)
        .output()
        .unwrap();
    let api_token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let hub = Guarded::start(&[
        "--failed-credential-rate",
        "1/h:5",
        "--token-file",
        tokens.to_str().unwrap(),
    ]);
    let poll = |token: &str, from: IpAddr| {
        let bearer = format!("Bearer {token}");
        let request = hub.server.bytes(
            "GET",
            "/events/poll?topic=a",
            &[("Authorization", &bearer)],
            Some(b""),
        );
        let mut wire = Wire::connect_from(hub.server.address, from, None).unwrap();
        wire.write(&request);
        wire.reply(false).unwrap()
    };
    let (here, there) = (Ipv4Addr::LOCALHOST.into(), OTHER);
    let known = token(json!({"sub": "ann", "sse": {"subscribe": ["*"]}}));
    poll(&known, here).ok();
    for n in 0..5 {
        poll(&format!("nonsense{n}"), here).problem(401);
    }
    let refused = poll("nonsense", here);
    assert!(too_fast(&refused, "--failed-credential-rate") > 0);
    // What was good before is good, API tokens are, and whoever shows nothing is not concerned.
    poll(&known, here).ok();
    poll(&api_token, here).ok();
    hub.server.get("/livez");
    // Another good one must wait, as nobody can tell it from the bad ones unseen; elsewhere it need not.
    let unknown = token(json!({"sub": "bob", "sse": {"subscribe": ["*"]}}));
    poll(&unknown, here).problem(429);
    poll(&unknown, there).ok();
    // Now it is known.
    poll(&unknown, here).ok();
    let metrics = hub.get(&admin(), "/metrics");
    assert_eq!(metrics.status, 429, "it is not known");
}
