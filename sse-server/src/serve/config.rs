//! [`ServerConfig`]: how the server treats its sockets.

use std::time::Duration;

use super::tls::Tls;

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
    /// of its own: everything happens on the runtime that [`Server::run`](super::Server::run) is called on.
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
