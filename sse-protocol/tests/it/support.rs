//! What several modules share: running a decoder, cutting a stream, making streams up.

use proptest::collection::vec;
use proptest::prelude::*;
use sse_protocol::naive::Item;
use sse_protocol::{Decoded, Decoder};

/// Feeds one chunk to its end and collects what comes out.
pub(crate) fn feed(decoder: &mut Decoder, chunk: &[u8], items: &mut Vec<Item>) {
    let mut feed = decoder.feed(chunk);
    while let Some(decoded) = feed.next() {
        items.push(item(decoded));
    }
    assert!(feed.next().is_none(), "a used-up feed stays used up");
    assert!(feed.rest().is_empty());
}

pub(crate) fn item(decoded: Decoded<'_>) -> Item {
    match decoded {
        Decoded::Event(event) => {
            let kept = event.to_buf();
            assert_eq!(kept.data(), event.data());
            assert_eq!(kept.event_type(), event.event_type());
            assert_eq!(kept.last_event_id(), event.last_event_id());
            assert_eq!(kept.id(), event.id());
            assert_eq!(kept.retry(), event.retry());
            Item::Event {
                event_type: event.event_type().to_owned(),
                data: event.data().to_owned(),
                last_event_id: event.last_event_id().to_owned(),
                retry: event.retry().map(|retry| retry.as_millis()),
            }
        }
        Decoded::Comment(text) => Item::Comment(text.to_owned()),
        Decoded::Retry(retry) => Item::Retry(retry.as_millis()),
        Decoded::Dropped(limit) => Item::Dropped(limit),
        other => panic!("unknown item {other:?}"),
    }
}

/// Decodes `stream` cut at `cuts`, each taken modulo what is left.
pub(crate) fn decode(decoder: &mut Decoder, mut stream: &[u8], cuts: &[usize]) -> Vec<Item> {
    let mut items = Vec::new();
    for &cut in cuts {
        let (chunk, rest) = stream.split_at(cut.min(stream.len()));
        feed(decoder, chunk, &mut items);
        stream = rest;
    }
    feed(decoder, stream, &mut items);
    items
}

/// Pieces that make trouble when they meet.
pub(crate) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just(b"\n".to_vec()),
        3 => Just(b"\r".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        4 => Just(b"data:".to_vec()),
        4 => Just(b"data: ".to_vec()),
        1 => Just(b"data".to_vec()),
        2 => Just(b"event: ".to_vec()),
        1 => Just(b"event".to_vec()),
        3 => Just(b"id: ".to_vec()),
        1 => Just(b"id".to_vec()),
        2 => Just(b"retry: ".to_vec()),
        1 => Just(b"retry:10".to_vec()),
        1 => Just(b"unknown: ".to_vec()),
        2 => Just(b":".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just(b"\0".to_vec()),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
        1 => Just(b"\xF0\x9F\x8C\x8D".to_vec()),
        1 => Just("Grüße, 世界".as_bytes().to_vec()),
        3 => Just(b"data: token\n\n".to_vec()),
        1 => vec(any::<u8>(), 0..8),
        1 => "[a-z0-9]{0,12}".prop_map(String::into_bytes),
        1 => (0..300usize).prop_map(|n| vec![b'x'; n]),
        // Cut and malformed characters.
        2 => prop_oneof![
            Just(b"\xEF".to_vec()),
            Just(b"\xEF\xBB".to_vec()),
            Just(b"\xF0\x9F".to_vec()),
            Just(b"\xC0\x80".to_vec()),
            Just(b"\xED\xA0\x80".to_vec()),
            Just(b"\x80".to_vec()),
        ],
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Chunk lengths: empty, tiny, and larger than the stream.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        3 => vec(prop_oneof![Just(0usize), Just(1), 1..5usize, 1..80usize], 0..60),
        1 => Just(vec![1; 1000]),
    ]
}
