//! Each reader has a topic of its own: cost must follow the readers of an event, not connections.

use std::time::Duration;

use super::steps::{SETTLE, check, warm_up};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::fleet::{Arrival, Audience, Fleet};
use crate::load::{Load, Pace, run};
use crate::options::Options;
use crate::payload::Payload;
use crate::process::Server;
use crate::target::Target;

pub(super) fn measure(options: &Options, target: &Target, figures: &mut Figures) -> Outcome {
    for readers in READERS {
        let server = Server::start(target, &options.server_args, &[])?;
        let before = server.memory();
        let mut fleet = Fleet::new(&server, Audience::One)?;
        fleet.subscribe(readers, Arrival::default())?;
        fleet.idle_for(SETTLE)?;
        let with_readers = server.memory().saturating_sub(before) as f64 / 1024.0;
        figures.add(
            SHAPE,
            readers,
            Metric::IdleMemory,
            with_readers / readers as f64,
        );

        // Every topic once, as each reader's first event may make what the later ones use.
        warm_up(&mut fleet, &server)?;
        let mut load = Load {
            payload: Payload::Filler(100),
            pace: Pace::InFlight(1),
            publishers: 1,
            lasting: Duration::from_secs(30),
            at_most: Some(readers),
        };
        run(&mut fleet, &server, load)?;
        load.lasting = options.scaled(Duration::from_secs(1));
        load.at_most = None;
        // To all of them in turn, whose sockets are then in no cache; and to a hundred, whatever else is connected.
        for (shape, addressed) in [(IN_TURN, readers), (SHAPE, READERS[0])] {
            fleet.addressed = addressed;
            let ran = run(&mut fleet, &server, load)?;
            check(figures, shape, &fleet, &ran);
            figures.add(
                shape,
                readers,
                Metric::CpuPerPublish,
                ran.cpu_micros_per_delivery(),
            );
        }

        drop(fleet);
        std::thread::sleep(SETTLE * 2);
        let left = server.memory() as f64 / 1024.0 - before as f64 / 1024.0;
        figures.add(SHAPE, readers, Metric::MemoryLeft, left);
    }
    Ok(())
}

pub(crate) const SHAPE: &str = "own topics";
pub(crate) const IN_TURN: &str = "own topics, all in turn";
const READERS: [usize; 2] = [100, 10_000];
