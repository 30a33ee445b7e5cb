//! Finished bytes, cheap to clone.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{EventRef, Retry, encoder};

/// The finished bytes of one or more blocks: what is written to every reader alike.
///
/// A clone shares the bytes. A frame always ends with a blank line, so frames can follow each other in any
/// order.
///
/// ```
/// use sse_protocol::{EventRef, Frame};
///
/// let frame = Frame::event(EventRef::new("hello"));
/// assert_eq!(frame.as_bytes(), b"data: hello\n\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame(Bytes);

impl Frame {
    /// The bytes of an event; one allocation of the exact size.
    #[must_use]
    pub fn event(event: EventRef<'_>) -> Self {
        Self::written(encoder::event_len(event), |out| encoder::event(event, out))
    }

    /// The bytes of a comment, which readers ignore: a heartbeat.
    #[must_use]
    pub fn comment(text: &str) -> Self {
        Self::written(text.len() + 4, |out| encoder::comment(text, out))
    }

    /// The bytes of a block that only sets the reader's reconnection time.
    #[must_use]
    pub fn retry(retry: Retry) -> Self {
        Self::written(32, |out| encoder::retry(retry, out))
    }

    /// Several frames as one, in order.
    #[must_use]
    pub fn concat<'a>(frames: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut out = Vec::new();
        for frame in frames {
            out.extend_from_slice(&frame.0);
        }
        Self(out.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared with the clones of this frame.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes: only for a [`concat`](Self::concat) of nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn written(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = Vec::with_capacity(capacity);
        write(&mut out);
        Self(out.into())
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Frame> for Bytes {
    fn from(frame: Frame) -> Self {
        frame.0
    }
}

impl From<EventRef<'_>> for Frame {
    fn from(event: EventRef<'_>) -> Self {
        Self::event(event)
    }
}
