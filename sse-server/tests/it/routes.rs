//! Every route knows who asks before it does anything.

use serde_json::json;

use crate::frames::HANDSHAKE;
use crate::server::Server;

#[test]
fn every_route_refuses_an_impossible_identity_before_it_does_anything() {
    let server = Server::start();
    server.publish(&json!({"data": "before"}));
    let stream = server.open("/events?topic=t");
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    let (head, id) = (server.head(), stream.connection_id());
    let index = server.get("/").text();
    let rows = index.lines().filter_map(|line| {
        let (method, path) = line.trim().split_once(' ')?;
        path.starts_with('/').then_some((method, path))
    });
    let mut count = 0;
    for (method, path) in rows {
        count += 1;
        let name = if path.contains("connections") {
            &*id
        } else {
            "j"
        };
        let path = path.replace("{id}", name);
        for identity in ["user_id", "session_id"] {
            let path = format!("{path}?{identity}=%01");
            let body = match method {
                "GET" | "DELETE" => String::new(),
                _ if path.starts_with("/jobs") => {
                    json!({"progress": 1, "job_id": "new"}).to_string()
                }
                _ => json!({"data": "after"}).to_string(),
            };
            let headers: &[_] = if path.contains("/ws") {
                &HANDSHAKE
            } else {
                &[]
            };
            let reply = server.request(method, &path, headers, body.as_bytes());
            let problem = reply.problem(400);
            assert_eq!(problem["field"], identity, "{method} {path}: {problem}");
        }
    }
    assert!(count > 30, "{count} rows in {index}");
    assert_eq!(server.head(), head, "something was published");
    assert_eq!(
        server.active(),
        1,
        "the stream was closed, or one more opened"
    );
    let jobs = server.get("/jobs").ok();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs}");
    assert_eq!(server.get("/jobs/j").ok()["status"], "pending");
}
