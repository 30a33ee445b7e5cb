use std::time::{Duration, Instant};

use proptest::prelude::*;
use sse_health::{Alerts, Hysteresis, Signal, Snapshot, Status, Thresholds, Transition, assess};

/// A server whose p95 latency is sampled every ten seconds.
struct Story {
    alerts: Alerts,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        Self {
            alerts: Alerts::default(),
            now: Instant::now(),
        }
    }

    fn sample(&mut self, p95_ms: u64) -> Vec<Transition> {
        let snapshot = Snapshot {
            latency_p95: Some(Duration::from_millis(p95_ms)),
            ..Snapshot::default()
        };
        let transitions = self
            .alerts
            .observe(&assess(&snapshot, &Thresholds::default()), self.now);
        self.now += Duration::from_secs(10);
        transitions
    }

    /// Samples for so many seconds, and tells what changed.
    fn lasts(&mut self, seconds: u64, p95_ms: u64) -> Vec<(Status, Status)> {
        (0..seconds / 10)
            .flat_map(|_| self.sample(p95_ms))
            .map(|change| (change.from, change.to))
            .collect()
    }
}

use Status::{Critical, Healthy, Warning};

#[test]
fn one_slow_minute_raises_one_alert_and_clears_it_once() {
    let mut story = Story::new();
    assert_eq!(story.lasts(300, 20), []);
    assert_eq!(story.lasts(60, 300), [(Healthy, Warning)]);
    assert_eq!(story.lasts(600, 20), [(Warning, Healthy)]);
}

#[test]
fn one_slow_sample_is_no_alert() {
    let mut story = Story::new();
    for _ in 0..50 {
        assert_eq!(story.lasts(20, 20), []);
        assert_eq!(story.lasts(10, 5000), []);
    }
    assert!(story.alerts.raised().is_empty());
}

#[test]
fn an_alert_is_not_cleared_by_one_good_sample() {
    let mut story = Story::new();
    assert_eq!(story.lasts(60, 300), [(Healthy, Warning)]);
    for _ in 0..50 {
        assert_eq!(story.lasts(50, 20), []);
        assert_eq!(story.lasts(10, 300), []);
    }
    assert_eq!(story.alerts.raised().len(), 1);
}

#[test]
fn what_flickers_between_warning_and_critical_is_steadily_a_warning() {
    let mut story = Story::new();
    let changes: Vec<_> = (0..30)
        .flat_map(|n| story.sample(if n % 2 == 0 { 300 } else { 2000 }))
        .collect();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].from, changes[0].to), (Healthy, Warning));
}

#[test]
fn what_gets_worse_is_told_and_what_gets_better_too() {
    let mut story = Story::new();
    assert_eq!(story.lasts(60, 300), [(Healthy, Warning)]);
    let since = story.alerts.raised()[0].since;
    assert_eq!(story.lasts(60, 2000), [(Warning, Critical)]);
    let raised = story.alerts.raised();
    assert_eq!(
        (raised[0].signal, raised[0].status, raised[0].since),
        (Signal::LatencyP95Ms, Critical, since)
    );
    assert_eq!(story.lasts(90, 300), [(Critical, Warning)]);
    assert_eq!(story.lasts(90, 20), [(Warning, Healthy)]);
}

#[test]
fn a_sudden_catastrophe_is_one_alert() {
    let mut story = Story::new();
    assert_eq!(story.lasts(120, 9000), [(Healthy, Critical)]);
    assert_eq!(story.lasts(120, 20), [(Critical, Healthy)]);
}

#[test]
fn signals_raise_and_clear_on_their_own() {
    let mut alerts = Alerts::new(Hysteresis {
        raise_after: Duration::ZERO,
        raise_samples: 1,
        clear_after: Duration::ZERO,
        clear_samples: 1,
    });
    let now = Instant::now();
    let both = Snapshot {
        memory: Some(0.95),
        errors_last_minute: 6,
        ..Snapshot::default()
    };
    let raised = alerts.observe(&assess(&both, &Thresholds::default()), now);
    assert_eq!(raised.iter().filter(|change| change.is_raised()).count(), 2);
    assert_eq!(alerts.raised()[0].signal, Signal::Memory, "the worst first");

    let one = Snapshot {
        memory: Some(0.95),
        ..Snapshot::default()
    };
    let cleared = alerts.observe(
        &assess(&one, &Thresholds::default()),
        now + Duration::from_secs(1),
    );
    assert_eq!(cleared.len(), 1);
    assert!(cleared[0].is_cleared());
    assert_eq!(cleared[0].signal, Signal::ErrorsPerMinute);
    assert_eq!(
        cleared[0].reason.value, 6.0,
        "what it was about is still known"
    );
    assert_eq!(alerts.raised().len(), 1);
}

#[test]
fn a_transition_is_written_for_logs() {
    let mut story = Story::new();
    let change = (0..6).flat_map(|_| story.sample(250)).next().unwrap();
    assert_eq!(
        serde_json::to_value(change).unwrap(),
        serde_json::json!({
            "signal": "latency_p95_ms",
            "from": "healthy",
            "to": "warning",
            "reason": {
                "signal": "latency_p95_ms",
                "status": "warning",
                "value": 250.0,
                "healthy_limit": 200.0,
                "message": "95th percentile of latency is 250 ms, healthy is below 200 ms",
            },
        })
    );
}

proptest! {
    #[test]
    fn whatever_flaps_changes_no_more_often_than_its_hysteresis_allows(
        samples in prop::collection::vec((1u64..60, prop::sample::select(vec![20u64, 300, 2000])), 1..300),
        raise in 1u64..120,
        clear in 1u64..120,
        count in 1u32..5,
    ) {
        let mut alerts = Alerts::new(Hysteresis {
            raise_after: Duration::from_secs(raise),
            raise_samples: count,
            clear_after: Duration::from_secs(clear),
            clear_samples: count,
        });
        let mut now = Instant::now();
        let mut shown = Healthy;
        let mut bad_since: Option<Instant> = None;
        let mut good_since: Option<Instant> = None;
        for (gap, p95) in samples {
            now += Duration::from_secs(gap);
            let snapshot = Snapshot { latency_p95: Some(Duration::from_millis(p95)), ..Snapshot::default() };
            let assessment = assess(&snapshot, &Thresholds::default());
            if assessment.status == Healthy {
                bad_since = None;
                good_since = good_since.or(Some(now));
            } else {
                good_since = None;
                bad_since = bad_since.or(Some(now));
            }
            let changes = alerts.observe(&assessment, now);
            prop_assert!(changes.len() <= 1);
            for change in changes {
                prop_assert_eq!(change.from, shown);
                prop_assert_ne!(change.from, change.to);
                shown = change.to;
                if change.from == Healthy {
                    prop_assert!(bad_since.is_some_and(|since| now - since >= Duration::from_secs(raise)));
                }
                if change.is_cleared() {
                    prop_assert!(good_since.is_some_and(|since| now - since >= Duration::from_secs(clear)));
                }
            }
            let raised = alerts.raised().first().map_or(Healthy, |alert| alert.status);
            prop_assert_eq!(raised, shown);
        }
    }
}
