//! One load: events published in some rhythm, and what that cost the server.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::fleet::{Audience, Fleet, QUIET};
use crate::payload::Payload;
use crate::process::Server;

/// When events are published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// As soon as fewer than so many are on their way.
    ///
    /// Without that bound a server that answers before it delivers would show how much it can
    /// queue, and nothing else.
    InFlight(usize),
    /// So many a second, whatever becomes of them. Latency counts from when an event was due, so
    /// that a server which takes publishes late does not look quick.
    PerSecond(f64),
}

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) payload: Payload,
    pub(crate) pace: Pace,
    /// Connections that publish, each with one request at a time.
    pub(crate) publishers: usize,
    pub(crate) lasting: Duration,
    /// Where a load without a rate ends, whatever its time.
    pub(crate) at_most: Option<usize>,
}

/// What a load did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ran {
    /// Events published.
    pub(crate) events: usize,
    /// Deliveries that there should have been.
    pub(crate) deliveries: usize,
    pub(crate) lost: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupt: u64,
    /// From the first publish to the last arrival.
    pub(crate) wall: Duration,
    /// Processor time of the server.
    pub(crate) cpu: Duration,
    /// Milliseconds; only of a load with a rate.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// Received by all readers.
    pub(crate) bytes: u64,
    /// The share of time in which the load generator had something to do.
    pub(crate) busy: f64,
}

impl Ran {
    /// Microseconds of the server's processor for each delivery.
    pub(crate) fn cpu_micros_per_delivery(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.deliveries.max(1) as f64
    }

    pub(crate) fn deliveries_per_second(&self) -> f64 {
        self.deliveries as f64 / self.wall.as_secs_f64().max(1e-9)
    }
}

/// Runs `load` and waits for what it published.
pub(crate) fn run(fleet: &mut Fleet, server: &Server, load: Load) -> Outcome<Ran> {
    fleet.have_publishers(load.publishers)?;
    fleet.begin();
    if let Pace::PerSecond(_) = load.pace {
        fleet.tally.latency.on();
    }
    let cpu_before = server.cpu();
    let began = Instant::now();
    let began_nanos = fleet.now_nanos();
    publish_all(fleet, load)?;
    wait_for_all(fleet)?;
    let took = began.elapsed();
    let cpu = server.cpu().saturating_sub(cpu_before);

    let tally = &fleet.tally;
    let readers = match fleet.audience {
        Audience::Everyone => fleet.subscribed,
        Audience::One => 1,
    };
    let wall = Duration::from_nanos(tally.last_arrival_nanos.saturating_sub(began_nanos));
    Ok(Ran {
        events: tally.events(),
        deliveries: tally.events() * readers,
        lost: tally.lost,
        reordered: tally.reordered,
        corrupt: tally.corrupt + fleet.misrouted,
        wall,
        cpu,
        p50_ms: tally.latency.millis(0.5),
        p99_ms: tally.latency.millis(0.99),
        bytes: fleet.readers.iter().map(|reader| reader.bytes).sum(),
        busy: 1.0 - fleet.idle.as_secs_f64() / took.as_secs_f64(),
    })
}

fn publish_all(fleet: &mut Fleet, load: Load) -> Outcome {
    let began = Instant::now();
    let began_nanos = fleet.now_nanos();
    match load.pace {
        Pace::InFlight(most) => {
            let limit = load.at_most.unwrap_or(usize::MAX);
            while began.elapsed() < load.lasting || fleet.tally.events() == 0 {
                if fleet.tally.events() >= limit {
                    return Ok(());
                }
                while fleet.tally.in_flight() < most && fleet.tally.events() < limit {
                    let now = fleet.now_nanos();
                    if !fleet.publish(load.payload, load.publishers, now)? {
                        break;
                    }
                }
                fleet.turn()?;
                if is_stuck(fleet) {
                    return Ok(());
                }
            }
        }
        Pace::PerSecond(rate) => {
            let wanted = (load.lasting.as_secs_f64() * rate).ceil().max(1.0) as u64;
            let give_up = load.lasting * 3 + QUIET;
            let mut published = 0;
            while published < wanted && began.elapsed() < give_up {
                let due = began_nanos + (published as f64 * 1e9 / rate) as u64;
                if fleet.now_nanos() >= due && fleet.publish(load.payload, load.publishers, due)? {
                    published += 1;
                }
                fleet.turn()?;
            }
        }
    }
    Ok(())
}

/// Whether a window has been full, and nothing has come, for so long that nothing will.
fn is_stuck(fleet: &Fleet) -> bool {
    let quiet = fleet
        .now_nanos()
        .saturating_sub(fleet.tally.last_arrival_nanos);
    fleet.tally.delivered > 0 && fleet.tally.in_flight() > 0 && quiet > QUIET.as_nanos() as u64
}

fn wait_for_all(fleet: &mut Fleet) -> Outcome {
    let mut quiet_since = Instant::now();
    let mut delivered = fleet.tally.delivered;
    while fleet.tally.in_flight() > 0 || !fleet.publishers.iter().all(|p| p.is_idle()) {
        fleet.turn()?;
        if fleet.tally.delivered != delivered {
            delivered = fleet.tally.delivered;
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() > QUIET {
            fleet.tally.give_up();
            break;
        }
    }
    Ok(())
}
