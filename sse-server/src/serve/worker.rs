//! A worker: a thread with its listeners and all their connections, on a runtime of its own.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::config::{ServerConfig, StreamWriter};
use super::http1::{self, Again, Client, Ended, Serving, Site, Writer};
use super::listen::Listener;
use super::proxied;
use super::socket::Socket;
use super::stage::{Stage, reached};
use super::tls::Tls;
use crate::access::{NoPlace, Peer};
use crate::clock;
use crate::http::{HubService, Problem, REFUSED_RETRY_AFTER};
use crate::hub::ShardLease;

pub(super) struct Worker {
    listeners: Vec<Listener>,
    service: HubService,
    config: ServerConfig,
    stage: watch::Receiver<Stage>,
}

impl Worker {
    pub(super) fn new(
        listeners: Vec<Listener>,
        service: HubService,
        config: ServerConfig,
        stage: watch::Receiver<Stage>,
    ) -> Self {
        Self {
            listeners,
            service,
            config,
            stage,
        }
    }

    /// Runs as a task of the current runtime.
    pub(super) fn spawn_here(self) -> Running {
        Running(tokio::spawn(async move {
            if let Err(error) = self.run().await {
                tracing::error!(%error, "cannot accept connections");
            }
        }))
    }

    /// Runs on a thread of its own.
    pub(super) fn spawn_thread(self, number: usize) -> Running {
        let (sender, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let _sender = sender;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let served = runtime.and_then(|runtime| runtime.block_on(self.run()));
                if let Err(error) = served {
                    tracing::error!(%error, "a worker cannot accept connections");
                }
            });
        if let Err(error) = thread {
            tracing::error!(%error, "a worker cannot be started");
        }
        Running(tokio::spawn(async move {
            let _ = ended.await;
        }))
    }

    async fn run(mut self) -> io::Result<()> {
        let listeners = std::mem::take(&mut self.listeners);
        let mut accepting = listeners
            .into_iter()
            .map(Accepting::new)
            .collect::<io::Result<Vec<_>>>()?;
        let (after_streams, sockets) = mpsc::unbounded_channel();
        let (writer, lease, reactor) =
            writer(&self.service, &self.config, &self.stage, after_streams)?;
        let shard = lease.as_ref().map(ShardLease::shard);
        let mut connections = Connections {
            set: JoinSet::new(),
            site: Site {
                service: self.service.for_server(shard),
                config: self.config,
                writer,
                stage: self.stage.clone(),
            },
            after_streams: sockets,
        };
        tokio::select! {
            () = reached(&mut self.stage, Stage::Draining) => {}
            () = connections.serve(&mut accepting) => {}
        }
        drop(accepting);
        tokio::select! {
            () = connections.end(reactor) => {}
            () = reached(&mut self.stage, Stage::Over) => {}
        }
        drop(lease);
        Ok(())
    }
}

/// The connections of a worker that are no streams of its reactor.
struct Connections {
    set: JoinSet<Ended>,
    site: Site,
    /// Sockets whose stream has ended and that are there for other requests.
    after_streams: mpsc::UnboundedReceiver<AfterStream>,
}

impl Connections {
    /// Accepts connections and serves them, until it is dropped.
    async fn serve(&mut self, accepting: &mut [Accepting]) {
        loop {
            tokio::select! {
                Some(ended) = self.set.join_next(), if !self.set.is_empty() => {
                    let site = &self.site;
                    go_on(&mut self.set, ended, |again| again(site.clone()));
                }
                Some((socket, told)) = self.after_streams.recv() => {
                    let Some(client) = place_after_stream(&self.site.service, &socket, told) else { continue };
                    let Ok(socket) = TcpStream::from_std(socket) else { continue };
                    self.set.spawn(http1::serve(socket, client, self.site.clone()));
                }
                accepted = std::future::poll_fn(|cx| accept(accepting, cx)) => match accepted {
                    Ok(accepted) => self.take_in(accepted),
                    Err(error) => {
                        // Out of file descriptors, most likely: they do not come back by trying at once.
                        tracing::warn!(%error, "accept failed");
                        self.site.service.sockets().evict_silent(SILENT_SOCKETS);
                        tokio::time::sleep(ACCEPT_BACKOFF.mul_f64(1.0 + clock::chance())).await;
                    }
                },
            }
        }
    }

    /// Waits until all have ended: streams do while the hub drains, and what is left then are last words and requests.
    async fn end(mut self, reactor: Option<Running>) {
        // A stream that ends from now on ends its connection.
        drop(self.after_streams);
        while let Some(ended) = self.set.join_next().await {
            // A hub that is leaving keeps no socket.
            go_on(&mut self.set, ended, |_| Box::pin(async { Ended::Done }));
        }
        drop(self.site);
        if let Some(mut reactor) = reactor {
            reactor.ended().await;
        }
    }

    fn take_in(&mut self, accepted: Accepted) {
        let peer = accepted.peer();
        let client = match place(&self.site.service, peer) {
            Ok(client) => client,
            Err(refused) => {
                tracing::debug!(%peer, %refused, "connection refused");
                if self.site.config.tls.is_none() {
                    accepted.refuse(refused);
                }
                return;
            }
        };
        match (accepted, self.site.config.tls.clone()) {
            // A handshake is two ways and some computing: never in the way of the next connection.
            (Accepted::Tcp(socket, _), Some(tls)) => self.begin_tls(socket, client, tls),
            (Accepted::Tcp(socket, _), None) => self.begin(socket, client),
            #[cfg(unix)]
            (Accepted::Unix(socket), _) => self.begin(socket, client),
        }
    }

    /// Serves a socket that speaks TLS.
    fn begin_tls(&mut self, socket: TcpStream, client: Client, tls: Tls) {
        let site = self.site.clone();
        let is_proxied = self.is_proxied(client.peer);
        let serve = move |socket, client| http1::serve_tls(socket, client, tls, site);
        if is_proxied {
            self.begin_proxied(socket, client, serve);
        } else {
            self.set.spawn(serve(socket, client));
        }
    }

    /// Serves a socket on which a proxy first tells of its client.
    fn begin_proxied<S, F>(
        &mut self,
        socket: S,
        client: Client,
        serve: impl FnOnce(S, Client) -> F + Send + 'static,
    ) where
        S: Socket,
        F: Future<Output = Ended> + Send + 'static,
    {
        let within = self.site.config.header_timeout;
        let stage = self.site.stage.clone();
        self.set
            .spawn(proxied::serve(socket, client, within, stage, serve));
    }

    fn is_proxied(&self, peer: Peer) -> bool {
        let config = self.site.service.config();
        config.trusted_proxies.expects_proxy_protocol(peer)
    }

    /// Serves a socket that speaks no TLS.
    fn begin<S: Socket>(&mut self, socket: S, client: Client) {
        let site = self.site.clone();
        let is_proxied = self.is_proxied(client.peer);
        let serve = move |socket, client| http1::serve(socket, client, site);
        if is_proxied {
            self.begin_proxied(socket, client, serve);
            return;
        }
        let mut serving = Box::pin(serve(socket, client));
        // The request is there already, as the listener waits for it. So most streams are with the reactor after
        // one look, and never become a task. Who is not done is looked at again as one, and only then waited for.
        let mut look = Context::from_waker(Waker::noop());
        let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            serving.as_mut().poll(&mut look)
        }));
        match first {
            Err(_) => tracing::error!("a connection's task panicked"),
            // The reactor has it, or it is closed.
            Ok(Poll::Ready(Ended::Done | Ended::GoesOn(_))) => {}
            Ok(Poll::Ready(Ended::Stream(stream))) => {
                self.set.spawn(stream);
            }
            Ok(Poll::Pending) => {
                self.set.spawn(serving);
            }
        }
    }
}

/// A place for a connection that was accepted. A proxy that is trusted brings many clients, and has no bound of its own.
fn place(service: &HubService, peer: Peer) -> Result<Client, NoPlace> {
    let is_proxy = service.config().trusted_proxies.trusts(peer);
    let place = service
        .sockets()
        .open((!is_proxy).then(|| peer.address()))?;
    Ok(Client {
        peer,
        place,
        is_told: false,
        certificate: None,
        is_encrypted: false,
    })
}

/// The same for one whose stream has ended, and of which a proxy may have told the peer at its beginning.
fn place_after_stream(
    service: &HubService,
    socket: &std::net::TcpStream,
    told: Option<Peer>,
) -> Option<Client> {
    let own = Peer::Ip(socket.peer_addr().ok()?.ip().to_canonical());
    let client = place(service, own).ok()?;
    let Some(peer) = told else {
        return Some(client);
    };
    client.place.count_for(peer.address()).ok()?;
    Some(Client {
        peer,
        is_told: true,
        ..client
    })
}

/// A connection, and where it comes from.
enum Accepted {
    Tcp(TcpStream, IpAddr),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Accepted {
    fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, address) => Peer::Ip(*address),
            #[cfg(unix)]
            Self::Unix(_) => Peer::Unix,
        }
    }

    /// Closes it, with an answer that says why.
    fn refuse(self, refused: NoPlace) {
        match self {
            Self::Tcp(socket, _) => refuse(socket.into_std(), refused),
            #[cfg(unix)]
            Self::Unix(socket) => refuse(socket.into_std(), refused),
        }
    }
}

/// Tells whoever speaks plain HTTP why its socket is closed, as far as that goes without waiting.
fn refuse<S: io::Read + io::Write>(socket: io::Result<S>, refused: NoPlace) {
    let Ok(mut socket) = socket else { return };
    // A socket that is closed with bytes unread in it may take the answer along.
    let mut unread = [0; 4096];
    let _ = socket.read(&mut unread);
    let _ = socket.write(&no_socket(refused));
}

fn no_socket(refused: NoPlace) -> Vec<u8> {
    let detail = match refused {
        NoPlace::Full(max) => format!(
            "{max} sockets are open, and no more are taken (--max-connections and --max-requests)"
        ),
        NoPlace::TooManyFromAddress(max) => format!(
            "{max} sockets are open from this address, and no more are taken (--max-connections-per-ip and \
             --max-requests-per-ip)"
        ),
    };
    Problem::unavailable(detail, REFUSED_RETRY_AFTER).to_http_1()
}

/// A listener on this worker's runtime.
enum Accepting {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Accepting {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            #[cfg(unix)]
            Listener::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(socket, peer)| {
                // A socket of IPv6 may take IPv4 too.
                Accepted::Tcp(socket, peer.ip().to_canonical())
            }),
            #[cfg(unix)]
            Self::Unix(listener) => listener
                .poll_accept(cx)
                .map_ok(|(socket, _)| Accepted::Unix(socket)),
        }
    }
}

/// The next connection of any of them. The one that had it is asked last the next time, so that none is kept waiting.
fn accept(listeners: &mut [Accepting], cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
    for at in 0..listeners.len() {
        if let Poll::Ready(accepted) = listeners[at].poll(cx) {
            listeners[at..].rotate_left(1);
            return Poll::Ready(accepted);
        }
    }
    Poll::Pending
}

/// A socket whose stream has ended and that is there for other requests, with the peer that a proxy told of.
type AfterStream = (std::net::TcpStream, Option<Peer>);

/// Where these go.
type AfterStreams = mpsc::UnboundedSender<AfterStream>;

/// Who writes the streams of this worker, what it holds of the pool, and its task.
type Writing = (Writer, Option<ShardLease>, Option<Running>);

#[cfg(unix)]
fn writer(
    service: &HubService,
    config: &ServerConfig,
    stage: &watch::Receiver<Stage>,
    after_streams: AfterStreams,
) -> io::Result<Writing> {
    use super::reactor::Reactor;

    match config.writer {
        StreamWriter::Reactor => {
            let Some(lease) = service.hub().lease_shard() else {
                return Ok((Writer::Task, None, None));
            };
            let (reactor, arrivals) = Reactor::new(service.hub(), lease.shard(), after_streams)?;
            let mut stage = stage.clone();
            let task = tokio::spawn(async move {
                reactor.run(reached(&mut stage, Stage::Draining)).await;
            });
            Ok((Writer::Reactor(arrivals), Some(lease), Some(Running(task))))
        }
        StreamWriter::Task => Ok((Writer::Task, None, None)),
        StreamWriter::Hyper => Ok((Writer::Hyper, None, None)),
    }
}

#[cfg(not(unix))]
fn writer(
    _service: &HubService,
    config: &ServerConfig,
    _stage: &watch::Receiver<Stage>,
    _after_streams: AfterStreams,
) -> io::Result<Writing> {
    match config.writer {
        StreamWriter::Hyper => Ok((Writer::Hyper, None, None)),
        StreamWriter::Reactor | StreamWriter::Task => Ok((Writer::Task, None, None)),
    }
}

/// A task that ends with its handle.
pub(super) struct Running(JoinHandle<()>);

impl Running {
    /// Waits until it has ended.
    pub(super) async fn ended(&mut self) {
        if !self.0.is_finished() {
            let _ = (&mut self.0).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A socket that hyper has read its last request from may be written to by a task of its own: a smaller one.
fn go_on(
    connections: &mut JoinSet<Ended>,
    ended: Result<Ended, tokio::task::JoinError>,
    serve: impl FnOnce(Again) -> Serving,
) {
    match ended {
        Ok(Ended::GoesOn(again)) => {
            connections.spawn(serve(again));
        }
        Ok(Ended::Stream(stream)) => {
            connections.spawn(stream);
        }
        Ok(Ended::Done) => {}
        Err(error) if error.is_panic() => tracing::error!(%error, "a connection's task panicked"),
        Err(_) => {}
    }
}

/// The pause after a failed accept, doubled by chance.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How many sockets that have asked for nothing are closed after a failed accept.
const SILENT_SOCKETS: usize = 32;
