//! Listening, accepting, and ending it all in order.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;

use super::listen::listen;
use super::tls::Tls;
use super::worker::{Stage, Worker};
use crate::http::HubService;

/// How the server treats its sockets.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// A request's head must be there after so long, and a TLS handshake be done; an idle keep-alive connection is closed
    /// after it too, over HTTP/2 at the latest after twice that.
    pub header_timeout: Duration,
    /// A peer that acknowledges nothing for so long is gone.
    pub peer_timeout: Duration,
    /// Who writes streams over HTTP/1. The bytes are the same.
    pub writer: StreamWriter,
    /// How many threads serve connections, each with a listener, a runtime and a reactor of its own. One means none
    /// of its own: everything happens on the runtime that [`Server::run`] is called on.
    pub workers: usize,
    /// The certificate for HTTPS; `None` for plain HTTP.
    pub tls: Option<Tls>,
}

/// Who writes streams over HTTP/1, once hyper has read the request. Over HTTP/2 it is always hyper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamWriter {
    /// One task for all streams of a worker, on sockets that are taken back from hyper. A connection that waits costs a
    /// third of a KiB. Where there is none (systems other than Unix, more workers than shards) and over TLS, it is
    /// [`Task`](Self::Task).
    #[default]
    Reactor,
    /// One task for each stream, on sockets that are taken back from hyper.
    Task,
    /// hyper's own body path: the reference for the other two.
    Hyper,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            peer_timeout: Duration::from_secs(30),
            writer: StreamWriter::default(),
            workers: 1,
            tls: None,
        }
    }
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
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
        let workers = config.workers.max(1);
        if workers == 1 {
            let listener = listen(address, &config, false)?;
            return Ok(Self {
                address: listener.local_addr()?,
                listeners: vec![listener],
                service,
                config,
            });
        }
        // Sockets that share a port would share it with another program's too. One that does not share tells
        // whether the address is free.
        let address = listen(address, &config, false)?.local_addr()?;
        let listeners = (0..workers)
            .map(|_| listen(address, &config, true))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            listeners,
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
        let (stage, _) = watch::channel(Stage::Serving);
        let single = self.listeners.len() == 1;
        let mut workers = Vec::new();
        for (number, listener) in self.listeners.into_iter().enumerate() {
            let worker = Worker::new(
                listener,
                self.service.clone(),
                self.config.clone(),
                stage.subscribe(),
            );
            workers.push(if single {
                worker.spawn_here()
            } else {
                worker.spawn_thread(number)
            });
        }
        let housekeeping = tokio::spawn({
            let hub = hub.clone();
            async move { hub.run_housekeeping().await }
        });
        {
            let mut shutdown = pin!(shutdown);
            let mut failed = pin!(async {
                for worker in &mut workers {
                    // A worker ends before it is told to only when it could not begin.
                    worker.ended().await;
                }
            });
            tokio::select! {
                () = &mut shutdown => {}
                () = &mut failed => tracing::error!("no worker is left to serve connections"),
            }
        }
        hub.drain(drain_timeout);
        stage.send_replace(Stage::Draining);
        let cut = hub.shutdown(drain_timeout).await;
        stage.send_replace(Stage::Drained);
        for worker in &mut workers {
            worker.ended().await;
        }
        housekeeping.abort();
        cut
    }
}
