use std::{io::Write as _, sync::Arc, thread};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use sse_compress::{DecompressError, EnvelopeError, Level, MessageCompressor, open_envelope};

use crate::payload::{job_list, noise, summary};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn envelope(size: u64, gzipped: &[u8]) -> String {
    format!(
        r#"{{"compressed": true, "encoding": "gzip", "original_size": {size}, "data": "{}"}}"#,
        STANDARD.encode(gzipped)
    )
}

proptest! {
    #[test]
    fn what_was_put_in_comes_out(
        text in "\\PC{0,3000}|[a-f ]{0,3000}",
        level in prop::sample::select(&Level::ALL[..]),
        threshold in 0usize..2000,
    ) {
        let compressor = MessageCompressor::new(threshold, level);
        let envelope = compressor.compress(&text);
        if let Some(envelope) = &envelope {
            prop_assert!(text.len() > threshold);
            prop_assert!(envelope.len() < text.len());
            prop_assert!(envelope.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(open_envelope(envelope, text.len()), Ok(Some(text.clone())));
        }
        let stats = compressor.stats();
        prop_assert_eq!((stats.messages, stats.compressed), (1, u64::from(envelope.is_some())));
    }

    #[test]
    fn no_text_makes_opening_panic(text in "\\PC*|\\{\"compressed\": ?true,.*\\}") {
        let _ = open_envelope(&text, 1 << 16);
    }

    #[test]
    fn a_changed_byte_is_an_error_or_not_an_envelope(at: prop::sample::Index, byte in 0x20u8..0x7f) {
        let text = summary(1, 1500);
        let good = MessageCompressor::default().compress(&text).unwrap();
        let mut changed = good.clone().into_bytes();
        changed[at.index(good.len())] = byte;
        let changed = String::from_utf8(changed).unwrap();
        match open_envelope(&changed, 1 << 16) {
            Ok(Some(opened)) => prop_assert_eq!(opened, text), // nothing that matters was changed
            Ok(None) | Err(_) => prop_assert_ne!(changed, good),
        }
    }
}

/// Makes a text from a seed, of about so many bytes.
type Maker = fn(u64, usize) -> String;

/// Mean of envelope size divided by message size over eight messages.
fn ratio(level: Level, make: Maker, bytes: usize) -> f64 {
    let compressor = MessageCompressor::new(1024, level);
    for seed in 0..8 {
        let _ = compressor.compress(&make(seed, bytes));
    }
    assert_eq!(compressor.stats().compressed, 8);
    compressor.stats().ratio()
}

#[test]
fn summaries_become_twenty_to_sixty_percent_smaller_at_every_level() {
    // The bounds are what was measured, plus a margin of about 0.03. The prose is of words drawn by chance, which compresses
    // worse than real speech.
    let cases: [(Maker, usize, [f64; 3]); 5] = [
        (summary, 2 * 1024, [0.75, 0.74, 0.74]),
        (summary, 8 * 1024, [0.60, 0.57, 0.57]),
        (summary, 64 * 1024, [0.50, 0.46, 0.45]),
        (job_list, 4 * 1024, [0.41, 0.40, 0.40]),
        (job_list, 64 * 1024, [0.34, 0.32, 0.31]),
    ];
    for (make, bytes, bounds) in cases {
        for (level, bound) in Level::ALL.into_iter().zip(bounds) {
            let ratio = ratio(level, make, bytes);
            println!("{bytes} bytes, {level}: {ratio:.3}");
            assert!(
                ratio < bound,
                "{bytes} bytes at {level}: ratio {ratio:.3}, bound {bound}"
            );
        }
    }
}

#[test]
fn small_and_incompressible_messages_are_left_alone() {
    let compressor = MessageCompressor::new(1024, Level::Best);
    assert_eq!(compressor.compress(&"a".repeat(1024)), None);
    assert!(compressor.compress(&"a".repeat(1025)).is_some());
    assert_eq!(compressor.compress(&noise(1, 50_000)), None);

    let stats = compressor.stats();
    assert_eq!((stats.messages, stats.compressed), (3, 1));
    assert_eq!((stats.bytes_in, stats.bytes_passed), (1025, 51_024));
    assert!(stats.ratio() < 0.2);
    assert!(stats.overall_ratio() > 0.9);
}

#[test]
fn nothing_compressed_is_a_ratio_of_one() {
    assert_eq!(MessageCompressor::default().stats().ratio(), 1.0);
}

#[test]
fn the_level_can_be_changed_while_in_use() {
    let compressor = MessageCompressor::new(0, Level::Fast);
    let text = summary(3, 20_000);
    let fast = compressor.compress(&text).unwrap();
    compressor.set_level(Level::Best);
    assert_eq!(compressor.level(), Level::Best);
    let best = compressor.compress(&text).unwrap();
    assert!(best.len() < fast.len());
    // The reused encoder does what a fresh one does.
    assert_eq!(
        MessageCompressor::new(0, Level::Best).compress(&text),
        Some(best)
    );
}

#[test]
fn many_threads_share_one_compressor() {
    let compressor = Arc::new(MessageCompressor::default());
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let compressor = Arc::clone(&compressor);
            thread::spawn(move || {
                for round in 0..20 {
                    let text = summary(thread * 1000 + round, 3000);
                    let envelope = compressor.compress(&text).unwrap();
                    assert_eq!(open_envelope(&envelope, 10_000), Ok(Some(text)));
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(compressor.stats().compressed, 320);
}

#[test]
fn every_truncation_of_an_envelope_is_no_message() {
    let envelope = MessageCompressor::default()
        .compress(&summary(5, 2000))
        .unwrap();
    for end in 0..envelope.len() {
        let begins = end > r#"{"compressed":tru"#.len();
        match open_envelope(&envelope[..end], 1 << 20) {
            Err(EnvelopeError::Malformed) => assert!(begins),
            Ok(None) => assert!(!begins),
            other => panic!("cut at {end}: {other:?}"),
        }
    }
}

#[test]
fn every_truncation_of_the_compressed_data_is_an_error() {
    let text = summary(6, 1500);
    let gzipped = gzip(text.as_bytes());
    for end in 0..gzipped.len() {
        let cut = envelope(text.len() as u64, &gzipped[..end]);
        assert!(
            matches!(
                open_envelope(&cut, 1 << 20),
                Err(EnvelopeError::Gzip(DecompressError::Truncated))
            ),
            "cut at {end}"
        );
    }
}

#[test]
fn a_bomb_is_refused_at_its_declared_size() {
    let bomb = gzip(&vec![b'a'; 16 << 20]);
    assert!(bomb.len() < 200_000);
    let honest = envelope(16 << 20, &bomb);
    assert_eq!(
        open_envelope(&honest, 1 << 20),
        Err(EnvelopeError::TooLarge {
            limit_bytes: 1 << 20
        })
    );
    let lying = envelope(100, &bomb);
    assert_eq!(
        open_envelope(&lying, 1 << 20),
        Err(EnvelopeError::SizeMismatch)
    );
    let huge = envelope(u64::MAX, &bomb);
    assert_eq!(
        open_envelope(&huge, usize::MAX >> 1),
        Err(EnvelopeError::TooLarge {
            limit_bytes: usize::MAX >> 1
        })
    );
}

#[test]
fn the_size_must_be_right_and_the_text_utf8() {
    let gzipped = gzip(b"hello");
    assert_eq!(
        open_envelope(&envelope(5, &gzipped), 5),
        Ok(Some("hello".into()))
    );
    assert_eq!(
        open_envelope(&envelope(5, &gzipped), 4),
        Err(EnvelopeError::TooLarge { limit_bytes: 4 })
    );
    assert_eq!(
        open_envelope(&envelope(6, &gzipped), 100),
        Err(EnvelopeError::SizeMismatch)
    );
    assert_eq!(
        open_envelope(&envelope(4, &gzipped), 100),
        Err(EnvelopeError::SizeMismatch)
    );
    assert_eq!(
        open_envelope(&envelope(2, &gzip(b"\xff\xfe")), 100),
        Err(EnvelopeError::NotUtf8)
    );
    assert_eq!(
        open_envelope(&envelope(0, &gzip(b"")), 100),
        Ok(Some(String::new()))
    );
}

#[test]
fn texts_that_are_not_envelopes_are_left_to_the_caller() {
    let data = STANDARD.encode(gzip(b"hello"));
    for text in [
        "",
        "keep-alive",
        "{}",
        "null",
        r#"["compressed"]"#,
        r#"{"compressed": true}"#,
        r#"{"compressed": true, "file": "backup.zip"}"#,
        r#"{"compressed": "yes", "encoding": "gzip", "original_size": 5, "data": "x"}"#,
        r#"{"compressed": true, "encoding": "gzip", "original_size": -5, "data": "x"}"#,
        &format!(
            r#"{{"compressed": false, "encoding": "gzip", "original_size": 5, "data": "{data}"}}"#
        ),
        &format!(
            r#"{{"compressed": true, "encoding": "gzip", "original_size": 5, "data": "{data}", "x": 1}}"#
        ),
        &format!(
            r#"{{"data": {{"compressed": true, "encoding": "gzip", "original_size": 5, "data": "{data}"}}}}"#
        ),
        r#"not json, but "compressed""#,
        r#"{"message": "is it "compressed"?"#,
        // An array with the members in their order, and a name with an escape in it.
        r#"[true, "gzip", 5, "compressed"]"#,
        &format!(
            r#"{{"\u0063ompressed": true, "encoding": "gzip", "original_size": 5, "data": "{data}"}}"#
        ),
    ] {
        assert_eq!(open_envelope(text, 1000), Ok(None), "{text}");
    }
}

#[test]
fn envelopes_of_other_makers_are_opened() {
    // Other order, white space, escaped slashes as some JSON writers have them, and bytes from Python's gzip module.
    let data = "H4sIAAAAAAACA8tIzcnJBwCGphA2BQAAAA==";
    for text in [
        format!(r#"{{"data":"{data}","original_size":5,"encoding":"gzip","compressed":true}}"#),
        format!(
            "\n {{ \"compressed\" : true , \"encoding\":\"gzip\",\n\"original_size\":5,\"data\":\"{data}\" }}\n"
        ),
        format!(
            r#"{{"compressed":true,"encoding":"gzip","original_size":5,"data":"{}"}}"#,
            data.replace('A', "\\u0041")
        ),
    ] {
        assert_eq!(
            open_envelope(&text, 1000),
            Ok(Some("hello".into())),
            "{text}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    let with = |encoding: &str, data: &str| {
        let text = format!(
            r#"{{"compressed":true,"encoding":"{encoding}","original_size":5,"data":"{data}"}}"#
        );
        open_envelope(&text, 1000)
    };
    assert_eq!(
        with("br", "aGVsbG8="),
        Err(EnvelopeError::UnsupportedEncoding)
    );
    assert_eq!(with("gzip", "!!!"), Err(EnvelopeError::Base64));
    assert_eq!(with("gzip", "aGVsbG8"), Err(EnvelopeError::Base64)); // no padding
    assert_eq!(
        with("gzip", "aGVsbG8="),
        Err(EnvelopeError::Gzip(DecompressError::Corrupt))
    );
    assert_eq!(
        with("gzip", ""),
        Err(EnvelopeError::Gzip(DecompressError::Truncated))
    );
}
