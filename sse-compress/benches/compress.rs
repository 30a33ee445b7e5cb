//! What compression costs, with a copy of the same bytes as the floor. Each benchmark checks its answer first.
//!
//! `cargo bench -p sse-compress`

use std::{hint::black_box, iter};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sse_compress::{
    BlockForm, Coding, CohortEncoder, CohortReader, Decompressor, Level, Limits, MessageCompressor,
    open_envelope,
};

#[path = "../tests/it/payload.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod payload;

fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    for kib in [1, 8, 64] {
        let text = payload::job_list(7, kib * 1024 + 100);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("floor_copy", format!("{kib}k")), |b| {
            b.iter(|| black_box(text.as_str()).to_owned());
        });
        for level in Level::ALL {
            let compressor = MessageCompressor::new(1024, level);
            let envelope = compressor.compress(&text).expect("a gain");
            assert_eq!(
                open_envelope(&envelope, text.len()).expect("valid"),
                Some(text.clone())
            );
            group.bench_function(
                BenchmarkId::new(format!("compress_{level}"), format!("{kib}k")),
                |b| {
                    b.iter(|| compressor.compress(black_box(&text)));
                },
            );
        }
        let envelope = MessageCompressor::default()
            .compress(&text)
            .expect("a gain");
        group.bench_function(BenchmarkId::new("open", format!("{kib}k")), |b| {
            b.iter(|| open_envelope(black_box(&envelope), 1 << 20));
        });
    }
    let small = payload::event(1);
    let compressor = MessageCompressor::default();
    assert_eq!(compressor.compress(&small), None);
    group.throughput(Throughput::Elements(1));
    group.bench_function("left_alone", |b| {
        b.iter(|| compressor.compress(black_box(&small)))
    });
    assert_eq!(open_envelope(&small, 1 << 20), Ok(None));
    group.bench_function("not_an_envelope", |b| {
        b.iter(|| open_envelope(black_box(&small), 1 << 20))
    });
    group.finish();
}

/// Events of about 130 bytes, one flush each.
fn streams(c: &mut Criterion) {
    let events: Vec<Bytes> = (0..512).map(|n| payload::event(n).into()).collect();
    let bytes: usize = events.iter().map(Bytes::len).sum();
    let mut group = c.benchmark_group("stream_512_events");
    group.throughput(Throughput::Elements(events.len() as u64));

    group.bench_function("floor_copy", |b| {
        let mut out = Vec::with_capacity(bytes);
        b.iter(|| {
            out.clear();
            events
                .iter()
                .for_each(|event| out.extend_from_slice(black_box(event)));
        });
    });
    for level in Level::ALL {
        group.bench_function(format!("encode_{level}"), |b| {
            let mut encoder = CohortEncoder::new(level);
            b.iter(|| {
                events
                    .iter()
                    .map(|event| black_box(encoder.encode(event.clone())).plain().len())
                    .sum::<usize>()
            });
        });
    }

    let mut encoder = CohortEncoder::new(Level::Fast);
    let mut compressed = encoder.join().head().to_vec();
    for event in &events {
        let block = encoder.encode(event.clone());
        compressed.extend_from_slice(block.bytes(BlockForm::Compressed));
    }
    group.bench_function("decode", |b| {
        let mut out = Vec::with_capacity(bytes);
        b.iter(|| {
            out.clear();
            let mut decoder = Decompressor::new(
                Coding::Gzip,
                Limits {
                    step_bytes: usize::MAX,
                    ..Limits::default()
                },
            );
            let step = decoder
                .step(black_box(&compressed), &mut out)
                .expect("valid");
            assert!(step.drained && out.len() == bytes);
        });
    });
    group.finish();
}

/// What one reader gets alone: an event, and a page of a replay. The floor is a copy and a checksum.
fn own_bytes(c: &mut Criterion) {
    let mut group = c.benchmark_group("own_bytes");
    let event = payload::event(1).into_bytes();
    let page = payload::job_list(1, 128 * 1024).into_bytes();
    for (name, plain) in [("event", event), ("page", page)] {
        let mut out = Vec::with_capacity(2 * plain.len());
        group.throughput(Throughput::Bytes(plain.len() as u64));
        group.bench_function(BenchmarkId::new("floor_copy_and_checksum", name), |b| {
            b.iter(|| {
                out.clear();
                out.extend_from_slice(black_box(&plain));
                let mut crc = flate2::Crc::new();
                crc.update(&plain);
                black_box(crc.sum())
            });
        });
        let mut reader = CohortReader::new();
        group.bench_function(BenchmarkId::new("take_own", name), |b| {
            b.iter(|| {
                out.clear();
                reader.take_own(black_box(&plain), &mut out);
                assert!(out.len() > plain.len());
            });
        });
    }
    group.finish();
}

/// One event for 1000 readers: the shared encoder against one encoder for each. The floor is what identity
/// costs here, a clone of the same bytes for each reader; beside it an encoder that nobody shares.
fn fan_out(c: &mut Criterion) {
    const READERS: usize = 1000;
    let event: Bytes = payload::event(1).into();
    let mut group = c.benchmark_group("one_event_1000_readers");
    group.throughput(Throughput::Elements(READERS as u64));

    let mut cohort = CohortEncoder::new(Level::Fast);
    let mut readers: Vec<CohortReader> =
        iter::repeat_with(|| cohort.join()).take(READERS).collect();
    group.bench_function("cohort", |b| {
        b.iter(|| {
            let block = cohort.encode(event.clone());
            let packed = readers
                .iter_mut()
                .map(|reader| reader.take(&block))
                .filter(|&form| form == BlockForm::Compressed)
                .count();
            assert_eq!(packed, READERS);
            black_box(block.bytes(BlockForm::Compressed).len())
        });
    });

    group.bench_function("floor_clone", |b| {
        let mut out = Vec::with_capacity(READERS);
        b.iter(|| {
            out.clear();
            out.extend(iter::repeat_with(|| black_box(&event).clone()).take(READERS));
            assert_eq!(out.len(), READERS);
        });
    });
    let mut alone = CohortEncoder::new(Level::Fast);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one_encoder_alone", |b| {
        b.iter(|| {
            let block = alone.encode(black_box(&event).clone());
            assert!(!block.bytes(BlockForm::Compressed).is_empty());
        });
    });

    // A hundred encoders hold 33 MB already; the cost of a thousand is ten times theirs.
    let mut encoders: Vec<_> = iter::repeat_with(|| CohortEncoder::new(Level::Fast))
        .take(READERS / 10)
        .collect();
    group.throughput(Throughput::Elements(READERS as u64 / 10));
    group.bench_function("one_encoder_each_for_100", |b| {
        b.iter(|| {
            for encoder in &mut encoders {
                black_box(encoder.encode(event.clone()));
            }
        });
    });
    group.finish();
}

/// One cohort's encoder, for tokens of a model (200 bytes) and progress of a job (130 bytes).
fn cohort(c: &mut Criterion) {
    type Payload = fn(u64) -> String;
    let mut group = c.benchmark_group("cohort_1000_events");
    for (name, payload) in [
        ("token", payload::token as Payload),
        ("progress", payload::event),
    ] {
        let events: Vec<Bytes> = (0..1000).map(|n| payload(n).into()).collect();
        group.throughput(Throughput::Elements(1000));
        let mut encoder = CohortEncoder::new(Level::Fast);
        let encode = |event: &Bytes| {
            encoder
                .encode(event.clone())
                .bytes(BlockForm::Compressed)
                .len()
        };
        let gzip: usize = events.iter().map(encode).sum();
        group.bench_function(name, |b| {
            b.iter(|| {
                events
                    .iter()
                    .map(|event| black_box(encoder.encode(event.clone())).plain().len())
                    .sum::<usize>()
            });
        });
        let plain: usize = events.iter().map(Bytes::len).sum();
        println!(
            "{name}: {} bytes an event, {} in gzip",
            plain / 1000,
            gzip / 1000
        );
    }
    group.finish();
}

criterion_group!(benches, messages, streams, own_bytes, fan_out, cohort);
criterion_main!(benches);
