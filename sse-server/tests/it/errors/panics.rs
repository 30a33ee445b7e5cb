//! A handler that panics: its request is told so, it is counted, and the connection's other requests go on.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use sse_broker::{
    AppendError, Appended, Bounds, BoxFuture, Broker, Durability, MemoryBroker, MemoryConfig,
    NewRecord, Offset, Page, Position, ReadError, ReadRequest, Tail, Topic, Trimmed, UnixMillis,
};
use sse_protocol::EventId;
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};
use sse_server::serve::{ServerConfig, StreamWriter};

use super::LOCALHOST;
use crate::client::{Stream, Wire};
use crate::secure::{Secure, ask, body_until};
use crate::writers::serve;

/// A log that panics when it is asked for this id.
struct Faulty(Arc<MemoryBroker>);

const FAULT: &str = "the-faulty-one";

impl Broker for Faulty {
    fn append(
        &self,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        self.0.append(records)
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.0.read(request)
    }

    fn locate(&self, id: EventId) -> BoxFuture<'static, Result<Option<Offset>, ReadError>> {
        assert!(id.as_str() != FAULT, "a fault on purpose");
        self.0.locate(id)
    }

    fn snapshots(
        &self,
        prefix: &str,
    ) -> BoxFuture<'static, Result<Vec<(Topic, Bytes)>, ReadError>> {
        self.0.snapshots(prefix)
    }

    fn snapshot_version(&self, topic: Topic) -> BoxFuture<'static, Result<Position, ReadError>> {
        self.0.snapshot_version(topic)
    }

    fn trim(&self, now: UnixMillis) -> BoxFuture<'static, Result<Trimmed, AppendError>> {
        self.0.trim(now)
    }

    fn bounds(&self) -> Bounds {
        self.0.bounds()
    }

    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn follow(&self, tail: Arc<dyn Tail>) {
        self.0.follow(tail);
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.0.close()
    }
}

async fn faulty_hub() -> Hub {
    let log = MemoryBroker::new(MemoryConfig::default());
    Hub::open(HubConfig::default(), Arc::new(Faulty(log)))
        .await
        .unwrap()
}

fn is_counted(hub: &Hub, panics: u64) {
    assert_eq!(hub.stats().panics, panics);
    let line = format!("sse_request_panics_total {panics}\n");
    assert!(hub.exposition().contains(&line), "{}", hub.exposition());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_500_and_the_connection_goes_on() {
    let hub = faulty_hub().await;
    let writers = [
        StreamWriter::Reactor,
        StreamWriter::Task,
        StreamWriter::Hyper,
    ];
    for (n, writer) in (1..).zip(writers) {
        let address = serve(&hub, writer);
        let stream = tokio::task::spawn_blocking(move || {
            let mut wire = Wire::connect(address);
            for (path, status) in [
                ("/livez".to_owned(), 200),
                (format!("/events/poll?after={FAULT}"), 500),
                (format!("/events?last_event_id={FAULT}"), 500),
                ("/livez".to_owned(), 200),
            ] {
                let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                wire.write(head.as_bytes());
                let reply = wire.reply(false).unwrap();
                assert_eq!(reply.status, status, "{path}: {}", reply.text());
                if status == 500 {
                    reply.problem(500);
                }
            }
            wire.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
            Stream::read(wire).ok().unwrap()
        });
        drop(stream.await.unwrap());
        is_counted(&hub, 2 * n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_a_panic_takes_no_other_request_of_the_connection_along() {
    let hub = faulty_hub().await;
    let server = Secure::with(hub, StreamWriter::default(), ServerConfig::default());
    let mut requests = server.multiplexed().await;
    let stream = ask(&mut requests, "GET", "/events?topic=a", &[], "").await;
    let mut stream = stream.into_body();
    body_until(&mut stream, "event: connected").await;
    for _ in 0..3 {
        let path = format!("/events/poll?after={FAULT}");
        let answer = ask(&mut requests, "GET", &path, &[], "").await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    server.publish("still here", "a").await;
    body_until(&mut stream, "still here").await;
    let answer = ask(&mut requests, "GET", "/livez", &[], "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    is_counted(&server.hub, 3);
}

/// A request's body that panics, as that of an application may in which the service is mounted.
struct PanickingBody;

impl http_body::Body for PanickingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a fault on purpose");
    }
}

#[tokio::test]
async fn a_mounted_service_answers_a_body_that_panics() {
    let hub = faulty_hub().await;
    let service = HubService::new(hub.clone(), HttpConfig::default());
    let request = Request::post("http://localhost/events").body(PanickingBody);
    let response = service.handle(request.unwrap(), LOCALHOST).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("a fault of its own"));
    is_counted(&hub, 1);
    // Nothing that it held is held any more.
    let held: usize = hub.budget().status().map(|it| it.held_bytes).iter().sum();
    assert_eq!(held, 0);
}
