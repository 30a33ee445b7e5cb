//! `sse bench`: how a hub delivers to many subscribers.
//!
//! Each subscriber is a whole client of this crate on a topic made for the run, so the figures include
//! the client's work, and both sides share the machine unless they run on two. They compare runs on one machine; they
//! are not the limit of a hub.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use sse_client::{Connector, EventId, EventSource, Publication, Publisher, ReconnectPolicy, State};
use tokio::task::JoinSet;

use crate::Exit;
use crate::common::{Reach, events_url, parse_seconds};
use crate::explain::explain;
use crate::interrupt::Interrupt;
use crate::output::{Output, Stop, complain};

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sse bench localhost:8080 --subscribers 100 --rate 50 --duration 10")]
pub(crate) struct Args {
    /// Hub to measure; a host without a path means its /events
    url: String,
    /// Number of concurrent subscribers
    #[arg(long, short, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Events to publish per second
    #[arg(long, short, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long to publish, in seconds
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds, allow_negative_numbers = true)]
    duration: Duration,
    /// Bytes of data in each event
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    size: u32,
    /// Topic to use; by default a new one
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What one subscriber saw.
struct Seen {
    events: u64,
    /// How many of them came after a later one.
    repeated: u64,
    /// How many never came; known when all is over.
    lost: u64,
    latencies: Histogram<u64>,
}

/// What all share.
struct Run {
    begin: Instant,
    delivered: AtomicU64,
    /// Set when all is published and had time to arrive.
    over: AtomicBool,
    prefix: String,
}

pub(crate) async fn run(args: Args) -> Result<Exit, Stop> {
    let url = events_url(&args.url)?;
    let connector = args.reach.connector()?;
    let run_id = uuid::Uuid::new_v4();
    let topic = args
        .topic
        .clone()
        .unwrap_or_else(|| format!("bench/{run_id}"));
    let run = Arc::new(Run {
        begin: Instant::now(),
        delivered: AtomicU64::new(0),
        over: AtomicBool::new(false),
        prefix: format!("{run_id} "),
    });
    let mut interrupt = Interrupt::listen();
    tokio::select! {
        biased;
        () = interrupt.asked() => Ok(Exit::Interrupted),
        done = measure(&args, &url, &connector, &topic, &run) => done,
    }
}

async fn measure(
    args: &Args,
    url: &str,
    connector: &Connector,
    topic: &str,
    run: &Arc<Run>,
) -> Result<Exit, Stop> {
    // Everyone is connected before the first event.
    let bar = progress("connecting", u64::from(args.subscribers));
    let mut subscribers = JoinSet::new();
    let mut ready = Vec::new();
    let headers = args.reach.header_map()?;
    for _ in 0..args.subscribers {
        let source = EventSource::builder(url)
            .connector(connector.clone())
            .headers(headers.clone())
            .topic(topic)
            .reconnect(ReconnectPolicy::default().max_attempts(5))
            .build()?;
        ready.push(source.watch_state());
        subscribers.spawn(subscribe(source, Arc::clone(run)));
    }
    let connecting = Instant::now();
    let mut told = false;
    for mut state in ready {
        if !told {
            let first = state
                .wait_for(|state| !matches!(state, State::Connecting { .. }))
                .await;
            if let Ok(state) = first
                && let State::Waiting { error, .. } = &*state
            {
                let line = explain(error);
                bar.suspend(|| complain(format_args!("{line}; trying again")));
                told = true;
            }
        }
        let settled = state
            .wait_for(|state| matches!(state, State::Open | State::Closed(_)))
            .await;
        if let Ok(state) = settled
            && let State::Closed(sse_client::CloseReason::Failed { error, .. }) = &*state
        {
            return Err(Stop::Because(format!(
                "a subscriber failed: {}",
                explain(error)
            )));
        }
        bar.inc(1);
    }
    let connected_in = connecting.elapsed();
    bar.finish_and_clear();

    let (published, publishing) = publish(args, url, connector, topic, run).await?;

    // What is still under way gets time, as long as anything arrives.
    let expected = published * u64::from(args.subscribers);
    let mut before = run.delivered.load(Ordering::Relaxed);
    let mut quiet = 0;
    while before < expected && quiet < QUIET_ROUNDS {
        tokio::time::sleep(ROUND).await;
        let now = run.delivered.load(Ordering::Relaxed);
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    run.over.store(true, Ordering::Relaxed);
    let mut all = Seen::new();
    while let Some(seen) = subscribers.join_next().await {
        let seen = seen.map_err(|error| Stop::Because(error.to_string()))??;
        all.add(&seen, published);
    }
    report(args, &all, published, publishing, connected_in)
}

/// Publishes at the rate; says how many and how long it took.
async fn publish(
    args: &Args,
    url: &str,
    connector: &Connector,
    topic: &str,
    run: &Run,
) -> Result<(u64, Duration), Stop> {
    let builder = Publisher::builder(url)
        .connector(connector.clone())
        .headers(args.reach.header_map()?);
    let mut publisher = builder.build()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of events"
    )]
    let total = ((f64::from(args.rate) * args.duration.as_secs_f64()) as u64).max(1);
    let bar = progress("publishing", total);
    let begin = Instant::now();
    let mut sent = 0;
    while sent < total {
        let due = begin.elapsed().as_secs_f64() * f64::from(args.rate) + 1.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of events"
        )]
        let due = (due as u64).min(total);
        if due <= sent {
            tokio::time::sleep(Duration::from_micros(500)).await;
            continue;
        }
        // What is due forms one request; under load that is several events.
        let batch = (sent..due.min(sent + MAX_BATCH)).map(|n| {
            let id = EventId::new(format!("{}{n}", run.prefix.replace(' ', "-")));
            Publication::text(payload(run, n, args.size))
                .topic(topic)
                .id(id.unwrap_or_default())
        });
        let batch: Vec<_> = batch.collect();
        let count = batch.len() as u64;
        for result in publisher.publish_all(batch).await? {
            result?;
        }
        sent += count;
        bar.set_position(sent);
    }
    bar.finish_and_clear();
    Ok((sent, begin.elapsed()))
}

/// `RUN NUMBER MICROSECONDS xxx…`, the time being that since the run began.
fn payload(run: &Run, n: u64, size: u32) -> String {
    let mut text = format!("{}{n} {} ", run.prefix, run.begin.elapsed().as_micros());
    while text.len() < size as usize {
        text.push('x');
    }
    text
}

/// Number and time of a payload of this run.
fn parse(run: &Run, data: &str) -> Option<(u64, u64)> {
    let mut words = data.strip_prefix(&run.prefix)?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

async fn subscribe(mut source: EventSource, run: Arc<Run>) -> Result<Seen, Stop> {
    let mut seen = Seen::new();
    let mut next = 0;
    loop {
        let event = match tokio::time::timeout(ROUND, source.next()).await {
            Ok(Some(event)) => event?,
            Ok(None) => return Ok(seen),
            Err(_) if run.over.load(Ordering::Relaxed) => return Ok(seen),
            Err(_) => continue,
        };
        let Some((n, sent)) = parse(&run, event.data()) else {
            continue;
        };
        let now = u64::try_from(run.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        seen.latencies.saturating_record(now.saturating_sub(sent));
        run.delivered.fetch_add(1, Ordering::Relaxed);
        seen.events += 1;
        // What comes after a later one is a repetition; a hub keeps the order.
        if n < next {
            seen.repeated += 1;
        } else {
            next = n + 1;
        }
    }
}

impl Seen {
    fn new() -> Self {
        let latencies = Histogram::new_with_max(MAX_LATENCY_MICROS, 3);
        Self {
            events: 0,
            repeated: 0,
            lost: 0,
            latencies: latencies.expect("the bounds are right"),
        }
    }

    fn add(&mut self, other: &Self, published: u64) {
        self.events += other.events;
        self.repeated += other.repeated;
        self.lost += published.saturating_sub(other.events - other.repeated);
        let _ = self.latencies.add(&other.latencies);
    }
}

fn report(
    args: &Args,
    all: &Seen,
    published: u64,
    publishing: Duration,
    connected_in: Duration,
) -> Result<Exit, Stop> {
    let ms = |quantile: f64| all.latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let seconds = publishing.as_secs_f64().max(1e-6);
    let mut output = Output::new();
    let (p50, p95, p99) = (ms(0.5), ms(0.95), ms(0.99));
    let max = all.latencies.max() as f64 / 1000.0;
    let delivered_rate = all.events as f64 / seconds;
    if args.json {
        let object = serde_json::json!({
            "subscribers": args.subscribers,
            "connect_seconds": connected_in.as_secs_f64(),
            "published": published,
            "published_per_second": published as f64 / seconds,
            "delivered": all.events,
            "delivered_per_second": delivered_rate,
            "lost": all.lost,
            "repeated": all.repeated,
            "latency_ms": { "p50": p50, "p95": p95, "p99": p99, "max": max },
        });
        output.write(format!("{object}\n").as_bytes())?;
    } else {
        let text = format!(
            "subscribers   {} in {:.2} s\n\
             published     {published} in {seconds:.2} s ({:.0}/s)\n\
             delivered     {} ({delivered_rate:.0}/s)\n\
             lost          {}\n\
             repeated      {}\n\
             latency       p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, max {max:.2} ms\n",
            args.subscribers,
            connected_in.as_secs_f64(),
            published as f64 / seconds,
            all.events,
            all.lost,
            all.repeated,
        );
        output.write(text.as_bytes())?;
    }
    if all.lost > 0 {
        complain(format_args!("{} deliveries are missing", all.lost));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(length)
        .with_message(what)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

const MAX_BATCH: u64 = 256;
const ROUND: Duration = Duration::from_millis(100);
/// Three seconds without any delivery, and what is missing is lost.
const QUIET_ROUNDS: u32 = 30;
const MAX_LATENCY_MICROS: u64 = 600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_known_again_and_others_are_not() {
        let run = Run {
            begin: Instant::now(),
            delivered: AtomicU64::new(0),
            over: AtomicBool::new(false),
            prefix: "run ".to_owned(),
        };
        let text = payload(&run, 41, 200);
        assert_eq!(text.len(), 200);
        assert_eq!(parse(&run, &text).unwrap().0, 41);
        assert_eq!(parse(&run, "other 41 7"), None);
        assert_eq!(parse(&run, "run x 7"), None);
    }

    #[test]
    fn what_never_arrived_counts_as_lost_wherever_it_is_missing() {
        let mut all = Seen::new();
        let mut one = Seen::new();
        one.events = 8; // of 10, one of them twice
        one.repeated = 1;
        all.add(&one, 10);
        assert_eq!((all.lost, all.repeated), (3, 1));
    }
}
