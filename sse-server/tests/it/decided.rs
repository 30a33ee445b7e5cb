//! What is decided once for every way in: progress that makes sense, jobs that a report begins, types and connections that exist.

use serde_json::json;

use crate::server::{Server, is_rfc3339};

#[test]
fn progress_that_makes_no_sense_is_refused_and_changes_nothing() {
    let server = Server::start();
    server
        .post("/jobs", &json!({"job_id": "j", "total": 10}))
        .ok();
    server
        .post("/jobs/j/progress", &json!({"progress": 4}))
        .ok();
    for (body, field) in [
        (json!({"progress": 99}), "progress"),
        (json!({"progress": 10.5}), "progress"),
        (json!({"progress": -1}), "progress"),
        (json!({"progress": 1, "total": -3}), "total"),
        (json!({"message": "less", "total": 3}), "progress"),
    ] {
        let problem = server.post("/jobs/j/progress", &body).problem(400);
        assert_eq!(problem["field"], field, "{body}");
    }
    let problem = server
        .post("/jobs", &json!({"job_id": "k", "total": -1}))
        .problem(400);
    assert_eq!(problem["field"], "total");
    let job = server.get("/jobs/j").ok();
    assert_eq!(
        (&job["progress"], &job["total"], &job["version"]),
        (&json!(4), &json!(10), &json!(2))
    );
    // Beyond what a fraction holds exactly.
    let exact = r#"{"progress": 9007199254740993, "total": 9007199254740992}"#;
    server.post_text("/jobs/j/progress", exact).problem(400);
    let exact = r#"{"progress": 9007199254740993, "total": 9007199254740993}"#;
    let job = server.post_text("/jobs/j/progress", exact).text();
    assert!(job.contains(r#""progress":9007199254740993"#), "{job}");
}

#[test]
fn a_report_begins_a_job_that_nobody_created_and_a_wish_to_cancel_does_not() {
    let server = Server::start();
    let mut stream = server.open("/events?topic=job/*");
    let job = server
        .post(
            "/jobs/new/progress",
            &json!({"progress": 5, "message": "half"}),
        )
        .ok();
    assert_eq!(
        (&job["status"], &job["progress"]),
        (&json!("in_progress"), &json!(5))
    );
    assert_eq!(stream.next().name, "status");
    assert_eq!(stream.next().name, "progress");
    let job = server
        .post("/jobs/done/complete", &json!({"result": 7}))
        .ok();
    assert_eq!(
        (&job["status"], &job["result"]),
        (&json!("completed"), &json!(7))
    );
    let job = server
        .post("/jobs/failed/error", &json!({"error": "no disk"}))
        .ok();
    assert_eq!(job["status"], "error");
    server.post("/jobs/none/cancel", &json!({})).problem(404);
    server.get("/jobs/none").problem(404);
    server
        .post("/jobs/none/progress", &json!({"progress": -1}))
        .problem(400);
    server.get("/jobs/none").problem(404);
    server
        .post("/jobs/a%00b/progress", &json!({"progress": 1}))
        .problem(400);
}

#[test]
fn a_reader_gets_only_events_of_the_types_that_it_asked_for_from_the_first_one_on() {
    let server = Server::start();
    server
        .post("/jobs/j/progress", &json!({"progress": 5}))
        .ok();
    let mut complete = server.open("/events?topic=job/j&subscribe=complete");
    let mut progress = server.open("/events?topic=job/j&subscribe=progress");
    let mut both = server.open("/events?topic=job/j&subscribe=status,progress");
    assert_eq!(progress.next().name, "progress");
    assert_eq!(both.next().name, "status");
    server.post("/jobs/j/complete", &json!({"result": 1})).ok();
    assert_eq!(complete.next().name, "complete");
    let mut late = server.open("/events?topic=job/j&subscribe=progress,error");
    server.publish(&json!({"topic": "job/j", "event_type": "error", "data": "the next one"}));
    assert_eq!(late.next().data, "the next one");
}

#[test]
fn where_types_are_limited_nobody_waits_for_another_one() {
    let server = Server::with(&["--allowed-event-type", "order"]);
    for path in [
        "/events?subscribe=order,ordr",
        "/events/poll?wait=0&subscribe=ordr",
    ] {
        let problem = server.get(path).problem(400);
        assert_eq!(problem["field"], "subscribe");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("allowed are order"),
            "{problem}"
        );
    }
    let stream = server.open("/events?subscribe=order,status,job_complete,gap");
    let change = json!({"connection_id": stream.connection_id(), "event_types": ["other"]});
    let problem = server.post("/events/subscriptions", &change).problem(400);
    assert_eq!(problem["field"], "event_types");
}

#[test]
fn what_is_for_a_connection_that_is_not_open_is_not_accepted_in_silence() {
    let server = Server::start();
    let mut stream = server.open("/events?topic=mine");
    let topic = format!("connection/{}", stream.connection_id());
    server.publish(&json!({"topic": topic, "data": "hello"}));
    assert_eq!(stream.next().data, "hello");
    let nobody = "connection/77bd29e4-0000-4000-8000-000000000000";
    // With others or without: what names connections is for these alone.
    for topics in [
        json!(nobody),
        json!([nobody, "connection/other"]),
        json!([nobody, "mine"]),
    ] {
        let problem = server
            .post("/events", &json!({"topic": topics, "data": 1}))
            .problem(404);
        assert_eq!(problem["field"], "topic");
    }
    let before = server.head();
    let batch = json!([{"topic": "mine", "data": 1}, {"topic": nobody, "data": 2}]);
    server.post("/events", &batch).problem(404);
    assert_eq!(server.head(), before, "all or nothing");
    server.publish(&json!({"topic": [nobody, topic], "data": "for one of them"}));
    assert_eq!(stream.next().data, "for one of them");
}

#[test]
fn a_system_event_tells_when_it_was_published() {
    let server = Server::start();
    let mut streams = [
        server.open("/events"),
        server.open("/events?compression=gzip"),
    ];
    let own = r#"{"event_type": "system", "data": {"message": "a", "timestamp": "mine"}}"#;
    let without =
        r#"{"event_type": "system", "id": "s", "data": { "message": "b", "n": [1 , 2] } }"#;
    let other = r#"{"event_type": "other", "data": {"message": "c"}}"#;
    for body in [
        own,
        without,
        r#"{"event_type": "system", "data": {}}"#,
        r#"{"event_type": "system", "data": "text }"}"#,
        r#"{"event_type": "system", "data": [1]}"#,
        other,
    ] {
        server.post_text("/events", body).ok();
    }
    // A publisher's retry is the same event.
    assert_eq!(server.post_text("/events", without).ok()["duplicate"], true);
    for stream in &mut streams {
        assert_eq!(
            stream.next().data,
            r#"{"message": "a", "timestamp": "mine"}"#
        );
        let event = stream.next();
        assert!(
            event
                .data
                .starts_with(r#"{ "message": "b", "n": [1 , 2],"timestamp":"#),
            "{}",
            event.data
        );
        assert!(is_rfc3339(&event.json()["timestamp"]));
        assert!(is_rfc3339(&stream.next().json()["timestamp"]));
        assert_eq!(stream.next().data, "text }");
        assert_eq!(stream.next().data, "[1]");
        assert_eq!(stream.next().data, r#"{"message": "c"}"#);
    }
    let polled = server.get("/events/poll?after=earliest&wait=0").ok();
    let data = polled["events"][1]["data"].as_str().unwrap();
    assert!(data.contains(r#","timestamp":""#), "{data}");
}
