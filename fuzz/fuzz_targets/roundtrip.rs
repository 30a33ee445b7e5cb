//! What is written is what is read, and text can forge nothing.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sse_protocol::{Decoded, Decoder, Event, EventId, EventType, Frame, Retry, encoder};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    events: Vec<(Option<&'a str>, Option<&'a str>, &'a str, Option<u64>)>,
    comment: &'a str,
    /// Any stream at all: what was decoded can be encoded, and means the same then.
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for (id, event_type, data, retry) in input.events {
        // What the format cannot carry is refused, and nothing else.
        let id = id.and_then(|id| {
            let refused = id.contains(['\r', '\n', '\0']);
            assert_eq!(EventId::new(id).is_err(), refused);
            EventId::new(id).ok()
        });
        let event_type = event_type.and_then(|event_type| {
            let refused = event_type.is_empty() || event_type.contains(['\r', '\n']);
            assert_eq!(EventType::new(event_type).is_err(), refused);
            EventType::new(event_type).ok()
        });
        let event = Event {
            id,
            event_type,
            data: data.into(),
            retry: retry.map(Retry::from_millis),
        };
        let before = bytes.len();
        encoder::event(event.as_event_ref(), &mut bytes);
        assert_eq!(
            encoder::event_len(event.as_event_ref()),
            bytes.len() - before
        );
        assert_eq!(
            Frame::event(event.as_event_ref()).as_bytes(),
            &bytes[before..]
        );
        encoder::comment(input.comment, &mut bytes);
        expected.push(Event {
            data: data.replace("\r\n", "\n").replace('\r', "\n").into(),
            event_type: event.event_type.filter(|t| *t != EventType::MESSAGE),
            ..event
        });
    }
    assert_eq!(events(&bytes), expected);

    let once = events(input.stream);
    let bytes = encode(&once);
    let twice = events(&bytes);
    assert_eq!(once, twice);
    assert_eq!(encode(&twice), bytes);
});

fn events(stream: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut feed = decoder.feed(stream);
    while let Some(decoded) = feed.next() {
        if let Decoded::Event(event) = decoded {
            assert_eq!(event.to_event(), event.to_buf().to_event());
            events.push(event.to_event());
        }
    }
    events
}

fn encode(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    events
        .iter()
        .for_each(|event| encoder::event(event.as_event_ref(), &mut bytes));
    bytes
}
