//! One listener and all its connections, on one runtime.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::HubService;
use super::connection::{self, Again, Ended, Serving, Writer};
use super::server::{ServerConfig, StreamWriter};
use crate::hub::ShardLease;

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Serving,
    /// Nothing new is taken; streams and requests end.
    Draining,
    /// The streams have ended.
    Drained,
}

pub(super) struct Worker {
    listener: TcpListener,
    service: HubService,
    config: ServerConfig,
    stage: watch::Receiver<Stage>,
}

impl Worker {
    pub(super) fn new(
        listener: TcpListener,
        service: HubService,
        config: ServerConfig,
        stage: watch::Receiver<Stage>,
    ) -> Self {
        Self {
            listener,
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
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let (after_streams, mut sockets) = mpsc::unbounded_channel();
        let (writer, lease, reactor) =
            writer(&self.service, &self.config, &self.stage, after_streams)?;
        let service = self.service.on_shard(lease.as_ref().map(ShardLease::shard));
        let mut connections = JoinSet::new();
        loop {
            let (socket, peer) = tokio::select! {
                () = reached(&mut self.stage, Stage::Draining) => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    go_on(&mut connections, ended, |again| {
                        again(service.clone(), self.config.clone(), writer.clone(), self.stage.clone())
                    });
                    continue;
                }
                Some(socket) = sockets.recv() => {
                    let Ok(peer) = std::net::TcpStream::peer_addr(&socket) else { continue };
                    let Ok(socket) = TcpStream::from_std(socket) else { continue };
                    connections.spawn(connection::serve(
                        socket,
                        peer.ip(),
                        service.clone(),
                        self.config.clone(),
                        writer.clone(),
                        self.stage.clone(),
                    ));
                    continue;
                }
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: they do not come back by trying at once.
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_BACKOFF.mul_f64(1.0 + fastrand::f64())).await;
                        continue;
                    }
                },
            };
            // A handshake is two ways and some computing: never in the way of the next connection.
            if let Some(tls) = self.config.tls.clone() {
                connections.spawn(connection::serve_tls(
                    socket,
                    peer.ip(),
                    tls,
                    service.clone(),
                    self.config.clone(),
                    writer.clone(),
                    self.stage.clone(),
                ));
                continue;
            }
            let mut serving = Box::pin(connection::serve(
                socket,
                peer.ip(),
                service.clone(),
                self.config.clone(),
                writer.clone(),
                self.stage.clone(),
            ));
            // The request is there already, as the listener waits for it. So most streams are with the reactor after
            // one look, and never become a task. Who is not done is looked at again as one, and only then waited for.
            let mut look = Context::from_waker(Waker::noop());
            let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                serving.as_mut().poll(&mut look)
            }));
            let Ok(first) = first else {
                tracing::error!("a connection's task panicked");
                continue;
            };
            match first {
                // The reactor has it, or it is closed.
                Poll::Ready(Ended::Done | Ended::GoesOn(_)) => {}
                Poll::Ready(Ended::TakenOver(stream)) => {
                    connections.spawn(stream);
                }
                Poll::Pending => {
                    connections.spawn(serving);
                }
            }
        }
        drop(listener);
        // A stream that ends from now on ends its connection.
        drop(sockets);
        // Streams end while the hub drains; what is left then are last words and requests.
        let ended = async {
            while let Some(ended) = connections.join_next().await {
                // A hub that is leaving keeps no socket.
                go_on(&mut connections, ended, |_| Box::pin(async { Ended::Done }));
            }
            drop(writer);
            if let Some(mut reactor) = reactor {
                reactor.ended().await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = async {
                reached(&mut self.stage, Stage::Drained).await;
                tokio::time::sleep(LAST_REQUESTS).await;
            } => {}
        }
        drop(lease);
        Ok(())
    }
}

/// Waits until the server is so far. A server that is gone is at every stage.
pub(super) async fn reached(stage: &mut watch::Receiver<Stage>, at_least: Stage) {
    let _ = stage.wait_for(|stage| *stage >= at_least).await;
}

/// Where sockets go whose stream has ended and that are there for other requests.
type AfterStreams = mpsc::UnboundedSender<std::net::TcpStream>;

/// Who writes the streams of this worker, what it holds of the pool, and its task.
type Writing = (Writer, Option<ShardLease>, Option<Running>);

#[cfg(unix)]
fn writer(
    service: &HubService,
    config: &ServerConfig,
    stage: &watch::Receiver<Stage>,
    after_streams: AfterStreams,
) -> io::Result<Writing> {
    use crate::reactor::Reactor;

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
        Ok(Ended::TakenOver(stream)) => {
            connections.spawn(stream);
        }
        Ok(Ended::Done) => {}
        Err(error) if error.is_panic() => tracing::error!(%error, "a connection's task panicked"),
        Err(_) => {}
    }
}

/// The pause after a failed accept, doubled by chance.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long requests and last words get after the streams have ended.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
