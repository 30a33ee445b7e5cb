//! `cargo xtask bench replay`: what a long history costs through the release server's sockets.
//!
//! First one reader takes everything from the beginning, over HTTP, as fast as it can. Then live events are timed from
//! before their publishing to their arrival at a reader, in alternating rounds alone and beside many readers who replay
//! everything over and over. Those readers are a process of their own, which runs when nobody else wants to (SCHED_IDLE,
//! through `chrt`): they stand for other machines, and what they take of this one is not the hub's.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::shell::{Cmd, Failure, Outcome};
use crate::torture::http::{self, Connection};
use crate::torture::hub::Hub;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events in the log, of 100 bytes each
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    events: u64,
    /// Readers that replay beside the live events
    #[arg(long, value_name = "N", default_value_t = 100)]
    readers: usize,
    /// Live events in each round
    #[arg(long, value_name = "N", default_value_t = 3000)]
    live: u32,
    /// Rounds, each alone and beside the replays
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// The hub to measure [default: a release build of this workspace]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct ReaderArgs {
    address: SocketAddr,
    count: usize,
}

/// `cargo xtask bench replay`
pub(super) fn run(workspace: &Workspace, args: &Args) -> Outcome {
    let binary = release_server(workspace, args.binary.as_ref())?;
    let folder = std::env::temp_dir().join(format!("sse-bench-replay-{}", std::process::id()));
    let mut hub = Hub::new(binary, folder.clone(), "fsync".to_owned())?;
    hub.start(None)?;
    let address = hub.address();
    let lost = |error: std::io::Error| Failure::new(format!("the hub was lost: {error}"));
    fill(address, args.events)?;
    for _ in 0..args.rounds {
        let begun = Instant::now();
        let bytes = replay(address, &AtomicU64::new(0)).map_err(lost)?;
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "replay to one reader: {:.2} M events/s, {:.0} MiB/s",
            args.events as f64 / seconds / 1e6,
            bytes as f64 / seconds / f64::from(1 << 20),
        );
    }
    let mut p99 = [Vec::new(), Vec::new()];
    for round in 0..args.rounds {
        for (readers, into) in [0, args.readers].into_iter().zip(&mut p99) {
            let replays = Replays::start(address, readers)?;
            let mut times = live(address, args.live).map_err(lost)?;
            drop(replays);
            times.sort();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            println!(
                "round {round}, {readers} readers replaying: live event p50 {:.2?} p90 {:.2?} p99 {:.2?}, worst {:.2?}",
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
    let [alone, beside] = p99.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "median p99 beside replays over alone: {:.2}",
        beside / alone
    );
    hub.stop()?;
    // It is only a temporary folder; what is left of it hurts nobody.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

/// The hub that was asked for, or else a release build.
pub(super) fn release_server(workspace: &Workspace, asked: Option<&PathBuf>) -> Outcome<PathBuf> {
    if let Some(binary) = asked {
        return Ok(binary.clone());
    }
    Cmd::cargo(["build", "--release", "-p", "sse-server"]).run()?;
    Ok(workspace.target_dir.join("release/sse-server"))
}

/// Makes the log so long; the newest of its events is [`LAST`].
pub(super) fn fill(address: SocketAddr, events: u64) -> Outcome {
    let lost =
        |error: std::io::Error| Failure::new(format!("the log could not be filled: {error}"));
    let mut connection = Connection::open(address).map_err(lost)?;
    let data = "x".repeat(100);
    let mut left = events;
    while left > 0 {
        let batch = left.min(1000);
        left -= batch;
        let events: Value = (0..batch)
            .map(|n| {
                let data = if left == 0 && n + 1 == batch {
                    LAST
                } else {
                    &data
                };
                json!({"topic": "history", "data": data})
            })
            .collect();
        let body = events.to_string();
        let reply = connection.post("/events", body.as_bytes()).map_err(lost)?;
        if reply.status != 200 {
            let text = String::from_utf8_lossy(&reply.body);
            return Err(Failure::new(format!("the log could not be filled: {text}")));
        }
    }
    Ok(())
}

/// Reads all that is in the log; how many bytes that was.
fn replay(address: SocketAddr, bytes: &AtomicU64) -> std::io::Result<u64> {
    let mut socket = TcpStream::connect(address)?;
    write!(
        socket,
        "GET /events?topic=history HTTP/1.1\r\nHost: {address}\r\nLast-Event-ID: earliest\r\n\r\n"
    )?;
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    let mut kept = 0;
    loop {
        let read = socket.read(&mut buffer[kept..])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        total += read as u64;
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        let end = kept + read;
        let tail = &buffer[end.saturating_sub(LAST.len() + TAIL)..end];
        if tail.windows(LAST.len()).any(|it| it == LAST.as_bytes()) {
            return Ok(total);
        }
        // What may be the beginning of the last one is looked at again.
        kept = end.min(LAST.len() + TAIL);
        buffer.copy_within(end - kept..end, 0);
    }
}

/// `cargo xtask bench replay-readers`: replays over and over until it is killed.
pub(super) fn read_for_ever(args: &ReaderArgs) -> Outcome {
    let bytes = Arc::new(AtomicU64::new(0));
    for _ in 0..args.count {
        let (address, bytes) = (args.address, Arc::clone(&bytes));
        thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || {
                loop {
                    // The hub may be gone; then this process is killed soon.
                    let _ = replay(address, &bytes);
                }
            })
            .expect("a thread can be started");
    }
    let mut before = 0;
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = bytes.load(Ordering::Relaxed);
        println!("  replayed {} MiB in a second", (now - before) >> 20);
        before = now;
    }
}

/// Readers that replay, as long as this lives.
struct Replays(Option<Child>);

impl Replays {
    fn start(address: SocketAddr, count: usize) -> Outcome<Self> {
        if count == 0 {
            return Ok(Self(None));
        }
        let this = std::env::current_exe()
            .map_err(|error| Failure::new(format!("this program is nowhere: {error}")))?;
        let child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(this)
            .args(["bench", "replay-readers"])
            .args([address.to_string(), count.to_string()])
            .spawn()
            .map_err(|error| {
                Failure::new(format!("chrt (of util-linux) does not start: {error}"))
            })?;
        thread::sleep(Duration::from_secs(1));
        Ok(Self(Some(child)))
    }
}

impl Drop for Replays {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Publishes events one at a time; the time of each from before it was sent until a reader had it.
pub(super) fn live(address: SocketAddr, count: u32) -> std::io::Result<Vec<Duration>> {
    let (_, mut stream) = http::stream(address, "/events?topic=live", "")?;
    let origin = Instant::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let publisher = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || -> std::io::Result<()> {
            let mut connection = Connection::open(address)?;
            while !is_over.load(Ordering::Relaxed) {
                let sent = origin.elapsed().as_nanos().to_string();
                let body = json!({"topic": "live", "data": sent}).to_string();
                connection.post("/events", body.as_bytes())?;
                thread::sleep(PAUSE);
            }
            Ok(())
        }
    });
    let mut times = Vec::new();
    let mut line = String::new();
    while times.len() < count as usize {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(sent) = line.strip_prefix("data: ")
            && let Ok(nanos) = sent.trim_end().parse()
        {
            times.push(origin.elapsed().saturating_sub(Duration::from_nanos(nanos)));
        }
    }
    is_over.store(true, Ordering::Relaxed);
    publisher
        .join()
        .map_err(|_| std::io::Error::other("the publisher panicked"))??;
    Ok(times)
}

/// The data of the newest event of the history.
const LAST: &str = "the last event of the history";
/// What may follow it in the same read: line ends and the next chunk's length.
const TAIL: usize = 64;
/// Between two live events.
const PAUSE: Duration = Duration::from_millis(2);
