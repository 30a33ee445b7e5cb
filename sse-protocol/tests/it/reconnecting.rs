//! What survives from one connection to the next, and what does not.

use sse_protocol::naive::Item;
use sse_protocol::{Decoder, Ending, Retry};

use crate::support::{decode, feed};

fn data_of(items: &[Item]) -> Vec<(&str, &str)> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Event {
                data,
                last_event_id,
                ..
            } => Some((&**data, &**last_event_id)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_new_connection_keeps_the_id_and_the_time_and_nothing_else() {
    let mut decoder = Decoder::new();
    decode(
        &mut decoder,
        b"retry: 10\nid: 1\ndata: a\n\nid: 2\nevent: lost\ndata: lost\nda",
        &[],
    );
    assert_eq!(decoder.finish(), Ending::Truncated);
    assert_eq!(decoder.last_event_id(), "1");
    assert_eq!(decoder.retry(), Some(Retry::from_millis(10)));
    let items = decode(&mut decoder, b"\xEF\xBB\xBFdata: b\n\n", &[1, 1]);
    assert_eq!(
        items,
        [Item::Event {
            event_type: "message".into(),
            data: "b".into(),
            last_event_id: "1".into(),
            retry: None,
        }]
    );
    assert_eq!(decoder.finish(), Ending::Clean);
}

#[test]
fn a_line_feed_at_the_start_of_a_connection_is_its_own_line() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, b"data: a\r\n\r", &[]);
    decoder.reset();
    let items = decode(&mut decoder, b"\ndata: b\n\n", &[]);
    assert_eq!(data_of(&items), [("b", "")]);
}

#[test]
fn an_ending_is_clean_only_between_blocks() {
    for (stream, ending) in [
        (&b""[..], Ending::Clean),
        (b"\xEF\xBB\xBF", Ending::Clean),
        (b": ping\n", Ending::Clean),
        (b"data: a\n\n", Ending::Clean),
        (b"data: a\r\r", Ending::Clean),
        (b"data: a\n\n: pi", Ending::Truncated),
        (b"data: a\n", Ending::Truncated),
        (b"data: a", Ending::Truncated),
        (b"id: 3\n", Ending::Truncated),
        (b"\xEF\xBB", Ending::Truncated),
    ] {
        for size in [1, 1000] {
            let mut decoder = Decoder::new();
            let mut items = Vec::new();
            for chunk in stream.chunks(size) {
                feed(&mut decoder, chunk, &mut items);
            }
            assert_eq!(decoder.finish(), ending, "{stream:?}");
        }
    }
}

#[test]
fn a_stored_id_is_told_by_events_that_carry_none() {
    let mut decoder = Decoder::new();
    decoder.set_last_event_id(&"stored".try_into().unwrap());
    let items = decode(&mut decoder, b"data: a\n\nid\ndata: b\n\n", &[]);
    assert_eq!(data_of(&items), [("a", "stored"), ("b", "")]);
}
