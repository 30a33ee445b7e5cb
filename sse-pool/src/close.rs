//! Why a connection ended.

use std::fmt;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The other side went away: its [`Connection`](crate::Connection) was dropped without being closed.
    Client,
    /// It was closed on request.
    Server,
    /// Nothing happened on it for the idle timeout.
    Idle,
    /// It had something to read and made no progress for the send timeout.
    Stalled,
    /// It fell behind what is still kept, and the policy is to let such readers go.
    Lagged,
    /// A newer connection of the same name took its place.
    Replaced,
    /// What proved its rights has run out.
    Expired,
    /// Its rights were taken away.
    Revoked,
    /// This node is leaving; the reader should come back to another.
    Draining,
    /// This node is ending now.
    Shutdown,
}

impl CloseReason {
    /// Every reason, in a fixed order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Client,
        Self::Server,
        Self::Idle,
        Self::Stalled,
        Self::Lagged,
        Self::Replaced,
        Self::Expired,
        Self::Revoked,
        Self::Draining,
        Self::Shutdown,
    ];

    pub(crate) const COUNT: usize = 10;

    /// The reason as one lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Lagged => "lagged",
            Self::Replaced => "replaced",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Draining => "draining",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether the pool let the reader go against its will and ours: it was idle, stalled or lagged.
    #[must_use]
    pub const fn is_eviction(self) -> bool {
        matches!(self, Self::Idle | Self::Stalled | Self::Lagged)
    }

    /// The place of this reason in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_index() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
