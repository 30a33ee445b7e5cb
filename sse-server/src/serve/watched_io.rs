//! A socket that notes whether it takes what is written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::blocked::Watch;
use super::socket::Socket;

/// A socket that tells a [`Watch`] whether it takes what hyper writes.
pub(super) struct WatchedIo<S> {
    io: TokioIo<S>,
    watch: Arc<Watch>,
    passed_on_bytes: u64,
}

impl<S: Socket> WatchedIo<S> {
    pub(super) fn new(socket: S, watch: Arc<Watch>) -> Self {
        Self {
            io: TokioIo::new(socket),
            watch,
            passed_on_bytes: 0,
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.io.into_inner()
    }

    fn note_write(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.watch.step();
        }
        self.note(written)
    }

    fn note<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let passed_on_bytes = self.io.inner().passed_on_bytes();
        let has_passed_on = passed_on_bytes != self.passed_on_bytes;
        self.passed_on_bytes = passed_on_bytes;
        self.watch.wrote(written.is_pending(), has_passed_on);
        written
    }
}

impl<S: Socket> Read for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<S: Socket> Write for WatchedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.note_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket that encrypts takes a write and holds it back; that it does not get rid of it shows here.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
