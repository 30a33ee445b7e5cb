//! Who reads: each checks every event as it comes, and resumes after the last id it saw.

use std::io::{BufRead, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::check::{Order, Orders};
use super::http;
use super::publisher::{PUBLISHERS, TOPICS};
use crate::shell::{Failure, Outcome};

pub(super) struct Readers {
    shared: Arc<Shared>,
    readers: Vec<Running>,
}

/// One that reads on a thread of its own.
struct Running {
    /// `None` reads them all.
    topic: Option<u64>,
    order: Arc<Mutex<Order>>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    resumes: AtomicU64,
    ends: AtomicU64,
    farewells: AtomicU64,
    complaint: Mutex<Option<String>>,
}

/// What all saw together.
pub(super) struct Seen {
    pub(super) delivered: u64,
    pub(super) resumes: u64,
    /// How many streams ended before all was over.
    pub(super) ends: u64,
    /// How many of them with the hub's last words: when to come back.
    pub(super) farewells: u64,
}

impl Readers {
    /// Readers after the position `start`: one in fifty reads every topic, the others one each.
    pub(super) fn start(address: SocketAddr, count: usize, start: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let readers = (0..count)
            .map(|n| {
                let topic = (n % 50 != 0).then_some(n as u64 % TOPICS);
                let order = Arc::new(Mutex::new(Order::default()));
                let reader = Reader {
                    topic,
                    order: Arc::clone(&order),
                    next: [topic.unwrap_or(0); PUBLISHERS as usize],
                    last_id: start.to_owned(),
                    shared: Arc::clone(&shared),
                };
                let thread = thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn(move || reader.run(address))
                    .expect("a thread can be started");
                Running {
                    topic,
                    order,
                    thread,
                }
            })
            .collect();
        Self { shared, readers }
    }

    /// The first thing that a reader found wrong.
    pub(super) fn complain(&self) -> Outcome {
        let complaint = self.shared.complaint.lock();
        match &*complaint.unwrap_or_else(PoisonError::into_inner) {
            Some(complaint) => Err(Failure::new(complaint.clone())),
            None => Ok(()),
        }
    }

    /// Waits until each has everything, and compares what it saw with the log's own order.
    pub(super) fn stop(self, expected: &Orders) -> Outcome<Seen> {
        let deadline = Instant::now() + MAX_CATCH_UP;
        let mut delivered = 0;
        for Running { topic, order, .. } in &self.readers {
            let expected = expected.of(*topic);
            loop {
                self.complain()?;
                let seen = *order.lock().unwrap_or_else(PoisonError::into_inner);
                if seen == expected {
                    delivered += seen.events;
                    break;
                }
                if seen.events >= expected.events {
                    return Err(Failure::new(format!(
                        "a reader of {topic:?} saw {} events in another order than the log has",
                        seen.events
                    )));
                }
                if Instant::now() > deadline {
                    return Err(Failure::new(format!(
                        "a reader of {topic:?} saw {} of {} events and gets no more",
                        seen.events, expected.events
                    )));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader
                .thread
                .join()
                .map_err(|_| Failure::new("a reader panicked"))?;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared {
            resumes,
            ends,
            farewells,
            ..
        } = &*self.shared;
        Ok(Seen {
            delivered,
            resumes: count(resumes),
            ends: count(ends),
            farewells: count(farewells),
        })
    }
}

/// How a stream ended.
enum End {
    /// All is over.
    Over,
    /// The hub said when to come back.
    Farewell,
    Cut,
}

struct Reader {
    /// `None` reads them all.
    topic: Option<u64>,
    order: Arc<Mutex<Order>>,
    /// The number that comes next from each publisher.
    next: [u64; PUBLISHERS as usize],
    last_id: String,
    shared: Arc<Shared>,
}

impl Reader {
    fn run(mut self, address: SocketAddr) {
        let path = match self.topic {
            Some(topic) => format!("/events?topic=t/{topic}"),
            None => "/events?topic=t/*".to_owned(),
        };
        let mut is_first = true;
        while !self.shared.stop.load(Ordering::Relaxed) {
            if let Ok((200, stream)) = http::stream(address, &path, &self.last_id) {
                if !std::mem::take(&mut is_first) {
                    self.shared.resumes.fetch_add(1, Ordering::Relaxed);
                }
                match self.follow(stream) {
                    Ok(End::Over) => return,
                    Ok(End::Farewell) => {
                        self.shared.ends.fetch_add(1, Ordering::Relaxed);
                        self.shared.farewells.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(End::Cut) => _ = self.shared.ends.fetch_add(1, Ordering::Relaxed),
                    Err(complaint) => {
                        let first = self.shared.complaint.lock();
                        let mut first = first.unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(complaint);
                        return;
                    }
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads until the line breaks.
    fn follow(&mut self, mut stream: impl BufRead) -> Result<End, String> {
        let mut line = String::new();
        // The time to come back after has come, and nothing else since.
        let mut is_farewell = false;
        let end = |is_farewell| if is_farewell { End::Farewell } else { End::Cut };
        let (mut id, mut name, mut data) = (String::new(), String::new(), String::new());
        loop {
            match stream.read_line(&mut line) {
                Ok(0) => return Ok(end(is_farewell)),
                Ok(_) => {}
                // Nothing came for a while; what came of a line stays in it.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if self.shared.stop.load(Ordering::Relaxed) {
                        return Ok(End::Over);
                    }
                    continue;
                }
                Err(_) => return Ok(End::Cut),
            }
            let Some(text) = line.strip_suffix('\n') else {
                // The last words of a process that was killed.
                return Ok(End::Cut);
            };
            is_farewell = text.starts_with("retry:") || is_farewell && text.is_empty();
            if text.is_empty() {
                self.take(&id, &name, &data)?;
                for field in [&mut id, &mut name, &mut data] {
                    field.clear();
                }
            } else if let Some(value) = text.strip_prefix("id:") {
                id = value.trim_start().to_owned();
            } else if let Some(value) = text.strip_prefix("event:") {
                name = value.trim_start().to_owned();
            } else if let Some(value) = text.strip_prefix("data:") {
                data.push_str(value.trim_start());
            }
            line.clear();
        }
    }

    fn take(&mut self, id: &str, name: &str, data: &str) -> Result<(), String> {
        let who = self.topic;
        match name {
            "" | "message" if !data.is_empty() => {
                let mut words = data.split(' ');
                let mut number = || words.next()?.parse::<u64>().ok();
                let (Some(publisher), Some(n)) = (number(), number()) else {
                    return Err(format!("a reader of {who:?} got what nobody sent: {data}"));
                };
                let next = self
                    .next
                    .get_mut(publisher as usize)
                    .ok_or_else(|| format!("nobody is publisher {publisher}"))?;
                if n != *next {
                    return Err(format!(
                        "a reader of {who:?} got number {n} of publisher {publisher} instead of {next}"
                    ));
                }
                *next += if who.is_some() { TOPICS } else { 1 };
                let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
                order.then(publisher, n);
            }
            "gap" => return Err(format!("a reader of {who:?} was told of a gap: {data}")),
            _ => {}
        }
        if !id.is_empty() {
            id.clone_into(&mut self.last_id);
        }
        Ok(())
    }
}

/// As long as readers may need for what they have not got yet.
const MAX_CATCH_UP: Duration = Duration::from_secs(120);
