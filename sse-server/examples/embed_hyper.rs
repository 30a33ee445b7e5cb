//! The hub inside an existing hyper service: `/hello` is the application's own, the rest is the hub's.
//!
//! ```sh
//! cargo run -p sse-server --example embed_hyper
//! curl -N http://127.0.0.1:8090/events?topic=job/demo
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sse_server::http::{Body, HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::in_memory(HubConfig::default()).await?;
    let streams = HubService::new(hub.clone(), HttpConfig::default());
    tokio::spawn({
        let hub = hub.clone();
        async move { hub.run_housekeeping().await }
    });
    tokio::spawn(work(hub));

    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8090".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (socket, peer) = listener.accept().await?;
        let streams = streams.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let streams = streams.clone();
            async move {
                Ok::<_, Infallible>(match request.uri().path() {
                    "/hello" => Response::new(Body::full("hello from the application\n")),
                    _ => streams.handle(request, peer.ip()).await,
                })
            }
        });
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service)
                // A WebSocket at /events/ws takes its connection over.
                .with_upgrades(),
        );
    }
}

/// What an application does: something long, and telling of it.
async fn work(hub: Hub) {
    for percent in (0..=100).step_by(10) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Err(error) = hub
            .send_progress_update("demo", f64::from(percent), "working")
            .await
        {
            eprintln!("could not tell of the progress: {error}");
        }
    }
    if let Err(error) = hub
        .send_completion_update("demo", serde_json::json!({"answer": 42}))
        .await
    {
        eprintln!("could not tell of the end: {error}");
    }
}
