//! The stream itself: resume, replay and live as one, filters, privacy, and the ways a socket is used.

mod delivery;
mod gaps;
mod jobs;
mod polling;
mod privacy;
mod replay;
mod resume;
mod sockets;
mod subscriptions;
mod thinning;

use serde_json::{Value, json};

use crate::client::Event;
use crate::server::Server;

/// Publishes the numbers of a range, many at once, and gives their positions.
fn publish_numbers(server: &Server, numbers: std::ops::Range<usize>, topic: &str) -> Vec<String> {
    let events: Vec<Value> = numbers
        .map(|n| json!({"data": n, "topic": topic}))
        .collect();
    let published = server.publish(&json!(events));
    published
        .as_array()
        .unwrap()
        .iter()
        .map(|published| published["position"].as_str().unwrap().to_owned())
        .collect()
}

fn data(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.data.as_str()).collect()
}
