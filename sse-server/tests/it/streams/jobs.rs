//! A job's stream: first its state, then each change once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sse_protocol::Decoder;
use sse_server::access::Caller;
use sse_server::hub::{Hub, HubConfig, Interest};
use sse_server::session::ConnectionRequest;

use crate::server::Server;

#[test]
fn a_jobs_stream_begins_with_its_state_and_repeats_nothing() {
    let server = Server::start();
    server
        .post("/jobs", &json!({"job_id": "j", "total": 100}))
        .ok();
    std::thread::scope(|scope| {
        let server = &server;
        let publisher = scope.spawn(move || {
            for n in 1..=100 {
                server
                    .post("/jobs/j/progress", &json!({"progress": n}))
                    .ok();
            }
            server.post("/jobs/j/complete", &json!({})).ok();
        });
        let mut readers = Vec::new();
        while !publisher.is_finished() {
            readers.push(scope.spawn(move || {
                let mut stream = server.open("/events?topic=job/j");
                let snapshot = stream.next();
                let mut last = snapshot.json()["progress"].as_u64().unwrap();
                if snapshot.name == "complete" {
                    return;
                }
                assert_eq!(snapshot.name, "status");
                loop {
                    let event = stream.next();
                    if event.name == "complete" {
                        assert_eq!(last, 100);
                        return;
                    }
                    let progress = event.json()["progress"].as_u64().unwrap();
                    assert_eq!((event.name.as_str(), progress), ("progress", last + 1));
                    last = progress;
                }
            }));
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        assert!(!readers.is_empty());
        for reader in readers {
            reader.join().unwrap();
        }
    });
    // Whoever comes after the end hears how it ended.
    assert_eq!(server.open("/events?topic=job/j").next().name, "complete");
    assert_eq!(server.open("/sse?topic=job/j").next().name, "job_complete");
}

#[test]
fn a_jobs_reader_that_resumes_gets_what_it_missed_instead_of_a_snapshot() {
    let server = Server::start();
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    let mut stream = server.open("/events?topic=job/j");
    stream.next();
    server
        .post("/jobs/j/progress", &json!({"progress": 10}))
        .ok();
    stream.next();
    let last_id = stream.last_id.clone();
    drop(stream);
    for n in [20, 30] {
        server
            .post("/jobs/j/progress", &json!({"progress": n}))
            .ok();
    }
    let mut stream = server.resume("/events?topic=job/j", &last_id);
    let progress: Vec<_> = stream
        .take(2)
        .iter()
        .map(|event| event.json()["progress"].clone())
        .collect();
    assert_eq!(progress, [json!(20), json!(30)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_moves_while_its_reader_connects_is_not_told_twice() {
    const ROUNDS: u32 = 25;
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    hub.send_progress_update("j", 0.0, "").await.unwrap();
    // It moves until the last reader has seen enough.
    let is_over = Arc::new(AtomicBool::new(false));
    let publisher = tokio::spawn({
        let (hub, is_over) = (hub.clone(), Arc::clone(&is_over));
        async move {
            for n in 1_u32.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                hub.send_progress_update("j", n.into(), "").await.unwrap();
            }
        }
    });
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    let mut stream = hub
                        .connect(ConnectionRequest {
                            interest: Interest {
                                topics: vec!["job/j".into()],
                                ..Interest::default()
                            },
                            ..ConnectionRequest::from(Caller::default())
                        })
                        .await
                        .unwrap();
                    let (mut decoder, mut told) = (Decoder::new(), Vec::new());
                    while told.len() < 3 {
                        let chunk = stream.next_chunk().await.unwrap();
                        let mut feed = decoder.feed(&chunk);
                        while let Some(event) = feed.next_event() {
                            if event.event_type() != "connected" {
                                let data: Value = serde_json::from_str(event.data()).unwrap();
                                told.push(data["progress"].as_u64().unwrap());
                            }
                        }
                    }
                    for pair in told.windows(2) {
                        assert_eq!(pair[0] + 1, pair[1], "{told:?}");
                    }
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    publisher.await.unwrap();
}
