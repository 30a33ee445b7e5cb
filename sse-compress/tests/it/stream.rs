use std::io::Read as _;

use flate2::read::{GzDecoder, MultiGzDecoder};
use proptest::prelude::*;
use sse_compress::{Coding, Decompressor, Level, Limits, StreamEncoder};

use crate::payload::event;

/// All that a decoder can make of a stream that has not ended.
fn decode_so_far(compressed: &[u8]) -> Vec<u8> {
    let mut decoder = Decompressor::new(Coding::Gzip, Limits::default());
    let mut plain = Vec::new();
    let mut rest = compressed;
    loop {
        let step = decoder.step(rest, &mut plain).unwrap();
        rest = &rest[step.consumed..];
        if step.drained {
            return plain;
        }
    }
}

proptest! {
    // Each case decodes every prefix anew.
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn after_each_write_a_reader_has_all_of_it(
        writes: Vec<Vec<u8>>,
        level in prop::sample::select(&Level::ALL[..]),
    ) {
        let mut encoder = StreamEncoder::new(level);
        let (mut plain, mut compressed) = (Vec::new(), Vec::new());
        for write in &writes {
            plain.extend_from_slice(write);
            encoder.write(write, &mut compressed);
            prop_assert_eq!(&decode_so_far(&compressed), &plain);
        }
        prop_assert_eq!(encoder.total_in(), plain.len() as u64);
        encoder.finish(&mut compressed);
        let mut gunzipped = Vec::new();
        GzDecoder::new(compressed.as_slice()).read_to_end(&mut gunzipped).unwrap();
        prop_assert_eq!(gunzipped, plain);
    }
}

#[test]
fn large_writes_of_any_kind_arrive_whole() {
    for level in Level::ALL {
        let noise: Vec<u8> = (0..300_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let writes = [noise, vec![0; 500_000], event(1).repeat(2000).into_bytes()];
        let mut encoder = StreamEncoder::new(level);
        let mut compressed = Vec::new();
        writes
            .iter()
            .for_each(|write| encoder.write(write, &mut compressed));
        assert_eq!(decode_so_far(&compressed), writes.concat());
        encoder.finish(&mut compressed);
        let mut gunzipped = Vec::new();
        MultiGzDecoder::new(compressed.as_slice())
            .read_to_end(&mut gunzipped)
            .unwrap();
        assert_eq!(gunzipped, writes.concat());
    }
}

#[test]
fn a_stream_of_small_events_shrinks_to_a_quarter() {
    for (level, bound) in Level::ALL.into_iter().zip([0.25, 0.23, 0.22]) {
        let mut encoder = StreamEncoder::new(level);
        let (mut plain, mut compressed) = (0, Vec::new());
        for number in 0..1000 {
            let event = event(number);
            plain += event.len();
            encoder.write(event.as_bytes(), &mut compressed);
        }
        let ratio = compressed.len() as f64 / plain as f64;
        println!("{level}: {ratio:.3}");
        assert!(ratio < bound, "{level}: {ratio:.3}");
    }
}

#[test]
fn the_head_leaves_at_once() {
    let mut compressed = Vec::new();
    StreamEncoder::new(Level::Fast).write(b"", &mut compressed);
    assert_eq!(compressed.len(), 10);
}
