//! What decoding costs in allocations.

use std::hint::black_box;

use allocation_counter::measure;
use sse_protocol::{Decoder, EventRef, Limits, encoder};

/// Feeds the stream once to warm the buffers up, then counts.
fn allocations(stream: &[u8], chunk_size: usize, keep: bool) -> u64 {
    let mut decoder = Decoder::new();
    let mut run = || {
        for chunk in stream.chunks(chunk_size) {
            let mut feed = decoder.feed(chunk);
            while let Some(event) = feed.next_event() {
                if keep {
                    black_box(event.to_buf());
                } else {
                    black_box(event);
                }
            }
        }
    };
    run();
    measure(run).count_total
}

const STREAM: &str = "id: 1\nevent: token\ndata: {\"text\": \"Grüße\"}\n\ndata: one\ndata: two\n\n";

#[test]
fn a_lent_event_allocates_nothing() {
    let stream = STREAM.repeat(100);
    for chunk_size in [stream.len(), 1_400, 7, 1] {
        assert_eq!(
            allocations(stream.as_bytes(), chunk_size, false),
            0,
            "chunks of {chunk_size}"
        );
    }
}

#[test]
fn a_fresh_decoder_lends_an_event_in_one_chunk_without_allocating() {
    let info = measure(|| {
        let mut decoder = Decoder::new();
        let mut feed = decoder.feed(b": ping\ndata: one\n\ndata: two\r\n\r\nretry: 10\n\n");
        while let Some(decoded) = feed.next() {
            black_box(decoded);
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_kept_event_allocates_once() {
    let stream = STREAM.repeat(100);
    for chunk_size in [stream.len(), 1_400, 1] {
        assert_eq!(
            allocations(stream.as_bytes(), chunk_size, true),
            200,
            "chunks of {chunk_size}"
        );
    }
}

/// Feeds a stream in chunks as a socket's reader would.
fn feed(decoder: &mut Decoder, stream: &str) {
    for chunk in stream.as_bytes().chunks(16_384) {
        let mut feed = decoder.feed(chunk);
        while let Some(event) = feed.next_event() {
            black_box(event);
        }
    }
}

fn large_event() -> String {
    format!("data: {}\n\n", "x".repeat(1_000_000))
}

#[test]
fn the_buffer_of_a_large_line_serves_the_next_large_one() {
    let large = large_event().repeat(2);
    let mut decoder = Decoder::new();
    feed(&mut decoder, &large);
    assert_eq!(measure(|| feed(&mut decoder, &large)).count_total, 0);
}

#[test]
fn the_buffer_of_a_large_line_is_given_back_before_a_small_one() {
    for small in ["data: small\n\n", "\n", ": ping\n\n", ": pi", "unknown"] {
        let mut decoder = Decoder::new();
        feed(&mut decoder, &large_event());
        let info = measure(|| feed(&mut decoder, small));
        assert!(info.bytes_current <= -1_000_000, "{small:?}: {info:?}");
    }
}

#[test]
fn the_buffer_of_a_large_line_is_given_back_after_a_small_line_that_is_cut() {
    let mut decoder = Decoder::new();
    feed(&mut decoder, &large_event());
    feed(&mut decoder, "data: sm");
    feed(&mut decoder, "all\n\n");
    let info = measure(|| feed(&mut decoder, "data: sm"));
    assert!(info.bytes_current <= -1_000_000, "{info:?}");
}

#[test]
fn a_buffer_that_was_given_back_is_not_grown_anew_for_the_next_large_line() {
    let large = large_event();
    let mut decoder = Decoder::new();
    feed(&mut decoder, &large);
    feed(&mut decoder, "data: small\n\n");
    assert_eq!(measure(|| feed(&mut decoder, &large)).count_total, 1);
}

#[test]
fn the_buffer_of_a_line_over_the_limit_is_given_back_at_once() {
    let limits = Limits::new().with_max_line_bytes(2_000_000);
    let endless = format!("data: {}", "x".repeat(1_999_000));
    for end in ["x".repeat(2_000), "x".repeat(2_000) + "\n"] {
        let mut decoder = Decoder::with_limits(limits);
        feed(&mut decoder, &endless);
        let info = measure(|| feed(&mut decoder, &end));
        assert_eq!(decoder.dropped_events(), 1);
        assert!(info.bytes_current <= -1_900_000, "{info:?}");
    }
}

#[test]
fn encoding_into_a_reused_buffer_allocates_nothing() {
    let mut out = Vec::with_capacity(1_024);
    let info = measure(|| {
        for _ in 0..100 {
            out.clear();
            encoder::event(EventRef::new("a token\nor two"), &mut out);
        }
    });
    assert_eq!(info.count_total, 0);
}
