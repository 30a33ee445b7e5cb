//! Beyond a limit: memory stays bounded, the stream goes on, or ends by option.

use sse_protocol::naive::Item;
use sse_protocol::{Decoder, Excess, LimitExceeded, Limits, LineDecoder};

use crate::support::{decode, feed};

#[test]
fn an_endless_line_is_reported_once_and_holds_no_memory() {
    let mut decoder = Decoder::with_limits(Limits::new().with_max_line_bytes(1_000));
    let mut items = Vec::new();
    feed(&mut decoder, b"id: 1\ndata: a\n\nid: 2\ndata: ", &mut items);
    let info = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            feed(&mut decoder, &[b'x'; 1_000], &mut items);
        }
    });
    assert!(info.bytes_max < 8_000, "{info:?}");
    feed(
        &mut decoder,
        b"\nid: 3\n: still dropped\n\ndata: b\n\n",
        &mut items,
    );
    assert_eq!(items.len(), 3, "{items:?}");
    assert_eq!(
        items[1],
        Item::Dropped(LimitExceeded::Line { limit_bytes: 1_000 })
    );
    assert!(
        matches!(&items[2], Item::Event { data, last_event_id, .. } if data == "b" && last_event_id == "1")
    );
}

#[test]
fn an_endless_line_that_nobody_asks_for_is_reported_once_and_holds_no_memory() {
    for start in ["unknown: ", ": "] {
        let mut decoder = Decoder::with_limits(Limits::new().with_max_line_bytes(1_000_000));
        let mut feed_events = |chunk: &[u8]| {
            let mut feed = decoder.feed(chunk);
            let mut events = 0;
            while feed.next_event().is_some() {
                events += 1;
            }
            (events, decoder.dropped_events())
        };
        assert_eq!(feed_events(start.as_bytes()), (0, 0));
        let info = allocation_counter::measure(|| {
            for _ in 0..999 {
                assert_eq!(feed_events(&[b'x'; 1_000]), (0, 0));
            }
        });
        assert!(info.bytes_max < 1_000, "{info:?}");
        assert_eq!(feed_events(&[b'x'; 1_000]), (0, 1));
        assert_eq!(feed_events(b"\n\ndata: next\n\n"), (1, 1));
    }
}

#[test]
fn an_endless_event_is_dropped_before_its_line_ends() {
    let limit_bytes = 1_000;
    let mut decoder = Decoder::with_limits(Limits::new().with_max_event_bytes(limit_bytes));
    let mut items = Vec::new();
    for _ in 0..9 {
        feed(&mut decoder, b"data: ", &mut items);
        feed(&mut decoder, &[b'x'; 99], &mut items);
        feed(&mut decoder, b"\n", &mut items);
    }
    assert_eq!(items, []);
    feed(&mut decoder, b"data:", &mut items);
    feed(&mut decoder, &[b'x'; 100], &mut items);
    assert_eq!(items, [Item::Dropped(LimitExceeded::Event { limit_bytes })]);
    feed(&mut decoder, b"\ndata: more\n\ndata: next\n\n", &mut items);
    assert_eq!(items.len(), 2);
}

#[test]
fn the_id_of_a_dropped_event_is_told_while_it_is_skipped_if_it_came_first() {
    let long = "x".repeat(1_000);
    for (limits, event, id) in [
        (
            Limits::new().with_max_line_bytes(100),
            format!("id: 2\ndata: {long}"),
            Some("2"),
        ),
        (
            Limits::new().with_max_event_bytes(100),
            format!("event: e\nid: 2\ndata: {long}"),
            Some("2"),
        ),
        (
            Limits::new().with_max_event_bytes(100),
            format!("id:\ndata: {long}"),
            Some(""),
        ),
        (
            Limits::new().with_max_line_bytes(100),
            format!("data: {long}\nid: 2"),
            None,
        ),
        (
            Limits::new().with_max_event_bytes(100),
            format!("data: {long}"),
            None,
        ),
    ] {
        let mut decoder = Decoder::with_limits(limits);
        let mut items = Vec::new();
        feed(&mut decoder, b"id: 1\ndata: a\n\n", &mut items);
        assert_eq!(decoder.dropped_event_id(), None);
        feed(&mut decoder, event.as_bytes(), &mut items);
        assert!(matches!(items.last(), Some(Item::Dropped(_))), "{items:?}");
        assert_eq!(decoder.dropped_event_id(), id);
        assert_eq!(decoder.last_event_id(), "1", "as it was");
        feed(&mut decoder, b"\n\n", &mut items);
        assert_eq!(decoder.dropped_event_id(), None, "it is over");
    }
}

#[test]
fn exactly_the_limit_is_allowed() {
    let limits = Limits::new()
        .with_max_line_bytes(16)
        .with_max_event_bytes(11 + 3 + 4);
    let stream = b"id: 123\nevent: type\ndata: 0123456789\n\n";
    for cuts in [vec![], vec![1; 100]] {
        let items = decode(&mut Decoder::with_limits(limits), stream, &cuts);
        assert!(matches!(items[..], [Item::Event { .. }]), "{items:?}");
        let less = limits.with_max_event_bytes(11 + 3 + 3);
        let limit = LimitExceeded::Event {
            limit_bytes: 11 + 3 + 3,
        };
        assert_eq!(
            decode(&mut Decoder::with_limits(less), stream, &cuts),
            [Item::Dropped(limit)]
        );
        let less = limits.with_max_line_bytes(15);
        let limit = LimitExceeded::Line { limit_bytes: 15 };
        assert_eq!(
            decode(&mut Decoder::with_limits(less), stream, &cuts),
            [Item::Dropped(limit)]
        );
    }
}

#[test]
fn failing_by_option_ends_the_stream_until_the_reset() {
    let limits = Limits::new()
        .with_max_line_bytes(10)
        .with_excess(Excess::Fail);
    let mut decoder = Decoder::with_limits(limits);
    let stream = b"data: a\n\ndata: 0123456789\n\ndata: b\n\n";
    let items = decode(&mut decoder, stream, &[3, 12, 4]);
    assert!(
        matches!(items[..], [Item::Event { .. }, Item::Dropped(_)]),
        "{items:?}"
    );
    assert_eq!(
        decoder.failure(),
        Some(LimitExceeded::Line { limit_bytes: 10 })
    );
    decoder.reset();
    assert_eq!(decoder.failure(), None);
    assert_eq!(decode(&mut decoder, b"data: c\n\n", &[]).len(), 1);
}

#[test]
fn an_event_of_ten_megabytes_passes_by_default() {
    let mut stream = b"data: ".to_vec();
    stream.resize(10_000_000, b'x');
    stream.extend_from_slice(b"\n\n");
    for size in [1_400, stream.len()] {
        let mut decoder = Decoder::new();
        let mut lengths = Vec::new();
        for chunk in stream.chunks(size) {
            lengths.extend(decoder.feed(chunk).owned().map(|event| event.data().len()));
        }
        assert_eq!(lengths, [10_000_000 - 6]);
    }
}

#[test]
fn a_raw_line_over_the_limit_is_reported_once_and_skipped() {
    let mut decoder = LineDecoder::with_limits(Limits::new().with_max_line_bytes(4));
    let mut seen = Vec::new();
    for chunk in b"abcd\nabcdefghij\r\nxy\n".chunks(3) {
        let mut lines = decoder.feed(chunk);
        while let Some(line) = lines.next() {
            seen.push(line.map(<[u8]>::to_vec));
        }
    }
    let too_long = LimitExceeded::Line { limit_bytes: 4 };
    assert_eq!(
        seen,
        [Ok(b"abcd".to_vec()), Err(too_long), Ok(b"xy".to_vec())]
    );
}
