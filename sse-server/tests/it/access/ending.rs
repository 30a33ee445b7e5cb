//! Rights that end: expiry, other rights for an open stream, revocation.

use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use super::{Guarded, admin, now, secret_file, signed, token};
use crate::server::{Server, folder};

/// A token that is good for so many seconds.
fn short(claims: Value, seconds: u64) -> String {
    let mut claims = claims;
    claims["iat"] = now().into();
    claims["exp"] = (now() + seconds).into();
    signed(&Header::new(Algorithm::HS256), &claims)
}

#[test]
fn a_stream_ends_with_its_token_and_says_why_and_can_be_given_another_one_before() {
    let hub = Guarded::start(&["--authenticated", r#"{"subscribe": ["*"]}"#]);
    let ann = |seconds| short(json!({"sub": "ann"}), seconds);
    let mut ends = hub.open(&ann(2), "/events");
    let mut goes_on = hub.open(&ann(2), "/events");
    let path = format!("/events/connections/{}/token", goes_on.connection_id());
    hub.post(&short(json!({"sub": "bob"}), 60), &path, &Value::Null)
        .problem(404);
    let renewed = hub.post(&ann(60), &path, &Value::Null).ok();
    assert_eq!(renewed["status"], "renewed");
    let (events, _) = ends.rest();
    let last = events.last().unwrap();
    assert_eq!(last.name, "unavailable");
    let said = last.json();
    assert_eq!(
        (&said["status"], &said["code"]),
        (&json!(401), &json!("expired"))
    );
    hub.post(&admin(), "/events", &json!({"data": "still there"}))
        .ok();
    assert_eq!(goes_on.next().data, "still there");
    // A poll does not wait for what its token does not last for.
    let polled = hub.get(&ann(1), "/events/poll?wait=50").ok();
    assert_eq!(polled["events"], json!([]));
}

#[test]
fn fewer_rights_narrow_what_a_stream_reads() {
    let hub = Guarded::start(&[]);
    let ann = |topics: &[&str]| short(json!({"sub": "ann", "sse": {"subscribe": topics}}), 60);
    let mut stream = hub.open(&ann(&["*"]), "/events");
    let path = format!("/events/connections/{}/token", stream.connection_id());
    hub.post(&ann(&["news"]), &path, &Value::Null).ok();
    for topic in ["secret", "news"] {
        hub.post(&admin(), "/events", &json!({"topic": topic, "data": topic}))
            .ok();
    }
    assert_eq!(stream.next().data, "news");
    let exact = hub.open(&ann(&["*"]), "/events?topic=news");
    let path = format!("/events/connections/{}/token", exact.connection_id());
    hub.post(&ann(&["olds"]), &path, &Value::Null).problem(403);
}

#[test]
fn a_stream_gets_more_with_a_token_that_grants_more() {
    let hub = Guarded::start(&[]);
    let ann = |topics: &[&str]| short(json!({"sub": "ann", "sse": {"subscribe": topics}}), 60);
    let mut all = hub.open(&ann(&["news"]), "/events");
    let mut rooms = hub.open(&ann(&["room/1"]), "/events?topic=room/*");
    for stream in [&all, &rooms] {
        let path = format!("/events/connections/{}/token", stream.connection_id());
        hub.post(&ann(&["olds", "room/2"]), &path, &Value::Null)
            .ok();
    }
    for topic in ["news", "room/1", "olds", "room/2"] {
        hub.post(&admin(), "/events", &json!({"topic": topic, "data": topic}))
            .ok();
    }
    assert_eq!(all.next().data, "olds");
    assert_eq!(rooms.next().data, "room/2");
}

#[test]
fn a_grant_of_everything_public_does_not_add_types_to_a_private_one() {
    let hub = Guarded::start(&[]);
    let some = json!({"topic": "user/*", "event_types": ["y"]});
    let watcher = token(json!({"sid": "w", "sse": {"subscribe": ["*", "us*", some]}}));
    for path in ["/events", "/events?topic=user/*", "/events?topic=user/ann"] {
        let mut stream = hub.open(&watcher, path);
        for event_type in ["x", "y"] {
            let event = json!({"topic": "user/ann", "event_type": event_type, "data": event_type});
            hub.post(&admin(), "/events", &event).ok();
        }
        assert_eq!(stream.next().data, "y", "{path}");
    }
}

#[test]
fn a_websocket_publishes_by_the_rights_that_it_has_now() {
    let hub = Guarded::start(&[]);
    let ann = |publish: &[&str]| {
        short(
            json!({"sub": "ann", "sse": {"subscribe": ["a"], "publish": publish}}),
            60,
        )
    };
    let ticket = hub.post(&ann(&["b"]), "/events/tickets", &json!({})).ok();
    let ticket = ticket["ticket"].as_str().unwrap();
    let query = format!("?topic=a&ticket={ticket}");
    let mut socket = crate::frames::WebSocket::open(&hub.server, &query);
    let publish = json!({"type": "publish", "ref": 1, "topic": "b", "data": 1});
    let told = socket.ask(&publish);
    assert_eq!(told["type"], "published", "{told}");
    let connections = hub.get(&admin(), "/events/connections").ok();
    let id = connections["connections"][0]["connection_id"]
        .as_str()
        .unwrap();
    let path = format!("/events/connections/{id}/token");
    hub.post(&ann(&[]), &path, &Value::Null).ok();
    let told = socket.ask(&publish);
    assert_eq!(
        (&told["type"], &told["status"]),
        (&json!("error"), &json!(403)),
        "{told}"
    );
}

#[test]
fn what_is_revoked_ends_streams_refuses_requests_and_outlives_a_restart() {
    let folder = folder();
    let secret = secret_file(&folder);
    let data = folder.path().join("data");
    let flags = [
        "--jwt-secret",
        secret.to_str().unwrap(),
        "--authenticated",
        r#"{"subscribe": ["*"]}"#,
    ];
    let start = || Guarded {
        server: Server::on_disk(&data, &flags),
        _folder: crate::server::folder(),
    };
    let hub = start();
    let old = |claims: Value| {
        let mut claims = claims;
        claims["iat"] = (now() - 10).into();
        token(claims)
    };
    let tokens = [
        (json!({"user": "ann"}), old(json!({"sub": "ann"}))),
        (
            json!({"session": "s1"}),
            old(json!({"sub": "bob", "sid": "s1"})),
        ),
        (
            json!({"jti": "t1"}),
            old(json!({"sub": "cleo", "jti": "t1"})),
        ),
    ];
    let mut others = hub.open(
        &old(json!({"sub": "dora", "sid": "s2", "jti": "t2"})),
        "/events",
    );
    hub.post(&tokens[0].1, "/admin/revocations", &tokens[0].0)
        .problem(403);
    for (what, token) in &tokens {
        let mut stream = hub.open(token, "/events");
        let answer = hub.post(&admin(), "/admin/revocations", what).ok();
        assert_eq!(answer["streams_ended"], 1, "{what}");
        let (events, _) = stream.rest();
        assert_eq!(events.last().unwrap().json()["code"], "revoked");
        hub.refused(token, "/events", 401);
    }
    hub.post(
        &admin(),
        "/admin/revocations",
        &json!({"user": "eve", "for": "1s"}),
    )
    .ok();
    for nonsense in [
        json!({}),
        json!({"user": ""}),
        json!({"user": "a", "jti": "b"}),
        json!({"user": "a", "for": "long"}),
        json!([]),
    ] {
        hub.post(&admin(), "/admin/revocations", &nonsense)
            .problem(400);
    }
    hub.post(&admin(), "/events", &json!({"data": 1})).ok();
    assert_eq!(others.next().data, "1");
    drop(hub);
    let hub = start();
    for (_, token) in &tokens {
        hub.refused(token, "/events", 401);
    }
    // A new token of the same user is good: it was given after that.
    crate::client::eventually("the second is over", || {
        let bearer = format!("Bearer {}", short(json!({"sub": "ann"}), 60));
        hub.server
            .try_open("/events", &[("Authorization", &bearer)])
            .ok()
    });
}

#[test]
fn a_ticket_made_for_somebody_counts_from_when_it_was_made() {
    let hub = Guarded::start(&[]);
    let mut old = json!({"jti": "backend", "iat": now() - 1000});
    old["sse"] = json!({"subscribe": ["*", "user/*"], "issue": true});
    let backend = token(old);
    let ticket = |user: &str| {
        let asked = json!({"user": user, "topics": ["news"]});
        let made = hub.post(&backend, "/events/tickets", &asked).ok();
        format!("/events?ticket={}", made["ticket"].as_str().unwrap())
    };
    let before = ticket("ann");
    std::thread::sleep(std::time::Duration::from_millis(5));
    let revoke = |what: Value| hub.post(&admin(), "/admin/revocations", &what).ok();
    revoke(json!({"user": "ann"}));
    assert!(hub.server.try_open(&before, &[]).is_err());
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert!(hub.server.try_open(&ticket("ann"), &[]).is_ok());
    // Whoever made it can be revoked, too.
    let of_backend = ticket("ann");
    revoke(json!({"jti": "backend"}));
    assert!(hub.server.try_open(&of_backend, &[]).is_err());
}
