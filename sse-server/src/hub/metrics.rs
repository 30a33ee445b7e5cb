//! The hub's metrics: latencies, rates, load, and the health that follows from them.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use sse_broker::{Gap, UnixMillis};
use sse_health::{
    ConnectionCounts, Exposition, Facts, Gauges, HealthMonitor, HeartbeatFailure, Hysteresis,
    JobCounts, Sampler, Transition,
};

use sse_pool::SweepOutcome;

use super::when_late::Reason;
use super::{GapCounts, Hub, HubConfig, LeftOut};
use crate::clock;

/// The hub's measuring instruments.
pub(crate) struct Metrics {
    pub(super) monitor: HealthMonitor,
    /// By reason.
    gaps: Mutex<BTreeMap<&'static str, GapCounts>>,
    /// Events that readers did not get, by [`Reason`].
    left_out: [AtomicU64; Reason::ALL.len()],
    pub(super) takeovers: AtomicU64,
    pub(super) refused_takeovers: AtomicU64,
    pub(super) panics: AtomicU64,
    /// Until when what TLS needs is good, in seconds of Unix time.
    certificates: Mutex<Vec<(&'static str, u64)>>,
    pub(super) bytes_delivered: AtomicU64,
    /// How many events the slowest reader was behind at the last look.
    most_behind: AtomicUsize,
    /// The same for the typical one.
    typically_behind: AtomicUsize,
    pub(super) started_at: UnixMillis,
    sweep_interval: Duration,
    last_sweep: Mutex<Instant>,
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
            gaps: Mutex::default(),
            left_out: Default::default(),
            takeovers: AtomicU64::new(0),
            refused_takeovers: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            certificates: Mutex::default(),
            bytes_delivered: AtomicU64::new(0),
            most_behind: AtomicUsize::new(0),
            typically_behind: AtomicUsize::new(0),
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

    /// A reader was told of a gap as it came, or where the log had changed under it.
    pub(crate) fn record_gap(&self, gap: &Gap) {
        let mut gaps = self.gaps.lock();
        let counts = gaps.entry(gap.reason.as_str()).or_default();
        counts.gaps += 1;
        counts.missed_events += gap.missed_at_most().unwrap_or(0);
    }

    /// A reader was told that it has missed events while it was connected.
    pub(crate) fn record_loss(&self, gap: &Gap, now: Instant) {
        self.record_gap(gap);
        let traffic = self.monitor.traffic();
        traffic.failed.add(1, now);
        let missed = gap.missed_at_most().unwrap_or(0);
        traffic
            .missed
            .add(u32::try_from(missed).unwrap_or(u32::MAX), now);
    }

    /// So many readers did not get what was left out of their batch.
    pub(super) fn record_left_out(&self, left_out: LeftOut, readers: usize) {
        if left_out == LeftOut::default() {
            return;
        }
        let readers = readers as u64;
        for (total, count) in std::iter::zip(&self.left_out, left_out.counts) {
            total.fetch_add(u64::from(count) * readers, Ordering::Relaxed);
        }
        if let Some(gap) = left_out.gap() {
            let missed = left_out.counts[Reason::LowPriority as usize];
            let mut gaps = self.gaps.lock();
            let counts = gaps.entry(gap.reason.as_str()).or_default();
            counts.gaps += readers;
            counts.missed_events += u64::from(missed) * readers;
        }
    }

    /// Events that were left out, counted for each reader, by reason.
    pub(super) fn left_out(&self) -> BTreeMap<&'static str, u64> {
        let counts = std::iter::zip(Reason::ALL, &self.left_out);
        counts
            .map(|(reason, count)| (reason.name(), count.load(Ordering::Relaxed)))
            .collect()
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

    /// So many readers were let go because they took nothing for the send timeout.
    pub(crate) fn record_stalled(&self, readers: usize, now: Instant) {
        let count = u32::try_from(readers).unwrap_or(u32::MAX);
        self.monitor.traffic().failed.add(count, now);
        self.record_dead(HeartbeatFailure::SendTimeout, readers as u64);
    }

    fn record_dead(&self, cause: HeartbeatFailure, connections: u64) {
        self.monitor.heartbeats().record_failed(cause, connections);
    }

    /// The connection of a stream broke by this, as it was written to or read from. A client that resets it as it leaves is not
    /// counted, nor is what the hub itself had enough of.
    pub(crate) fn record_broken(&self, error: &(dyn std::error::Error + 'static), is_write: bool) {
        let mut sources = std::iter::successors(Some(error), |error| error.source());
        let Some(error) = sources.find_map(|error| error.downcast_ref::<io::Error>()) else {
            return;
        };
        // What the system says has a number.
        if error.raw_os_error().is_none() {
            return;
        }
        match error.kind() {
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => {
                self.record_dead(HeartbeatFailure::NeverAcknowledged, 1);
            }
            _ if is_write => self.record_dead(HeartbeatFailure::WriteFailed, 1),
            _ => {}
        }
    }

    /// Gaps that readers were told of, by reason.
    pub(super) fn gaps_by_reason(&self) -> BTreeMap<&'static str, GapCounts> {
        self.gaps.lock().clone()
    }

    /// How many events the slowest reader has yet to look at.
    pub(super) fn most_behind(&self) -> usize {
        self.most_behind.load(Ordering::Relaxed)
    }

    /// How far readers are behind.
    pub(super) fn record_behind(&self, swept: &SweepOutcome) {
        let typically = swept.typically_behind_entries;
        self.typically_behind.store(typically, Ordering::Relaxed);
        let most = swept.most_behind_entries;
        self.most_behind.store(most, Ordering::Relaxed);
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
        // The window is the one queue there is: the typical reader's part of it, where it is full.
        let behind = &self.inner.metrics.typically_behind;
        let behind = behind.load(Ordering::Relaxed);
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
        self.register_gaps(&mut registry);
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

    /// What readers have missed.
    fn register_gaps(&self, registry: &mut Registry) {
        let gaps = Family::<ReasonLabel, Counter>::default();
        let missed = Family::<ReasonLabel, Counter>::default();
        for (reason, counts) in self.inner.metrics.gaps_by_reason() {
            let label = ReasonLabel { reason };
            gaps.get_or_create(&label).inc_by(counts.gaps);
            missed.get_or_create(&label).inc_by(counts.missed_events);
        }
        let left_out = Family::<ReasonLabel, Counter>::default();
        for (reason, count) in self.inner.metrics.left_out() {
            left_out
                .get_or_create(&ReasonLabel { reason })
                .inc_by(count);
        }
        registry.register(
            "events_left_out",
            "Events that readers did not get, because they had expired or by a rule for late readers",
            left_out,
        );
        let behind = Gauge::<i64>::default();
        let most = self.inner.metrics.most_behind();
        behind.set(i64::try_from(most).unwrap_or(i64::MAX));
        registry.register("gaps", "Gaps that readers were told of", gaps);
        registry.register(
            "events_missed",
            "Events that readers missed by them, at most",
            missed,
        );
        registry.register(
            "reader_most_behind",
            "Events that the slowest reader has yet to look at",
            behind,
        );
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
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
