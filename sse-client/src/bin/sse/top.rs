//! `sse top`: a hub's statistics, live.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use serde_json::Value;
use sse_client::{JsonDocument, Url};

use crate::Exit;
use crate::common::{Reach, events_url, parse_seconds};
use crate::explain::explain;
use crate::interrupt::Interrupt;
use crate::output::{Output, Stop, complain, tame};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Hub to watch; a host without a path means its /events
    url: String,
    /// Seconds between two updates
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds, allow_negative_numbers = true)]
    interval: Duration,
    /// Print once and end
    #[arg(long)]
    once: bool,
    /// Print the statistics as JSON, one object per update
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args) -> Result<Exit, Stop> {
    let url = stats_url(&args.url)?;
    let mut hub = JsonDocument::new(&url, args.reach.connector()?, args.reach.header_map()?)?;
    let mut output = Output::new();
    let mut interrupt = Interrupt::listen();
    let live = stdout().is_terminal() && !args.json && !args.once;
    let interval = args.interval.max(MIN_INTERVAL);
    let mut has_worked = false;
    // Said once, not at every look.
    let mut trouble = None;
    loop {
        let look = tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(Exit::Interrupted),
            look = hub.get() => look,
        };
        match look {
            Ok(stats) => {
                has_worked = true;
                trouble = None;
                let text = if args.json {
                    format!("{stats}\n")
                } else if live {
                    format!("\x1b[H\x1b[2J{}", page(&url, &stats))
                } else {
                    page(&url, &stats)
                };
                output.write(text.as_bytes())?;
            }
            // What never worked is a mistake; what did may come back.
            Err(error) if !has_worked => return Err(error.into()),
            Err(error) => {
                let line = explain(&error);
                if trouble.as_ref() != Some(&line) {
                    complain(format_args!("{line}; trying again every {interval:?}"));
                    trouble = Some(line);
                }
            }
        }
        if args.once {
            return Ok(Exit::Done);
        }
        tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(Exit::Interrupted),
            () = tokio::time::sleep(interval) => {}
        }
    }
}

fn stats_url(text: &str) -> Result<String, Stop> {
    let events = events_url(text)?;
    let mut url = Url::parse(&events).map_err(|error| Stop::Usage(error.to_string()))?;
    url.set_query(None);
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with("/stats") {
        url.set_path(&format!("{path}/stats"));
    }
    Ok(url.into())
}

/// Every number and word of the answer, one a line; what is nested under the name it has. So a hub may
/// say more than this program knows.
fn page(url: &str, stats: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", stats, &mut rows);
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut page = format!("{url}\n\n");
    for (name, value) in rows {
        tame(&name, &mut page);
        let _ = write!(page, "{:1$}", "", width + 2 - name.chars().count());
        tame(&value, &mut page);
        page.push('\n');
    }
    page
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    if rows.len() == MAX_ROWS {
        return;
    }
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name} {key}")
                };
                flatten(&name.replace('_', " "), value, rows);
            }
        }
        Value::Array(items) => rows.push((name.to_owned(), items.len().to_string())),
        Value::Number(number) => rows.push((name.to_owned(), readable(number))),
        Value::String(text) => rows.push((name.to_owned(), text.clone())),
        other => rows.push((name.to_owned(), other.to_string())),
    }
}

/// Whole numbers with separators, others with three decimals.
fn readable(number: &serde_json::Number) -> String {
    match number.as_u64() {
        None => number
            .as_f64()
            .map_or_else(|| number.to_string(), |n| format!("{n:.3}")),
        Some(n) => {
            let digits = n.to_string();
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
    }
}

const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_ROWS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_hub_says_becomes_rows() {
        let stats = serde_json::json!({
            "connections": 12345, "latency_ms": {"p99": 1.5}, "status": "healthy\u{1b}[2J", "list": [1, 2],
        });
        let page = page("http://hub/events/stats", &stats);
        assert!(page.contains("connections     12,345"), "{page}");
        assert!(page.contains("latency ms p99  1.500"), "{page}");
        assert!(!page.contains('\u{1b}'));
    }

    #[test]
    fn the_statistics_lie_beside_the_events() {
        assert_eq!(
            stats_url("hub:8080").map_err(|_| ()),
            Ok("http://hub:8080/events/stats".into())
        );
        assert_eq!(
            stats_url("http://hub/sse/stats").map_err(|_| ()),
            Ok("http://hub/sse/stats".into())
        );
    }
}
