//! A reader that wants its events together: at most one write in each interval.
//!
//! Its events keep their ids and types, so that it resumes, filters and listens like any other; they only share a write, and what a
//! write costs both sides. The first event after a pause does not wait.

use std::time::{Duration, Instant};

/// How a reader collects its events.
pub(super) struct Batching {
    interval: Duration,
    /// When events were last written, while more may be waiting behind them.
    written_at: Option<Instant>,
    not_before: Option<Instant>,
}

impl Batching {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            written_at: None,
            not_before: None,
        }
    }

    /// The next events are not looked for before.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    pub(super) fn has_written(&mut self, now: Instant) {
        self.written_at = Some(now);
    }

    /// It has been given everything that was there.
    pub(super) fn has_caught_up(&mut self) {
        if let Some(at) = self.written_at.take() {
            self.not_before = Some(at + self.interval);
        }
    }
}
