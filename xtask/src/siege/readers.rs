//! The readers of the hub under siege, and the one who publishes for them.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};

use super::CONNECTING;
use super::attacks::connect_from;
use crate::shell::{Failure, Outcome};

/// Holds the readers for so long, and prints what they saw.
pub(super) fn run(hub: SocketAddr, count: usize, length: Duration) -> Outcome {
    let fail = |error: io::Error| Failure::new(format!("the readers: {error}"));
    let mut readers = Readers::connect(hub, count).map_err(fail)?;
    let begun = readers.begun;
    let is_over = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicU64::new(0));
    let publisher = {
        let (is_over, refused) = (is_over.clone(), refused.clone());
        std::thread::spawn(move || publish(hub, begun, &is_over, &refused))
    };
    // The attackers begin after a while and end with us; the last seconds show what is left when they are gone.
    let deadline = Instant::now() + length + Duration::from_secs(15);
    while Instant::now() < deadline {
        readers.turn().map_err(fail)?;
    }
    is_over.store(true, Ordering::Relaxed);
    let published = publisher.join();
    let published = published.map_err(|_| Failure::new("the publisher panicked"))?;
    let settle = Instant::now() + Duration::from_secs(3);
    while Instant::now() < settle {
        readers.turn().map_err(fail)?;
    }
    println!(
        "{}",
        readers.figures(length, &published, refused.load(Ordering::Relaxed))
    );
    Ok(())
}

/// What is not as it should be in what the readers said.
pub(super) fn problems(figures: &Value) -> Vec<String> {
    let number = |name: &str| figures[name].as_u64().unwrap_or(u64::MAX);
    let mut problems = Vec::new();
    for name in ["lost", "out_of_order", "cut", "never_acknowledged"] {
        if number(name) > 0 {
            problems.push(format!("{} {name}", number(name)));
        }
    }
    if number("delivered") == 0 {
        problems.push("nothing was delivered".to_owned());
    }
    // What the machine needs for so many sockets without any attack is not the hub's to change.
    let (before, then) = (number("before_p99_micros"), number("p99_micros"));
    if then > MAX_P99_MICROS.max(before * 5 / 2) {
        problems.push(format!(
            "a delivery took {then} µs (p99), and {before} µs before the siege"
        ));
    }
    problems
}

struct Readers {
    poll: Poll,
    events: Events,
    readers: Vec<Reader>,
    begun: Instant,
    deliveries: Vec<Delivery>,
    buffer: Vec<u8>,
}

/// One event at one reader.
struct Delivery {
    sent_micros: u64,
    took_micros: u32,
}

struct Reader {
    /// `None` once the hub has ended it.
    socket: Option<TcpStream>,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    /// The number that comes next, for each of its topics.
    next: HashMap<u64, u64>,
    lost: u64,
    gaps: u64,
    out_of_order: u64,
    is_after_gap: bool,
}

impl Readers {
    fn connect(hub: SocketAddr, count: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut readers = Vec::new();
        for number in 0..count {
            let own = u8::try_from(number / READERS_PER_ADDRESS).map_err(io::Error::other)?;
            let mut socket = connect_from(Ipv4Addr::new(127, 1, 0, own + 1), hub)?;
            let topic = number as u64 % TOPICS;
            let head = format!(
                "GET /events?topic=pulse/{topic}&topic=pulse/all HTTP/1.0\r\nHost: {hub}\r\nAccept-Encoding: identity\r\n\r\n"
            );
            socket.write_all(head.as_bytes())?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            let token = Token(number);
            poll.registry()
                .register(&mut socket, token, Interest::READABLE)?;
            readers.push(Reader::new(socket));
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            readers,
            begun: Instant::now(),
            deliveries: Vec::new(),
            buffer: vec![0; 64 << 10],
        })
    }

    /// Reads what has come.
    fn turn(&mut self) -> io::Result<()> {
        self.poll
            .poll(&mut self.events, Some(Duration::from_millis(100)))?;
        for event in &self.events {
            let Some(reader) = self.readers.get_mut(event.token().0) else {
                continue;
            };
            while let Some(socket) = &mut reader.socket {
                match socket.read(&mut self.buffer) {
                    Ok(0) => reader.socket = None,
                    Ok(len) => {
                        let now = self.begun.elapsed().as_micros() as u64;
                        let bytes = self.buffer.get(..len).unwrap_or_default();
                        reader.take(bytes, now, &mut self.deliveries);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => reader.socket = None,
                }
            }
        }
        Ok(())
    }

    fn figures(self, length: Duration, published: &Published, refused: u64) -> Value {
        let sorted = |from: Duration, until: Duration| {
            let sent = from.as_micros() as u64..until.as_micros() as u64;
            let of_then = self.deliveries.iter();
            let of_then = of_then.filter(|it| sent.contains(&it.sent_micros));
            let mut took: Vec<u32> = of_then.map(|it| it.took_micros).collect();
            took.sort_unstable();
            took
        };
        let at = |sorted: &[u32], part: f64| {
            let index = (sorted.len().saturating_sub(1)) as f64 * part;
            sorted.get(index as usize).copied().unwrap_or(0)
        };
        let before = sorted(Duration::ZERO, BEFORE);
        let then = sorted(CONNECTING, CONNECTING + length);
        let sum = |of: fn(&Reader) -> u64| self.readers.iter().map(of).sum::<u64>();
        // Whoever was not cut must have the last event of each of its topics too.
        let behind = |reader: &Reader| {
            let of = |topic: u64| published.last.get(&topic).copied().unwrap_or(0);
            let missing = reader
                .next
                .iter()
                .map(|(topic, next)| (of(*topic) + 1).saturating_sub(*next));
            missing.sum::<u64>()
        };
        let behind: u64 = self.readers.iter().map(behind).sum();
        json!({
            "delivered": self.deliveries.len(),
            "before_p50_micros": at(&before, 0.5),
            "before_p99_micros": at(&before, 0.99),
            "p50_micros": at(&then, 0.5),
            "p99_micros": at(&then, 0.99),
            "p999_micros": at(&then, 0.999),
            "max_micros": at(&then, 1.0),
            "lost": sum(|reader| reader.lost) + behind,
            "gaps_told": sum(|reader| reader.gaps),
            "out_of_order": sum(|reader| reader.out_of_order),
            "cut": sum(|reader| u64::from(reader.socket.is_none())),
            "published": published.count,
            "publishes_refused_at_first": refused,
            "publish_max_millis": published.slowest.as_millis() as u64,
            "never_acknowledged": published.never,
        })
    }
}

impl Reader {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket: Some(socket),
            rest: Vec::new(),
            next: HashMap::new(),
            lost: 0,
            gaps: 0,
            out_of_order: 0,
            is_after_gap: false,
        }
    }

    fn take(&mut self, bytes: &[u8], now_micros: u64, deliveries: &mut Vec<Delivery>) {
        self.rest.extend_from_slice(bytes);
        let mut rest = std::mem::take(&mut self.rest);
        let whole = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in rest
            .get(..whole)
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
        {
            if line == b"event: gap" {
                self.gaps += 1;
                self.is_after_gap = true;
            }
            let Some(data) = line.strip_prefix(b"data: [") else {
                continue;
            };
            // [topic,number,time]
            let text = String::from_utf8_lossy(data);
            let mut numbers = text.trim_end_matches(']').split(',').map(str::parse::<u64>);
            if let (Some(Ok(topic)), Some(Ok(number)), Some(Ok(sent))) =
                (numbers.next(), numbers.next(), numbers.next())
            {
                let took = now_micros.saturating_sub(sent);
                deliveries.push(Delivery {
                    sent_micros: sent,
                    took_micros: u32::try_from(took).unwrap_or(u32::MAX),
                });
                self.count(topic, number);
            }
        }
        rest.drain(..whole);
        self.rest = rest;
    }

    fn count(&mut self, topic: u64, number: u64) {
        let next = self.next.entry(topic).or_insert(number);
        if number < *next {
            self.out_of_order += 1;
        } else if number > *next && !self.is_after_gap {
            self.lost += number - *next;
        }
        *next = number + 1;
        self.is_after_gap = false;
    }
}

struct Published {
    count: u64,
    /// The last number of each topic.
    last: HashMap<u64, u64>,
    slowest: Duration,
    never: u64,
}

/// Ten events a second to one topic after the other, and one a second to everyone; each is repeated until it is acknowledged.
fn publish(
    hub: SocketAddr,
    begun: Instant,
    is_over: &AtomicBool,
    refused: &AtomicU64,
) -> Published {
    let mut published = Published {
        count: 0,
        last: HashMap::new(),
        slowest: Duration::ZERO,
        never: 0,
    };
    let mut turn: u64 = 0;
    while !is_over.load(Ordering::Relaxed) {
        turn += 1;
        let everyone = turn.is_multiple_of(10);
        let topic = if everyone { ALL } else { turn % TOPICS };
        let name = if everyone {
            "all".to_owned()
        } else {
            topic.to_string()
        };
        let number = published.last.get(&topic).copied().unwrap_or(0) + 1;
        let sent = Instant::now();
        let mut is_acknowledged = false;
        // A repeated id is stored once, if its event is the same. So the time is that of the first attempt.
        let micros = begun.elapsed().as_micros() as u64;
        let body = json!({
            "topic": format!("pulse/{name}"),
            "id": format!("{topic}-{number}"),
            "data": [topic, number, micros],
        });
        while sent.elapsed() < Duration::from_secs(30) {
            let answer = post(hub, "/events", body.to_string().as_bytes());
            if answer.is_ok_and(|status| status == 200) {
                is_acknowledged = true;
                break;
            }
            refused.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
        published.never += u64::from(!is_acknowledged);
        published.count += 1;
        published.last.insert(topic, number);
        published.slowest = published.slowest.max(sent.elapsed());
        std::thread::sleep(Duration::from_millis(100).saturating_sub(sent.elapsed()));
    }
    published
}

/// One publish on a connection of its own, as many applications do it.
fn post(hub: SocketAddr, path: &str, body: &[u8]) -> io::Result<u16> {
    let mut socket = connect_from(Ipv4Addr::new(127, 2, 0, 1), hub)?;
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {hub}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other("no status line"))
}

/// Less than the hub allows to one address.
const READERS_PER_ADDRESS: usize = 50;
/// Topics with a hundred readers each, when there are five thousand.
const TOPICS: u64 = 50;
/// The number of the topic that all follow.
const ALL: u64 = 1000;
/// The readers have connected by then, and nothing attacks yet.
const BEFORE: Duration = Duration::from_secs(8);
const MAX_P99_MICROS: u64 = 100_000;
