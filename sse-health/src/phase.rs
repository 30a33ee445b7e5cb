//! Where a server is in its life.

use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

/// Where a server is in its life.
///
/// ```text
///            drain()             window over, or all readers gone
///   Serving ────────▶ Draining ──────────────────────────────────▶ Drained
/// ```
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::Phase;
///
/// let now = Instant::now();
/// let mut phase = Phase::default();
/// assert!(phase.is_live() && phase.is_ready());
///
/// phase.drain(now, Duration::from_secs(30));
/// assert!(phase.is_live() && !phase.is_ready());
///
/// phase.handle_timeout(now + Duration::from_secs(30));
/// assert_eq!(phase, Phase::Drained);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Takes connections and serves them.
    #[default]
    Serving,
    /// Takes no new connections, and sends the old ones away one slice after another.
    Draining {
        /// When the drain began.
        since: Instant,
        /// When it ends, whoever is still there.
        until: Instant,
    },
    /// Has no connections any more; the process may end.
    Drained,
}

impl Phase {
    /// How long readers are sent away over when a node leaves, unless configured otherwise, so they do not all return at once
    /// elsewhere: 30 s, the time that orchestrators wait by default before they kill.
    pub const DEFAULT_DRAIN_WINDOW: Duration = Duration::from_secs(30);

    /// Begins the drain, which lasts `window` at most; a second call changes nothing.
    pub fn drain(&mut self, now: Instant, window: Duration) {
        if let Self::Serving = self {
            let until = now.checked_add(window).unwrap_or(now);
            *self = Self::Draining { since: now, until };
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Draining { until, .. } => Some(*until),
            Self::Serving | Self::Drained => None,
        }
    }

    /// Ends the drain if its window is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Self::Draining { until, .. } = self
            && *until <= now
        {
            *self = Self::Drained;
        }
    }

    /// Ends the drain early: no connection is left. Changes nothing while serving.
    pub fn handle_empty(&mut self) {
        if let Self::Draining { .. } = self {
            *self = Self::Drained;
        }
    }

    /// How many of the `total` readers that there were when the drain began should have been sent away by `now`.
    ///
    /// Grows evenly from none to all over the window, and is exact at both ends.
    #[must_use]
    pub fn leavers_due(&self, total: usize, now: Instant) -> usize {
        match *self {
            Self::Serving => 0,
            Self::Drained => total,
            Self::Draining { since, until } => {
                let window = until.saturating_duration_since(since).as_nanos();
                let passed = now.saturating_duration_since(since).as_nanos().min(window);
                let due = (total as u128 * passed).checked_div(window);
                due.map_or(total, |due| due as usize) // no more than `total`
            }
        }
    }

    /// `/livez`: whether the process works. Always, as long as it can answer; a drain must not make anyone kill it.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        true
    }

    /// `/readyz`: whether it should get new connections.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Serving)
    }

    /// The name in reports: `serving`, `draining` or `drained`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining { .. } => "draining",
            Self::Drained => "drained",
        }
    }
}

impl Serialize for Phase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
