//! A server under measurement: started on a core of its own, asked what it used, ended.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::target::{Dialect, Place, Target};
use crate::{Failure, Outcome};

/// The core that servers run on; the load generator has the other.
pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const LOAD_CORE: usize = 1;

/// A running server, ended when dropped.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
    pub(crate) addr: SocketAddrV4,
    pub(crate) target: Target,
    /// How it wants to be asked.
    pub(crate) dialect: Dialect,
}

impl Server {
    /// Starts `target` on [`SERVER_CORE`] and waits until its port accepts.
    pub(crate) fn start(
        target: &Target,
        server_args: &[String],
        shape_args: &[&str],
    ) -> Outcome<Self> {
        let dir = fresh_dir()?;
        let addr = free_address()?;
        let place = Place {
            addr,
            dir: &dir,
            server_args,
            shape_args,
        };
        let log = fs::File::create(dir.join("log"))?;
        // They live as long as the few servers of one measurement.
        let tokens = target.tokens(&dir)?.leak();
        let mut command = target.command(&place)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // A child keeps the cores of the thread that starts it.
        pin(SERVER_CORE)?;
        let child = command.spawn();
        pin(LOAD_CORE)?;
        let child = child.map_err(|error| {
            Failure::new(format!("{} could not be started: {error}", target.name()))
        })?;
        let mut server = Self {
            child,
            dir,
            addr,
            target: target.clone(),
            dialect: target.dialect(tokens),
        };
        server.wait_until_it_accepts()?;
        Ok(server)
    }

    fn wait_until_it_accepts(&mut self) -> Outcome {
        let give_up = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.addr).is_err() {
            let ended = self.child.try_wait()?.is_some();
            if ended || Instant::now() > give_up {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(Failure::new(format!(
                    "{} does not accept connections: {}",
                    self.target.name(),
                    log.lines().last().unwrap_or("it gave no reason")
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(SETTLE_AFTER_START);
        Ok(())
    }

    /// The processor time that it and its children have used, user and kernel.
    pub(crate) fn cpu(&self) -> Duration {
        let nanos = self.processes().iter().map(|pid| cpu_nanos(*pid)).sum();
        Duration::from_nanos(nanos)
    }

    /// Its proportional share of memory, in bytes, children included.
    pub(crate) fn memory(&self) -> u64 {
        let pss = |pid: &u32| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        };
        self.processes().iter().filter_map(pss).sum()
    }

    /// It and every process below it.
    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = found.get(at) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
            at += 1;
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let processes = self.processes();
        let signal = |pid: u32, signal| {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended by itself, which is what we want.
                let _ = kill_process(pid, signal);
            }
        };
        signal(self.child.id(), Signal::TERM);
        let give_up = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > give_up {
                for pid in &processes {
                    signal(*pid, Signal::KILL);
                }
                let _ = self.child.wait();
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// On-CPU nanoseconds of a process's live threads; what a thread used that has ended is not in it.
fn cpu_nanos(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let on_cpu = |task: &Path| {
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let tasks = tasks.filter_map(Result::ok);
    tasks.filter_map(|task| on_cpu(&task.path())).sum()
}

/// Runs the calling thread, and the processes it starts from now on, on `core` alone.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)?;
    Ok(())
}

/// Allows this process, and those it starts, all the open files that the hard limit permits.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// An address of the loopback whose port was free a moment ago.
fn free_address() -> io::Result<SocketAddrV4> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

fn fresh_dir() -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("sse-fanout-{}-{count}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
const SETTLE_AFTER_START: Duration = Duration::from_millis(300);
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
