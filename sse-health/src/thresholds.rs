//! Thresholds: from which value on a signal is a warning, or critical.

use std::{fmt, str::FromStr};

use serde::Serialize;
use thiserror::Error;

/// Something that is measured and judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// Open connections, as a share of the most allowed.
    Connections,
    /// What half of the readers have yet to read at least, as a share of what is kept for them.
    Queue,
    /// Errors in the last minute.
    ErrorsPerMinute,
    /// Memory in use, as a share of what there is.
    Memory,
    /// CPU in use by all processes, as a share of all cores.
    Cpu,
    /// The 95th percentile of delivery latency, in milliseconds.
    LatencyP95Ms,
    /// Readers that got everything in time in the last minute, as a share of all.
    SuccessRate,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 7] = [
        Self::Connections,
        Self::Queue,
        Self::ErrorsPerMinute,
        Self::Memory,
        Self::Cpu,
        Self::LatencyP95Ms,
        Self::SuccessRate,
    ];

    /// The name in reports and configuration files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Queue => "queue",
            Self::ErrorsPerMinute => "errors_per_minute",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::LatencyP95Ms => "latency_p95_ms",
            Self::SuccessRate => "success_rate",
        }
    }

    /// Which way is worse.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::SuccessRate => Direction::BadWhenLow,
            _ => Direction::BadWhenHigh,
        }
    }

    /// The largest value that makes sense: 1 for a share, none for a count or a time.
    const fn range_end(self) -> f64 {
        match self {
            Self::ErrorsPerMinute | Self::LatencyP95Ms => f64::MAX,
            _ => 1.0,
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Connections => "share of connections in use",
            Self::Queue => "fill of the typical reader's queue",
            Self::ErrorsPerMinute => "number of errors in the last minute",
            Self::Memory => "memory in use",
            Self::Cpu => "CPU in use",
            Self::LatencyP95Ms => "95th percentile of latency",
            Self::SuccessRate => "share of readers that got everything in time",
        }
    }

    /// Writes a value with its unit.
    pub(crate) fn show(self, value: f64) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::ErrorsPerMinute => write!(f, "{value}"),
            Self::LatencyP95Ms => write!(f, "{} ms", round(value, 1000.0)),
            _ => write!(f, "{} %", round(value * 100.0, 10.0)),
        })
    }
}

fn round(value: f64, places: f64) -> f64 {
    (value * places).round() / places
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Reads a signal's [`name`](Signal::name).
    ///
    /// # Errors
    ///
    /// [`UnknownSignal`] for any other text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|signal| signal.name() == text)
            .ok_or(UnknownSignal)
    }
}

/// A text that names no [`Signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unknown health signal")]
pub struct UnknownSignal;

/// Which way a signal gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The more, the worse: latency, errors.
    BadWhenHigh,
    /// The less, the worse: the success rate.
    BadWhenLow,
}

/// From which value on a signal is a warning, and from which it is critical.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// The end of the healthy range. This value itself is outside.
    pub warning: f64,
    /// Where it becomes critical; `None` if it never does.
    pub critical: Option<f64>,
}

/// The healthy range of each signal. Whatever can be built is valid.
///
/// | signal | warning | critical | |
/// |---|---|---|---|
/// | connections | 80 % of the limit | 95 % | healthy is fewer than 800 of 1000 |
/// | queue | 80 % full | 95 % | |
/// | errors | 5 a minute | 50 | |
/// | memory | 70 % in use | 90 % | |
/// | p95 latency | 200 ms | 1 s | |
/// | success rate | 99 % | 90 % | guess |
/// | CPU | 90 % | never | guess; a busy machine that delivers in time is not ill |
///
/// The warnings of the first five are the healthy ranges customary for such a service. All critical limits are guesses, set
/// where an operator would want to be woken.
///
/// ```
/// use sse_health::{Limit, Signal, Thresholds};
///
/// let thresholds = Thresholds::default()
///     .with(Signal::LatencyP95Ms, Limit { warning: 50.0, critical: Some(250.0) })?
///     .without(Signal::Cpu);
/// assert_eq!(thresholds.limit(Signal::LatencyP95Ms).map(|limit| limit.warning), Some(50.0));
///
/// let upside_down = Limit { warning: 0.9, critical: Some(0.7) };
/// assert!(Thresholds::default().with(Signal::Memory, upside_down).is_err());
/// # Ok::<(), sse_health::ThresholdError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    limits: [Option<Limit>; Signal::ALL.len()],
}

impl Thresholds {
    /// The limit of a signal, or `None` if it is not judged.
    #[must_use]
    pub fn limit(&self, signal: Signal) -> Option<Limit> {
        self.limits[signal as usize]
    }

    /// Sets a limit.
    ///
    /// # Errors
    ///
    /// [`ThresholdError`] if a value is not in the signal's range, or if the critical value is not worse than the warning.
    pub fn with(mut self, signal: Signal, limit: Limit) -> Result<Self, ThresholdError> {
        let in_range = |value: f64| (0.0..=signal.range_end()).contains(&value);
        if !in_range(limit.warning) || !limit.critical.is_none_or(in_range) {
            return Err(ThresholdError::OutOfRange { signal });
        }
        let in_order = |critical| match signal.direction() {
            Direction::BadWhenHigh => limit.warning <= critical,
            Direction::BadWhenLow => limit.warning >= critical,
        };
        if !limit.critical.is_none_or(in_order) {
            return Err(ThresholdError::OutOfOrder { signal });
        }
        self.limits[signal as usize] = Some(limit);
        Ok(self)
    }

    /// Leaves a signal unjudged.
    #[must_use]
    pub fn without(mut self, signal: Signal) -> Self {
        self.limits[signal as usize] = None;
        self
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        let limits = Signal::ALL.map(|signal| {
            let (warning, critical) = match signal {
                Signal::Connections | Signal::Queue => (0.80, Some(0.95)),
                Signal::ErrorsPerMinute => (5.0, Some(50.0)),
                Signal::Memory => (0.70, Some(0.90)),
                Signal::Cpu => (0.90, None),
                Signal::LatencyP95Ms => (200.0, Some(1000.0)),
                Signal::SuccessRate => (0.99, Some(0.90)),
            };
            Some(Limit { warning, critical })
        });
        Self { limits }
    }
}

/// A limit that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// A share must be from 0 to 1, another value finite and not negative.
    #[error("threshold of {} is out of range", .signal.name())]
    OutOfRange {
        /// Whose limit it is.
        signal: Signal,
    },
    /// The critical value must be worse than the warning, or equal to it.
    #[error("critical threshold of {} is milder than its warning", .signal.name())]
    OutOfOrder {
        /// Whose limit it is.
        signal: Signal,
    },
}
