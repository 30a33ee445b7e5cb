//! `sse sub`: prints events as they come.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use sse_client::{
    CloseReason, EventBuf, EventSource, FilePosition, Greeting, Limits, Mode, Notice, PollFallback,
    ReconnectPolicy, is_heartbeat, plain_data,
};

use crate::Exit;
use crate::common::{Reach, events_url, parse_bytes, parse_seconds};
use crate::explain::explain;
use crate::interrupt::Interrupt;
use crate::output::{Output, Stop, complain, tame};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sse sub localhost:8080 --topic news
  sse sub 'https://hub.example/events?topic=news&topic=alerts'
  sse sub https://hub.example/events --json --save-position reader.pos | jq -r .data
  sse sub localhost:8080 --subscribe progress,complete --count 10")]
pub(crate) struct Args {
    /// Stream to read; a host without a path means its /events
    url: String,
    /// Topic to subscribe to: exact, a pattern, or `*`; may be given several times
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Event types to subscribe to, separated by commas
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    subscribe: Vec<String>,
    /// Resume after this event; `earliest` for everything that the hub keeps
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// Keep the position in this file, and resume from it
    #[arg(long, value_name = "FILE")]
    save_position: Option<PathBuf>,
    /// End after this many events
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Print one JSON object per line: event, id, data
    #[arg(long, conflicts_with = "data")]
    json: bool,
    /// Print only the data
    #[arg(long)]
    data: bool,
    /// Also print the hub's own `connected` and `ping` events, and comments
    #[arg(long)]
    all: bool,
    /// Do not report the connection on standard error
    #[arg(long, short)]
    quiet: bool,
    /// Do not unpack messages in the compressed envelope
    #[arg(long)]
    raw: bool,
    /// Skip events whose id was already printed
    #[arg(long)]
    dedupe: bool,
    /// Exit with 3 as soon as the hub says that events may be missing
    #[arg(long)]
    fail_on_gap: bool,
    /// Give up after this many attempts in a row
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: Option<u32>,
    /// End with the first connection
    #[arg(long, conflicts_with = "max_attempts")]
    no_reconnect: bool,
    /// Behave like a browser's EventSource: any status but 200 is final
    #[arg(long)]
    standard: bool,
    /// Poll at URL/poll when streams fail repeatedly
    #[arg(long)]
    poll_fallback: bool,
    /// Largest event, in bytes; 512K and 64M are understood. A larger event is reported and skipped
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = parse_bytes)]
    max_event: usize,
    /// Seconds of silence after which it reconnects; 0 for never
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = parse_seconds, allow_negative_numbers = true)]
    idle_timeout: Duration,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args) -> Result<Exit, Stop> {
    let mut events = source(&args)?;
    let mut printer = Printer {
        output: Output::new(),
        style: Style::of(&args),
        raw: args.raw,
        line: String::new(),
    };
    let mut interrupt = Interrupt::listen();
    let mut left = args.count;
    if left == Some(0) {
        return Ok(Exit::Done);
    }
    loop {
        let notice = tokio::select! {
            biased;
            () = interrupt.asked() => {
                events.close();
                return Ok(Exit::Interrupted);
            }
            notice = events.next_notice() => notice,
        };
        match notice {
            Some(Notice::Event(event)) => {
                let gap = event.event_type() == "gap";
                if args.all || !is_hubs_own(&event) {
                    printer.event(&event)?;
                    if let Some(left) = &mut left {
                        *left -= 1;
                        if *left == 0 {
                            events.close();
                            return Ok(Exit::Done);
                        }
                    }
                }
                if gap && args.fail_on_gap {
                    complain(format_args!("events may be missing: {}", event.data()));
                    return Ok(Exit::Gap);
                }
            }
            Some(Notice::Comment(text)) if args.all => printer.comment(&text)?,
            Some(Notice::Closed(CloseReason::Failed { error, attempt })) => {
                if attempt > 1 {
                    let line = explain(&error);
                    return Err(Stop::Because(format!(
                        "{line}; given up after {attempt} attempts"
                    )));
                }
                return Err(error.into());
            }
            Some(Notice::Closed(_)) | None => return Ok(Exit::Done),
            // Not about the connection: something is missing in the output.
            Some(Notice::Dropped(event)) => complain(format_args!(
                "{event}; to get such events, raise --max-event"
            )),
            Some(other) => {
                if !args.quiet {
                    tell(&other);
                }
            }
        }
    }
}

fn source(args: &Args) -> Result<EventSource, Stop> {
    let mut builder =
        EventSource::builder(events_url(&args.url)?).connector(args.reach.connector()?);
    for topic in &args.topic {
        builder = builder.topic(topic);
    }
    if !args.subscribe.is_empty() {
        builder = builder.subscribe(&args.subscribe);
    }
    if let Some(token) = &args.reach.bearer {
        builder = builder.bearer(token);
    }
    for (name, value) in &args.reach.headers {
        builder = builder.sensitive_header(name.clone(), value.clone());
    }
    if let Some(id) = &args.last_event_id {
        builder = builder.last_event_id(id);
    }
    if let Some(path) = &args.save_position {
        builder = builder.position(FilePosition::new(path));
    }
    let mut policy = ReconnectPolicy::default();
    if args.standard {
        builder = builder.mode(Mode::Standard);
        policy = ReconnectPolicy::standard();
    }
    if args.no_reconnect {
        policy = ReconnectPolicy::never();
    }
    if let Some(attempts) = args.max_attempts {
        policy = policy.max_attempts(attempts);
    }
    let limits = Limits::new()
        .with_max_line_bytes(args.max_event.saturating_add(FIELD_NAME_BYTES))
        .with_max_event_bytes(args.max_event);
    builder = builder.reconnect(policy).limits(limits);
    if args.dedupe {
        builder = builder.dedupe(REMEMBERED_IDS);
    }
    if args.poll_fallback {
        builder = builder.poll_fallback(PollFallback::default());
    }
    builder = if args.idle_timeout.is_zero() {
        builder.no_idle_timeout()
    } else {
        builder.idle_timeout(args.idle_timeout)
    };
    Ok(builder.build()?)
}

/// What a hub says on its own. Other servers' events of the same names look different.
fn is_hubs_own(event: &EventBuf) -> bool {
    Greeting::of(event).is_some() || is_heartbeat(event)
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Open(opened) => complain(format_args!("connected to {}", opened.url())),
        Notice::Interrupted(what) => complain(format_args!(
            "{}; attempt {} in {:.1} s",
            explain(what.error()),
            what.next_attempt(),
            what.retry_in().as_secs_f64()
        )),
        Notice::IdNotSent(id) => complain(format_args!(
            "the id {:?} cannot be sent in a header; resuming without it",
            id.as_str()
        )),
        Notice::NotSaved(error) => complain(format_args!("the position was not saved: {error}")),
        _ => {}
    }
}

#[derive(Clone, Copy)]
enum Style {
    Human,
    Json,
    Data,
}

impl Style {
    fn of(args: &Args) -> Self {
        match args {
            Args { json: true, .. } => Self::Json,
            Args { data: true, .. } => Self::Data,
            _ => Self::Human,
        }
    }
}

struct Printer {
    output: Output,
    style: Style,
    raw: bool,
    /// Kept between events.
    line: String,
}

impl Printer {
    fn event(&mut self, event: &EventBuf) -> Result<(), Stop> {
        self.line.clear();
        let data = match plain_data(event) {
            Ok(data) if !self.raw => data,
            Ok(_) => event.data().into(),
            Err(error) => {
                complain(format_args!(
                    "a compressed message cannot be opened: {error}"
                ));
                event.data().into()
            }
        };
        match self.style {
            Style::Data => {
                self.line.push_str(&data);
                self.line.push('\n');
            }
            Style::Json => {
                let id = Some(event.last_event_id()).filter(|id| !id.is_empty());
                let object = JsonLine {
                    event: event.event_type(),
                    id,
                    data: event.data(),
                };
                self.line = serde_json::to_string(&object).unwrap_or_default();
                self.line.push('\n');
            }
            Style::Human => self.human(event, &data),
        }
        self.output.write(self.line.as_bytes())
    }

    /// `type id data`; further lines of data are indented.
    fn human(&mut self, event: &EventBuf, data: &str) {
        let colours = self.output.has_colours();
        let (bold, dim, plain) = if colours {
            ("\x1b[1;36m", "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let line = &mut self.line;
        let _ = write!(line, "{bold}");
        tame(event.event_type(), line);
        let _ = write!(line, "{plain}");
        if let Some(id) = event.id().filter(|id| !id.is_empty()) {
            let _ = write!(line, " {dim}");
            tame(id, line);
            let _ = write!(line, "{plain}");
        }
        for (n, text) in data.split('\n').enumerate() {
            line.push_str(if n == 0 { " " } else { "\n  " });
            if colours {
                tame(text, line);
            } else {
                line.push_str(text);
            }
        }
        line.push('\n');
    }

    fn comment(&mut self, text: &str) -> Result<(), Stop> {
        self.line.clear();
        match self.style {
            Style::Data => return Ok(()),
            Style::Json => {
                self.line = serde_json::json!({ "comment": text }).to_string();
            }
            Style::Human => {
                self.line.push_str(": ");
                tame(text, &mut self.line);
            }
        }
        self.line.push('\n');
        self.output.write(self.line.as_bytes())
    }
}

#[derive(serde::Serialize)]
struct JsonLine<'a> {
    event: &'a str,
    /// What to resume after; an event without an id of its own has that of an earlier one.
    id: Option<&'a str>,
    data: &'a str,
}

const REMEMBERED_IDS: usize = 10_000;
/// An event that fits, in one line, has `data: ` before it.
const FIELD_NAME_BYTES: usize = 6;
