//! The decoder beside the public Rust parsers, with distributions: `cargo bench` in this folder.
//!
//! For the ratios alone, quicker and on a busy machine steadier, see `src/main.rs`.

#[path = "../src/contestants.rs"]
mod contestants;

use std::time::Duration;

use contestants::{CONTESTANTS, floor, is_left_out, shapes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

criterion_group!(benches, parsers);
criterion_main!(benches);

fn parsers(criterion: &mut Criterion) {
    for shape in shapes() {
        let shape = &*Box::leak(Box::new(shape));
        let mut group = criterion.benchmark_group(shape.name);
        group
            .throughput(Throughput::Bytes(shape.stream.len() as u64))
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2))
            .sample_size(20);
        group.bench_function("floor", |bencher| bencher.iter(|| floor(shape)));
        for (name, run) in CONTESTANTS {
            // For the first, one round of this shape takes minutes.
            if (name == "eventsource-stream" && shape.name == "one_huge_line_1_byte_chunks")
                || is_left_out(name, shape)
            {
                continue;
            }
            group.bench_function(name, |bencher| {
                bencher.iter(|| assert_eq!(run(shape), shape.expected));
            });
        }
        group.finish();
    }
}
