//! `sse pub`: publishes an argument, a file, or each line of standard input.

mod input;
mod lines;

use std::fs;
use std::path::{Path, PathBuf};

use sse_client::{EventId, EventType, Publication, Publisher, Receipt};

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
  cargo build --message-format json | sse pub localhost:8080 --stdin --topic build

With --stdin, a line that cannot be published is skipped: one that is longer than 16 MiB or than the hub takes, that is \
not UTF-8, or that the hub refuses for its content. Standard error says which line and why. The other lines are \
published, and the exit code is 4.")]
pub(crate) struct Args {
    /// Where to publish; a host without a path means its /events
    url: String,
    /// Data of the event, sent as it is
    #[arg(required_unless_present_any = ["file", "stdin"], conflicts_with_all = ["file", "stdin"])]
    data: Option<String>,
    /// Send the content of this file as one event
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Send each line of standard input as an event, in order; skip lines that cannot be sent, and exit with 4 then
    #[arg(long)]
    stdin: bool,
    /// Topic to publish to; may be given several times
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Event type
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    event_type: Option<String>,
    /// Id of the event; an event published twice under one id is stored once
    #[arg(long, value_name = "ID", conflicts_with = "stdin")]
    id: Option<String>,
    /// With --stdin: ids are RUN-1, RUN-2 …; give the same RUN again to repeat a run without duplicates
    #[arg(long, value_name = "RUN", requires = "stdin", conflicts_with_all = ["data", "file"])]
    run_id: Option<String>,
    /// With --stdin: the most events in one request
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Print receipts as JSON, one per line
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
                lines::publish(&args, publisher, dress).await
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
        (None, Some(path)) => read(path)
            .map_err(|error| Stop::Because(format!("cannot read {}: {error}", path.display())))?,
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

/// Data is sent as it is, and only text can be.
fn read(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    input::text(bytes)
        .map_err(|why| format!("it is {why}; encode it first, for example with base64"))
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
