//! Readers that insist on the same name: each would take it from the other for ever, at the pace of the least patient one.
//!
//! The pace is the hub's to set. A stream that is replaced is told to come back later each time; after a few times the
//! newcomer is refused, as long as the one that has the name is alive. When nobody has contended for a while, all is
//! forgotten.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sse_pool::ConnectionId;

/// How often one name has changed hands lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Contention {
    takeovers: u32,
    last: Option<Instant>,
}

impl Contention {
    /// A newer stream has the name; whether that is one time too many, for the first time.
    ///
    /// A reader that lost its line and comes back replaces its own old stream: that happens once, and not every few
    /// seconds.
    pub(super) fn taken_over(&mut self, now: Instant) -> bool {
        if self.is_over(now) {
            self.takeovers = 0;
        }
        self.last = Some(now);
        self.takeovers = self.takeovers.saturating_add(1);
        self.takeovers == MAX_TAKEOVERS
    }

    /// When a newcomer should come back, if it is not to have the name now.
    pub(super) fn refuses(&self, now: Instant) -> Option<Duration> {
        let is_refused = self.takeovers >= MAX_TAKEOVERS && !self.is_over(now);
        is_refused.then_some(CALM)
    }

    /// When the replaced stream should come back.
    pub(super) fn retry(&self, base: Duration) -> Duration {
        let factor = 1 << self.takeovers.min(MAX_DOUBLINGS);
        base.max(LEAST_RETRY).saturating_mul(factor).min(CALM)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.saturating_duration_since(last) >= CALM)
    }
}

/// Streams that were replaced, until they have been told when to come back.
#[derive(Debug, Default)]
pub(super) struct Replaced(VecDeque<(ConnectionId, Duration)>);

impl Replaced {
    pub(super) fn push(&mut self, connection: ConnectionId, retry: Duration) {
        if self.0.len() >= MAX_REPLACED {
            self.0.pop_front();
        }
        self.0.push_back((connection, retry));
    }

    pub(super) fn take(&mut self, connection: &ConnectionId) -> Option<Duration> {
        let at = self.0.iter().position(|(id, _)| id == connection)?;
        self.0.remove(at).map(|(_, retry)| retry)
    }
}

/// So often a name changes hands before newcomers are refused. A stated guess: more than a reader needs whose line breaks.
const MAX_TAKEOVERS: u32 = 5;
/// After so long without a takeover the past is forgotten, and no reader is sent away for longer.
const CALM: Duration = Duration::from_secs(60);
/// What the retry grows from where the configured one is shorter.
const LEAST_RETRY: Duration = Duration::from_secs(1);
/// The retry stops growing at a multiple of two to this.
const MAX_DOUBLINGS: u32 = 6;
/// Replaced streams that are remembered; one that is forgotten hears the usual retry.
const MAX_REPLACED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readers_that_insist_are_slowed_down_and_then_told_apart() {
        let (start, base) = (Instant::now(), Duration::from_secs(2));
        let mut contention = Contention::default();
        let mut retries = Vec::new();
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert_eq!(contention.refuses(now), None);
            assert_eq!(contention.taken_over(now), second == 4, "warned of once");
            retries.push(contention.retry(base).as_secs());
        }
        assert_eq!(retries, [4, 8, 16, 32, 60]);
        let now = start + Duration::from_secs(5);
        assert!(contention.refuses(now).is_some());
        assert_eq!(contention.refuses(now + CALM), None, "calm again");
        assert!(!contention.taken_over(now + CALM));
        assert_eq!(contention.retry(base).as_secs(), 4);
    }

    #[test]
    fn a_replaced_stream_is_told_once_and_few_are_remembered() {
        let id = |n: usize| format!("c{n}").parse::<ConnectionId>().unwrap();
        let mut replaced = Replaced::default();
        for n in 0..=MAX_REPLACED {
            replaced.push(id(n), Duration::from_secs(1));
        }
        assert_eq!(replaced.take(&id(0)), None);
        assert!(replaced.take(&id(1)).is_some());
        assert_eq!(replaced.take(&id(1)), None);
    }
}
