//! The health status, and the reasons for it.

use std::{fmt, time::Duration};

use serde::{
    Serialize, Serializer,
    ser::{SerializeSeq as _, SerializeStruct as _},
};

use crate::thresholds::{Direction, Signal, Thresholds};

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All signals are in their healthy ranges.
    #[default]
    Healthy,
    /// At least one signal is outside.
    Warning,
    /// At least one signal is far outside.
    Critical,
}

impl Status {
    /// The name in reports: `healthy`, `warning` or `critical`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was measured at one moment. What is not known is left out, and then not judged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Snapshot {
    /// Connections that are open.
    pub active_connections: u64,
    /// The most connections allowed; zero if there is no limit.
    pub max_connections: u64,
    /// How full the fullest queue is: 0 to 1.
    pub queue: Option<f64>,
    /// Errors in the last minute.
    pub errors_last_minute: u64,
    /// Memory in use: 0 to 1.
    pub memory: Option<f64>,
    /// CPU in use: 0 to 1.
    pub cpu: Option<f64>,
    /// The 95th percentile of delivery latency.
    pub latency_p95: Option<Duration>,
    /// Readers that were let go because they took nothing, or that missed events, in the last minute.
    pub readers_failed_last_minute: u64,
}

impl Snapshot {
    /// Below so many deliveries a percentile is just the worst of them.
    pub const MIN_DELIVERIES: u64 = 20;
    /// So many readers must have failed before that says anything of the server: one or two have a slow line of their own.
    pub const MIN_FAILED_READERS: u64 = 3;

    /// The value of a signal, in the unit that [`Signal`] says, or `None` if it is not known.
    #[must_use]
    pub fn value(&self, signal: Signal) -> Option<f64> {
        let value = match signal {
            Signal::Connections => (self.max_connections > 0)
                .then(|| self.active_connections as f64 / self.max_connections as f64),
            Signal::Queue => self.queue,
            Signal::ErrorsPerMinute => Some(self.errors_last_minute as f64),
            Signal::Memory => self.memory,
            Signal::Cpu => self.cpu,
            Signal::LatencyP95Ms => self.latency_p95.map(|p95| p95.as_secs_f64() * 1000.0),
            Signal::SuccessRate => {
                let failed = self.readers_failed_last_minute;
                let readers = self.active_connections.saturating_add(failed);
                match failed {
                    _ if readers == 0 => None,
                    0..Self::MIN_FAILED_READERS => Some(1.0),
                    _ => Some(self.active_connections as f64 / readers as f64),
                }
            }
        };
        value.filter(|value| !value.is_nan())
    }
}

/// A status, and why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assessment {
    /// The worst of all signals and faults.
    pub status: Status,
    /// The signals outside their healthy ranges, the worst first; empty when healthy.
    pub reasons: Vec<Reason>,
    /// What is wrong beyond what can be measured; told before the signals.
    pub faults: Vec<Fault>,
}

impl Assessment {
    /// Takes a fault into account: the status becomes as bad as it is.
    ///
    /// ```
    /// use sse_health::{Assessment, Fault, Status};
    ///
    /// let mut assessment = Assessment::default();
    /// assessment.add(Fault {
    ///     signal: "log",
    ///     status: Status::Critical,
    ///     message: "the log cannot be written".into(),
    ///     since: None,
    /// });
    /// assert_eq!(assessment.status, Status::Critical);
    /// ```
    pub fn add(&mut self, fault: Fault) {
        self.status = self.status.max(fault.status);
        self.faults.push(fault);
        self.faults
            .sort_by_key(|fault| std::cmp::Reverse(fault.status));
    }

    /// All that is wrong, as reports tell it: faults first.
    pub(crate) fn serialize_reasons<S: Serializer>(
        this: &&Self,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut reasons = serializer.serialize_seq(Some(this.faults.len() + this.reasons.len()))?;
        for fault in &this.faults {
            reasons.serialize_element(fault)?;
        }
        for reason in &this.reasons {
            reasons.serialize_element(reason)?;
        }
        reasons.end()
    }
}

/// Something that is wrong and is no measurement: it is there or it is not. Whoever knows of it
/// [adds](Assessment::add) it to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What it is about: a name as [`Signal::name`] has, and another than those.
    pub signal: &'static str,
    /// How bad it is: never `Healthy`.
    pub status: Status,
    /// What is wrong and what to do about it, for people.
    pub message: String,
    /// Since when, in seconds since 1970, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// A signal outside of its healthy range. Its text reads "memory in use is 81.5 %, healthy is below 70 %".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reason {
    /// What was measured.
    pub signal: Signal,
    /// How bad it is: never `Healthy`.
    pub status: Status,
    /// What it is.
    pub value: f64,
    /// Where its healthy range ends.
    pub healthy_limit: f64,
    /// Since when it has been told, in seconds since 1970; nothing in a bare [`assess`]ment, which knows only one moment.
    pub since: Option<u64>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.signal.direction() {
            Direction::BadWhenHigh => "below",
            Direction::BadWhenLow => "above",
        };
        write!(
            f,
            "{} is {}, healthy is {side} {}",
            self.signal.label(),
            self.signal.show(self.value),
            self.signal.show(self.healthy_limit),
        )
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = 5 + usize::from(self.since.is_some());
        let mut reason = serializer.serialize_struct("Reason", len)?;
        reason.serialize_field("signal", &self.signal)?;
        reason.serialize_field("status", &self.status)?;
        reason.serialize_field("value", &self.value)?;
        reason.serialize_field("healthy_limit", &self.healthy_limit)?;
        reason.serialize_field("message", &format_args!("{self}"))?;
        match self.since {
            Some(since) => reason.serialize_field("since", &since)?,
            None => reason.skip_field("since")?,
        }
        reason.end()
    }
}

/// Judges what was measured. Pure: the same snapshot and thresholds give the same assessment.
#[must_use]
pub fn assess(snapshot: &Snapshot, thresholds: &Thresholds) -> Assessment {
    let mut reasons: Vec<Reason> = Signal::ALL
        .into_iter()
        .filter_map(|signal| {
            let value = snapshot.value(signal)?;
            let limit = thresholds.limit(signal)?;
            let reaches = |limit: f64| match signal.direction() {
                Direction::BadWhenHigh => value >= limit,
                Direction::BadWhenLow => value <= limit,
            };
            let status = if limit.critical.is_some_and(reaches) {
                Status::Critical
            } else if reaches(limit.warning) {
                Status::Warning
            } else {
                return None;
            };
            Some(Reason {
                signal,
                status,
                value,
                healthy_limit: limit.warning,
                since: None,
            })
        })
        .collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.status));
    let status = reasons
        .first()
        .map_or(Status::Healthy, |worst| worst.status);
    Assessment {
        status,
        reasons,
        faults: Vec::new(),
    }
}
