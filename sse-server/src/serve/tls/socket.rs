//! A socket that speaks TLS, and what is said to one that does not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::HTTP_2;
use crate::access::budget::{NoMemory, Permit};
use crate::serve::socket::Socket;

/// A socket after the handshake.
pub(in crate::serve) type TlsSocket = TlsStream<HandshakenSocket>;

impl Socket for TlsSocket {
    fn into_cleartext(self) -> Result<TcpStream, Self> {
        Err(self)
    }

    fn passed_on_bytes(&self) -> u64 {
        self.get_ref().0.written
    }
}

/// Whether the client chose HTTP/2.
pub(in crate::serve) fn speaks_http_2(socket: &TlsSocket) -> bool {
    socket.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

/// A socket that counts what it takes, and remembers how its client began.
pub(in crate::serve) struct HandshakenSocket {
    socket: TcpStream,
    /// The right to hold what TLS takes for it.
    held: Permit,
    written: u64,
    begins_with: Option<u8>,
}

impl HandshakenSocket {
    pub(super) fn new(socket: TcpStream, held: Permit) -> Self {
        Self {
            socket,
            held,
            written: 0,
            begins_with: None,
        }
    }

    /// Holds so much more for as long as it is open.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), NoMemory> {
        self.held.try_grow(bytes)
    }

    /// Tells who speaks plain HTTP what is spoken here.
    pub(super) async fn explain(self) {
        let _ = tokio::time::timeout(LAST_WORD, explain(self.socket)).await;
    }

    /// Whether the client began with a letter, as every method of HTTP does and no record of TLS.
    pub(super) fn is_text(&self) -> bool {
        self.begins_with
            .is_some_and(|byte| byte.is_ascii_alphabetic())
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.written = self.written.saturating_add(*bytes as u64);
        }
        written
    }
}

impl AsyncRead for HandshakenSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer));
        if self.begins_with.is_none() {
            self.begins_with = buffer.filled().first().copied();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for HandshakenSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_text() {
            // An alert, which such a client would take for an answer.
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_text() {
            return Poll::Ready(Ok(bytes.iter().map(|part| part.len()).sum()));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Tells who speaks plain HTTP what is spoken here.
async fn explain(mut socket: TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{PLAIN_HTTP}",
        PLAIN_HTTP.len()
    );
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    // A socket that is closed with bytes unread in it takes the answer along.
    let mut rest = socket.take(MAX_IGNORED_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

/// What somebody reads who forgot a letter in the address.
const PLAIN_HTTP: &str = "this port speaks HTTPS: use https:// in the address\n";
/// How long that may take, and how much of the request is read before it is given up.
const LAST_WORD: Duration = Duration::from_secs(1);
const MAX_IGNORED_BYTES: u64 = 1 << 20;
