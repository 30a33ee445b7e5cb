//! Alerts: raised and cleared only after a signal has been bad, or good, for long enough.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{
    status::{Assessment, Reason, Status},
    thresholds::Signal,
};

/// How long a signal must be bad before an alert is raised, and good before it is cleared.
///
/// Both the time and the number of samples must be reached, so neither one bad sample nor two that are seconds apart make an
/// alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hysteresis {
    /// How long it must be bad without a break.
    pub raise_after: Duration,
    /// In how many samples in a row it must be bad; zero counts as one.
    pub raise_samples: u32,
    /// How long it must be good without a break.
    pub clear_after: Duration,
    /// In how many samples in a row it must be good; zero counts as one.
    pub clear_samples: u32,
}

impl Default for Hysteresis {
    /// Raised after 30 s and 3 samples, cleared after 60 s and 3 samples: guesses, and slower to clear than to raise, so that
    /// a flapping signal is one alert.
    fn default() -> Self {
        Self {
            raise_after: Duration::from_secs(30),
            raise_samples: 3,
            clear_after: Duration::from_secs(60),
            clear_samples: 3,
        }
    }
}

/// An alert that is raised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alert {
    /// What is bad.
    pub signal: Signal,
    /// How bad: warning or critical.
    pub status: Status,
    /// Since when an alert of this signal has been raised.
    pub since: Instant,
    /// The latest measurement outside of the healthy range.
    pub reason: Reason,
}

/// A change that someone should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Transition {
    /// Which signal changed.
    pub signal: Signal,
    /// What the alert said before; `Healthy` if there was none.
    pub from: Status,
    /// What it says now; `Healthy` if it is cleared.
    pub to: Status,
    /// The latest measurement outside of the healthy range.
    pub reason: Reason,
}

impl Transition {
    /// Whether things got worse.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.to > self.from
    }

    /// Whether the alert is over.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.to == Status::Healthy
    }
}

/// Turns assessments into alerts, each raised once and cleared once.
///
/// Each signal has two latches, one for "at least a warning" and one for "critical", and the alert is as bad as the worst latch
/// that is on. A signal that flickers between warning and critical is thus steadily a warning, and an alert by then.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::{Alerts, Hysteresis, Snapshot, Status, Thresholds, assess};
///
/// let thresholds = Thresholds::default();
/// let mut alerts = Alerts::new(Hysteresis { raise_samples: 2, ..Hysteresis::default() });
/// let start = Instant::now();
///
/// let bad = assess(&Snapshot { memory: Some(0.8), ..Snapshot::default() }, &thresholds);
/// assert!(alerts.observe(&bad, start).is_empty());
/// let raised = alerts.observe(&bad, start + Duration::from_secs(30));
/// assert_eq!((raised[0].from, raised[0].to), (Status::Healthy, Status::Warning));
/// ```
#[derive(Debug, Clone)]
pub struct Alerts {
    hysteresis: Hysteresis,
    tracks: [Track; Signal::ALL.len()],
}

impl Alerts {
    /// No alerts yet.
    #[must_use]
    pub fn new(hysteresis: Hysteresis) -> Self {
        Self {
            hysteresis,
            tracks: [Track::default(); Signal::ALL.len()],
        }
    }

    /// Takes the assessment made at `now`, and returns what changed. Times must not go backwards.
    pub fn observe(&mut self, assessment: &Assessment, now: Instant) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for (signal, track) in Signal::ALL.into_iter().zip(&mut self.tracks) {
            let reason = assessment
                .reasons
                .iter()
                .find(|reason| reason.signal == signal);
            let observed = reason.map_or(Status::Healthy, |reason| reason.status);
            track.reason = reason.copied().or(track.reason);
            let from = track.shown();
            track
                .warning
                .observe(observed >= Status::Warning, &self.hysteresis, now);
            track
                .critical
                .observe(observed >= Status::Critical, &self.hysteresis, now);
            let to = track.shown();
            if from == to {
                continue;
            }
            track.since = match (from, to) {
                (_, Status::Healthy) => None,
                (Status::Healthy, _) => Some(now),
                _ => track.since,
            };
            // A latch turns on only by a reason, which is kept.
            if let Some(reason) = track.reason {
                transitions.push(Transition {
                    signal,
                    from,
                    to,
                    reason,
                });
            }
        }
        transitions
    }

    /// The alerts that are raised now, the worst first.
    #[must_use]
    pub fn raised(&self) -> Vec<Alert> {
        let mut raised: Vec<_> = Signal::ALL
            .into_iter()
            .zip(&self.tracks)
            .filter_map(|(signal, track)| {
                Some(Alert {
                    signal,
                    status: track.shown(),
                    since: track.since?,
                    reason: track.reason?,
                })
            })
            .collect();
        raised.sort_by_key(|alert| std::cmp::Reverse(alert.status));
        raised
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self::new(Hysteresis::default())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Track {
    warning: Latch,
    critical: Latch,
    since: Option<Instant>,
    reason: Option<Reason>,
}

impl Track {
    fn shown(&self) -> Status {
        if self.critical.is_on() {
            Status::Critical
        } else if self.warning.is_on() {
            Status::Warning
        } else {
            Status::Healthy
        }
    }
}

/// ```text
///          bad              long enough           good              long enough
///   Off ────────▶ Rising ───────────────▶ On ────────────▶ Falling ─────────────▶ Off
///    ▲              │ good                 ▲                  │ bad
///    └──────────────┘                      └──────────────────┘
/// ```
#[derive(Debug, Clone, Copy, Default)]
enum Latch {
    #[default]
    Off,
    Rising {
        since: Instant,
        samples: u32,
    },
    On,
    Falling {
        since: Instant,
        samples: u32,
    },
}

impl Latch {
    fn is_on(self) -> bool {
        matches!(self, Self::On | Self::Falling { .. })
    }

    fn observe(&mut self, bad: bool, hysteresis: &Hysteresis, now: Instant) {
        *self = match (*self, bad) {
            (Self::Off | Self::Rising { .. }, false) => Self::Off,
            (Self::On | Self::Falling { .. }, true) => Self::On,
            (Self::Off, true) => Self::Rising {
                since: now,
                samples: 1,
            },
            (Self::On, false) => Self::Falling {
                since: now,
                samples: 1,
            },
            (Self::Rising { since, samples }, true) => Self::Rising {
                since,
                samples: samples.saturating_add(1),
            },
            (Self::Falling { since, samples }, false) => Self::Falling {
                since,
                samples: samples.saturating_add(1),
            },
        };
        let held = |since, samples, after, enough| {
            now.saturating_duration_since(since) >= after && samples >= enough
        };
        match *self {
            Self::Rising { since, samples }
                if held(
                    since,
                    samples,
                    hysteresis.raise_after,
                    hysteresis.raise_samples,
                ) =>
            {
                *self = Self::On;
            }
            Self::Falling { since, samples }
                if held(
                    since,
                    samples,
                    hysteresis.clear_after,
                    hysteresis.clear_samples,
                ) =>
            {
                *self = Self::Off;
            }
            _ => {}
        }
    }
}
