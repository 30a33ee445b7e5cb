//! The one file that reads a clock, or asks chance.
//!
//! Everything else takes both as arguments, so that every policy can be tested without waiting.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sse_broker::UnixMillis;

/// The monotonic time, for durations and deadlines.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for what people and other machines read.
///
/// A clock set before 1970 reads as 1970.
#[must_use]
pub fn unix_millis() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Both clocks, read together: what a writer of streams hands to all that is decided in one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For durations and deadlines.
    pub(crate) now: Instant,
    /// For what people and other machines read.
    pub(crate) unix_millis: UnixMillis,
}

impl Moment {
    /// The present one.
    pub(crate) fn read() -> Self {
        Self {
            now: now(),
            unix_millis: unix_millis(),
        }
    }
}

/// A number by chance, from 0 up to 1.
#[must_use]
pub fn chance() -> f64 {
    fastrand::f64()
}

/// Bytes that nobody can guess.
///
/// # Errors
///
/// When the system has none to give.
pub fn secret<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

/// `2024-01-15T10:30:00Z`: RFC 3339 in UTC, with milliseconds only where there are any.
#[must_use]
pub fn rfc3339(at: UnixMillis) -> String {
    let millis = i64::try_from(at).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: the time as HTTP headers have it.
#[must_use]
pub fn http_date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_705_314_600_000), "2024-01-15T10:30:00Z");
        assert_eq!(rfc3339(1_705_314_600_250), "2024-01-15T10:30:00.25Z");
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }
}
