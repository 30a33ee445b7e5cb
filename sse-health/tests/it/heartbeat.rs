use std::time::{Duration, Instant};

use proptest::prelude::*;
use sse_health::{Heartbeat, HeartbeatCounters, HeartbeatFailure};

proptest! {
    #[test]
    fn a_heartbeat_is_never_late_and_never_much_too_early(
        interval_ms in 1000u64..600_000,
        jitter in -1.0f64..2.0,
        random in -1.0f64..2.0,
    ) {
        let heartbeat = Heartbeat::new(Duration::from_millis(interval_ms)).with_jitter(jitter);
        let last_write = Instant::now();
        let due = heartbeat.due(last_write, random) - last_write;
        prop_assert!(due <= heartbeat.interval());
        prop_assert!(due >= heartbeat.interval() / 2);
    }
}

#[test]
fn ten_thousand_connections_opened_together_do_not_beat_together() {
    let heartbeat = Heartbeat::default();
    let opened = Instant::now();
    let mut in_bucket = [0; 30];
    for n in 0..10_000 {
        // Evenly spread chance.
        let due = heartbeat.due(opened, f64::from(n) / 10_000.0) - opened;
        in_bucket[(due.as_millis() as usize - 27_000) / 101] += 1;
    }
    assert!(
        in_bucket.iter().all(|&beats| (200..450).contains(&beats)),
        "{in_bucket:?}"
    );
}

#[test]
fn the_customary_times_are_the_defaults() {
    let heartbeat = Heartbeat::default();
    assert_eq!(heartbeat.interval(), Duration::from_secs(30));
    assert_eq!(heartbeat.timeout(), Duration::from_secs(10));
    let sent = Instant::now();
    assert_eq!(heartbeat.dead_at(sent), sent + Duration::from_secs(10));
    assert_eq!(
        heartbeat.with_timeout(Duration::from_secs(5)).dead_at(sent),
        sent + Duration::from_secs(5)
    );
}

#[test]
fn senseless_settings_are_brought_into_range() {
    let now = Instant::now();
    assert_eq!(
        Heartbeat::new(Duration::ZERO).interval(),
        Heartbeat::MIN_INTERVAL
    );
    assert_eq!(
        Heartbeat::default().with_jitter(f64::NAN).due(now, 1.0),
        now + Duration::from_secs(30)
    );
    // An interval that no float can hold made the schedule panic once.
    assert_eq!(
        Heartbeat::new(Duration::MAX).due(now, 0.0),
        now + Heartbeat::MAX_INTERVAL
    );
    assert!(
        Heartbeat::default()
            .with_timeout(Duration::MAX)
            .dead_at(now)
            > now
    );
    assert!(Heartbeat::default().due(now, f64::NAN) > now);
}

#[test]
fn counters_count() {
    let counters = HeartbeatCounters::default();
    counters.record_sent(100);
    counters.record_sent(1);
    counters.record_failed(HeartbeatFailure::WriteFailed, 2);
    counters.record_failed(HeartbeatFailure::NeverAcknowledged, 1);
    let failures = counters.failures();
    assert_eq!((counters.sent(), failures.total()), (101, 3));
    let causes = HeartbeatFailure::ALL.map(|cause| (cause.name(), failures.of(cause)));
    assert_eq!(
        causes,
        [
            ("write_failed", 2),
            ("send_timeout", 0),
            ("never_acknowledged", 1)
        ]
    );
}
