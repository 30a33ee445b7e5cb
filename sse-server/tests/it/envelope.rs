//! A content planner's clean layer: the standard envelope, jobs that can be polled, the manager's interface.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use serde_json::{Value, json};
use sse_pool::ConnectionId;
use sse_protocol::Decoder;
use sse_protocol::message::Message;
use sse_server::access::Caller;
use sse_server::hub::{Hub, HubConfig, JobError, JobState, Publication, SendError};
use sse_server::session::EventStream;

use crate::client::Event;
use crate::server::{Server, is_rfc3339};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Checks that an event is in the standard envelope and gives its data.
#[track_caller]
fn envelope(event: &Event, name: &str) -> Value {
    assert_eq!(event.name, name, "{event:?}");
    let message = Message::parse(&event.name, &event.data);
    assert!(message.is_ok(), "{message:?} {event:?}");
    let data = event.json();
    assert!(is_rfc3339(&data["timestamp"]), "{data}");
    data
}

#[test]
fn a_job_speaks_in_the_standard_envelope() {
    let server = Server::start();
    let job = server.post("/jobs", &json!({"title": "strategy"}));
    assert_eq!(job.status, 201);
    let job_id = job.json()["job_id"].as_str().unwrap().to_owned();
    assert_eq!(
        job.header("location").map(|path| server.get(path).ok()),
        Some(job.json())
    );
    let mut stream = server.open(&format!("/events?topic=job/{job_id}"));
    let snapshot = envelope(&stream.next(), "status");
    assert_eq!(snapshot["status"], "pending");

    let path = format!("/jobs/{job_id}/progress");
    server
        .post(
            &path,
            &json!({"step": 1, "progress": 10, "message": "Processing...", "educational_content": {"title": "Why"}}),
        )
        .ok();
    let data = envelope(&stream.next(), "progress");
    assert_eq!(data["step"], 1);
    assert_eq!(data["progress"], 10);
    assert_eq!(data["message"], "Processing...");
    assert_eq!(data["educational_content"], json!({"title": "Why"}));

    server
        .post(
            &path,
            &json!({"educational_content": {"title": "Did you know"}, "message": "Meanwhile"}),
        )
        .ok();
    let data = envelope(&stream.next(), "educational");
    assert_eq!(data["educational_content"]["title"], "Did you know");

    server
        .post(
            &format!("/jobs/{job_id}/complete"),
            &json!({"result": {"strategy_id": 7}}),
        )
        .ok();
    let data = envelope(&stream.next(), "complete");
    assert_eq!(data["result"]["strategy_id"], 7);
    assert_eq!(data["progress"], 100);
}

#[test]
fn a_job_that_fails_or_is_cancelled_says_so() {
    let server = Server::start();
    let mut stream = server.open("/events?topic=job/*");
    server.post("/jobs", &json!({"job_id": "fails"})).ok();
    envelope(&stream.next(), "status");
    server
        .post(
            "/jobs/fails/error",
            &json!({"error": "the model timed out"}),
        )
        .ok();
    let data = envelope(&stream.next(), "error");
    assert_eq!(
        (&data["error"], &data["status"]),
        (&json!("the model timed out"), &json!("error"))
    );

    server.post("/jobs", &json!({"job_id": "stops"})).ok();
    envelope(&stream.next(), "status");
    server
        .post("/jobs/stops/cancel", &json!({"message": "not needed"}))
        .ok();
    let data = envelope(&stream.next(), "status");
    assert_eq!(
        (&data["status"], &data["message"]),
        (&json!("cancelled"), &json!("not needed"))
    );
    for (id, what) in [
        ("fails", "progress"),
        ("stops", "complete"),
        ("stops", "cancel"),
        ("fails", "error"),
    ] {
        let body = json!({"message": "too late"});
        server
            .post(&format!("/jobs/{id}/{what}"), &body)
            .problem(409);
    }
    server.assert_nothing_came(&mut [&mut server.open("/events")], "status");
}

#[test]
fn anybody_may_publish_the_envelope_for_anything() {
    let server = Server::start();
    let mut stream = server
        .open("/events?topic=strategy/1&subscribe=progress,complete,error,educational,status");
    for name in ["progress", "complete", "error", "educational", "status"] {
        let data = r#"{"step": 1, "progress": 10, "message": "Processing...", "educational_content": {"a": 1}, "timestamp": "2024-01-01T00:00:00Z"}"#;
        let body = format!(r#"{{"event": "{name}", "data": {data}, "topic": "strategy/1"}}"#);
        server.post_text("/events", &body).ok();
        let event = stream.next();
        envelope(&event, name);
        assert_eq!(event.data, data, "byte for byte");
    }
}

#[test]
fn a_job_can_be_polled_instead() {
    let server = Server::start();
    server
        .post(
            "/jobs",
            &json!({"job_id": "s 1", "title": "strategy", "total": 8}),
        )
        .ok();
    let job = server.get("/jobs/s%201").ok();
    assert_eq!(job["job_id"], "s 1");
    assert_eq!(job["status"], "pending");
    assert_eq!(job["title"], "strategy");
    assert_eq!((&job["progress"], &job["total"]), (&json!(0), &json!(8)));
    assert!(is_rfc3339(&job["created_at"]) && is_rfc3339(&job["updated_at"]));

    server
        .post(
            "/jobs/s%201/progress",
            &json!({"progress": 3, "message": "Step 3", "educational_content": {"title": "Why"}}),
        )
        .ok();
    let job = server.get("/jobs/s%201").ok();
    assert_eq!(
        (&job["status"], &job["progress"]),
        (&json!("in_progress"), &json!(3))
    );
    assert_eq!(job["message"], "Step 3");
    assert_eq!(job["details"]["educational_content"]["title"], "Why");

    server
        .post("/jobs/s%201/complete", &json!({"result": [1, 2]}))
        .ok();
    let job = server.get("/jobs/s%201").ok();
    assert_eq!(
        (&job["status"], &job["result"]),
        (&json!("completed"), &json!([1, 2]))
    );
    server.get("/jobs/unknown").problem(404);
}

#[test]
fn a_poll_may_wait_for_the_next_change() {
    let server = Server::start();
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    let version = server.get("/jobs/j").ok()["version"].as_u64().unwrap();
    std::thread::scope(|scope| {
        let waiting = [
            format!("/jobs/j?wait=50&after={version}"),
            "/jobs/j?wait=50".to_owned(),
        ]
        .map(|path| {
            scope.spawn({
                let server = &server;
                move || server.get(&path).ok()
            })
        });
        // Progress goes on until both have heard: the second could begin to wait at any time.
        let mut n = 0;
        while !waiting
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            n += 1;
            server
                .post("/jobs/j/progress", &json!({"progress": n}))
                .ok();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for polled in waiting {
            let job = polled.join().unwrap();
            assert_eq!(job["status"], "in_progress");
            assert!(job["version"].as_u64().unwrap() > version);
        }
    });
    // What is over is told at once, however long one would wait; so is what changed before.
    server.post("/jobs/j/complete", &json!({})).ok();
    let begun = Instant::now();
    assert_eq!(server.get("/jobs/j?wait=50").ok()["status"], "completed");
    assert!(begun.elapsed().as_secs() < 30);
    // And a wait in vain ends with what there is.
    server.post("/jobs", &json!({"job_id": "quiet"})).ok();
    assert_eq!(server.get("/jobs/quiet?wait=1").ok()["status"], "pending");
}

#[test]
fn jobs_are_listed_by_state() {
    let server = Server::start();
    for id in ["a", "b", "c"] {
        server.post("/jobs", &json!({"job_id": id})).ok();
    }
    server.post("/jobs/b/complete", &json!({})).ok();
    let list = |query: &str| {
        let listed = server.get(&format!("/jobs{query}")).ok();
        let mut ids: Vec<_> = listed["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["job_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        (ids, listed["counts"]["total"].clone())
    };
    assert_eq!(
        list(""),
        (vec!["a".into(), "b".into(), "c".into()], json!(3))
    );
    assert_eq!(list("?status=pending").0, ["a", "c"]);
    assert_eq!(list("?status=completed").0, ["b"]);
    assert_eq!(list("?limit=1").0.len(), 1);
    assert_eq!(
        server.get("/jobs?status=sleeping").problem(400)["field"],
        "status"
    );
}

/// A stream of the library, read as events.
struct Reader {
    stream: EventStream,
    decoder: Decoder,
    events: Vec<(String, String)>,
}

impl Reader {
    fn new(stream: EventStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            events: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<(String, String)> {
        while self.events.is_empty() {
            let chunk = self.stream.next_chunk().await?;
            let mut feed = self.decoder.feed(&chunk);
            while let Some(event) = feed.next_event() {
                self.events
                    .push((event.event_type().to_owned(), event.data().to_owned()));
            }
        }
        Some(self.events.remove(0))
    }
}

#[tokio::test]
async fn library_calls_report_a_jobs_progress() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let mut reader = Reader::new(
        hub.create_connection("watcher".parse().unwrap(), Caller::anonymous(LOCALHOST))
            .await
            .unwrap(),
    );
    assert_eq!(reader.next().await.unwrap().0, "connected");

    let job = hub
        .send_progress_update("j", 40.0, "almost half")
        .await
        .unwrap();
    assert_eq!(
        (job.status, job.progress.clone()),
        (JobState::InProgress, 40.into())
    );
    hub.send_completion_update("j", json!({"url": "/s/1"}))
        .await
        .unwrap();
    hub.send_error_update("k", "no quota").await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..5 {
        let (name, data) = reader.next().await.unwrap();
        let data: Value = serde_json::from_str(&data).unwrap();
        heard.push((name, data["job_id"].clone(), data["status"].clone()));
    }
    let expected = [
        ("status", "j", "pending"),
        ("progress", "j", "in_progress"),
        ("complete", "j", "completed"),
        ("status", "k", "pending"),
        ("error", "k", "error"),
    ];
    let expected = expected.map(|(name, id, status)| (name.to_owned(), json!(id), json!(status)));
    assert_eq!(heard, expected);
    assert!(matches!(
        hub.send_progress_update("j", 50.0, "too late").await,
        Err(JobError::Ended(_))
    ));
    assert_eq!(hub.job_counts().completed, 1);
}

#[tokio::test]
async fn the_manager_creates_sends_broadcasts_closes_and_tells_status() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let id = |name: &str| name.parse::<ConnectionId>().unwrap();
    let mut readers = Vec::new();
    for name in ["a", "b", "c"] {
        let mut reader = Reader::new(
            hub.create_connection(id(name), Caller::anonymous(LOCALHOST))
                .await
                .unwrap(),
        );
        assert_eq!(reader.next().await.unwrap().0, "connected");
        readers.push(reader);
    }
    assert!(
        hub.create_connection(id("a"), Caller::anonymous(LOCALHOST))
            .await
            .is_err(),
        "the name is taken"
    );

    // send_message: to one alone.
    hub.send_to(&id("b"), Publication::new("only b"))
        .await
        .unwrap();
    assert!(matches!(
        hub.send_to(&id("nobody"), Publication::new("x")).await,
        Err(SendError::Unknown(_))
    ));
    // broadcast_message with a filter, and with one that picks nobody.
    hub.broadcast_where(Publication::new("not b"), |status| {
        status.info.id != id("b")
    })
    .await
    .unwrap()
    .unwrap();
    assert!(
        hub.broadcast_where(Publication::new("x"), |_| false)
            .await
            .unwrap()
            .is_none()
    );
    hub.broadcast(Publication::new("all")).await.unwrap();
    let expected = [&["not b", "all"][..], &["only b", "all"], &["not b", "all"]];
    for (reader, expected) in readers.iter_mut().zip(expected) {
        for data in expected {
            assert_eq!(reader.next().await.unwrap().1, *data);
        }
    }

    // get_connection_status and close_connection.
    let status = hub.connection_status(&id("b")).unwrap();
    assert_eq!(status.info.ip, LOCALHOST.into());
    assert_eq!(hub.connections(10).len(), 3);
    assert!(hub.close_connection(&id("b")));
    assert_eq!(readers[1].next().await, None);
    assert!(hub.connection_status(&id("b")).is_none());
    assert!(!hub.close_connection(&id("b")));
    // The name is free again.
    hub.create_connection(id("b"), Caller::anonymous(LOCALHOST))
        .await
        .unwrap();
}
