//! What a job may not do: take a place without being created, and grow beyond an event.

use serde_json::json;

use crate::client::eventually;
use crate::server::Server;

#[test]
fn a_job_that_could_not_be_created_costs_no_place() {
    let server = Server::with(&["--max-jobs", "1"]);
    server.post("/jobs", &json!({"job_id": "first"})).ok();
    let refused = server.post("/jobs", &json!({"job_id": "second"}));
    refused.problem(503);
    assert!(refused.header("retry-after").is_some());
    server.post("/jobs/first/complete", &json!({})).ok();
    server
        .post("/jobs", &json!({"job_id": "wrong", "topic": "*"}))
        .problem(400);
    server.post("/jobs", &json!({"job_id": "second"})).ok();
    eventually("the oldest ended job is forgotten", || {
        (server.get("/jobs/first").status == 404).then_some(())
    });
    assert_eq!(server.get("/jobs").ok()["counts"]["total"], 1);
}

#[test]
fn a_job_cannot_grow_beyond_an_events_size() {
    let server = Server::with(&["--max-event", "4KiB", "--max-body", "16KiB"]);
    let mut stream = server.open("/events?topic=job/*");
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    stream.next();
    let large = "x".repeat(5_000);
    server.post("/jobs", &json!({"title": large})).problem(413);
    server
        .post(
            "/jobs/j/progress",
            &json!({"progress": 1, "message": large}),
        )
        .problem(413);
    server
        .post("/jobs/j/complete", &json!({"result": large}))
        .problem(413);
    server
        .post("/jobs/j/error", &json!({"error": large}))
        .problem(413);
    // Nor little by little.
    let mut refused = false;
    for n in 0..20 {
        let reply = server.post(
            "/jobs/j/progress",
            &json!({"progress": n, format!("key{n}"): "x".repeat(500)}),
        );
        refused |= reply.status == 413;
    }
    assert!(refused, "a job grows without end");
    server
        .post("/jobs/j/complete", &json!({"result": "small"}))
        .ok();
    let events = stream.until("complete");
    assert!(events.iter().all(|event| event.data.len() < 8 << 10));
}
