//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::floor::Writes;
use crate::shape::Shape;
use crate::target::{Signature, Target, nchan_module};
use crate::{Failure, Outcome};

/// Measures what fan-out costs: this project's server beside a bare writer and installed peers
///
/// Servers run on core 0, readers and publishers on core 1. Each round starts every server anew,
/// one after the other; figures are medians over the rounds, ratios are taken within a round.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench fanout",
    bin_name = "cargo xtask bench fanout"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Serve as the floor that servers are held against
    #[command(hide = true)]
    Floor { port: u16, writes: Writes },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Half the time for each shape, and a fifth of the churn
    #[arg(long)]
    quick: bool,
    /// Shapes, with commas between [default: the basic six]
    #[arg(long, value_delimiter = ',', value_name = "SHAPE")]
    shapes: Vec<Shape>,
    /// Servers, with commas between: raw, raw-coalesce, hub, hub-durable, hub-no-linger, hub-hs256,
    /// hub-es256, nchan, axum
    /// [default: all that are there, save hub-durable, hub-no-linger and the two whose readers show tokens]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    servers: Vec<String>,
    /// Also the hub with its log on disk
    #[arg(long)]
    durable: bool,
    /// Numbers of readers, with commas between
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N",
        default_value = "1000,10000"
    )]
    subscribers: Vec<usize>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw the ratios, and the curves of the shape `curve`, to this file and beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
    /// Compare with the figures in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Arguments for the hub, in one word: `--server-args='--workers 2'`
    #[arg(
        long,
        value_name = "ARGS",
        value_delimiter = ' ',
        allow_hyphen_values = true
    )]
    pub(crate) server_args: Vec<String>,
    /// The hub's program, instead of the one just built
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// The axum peer's program
    #[arg(long, value_name = "FILE", hide = true)]
    axum: Option<PathBuf>,
    /// Run servers and load at this niceness; below 0 needs the right to
    ///
    /// On a machine that is busy with other things, -19 keeps most of them out of the figures.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) nice: Option<i32>,
    /// Say nothing while measuring
    #[arg(long)]
    silent: bool,
}

impl Options {
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        if !self.shapes.is_empty() {
            return self.shapes.clone();
        }
        vec![
            Shape::Connect,
            Shape::Idle,
            Shape::Paced,
            Shape::Flat100,
            Shape::Flat1k,
            Shape::Single,
        ]
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds
    }

    pub(crate) fn subscribers(&self) -> Vec<usize> {
        self.subscribers.clone()
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// `time`, or half of it in a quick run.
    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        if self.quick { time / 2 } else { time }
    }

    /// The servers to measure.
    ///
    /// # Errors
    ///
    /// When one that was named is not there.
    pub(crate) fn targets(&self) -> Outcome<Vec<Target>> {
        let mut there = vec![Target::Raw, Target::RawCoalesce];
        there.extend(self.hub.clone().map(Target::Hub));
        there.extend(self.hub.clone().map(Target::HubDurable));
        there.extend(self.hub.clone().map(Target::HubNoLinger));
        for signature in [Signature::Hs256, Signature::Es256] {
            let signed = |program| Target::HubSigned(program, signature);
            there.extend(self.hub.clone().map(signed));
        }
        there.extend(nchan_module().map(Target::Nchan));
        there.extend(self.axum.clone().map(Target::Axum));
        if self.servers.is_empty() {
            let wanted = |target: &Target| match target {
                Target::HubDurable(_) => self.durable,
                Target::HubNoLinger(_) | Target::HubSigned(..) => false,
                _ => true,
            };
            return Ok(there.into_iter().filter(wanted).collect());
        }
        let mut names = self.servers.clone();
        if self.durable && !names.iter().any(|name| name == "hub-durable") {
            names.push("hub-durable".to_owned());
        }
        let named = |name: &String| {
            let found = there.iter().find(|target| target.name() == name);
            found
                .cloned()
                .ok_or_else(|| Failure::new(format!("no server `{name}` is there to be measured")))
        };
        names.iter().map(named).collect()
    }
}
