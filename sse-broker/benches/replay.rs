//! What a long history costs: filling it, opening it after a kill, resuming in it, replaying it to a
//! socket, and replaying it beside live traffic.
//!
//! `SSE_BROKER_EVENTS` says how many events (a million unless it is set), and arguments which parts:
//! `resume`, `reopen`, `socket`, `live`, all when none is named. Each figure stands beside its floor or
//! its counterpart from the same run.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sse_broker::{
    Broker, DiskBroker, DiskConfig, NewRecord, Offset, ReadRequest, RecordRef, Rendered, Retention,
    Scope, Topic,
};
use sse_protocol::encoder::{self, TextEvent};
use sse_protocol::{Event, EventId};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

fn open(folder: &Path) -> Arc<DiskBroker> {
    let config = DiskConfig {
        retention: Retention::UNBOUNDED,
        ..DiskConfig::default()
    };
    DiskBroker::open(folder, config).expect("a log")
}

fn record(topics: &[Topic], n: u64) -> NewRecord {
    let event = Event::new("x".repeat(100));
    let event = event.with_id(EventId::new(format!("event-{n:012}")).expect("an id"));
    let topic = topics[n as usize % topics.len()].clone();
    NewRecord::new(topic, event, 1_700_000_000_000)
}

fn topics() -> Vec<Topic> {
    (0..16)
        .map(|n| Topic::new(format!("topic/{n}")).expect("a topic"))
        .collect()
}

fn fill(broker: &DiskBroker, count: u64) {
    let topics = topics();
    let begun = Instant::now();
    runtime().block_on(async {
        for start in (0..count).step_by(4096) {
            let records = (start..count.min(start + 4096)).map(|n| record(&topics, n));
            broker.append(records.collect()).await.expect("stored");
        }
    });
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} events filled in, {rate:.0} a second");
}

fn request(after: Offset, max_bytes: usize) -> ReadRequest {
    ReadRequest {
        after,
        scope: Scope::All,
        max_records: usize::MAX,
        max_bytes,
        now: 0,
    }
}

fn write_event(record: &RecordRef<'_>, out: &mut Vec<u8>) {
    let event = TextEvent {
        id: record.id,
        event_type: record.event_type,
        data: record.data,
        retry: record.retry,
    };
    assert!(encoder::text_event(event, out));
}

async fn page(broker: &DiskBroker, after: Offset, max_bytes: usize) -> Rendered {
    let render = Box::new(write_event);
    let page = broker.render(request(after, max_bytes), render).await;
    page.expect("a page")
}

fn percentile(latencies: &mut [Duration], percent: f64) -> Duration {
    latencies.sort_unstable();
    let at = (latencies.len() as f64 * percent / 100.0) as usize;
    latencies[at.min(latencies.len() - 1)]
}

/// The time to the first event after a random position, and to the place of a random id, in a short history and in a
/// long one, in rounds that alternate.
fn resume(few: &DiskBroker, many: &DiskBroker) {
    let runtime = runtime();
    let mut random = fastrand::Rng::with_seed(1);
    let topic = Scope::Topics([topics()[3].clone()].into());
    let ways = [
        ("first event of all", Some(Scope::All)),
        ("first event of a topic", Some(topic)),
        ("place of an id", None),
    ];
    for (name, scope) in ways {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..RESUME_ROUNDS {
            for (broker, times) in [few, many].into_iter().zip(&mut times) {
                let count = broker.bounds().head;
                let round = (0..1_000).map(|_| match &scope {
                    Some(scope) => {
                        let request = ReadRequest {
                            scope: scope.clone(),
                            max_records: 1,
                            ..request(random.u64(..count - 20), usize::MAX)
                        };
                        let begun = Instant::now();
                        let page = runtime.block_on(broker.read(request)).expect("a page");
                        assert_eq!(page.records.len(), 1);
                        begun.elapsed()
                    }
                    None => {
                        let n = random.u64(..count);
                        let id = EventId::new(format!("event-{n:012}")).expect("an id");
                        let begun = Instant::now();
                        let offset = runtime.block_on(broker.locate(id)).expect("readable");
                        assert_eq!(offset, Some(n + 1));
                        begun.elapsed()
                    }
                });
                times.extend(round);
            }
        }
        let [few_times, many_times] = &mut times;
        print_times(name, few.bounds().head, few_times);
        print_times(name, many.bounds().head, many_times);
        let p50 = |times: &mut [Duration]| percentile(times, 50.0).as_secs_f64();
        println!(
            "{:<24} {:.2} times as long",
            "",
            p50(many_times) / p50(few_times)
        );
    }
}

/// Rounds of a thousand each.
const RESUME_ROUNDS: usize = 10;

fn print_times(what: &str, count: u64, times: &mut [Duration]) {
    let (p50, p99) = (percentile(times, 50.0), percentile(times, 99.0));
    println!("{what:<24} among {count:>9}: p50 {p50:>9.1?} p99 {p99:>9.1?}");
}

/// Opens a log as a kill leaves it (a copy of its file while it is open), and one that was closed.
fn reopen(folder: &Path, broker: Arc<DiskBroker>) -> Arc<DiskBroker> {
    let copy = tempfile::tempdir().expect("a folder");
    let file = |folder: &Path| folder.join("events.redb");
    let bytes = std::fs::copy(file(folder), file(copy.path())).expect("copied");
    let begun = Instant::now();
    let killed = open(copy.path());
    let ready = begun.elapsed();
    let runtime = runtime();
    let again = vec![record(&topics(), 7)];
    runtime.block_on(killed.append(again)).expect("a duplicate");
    let mib = bytes >> 20;
    let publishing = begun.elapsed();
    println!(
        "{mib} MiB, killed: readers served after {ready:.1?}, publishers after {publishing:.1?}"
    );
    drop(killed);
    drop(broker);
    let begun = Instant::now();
    let closed = open(folder);
    println!(
        "{mib} MiB, closed: readers served after {:.1?}",
        begun.elapsed()
    );
    closed
}

/// Replays everything to a socket, the next page being read while one is written; beside it the same
/// number of bytes written from memory.
fn socket(broker: &DiskBroker, count: u64) {
    let runtime = runtime();
    for chunk in [32 << 10, 256 << 10] {
        let mut expected = 0;
        let begun = Instant::now();
        let mut after = 0;
        runtime.block_on(async {
            while after < count {
                let page = page(broker, after, chunk).await;
                after = page.upto;
                expected += page.bytes.len() as u64;
            }
        });
        let no_socket = begun.elapsed();

        let replayed = to_socket(expected, |socket| {
            runtime.block_on(async {
                let mut events = 0;
                let mut next = page(broker, 0, chunk).await;
                while next.upto < count {
                    let ahead = broker.render(request(next.upto, chunk), Box::new(write_event));
                    // Its reading begins with the first poll, before this one is written.
                    let mut ahead = ahead;
                    let started =
                        std::future::poll_fn(|cx| std::task::Poll::Ready(ahead.as_mut().poll(cx)));
                    let started = started.await;
                    socket.write_all(&next.bytes).expect("written");
                    events += next.events;
                    next = match started {
                        std::task::Poll::Ready(page) => page,
                        std::task::Poll::Pending => ahead.await,
                    }
                    .expect("a page");
                }
                socket.write_all(&next.bytes).expect("written");
                assert_eq!(events + next.events, count);
            });
        });
        let bytes = vec![b'x'; chunk];
        let floor = to_socket(expected, |socket| {
            let mut left = expected as usize;
            while left > 0 {
                let len = left.min(bytes.len());
                socket.write_all(&bytes[..len]).expect("written");
                left -= len;
            }
        });
        let rate = |time: Duration| count as f64 / time.as_secs_f64() / 1e6;
        println!(
            "replay in chunks of {:>3} KiB: {:.2} M events/s to a socket, {:.2} to nowhere, {:.2} from memory to a socket",
            chunk >> 10,
            rate(replayed),
            rate(no_socket),
            rate(floor)
        );
    }
}

/// How long it takes until a reader at the other end has so many bytes.
fn to_socket(expected: u64, write: impl FnOnce(&mut TcpStream)) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let reader = std::thread::spawn(move || {
        let mut socket = TcpStream::connect(address).expect("connected");
        let mut buffer = vec![0; 256 << 10];
        let mut count = 0;
        while count < expected {
            let read = socket.read(&mut buffer).expect("read");
            assert!(read > 0, "the end came after {count} of {expected} bytes");
            count += read as u64;
        }
    });
    let (mut socket, _) = listener.accept().expect("a reader");
    let begun = Instant::now();
    write(&mut socket);
    reader.join().expect("a reader that got all");
    begun.elapsed()
}

/// The latency of acknowledged appends, one at a time, alone and while a hundred readers replay
/// everything over and over.
fn live(broker: &Arc<DiskBroker>, count: u64) {
    const READERS: usize = 100;
    const ROUNDS: usize = 3;
    const APPENDS: u64 = 2_000;
    let mut medians = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (replays, into) in [false, true].into_iter().zip(&mut medians) {
            let (over, pages) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicU64::new(0)),
            );
            let readers = replays.then(|| {
                let (broker, over, pages) =
                    (Arc::clone(broker), Arc::clone(&over), Arc::clone(&pages));
                std::thread::spawn(move || {
                    let local = tokio::task::LocalSet::new();
                    for n in 0..READERS as u64 {
                        let (broker, over, pages) =
                            (Arc::clone(&broker), Arc::clone(&over), Arc::clone(&pages));
                        local.spawn_local(async move {
                            let mut after = count / READERS as u64 * n;
                            while !over.load(Ordering::Relaxed) {
                                let page = page(&broker, after, 32 << 10).await;
                                pages.fetch_add(1, Ordering::Relaxed);
                                after = if page.upto < count { page.upto } else { 0 };
                            }
                        });
                    }
                    runtime().block_on(local);
                })
            });
            let topics = topics();
            let base = broker.bounds().head;
            let begun = Instant::now();
            let mut times: Vec<_> = runtime().block_on(async {
                let mut times = Vec::new();
                for n in base..base + APPENDS {
                    let begun = Instant::now();
                    broker
                        .append(vec![record(&topics, n)])
                        .await
                        .expect("stored");
                    times.push(begun.elapsed());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                times
            });
            over.store(true, Ordering::Relaxed);
            let pages = pages.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
            if let Some(readers) = readers {
                readers.join().expect("readers that got all");
            }
            let (p50, p99) = (percentile(&mut times, 50.0), percentile(&mut times, 99.0));
            println!(
                "round {round}, {} readers replaying ({pages:.0} pages/s): append p50 {p50:.1?} p99 {p99:.1?}",
                if replays { READERS } else { 0 }
            );
            into.push(p99.as_secs_f64());
        }
    }
    let [alone, beside] = medians.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[ROUNDS / 2]
    });
    println!(
        "median p99 beside replays over alone: {:.2}",
        beside / alone
    );
}

fn main() {
    let count =
        std::env::var("SSE_BROKER_EVENTS").map_or(1_000_000, |n| n.parse().expect("a number"));
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|arg| arg == part);
    // `cargo test --benches` only wants to know that it runs.
    let count = if std::env::args().any(|arg| arg == "--test") {
        2_000
    } else {
        count
    };

    let folder = tempfile::tempdir().expect("a folder");
    let mut broker = open(folder.path());
    fill(&broker, count);
    if wants("reopen") {
        broker = reopen(folder.path(), broker);
    }
    if wants("resume") {
        let folder = tempfile::tempdir().expect("a folder");
        let few = open(folder.path());
        fill(&few, 1_000);
        resume(&few, &broker);
    }
    if wants("socket") {
        socket(&broker, count);
    }
    if wants("live") {
        live(&broker, count);
    }
}
