//! Speed as a ratio to the floor: `cargo bench -p sse-protocol --bench ratios`.
//!
//! Floor and decoder take turns, and the fastest round of each counts, so that a busy machine disturbs the
//! ratio as little as may be. For distributions see the `codec` benchmark.

mod shapes;

use std::hint::black_box;
use std::time::{Duration, Instant};

use shapes::{Answer, Shape, floor, shapes};
use sse_protocol::{Decoder, EventRef, encoder};

fn main() {
    // `cargo test --benches` runs this, too: once, to see that the answers are right.
    let rounds = if std::env::args().any(|arg| arg == "--bench") {
        400
    } else {
        1
    };
    println!(
        "{:<30} {:>12} {:>12} {:>8}",
        "shape", "floor GB/s", "ours GB/s", "ratio"
    );
    for shape in shapes() {
        let (floor_time, ours_time) = race(rounds, || floor(&shape), || check(&shape));
        let speed = |time: Duration| shape.stream.len() as f64 / time.as_secs_f64() / 1e9;
        let ratio = floor_time.as_secs_f64() / ours_time.as_secs_f64();
        println!(
            "{:<30} {:>12.3} {:>12.3} {ratio:>8.3}",
            shape.name,
            speed(floor_time),
            speed(ours_time)
        );
    }
    encode(rounds);
}

fn race<A, B>(
    rounds: usize,
    mut a: impl FnMut() -> A,
    mut b: impl FnMut() -> B,
) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        let start = Instant::now();
        black_box(a());
        let middle = Instant::now();
        black_box(b());
        best = (best.0.min(middle - start), best.1.min(middle.elapsed()));
    }
    best
}

fn check(shape: &Shape) {
    let mut decoder = Decoder::new();
    let mut answer = Answer::default();
    for chunk in shape.stream.chunks(shape.chunk_bytes) {
        let mut feed = decoder.feed(black_box(chunk));
        while let Some(event) = feed.next_event() {
            answer.count(event.data());
        }
    }
    assert_eq!(answer, shape.expected, "{}", shape.name);
}

/// Encoding a token event into a reused buffer, against a copy of the bytes it becomes.
fn encode(rounds: usize) {
    const EVENTS: usize = 5_000;
    let stream = &shapes()[0].stream;
    let data = std::str::from_utf8(&stream[6..])
        .expect("ASCII")
        .split_once('\n')
        .expect("a line")
        .0;
    let mut bytes = Vec::new();
    encoder::event(EventRef::new(data), &mut bytes);
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut copied = Vec::with_capacity(bytes.len() + 64);
    let (copy_time, ours_time) = race(
        rounds,
        || {
            for _ in 0..EVENTS {
                copied.clear();
                black_box(&mut copied).extend_from_slice(black_box(&bytes));
            }
        },
        || {
            for _ in 0..EVENTS {
                out.clear();
                encoder::event(EventRef::new(black_box(data)), black_box(&mut out));
            }
        },
    );
    assert_eq!(out, bytes);
    let nanos = |time: Duration| time.as_secs_f64() * 1e9 / EVENTS as f64;
    println!(
        "{:<30} copy {:.1} ns, ours {:.1} ns: {:.2} times the copy",
        "encode_token_event",
        nanos(copy_time),
        nanos(ours_time),
        nanos(ours_time) / nanos(copy_time),
    );
}
