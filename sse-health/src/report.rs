//! Health reports, as they are sent in JSON.
//!
//! These are wire types. Their field names are a public contract: fields may be added, none renamed or removed.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{
    heartbeat::HeartbeatFailures,
    latency::LatencySummary,
    phase::Phase,
    rates::TrafficSummary,
    sampler::Usage,
    status::{Assessment, Status},
};

/// All that the reports are made of.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The verdict.
    pub assessment: Assessment,
    /// Where the server is in its life.
    pub phase: Phase,
    /// Connections and their limits.
    pub connections: ConnectionCounts,
    /// Latencies of the last minute, if anything was delivered in it.
    pub latency: Option<LatencySummary>,
    /// Rates.
    pub traffic: TrafficSummary,
    /// Output divided by input of message compression; 1 if nothing was compressed.
    pub compression_ratio: f64,
    /// Heartbeats.
    pub heartbeat: HeartbeatFacts,
    /// CPU and memory.
    pub usage: Usage,
    /// Jobs by state.
    pub jobs: JobCounts,
    /// How long the server has been running.
    pub uptime: Duration,
    /// The time, in seconds since 1970.
    pub unix_seconds: u64,
}

/// Connections and their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ConnectionCounts {
    /// Connections that are open.
    pub active: u64,
    /// The most that may be open.
    pub max: u64,
    /// The most that may be open from one address; zero if there is no such limit.
    pub per_ip_limit: u64,
}

/// Heartbeats, as reports show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeartbeatFacts {
    /// The interval, in seconds on the wire.
    pub interval: Duration,
    /// Connections that turned out to be dead, since the start; their sum and each cause on the wire.
    pub failures: HeartbeatFailures,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct HeartbeatReport {
    #[serde(serialize_with = "seconds")]
    interval: Duration,
    failures: u64,
    failures_by_cause: HeartbeatFailures,
}

/// Jobs by state. The total on the wire is their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobCounts {
    /// Accepted and not begun.
    pub pending: u64,
    /// Begun and not ended.
    pub in_progress: u64,
    /// Ended with a result.
    pub completed: u64,
    /// Ended by request.
    pub cancelled: u64,
    /// Ended by an error.
    pub error: u64,
}

impl JobCounts {
    /// Jobs in any state.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.pending,
            self.in_progress,
            self.completed,
            self.cancelled,
            self.error,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// The report of the stream itself: `GET /sse/health`.
///
/// ```
/// use std::time::Duration;
/// use sse_health::{ConnectionCounts, Facts, HeartbeatFacts, LatencySummary, SseHealthReport};
///
/// let facts = Facts {
///     connections: ConnectionCounts { active: 45, max: 500, per_ip_limit: 10 },
///     latency: Some(LatencySummary { mean: Duration::from_micros(23_500), ..Default::default() }),
///     compression_ratio: 0.42,
///     heartbeat: HeartbeatFacts { interval: Duration::from_secs(30), ..Default::default() },
///     ..Facts::default()
/// };
/// let json = serde_json::to_value(SseHealthReport::new(&facts))?;
/// assert_eq!(json["status"], "healthy");
/// assert_eq!(json["connections"]["active"], 45);
/// assert_eq!(json["metrics"]["avg_latency_ms"], 23.5);
/// assert_eq!(json["heartbeat"]["interval"], 30);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SseHealthReport<'a> {
    status: Status,
    phase: &'static str,
    connections: ConnectionCounts,
    metrics: Metrics,
    heartbeat: HeartbeatReport,
    system: System,
    uptime_seconds: u64,
    #[serde(serialize_with = "Assessment::serialize_reasons")]
    reasons: &'a Assessment,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Metrics {
    avg_latency_ms: f64,
    p50_latency_ms: f64,
    p95_latency_ms: f64,
    p99_latency_ms: f64,
    max_latency_ms: f64,
    success_rate: f64,
    compression_ratio: f64,
    errors_per_minute: u64,
    published_per_second: f64,
    delivered_per_second: f64,
    missed_events: u64,
    total_messages: u64,
}

/// CPU and memory; what is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct System {
    cpu_percent: Option<f64>,
    process_cpu_percent: Option<f64>,
    memory_percent: Option<f64>,
    rss_bytes: Option<u64>,
}

impl<'a> SseHealthReport<'a> {
    /// The report of `facts`.
    #[must_use]
    pub fn new(facts: &'a Facts) -> Self {
        let latency = facts.latency.unwrap_or_default();
        Self {
            status: facts.assessment.status,
            phase: facts.phase.name(),
            connections: facts.connections,
            metrics: Metrics {
                avg_latency_ms: milliseconds(latency.mean),
                p50_latency_ms: milliseconds(latency.p50),
                p95_latency_ms: milliseconds(latency.p95),
                p99_latency_ms: milliseconds(latency.p99),
                max_latency_ms: milliseconds(latency.max),
                success_rate: round(facts.traffic.success_rate(), 1e6),
                compression_ratio: round(facts.compression_ratio, 1e4),
                errors_per_minute: facts.traffic.errors_last_minute,
                published_per_second: round(facts.traffic.published_per_second, 1e3),
                delivered_per_second: round(facts.traffic.delivered_per_second, 1e3),
                missed_events: facts.traffic.missed_total,
                total_messages: facts.traffic.delivered_total,
            },
            heartbeat: HeartbeatReport {
                interval: facts.heartbeat.interval,
                failures: facts.heartbeat.failures.total(),
                failures_by_cause: facts.heartbeat.failures,
            },
            system: System::new(&facts.usage),
            uptime_seconds: facts.uptime.as_secs(),
            reasons: &facts.assessment,
        }
    }
}

/// The report of the whole server, with its jobs: `GET /health`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthReport<'a> {
    status: Status,
    timestamp: u64,
    phase: &'static str,
    uptime_seconds: u64,
    stream: Stream,
    jobs: Jobs,
    system: System,
    #[serde(serialize_with = "Assessment::serialize_reasons")]
    reasons: &'a Assessment,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Stream {
    active_connections: u64,
    total_messages: u64,
    max_connections: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Jobs {
    total: u64,
    pending: u64,
    in_progress: u64,
    completed: u64,
    cancelled: u64,
    error: u64,
}

impl<'a> HealthReport<'a> {
    /// The report of `facts`.
    #[must_use]
    pub fn new(facts: &'a Facts) -> Self {
        let jobs = facts.jobs;
        Self {
            status: facts.assessment.status,
            timestamp: facts.unix_seconds,
            phase: facts.phase.name(),
            uptime_seconds: facts.uptime.as_secs(),
            stream: Stream {
                active_connections: facts.connections.active,
                total_messages: facts.traffic.delivered_total,
                max_connections: facts.connections.max,
            },
            jobs: Jobs {
                total: jobs.total(),
                pending: jobs.pending,
                in_progress: jobs.in_progress,
                completed: jobs.completed,
                cancelled: jobs.cancelled,
                error: jobs.error,
            },
            system: System::new(&facts.usage),
            reasons: &facts.assessment,
        }
    }
}

impl System {
    fn new(usage: &Usage) -> Self {
        let percent = |share: Option<f64>| share.map(|share| round(share * 100.0, 1e2));
        Self {
            cpu_percent: percent(usage.system_cpu),
            process_cpu_percent: percent(usage.process_cpu),
            memory_percent: percent(usage.memory),
            rss_bytes: usage.resident_bytes,
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1e3, 1e3)
}

fn round(value: f64, places: f64) -> f64 {
    (value * places).round() / places
}

/// Whole seconds as an integer, which is the contract; others as a fraction.
fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        serializer.serialize_u64(duration.as_secs())
    } else {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}
