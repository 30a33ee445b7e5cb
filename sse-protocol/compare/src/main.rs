//! The decoder beside the public Rust parsers, in one run: `cargo run --release` in this folder.
//!
//! All take turns over the same streams cut the same way, and the fastest round of each counts. Every answer is
//! checked. The ratio is to the floor of `benches/shapes`: what no decoder can leave out.

#[path = "../../benches/shapes/mod.rs"]
mod shapes;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eventsource_client::{Client as _, ClientBuilder, SSE};
use eventsource_stream::Eventsource as _;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use launchdarkly_sdk_transport::{ByteStream, HttpTransport, Request, ResponseFuture};
use shapes::{Answer, Shape, floor, shapes};
use sse_core::{SseDecoder, SseEvent};

type Contestant = (&'static str, fn(&'static Shape) -> Answer);

const CONTESTANTS: [Contestant; 6] = [
    ("ours, lent", ours_lent),
    ("ours, owned", ours_owned),
    ("sse-core", sse_core),
    ("sse-stream", sse_stream),
    ("eventsource-stream", eventsource_stream),
    ("eventsource-client", eventsource_client),
];

/// How long each shape is measured, at least.
const SHAPE_TIME: Duration = Duration::from_secs(4);
const MIN_ROUNDS: usize = 3;

fn main() {
    println!("Ratio to the floor, fastest of interleaved rounds; in brackets GB/s.\n");
    print!("| shape | floor |");
    CONTESTANTS.iter().for_each(|(name, _)| print!(" {name} |"));
    print!("\n|---|---|");
    CONTESTANTS.iter().for_each(|_| print!("---|"));
    println!();
    for shape in shapes() {
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
        for (best, (name, run)) in best.iter_mut().zip(CONTESTANTS) {
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
        print!(
            " {:.3} ({:.2}) |",
            best_floor.as_secs_f64() / time.as_secs_f64(),
            speed(time)
        );
    }
    println!();
}

fn ours_lent(shape: &'static Shape) -> Answer {
    let mut decoder = sse_protocol::Decoder::new();
    let mut answer = Answer::default();
    for chunk in shape.stream.chunks(shape.chunk_bytes) {
        let mut feed = decoder.feed(black_box(chunk));
        while let Some(event) = feed.next_event() {
            answer.count(black_box(event).data());
        }
    }
    answer
}

fn ours_owned(shape: &'static Shape) -> Answer {
    let mut decoder = sse_protocol::Decoder::new();
    let mut answer = Answer::default();
    for chunk in shape.stream.chunks(shape.chunk_bytes) {
        for event in decoder.feed(black_box(chunk)).owned() {
            answer.count(black_box(event).data());
        }
    }
    answer
}

fn sse_core(shape: &'static Shape) -> Answer {
    let mut decoder = SseDecoder::new();
    let mut answer = Answer::default();
    for mut chunk in shape.stream.chunks(shape.chunk_bytes) {
        while let Some(event) = decoder.next(black_box(&mut chunk)) {
            if let Ok(SseEvent::Message(message)) = event {
                answer.count(&black_box(message).data);
            }
        }
    }
    answer
}

fn chunks(shape: &'static Shape) -> impl Iterator<Item = Result<&'static [u8], Infallible>> {
    shape
        .stream
        .chunks(shape.chunk_bytes)
        .map(|chunk| Ok(black_box(chunk)))
}

/// Reads a stream that never waits to its end.
fn drain<T>(stream: impl Stream<Item = T>, mut each: impl FnMut(T)) {
    let mut stream = std::pin::pin!(stream);
    while let Some(item) = stream
        .next()
        .now_or_never()
        .expect("the stream is always ready")
    {
        each(item);
    }
}

fn sse_stream(shape: &'static Shape) -> Answer {
    let mut answer = Answer::default();
    drain(
        sse_stream::SseByteStream::new(stream::iter(chunks(shape))),
        |event| {
            let event = black_box(event).expect("a good stream");
            answer.count(event.data.as_deref().unwrap_or_default());
        },
    );
    answer
}

fn eventsource_stream(shape: &'static Shape) -> Answer {
    let mut answer = Answer::default();
    drain(stream::iter(chunks(shape)).eventsource(), |event| {
        answer.count(&black_box(event).expect("a good stream").data);
    });
    answer
}

/// Its parser is private, so it is reached through the client, over a transport that has all bytes ready.
fn eventsource_client(shape: &'static Shape) -> Answer {
    #[derive(Clone)]
    struct Ready(&'static Shape);

    impl HttpTransport for Ready {
        fn request(&self, _: Request<Option<Bytes>>) -> ResponseFuture {
            let chunks = self.0.stream.chunks(self.0.chunk_bytes);
            let body: ByteStream = Box::pin(stream::iter(
                chunks.map(|chunk| Ok(Bytes::from_static(black_box(chunk)))),
            ));
            Box::pin(std::future::ready(Ok(
                launchdarkly_sdk_transport::Response::new(body),
            )))
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = ClientBuilder::for_url("http://localhost/")
            .expect("a good address")
            .build_with_transport(Ready(shape));
        let mut events = client.stream();
        let mut answer = Answer::default();
        while answer.events < shape.expected.events {
            match events
                .next()
                .await
                .expect("not at the end yet")
                .expect("a good stream")
            {
                SSE::Event(event) => answer.count(&black_box(event).data),
                SSE::Connected(_) | SSE::Comment(_) => {}
            }
        }
        answer
    })
}
