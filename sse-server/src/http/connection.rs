//! One socket, as long as hyper has it.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use sse_pool::ConnectionId;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::HubService;
use super::body::Body;
use super::multiplexed;
use super::rewound::Rewound;
use super::server::ServerConfig;
use super::takeover::{TakenOver, response_head};
use super::tls::{Socket, Tls, speaks_http_2};
use super::worker::{Stage, reached};
use crate::hub::Hub;
#[cfg(unix)]
use crate::reactor::{Arrival, Arrivals};
use crate::session::EventStream;

/// What became of a socket that hyper had.
pub(super) enum Ended {
    /// It is closed, or was handed to the reactor.
    Done,
    /// A stream was asked for, and is to be written by a task of its own.
    TakenOver(Serving),
    /// A stream written so has ended, and its socket is there for other requests.
    GoesOn(Again),
}

/// A connection at work.
pub(super) type Serving = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// Serves a socket after its stream, with what a worker has for every connection: a stream holds none of it meanwhile.
pub(super) type Again =
    Box<dyn FnOnce(HubService, ServerConfig, Writer, watch::Receiver<Stage>) -> Serving + Send>;

/// Who writes the streams that are asked for over HTTP/1.
#[derive(Clone)]
pub(super) enum Writer {
    #[cfg(unix)]
    Reactor(Arrivals),
    Task,
    Hyper,
}

/// Serves one socket that speaks TLS, from the handshake on. That and the first request's head each get the header's
/// timeout.
pub(super) async fn serve_tls(
    socket: TcpStream,
    ip: IpAddr,
    tls: Tls,
    service: HubService,
    config: ServerConfig,
    writer: Writer,
    mut stage: watch::Receiver<Stage>,
) -> Ended {
    // Boxed, as it is large and soon gone.
    let handshake = Box::pin(tls.accept(socket));
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(config.header_timeout, handshake) => accepted,
        () = reached(&mut stage, Stage::Draining) => return Ended::Done,
    };
    let socket = match accepted {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            tracing::debug!(%ip, %error, "TLS handshake failed");
            return Ended::Done;
        }
        Err(_) => {
            tracing::debug!(%ip, "TLS handshake not done in time");
            return Ended::Done;
        }
    };
    if speaks_http_2(&socket) {
        Box::pin(multiplexed::serve(socket, ip, service, config, stage)).await;
        return Ended::Done;
    }
    Box::pin(serve(socket, ip, service, config, writer, stage)).await
}

/// Serves one socket until it is closed, or until a stream is asked for on it.
pub(super) async fn serve<S: Socket>(
    socket: S,
    ip: IpAddr,
    service: HubService,
    config: ServerConfig,
    writer: Writer,
    mut stage: watch::Receiver<Stage>,
) -> Ended {
    let hub = service.hub().clone();
    let watched = Arc::new(Watched::default());
    let handler = hyper::service::service_fn({
        let (service, watched) = (&service, Arc::clone(&watched));
        let take_over = !matches!(writer, Writer::Hyper);
        move |request: Request<Incoming>| {
            let (service, watched) = (service.clone(), Arc::clone(&watched));
            // Boxed, so that the connection can be moved: that is what taking it over needs.
            Box::pin(async move {
                let version = request.version();
                let asks_to_close = asks_to_close(request.headers());
                let may_take_over =
                    take_over && is_plain_get(&request) && !watched.is_write_pending();
                let response = service.handle(request, ip).await;
                match if may_take_over {
                    response.into_events()
                } else {
                    Err(response)
                } {
                    Ok((mut headers, stream)) => {
                        if asks_to_close && version == Version::HTTP_11 {
                            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                        }
                        *watched.taken.lock() = Some((version, headers, stream));
                        std::future::pending().await
                    }
                    Err(response) => Ok::<_, std::convert::Infallible>(watched.watch(response)),
                }
            })
        }
    });
    let io = WatchedIo {
        io: TokioIo::new(socket),
        watched: Arc::clone(&watched),
    };
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(io, handler);
    let served = {
        let mut is_closing = false;
        let mut closed = pin!(reached(&mut stage, Stage::Draining));
        let mut look_again: Option<Pin<Box<Sleep>>> = None;
        let mut idle = Idle::default();
        std::future::poll_fn(|cx| {
            if !is_closing && closed.as_mut().poll(cx).is_ready() {
                is_closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(result.map(|()| None));
            }
            if let Some(taken) = watched.taken.lock().take() {
                return Poll::Ready(Ok(Some(taken)));
            }
            if !watched.is_blocked() {
                look_again = None;
                idle = Idle::default();
                return Poll::Pending;
            }
            // The socket takes nothing, so hyper does not ask the stream for more, and the stream cannot
            // tell that it was closed. It may be only slow, and its last words are still to be read; when nothing more
            // is taken, dropping the connection is all that is left to do.
            loop {
                let timer = look_again
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(BLOCKED_CHECK_INTERVAL)));
                ready!(timer.as_mut().poll(cx));
                look_again = None;
                if idle.look(&watched, &hub) >= hub.config().send_timeout {
                    return Poll::Ready(Ok(None));
                }
            }
        })
        .await
    };
    match served {
        Ok(Some((version, headers, stream))) => {
            let parts = connection.into_parts();
            let mut socket = parts.io.io.into_inner();
            let is_chunked = version == Version::HTTP_11;
            // What the client sent behind its request is dropped, and nothing may follow the stream then.
            let goes_on = is_chunked
                && parts.read_buf.is_empty()
                && !headers.contains_key(header::CONNECTION);
            let head = response_head(version, &headers, is_chunked);
            #[cfg(unix)]
            if let Writer::Reactor(arrivals) = &writer {
                match socket.into_cleartext() {
                    Ok(cleartext) => {
                        match cleartext.into_std() {
                            Ok(socket) => {
                                // A reactor that is gone drops the stream, and with it the reader.
                                let _ = arrivals.send(Arrival {
                                    socket,
                                    head,
                                    is_chunked,
                                    goes_on,
                                    stream,
                                });
                            }
                            Err(error) => tracing::debug!(%ip, %error, "connection ended"),
                        }
                        return Ended::Done;
                    }
                    // What is encrypted is written by a task of the stream's own.
                    Err(encrypted) => socket = encrypted,
                }
            }
            let send_timeout = hub.config().send_timeout;
            let stream = TakenOver::new(socket, head, is_chunked, goes_on, stream, send_timeout);
            let writing = Box::new(stream).run(hub);
            Ended::TakenOver(Box::pin(async move {
                match writing.await {
                    Some(socket) => Ended::GoesOn(again(socket, ip)),
                    None => Ended::Done,
                }
            }))
        }
        Ok(None) => {
            let mut socket = connection.into_parts().io.io.into_inner();
            let closed = std::future::poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx));
            // TLS has a last word, which a blocked socket does not take either.
            let _ = tokio::time::timeout(LAST_WORD, closed).await;
            Ended::Done
        }
        // Whoever knows that HTTP/2 is spoken here begins with it, and hyper has read that beginning.
        Err(error) if error.is_parse_version_h2() => {
            let parts = connection.into_parts();
            let socket = Rewound::new(parts.read_buf, parts.io.io.into_inner());
            Box::pin(multiplexed::serve(
                socket,
                ip,
                service.clone(),
                config,
                stage.clone(),
            ))
            .await;
            Ended::Done
        }
        Err(error) => {
            tracing::debug!(%ip, %error, "connection ended");
            Ended::Done
        }
    }
}

/// Apart from [`serve`], whose future it would else have to know while that is made.
fn again<S: Socket>(socket: S, ip: IpAddr) -> Again {
    Box::new(move |service, config, writer, stage| {
        Box::pin(serve(socket, ip, service, config, writer, stage))
    })
}

/// Whether a stream asked for so may be written without hyper: what HTTP/1 has no more to say about.
fn is_plain_get(request: &Request<Incoming>) -> bool {
    *request.method() == Method::GET
        && matches!(request.version(), Version::HTTP_10 | Version::HTTP_11)
        && request.body().is_end_stream()
        && !request.headers().contains_key(header::UPGRADE)
}

/// Whether the client says that it sends no other request on this connection.
fn asks_to_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).into_iter();
    let mut options = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// What the parts around hyper tell each other of one socket.
#[derive(Default)]
struct Watched {
    /// A stream that was asked for and is to be taken over.
    taken: Mutex<Option<(Version, HeaderMap, EventStream)>>,
    /// The stream that hyper writes.
    stream: Mutex<Option<ConnectionId>>,
    has_stream: AtomicBool,
    /// The stream's last word was "nothing yet".
    is_waiting: AtomicBool,
    /// The socket did not take the last write: hyper may hold bytes of earlier answers.
    is_write_pending: AtomicBool,
    /// How often the socket has taken something.
    writes: AtomicU64,
}

/// How long the socket of a closed stream has taken nothing, by looks at it.
#[derive(Default)]
struct Idle {
    writes: Option<u64>,
    lasting: Duration,
}

impl Idle {
    /// Looks again, [`BLOCKED_CHECK_INTERVAL`] after the last time.
    fn look(&mut self, watched: &Watched, hub: &Hub) -> Duration {
        let writes = watched
            .is_closed(hub)
            .then(|| watched.writes.load(Ordering::Relaxed));
        if writes.is_some() && self.writes == writes {
            self.lasting += BLOCKED_CHECK_INTERVAL;
        } else {
            self.lasting = Duration::ZERO;
        }
        self.writes = writes;
        self.lasting
    }
}

impl Watched {
    fn watch(self: Arc<Self>, response: Response<Body>) -> Response<WatchedBody> {
        if let Some(id) = response.body().connection_id() {
            *self.stream.lock() = Some(id);
            self.has_stream.store(true, Ordering::Relaxed);
        }
        response.map(|body| WatchedBody {
            body,
            watched: self,
        })
    }

    /// Whether the stream's last word was a chunk and not "nothing yet": then it is the socket that is
    /// waited for.
    fn is_blocked(&self) -> bool {
        self.has_stream.load(Ordering::Relaxed) && !self.is_waiting.load(Ordering::Relaxed)
    }

    /// Whether the stream was closed meanwhile.
    fn is_closed(&self, hub: &Hub) -> bool {
        let stream = self.stream.lock().clone();
        stream.is_some_and(|id| hub.connection_status(&id).is_none())
    }

    fn is_write_pending(&self) -> bool {
        self.is_write_pending.load(Ordering::Relaxed)
    }
}

/// A socket that notes whether it takes what is written.
struct WatchedIo<S> {
    io: TokioIo<S>,
    watched: Arc<Watched>,
}

impl<S> WatchedIo<S> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.watched
            .is_write_pending
            .store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.watched.writes.fetch_add(1, Ordering::Relaxed);
        }
        written
    }
}

impl<S: Socket> Read for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<S: Socket> Write for WatchedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A body that notes whether it has nothing to say.
struct WatchedBody {
    body: Body,
    watched: Arc<Watched>,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.watched
            .is_waiting
            .store(frame.is_pending(), Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The stream in a response, if that is what it is.
trait IntoEvents: Sized {
    fn into_events(self) -> Result<(HeaderMap, EventStream), Self>;
}

impl IntoEvents for Response<Body> {
    fn into_events(self) -> Result<(HeaderMap, EventStream), Self> {
        let (head, body) = self.into_parts();
        match body.into_events() {
            Ok(stream) => Ok((head.headers, stream)),
            Err(body) => Err(Response::from_parts(head, body)),
        }
    }
}

/// What hyper may buffer for one connection: a request's head, and a stream's next chunk.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// How often a blocked stream looks whether it was closed.
const BLOCKED_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection's last word may take.
const LAST_WORD: Duration = Duration::from_secs(1);
