//! How long to wait before the next attempt.
//!
//! A server that restarts drops all its readers in the same instant. If each of them comes back after
//! the same delay, the server meets them all in the same instant again. So every delay here is drawn
//! from a range, **the first one included**, and the range grows while attempts keep failing.
//!
//! What the server says is a lower bound and never shortened: its `retry:` field, and the `Retry-After`
//! of a refusal. The draw goes on top of it. Both are clamped first, so that `retry: 0` is no tight loop
//! and `retry: 99999999999` does not park the client for years.
//!
//! Nothing here knows a clock or a random source: the draw is an argument.

use std::time::Duration;

/// When and how often a client tries again.
///
/// The defaults are those of the resilient mode: full jitter under 1 s, 2 s, 4 s … 30 s, without end.
///
/// ```
/// use std::time::Duration;
/// use sse_client::ReconnectPolicy;
///
/// let patient = ReconnectPolicy::default().max_delay(Duration::from_secs(300));
/// let once = ReconnectPolicy::never();
/// assert_ne!(patient, once);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReconnectPolicy {
    pub(crate) enabled: bool,
    pub(crate) initial_delay: Duration,
    pub(crate) max_delay: Duration,
    pub(crate) retry_floor: Duration,
    pub(crate) retry_ceiling: Duration,
    pub(crate) retry_after_ceiling: Duration,
    pub(crate) default_retry: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) max_elapsed: Option<Duration>,
    pub(crate) proven_after: Duration,
    pub(crate) proven_events: u32,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_delay: INITIAL_DELAY,
            max_delay: MAX_DELAY,
            retry_floor: RETRY_FLOOR,
            retry_ceiling: RETRY_CEILING,
            retry_after_ceiling: RETRY_AFTER_CEILING,
            default_retry: None,
            max_attempts: None,
            max_elapsed: None,
            proven_after: PROVEN_AFTER,
            proven_events: PROVEN_EVENTS,
        }
    }
}

impl ReconnectPolicy {
    /// Never reconnects: the source ends with the first connection, or with the first failure.
    pub fn never() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }

    /// The policy of a browser's `EventSource`: a reconnection time of 3 s until the server says
    /// otherwise, with jitter and growth on top, which the standard allows.
    pub fn standard() -> Self {
        Self {
            default_retry: Some(STANDARD_RETRY),
            ..Self::default()
        }
    }

    /// The upper end of the first draw, and what doubles with each failure. Default 1 s.
    pub fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// The upper end of any draw, unless the server itself asks for more. Default 30 s.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Clamps what the `retry:` field may ask for. Default 250 ms to 10 min.
    ///
    /// # Panics
    ///
    /// When `floor` is greater than `ceiling`.
    pub fn retry_bounds(mut self, floor: Duration, ceiling: Duration) -> Self {
        assert!(
            floor <= ceiling,
            "the floor of `retry` lies above its ceiling"
        );
        self.retry_floor = floor;
        self.retry_ceiling = ceiling;
        self
    }

    /// The longest `Retry-After` that is believed. Default 1 h.
    pub fn retry_after_ceiling(mut self, ceiling: Duration) -> Self {
        self.retry_after_ceiling = ceiling;
        self
    }

    /// Gives up after this many attempts in a row of which none led to a [proven](Self::proven_after)
    /// connection. The first attempt counts. Default: no limit.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Gives up when the next attempt would begin later than this after the trouble began.
    /// Default: no limit.
    pub fn max_elapsed(mut self, limit: Duration) -> Self {
        self.max_elapsed = Some(limit);
        self
    }

    /// How long a connection must stand before it counts as good, so that the delays and the count of
    /// attempts begin anew. Default 10 s.
    ///
    /// Not the 200 is what counts: a server that accepts and drops at once would be stormed.
    pub fn proven_after(mut self, standing: Duration) -> Self {
        self.proven_after = standing;
        self
    }

    /// How many events also prove a connection, however short it was. Default 16.
    pub fn proven_events(mut self, events: u32) -> Self {
        self.proven_events = events;
        self
    }

    /// What a `retry:` field of that many milliseconds means under this policy.
    pub(crate) fn clamp_retry(&self, asked: Duration) -> Duration {
        asked.clamp(self.retry_floor, self.retry_ceiling)
    }

    /// Draws the delay before the next attempt.
    ///
    /// `failures` counts attempts in a row without a proven connection (0 after a good one ended),
    /// `retry` is the server's reconnection time, already clamped, `retry_after` that of a refusal, and
    /// `chance` the draw, in `0.0..1.0`.
    ///
    /// The range begins at what the server asked for, or at 0 when it asked for nothing. It ends at the
    /// doubled delay, but leaves at least half of the lower bound as room to spread.
    pub(crate) fn delay(
        &self,
        failures: u32,
        retry: Option<Duration>,
        retry_after: Option<Duration>,
        chance: f64,
    ) -> Duration {
        let retry = retry.or(self.default_retry);
        let after = retry_after.map(|after| after.min(self.retry_after_ceiling));
        let low = retry.unwrap_or_default().max(after.unwrap_or_default());
        let base = retry.map_or(self.initial_delay, |retry| retry + retry / 2);
        let doubled = base.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX));
        let high = doubled.min(self.max_delay).max(low + low / 2);
        low + (high - low).mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// Document figures of the browser client this project replaces: 1 s, doubled up to 30 s.
const INITIAL_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Below this a broken server can make its clients hammer it; a stated guess.
const RETRY_FLOOR: Duration = Duration::from_millis(250);
/// Above this a server could park its clients; a stated guess.
const RETRY_CEILING: Duration = Duration::from_secs(600);
/// An hour is the longest maintenance window worth waiting for without asking again; a stated guess.
const RETRY_AFTER_CEILING: Duration = Duration::from_secs(3600);
/// Browsers start between 2 s and 5 s; the standard says "probably in the region of a few seconds".
const STANDARD_RETRY: Duration = Duration::from_secs(3);
/// Longer than a load balancer takes to notice a backend that accepts and drops; a stated guess.
const PROVEN_AFTER: Duration = Duration::from_secs(10);
/// More than the greeting a server sends before it has done any work; a stated guess.
const PROVEN_EVENTS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn without_a_word_from_the_server_the_jitter_is_full_and_doubles_up_to_thirty_seconds() {
        let policy = ReconnectPolicy::default();
        let tops: Vec<_> = (0..8)
            .map(|n| policy.delay(n, None, None, 1.0).as_secs())
            .collect();
        assert_eq!(tops, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(policy.delay(3, None, None, 0.0), Duration::ZERO);
        assert_eq!(
            policy.delay(0, None, None, 0.5),
            MS(500),
            "the first retry is drawn too"
        );
    }

    #[test]
    fn the_servers_retry_is_a_lower_bound_with_half_as_much_jitter_on_top() {
        let policy = ReconnectPolicy::default();
        assert_eq!(policy.delay(0, Some(MS(4000)), None, 0.0), MS(4000));
        assert_eq!(policy.delay(0, Some(MS(4000)), None, 1.0), MS(6000));
        assert_eq!(policy.delay(1, Some(MS(4000)), None, 1.0), MS(12000));
        assert_eq!(policy.delay(9, Some(MS(4000)), None, 1.0), MS(30000));
        assert_eq!(
            policy.delay(0, Some(MS(60000)), None, 1.0),
            MS(90000),
            "beyond the maximum"
        );
    }

    #[test]
    fn a_retry_field_is_clamped_between_floor_and_ceiling() {
        let policy = ReconnectPolicy::default();
        assert_eq!(policy.clamp_retry(MS(0)), RETRY_FLOOR);
        assert_eq!(policy.clamp_retry(MS(u64::MAX)), RETRY_CEILING);
        assert_eq!(policy.clamp_retry(MS(5000)), MS(5000));
    }

    #[test]
    fn retry_after_is_obeyed_and_spread_but_not_for_years() {
        let policy = ReconnectPolicy::default();
        assert_eq!(policy.delay(0, None, Some(MS(10_000)), 0.0), MS(10_000));
        assert_eq!(policy.delay(0, None, Some(MS(10_000)), 1.0), MS(15_000));
        let years = Duration::from_secs(u64::MAX / 4);
        assert_eq!(policy.delay(0, None, Some(years), 0.0), RETRY_AFTER_CEILING);
    }

    proptest! {
        #[test]
        fn no_draw_is_below_what_was_asked_or_above_what_is_allowed(
            failures in 0u32..200,
            retry in proptest::option::of(0u64..10_000_000),
            after in proptest::option::of(0u64..10_000_000),
            chance in 0.0f64..1.0,
        ) {
            let policy = ReconnectPolicy::default();
            let retry = retry.map(|ms| policy.clamp_retry(MS(ms)));
            let after = after.map(MS);
            let delay = policy.delay(failures, retry, after, chance);
            let low = retry.unwrap_or_default().max(after.unwrap_or_default().min(RETRY_AFTER_CEILING));
            prop_assert!(delay >= low);
            prop_assert!(delay <= MAX_DELAY.max(low + low / 2));
        }
    }
}
