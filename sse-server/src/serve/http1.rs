//! One socket, as long as hyper has it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::blocked::{Patience, Watch, WatchedBody};
use super::chunks::MAX_IGNORED_BYTES;
use super::config::ServerConfig;
use super::http2;
use super::prefixed::Prefixed;
#[cfg(unix)]
use super::reactor::{Arrival, Arrivals};
use super::socket::Socket;
use super::stage::{Stage, reached};
use super::stream_task::{StreamTask, response_head};
use super::tls::{Tls, speaks_http_2};
use super::watched_io::WatchedIo;
use crate::access::authentication::ClientCertificate;
use crate::access::budget::{Account, NoMemory, Permit};
use crate::access::proxy_protocol;
use crate::access::{Busy, Peer, SocketPlace};
use crate::clock;
use crate::http::{HubService, OverTls, Problem, Takeover};
use crate::hub::Hub;
use crate::session::EventStream;

/// What became of a socket that hyper had.
pub(super) enum Ended {
    /// It is closed, or was handed to the reactor.
    Done,
    /// A stream was asked for, and is to be written by a task of its own.
    Stream(Serving),
    /// A stream written so has ended, and its socket is there for other requests.
    GoesOn(Again),
}

/// A connection at work.
pub(super) type Serving = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// Serves a socket after its stream.
pub(super) type Again = Box<dyn FnOnce(Site) -> Serving + Send>;

/// What a worker has for every connection. A stream that hyper does not write holds none of it.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) service: HubService,
    pub(super) config: ServerConfig,
    pub(super) writer: Writer,
    pub(super) stage: watch::Receiver<Stage>,
}

/// Who is at the other end of a connection, and the place that its socket has.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) place: SocketPlace,
    /// Whether the peer is whom a proxy told of at the beginning of the connection.
    pub(super) is_told: bool,
    /// What the client has shown in the handshake.
    pub(super) certificate: Option<ClientCertificate>,
    /// Whether it speaks TLS.
    pub(super) is_encrypted: bool,
}

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
    mut client: Client,
    tls: Tls,
    mut site: Site,
) -> Ended {
    let peer = client.peer;
    let Ok(held) = take_memory(site.service.hub(), peer, TLS_BYTES).await else {
        tracing::debug!(%peer, "no memory is left for a connection");
        return Ended::Done;
    };
    // Boxed, as it is large and soon gone.
    let handshake = Box::pin(tls.accept(socket, held));
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(site.config.header_timeout, handshake) => accepted,
        () = reached(&mut site.stage, Stage::Draining) => return Ended::Done,
        () = std::future::poll_fn(|cx| client.place.poll_evicted(cx)) => return Ended::Done,
    };
    let socket = match accepted {
        Ok(Ok((socket, certificate))) => {
            client.certificate = certificate;
            client.is_encrypted = true;
            socket
        }
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return Ended::Done;
        }
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake not done in time");
            return Ended::Done;
        }
    };
    if speaks_http_2(&socket) {
        Box::pin(http2::serve(socket, client, site)).await;
        return Ended::Done;
    }
    Box::pin(serve(socket, client, site)).await
}

/// Serves one socket until it is closed, or until something is asked for on it that hyper does not write.
pub(super) async fn serve<S: Socket>(socket: S, client: Client, mut site: Site) -> Ended {
    let peer = client.peer;
    let held = match take_memory(site.service.hub(), peer, REQUEST_BYTES).await {
        Ok(held) => held,
        Err(refused) => {
            tracing::debug!(%peer, "no memory is left for a connection");
            let _ = tokio::time::timeout(LAST_WORD, refuse(socket, &refused)).await;
            return Ended::Done;
        }
    };
    let shared = Arc::new(Shared::new(client));
    let io = WatchedIo::new(socket, Arc::clone(&shared.watch));
    let takes_streams = !matches!(site.writer, Writer::Hyper);
    let service = site.service.clone();
    let handler = hyper::service::service_fn(|request: Request<Incoming>| {
        // Boxed, so that the connection can be moved: that is what taking its socket needs.
        Box::pin(answer(
            request,
            service.clone(),
            Arc::clone(&shared),
            takes_streams,
        ))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(site.config.header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(io, handler);
    let served = drive(
        &mut connection,
        &shared,
        site.service.hub(),
        &mut site.stage,
    )
    .await;
    let parts = connection.into_parts();
    drop(held);
    let client = shared.client.clone();
    settle(served, parts.io.into_inner(), parts.read_buf, client, site).await
}

/// Memory for a connection. Where there is none, one that waits for a request gives way.
async fn take_memory(hub: &Hub, peer: Peer, bytes: usize) -> Result<Permit, NoMemory> {
    let (budget, address) = (hub.budget(), peer.address());
    match budget.try_take(Account::Connections, address, bytes) {
        Err(_)
            if budget.holds_little(Account::Connections, address)
                && hub.sockets().evict_idle(clock::now()) =>
        {
            budget.take(Account::Connections, address, bytes).await
        }
        taken => taken,
    }
}

/// Lets hyper read requests and write answers, until the connection has ended or there is something that hyper does not write.
async fn drive<S, H>(
    connection: &mut http1::Connection<WatchedIo<S>, H>,
    shared: &Shared,
    hub: &Hub,
    stage: &mut watch::Receiver<Stage>,
) -> hyper::Result<Option<Taken>>
where
    S: Socket,
    H: Service<Request<Incoming>, Response = Response<WatchedBody>, Error = Infallible> + Unpin,
    H::Future: Unpin,
{
    let mut is_closing = false;
    let mut closed = pin!(reached(stage, Stage::Draining));
    let mut patience = Patience::default();
    std::future::poll_fn(|cx| {
        let mut served = connection.poll_without_shutdown(cx);
        // Only then, because a connection of which no request has been read is closed at once.
        if served.is_pending() && !is_closing && closed.as_mut().poll(cx).is_ready() {
            is_closing = true;
            Pin::new(&mut *connection).graceful_shutdown();
            served = connection.poll_without_shutdown(cx);
        }
        if let Poll::Ready(result) = served {
            return Poll::Ready(result.map(|()| shared.taken.lock().take()));
        }
        let mut taken = shared.taken.lock();
        if matches!(*taken, Some(Taken::Stream(_))) {
            return Poll::Ready(Ok(taken.take()));
        }
        drop(taken);
        // A request that has come by now is answered, and keeps its place; on a busy machine it may have waited for being read.
        let is_evicted = shared.client.place.poll_evicted(cx).is_ready();
        if is_evicted && !shared.watch.is_write_pending() {
            return Poll::Ready(Ok(None));
        }
        let send_timeout = || hub.config().send_timeout;
        let given_up = patience.poll_answer(cx, &shared.watch, hub, send_timeout);
        given_up.map(|()| Ok(None))
    })
    .await
}

/// Does with a socket what is to be done after hyper.
async fn settle<S: Socket>(
    served: hyper::Result<Option<Taken>>,
    socket: S,
    read_before: Bytes,
    client: Client,
    site: Site,
) -> Ended {
    match served {
        Ok(Some(Taken::Stream(taken))) => {
            let begun = begin_stream(*taken, read_before.is_empty());
            return hand_over(socket, client, begun, site.writer, site.service.hub());
        }
        Ok(Some(Taken::Protocol(next, busy))) => {
            let socket = Prefixed::new(read_before, socket);
            return Ended::Stream(Box::pin(async move {
                next.run(Box::new(socket)).await;
                drop(busy);
                Ended::Done
            }));
        }
        // Its place is another's already.
        Ok(None) if client.place.is_evicted() => {}
        Ok(None) => shut_down(socket).await,
        // Whoever knows that HTTP/2 is spoken here begins with it, and hyper has read that beginning.
        Err(error) if error.is_parse_version_h2() => {
            let socket = Prefixed::new(read_before, socket);
            Box::pin(http2::serve(socket, client, site)).await;
        }
        Err(error) => {
            let peer = client.peer;
            if proxy_protocol::is_begun(&read_before) {
                site.service.proxy_warning().saw_proxy_protocol(peer);
            }
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
    Ended::Done
}

/// A stream with its head, for whoever writes it. Nothing may follow it on the connection when the client has sent more behind
/// its request, because that is dropped.
fn begin_stream(taken: TakenStream, is_all_read: bool) -> BegunStream {
    let TakenStream {
        version,
        headers,
        stream,
        busy,
    } = taken;
    let is_chunked = version == Version::HTTP_11;
    BegunStream {
        head: response_head(version, &headers, is_chunked),
        is_chunked,
        goes_on: is_chunked && is_all_read && !headers.contains_key(header::CONNECTION),
        stream,
        busy,
    }
}

/// Answers one request, unless hyper is not to write the answer: that is left for whoever serves the socket.
async fn answer(
    mut request: Request<Incoming>,
    service: HubService,
    shared: Arc<Shared>,
    takes_streams: bool,
) -> Result<Response<WatchedBody>, Infallible> {
    let version = request.version();
    let asks_to_close = asks_to_close(request.headers());
    let is_for_writer = takes_streams && is_plain_get(&request) && !shared.watch.is_write_pending();
    let Client {
        peer,
        place,
        certificate,
        is_encrypted,
        ..
    } = &shared.client;
    if *is_encrypted {
        request.extensions_mut().insert(OverTls);
    }
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(certificate.clone());
    }
    let busy = place.begin();
    let mut response = service.answer(request, *peer).await;
    if let Some(next) = response.body_mut().take_takeover() {
        // hyper writes the head, and has no more to do with the connection then.
        *shared.taken.lock() = Some(Taken::Protocol(next, place.begin()));
    } else if is_for_writer {
        let (mut head, body) = response.into_parts();
        match body.into_events() {
            Ok(stream) => {
                if asks_to_close && version == Version::HTTP_11 {
                    let close = HeaderValue::from_static("close");
                    head.headers.insert(header::CONNECTION, close);
                }
                *shared.taken.lock() = Some(Taken::Stream(Box::new(TakenStream {
                    version,
                    headers: head.headers,
                    stream,
                    busy,
                })));
                return std::future::pending().await;
            }
            Err(body) => response = Response::from_parts(head, body),
        }
    }
    Ok(response.map(|body| Arc::clone(&shared.watch).body(body, busy)))
}

/// A stream whose head is still to be written.
struct BegunStream {
    head: Vec<u8>,
    is_chunked: bool,
    /// Whether the connection outlives the stream.
    goes_on: bool,
    stream: EventStream,
    /// Its socket is at work.
    busy: Busy,
}

/// Gives a socket and its stream to whoever writes streams here.
fn hand_over<S: Socket>(
    socket: S,
    client: Client,
    begun: BegunStream,
    writer: Writer,
    hub: &Hub,
) -> Ended {
    #[cfg(unix)]
    let socket = match writer {
        Writer::Reactor(arrivals) => match socket.into_cleartext() {
            Ok(cleartext) => {
                match cleartext.into_std() {
                    Ok(socket) => {
                        // A reactor that is gone drops the stream, and with it the reader.
                        let _ = arrivals.send(Arrival {
                            socket,
                            head: begun.head,
                            is_chunked: begun.is_chunked,
                            goes_on: begun.goes_on,
                            stream: begun.stream,
                            place: client.place.stream(),
                            told: client.is_told.then_some(client.peer),
                        });
                    }
                    Err(error) => tracing::debug!(peer = %client.peer, %error, "connection ended"),
                }
                return Ended::Done;
            }
            // What is encrypted is written by a task of the stream's own.
            Err(encrypted) => encrypted,
        },
        Writer::Task | Writer::Hyper => socket,
    };
    let BegunStream {
        head,
        is_chunked,
        goes_on,
        stream,
        busy,
    } = begun;
    let send_timeout = hub.config().send_timeout;
    let task = StreamTask::new(socket, head, is_chunked, goes_on, stream, send_timeout);
    let writing = Box::new(task).run(hub.clone());
    Ended::Stream(Box::pin(async move {
        let written = writing.await;
        drop(busy);
        match written {
            Some(socket) => Ended::GoesOn(again(socket, client)),
            None => Ended::Done,
        }
    }))
}

/// Apart from [`serve`], whose future it would else have to know while that is made.
fn again<S: Socket>(socket: S, client: Client) -> Again {
    Box::new(move |site| Box::pin(serve(socket, client, site)))
}

/// Closes a socket. TLS has a last word, which a blocked socket does not take.
async fn shut_down<S: Socket>(mut socket: S) {
    let closed = std::future::poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx));
    let _ = tokio::time::timeout(LAST_WORD, closed).await;
}

/// Tells a client that there is no memory for its connection, whatever it asks for.
async fn refuse<S: Socket>(mut socket: S, refused: &NoMemory) -> io::Result<()> {
    let problem = Problem::from(*refused);
    let body = problem.to_json();
    let response = problem.into_response();
    let mut answer = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    let length = body.len();
    answer.extend_from_slice(
        format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(),
    );
    answer.extend_from_slice(&body);
    socket.write_all(&answer).await?;
    socket.shutdown().await?;
    // A socket that is closed with bytes unread in it takes the answer along.
    let mut rest = socket.take(MAX_IGNORED_BYTES as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
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

/// What hyper does not write.
enum Taken {
    /// A stream that was asked for; nothing of the answer has been written.
    Stream(Box<TakenStream>),
    /// Another protocol; hyper writes the answer to its handshake first.
    Protocol(Box<dyn Takeover>, Busy),
}

struct TakenStream {
    version: Version,
    headers: HeaderMap,
    stream: EventStream,
    busy: Busy,
}

/// What the parts around hyper tell each other of one socket.
struct Shared {
    client: Client,
    taken: Mutex<Option<Taken>>,
    /// The answer that hyper writes.
    watch: Arc<Watch>,
}

impl Shared {
    fn new(client: Client) -> Self {
        Self {
            client,
            taken: Mutex::default(),
            watch: Arc::default(),
        }
    }
}

/// What hyper may buffer for one connection: a request's head, and a stream's next chunk.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// What a connection takes while hyper has it, with one request: measured by the memory test.
const REQUEST_BYTES: usize = 12 << 10;
/// What TLS takes for a connection: measured by the memory test.
const TLS_BYTES: usize = 9 << 10;
/// How long a connection's last word may take.
const LAST_WORD: Duration = Duration::from_secs(1);
