//! What must be true at the end.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::http;
use super::publisher::{Published, TOPICS};
use crate::shell::{Failure, Outcome};

/// A sequence of events, as far as comparing needs it: how many, and a hash over which and in what order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) events: u64,
    hash: u64,
}

impl Order {
    /// Adds the next one.
    pub(super) fn then(&mut self, publisher: u64, n: u64) {
        self.events += 1;
        // FNV-1a, by words.
        for word in [publisher, n] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The log's order of all topics, and of each.
pub(super) struct Orders {
    all: Order,
    by_topic: Vec<Order>,
}

impl Orders {
    pub(super) fn of(&self, topic: Option<u64>) -> Order {
        match topic {
            Some(topic) => self.by_topic[topic as usize],
            None => self.all,
        }
    }
}

/// An event that stands in the log.
pub(super) struct Logged {
    publisher: u64,
    n: u64,
    position: String,
}

/// The position of the newest event.
pub(crate) fn head(address: SocketAddr) -> Outcome<String> {
    let stats = json(address, "/events/stats")?;
    let head = stats["log"]["head"].as_str().map(str::to_owned);
    head.ok_or_else(|| Failure::new("the hub does not say where its log stands"))
}

/// Everything in the log after a position, read page by page.
pub(super) fn log_after(address: SocketAddr, start: &str) -> Outcome<Vec<Logged>> {
    let mut logged = Vec::new();
    let mut after = start.to_owned();
    loop {
        let path = format!("/events/poll?topic=t/*&limit=1000&after={after}");
        let page = json(address, &path)?;
        if page["gap"] != false {
            return Err(Failure::new(format!(
                "the log has a gap after {after}: {page}"
            )));
        }
        let events = page["events"].as_array().map_or(&[][..], Vec::as_slice);
        for event in events {
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            let data = text("data");
            let mut numbers = data.split(' ').map_while(|word| word.parse().ok());
            let (Some(publisher), Some(n)) = (numbers.next(), numbers.next()) else {
                return Err(Failure::new(format!(
                    "the log has what nobody sent: {event}"
                )));
            };
            logged.push(Logged {
                publisher,
                n,
                position: text("position"),
            });
        }
        let upto = page["position"].as_str().unwrap_or_default();
        if events.is_empty() && upto == after {
            return Ok(logged);
        }
        upto.clone_into(&mut after);
    }
}

/// Each acknowledged event is in the log, once, where its publisher was told that it is.
pub(super) fn acknowledged_once(published: &Published, logged: &[Logged]) -> Outcome {
    let mut found: HashMap<(u64, u64), &str> = HashMap::with_capacity(logged.len());
    for event in logged {
        let (publisher, n) = (event.publisher, event.n);
        if found.insert((publisher, n), &event.position).is_some() {
            return Err(Failure::new(format!(
                "event {n} of publisher {publisher} is in the log twice"
            )));
        }
    }
    for (publisher, positions) in (0..).zip(&published.positions) {
        for (n, position) in (0..).zip(positions) {
            match found.get(&(publisher, n)) {
                Some(at) if at == position => {}
                Some(at) => {
                    return Err(Failure::new(format!(
                        "event {n} of publisher {publisher} is at {at}, and was acknowledged at {position}"
                    )));
                }
                None => {
                    return Err(Failure::new(format!(
                        "event {n} of publisher {publisher}, acknowledged at {position}, is lost"
                    )));
                }
            }
        }
    }
    let (events, logged) = (published.events(), logged.len() as u64);
    if events == logged {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{events} events were acknowledged and {logged} are in the log"
        )))
    }
}

/// The orders that readers should have seen.
pub(super) fn orders(logged: &[Logged]) -> Orders {
    let mut orders = Orders {
        all: Order::default(),
        by_topic: vec![Order::default(); TOPICS as usize],
    };
    for Logged { publisher, n, .. } in logged {
        orders.all.then(*publisher, *n);
        orders.by_topic[(n % TOPICS) as usize].then(*publisher, *n);
    }
    orders
}

fn json(address: SocketAddr, path: &str) -> Outcome<Value> {
    let reply = http::get(address, path)
        .map_err(|error| Failure::new(format!("{path} was not answered: {error}")))?;
    let value = serde_json::from_slice(&reply.body);
    match (reply.status, value) {
        (200, Ok(value)) => Ok(value),
        (status, _) => Err(Failure::new(format!("{path} was answered with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(positions: &[&[&str]]) -> Published {
        let own = |one: &&[&str]| one.iter().map(|p| (*p).to_owned()).collect();
        Published {
            positions: positions.iter().map(own).collect(),
            stored_already: 0,
            repeated: 0,
        }
    }

    fn log(events: &[(u64, u64, &str)]) -> Vec<Logged> {
        let logged = |(publisher, n, position): &(u64, u64, &str)| Logged {
            publisher: *publisher,
            n: *n,
            position: (*position).to_owned(),
        };
        events.iter().map(logged).collect()
    }

    #[test]
    fn what_is_lost_doubled_or_moved_is_found() {
        let acked = published(&[&["1", "3"], &["2"]]);
        let whole = [(0, 0, "1"), (1, 0, "2"), (0, 1, "3")];
        assert!(acknowledged_once(&acked, &log(&whole)).is_ok());
        let told = |events: &[(u64, u64, &str)]| {
            acknowledged_once(&acked, &log(events))
                .unwrap_err()
                .to_string()
        };
        assert!(told(&whole[..2]).ends_with("is lost"));
        assert!(told(&[whole[0], whole[1], whole[2], (0, 0, "4")]).ends_with("twice"));
        assert!(told(&[whole[0], whole[1], (0, 1, "4")]).contains("acknowledged at 3"));
        assert!(told(&[whole[0], whole[1], whole[2], (0, 2, "4")]).contains("3 events were"));
    }

    #[test]
    fn another_order_is_another_hash() {
        let mut one = Order::default();
        let mut other = Order::default();
        one.then(0, 0);
        one.then(1, 0);
        other.then(1, 0);
        other.then(0, 0);
        assert_eq!(one.events, other.events);
        assert_ne!(one, other);
    }
}
