//! Latency and processor time by the rate of publishing, up to where the server no longer follows.

use std::time::Duration;

use super::steps::{check, warm_up};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::fleet::{Arrival, Audience, Fleet};
use crate::load::{Load, Pace, run};
use crate::options::Options;
use crate::payload::Payload;
use crate::process::Server;
use crate::target::Target;

pub(super) fn measure(options: &Options, target: &Target, figures: &mut Figures) -> Outcome {
    let server = Server::start(target, &options.server_args, &[])?;
    let mut fleet = Fleet::new(&server, Audience::Everyone)?;
    fleet.subscribe(READERS, Arrival::default())?;
    warm_up(&mut fleet, &server)?;
    for rate in RATES {
        let lasting = Duration::from_secs_f64(LEAST_EVENTS / f64::from(rate));
        let load = Load {
            payload: Payload::Filler(100),
            pace: Pace::PerSecond(f64::from(rate)),
            publishers: 16,
            lasting: lasting.max(options.scaled(Duration::from_secs(2))),
            at_most: None,
        };
        let ran = run(&mut fleet, &server, load)?;
        let shape = format!("{SHAPE}{rate}/s");
        check(figures, &shape, &fleet, &ran);
        figures.add(
            &shape,
            READERS,
            Metric::CpuPerEvent,
            ran.cpu_micros_per_delivery(),
        );
        let share = ran.cpu.as_secs_f64() / ran.wall.max(load.lasting).as_secs_f64();
        figures.add(&shape, READERS, Metric::CpuShare, share);
        for (metric, value) in [(Metric::P50, ran.p50_ms), (Metric::P99, ran.p99_ms)] {
            if let Some(value) = value {
                figures.add(&shape, READERS, metric, value);
            }
        }
        // Past this point there is a queue that only grows, and its length is all one would see.
        if ran.wall > load.lasting.mul_f64(1.1) + Duration::from_millis(100) {
            break;
        }
    }
    Ok(())
}

/// The rate that a point's name speaks of.
pub(crate) fn rate_of(shape: &str) -> Option<f64> {
    shape.strip_prefix(SHAPE)?.strip_suffix("/s")?.parse().ok()
}

/// What the name of each point begins with; the rate follows.
pub(crate) const SHAPE: &str = "curve ";
const READERS: usize = 1_000;

/// Events a second.
const RATES: [u32; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Events at the slowest rates, so that there are a few thousand deliveries to tell from.
const LEAST_EVENTS: f64 = 4.0;
