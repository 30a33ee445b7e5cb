//! One socket that speaks HTTP/2: many requests and streams at once, all written by hyper.
//!
//! An answer or a stream that is given up is reset here, and the others on its connection go on. HTTP/2 also knows no time after
//! which an idle connection ends, and a peer may be dead behind a proxy that is not: both are looked after too.
//!
//! What a client does not take is found where it waits:
//!
//! ```text
//!   body ──▶ exchange ──▶ hyper's buffer ──▶ socket
//!              │ waits for the client's window  │ waits for the client to read
//!              ▼                                ▼
//!            the stream is reset              the connection is closed
//! ```
//!
//! hyper is done with an exchange once it has buffered the last piece, for which it wants one byte of the window. So the last piece
//! is one byte: what is buffered behind an exchange that has ended waits for the socket alone.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;

use super::blocked::{Patience, Watch, WatchedBody};
use super::config::ServerConfig;
use super::http1::{Client, Site};
use super::socket::Socket;
use super::stage::{Stage, reached};
use super::watched_io::WatchedIo;
use crate::access::Busy;
use crate::access::budget::{Account, Permit};
use crate::clock;
use crate::http::{Body, OverTls};
use crate::hub::Hub;

/// Serves one socket until it is closed.
pub(super) async fn serve<S: Socket>(socket: S, client: Client, site: Site) {
    let peer = client.peer;
    let Site {
        service,
        config,
        mut stage,
        ..
    } = site;
    let hub = service.hub().clone();
    let exchanges = Arc::<Exchanges>::default();
    let budget = hub.budget().clone();
    let Ok(_held) = budget.try_take(Account::Connections, peer.address(), CONNECTION_BYTES) else {
        tracing::debug!(%peer, "no memory is left for a connection");
        return;
    };
    let tasks = Tasks {
        hub: hub.clone(),
        exchanges: Arc::clone(&exchanges),
    };
    let service = hyper::service::service_fn({
        let exchanges = Arc::clone(&exchanges);
        let place = client.place.clone();
        let certificate = client.certificate.clone();
        move |mut request: Request<Incoming>| {
            if client.is_encrypted {
                request.extensions_mut().insert(OverTls);
            }
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            let service = service.clone();
            let mut exchange = Exchange::begin(&exchanges);
            let held = budget.try_take(Account::Connections, peer.address(), EXCHANGE_BYTES);
            let busy = place.begin();
            async move {
                let response = match &held {
                    Ok(_) => service.answer(request, peer).await,
                    Err(refused) => service.refuse(&request, *refused),
                };
                exchange.held = held.ok();
                Ok::<_, std::convert::Infallible>(response.map(|body| exchange.body(body, busy)))
            }
        }
    });
    let taken = Arc::<Watch>::default();
    let io = WatchedIo::new(socket, Arc::clone(&taken));
    let mut connection = Box::pin(builder(tasks, &config).serve_connection(io, service));
    let mut patience = Patience::default();
    let mut closing = pin!(reached(&mut stage, Stage::Draining));
    let mut is_closing = false;
    let mut look = tokio::time::interval(config.header_timeout);
    look.reset();
    loop {
        tokio::select! {
            served = std::future::poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Pending => patience.poll(cx, &taken, &hub).map(|()| None),
                Poll::Ready(served) => Poll::Ready(Some(served)),
            }) => {
                match served {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        hub.metrics().record_broken(&error, false);
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    None => tracing::debug!(%peer, "connection closed: the client takes nothing"),
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

fn builder(tasks: Tasks, config: &ServerConfig) -> Builder<Tasks> {
    let mut builder = Builder::new(tasks);
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
    builder
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
    /// What has been sent of all answers.
    sent_bytes: AtomicU64,
    last_reset: Mutex<Option<Instant>>,
}

impl Exchanges {
    /// Whether nothing is open, and nothing was since the last look.
    fn is_idle(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        let seen = self.seen.swap(begun, Ordering::Relaxed);
        begun == seen && self.open.load(Ordering::Relaxed) == 0
    }

    /// How long the client may take nothing of an answer. When another one has just been reset, this one may have waited for
    /// the window of the connection, which that one had used up: then it has as much time again.
    fn patience(&self, send_timeout: Duration) -> Duration {
        let may_lack_window = self.sent_bytes.load(Ordering::Relaxed) >= MIN_CONNECTION_WINDOW;
        let last_reset = *self.last_reset.lock();
        let is_near = |reset: Instant| clock::now().duration_since(reset) < send_timeout;
        if may_lack_window && last_reset.is_some_and(is_near) {
            2 * send_timeout
        } else {
            send_timeout
        }
    }

    fn note_reset(&self) {
        *self.last_reset.lock() = Some(clock::now());
    }
}

/// One request and its answer, until the socket has taken all of it or it is given up.
struct Exchange {
    exchanges: Arc<Exchanges>,
    watch: Arc<Watch>,
    /// The right to hold what it takes.
    held: Option<Permit>,
}

impl Exchange {
    fn begin(exchanges: &Arc<Exchanges>) -> Self {
        exchanges.open.fetch_add(1, Ordering::Relaxed);
        exchanges.begun.fetch_add(1, Ordering::Relaxed);
        let watch = Arc::new(Watch::exchange());
        let previous = exchanges.newest.lock().replace(Arc::clone(&watch));
        drop(previous);
        Self {
            exchanges: Arc::clone(exchanges),
            watch,
            held: None,
        }
    }

    fn body(self, body: Body, busy: Busy) -> ExchangeBody {
        ExchangeBody {
            body: Arc::clone(&self.watch).body(body, busy),
            rest: Bytes::new(),
            exchange: Arc::new(self),
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
                let exchanges = Arc::clone(&self.exchanges);
                tokio::spawn(write_or_reset(exchange, watch, exchanges, self.hub.clone()));
            }
            None => {
                tokio::spawn(exchange);
            }
        }
    }
}

/// Runs one exchange to its end. One that is given up is dropped, which resets it.
async fn write_or_reset(
    mut exchange: Pin<Box<impl Future<Output = ()>>>,
    watch: Arc<Watch>,
    exchanges: Arc<Exchanges>,
    hub: Hub,
) {
    let mut patience = Patience::default();
    let send_timeout = hub.config().send_timeout;
    std::future::poll_fn(|cx| {
        if exchange.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let given_up = patience.poll_answer(cx, &watch, &hub, || exchanges.patience(send_timeout));
        if given_up.is_ready() {
            exchanges.note_reset();
            tracing::debug!("stream reset: the client takes nothing of it");
        }
        given_up
    })
    .await;
}

/// The answer of an exchange.
struct ExchangeBody {
    body: WatchedBody,
    /// What hyper has not yet asked for of the last frame.
    rest: Bytes,
    exchange: Arc<Exchange>,
}

impl http_body::Body for ExchangeBody {
    type Data = Piece;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            // Nothing here has trailers.
            let Some(Ok(Ok(bytes))) = frame.map(|frame| frame.map(Frame::into_data)) else {
                return Poll::Ready(None);
            };
            self.rest = bytes;
        }
        let mut bytes = std::mem::take(&mut self.rest);
        if self.body.is_end_stream() && bytes.len() > 1 {
            self.rest = bytes.split_off(bytes.len() - 1);
        }
        self.exchange.watch.hand_over(bytes.len());
        Poll::Ready(Some(Ok(Frame::data(Piece {
            bytes,
            exchange: Arc::clone(&self.exchange),
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// Bytes of an answer until the socket has taken them. That they are taken is seen byte by byte, however small the client's window
/// is.
struct Piece {
    bytes: Bytes,
    exchange: Arc<Exchange>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.exchange.watch.pass_on(count);
        let sent_bytes = &self.exchange.exchanges.sent_bytes;
        sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.exchange.watch.pass_on(self.bytes.len());
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
/// What a connection takes beside TLS, and each request or stream on it: measured by the memory test.
const CONNECTION_BYTES: usize = 25 << 10;
const EXCHANGE_BYTES: usize = 7 << 10;
/// The window that every connection begins with (RFC 9113, section 6.9.2). Before so much was sent it cannot be used up.
const MIN_CONNECTION_WINDOW: u64 = 65_535;
