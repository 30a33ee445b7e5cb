//! A fan-out server as an axum user would write one: a broadcast channel for each topic, and
//! `Sse` over it. One thread, since it is measured on one core.
//!
//! `fanout-axum PORT` serves `GET /events?topic=T` and `POST /publish?topic=T`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::broadcast::{self, error::RecvError};

type Topics = Arc<Mutex<HashMap<String, broadcast::Sender<Arc<str>>>>>;
type Params = Query<HashMap<String, String>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), std::io::Error> {
    let port = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080_u16);
    let app = Router::new()
        .route("/events", get(subscribe))
        .route("/publish", post(publish))
        .with_state(Topics::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // Small events must not wait for the reader's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

fn sender(topics: &Topics, params: &Params) -> broadcast::Sender<Arc<str>> {
    let topic = params.get("topic").cloned().unwrap_or_default();
    let mut topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
    topics
        .entry(topic)
        .or_insert_with(|| broadcast::channel(CAPACITY).0)
        .clone()
}

async fn subscribe(
    State(topics): State<Topics>,
    params: Params,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = sender(&topics, &params).subscribe();
    Sse::new(unfold(receiver, |mut receiver| async move {
        loop {
            match receiver.recv().await {
                Ok(data) => return Some((Ok(Event::default().data(&*data)), receiver)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }))
}

async fn publish(State(topics): State<Topics>, params: Params, body: String) -> StatusCode {
    // Without a reader there is nobody to tell, and that is no error.
    let _ = sender(&topics, &params).send(body.into());
    StatusCode::ACCEPTED
}

/// Events a slow reader may be behind; more than any shape keeps under way.
const CAPACITY: usize = 1024;
