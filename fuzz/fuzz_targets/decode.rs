//! The decoder agrees with the naive one, however the stream is cut and whatever the limits.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sse_protocol::naive::{self, Item};
use sse_protocol::{Decoded, Decoder, EventId, Excess, LimitExceeded, Limits};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Both limits are small or the default: what lies between says nothing new.
    max_line_bytes: Option<u8>,
    max_event_bytes: Option<u8>,
    fail: bool,
    seed: Option<&'a str>,
    /// How long each chunk is, used round and round; none means the whole stream at once.
    chunk_lens: Vec<u8>,
    /// A feed is given up after so many items, and its rest fed again.
    give_up_after: Option<u8>,
    /// Only events are asked for.
    events_alone: bool,
    /// Two connections, one after the other.
    streams: [&'a [u8]; 2],
}

fuzz_target!(|input: Input<'_>| {
    let mut limits = Limits::new();
    if let Some(bytes) = input.max_line_bytes {
        limits = limits.with_max_line_bytes(bytes.into());
    }
    if let Some(bytes) = input.max_event_bytes {
        limits = limits.with_max_event_bytes(bytes.into());
    }
    if input.fail {
        limits = limits.with_excess(Excess::Fail);
    }
    let mut decoder = Decoder::with_limits(limits);
    let mut last_event_id = String::new();
    if let Some(id) = input.seed.and_then(|seed| EventId::new(seed).ok()) {
        decoder.set_last_event_id(&id);
        last_event_id = id.to_string();
    }
    for stream in input.streams {
        let (mut expected, mut id_after) = naive::decode(stream, limits, last_event_id.clone());
        let items = decode(&mut decoder, stream, &input);
        if input.fail
            && let Some(at) = expected
                .iter()
                .position(|item| matches!(item, Item::Dropped(_)))
        {
            expected.truncate(at + 1);
            // The last id is that of the last event that got through, or of an empty block after it.
            id_after = decoder.last_event_id().to_owned();
            assert!(decoder.failure().is_some());
        }
        if input.events_alone {
            expected.retain(|item| matches!(item, Item::Event { .. }));
        }
        assert_eq!(items, expected);
        assert_eq!(decoder.last_event_id(), id_after);
        decoder.finish();
        last_event_id = id_after;
    }
});

fn decode(decoder: &mut Decoder, stream: &[u8], input: &Input<'_>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = stream;
    let mut lens = input.chunk_lens.iter().cycle();
    // A run of empty chunks says no more than two of them.
    let mut empty = 0;
    while !rest.is_empty() {
        let len = match lens.next() {
            Some(0) if empty >= 2 => 1,
            Some(len) => usize::from(*len),
            None => rest.len(),
        };
        empty = if len == 0 { empty + 1 } else { 0 };
        let (mut chunk, after) = rest.split_at(len.min(rest.len()));
        rest = after;
        loop {
            let mut feed = decoder.feed(chunk);
            let mut taken = 0usize;
            while input
                .give_up_after
                .is_none_or(|most| taken <= usize::from(most))
                && let Some(decoded) = if input.events_alone {
                    feed.next_event().map(Decoded::Event)
                } else {
                    feed.next()
                }
            {
                items.push(item(decoded));
                taken += 1;
            }
            chunk = feed.rest();
            if chunk.is_empty() {
                break;
            }
        }
    }
    items
}

fn item(decoded: Decoded<'_>) -> Item {
    match decoded {
        Decoded::Event(event) => Item::Event {
            event_type: event.event_type().to_owned(),
            data: event.data().to_owned(),
            last_event_id: event.last_event_id().to_owned(),
            retry: event.retry().map(|retry| retry.as_millis()),
        },
        Decoded::Comment(text) => Item::Comment(text.to_owned()),
        Decoded::Retry(retry) => Item::Retry(retry.as_millis()),
        Decoded::Dropped(limit @ (LimitExceeded::Line { .. } | LimitExceeded::Event { .. })) => {
            Item::Dropped(limit)
        }
        other => panic!("unknown item {other:?}"),
    }
}
