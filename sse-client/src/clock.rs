//! The one place that reads the clocks. The monotonic one is tokio's, so that tests can pause it.

use std::time::{Instant, SystemTime};

use crate::watchdog::Moment;

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// `mono`, and the wall clock beside it.
pub(crate) fn moment(mono: Instant) -> Moment {
    Moment {
        mono,
        wall: SystemTime::now(),
    }
}
