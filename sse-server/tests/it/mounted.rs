//! The hub inside another application's server: hyper serves the connections, and upgrades them for WebSockets.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig, Publication};
use tokio::net::TcpListener;

use crate::client::Wire;
use crate::frames::{CLOSE, HANDSHAKE, WebSocket};

/// A client of the hub behind this address: opens, publishes, reads, and ends.
fn talk(address: SocketAddr) {
    let mut request = format!("GET /events/ws?topic=t HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in HANDSHAKE {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut wire = Wire::connect(address);
    wire.write(request.as_bytes());
    let mut socket = WebSocket::greeted(wire);
    socket.write(
        crate::frames::TEXT,
        br#"{"type":"publish","topic":"t","data":{"a":1},"ref":7}"#,
    );
    let mut both = [socket.event(), socket.event()];
    both.sort_by_key(|it| it["type"].is_null());
    assert_eq!(both[0]["ref"], 7);
    assert_eq!(both[1]["data"], json!({"a": 1}));
    socket.write(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(socket.closed().0, 1000);
}

async fn hub_and_listener() -> (Hub, TcpListener, SocketAddr) {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    hub.publish(Publication::new("before")).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (hub, listener, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_works_where_hyper_serves_with_upgrades() {
    let (hub, listener, address) = hub_and_listener().await;
    let streams = HubService::new(hub, HttpConfig::default());
    tokio::spawn(async move {
        let (socket, peer) = listener.accept().await.unwrap();
        let service = service_fn(move |request| {
            let streams = streams.clone();
            async move { Ok::<_, Infallible>(streams.handle(request, peer.ip()).await) }
        });
        let served = http1::Builder::new()
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        served.await.unwrap();
    });
    let talking = tokio::task::spawn_blocking(move || talk(address));
    talking.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_works_inside_axum() {
    let (hub, listener, address) = hub_and_listener().await;
    let streams = HubService::new(hub, HttpConfig::default());
    let app = axum::Router::new().fallback(move |request: Request| {
        let streams = streams.clone();
        async move {
            let response = streams.handle(request, [127, 0, 0, 1].into()).await;
            response.map(axum::body::Body::new)
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let talking = tokio::task::spawn_blocking(move || talk(address));
    talking.await.unwrap();
}
