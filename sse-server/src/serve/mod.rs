//! Sockets: listening on TCP and Unix sockets, TLS, HTTP/1.1 and HTTP/2 by hyper, and the writers of streams.
//!
//! hyper reads every request; [`HubService`](crate::http::HubService) answers it. Once a stream has begun over
//! HTTP/1.1 its socket is taken back from hyper and written by the worker's `reactor`, or by a `stream_task`.

mod blocked;
mod chunks;
mod config;
mod endpoint;
mod http1;
mod http2;
mod listen;
mod prefixed;
mod proxied;
#[cfg(unix)]
mod reactor;
mod server;
mod socket;
#[cfg(unix)]
mod socket_file;
mod stage;
mod stream_task;
mod tls;
mod watched_io;
mod worker;

pub use config::{ServerConfig, StreamWriter};
pub use endpoint::{BoundAddress, Endpoint, InvalidEndpoint};
pub use listen::ListenError;
pub use server::Server;
pub use tls::{ClientAuth, Tls, TlsConfig, TlsError, TlsVersion};

/// So many send timeouts a reader has to take what is written at once, however it trickles: what it holds is no part of the window
/// any more. A stated guess: a minute with the default, and more than a slow phone needs for the largest event.
const FRAME_TIMEOUTS: u32 = 12;
