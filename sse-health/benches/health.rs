//! What measuring costs the hot path, with one relaxed atomic addition as the floor. Each benchmark checks its answer.
//!
//! `cargo bench -p sse-health`

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use sse_health::{
    LatencyMonitor, SlidingCounter, Snapshot, Source as _, Status, SystemSource, Thresholds, assess,
};

fn recording(c: &mut Criterion) {
    let start = Instant::now();
    let mut group = c.benchmark_group("record");

    let floor = AtomicU64::new(0);
    group.bench_function("floor_atomic_add", |b| {
        b.iter(|| floor.fetch_add(black_box(1), Relaxed))
    });
    group.bench_function("clock", |b| b.iter(Instant::now));

    let monitor = LatencyMonitor::new(start);
    let mut n = 0u64;
    group.bench_function("latency", |b| {
        b.iter(|| {
            n += 1;
            monitor.record(Duration::from_micros(black_box(n % 5000)), start);
        });
    });
    assert_eq!(monitor.total().count(), n);

    let counter = SlidingCounter::new(start);
    let mut n = 0u64;
    group.bench_function("rate", |b| {
        b.iter(|| {
            n += 1;
            counter.add(black_box(1), start);
        });
    });
    assert_eq!(counter.total(), n);
    group.finish();
}

fn reporting(c: &mut Criterion) {
    let start = Instant::now();
    let mut group = c.benchmark_group("report");

    let monitor = LatencyMonitor::new(start);
    (0..10_000).for_each(|n| monitor.record(Duration::from_micros(n), start));
    assert_eq!(monitor.window(start).max(), Duration::from_micros(9999));
    group.bench_function("latency_window_summary", |b| {
        b.iter(|| monitor.window(start).summary())
    });

    let thresholds = Thresholds::default();
    let snapshot = Snapshot {
        memory: Some(0.8),
        queue: Some(0.1),
        cpu: Some(0.2),
        ..Snapshot::default()
    };
    assert_eq!(assess(&snapshot, &thresholds).status, Status::Warning);
    group.bench_function("assess", |b| {
        b.iter(|| assess(black_box(&snapshot), &thresholds))
    });

    let mut source = SystemSource::new();
    assert!(source.read().resident_bytes.is_some());
    group.bench_function("read_system", |b| b.iter(|| source.read()));
    group.finish();
}

criterion_group!(benches, recording, reporting);
criterion_main!(benches);
