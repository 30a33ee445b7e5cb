use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use sse_health::{Distribution, LatencyMonitor};

fn latency() -> impl Strategy<Value = Duration> {
    // Each order of magnitude alike, from nanoseconds to minutes.
    (0u32..37, any::<u64>())
        .prop_map(|(bits, value)| Duration::from_nanos(value & ((1 << bits) - 1)))
}

proptest! {
    #[test]
    fn quantiles_are_never_too_low_and_at_most_a_thirtysecond_too_high(
        mut latencies in prop::collection::vec(latency(), 1..200),
        q in 0.0f64..=1.0,
    ) {
        let mut distribution = Distribution::new();
        latencies.iter().for_each(|&latency| distribution.record(latency));
        latencies.sort();

        for q in [q, 0.0, 0.5, 0.95, 0.99, 1.0] {
            let rank = ((q * latencies.len() as f64).ceil() as usize).max(1);
            let exact = latencies[rank - 1];
            let got = distribution.quantile(q);
            prop_assert!(got >= exact, "q {q}: {got:?} for {exact:?}");
            let bound = exact + exact / 32 + Duration::from_micros(1);
            prop_assert!(got <= bound, "q {q}: {got:?} for {exact:?}");
        }
        let sum: Duration = latencies.iter().sum();
        prop_assert_eq!(distribution.sum(), sum);
        for &bound in &latencies {
            let up_to = |bound: Duration| latencies.iter().filter(|&&latency| latency <= bound).count() as u64;
            let counted = distribution.count_up_to(bound);
            prop_assert!(counted <= up_to(bound));
            prop_assert!(counted >= up_to((bound - bound / 31).saturating_sub(Duration::from_micros(1))));
        }
        prop_assert_eq!(distribution.mean(), sum / latencies.len() as u32);
        prop_assert_eq!(distribution.max(), latencies[latencies.len() - 1]);
        prop_assert_eq!(distribution.count(), latencies.len() as u64);
    }

    #[test]
    fn merging_is_recording_together(a in prop::collection::vec(latency(), 0..50), b in prop::collection::vec(latency(), 0..50)) {
        let of = |latencies: &[Duration]| {
            let mut distribution = Distribution::new();
            latencies.iter().for_each(|&latency| distribution.record(latency));
            distribution
        };
        let mut merged = of(&a);
        merged.merge(&of(&b));
        prop_assert_eq!(merged, of(&[a, b].concat()));
    }

    #[test]
    fn the_window_holds_the_last_fifty_seconds_and_nothing_older_than_sixty(
        gaps in prop::collection::vec((0u64..30_000, latency()), 1..60),
    ) {
        let start = Instant::now();
        let monitor = LatencyMonitor::new(start);
        let mut now = start;
        let mut recorded = Vec::new();
        let mut all = Distribution::new();
        for (gap, latency) in gaps {
            now += Duration::from_millis(gap);
            monitor.record(latency, now);
            all.record(latency);
            recorded.push((now, latency));

            let count_since = |ago: u64| {
                let since = now.checked_sub(Duration::from_secs(ago)).unwrap_or(start);
                recorded.iter().filter(|(at, _)| *at > since || since == start).count() as u64
            };
            let count = monitor.window(now).count();
            prop_assert!(count >= count_since(50), "{count}");
            prop_assert!(count <= count_since(60), "{count}");
            prop_assert_eq!(&monitor.total(), &all);
        }
    }

    #[test]
    fn late_recorders_are_counted_too(ats in prop::collection::vec(0u64..300, 1..100)) {
        let start = Instant::now();
        let monitor = LatencyMonitor::new(start);
        for &at in &ats {
            monitor.record(Duration::from_millis(1), start + Duration::from_secs(at));
        }
        prop_assert_eq!(monitor.total().count(), ats.len() as u64);
    }
}

#[test]
fn one_slow_delivery_in_a_thousand_moves_only_the_maximum() {
    let start = Instant::now();
    let monitor = LatencyMonitor::new(start);
    for n in 0..1000 {
        monitor.record(
            Duration::from_millis(if n == 500 { 5000 } else { 20 }),
            start,
        );
    }
    let latency = monitor.window(start).summary().unwrap();
    assert!(latency.p99 < Duration::from_millis(21));
    assert_eq!(latency.max, Duration::from_secs(5));
    assert_eq!(latency.mean, Duration::from_micros(24_980));
}

#[test]
fn an_absurd_latency_counts_as_the_longest() {
    let start = Instant::now();
    let monitor = LatencyMonitor::new(start);
    monitor.record(Duration::MAX, start);
    let total = monitor.total();
    assert_eq!(total.max(), Duration::from_micros((1 << 27) - 1));
    assert_eq!(total.quantile(0.5), total.max());
}

#[test]
fn nothing_recorded_is_zero_and_no_summary() {
    let empty = Distribution::new();
    assert_eq!(empty.summary(), None);
    assert_eq!(
        (empty.mean(), empty.max(), empty.quantile(0.95)),
        (Duration::ZERO, Duration::ZERO, Duration::ZERO)
    );
    assert_eq!(empty.quantile(f64::NAN), Duration::ZERO);
}

#[test]
fn a_time_before_the_origin_is_the_beginning() {
    let start = Instant::now() + Duration::from_secs(100);
    let monitor = LatencyMonitor::new(start);
    monitor.record(Duration::from_millis(1), start - Duration::from_secs(50));
    assert_eq!(monitor.window(start).count(), 1);
}

#[test]
fn nothing_is_lost_between_threads_while_slices_turn() {
    let start = Instant::now();
    let monitor = Arc::new(LatencyMonitor::new(start));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let monitor = Arc::clone(&monitor);
            thread::spawn(move || {
                for n in 0..20_000u64 {
                    // Each thread passes through forty slices.
                    monitor.record(
                        Duration::from_micros(n % 1000),
                        start + Duration::from_millis(n * 20),
                    );
                    if n % 5000 == 0 {
                        assert!(monitor.total().count() > 0);
                    }
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let total = monitor.total();
    assert_eq!(total.count(), 80_000);
    assert_eq!(total.max(), Duration::from_micros(999));
    assert_eq!(total.mean(), Duration::from_nanos(499_500));
}

#[test]
fn the_monitor_is_as_small_as_it_says() {
    let bytes = size_of::<LatencyMonitor>();
    assert!(bytes < 18 * 1024 + 512, "{bytes}");
}
