//! What is printed and written in the end.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::figures::{Figures, Row, Summary, floor_of, stored};
use crate::options::Options;
use crate::shapes::curve_rate;
use crate::table::{number, show};
use crate::{Failure, Outcome};

/// Where and when a run was made.
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    commit: String,
    load_before: String,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(':'));
        let git = Command::new("git")
            .args(["describe", "--always", "--dirty", "--abbrev=12"])
            .output();
        Self {
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            cores: cpus
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: git.map_or_else(
                |_| String::new(),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            ),
            load_before: load_average(),
        }
    }
}

/// The load average of the last minute.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Prints all figures as a table for each shape.
pub(crate) fn print(machine: &Machine, figures: &Figures) {
    println!(
        "\n{}, {} cores, Linux {}; commit {}; load average {} before, {} after",
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.commit,
        machine.load_before,
        load_average()
    );
    println!("Medians (least to most); × is the ratio to the floor in the same round.");
    let rows = figures.rows();
    for section in rows.chunk_by(|a, b| family(a) == family(b)) {
        section_table(figures, section);
    }
    if figures.troubles.is_empty() {
        println!("\nNothing was lost, out of order or wrong.");
    } else {
        println!("\nNot as it should be:\n");
        for trouble in &figures.troubles {
            println!("- {trouble}");
        }
    }
}

/// Prints the table of rows that belong together, without the servers that have nothing in it.
fn section_table(figures: &Figures, section: &[Row]) {
    let Some(first) = section.first() else {
        return;
    };
    println!(
        "\n### {} (floor: {})\n",
        family(first),
        floor_of(&first.shape)
    );
    let has_some = |server: &String| {
        section
            .iter()
            .any(|row| figures.summary(row, server).is_some())
    };
    let servers: Vec<String> = figures.servers().into_iter().filter(has_some).collect();
    let is_curve = curve_rate(&first.shape).is_some();
    let by = if is_curve { "rate" } else { "readers" };
    let mut table = vec![vec![by.to_owned(), String::new()]];
    table[0].extend(servers.iter().cloned());
    for row in section {
        let by = match curve_rate(&row.shape) {
            Some(rate) => format!("{rate}/s"),
            None => row.readers.to_string(),
        };
        let mut line = vec![by, row.metric.name().to_owned()];
        line.extend(
            servers
                .iter()
                .map(|server| cell(figures.summary(row, server))),
        );
        table.push(line);
    }
    show(&table);
}

/// The heading that a row stands under: all points of the curve under one.
fn family(row: &Row) -> String {
    match curve_rate(&row.shape) {
        Some(_) => format!("curve, {} readers", row.readers),
        None => row.shape.clone(),
    }
}

fn cell(summary: Option<Summary>) -> String {
    let Some(summary) = summary else {
        return "–".to_owned();
    };
    let mut text = number(summary.median);
    if summary.least < summary.most {
        text += &format!(" ({}–{})", number(summary.least), number(summary.most));
    }
    if let Some(ratio) = summary.ratio {
        text += &format!(" **{ratio:.2}×**");
    }
    text
}

/// Reads the file of `--baseline`, before anything is measured.
///
/// # Errors
///
/// When it cannot be read or is no JSON.
pub(crate) fn read_baseline(options: &Options) -> Outcome<Option<Value>> {
    let Some(file) = &options.baseline else {
        return Ok(None);
    };
    let unusable =
        |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| unusable(&error))?;
    let json = serde_json::from_str(&text).map_err(|error| unusable(&error))?;
    Ok(Some(json))
}

/// Prints what has changed since `baseline`, for the servers that are no floors.
pub(crate) fn compare(baseline: &Value, figures: &Figures) {
    println!(
        "\n### Before and after: {} and now\n",
        baseline["machine"]["commit"]
            .as_str()
            .unwrap_or("an earlier run")
    );
    let head = [
        "shape",
        "readers",
        "",
        "server",
        "before",
        "after",
        "change",
        "ratio before",
        "ratio after",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (row, server, before, ratio_before) in stored(baseline) {
        let Some(now) = figures.summary(&row, &server) else {
            continue;
        };
        if server.starts_with("raw") {
            continue;
        }
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |r| format!("{r:.2}×"));
        let change = match before {
            0.0 => String::new(),
            before => format!("{:+.0} %", (now.median / before - 1.0) * 100.0),
        };
        let Row {
            shape,
            readers,
            metric,
        } = row;
        table.push(vec![
            shape,
            readers.to_string(),
            metric.name().to_owned(),
            server,
            number(before),
            number(now.median),
            change,
            ratio(ratio_before),
            ratio(now.ratio),
        ]);
    }
    show(&table);
}

/// Writes the files that `options` ask for.
///
/// # Errors
///
/// When one cannot be written.
pub(crate) fn write_files(options: &Options, machine: &Machine, figures: &Figures) -> Outcome {
    if let Some(file) = &options.json {
        let mut json = figures.to_json();
        json["machine"] = json!({
            "cpu": machine.cpu,
            "cores": machine.cores,
            "kernel": machine.kernel,
            "commit": machine.commit,
            "load_before": machine.load_before,
            "load_after": load_average(),
        });
        fs::write(file, format!("{json:#}\n"))?;
        println!("\nwritten: {}", file.display());
    }
    if let Some(file) = &options.chart {
        let drawn = crate::chart::draw(figures, file);
        let files = drawn.map_err(|error| Failure::new(format!("no chart: {error}")))?;
        for file in files {
            println!("drawn: {}", file.display());
        }
    }
    Ok(())
}
