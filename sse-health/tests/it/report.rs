//! The reports, field for field. A change here is a change of a public contract.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sse_health::{
    ConnectionCounts, Facts, HealthReport, HeartbeatFacts, JobCounts, LatencySummary, Phase,
    Snapshot, SseHealthReport, Thresholds, TrafficSummary, Usage, assess,
};

fn facts() -> Facts {
    Facts {
        connections: ConnectionCounts {
            active: 45,
            max: 500,
            per_ip_limit: 10,
        },
        latency: Some(LatencySummary {
            count: 1500,
            mean: Duration::from_micros(23_500),
            p50: Duration::from_millis(20),
            p95: Duration::from_millis(48),
            p99: Duration::from_millis(90),
            max: Duration::from_micros(123_456),
        }),
        traffic: TrafficSummary {
            published_total: 300,
            delivered_total: 1500,
            failed_total: 3,
            errors_total: 4,
            delivered_last_minute: 998,
            failed_last_minute: 1,
            missed_total: 5,
            missed_last_minute: 2,
            errors_last_minute: 1,
            published_per_second: 2.5,
            delivered_per_second: 16.63333333,
        },
        compression_ratio: 0.42,
        heartbeat: HeartbeatFacts {
            interval: Duration::from_secs(30),
            ..HeartbeatFacts::default()
        },
        usage: Usage {
            process_cpu: Some(0.02),
            system_cpu: Some(0.123456),
            memory: Some(0.5),
            resident_bytes: Some(12_345_678),
        },
        jobs: JobCounts {
            pending: 2,
            in_progress: 1,
            completed: 6,
            cancelled: 1,
            error: 0,
        },
        uptime: Duration::from_millis(3_600_500),
        unix_seconds: 1_704_067_200,
        ..Facts::default()
    }
}

/// Checks that all of `expected` is in `actual`, with the same names, values and kinds of value.
fn contains(actual: &Value, expected: &Value, path: &str) {
    match expected {
        Value::Object(fields) => {
            for (name, expected) in fields {
                contains(&actual[name], expected, &format!("{path}.{name}"));
            }
        }
        _ => assert_eq!(actual, expected, "{path}"),
    }
}

#[test]
fn the_stream_report_has_every_documented_field() {
    let facts = facts();
    let actual = serde_json::to_value(SseHealthReport::new(&facts)).unwrap();
    let documented = json!({
        "status": "healthy",
        "connections": { "active": 45, "max": 500, "per_ip_limit": 10 },
        "metrics": { "avg_latency_ms": 23.5, "success_rate": 0.998, "compression_ratio": 0.42 },
        "heartbeat": { "interval": 30, "failures": 0 },
    });
    contains(&actual, &documented, "");
}

#[test]
fn the_stream_report_is_this_and_no_more() {
    let facts = facts();
    assert_eq!(
        serde_json::to_value(SseHealthReport::new(&facts)).unwrap(),
        json!({
            "status": "healthy",
            "phase": "serving",
            "connections": { "active": 45, "max": 500, "per_ip_limit": 10 },
            "metrics": {
                "avg_latency_ms": 23.5,
                "p50_latency_ms": 20.0,
                "p95_latency_ms": 48.0,
                "p99_latency_ms": 90.0,
                "max_latency_ms": 123.456,
                "success_rate": 0.998,
                "compression_ratio": 0.42,
                "errors_per_minute": 1,
                "published_per_second": 2.5,
                "delivered_per_second": 16.633,
                "missed_events": 5,
                "total_messages": 1500,
            },
            "heartbeat": {
                "interval": 30,
                "failures": 0,
                "failures_by_cause": { "write_failed": 0, "send_timeout": 0, "never_acknowledged": 0 },
            },
            "system": {
                "cpu_percent": 12.35,
                "process_cpu_percent": 2.0,
                "memory_percent": 50.0,
                "rss_bytes": 12_345_678,
            },
            "uptime_seconds": 3600,
            "reasons": [],
        })
    );
}

#[test]
fn the_server_report_has_every_documented_field() {
    let mut facts = facts();
    facts.connections = ConnectionCounts {
        active: 25,
        max: 1000,
        per_ip_limit: 0,
    };
    let actual = serde_json::to_value(HealthReport::new(&facts)).unwrap();
    let documented = json!({
        "status": "healthy",
        "timestamp": 1_704_067_200,
        "stream": { "active_connections": 25, "total_messages": 1500, "max_connections": 1000 },
        "jobs": {
            "total": 10, "pending": 2, "in_progress": 1, "completed": 6, "cancelled": 1, "error": 0,
        },
    });
    contains(&actual, &documented, "");
    let mut added: Vec<_> = actual
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| documented.get(name).is_none())
        .collect();
    // The order of an object's members depends on a feature of serde_json that another crate may ask for.
    added.sort();
    assert_eq!(added, ["phase", "reasons", "system", "uptime_seconds"]);
    assert_eq!(actual["jobs"].as_object().unwrap().len(), 6);
}

#[test]
fn reports_say_why_and_in_which_phase() {
    let mut facts = facts();
    facts
        .phase
        .drain(Instant::now(), Phase::DEFAULT_DRAIN_WINDOW);
    let snapshot = Snapshot {
        memory: Some(0.95),
        ..Snapshot::default()
    };
    facts.assessment = assess(&snapshot, &Thresholds::default());
    for report in [
        serde_json::to_value(SseHealthReport::new(&facts)).unwrap(),
        serde_json::to_value(HealthReport::new(&facts)).unwrap(),
    ] {
        assert_eq!(report["status"], "critical");
        assert_eq!(report["phase"], "draining");
        assert_eq!(report["reasons"][0]["signal"], "memory");
        assert_eq!(
            report["reasons"][0]["message"],
            "memory in use is 95 %, healthy is below 70 %"
        );
    }
}

#[test]
fn a_server_that_has_done_nothing_yet_reports_zeros_and_full_success() {
    let facts = Facts {
        compression_ratio: 1.0,
        ..Facts::default()
    };
    let report = serde_json::to_value(SseHealthReport::new(&facts)).unwrap();
    assert_eq!(report["status"], "healthy");
    assert_eq!(report["metrics"]["avg_latency_ms"], 0.0);
    assert_eq!(report["metrics"]["success_rate"], 1.0);
    assert_eq!(report["system"]["cpu_percent"], Value::Null);
}

#[test]
fn an_interval_of_part_seconds_is_a_fraction() {
    let heartbeat = HeartbeatFacts {
        interval: Duration::from_millis(1500),
        ..HeartbeatFacts::default()
    };
    let facts = Facts {
        heartbeat,
        ..Facts::default()
    };
    let report = serde_json::to_value(SseHealthReport::new(&facts)).unwrap();
    assert_eq!(report["heartbeat"]["interval"], 1.5);
}
