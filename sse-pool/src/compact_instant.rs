//! An instant in half the bytes of an `Instant`, of which every reader keeps one.

use std::time::{Duration, Instant};

/// Nanoseconds since an [`Origin`], or before it: 292 years each way, beyond which time stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CompactInstant(i64);

/// What compact instants are counted from: the first `now` that was given, whatever it was.
///
/// The pool reads no clock, so it has no better one; and as an instant may be before it, none is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(Instant);

impl Origin {
    pub(crate) const fn new(now: Instant) -> Self {
        Self(now)
    }

    pub(crate) fn compact(self, at: Instant) -> CompactInstant {
        CompactInstant(match at.checked_duration_since(self.0) {
            Some(after) => nanos(after),
            None => -nanos(self.0.saturating_duration_since(at)),
        })
    }

    pub(crate) fn instant(self, compact: CompactInstant) -> Instant {
        let span = Duration::from_nanos(compact.0.unsigned_abs());
        let at = match compact.0 {
            0.. => self.0.checked_add(span),
            _ => self.0.checked_sub(span),
        };
        at.unwrap_or(self.0)
    }
}

impl CompactInstant {
    /// How long this is after `earlier`; zero when it is before.
    pub(crate) fn saturating_since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

/// As many as fit, in 64-bit arithmetic: `Duration::as_nanos` is twice as wide, and this is in every read.
fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000)
        .saturating_add(span.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Up to two centuries, in nanoseconds.
    const FAR: u64 = 200 * 365 * 86_400 * 1_000_000_000;

    proptest! {
        #[test]
        fn compact_instants_are_instants_to_the_nanosecond(
            origin in 0..FAR / 2, one in 0..FAR / 2, other in 0..FAR / 2,
        ) {
            let epoch = Instant::now();
            let [origin, one, other] = [origin, one, other].map(|n| epoch + Duration::from_nanos(n));
            let origin = Origin::new(origin);
            let [first, second] = [one, other].map(|at| origin.compact(at));
            prop_assert_eq!(origin.instant(first), one);
            prop_assert_eq!(first.cmp(&second), one.cmp(&other));
            prop_assert_eq!(
                first.saturating_since(second),
                one.saturating_duration_since(other)
            );
        }
    }

    #[test]
    fn time_stands_still_beyond_the_range_instead_of_turning_round() {
        let now = Instant::now();
        let Some(far) = now.checked_add(Duration::from_secs(400 * 365 * 86_400)) else {
            panic!("this platform's instants reach four centuries");
        };
        assert!(Origin::new(now).compact(far) > Origin::new(now).compact(now));
        assert!(Origin::new(far).compact(now) < Origin::new(far).compact(far));
        assert_eq!(
            Origin::new(far)
                .compact(now)
                .saturating_since(Origin::new(now).compact(far)),
            Duration::ZERO
        );
    }
}
