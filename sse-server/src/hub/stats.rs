//! The hub in numbers, as `GET /events/stats` shows it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use sse_broker::{Bounds, Position};
use sse_health::LatencySummary;

use super::Hub;
use crate::access::budget::AccountStatus;
use crate::access::{Limited, PlaceStatus};
use crate::clock;

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
    /// The same by reason, with how many events they missed at most.
    pub gaps_by_reason: BTreeMap<&'static str, GapCounts>,
    /// Events that readers did not get, counted for each reader: because they had `expired`, or by a rule for late readers.
    pub events_left_out: BTreeMap<&'static str, u64>,
    /// How many events the slowest reader has yet to look at.
    pub most_behind: usize,
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

/// Gaps for one reason.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct GapCounts {
    /// How many readers were told of one.
    pub gaps: u64,
    /// How many events they missed at most: all that lay between the two ends, whoever wanted them.
    pub missed_events: u64,
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

impl Hub {
    /// The hub in numbers.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let metrics = &self.inner.metrics;
        let pool = self.inner.pool.stats();
        let facts = self.health();
        let traffic = &facts.traffic;
        let sockets = self.inner.sockets.status();
        let accounts = self.memory().map(|it| (it.account.name(), it.into()));
        let gaps = metrics.gaps_by_reason();
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
            gaps: gaps.values().map(|counts| counts.gaps).sum(),
            gaps_by_reason: gaps,
            events_left_out: metrics.left_out(),
            subscription_takeovers: metrics.takeovers.load(Ordering::Relaxed),
            refused_takeovers: metrics.refused_takeovers.load(Ordering::Relaxed),
            panics: metrics.panics.load(Ordering::Relaxed),
            most_behind: metrics.most_behind(),
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

    /// The places of each kind.
    pub(super) fn places(&self) -> [(&'static str, PlacesJson); 3] {
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
}
