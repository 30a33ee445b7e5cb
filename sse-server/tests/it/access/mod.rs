//! Who may do what, with authentication on: tokens, grants, and what is told to whom.

mod application;
mod audited;
mod checked;
mod ending;
mod jwk_set;
mod jwt_corpus;
mod model;
mod owned_jobs;
mod rates;
mod ways;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Reply, Stream};
use crate::server::{Server, folder};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes, and some more";

/// A hub that takes tokens signed with [`SECRET`].
struct Guarded {
    server: Server,
    _folder: TempDir,
}

impl Guarded {
    fn start(flags: &[&str]) -> Self {
        let folder = folder();
        let secret = secret_file(&folder);
        let mut all = vec!["--jwt-secret", secret.to_str().unwrap()];
        all.extend(flags);
        Self {
            server: Server::with(&all),
            _folder: folder,
        }
    }

    fn request(&self, token: &str, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        self.server.request(method, path, &headers, body.as_bytes())
    }

    fn get(&self, token: &str, path: &str) -> Reply {
        self.request(token, "GET", path, &Value::Null)
    }

    fn post(&self, token: &str, path: &str, body: &Value) -> Reply {
        self.request(token, "POST", path, body)
    }

    fn open(&self, token: &str, path: &str) -> Stream {
        let bearer = format!("Bearer {token}");
        self.server.open_with(path, &[("Authorization", &bearer)])
    }

    fn refused(&self, token: &str, path: &str, status: u16) -> Value {
        let bearer = format!("Bearer {token}");
        let refused = self.server.try_open(path, &[("Authorization", &bearer)]);
        let Err(reply) = refused else {
            panic!("{path} was opened")
        };
        reply.problem(status)
    }
}

pub(crate) fn secret_file(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    path
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn signed(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

/// A token that is good for a minute.
pub(crate) fn token(claims: Value) -> String {
    let mut claims = claims;
    claims["exp"] = (now() + 60).into();
    signed(&Header::new(Algorithm::HS256), &claims)
}

fn admin() -> String {
    token(
        json!({"sse": {"publish": ["*"], "subscribe": ["*", "user/*", "session/*"], "admin": true, "issue": true}}),
    )
}

#[test]
fn an_exact_topic_without_a_grant_is_named_and_patterns_keep_what_is_granted() {
    let hub = Guarded::start(&[]);
    let ann = token(json!({"sub": "ann", "sid": "s1", "sse": {"subscribe": ["news", "job/*"]}}));
    let admin = admin();
    let publish = |topic: &str| {
        hub.post(&admin, "/events", &json!({"topic": topic, "data": topic}))
            .ok();
    };
    let problem = hub.refused(&ann, "/events?topic=news&topic=secret", 403);
    assert!(
        problem["detail"].as_str().unwrap().contains("\"secret\""),
        "{problem}"
    );
    for path in [
        "/events?topic=user/bob",
        "/events?topic=secret/*",
        "/events?topic_exact=job*",
        "/events/poll?topic=secret",
    ] {
        hub.refused(&ann, path, 403);
    }
    let mut exact = hub.open(&ann, "/events?topic=news&topic=user/ann");
    let mut all = hub.open(&ann, "/events");
    let mut patterns = hub.open(&ann, "/events?topic=*s&topic=job/:id");
    for topic in [
        "secret",
        "news",
        "secrets",
        "job/7",
        "user/bob",
        "user/ann",
        "session/s1",
        "job/7/log",
        "jobs",
    ] {
        publish(topic);
    }
    publish("news");
    let names = |stream: &mut Stream, n: usize| -> Vec<String> {
        stream.take(n).into_iter().map(|event| event.data).collect()
    };
    assert_eq!(
        names(&mut exact, 4),
        ["news", "user/ann", "session/s1", "news"]
    );
    assert_eq!(
        names(&mut all, 6),
        [
            "news",
            "job/7",
            "user/ann",
            "session/s1",
            "job/7/log",
            "news"
        ]
    );
    assert_eq!(
        names(&mut patterns, 5),
        ["news", "job/7", "user/ann", "session/s1", "news"]
    );
    // Replayed and polled, it is the same.
    let mut replayed = hub.open(&ann, "/events?last_event_id=earliest");
    assert_eq!(
        names(&mut replayed, 6),
        [
            "news",
            "job/7",
            "user/ann",
            "session/s1",
            "job/7/log",
            "news"
        ]
    );
    let polled = hub.get(&ann, "/events/poll?after=earliest&topic=*s").ok();
    let polled: Vec<&str> = polled["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["data"].as_str().unwrap())
        .collect();
    assert_eq!(polled, ["news", "user/ann", "session/s1", "news"]);
}

#[test]
fn event_types_are_granted_where_they_are_named() {
    let hub = Guarded::start(&[]);
    let ann = token(json!({"sse": {
        "subscribe": [{"topic": "job/*", "event_types": ["done"]}, "news"],
        "publish": [{"topic": "job/*", "event_types": ["progress", "done"]}],
    }}));
    let mut stream = hub.open(&ann, "/events?topic=job/7&topic=news");
    let publish = |topic: &str, kind: &str| {
        hub.post(
            &ann,
            "/events",
            &json!({"topic": topic, "event_type": kind, "data": kind}),
        )
    };
    publish("job/7", "progress").ok();
    publish("job/7", "done").ok();
    let problem = publish("job/7", "error").problem(403);
    assert!(
        problem["detail"].as_str().unwrap().contains("\"error\""),
        "{problem}"
    );
    publish("news", "done").problem(403);
    assert_eq!(stream.next().data, "done");
    // One of many that is not granted: none is published.
    let many = json!([{"topic": "job/7", "event_type": "done", "data": 1}, {"topic": "x", "event_type": "done", "data": 2}]);
    let problem = hub.post(&ann, "/events", &many).problem(403);
    assert_eq!(problem["field"], "[1]");
    publish("job/7", "done").ok();
    assert_eq!(stream.next().data, "done");
    hub.post(&ann, "/jobs", &json!({"job_id": "9"}))
        .problem(403);
}

#[test]
fn who_shows_nothing_is_asked_to_and_who_shows_too_little_is_refused() {
    let hub = Guarded::start(&[]);
    let ann = token(json!({"sub": "ann"}));
    for path in [
        "/events?topic=news",
        "/events/poll",
        "/metrics",
        "/events/stats",
        "/health",
        "/sse/health",
    ] {
        let reply = hub.server.get(path);
        reply.problem(401);
        assert_eq!(
            reply.header("www-authenticate"),
            Some("Bearer realm=\"events\""),
            "{path}"
        );
    }
    for path in [
        "/metrics",
        "/events/stats",
        "/health",
        "/events/poll?topic=news",
    ] {
        hub.get(&ann, path).problem(403);
    }
    hub.get(&admin(), "/events/stats").ok();
    assert_eq!(hub.server.get("/livez").status, 200);
    assert_eq!(hub.server.get("/readyz").status, 200);
    // Who somebody is, the token says.
    hub.get(&ann, "/events/poll?user_id=bob").problem(403);
    hub.get(&ann, "/events/poll?user_id=ann").ok();
    hub.server.get("/events/poll?user_id=ann").problem(403);
}

#[test]
fn a_connection_is_its_own_callers_and_the_admins() {
    let hub = Guarded::start(&["--authenticated", r#"{"subscribe": ["news", "job/*"]}"#]);
    let (ann, bob) = (token(json!({"sub": "ann"})), token(json!({"sub": "bob"})));
    let mut stream = hub.open(&ann, "/events?topic=news");
    let id = stream.connection_id();
    let path = format!("/events/connections/{id}");
    hub.get(&bob, &path).problem(404);
    hub.request(&bob, "DELETE", &path, &Value::Null)
        .problem(404);
    let change = |topic: &str| json!({"connection_id": id, "topics": [topic]});
    hub.post(&bob, "/events/subscriptions", &change("job/7"))
        .problem(404);
    hub.post(&ann, "/events/subscriptions", &change("secret"))
        .problem(403);
    hub.post(&ann, "/events/subscriptions", &change("job/7"))
        .ok();
    hub.post(
        &admin(),
        "/events",
        &json!({"topic": "job/7", "data": "for ann"}),
    )
    .ok();
    assert_eq!(stream.next().data, "for ann");
    assert_eq!(
        hub.get(&bob, "/events/connections").ok()["connections"],
        json!([])
    );
    assert_eq!(
        hub.get(&ann, "/events/connections").ok()["connections"][0]["connection_id"],
        id
    );
    assert_eq!(
        hub.get(&admin(), "/events/connections").ok()["total_connections"],
        1
    );
    hub.get(&admin(), &path).ok();
    hub.request(&ann, "DELETE", &path, &Value::Null).ok();
}

#[test]
fn names_that_mean_something_in_topics_are_escaped() {
    let hub = Guarded::start(&[]);
    let admin = admin();
    for (user, topic) in [
        ("ann@example.com", "user/ann@example.com"),
        ("a/b", "user/a%2Fb"),
        ("a%2Fb", "user/a%252Fb"),
        ("..", "user/%2E%2E"),
        ("*", "user/%2A"),
        ("{x}", "user/%7Bx%7D"),
        ("zoë", "user/zo%C3%AB"),
    ] {
        let mut stream = hub.open(&token(json!({"sub": user})), "/events");
        hub.post(&admin, "/events", &json!({"topic": topic, "data": user}))
            .ok();
        assert_eq!(stream.next().data, user);
    }
}

#[test]
fn whoever_was_granted_the_topics_of_others_reads_them_live_replayed_and_polled() {
    let hub = Guarded::start(&[]);
    let auditor = token(json!({"sub": "eve", "sse": {"subscribe": ["user/*", "news"]}}));
    let mut live: Vec<Stream> = ["", "?topic=user/*", "?topic=user/ann&topic=news"]
        .iter()
        .map(|query| hub.open(&auditor, &format!("/events{query}")))
        .collect();
    for topic in ["user/ann", "session/s", "news"] {
        hub.post(&admin(), "/events", &json!({"topic": topic, "data": topic}))
            .ok();
    }
    hub.post(
        &admin(),
        "/events",
        &json!({"topic": "user/ann", "data": "last"}),
    )
    .ok();
    for (stream, expected) in live.iter_mut().zip([
        vec!["user/ann", "news", "last"],
        vec!["user/ann", "last"],
        vec!["user/ann", "news", "last"],
    ]) {
        let got: Vec<String> = stream
            .take(expected.len())
            .into_iter()
            .map(|event| event.data)
            .collect();
        assert_eq!(got, expected);
    }
    for (query, expected) in [
        ("", 3),
        ("topic=user/*&", 2),
        ("topic=user/ann&", 2),
        ("topic=news&topic=user/:id&", 3),
    ] {
        let polled = hub
            .get(&auditor, &format!("/events/poll?{query}after=earliest"))
            .ok();
        assert_eq!(
            polled["events"].as_array().unwrap().len(),
            expected,
            "{query}"
        );
        let mut replayed = hub.open(&auditor, &format!("/events?{query}last_event_id=earliest"));
        assert_eq!(replayed.take(expected).last().unwrap().data, "last");
    }
}

#[test]
fn a_job_is_seen_and_changed_by_whoever_was_granted_its_topics_also_if_it_has_none_but_its_own() {
    let hub = Guarded::start(&[]);
    let worker = token(json!({"sse": {"publish": ["job/7"], "subscribe": ["job/7"]}}));
    let reader = token(json!({"sse": {"subscribe": ["job/*"]}}));
    let other = token(json!({"sse": {"publish": ["job/8"], "subscribe": ["job/8"]}}));
    let created = hub.post(&worker, "/jobs", &json!({"job_id": "7"}));
    assert_eq!(created.status, 201);
    let progress = json!({"progress": 1});
    hub.post(&worker, "/jobs/7/progress", &progress).ok();
    assert_eq!(hub.get(&reader, "/jobs/7").ok()["progress"], 1);
    hub.post(&reader, "/jobs/7/progress", &progress)
        .problem(403);
    let shown = |token: &str| {
        hub.get(token, "/jobs").ok()["jobs"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!((shown(&worker), shown(&reader), shown(&other)), (1, 1, 0));
    hub.get(&other, "/jobs/7").problem(404);
    hub.post(&other, "/jobs/7/cancel", &Value::Null)
        .problem(404);
}
