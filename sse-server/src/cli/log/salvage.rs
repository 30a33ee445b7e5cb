//! `sse-server log salvage`: what can be read of a damaged log becomes a new one.

use std::fmt::Write as _;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::HumanBytes;
use sse_broker::{LogToolError, Offset, OpenError, Salvaged};

use super::{Failure, failure, print, progress, show};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The damaged log: its folder, or its file alone. It is only read
    #[arg(value_name = "DATA_DIR_OR_FILE")]
    damaged: PathBuf,
    /// Where the new log is made: a folder that is empty or not there yet
    #[arg(value_name = "OUT_DIR")]
    out: PathBuf,
    /// Say what was saved as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let bar = progress("salvaging", 0);
    let done = without_the_engines_panics(|| {
        sse_broker::salvage(&args.damaged, &args.out, &mut |done| show(&bar, done))
    });
    bar.finish_and_clear();
    let done = done.map_err(|error| match &error {
        LogToolError::NotEmpty(_) => format!("{error}: salvage into a new folder"),
        LogToolError::Open(OpenError::NoLog { .. }) => {
            format!("{error}; name the log's folder, or its file")
        }
        _ => failure(error),
    })?;
    print(&match args.json {
        true => format!("{}\n", json(&done)),
        false => text(&done, &args.out),
    })?;
    Ok(match done.is_complete() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The storage engine panics at some damage. Those panics are caught and told as what the database found; here they are
/// kept from standard error.
fn without_the_engines_panics<T>(act: impl FnOnce() -> T) -> T {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let is_engines = |at: &panic::Location<'_>| at.file().contains("/redb-");
        if !panic.location().is_some_and(is_engines) {
            hook(panic);
        }
    }));
    let done = act();
    drop(panic::take_hook());
    done
}

fn json(done: &Salvaged) -> serde_json::Value {
    let time = sse_server::clock::rfc3339;
    serde_json::json!({
        "epoch": done.bounds.epoch.to_string(),
        "events": done.events,
        "first": done.offsets.map(|(first, _)| first),
        "last": done.offsets.map(|(_, last)| last),
        "oldest": done.published.map(|(oldest, _)| time(oldest)),
        "newest": done.published.map(|(_, newest)| time(newest)),
        "was_floor": done.floor,
        "was_head": done.head,
        "missing": done.missing,
        "missing_offsets": done.missing_offsets,
        "missing_stretches": done.missing_stretches,
        "damaged": done.damaged,
        "damaged_bytes": done.damaged_bytes,
        "repeated_ids": done.repeated_ids,
        "ambiguous": done.ambiguous,
        "snapshots": done.snapshots,
        "damaged_snapshots": done.damaged_snapshots,
        "states": done.states,
        "damaged_states": done.damaged_states,
        "values_were_searched_for": done.has_guessed_values,
        "unreadable_bytes": done.unreadable_bytes,
        "database": done.database,
        "is_complete": done.is_complete(),
    })
}

/// What was saved and what is missing, in plain words.
fn text(done: &Salvaged, out: &Path) -> String {
    let mut text = String::new();
    let mut line = |name: &str, said: String| {
        let _ = writeln!(text, "{name:<9} {said}");
    };
    line("saved", saved(done));
    if done.missing > 0 {
        line("missing", missing(done));
    }
    if let (None, Some((first, _))) = (done.floor, done.offsets) {
        let said = format!(
            "up to where the log was trimmed cannot be read: whether events before {first} are missing is not known"
        );
        line("", said);
    }
    if let (None, Some((_, last))) = (done.head, done.offsets) {
        let said = format!(
            "the seal is not there and the database cannot be read: whether events after {last} are missing is not known"
        );
        line("", said);
    }
    if done.repeated_ids > 0 {
        let said = format!("{} events whose id an earlier one has", done.repeated_ids);
        line("left out", said);
    }
    if done.ambiguous > 0 {
        let said = format!(
            "at {} offsets two different events were found; the one that the database has was saved, or else the newer",
            done.ambiguous
        );
        line("chosen", said);
    }
    line(
        "beside",
        format!(
            "{} snapshots of topics (states of jobs), {} other states (named subscriptions)",
            done.snapshots, done.states
        ),
    );
    for (what, names) in [
        ("snapshot of the topic", &done.damaged_snapshots),
        ("state", &done.damaged_states),
    ] {
        for name in names.iter().take(MAX_NAMES) {
            line("damaged", format!("the {what} {name:?} cannot be read"));
        }
        if names.len() > MAX_NAMES {
            let more = names.len() - MAX_NAMES;
            line("", format!("and {more} more; --json names them all"));
        }
    }
    if done.has_guessed_values {
        line(
            "",
            "the list of snapshots and states cannot be read: some may be missing, older than they were, or removed since"
                .to_owned(),
        );
    }
    if done.unreadable_bytes > 0 {
        let bytes = HumanBytes(done.unreadable_bytes);
        line("disk", format!("{bytes} of the file cannot be read at all"));
    }
    if let Some(reason) = &done.database {
        line("database", reason.clone());
    }
    line(
        "new log",
        format!(
            "in {}, epoch {}: every reader with an old position hears of a gap. Start the hub with --data-dir {}",
            out.display(),
            done.bounds.epoch,
            out.display()
        ),
    );
    text
}

fn saved(done: &Salvaged) -> String {
    let (Some((first, last)), Some((oldest, newest))) = (done.offsets, done.published) else {
        return "no events".to_owned();
    };
    let time = sse_server::clock::rfc3339;
    format!(
        "{} events, offsets {first} to {last}, published {} to {}",
        done.events,
        time(oldest),
        time(newest)
    )
}

fn missing(done: &Salvaged) -> String {
    let stretch = |(from, to): &(Offset, Offset)| match from == to {
        true => from.to_string(),
        false => format!("{from} to {to}"),
    };
    let stretches = done.missing_offsets.iter().take(MAX_NAMES);
    let stretches: Vec<_> = stretches.map(stretch).collect();
    let mut said = format!("{} events: {}", done.missing, stretches.join(", "));
    if done.missing_stretches > MAX_NAMES as u64 {
        let more = done.missing_stretches - MAX_NAMES as u64;
        let _ = write!(said, " and {more} more stretches");
    }
    if done.damaged > 0 {
        let bytes = HumanBytes(done.damaged_bytes);
        let _ = write!(said, "; {} of them are damaged, {bytes}", done.damaged);
    }
    said
}

/// So many stretches and names are told to people.
const MAX_NAMES: usize = 20;
