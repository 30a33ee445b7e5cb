//! The ways to show who one is, and how refusals are told.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{Guarded, admin, now, signed, token};
use crate::server::{Server, folder};

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
