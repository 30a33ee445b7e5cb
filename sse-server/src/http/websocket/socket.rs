//! A socket that counts the bytes that pass through it. The counts tell whether a message is being received, and whether the client
//! takes what is sent. A message on its way holds a permit for its memory, as the body of a request does.
//!
//! The library keeps a buffer of its largest frame, and what it has read ahead in it. So behind a large frame nothing is read ahead
//! any more: between two messages that buffer is empty, and whoever serves the socket can begin with a new one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_bounds::FrameBounds;
use crate::access::budget::Permit;

/// What has passed, for the code that serves the socket while the WebSocket library owns it.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    passed: Arc<Passed>,
    /// How many messages there were.
    messages: u64,
    /// The number of messages at the last look, where a further one was under way.
    under_way: Option<u64>,
}

#[derive(Debug, Default)]
struct Passed {
    read: AtomicU64,
    /// Of the bytes read, those that have become messages.
    used: AtomicU64,
    written: AtomicU64,
}

impl Passed {
    /// The bytes that were read and are not yet a message.
    fn unfinished(&self) -> u64 {
        let used = self.used.load(Ordering::Relaxed);
        self.read.load(Ordering::Relaxed).saturating_sub(used)
    }
}

impl Counts {
    /// The bytes that the socket has taken.
    pub(super) fn written(&self) -> u64 {
        self.passed.written.load(Ordering::Relaxed)
    }

    /// A message is complete. What has been read of the next one counts as a part of it.
    pub(super) fn message_is_whole(&mut self) {
        self.passed.used.store(self.read(), Ordering::Relaxed);
        self.messages += 1;
    }

    /// A ping or pong of so many bytes has come, perhaps within a message.
    pub(super) fn control_frame(&mut self, payload_bytes: usize) {
        let used = self.used() + CONTROL_HEAD_BYTES + payload_bytes as u64;
        self.passed
            .used
            .store(used.min(self.read()), Ordering::Relaxed);
    }

    /// Whether a message was under way at the last call, and the same one still is.
    pub(super) fn is_message_late(&mut self) -> bool {
        let before = self.under_way.take();
        if self.read() > self.used() {
            self.under_way = Some(self.messages);
        }
        before.is_some() && before == self.under_way
    }

    fn read(&self) -> u64 {
        self.passed.read.load(Ordering::Relaxed)
    }

    fn used(&self) -> u64 {
        self.passed.used.load(Ordering::Relaxed)
    }
}

/// The socket.
pub(super) struct Counted<S> {
    socket: S,
    passed: Arc<Passed>,
    /// For the message that is on its way, and for the library's buffer.
    permit: Permit,
    bounds: FrameBounds,
    /// The library's buffer has grown with a large frame.
    is_buffer_large: bool,
}

impl<S> Counted<S> {
    pub(super) fn new(socket: S, counts: Counts, permit: Permit) -> Self {
        Self {
            socket,
            passed: counts.passed,
            permit,
            bounds: FrameBounds::default(),
            is_buffer_large: false,
        }
    }

    /// Whether a message that is done with has left memory behind.
    pub(super) fn has_spare_memory(&self) -> bool {
        let is_idle = self.passed.unfinished() == 0 && self.bounds.is_between_frames();
        is_idle && (self.is_buffer_large || self.permit.bytes() > 0)
    }

    /// Whether the library has to begin with a new buffer to be rid of it.
    pub(super) fn is_buffer_large(&self) -> bool {
        self.is_buffer_large
    }

    /// The memory is free.
    pub(super) fn give_back(&mut self) {
        self.is_buffer_large = false;
        self.permit.shrink_to(0);
    }

    /// Takes memory for the message that is on its way.
    fn hold_unfinished(&mut self) -> io::Result<()> {
        let unfinished = usize::try_from(self.passed.unfinished()).unwrap_or(usize::MAX);
        if unfinished <= SMALL_MESSAGE_BYTES || unfinished <= self.permit.bytes() {
            return Ok(());
        }
        let wanted = unfinished.next_multiple_of(PERMIT_STEP_BYTES) - self.permit.bytes();
        self.permit
            .try_grow(wanted)
            .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            let count = count as u64;
            self.passed.written.fetch_add(count, Ordering::Relaxed);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.is_buffer_large {
            let of_frame = usize::try_from(self.bounds.bytes_of_frame()).unwrap_or(usize::MAX);
            let most = buffer.remaining().min(of_frame);
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part))?;
            let count = part.filled().len();
            buffer.advance(count);
        } else {
            ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        }
        let read = &buffer.filled()[before..];
        self.passed
            .read
            .fetch_add(read.len() as u64, Ordering::Relaxed);
        self.bounds.read(read);
        // As the frame goes on behind what was read, nothing was read ahead of it.
        if self.bounds.payload_left() > LARGE_FRAME_BYTES {
            self.is_buffer_large = true;
        }
        self.hold_unfinished()?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A message up to this size is among what every connection takes.
const SMALL_MESSAGE_BYTES: usize = 8 << 10;
/// A frame of which so much is to come makes the library's buffer grow: it begins with about as much.
const LARGE_FRAME_BYTES: u64 = 4 << 10;
/// Memory for larger ones is taken in steps.
const PERMIT_STEP_BYTES: usize = 64 << 10;
/// A client's ping or pong is masked and has a short length.
const CONTROL_HEAD_BYTES: u64 = 2 + 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_late_when_two_looks_find_it_under_way() {
        let mut counts = Counts::default();
        let passed = Arc::clone(&counts.passed);
        let read = |bytes| passed.read.fetch_add(bytes, Ordering::Relaxed);
        assert!(!counts.is_message_late());
        // Pings alone are no message.
        for _ in 0..3 {
            read(CONTROL_HEAD_BYTES + 2);
            counts.control_frame(2);
            assert!(!counts.is_message_late());
        }
        read(1000);
        assert!(!counts.is_message_late(), "it has just begun");
        // A ping within it does not make it whole.
        read(CONTROL_HEAD_BYTES);
        counts.control_frame(0);
        assert!(counts.is_message_late());
        counts.message_is_whole();
        assert!(!counts.is_message_late());
        // One after the other is not one that is late.
        for _ in 0..3 {
            read(1000);
            assert!(!counts.is_message_late());
            counts.message_is_whole();
        }
    }
}
