//! What a sweep has done.

use crate::ConnectionId;

/// The connections a [sweep](crate::Pool::sweep) has closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Those that owed progress for the send timeout.
    pub stalled: Vec<ConnectionId>,
    /// Those on which nothing happened for the idle timeout.
    pub idle: Vec<ConnectionId>,
}

impl Swept {
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
