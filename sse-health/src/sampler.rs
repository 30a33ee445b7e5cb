//! CPU and memory of the process, sampled.

use std::{
    fmt,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
};

/// What the process and the machine use. A part that could not be read is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// The CPU time of this process, as a share of all cores: 0 to 1. Known from the second reading on.
    pub process_cpu: Option<f64>,
    /// The CPU time of all processes, as a share of all cores: 0 to 1. Known from the second reading on.
    pub system_cpu: Option<f64>,
    /// Memory in use, as a share of what there is: 0 to 1. In a container, of what the container may have.
    pub memory: Option<f64>,
    /// Resident memory of this process, in bytes.
    pub resident_bytes: Option<u64>,
}

/// How much memory this process may use: what its control group allows, or what the machine has.
///
/// `None` where neither can be read.
#[must_use]
pub fn memory_limit_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = system.total_memory();
    let group = system.cgroup_limits().map(|limits| limits.total_memory);
    group
        .into_iter()
        .chain([machine])
        .filter(|bytes| *bytes > 0)
        .min()
}

/// Where [`Usage`] is read: the machine, or fixed figures in a test.
pub trait Source {
    /// Reads the usage now. May take a millisecond.
    fn read(&mut self) -> Usage;
}

impl<F: FnMut() -> Usage> Source for F {
    fn read(&mut self) -> Usage {
        self()
    }
}

/// Reads [`Usage`] when it is asked for, but no more often than its interval.
///
/// Any number of threads may ask at once. One of them reads; the others get the reading before, and none waits.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::{Sampler, Usage};
///
/// let mut readings = 0;
/// let sampler = Sampler::new(
///     move || {
///         readings += 1;
///         Usage { resident_bytes: Some(readings), ..Usage::default() }
///     },
///     Duration::from_secs(1),
/// );
/// let start = Instant::now();
/// assert_eq!(sampler.sample(start).resident_bytes, Some(1));
/// assert_eq!(sampler.sample(start + Duration::from_millis(900)).resident_bytes, Some(1));
/// assert_eq!(sampler.sample(start + Duration::from_millis(1000)).resident_bytes, Some(2));
/// ```
pub struct Sampler<S> {
    min_interval: Duration,
    /// Held while reading, and only ever tried.
    source: Mutex<S>,
    latest: Mutex<Option<(Instant, Usage)>>,
}

impl<S: Source> Sampler<S> {
    /// A sampler that reads `source` at most once in `min_interval`.
    ///
    /// For [`SystemSource`] a second is sensible: CPU usage is measured between two readings, and below 200 ms it is noise.
    pub fn new(source: S, min_interval: Duration) -> Self {
        Self {
            min_interval,
            source: Mutex::new(source),
            latest: Mutex::new(None),
        }
    }

    /// The latest usage, read anew if it is older than the interval.
    ///
    /// While another thread makes the very first reading, this is an empty usage.
    pub fn sample(&self, now: Instant) -> Usage {
        let latest = *self.latest.lock();
        if let Some((at, usage)) = latest
            && now.saturating_duration_since(at) < self.min_interval
        {
            return usage;
        }
        let Some(mut source) = self.source.try_lock() else {
            return latest.map(|(_, usage)| usage).unwrap_or_default();
        };
        let usage = source.read();
        *self.latest.lock() = Some((now, usage));
        usage
    }
}

impl Sampler<SystemSource> {
    /// A sampler of this process and machine, read at most once a second.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::new(SystemSource::new(), Duration::from_secs(1))
    }
}

impl<S> fmt::Debug for Sampler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("min_interval", &self.min_interval)
            .field("latest", &*self.latest.lock())
            .finish_non_exhaustive()
    }
}

/// Reads the usage of this process and machine through the operating system.
pub struct SystemSource {
    system: Option<System>,
    pid: Option<Pid>,
    readings: u32,
}

impl SystemSource {
    /// A source that has read nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            system: System::new().ok(),
            pid: sysinfo::get_current_pid().ok(),
            readings: 0,
        }
    }
}

impl Default for SystemSource {
    fn default() -> Self {
        Self::new()
    }
}

impl Source for SystemSource {
    fn read(&mut self) -> Usage {
        let Some(system) = &mut self.system else {
            return Usage::default();
        };
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(self.pid.as_slice()),
            true,
            kind,
        );
        self.readings = self.readings.saturating_add(1);

        let process = self.pid.and_then(|pid| system.process(pid));
        // CPU usage is what was used between two readings, so the first has none.
        let known = self.readings > 1;
        let cores = system.cpus().len();
        Usage {
            process_cpu: process
                .filter(|_| known && cores > 0)
                .map(|process| share(f64::from(process.cpu_usage()), 100.0 * cores as f64)),
            system_cpu: known.then(|| share(f64::from(system.global_cpu_usage()), 100.0)),
            memory: memory(system, process),
            resident_bytes: process.map(sysinfo::Process::memory),
        }
    }
}

impl fmt::Debug for SystemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemSource")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// The fuller of the machine's memory and the container's.
///
/// In a container it is the resident part that counts: its total includes the page cache, which the kernel gives back before
/// it kills anyone, and which a log on disk would always fill.
fn memory(system: &System, process: Option<&sysinfo::Process>) -> Option<f64> {
    let total = system.total_memory();
    let machine = (total > 0).then(|| share(system.used_memory() as f64, total as f64));
    let container = process
        .and_then(sysinfo::Process::cgroup_limits)
        .filter(|limits| limits.total_memory > 0 && limits.total_memory < total)
        .map(|limits| share(limits.rss as f64, limits.total_memory as f64));
    match (machine, container) {
        (Some(machine), Some(container)) => Some(machine.max(container)),
        (machine, container) => machine.or(container),
    }
}

fn share(part: f64, whole: f64) -> f64 {
    (part / whole).clamp(0.0, 1.0)
}
