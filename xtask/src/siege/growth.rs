//! What a hub keeps of attacks that are over.

use std::fs;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::attacks::ROUNDS;
use crate::shell::{Failure, Outcome};

/// Looks at a process while it is attacked, and says whether something grows from round to round.
pub(super) struct Growth(JoinHandle<Vec<Sample>>);

#[derive(Clone, Copy)]
struct Sample {
    round: usize,
    bytes: u64,
    files: usize,
}

impl Growth {
    /// Looks once a second, for as long as the attacks last.
    pub(super) fn watch(process: u32, length: Duration) -> Self {
        Self(std::thread::spawn(move || {
            let begun = Instant::now();
            let mut samples = Vec::new();
            while begun.elapsed() < length {
                let part = begun.elapsed().as_secs_f64() / length.as_secs_f64();
                let bytes = status_bytes(process, "VmRSS:");
                let files = fs::read_dir(format!("/proc/{process}/fd"));
                if let (Some(bytes), Ok(files)) = (bytes, files) {
                    samples.push(Sample {
                        round: (part * ROUNDS as f64) as usize,
                        bytes,
                        files: files.count(),
                    });
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            samples
        }))
    }

    /// The last round may not take more than the one before it, beyond what two rounds differ by anyway.
    pub(super) fn problems(self) -> Outcome<Vec<String>> {
        let samples = self.0.join();
        let samples = samples.map_err(|_| Failure::new("who looked at the hub panicked"))?;
        let of = |round: usize| samples.iter().filter(move |sample| sample.round == round);
        let middle = |round: usize| {
            let mut bytes: Vec<u64> = of(round).map(|sample| sample.bytes).collect();
            let mut files: Vec<usize> = of(round).map(|sample| sample.files).collect();
            bytes.sort_unstable();
            files.sort_unstable();
            let bytes = bytes.get(bytes.len() / 2).copied().unwrap_or(0);
            (bytes, files.get(files.len() / 2).copied().unwrap_or(0))
        };
        for round in 0..ROUNDS {
            let (bytes, files) = middle(round);
            println!(
                "round {}: {} MiB, {files} open files (medians)",
                round + 1,
                bytes >> 20
            );
        }
        let ((bytes, files), (bytes_then, files_then)) = (middle(ROUNDS - 2), middle(ROUNDS - 1));
        let mut problems = Vec::new();
        if bytes_then > bytes + bytes / 8 + (8 << 20) {
            problems.push(format!(
                "memory grew from {} to {} MiB in a round",
                bytes >> 20,
                bytes_then >> 20
            ));
        }
        if files_then > files + files / 8 + 50 {
            problems.push(format!(
                "open files grew from {files} to {files_then} in a round"
            ));
        }
        Ok(problems)
    }
}

/// A line of what the system says of a process, in bytes.
pub(super) fn status_bytes(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes << 10)
}
