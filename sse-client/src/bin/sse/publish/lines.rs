//! `sse pub --stdin`: each line an event, in order, and no line stops the others.

use sse_client::{Error, EventId, Publication, Publisher, Receipt};

use super::input::{Input, Item, Line};
use super::{Args, print_receipts};
use crate::Exit;
use crate::explain::explain;
use crate::output::{Output, Stop, complain};

/// Publishes the lines of standard input.
pub(super) async fn publish(
    args: &Args,
    publisher: Publisher,
    dress: impl Fn(Publication) -> Publication,
) -> Result<Exit, Stop> {
    let run_id = args
        .run_id
        .clone()
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    EventId::new(run_id.as_str()).map_err(|error| Stop::Usage(format!("--run-id: {error}")))?;
    let mut run = Run {
        args,
        publisher,
        dress,
        run_id,
        output: Output::new(),
        told: Told::default(),
    };
    let limit = args.batch as usize;
    let mut input = Input::start(limit);
    let mut items = Vec::with_capacity(limit);
    loop {
        // What has arrived while the last request was under way forms the next one; no timer.
        input.read(&mut items, limit).await;
        if items.is_empty() {
            return Ok(run.end());
        }
        let mut batch = Vec::with_capacity(items.len());
        let mut bytes = 0;
        for item in items.drain(..) {
            match item {
                Item::Line(line) => {
                    if bytes + line.text.len() > MAX_REQUEST_BYTES {
                        run.send(&batch).await?;
                        batch.clear();
                        bytes = 0;
                    }
                    bytes += line.text.len();
                    batch.push(line);
                }
                Item::Unfit { number, why } => run.told.skip(number, &why),
                Item::Failed { number, error } => {
                    run.send(&batch).await?;
                    return Err(run.stop(number, &error.to_string()));
                }
            }
        }
        run.send(&batch).await?;
    }
}

/// One run over standard input.
struct Run<'a, D> {
    args: &'a Args,
    publisher: Publisher,
    dress: D,
    run_id: String,
    output: Output,
    told: Told,
}

impl<D: Fn(Publication) -> Publication> Run<'_, D> {
    /// Publishes lines in one request. If the hub refuses them together, they are halved, until the lines that it does
    /// not take are found and skipped.
    async fn send(&mut self, lines: &[Line]) -> Result<(), Stop> {
        // What is still to be sent, the first lines on top.
        let mut parts = vec![lines];
        while let Some(part) = parts.pop() {
            let Some(first) = part.first() else { continue };
            let publications: Vec<_> = part.iter().map(|line| self.publication(line)).collect();
            match self.publisher.publish_all(publications).await {
                Ok(results) => self.take(part, results)?,
                Err(error) if !is_about_lines(&error) => {
                    return Err(self.stop(first.number, &explain(&error)));
                }
                Err(error) if part.len() == 1 => self.refused(first, &error)?,
                Err(_) => {
                    let (before, after) = part.split_at(part.len() / 2);
                    parts.extend([after, before]);
                }
            }
        }
        Ok(())
    }

    fn publication(&self, line: &Line) -> Publication {
        let id = EventId::new(format!("{}-{}", self.run_id, line.number));
        let id = id.expect("the run's id was checked, and digits are no line break");
        (self.dress)(Publication::text(&line.text)).id(id)
    }

    /// Takes what the hub said about each of these lines.
    fn take(&mut self, lines: &[Line], results: Vec<Result<Receipt, Error>>) -> Result<(), Stop> {
        let mut receipts = Vec::with_capacity(results.len());
        let mut end = Ok(());
        for (line, result) in lines.iter().zip(results) {
            end = match result {
                Ok(receipt) => {
                    self.told.add(&receipt);
                    receipts.push(receipt);
                    Ok(())
                }
                Err(error) if is_about_lines(&error) => self.refused(line, &error),
                Err(error) => Err(self.stop(line.number, &explain(&error))),
            };
            if end.is_err() {
                break;
            }
        }
        print_receipts(self.args, &mut self.output, &receipts)?;
        end
    }

    /// Skips a line that the hub refused, and gives up if it has refused everything so far.
    fn refused(&mut self, line: &Line, error: &Error) -> Result<(), Stop> {
        let bytes = line.text.len();
        let why = format!("{bytes} bytes; {}", explain(error));
        self.told.skip(line.number, &why);
        if error.status().is_some_and(|status| status.as_u16() != 413) {
            self.told.refused += 1;
        }
        if self.told.published == 0 && self.told.refused >= MAX_REFUSED_AT_FIRST {
            return Err(Stop::Because(format!(
                "the hub refused the first {MAX_REFUSED_AT_FIRST} lines; are --topic and --type right?"
            )));
        }
        Ok(())
    }

    /// Why nothing from line `number` on is published.
    fn stop(&self, number: u64, why: &str) -> Stop {
        let stored = match self.told.skipped {
            0 => "the lines before it are stored".to_owned(),
            skipped => format!("the lines before it are stored, except for {skipped} skipped"),
        };
        let run_id = &self.run_id;
        Stop::Because(format!(
            "line {number}: {why}; {stored} (--run-id {run_id} repeats without duplicates)"
        ))
    }

    fn end(self) -> Exit {
        if !self.args.quiet {
            complain(format_args!("{}", self.told.summary()));
        }
        match self.told.skipped {
            0 => Exit::Done,
            _ => Exit::Skipped,
        }
    }
}

/// Whether the hub refused lines for what they hold: malformed or not allowed, in conflict, too large. Any other
/// failure would meet the next line too.
fn is_about_lines(error: &Error) -> bool {
    let status = error.status().map(|status| status.as_u16());
    matches!(status, Some(400 | 409 | 413 | 422))
}

/// What became of the lines.
#[derive(Default)]
struct Told {
    published: u64,
    duplicates: u64,
    skipped: u64,
    /// How many of the skipped the hub refused, and not for their size.
    refused: u64,
    durability: Option<String>,
}

impl Told {
    fn add(&mut self, receipt: &Receipt) {
        self.published += 1;
        self.duplicates += u64::from(receipt.duplicate);
        self.durability.clone_from(&receipt.durability);
    }

    fn skip(&mut self, number: u64, why: &str) {
        self.skipped += 1;
        complain(format_args!("line {number} was skipped: {why}"));
    }

    fn summary(&self) -> String {
        let events = if self.published == 1 {
            "event"
        } else {
            "events"
        };
        let mut text = format!("{} {events} published", self.published);
        if self.duplicates > 0 {
            text.push_str(&format!(", {} of them before", self.duplicates));
        }
        if let Some(durability) = &self.durability {
            text.push_str(&format!(" ({durability})"));
        }
        if self.skipped > 0 {
            let lines = if self.skipped == 1 { "line" } else { "lines" };
            text.push_str(&format!(", {} {lines} skipped", self.skipped));
        }
        text
    }
}

/// Half of what a hub takes by default, with room for quoting.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// After so many refusals and nothing else, the command line is wrong and not the lines; a stated guess.
const MAX_REFUSED_AT_FIRST: u64 = 100;
