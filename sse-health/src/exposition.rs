//! Metrics for Prometheus, as OpenMetrics text.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{
    heartbeat::HeartbeatFailure,
    latency::Distribution,
    report::{ConnectionCounts, Facts, JobCounts},
    sampler::Usage,
    status::Status,
};

/// A server's facts and latencies as metrics, for one scrape.
///
/// Metric names are a public contract, as the fields of the JSON reports are. A server with metrics of its own registers this
/// as a [`Collector`] beside them, in a [`Registry`] made for the scrape.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::{Exposition, Gauges, HealthMonitor};
///
/// let start = Instant::now();
/// let monitor = HealthMonitor::of_this_process(start);
/// monitor.delivered(Duration::from_millis(12), start);
///
/// let facts = monitor.facts(&Gauges::default(), start);
/// let text = Exposition::new(facts, monitor.latency().total()).into_text();
/// assert!(text.contains("sse_deliveries_total 1\n"));
/// assert!(text.contains("sse_delivery_latency_seconds_bucket{le=\"0.025\"} 1\n"));
/// ```
#[derive(Debug, Clone)]
pub struct Exposition {
    facts: Facts,
    latency: Distribution,
}

impl Exposition {
    /// What [`into_text`](Self::into_text) is, for the `Content-Type` header: OpenMetrics text.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// The metrics of `facts`, and of all latencies since the start.
    ///
    /// Prometheus works out rates and windows itself, so the distribution must be a total, not a window.
    #[must_use]
    pub fn new(facts: Facts, latency: Distribution) -> Self {
        Self { facts, latency }
    }

    /// The metrics as text, with the prefix `sse_`.
    #[must_use]
    pub fn into_text(self) -> String {
        let mut registry = Registry::with_prefix("sse");
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("a string takes any text");
        out
    }
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let facts = &self.facts;
        let mut metrics = Metrics(encoder);
        metrics.connections(&facts.connections)?;
        metrics.traffic(facts)?;
        metrics.latency(&self.latency)?;
        metrics.gauge(
            "compression",
            "Output divided by input of message compression",
            Some(&ratio()),
            &facts.compression_ratio,
        )?;
        metrics.health(facts)?;
        metrics.jobs(&facts.jobs)?;
        metrics.usage(&facts.usage)?;
        metrics.gauge(
            "uptime",
            "How long the server has been running",
            Some(&Unit::Seconds),
            &facts.uptime.as_secs_f64(),
        )
    }
}

struct Metrics<'a>(DescriptorEncoder<'a>);

impl Metrics<'_> {
    fn connections(&mut self, counts: &ConnectionCounts) -> fmt::Result {
        self.gauge(
            "connections",
            "Connections that are open",
            None,
            &counts.active,
        )?;
        self.gauge(
            "connections_max",
            "The most connections allowed",
            None,
            &counts.max,
        )
    }

    /// What was published, delivered and tried in vain.
    fn traffic(&mut self, facts: &Facts) -> fmt::Result {
        let traffic = &facts.traffic;
        self.counter(
            "events_published",
            "Events taken from publishers",
            traffic.published_total,
        )?;
        self.counter(
            "deliveries",
            "Events taken by readers",
            traffic.delivered_total,
        )?;
        self.counter(
            "readers_failed",
            "Readers that took nothing for the send timeout, or missed events",
            traffic.failed_total,
        )?;
        self.counter("errors", "Errors of any kind", traffic.errors_total)?;
        let mut failures = self.0.encode_descriptor(
            "heartbeat_failures",
            "Connections that turned out to be dead",
            None,
            MetricType::Counter,
        )?;
        for cause in HeartbeatFailure::ALL {
            let count = facts.heartbeat.failures.of(cause);
            failures
                .encode_family(&[("cause", cause.name())])?
                .encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        Ok(())
    }

    fn health(&mut self, facts: &Facts) -> fmt::Result {
        self.states(
            "health_status",
            "1 for the status that the server is in, 0 for the others",
            "status",
            [Status::Healthy, Status::Warning, Status::Critical]
                .map(|status| (status.name(), u64::from(status == facts.assessment.status))),
        )?;
        self.gauge(
            "ready",
            "Whether the server should get new connections",
            None,
            &u64::from(facts.phase.is_ready()),
        )
    }

    fn jobs(&mut self, jobs: &JobCounts) -> fmt::Result {
        self.states(
            "jobs",
            "Jobs by state",
            "state",
            [
                ("pending", jobs.pending),
                ("in_progress", jobs.in_progress),
                ("completed", jobs.completed),
                ("cancelled", jobs.cancelled),
                ("error", jobs.error),
            ],
        )
    }

    /// What is known of processors and memory.
    fn usage(&mut self, usage: &Usage) -> fmt::Result {
        for (name, help, share) in [
            (
                "cpu",
                "CPU in use by all processes, of all cores",
                usage.system_cpu,
            ),
            (
                "process_cpu",
                "CPU in use by this process, of all cores",
                usage.process_cpu,
            ),
            ("memory", "Memory in use, of what there is", usage.memory),
        ] {
            if let Some(share) = share {
                self.gauge(name, help, Some(&ratio()), &share)?;
            }
        }
        if let Some(bytes) = usage.resident_bytes {
            self.gauge(
                "resident_memory",
                "Resident memory of this process",
                Some(&Unit::Bytes),
                &bytes,
            )?;
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: &impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?
            .encode_gauge(value)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&value, None)
    }

    fn states<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: [(&str, u64); N],
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (state, value) in values {
            metric
                .encode_family(&[(label, state)])?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    fn latency(&mut self, latency: &Distribution) -> fmt::Result {
        let mut below = 0;
        let mut buckets = Vec::with_capacity(LATENCY_BOUNDS_MS.len() + 1);
        for bound in LATENCY_BOUNDS_MS {
            let up_to = latency.count_up_to(Duration::from_micros((bound * 1000.0) as u64));
            buckets.push((bound / 1000.0, up_to - below));
            below = up_to;
        }
        let count = latency.count();
        buckets.push((f64::INFINITY, count - below));
        self.0
            .encode_descriptor(
                "delivery_latency",
                "Time from publishing an event until a reader's connection has taken it",
                Some(&Unit::Seconds),
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(latency.sum().as_secs_f64(), count, &buckets, None)
    }
}

/// The library's own unit is a plural, `ratios`; the custom among exporters is the singular.
fn ratio() -> Unit {
    Unit::Other("ratio".to_owned())
}

/// The bounds of the latency buckets: around what is hoped for (1 ms), what is customary (50, 100 and 200 ms) and what is
/// broken (seconds).
const LATENCY_BOUNDS_MS: [f64; 15] = [
    0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
    30_000.0,
];
