//! The basic shapes, one after the other with the same readers.

use std::time::{Duration, Instant};

use super::steps::{SETTLE, check, flat_out, warm_up};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::fleet::{Arrival, Audience, Fleet};
use crate::kernel::KernelMemory;
use crate::load::{Load, Pace, run};
use crate::options::Options;
use crate::payload::Payload;
use crate::process::Server;
use crate::shape::Shape;
use crate::target::Target;

pub(super) fn measure(
    options: &Options,
    shapes: &[Shape],
    target: &Target,
    readers: usize,
    figures: &mut Figures,
) -> Outcome {
    let server = Server::start(target, &options.server_args, &[])?;
    let mut fleet = Fleet::new(&server, Audience::Everyone)?;
    let wants = |shape| shapes.contains(&shape);

    let (memory_before, kernel_before) = (server.memory(), KernelMemory::now());
    let (cpu, began) = (server.cpu(), Instant::now());
    fleet.subscribe(readers, Arrival::default())?;
    let took = began.elapsed();
    let cpu = server.cpu().saturating_sub(cpu);
    if wants(Shape::Connect) {
        let each = cpu.as_secs_f64() * 1e6 / readers as f64;
        figures.add("connect", readers, Metric::CpuPerConnect, each);
        let rate = readers as f64 / took.as_secs_f64();
        figures.add("connect", readers, Metric::ConnectsPerSecond, rate);
    }
    let kib_each = |server: &Server| {
        server.memory().saturating_sub(memory_before) as f64 / 1024.0 / readers as f64
    };
    if wants(Shape::Idle) {
        fleet.idle_for(SETTLE)?;
        figures.add("idle", readers, Metric::IdleMemory, kib_each(&server));
        let kernel = KernelMemory::now().since(kernel_before) as f64 / 1024.0;
        figures.add("idle", readers, Metric::KernelIdle, kernel / readers as f64);
    }
    warm_up(&mut fleet, &server)?;

    if wants(Shape::Paced) {
        let rate = (10_000.0 / readers as f64).clamp(1.0, 50.0);
        let load = Load {
            payload: Payload::Filler(1024),
            pace: Pace::PerSecond(rate),
            publishers: 1,
            lasting: options
                .scaled(Duration::from_secs(3))
                .max(Duration::from_secs(2)),
            at_most: None,
        };
        let ran = run(&mut fleet, &server, load)?;
        check(figures, "paced", &fleet, &ran);
        figures.add(
            "paced",
            readers,
            Metric::CpuPerEvent,
            ran.cpu_micros_per_delivery(),
        );
        for (metric, value) in [(Metric::P50, ran.p50_ms), (Metric::P99, ran.p99_ms)] {
            figures.add("paced", readers, metric, value.unwrap_or(f64::NAN));
        }
    }
    let lasting = options.scaled(Duration::from_secs(1));
    for (shape, payload) in [
        (Shape::Flat100, Payload::Filler(100)),
        (Shape::Flat1k, Payload::Filler(1024)),
    ] {
        if !wants(shape) {
            continue;
        }
        run(&mut fleet, &server, flat_out(payload, readers, WARM_UP))?;
        let ran = run(&mut fleet, &server, flat_out(payload, readers, lasting))?;
        let name = format!("flat {}", payload.name());
        check(figures, &name, &fleet, &ran);
        figures.add(
            &name,
            readers,
            Metric::CpuPerEvent,
            ran.cpu_micros_per_delivery(),
        );
        figures.add(
            &name,
            readers,
            Metric::EventsPerSecond,
            ran.deliveries_per_second(),
        );
    }
    if wants(Shape::Single) {
        let load = Load {
            payload: Payload::Filler(100),
            pace: Pace::InFlight(1),
            publishers: 1,
            lasting: options.scaled(Duration::from_secs(1)),
            at_most: None,
        };
        let ran = run(&mut fleet, &server, load)?;
        check(figures, "single", &fleet, &ran);
        figures.add(
            "single",
            readers,
            Metric::CpuPerEvent,
            ran.cpu_micros_per_delivery(),
        );
    }
    if wants(Shape::Idle) && (wants(Shape::Flat100) || wants(Shape::Flat1k)) {
        fleet.idle_for(SETTLE)?;
        figures.add("idle", readers, Metric::LoadedMemory, kib_each(&server));
    }
    Ok(())
}

/// Before a flat-out load is measured.
const WARM_UP: Duration = Duration::from_millis(300);
