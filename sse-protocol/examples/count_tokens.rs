//! Decodes a stream like a language model's, and counts: what to run under a profiler.
//!
//! ```text
//! cargo build --profile bench --example count_tokens -p sse-protocol
//! valgrind --tool=callgrind --toggle-collect='count_tokens::decode*' …/examples/count_tokens
//! ```
//!
//! The instructions collected divided by the bytes printed is the cost of a byte.

use sse_protocol::Decoder;

fn main() {
    let token = "data: {\"id\":\"chatcmpl-9xK2mPq7Lw3vB1nR\",\"object\":\"chat.completion.chunk\",\"created\":1717171717,\
                 \"model\":\"model-2024-05-13\",\"system_fingerprint\":\"fp_319be4768e\",\"choices\":[{\"index\":0,\
                 \"delta\":{\"content\":\" answer\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let stream = token.repeat(5_000);
    let events = decode(stream.as_bytes());
    println!("{events} events in {} bytes", stream.len());
}

/// Kept apart, so that a profiler can count it alone.
#[inline(never)]
fn decode(stream: &[u8]) -> usize {
    let mut decoder = Decoder::new();
    let mut data_bytes = 0;
    let mut events = 0;
    for chunk in stream.chunks(16 * 1024) {
        let mut feed = decoder.feed(chunk);
        while let Some(event) = feed.next_event() {
            events += 1;
            data_bytes += event.data().len();
        }
    }
    assert!(data_bytes < stream.len());
    events
}
