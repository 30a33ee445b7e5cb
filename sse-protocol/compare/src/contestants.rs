//! The decoder and the public Rust parsers, each as one function over a shape, and how they are measured together.

#[path = "../../benches/shapes/mod.rs"]
pub(crate) mod shapes;

use std::convert::Infallible;
use std::hint::black_box;
use std::num::NonZeroUsize;

use bytes::Bytes;
use eventsource_client::{Client as _, ClientBuilder, SSE};
use eventsource_stream::Eventsource as _;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use launchdarkly_sdk_transport::{ByteStream, HttpTransport, Request, ResponseFuture};
use sse_core::{SseDecoder, SseEvent};

pub(crate) use shapes::{Answer, Shape, floor, shapes};

/// A parser by name: reads a whole shape, and says what it saw.
pub(crate) type Contestant = (&'static str, fn(&'static Shape) -> Answer);

/// Ours first.
pub(crate) const CONTESTANTS: [Contestant; 6] = [
    ("ours, lent", ours_lent),
    ("ours, owned", ours_owned),
    ("sse-core", sse_core),
    ("sse-stream", sse_stream),
    ("eventsource-stream", eventsource_stream),
    ("eventsource-client", eventsource_client),
];

/// Whether a contestant cannot take part in a shape.
pub(crate) fn is_left_out(name: &str, shape: &Shape) -> bool {
    // It searches all it holds again for each chunk, so that a round would take minutes; and it panics at a byte order
    // mark.
    name == "eventsource-stream"
        && matches!(shape.name, "line_64k_16_byte_chunks" | "byte_order_mark")
}

/// Our decoder, lending its events.
pub(crate) fn ours_lent(shape: &'static Shape) -> Answer {
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

/// Our decoder, keeping its events.
pub(crate) fn ours_owned(shape: &'static Shape) -> Answer {
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
    let limit = NonZeroUsize::new(sse_protocol::Limits::DEFAULT_MAX_EVENT_BYTES);
    let mut decoder = SseDecoder::with_limit(limit.expect("not zero"));
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
