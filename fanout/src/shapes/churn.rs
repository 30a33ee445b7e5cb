//! Readers that come and go: what each costs, and what they leave behind.

use std::time::Instant;

use super::steps::SETTLE;
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::fleet::{Audience, Fleet};
use crate::options::Options;
use crate::process::Server;
use crate::target::Target;

pub(super) fn measure(options: &Options, target: &Target, figures: &mut Figures) -> Outcome {
    let readers = if options.is_quick() {
        READERS / 5
    } else {
        READERS
    };
    let server = Server::start(target, &options.server_args, &[])?;
    let mut fleet = Fleet::new(&server, Audience::Everyone)?;
    // What the first readers leave is what any later ones use again.
    fleet.churn(readers / 20)?;
    fleet.idle_for(SETTLE * 2)?;

    let (before, cpu, began) = (server.memory(), server.cpu(), Instant::now());
    fleet.churn(readers)?;
    let took = began.elapsed();
    let cpu = server.cpu().saturating_sub(cpu);
    fleet.idle_for(SETTLE * 2)?;
    let left = server.memory() as f64 / 1024.0 - before as f64 / 1024.0;
    let each = cpu.as_secs_f64() * 1e6 / readers as f64;
    figures.add(SHAPE, readers, Metric::CpuPerConnect, each);
    let rate = readers as f64 / took.as_secs_f64();
    figures.add(SHAPE, readers, Metric::ConnectsPerSecond, rate);
    figures.add(SHAPE, readers, Metric::MemoryLeft, left);
    Ok(())
}

const SHAPE: &str = "churn";
const READERS: usize = 100_000;
