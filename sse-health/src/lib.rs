//! Health of a streaming server: what to measure, what is normal, when to raise an alarm, and how to report it.
//!
//! The crate is a chain of small parts, each of which can be used alone; [`HealthMonitor`] is all of them in one:
//!
//! ```text
//!   Sampler (CPU, memory)     ┐
//!   LatencyMonitor            ├─▶ Snapshot ─▶ assess(Thresholds) ─▶ Assessment ─▶ Alerts ─▶ raised, cleared
//!   Traffic (rates, success)  │                                        └─▶ report (JSON)
//!   gauges of the caller      ┘
//! ```
//!
//! Recording is for the hot path: a few relaxed atomic operations, no allocation, no lock but at the turn of a time slice.
//! Judging is pure: the same snapshot and thresholds give the same status. Only [`SystemSource`] looks at the machine,
//! and no part reads a clock; `now` is always an argument, so a test of "five bad minutes" takes microseconds.
//!
//! Three questions are kept apart, since mixing them makes outages worse:
//!
//! * *Is it alive?* ([`Phase::is_live`]) A process that is not should be restarted.
//! * *Should it get new connections?* ([`Phase::is_ready`]) Not while it drains. A high CPU is no reason: the load would only
//!   move to the next node.
//! * *Is it well?* ([`Status`]) That is for people and their alerts ([`Alerts`], with hysteresis).
//!
//! # Features
//!
//! `prometheus` adds `Exposition`, which writes the facts as OpenMetrics text. It brings six crates.
//!
//! # Example
//!
//! ```
//! use std::time::{Duration, Instant};
//! use sse_health::{LatencyMonitor, Snapshot, Status, Thresholds, assess};
//!
//! let start = Instant::now();
//! let latency = LatencyMonitor::new(start);
//! for n in 0..100 {
//!     latency.record(Duration::from_millis(if n < 90 { 20 } else { 400 }), start);
//! }
//! let snapshot = Snapshot {
//!     active_connections: 45,
//!     max_connections: 500,
//!     latency_p95: latency.window(start).summary().map(|latency| latency.p95),
//!     ..Snapshot::default()
//! };
//! let assessment = assess(&snapshot, &Thresholds::default());
//! assert_eq!(assessment.status, Status::Warning);
//! assert!(assessment.reasons[0].to_string().starts_with("95th percentile of latency is 4"));
//! ```

mod alerts;
#[cfg(feature = "prometheus")]
mod exposition;
mod heartbeat;
mod latency;
mod monitor;
mod phase;
mod rates;
mod report;
mod sampler;
mod status;
mod thresholds;

pub use alerts::{Alert, Alerts, Hysteresis, Transition};
#[cfg(feature = "prometheus")]
pub use exposition::Exposition;
pub use heartbeat::{Heartbeat, HeartbeatCounters, HeartbeatFailure, HeartbeatFailures};
pub use latency::{Distribution, LatencyMonitor, LatencySummary};
pub use monitor::{Gauges, HealthMonitor};
pub use phase::Phase;
pub use rates::{SlidingCounter, Traffic, TrafficSummary};
pub use report::{
    ConnectionCounts, Facts, HealthReport, HeartbeatFacts, JobCounts, SseHealthReport,
};
pub use sampler::{Sampler, Source, SystemSource, Usage, memory_limit_bytes};
pub use status::{Assessment, Fault, Reason, Snapshot, Status, assess};
pub use thresholds::{Direction, Limit, Signal, ThresholdError, Thresholds, UnknownSignal};
