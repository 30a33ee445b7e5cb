//! Sockets: accepting connections, serving HTTP/1.1 on them, and letting go of those that stall.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use sse_pool::ConnectionId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::HubService;
use super::body::Body;
use crate::hub::Hub;

/// How the server treats its sockets.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// A request's head must be there after so long; an idle keep-alive connection is closed after it too.
    pub header_timeout: Duration,
    /// A peer that acknowledges nothing for so long is gone.
    pub peer_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            peer_timeout: Duration::from_secs(30),
        }
    }
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: HubService,
    config: ServerConfig,
}

impl Server {
    /// Binds the address; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        service: HubService,
        config: ServerConfig,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit these, so no connection pays a system call for them.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(config.peer_timeout))?;
        socket.set_tcp_user_timeout(Some(config.peer_timeout))?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            service,
            config,
        })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done, then lets requests and streams end within `drain_timeout`. Returns how many
    /// streams had to be cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>, drain_timeout: Duration) -> usize {
        let hub = self.service.hub().clone();
        let (closing, _) = watch::channel(false);
        let mut connections = tokio::task::JoinSet::new();
        let housekeeping = tokio::spawn({
            let hub = hub.clone();
            async move { hub.run_housekeeping().await }
        });
        let mut shutdown = pin!(shutdown);
        loop {
            let (socket, peer) = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: they do not come back by trying at once.
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_BACKOFF.mul_f64(1.0 + fastrand::f64())).await;
                        continue;
                    }
                },
            };
            let connection = serve(
                socket,
                peer.ip(),
                self.service.clone(),
                self.config.clone(),
                closing.subscribe(),
            );
            connections.spawn(connection);
        }
        drop(self.listener);
        hub.drain(drain_timeout);
        closing.send_replace(true);
        let cut = hub.shutdown(drain_timeout).await;
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_REQUESTS, ended).await.is_err() {
            connections.abort_all();
        }
        housekeeping.abort();
        cut
    }
}

/// Serves one socket to its end.
async fn serve(
    socket: TcpStream,
    ip: IpAddr,
    service: HubService,
    config: ServerConfig,
    mut closing: watch::Receiver<bool>,
) {
    let watched = Arc::new(Watched::default());
    let hub = service.hub().clone();
    let service = hyper::service::service_fn({
        let watched = Arc::clone(&watched);
        move |request: Request<Incoming>| {
            let (service, watched) = (service.clone(), Arc::clone(&watched));
            async move {
                let response = service.handle(request, ip).await;
                Ok::<_, std::convert::Infallible>(watched.watch(response))
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let mut is_closing = false;
    let mut closed = pin!(async move { closing.wait_for(|closing| *closing).await.map(|_| ()) });
    let mut look_again: Option<Pin<Box<Sleep>>> = None;
    let served = std::future::poll_fn(|cx| {
        if !is_closing && closed.as_mut().poll(cx).is_ready() {
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if !watched.is_blocked() {
            look_again = None;
            return Poll::Pending;
        }
        // The socket takes nothing, so hyper does not ask the stream for more, and the stream cannot
        // tell that it was closed. Dropping the connection is all that is left to do.
        loop {
            if watched.is_cut(&hub) {
                return Poll::Ready(Ok(()));
            }
            let timer = look_again
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(BLOCKED_CHECK_INTERVAL)));
            ready!(timer.as_mut().poll(cx));
            look_again = None;
        }
    });
    if let Err(error) = served.await {
        tracing::debug!(%ip, %error, "connection ended");
    }
}

/// The stream that a socket carries, for the one who drives the socket.
#[derive(Default)]
struct Watched {
    stream: Mutex<Option<ConnectionId>>,
    has_stream: AtomicBool,
    is_waiting: AtomicBool,
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
    fn is_cut(&self, hub: &Hub) -> bool {
        let stream = self.stream.lock().clone();
        stream.is_some_and(|id| hub.connection_status(&id).is_none())
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

/// Connections that may wait to be accepted: a restart brings them all at once.
const BACKLOG: i32 = 4096;
/// What hyper may buffer for one connection: a request's head, and a stream's next chunk.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// How often a blocked stream looks whether it was closed.
const BLOCKED_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failed accept, doubled by chance.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long requests that are no streams get after the streams have ended.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
