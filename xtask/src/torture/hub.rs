//! The hub under test: started, killed, and started again.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::http;
use crate::shell::{Cmd, Failure, Outcome};

/// The hub: the same address and folder however often it is started.
pub(crate) struct Hub {
    binary: PathBuf,
    folder: PathBuf,
    durability: String,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// The hub itself, where the child is the program that watches it.
    watched: Option<u32>,
}

/// Where a crash is injected: at the n-th call of a kind that the writing thread makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    call: &'static str,
    when: u32,
}

impl Injection {
    pub(crate) fn by_chance(chance: &mut fastrand::Rng) -> Self {
        if chance.bool() {
            Self {
                call: "fdatasync",
                when: chance.u32(1..MAX_SYNC),
            }
        } else {
            Self {
                call: "pwrite64",
                when: chance.u32(1..MAX_WRITE),
            }
        }
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} number {}", self.call, self.when)
    }
}

impl Hub {
    pub(crate) fn new(binary: PathBuf, folder: PathBuf, durability: String) -> Outcome<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
        let address = free.map_err(|error| Failure::new(format!("no port is free: {error}")))?;
        Ok(Self {
            binary,
            folder,
            durability,
            address,
            running: None,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it and waits until it is ready; says how long that took.
    pub(crate) fn start(&mut self, injection: Option<Injection>) -> Outcome<Duration> {
        let begun = Instant::now();
        let mut command = match injection {
            None => Command::new(&self.binary),
            Some(Injection { call, when }) => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
                strace.arg(format!("trace={call}"));
                strace.arg("-e");
                strace.arg(format!("inject={call}:signal=KILL:when={when}"));
                strace.arg(&self.binary);
                strace
            }
        };
        let listen = self.address.to_string();
        command
            .args(["--listen", &listen, "--durability", &self.durability])
            .args(["--max-connections-per-ip", "100000", "--log", "warn"])
            .args(["--retention-size", "64GiB", "--drain-timeout", DRAIN])
            .arg("--data-dir")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| Failure::new(format!("the hub does not start: {error}")))?;
        let stdout = child.stdout.take().expect("it was piped two lines above");
        let mut stdout = BufReader::new(stdout);
        let mut first = String::new();
        let _ = stdout.read_line(&mut first);
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        let watched = injection.and_then(|_| {
            let pid = child.id();
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            children.ok()?.split(' ').next()?.parse().ok()
        });
        self.running = Some(Running { child, watched });
        if first.is_empty() && injection.is_some() {
            // It crashed before it was ready: as well.
            return Ok(begun.elapsed());
        }
        loop {
            if http::get(self.address, "/readyz").is_ok_and(|reply| reply.status == 200) {
                return Ok(begun.elapsed());
            }
            if self.has_ended() {
                if injection.is_some() {
                    return Ok(begun.elapsed());
                }
                return Err(Failure::new("the hub ended before it was ready"));
            }
            if begun.elapsed() > MAX_START {
                return Err(Failure::new("the hub is not ready after a minute"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut();
        running.is_none_or(|running| !matches!(running.child.try_wait(), Ok(None)))
    }

    /// Waits for its end; false when it did not come.
    pub(crate) fn wait_for_end(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !self.has_ended() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Signal 9, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        if let Some(pid) = running.watched {
            // Its watcher ends with it; it would live on if only the watcher was killed.
            let _ = Cmd::new("kill").args(["-9", &pid.to_string()]).succeeds();
        } else {
            let _ = running.child.kill();
        }
        let _ = running.child.wait();
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(&mut self) -> Outcome {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        Cmd::new("kill")
            .args(["-TERM", &running.child.id().to_string()])
            .output()?;
        match running.child.wait() {
            Ok(status) if status.success() => Ok(()),
            other => Err(Failure::new(format!("the hub did not end well: {other:?}"))),
        }
    }

    /// Lets the hub's own tool check the log.
    pub(crate) fn verify(&self) -> Outcome {
        Cmd::new(&self.binary)
            .args(["log", "verify", "--data-dir"])
            .args([&self.folder])
            .run()
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        let file = std::fs::metadata(self.folder.join("events.redb"));
        file.map_or(0, |file| file.len())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last sync and the last write at which a crash is injected: those of the start, and some seconds of
/// commits.
const MAX_SYNC: u32 = 80;
const MAX_WRITE: u32 = 400;
/// How long streams are ended over when it is stopped: short, so that many stops are seen.
const DRAIN: &str = "2s";
/// Far more than any start takes.
const MAX_START: Duration = Duration::from_secs(60);
