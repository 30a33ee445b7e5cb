//! Distributions for each shape beside its floor: `cargo bench -p sse-protocol --bench codec`.
//!
//! For the ratio to the floor alone, quicker and on a busy machine steadier, see the `ratios` benchmark.

mod shapes;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shapes::{Answer, Shape, floor, shapes};
use sse_protocol::{Decoder, EventRef, Frame, LineDecoder, encoder};

criterion_group!(codec, decode, encode);
criterion_main!(codec);

fn decode(criterion: &mut Criterion) {
    for shape in shapes() {
        let mut group = criterion.benchmark_group(shape.name);
        group.throughput(Throughput::Bytes(shape.stream.len() as u64));
        group.bench_function("floor", |bencher| bencher.iter(|| floor(&shape)));
        group.bench_function("lent", |bencher| {
            bencher.iter(|| {
                let answer = lent(&shape);
                assert_eq!(answer, shape.expected);
            });
        });
        group.bench_function("owned", |bencher| {
            bencher.iter(|| {
                let answer = owned(&shape);
                assert_eq!(answer, shape.expected);
            });
        });
        group.bench_function("raw_lines", |bencher| bencher.iter(|| raw_lines(&shape)));
        group.finish();
    }
}

fn lent(shape: &Shape) -> Answer {
    let mut decoder = Decoder::new();
    let mut answer = Answer::default();
    for chunk in shape.stream.chunks(shape.chunk_bytes) {
        let mut feed = decoder.feed(black_box(chunk));
        while let Some(event) = feed.next_event() {
            answer.count(event.data());
        }
    }
    answer
}

fn owned(shape: &Shape) -> Answer {
    let mut decoder = Decoder::new();
    let mut answer = Answer::default();
    for chunk in shape.stream.chunks(shape.chunk_bytes) {
        for event in decoder.feed(black_box(chunk)).owned() {
            answer.count(black_box(event).data());
        }
    }
    answer
}

fn raw_lines(shape: &Shape) -> usize {
    let mut decoder = LineDecoder::new();
    let mut bytes = 0;
    for chunk in shape.stream.chunks(shape.chunk_bytes) {
        let mut lines = decoder.feed(black_box(chunk));
        while let Some(line) = lines.next() {
            bytes += line.expect("within the limit").len();
        }
    }
    bytes
}

fn encode(criterion: &mut Criterion) {
    let token =
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\" the\"},\"finish_reason\":null}]}"
            .repeat(3);
    let lines = "    \"a_field_of_a_record\": \"and its value\",\n".repeat(100);
    for (name, data) in [("encode_token_event", &token), ("encode_100_lines", &lines)] {
        let event = EventRef::new(data);
        let frame = Frame::event(event);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(frame.as_bytes().len() as u64));
        let mut out = Vec::with_capacity(2 * frame.as_bytes().len());
        group.bench_function(BenchmarkId::from_parameter("floor"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&mut out).extend_from_slice(black_box(frame.as_bytes()));
            });
        });
        group.bench_function("reused_buffer", |bencher| {
            bencher.iter(|| {
                out.clear();
                encoder::event(EventRef::new(black_box(data)), black_box(&mut out));
            });
        });
        assert_eq!(out, frame.as_bytes());
        group.bench_function("frame", |bencher| {
            bencher.iter(|| Frame::event(EventRef::new(black_box(data))))
        });
        group.finish();
    }
}
