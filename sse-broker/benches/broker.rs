//! Appends, seeks and replays, each beside its floor in the same run.
//!
//! The floor of an append to disk is redb alone: as many bytes put into one table and committed in
//! groups of the same size. Whatever ours costs beyond it is the indexes of topics and ids, the hand-over to
//! the writer's thread and back, and the tail. `latencies` prints percentiles and ratios, which criterion
//! does not; the argument `latencies` runs nothing else. `seal` compares logs with and without the seal beside them.
//!
//! For events with ids it has a second floor: redb alone, keeping a table of ids in the same commit, as whoever wants
//! ids stored once with nothing but redb has to.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use redb::{Database, TableDefinition};
use sse_broker::{
    Bounds, Broker, DiskBroker, DiskConfig, MemoryBroker, MemoryConfig, NewRecord, ReadRequest,
    Record, Retention, Scope, Tail, Topic,
};
use sse_protocol::{Event, EventId};

const IN_FLIGHT: [u64; 3] = [1, 64, 1024];

/// What an event of 100 bytes is on disk: 134 bytes of the record, 4 where it ends in its block, 2 in the index of topics.
const VALUE_BYTES: usize = 140;
/// And with an id of 18 bytes: 19 more in the record, 6 in the list of ids.
const VALUE_WITH_ID_BYTES: usize = 165;

/// What redb alone puts.
#[derive(Clone, Copy, PartialEq)]
enum Floor {
    /// Events without ids.
    Values,
    /// As many bytes as events with ids.
    LargerValues,
    /// Those, and each id into a table of its own.
    ValuesAndIds,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

fn topic(n: u64) -> Topic {
    Topic::new(format!("topic/{}", n % 16)).expect("a topic")
}

fn record(topics: &[Topic], n: u64, has_id: bool) -> NewRecord {
    let mut event = Event::new("x".repeat(100));
    event.id = has_id.then(|| EventId::new(format!("event-{n:012}")).expect("an id"));
    NewRecord::new(
        topics[n as usize % topics.len()].clone(),
        event,
        1_700_000_000_000,
    )
}

/// A tail as cheap as it gets: what is measured is the log.
struct Silent;

impl Tail for Silent {
    fn epoch_changed(&self, _: Bounds) {}

    fn committed(&self, records: &[Arc<Record>]) {
        black_box(records);
    }
}

fn on_disk(folder: &Path) -> Arc<DiskBroker> {
    let config = DiskConfig {
        retention: Retention::UNBOUNDED,
        ..DiskConfig::default()
    };
    let broker = DiskBroker::open(folder, config).expect("a log");
    broker.follow(Arc::new(Silent));
    broker
}

/// The same on a file without the seal beside it, and without a look whether the file is still in its place.
fn without_seal(folder: &Path) -> Arc<DiskBroker> {
    let path = folder.join("events.redb");
    drop(Database::create(&path).expect("a database"));
    let config = DiskConfig {
        retention: Retention::UNBOUNDED,
        ..DiskConfig::default()
    };
    let open = move || -> std::io::Result<Box<dyn redb::StorageBackend>> {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)?;
        let backend = redb::backends::FileBackend::new(file).map_err(std::io::Error::other)?;
        Ok(Box::new(backend))
    };
    let broker = DiskBroker::open_on(open, || None, config).expect("a log");
    broker.follow(Arc::new(Silent));
    broker
}

/// Appends `count` records with so many in flight; the latencies of all, when they are wanted.
fn append_in_flight(
    broker: &Arc<dyn Broker>,
    count: u64,
    in_flight: u64,
    has_id: bool,
    latencies: Option<&mut Vec<Duration>>,
) -> Duration {
    let topics: Vec<_> = (0..16).map(topic).collect();
    let each = count.div_ceil(in_flight);
    let base = broker.bounds().head;
    let begun = Instant::now();
    let all = runtime().block_on(async {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let publishers: Vec<_> = (0..in_flight)
                    .map(|publisher| {
                        let (broker, topics) = (Arc::clone(broker), topics.clone());
                        tokio::task::spawn_local(async move {
                            let mut latencies = Vec::with_capacity(each as usize);
                            for n in 0..each {
                                let n = base + publisher * each + n;
                                let begun = Instant::now();
                                let answer = broker.append(vec![record(&topics, n, has_id)]).await;
                                assert_eq!(answer.expect("stored").len(), 1);
                                latencies.push(begun.elapsed());
                            }
                            latencies
                        })
                    })
                    .collect();
                let mut all = Vec::new();
                for publisher in publishers {
                    all.extend(publisher.await.expect("a publisher that got through"));
                }
                all
            })
            .await
    });
    let elapsed = begun.elapsed();
    assert_eq!(broker.bounds().head, base + each * in_flight);
    if let Some(latencies) = latencies {
        *latencies = all;
    }
    elapsed
}

const BARE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bare");

const BARE_IDS: TableDefinition<'_, &str, u64> = TableDefinition::new("bare ids");

/// redb alone: puts groups of `group` values and commits each.
fn bare_commits(
    db: &Database,
    floor: Floor,
    count: u64,
    group: u64,
    mut each: impl FnMut(Duration),
) -> Duration {
    let bytes = match floor {
        Floor::Values => VALUE_BYTES,
        Floor::LargerValues | Floor::ValuesAndIds => VALUE_WITH_ID_BYTES,
    };
    let value = vec![7u8; bytes];
    let begun = Instant::now();
    for _ in 0..count.div_ceil(group) {
        let begun = Instant::now();
        let txn = db.begin_write().expect("a transaction");
        {
            use redb::{ReadableTable, ReadableTableMetadata};
            let mut table = txn.open_table(BARE).expect("a table");
            let next = table
                .last()
                .expect("readable")
                .map_or(0, |(key, _)| key.value() + 1);
            for n in 0..group {
                table.insert(next + n, &*value).expect("put");
            }
            black_box(table.len().expect("readable"));
            if floor == Floor::ValuesAndIds {
                let mut ids = txn.open_table(BARE_IDS).expect("a table");
                for n in next..next + group {
                    // Publishers' ids come in no order; so do these.
                    let id = format!("{:018}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 5);
                    let before = ids.insert(&*id, n).expect("put");
                    assert!(before.is_none(), "an id twice");
                }
            }
        }
        txn.commit().expect("committed");
        each(begun.elapsed());
    }
    begun.elapsed()
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500));
    group
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Elements(1));
    for in_flight in IN_FLIGHT {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Database::create(folder.path().join("bare.redb")).expect("a database");
        group.bench_function(BenchmarkId::new("floor_bare_redb", in_flight), |b| {
            b.iter_custom(|count| bare_commits(&db, Floor::Values, count, in_flight, |_| {}));
        });
        for (name, has_id) in [("disk", false), ("disk_with_ids", true)] {
            let folder = tempfile::tempdir().expect("a folder");
            let broker: Arc<dyn Broker> = on_disk(folder.path());
            group.bench_function(BenchmarkId::new(name, in_flight), |b| {
                b.iter_custom(|count| append_in_flight(&broker, count, in_flight, has_id, None));
            });
        }
    }
    let config = MemoryConfig {
        retention: Retention {
            max_records: Some(100_000),
            ..Retention::UNBOUNDED
        },
        ..MemoryConfig::default()
    };
    let broker = MemoryBroker::new(config);
    broker.follow(Arc::new(Silent));
    let topics: Vec<_> = (0..16).map(topic).collect();
    let mut n = 0;
    group.bench_function("floor_memory_queue", |b| {
        let queue = std::sync::Mutex::new(std::collections::VecDeque::new());
        let topics: Vec<_> = (0..16).map(topic).collect();
        let mut n = 0;
        b.iter_batched(
            || {
                n += 1;
                record(&topics, n, false)
            },
            |record| {
                let mut queue = queue.lock().expect("nobody panics");
                queue.push_back(Arc::new(record));
                let oldest = (queue.len() > 100_000).then(|| queue.pop_front());
                drop(queue);
                black_box(oldest)
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("memory", |b| {
        b.iter_batched(
            || {
                n += 1;
                vec![record(&topics, n, false)]
            },
            |records| drop(broker.append(records)),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Fills a log with this many records, in large groups.
fn fill(broker: &Arc<dyn Broker>, count: u64) {
    let topics: Vec<_> = (0..16).map(topic).collect();
    runtime().block_on(async {
        for start in (0..count).step_by(4096) {
            let end = count.min(start + 4096);
            let records = (start..end).map(|n| record(&topics, n, true)).collect();
            broker.append(records).await.expect("stored");
        }
    });
}

const HISTORIES: [u64; 2] = [1_000, 1_000_000];

fn seek(c: &mut Criterion) {
    let mut group = c.benchmark_group("resume");
    group
        .sample_size(30)
        .measurement_time(Duration::from_secs(2));
    let runtime = runtime();
    for history in HISTORIES {
        let folder = tempfile::tempdir().expect("a folder");
        let brokers: [(&str, Arc<dyn Broker>); 2] = [
            ("disk", on_disk(folder.path())),
            (
                "memory",
                MemoryBroker::new(MemoryConfig {
                    retention: Retention::UNBOUNDED,
                    ..MemoryConfig::default()
                }),
            ),
        ];
        for (name, broker) in brokers {
            fill(&broker, history);
            let mut random = fastrand::Rng::with_seed(1);
            let scopes = [
                ("all", Scope::All),
                ("topic", Scope::Topics([topic(3)].into())),
            ];
            for (scope_name, scope) in scopes {
                let id = BenchmarkId::new(format!("{name}_first_event_of_{scope_name}"), history);
                group.bench_function(id, |b| {
                    b.iter(|| {
                        let after = random.u64(..history - 20);
                        let (scope, max_bytes) = (scope.clone(), usize::MAX);
                        let request = ReadRequest {
                            after,
                            scope,
                            max_records: 1,
                            max_bytes,
                            now: 0,
                        };
                        let page = runtime.block_on(broker.read(request)).expect("a page");
                        assert_eq!(page.records.len(), 1);
                        page
                    });
                });
            }
            group.bench_function(BenchmarkId::new(format!("{name}_locate"), history), |b| {
                b.iter(|| {
                    let n = random.u64(..history);
                    let id = EventId::new(format!("event-{n:012}")).expect("an id");
                    let offset = runtime.block_on(broker.locate(id)).expect("readable");
                    assert_eq!(offset, Some(n + 1));
                });
            });
            group.bench_function(
                BenchmarkId::new(format!("{name}_replay_all"), history),
                |b| {
                    b.iter_custom(|iterations| {
                        let begun = Instant::now();
                        for _ in 0..iterations {
                            assert_eq!(replay(&runtime, &*broker, Scope::All), history);
                        }
                        begun.elapsed()
                    });
                },
            );
        }
    }
    group.finish();
}

/// Reads the whole log page by page; how many records there were.
fn replay(runtime: &tokio::runtime::Runtime, broker: &dyn Broker, scope: Scope) -> u64 {
    let head = broker.bounds().head;
    let (mut after, mut count) = (0, 0);
    while after < head {
        let request = ReadRequest {
            after,
            scope: scope.clone(),
            max_records: 1024,
            max_bytes: usize::MAX,
            now: 0,
        };
        let page = runtime.block_on(broker.read(request)).expect("a page");
        count += page.records.len() as u64;
        after = page.upto;
    }
    count
}

fn percentile(latencies: &mut [Duration], percent: usize) -> Duration {
    latencies.sort_unstable();
    latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)]
}

/// Prints rate and latency of acknowledged appends beside redb alone, alternating, medians of rounds.
fn latencies() {
    const ROUNDS: usize = 5;
    println!("\nacknowledged appends at fsync, medians of {ROUNDS} alternating rounds");
    println!(
        "in flight | redb events/s  p50      p99      | ours events/s  p50      p99      | rate  p99"
    );
    for (floor, has_id, name) in [
        (Floor::Values, false, ""),
        (Floor::LargerValues, true, " ids"),
        (Floor::ValuesAndIds, true, " ids, and redb keeps them too"),
    ] {
        for in_flight in IN_FLIGHT {
            let count = (in_flight * 40).clamp(400, 40_000);
            let folder = tempfile::tempdir().expect("a folder");
            let db = Database::create(folder.path().join("bare.redb")).expect("a database");
            let other = tempfile::tempdir().expect("a folder");
            let broker: Arc<dyn Broker> = on_disk(other.path());
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let mut bare = Vec::new();
                let bare_time = bare_commits(&db, floor, count, in_flight, |t| bare.push(t));
                let mut ours = Vec::new();
                let our_time = append_in_flight(&broker, count, in_flight, has_id, Some(&mut ours));
                let rate = |time: Duration| count as f64 / time.as_secs_f64();
                rounds.push([
                    rate(bare_time),
                    percentile(&mut bare, 50).as_secs_f64() * 1e6,
                    percentile(&mut bare, 99).as_secs_f64() * 1e6,
                    rate(our_time),
                    percentile(&mut ours, 50).as_secs_f64() * 1e6,
                    percentile(&mut ours, 99).as_secs_f64() * 1e6,
                ]);
            }
            let median = |n: usize| {
                let mut column: Vec<_> = rounds.iter().map(|round| round[n]).collect();
                column.sort_by(f64::total_cmp);
                column[ROUNDS / 2]
            };
            println!(
                "{in_flight:>9} | {:>12.0} {:>6.0} µs {:>6.0} µs | {:>12.0} {:>6.0} µs {:>6.0} µs | {:>4.2}  {:>4.2}{name}",
                median(0),
                median(1),
                median(2),
                median(3),
                median(4),
                median(5),
                median(3) / median(0),
                median(5) / median(2),
            );
        }
    }
}

/// Prints what the seal costs an append, in rounds that alternate.
fn seal() {
    const ROUNDS: usize = 41;
    println!("\nacknowledged appends at fsync with and without the seal, {ROUNDS} rounds in turn");
    println!("in flight | without events/s | with events/s | median of the rounds' ratios of time");
    for in_flight in IN_FLIGHT {
        let count = (in_flight * 20).clamp(300, 20_000);
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let brokers: [Arc<dyn Broker>; 2] =
            [without_seal(folders[0].path()), on_disk(folders[1].path())];
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let mut times = [Duration::ZERO; 2];
            // Whoever is first finds another disk than the second.
            for n in [round % 2, 1 - round % 2] {
                times[n] = append_in_flight(&brokers[n], count, in_flight, false, None);
            }
            rounds.push(times.map(|time| time.as_secs_f64()));
        }
        let median = |of: &dyn Fn(&[f64; 2]) -> f64| {
            let mut all: Vec<_> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[ROUNDS / 2]
        };
        println!(
            "{in_flight:>9} | {:>16.0} | {:>13.0} | {:.3}",
            count as f64 / median(&|times| times[0]),
            count as f64 / median(&|times| times[1]),
            median(&|times| times[1] / times[0]),
        );
    }
}

criterion_group!(benches, append, seek);

fn main() {
    let asked = |name: &str| std::env::args().any(|arg| arg == name);
    if asked("seal") {
        seal();
        return;
    }
    if !asked("--test") {
        latencies();
    }
    if asked("latencies") {
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
