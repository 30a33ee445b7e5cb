//! The idle timeout: a connection on which nothing arrives is treated as dead, even if TCP keeps it open.
//!
//! Any byte counts, comments included; a server that sends a heartbeat every 15 to 30 s keeps a 45 s
//! watchdog quiet. Two things must not mislead it:
//!
//! * **A slow consumer.** While the consumer is busy nobody reads, so nothing can be said about the
//!   server. [`resume`](Watchdog::resume) starts a fresh period when the consumer comes back.
//! * **A suspended machine.** The monotonic clock stands still while a laptop sleeps, so a dead connection
//!   would look young. The wall clock is read beside it: when either of them saw the limit pass, the
//!   connection is given up. A wall clock set forward by hand costs one needless reconnect.

use std::time::{Duration, Instant, SystemTime};

/// A reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) mono: Instant,
    pub(crate) wall: SystemTime,
}

/// Watches for silence longer than `limit`.
#[derive(Debug)]
pub(crate) struct Watchdog {
    limit: Duration,
    heard: Moment,
}

impl Watchdog {
    pub(crate) fn new(limit: Duration, now: Moment) -> Self {
        Self { limit, heard: now }
    }

    /// Something arrived.
    pub(crate) fn feed(&mut self, now: Moment) {
        self.heard = now;
    }

    /// The consumer came back after a pause in which nobody listened.
    pub(crate) fn resume(&mut self, now: Moment) {
        self.heard = now;
    }

    /// Whether the silence has lasted too long.
    pub(crate) fn expired(&self, now: Moment) -> bool {
        let mono = now.mono.saturating_duration_since(self.heard.mono);
        let wall = now.wall.duration_since(self.heard.wall).unwrap_or_default();
        mono.max(wall) >= self.limit
    }

    /// When to look again. At least three looks per period, so that a machine that wakes up notices
    /// within a third of the limit rather than after all that was left of it.
    pub(crate) fn next_look(&self, now: Moment) -> Instant {
        (self.heard.mono + self.limit).min(now.mono + self.limit / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(45);

    fn start() -> Moment {
        Moment {
            mono: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        }
    }

    fn later(from: Moment, mono: u64, wall: u64) -> Moment {
        let secs = Duration::from_secs;
        Moment {
            mono: from.mono + secs(mono),
            wall: from.wall + secs(wall),
        }
    }

    #[test]
    fn silence_of_the_whole_limit_expires_and_a_byte_in_between_does_not() {
        let begin = start();
        let mut dog = Watchdog::new(LIMIT, begin);
        assert!(!dog.expired(later(begin, 44, 44)));
        assert!(dog.expired(later(begin, 45, 45)));
        dog.feed(later(begin, 30, 30));
        assert!(!dog.expired(later(begin, 74, 74)));
        assert!(dog.expired(later(begin, 75, 75)));
    }

    #[test]
    fn a_laptop_that_slept_an_hour_trips_it_at_the_next_look() {
        let begin = start();
        let dog = Watchdog::new(LIMIT, begin);
        assert!(dog.expired(later(begin, 1, 3600)));
        assert_eq!(dog.next_look(begin), begin.mono + LIMIT / 3);
    }

    #[test]
    fn a_wall_clock_set_back_does_no_harm() {
        let begin = start();
        let dog = Watchdog::new(LIMIT, begin);
        let back = Moment {
            mono: begin.mono + Duration::from_secs(10),
            wall: SystemTime::UNIX_EPOCH,
        };
        assert!(!dog.expired(back));
    }

    #[test]
    fn a_consumer_that_was_away_gets_a_fresh_period() {
        let begin = start();
        let mut dog = Watchdog::new(LIMIT, begin);
        dog.resume(later(begin, 600, 600));
        assert!(!dog.expired(later(begin, 644, 644)));
        assert_eq!(
            dog.next_look(later(begin, 640, 640)),
            begin.mono + Duration::from_secs(645)
        );
    }
}
