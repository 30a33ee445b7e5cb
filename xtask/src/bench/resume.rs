//! `cargo xtask bench resume`: how long a reader that comes back waits for its first event, by how much is stored.
//!
//! Two release servers run side by side, one with a thousand events and one with many; a reader asks each in turn for what
//! comes after a position by chance. Its connection is open already, so that the time is the request's: head, topic index,
//! the first page of the log, and the way of its bytes to the reader.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::replay::{fill, release_server};
use crate::shell::{Failure, Outcome};
use crate::torture::check;
use crate::torture::hub::Hub;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events in the longer log, of 100 bytes each
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    events: u64,
    /// How often each is asked
    #[arg(long, value_name = "N", default_value_t = 5000)]
    resumes: u32,
    /// The hub to measure [default: a release build of this workspace]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// `cargo xtask bench resume`
pub(super) fn run(workspace: &Workspace, args: &Args) -> Outcome {
    let binary = release_server(workspace, args.binary.as_ref())?;
    let mut logs = Vec::new();
    for events in [1000, args.events] {
        let name = format!("sse-bench-resume-{}-{events}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let mut hub = Hub::new(binary.clone(), folder.clone(), "fsync".to_owned())?;
        hub.start(None)?;
        fill(hub.address(), events)?;
        let head = check::head(hub.address())?;
        let (epoch, _) = head
            .split_once('-')
            .ok_or_else(|| Failure::new(format!("{head} is not a position")))?;
        logs.push(Log {
            epoch: epoch.to_owned(),
            events,
            hub,
            folder,
            times: Vec::new(),
        });
    }
    let lost = |error: std::io::Error| Failure::new(format!("the hub was lost: {error}"));
    let mut chance = fastrand::Rng::with_seed(1);
    for _ in 0..args.resumes {
        for log in &mut logs {
            let after = format!("{}-{}", log.epoch, chance.u64(..log.events - 20));
            let took = first_event(log.hub.address(), &after).map_err(lost)?;
            log.times.push(took);
        }
    }
    let mut medians = Vec::new();
    for log in &mut logs {
        log.times.sort();
        let at = |percent: usize| log.times[(log.times.len() - 1) * percent / 100];
        println!(
            "first event after a position among {}: p50 {:.1?} p90 {:.1?} p99 {:.1?}",
            log.events,
            at(50),
            at(90),
            at(99)
        );
        medians.push(at(50).as_secs_f64());
        log.hub.stop()?;
        // It is only a temporary folder; what is left of it hurts nobody.
        let _ = std::fs::remove_dir_all(&log.folder);
    }
    println!(
        "median of many over a thousand: {:.2}",
        medians[1] / medians[0]
    );
    Ok(())
}

struct Log {
    epoch: String,
    events: u64,
    hub: Hub,
    folder: PathBuf,
    times: Vec<Duration>,
}

/// From before the request was sent until the first event was there.
fn first_event(address: SocketAddr, after: &str) -> std::io::Result<Duration> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let request = format!(
        "GET /events?topic=history HTTP/1.1\r\nHost: {address}\r\nLast-Event-ID: {after}\r\n\r\n"
    );
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    let begun = Instant::now();
    socket.write_all(request.as_bytes())?;
    loop {
        let read = socket.read(&mut buffer[len..])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        len += read;
        if buffer[..len].windows(EVENT.len()).any(|it| it == EVENT) {
            return Ok(begun.elapsed());
        }
    }
}

/// How an event of the history begins.
const EVENT: &[u8] = b"data: xxx";
