//! Jobs that are somebody's.

use serde_json::{Value, json};

use super::{Guarded, admin, secret_file, token};
use crate::server::{Server, folder};

#[test]
fn a_job_with_an_owner_is_its_owners_and_the_administrators_alone() {
    let hub = Guarded::start(&[]);
    let ann = token(json!({"sub": "ann", "sse": {"publish": ["job/*"], "subscribe": ["job/*"]}}));
    let bob = token(json!({"sub": "bob", "sse": {"publish": ["job/*"], "subscribe": ["job/*"]}}));
    let root = admin();
    let mut of_bob = hub.open(&bob, "/events?topic=job/1&topic=job/*&topic=user/bob");
    let mut of_ann = hub.open(&ann, "/events?topic=user/ann");
    let created = hub.post(&ann, "/jobs", &json!({"job_id": "1", "user_id": "ann"}));
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["user_id"], "ann");
    hub.post(
        &ann,
        "/jobs/1/progress",
        &json!({"progress": 3, "step": "secret"}),
    )
    .ok();
    assert_eq!(of_ann.next().name, "status");
    assert_eq!(of_ann.next().json()["step"], "secret");

    // To others it is as one that does not exist, whatever they ask.
    let missing = hub.get(&bob, "/jobs/2").problem(404);
    for (method, path, body) in [
        ("GET", "/jobs/1", Value::Null),
        ("GET", "/jobs/1?wait=1", Value::Null),
        ("POST", "/jobs/1/progress", json!({"progress": 4})),
        ("POST", "/jobs/1/complete", json!({})),
        ("POST", "/jobs/1/error", json!({"error": "x"})),
        ("POST", "/jobs/1/cancel", json!({})),
    ] {
        let problem = hub.request(&bob, method, path, &body).problem(404);
        assert_eq!(
            problem["detail"].as_str().unwrap().replace('1', "2"),
            missing["detail"].as_str().unwrap(),
            "{method} {path}"
        );
    }
    assert_eq!(hub.get(&bob, "/jobs").ok()["jobs"], json!([]));
    let polled = hub
        .get(&bob, "/events/poll?after=earliest&topic=job/1")
        .ok();
    assert_eq!(polled["events"], json!([]));
    // A new stream begins with the states of the jobs it follows: not with this one's.
    let mut late = hub.open(&bob, "/events?topic=job/1");
    hub.post(
        &root,
        "/events",
        &json!({"topic": "job/1", "data": "for all"}),
    )
    .ok();
    assert_eq!(late.next().data, "for all");
    assert_eq!(of_bob.next().data, "for all");

    assert_eq!(hub.get(&root, "/jobs/1").ok()["progress"], 3);
    assert_eq!(hub.get(&ann, "/jobs").ok()["jobs"][0]["job_id"], "1");
    let mut own = hub.open(&ann, "/events?topic=job/1");
    assert_eq!(own.next().json()["progress"], 3);
    // Its owner may end it, also without the right to publish.
    let page = token(json!({"sub": "ann"}));
    hub.post(&page, "/jobs/1/progress", &json!({"progress": 5}))
        .problem(403);
    assert_eq!(
        hub.post(&page, "/jobs/1/cancel", &Value::Null).ok()["status"],
        "cancelled"
    );
}

#[test]
fn whose_a_job_is_nobody_else_may_say() {
    let hub = Guarded::start(&[]);
    let bob = token(
        json!({"sub": "bob", "sid": "s-b", "sse": {"publish": ["job/*"], "subscribe": ["job/*"]}}),
    );
    for (field, name) in [("user_id", "ann"), ("session_id", "s-a")] {
        let problem = hub.post(&bob, "/jobs", &json!({field: name})).problem(403);
        assert_eq!(problem["field"], field);
    }
    for name in ["\u{0}", "a\nb", &"x".repeat(2_000)] {
        hub.post(&bob, "/jobs", &json!({"user_id": name}))
            .problem(400);
    }
    let session = hub
        .post(&bob, "/jobs", &json!({"session_id": "s-b"}))
        .json();
    let path = format!("/jobs/{}", session["job_id"].as_str().unwrap());
    // The same user in another session is somebody else.
    let elsewhere = token(json!({"sub": "bob", "sid": "s-c", "sse": {"subscribe": ["job/*"]}}));
    hub.get(&elsewhere, &path).problem(404);
    hub.get(&bob, &path).ok();
    // A worker for all users is granted their topics by name.
    let worker = token(json!({"sse": {"publish": ["job/*"], "subscribe": ["user/*"]}}));
    let made = hub.post(&worker, "/jobs", &json!({"job_id": "w", "user_id": "ann"}));
    assert_eq!(made.status, 201);
    hub.post(&worker, "/jobs/w/progress", &json!({"progress": 1}))
        .ok();
    hub.get(&bob, "/jobs/w").problem(404);
}

#[test]
fn an_owner_outlives_a_restart() {
    let (data, keys) = (folder(), folder());
    let secret = secret_file(&keys);
    let flags = ["--jwt-secret", secret.to_str().unwrap()];
    let ann = token(json!({"sub": "ann", "sse": {"publish": ["job/*"], "subscribe": ["job/*"]}}));
    let bob = token(json!({"sub": "bob", "sse": {"publish": ["job/*"], "subscribe": ["job/*"]}}));
    let ask = |server: &Server, token: &str, method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        server.request(method, path, &headers, body.as_bytes())
    };
    let mut server = Server::on_disk(data.path(), &flags);
    let made = ask(
        &server,
        &ann,
        "POST",
        "/jobs",
        r#"{"job_id": "1", "user_id": "ann"}"#,
    );
    assert_eq!(made.status, 201);
    server.signal("TERM");
    server.wait();
    let server = Server::on_disk(data.path(), &flags);
    ask(&server, &bob, "GET", "/jobs/1", "").problem(404);
    assert_eq!(
        ask(&server, &ann, "GET", "/jobs/1", "").ok()["user_id"],
        "ann"
    );
    ask(&server, &bob, "POST", "/jobs/1/complete", "{}").problem(404);
    ask(&server, &ann, "POST", "/jobs/1/complete", "{}").ok();
}

#[test]
fn without_authentication_an_owned_jobs_events_are_its_owners_too() {
    let server = Server::start();
    server.post("/jobs", &json!({"job_id": "1", "session_id": "s"}));
    let mut own = server.open("/events?topic=job/1&session_id=s");
    let mut other = server.open("/events?topic=job/1&session_id=t");
    server
        .post("/jobs/1/progress", &json!({"progress": 1}))
        .ok();
    server.publish(&json!({"topic": "job/1", "data": "for all"}));
    assert_eq!(own.next().name, "status");
    assert_eq!(own.next().name, "progress");
    assert_eq!(own.next().data, "for all");
    assert_eq!(other.next().data, "for all");
}

#[test]
fn an_owner_whose_grants_are_for_some_types_only_still_has_the_job() {
    let hub = Guarded::start(&[]);
    let some = json!({"topic": "job/*", "event_types": ["progress"]});
    let ann = token(json!({"sub": "ann", "sse": {"publish": ["job/*"], "subscribe": [some]}}));
    for (job, owner) in [("1", json!({"user_id": "ann"})), ("2", json!({}))] {
        let mut created = owner;
        created["job_id"] = job.into();
        assert_eq!(hub.post(&ann, "/jobs", &created).status, 201);
        let seen = hub.get(&ann, &format!("/jobs/{job}")).ok();
        assert_eq!(seen["job_id"], job);
    }
}

#[test]
fn whoever_may_publish_to_a_job_may_change_it_without_reading_it() {
    let hub = Guarded::start(&[]);
    let worker = token(json!({"sid": "w", "sse": {"publish": ["job/*"]}}));
    let created = json!({"job_id": "1", "title": "secret"});
    assert_eq!(hub.post(&worker, "/jobs", &created).status, 201);
    let progress = json!({"progress": 1, "total": 2});
    let changed = hub.post(&worker, "/jobs/1/progress", &progress).ok();
    assert_eq!(changed["status"], "in_progress");
    assert_eq!(changed.get("title"), None, "{changed}");
    hub.get(&worker, "/jobs/1").problem(404);
    let other = token(json!({"sid": "o", "sse": {"publish": ["job/2"]}}));
    hub.post(&other, "/jobs/1/progress", &progress).problem(404);
    hub.post(&worker, "/jobs/1/complete", &json!({})).ok();
    // One that is somebody's is not there for those who may not read what is theirs.
    let owned = json!({"job_id": "2", "user_id": "ann"});
    assert_eq!(hub.post(&admin(), "/jobs", &owned).status, 201);
    hub.post(&worker, "/jobs/2/progress", &progress)
        .problem(404);
}
