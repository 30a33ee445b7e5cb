//! The job stream of a download manager: `/stream` for many browser tabs, a limit, `/health`, an orderly end.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sse_server::access::Caller;
use sse_server::hub::{Hub, HubConfig, Publication};
use sse_server::session::{ConnectError, ConnectionRequest};

use crate::client::{End, eventually};
use crate::server::Server;

#[test]
fn many_tabs_get_every_job_update() {
    let server = Server::start();
    let mut tabs: Vec<_> = (0..60).map(|_| server.open("/stream")).collect();
    let health = server.get("/health").ok();
    assert_eq!(health["stream"]["active_connections"], 60);
    let job = server
        .post("/jobs", &json!({"title": "download", "total": 3}))
        .ok();
    let job_id = job["job_id"].as_str().unwrap();
    for n in 1..=3 {
        server
            .post(&format!("/jobs/{job_id}/progress"), &json!({"progress": n}))
            .ok();
    }
    server
        .post(
            &format!("/jobs/{job_id}/complete"),
            &json!({"result": {"file": "a"}}),
        )
        .ok();
    for tab in &mut tabs {
        let events = tab.take(5);
        let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(
            names,
            ["status", "progress", "progress", "progress", "complete"]
        );
        assert_eq!(events[2].json()["progress"], 2);
        assert_eq!(events[2].json()["total"], 3);
        assert_eq!(events[4].json()["result"]["file"], "a");
        assert!(events.iter().all(|event| event.json()["job_id"] == job_id));
    }
}

#[test]
fn a_full_server_says_so_and_when_to_come_again() {
    let server = Server::with(&["--max-connections", "2"]);
    let first = server.open("/stream");
    let mut second = server.open("/stream");
    let Err(refused) = server.try_open("/stream", &[]) else {
        panic!("a third was taken")
    };
    let problem = refused.problem(503);
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert!(
        problem["detail"].as_str().unwrap().contains('2'),
        "{problem}"
    );
    // Those that are there are served, and everything else too.
    server.publish(&json!({"data": "still here"}));
    assert_eq!(second.next().data, "still here");
    assert_eq!(
        server.get("/health").ok()["stream"]["active_connections"],
        2
    );
    drop(first);
    eventually("a place is free again", || {
        server.try_open("/stream", &[]).ok()
    });
}

#[test]
fn refused_readers_are_told_different_times() {
    let server = Server::with(&["--max-connections", "1"]);
    let _full = server.open("/stream");
    let times: std::collections::BTreeSet<_> = (0..40)
        .filter_map(|_| server.try_open("/stream", &[]).err())
        .map(|refused| refused.header("retry-after").unwrap().to_owned())
        .collect();
    assert!(times.len() > 1, "{times:?}");
}

#[test]
fn health_counts_jobs_by_state() {
    let server = Server::with(&["--max-connections", "1000"]);
    let create = || {
        let job = server.post("/jobs", &json!({})).ok();
        job["job_id"].as_str().unwrap().to_owned()
    };
    let change = |id: &str, what: &str, body: Value| {
        server.post(&format!("/jobs/{id}/{what}"), &body).ok();
    };
    for _ in 0..2 {
        create();
    }
    change(&create(), "progress", json!({"progress": 10}));
    for _ in 0..6 {
        change(&create(), "complete", json!({}));
    }
    change(&create(), "cancel", json!({}));
    let mut stream = server.open("/stream");
    server.publish(&json!({"data": 1}));
    stream.next();

    // What was written is counted after that, and may be read before.
    let health = eventually("a message that was counted", || {
        let health = server.get("/health").ok();
        let messages = health["stream"]["total_messages"].as_u64();
        messages
            .is_some_and(|messages| messages >= 1)
            .then_some(health)
    });
    assert_eq!(health["status"], "healthy", "{health}");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let timestamp = health["timestamp"].as_u64().unwrap();
    assert!(now.abs_diff(timestamp) < 120, "{timestamp} is not the time");
    assert_eq!(health["stream"]["active_connections"], 1);
    assert_eq!(health["stream"]["max_connections"], 1000);
    let jobs = &health["jobs"];
    let expected = json!({"total": 10, "pending": 2, "in_progress": 1, "completed": 6, "cancelled": 1, "error": 0});
    for (state, count) in expected.as_object().unwrap() {
        assert_eq!(&jobs[state], count, "{state} in {jobs}");
    }
    change(&create(), "error", json!({"error": "no disk"}));
    assert_eq!(server.get("/health").ok()["jobs"]["error"], 1);
}

#[test]
fn a_connection_that_died_is_noticed_without_waiting_for_an_event() {
    let server = Server::start();
    let stream = server.open("/stream");
    assert_eq!(server.active(), 1);
    drop(stream);
    eventually("the dead connection is gone", || {
        (server.active() == 0).then_some(())
    });
}

#[test]
fn a_restart_ends_every_stream_properly() {
    let mut server = Server::start();
    let mut streams: Vec<_> = (0..20).map(|_| server.open("/stream")).collect();
    server.publish(&json!({"data": "before the end"}));
    server.signal("TERM");
    for stream in &mut streams {
        let (events, end) = stream.rest();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(end, End::Clean);
    }
    assert!(server.wait().success());
}

fn request(ip: [u8; 4]) -> ConnectionRequest {
    ConnectionRequest {
        user_agent: Some("library".into()),
        ..ConnectionRequest::from(Caller::anonymous(IpAddr::V4(Ipv4Addr::from(ip))))
    }
}

#[tokio::test]
async fn a_program_adds_removes_and_counts_clients_by_itself() {
    let config = HubConfig {
        max_connections: 2,
        ..HubConfig::default()
    };
    let hub = Hub::in_memory(config).await.unwrap();
    let mut first = hub.connect(request([10, 0, 0, 1])).await.unwrap();
    let second = hub.connect(request([10, 0, 0, 2])).await.unwrap();
    assert!(matches!(
        hub.connect(request([10, 0, 0, 3])).await,
        Err(ConnectError::Refused(_))
    ));
    let status = hub.connection_status(&first.id()).unwrap();
    assert_eq!(status.info.client.user_agent.as_deref(), Some("library"));
    assert_eq!(status.info.ip.to_string(), "10.0.0.1");

    let greeting = first.next_chunk().await.unwrap();
    assert!(String::from_utf8_lossy(&greeting).contains("event: connected"));
    hub.broadcast(Publication::new("to all")).await.unwrap();
    let chunk = first.next_chunk().await.unwrap();
    assert!(String::from_utf8_lossy(&chunk).contains("data: to all"));

    let stats = hub.stats();
    assert_eq!((stats.active_connections, stats.max_connections), (2, 2));
    assert_eq!((stats.total_messages, stats.refused_connections), (1, 1));
    drop(second);
    assert_eq!(hub.stats().active_connections, 1);
    hub.connect(request([10, 0, 0, 3])).await.unwrap();

    let ended = tokio::spawn(async move { while first.next_chunk().await.is_some() {} });
    hub.shutdown(Duration::from_secs(5)).await;
    ended.await.unwrap();
    assert!(!hub.is_serving());
    assert!(matches!(
        hub.connect(request([10, 0, 0, 4])).await,
        Err(ConnectError::Refused(_))
    ));
    assert!(hub.broadcast(Publication::new("too late")).await.is_err());
}
