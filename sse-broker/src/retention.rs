//! How long the log remembers.

use std::time::Duration;

use crate::{Offset, UnixMillis};

/// How long records are kept: as long as every bound that is set allows.
///
/// Trimming takes the oldest records first and so only ever moves the log's floor upwards; what was
/// trimmed is a gap that is announced, never a hole. Bounds by count and bytes are kept as records
/// arrive and always leave the newest record; the bound by age is kept by
/// [`Broker::trim`](crate::Broker::trim), which is told the time. The default is 7 days and 1 GiB.
///
/// More bounds will come (by topic pattern, newest per topic): build it by
/// `Retention { max_bytes: Some(…), ..Retention::default() }`.
///
/// ```
/// # use std::time::Duration;
/// # use sse_broker::Retention;
/// let an_hour = Retention { max_age: Some(Duration::from_secs(3600)), ..Retention::default() };
/// assert_eq!(an_hour.max_bytes, Some(1 << 30));
/// assert_eq!(Retention::UNBOUNDED.max_age, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old a record may become, by its [`published_at`](crate::NewRecord::published_at).
    pub max_age: Option<Duration>,
    /// How many records are kept.
    pub max_records: Option<u64>,
    /// How many bytes the kept records may weigh, by [`NewRecord::weight_bytes`](crate::NewRecord::weight_bytes).
    pub max_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: Some(DEFAULT_MAX_AGE),
            max_records: None,
            max_bytes: Some(DEFAULT_MAX_BYTES),
        }
    }
}

impl Retention {
    /// Keeps everything.
    pub const UNBOUNDED: Self = Self {
        max_age: None,
        max_records: None,
        max_bytes: None,
    };

    /// Whether a log of so many records and bytes holds too much. The newest record is never too much.
    pub(crate) fn is_over(&self, records: u64, bytes: u64) -> bool {
        records > 1
            && (self.max_records.is_some_and(|max| records > max)
                || self.max_bytes.is_some_and(|max| bytes > max))
    }

    /// The newest publication time that is too old at `now`: everything up to it may go.
    pub(crate) fn too_old_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        let max_age = u64::try_from(self.max_age?.as_millis()).unwrap_or(u64::MAX);
        now.checked_sub(max_age)
    }
}

/// What a call of [`Broker::trim`](crate::Broker::trim) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// How many records went.
    pub records: u64,
    /// The log's floor afterwards: everything up to it is gone.
    pub floor: Offset,
}

/// Seven days: long enough for a weekend and a holiday. A stated guess.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One GiB: small beside any disk, and some five million events of 150 bytes. A stated guess.
const DEFAULT_MAX_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_record_is_kept_however_large_it_is() {
        let retention = Retention {
            max_bytes: Some(10),
            ..Retention::UNBOUNDED
        };
        assert!(!retention.is_over(1, 1_000));
        assert!(retention.is_over(2, 1_000));
        assert!(!retention.is_over(2, 10));
    }

    #[test]
    fn an_age_greater_than_the_clock_trims_nothing() {
        let retention = Retention {
            max_age: Some(Duration::MAX),
            ..Retention::UNBOUNDED
        };
        assert_eq!(retention.too_old_at(u64::MAX), Some(0));
        assert_eq!(Retention::default().too_old_at(1_000), None);
        assert_eq!(Retention::UNBOUNDED.too_old_at(u64::MAX), None);
    }
}
