//! Measures this process for a second while it pretends to deliver events, and prints both health reports.
//!
//! `cargo run -p sse-health --example report`

use std::time::{Duration, Instant, SystemTime};

use sse_health::{
    Alerts, ConnectionCounts, Facts, HealthReport, HeartbeatFacts, Hysteresis, JobCounts,
    LatencyMonitor, Sampler, Snapshot, SseHealthReport, Thresholds, Traffic, assess,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let sampler = Sampler::of_this_process();
    let latency = LatencyMonitor::new(start);
    let traffic = Traffic::new(start);
    let mut alerts = Alerts::new(Hysteresis {
        raise_after: Duration::ZERO,
        raise_samples: 1,
        ..Hysteresis::default()
    });

    sampler.sample(start);
    while start.elapsed() < Duration::from_millis(1100) {
        let began = Instant::now();
        let delivered: u64 = (0..20_000u64).map(std::hint::black_box).sum();
        assert!(delivered > 0);
        let now = Instant::now();
        latency.record(now - began, now);
        traffic.delivered.add(1, now);
    }

    let now = Instant::now();
    let usage = sampler.sample(now);
    let latency = latency.window(now).summary();
    let traffic = traffic.summary(now);
    let connections = ConnectionCounts {
        active: 430,
        max: 500,
        per_ip_limit: 10,
    };
    let snapshot = Snapshot {
        active_connections: connections.active,
        max_connections: connections.max,
        memory: usage.memory,
        cpu: usage.system_cpu,
        latency_p95: latency.map(|latency| latency.p95),
        errors_last_minute: traffic.errors_last_minute,
        readers_failed_last_minute: traffic.failed_last_minute,
        ..Snapshot::default()
    };
    let facts = Facts {
        assessment: assess(&snapshot, &Thresholds::default()),
        connections,
        latency,
        traffic,
        compression_ratio: 0.42,
        heartbeat: HeartbeatFacts {
            interval: Duration::from_secs(30),
            ..HeartbeatFacts::default()
        },
        usage,
        jobs: JobCounts {
            pending: 2,
            in_progress: 1,
            completed: 6,
            cancelled: 1,
            error: 0,
        },
        uptime: start.elapsed(),
        unix_seconds: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs(),
        ..Facts::default()
    };
    for change in alerts.observe(&facts.assessment, now) {
        println!(
            "alert: {} => {}, since {}",
            change.from, change.to, change.reason
        );
    }
    println!(
        "GET /sse/health\n{}",
        serde_json::to_string_pretty(&SseHealthReport::new(&facts))?
    );
    println!(
        "GET /health\n{}",
        serde_json::to_string_pretty(&HealthReport::new(&facts))?
    );
    Ok(())
}
