//! Streams whose lifetime the application has said: it is asked again before that is over.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;

use super::{App, bearer, good, status};
use crate::client::{End, eventually};
use crate::server::Server;

/// An application whose answer the test can change; nothing is no answer.
struct Changing {
    app: App,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Changing {
    fn says(answer: &str) -> Self {
        let answer = Arc::new(Mutex::new(good(answer)));
        let said = Arc::clone(&answer);
        Self {
            app: App::start(move |_| said.lock().unwrap().clone()),
            answer,
        }
    }

    fn now(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn hub(&self) -> Server {
        self.app.hub(&["--auth-cookie", "sid"])
    }
}

const ANN: &str =
    r#"{"user": "ann", "grants": {"subscribe": ["*"], "publish": ["*"]}, "expires_in": 2}"#;

#[test]
fn a_stream_goes_on_as_long_as_the_application_says_so_and_it_is_asked_once_for_all() {
    let app = Changing::says(ANN);
    let hub = app.hub();
    let bearer = bearer("ann");
    let headers = [("Authorization", bearer.as_str())];
    let mut streams: Vec<_> = (0..5).map(|_| hub.open_with("/events", &headers)).collect();
    let asked = app.app.asked().len();
    assert_eq!(asked, 1);
    // Two lifetimes long.
    let begun = Instant::now();
    eventually("it was asked again", || {
        (app.app.asked().len() >= asked + 3).then_some(())
    });
    assert!(begun.elapsed().as_secs_f64() > 2.0, "{:?}", begun.elapsed());
    hub.request(
        "POST",
        "/events",
        &headers,
        json!({"data": "still"}).to_string().as_bytes(),
    )
    .ok();
    for stream in &mut streams {
        assert_eq!(stream.next().data, "still");
    }
    let all = app.app.asked();
    let again = &all[1];
    assert_eq!(again.header("authorization"), Some("Bearer ann"));
    assert_eq!(again.header("x-original-uri"), Some("/events"));
}

#[test]
fn a_stream_that_may_not_go_on_ends_and_says_why() {
    let other = ANN.replace("ann", "bob");
    for (answer, code) in [
        (status("401 Unauthorized"), "revoked"),
        (status("403 Forbidden"), "revoked"),
        // Somebody else, and nothing left of what it reads.
        (good(&other), "revoked"),
        (good(r#"{"user": "ann", "expires_in": 2}"#), "revoked"),
        // No answer is none: its lifetime is over then.
        (Vec::new(), "expired"),
        (status("500 Broken"), "expired"),
    ] {
        let app = Changing::says(ANN);
        let hub = app.hub();
        let bearer = bearer("ann");
        let mut stream = hub.open_with("/events?topic=a", &[("Authorization", &bearer)]);
        app.now(answer.clone());
        let (events, end) = stream.rest();
        let said = events.last().unwrap().json();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(said["code"], code, "{answer}");
        assert_eq!(end, End::Clean, "{answer}");
    }
}

#[test]
fn an_application_that_was_away_for_a_moment_ends_nothing() {
    let app = Changing::says(&ANN.replace(": 2", ": 10"));
    let hub = app.hub();
    let headers = [("Cookie", "sid=ann")];
    let mut stream = hub.open_with("/events?topic=a", &headers);
    app.now(Vec::new());
    let before = app.app.asked().len();
    eventually("it was asked", || {
        (app.app.asked().len() > before).then_some(())
    });
    app.now(good(ANN));
    let before = app.app.asked().len();
    eventually("it was asked again", || {
        (app.app.asked().len() >= before + 3).then_some(())
    });
    let bearer = bearer("ann");
    hub.request(
        "POST",
        "/events",
        &[("Authorization", &bearer)],
        json!({"topic": "a", "data": "still"})
            .to_string()
            .as_bytes(),
    )
    .ok();
    assert_eq!(stream.next().data, "still");
}

#[test]
fn after_a_revocation_the_application_is_asked_anew() {
    let app = Changing::says(r#"{"user": "ann", "grants": {"subscribe": ["*"], "admin": true}}"#);
    let hub = app.hub();
    let bearer = bearer("ann");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    drop(hub.open_with("/events", &headers));
    assert_eq!(app.app.asked().len(), 1);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let revoked = hub.request(
        "POST",
        "/admin/revocations",
        &headers,
        br#"{"user": "ann"}"#,
    );
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    std::thread::sleep(std::time::Duration::from_millis(5));
    // What it said before is over. It still says yes, and that counts.
    drop(hub.open_with("/events", &headers));
    assert_eq!(app.app.asked().len(), 2);
    app.now(status("401 Unauthorized"));
    let again = hub.request(
        "POST",
        "/admin/revocations",
        &headers,
        br#"{"user": "ann"}"#,
    );
    assert_eq!(again.status, 200);
    let refused = hub.try_open("/events", &headers);
    assert!(refused.is_err_and(|reply| reply.status == 401));
}
