//! The ranges that several sections check.

use std::time::Duration;

use super::{ConfigError, invalid};
use crate::units::{Size, Span};

/// A count that cannot be zero.
pub(super) fn at_least_one(
    option: &str,
    given: Option<usize>,
    default: usize,
) -> Result<usize, ConfigError> {
    match given {
        Some(0) => Err(invalid(format!("{option} must be at least 1"))),
        Some(n) => Ok(n),
        None => Ok(default),
    }
}

/// A size that cannot be zero.
pub(super) fn some_bytes(
    option: &str,
    given: Option<Size>,
    default: usize,
) -> Result<usize, ConfigError> {
    match given {
        Some(Size(0)) => Err(invalid(format!(
            "{option} must be at least 1 byte, for example 64KiB"
        ))),
        Some(size) => Ok(size.to_usize()),
        None => Ok(default),
    }
}

/// A duration that cannot be zero.
pub(super) fn some_time(
    option: &str,
    given: Option<Span>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    match given {
        Some(span) if span.0.is_zero() => Err(invalid(format!(
            "{option} must be longer than 0, for example 30s"
        ))),
        Some(span) => Ok(span.0),
        None => Ok(default),
    }
}
