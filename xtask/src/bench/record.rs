//! What criterion estimated, with the machine it was measured on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::shell::{Cmd, Failure, Outcome};

/// Writes what criterion has estimated below `reports` since `started`; returns the file.
///
/// # Errors
///
/// When nothing was measured since then, or a file cannot be read or written.
pub(super) fn save(root: &Path, reports: &Path, started: SystemTime) -> Outcome<PathBuf> {
    let mut measured = BTreeMap::new();
    let read = collect(reports, started, &mut measured);
    read.map_err(|error| Failure::new(format!("{} cannot be read: {error}", reports.display())))?;
    if measured.is_empty() {
        return Err(Failure::new("criterion measured nothing in this run"));
    }
    let git = |args: &[&str]| Cmd::new("git").args(args).dir(root).output();
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?
        .trim()
        .is_empty();
    let date = date_of(SystemTime::now());

    let file = root
        .join("docs/bench")
        .join(format!("{date}-{commit}.json"));
    let before = fs::read_to_string(&file)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    let record = json!({
        "date": date,
        "commit": commit,
        "uncommitted_changes": changed,
        "cpu": cpu_model(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "os": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "rustc": Cmd::new("rustc").args(["--version"]).output()?.trim(),
        "unit": "ns per iteration; lower and upper bound a 95 % confidence interval",
        "benchmarks": merged(before.as_ref(), measured),
    });
    let text = format!("{record:#}\n");
    fs::create_dir_all(root.join("docs/bench"))
        .and_then(|()| fs::write(&file, text))
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", file.display())))?;
    Ok(file)
}

/// Every benchmark below `dir` whose estimates were written at `since` or later, by its name.
fn collect(
    dir: &Path,
    since: SystemTime,
    measured: &mut BTreeMap<String, Value>,
) -> io::Result<()> {
    let estimates = dir.join("new/estimates.json");
    if estimates
        .metadata()
        .and_then(|meta| meta.modified())
        .is_ok_and(|time| time >= since)
    {
        let benchmark = read_json(&dir.join("new/benchmark.json"))?;
        let name = benchmark["full_id"]
            .as_str()
            .unwrap_or("unnamed")
            .to_owned();
        measured.insert(name, entry(&read_json(&estimates)?, &benchmark));
    }
    for below in fs::read_dir(dir)? {
        let below = below?;
        if below.file_type()?.is_dir() {
            collect(&below.path(), since, measured)?;
        }
    }
    Ok(())
}

fn read_json(file: &Path) -> io::Result<Value> {
    serde_json::from_str(&fs::read_to_string(file)?).map_err(io::Error::other)
}

/// What we keep of a benchmark's estimates.
fn entry(estimates: &Value, benchmark: &Value) -> Value {
    let estimate = |name: &str| {
        let of = &estimates[name];
        let interval = &of["confidence_interval"];
        json!({
            "estimate": of["point_estimate"],
            "lower": interval["lower_bound"],
            "upper": interval["upper_bound"],
        })
    };
    json!({
        "mean": estimate("mean"),
        "median": estimate("median"),
        "std_dev": estimate("std_dev"),
        "throughput": benchmark["throughput"],
    })
}

/// What an earlier run of the same day and commit saved, with what this one measured over it.
fn merged(before: Option<&Value>, measured: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let before = before.and_then(|record| record["benchmarks"].as_object());
    let mut all: BTreeMap<_, _> = before
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    all.extend(measured);
    all
}

fn cpu_model() -> String {
    let linux = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let mac = || {
        Cmd::new("sysctl")
            .args(["-n", "machdep.cpu.brand_string"])
            .output()
            .ok()
    };
    linux
        .or_else(mac)
        .map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// The date of `time` in UTC, as `2026-01-31`.
fn date_of(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (mut year, mut day) = (1970, seconds / SECONDS_PER_DAY);
    while day >= days_in_year(year) {
        day -= days_in_year(year);
        year += 1;
    }
    let february = days_in_year(year) - 337;
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

fn days_in_year(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_is_that_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_799, "2024-02-28"),
            (1_709_251_200, "2024-03-01"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date_of(UNIX_EPOCH + Duration::from_secs(seconds)), date);
        }
    }

    #[test]
    fn only_what_this_run_measured_is_collected() {
        let dir = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        let new = dir.join("decode/small_chunks/new");
        fs::create_dir_all(&new).unwrap();
        let estimates = r#"{"mean": {"point_estimate": 2.5,
            "confidence_interval": {"lower_bound": 2.0, "upper_bound": 3.0}}}"#;
        fs::write(new.join("estimates.json"), estimates).unwrap();
        let benchmark = r#"{"full_id": "decode/small_chunks", "throughput": {"Bytes": 64}}"#;
        fs::write(new.join("benchmark.json"), benchmark).unwrap();

        let mut measured = BTreeMap::new();
        collect(&dir, UNIX_EPOCH, &mut measured).unwrap();
        let entry = &measured["decode/small_chunks"];
        assert_eq!(
            entry["mean"],
            json!({"estimate": 2.5, "lower": 2.0, "upper": 3.0})
        );
        assert_eq!(entry["throughput"]["Bytes"], 64);

        let mut later = BTreeMap::new();
        collect(
            &dir,
            SystemTime::now() + Duration::from_secs(60),
            &mut later,
        )
        .unwrap();
        assert!(later.is_empty());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_second_run_adds_to_the_first_and_replaces_what_it_measured_again() {
        let before = json!({"benchmarks": {"a": 1, "b": 2}});
        let now = BTreeMap::from([("b".to_owned(), json!(3)), ("c".to_owned(), json!(4))]);
        let all = merged(Some(&before), now);
        assert_eq!(json!(all), json!({"a": 1, "b": 3, "c": 4}));
    }
}
