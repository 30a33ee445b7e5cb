//! Listening, accepting, and ending it all in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::HubService;
use super::connection::{self, Ended};

/// How the server treats its sockets.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// A request's head must be there after so long; an idle keep-alive connection is closed after it too.
    pub header_timeout: Duration,
    /// A peer that acknowledges nothing for so long is gone.
    pub peer_timeout: Duration,
    /// Whether streams over HTTP/1 are written by the server itself, on sockets taken back from hyper,
    /// rather than by hyper. It costs a reader a tenth of the memory; the bytes are the same.
    pub take_over: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            peer_timeout: Duration::from_secs(30),
            take_over: true,
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
        let mut connections = JoinSet::new();
        let housekeeping = tokio::spawn({
            let hub = hub.clone();
            async move { hub.run_housekeeping().await }
        });
        let mut shutdown = pin!(shutdown);
        loop {
            let (socket, peer) = tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    go_on(&mut connections, ended);
                    continue;
                }
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
            connections.spawn(connection::serve(
                socket,
                peer.ip(),
                self.service.clone(),
                self.config.clone(),
                closing.subscribe(),
            ));
        }
        drop(self.listener);
        hub.drain(drain_timeout);
        closing.send_replace(true);
        let mut draining = pin!(hub.shutdown(drain_timeout));
        let cut = loop {
            tokio::select! {
                cut = &mut draining => break cut,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    go_on(&mut connections, ended);
                }
            }
        };
        let ended = async {
            while let Some(ended) = connections.join_next().await {
                go_on(&mut connections, ended);
            }
        };
        if tokio::time::timeout(LAST_REQUESTS, ended).await.is_err() {
            connections.abort_all();
        }
        housekeeping.abort();
        cut
    }
}

/// A socket that hyper has read its last request from is written to by a task of its own: a smaller one.
fn go_on(connections: &mut JoinSet<Ended>, ended: Result<Ended, tokio::task::JoinError>) {
    match ended {
        Ok(Ended::TakenOver(stream)) => {
            connections.spawn(stream.run());
        }
        Ok(Ended::Done) => {}
        Err(error) if error.is_panic() => tracing::error!(%error, "a connection's task panicked"),
        Err(_) => {}
    }
}

/// Connections that may wait to be accepted: a restart brings them all at once.
const BACKLOG: i32 = 4096;
/// The pause after a failed accept, doubled by chance.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long requests that are no streams get after the streams have ended.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
