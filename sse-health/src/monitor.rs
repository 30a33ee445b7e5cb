//! [`HealthMonitor`]: all parts of the crate in one.

use std::{
    fmt,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    alerts::{Alert, Alerts, Hysteresis, Transition},
    heartbeat::HeartbeatCounters,
    latency::LatencyMonitor,
    phase::Phase,
    rates::Traffic,
    report::{ConnectionCounts, Facts, HeartbeatFacts, JobCounts},
    sampler::{Sampler, Source, SystemSource},
    status::{Assessment, Reason, Snapshot, Status, assess},
    thresholds::Thresholds,
};

/// Measures a server, judges it and keeps its alerts: all parts of this crate in one.
///
/// The hot path records through [`delivered`](Self::delivered) and the counters of [`traffic`](Self::traffic); a report takes
/// [`facts`](Self::facts); a timer calls [`check`](Self::check) every few seconds and tells the world what changed.
/// Whoever needs less takes the parts.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::{ConnectionCounts, Gauges, HealthMonitor, SseHealthReport, Status};
///
/// let start = Instant::now();
/// let monitor = HealthMonitor::of_this_process(start);
/// monitor.delivered(Duration::from_millis(12), start);
///
/// let gauges = Gauges {
///     connections: ConnectionCounts { active: 499, max: 500, per_ip_limit: 10 },
///     ..Gauges::default()
/// };
/// let facts = monitor.facts(&gauges, start);
/// assert_eq!(facts.assessment.status, Status::Critical);
/// println!("{}", serde_json::to_string(&SseHealthReport::new(&facts))?);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub struct HealthMonitor<S = SystemSource> {
    started: Instant,
    thresholds: Thresholds,
    sampler: Sampler<S>,
    latency: LatencyMonitor,
    traffic: Traffic,
    heartbeats: HeartbeatCounters,
    alerts: Mutex<Alerts>,
    /// What reports show, once somebody checks.
    shown: Mutex<Option<Alerts>>,
}

/// A status changes less often than what is measured, and sooner than an alert: a guess, five seconds either way.
const SHOWN: Hysteresis = Hysteresis {
    raise_after: Duration::from_secs(5),
    raise_samples: 3,
    clear_after: Duration::from_secs(5),
    clear_samples: 3,
};

/// What the server counts itself, at the moment of a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauges {
    /// Where the server is in its life.
    pub phase: Phase,
    /// Connections and their limits.
    pub connections: ConnectionCounts,
    /// What half of the readers have yet to read at least, as a share of what is kept for them: 0 to 1.
    pub queue: Option<f64>,
    /// Output divided by input of message compression; 1 if nothing was compressed.
    pub compression_ratio: f64,
    /// How often heartbeats are sent.
    pub heartbeat_interval: Duration,
    /// Jobs by state.
    pub jobs: JobCounts,
    /// The time, in seconds since 1970.
    pub unix_seconds: u64,
}

impl Default for Gauges {
    /// Nothing is connected and nothing was compressed; heartbeats come every 30 s.
    fn default() -> Self {
        Self {
            phase: Phase::default(),
            connections: ConnectionCounts::default(),
            queue: None,
            compression_ratio: 1.0,
            heartbeat_interval: crate::Heartbeat::DEFAULT_INTERVAL,
            jobs: JobCounts::default(),
            unix_seconds: 0,
        }
    }
}

impl HealthMonitor {
    /// A monitor of this process with the default thresholds and hysteresis, started at `now`.
    #[must_use]
    pub fn of_this_process(now: Instant) -> Self {
        Self::new(
            Sampler::of_this_process(),
            Thresholds::default(),
            Hysteresis::default(),
            now,
        )
    }
}

impl<S: Source> HealthMonitor<S> {
    /// A monitor that was started at `now`.
    pub fn new(
        sampler: Sampler<S>,
        thresholds: Thresholds,
        hysteresis: Hysteresis,
        now: Instant,
    ) -> Self {
        Self {
            started: now,
            thresholds,
            sampler,
            latency: LatencyMonitor::new(now),
            traffic: Traffic::new(now),
            heartbeats: HeartbeatCounters::default(),
            alerts: Mutex::new(Alerts::new(hysteresis)),
            shown: Mutex::new(None),
        }
    }

    /// Counts one event that a reader's connection has taken, `latency` after it was published.
    pub fn delivered(&self, latency: Duration, now: Instant) {
        self.latency.record(latency, now);
        self.traffic.delivered.add(1, now);
    }

    /// The counters of traffic, to add to and to read.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The latencies of deliveries.
    #[must_use]
    pub fn latency(&self) -> &LatencyMonitor {
        &self.latency
    }

    /// The counters of heartbeats, to add to and to read.
    #[must_use]
    pub fn heartbeats(&self) -> &HeartbeatCounters {
        &self.heartbeats
    }

    /// All that is known at `now`, judged; for a report. Changes no alert, so it may be called as often as anyone asks.
    ///
    /// Where [`check`](Self::check) is called, a signal is told of when it has been bad for five seconds, until it has been good
    /// for as long. Where it is not, the moment decides.
    ///
    /// Reads the machine if the last reading is too old, which may take a millisecond.
    #[must_use]
    pub fn facts(&self, gauges: &Gauges, now: Instant) -> Facts {
        let mut facts = self.measured(gauges, now);
        if let Some(shown) = &*self.shown.lock() {
            facts.assessment = settled(shown, &facts, now);
        }
        facts
    }

    /// The facts as they are at this moment.
    fn measured(&self, gauges: &Gauges, now: Instant) -> Facts {
        let usage = self.sampler.sample(now);
        let latency = self.latency.window(now).summary();
        let traffic = self.traffic.summary(now);
        let snapshot = Snapshot {
            active_connections: gauges.connections.active,
            max_connections: gauges.connections.max,
            queue: gauges.queue,
            errors_last_minute: traffic.errors_last_minute,
            memory: usage.memory,
            cpu: usage.system_cpu,
            // A percentile of a handful is just its worst.
            latency_p95: latency
                .filter(|latency| latency.count >= Snapshot::MIN_DELIVERIES)
                .map(|latency| latency.p95),
            readers_failed_last_minute: traffic.failed_last_minute,
        };
        Facts {
            assessment: assess(&snapshot, &self.thresholds),
            phase: gauges.phase,
            connections: gauges.connections,
            latency,
            traffic,
            compression_ratio: gauges.compression_ratio,
            heartbeat: HeartbeatFacts {
                interval: gauges.heartbeat_interval,
                failures: self.heartbeats.failures(),
            },
            usage,
            jobs: gauges.jobs,
            uptime: now.saturating_duration_since(self.started),
            unix_seconds: gauges.unix_seconds,
        }
    }

    /// As [`facts`](Self::facts), and moves the alerts on. Returns what changed, to be logged and sent.
    ///
    /// To be called by one timer, every few seconds: the number of samples counts in [`Hysteresis`].
    #[must_use = "the transitions are told only once"]
    pub fn check(&self, gauges: &Gauges, now: Instant) -> (Facts, Vec<Transition>) {
        let mut facts = self.measured(gauges, now);
        let transitions = self.alerts.lock().observe(&facts.assessment, now);
        let mut shown = self.shown.lock();
        let shown = shown.get_or_insert_with(|| Alerts::new(SHOWN));
        shown.observe(&facts.assessment, now);
        facts.assessment = settled(shown, &facts, now);
        (facts, transitions)
    }

    /// The alerts that are raised now, the worst first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.lock().raised()
    }
}

/// What is told: the signals that have been bad for a while, with their present values.
fn settled(shown: &Alerts, measured: &Facts, now: Instant) -> Assessment {
    let reason = |alert: Alert| {
        let present = measured.assessment.reasons.iter();
        let present = present.copied().find(|it| it.signal == alert.signal);
        let lasting = now.saturating_duration_since(alert.since).as_secs();
        Reason {
            status: alert.status,
            since: Some(measured.unix_seconds.saturating_sub(lasting)),
            ..present.unwrap_or(alert.reason)
        }
    };
    let reasons: Vec<_> = shown.raised().into_iter().map(reason).collect();
    let status = reasons.first().map_or(Status::Healthy, |it| it.status);
    Assessment {
        status,
        reasons,
        faults: Vec::new(),
    }
}

impl<S> fmt::Debug for HealthMonitor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthMonitor")
            .field("thresholds", &self.thresholds)
            .field("sampler", &self.sampler)
            .field("latency", &self.latency)
            .field("traffic", &self.traffic)
            .finish_non_exhaustive()
    }
}
