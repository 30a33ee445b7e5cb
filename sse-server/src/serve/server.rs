//! [`Server`]: starts the workers, and ends them in order.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;

use super::config::{ServerConfig, StreamWriter};
use super::endpoint::{BoundAddress, Endpoint};
use super::listen::{Bound, ListenError, bind, bind_for_admins};
use super::stage::Stage;
use super::worker::{Running, Worker};
use crate::clock;
use crate::http::HubService;

/// A bound server.
#[derive(Debug)]
pub struct Server {
    bound: Vec<Bound>,
    addresses: Vec<BoundAddress>,
    /// Where management is, if it is not with everything else.
    admin: Vec<Bound>,
    service: HubService,
    config: ServerConfig,
}

impl Server {
    /// Binds one address; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        service: HubService,
        config: ServerConfig,
    ) -> io::Result<Self> {
        Self::listen(&[Endpoint::Address(address)], service, config)
            .map_err(ListenError::into_reason)
    }

    /// Binds several addresses and Unix sockets. The file of a Unix socket that nobody listens on is replaced, and
    /// removed when the server stops. A Unix socket speaks plain HTTP, also where the others speak HTTPS, and its clients
    /// count as coming from 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When one of them cannot be bound; then none is.
    pub fn listen(
        endpoints: &[Endpoint],
        service: HubService,
        mut config: ServerConfig,
    ) -> Result<Self, ListenError> {
        config.workers = config.workers.max(1);
        let mut bound = Vec::new();
        for endpoint in endpoints {
            bound.extend(bind(endpoint, &config)?);
        }
        Ok(Self {
            addresses: bound.iter().map(|bound| bound.address.clone()).collect(),
            bound,
            admin: Vec::new(),
            service,
            config,
        })
    }

    /// Binds addresses and Unix sockets of their own for administrators, and takes
    /// [management](HubService::without_management) off the others. Everything is served there, with the certificate of the
    /// others, and by a worker of its own, so that a flood of clients does not keep an administrator out. A Unix socket can be
    /// connected to by the user that the server runs as, and by root.
    ///
    /// # Errors
    ///
    /// When one of them cannot be bound.
    pub fn with_admin(mut self, endpoints: &[Endpoint]) -> Result<Self, ListenError> {
        for endpoint in endpoints {
            self.admin.extend(bind_for_admins(endpoint, &self.config)?);
        }
        Ok(self)
    }

    /// The first TCP address that was bound; `0.0.0.0:0` if there are only Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses
            .iter()
            .find_map(|address| match address {
                BoundAddress::Tcp(address) => Some(*address),
                BoundAddress::Unix(_) => None,
            })
            .unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// All that was bound for clients.
    #[must_use]
    pub fn addresses(&self) -> &[BoundAddress] {
        &self.addresses
    }

    /// All that was bound for administrators alone.
    pub fn admin_addresses(&self) -> impl Iterator<Item = &BoundAddress> {
        self.admin.iter().map(|bound| &bound.address)
    }

    /// Serves until `shutdown` is done, then lets requests and streams end within `drain_timeout`, and is done then whatever
    /// clients do. Returns how many streams had to be cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>, drain_timeout: Duration) -> usize {
        let hub = self.service.hub().clone();
        let service = self.service.clone();
        let tls = self.config.tls.clone();
        let (stage, _) = watch::channel(Stage::Serving);
        let (mut workers, bound) = self.start(&stage);
        let housekeeping = tokio::spawn({
            let (hub, service) = (hub.clone(), service.clone());
            async move {
                let expiry = async {
                    match &tls {
                        Some(tls) => tls.watch_expiry(&hub).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = hub.run_housekeeping() => {}
                    () = service.watch_credentials() => {}
                    () = expiry => {}
                }
            }
        });
        {
            let mut shutdown = pin!(shutdown);
            tokio::select! {
                () = &mut shutdown => {}
                // A worker ends before it is told to only when it could not begin.
                () = ended(&mut workers) => tracing::error!("no worker is left to serve connections"),
            }
        }
        let deadline = clock::now() + drain_timeout;
        // The log is closed and cut streams are let go before that.
        let for_streams = drain_timeout - (drain_timeout / 8).min(MAX_LAST_WORK);
        hub.drain(for_streams);
        stage.send_replace(Stage::Draining);
        // The files of Unix sockets go first, so that a successor finds none.
        drop(bound);
        let cut = hub.shutdown(for_streams).await;
        if tokio::time::timeout_at(deadline.into(), ended(&mut workers))
            .await
            .is_err()
        {
            tracing::debug!("connections are cut at the end of the drain");
            stage.send_replace(Stage::Over);
            ended(&mut workers).await;
        }
        housekeeping.abort();
        service.close_authentication();
        cut
    }

    /// Starts the workers, each with its listeners. Gives them with what is to be dropped when nothing new is taken.
    fn start(self, stage: &watch::Sender<Stage>) -> (Vec<Running>, Vec<Bound>) {
        let mut bound = self.bound;
        let mut admin = self.admin;
        let mut workers = Vec::new();
        let is_apart = !admin.is_empty();
        for number in 0..self.config.workers {
            let listeners = bound.iter_mut().filter_map(|bound| bound.listeners.pop());
            let worker = Worker::new(
                listeners.collect(),
                match is_apart {
                    true => self.service.without_management(),
                    false => self.service.clone(),
                },
                self.config.clone(),
                stage.subscribe(),
            );
            workers.push(if self.config.workers == 1 {
                worker.spawn_here()
            } else {
                worker.spawn_thread(number)
            });
        }
        if is_apart {
            let listeners = admin.iter_mut().filter_map(|bound| bound.listeners.pop());
            // Its streams are few, and the reactors are the other workers'.
            let config = ServerConfig {
                writer: StreamWriter::Task,
                ..self.config
            };
            let worker = Worker::new(
                listeners.collect(),
                self.service.for_administrators(),
                config,
                stage.subscribe(),
            );
            workers.push(worker.spawn_here());
        }
        bound.append(&mut admin);
        (workers, bound)
    }
}

/// Waits until all have ended.
async fn ended(workers: &mut [Running]) {
    for worker in workers {
        worker.ended().await;
    }
}

/// What is left of a drain's time when the streams have ended, at most, and an eighth of it at most. A stated guess: the log is
/// closed in milliseconds.
const MAX_LAST_WORK: Duration = Duration::from_millis(500);
