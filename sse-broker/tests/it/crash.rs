//! A process that is killed while it appends, again and again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sse_broker::{Broker, DiskBroker, DiskConfig, Durability, Retention, Scope};

use crate::disk::{config, open};
use crate::support::*;

const PUBLISHERS: usize = 4;
const FOLDER: &str = "SSE_BROKER_CRASH_FOLDER";
const LEVEL: &str = "SSE_BROKER_CRASH_LEVEL";
const FROM: &str = "SSE_BROKER_CRASH_FROM";

/// How often the child is killed: `SSE_BROKER_KILLS`, or so many times.
fn kills() -> usize {
    std::env::var("SSE_BROKER_KILLS").map_or(10, |n| n.parse().expect("a number"))
}

fn event(publisher: usize, n: u64) -> sse_broker::NewRecord {
    let data = format!("{publisher} says {n} {}", "x".repeat(n as usize % 500));
    record_with_id(
        &format!("publisher/{publisher}"),
        &data,
        &format!("{publisher}-{n}"),
    )
}

fn at_level(durability: Durability) -> DiskConfig {
    DiskConfig {
        durability,
        ..config(Retention::UNBOUNDED)
    }
}

/// Appends until it is killed; each acknowledgement is a line `publisher number offset`.
#[test]
#[ignore = "is started, and killed, by the tests beside it"]
fn the_process_that_is_killed() {
    // No test of its own: without the tests beside it there is nothing to do.
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let durability = match std::env::var(LEVEL).expect("a level").as_str() {
        "os" => Durability::Os,
        _ => Durability::Fsync,
    };
    let from = std::env::var(FROM).expect("where to go on");
    let from: Vec<u64> = from
        .split(',')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let broker = DiskBroker::open(&folder, at_level(durability)).expect("a log");
    let publishers: Vec<_> = from
        .into_iter()
        .enumerate()
        .map(|(publisher, from)| {
            let broker = broker.clone();
            std::thread::spawn(move || {
                let mut n = from;
                loop {
                    // What was not acknowledged before is said again: it may have been stored.
                    let batch: Vec<_> = (n..n + 3).map(|n| event(publisher, n)).collect();
                    let appended = block_on(broker.append(batch)).expect("an append that works");
                    let mut lines = String::new();
                    for answer in appended {
                        let offset = match answer {
                            sse_broker::Appended::Stored(p) => p.offset,
                            sse_broker::Appended::Duplicate(p) => p.offset,
                            other => panic!("{other:?}"),
                        };
                        lines.push_str(&format!("ack {publisher} {n} {offset}\n"));
                        n += 1;
                    }
                    std::io::stdout()
                        .lock()
                        .write_all(lines.as_bytes())
                        .expect("heard");
                }
            })
        })
        .collect();
    for publisher in publishers {
        let _ = publisher.join();
    }
}

/// How the child comes to its end.
enum Death {
    After(Duration),
    /// strace kills it at a system call of this name, the one with this number of its thread.
    At(&'static str, usize),
}

/// Runs the child until it is killed, and collects what it had acknowledged.
fn run_and_kill(folder: &Path, level: &str, acked: &mut [BTreeMap<u64, u64>], death: &Death) {
    let from: Vec<_> = acked.iter().map(|acked| acked.len().to_string()).collect();
    let program = std::env::current_exe().expect("this program");
    let mut command = match death {
        Death::After(_) => Command::new(program),
        Death::At(call, number) => {
            let mut command = Command::new("strace");
            command.args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &format!("trace={call}"),
            ]);
            command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={number}")]);
            command.arg(program);
            command
        }
    };
    let mut child = command
        .args([
            "--exact",
            "crash::the_process_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .env(LEVEL, level)
        .env(FROM, from.join(","))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let reader = std::thread::spawn(move || {
        let mut acks = Vec::new();
        for line in lines.map_while(Result::ok) {
            // Lines are written whole, but the test's own words stand before the first.
            let Some(at) = line.find("ack ") else {
                continue;
            };
            let numbers: Vec<u64> = line[at + 4..]
                .split(' ')
                .filter_map(|n| n.parse().ok())
                .collect();
            if let [publisher, n, offset] = numbers[..] {
                acks.push((publisher as usize, n, offset));
            }
        }
        acks
    });
    if let Death::After(time) = death {
        std::thread::sleep(*time);
        child.kill().expect("killed");
    }
    child.wait().expect("gone");
    for (publisher, n, offset) in reader.join().expect("the acknowledgements") {
        let before = acked[publisher].insert(n, offset);
        assert!(
            before.is_none_or(|before| before == offset),
            "an event moved"
        );
    }
}

fn survives_being_killed(
    level: &str,
    durability: Durability,
    deaths: impl ExactSizeIterator<Item = Death>,
) {
    let folder = tempfile::tempdir().expect("a folder");
    let kills = deaths.len();
    let mut acked = vec![BTreeMap::new(); PUBLISHERS];
    let (mut slowest, mut head) = (Duration::ZERO, 0);
    for (kill, death) in deaths.enumerate() {
        run_and_kill(folder.path(), level, &mut acked, &death);
        let begun = std::time::Instant::now();
        let broker = DiskBroker::open(folder.path(), at_level(durability)).expect("the log");
        slowest = slowest.max(begun.elapsed());
        assert_eq!(
            broker.bounds().epoch,
            crate::contract::EPOCH,
            "the same machine, the same log"
        );
        assert!(
            broker.bounds().head >= head,
            "kill {kill}: the log went back"
        );
        head = broker.bounds().head;
        let records = block_on(read_all(&*broker, 0, Scope::All, 1_000));
        assert_eq!(offsets(&records), (1..=head).collect::<Vec<_>>());
        for (publisher, acked) in acked.iter().enumerate() {
            let said: Vec<_> = records
                .iter()
                .filter(|r| r.content.topics[0].as_str() == format!("publisher/{publisher}"))
                .collect();
            // Each once, in order, without a hole: what was acknowledged is the beginning of it.
            for (n, record) in said.iter().enumerate() {
                let expected = event(publisher, n as u64);
                assert_eq!(record.content, expected, "kill {kill}");
            }
            assert!(
                said.len() >= acked.len(),
                "kill {kill}: acknowledged events are lost"
            );
            for (n, offset) in acked {
                assert_eq!(said[*n as usize].position.offset, *offset, "kill {kill}");
            }
        }
    }
    let total: usize = acked.iter().map(BTreeMap::len).sum();
    eprintln!(
        "{total} acknowledged events survived {kills} kills at level {level}; {head} in the log; \
         opened again within {slowest:?}"
    );
    assert!(
        total > kills,
        "the child was killed too early to show anything"
    );
}

/// Kills at random moments.
fn at_random() -> impl ExactSizeIterator<Item = Death> {
    let mut random = fastrand::Rng::with_seed(0x5eed);
    (0..kills()).map(move |_| Death::After(Duration::from_millis(random.u64(20..300))))
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    survives_being_killed("fsync", Durability::Fsync, at_random());
}

#[test]
#[ignore = "needs strace"]
fn what_was_acknowledged_survives_a_kill_at_any_system_call() {
    // A thread counts its own calls: the first are the opening's, then the writer's.
    let deaths: Vec<_> = (1..=kills())
        .flat_map(|n| [Death::At("pwrite64", n * 3), Death::At("fdatasync", n)])
        .collect();
    survives_being_killed("fsync", Durability::Fsync, deaths.into_iter());
}

/// Where the system says whether the machine has been started anew.
#[cfg(target_os = "linux")]
#[test]
fn at_level_os_what_was_acknowledged_survives_the_process() {
    survives_being_killed("os", Durability::Os, at_random());
}

#[test]
fn a_log_of_many_events_that_was_not_closed_opens_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = tempfile::tempdir().expect("a folder");
    let broker = open(folder.path());
    for batch in 0..20u64 {
        let records = (0..500).map(|n| event(1, batch * 500 + n)).collect();
        block_on(append(&*broker, records));
    }
    // A copy of the file of an open log is what a crash leaves, but for its place.
    let name = "events.redb";
    std::fs::copy(folder.path().join(name), copy.path().join(name)).expect("copied");
    let config = DiskConfig {
        same_log: true,
        ..at_level(Durability::Fsync)
    };
    let again = DiskBroker::open(copy.path(), config).expect("a log");
    assert_eq!(again.bounds(), broker.bounds());
    assert_eq!(
        block_on(read_all(&*again, 0, Scope::All, 1_000)).len(),
        10_000
    );
}
