//! The raw layer: bytes to lines, lines to fields.
//!
//! Everything here is bytes as they came: nothing is decoded, interpreted or lost, so a proxy can look at a
//! stream and pass it on. The only thing taken away is a byte order mark at the very start of the stream.

use alloc::vec::Vec;

use memchr::memchr2;

use crate::error::LimitExceeded;
use crate::limits::Limits;

/// What one line of the stream is.
///
/// ```
/// use sse_protocol::Line;
///
/// assert_eq!(Line::parse(b"data:  two spaces"), Line::Field { name: b"data", value: b" two spaces" });
/// assert_eq!(Line::parse(b"data"), Line::Field { name: b"data", value: b"" });
/// assert_eq!(Line::parse(b": ping"), Line::Comment(b"ping"));
/// assert_eq!(Line::parse(b""), Line::Blank);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// An empty line: it ends a block, and dispatches an event if the block has data.
    Blank,
    /// A line that begins with a colon; its text without that colon and one space after it.
    Comment(&'a [u8]),
    /// Any other line.
    Field {
        /// All before the first colon, or the whole line; compared exactly, never trimmed.
        name: &'a [u8],
        /// All after the first colon and one space; empty if there is no colon.
        value: &'a [u8],
    },
}

impl<'a> Line<'a> {
    /// Splits one line, given without its line end.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Self {
        match memchr::memchr(b':', line) {
            None if line.is_empty() => Self::Blank,
            None => Self::Field {
                name: line,
                value: b"",
            },
            Some(0) => Self::Comment(without_space(&line[1..])),
            Some(at) => Self::Field {
                name: &line[..at],
                value: without_space(&line[at + 1..]),
            },
        }
    }
}

fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

/// Cuts a stream into lines: the raw layer below [`Decoder`](crate::Decoder).
///
/// A line ends at LF, CR or CRLF; a CR ends it at once, without waiting for the byte after it. A line that
/// lies in one chunk is lent as a slice of that chunk; only one that is cut is copied.
///
/// ```
/// use sse_protocol::LineDecoder;
///
/// let mut decoder = LineDecoder::new();
/// let mut lines = decoder.feed(b"data: one\r\ndata: tw");
/// assert_eq!(lines.next(), Some(Ok(&b"data: one"[..])));
/// assert_eq!(lines.next(), None);
/// let mut lines = decoder.feed(b"o\r");
/// assert_eq!(lines.next(), Some(Ok(&b"data: two"[..])));
/// assert_eq!(lines.next(), None);
/// ```
#[derive(Clone, Debug)]
pub struct LineDecoder {
    lines: Assembler,
}

impl LineDecoder {
    /// A decoder at the start of a stream, with [`Limits::DEFAULT_MAX_LINE_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Limits::new())
    }

    /// A decoder at the start of a stream that reports lines over `limits`' line limit and skips them.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            lines: Assembler::new(limits.max_line_bytes()),
        }
    }

    /// Takes the next bytes of the stream; call [`Lines::next`] until it gives `None`.
    #[must_use = "lines come out of `next`"]
    pub fn feed<'d, 'c>(&'d mut self, chunk: &'c [u8]) -> Lines<'d, 'c> {
        let pos = self.lines.begin_chunk(chunk);
        Lines {
            lines: &mut self.lines,
            chunk,
            pos,
        }
    }

    /// Begins a new stream: forgets a partial line and expects a byte order mark again.
    pub fn reset(&mut self) {
        self.lines.reset();
    }

    /// The bytes of the line that has no end yet. At the end of a stream the standard drops them.
    #[must_use]
    pub fn partial(&self) -> &[u8] {
        self.lines.partial()
    }
}

impl Default for LineDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The lines of one chunk, lent one at a time; see [`LineDecoder::feed`].
#[derive(Debug)]
pub struct Lines<'d, 'c> {
    lines: &'d mut Assembler,
    chunk: &'c [u8],
    pos: usize,
}

impl Lines<'_, '_> {
    /// The next line without its end, or `None` when the chunk is used up.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded::Line`], once for each line over the limit; its bytes are skipped, and the next call
    /// goes on after them.
    #[expect(
        clippy::should_implement_trait,
        reason = "a lending iterator cannot be an Iterator"
    )]
    pub fn next(&mut self) -> Option<Result<&[u8], LimitExceeded>> {
        match self.lines.take(self.chunk, &mut self.pos) {
            Taken::Nothing => None,
            Taken::InChunk { start, end } => Some(Ok(&self.chunk[start..end])),
            Taken::Buffered => Some(Ok(self.lines.finished())),
            Taken::TooLong(error) => Some(Err(error)),
        }
    }
}

/// What [`Assembler::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The chunk is used up; a partial line may be kept.
    Nothing,
    /// A whole line, in the chunk.
    InChunk { start: usize, end: usize },
    /// A whole line that began in an earlier chunk: [`Assembler::finished`].
    Buffered,
    /// A line went over the limit; the rest of it will be skipped.
    TooLong(LimitExceeded),
}

/// Puts lines together over chunks. Holds what must survive between two chunks, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Assembler {
    /// The line under construction; or, if `complete`, a line that was handed out.
    partial: Vec<u8>,
    complete: bool,
    /// The last chunk ended with CR: a LF right at the next one's start belongs to it.
    skip_lf: bool,
    /// The line under construction is over the limit and is being skipped.
    discarding: bool,
    /// How many bytes of a byte order mark have been seen; past it, `BOM.len()`.
    bom_seen: usize,
    at_start: bool,
    max_line_bytes: usize,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A buffer larger than this is given back once its content is used. A guess: larger than most events, small
/// beside a connection's socket buffers.
pub(crate) const KEPT_CAPACITY_BYTES: usize = 64 * 1024;

impl Assembler {
    pub(crate) fn new(max_line_bytes: usize) -> Self {
        Self {
            partial: Vec::new(),
            complete: false,
            skip_lf: false,
            discarding: false,
            bom_seen: 0,
            at_start: true,
            max_line_bytes,
        }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self {
            partial: core::mem::take(&mut self.partial),
            ..Self::new(self.max_line_bytes)
        };
        self.partial.clear();
    }

    /// Looks at the first bytes of a chunk, where a byte order mark or the LF of a cut CRLF may stand; gives
    /// the offset to go on from.
    #[inline]
    pub(crate) fn begin_chunk(&mut self, chunk: &[u8]) -> usize {
        if !self.at_start && !self.skip_lf {
            return 0;
        }
        self.begin_chunk_slow(chunk)
    }

    #[cold]
    fn begin_chunk_slow(&mut self, chunk: &[u8]) -> usize {
        let mut pos = 0;
        if self.at_start {
            while let Some(&byte) = chunk.get(pos) {
                if byte != BOM[self.bom_seen] {
                    // It was content after all.
                    self.partial.extend_from_slice(&BOM[..self.bom_seen]);
                    self.at_start = false;
                    break;
                }
                self.bom_seen += 1;
                pos += 1;
                if self.bom_seen == BOM.len() {
                    self.at_start = false;
                    break;
                }
            }
        }
        if self.skip_lf
            && let Some(&byte) = chunk.get(pos)
        {
            self.skip_lf = false;
            pos += usize::from(byte == b'\n');
        }
        pos
    }

    /// Whether the next byte begins a line, and none of it is held.
    #[inline]
    pub(crate) fn at_line_start(&self) -> bool {
        (self.partial.is_empty() || self.complete) && !self.discarding
    }

    /// The line under construction.
    pub(crate) fn partial(&self) -> &[u8] {
        if self.complete { &[] } else { &self.partial }
    }

    /// The line that [`Taken::Buffered`] announced; valid until the next call of `take`.
    pub(crate) fn finished(&self) -> &[u8] {
        &self.partial
    }

    /// The same line, taken out so that the decoder can be changed meanwhile; [`give_back`](Self::give_back) it.
    pub(crate) fn take_finished(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.partial)
    }

    pub(crate) fn give_back(&mut self, line: Vec<u8>) {
        self.partial = line;
    }

    /// Skips the rest of the line under construction.
    pub(crate) fn discard(&mut self) {
        self.partial.clear();
        self.discarding = true;
    }

    /// Takes the next line out of `chunk` from `*pos` on, and moves `*pos` past it and its end.
    pub(crate) fn take(&mut self, chunk: &[u8], pos: &mut usize) -> Taken {
        if self.complete {
            self.complete = false;
            self.partial.clear();
            self.partial.shrink_to(KEPT_CAPACITY_BYTES);
        }
        loop {
            let start = *pos;
            let rest = &chunk[start..];
            let Some(len) = memchr2(b'\r', b'\n', rest) else {
                *pos = chunk.len();
                return self.keep(rest);
            };
            let end = start + len;
            self.pass_line_end(chunk, end, pos);
            if self.discarding {
                self.discarding = false;
                continue;
            }
            if self.partial.len() + len > self.max_line_bytes {
                self.partial.clear();
                return Taken::TooLong(self.too_long());
            }
            if self.partial.is_empty() {
                return Taken::InChunk { start, end };
            }
            extend_within(&mut self.partial, &rest[..len], self.max_line_bytes);
            self.complete = true;
            return Taken::Buffered;
        }
    }

    /// Moves `*pos` past the line end at `end`: CRLF counts as one, also when the chunk is cut within it.
    #[inline]
    pub(crate) fn pass_line_end(&mut self, chunk: &[u8], end: usize, pos: &mut usize) {
        *pos = end + 1;
        if chunk[end] == b'\r' {
            match chunk.get(end + 1) {
                Some(b'\n') => *pos += 1,
                Some(_) => {}
                None => self.skip_lf = true,
            }
        }
    }

    /// Keeps the beginning of a line whose end has not come yet.
    fn keep(&mut self, rest: &[u8]) -> Taken {
        if self.discarding {
            return Taken::Nothing;
        }
        if self.partial.len() + rest.len() > self.max_line_bytes {
            self.discard();
            return Taken::TooLong(self.too_long());
        }
        extend_within(&mut self.partial, rest, self.max_line_bytes);
        Taken::Nothing
    }

    fn too_long(&self) -> LimitExceeded {
        LimitExceeded::Line {
            limit_bytes: self.max_line_bytes,
        }
    }
}

/// Appends, growing by doubling but never past `limit`: a plain `Vec` would hold up to twice of it.
#[inline]
pub(crate) fn extend_within(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    if buffer.capacity() - buffer.len() < bytes.len() {
        grow_within(buffer, bytes.len(), limit);
    }
    buffer.extend_from_slice(bytes);
}

#[cold]
fn grow_within(buffer: &mut Vec<u8>, additional: usize, limit: usize) {
    let needed = buffer.len() + additional;
    let target = needed
        .max((buffer.capacity() * 2).min(limit))
        .max(64.min(limit));
    buffer.reserve_exact(target - buffer.len());
}
