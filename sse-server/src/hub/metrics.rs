//! The hub's metrics: latencies, rates, load, and the health that follows from them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use sse_broker::{Bounds, Position, UnixMillis};
use sse_health::{
    ConnectionCounts, Exposition, Facts, Gauges, HealthMonitor, Hysteresis, JobCounts,
    LatencySummary, Sampler, Transition,
};

use super::{Hub, HubConfig};
use crate::access::budget::AccountStatus;
use crate::access::{Limited, PlaceStatus};
use crate::clock;

/// The hub's measuring instruments.
pub(crate) struct Metrics {
    monitor: HealthMonitor,
    gaps: AtomicU64,
    takeovers: AtomicU64,
    refused_takeovers: AtomicU64,
    panics: AtomicU64,
    /// Until when what TLS needs is good, in seconds of Unix time.
    certificates: Mutex<Vec<(&'static str, u64)>>,
    bytes_delivered: AtomicU64,
    /// How many events the slowest reader was behind at the last look.
    most_behind: AtomicUsize,
    started_at: UnixMillis,
    sweep_interval: Duration,
    last_sweep: Mutex<Instant>,
}

/// The hub in numbers, as `GET /events/stats` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct HubStats {
    /// Open connections.
    pub active_connections: usize,
    /// The same, under the name that many dashboards look for.
    pub total_connections: usize,
    /// Most connections at once allowed.
    pub max_connections: usize,
    /// Most connections at once so far.
    pub peak_connections: usize,
    /// Connections taken since the start.
    pub accepted_connections: u64,
    /// Connections refused since the start.
    pub refused_connections: u64,
    /// Connections let go since the start because they were idle or stalled.
    pub evicted_connections: u64,
    /// Events published since the start.
    pub events_published: u64,
    /// The same, under another common name.
    pub total_messages: u64,
    /// Events delivered since the start, counted for each reader.
    pub events_delivered: u64,
    /// Bytes delivered since the start, counted for each reader.
    pub bytes_delivered: u64,
    /// Gaps that readers were told of.
    pub gaps: u64,
    /// Streams that were replaced by a newer one of the same named subscription.
    pub subscription_takeovers: u64,
    /// Streams that were refused because their named subscription is in use.
    pub refused_takeovers: u64,
    /// Requests whose handler panicked; they were answered with 500.
    pub panics: u64,
    /// Events published a second, over the last minute.
    pub published_per_second: f64,
    /// Events delivered a second, over the last minute.
    pub delivered_per_second: f64,
    /// Share of deliveries that worked, over the last minute.
    pub success_rate: f64,
    /// Errors in the last minute.
    pub errors_last_minute: u64,
    /// From commit to the writing of a reader's bytes, over the last minute.
    pub latency_ms: LatencyMs,
    /// Compressed messages.
    pub compression: CompressionJson,
    /// Events and bytes that the window holds.
    pub window: WindowJson,
    /// What the log covers.
    pub log: LogJson,
    /// Memory held for clients, by account.
    pub memory: BTreeMap<&'static str, AccountJson>,
    /// Places for `connections` (streams and requests that wait), `requests` and `sockets`.
    pub places: BTreeMap<&'static str, PlacesJson>,
    /// How fast one caller may `connect`, `publish`, and publish bytes (`publish_bytes`).
    pub rates: BTreeMap<&'static str, RateJson>,
    /// Sockets that wait for a request.
    pub waiting_sockets: usize,
    /// Sockets that waited and were closed since the start, because others needed their places.
    pub evicted_sockets: u64,
    /// Jobs by state.
    pub jobs: super::JobCounts,
    /// Since when the hub runs.
    pub started_at: String,
    /// For how long.
    pub uptime_seconds: u64,
    /// How it is all in all.
    pub status: sse_health::Status,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub struct LatencyMs {
    pub avg: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// What message compression did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CompressionJson {
    /// Messages that were compressed.
    pub compressed: u64,
    /// Their size before.
    pub bytes_in: u64,
    /// Their size after, the envelope included.
    pub bytes_out: u64,
    /// After over before.
    pub ratio: f64,
    /// What came of `Content-Encoding`: streams in gzip.
    pub streams: StreamCompressionJson,
}

/// What stream compression did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StreamCompressionJson {
    /// Sets of readers that share an encoder.
    pub cohorts: usize,
    /// Bytes that were encoded, each once however many readers took them.
    pub bytes_in: u64,
    /// What became of them.
    pub bytes_out: u64,
}

/// What the window holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WindowJson {
    /// Events.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// What the log covers.
#[derive(Clone, Debug, Serialize)]
pub struct LogJson {
    /// Everything up to here may be gone.
    pub floor: String,
    /// The newest event.
    pub head: String,
    /// How safe an acknowledged event is.
    pub durability: &'static str,
}

/// One account of the memory budget.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AccountJson {
    /// What it may hold.
    pub max_bytes: usize,
    /// What it holds.
    pub held_bytes: usize,
    /// How often somebody found nothing left, since the start.
    pub refused: u64,
}

/// The places of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PlacesJson {
    /// How many there are.
    pub max: usize,
    /// How many one address may have.
    pub max_per_ip: usize,
    /// How many are taken.
    pub taken: usize,
    /// How often somebody found all of them taken, since the start.
    pub refused: u64,
    /// How often an address had its share, since the start.
    pub refused_per_ip: u64,
    /// How many one user may have, for connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_user: Option<usize>,
    /// How often a user had its share, since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_per_user: Option<u64>,
}

/// One limit of how fast a caller may be.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RateJson {
    /// How many a second; nothing where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// How many at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// How often somebody was refused, since the start.
    pub refused: u64,
}

impl From<LatencySummary> for LatencyMs {
    fn from(latency: LatencySummary) -> Self {
        let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            avg: millis(latency.mean),
            p50: millis(latency.p50),
            p95: millis(latency.p95),
            p99: millis(latency.p99),
            max: millis(latency.max),
        }
    }
}

impl From<PlaceStatus> for PlacesJson {
    fn from(status: PlaceStatus) -> Self {
        Self {
            max: status.limits.max,
            max_per_ip: status.limits.max_per_address,
            taken: status.taken,
            refused: status.refused,
            refused_per_ip: status.refused_per_address,
            max_per_user: None,
            refused_per_user: None,
        }
    }
}

impl From<AccountStatus> for AccountJson {
    fn from(status: AccountStatus) -> Self {
        Self {
            max_bytes: status.max_bytes,
            held_bytes: status.held_bytes,
            refused: status.refused,
        }
    }
}

impl Metrics {
    pub(super) fn new(config: &HubConfig, now: Instant, unix_now: UnixMillis) -> Self {
        let sampler = Sampler::of_this_process();
        Self {
            monitor: HealthMonitor::new(
                sampler,
                config.thresholds.clone(),
                Hysteresis::default(),
                now,
            ),
            gaps: AtomicU64::new(0),
            takeovers: AtomicU64::new(0),
            refused_takeovers: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            certificates: Mutex::default(),
            bytes_delivered: AtomicU64::new(0),
            most_behind: AtomicUsize::new(0),
            started_at: unix_now,
            sweep_interval: config.sweep_interval,
            last_sweep: Mutex::new(now),
        }
    }

    /// So many readers got so many events each, the oldest of them `latency` after its commit, and `bytes` in all.
    pub(crate) fn record_deliveries(
        &self,
        latency: Duration,
        readers: u32,
        events: u64,
        bytes: usize,
        now: Instant,
    ) {
        self.monitor.latency().record_many(latency, readers, now);
        self.record_replay(events * u64::from(readers), bytes, now);
    }

    /// So many old events went to one reader; how long they waited for it says nothing.
    pub(crate) fn record_replay(&self, events: u64, bytes: usize, now: Instant) {
        self.bytes_delivered
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.monitor
            .traffic()
            .delivered
            .add(u32::try_from(events).unwrap_or(u32::MAX), now);
    }

    pub(super) fn record_published(&self, events: usize, now: Instant) {
        self.monitor
            .traffic()
            .published
            .add(u32::try_from(events).unwrap_or(u32::MAX), now);
    }

    pub(crate) fn record_heartbeat(&self) {
        self.monitor.heartbeats().record_sent(1);
    }

    /// A reader was told of a gap.
    pub(crate) fn record_gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream was replaced by a newer one of the same named subscription.
    pub(super) fn record_takeover(&self) {
        self.takeovers.fetch_add(1, Ordering::Relaxed);
    }

    /// A handler of a request has panicked.
    pub(crate) fn record_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// The certificates are good until then, in seconds of Unix time.
    pub(crate) fn record_certificates(&self, until: Vec<(&'static str, u64)>) {
        let old = std::mem::replace(&mut *self.certificates.lock(), until);
        drop(old);
    }

    /// A stream was refused because its named subscription is in use.
    pub(super) fn record_refused_takeover(&self) {
        self.refused_takeovers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_error(&self, now: Instant) {
        self.monitor.traffic().errors.add(1, now);
    }

    /// A reader that stalled is a delivery that failed; one that fell idle took no heartbeat.
    pub(crate) fn record_evictions(&self, stalled: usize, idle: usize, now: Instant) {
        self.monitor
            .traffic()
            .failed
            .add(u32::try_from(stalled).unwrap_or(u32::MAX), now);
        self.monitor.heartbeats().record_failed(idle as u64);
    }

    /// The slowest reader is so many events behind.
    pub(super) fn record_most_behind(&self, events: usize) {
        self.most_behind.store(events, Ordering::Relaxed);
    }

    /// Whether the sweep interval has passed; if so, it begins anew.
    pub(super) fn is_sweep_due(&self, now: Instant) -> bool {
        let mut last = self.last_sweep.lock();
        let due = now.saturating_duration_since(*last) >= self.sweep_interval;
        if due {
            *last = now;
        }
        due
    }

    /// Looks at everything once and returns the alerts that were raised or cleared by it.
    /// The share of the machine's processors in use, if it is known, and what has changed.
    pub(super) fn observe(&self, hub: &Hub, now: Instant) -> (Option<f64>, Vec<Transition>) {
        let (facts, transitions) = self.monitor.check(&hub.gauges(), now);
        (facts.usage.system_cpu, transitions)
    }
}

impl Hub {
    fn gauges(&self) -> Gauges {
        let config = &self.inner.config;
        let jobs = self.job_counts();
        let pool = self.inner.pool.stats();
        // The window is the one queue there is: the slowest reader's part of it, where it is full.
        let behind = self.inner.metrics.most_behind.load(Ordering::Relaxed);
        let fill = share(pool.window_bytes, config.window_bytes)
            .max(share(pool.window_entries, config.window_events));
        Gauges {
            phase: *self.inner.phase.lock(),
            connections: ConnectionCounts {
                active: pool.active as u64,
                max: config.max_connections as u64,
                per_ip_limit: config.max_connections_per_ip as u64,
            },
            queue: Some(share(behind, pool.window_entries).min(1.0) * fill),
            compression_ratio: self.inner.compressor.stats().ratio(),
            heartbeat_interval: self.inner.load_governor.heartbeat().unwrap_or_default(),
            jobs: JobCounts {
                pending: jobs.pending as u64,
                in_progress: jobs.in_progress as u64,
                completed: jobs.completed as u64,
                cancelled: jobs.cancelled as u64,
                error: jobs.error as u64,
            },
            unix_seconds: clock::unix_millis() / 1000,
        }
    }

    /// How the hub is, for the health reports.
    #[must_use]
    pub fn health(&self) -> Facts {
        let monitor = &self.inner.metrics.monitor;
        let mut facts = monitor.facts(&self.gauges(), clock::now());
        for fault in self.faults() {
            facts.assessment.add(fault);
        }
        facts
    }

    /// The same as metrics for Prometheus, in OpenMetrics text.
    #[must_use]
    pub fn exposition(&self) -> String {
        self.exposition_with(|_| {})
    }

    /// The same with more of somebody else's.
    pub(crate) fn exposition_with(&self, more: impl FnOnce(&mut Registry)) -> String {
        let latency = self.inner.metrics.monitor.latency().total();
        let mut registry = Registry::with_prefix("sse");
        registry.register_collector(Box::new(Exposition::new(self.health(), latency)));
        let held = Family::<AccountLabel, Gauge>::default();
        let max = Family::<AccountLabel, Gauge>::default();
        let refused = Family::<AccountLabel, Counter>::default();
        let amount = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for status in self.memory() {
            let label = AccountLabel {
                account: status.account.name(),
            };
            held.get_or_create(&label).set(amount(status.held_bytes));
            max.get_or_create(&label).set(amount(status.max_bytes));
            refused.get_or_create(&label).inc_by(status.refused);
        }
        registry.register_with_unit("memory_held", "Memory held for clients", Unit::Bytes, held);
        registry.register_with_unit("memory_max", "The most memory for it", Unit::Bytes, max);
        registry.register("memory_refused", "How often no memory was left", refused);
        self.register_places(&mut registry);
        let too_fast = Family::<LimitLabel, Counter>::default();
        for (limited, count) in self.inner.rates.refused() {
            let limit = limited.name();
            too_fast.get_or_create(&LimitLabel { limit }).inc_by(count);
        }
        registry.register("rates_refused", "How often somebody was too fast", too_fast);
        self.register_audit(&mut registry);
        self.register_certificates(&mut registry);
        let panics: Counter = Counter::default();
        panics.inc_by(self.inner.metrics.panics.load(Ordering::Relaxed));
        registry.register("request_panics", "Requests whose handler panicked", panics);
        more(&mut registry);
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("a string takes any text");
        out
    }

    /// The places of each kind.
    fn places(&self) -> [(&'static str, PlacesJson); 3] {
        let config = &self.inner.config;
        let pool = self.inner.pool.stats();
        let connections = PlacesJson {
            max: config.max_connections,
            max_per_ip: config.max_connections_per_ip,
            taken: pool.active,
            refused: pool.refused_full,
            refused_per_ip: pool.refused_address,
            max_per_user: Some(config.max_connections_per_user),
            refused_per_user: Some(self.inner.user_places.refused()),
        };
        [
            ("connections", connections),
            ("requests", self.inner.requests.status().into()),
            ("sockets", self.inner.sockets.status().places.into()),
        ]
    }

    /// Until when certificates are good, if there are any.
    fn register_certificates(&self, registry: &mut Registry) {
        let certificates = self.inner.metrics.certificates.lock().clone();
        if certificates.is_empty() {
            return;
        }
        let expiry = Family::<PlaceLabel, Gauge>::default();
        for (of, until) in certificates {
            let until = i64::try_from(until).unwrap_or(i64::MAX);
            expiry.get_or_create(&PlaceLabel { of }).set(until);
        }
        let help = "When the first certificate of this file expires, in Unix time";
        registry.register_with_unit("certificate_expiry", help, Unit::Seconds, expiry);
    }

    /// How the audit log fares, if there is one.
    fn register_audit(&self, registry: &mut Registry) {
        if !self.audit().is_on() {
            return;
        }
        let status = self.audit().status();
        for (name, help, count) in [
            ("audit_lines", "Lines of the audit log", status.written),
            (
                "audit_lines_dropped",
                "Facts that the audit log lacks because too many came at once",
                status.dropped,
            ),
            (
                "audit_lines_failed",
                "Lines of the audit log that the file system did not take",
                status.failed,
            ),
        ] {
            let counter = Counter::<u64>::default();
            counter.inc_by(count);
            registry.register(name, help, counter);
        }
    }

    /// How fast callers may be, and how often they were faster.
    fn rates_json(&self) -> BTreeMap<&'static str, RateJson> {
        let rates = &self.inner.rates;
        let json = |(limited, refused): (Limited, u64)| {
            let rate = rates.limits().of(limited);
            let json = RateJson {
                per_second: rate.map(|rate| rate.per_second()),
                burst: rate.map(|rate| rate.burst()),
                refused,
            };
            (limited.name(), json)
        };
        rates.refused().map(json).into()
    }

    fn register_places(&self, registry: &mut Registry) {
        let taken = Family::<PlaceLabel, Gauge>::default();
        let max = Family::<PlaceLabel, Gauge>::default();
        let refused = Family::<RefusalLabel, Counter>::default();
        let amount = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for (of, places) in self.places() {
            taken
                .get_or_create(&PlaceLabel { of })
                .set(amount(places.taken));
            max.get_or_create(&PlaceLabel { of })
                .set(amount(places.max));
            let by_user = places.refused_per_user.map(|count| ("user", count));
            let by_others = [("all", places.refused), ("ip", places.refused_per_ip)];
            for (by, count) in by_others.into_iter().chain(by_user) {
                refused
                    .get_or_create(&RefusalLabel { of, by })
                    .inc_by(count);
            }
        }
        let status = self.inner.sockets.status();
        let waiting = Gauge::<i64>::default();
        waiting.set(amount(status.waiting));
        let evicted = Counter::<u64>::default();
        evicted.inc_by(status.evicted);
        registry.register("places_taken", "Places that are taken", taken);
        registry.register("places_max", "How many places there are", max);
        registry.register("places_refused", "How often no place was left", refused);
        registry.register(
            "sockets_waiting",
            "Sockets that wait for a request",
            waiting,
        );
        registry.register(
            "sockets_evicted",
            "Waiting sockets that were closed for others",
            evicted,
        );
    }

    /// The hub in numbers.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let metrics = &self.inner.metrics;
        let pool = self.inner.pool.stats();
        let facts = self.health();
        let traffic = &facts.traffic;
        let sockets = self.inner.sockets.status();
        let accounts = self.memory().map(|it| (it.account.name(), it.into()));
        HubStats {
            active_connections: pool.active,
            total_connections: pool.active,
            max_connections: self.inner.config.max_connections,
            peak_connections: pool.peak,
            accepted_connections: pool.accepted,
            refused_connections: pool.refused_full
                + pool.refused_address
                + pool.refused_draining
                + self.inner.user_places.refused(),
            evicted_connections: pool.evicted(),
            events_published: traffic.published_total,
            total_messages: traffic.published_total,
            events_delivered: traffic.delivered_total,
            bytes_delivered: metrics.bytes_delivered.load(Ordering::Relaxed),
            gaps: metrics.gaps.load(Ordering::Relaxed),
            subscription_takeovers: metrics.takeovers.load(Ordering::Relaxed),
            refused_takeovers: metrics.refused_takeovers.load(Ordering::Relaxed),
            panics: metrics.panics.load(Ordering::Relaxed),
            published_per_second: traffic.published_per_second,
            delivered_per_second: traffic.delivered_per_second,
            success_rate: traffic.success_rate(),
            errors_last_minute: traffic.errors_last_minute,
            latency_ms: facts.latency.map(LatencyMs::from).unwrap_or_default(),
            compression: self.compression(),
            window: WindowJson {
                events: pool.window_entries,
                bytes: pool.window_bytes,
            },
            log: self.log(),
            memory: accounts.into(),
            places: self.places().into(),
            rates: self.rates_json(),
            waiting_sockets: sockets.waiting,
            evicted_sockets: sockets.evicted,
            jobs: self.job_counts(),
            started_at: clock::rfc3339(metrics.started_at),
            uptime_seconds: facts.uptime.as_secs(),
            status: facts.assessment.status,
        }
    }

    fn compression(&self) -> CompressionJson {
        let messages = self.inner.compressor.stats();
        let streams = self.inner.cohorts.stats();
        CompressionJson {
            compressed: messages.compressed,
            bytes_in: messages.bytes_in,
            bytes_out: messages.bytes_out,
            ratio: messages.ratio(),
            streams: StreamCompressionJson {
                cohorts: streams.cohorts,
                bytes_in: streams.plain_bytes,
                bytes_out: streams.packed_bytes,
            },
        }
    }

    fn log(&self) -> LogJson {
        let Bounds { epoch, floor, head } = self.inner.broker.bounds();
        let at = |offset| Position { epoch, offset }.to_string();
        LogJson {
            floor: at(floor),
            head: at(head),
            durability: self.durability().as_str(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountLabel {
    account: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabel {
    of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    of: &'static str,
    /// Whose limit was reached: that of `all`, or that of one `ip` or `user`.
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
