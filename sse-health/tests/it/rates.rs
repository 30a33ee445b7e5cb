use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use sse_health::{SlidingCounter, Traffic, TrafficSummary};

proptest! {
    #[test]
    fn the_last_minute_is_whole_and_at_most_five_seconds_more(
        gaps in prop::collection::vec((0u64..20_000, 0u32..1000), 1..200),
    ) {
        let start = Instant::now();
        let counter = SlidingCounter::new(start);
        let mut now = start;
        let mut added = Vec::new();
        for (gap, n) in gaps {
            now += Duration::from_millis(gap);
            counter.add(n, now);
            added.push((now, u64::from(n)));
            let within = |seconds: u64| -> u64 {
                let window = Duration::from_secs(seconds);
                added.iter().filter(|(at, _)| now.duration_since(*at) < window).map(|(_, n)| n).sum()
            };
            let counted = counter.last_minute(now);
            prop_assert!(counted >= within(60));
            prop_assert!(counted <= within(65));
            prop_assert_eq!(counter.total(), added.iter().map(|(_, n)| n).sum::<u64>());
        }
    }

    #[test]
    fn a_steady_rate_is_measured_as_it_is(per_second in 1u32..10_000, seconds in 10u64..500) {
        let start = Instant::now();
        let counter = SlidingCounter::new(start);
        for second in 0..seconds {
            counter.add(per_second, start + Duration::from_secs(second));
        }
        let measured = counter.per_second(start + Duration::from_secs(seconds));
        let expected = f64::from(per_second);
        prop_assert!((measured - expected).abs() <= expected * 0.01, "{measured} for {expected}");
    }
}

#[test]
fn the_first_second_has_no_wild_rate() {
    let start = Instant::now();
    let counter = SlidingCounter::new(start);
    counter.add(3, start);
    assert_eq!(counter.per_second(start), 3.0);
    assert_eq!(counter.per_second(start + Duration::from_millis(1)), 3.0);
}

#[test]
fn a_slice_that_is_full_stays_full() {
    let start = Instant::now();
    let counter = SlidingCounter::new(start);
    counter.add(u32::MAX, start);
    counter.add(u32::MAX, start);
    assert_eq!(counter.last_minute(start), u64::from(u32::MAX));
    assert_eq!(counter.total(), 2 * u64::from(u32::MAX));
}

#[test]
fn nothing_is_lost_between_threads() {
    let start = Instant::now();
    let counter = Arc::new(SlidingCounter::new(start));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                for n in 0..50_000u64 {
                    counter.add(1, start + Duration::from_millis(n));
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(counter.total(), 200_000);
    assert_eq!(
        counter.last_minute(start + Duration::from_secs(50)),
        200_000
    );
}

#[test]
fn success_is_what_was_delivered_of_what_was_tried() {
    let start = Instant::now();
    let traffic = Traffic::new(start);
    assert_eq!(traffic.summary(start).success_rate(), 1.0);
    traffic.delivered.add(998, start);
    traffic.missed.add(2, start);
    traffic.failed.add(1, start);
    let summary = traffic.summary(start);
    assert_eq!(summary.success_rate(), 0.998);
    assert_eq!(
        (
            summary.delivered_total,
            summary.missed_last_minute,
            summary.failed_last_minute
        ),
        (998, 2, 1)
    );

    // Two minutes later the failures are history, and the total stays.
    let later = traffic.summary(start + Duration::from_secs(120));
    assert_eq!((later.success_rate(), later.delivered_total), (1.0, 998));
    assert_eq!(TrafficSummary::default().success_rate(), 1.0);
}
