//! Readers that never read: what the others notice, and what each holds of memory.

use std::time::Duration;

use super::steps::{SETTLE, check, warm_up};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::fleet::{Arrival, Audience, Fleet};
use crate::kernel::{KernelMemory, server_buffers};
use crate::load::{Load, Pace, run};
use crate::options::Options;
use crate::payload::Payload;
use crate::process::Server;
use crate::reader::Reading;
use crate::target::Target;

pub(super) fn measure(options: &Options, target: &Target, figures: &mut Figures) -> Outcome {
    // The hub would let them go after its send timeout, before there is anything to look at.
    let patient = if target.is_hub() {
        &["--send-timeout", "1h"][..]
    } else {
        &[]
    };
    let server = Server::start(target, &options.server_args, patient)?;
    let mut fleet = Fleet::new(&server, Audience::Everyone)?;
    fleet.subscribe(HEALTHY, Arrival::default())?;
    warm_up(&mut fleet, &server)?;
    let paced = Load {
        payload: Payload::Filler(1024),
        pace: Pace::PerSecond(10.0),
        publishers: 1,
        // Two hundred events, so that the hundredth part of them is not a single one.
        lasting: options.scaled(Duration::from_secs(20)),
        at_most: None,
    };
    let alone = run(&mut fleet, &server, paced)?;
    check(figures, "beside none", &fleet, &alone);

    fleet.idle_for(SETTLE)?;
    let (user, kernel) = (server.memory(), KernelMemory::now());
    let first = fleet.tally.next_first();
    for group in 1..=GROUPS {
        let stalled = Arrival {
            reading: Reading::Never,
            receive_buffer: Some(4096 * group),
            ..Arrival::default()
        };
        fleet.subscribe(STALLED / GROUPS, stalled)?;
    }
    // The first events go to their sockets, the rest has to wait somewhere.
    let fill = Load {
        payload: Payload::Filler(1024),
        pace: Pace::PerSecond(100.0),
        publishers: 1,
        lasting: Duration::from_secs(60),
        at_most: Some(FILL_EVENTS),
    };
    let ran = run(&mut fleet, &server, fill)?;
    check(figures, "filling", &fleet, &ran);
    fleet.idle_for(SETTLE)?;
    let each = |bytes: u64| bytes as f64 / 1024.0 / STALLED as f64;
    let user = each(server.memory().saturating_sub(user));
    figures.add(SHAPE, STALLED, Metric::StalledMemory, user);
    let kernel = each(KernelMemory::now().since(kernel));
    figures.add(SHAPE, STALLED, Metric::KernelMemory, kernel);
    if let Some(bytes) = server_buffers(server.addr) {
        figures.add(SHAPE, STALLED, Metric::ServerBuffers, each(bytes));
    }

    let beside = run(&mut fleet, &server, paced)?;
    check(figures, "beside stalled readers", &fleet, &beside);
    if let (Some(before), Some(after)) = (alone.p99_ms, beside.p99_ms) {
        figures.add(SHAPE, STALLED, Metric::P99, after);
        figures.add(SHAPE, STALLED, Metric::Slowdown, after / before);
    }
    let resumed = resume(&mut fleet, first)?;
    figures.add(SHAPE, STALLED, Metric::Resumed, resumed);
    Ok(())
}

/// Lets some of the stalled read on, and returns the share of them that got every event from the
/// number `first` on, each once.
fn resume(fleet: &mut Fleet, first: u64) -> Outcome<f64> {
    let numbers = first..fleet.tally.next_first();
    let some = || (HEALTHY..HEALTHY + STALLED).step_by(STALLED / RESUMED);
    for at in some() {
        fleet.wake(at, numbers.clone())?;
    }
    let mut quiet_turns = 0;
    let mut received = 0;
    while quiet_turns < QUIET_TURNS {
        fleet.idle_for(Duration::from_millis(100))?;
        let now = some().map(|at| fleet.readers[at].bytes).sum::<u64>();
        quiet_turns = if now == received { quiet_turns + 1 } else { 0 };
        received = now;
    }
    let whole = some().filter(|at| fleet.caught_up(*at)).count();
    Ok(whole as f64 / some().count() as f64)
}

const SHAPE: &str = "stalled";
const HEALTHY: usize = 1_000;
const STALLED: usize = 10_000;

/// Sockets of as many sizes, which are therefore full at different times. The kernel asks each full one again and again
/// whether it takes something, at 0.2, 0.4, 0.8 … seconds: ten thousand that were full in the same millisecond are asked
/// in the same millisecond, which holds up whoever else is served then, bare loop or hub.
const GROUPS: usize = 20;

/// More than any reasonable socket holds: 300 KiB.
const FILL_EVENTS: usize = 300;

/// Stalled readers that are looked at when they read on.
const RESUMED: usize = 100;

/// So many tenths of a second without a byte, and nothing more comes: longer than the kernel waits before it asks a socket
/// again that was full for ten seconds.
const QUIET_TURNS: usize = 150;
