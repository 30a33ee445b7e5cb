use std::io::Write as _;

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use proptest::prelude::*;
use sse_compress::{Coding, DecompressError, Decompressor, Limits, decompress_all};

use crate::payload::summary;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn bare(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Decodes `input` given in pieces, and checks the bounds on the way.
fn decode(
    coding: Coding,
    input: &[u8],
    piece_bytes: usize,
    limits: Limits,
) -> Result<Vec<u8>, DecompressError> {
    let mut decoder = Decompressor::new(coding, limits);
    let mut plain = Vec::new();
    for mut piece in input.chunks(piece_bytes) {
        loop {
            let before = plain.len();
            let step = decoder.step(piece, &mut plain)?;
            assert_eq!(plain.len() - before, step.produced);
            assert!(step.produced <= limits.step_bytes);
            piece = &piece[step.consumed..];
            if step.drained {
                assert!(piece.is_empty());
                break;
            }
            assert!(
                step.produced > 0 || step.consumed > 0,
                "a step without progress"
            );
        }
    }
    assert_eq!(decoder.total_out(), plain.len() as u64);
    decoder.finish()?;
    Ok(plain)
}

proptest! {
    #[test]
    fn pieces_and_steps_never_change_the_result(
        plain in prop::collection::vec(any::<u8>(), 0..5000),
        repeat in 1usize..10,
        piece_bytes in 1usize..600,
        step_bytes in 1usize..6000,
        coding in 0..4,
    ) {
        let plain = plain.repeat(repeat);
        let (coding, input) = match coding {
            0 => (Coding::Gzip, gzip(&plain)),
            1 => (Coding::Deflate, zlib(&plain)),
            2 => (Coding::Deflate, bare(&plain)),
            _ => (Coding::Identity, plain.clone()),
        };
        let limits = Limits { step_bytes, ..Limits::default() };
        prop_assert_eq!(decode(coding, &input, piece_bytes, limits), Ok(plain.clone()));
        prop_assert_eq!(decompress_all(coding, &input, plain.len()), Ok(plain));
    }

    #[test]
    fn members_of_gzip_follow_each_other(parts in prop::collection::vec(".{0,200}", 1..5), piece in 1usize..100) {
        let input: Vec<u8> = parts.iter().flat_map(|part| gzip(part.as_bytes())).collect();
        prop_assert_eq!(decode(Coding::Gzip, &input, piece, Limits::default()), Ok(parts.concat().into_bytes()));
    }

    #[test]
    fn no_input_makes_decoding_panic(
        input: Vec<u8>,
        coding in prop::sample::select(vec![Coding::Gzip, Coding::Deflate]),
        with_head: bool,
    ) {
        let input = if with_head { [&gzip(b"")[..10], &input].concat() } else { input };
        let _ = decode(coding, &input, 7, Limits::default());
    }

    #[test]
    fn a_changed_bit_never_gives_another_text(at: prop::sample::Index, bit in 0..8) {
        let plain = summary(1, 1500);
        let mut input = gzip(plain.as_bytes());
        let at = at.index(input.len());
        input[at] ^= 1u8 << bit;
        // A few bits of the head carry no meaning, nor do those that fill up the last byte before the trailer; all
        // others are covered by structure, checksum or length.
        let last_of_deflate = input.len() - 9;
        if let Ok(decoded) = decompress_all(Coding::Gzip, &input, 10_000) {
            prop_assert!(at < 10 || at == last_of_deflate, "byte {at} of {}", input.len());
            prop_assert_eq!(decoded, plain.into_bytes());
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let plain = summary(2, 1200);
    for (coding, input) in [
        (Coding::Gzip, gzip(plain.as_bytes())),
        (Coding::Deflate, zlib(plain.as_bytes())),
        (Coding::Deflate, bare(plain.as_bytes())),
    ] {
        for end in 0..input.len() {
            let cut = decode(coding, &input[..end], 64, Limits::default());
            assert_eq!(
                cut,
                Err(DecompressError::Truncated),
                "{coding:?} cut at {end}"
            );
        }
    }
}

#[test]
fn what_was_decoded_before_a_cut_is_not_lost() {
    let plain = summary(2, 5000).into_bytes();
    let input = gzip(&plain);
    let mut decoder = Decompressor::new(Coding::Gzip, Limits::default());
    let mut out = Vec::new();
    let step = decoder.step(&input[..input.len() - 9], &mut out).unwrap();
    assert!(step.drained);
    assert!(out.len() > 4000 && plain.starts_with(&out));
    assert_eq!(decoder.finish(), Err(DecompressError::Truncated));
}

#[test]
fn a_bomb_is_stopped_by_its_ratio() {
    let bomb = gzip(&vec![0; 16 << 20]);
    let mut decoder = Decompressor::new(Coding::Gzip, Limits::default());
    let mut total = 0;
    let mut out = Vec::new();
    let mut rest = bomb.as_slice();
    let error = loop {
        match decoder.step(&rest[..rest.len().min(1000)], &mut out) {
            Ok(step) => {
                rest = &rest[step.consumed..];
                total += step.produced;
                assert!(out.capacity() <= 256 * 1024);
                out.clear();
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error, DecompressError::RatioExceeded { ratio: 250 });
    assert!(total < 2 << 20, "{total} bytes came out first");
    // It stays refused.
    assert_eq!(decoder.step(b"", &mut out), Err(error));
    assert_eq!(decoder.finish(), Err(error));
}

#[test]
fn a_bomb_is_stopped_by_its_size() {
    let bomb = gzip(&vec![0; 16 << 20]);
    assert_eq!(
        decompress_all(Coding::Gzip, &bomb, 1 << 20),
        Err(DecompressError::TooLarge {
            limit_bytes: 1 << 20
        })
    );
    let nested = gzip(&bomb);
    assert_eq!(decompress_all(Coding::Gzip, &nested, 1 << 20), Ok(bomb));
}

#[test]
fn repeated_events_are_no_bomb() {
    // Two thousand equal events of 2 KiB in one flushed stream.
    let event = format!("data: {}\n\n", summary(1, 2000));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..2_000 {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
    }
    let input = encoder.finish().unwrap();
    let ratio = 2_000 * event.len() / input.len();
    println!("ratio {ratio} to 1");
    assert_eq!(
        decode(Coding::Gzip, &input, 1000, Limits::default())
            .unwrap()
            .len(),
        2_000 * event.len()
    );
}

#[test]
fn nothing_may_follow_the_end() {
    let garbage = [gzip(b"hello"), b"garbage".to_vec()].concat();
    assert_eq!(
        decompress_all(Coding::Gzip, &garbage, 100),
        Err(DecompressError::Corrupt)
    );
    let twice = zlib(b"hello").repeat(2);
    assert_eq!(
        decompress_all(Coding::Deflate, &twice, 100),
        Err(DecompressError::Corrupt)
    );
}

#[test]
fn the_optional_fields_of_a_gzip_head_are_skipped() {
    let mut encoder = flate2::GzBuilder::new()
        .filename("events.txt")
        .comment("a comment")
        .extra(vec![7; 300])
        .mtime(1_700_000_000)
        .write(Vec::new(), Compression::fast());
    encoder.write_all(b"hello").unwrap();
    let input = encoder.finish().unwrap();
    assert_eq!(
        decode(Coding::Gzip, &input, 3, Limits::default()),
        Ok(b"hello".to_vec())
    );
}
