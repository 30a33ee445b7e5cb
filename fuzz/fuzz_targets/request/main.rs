//! Whole requests to one hub, one after another: each is answered as the contract says, in bounded time, and what it makes the
//! hub hold is a few times its own size.

#![no_main]

mod bounds;
mod input;
mod routes;

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sse_broker::{MemoryBroker, MemoryConfig, Retention};
use sse_server::http::{Body, HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use bounds::{Stored, Taken};
use input::{Asked, Input, Known, Rendered};
use routes::Kind;

fuzz_target!(|input: Input<'_>| {
    let info = measure(|| {
        let mut visit = Visit::new(input.is_open);
        for asked in input.requests.iter().take(MAX_REQUESTS) {
            visit.ask(asked);
        }
    });
    // Everything is given back with the hub, but what the process makes once.
    let left = info.bytes_current;
    assert!(
        left <= ONCE_BYTES,
        "{left} bytes are left of a hub that is gone"
    );
});

/// A hub, and what its clients have done so far.
struct Visit {
    // The streams are gone before the hub and the runtime.
    streams: Vec<Pin<Box<Body>>>,
    connections: Vec<String>,
    service: HubService,
    runtime: Runtime,
    stored: Stored,
}

impl Visit {
    fn new(is_open: bool) -> Self {
        // Whoever waits is waited for no longer than it takes to say so: the clock goes to the next timer at once.
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let broker = MemoryBroker::new(MemoryConfig {
            retention: Retention {
                max_records: Some(256),
                max_bytes: Some(256 << 10),
                ..Retention::default()
            },
            ..MemoryConfig::default()
        });
        let config = HubConfig {
            max_connections_per_ip: 4,
            max_event_bytes: 64 << 10,
            max_jobs: 4,
            max_named_subscriptions: 4,
            // The hub reads the real clock, and would wait for it to follow the other one.
            heartbeat: None,
            window_bytes: 128 << 10,
            window_events: 128,
            stream_compression_bytes: 2 << 20,
            shards: 1,
            ..HubConfig::default()
        };
        let hub = runtime.block_on(async {
            // What the first timer takes is no request's.
            timeout(LONGEST, tokio::task::yield_now())
                .await
                .expect("time");
            Hub::open(config, broker).await.expect("a hub")
        });
        let (host, origin) = match is_open {
            true => ("*", "*"),
            false => ("hub.example:8443", "https://app.example"),
        };
        let http = HttpConfig {
            max_body_bytes: 256 << 10,
            allowed_hosts: vec![host.parse().expect("a host")],
            allowed_origins: vec![origin.parse().expect("an origin")],
            ..HttpConfig::default()
        };
        Self {
            streams: Vec::new(),
            connections: Vec::new(),
            service: HubService::new(hub, http),
            runtime,
            stored: Stored::default(),
        }
    }

    fn ask(&mut self, asked: &Asked<'_>) {
        let head = self.service.hub().head();
        let known = Known {
            epoch_and_head: (head.epoch, head.offset),
            connections: self.connections.clone(),
        };
        let Some(rendered) = asked.render(&known) else {
            return;
        };
        let address: IpAddr = match asked.is_other_client {
            true => [192, 0, 2, 7].into(),
            false => [127, 0, 0, 1].into(),
        };
        let mut answer = None;
        let asking = measure(|| {
            answer = Some(self.answer(&rendered, address));
        });
        let mut answer = answer.expect("an answer");
        answer.check(&rendered);
        let status = answer.status;
        let is_compressed = answer.headers.contains_key(header::CONTENT_ENCODING);
        let mut stream = answer.stream.take();
        let dropping = measure(|| {
            drop(answer);
            if !asked.is_held {
                stream = None;
            }
        });
        let taken = Taken {
            kind: rendered.kind,
            status: status.as_u16(),
            bytes: rendered.bytes,
            objects: rendered.objects,
            values: rendered.values,
            is_compressed,
            peak: usize::try_from(asking.bytes_max).unwrap_or(usize::MAX),
            kept: usize::try_from(asking.bytes_current + dropping.bytes_current).unwrap_or(0),
        };
        taken.check(&self.stored);
        if status.is_success() {
            self.stored.bytes += taken.bytes;
            self.stored.objects += taken.objects;
        }
        if let Some(stream) = stream {
            self.connections
                .extend(stream.connection_id().map(|id| id.to_string()));
            self.streams.push(stream);
            self.stored.streams += 1;
        }
        // The streams that are open get what has happened.
        let (runtime, streams) = (&self.runtime, &mut self.streams);
        runtime.block_on(async {
            for stream in streams {
                read(stream.as_mut()).await;
            }
        });
    }

    /// Sends a request and takes the answer.
    fn answer(&self, rendered: &Rendered, address: IpAddr) -> Answer {
        self.runtime.block_on(async {
            let answered = self.service.handle(rendered.request.clone(), address);
            let response = timeout(LONGEST, answered).await.expect("an answer in time");
            let (head, body) = response.into_parts();
            let mut answer = Answer {
                status: head.status,
                headers: head.headers,
                body: Vec::new(),
                stream: None,
            };
            let mut body = Box::pin(body);
            if body.connection_id().is_some() {
                read(body.as_mut()).await;
                answer.stream = Some(body);
            } else {
                answer.body = read(body.as_mut()).await;
            }
            answer
        })
    }
}

/// An answer as its client has it.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<Bytes>,
    stream: Option<Pin<Box<Body>>>,
}

impl Answer {
    fn check(&self, rendered: &Rendered) {
        let status = self.status.as_u16();
        assert!(
            STATUSES.contains(&status),
            "{status} for {:?}",
            rendered.request.uri()
        );
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        let content_type = self.header("content-type");
        let body = self.body.concat();
        if status >= 400 {
            assert_eq!(content_type, "application/problem+json");
            self.check_problem(&body);
            return;
        }
        if status == 204 {
            assert!(body.is_empty() && content_type.is_empty());
            return;
        }
        let expected = match rendered.kind {
            Kind::Text => "text/plain; charset=utf-8",
            Kind::Stream => "text/event-stream",
            Kind::Figures if content_type.starts_with("application/openmetrics-text") => return,
            _ => "application/json",
        };
        assert_eq!(content_type, expected, "{:?}", rendered.request.uri());
        if expected == "application/json" {
            serde_json::from_slice::<Value>(&body).expect("JSON");
        }
    }

    fn check_problem(&self, body: &[u8]) {
        let problem: Value = serde_json::from_slice(body).expect("a problem");
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["title"].as_str().is_some_and(|it| !it.is_empty()));
        assert!(problem["detail"].as_str().is_some_and(|it| !it.is_empty()));
        assert_eq!(problem["detail"], problem["error"]);
        assert_eq!(self.status == 405, self.headers.contains_key("allow"));
        assert_eq!(self.status == 503, self.headers.contains_key("retry-after"));
    }

    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }
}

/// What a body has now, or a few chunks of it. A stream that has nothing gets the chance to find something.
async fn read(mut body: Pin<&mut Body>) -> Vec<Bytes> {
    let is_stream = body.connection_id().is_some();
    let mut chunks = Vec::new();
    let mut waits = 0;
    for _ in 0..MAX_CHUNKS {
        let chunk = poll_fn(|cx| {
            Poll::Ready(match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => Some(frame),
                Poll::Pending => None,
            })
        });
        match chunk.await {
            Some(Some(Ok(frame))) if is_stream => drop(frame),
            Some(Some(Ok(frame))) => chunks.extend(frame.into_data().ok()),
            Some(_) => break,
            None if waits == MAX_WAITS => break,
            None => {
                waits += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    chunks
}

const MAX_REQUESTS: usize = 8;
/// Longer than any request may take: the longest poll waits 55 seconds.
const LONGEST: Duration = Duration::from_secs(90);
const MAX_CHUNKS: usize = 8;
const MAX_WAITS: usize = 3;
const ONCE_BYTES: i64 = 4096;
/// Those of the contract.
const STATUSES: [u16; 17] = [
    200, 201, 204, 400, 403, 404, 405, 406, 408, 409, 413, 414, 415, 421, 426, 503, 507,
];
