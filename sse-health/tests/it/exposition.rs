use std::time::{Duration, Instant};

use sse_health::{
    ConnectionCounts, Distribution, Exposition, Facts, JobCounts, Phase, TrafficSummary, Usage,
};

#[test]
fn the_text_is_what_prometheus_reads() {
    let mut latency = Distribution::new();
    for ms in [0, 3, 40, 150, 199, 250, 60_000] {
        latency.record(Duration::from_millis(ms));
    }
    let mut facts = Facts {
        connections: ConnectionCounts {
            active: 45,
            max: 500,
            per_ip_limit: 10,
        },
        traffic: TrafficSummary {
            published_total: 300,
            delivered_total: 1500,
            failed_total: 3,
            errors_total: 4,
            ..TrafficSummary::default()
        },
        compression_ratio: 0.42,
        usage: Usage {
            memory: Some(0.5),
            resident_bytes: Some(1 << 20),
            ..Usage::default()
        },
        jobs: JobCounts {
            pending: 2,
            completed: 6,
            ..JobCounts::default()
        },
        uptime: Duration::from_millis(1500),
        ..Facts::default()
    };
    facts
        .phase
        .drain(Instant::now(), Phase::DEFAULT_DRAIN_WINDOW);
    let text = Exposition::new(facts, latency).into_text();
    let lines: Vec<_> = text.lines().collect();
    for expected in [
        "# TYPE sse_connections gauge",
        "sse_connections 45",
        "sse_connections_max 500",
        "# TYPE sse_events_published counter",
        "sse_events_published_total 300",
        "sse_deliveries_total 1500",
        "sse_readers_failed_total 3",
        "sse_errors_total 4",
        "sse_heartbeat_failures_total{cause=\"send_timeout\"} 0",
        "# TYPE sse_delivery_latency_seconds histogram",
        "# UNIT sse_delivery_latency_seconds seconds",
        "sse_delivery_latency_seconds_sum 60.642",
        "sse_delivery_latency_seconds_count 7",
        "sse_delivery_latency_seconds_bucket{le=\"0.0005\"} 1",
        "sse_delivery_latency_seconds_bucket{le=\"0.005\"} 2",
        "sse_delivery_latency_seconds_bucket{le=\"0.1\"} 3",
        "sse_delivery_latency_seconds_bucket{le=\"0.5\"} 6",
        "sse_delivery_latency_seconds_bucket{le=\"30.0\"} 6",
        "sse_delivery_latency_seconds_bucket{le=\"+Inf\"} 7",
        "sse_compression_ratio 0.42",
        "sse_health_status{status=\"healthy\"} 1",
        "sse_health_status{status=\"critical\"} 0",
        "sse_ready 0",
        "sse_jobs{state=\"pending\"} 2",
        "sse_jobs{state=\"completed\"} 6",
        "sse_memory_ratio 0.5",
        "sse_resident_memory_bytes 1048576",
        "sse_uptime_seconds 1.5",
    ] {
        assert!(
            lines.contains(&expected),
            "{expected} is missing in:\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(!text.contains("sse_cpu"), "what is not known is left out");
}
