//! The hub inside an axum application: a route of its own publishes, everything else is the hub's.
//!
//! ```sh
//! cargo run -p sse-server --example embed_axum
//! curl -N http://127.0.0.1:8091/events
//! curl -X POST http://127.0.0.1:8091/greet/Ada
//! ```
//!
//! A WebSocket works, too, at `ws://127.0.0.1:8091/events/ws`: axum serves connections with upgrades.

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use sse_protocol::EventType;
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig, Publication};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::in_memory(HubConfig::default()).await?;
    let streams = HubService::new(hub.clone(), HttpConfig::default());
    tokio::spawn({
        let hub = hub.clone();
        async move { hub.run_housekeeping().await }
    });

    let app = Router::new()
        .route("/greet/{name}", post(greet))
        .with_state(hub)
        .fallback(
            move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
                let streams = streams.clone();
                async move {
                    streams
                        .handle(request, peer.ip())
                        .await
                        .map(axum::body::Body::new)
                }
            },
        );

    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8091".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .await?;
    Ok(())
}

async fn greet(
    State(hub): State<Hub>,
    Path(name): Path<String>,
) -> Result<String, Response<String>> {
    let event_type = EventType::new("greeting").map_err(|error| failed(&error))?;
    let data = serde_json::json!({"hello": name}).to_string();
    let published = hub
        .publish(Publication::new(data).with_type(event_type))
        .await
        .map_err(|error| failed(&error))?;
    Ok(format!("published as {}\n", published.id))
}

fn failed(error: &dyn Error) -> Response<String> {
    let mut response = Response::new(format!("{error}\n"));
    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    response
}
