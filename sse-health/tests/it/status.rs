use std::time::Duration;

use proptest::prelude::*;
use sse_health::{Direction, Limit, Signal, Snapshot, Status, ThresholdError, Thresholds, assess};

fn status(snapshot: Snapshot) -> Status {
    assess(&snapshot, &Thresholds::default()).status
}

#[test]
fn the_customary_healthy_ranges_are_the_defaults() {
    let with_p95 = |ms| Snapshot {
        latency_p95: Some(Duration::from_millis(ms)),
        ..Snapshot::default()
    };
    let with_connections = |active| Snapshot {
        active_connections: active,
        max_connections: 1000,
        ..Snapshot::default()
    };
    let with_queue = |queue| Snapshot {
        queue: Some(queue),
        ..Snapshot::default()
    };
    let with_memory = |memory| Snapshot {
        memory: Some(memory),
        ..Snapshot::default()
    };
    let with_errors = |errors_last_minute| Snapshot {
        errors_last_minute,
        ..Snapshot::default()
    };
    for (healthy, warning, critical) in [
        (
            with_connections(799),
            with_connections(800),
            with_connections(950),
        ),
        (with_queue(0.79), with_queue(0.80), with_queue(1.0)),
        (with_errors(4), with_errors(5), with_errors(50)),
        (with_memory(0.69), with_memory(0.70), with_memory(0.95)),
        (with_p95(199), with_p95(200), with_p95(1000)),
    ] {
        assert_eq!(status(healthy), Status::Healthy, "{healthy:?}");
        assert_eq!(status(warning), Status::Warning, "{warning:?}");
        assert_eq!(status(critical), Status::Critical, "{critical:?}");
    }
}

#[test]
fn limits_of_connections_are_relative_to_the_most_allowed() {
    let of_500 = |active| Snapshot {
        active_connections: active,
        max_connections: 500,
        ..Snapshot::default()
    };
    assert_eq!(status(of_500(45)), Status::Healthy);
    assert_eq!(status(of_500(400)), Status::Warning);
    let unlimited = Snapshot {
        active_connections: 1_000_000,
        ..Snapshot::default()
    };
    assert_eq!(status(unlimited), Status::Healthy);
}

#[test]
fn slow_lines_of_a_few_are_not_the_illness_of_the_server() {
    let of = |active, failed| Snapshot {
        active_connections: active,
        readers_failed_last_minute: failed,
        ..Snapshot::default()
    };
    assert_eq!(status(of(0, 0)), Status::Healthy);
    assert_eq!(status(of(1, 1)), Status::Healthy);
    assert_eq!(status(of(0, 2)), Status::Healthy);
    assert_eq!(status(of(998, 4)), Status::Healthy);
    assert_eq!(status(of(950, 50)), Status::Warning);
    assert_eq!(status(of(0, 20)), Status::Critical);
}

#[test]
fn a_busy_processor_alone_is_never_critical() {
    assert_eq!(
        status(Snapshot {
            cpu: Some(1.0),
            ..Snapshot::default()
        }),
        Status::Warning
    );
}

#[test]
fn reasons_say_what_is_wrong_the_worst_first() {
    let snapshot = Snapshot {
        memory: Some(0.815),
        latency_p95: Some(Duration::from_micros(1_234_567)),
        errors_last_minute: 7,
        active_connections: 95,
        readers_failed_last_minute: 5,
        ..Snapshot::default()
    };
    let assessment = assess(&snapshot, &Thresholds::default());
    assert_eq!(assessment.status, Status::Critical);
    let reasons: Vec<_> = assessment
        .reasons
        .iter()
        .map(|reason| format!("{}: {reason}", reason.status))
        .collect();
    assert_eq!(
        reasons,
        [
            "critical: 95th percentile of latency is 1234.567 ms, healthy is below 200 ms",
            "warning: number of errors in the last minute is 7, healthy is below 5",
            "warning: memory in use is 81.5 %, healthy is below 70 %",
            "warning: share of readers that got everything in time is 95 %, healthy is above 99 %",
        ]
    );
}

#[test]
fn what_is_not_measured_is_not_judged() {
    assert_eq!(
        assess(&Snapshot::default(), &Thresholds::default()).reasons,
        []
    );
    let nonsense = Snapshot {
        memory: Some(f64::NAN),
        queue: Some(f64::NAN),
        ..Snapshot::default()
    };
    assert_eq!(status(nonsense), Status::Healthy);
    assert_eq!(
        status(Snapshot {
            memory: Some(f64::INFINITY),
            ..Snapshot::default()
        }),
        Status::Critical
    );
}

#[test]
fn senseless_thresholds_cannot_be_built() {
    let with = |signal, warning, critical| {
        Thresholds::default()
            .with(signal, Limit { warning, critical })
            .err()
    };
    let out_of_range = |signal| Some(ThresholdError::OutOfRange { signal });
    let out_of_order = |signal| Some(ThresholdError::OutOfOrder { signal });

    assert_eq!(
        with(Signal::Memory, 70.0, None),
        out_of_range(Signal::Memory)
    ); // percent for a share
    assert_eq!(
        with(Signal::Memory, f64::NAN, None),
        out_of_range(Signal::Memory)
    );
    assert_eq!(
        with(Signal::LatencyP95Ms, f64::INFINITY, None),
        out_of_range(Signal::LatencyP95Ms)
    );
    assert_eq!(
        with(Signal::ErrorsPerMinute, -1.0, None),
        out_of_range(Signal::ErrorsPerMinute)
    );
    assert_eq!(
        with(Signal::Queue, 0.9, Some(0.8)),
        out_of_order(Signal::Queue)
    );
    assert_eq!(
        with(Signal::SuccessRate, 0.9, Some(0.99)),
        out_of_order(Signal::SuccessRate)
    );
    assert_eq!(with(Signal::SuccessRate, 0.99, Some(0.99)), None);
    assert_eq!(
        ThresholdError::OutOfOrder {
            signal: Signal::Queue
        }
        .to_string(),
        "critical threshold of queue is milder than its warning"
    );
}

#[test]
fn signals_are_read_back_from_their_names() {
    for signal in Signal::ALL {
        assert_eq!(signal.name().parse(), Ok(signal));
        assert_eq!(serde_json::to_value(signal).unwrap(), signal.name());
    }
    assert!("load".parse::<Signal>().is_err());
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let share = || prop::option::of(0.0f64..1.2);
    (
        (0u64..1200, prop::sample::select(vec![0u64, 10, 1000])),
        (share(), share(), share()),
        (0u64..100, 0u64..2000),
        0u64..100,
    )
        .prop_map(
            |((active, max), (queue, memory, cpu), (errors, p95), failed)| Snapshot {
                active_connections: active,
                max_connections: max,
                queue,
                errors_last_minute: errors,
                memory,
                cpu,
                latency_p95: (p95 > 0).then(|| Duration::from_millis(p95)),
                readers_failed_last_minute: failed,
            },
        )
}

proptest! {
    #[test]
    fn the_status_is_that_of_the_worst_reason(snapshot in snapshot()) {
        let thresholds = Thresholds::default();
        let assessment = assess(&snapshot, &thresholds);
        let worst = assessment.reasons.iter().map(|reason| reason.status).max();
        prop_assert_eq!(assessment.status, worst.unwrap_or(Status::Healthy));
        for reason in &assessment.reasons {
            prop_assert!(reason.status > Status::Healthy);
            prop_assert_eq!(snapshot.value(reason.signal), Some(reason.value));
            let outside = match reason.signal.direction() {
                Direction::BadWhenHigh => reason.value >= reason.healthy_limit,
                Direction::BadWhenLow => reason.value <= reason.healthy_limit,
            };
            prop_assert!(outside);
        }
        // A signal that is not judged cannot matter.
        let blind = Signal::ALL.into_iter().fold(thresholds, Thresholds::without);
        prop_assert_eq!(assess(&snapshot, &blind).status, Status::Healthy);
    }

    #[test]
    fn more_errors_never_make_it_healthier(snapshot in snapshot(), more in 0u64..100) {
        let worse = Snapshot { errors_last_minute: snapshot.errors_last_minute + more, ..snapshot };
        prop_assert!(status(worse) >= status(snapshot));
    }
}
