//! The [`Socket`] trait: what a writer of streams needs of a socket, plain or TLS.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A socket as the parts of the server that write to it need it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + Sized + 'static {
    /// The bare TCP socket, if nothing is between it and HTTP: what the reactor can write to.
    fn into_cleartext(self) -> Result<TcpStream, Self>;

    /// How much of what was written, and is held back, has gone on to the peer. It shows that a reader is slow and not
    /// dead. 0 where nothing is held back: there each write shows it.
    fn passed_on_bytes(&self) -> u64;
}

impl Socket for TcpStream {
    fn into_cleartext(self) -> Result<TcpStream, Self> {
        Ok(self)
    }

    fn passed_on_bytes(&self) -> u64 {
        0
    }
}

/// Written by a task of its own, as the reactor's table knows only TCP.
#[cfg(unix)]
impl Socket for UnixStream {
    fn into_cleartext(self) -> Result<TcpStream, Self> {
        Err(self)
    }

    fn passed_on_bytes(&self) -> u64 {
        0
    }
}
