//! What it costs to hand one event to very many readers.
//!
//! The tool starts a server on a core of its own, connects readers and publishers from another,
//! checks every event that arrives, and reads the server's processor time and memory. It does the
//! same to a bare epoll loop that writes finished bytes, the floor, and to installed peers, round
//! by round, so that what is said in the end is a ratio. `cargo xtask bench fanout` builds and
//! runs it; `docs/fanout-benchmarks.md` says what the figures mean.
//!
//! ```text
//! options ──▶ shapes ──▶ process (a server)        target: how each is started and spoken to
//!                │   └─▶ fleet (the load)  ──▶ reader, publisher ──▶ wire
//!                │           └─▶ tally: lost? in order? how late?
//!                └─▶ figures ──▶ report, goals, chart
//! ```

mod chart;
mod figures;
mod fleet;
mod floor;
mod goals;
mod kernel;
mod load;
mod options;
mod payload;
mod process;
mod publisher;
mod reader;
mod report;
mod shape;
mod shapes;
mod table;
mod tally;
mod target;
mod unpack;
mod wire;

use std::fmt;
use std::process::ExitCode;

use clap::Parser;

use figures::Figures;
use options::{Cli, Command, Options};

/// Why something could not be measured, in one line.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.to_string())
    }
}

type Outcome<T = ()> = Result<T, Failure>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Floor { port, writes }) => floor::serve(port, writes).map_err(Failure::from),
        None => measure(&cli.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Outcome {
    let targets = options.targets()?;
    let baseline = report::read_baseline(options)?;
    process::raise_open_files()?;
    if let Some(nice) = options.nice {
        rustix::process::setpriority_process(None, nice)?;
    }
    process::pin(process::LOAD_CORE)?;
    let machine = report::Machine::now();
    let mut figures = Figures::default();
    shapes::measure(options, &targets, &mut figures)?;
    report::print(&machine, &figures);
    goals::print(&figures);
    if let Some(baseline) = &baseline {
        report::compare(baseline, &figures);
    }
    report::write_files(options, &machine, &figures)
}
