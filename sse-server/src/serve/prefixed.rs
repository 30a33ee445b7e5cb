//! A socket of which something was read already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::socket::Socket;

/// Gives the bytes that were read first, and then the socket's.
pub(super) struct Prefixed<S> {
    read_before: Bytes,
    socket: S,
}

impl<S> Prefixed<S> {
    pub(super) fn new(read_before: Bytes, socket: S) -> Self {
        Self {
            read_before,
            socket,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_before.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let count = self.read_before.len().min(buffer.remaining());
        buffer.put_slice(&self.read_before[..count]);
        self.read_before.advance(count);
        if self.read_before.is_empty() {
            self.read_before = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
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

impl<S: Socket> Socket for Prefixed<S> {
    fn into_cleartext(self) -> Result<TcpStream, Self> {
        Err(self)
    }

    fn passed_on_bytes(&self) -> u64 {
        self.socket.passed_on_bytes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_before_comes_first_however_small_the_reads() {
        for space in 1..12 {
            let mut prefixed = Prefixed::new(Bytes::from_static(b"before "), &b"and after"[..]);
            let (mut read, mut part) = (Vec::new(), vec![0; space]);
            loop {
                let count = prefixed.read(&mut part).await.unwrap();
                if count == 0 {
                    break;
                }
                read.extend_from_slice(&part[..count]);
            }
            assert_eq!(read, b"before and after", "{space} bytes at a time");
        }
    }
}
