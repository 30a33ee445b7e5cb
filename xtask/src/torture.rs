//! `cargo xtask torture`: the real hub is killed again and again under load, and nobody may notice.
//!
//! Publishers send numbered events at a steady rate and repeat each request until it is answered.
//! Readers follow a topic each, some of them every topic, and resume after the last id they saw. Meanwhile
//! the process is killed with signal 9 at random moments, or stopped in good order, and started again on the same
//! folder. Then:
//!
//! * no acknowledged event is lost: each stands in the log, at the position that its answer named;
//! * none is there twice, although requests were repeated across crashes;
//! * order is kept: what each reader saw, event by event, is the log's own order of its topics;
//! * nobody was told of a gap, and the log is whole.
//!
//! The seed decides when the hub is killed; what a crash meets is up to the machine, so a seed narrows a
//! failure down and does not repeat it exactly.

pub(crate) mod check;
pub(crate) mod http;
pub(crate) mod hub;
mod publisher;
mod reader;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::shell::{Cmd, Failure, Outcome, which};
use crate::workspace::Workspace;
use hub::{Hub, Injection};
use publisher::Publishers;
use reader::Readers;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the hub is killed
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Events published in a second
    #[arg(long, default_value_t = 5000)]
    rate: u32,
    /// Readers that check what they get
    #[arg(long, default_value_t = 200)]
    readers: usize,
    /// Decides when the hub is killed [default: by chance]
    #[arg(long)]
    seed: Option<u64>,
    /// How safe an acknowledged event is: fsync or os
    #[arg(long, default_value = "fsync")]
    durability: String,
    /// Fill the log with so many MiB first, to see how long it takes to be ready again
    #[arg(long, default_value_t = 0)]
    fill_mib: u64,
    /// Do not wait for a moment to kill: crash at the n-th write or sync since the start (needs strace)
    #[arg(long)]
    inject: bool,
    /// Do not kill it: stop it as an operator does (SIGTERM) and start it anew, again and again
    #[arg(long, conflicts_with = "inject")]
    rolling: bool,
    /// The hub to torture [default: a release build of this workspace]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the log is kept; left there at the end [default: a folder of its own, removed when all is well]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// `cargo xtask torture`
pub(crate) fn run(args: &Args) -> Outcome {
    if args.inject && which("strace").is_none() {
        return Err(Failure::new(
            "strace is not installed, and --inject needs it: apt install strace, or leave --inject out",
        ));
    }
    let workspace = Workspace::load()?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => {
            Cmd::cargo(["build", "--release", "-p", "sse-server"]).run()?;
            workspace.target_dir.join("release/sse-server")
        }
    };
    let folder = args.data_dir.clone().unwrap_or_else(|| {
        let name = format!("sse-torture-{}", std::process::id());
        std::env::temp_dir().join(name)
    });
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!(
        "torture: seed {seed}, {} rounds{}, {} events/s, {} readers, durability {}, in {}",
        args.rounds,
        if args.inject {
            " (injected)"
        } else if args.rolling {
            " (stopped)"
        } else {
            ""
        },
        args.rate,
        args.readers,
        args.durability,
        folder.display()
    );
    let hub = Hub::new(binary, folder.clone(), args.durability.clone())?;
    let figures = torture(args, hub, seed)?;
    figures.print();
    if args.data_dir.is_none() {
        // It is only a temporary folder; what is left of it hurts nobody.
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok(())
}

/// What a long test run does: killed a hundred times, crashed at 500 writes and syncs, stopped twenty times.
pub(crate) fn long() -> Outcome {
    let args = |rounds| Args {
        rounds,
        rate: 5000,
        readers: 200,
        seed: None,
        durability: "fsync".to_owned(),
        fill_mib: 0,
        inject: false,
        rolling: false,
        binary: None,
        data_dir: None,
    };
    run(&args(100))?;
    run(&Args {
        inject: true,
        rate: 2000,
        readers: 20,
        ..args(500)
    })?;
    run(&Args {
        rolling: true,
        ..args(20)
    })
}

/// What was seen.
struct Figures {
    kills: u32,
    events: u64,
    stored_again: u64,
    repeated_requests: u64,
    delivered: u64,
    resumes: u64,
    /// Where the hub was stopped and not killed: how many streams ended, and how many of them as they should.
    stopped: Option<(u64, u64)>,
    load: Duration,
    ready: Vec<Duration>,
    log_bytes: u64,
}

impl Figures {
    fn print(&self) {
        let mut ready = self.ready.clone();
        ready.sort();
        let at = |part: usize| {
            let index = (ready.len().saturating_sub(1)) * part / 100;
            ready.get(index).map_or(0, Duration::as_millis)
        };
        println!(
            "killed or stopped {} times in {:.1} s of load; ready again after {} ms (median), {} ms (p99), {} ms (worst)",
            self.kills,
            self.load.as_secs_f64(),
            at(50),
            at(99),
            at(100)
        );
        println!(
            "published {} events ({:.0}/s), {} requests repeated, {} of their events were stored already",
            self.events,
            self.events as f64 / self.load.as_secs_f64(),
            self.repeated_requests,
            self.stored_again
        );
        println!(
            "delivered and checked {} events, {} resumes; the log has {} MiB",
            self.delivered,
            self.resumes,
            self.log_bytes >> 20
        );
        if let Some((ends, farewells)) = self.stopped {
            println!("{ends} streams ended, {farewells} of them with the time to come back after");
        }
        println!("no acknowledged event lost, none twice, order kept, no gap, log verified");
    }
}

fn torture(args: &Args, mut hub: Hub, seed: u64) -> Outcome<Figures> {
    let mut chance = fastrand::Rng::with_seed(seed);
    hub.start(None)?;
    if args.fill_mib > 0 {
        publisher::fill(hub.address(), args.fill_mib)?;
        println!("filled with {} MiB", hub.log_bytes() >> 20);
    }
    let start = check::head(hub.address())?;
    let readers = Readers::start(hub.address(), args.readers, &start);
    let publishers = Publishers::start(hub.address(), args.rate);
    let begun = Instant::now();
    let mut ready = Vec::new();
    let mut kills = 0;
    for round in 1..=args.rounds {
        if args.inject {
            // The first start of a round waits for its crash, the second one is let be for a moment.
            let injection = Injection::by_chance(&mut chance);
            hub.kill();
            hub.start(Some(injection))?;
            if !hub.wait_for_end(MAX_INJECTION_WAIT) {
                println!("round {round}: {injection} was not reached");
                hub.kill();
            }
        } else {
            let millis = chance.u64(MIN_LIFE_MILLIS..MAX_LIFE_MILLIS);
            std::thread::sleep(Duration::from_millis(millis));
            if args.rolling {
                hub.stop()?;
            } else {
                hub.kill();
            }
        }
        kills += 1;
        let took = hub.start(None)?;
        ready.push(took);
        readers.complain()?;
        if round % 10 == 0 || round == args.rounds {
            let acked = publishers.acked.load(Ordering::Relaxed);
            println!("round {round}: {acked} events acknowledged, ready again in {took:?}");
        }
    }
    std::thread::sleep(Duration::from_millis(MAX_LIFE_MILLIS));
    let published = publishers.stop()?;
    let load = begun.elapsed();
    let expected = check::log_after(hub.address(), &start)?;
    check::acknowledged_once(&published, &expected)?;
    let seen = readers.stop(&Arc::new(check::orders(&expected)))?;
    if args.rolling && seen.farewells < seen.ends {
        return Err(Failure::new(format!(
            "{} of {} streams were cut when the hub was stopped",
            seen.ends - seen.farewells,
            seen.ends
        )));
    }
    let log_bytes = hub.log_bytes();
    hub.stop()?;
    hub.verify()?;
    Ok(Figures {
        kills,
        events: published.events(),
        stored_again: published.stored_already,
        repeated_requests: published.repeated,
        delivered: seen.delivered,
        resumes: seen.resumes,
        stopped: args.rolling.then_some((seen.ends, seen.farewells)),
        load,
        ready,
        log_bytes,
    })
}

/// So long the hub lives at least before it is killed, and at most: some are killed while they catch up,
/// some when all is quiet again.
const MIN_LIFE_MILLIS: u64 = 200;
const MAX_LIFE_MILLIS: u64 = 2000;
/// A crash that has not come after so long does not come.
const MAX_INJECTION_WAIT: Duration = Duration::from_secs(20);
