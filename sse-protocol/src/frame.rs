//! Finished bytes, cheap to clone.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::encoder;
use crate::event::EventRef;

/// The finished bytes of an event: what is written to every reader alike.
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
        let mut out = Vec::with_capacity(encoder::event_len(event));
        encoder::event(event, &mut out);
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
}
