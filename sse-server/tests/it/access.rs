//! Who may do what, with authentication on: tokens, grants, and what is told to whom.

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

fn secret_file(folder: &TempDir) -> PathBuf {
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
fn token(claims: Value) -> String {
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
fn a_credential_that_is_wrong_is_refused_and_never_taken_for_none() {
    let hub = Guarded::start(&["--anonymous", r#"{"subscribe": ["*"], "publish": ["*"]}"#]);
    let good = token(json!({"sub": "ann"}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let none = {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let claims = json!({"sub": "ann", "exp": now() + 60}).to_string();
        format!(
            "{}.{}.",
            encode(r#"{"alg":"none","typ":"JWT"}"#),
            encode(&claims)
        )
    };
    let with = |claims: Value| signed(&Header::new(Algorithm::HS256), &claims);
    for (what, token) in [
        ("nonsense", "nonsense".to_owned()),
        ("no signature", format!("{head}.")),
        ("half a signature", format!("{head}.{}", &signature[..10])),
        ("alg none", none),
        ("no exp", with(json!({"sub": "ann"}))),
        ("expired", with(json!({"exp": now() - 1}))),
        ("exp is now", with(json!({"exp": now()}))),
        ("exp is text", with(json!({"exp": "tomorrow"}))),
        ("exp is negative", with(json!({"exp": -1}))),
        ("exp is null", with(json!({"exp": null}))),
        (
            "not yet",
            with(json!({"exp": now() + 60, "nbf": now() + 30})),
        ),
        ("nbf is text", with(json!({"exp": now() + 60, "nbf": "0"}))),
        ("sub is a list", token(json!({"sub": ["ann"]}))),
        ("jti is a number", token(json!({"jti": 7}))),
        ("grants are text", token(json!({"sse": "*"}))),
        (
            "grants are unknown",
            token(json!({"sse": {"write": ["*"]}})),
        ),
        (
            "crit",
            signed(
                &Header {
                    crit: Some(vec!["b64".into()]),
                    ..Header::new(Algorithm::HS256)
                },
                &json!({"exp": now() + 60}),
            ),
        ),
        (
            "another secret",
            jsonwebtoken::encode(
                &Header::default(),
                &json!({"exp": now() + 60}),
                &EncodingKey::from_secret(&[7; 48]),
            )
            .unwrap(),
        ),
    ] {
        let reply = hub.post(&token, "/events", &json!({"data": 1}));
        reply.problem(401);
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.starts_with("Bearer realm=\"events\", error="),
            "{what}: {challenge}"
        );
        hub.refused(&token, "/events", 401);
    }
    for header in ["Basic YTpi", "Bearer", "Bearer a b", "bearer  "] {
        let headers = [("Authorization", header)];
        hub.server
            .request("GET", "/events/poll", &headers, b"")
            .problem(401);
    }
    // Nothing at all is anonymous, which here may do something.
    hub.server.publish(&json!({"data": 1}));
    hub.post(&good, "/events", &json!({"data": 1})).ok();
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
fn keys_are_of_one_kind_and_a_public_one_is_no_secret() {
    let folder = folder();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let public = path("public.pem", &key.public_key_pem());
    let server = Server::with(&[
        "--jwt-key",
        &public,
        "--authenticated",
        r#"{"publish": ["*"]}"#,
    ]);
    let claims = json!({"sub": "ann", "exp": now() + 60});
    let signing = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    let good = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &signing).unwrap();
    let post = |token: &str| {
        let bearer = format!("Bearer {token}");
        server.request(
            "POST",
            "/events",
            &[("Authorization", &bearer)],
            b"{\"data\":1}",
        )
    };
    post(&good).ok();
    // The public key as a secret: the classic confusion.
    let pem = EncodingKey::from_secret(key.public_key_pem().as_bytes());
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &pem).unwrap();
    post(&forged).problem(401);
    for (flag, file, reason) in [
        ("--jwt-secret", public.clone(), "--jwt-key"),
        ("--jwt-secret", path("short", "too short"), "at least 32"),
        (
            "--jwt-key",
            path("oct", r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#),
            "--jwt-secret",
        ),
        (
            "--jwt-key",
            path("empty", r#"{"keys":[]}"#),
            "no public key",
        ),
        ("--jwt-key", path("text", "hello"), "neither"),
        ("--jwt-key", "/nowhere".to_owned(), "/nowhere"),
    ] {
        let output = crate::server::command()
            .args([flag, &file])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && told.contains(reason),
            "{flag} {file}: {told}"
        );
        assert_eq!(told.trim_end().lines().count(), 1, "{told}");
    }
}

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
    hub.post(&ann(&["olds"]), &path, &Value::Null).problem(403);
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
fn an_api_token_is_shown_once_and_made_and_revoked_while_the_hub_runs() {
    let folder = folder();
    let path = folder.path().join("tokens.json");
    let token = |args: &[&str]| {
        let mut command = crate::server::command();
        command
            .arg("token")
            .args(args)
            .arg("--token-file")
            .arg(&path);
        let output = command.output().unwrap();
        let told =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), told.trim_end().to_owned())
    };
    let hub = Guarded {
        server: Server::with(&["--token-file", path.to_str().unwrap()]),
        _folder: crate::server::folder(),
    };
    hub.server.get("/events/poll").problem(401);
    let (is_made, text) = token(&[
        "new",
        "--publish",
        "job/*",
        "--subscribe",
        "job/*",
        "--name",
        "ci",
        "--user",
        "builder",
        "--expires",
        "1h",
    ]);
    assert!(is_made, "{text}");
    let id = text.split('_').nth(1).unwrap().to_owned();
    let (_, listed) = token(&["list"]);
    assert!(listed.contains(&id) && listed.contains("ci") && !listed.contains(&text));
    let mut stream = crate::client::eventually("the hub knows it", || {
        let bearer = format!("Bearer {text}");
        hub.server
            .try_open("/events?topic=job/*", &[("Authorization", &bearer)])
            .ok()
    });
    hub.post(
        &text,
        "/events",
        &json!({"topic": "job/1", "data": "built"}),
    )
    .ok();
    hub.post(&text, "/events", &json!({"topic": "news", "data": "no"}))
        .problem(403);
    assert_eq!(stream.next().data, "built");
    assert!(!token(&["new"]).0, "it grants nothing");
    assert!(!token(&["revoke", "nobody"]).0);
    assert!(token(&["revoke", &id]).0);
    let (events, _) = stream.rest();
    assert_eq!(events.last().unwrap().json()["code"], "revoked");
    hub.refused(&text, "/events", 401);
    let log = hub.server.stderr();
    assert!(
        !log.contains(text.rsplit('_').next().unwrap()),
        "no secret in the log"
    );
}

#[test]
fn a_ticket_opens_one_stream_and_a_used_one_is_told_in_a_stream() {
    let hub = Guarded::start(&[]);
    let ann =
        token(json!({"sub": "ann", "sse": {"subscribe": ["news", "job/*"], "publish": ["news"]}}));
    let ticket = |token: &str, asked: &Value| {
        let made = hub.post(token, "/events/tickets", asked).ok();
        assert_eq!(made["expires_in"], 30);
        made["ticket"].as_str().unwrap().to_owned()
    };
    let once = ticket(&ann, &json!({"topics": ["news"]}));
    let mut stream = hub
        .server
        .open(&format!("/events?topic=news&ticket={once}"));
    hub.post(
        &admin(),
        "/events",
        &json!({"topic": "news", "data": "for ticket holders"}),
    )
    .ok();
    assert_eq!(stream.next().data, "for ticket holders");
    // An EventSource comes back to the same address.
    let path = format!("/events?topic=news&ticket={once}");
    let reply = hub
        .server
        .request("GET", &path, &[("Accept", "text/event-stream")], b"");
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("text/event-stream"))
    );
    let text = reply.text();
    assert!(
        text.starts_with("event: unavailable\n") || text.contains("\nevent: unavailable\n"),
        "{text}"
    );
    assert!(
        text.contains("\"code\":\"ticket_used\"") && text.contains("retry: "),
        "{text}"
    );
    // Who would understand a status gets it.
    hub.server
        .get(&format!("/events/poll?ticket={once}"))
        .problem(401);
    // It goes no further than what was asked for, and that no further than whoever asked.
    let narrow = ticket(&ann, &json!({"topics": ["job/7"]}));
    hub.server
        .get(&format!("/events/poll?topic=news&ticket={narrow}"))
        .problem(403);
    for wider in [
        json!({"topics": ["*"]}),
        json!({"topics": ["secret"]}),
        json!({"topics": ["user/bob"]}),
        json!({"grants": {"admin": true}}),
        json!({"grants": {"publish": ["*"]}}),
        json!({"user": "bob"}),
    ] {
        hub.post(&ann, "/events/tickets", &wider).problem(403);
    }
    hub.post(&ann, "/events/tickets", &json!({"topics": ["user/ann"]}))
        .ok();
    hub.post(&ann, "/events/tickets", &json!({"topic": "news"}))
        .problem(400);
    let all = ticket(&ann, &Value::Null);
    hub.server
        .get(&format!("/metrics?ticket={all}"))
        .problem(403);
    // Who may issue makes them for others.
    let for_bob = ticket(&admin(), &json!({"user": "bob", "topics": ["news"]}));
    let mut bob = hub.server.open(&format!("/events?ticket={for_bob}"));
    hub.post(
        &admin(),
        "/events",
        &json!({"topic": "user/bob", "data": "hello"}),
    )
    .ok();
    assert_eq!(bob.next().data, "hello");
    // Revoking whoever asked ends what the ticket opened.
    hub.post(&admin(), "/admin/revocations", &json!({"user": "ann"}))
        .ok();
    let (events, _) = stream.rest();
    assert_eq!(events.last().unwrap().json()["code"], "revoked");
}

#[test]
fn a_full_hub_tells_a_browsers_event_source_in_a_stream_and_everyone_else_by_its_status() {
    let browser = [
        ("Accept", "text/event-stream"),
        ("Sec-Fetch-Mode", "cors"),
        ("User-Agent", "Mozilla/5.0"),
    ];
    let server = Server::with(&["--max-connections", "1"]);
    let _first = server.open("/events");
    let reply = server.request("GET", "/events", &browser, b"");
    assert_eq!(reply.status, 200);
    let text = reply.text();
    assert!(
        text.contains("event: unavailable")
            && text.contains("\"status\":503")
            && text.contains("\"code\":\"full\""),
        "{text}"
    );
    assert!(text.contains("retry: "), "{text}");
    server
        .request("GET", "/events", &[("Accept", "text/event-stream")], b"")
        .problem(503);
    server
        .request(
            "GET",
            "/events",
            &[("Accept", "*/*"), ("User-Agent", "Mozilla/5.0")],
            b"",
        )
        .problem(503);
    // What does not pass by itself is never told as if it did.
    server
        .request("GET", "/events?topics=a", &browser, b"")
        .problem(400);
    let strict = Server::with(&["--max-connections", "1", "--refusals", "status"]);
    let _first = strict.open("/events");
    strict.request("GET", "/events", &browser, b"").problem(503);
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
