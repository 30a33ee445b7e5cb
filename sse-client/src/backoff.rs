//! How long to wait before the next attempt.
//!
//! A server that restarts drops all its clients at the same instant. If each of them comes back after the same
//! delay, they all arrive at the same instant again. So every delay is drawn from a range, **the first one
//! included**, and the range grows while attempts keep failing.
//!
//! How wide the range is depends on the [mode](crate::Mode). The resilient mode has *full jitter*: from a small floor
//! up to the whole delay. The standard mode stays within a tenth of the reconnection time, as a browser does.
//!
//! The server's own words bound the range from below: `Retry-After` always, `retry:` in the resilient mode (in the
//! standard mode it is the middle of the range). Both are clamped first, so that `retry: 0` does not become a tight
//! loop and `retry: 99999999999` does not park the client for years.
//!
//! Nothing here knows a clock or a random source: the draw is an argument.

use std::time::Duration;

/// When and how often a client tries again.
///
/// The defaults are those of the resilient mode: full jitter up to 1 s, 2 s, 4 s … 30 s, without end.
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
    pub(crate) spread: Spread,
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

/// How far apart the delays of many clients lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// From a small floor, or from what the server asked for, up to the whole delay.
    Full,
    /// A tenth around the delay.
    Tenth,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            spread: Spread::Full,
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

    /// The policy of a browser's `EventSource`: a reconnection time of 3 s until the server says otherwise, within
    /// a tenth of it after a stream ended, and twice as long after each attempt that did not open a stream, as
    /// the standard allows.
    pub fn standard() -> Self {
        Self {
            default_retry: Some(STANDARD_RETRY),
            spread: Spread::Tenth,
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

    /// The longest `Retry-After` that is believed; a longer one counts as this. Default 24 h.
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
    /// A 200 alone does not count: a server that accepts and drops at once would be stormed.
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
    /// `failures` counts the failures that double it (0 for the first), `retry` is the server's reconnection time,
    /// already clamped, `retry_after` that of a refusal, and `chance` the draw, in `0.0..1.0`.
    ///
    /// No delay is below `retry_after`, up to its ceiling.
    pub(crate) fn delay(
        &self,
        failures: u32,
        retry: Option<Duration>,
        retry_after: Option<Duration>,
        chance: f64,
    ) -> Duration {
        let after = retry_after.unwrap_or_default();
        let after = after.min(self.retry_after_ceiling);
        let (low, high) = match self.spread {
            Spread::Full => self.full(failures, retry.or(self.default_retry), after),
            Spread::Tenth => self.tenth(failures, retry.or(self.default_retry), after),
        };
        low + (high - low).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// From what the server asked for, or else a small floor, up to the doubled delay. At least half of what the
    /// server asked for is left as room to spread.
    fn full(
        &self,
        failures: u32,
        retry: Option<Duration>,
        after: Duration,
    ) -> (Duration, Duration) {
        let asked = retry.unwrap_or_default().max(after);
        let first = retry.map_or(self.initial_delay, |retry| retry + retry / 2);
        let high = self.doubled(first, failures).max(asked + asked / 2);
        let low = asked.max(DELAY_FLOOR.min(high / 10));
        (low, high)
    }

    /// A tenth to either side of the doubled delay, but not below `after`.
    fn tenth(
        &self,
        failures: u32,
        retry: Option<Duration>,
        after: Duration,
    ) -> (Duration, Duration) {
        let first = retry.unwrap_or(self.initial_delay);
        let middle = self.doubled(first, failures).max(first);
        let low = (middle - middle / 10).max(after);
        let high = (middle + middle / 10).max(after + after / 10);
        (low, high)
    }

    /// `first`, doubled with each failure, up to the longest delay.
    fn doubled(&self, first: Duration, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        first.saturating_mul(factor).min(self.max_delay)
    }
}

/// The figures of the browser client that this project replaces: 1 s, doubled up to 30 s.
const INITIAL_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Below this a broken server can make its clients hammer it; a stated guess.
const RETRY_FLOOR: Duration = Duration::from_millis(250);
/// Above this a server could park its clients; a stated guess.
const RETRY_CEILING: Duration = Duration::from_secs(600);
/// A daily quota asks for no longer than a day; a stated guess.
const RETRY_AFTER_CEILING: Duration = Duration::from_secs(24 * 3600);
/// Short enough that nobody notices, long enough that a draw of almost nothing is not a tight loop; a stated guess.
/// Never more than a tenth of the range.
const DELAY_FLOOR: Duration = Duration::from_millis(100);
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
        for failures in [0, 3, 200] {
            assert_eq!(policy.delay(failures, None, None, 0.0), DELAY_FLOOR);
        }
        assert_eq!(
            policy.delay(0, None, None, 0.5),
            MS(550),
            "the first retry is drawn too, and uniformly"
        );
        let quick = ReconnectPolicy::default().initial_delay(MS(50));
        assert_eq!(
            [0.0, 1.0].map(|chance| quick.delay(0, None, None, chance)),
            [MS(5), MS(50)],
            "the floor leaves a short delay its range"
        );
    }

    #[test]
    fn the_standard_mode_stays_within_a_tenth_of_the_reconnection_time() {
        let policy = ReconnectPolicy::standard();
        let ends = |failures, retry: Option<u64>, after: Option<u64>| {
            [0.0, 0.5, 1.0].map(|chance| {
                let delay = policy.delay(failures, retry.map(MS), after.map(MS), chance);
                u64::try_from(delay.as_millis()).unwrap()
            })
        };
        assert_eq!(ends(0, Some(3000), None), [2700, 3000, 3300]);
        assert_eq!(ends(0, Some(500), None), [450, 500, 550]);
        assert_eq!(ends(0, None, None), [2700, 3000, 3300], "until it says so");
        assert_eq!(ends(2, Some(3000), None), [10_800, 12_000, 13_200]);
        assert_eq!(ends(9, Some(3000), None), [27_000, 30_000, 33_000]);
        assert_eq!(
            ends(9, Some(60_000), None),
            [54_000, 60_000, 66_000],
            "beyond the longest delay"
        );
        assert_eq!(
            ends(0, Some(3000), Some(3200)),
            [3200, 3360, 3520],
            "never before Retry-After"
        );
        assert_eq!(ends(0, Some(3000), Some(10_000)), [10_000, 10_500, 11_000]);
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
        let day = MS(24 * 3600 * 1000);
        assert_eq!(policy.delay(0, None, Some(day), 0.0), day);
        let years = Duration::from_secs(u64::MAX / 4);
        assert_eq!(policy.delay(0, None, Some(years), 0.0), RETRY_AFTER_CEILING);
    }

    proptest! {
        #[test]
        fn no_draw_is_below_what_was_asked_or_above_what_is_allowed(
            failures in 0u32..200,
            retry in proptest::option::of(0u64..10_000_000),
            after in proptest::option::of(0u64..100_000_000),
            chance in 0.0f64..1.0,
        ) {
            let policy = ReconnectPolicy::default();
            let retry = retry.map(|ms| policy.clamp_retry(MS(ms)));
            let after = after.map(MS);
            let delay = policy.delay(failures, retry, after, chance);
            let asked = after.unwrap_or_default().min(RETRY_AFTER_CEILING);
            let low = retry.unwrap_or_default().max(asked);
            prop_assert!(delay >= low.max(DELAY_FLOOR));
            prop_assert!(delay <= MAX_DELAY.max(low + low / 2));

            let delay = ReconnectPolicy::standard().delay(failures, retry, after, chance);
            let first = retry.unwrap_or(STANDARD_RETRY);
            prop_assert!(delay >= asked.max(first - first / 10));
            let longest = MAX_DELAY.max(first);
            prop_assert!(delay <= (longest + longest / 10).max(asked + asked / 10));
        }
    }
}
