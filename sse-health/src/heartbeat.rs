//! When a heartbeat is due.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde::Serialize;

/// The schedule of heartbeats on a connection that has nothing else to say.
///
/// A heartbeat is due an interval after the last *write*, not the last heartbeat: events are signs of life too. The interval
/// is shortened by chance, never lengthened, so that thousands of connections opened together do not stay in step and a reader
/// still hears something in each interval.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::Heartbeat;
///
/// let heartbeat = Heartbeat::new(Duration::from_secs(30)).with_jitter(0.1);
/// let last_write = Instant::now();
/// assert_eq!(heartbeat.due(last_write, 0.0), last_write + Duration::from_secs(30));
/// assert_eq!(heartbeat.due(last_write, 0.5), last_write + Duration::from_millis(28_500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heartbeat {
    interval: Duration,
    jitter: f64,
    timeout: Duration,
}

impl Heartbeat {
    /// The interval unless configured otherwise: 30 s, which is below the idle timeouts of common proxies (60 s).
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
    /// How long a write may make no progress before the connection is dead: 10 s.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
    /// The shortest interval: 1 s. A shorter one is lengthened to this, as it would be all that a server does.
    pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

    /// The longest interval: a day. A longer one is shortened to this.
    pub const MAX_INTERVAL: Duration = Duration::from_secs(86_400);

    /// A heartbeat after each `interval` of silence, with a jitter of a tenth.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval: interval.clamp(Self::MIN_INTERVAL, Self::MAX_INTERVAL),
            jitter: 0.1,
            timeout: Self::DEFAULT_TIMEOUT,
        }
    }

    /// Shortens each interval by up to `share` of it, 0 to 0.5; what lies outside is brought inside.
    #[must_use]
    pub fn with_jitter(self, share: f64) -> Self {
        Self {
            jitter: within(share, 0.5),
            ..self
        }
    }

    /// Sets how long a heartbeat may stay unwritten before its connection is dead.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The interval before jitter.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// How long a heartbeat may stay unwritten.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When the next heartbeat is due, given the last write and a random number from 0 to 1.
    #[must_use]
    pub fn due(&self, last_write: Instant, random: f64) -> Instant {
        let shortened = 1.0 - self.jitter * within(random, 1.0);
        later(last_write, self.interval.mul_f64(shortened))
    }

    /// When the connection is dead, if a heartbeat given to it at `sent` has not been written by then.
    #[must_use]
    pub fn dead_at(&self, sent: Instant) -> Instant {
        later(sent, self.timeout)
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new(Self::DEFAULT_INTERVAL)
    }
}

/// `value` brought into 0 to `end`; NaN counts as 0.
fn within(value: f64, end: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, end)
    }
}

fn later(at: Instant, by: Duration) -> Instant {
    // Past the end of time there is nothing to wait for: a day will do.
    at.checked_add(by)
        .unwrap_or_else(|| at + Heartbeat::MAX_INTERVAL)
}

/// How it was found out that a connection is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeartbeatFailure {
    /// The system refused the write: the other side had gone.
    WriteFailed,
    /// The connection took nothing for the send timeout.
    SendTimeout,
    /// What was written was never acknowledged by the other side's system: it vanished.
    NeverAcknowledged,
}

impl HeartbeatFailure {
    /// Every cause.
    pub const ALL: [Self; 3] = [
        Self::WriteFailed,
        Self::SendTimeout,
        Self::NeverAcknowledged,
    ];

    /// The name in metrics: `write_failed`, `send_timeout` or `never_acknowledged`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteFailed => "write_failed",
            Self::SendTimeout => "send_timeout",
            Self::NeverAcknowledged => "never_acknowledged",
        }
    }
}

/// How often connections turned out to be dead, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HeartbeatFailures {
    /// See [`HeartbeatFailure::WriteFailed`].
    pub write_failed: u64,
    /// See [`HeartbeatFailure::SendTimeout`].
    pub send_timeout: u64,
    /// See [`HeartbeatFailure::NeverAcknowledged`].
    pub never_acknowledged: u64,
}

impl HeartbeatFailures {
    /// For one cause.
    #[must_use]
    pub fn of(&self, cause: HeartbeatFailure) -> u64 {
        match cause {
            HeartbeatFailure::WriteFailed => self.write_failed,
            HeartbeatFailure::SendTimeout => self.send_timeout,
            HeartbeatFailure::NeverAcknowledged => self.never_acknowledged,
        }
    }

    /// For all causes.
    #[must_use]
    pub fn total(&self) -> u64 {
        let all = HeartbeatFailure::ALL.into_iter();
        all.map(|cause| self.of(cause)).fold(0, u64::saturating_add)
    }
}

/// Counts heartbeats. Each counter is one relaxed atomic.
#[derive(Debug, Default)]
pub struct HeartbeatCounters {
    sent: AtomicU64,
    failures: [AtomicU64; HeartbeatFailure::ALL.len()],
}

impl HeartbeatCounters {
    /// Counts heartbeats that were written.
    pub fn record_sent(&self, n: u64) {
        self.sent.fetch_add(n, Relaxed);
    }

    /// Counts connections that turned out to be dead.
    pub fn record_failed(&self, cause: HeartbeatFailure, n: u64) {
        self.failures[cause as usize].fetch_add(n, Relaxed);
    }

    /// Heartbeats written since the start.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Connections that turned out to be dead since the start.
    #[must_use]
    pub fn failures(&self) -> HeartbeatFailures {
        let of = |cause: HeartbeatFailure| self.failures[cause as usize].load(Relaxed);
        HeartbeatFailures {
            write_failed: of(HeartbeatFailure::WriteFailed),
            send_timeout: of(HeartbeatFailure::SendTimeout),
            never_acknowledged: of(HeartbeatFailure::NeverAcknowledged),
        }
    }
}
