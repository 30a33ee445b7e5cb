//! `sse pub`: publishes an argument, a file, or each line of standard input.

use std::fs;
use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use sse_client::{Error, EventId, EventType, Publication, Publisher, Receipt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::Exit;
use crate::common::{Reach, events_url};
use crate::explain::explain;
use crate::interrupt::Interrupt;
use crate::output::{Output, Stop, complain};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sse pub localhost:8080 'hello' --topic news
  sse pub localhost:8080 '{\"progress\": 3}' --type progress --topic job/42
  cargo build --message-format json | sse pub localhost:8080 --stdin --topic build")]
pub(crate) struct Args {
    /// Where to publish; a host without a path means its /events
    url: String,
    /// Data of the event, sent as it is
    #[arg(required_unless_present_any = ["file", "stdin"], conflicts_with_all = ["file", "stdin"])]
    data: Option<String>,
    /// Send the content of this file as one event
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Send each line of standard input as an event, in order
    #[arg(long)]
    stdin: bool,
    /// Topic to publish to; may be given several times
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Event type
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    event_type: Option<String>,
    /// Id of the event; published twice, it is stored once
    #[arg(long, value_name = "ID", conflicts_with = "stdin")]
    id: Option<String>,
    /// With --stdin: ids are RUN-1, RUN-2 …; give the same RUN again to repeat a run without duplicates
    #[arg(long, value_name = "RUN", requires = "stdin", conflicts_with_all = ["data", "file"])]
    run_id: Option<String>,
    /// With --stdin: most events in one request
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Print receipts as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args) -> Result<Exit, Stop> {
    let event_type = args.event_type.as_deref().map(EventType::new).transpose();
    let event_type = event_type.map_err(|error| Stop::Usage(format!("--type: {error}")))?;
    let mut builder = Publisher::builder(events_url(&args.url)?).connector(args.reach.connector()?);
    if let Some(token) = &args.reach.bearer {
        builder = builder.bearer(token);
    }
    for (name, value) in &args.reach.headers {
        builder = builder.header(name.clone(), value.clone());
    }
    if !args.quiet {
        builder = builder.on_retry(|error, wait| {
            complain(format_args!(
                "{}; trying again in {:.1} s",
                explain(error),
                wait.as_secs_f64()
            ));
        });
    }
    let publisher = builder.build()?;
    let dress = |mut publication: Publication| {
        if let Some(event_type) = &event_type {
            publication = publication.event_type(event_type.clone());
        }
        args.topic.iter().fold(publication, Publication::topic)
    };
    let mut interrupt = Interrupt::listen();
    tokio::select! {
        biased;
        () = interrupt.asked() => Ok(Exit::Interrupted),
        done = async {
            if args.stdin {
                lines(&args, publisher, dress).await
            } else {
                one(&args, publisher, dress).await
            }
        } => done,
    }
}

async fn one(
    args: &Args,
    mut publisher: Publisher,
    dress: impl Fn(Publication) -> Publication,
) -> Result<Exit, Stop> {
    let data = match (&args.data, &args.file) {
        (Some(data), _) => data.clone(),
        (None, Some(path)) => {
            let bytes = fs::read(path).map_err(|error| {
                Stop::Because(format!("cannot read {}: {error}", path.display()))
            })?;
            text(bytes, &path.display().to_string())
        }
        (None, None) => String::new(), // clap asks for one of them
    };
    let mut publication = dress(Publication::text(data));
    if let Some(id) = &args.id {
        let id =
            EventId::new(id.as_str()).map_err(|error| Stop::Usage(format!("--id: {error}")))?;
        publication = publication.id(id);
    }
    let receipt = publisher.publish(publication).await?;
    print_receipts(args, &mut Output::new(), std::slice::from_ref(&receipt))?;
    Ok(Exit::Done)
}

async fn lines(
    args: &Args,
    mut publisher: Publisher,
    dress: impl Fn(Publication) -> Publication,
) -> Result<Exit, Stop> {
    let run = args
        .run_id
        .clone()
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let batch = args.batch as usize;
    let mut input = Input::start(batch);
    let mut output = Output::new();
    let mut told = Told::default();
    let mut waiting = Vec::with_capacity(batch);
    loop {
        // What has arrived while the last request was under way forms the next one; no timer.
        waiting.clear();
        if input.lines.recv_many(&mut waiting, batch).await == 0 {
            break;
        }
        let mut publications = Vec::with_capacity(waiting.len());
        let first = told.lines + 1;
        let mut failed = None;
        let mut bytes = 0;
        let mut rest = waiting.drain(..).peekable();
        while let Some(line) = rest.next() {
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    failed = Some(Stop::Because(format!("line {}: {error}", told.lines + 1)));
                    break;
                }
            };
            told.lines += 1;
            bytes += line.text.len();
            let id = format!("{run}-{}", told.lines);
            let id = EventId::new(id).map_err(|error| Stop::Usage(format!("--run-id: {error}")))?;
            publications.push(dress(Publication::text(&line.text)).id(id));
            let next = rest.peek().and_then(|next| next.as_ref().ok());
            if bytes + next.map_or(0, |next| next.text.len()) > MAX_REQUEST_BYTES {
                let receipts = send(
                    &mut publisher,
                    std::mem::take(&mut publications),
                    told.lines,
                    &run,
                )
                .await?;
                told.add(&receipts);
                print_receipts(args, &mut output, &receipts)?;
                bytes = 0;
            }
        }
        debug_assert!(first <= told.lines + 1);
        if !publications.is_empty() {
            let receipts = send(&mut publisher, publications, told.lines, &run).await?;
            told.add(&receipts);
            print_receipts(args, &mut output, &receipts)?;
        }
        if let Some(stop) = failed {
            return Err(stop);
        }
    }
    if !args.quiet {
        complain(format_args!("{}", told.summary()));
    }
    Ok(Exit::Done)
}

/// Publishes one batch whose last line is number `last`.
async fn send(
    publisher: &mut Publisher,
    publications: Vec<Publication>,
    last: u64,
    run: &str,
) -> Result<Vec<Receipt>, Stop> {
    let first = last + 1 - publications.len() as u64;
    let because = |line: u64, error: &Error| {
        Stop::Because(format!(
            "line {line}: {}; the lines before it are stored (--run-id {run} repeats without duplicates)",
            explain(error)
        ))
    };
    let results = publisher
        .publish_all(publications)
        .await
        .map_err(|error| because(first, &error))?;
    let numbered = (first..).zip(results);
    numbered
        .map(|(line, result)| result.map_err(|error| because(line, &error)))
        .collect()
}

fn print_receipts(args: &Args, output: &mut Output, receipts: &[Receipt]) -> Result<(), Stop> {
    if args.quiet || (args.stdin && !args.json) {
        return Ok(());
    }
    let mut text = String::new();
    for receipt in receipts {
        if args.json {
            let object = serde_json::json!({
                "id": receipt.id,
                "position": receipt.position,
                "durability": receipt.durability,
                "duplicate": receipt.duplicate,
            });
            text.push_str(&object.to_string());
        } else {
            text.push_str(&receipt.id);
            if let Some(durability) = &receipt.durability {
                text.push(' ');
                text.push_str(durability);
            }
            if receipt.duplicate {
                text.push_str(" duplicate");
            }
        }
        text.push('\n');
    }
    output.write(text.as_bytes())
}

/// What became of the lines.
#[derive(Default)]
struct Told {
    lines: u64,
    duplicates: u64,
    durability: Option<String>,
}

impl Told {
    fn add(&mut self, receipts: &[Receipt]) {
        self.duplicates += receipts.iter().filter(|receipt| receipt.duplicate).count() as u64;
        if let Some(last) = receipts.last() {
            self.durability.clone_from(&last.durability);
        }
    }

    fn summary(&self) -> String {
        let events = if self.lines == 1 { "event" } else { "events" };
        let mut text = format!("{} {events} published", self.lines);
        if self.duplicates > 0 {
            text.push_str(&format!(", {} of them before", self.duplicates));
        }
        if let Some(durability) = &self.durability {
            text.push_str(&format!(" ({durability})"));
        }
        text
    }
}

/// Standard input, read line by line on a thread of its own.
struct Input {
    lines: mpsc::Receiver<Result<Line, String>>,
}

struct Line {
    text: String,
    /// Its share of [`MAX_WAITING_BYTES`], given back when it is sent.
    _room: OwnedSemaphorePermit,
}

impl Input {
    fn start(batch: usize) -> Self {
        let (sender, lines) = mpsc::channel(batch * 2);
        let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let line = match read_line(&mut stdin) {
                    Ok(None) => return,
                    Ok(Some(bytes)) => {
                        let share = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                        let room = Arc::clone(&room).acquire_many_owned(share);
                        let Ok(room) = runtime.block_on(room) else {
                            return;
                        };
                        Ok(Line {
                            text: text(bytes, "standard input"),
                            _room: room,
                        })
                    }
                    Err(error) => Err(error),
                };
                let last = line.is_err();
                if sender.blocking_send(line).is_err() || last {
                    return;
                }
            }
        });
        Self { lines }
    }
}

/// One line without its end (LF or CRLF); the last one need not have one. `None` at the end.
fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let limit = MAX_LINE_BYTES as u64 + 2;
    input
        .take(limit)
        .read_until(b'\n', &mut line)
        .map_err(|error| error.to_string())?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("longer than {MAX_LINE_BYTES} bytes"));
    }
    Ok(Some(line))
}

/// Bytes as text; what is no UTF-8 becomes U+FFFD, and that is said once for each place.
fn text(bytes: Vec<u8>, origin: &str) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        complain(format_args!("{origin}: not UTF-8, replaced by U+FFFD"));
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    })
}

/// A line is one event; hubs take 1 MiB bodies or less by default, but may be told to take more.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Lines read ahead; a single longest line must fit.
const MAX_WAITING_BYTES: usize = 2 * MAX_LINE_BYTES;
/// Half of what a hub takes by default, with room for quoting.
const MAX_REQUEST_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| read_line(&mut input).unwrap()).collect()
    }

    #[test]
    fn every_line_is_one_event_also_an_empty_and_an_unfinished_one() {
        assert_eq!(
            all(b"a\n\n b \r\nc"),
            [b"a".to_vec(), b"".to_vec(), b" b ".to_vec(), b"c".to_vec()]
        );
        assert_eq!(all(b"a\n"), [b"a".to_vec()]);
        assert!(all(b"").is_empty());
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let endless = vec![b'x'; MAX_LINE_BYTES + 10];
        assert!(read_line(&mut &endless[..]).is_err());
        let longest = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(
            read_line(&mut &longest[..]).unwrap().unwrap().len(),
            MAX_LINE_BYTES
        );
    }
}
