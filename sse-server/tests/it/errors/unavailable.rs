//! The fault is the hub's: it is leaving, or its log takes nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;
use sse_broker::{
    AppendError, Appended, Bounds, BoxFuture, Broker, Durability, MemoryBroker, MemoryConfig,
    NewRecord, Page, Position, ReadError, ReadRequest, Tail, Topic, Trimmed, UnixMillis,
};
use sse_protocol::EventId;
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};

use super::LOCALHOST;

#[tokio::test]
async fn a_hub_that_is_leaving_takes_nothing_new() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let service = HubService::new(hub.clone(), HttpConfig::default());
    hub.drain(Duration::from_secs(10));
    for (method, path, body) in [
        ("GET", "/events", ""),
        ("GET", "/sse", ""),
        ("POST", "/events", "{\"data\":1}"),
        ("POST", "/jobs", "{}"),
        ("GET", "/readyz", ""),
    ] {
        let (status, retry_after, problem) = answer(&service, method, path, body).await;
        assert_eq!(status, 503, "{method} {path}: {problem}");
        assert!(retry_after.unwrap().parse::<u64>().unwrap() >= 1);
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("shutting down"),
            "{problem}"
        );
    }
    // Whoever only looks is still answered.
    for path in [
        "/livez",
        "/health",
        "/events/stats",
        "/events/poll",
        "/jobs",
    ] {
        let request = Request::get(path).body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(
            service.handle(request, LOCALHOST).await.status(),
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_log_that_takes_nothing_is_told_apart_from_a_full_disk() {
    let fenced = AppendError::Fenced {
        reason: "an earlier write failed".into(),
    };
    for (error, status, retries) in [
        (AppendError::Full, 507, false),
        (AppendError::Busy, 503, true),
        (AppendError::Closed, 503, true),
        (fenced, 503, true),
    ] {
        let log = Unwritable(MemoryBroker::new(MemoryConfig::default()), error);
        let hub = Hub::open(HubConfig::default(), Arc::new(log))
            .await
            .unwrap();
        let service = HubService::new(hub, HttpConfig::default());
        for (path, body) in [
            ("/events", "{\"data\":1}"),
            ("/events", "[{\"data\":1},{\"data\":2}]"),
            ("/events/broadcast", "{\"data\":1}"),
            ("/sse/test-event", ""),
            ("/jobs", "{}"),
        ] {
            let (got, retry_after, problem) = answer(&service, "POST", path, body).await;
            assert_eq!(got, status, "{path}: {problem}");
            assert_eq!(retry_after.is_some(), retries, "{path}: {problem}");
        }
        // Streams live on.
        let request = Request::get("/events").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(service.handle(request, LOCALHOST).await.status(), 200);
    }
}

/// A log that reads but takes nothing.
struct Unwritable(Arc<MemoryBroker>, AppendError);

impl Broker for Unwritable {
    fn append(&self, _: Vec<NewRecord>) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        let error = self.1.clone();
        Box::pin(async move { Err(error) })
    }
    fn read(&self, request: ReadRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.0.read(request)
    }
    fn locate(&self, id: EventId) -> BoxFuture<'static, Result<Option<u64>, ReadError>> {
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

async fn answer(
    service: &HubService,
    method: &str,
    path: &str,
    body: &'static str,
) -> (u16, Option<String>, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = service.handle(request, LOCALHOST).await;
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        retry_after,
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}
