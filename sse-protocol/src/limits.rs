//! How much a stream may make a decoder hold.

/// How long a line and how large an event may be, and what happens beyond.
///
/// The decoder holds at most one partial line and one event under construction, so it never holds more
/// than the sum of the two limits and one chunk, whatever a peer sends.
///
/// ```
/// use sse_protocol::{Excess, Limits};
///
/// let small = Limits::new().with_max_event_bytes(64 * 1024).with_excess(Excess::Fail);
/// assert_eq!(small.max_line_bytes(), Limits::DEFAULT_MAX_LINE_BYTES);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    max_line_bytes: usize,
    max_event_bytes: usize,
    excess: Excess,
}

/// What a decoder does when a stream goes over a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Excess {
    /// Drop that event, report it once, and go on after the next blank line.
    #[default]
    Drop,
    /// Report it and decode nothing more until the decoder is reset.
    Fail,
}

impl Limits {
    /// 16 MiB. Events of 10 MB in one line are seen in the wild.
    pub const DEFAULT_MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

    /// 16 MiB. Events of 10 MB are seen in the wild.
    pub const DEFAULT_MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

    /// The default limits, and [`Excess::Drop`] beyond them.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_line_bytes: Self::DEFAULT_MAX_LINE_BYTES,
            max_event_bytes: Self::DEFAULT_MAX_EVENT_BYTES,
            excess: Excess::Drop,
        }
    }

    /// Sets the longest line: its bytes as they come, without the line end.
    #[must_use]
    pub const fn with_max_line_bytes(mut self, bytes: usize) -> Self {
        self.max_line_bytes = bytes;
        self
    }

    /// Sets the largest event: the UTF-8 bytes of all its data lines, one more for each of them, and of its
    /// type and id.
    #[must_use]
    pub const fn with_max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Sets what happens beyond a limit.
    #[must_use]
    pub const fn with_excess(mut self, excess: Excess) -> Self {
        self.excess = excess;
        self
    }

    /// The longest line, in bytes.
    #[must_use]
    pub const fn max_line_bytes(&self) -> usize {
        self.max_line_bytes
    }

    /// The largest event, in bytes.
    #[must_use]
    pub const fn max_event_bytes(&self) -> usize {
        self.max_event_bytes
    }

    /// What happens beyond a limit.
    #[must_use]
    pub const fn excess(&self) -> Excess {
        self.excess
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
