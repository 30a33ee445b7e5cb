//! A rate: so many in so much time, and so many at once.

use std::fmt;
use std::time::Duration;

/// So many in so much time, and so many at once after a pause.
///
/// ```
/// # use std::time::Duration;
/// # use sse_server::access::Rate;
/// let rate = Rate::new(100, Duration::from_secs(1), 1000)?;
/// assert_eq!(rate.to_string(), "100 a second, and 1000 at once");
/// # Ok::<(), sse_server::access::InvalidRate>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    per: Duration,
    burst: u64,
    /// The time that one of them takes, in ticks.
    ticks_each: u64,
}

/// Why a rate cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRate {
    /// It allows nothing.
    #[error("must allow at least 1, and at least 1 at once")]
    Zero,
    /// It allows so many that it is no limit.
    #[error("is more than {MAX_PER_SECOND} a second, which is no limit; leave it out")]
    TooFast,
    /// So many at once are more than the rate allows in a month.
    #[error(
        "lets more through at once than it does in 30 days; write a smaller number behind the colon"
    )]
    BurstTooLarge,
}

impl Rate {
    /// `count` in each `per`, and `burst` at once.
    ///
    /// # Errors
    ///
    /// See [`InvalidRate`].
    pub fn new(count: u64, per: Duration, burst: u64) -> Result<Self, InvalidRate> {
        let each = ticks(per).checked_div(count).ok_or(InvalidRate::Zero)?;
        if burst == 0 {
            return Err(InvalidRate::Zero);
        }
        if each < TICKS_PER_SECOND / MAX_PER_SECOND {
            return Err(InvalidRate::TooFast);
        }
        if each.saturating_mul(burst) > ticks(MAX_BURST) {
            return Err(InvalidRate::BurstTooLarge);
        }
        Ok(Self {
            count,
            per,
            burst,
            ticks_each: each,
        })
    }

    /// How many are let through at once.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// How many a second, on average.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.per.as_secs_f64()
    }

    /// The time that so many take; longer than [`burst_ticks`](Self::burst_ticks) for more than are let through at once.
    pub(super) fn ticks_of(&self, amount: u64) -> u64 {
        self.ticks_each.saturating_mul(amount)
    }

    /// The time that those take which are let through at once.
    pub(super) fn burst_ticks(&self) -> u64 {
        self.ticks_of(self.burst)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, burst, .. } = self;
        match self.per.as_secs() {
            1 => write!(f, "{count} a second, and {burst} at once"),
            60 => write!(f, "{count} a minute, and {burst} at once"),
            3600 => write!(f, "{count} an hour, and {burst} at once"),
            seconds => write!(f, "{count} in {seconds} seconds, and {burst} at once"),
        }
    }
}

/// A duration in ticks, which reach for 36 years.
pub(super) fn ticks(duration: Duration) -> u64 {
    let ticks = duration
        .as_nanos()
        .saturating_mul(TICKS_PER_NANOSECOND.into());
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Ticks in whole seconds, and one more for what is left.
pub(super) fn whole_seconds(ticks: u64) -> Duration {
    Duration::from_secs(ticks.div_ceil(TICKS_PER_SECOND).max(1))
}

/// So fine that a byte of the fastest rate has a whole number of them. At 100 MiB a second rounding lets 0.4 % more through.
const TICKS_PER_NANOSECOND: u64 = 16;
const TICKS_PER_SECOND: u64 = TICKS_PER_NANOSECOND * 1_000_000_000;
/// Faster than one machine is.
const MAX_PER_SECOND: u64 = 1_000_000_000;
/// Keeps the arithmetic far from its end. A stated guess: nobody means more.
const MAX_BURST: Duration = Duration::from_secs(30 * 24 * 3600);
