use std::time::{Duration, Instant};

use sse_health::{
    ConnectionCounts, Gauges, HealthMonitor, HeartbeatFailure, Hysteresis, JobCounts, Sampler,
    Signal, Status, Thresholds, Usage,
};

const CALM: Usage = Usage {
    process_cpu: Some(0.01),
    system_cpu: Some(0.05),
    memory: Some(0.3),
    resident_bytes: Some(1 << 24),
};

fn monitor(start: Instant) -> HealthMonitor<impl FnMut() -> Usage> {
    let sampler = Sampler::new(|| CALM, Duration::from_secs(1));
    HealthMonitor::new(sampler, Thresholds::default(), Hysteresis::default(), start)
}

#[test]
fn a_day_with_one_bad_quarter_of_an_hour_is_two_messages() {
    let start = Instant::now();
    let monitor = monitor(start);
    let gauges = Gauges {
        connections: ConnectionCounts {
            active: 45,
            max: 500,
            per_ip_limit: 10,
        },
        ..Gauges::default()
    };
    let mut told = Vec::new();
    for tick in 0..24 * 360u64 {
        let now = start + Duration::from_secs(tick * 10);
        let bad = (3600..3690).contains(&tick);
        for n in 0..10 {
            monitor.delivered(
                Duration::from_millis(if bad && n > 7 { 450 } else { 15 }),
                now,
            );
        }
        let (facts, transitions) = monitor.check(&gauges, now);
        assert_eq!(facts.usage, CALM);
        told.extend(
            transitions
                .into_iter()
                .map(|change| (tick, change.signal, change.to)),
        );
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        (told[0].1, told[0].2),
        (Signal::LatencyP95Ms, Status::Warning)
    );
    assert!((3603..3612).contains(&told[0].0), "{told:?}");
    assert_eq!(told[1].2, Status::Healthy);
    assert!((3690..3705).contains(&told[1].0), "{told:?}");
    assert!(monitor.alerts().is_empty());
}

#[test]
fn one_slow_delivery_at_night_is_no_percentile() {
    let start = Instant::now();
    let monitor = monitor(start);
    monitor.delivered(Duration::from_secs(3), start);
    let facts = monitor.facts(&Gauges::default(), start);
    assert_eq!(facts.assessment.status, Status::Healthy);
    assert_eq!(
        facts.latency.unwrap().max,
        Duration::from_secs(3),
        "it is reported all the same"
    );
}

#[test]
fn what_was_counted_is_reported() {
    let start = Instant::now();
    let monitor = monitor(start);
    monitor.traffic().published.add(3, start);
    monitor.traffic().errors.add(6, start);
    monitor
        .heartbeats()
        .record_failed(HeartbeatFailure::SendTimeout, 2);
    (0..30).for_each(|_| monitor.delivered(Duration::from_millis(5), start));
    let jobs = JobCounts {
        pending: 1,
        ..JobCounts::default()
    };
    let now = start + Duration::from_secs(20);
    let facts = monitor.facts(
        &Gauges {
            jobs,
            unix_seconds: 1_704_067_200,
            ..Gauges::default()
        },
        now,
    );
    assert_eq!(
        (facts.traffic.published_total, facts.traffic.delivered_total),
        (3, 30)
    );
    assert_eq!(facts.heartbeat.failures.send_timeout, 2);
    assert_eq!(
        (facts.uptime, facts.unix_seconds),
        (Duration::from_secs(20), 1_704_067_200)
    );
    assert_eq!(facts.jobs.total(), 1);
    assert_eq!(facts.assessment.reasons[0].signal, Signal::ErrorsPerMinute);
    assert!(monitor.alerts().is_empty(), "a report changes no alert");
}

#[test]
fn a_bad_moment_is_no_status_and_a_status_says_since_when() {
    let start = Instant::now();
    let monitor = monitor(start);
    let at = |second: u64, queue: f64| {
        let gauges = Gauges {
            queue: Some(queue),
            unix_seconds: 1_000 + second,
            ..Gauges::default()
        };
        let (facts, _) = monitor.check(&gauges, start + Duration::from_secs(second));
        facts.assessment
    };
    // Three seconds, and it is over.
    let statuses: Vec<_> = (0..10)
        .map(|second| at(second, if second < 3 { 1.0 } else { 0.0 }).status)
        .collect();
    assert_eq!(statuses, [Status::Healthy; 10]);
    // For good: told after five seconds, with the value of the moment.
    let bad: Vec<_> = (10..20)
        .map(|second| at(second, 0.96 + second as f64 / 1_000.0))
        .collect();
    assert_eq!(bad[4].status, Status::Healthy);
    assert_eq!(bad[5].status, Status::Critical);
    let last = bad[9].reasons[0];
    assert_eq!((last.value, last.since), (0.96 + 0.019, Some(1_015)));
    // Good again: told for five seconds more.
    let good: Vec<_> = (20..30).map(|second| at(second, 0.0).status).collect();
    assert_eq!(good[4], Status::Critical);
    assert_eq!(good[5], Status::Healthy);
}
