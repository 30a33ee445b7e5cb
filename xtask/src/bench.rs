//! `cargo xtask bench`: the crates' criterion benchmarks, and a record of what they measured.
//!
//! A figure without its machine says nothing, so `--save` writes what criterion estimated together
//! with commit, processor and compiler to `docs/bench/<date>-<commit>.json`. A second run of the
//! same commit on the same day adds to the file, and replaces what it measured again.
//!
//! `cargo xtask bench fanout`, `replay`, `polls` and `resume` are another thing: whole servers, over sockets. See [`fanout`],
//! [`replay`], [`polls`] and [`resume`].

mod fanout;
mod polls;
mod record;
mod replay;
mod resume;

use std::time::SystemTime;

use clap::ValueEnum;

use crate::shell::{Cmd, Failure, Outcome};
use crate::workspace::{Crate, Workspace};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    whole: Option<Whole>,
    /// What to measure
    #[arg(default_value = "all")]
    what: What,
    /// Keep the estimates under docs/bench
    #[arg(long)]
    save: bool,
    /// Arguments for criterion, such as a filter of names, after `--`
    #[arg(last = true)]
    criterion: Vec<String>,
}

/// What is measured as a whole program.
#[derive(clap::Subcommand)]
enum Whole {
    /// The release server beside a bare writer and installed peers, over sockets
    Fanout(fanout::Args),
    /// How fast the release server replays, and how late live events are beside a hundred replays
    Replay(replay::Args),
    /// How long a reader that comes back waits for its first event, in a short history and in a long one
    Resume(resume::Args),
    /// How late live events are beside polls that search a long history in vain
    Polls(polls::Args),
    /// The clients of `polls`, as a process of their own
    #[command(hide = true)]
    PollsBeside(polls::BesideArgs),
    /// The readers of `replay`, as a process of their own
    #[command(hide = true)]
    ReplayReaders(replay::ReaderArgs),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Decoding and encoding: sse-protocol
    Codec,
    /// Fan-out and admission: sse-pool
    Pool,
    /// Message and stream compression: sse-compress
    Compress,
    /// Append and replay: sse-broker
    Broker,
    /// Every crate that has benchmarks
    All,
}

impl What {
    /// The crate it stands for; `None` for all.
    fn package(self) -> Option<&'static str> {
        match self {
            Self::Codec => Some("sse-protocol"),
            Self::Pool => Some("sse-pool"),
            Self::Compress => Some("sse-compress"),
            Self::Broker => Some("sse-broker"),
            Self::All => None,
        }
    }
}

/// `cargo xtask bench`
pub(crate) fn run(args: &Args) -> Outcome {
    let workspace = Workspace::load()?;
    match &args.whole {
        Some(Whole::Fanout(args)) => return fanout::run(&workspace, args),
        Some(Whole::Replay(args)) => return replay::run(&workspace, args),
        Some(Whole::Resume(args)) => return resume::run(&workspace, args),
        Some(Whole::Polls(args)) => return polls::run(&workspace, args),
        Some(Whole::PollsBeside(args)) => return polls::go_on_for_ever(args),
        Some(Whole::ReplayReaders(args)) => return replay::read_for_ever(args),
        None => {}
    }
    let started = SystemTime::now();
    for krate in chosen(&workspace, args.what)? {
        let benches = krate.targets_of("bench").flat_map(|name| ["--bench", name]);
        Cmd::cargo(["bench", "-p", &krate.name])
            .args(benches)
            .args(["--"])
            .args(&args.criterion)
            .run()?;
    }
    let reports = workspace.target_dir.join("criterion");
    println!("\nreports: {}", reports.join("report/index.html").display());
    if args.save {
        let file = record::save(&workspace.root, &reports, started)?;
        println!("saved: {}", file.display());
    }
    Ok(())
}

fn chosen(workspace: &Workspace, what: What) -> Outcome<Vec<&Crate>> {
    let wanted: Vec<_> = match what.package() {
        Some(name) => workspace.find(name).into_iter().collect(),
        None => workspace.crates.iter().collect(),
    };
    let has_benches = |krate: &&Crate| krate.targets_of("bench").next().is_some();
    let found: Vec<_> = wanted.into_iter().filter(has_benches).collect();
    if found.is_empty() {
        let name = what.package().unwrap_or("the workspace");
        return Err(Failure::new(format!("{name} has no benchmark")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_for_a_benchmark_names_a_crate_of_the_workspace() {
        let workspace = Workspace::load().unwrap();
        for package in What::value_variants()
            .iter()
            .filter_map(|what| what.package())
        {
            assert!(workspace.find(package).is_some(), "{package}");
        }
    }
}
