//! The enhanced stream of a video summariser: `/sse` with compressed messages, limits per address, idle cleanup,
//! heartbeats and `/sse/health`.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::client::{End, Event, eventually};
use crate::server::Server;

/// A progress report of the kind that the summariser sends, of more than 1 KiB.
fn report() -> Value {
    let videos: Vec<Value> = (0..30)
        .map(|n| json!({"id": format!("video-{n}"), "title": format!("Video Title {n}"), "status": "processing"}))
        .collect();
    json!({"job_id": "42", "progress": 3, "total": 30, "videos": videos})
}

/// What stands in the compressed envelope, after a look at its form.
#[track_caller]
fn unpack(event: &Event) -> String {
    let envelope = event.json();
    assert_eq!(envelope["compressed"], true, "{event:?}");
    assert_eq!(envelope["encoding"], "gzip");
    let packed = STANDARD.decode(envelope["data"].as_str().unwrap()).unwrap();
    let mut plain = String::new();
    GzDecoder::new(&packed[..])
        .read_to_string(&mut plain)
        .unwrap();
    assert_eq!(envelope["original_size"], plain.len());
    plain
}

#[test]
fn messages_over_the_threshold_are_compressed_for_who_wants_it_and_for_nobody_else() {
    let server = Server::start();
    let mut packed = [server.open("/sse"), server.open("/events?compression=gzip")];
    let mut plain = [
        server.open("/events"),
        server.open("/sse?compression=none"),
        server.open("/stream"),
        server.open("/sse/events"),
    ];
    let report = report().to_string();
    server
        .post_text(
            "/events",
            &format!(r#"{{"event_type": "summary_progress", "data": {report}}}"#),
        )
        .ok();
    server.publish(&json!({"event_type": "summary_progress", "data": {"progress": 4}}));
    for stream in &mut packed {
        let event = stream.next();
        assert_eq!(event.name, "summary_progress");
        assert_eq!(unpack(&event), report);
        // 20 to 60 percent are promised on this kind of payload.
        assert!(
            event.data.len() * 10 < report.len() * 8,
            "{} of {}",
            event.data.len(),
            report.len()
        );
        assert_eq!(
            stream.next().data,
            r#"{"progress":4}"#,
            "a small one stays as it is"
        );
    }
    for stream in &mut plain {
        assert_eq!(stream.next().data, report);
        assert_eq!(stream.next().data, r#"{"progress":4}"#);
    }
    let health = server.get("/sse/health").ok();
    let ratio = health["metrics"]["compression_ratio"].as_f64().unwrap();
    assert!(ratio > 0.0 && ratio < 0.8, "{ratio}");
}

#[test]
fn a_replayed_message_is_compressed_too() {
    let server = Server::start();
    let report = report();
    server.publish(&json!({"id": "r-0", "data": "before"}));
    server.publish(&json!({"id": "r-1", "data": report}));
    let event = server.resume("/sse", "r-0").next();
    assert_eq!(unpack(&event), report.to_string());
    assert_eq!(server.resume("/events", "r-0").next().json(), report);
}

#[test]
fn the_threshold_and_the_three_levels_can_be_chosen() {
    let mut sizes = Vec::new();
    for level in ["fast", "balanced", "best"] {
        let server = Server::with(&[
            "--compression-threshold",
            "100",
            "--compression-level",
            level,
        ]);
        let mut stream = server.open("/sse");
        let small = json!({"text": "again and ".repeat(30)});
        server.publish(&json!([{"data": small}, {"data": {"text": "tiny"}}, {"data": report()}]));
        assert_eq!(unpack(&stream.next()), small.to_string());
        assert_eq!(stream.next().data, r#"{"text":"tiny"}"#);
        let event = stream.next();
        assert_eq!(unpack(&event), report().to_string());
        sizes.push(event.data.len());
    }
    assert!(
        sizes[2] <= sizes[0],
        "best is no smaller than fast: {sizes:?}"
    );
}

#[test]
fn an_unknown_compression_is_refused() {
    let server = Server::start();
    assert_eq!(
        server.get("/sse?compression=lzw").problem(400)["field"],
        "compression"
    );
}

#[test]
fn jobs_are_heard_as_job_progress() {
    let server = Server::start();
    let mut all = server.open("/sse");
    let mut some = server.open("/sse?subscribe=job_progress,job_complete");
    server
        .post("/jobs", &json!({"job_id": "42", "total": 10}))
        .ok();
    server
        .post(
            "/jobs/42/progress",
            &json!({"progress": 3, "message": "Processing"}),
        )
        .ok();
    server
        .post("/jobs/42/complete", &json!({"result": {"ok": true}}))
        .ok();
    server.post("/jobs", &json!({"job_id": "43"})).ok();
    server
        .post("/jobs/43/error", &json!({"error": "no such video"}))
        .ok();
    let events = all.take(5);
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "job_status",
            "job_progress",
            "job_complete",
            "job_status",
            "job_error"
        ]
    );
    let data = events[1].json();
    assert_eq!(
        (&data["job_id"], &data["progress"]),
        (&json!("42"), &json!(3))
    );
    assert_eq!(events[4].json()["error"], "no such video");
    let events = some.take(2);
    assert_eq!(
        [&*events[0].name, &*events[1].name],
        ["job_progress", "job_complete"]
    );
    // An event of no job keeps its name.
    server.publish(&json!({"event_type": "progress", "data": 1}));
    assert_eq!(all.next().name, "progress");
}

#[test]
fn health_has_the_documented_fields() {
    let server = Server::with(&[
        "--max-connections",
        "500",
        "--max-connections-per-ip",
        "10",
        "--heartbeat",
        "30",
    ]);
    let mut stream = server.open("/sse");
    server.publish(&json!({"data": 1}));
    stream.next();
    let health = server.get("/sse/health").ok();
    assert_eq!(health["status"], "healthy", "{health}");
    let expected = json!({"active": 1, "max": 500, "per_ip_limit": 10});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&health["connections"][field], value, "{field}");
    }
    let metrics = &health["metrics"];
    assert!(
        metrics["avg_latency_ms"].as_f64().unwrap() >= 0.0,
        "{metrics}"
    );
    assert_eq!(metrics["success_rate"], 1.0);
    assert_eq!(metrics["compression_ratio"], 1.0, "nothing was compressed");
    assert_eq!(health["heartbeat"]["interval"], 30);
    assert_eq!(health["heartbeat"]["failures"], 0);
}

#[test]
fn five_hundred_connections_ten_from_each_address_and_no_more() {
    let server = Server::with(&["--max-connections", "500", "--max-connections-per-ip", "10"]);
    let address = |n: u8| IpAddr::V4(Ipv4Addr::new(127, 0, 1, n));
    let mut streams = Vec::new();
    for n in 1..=50 {
        for _ in 0..10 {
            streams.push(server.try_open_from("/sse", &[], address(n)).ok().unwrap());
        }
        if n == 1 {
            let Err(refused) = server.try_open_from("/sse", &[], address(n)) else {
                panic!("an eleventh was taken")
            };
            let problem = refused.problem(503);
            assert!(refused.header("retry-after").is_some());
            assert!(
                problem["detail"].as_str().unwrap().contains("this address"),
                "{problem}"
            );
        }
    }
    let Err(refused) = server.try_open_from("/sse", &[], address(51)) else {
        panic!("a five hundred and first was taken")
    };
    assert!(
        refused.problem(503)["detail"]
            .as_str()
            .unwrap()
            .contains("full")
    );
    let health = server.get("/sse/health").ok();
    assert_eq!(health["connections"]["active"], 500);
    let not_ready = server.get("/readyz").problem(503);
    assert!(not_ready["detail"].as_str().unwrap().contains("places"));
    // A full house that lasts is worth a warning, and an address that leaves makes room for itself and for others.
    let reason = eventually("a warning", || {
        let health = server.get("/sse/health").ok();
        let reasons = health["reasons"].as_array()?.clone();
        reasons.into_iter().find(|it| it["signal"] == "connections")
    });
    assert_eq!(reason["status"], "critical");
    assert!(reason["since"].as_u64().is_some());
    streams.drain(..10);
    eventually("the place is free", || {
        server.try_open_from("/sse", &[], address(1)).ok()
    });
    eventually("it is ready", || {
        (server.get("/readyz").status == 200).then_some(())
    });
}

#[test]
fn an_idle_connection_is_let_go() {
    let server = Server::with(&[
        "--heartbeat",
        "0",
        "--idle-timeout",
        "1",
        "--sweep-interval",
        "1",
    ]);
    let mut stream = server.open("/sse");
    assert_eq!(stream.rest(), (Vec::new(), End::Clean));
    assert_eq!(server.active(), 0);
    let stats = server.get("/sse/stats").ok();
    assert_eq!(stats["evicted_connections"], 1);
}

#[test]
fn heartbeats_keep_a_connection_from_being_idle() {
    let server = Server::with(&[
        "--heartbeat",
        "500ms",
        "--idle-timeout",
        "5",
        "--sweep-interval",
        "1",
    ]);
    let mut stream = server.open("/sse");
    for _ in 0..12 {
        assert_eq!(stream.next_or_ping().name, "ping");
    }
    server.publish(&json!({"data": "still here"}));
    assert_eq!(stream.next().data, "still here");
}

#[test]
fn a_heartbeat_may_be_a_comment() {
    let server = Server::with(&["--heartbeat", "200ms", "--heartbeat-form", "comment"]);
    let mut stream = server.open("/sse");
    std::thread::sleep(std::time::Duration::from_secs(1));
    server.publish(&json!({"data": "after the silence"}));
    assert_eq!(stream.next_or_ping().data, "after the silence");
    let raw = String::from_utf8(stream.raw.clone()).unwrap();
    assert!(raw.contains("\n:\n"), "{raw}");
}
