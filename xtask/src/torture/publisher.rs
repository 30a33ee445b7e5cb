//! Who publishes: numbered events, and the same request again until it is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::Connection;
use crate::shell::{Failure, Outcome};

/// How many publish side by side.
pub(super) const PUBLISHERS: u32 = 8;
/// How many topics there are; event `n` goes to topic `n % TOPICS`.
pub(super) const TOPICS: u64 = 20;
/// How many events are in a request.
const BATCH: u64 = 25;

pub(super) struct Publishers {
    /// How many events have been acknowledged.
    pub(super) acked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Outcome<One>>>,
}

/// What one of them was told.
#[derive(Default)]
struct One {
    /// The position of each of its events, by number.
    positions: Vec<String>,
    stored_already: u64,
    repeated: u64,
}

/// What all were told.
pub(super) struct Published {
    /// The position of each event, by publisher and number.
    pub(super) positions: Vec<Vec<String>>,
    pub(super) stored_already: u64,
    pub(super) repeated: u64,
}

impl Published {
    pub(super) fn events(&self) -> u64 {
        self.positions.iter().map(|one| one.len() as u64).sum()
    }
}

impl Publishers {
    pub(super) fn start(address: SocketAddr, rate: u32) -> Self {
        let acked = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) * (PUBLISHERS * BATCH as u32) / rate.max(1);
        let threads = (0..PUBLISHERS)
            .map(|publisher| {
                let (acked, stop) = (Arc::clone(&acked), Arc::clone(&stop));
                thread::spawn(move || publish(address, publisher, interval, &acked, &stop))
            })
            .collect();
        Self {
            acked,
            stop,
            threads,
        }
    }

    /// Lets each finish the request it is at.
    pub(super) fn stop(self) -> Outcome<Published> {
        self.stop.store(true, Ordering::Relaxed);
        let mut published = Published {
            positions: Vec::new(),
            stored_already: 0,
            repeated: 0,
        };
        for thread in self.threads {
            let one = thread
                .join()
                .map_err(|_| Failure::new("a publisher panicked"))??;
            published.positions.push(one.positions);
            published.stored_already += one.stored_already;
            published.repeated += one.repeated;
        }
        Ok(published)
    }
}

fn publish(
    address: SocketAddr,
    publisher: u32,
    interval: Duration,
    acked: &AtomicU64,
    stop: &AtomicBool,
) -> Outcome<One> {
    let mut one = One::default();
    let mut connection = None;
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let first = one.positions.len() as u64;
        let events = (first..first + BATCH).map(|n| {
            let topic = format!("t/{}", n % TOPICS);
            let data = format!("{publisher} {n} {PADDING}");
            json!({"id": format!("{publisher}-{n}"), "topic": topic, "data": data})
        });
        let body = events.collect::<Value>().to_string();
        let mut tries = 0;
        let answers = loop {
            let answer = match &mut connection {
                Some(open) => Connection::post(open, "/events", body.as_bytes()),
                None => match Connection::open(address) {
                    Ok(open) => connection.insert(open).post("/events", body.as_bytes()),
                    Err(error) => Err(error),
                },
            };
            tries += 1;
            match answer {
                Ok(reply) if reply.status == 200 => {
                    break serde_json::from_slice::<Vec<Value>>(&reply.body).map_err(|error| {
                        Failure::new(format!("an answer is not an array: {error}"))
                    })?;
                }
                Ok(reply) if reply.status == 503 => {}
                Ok(reply) => {
                    let text = String::from_utf8_lossy(&reply.body);
                    return Err(Failure::new(format!(
                        "publisher {publisher} was refused at {first}: {} {text}",
                        reply.status
                    )));
                }
                Err(_) => connection = None,
            }
            thread::sleep(PAUSE);
        };
        if answers.len() as u64 != BATCH {
            return Err(Failure::new("an answer lacks events"));
        }
        for answer in answers {
            let Some(position) = answer["position"].as_str() else {
                return Err(Failure::new(format!(
                    "publisher {publisher} was refused one event near {first}: {answer}"
                )));
            };
            one.positions.push(position.to_owned());
            one.stored_already += u64::from(answer["duplicate"] == true);
        }
        one.repeated += tries - 1;
        acked.fetch_add(BATCH, Ordering::Relaxed);
        // What was missed while the hub was away is made up for: whoever has something to say still has it.
        let now = Instant::now();
        due += interval;
        due = due.max(now.checked_sub(MAX_BACKLOG).unwrap_or(now));
        thread::sleep(due.saturating_duration_since(now));
    }
    Ok(one)
}

/// Makes the log large, on a topic that nobody reads.
pub(super) fn fill(address: SocketAddr, mib: u64) -> Outcome {
    let lost =
        |error: std::io::Error| Failure::new(format!("the log could not be filled: {error}"));
    let mut connection = Connection::open(address).map_err(lost)?;
    let data = "x".repeat(1 << 10);
    let events: Value = (0..1024)
        .map(|_| json!({"topic": "fill", "data": data}))
        .collect();
    let body = events.to_string();
    for _ in 0..mib {
        let reply = connection.post("/events", body.as_bytes()).map_err(lost)?;
        if reply.status != 200 {
            let text = String::from_utf8_lossy(&reply.body);
            return Err(Failure::new(format!("the log could not be filled: {text}")));
        }
    }
    Ok(())
}

/// So that an event has the size of a small one of the real world.
const PADDING: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
/// As much of the time when the hub was away is made up for.
const MAX_BACKLOG: Duration = Duration::from_secs(5);
/// As long as a publisher waits for a hub that is not there.
const PAUSE: Duration = Duration::from_millis(10);
