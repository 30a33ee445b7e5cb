//! Attempts in a row: how many led to nothing good, since when, and how much that stretches the delay.

use std::time::Instant;

/// The failures since a connection proved good.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Attempts that led to nothing that proved good.
    failures: u32,
    /// Attempts that opened no stream, or only one with a setback.
    unopened: u32,
    /// How many failures before the latest one double the delay, by either count.
    growth: u32,
    unopened_growth: u32,
    /// Failures of the stream alone: answered polls do not excuse it.
    stream_failures: u32,
    /// When the first of them failed.
    since: Option<Instant>,
    /// The latest connection ended with a setback.
    after_setback: bool,
}

/// How a connection stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stood {
    /// There was none.
    Not,
    /// It refused in-band or brought an event over the limit, and nothing after that.
    Setback,
    /// A stream was opened, which proves nothing.
    Briefly,
    /// Long enough, or with enough events, to be called good.
    Proven,
}

/// How events are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// By the event stream.
    Stream,
    /// By long polling, because streams keep failing.
    Poll,
}

impl Row {
    /// How many attempts have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// How many streams have failed.
    pub(crate) fn stream_failures(&self) -> u32 {
        self.stream_failures
    }

    /// How often the delay after the latest failure is doubled.
    pub(crate) fn growth(&self) -> u32 {
        self.growth
    }

    /// The same by the standard, which asks for more patience "if the previous attempt failed": a stream that ends is
    /// not a failed attempt.
    pub(crate) fn unopened_growth(&self) -> u32 {
        self.unopened_growth
    }

    /// Counts a failure at `now`, and says when the trouble began.
    pub(crate) fn fail(&mut self, stood: Stood, via: Via, now: Instant) -> Instant {
        if stood == Stood::Proven {
            // Nothing has failed yet: the next attempt is the first of a new row.
            *self = Self::default();
        } else {
            self.growth = self.failures;
            self.failures = self.failures.saturating_add(1);
            if via == Via::Stream {
                self.stream_failures = self.stream_failures.saturating_add(1);
            }
        }
        self.after_setback = stood == Stood::Setback;
        if matches!(stood, Stood::Not | Stood::Setback) {
            self.unopened_growth = self.unopened;
            self.unopened = self.unopened.saturating_add(1);
        } else {
            self.unopened_growth = 0;
            self.unopened = 0;
        }
        *self.since.get_or_insert(now)
    }

    /// A connection has a setback that had proved good before it. The first one begins a new row; those that follow it
    /// at once count on, or each would be the first.
    pub(crate) fn proved_before_setback(&mut self) {
        if !self.after_setback {
            *self = Self::default();
        }
    }

    /// A poll was answered.
    pub(crate) fn polled(&mut self) {
        *self = Self {
            stream_failures: self.stream_failures,
            ..Self::default()
        };
    }

    /// The stream has failed at least so often, or is refused for good.
    pub(crate) fn give_up_stream(&mut self, failures: u32) {
        self.stream_failures = self.stream_failures.max(failures);
    }
}
