//! What is written is what is read.

use proptest::prelude::*;
use sse_protocol::naive::Item;
use sse_protocol::{Decoded, Decoder, Event, EventId, EventType, Frame, Retry, encoder};

use crate::support::{self, decode};

/// Text that is rich in what the format has to escape.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        2 => Just("\n".to_owned()),
        1 => Just("\r".to_owned()),
        1 => Just("\r\n".to_owned()),
        2 => Just(" ".to_owned()),
        1 => Just(":".to_owned()),
        1 => Just("\0".to_owned()),
        1 => Just("\u{FEFF}".to_owned()),
        1 => Just("\u{2028}".to_owned()),
        1 => Just("data: forged\n\n".to_owned()),
        4 => "[a-zé世🌍]{0,12}",
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn event() -> impl Strategy<Value = Event> {
    let id = text()
        .prop_map(|text| EventId::new(text.replace(['\r', '\n', '\0'], "")).expect("one line"));
    let event_type = text()
        .prop_map(|text| EventType::new(text.replace(['\r', '\n'], "") + "x").expect("one line"));
    let retry = any::<u64>().prop_map(Retry::from_millis);
    (
        prop::option::of(id),
        prop::option::of(event_type),
        text(),
        prop::option::of(retry),
    )
        .prop_map(|(id, event_type, data, retry)| Event {
            id,
            event_type,
            data: data.into(),
            retry,
        })
}

/// What a reader can see of an event: line ends are LF, and the default type is no type.
fn as_read(event: &Event) -> Event {
    Event {
        data: event.data.replace("\r\n", "\n").replace('\r', "\n").into(),
        event_type: event
            .event_type
            .clone()
            .filter(|t| *t != EventType::MESSAGE),
        ..event.clone()
    }
}

fn read_events(bytes: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::new();
    decoder
        .feed(bytes)
        .owned()
        .map(|event| event.to_event())
        .collect()
}

// `PROPTEST_CASES` sets how many streams are made up; 256 by default.
proptest! {
    #[test]
    fn decoding_what_was_encoded_gives_the_same_events(events in prop::collection::vec(event(), 0..6)) {
        let mut bytes = Vec::new();
        for event in &events {
            let before = bytes.len();
            encoder::event(event.as_event_ref(), &mut bytes);
            prop_assert_eq!(bytes.len() - before, encoder::event_len(event.as_event_ref()));
            let frame = Frame::event(event.as_event_ref());
            prop_assert_eq!(frame.as_bytes(), &bytes[before..]);
        }
        let expected: Vec<Event> = events.iter().map(as_read).collect();
        prop_assert_eq!(read_events(&bytes), expected);
    }

    #[test]
    fn encoding_what_was_decoded_is_stable(stream in support::stream()) {
        let encode = |events: &[Event]| {
            let mut bytes = Vec::new();
            events.iter().for_each(|event| encoder::event(event.as_event_ref(), &mut bytes));
            bytes
        };
        let once = read_events(&stream);
        let bytes = encode(&once);
        let twice = read_events(&bytes);
        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(encode(&twice), bytes);
    }

    #[test]
    fn text_can_forge_nothing(data in text(), comment in text()) {
        let mut bytes = Vec::new();
        encoder::event(Event::new(data).as_event_ref(), &mut bytes);
        encoder::comment(&comment, &mut bytes);
        let items = decode(&mut Decoder::new(), &bytes, &[]);
        prop_assert!(matches!(items[0], Item::Event { .. }), "{:?}", items);
        let only_comments = items[1..].iter().all(|item| matches!(item, Item::Comment(_)));
        prop_assert!(only_comments, "{:?}", items);
    }

    #[test]
    fn a_comment_comes_back_line_by_line(comment in text()) {
        let mut bytes = Vec::new();
        encoder::comment(&comment, &mut bytes);
        let lines = decode(&mut Decoder::new(), &bytes, &[]);
        let comment = comment.replace("\r\n", "\n").replace('\r', "\n");
        let expected: Vec<Item> = comment.split('\n').map(|line| Item::Comment(line.to_owned())).collect();
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn what_a_line_cannot_carry_is_refused(text in text()) {
        let broken = text.contains(['\r', '\n']);
        prop_assert_eq!(EventId::new(&*text).is_err(), broken || text.contains('\0'));
        prop_assert_eq!(EventType::new(&*text).is_err(), broken || text.is_empty());
    }
}

#[test]
fn blocks_without_data_set_the_id_and_the_time_and_dispatch_nothing() {
    let mut bytes = Vec::new();
    encoder::retry(Retry::from_millis(0), &mut bytes);
    encoder::id(&EventId::new("7").unwrap(), &mut bytes);
    assert_eq!(bytes, b"retry: 0\n\nid: 7\n\n");
    let mut decoder = Decoder::new();
    let mut feed = decoder.feed(&bytes);
    assert!(matches!(feed.next(), Some(Decoded::Retry(retry)) if retry.as_millis() == 0));
    assert!(feed.next().is_none());
    assert_eq!(decoder.last_event_id(), "7");
}
