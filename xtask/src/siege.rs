//! `cargo xtask siege`: strangers do all that they can at once, and the readers of a small hub must not notice.
//!
//! The release build of the server runs in a memory cgroup of its own, on one core. Five thousand readers follow
//! numbered events. Meanwhile everything that a stranger can send is sent at once from other addresses: patterns, answers
//! that nobody takes, bodies that do not end, jobs, replays, scans. Nobody reads the hub's log either. Then:
//!
//! * the kernel killed nothing;
//! * each reader got every event of its topics, in order, or was told of the gap;
//! * each publish was acknowledged, at the latest when it was repeated;
//! * the 99th percentile of the delivery is within 100 ms, or two and a half times what it was before the siege, on a machine that
//!   needs nearly as long for so many sockets anyway.
//!
//! With `--in-turn` the attacks come one after another, and what counts is what they leave: memory and open files must not grow
//! from one round to the next.
//!
//! The readers and the attackers are processes of their own, both on the other core, the attackers with the lowest priority.

mod attacks;
mod cgroup;
mod growth;
mod http2;
mod readers;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shell::{Cmd, Failure, Outcome, which};
use crate::torture::http;
use crate::workspace::Workspace;
use cgroup::Cgroup;
use growth::Growth;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long it is besieged, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Readers that must not notice
    #[arg(long, default_value_t = 5000)]
    readers: usize,
    /// What the hub is told to keep to
    #[arg(long, default_value = "96MiB")]
    memory: String,
    /// What the kernel lets it have, in MiB
    #[arg(long, default_value_t = 128)]
    cgroup_mib: u64,
    /// Only these attacks; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// No attack at all, for comparison
    #[arg(long, conflicts_with = "only")]
    peace: bool,
    /// One attack after the other, in three rounds, and a look at what grows
    #[arg(long, conflicts_with = "peace")]
    in_turn: bool,
    /// The hub to besiege [default: a release build of this workspace]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Be one of the processes that take part
    #[arg(long, hide = true, requires = "address")]
    part: Option<Part>,
    #[arg(long, hide = true)]
    address: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Readers,
    Attackers,
}

/// `cargo xtask siege`
pub(crate) fn run(args: &Args) -> Outcome {
    let length = Duration::from_secs(args.seconds);
    match (args.part, args.address) {
        (Some(Part::Readers), Some(address)) => readers::run(address, args.readers, length),
        (Some(Part::Attackers), Some(address)) => {
            attacks::run(address, length, &args.only, args.in_turn)
        }
        _ => besiege(args, length),
    }
}

/// Ten minutes, as a long test run has it.
pub(crate) fn long() -> Outcome {
    run(&Args {
        seconds: 600,
        readers: 5000,
        memory: "96MiB".to_owned(),
        cgroup_mib: 128,
        only: Vec::new(),
        peace: false,
        in_turn: false,
        binary: None,
        part: None,
        address: None,
    })
}

fn besiege(args: &Args, length: Duration) -> Outcome {
    if which("taskset").is_none() {
        return Err(Failure::new(
            "taskset is not installed: apt install util-linux",
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
    let cgroup = Cgroup::new(args.cgroup_mib << 20)?;
    let folder = std::env::temp_dir().join(format!("sse-siege-{}", std::process::id()));
    let mut hub = Hub::start(&binary, &folder, &cgroup, &args.memory)?;
    println!(
        "siege: {} s, {} readers, --memory {} in a cgroup of {} MiB",
        args.seconds, args.readers, args.memory, args.cgroup_mib
    );
    // The readers connect first; the attackers begin when they stand.
    let readers = part(args, Part::Readers, hub.address, length, 0)?;
    std::thread::sleep(CONNECTING);
    let attackers = match args.peace {
        true => None,
        false => Some(part(args, Part::Attackers, hub.address, length, 19)?),
    };
    let growth = args.in_turn.then(|| Growth::watch(hub.process(), length));
    let figures = answer(readers)?;
    let sent = attackers.map(answer).transpose()?;
    let held = http::get(hub.address, "/events/stats")
        .ok()
        .and_then(|reply| serde_json::from_slice::<Value>(&reply.body).ok());
    let mut problems = Vec::new();
    if let Some(growth) = growth {
        problems.extend(growth.problems()?);
    }
    println!(
        "the hub's own memory was {} MiB at most",
        hub.peak_bytes() >> 20
    );
    if hub.has_ended() {
        problems.push("the hub has ended".to_owned());
    }
    let (peak, kills) = (cgroup.peak_bytes()?, cgroup.oom_kills()?);
    drop(hub);
    // It is only a temporary folder; what is left of it hurts nobody.
    let _ = std::fs::remove_dir_all(&folder);
    if let Some(sent) = sent {
        println!("what the attackers were answered:");
        for (attack, answers) in sent.as_object().into_iter().flatten() {
            println!("  {attack:<22} {answers}");
        }
    }
    if let Some(held) = held {
        println!("memory held after it: {}", held["memory"]);
    }
    println!("readers: {figures}");
    println!(
        "the cgroup's peak was {} MiB, {kills} killed by the kernel",
        peak >> 20
    );
    if kills > 0 {
        problems.push(format!("{kills} killed by the kernel"));
    }
    problems.extend(readers::problems(&figures));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(problems.join("; "))),
    }
}

/// Starts this program again as one of the processes that take part, on the core that the hub leaves alone, with as many open
/// files as it may have.
fn part(args: &Args, part: Part, hub: SocketAddr, length: Duration, nice: i32) -> Outcome<Child> {
    let own = std::env::current_exe();
    let own = own.map_err(|error| Failure::new(format!("this program is not found: {error}")))?;
    let name = match part {
        Part::Readers => "readers",
        Part::Attackers => "attackers",
    };
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("ulimit -n $(ulimit -Hn); exec taskset -c 1 nice -n \"$0\" \"$@\"")
        .arg(nice.to_string())
        .arg(own)
        .args(["siege", "--part", name, "--address", &hub.to_string()])
        .args(["--seconds", &length.as_secs().to_string()])
        .args(["--readers", &args.readers.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if args.in_turn {
        command.arg("--in-turn");
    }
    for attack in &args.only {
        command.args(["--only", attack]);
    }
    command
        .spawn()
        .map_err(|error| Failure::new(format!("{name} do not start: {error}")))
}

/// What a process that took part says at its end.
fn answer(child: Child) -> Outcome<Value> {
    let output = child.wait_with_output();
    let output = output.map_err(|error| Failure::new(format!("a part was lost: {error}")))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| Failure::new(format!("a part of the siege ended with {}", output.status)))
}

/// The hub under siege. Its log goes into a pipe that nobody reads.
struct Hub {
    child: Child,
    address: SocketAddr,
}

impl Hub {
    fn start(binary: &Path, folder: &Path, cgroup: &Cgroup, memory: &str) -> Outcome<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
        let address = free.map_err(|error| Failure::new(format!("no port is free: {error}")))?;
        let child = Command::new("sh")
            .arg("-c")
            .arg("echo $$ > \"$0\" && exec taskset -c 0 \"$@\"")
            .arg(cgroup.processes())
            .arg(binary)
            .args(["--listen", &address.to_string(), "--memory", memory])
            .args(["--log", "debug", "--retention-size", "256MiB", "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("the hub does not start: {error}")))?;
        let mut hub = Self { child, address };
        let begun = Instant::now();
        while !http::get(address, "/readyz").is_ok_and(|reply| reply.status == 200) {
            if hub.has_ended() || begun.elapsed() > MAX_START {
                return Err(Failure::new("the hub is not ready"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(hub)
    }

    /// The number of its process: what began it has become it.
    fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it had of memory at most, the files that the system keeps for it not counted.
    fn peak_bytes(&self) -> u64 {
        growth::status_bytes(self.process(), "VmHWM:").unwrap_or(0)
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In this time the readers have connected: about a second is seen.
const CONNECTING: Duration = Duration::from_secs(10);
/// Far more than any start takes.
const MAX_START: Duration = Duration::from_secs(30);
