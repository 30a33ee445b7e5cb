//! Whether two workers deliver twice as much as one: the read path on one core and on two.
//!
//! There are no sockets here, as their readers would need cores of their own; instead of a `send` there is, in one half of
//! the figures, a `write` to the null device, a tenth of a `send`'s price, and in the other half nothing. Two shards hold as many readers each; a worker appends its share of the events and
//! then, as a reactor does, takes the keys of its shards that have news and copies what each reader has ahead
//! into a buffer. One worker with both shards is compared with two workers with one each: the work is the same,
//! and whatever the ratio lacks to 2 is waiting for each other's locks and cache lines.
//!
//! `cargo bench -p sse-pool --bench cores` prints the ratio by the clock, which says nothing where two cores are
//! not free (the load of the machine is printed beside it), and by processor time, which other programs disturb
//! less: two workers that never hindered each other would need half of it each. Sleeping on a lock is only in the
//! former, turning while the other has nothing new yet is in both.

use std::{
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Barrier},
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use sse_pool::{
    ConnectionId, ConnectionInfo, Entry, Limits, Pool, PoolConfig, Read, ReaderKey, Selector,
    ShardHandle, Start, WindowConfig,
};

type Payload = [u8; PAYLOAD_BYTES];

fn main() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, load average {}", load_average());
    for (batch, writes) in BATCHES.into_iter().flat_map(|it| [(it, true), (it, false)]) {
        let mut runs: Vec<[Run; 2]> = (0..RUNS)
            .map(|_| [run(1, batch, writes), run(2, batch, writes)])
            .collect();
        let best = |workers: usize| runs.iter().map(|run| run[workers - 1].wall).min();
        let (one, two) = (best(1).unwrap_or_default(), best(2).unwrap_or_default());
        let deliveries = (2 * READERS_PER_SHARD * EVENTS) as f64;
        let millions = |wall: Duration| deliveries / wall.as_secs_f64() / 1e6;
        println!(
            "batches of {batch:2}, {}: one worker {:.1} M deliveries/s, two {:.1}; ratio {:.2} (best of {RUNS} runs each)",
            if writes {
                "each written"
            } else {
                "none written"
            },
            millions(one),
            millions(two),
            one.as_secs_f64() / two.as_secs_f64(),
        );
        let by_cpu = |run: &[Run; 2]| run[0].cpu.as_secs_f64() / run[1].cpu.as_secs_f64();
        runs.sort_by(|a, b| by_cpu(a).total_cmp(&by_cpu(b)));
        println!(
            "               by processor time of the busier worker: ratio {:.2} (median)",
            by_cpu(&runs[RUNS / 2])
        );
    }
    for (name, is_shared) in [("the same entries", true), ("entries of its own", false)] {
        let best = |workers| (0..RUNS).map(|_| floor(workers, is_shared)).min();
        let (one, two) = (best(1).unwrap_or_default(), best(2).unwrap_or_default());
        println!(
            "floor, each worker clones {name}: ratio {:.2} (best of {RUNS} runs each)",
            one.as_secs_f64() / two.as_secs_f64()
        );
    }
    println!("load average {}", load_average());
}

/// Clones and copies entries as often as the readers of two shards do, without a pool: what sharing the entries'
/// counts costs by itself.
fn floor(workers: usize, is_shared: bool) -> Duration {
    let make = || -> Vec<Arc<Payload>> {
        let entries = (0..FLOOR_ENTRIES).map(|_| Arc::new([b'x'; PAYLOAD_BYTES]));
        entries.collect()
    };
    let shared = make();
    let start = Barrier::new(workers + 1);
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers)
            .map(|_| {
                let (start, shared) = (&start, &shared);
                scope.spawn(move || {
                    let own = make();
                    let entries = if is_shared { shared } else { &own };
                    let mut taken = Vec::with_capacity(FLOOR_ENTRIES);
                    let mut socket = Vec::with_capacity(FLOOR_ENTRIES * PAYLOAD_BYTES);
                    start.wait();
                    let begun = Instant::now();
                    for _ in 0..2 * READERS_PER_SHARD * (EVENTS / FLOOR_ENTRIES) / workers {
                        taken.extend(entries.iter().cloned());
                        socket.clear();
                        taken
                            .iter()
                            .for_each(|entry| socket.extend_from_slice(&**entry));
                        assert_eq!(
                            std::hint::black_box(&socket).len(),
                            FLOOR_ENTRIES * PAYLOAD_BYTES
                        );
                        taken.clear();
                    }
                    (begun, Instant::now())
                })
            })
            .collect();
        start.wait();
        let walls: Vec<_> = running
            .into_iter()
            .map(|worker| worker.join().expect("a worker that got through"))
            .collect();
        from_first_to_last(&walls)
    })
}

/// What a run took.
struct Run {
    wall: Duration,
    /// Of the worker that used most.
    cpu: Duration,
}

/// What so many workers need to append all events and deliver each to every reader.
fn run(workers: usize, batch: usize, writes: bool) -> Run {
    let now = Instant::now();
    let pool = Pool::new(PoolConfig {
        shards: 2,
        window: WindowConfig {
            max_bytes: usize::MAX,
            max_entries: 2 * EVENTS,
        },
        limits: Limits {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_topics_per_connection: 8,
        },
        ..PoolConfig::default()
    });
    let shards: Vec<_> = (0..2)
        .map(|shard| {
            let shard = pool.shard(shard).expect("there are two");
            fill(&shard, now);
            shard
        })
        .collect();
    let start = Barrier::new(workers + 1);
    thread::scope(|scope| {
        let running: Vec<_> = shards
            .chunks(2 / workers)
            .map(|shards| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let begun = Instant::now();
                    work(shards, EVENTS / workers, batch, writes, now);
                    (begun, Instant::now(), cpu_of_this_thread())
                })
            })
            .collect();
        start.wait();
        let (mut walls, mut cpu) = (Vec::new(), Duration::ZERO);
        for worker in running {
            let (begun, ended, used) = worker.join().expect("a worker that got through");
            walls.push((begun, ended));
            cpu = cpu.max(used);
        }
        Run {
            wall: from_first_to_last(&walls),
            cpu,
        }
    })
}

/// From when the first worker began to when the last ended, by their own clocks: whoever started them may be
/// woken late.
fn from_first_to_last(walls: &[(Instant, Instant)]) -> Duration {
    let first = walls.iter().map(|(begun, _)| *begun).min();
    let last = walls.iter().map(|(_, ended)| *ended).max();
    last.zip(first)
        .map_or(Duration::ZERO, |(last, first)| last - first)
}

fn fill(shard: &ShardHandle<Payload>, now: Instant) {
    let pool = shard.pool();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let selector = Arc::new(Selector::topics(["t"]));
    for n in 0..READERS_PER_SHARD {
        let id = (shard.number() * READERS_PER_SHARD + n) as u128;
        let info = ConnectionInfo::new(ConnectionId::from_uuid(id.to_be_bytes()), ip);
        let permit = pool.admit(ip).expect("there is no limit");
        let key = shard
            .connect(permit, info, Arc::clone(&selector), Start::Live, now)
            .expect("the id is free");
        assert_eq!(shard.read(key, now, usize::MAX, &mut Vec::new()), None);
    }
}

/// Appends `events`, and delivers these and the other worker's to every reader of `shards`.
fn work(shards: &[ShardHandle<Payload>], events: usize, batch: usize, writes: bool, now: Instant) {
    let null = File::options().write(true).open("/dev/null");
    let mut null = null.expect("the null device");
    let mut appended = 0;
    let mut delivered = vec![0; shards.len()];
    let mut keys: Vec<ReaderKey> = Vec::new();
    let mut entries = Vec::new();
    let mut socket = Vec::with_capacity(256 * PAYLOAD_BYTES);
    while delivered
        .iter()
        .any(|count| *count < READERS_PER_SHARD * EVENTS)
    {
        if appended < events {
            // With both shards its own share is twice as large: a reader meets as many entries either way.
            let share = (batch * shards.len()).min(events - appended);
            append(shards[0].pool(), share, now);
            appended += share;
        }
        for (shard, delivered) in shards.iter().zip(&mut delivered) {
            keys.clear();
            let mut cx = Context::from_waker(Waker::noop());
            if shard.poll_ready(&mut cx, &mut keys).is_pending() {
                std::hint::spin_loop();
                continue;
            }
            for key in &keys {
                entries.clear();
                while let Some(read) = shard.read(*key, now, usize::MAX, &mut entries) {
                    assert_eq!(read, Read::Entries);
                }
                socket.clear();
                entries
                    .iter()
                    .for_each(|entry| socket.extend_from_slice(&entry.payload));
                assert_eq!(socket.len(), entries.len() * PAYLOAD_BYTES);
                if writes {
                    null.write_all(&socket).expect("the null device takes all");
                }
                *delivered += entries.len();
            }
        }
    }
}

/// Appends `count` events after what is there; the other worker may have appended in between.
fn append(pool: &Pool<Payload>, count: usize, now: Instant) {
    let _turn = APPENDING.lock().expect("nobody panics while appending");
    let head = pool.head();
    let entries: Vec<_> = (1..=count as u64)
        .map(|n| {
            let topics = vec![Arc::from("t")];
            let offset = head + n;
            Arc::new(Entry::new(
                offset,
                [b'x'; PAYLOAD_BYTES],
                PAYLOAD_BYTES,
                topics,
            ))
        })
        .collect();
    pool.append(&entries, now);
}

/// The log gives events their order, before the pool sees them; here it is this lock.
static APPENDING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// What the calling thread has used of a processor since it began.
fn cpu_of_this_thread() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| Some(text.split_once(' ')?.0.to_owned()))
        .unwrap_or_else(|| "unknown".to_owned())
}

const READERS_PER_SHARD: usize = 5_000;
const EVENTS: usize = 512;
const PAYLOAD_BYTES: usize = 100;
const FLOOR_ENTRIES: usize = 16;

/// Events that a worker appends before it looks at its readers again.
const BATCHES: [usize; 2] = [1, 16];
const RUNS: usize = 11;
