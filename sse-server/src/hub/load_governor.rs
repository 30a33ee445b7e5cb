//! What follows the machine's load, within what is configured.
//!
//! On a machine that stays busy the hub does less of what readers can do without: heartbeats become rarer, and messages are
//! compressed with less effort. When it has been calm for a while both come back. One [`LevelGovernor`] decides for both, so that they move one
//! step at a time and do not undo each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sse_compress::{Level, LevelGovernor};

/// How much of everything there is now.
#[derive(Debug)]
pub(crate) struct LoadGovernor {
    configured_level: Level,
    /// The shortest and the longest interval between heartbeats; `None` when there are none.
    heartbeat: Option<(Duration, Duration)>,
    governor: Mutex<LevelGovernor>,
    heartbeat_millis: AtomicU64,
}

impl LoadGovernor {
    /// All that is configured. Heartbeats that may not become rarer never do.
    pub(crate) fn new(
        level: Level,
        heartbeat: Option<Duration>,
        max_heartbeat: Option<Duration>,
    ) -> Self {
        Self {
            configured_level: level,
            heartbeat: heartbeat.map(|base| (base, max_heartbeat.unwrap_or(base).max(base))),
            governor: Mutex::new(LevelGovernor::new(Level::Best)),
            heartbeat_millis: AtomicU64::new(heartbeat.map_or(0, millis)),
        }
    }

    /// Takes the share of the machine's processors in use, 0 to 1; the level to compress messages with from now on. To be
    /// called every second or so.
    pub(crate) fn observe(&self, cpu: f64, now: Instant) -> Level {
        let level = self.governor.lock().observe(cpu, now);
        if let Some((base, most)) = self.heartbeat {
            let share = match level {
                Level::Best => 0,
                Level::Balanced => 1,
                Level::Fast => 2,
            };
            let interval = base + (most - base) * share / 2;
            self.heartbeat_millis
                .store(millis(interval), Ordering::Relaxed);
        }
        level.min(self.configured_level)
    }

    /// How long a stream may be silent now; `None` without heartbeats.
    pub(crate) fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat?;
        let now = self.heartbeat_millis.load(Ordering::Relaxed);
        Some(Duration::from_millis(now))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(20);
    const MOST: Duration = Duration::from_secs(40);

    #[test]
    fn under_lasting_load_heartbeats_become_rarer_and_levels_faster_and_both_come_back() {
        let load_governor = LoadGovernor::new(Level::Balanced, Some(BASE), Some(MOST));
        let start = Instant::now();
        let mut seen = Vec::new();
        for second in 0..400 {
            let cpu = if second < 100 { 0.97 } else { 0.1 };
            let level = load_governor.observe(cpu, start + Duration::from_secs(second));
            let now = (level, load_governor.heartbeat().map(|it| it.as_secs()));
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        assert_eq!(
            seen,
            [
                (Level::Balanced, Some(20)),
                (Level::Balanced, Some(30)),
                (Level::Fast, Some(40)),
                (Level::Balanced, Some(30)),
                (Level::Balanced, Some(20)),
            ]
        );
    }

    #[test]
    fn nothing_leaves_its_bounds() {
        let start = Instant::now();
        for (most, expected) in [(None, BASE), (Some(Duration::from_secs(1)), BASE)] {
            let load_governor = LoadGovernor::new(Level::Fast, Some(BASE), most);
            for second in 0..100 {
                let level = load_governor.observe(1.0, start + Duration::from_secs(second));
                assert_eq!(
                    (level, load_governor.heartbeat()),
                    (Level::Fast, Some(expected))
                );
            }
        }
        let silent = LoadGovernor::new(Level::Best, None, Some(MOST));
        silent.observe(1.0, start);
        assert_eq!(silent.heartbeat(), None);
    }
}
