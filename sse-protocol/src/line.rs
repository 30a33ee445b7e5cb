//! The raw layer: bytes to lines, lines to fields.
//!
//! Everything here is bytes as they came: nothing is decoded, interpreted or lost, so a proxy can look at a
//! stream and pass it on. The only thing taken away is a byte order mark at the very start of the stream.

use alloc::vec::Vec;

use crate::error::LimitExceeded;
use crate::limits::Limits;
use crate::search::{LineEndSearch, quiet_rest_len};

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
        self.lines.recycle(&self.chunk[self.pos..]);
        let too_long = LimitExceeded::Line {
            limit_bytes: self.lines.max_line_bytes,
        };
        loop {
            let start = self.pos;
            let Some(len) = self.lines.search.line_end(&self.chunk[start..]) else {
                let rest = &self.chunk[start..];
                self.pos = self.chunk.len();
                if self.lines.keep(rest) {
                    return None;
                }
                self.lines.discard();
                return Some(Err(too_long));
            };
            let end = start + len;
            self.pos = end + self.lines.line_end_len(&self.chunk[end..]);
            if self.lines.is_whole(len) {
                return Some(Ok(&self.chunk[start..end]));
            }
            match self.lines.finish(&self.chunk[start..end]) {
                Finished::Discarded => {}
                Finished::TooLong => {
                    self.lines.abandon_too_long();
                    return Some(Err(too_long));
                }
                Finished::Buffered => return Some(Ok(self.lines.finished())),
            }
        }
    }
}

/// What became of a line that was not whole in one chunk; see [`Assembler::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// It was being skipped, or is none that anyone asks for.
    Discarded,
    /// It went over the limit; what was held of it still is.
    TooLong,
    /// It is [`Assembler::finished`].
    Buffered,
}

/// Puts lines together over chunks. Holds what must survive between two chunks, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Assembler {
    /// The line under construction; or, if `complete`, a line that was handed out.
    partial: Vec<u8>,
    complete: bool,
    /// Up to which length `partial` may grow with no check but for line ends. Not zero only between two
    /// chunks, within a line that is kept.
    unseen_until: usize,
    /// The last chunk ended with CR: a LF right at the next one's start belongs to it.
    skip_lf: bool,
    holding: Holding,
    /// Only bytes of a byte order mark have come so far: this many.
    bom_seen: usize,
    at_start: bool,
    max_line_bytes: usize,
    /// How long the last line was whose buffer was given back.
    large_line_bytes: usize,
    pub(crate) search: LineEndSearch,
}

/// What is done with the line under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// It is held.
    All,
    /// Nobody asks for it, and only its length counts: so many bytes, and those in `partial`.
    Length(usize),
    /// It is being skipped.
    Nothing,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A buffer larger than this is given back once its content is used; see [`Assembler::recycle`]. A guess: larger than
/// most events, small beside what a connection costs anyway.
pub(crate) const KEPT_CAPACITY_BYTES: usize = 256 * 1024;

/// The least room for a line that is put together.
const SMALL_CAPACITY_BYTES: usize = 64;

/// A line up to this length is not taken for the beginning of one as large as the last large one. A guess: two lengths
/// of a chunk that are common.
const SMALL_LINE_BYTES: usize = 8 * 1024;

impl Assembler {
    pub(crate) fn new(max_line_bytes: usize) -> Self {
        Self {
            partial: Vec::new(),
            complete: false,
            unseen_until: 0,
            skip_lf: false,
            holding: Holding::All,
            bom_seen: 0,
            at_start: true,
            max_line_bytes,
            large_line_bytes: 0,
            search: LineEndSearch::new(),
        }
    }

    pub(crate) fn reset(&mut self) {
        let partial = core::mem::take(&mut self.partial);
        *self = Self {
            partial,
            complete: true,
            ..Self::new(self.max_line_bytes)
        };
        self.recycle(&[]);
    }

    /// Says that the line under construction may grow to `max_bytes`, or the line limit, with nothing to check.
    pub(crate) fn allow_unseen(&mut self, max_bytes: usize) {
        if !self.at_start && !self.skip_lf && self.holding == Holding::All {
            // Within the capacity, because a `Vec` that grows by itself knows no limit.
            self.unseen_until = max_bytes
                .min(self.max_line_bytes)
                .min(self.partial.capacity());
        }
    }

    /// Takes a byte, which is all of a chunk, into the line under construction, if there is nothing to it; else changes
    /// nothing.
    ///
    /// This is what a stream that comes byte by byte spends its time in.
    #[inline]
    pub(crate) fn append_byte(&mut self, byte: u8) -> bool {
        if self.partial.len() >= self.unseen_until || byte == b'\n' || byte == b'\r' {
            return false;
        }
        self.partial.push(byte);
        true
    }

    /// Begins a chunk, and gives the offset to go on from: after a byte order mark, or the LF of a cut CRLF, or after
    /// all of a chunk that is short and lies within a line.
    #[inline(never)]
    pub(crate) fn begin_chunk(&mut self, chunk: &[u8]) -> usize {
        if chunk.len() <= SHORT_CHUNK_BYTES
            && self.partial.len() + chunk.len() <= self.unseen_until
            && !self.is_omitting()
            && self.search.line_end(chunk).is_none()
        {
            extend_short(&mut self.partial, chunk);
            return chunk.len();
        }
        self.begin_other_chunk(chunk)
    }

    /// The same for a chunk that is not short, or does not lie within a line.
    #[inline]
    pub(crate) fn begin_other_chunk(&mut self, chunk: &[u8]) -> usize {
        self.unseen_until = 0;
        if !self.at_start && !self.skip_lf {
            return 0;
        }
        self.begin_at_mark(chunk)
    }

    #[cold]
    fn begin_at_mark(&mut self, chunk: &[u8]) -> usize {
        let mut pos = 0;
        while self.at_start
            && let Some(byte) = chunk.get(pos)
        {
            if *byte != BOM[self.bom_seen] {
                // It was content after all.
                self.partial.extend_from_slice(&BOM[..self.bom_seen]);
                self.bom_seen = 0;
                self.at_start = false;
                break;
            }
            pos += 1;
            self.bom_seen += 1;
            if self.bom_seen == BOM.len() {
                self.bom_seen = 0;
                self.at_start = false;
            }
        }
        if self.skip_lf
            && let Some(byte) = chunk.get(pos)
        {
            self.skip_lf = false;
            pos += usize::from(*byte == b'\n');
        }
        pos
    }

    /// Makes room after a line that was handed out; `rest` is what comes next in the chunk.
    #[inline]
    pub(crate) fn recycle(&mut self, rest: &[u8]) {
        if self.complete {
            self.complete = false;
            if self.partial.capacity() > KEPT_CAPACITY_BYTES {
                self.recycle_large(rest);
            }
            self.partial.clear();
        }
    }

    /// Gives a large buffer back, unless its line was large and the chunk ends within another line, which is probably
    /// large too: new memory costs more than the line. The buffer is then given back after that line at the latest,
    /// if it is small.
    #[cold]
    fn recycle_large(&mut self, rest: &[u8]) {
        let is_cut = !matches!(rest.last(), None | Some(b'\r' | b'\n'));
        if is_cut && self.partial.len() > KEPT_CAPACITY_BYTES {
            return;
        }
        self.large_line_bytes = self.partial.len();
        self.partial = Vec::new();
    }

    /// Whether the next byte begins a line, and nothing of it is held or skipped.
    #[inline]
    pub(crate) fn at_line_start(&self) -> bool {
        (self.partial.is_empty() || self.complete)
            && self.holding == Holding::All
            && self.bom_seen == 0
    }

    /// Whether a line whose last part has this length is all in that part, and within the limit.
    #[inline]
    pub(crate) fn is_whole(&self, len: usize) -> bool {
        self.partial.is_empty() && self.holding == Holding::All && len <= self.max_line_bytes
    }

    /// The line under construction.
    pub(crate) fn partial(&self) -> &[u8] {
        if self.complete { &[] } else { &self.partial }
    }

    /// The line that [`Finished::Buffered`] announced.
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
        self.abandon_too_long();
        self.holding = Holding::Nothing;
    }

    /// Forgets a line that went over a limit, and gives back a large buffer.
    pub(crate) fn abandon_too_long(&mut self) {
        self.abandon();
        if self.partial.capacity() > KEPT_CAPACITY_BYTES {
            self.partial = Vec::new();
        }
    }

    /// Forgets a line that was skipped, at its end.
    pub(crate) fn abandon(&mut self) {
        self.partial.clear();
        self.holding = Holding::All;
    }

    /// How long the line under construction is so far.
    fn len(&self) -> usize {
        let omitted = match self.holding {
            Holding::Length(bytes) => bytes,
            Holding::All | Holding::Nothing => 0,
        };
        self.partial.len() + omitted
    }

    /// Ends the line under construction with its last part.
    pub(crate) fn finish(&mut self, end: &[u8]) -> Finished {
        if self.holding == Holding::Nothing {
            self.abandon();
            return Finished::Discarded;
        }
        if self.len() + end.len() > self.max_line_bytes {
            return Finished::TooLong;
        }
        if self.is_omitting() {
            self.abandon();
            return Finished::Discarded;
        }
        self.extend(end);
        self.complete = true;
        Finished::Buffered
    }

    /// Keeps the beginning of a line whose end has not come yet; `false` if that went over the limit.
    pub(crate) fn keep(&mut self, rest: &[u8]) -> bool {
        if self.holding == Holding::Nothing {
            return true;
        }
        if self.len() + rest.len() > self.max_line_bytes {
            return false;
        }
        self.extend(rest);
        true
    }

    /// Like [`keep`](Self::keep), for a line that nobody asks for: only its length counts.
    pub(crate) fn omit(&mut self, rest: &[u8]) -> bool {
        let len = self.len() + rest.len();
        if len > self.max_line_bytes {
            return false;
        }
        self.omit_len(len);
        true
    }

    /// Holds nothing of the line under construction but that it has this length, which is within the limit.
    #[inline]
    fn omit_len(&mut self, len: usize) {
        self.partial.clear();
        if !(1..=KEPT_CAPACITY_BYTES).contains(&self.partial.capacity()) {
            self.partial = Vec::new();
            self.grow(1);
        }
        self.holding = Holding::Length(len);
        // Single bytes are counted by appending them.
        self.unseen_until = (self.max_line_bytes - len).min(self.partial.capacity());
    }

    /// Passes over all of a short chunk in which only comments and blank lines begin, and omits the last if it does not
    /// end there; else changes nothing.
    #[inline]
    pub(crate) fn pass_quiet(&mut self, chunk: &[u8]) -> bool {
        let held = self.len();
        let is_within = held + chunk.len() <= self.max_line_bytes;
        let Some(rest_len) = quiet_rest_len(chunk, self.is_omitting()).filter(|_| is_within) else {
            return false;
        };
        match rest_len {
            0 => self.abandon(),
            len if len == chunk.len() => self.omit_len(held + len),
            len => self.omit_len(len),
        }
        true
    }

    /// Whether the line under construction is one that is not held.
    #[inline]
    pub(crate) fn is_omitting(&self) -> bool {
        matches!(self.holding, Holding::Length(_))
    }

    /// Ends a line that is not held, with its last part of this length; `false` if that is over the limit.
    #[inline]
    pub(crate) fn finish_omitted(&mut self, len: usize) -> bool {
        let is_within = self.len() + len <= self.max_line_bytes;
        if is_within && self.is_omitting() {
            self.abandon();
        }
        is_within
    }

    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        if self.partial.capacity() - self.partial.len() < bytes.len() {
            self.grow(bytes.len());
        }
        self.partial.extend_from_slice(bytes);
    }

    /// Makes room by doubling, but never past the line limit: a plain `Vec` would hold up to twice of it. A line that
    /// becomes large gets the room of the last large one at once.
    #[cold]
    fn grow(&mut self, additional: usize) {
        let limit = self.max_line_bytes;
        let needed = self.partial.len() + additional;
        let likely = if needed > SMALL_LINE_BYTES {
            self.large_line_bytes
        } else {
            SMALL_CAPACITY_BYTES
        };
        let target = (self.partial.capacity() * 2).max(likely).min(limit);
        self.partial
            .reserve_exact(target.max(needed) - self.partial.len());
    }

    /// The length of the line end that `bytes` begin with: CRLF counts as one, also when the chunk is cut within
    /// it, and then its LF will be skipped.
    #[inline]
    pub(crate) fn line_end_len(&mut self, bytes: &[u8]) -> usize {
        match bytes {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => {
                self.skip_lf = true;
                1
            }
            _ => 1,
        }
    }
}

/// Chunks up to this length are looked at before anything else: longer ones rarely lie within one line.
const SHORT_CHUNK_BYTES: usize = 64;

/// Appends a short chunk: up to sixteen bytes without a call, as two words that may overlap.
#[inline]
fn extend_short(buffer: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        2..=3 => extend_by_words::<2>(buffer, bytes),
        4..=7 => extend_by_words::<4>(buffer, bytes),
        8..=16 => extend_by_words::<8>(buffer, bytes),
        _ => buffer.extend_from_slice(bytes),
    }
}

/// Appends as many bytes as one word of `N` bytes has, or two.
#[inline]
fn extend_by_words<const N: usize>(buffer: &mut Vec<u8>, bytes: &[u8]) {
    if let (Some(head), Some(tail)) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>()) {
        let end = buffer.len() + bytes.len();
        buffer.extend_from_slice(head);
        buffer.truncate(end - N);
        buffer.extend_from_slice(tail);
    }
}
