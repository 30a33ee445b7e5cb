//! `cargo xtask bench polls`: how late live events are beside polls that search a long history and find nothing.
//!
//! Rounds alternate: live events alone, beside a process that only computes, and beside the polls. The second tells what any
//! program on this machine would cost them, so the third is to be held against it. Whoever polls is a process of its own, which
//! runs when nobody else wants to (SCHED_IDLE, through `chrt`), and so is the one that computes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::replay::{fill, live, release_server};
use crate::shell::{Failure, Outcome};
use crate::torture::http;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events in the log, of 100 bytes each
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    events: u64,
    /// Clients that poll beside the live events
    #[arg(long, value_name = "N", default_value_t = 4)]
    pollers: usize,
    /// Live events in each round
    #[arg(long, value_name = "N", default_value_t = 1500)]
    live: u32,
    /// Rounds of each kind
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Keep the log on disk instead of in memory
    #[arg(long)]
    on_disk: bool,
    /// The hub to measure [default: a release build of this workspace]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct BesideArgs {
    address: SocketAddr,
    /// How many poll; none means to compute instead
    pollers: usize,
}

/// `cargo xtask bench polls`
pub(super) fn run(workspace: &Workspace, args: &Args) -> Outcome {
    let binary = release_server(workspace, args.binary.as_ref())?;
    let folder = std::env::temp_dir().join(format!("sse-bench-polls-{}", std::process::id()));
    let mut command = Command::new(binary);
    command.args(["--listen", "127.0.0.1:0", "--log", "warn"]);
    command.args(["--retention-size", "1GiB"]);
    match args.on_disk {
        true => command.arg("--data-dir").arg(&folder),
        false => command.arg("--ephemeral"),
    };
    let (hub, address) = start(command)?;
    let lost = |error: std::io::Error| Failure::new(format!("the hub was lost: {error}"));
    fill(address, args.events)?;
    let beside = [
        "alone",
        "beside a process that computes",
        "beside the polls",
    ];
    let mut p99 = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..args.rounds {
        for (kind, into) in p99.iter_mut().enumerate() {
            let others = match kind {
                0 => None,
                1 => Some(Process::beside(address, 0)?),
                _ => Some(Process::beside(address, args.pollers)?),
            };
            let mut times = live(address, args.live).map_err(lost)?;
            drop(others);
            times.sort();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            println!(
                "round {round}, {}: live event p50 {:.2?} p90 {:.2?} p99 {:.2?}, worst {:.2?}",
                beside[kind],
                at(50),
                at(90),
                at(99),
                at(100)
            );
            into.push(at(99).as_secs_f64());
            // The hub sees that they are gone.
            thread::sleep(Duration::from_millis(500));
        }
    }
    let [alone, computing, polls] = p99.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "median p99 over alone: {:.2} beside a process that computes, {:.2} beside the polls",
        computing / alone,
        polls / alone
    );
    drop(hub);
    // It is only a temporary folder; what is left of it hurts nobody.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

/// Starts a hub; gives where it listens.
fn start(mut command: Command) -> Outcome<(Process, SocketAddr)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("the hub does not start: {error}")))?;
    let stdout = child.stdout.take();
    let hub = Process(child);
    let mut lines = BufReader::new(stdout.expect("it was piped some lines above")).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    // The rest is read, so that the pipe does not fill.
    thread::spawn(move || lines.for_each(drop));
    let address = first.rsplit('/').next().unwrap_or_default();
    let address = address
        .parse()
        .map_err(|_| Failure::new(format!("the hub does not say where it listens: {first}")))?;
    Ok((hub, address))
}

/// A process that ends with this.
struct Process(Child);

impl Process {
    fn beside(address: SocketAddr, pollers: usize) -> Outcome<Self> {
        let this = std::env::current_exe()
            .map_err(|error| Failure::new(format!("this program is nowhere: {error}")))?;
        let mut command = Command::new("chrt");
        // What computes is a program like any other; who polls is another machine.
        match pollers {
            0 => command.args(["--other", "0"]),
            _ => command.args(["--idle", "0"]),
        };
        let child = command
            .arg(this)
            .args(["bench", "polls-beside"])
            .args([address.to_string(), pollers.to_string()])
            .spawn()
            .map_err(|error| {
                Failure::new(format!("chrt (of util-linux) does not start: {error}"))
            })?;
        thread::sleep(Duration::from_secs(1));
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `cargo xtask bench polls-beside`: polls over and over, or computes, until it is killed.
pub(super) fn go_on_for_ever(args: &BesideArgs) -> Outcome {
    let address = args.address;
    for _ in 0..args.pollers {
        thread::spawn(move || {
            loop {
                // The hub may be gone; then this process is killed soon.
                let _ = search(address);
            }
        });
    }
    if args.pollers == 0 {
        loop {
            std::hint::spin_loop();
        }
    }
    loop {
        thread::park();
    }
}

/// Goes through the whole log in search of what is not in it.
fn search(address: SocketAddr) -> std::io::Result<()> {
    let mut after = "earliest".to_owned();
    loop {
        let path = format!("/events/poll?topic=*/nowhere/:n&after={after}");
        let reply = http::get(address, &path)?;
        let answer: Value = serde_json::from_slice(&reply.body).map_err(std::io::Error::other)?;
        let position = answer["position"].as_str().unwrap_or_default().to_owned();
        let offset = |position: &str| -> Option<u64> { position.rsplit('-').next()?.parse().ok() };
        let step = offset(&position).zip(offset(&after));
        let is_at_the_end = step.is_some_and(|(to, from)| to < from + FULL_STEP);
        if position.is_empty() || is_at_the_end {
            return Ok(());
        }
        after = position;
    }
}

/// A poll that has more before it goes at least so far: it looks at 65,536 events.
const FULL_STEP: u64 = 65_000;
