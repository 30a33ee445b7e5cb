//! What a sweep has done.

use crate::ConnectionId;

/// What a [sweep](crate::Pool::sweep) has closed, and what it has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepOutcome {
    /// Those that owed progress for the send timeout.
    pub stalled: Vec<ConnectionId>,
    /// Those on which nothing happened for the idle timeout.
    pub idle: Vec<ConnectionId>,
    /// How many entries of the window the slowest reader had yet to look at, those that were closed included;
    /// the greatest [`behind_entries`](crate::ConnectionStatus::behind_entries).
    ///
    /// Beside [`window_entries`](crate::Stats::window_entries) it says how full the fullest "queue" is: when
    /// the two are equal, that reader is about to lag, or does.
    pub most_behind_entries: usize,
    /// The same for the typical reader: half of them had as many to look at, or more. Zero below three readers.
    pub typically_behind_entries: usize,
}

impl SweepOutcome {
    /// How many were closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stalled.len() + self.idle.len()
    }

    /// Whether none was closed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
