//! The basic shapes, one after the other with the same readers.

use std::time::{Duration, Instant};

use super::steps::{SETTLE, check, flat_out, warm_up};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::fleet::{Arrival, Audience, Fleet};
use crate::kernel::KernelMemory;
use crate::load::{Load, Pace, Ran, run};
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
    let wants = |shape| shapes.contains(&shape);
    let mut basic = Basic::start(options, target, readers, figures)?;
    basic.connect(wants(Shape::Connect))?;
    if wants(Shape::Idle) {
        basic.idle()?;
    }
    warm_up(&mut basic.fleet, &basic.server)?;
    if wants(Shape::Paced) {
        basic.paced()?;
    }
    for (shape, payload) in [
        (Shape::Flat100, Payload::Filler(100)),
        (Shape::Flat1k, Payload::Filler(1024)),
    ] {
        if wants(shape) {
            basic.flat(payload)?;
        }
    }
    if wants(Shape::Single) {
        basic.single()?;
    }
    if wants(Shape::Idle) && (wants(Shape::Flat100) || wants(Shape::Flat1k)) {
        basic.idle_after_load()?;
    }
    Ok(())
}

/// A server with its readers, and where the figures go.
struct Basic<'a> {
    options: &'a Options,
    server: Server,
    fleet: Fleet,
    readers: usize,
    /// The server's memory without readers.
    memory_before: u64,
    kernel_before: KernelMemory,
    figures: &'a mut Figures,
}

impl<'a> Basic<'a> {
    fn start(
        options: &'a Options,
        target: &Target,
        readers: usize,
        figures: &'a mut Figures,
    ) -> Outcome<Self> {
        let server = Server::start(target, &options.server_args, &[])?;
        let fleet = Fleet::new(&server, Audience::Everyone)?;
        Ok(Self {
            options,
            memory_before: server.memory(),
            kernel_before: KernelMemory::now(),
            server,
            fleet,
            readers,
            figures,
        })
    }

    /// All readers connect, for whatever is measured; what that cost is a figure only if it is wanted.
    fn connect(&mut self, is_wanted: bool) -> Outcome {
        let (cpu, began) = (self.server.cpu(), Instant::now());
        self.fleet.subscribe(self.readers, Arrival::default())?;
        let took = began.elapsed();
        let cpu = self.server.cpu().saturating_sub(cpu);
        if is_wanted {
            let each = cpu.as_secs_f64() * 1e6 / self.readers as f64;
            self.add("connect", Metric::CpuPerConnect, each);
            let rate = self.readers as f64 / took.as_secs_f64();
            self.add("connect", Metric::ConnectsPerSecond, rate);
        }
        Ok(())
    }

    fn idle(&mut self) -> Outcome {
        self.fleet.idle_for(SETTLE)?;
        self.add("idle", Metric::IdleMemory, self.kib_each());
        let kernel = KernelMemory::now().since(self.kernel_before) as f64 / 1024.0;
        self.add("idle", Metric::KernelIdle, kernel / self.readers as f64);
        Ok(())
    }

    fn paced(&mut self) -> Outcome {
        let rate = (10_000.0 / self.readers as f64).clamp(1.0, 50.0);
        let lasting = self.options.scaled(Duration::from_secs(3));
        let ran = self.run(Load {
            payload: Payload::Filler(1024),
            pace: Pace::PerSecond(rate),
            publishers: 1,
            lasting: lasting.max(Duration::from_secs(2)),
            at_most: None,
        })?;
        self.add_cpu("paced", &ran);
        for (metric, value) in [(Metric::P50, ran.p50_ms), (Metric::P99, ran.p99_ms)] {
            self.add("paced", metric, value.unwrap_or(f64::NAN));
        }
        Ok(())
    }

    /// As many events as it takes.
    fn flat(&mut self, payload: Payload) -> Outcome {
        let lasting = self.options.scaled(Duration::from_secs(1));
        self.run(flat_out(payload, self.readers, WARM_UP))?;
        let ran = self.run(flat_out(payload, self.readers, lasting))?;
        let name = format!("flat {}", payload.name());
        self.add_cpu(&name, &ran);
        self.add(&name, Metric::EventsPerSecond, ran.deliveries_per_second());
        Ok(())
    }

    /// One event after the other.
    fn single(&mut self) -> Outcome {
        let ran = self.run(Load {
            payload: Payload::Filler(100),
            pace: Pace::InFlight(1),
            publishers: 1,
            lasting: self.options.scaled(Duration::from_secs(1)),
            at_most: None,
        })?;
        self.add_cpu("single", &ran);
        Ok(())
    }

    fn idle_after_load(&mut self) -> Outcome {
        self.fleet.idle_for(SETTLE)?;
        self.add("idle", Metric::LoadedMemory, self.kib_each());
        Ok(())
    }

    fn run(&mut self, load: Load) -> Outcome<Ran> {
        run(&mut self.fleet, &self.server, load)
    }

    /// The processor time for each delivery, after a look at whether all arrived.
    fn add_cpu(&mut self, shape: &str, ran: &Ran) {
        check(self.figures, shape, &self.fleet, ran);
        self.add(shape, Metric::CpuPerEvent, ran.cpu_micros_per_delivery());
    }

    fn add(&mut self, shape: &str, metric: Metric, value: f64) {
        self.figures.add(shape, self.readers, metric, value);
    }

    /// What the server has taken for each reader since before they came.
    fn kib_each(&self) -> f64 {
        let taken = self.server.memory().saturating_sub(self.memory_before);
        taken as f64 / 1024.0 / self.readers as f64
    }
}

/// Before a flat-out load is measured.
const WARM_UP: Duration = Duration::from_millis(300);
