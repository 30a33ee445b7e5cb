//! However a stream is cut, the fast decoder says what the standard says.

use proptest::collection::vec;
use proptest::prelude::*;
use sse_protocol::naive::{self, Item};
use sse_protocol::{Decoded, Decoder, Limits, LineDecoder};

use crate::support::{cuts, decode, feed, item, stream};

// `PROPTEST_CASES` sets how many streams are made up; 256 by default.
proptest! {
    #[test]
    fn any_cutting_gives_the_events_of_the_standard(stream in stream(), cuts in cuts()) {
        let (expected, last_event_id) = naive::decode(&stream, Limits::new(), String::new());
        let mut decoder = Decoder::new();
        prop_assert_eq!(decode(&mut decoder, &stream, &cuts), expected);
        prop_assert_eq!(decoder.last_event_id(), last_event_id);
    }

    #[test]
    fn any_cutting_gives_the_same_under_small_limits(
        stream in stream(),
        cuts in cuts(),
        line in 0..64usize,
        event in 0..64usize,
    ) {
        let limits = Limits::new().with_max_line_bytes(line).with_max_event_bytes(event);
        let (expected, last_event_id) = naive::decode(&stream, limits, "seed".to_owned());
        let mut decoder = Decoder::with_limits(limits);
        decoder.set_last_event_id(&"seed".try_into().unwrap());
        prop_assert_eq!(decode(&mut decoder, &stream, &cuts), expected.clone());
        prop_assert_eq!(decoder.last_event_id(), last_event_id);
        let dropped = expected.iter().filter(|item| matches!(item, Item::Dropped(_))).count();
        prop_assert_eq!(decoder.dropped_events(), dropped as u64);
    }

    #[test]
    fn whoever_asks_for_events_alone_gets_the_same_ones(
        stream in stream(),
        cuts in cuts(),
        line in prop_oneof![Just(Limits::DEFAULT_MAX_LINE_BYTES), 0..64usize],
        event in prop_oneof![Just(Limits::DEFAULT_MAX_EVENT_BYTES), 0..64usize],
        which in vec(prop_oneof![3 => Just(true), 1 => Just(false)], 1..5),
    ) {
        let limits = Limits::new().with_max_line_bytes(line).with_max_event_bytes(event);
        let (mut expected, last_event_id) = naive::decode(&stream, limits, String::new());
        let dropped = expected.iter().filter(|item| matches!(item, Item::Dropped(_))).count();
        expected.retain(|item| matches!(item, Item::Event { .. }));
        let mut decoder = Decoder::with_limits(limits);
        let mut events = Vec::new();
        let mut rest = &stream[..];
        // Some chunks are read item by item: that makes no difference to the events.
        for (&cut, &alone) in cuts.iter().chain([&usize::MAX]).zip(which.iter().cycle()) {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            let mut feed = decoder.feed(chunk);
            loop {
                let next = if alone { feed.next_event().map(Decoded::Event) } else { feed.next() };
                match next {
                    Some(decoded @ Decoded::Event(_)) => events.push(item(decoded)),
                    Some(_) => {}
                    None => break,
                }
            }
        }
        prop_assert_eq!(events, expected);
        prop_assert_eq!(decoder.last_event_id(), last_event_id);
        prop_assert_eq!(decoder.dropped_events(), dropped as u64);
    }

    #[test]
    fn a_feed_given_up_early_goes_on_with_its_rest(stream in stream(), takes in vec(0..3usize, 0..30)) {
        let (expected, _) = naive::decode(&stream, Limits::new(), String::new());
        let mut decoder = Decoder::new();
        let mut items = Vec::new();
        let mut rest = &stream[..];
        for take in takes {
            let mut feed = decoder.feed(rest);
            for _ in 0..take {
                items.extend(feed.next().map(item));
            }
            rest = feed.rest();
        }
        feed(&mut decoder, rest, &mut items);
        prop_assert_eq!(items, expected);
    }

    #[test]
    fn raw_lines_do_not_depend_on_the_cutting(stream in stream(), cuts in cuts()) {
        let lines = |cuts: &[usize]| {
            let mut decoder = LineDecoder::new();
            let mut seen = Vec::new();
            let mut rest = &stream[..];
            for &cut in cuts.iter().chain([&usize::MAX]) {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                let mut lines = decoder.feed(chunk);
                while let Some(line) = lines.next() {
                    seen.push(line.map(<[u8]>::to_vec));
                }
                rest = after;
            }
            (seen, decoder.partial().to_vec())
        };
        prop_assert_eq!(lines(&cuts), lines(&[]));
    }
}

/// Lines near the vector widths and validation windows of the fast paths, with characters of every length over
/// their edges.
#[test]
fn lengths_around_every_fast_path_edge_agree_with_the_standard() {
    let fill = "aé世🌍".repeat(8_000);
    for around in [8usize, 16, 32, 64, 128, 1400, 16_384] {
        for len in around - 4..around + 4 {
            let mut cut = len;
            while !fill.is_char_boundary(cut) {
                cut -= 1;
            }
            let (text, tail) = (&fill[..cut], "x".repeat(len - cut));
            let mut stream =
                format!("data: {text}{tail}\n\nid: {len}\ndata:{tail}{text}\r\n\r\ndata: end\n\n")
                    .into_bytes();
            compare(&stream, &[3, 1400, usize::MAX]);
            // The same with a malformed byte near the end.
            let at = stream.len() - 20;
            stream[at] = 0xFF;
            compare(&stream, &[1400, usize::MAX]);
        }
    }
}

#[test]
fn a_comment_that_a_reader_of_events_has_begun_is_skipped_whole() {
    let mut decoder = Decoder::new();
    assert!(decoder.feed(b": one").next_event().is_none());
    let mut items = Vec::new();
    feed(&mut decoder, b" and a half\n: two\n", &mut items);
    assert_eq!(items, [Item::Comment("two".to_owned())]);
}

fn compare(stream: &[u8], sizes: &[usize]) {
    let (expected, _) = naive::decode(stream, Limits::new(), String::new());
    for &size in sizes {
        let mut decoder = Decoder::new();
        let mut items = Vec::new();
        for chunk in stream.chunks(size.min(stream.len())) {
            feed(&mut decoder, chunk, &mut items);
        }
        assert!(
            items == expected,
            "{} bytes in chunks of {size}",
            stream.len()
        );
    }
}
