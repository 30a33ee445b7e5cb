//! The compression level for the load of the machine.

use std::time::{Duration, Instant};

use crate::level::Level;

/// Chooses a [`Level`] by the measured load: less effort on a busy machine, more again when it is idle.
///
/// Made for [`MessageCompressor::set_level`](crate::MessageCompressor::set_level); a stream keeps the level it began with, and is
/// best begun with [`Level::Fast`].
///
/// The level moves one step at a time, and only after the load has stayed beyond its limit for a while. It gets faster soon and
/// slower late, and between the limits it stays, so that the effect of a step on the load does not undo the step.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_compress::{Level, LevelGovernor};
///
/// let mut governor = LevelGovernor::new(Level::Balanced);
/// let start = Instant::now();
/// assert_eq!(governor.observe(0.95, start), Level::Balanced);
/// assert_eq!(governor.observe(0.95, start + Duration::from_secs(10)), Level::Fast);
///
/// // Calm again: a minute later it is what was asked for.
/// governor.observe(0.2, start + Duration::from_secs(20));
/// assert_eq!(governor.observe(0.2, start + Duration::from_secs(80)), Level::Balanced);
/// ```
#[derive(Debug, Clone)]
pub struct LevelGovernor {
    configured: Level,
    level: Level,
    trend: Trend,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trend {
    Steady,
    Busy { since: Instant },
    Idle { since: Instant },
}

impl LevelGovernor {
    /// From this share of CPU on the machine is busy: 0.85, a guess that leaves room for the writes themselves.
    pub const BUSY: f64 = 0.85;
    /// Below this share of CPU the machine is idle: 0.5. One level more takes a message at most about one and a half times the
    /// time, so a step does not lead beyond [`BUSY`](Self::BUSY) even if compression is all that the machine does.
    pub const IDLE: f64 = 0.5;
    /// How long the machine must be busy before the level gets faster.
    pub const FASTER_AFTER: Duration = Duration::from_secs(10);
    /// How long the machine must be idle before the level gets slower.
    pub const SLOWER_AFTER: Duration = Duration::from_secs(60);

    /// A governor that never tries harder than `configured`.
    #[must_use]
    pub fn new(configured: Level) -> Self {
        Self {
            configured,
            level: configured,
            trend: Trend::Steady,
        }
    }

    /// Takes the share of CPU in use at `now`, 0 to 1, and returns the level to use from now on.
    ///
    /// To be called every few seconds, in the order of time.
    pub fn observe(&mut self, cpu: f64, now: Instant) -> Level {
        self.trend = match self.trend {
            Trend::Busy { since } if cpu >= Self::BUSY => Trend::Busy { since },
            Trend::Idle { since } if cpu < Self::IDLE => Trend::Idle { since },
            _ if cpu >= Self::BUSY => Trend::Busy { since: now },
            _ if cpu < Self::IDLE => Trend::Idle { since: now },
            _ => Trend::Steady,
        };
        let passed = |since| now.saturating_duration_since(since);
        let moved = match self.trend {
            Trend::Busy { since } if passed(since) >= Self::FASTER_AFTER => faster(self.level),
            Trend::Idle { since } if passed(since) >= Self::SLOWER_AFTER => {
                slower(self.level).min(self.configured)
            }
            _ => self.level,
        };
        if moved != self.level {
            self.level = moved;
            // The next step needs a time of its own, which begins with the next observation.
            self.trend = Trend::Steady;
        }
        self.level
    }

    /// The level to use now.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }
}

fn faster(level: Level) -> Level {
    match level {
        Level::Best => Level::Balanced,
        Level::Balanced | Level::Fast => Level::Fast,
    }
}

fn slower(level: Level) -> Level {
    match level {
        Level::Fast => Level::Balanced,
        Level::Balanced | Level::Best => Level::Best,
    }
}
