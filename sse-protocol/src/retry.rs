//! The `retry` field: how long a reader waits before it connects again.

use core::fmt;
use core::time::Duration;

/// The reconnection time a server asks of its readers, in whole milliseconds.
///
/// It is what the server *said*. What a client does with it is policy: clamp it, so that `retry: 0` is no
/// tight loop and a huge value does not park the reader for years.
///
/// ```
/// # use sse_protocol::Retry;
/// assert_eq!(Retry::parse(b"03000"), Some(Retry::from_millis(3000)));
/// assert_eq!(Retry::parse(b"3s"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retry(u64);

impl Retry {
    /// A reconnection time of `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The reconnection time in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The reconnection time as a [`Duration`].
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads the value of a `retry` field: one or more ASCII digits and nothing else.
    ///
    /// Leading zeros are fine; a number past `u64::MAX` saturates. `None` for anything else, and then the
    /// standard ignores the field.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let millis = value.iter().fold(0u64, |sum, digit| {
            sum.saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        });
        Some(Self(millis))
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whole milliseconds, rounded down; saturates at `u64::MAX` milliseconds.
impl From<Duration> for Retry {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Retry> for Duration {
    fn from(retry: Retry) -> Self {
        retry.as_duration()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_count() {
        for bad in ["", " 1", "1 ", "+1", "-1", "1000x", "1.5", "0x10", "١"] {
            assert_eq!(Retry::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_number_too_large_saturates() {
        assert_eq!(Retry::parse(b"18446744073709551615"), Some(Retry(u64::MAX)));
        assert_eq!(Retry::parse(b"18446744073709551616"), Some(Retry(u64::MAX)));
        assert_eq!(Retry::parse(&[b'9'; 400]), Some(Retry(u64::MAX)));
        assert_eq!(Retry::parse(&[b'0'; 400]), Some(Retry(0)));
    }
}
