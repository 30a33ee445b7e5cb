//! A memory cgroup of the kernel, of version 1 or 2, removed at the end.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{Failure, Outcome};

/// A group of processes that may have so much memory together.
pub(super) struct Cgroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

impl Cgroup {
    pub(super) fn new(max_bytes: u64) -> Outcome<Self> {
        let (root, version, limit) = if Path::new("/sys/fs/cgroup/memory").is_dir() {
            (
                "/sys/fs/cgroup/memory",
                Version::One,
                "memory.limit_in_bytes",
            )
        } else {
            ("/sys/fs/cgroup", Version::Two, "memory.max")
        };
        let folder = Path::new(root).join(format!("sse-siege-{}", std::process::id()));
        let made = fs::create_dir(&folder)
            .and_then(|()| fs::write(folder.join(limit), max_bytes.to_string()));
        made.map_err(|error| {
            Failure::new(format!(
                "no memory cgroup can be made in {root}, which takes root: {error}"
            ))
        })?;
        Ok(Self { folder, version })
    }

    /// A process that writes its number into this file is in it.
    pub(super) fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    pub(super) fn peak_bytes(&self) -> Outcome<u64> {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        let text = self.read(file)?;
        let bytes = text.trim().parse();
        bytes.map_err(|_| Failure::new(format!("{file} says {text:?}")))
    }

    /// How many of its processes the kernel killed because there was no memory left.
    pub(super) fn oom_kills(&self) -> Outcome<u64> {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = self.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok())
            .ok_or_else(|| Failure::new(format!("{file} names no oom_kill")))
    }

    fn read(&self, file: &str) -> Outcome<String> {
        fs::read_to_string(self.folder.join(file))
            .map_err(|error| Failure::new(format!("{file} of the cgroup: {error}")))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It can be removed as soon as its last process is gone, which a killed one is after a moment.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
