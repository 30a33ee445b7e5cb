//! The decoder beside the public Rust parsers, in one run: `cargo run --release` in this folder.
//!
//! All take turns over the same streams cut the same way, and the fastest round of each counts. Every answer is
//! checked. With `--siblings` the streams are those of `siblings.rs`. The ratio is to the floor of `benches/shapes`: what no decoder can leave out. `js/` runs the JavaScript parsers on
//! the same streams.

mod contestants;
mod siblings;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use contestants::{Answer, CONTESTANTS, Shape, floor, is_left_out, ours_lent, ours_owned, shapes};
use siblings::siblings;

/// How long each shape is measured, at least.
const SHAPE_TIME: Duration = Duration::from_secs(4);
const MIN_ROUNDS: usize = 3;

/// A contestant that is so many times slower than the fastest takes part in the first rounds only, and leaves the time
/// to the others.
const HOPELESS: u32 = 15;

/// How long each shape is measured for the JavaScript comparison, for each way of reading.
const WRITTEN_TIME: Duration = Duration::from_millis(500);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => table(shapes()),
        ["--siblings"] => table(siblings()),
        ["--shapes", dir] => write_shapes(Path::new(dir)).expect("the folder can be written"),
        _ => {
            eprintln!("usage: sse-protocol-compare [--siblings | --shapes DIR]");
            std::process::exit(2);
        }
    }
}

/// Writes the streams to files for parsers in other languages, with how they are cut, what must come out, and how fast
/// ours is now.
fn write_shapes(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut entries = Vec::new();
    for shape in shapes() {
        let shape: &'static Shape = Box::leak(Box::new(shape));
        std::fs::write(dir.join(format!("{}.sse", shape.name)), &shape.stream)?;
        let mut decoder = sse_protocol::Decoder::new();
        let data_utf16: usize = decoder
            .feed(&shape.stream)
            .owned()
            .map(|event| event.data().encode_utf16().count())
            .sum();
        entries.push(format!(
            "  {{\"name\": \"{}\", \"chunk_bytes\": {}, \"events\": {}, \"data_utf16\": {data_utf16}, \
             \"ours_lent_mb_s\": {:.1}, \"ours_owned_mb_s\": {:.1}}}",
            shape.name,
            shape.chunk_bytes,
            shape.expected.events,
            megabytes_per_second(shape, ours_lent),
            megabytes_per_second(shape, ours_owned),
        ));
    }
    std::fs::write(
        dir.join("shapes.json"),
        format!("[\n{}\n]\n", entries.join(",\n")),
    )
}

/// The fastest of many rounds.
fn megabytes_per_second(shape: &'static Shape, run: fn(&'static Shape) -> Answer) -> f64 {
    let mut best = Duration::MAX;
    let begin = Instant::now();
    while begin.elapsed() < WRITTEN_TIME {
        let start = Instant::now();
        let answer = run(shape);
        best = best.min(start.elapsed());
        assert_eq!(answer, shape.expected, "{}", shape.name);
    }
    shape.stream.len() as f64 / best.as_secs_f64() / 1e6
}

fn table(shapes: Vec<Shape>) {
    println!("Ratio to the floor, fastest of interleaved rounds; in brackets GB/s.\n");
    print!("| shape | floor |");
    CONTESTANTS.iter().for_each(|(name, _)| print!(" {name} |"));
    print!("\n|---|---|");
    CONTESTANTS.iter().for_each(|_| print!("---|"));
    println!();
    for shape in shapes {
        row(Box::leak(Box::new(shape)));
    }
}

fn row(shape: &'static Shape) {
    let mut best_floor = Duration::MAX;
    let mut best = [Duration::MAX; CONTESTANTS.len()];
    let begin = Instant::now();
    let mut rounds = 0;
    while rounds < MIN_ROUNDS || begin.elapsed() < SHAPE_TIME {
        let start = Instant::now();
        black_box(floor(shape));
        best_floor = best_floor.min(start.elapsed());
        let fastest = *best.iter().min().expect("there are contestants");
        for (best, (name, run)) in best.iter_mut().zip(CONTESTANTS) {
            let is_hopeless = rounds >= MIN_ROUNDS && *best > HOPELESS * fastest;
            if is_hopeless || is_left_out(name, shape) {
                continue;
            }
            let start = Instant::now();
            let answer = run(shape);
            *best = (*best).min(start.elapsed());
            assert_eq!(answer, shape.expected, "{name} on {}", shape.name);
        }
        rounds += 1;
    }
    let speed = |time: Duration| shape.stream.len() as f64 / time.as_secs_f64() / 1e9;
    print!("| {} | 1 ({:.2}) |", shape.name, speed(best_floor));
    for time in best {
        if time == Duration::MAX {
            print!(" - |");
            continue;
        }
        print!(
            " {:.3} ({:.2}) |",
            best_floor.as_secs_f64() / time.as_secs_f64(),
            speed(time)
        );
    }
    println!();
}
