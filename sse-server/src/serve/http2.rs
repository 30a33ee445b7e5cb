//! One socket that speaks HTTP/2: many requests and streams at once, all written by hyper.
//!
//! A stream that is given up is reset here, and the others on its connection go on. HTTP/2 also knows no time after which an
//! idle connection ends, and a peer may be dead behind a proxy that is not: both are looked after too.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::blocked::{Patience, Watch, WatchedBody};
use super::config::ServerConfig;
use super::http1::Client;
use super::stage::{Stage, reached};
use crate::access::Busy;
use crate::http::Body;
use crate::http::HubService;
use crate::hub::Hub;

/// Serves one socket until it is closed.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    socket: S,
    client: Client,
    service: HubService,
    config: ServerConfig,
    mut stage: watch::Receiver<Stage>,
) {
    let tasks = Tasks {
        hub: service.hub().clone(),
        exchanges: Arc::default(),
    };
    let exchanges = Arc::clone(&tasks.exchanges);
    let service = hyper::service::service_fn({
        let exchanges = Arc::clone(&exchanges);
        let Client { peer, place, .. } = client.clone();
        move |request: Request<Incoming>| {
            let service = service.clone();
            let exchange = Exchange::begin(&exchanges);
            let busy = place.begin();
            async move {
                let response = service.answer(request, peer).await;
                Ok::<_, std::convert::Infallible>(response.map(|body| exchange.body(body, busy)))
            }
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(config.peer_timeout)
        .keep_alive_timeout(config.peer_timeout)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(socket), service));
    let mut closing = pin!(reached(&mut stage, Stage::Draining));
    let mut is_closing = false;
    let mut look = tokio::time::interval(config.header_timeout);
    look.reset();
    loop {
        tokio::select! {
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::debug!(peer = %client.peer, %error, "connection ended");
                }
                return;
            }
            // Its place is another's already.
            () = std::future::poll_fn(|cx| client.place.poll_evicted(cx)) => return,
            () = &mut closing, if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = look.tick() => {
                if exchanges.is_idle() {
                    if is_closing {
                        return;
                    }
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// What goes on on one connection.
#[derive(Default)]
struct Exchanges {
    open: AtomicUsize,
    /// How many there have been, and how many there had been when it was last looked.
    begun: AtomicU64,
    seen: AtomicU64,
    /// The one that hyper has just begun, and is about to give a task.
    newest: Mutex<Option<Arc<Watch>>>,
}

impl Exchanges {
    /// Whether nothing is open, and nothing was since the last look.
    fn is_idle(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        let seen = self.seen.swap(begun, Ordering::Relaxed);
        begun == seen && self.open.load(Ordering::Relaxed) == 0
    }
}

/// One request and its answer, until all of it is handed to the connection or given up.
struct Exchange {
    exchanges: Arc<Exchanges>,
    watch: Arc<Watch>,
}

impl Exchange {
    fn begin(exchanges: &Arc<Exchanges>) -> Self {
        exchanges.open.fetch_add(1, Ordering::Relaxed);
        exchanges.begun.fetch_add(1, Ordering::Relaxed);
        let watch = Arc::new(Watch::default());
        let previous = exchanges.newest.lock().replace(Arc::clone(&watch));
        drop(previous);
        Self {
            exchanges: Arc::clone(exchanges),
            watch,
        }
    }

    fn body(self, body: Body, busy: Busy) -> ExchangeBody {
        ExchangeBody {
            body: Arc::clone(&self.watch).body(body, busy),
            _exchange: self,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.exchanges.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Spawns what hyper does for each exchange.
#[derive(Clone)]
struct Tasks {
    hub: Hub,
    exchanges: Arc<Exchanges>,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, exchange: F) {
        // hyper calls the service and then this, before it takes another request.
        let newest = self.exchanges.newest.lock().take();
        match newest {
            Some(watch) => {
                // Boxed: an async function holds what it is given twice, once as it came and once pinned.
                let exchange = Box::pin(exchange);
                tokio::spawn(write_or_reset(exchange, watch, self.hub.clone()));
            }
            None => {
                tokio::spawn(exchange);
            }
        }
    }
}

/// Runs one exchange to its end. A stream that is given up is dropped, which resets it.
async fn write_or_reset(
    mut exchange: Pin<Box<impl Future<Output = ()>>>,
    watch: Arc<Watch>,
    hub: Hub,
) {
    let mut patience = Patience::default();
    std::future::poll_fn(|cx| {
        if exchange.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let given_up = patience.poll(cx, &watch, &hub);
        if given_up.is_ready() {
            tracing::debug!("stream reset: it is closed, and the client takes nothing of it");
        }
        given_up
    })
    .await;
}

/// The answer of an exchange, which ends with it.
struct ExchangeBody {
    body: WatchedBody,
    _exchange: Exchange,
}

impl http_body::Body for ExchangeBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Requests and streams at once on one connection: what RFC 9113, section 6.5.2, asks for at least.
const MAX_STREAMS: u32 = 100;
/// Requests that the client took back before they were looked at, and those it was at fault in: past either the connection
/// is closed (CVE-2023-44487 and its kin). Both are what hyper comes with.
const MAX_RESET_STREAMS: usize = 20;
const MAX_FAULTY_STREAMS: usize = 1024;
/// As much as a head may have over HTTP/1.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// What a client may send of one body, and of all, before it is read. Bodies are small or read at once. A guess.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;
/// What is held for one stream whose client leaves it no room: a chunk.
const MAX_SEND_BUFFER_BYTES: usize = 64 << 10;
