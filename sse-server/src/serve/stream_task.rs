//! A stream on a socket that was taken back from hyper.
//!
//! Once a stream has begun, HTTP/1 has nothing more to say: chunks go out, and whatever comes in
//! is ignored until it ends. hyper keeps two buffers and a parser for it; this keeps the socket, the
//! stream, and the bytes of a write that the socket did not take whole.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use http::{HeaderMap, Version};
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::FRAME_TIMEOUTS;
use super::chunks::{LAST_CHUNK, MAX_IGNORED_BYTES, write_chunk};
use super::socket::Socket;
use crate::clock;
use crate::hub::Hub;
use crate::session::EventStream;

/// A stream and its socket, and all that is left to do.
pub(super) struct StreamTask<S> {
    socket: S,
    stream: EventStream,
    chunked: bool,
    /// Whether the connection outlives the stream.
    goes_on: bool,
    /// Bytes on their way: framed, and how many of them the socket has taken.
    out: Vec<u8>,
    sent: usize,
    /// Whether the socket holds nothing back; one that encrypts may.
    is_flushed: bool,
    passed_on_bytes: u64,
    /// What the client has sent that nobody asked for.
    ignored_bytes: usize,
    has_ended: bool,
    is_given_back: bool,
    send_timeout: Duration,
    /// Since when there is something that the socket has not taken, whatever it takes of that.
    holds_since: Option<Instant>,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What is being done with the socket: writing or reading.
    is_writing: bool,
}

impl<S: Socket> StreamTask<S> {
    pub(super) fn new(
        socket: S,
        head: Vec<u8>,
        chunked: bool,
        goes_on: bool,
        stream: EventStream,
        send_timeout: Duration,
    ) -> Self {
        Self {
            socket,
            stream,
            chunked,
            goes_on,
            out: head,
            sent: 0,
            is_flushed: false,
            passed_on_bytes: 0,
            ignored_bytes: 0,
            has_ended: false,
            is_given_back: false,
            send_timeout,
            holds_since: None,
            stalled: None,
            is_writing: false,
        }
    }

    /// Writes the stream to its end. Gives the socket back if it is one for other requests.
    ///
    /// From a box, as a future has room for its arguments twice and a socket that encrypts is large.
    pub(super) async fn run(mut self: Box<Self>, hub: Hub) -> Option<S> {
        match std::future::poll_fn(|cx| self.poll_written(cx, &hub)).await {
            Ok(()) => self.is_given_back.then_some(self.socket),
            Err(error) => {
                hub.metrics().record_broken(&error, self.is_writing);
                tracing::debug!(connection = %self.stream.id(), %error, "stream ended");
                None
            }
        }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>, hub: &Hub) -> Poll<io::Result<()>> {
        // Behind the stream's end comes what the next one to have the socket reads.
        self.is_writing = false;
        if !self.has_ended && self.poll_input(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.is_writing = true;
        loop {
            ready!(self.poll_flush(cx))?;
            // A request that was read and dropped would be waited for in vain, and a hub that is leaving keeps no socket.
            let goes_on = self.goes_on && self.ignored_bytes == 0 && hub.is_serving();
            if self.has_ended && goes_on {
                self.is_given_back = true;
                return Poll::Ready(Ok(()));
            }
            if self.has_ended {
                let closed = Pin::new(&mut self.socket).poll_shutdown(cx);
                return self.poll_progress(cx, closed);
            }
            let chunk = ready!(self.stream.poll_chunk(cx));
            self.has_ended = chunk.is_none();
            self.frame(chunk);
        }
    }

    /// Ready when the client is gone. This is how that is seen, so it is asked each time.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            self.ignored_bytes = self.ignored_bytes.saturating_add(read);
            if self.ignored_bytes > MAX_IGNORED_BYTES {
                return Poll::Ready(Err(io::Error::other("the client keeps sending")));
            }
        }
    }

    /// Ready when the socket has taken everything.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.out[self.sent..]);
            let taken = ready!(self.poll_progress(cx, written))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        self.holds_since = None;
        // A stream that waits holds no buffer.
        if self.sent > 0 {
            self.out = Vec::new();
            self.sent = 0;
            self.is_flushed = false;
        }
        if !self.is_flushed {
            let flushed = Pin::new(&mut self.socket).poll_flush(cx);
            ready!(self.poll_progress(cx, flushed))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on what the socket said, and lets the send timeout run while it takes nothing.
    fn poll_progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        said: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let passed_on_bytes = self.socket.passed_on_bytes();
        let has_progressed = matches!(said, Poll::Ready(Ok(_)))
            || (said.is_pending() && passed_on_bytes != self.passed_on_bytes);
        self.passed_on_bytes = passed_on_bytes;
        if has_progressed && self.stalled.take().is_some() {
            // Slow, but alive: the sweep must not take it for stalled either.
            self.stream.progressed();
        }
        if said.is_ready() {
            return said;
        }
        let timeout = self.send_timeout;
        let now = clock::now();
        let since = *self.holds_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= timeout * FRAME_TIMEOUTS {
            self.stream.stalled();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        self.stream.stalled();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn frame(&mut self, chunk: Option<Bytes>) {
        match chunk {
            Some(chunk) if self.chunked => write_chunk(&chunk, &mut self.out),
            Some(chunk) => self.out.extend_from_slice(&chunk),
            None if self.chunked => self.out.extend_from_slice(LAST_CHUNK),
            None => {}
        }
    }
}

/// The head of the response, as hyper would have written it.
///
/// It says that the connection ends with the stream only where that is so. A client that is told so beforehand may take
/// every end of the connection for the end of the stream, also that of a hub that was killed.
pub(super) fn response_head(version: Version, headers: &HeaderMap, chunked: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let status: &[u8] = if version == Version::HTTP_10 {
        b"HTTP/1.0 200 OK\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\n"
    };
    out.put_slice(status);
    for (name, value) in headers {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    if chunked {
        out.put_slice(b"transfer-encoding: chunked\r\n");
    }
    out.put_slice(b"date: ");
    out.put_slice(clock::http_date().as_bytes());
    out.put_slice(b"\r\n\r\n");
    out
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn the_head_is_one_that_any_client_reads() {
        let headers = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        )]);
        let text = String::from_utf8(response_head(Version::HTTP_11, &headers, true)).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"),
            "{text}"
        );
        assert!(
            text.contains("\r\ntransfer-encoding: chunked\r\n") && text.ends_with(" GMT\r\n\r\n"),
            "{text}"
        );
        assert!(!text.contains("\r\nconnection: "), "{text}");
        let old = String::from_utf8(response_head(Version::HTTP_10, &headers, false)).unwrap();
        assert!(
            old.starts_with("HTTP/1.0 200 OK\r\n") && !old.contains("chunked"),
            "{old}"
        );
    }
}
