//! What decoding costs in allocations.

use std::hint::black_box;

use allocation_counter::measure;
use sse_protocol::{Decoder, EventRef, encoder};

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

#[test]
fn the_buffer_of_a_large_line_is_given_back_and_not_grown_anew_for_the_next() {
    let large = format!("data: {}\n\n", "x".repeat(1_000_000));
    let mut decoder = Decoder::new();
    let mut feed = |stream: &str| {
        for chunk in stream.as_bytes().chunks(16_384) {
            let mut feed = decoder.feed(chunk);
            while let Some(event) = feed.next_event() {
                black_box(event);
            }
        }
    };
    feed(&large);
    assert_eq!(measure(|| feed(&large)).count_total, 1);
    assert!(measure(|| feed("data: small\n\n")).bytes_current <= -1_000_000);
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
