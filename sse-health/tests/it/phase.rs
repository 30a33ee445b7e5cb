use std::time::{Duration, Instant};

use proptest::prelude::*;
use sse_health::Phase;

const WINDOW: Duration = Phase::DEFAULT_DRAIN_WINDOW;

#[test]
fn a_server_serves_then_drains_then_is_drained() {
    let now = Instant::now();
    let mut phase = Phase::default();
    assert_eq!((phase.poll_timeout(), phase.is_ready()), (None, true));
    phase.handle_timeout(now + WINDOW);
    phase.handle_empty();
    assert_eq!(phase, Phase::Serving);

    phase.drain(now, WINDOW);
    assert_eq!(phase.poll_timeout(), Some(now + WINDOW));
    assert!(phase.is_live() && !phase.is_ready());

    // A second signal does not prolong it.
    phase.drain(now + Duration::from_secs(10), WINDOW);
    assert_eq!(phase.poll_timeout(), Some(now + WINDOW));

    phase.handle_timeout(now + WINDOW - Duration::from_nanos(1));
    assert_eq!(phase.name(), "draining");
    phase.handle_timeout(now + WINDOW);
    assert_eq!((phase, phase.poll_timeout()), (Phase::Drained, None));
    assert!(phase.is_live() && !phase.is_ready());

    phase.drain(now, WINDOW);
    assert_eq!(phase, Phase::Drained);
}

#[test]
fn a_drain_ends_early_when_everybody_has_left() {
    let mut phase = Phase::default();
    phase.drain(Instant::now(), WINDOW);
    phase.handle_empty();
    assert_eq!(phase, Phase::Drained);
}

#[test]
fn a_drain_without_a_window_sends_all_away_at_once() {
    let now = Instant::now();
    let mut phase = Phase::default();
    phase.drain(now, Duration::ZERO);
    assert_eq!(phase.leavers_due(1000, now), 1000);
    phase.handle_timeout(now);
    assert_eq!(phase, Phase::Drained);
}

#[test]
fn an_endless_window_does_not_overflow() {
    let now = Instant::now();
    let mut phase = Phase::default();
    phase.drain(now, Duration::MAX);
    assert!(!phase.is_ready());
}

proptest! {
    #[test]
    fn readers_leave_evenly_and_all_of_them(total in 0usize..100_000, mut ats in prop::collection::vec(0u64..40_000, 1..50)) {
        let now = Instant::now();
        let mut phase = Phase::default();
        prop_assert_eq!(phase.leavers_due(total, now), 0);
        phase.drain(now, WINDOW);
        ats.sort_unstable();
        let mut before = 0;
        for at in ats {
            let due = phase.leavers_due(total, now + Duration::from_millis(at));
            prop_assert!(due >= before && due <= total);
            let even = total as f64 * (at as f64 / 30_000.0).min(1.0);
            prop_assert!((due as f64 - even).abs() <= 1.0, "{due} for {even}");
            before = due;
        }
        prop_assert_eq!(phase.leavers_due(total, now + WINDOW), total);
    }
}
