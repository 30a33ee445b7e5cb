//! The standard layer: bytes to events.

use alloc::string::String;

use crate::error::LimitExceeded;
use crate::limits::{Excess, Limits};
use crate::line::{Assembler, KEPT_CAPACITY_BYTES, Line, Taken};
use crate::view::{EventBuf, EventView, Head};
use crate::{EventId, Retry};

/// Turns the bytes of an event stream into events, as the WHATWG standard has it ("Server-sent events",
/// interpreting an event stream).
///
/// One decoder serves a reader for its whole life: it keeps the last event id and the reconnection time from
/// one connection to the next, and nothing else; call [`reset`](Self::reset) or [`finish`](Self::finish)
/// in between.
///
/// How the bytes are cut into chunks never changes what comes out. Time is linear in the bytes for any
/// cutting, and memory is bounded by the [`Limits`].
///
/// ```
/// use sse_protocol::Decoder;
///
/// let mut decoder = Decoder::new();
/// let mut texts = Vec::new();
/// for chunk in ["data: hel", "lo\n", "\ndata: world\n\n"] {
///     let mut feed = decoder.feed(chunk.as_bytes());
///     while let Some(event) = feed.next_event() {
///         texts.push(event.data().to_owned());
///     }
/// }
/// assert_eq!(texts, ["hello", "world"]);
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    lines: Assembler,
    block: Block,
    retry: Option<Retry>,
    state: State,
    dropped_events: u64,
    limits: Limits,
    /// A comment that was not lent from a chunk.
    comment: String,
}

/// ```text
///              over a limit                 blank line
///   Reading ─────────────────▶ Skipping ──────────────────▶ Reading
///      │    over a limit, Excess::Fail           reset
///      └─────────────────▶ Failed ─────────────────────────▶ Reading
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Skipping,
    Failed(LimitExceeded),
}

/// The block under construction: all between two blank lines.
#[derive(Clone, Debug, Default)]
struct Block {
    head: Head,
    data: String,
    has_data: bool,
    /// The id that the next dispatch step commits, if `head.has_id`.
    id: String,
    /// Bytes of the data lines, and one for each.
    data_bytes: usize,
    /// The block was dispatched; it is cleared before the next line, so that a view can still lend from it.
    dispatched: bool,
}

/// What a [`Decoder`] finds in a stream, in the order in which it stands there.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Decoded<'a> {
    /// An event.
    Event(EventView<'a>),
    /// A comment, without its colon and one space after it: often a heartbeat. It is no event and changes
    /// nothing.
    Comment(&'a str),
    /// The server set the reconnection time. It is in force from here on, whether or not an event follows.
    Retry(Retry),
    /// An event went over a limit and is not delivered; the last event id stays as it was. Under
    /// [`Excess::Fail`] nothing follows.
    Dropped(LimitExceeded),
}

/// How a stream ended; see [`Decoder::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Between two blocks.
    Clean,
    /// Within a block or a line, which the standard drops.
    Truncated,
}

impl Decoder {
    /// A decoder at the start of a connection, with the default [`Limits`] and no last event id.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Limits::new())
    }

    /// A decoder at the start of a connection, with these limits and no last event id.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            lines: Assembler::new(limits.max_line_bytes()),
            block: Block::default(),
            retry: None,
            state: State::Reading,
            dropped_events: 0,
            limits,
            comment: String::new(),
        }
    }

    /// Takes the next bytes of the connection; call [`Feed::next`] until it gives `None`.
    ///
    /// A feed that is given up earlier leaves its unread bytes in [`Feed::rest`]; feed those next.
    #[must_use = "events come out of `next`"]
    pub fn feed<'d, 'c>(&'d mut self, chunk: &'c [u8]) -> Feed<'d, 'c> {
        let pos = self.lines.begin_chunk(chunk);
        Feed {
            decoder: self,
            chunk,
            pos,
        }
    }

    /// What to send as `Last-Event-ID` to resume; empty means: no such header.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.block.head.last_event_id
    }

    /// Sets the last event id, as when a reader resumes from a stored one. Call it between connections.
    pub fn set_last_event_id(&mut self, id: &EventId) {
        self.block.head.last_event_id.clear();
        self.block.head.last_event_id.push_str(id.as_str());
    }

    /// The reconnection time the server set last, as it said it: clamp it before use.
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        self.retry
    }

    /// Begins a new connection: forgets the unfinished line and block, expects a byte order mark again, and
    /// leaves [`Excess::Fail`]'s failure behind. Last event id and reconnection time stay.
    pub fn reset(&mut self) {
        self.lines.reset();
        self.block.clear();
        self.state = State::Reading;
    }

    /// Ends the connection, drops what is unfinished as the standard asks, and is then ready for the next, like
    /// [`reset`](Self::reset). Says whether anything was cut off.
    pub fn finish(&mut self) -> Ending {
        let ending = if self.lines.at_line_start()
            && !self.block.is_open()
            && self.state == State::Reading
        {
            Ending::Clean
        } else {
            Ending::Truncated
        };
        self.reset();
        ending
    }

    /// How many events went over a limit and were dropped, over all connections.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events
    }

    /// Why nothing more is decoded: the limit that the stream went over under [`Excess::Fail`].
    #[must_use]
    pub fn failure(&self) -> Option<LimitExceeded> {
        match self.state {
            State::Failed(limit) => Some(limit),
            State::Reading | State::Skipping => None,
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Drops the block under construction and decides how to go on.
    fn exceed(&mut self, limit: LimitExceeded) -> Step {
        self.block.clear();
        self.dropped_events += 1;
        self.state = match self.limits.excess() {
            Excess::Drop => State::Skipping,
            Excess::Fail => State::Failed(limit),
        };
        Step::Dropped(limit)
    }

    fn exceeds_event(&mut self) -> Option<Step> {
        (self.block.bytes() > self.limits.max_event_bytes()).then(|| {
            self.exceed(LimitExceeded::Event {
                limit_bytes: self.limits.max_event_bytes(),
            })
        })
    }

    fn line(&mut self, line: &[u8]) -> Option<Step> {
        if self.state == State::Skipping {
            if line.is_empty() {
                self.state = State::Reading;
            }
            return None;
        }
        match Line::parse(line) {
            Line::Blank => return self.block.dispatch().then_some(Step::Event),
            Line::Comment(text) => {
                self.comment.clear();
                push_lossy(&mut self.comment, text);
                return Some(Step::Comment);
            }
            Line::Field {
                name: b"data",
                value,
            } => self.block.push_data(value),
            Line::Field {
                name: b"event",
                value,
            } => {
                self.block.head.event_type.clear();
                push_lossy(&mut self.block.head.event_type, value);
            }
            Line::Field { name: b"id", value } if !value.contains(&0) => {
                self.block.id.clear();
                push_lossy(&mut self.block.id, value);
                self.block.head.has_id = true;
            }
            Line::Field {
                name: b"retry",
                value,
            } => {
                let retry = Retry::parse(value)?;
                self.retry = Some(retry);
                self.block.head.retry = Some(retry);
                return Some(Step::Retry(retry));
            }
            Line::Field { .. } => {}
        }
        self.exceeds_event()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// What a line led to; says nothing of where the text lies.
enum Step {
    Event,
    Comment,
    Retry(Retry),
    Dropped(LimitExceeded),
}

impl Block {
    fn clear(&mut self) {
        self.head.event_type.clear();
        self.head.has_id = false;
        self.head.retry = None;
        self.data.clear();
        self.data.shrink_to(KEPT_CAPACITY_BYTES);
        self.has_data = false;
        self.data_bytes = 0;
        self.dispatched = false;
    }

    fn is_open(&self) -> bool {
        !self.dispatched && (self.has_data || self.head.has_id || !self.head.event_type.is_empty())
    }

    fn push_data(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push('\n');
        }
        self.has_data = true;
        let before = self.data.len();
        push_lossy(&mut self.data, value);
        self.data_bytes += self.data.len() - before + 1;
    }

    /// The size that the event limit bounds.
    fn bytes(&self) -> usize {
        let id = if self.head.has_id { self.id.len() } else { 0 };
        self.data_bytes + self.head.event_type.len() + id
    }

    /// The dispatch step: commits the id, and says whether there is an event.
    fn dispatch(&mut self) -> bool {
        if self.head.has_id {
            core::mem::swap(&mut self.head.last_event_id, &mut self.id);
        }
        if self.has_data {
            self.dispatched = true;
        } else {
            self.clear();
        }
        self.dispatched
    }
}

/// The events of one chunk, lent one at a time; see [`Decoder::feed`].
#[derive(Debug)]
pub struct Feed<'d, 'c> {
    decoder: &'d mut Decoder,
    chunk: &'c [u8],
    pos: usize,
}

impl<'d, 'c> Feed<'d, 'c> {
    /// The next thing in the chunk, or `None` when the chunk is used up.
    #[expect(
        clippy::should_implement_trait,
        reason = "a lending iterator cannot be an Iterator"
    )]
    pub fn next(&mut self) -> Option<Decoded<'_>> {
        Some(match self.step()? {
            Step::Event => Decoded::Event(EventView {
                data: &self.decoder.block.data,
                head: &self.decoder.block.head,
            }),
            Step::Comment => Decoded::Comment(&self.decoder.comment),
            Step::Retry(retry) => Decoded::Retry(retry),
            Step::Dropped(limit) => Decoded::Dropped(limit),
        })
    }

    /// The next event in the chunk; skips all else.
    pub fn next_event(&mut self) -> Option<EventView<'_>> {
        loop {
            if let Step::Event = self.step()? {
                return Some(EventView {
                    data: &self.decoder.block.data,
                    head: &self.decoder.block.head,
                });
            }
        }
    }

    /// The bytes of the chunk that have not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'c [u8] {
        &self.chunk[self.pos..]
    }

    /// The events of the chunk as an iterator of owned ones; skips all else.
    #[must_use]
    pub fn owned(self) -> OwnedEvents<'d, 'c> {
        OwnedEvents { feed: self }
    }

    fn step(&mut self) -> Option<Step> {
        let decoder = &mut *self.decoder;
        loop {
            if decoder.block.dispatched {
                decoder.block.clear();
            }
            if let State::Failed(_) = decoder.state {
                self.pos = self.chunk.len();
                return None;
            }
            let step = match decoder.lines.take(self.chunk, &mut self.pos) {
                Taken::Nothing => return self.check_partial(),
                Taken::TooLong(_) if decoder.state == State::Skipping => continue,
                Taken::TooLong(limit) => return Some(decoder.exceed(limit)),
                Taken::InChunk { start, end } => decoder.line(&self.chunk[start..end]),
                Taken::Buffered => {
                    let line = decoder.lines.take_finished();
                    let step = decoder.line(&line);
                    decoder.lines.give_back(line);
                    step
                }
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// Counts the data line under construction against the event limit, so that an endless one ends early.
    fn check_partial(&mut self) -> Option<Step> {
        let decoder = &mut *self.decoder;
        let value = decoder.lines.partial().strip_prefix(b"data:")?;
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let limit_bytes = decoder.limits.max_event_bytes();
        if decoder.state == State::Reading && decoder.block.bytes() + value.len() + 1 > limit_bytes
        {
            decoder.lines.discard();
            return Some(decoder.exceed(LimitExceeded::Event { limit_bytes }));
        }
        None
    }
}

/// The events of one chunk, owned; see [`Feed::owned`].
#[derive(Debug)]
pub struct OwnedEvents<'d, 'c> {
    feed: Feed<'d, 'c>,
}

impl Iterator for OwnedEvents<'_, '_> {
    type Item = EventBuf;

    fn next(&mut self) -> Option<EventBuf> {
        self.feed.next_event().map(|event| event.to_buf())
    }
}

/// Appends `bytes` as text; malformed UTF-8 becomes U+FFFD, one for each maximal subpart.
fn push_lossy(text: &mut String, bytes: &[u8]) {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(valid) => text.push_str(valid),
        Err(_) => {
            for part in bytes.utf8_chunks() {
                text.push_str(part.valid());
                if !part.invalid().is_empty() {
                    text.push('\u{FFFD}');
                }
            }
        }
    }
}
