//! The standard layer: bytes to events.

use alloc::string::String;

use crate::block::{Block, Field};
use crate::error::LimitExceeded;
use crate::input::{Input, line_end, set_text};
use crate::limits::{Excess, Limits};
use crate::line::{Assembler, Finished};
use crate::search::LineEndSearch;
use crate::view::{EventBuf, EventView};
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
    /// The event that is being skipped had an id, which `block.id` still holds.
    dropped_has_id: bool,
    limits: Limits,
    /// A comment that was not lent from a chunk.
    comment: String,
    search: LineEndSearch,
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
            dropped_has_id: false,
            limits,
            comment: String::new(),
            search: LineEndSearch::new(),
        }
    }

    /// Takes the next bytes of the connection; call [`Feed::next`] until it gives `None`.
    ///
    /// A feed that is given up earlier leaves its unread bytes in [`Feed::rest`]; feed those next.
    #[must_use = "events come out of `next`"]
    #[inline]
    pub fn feed<'d, 'c>(&'d mut self, chunk: &'c [u8]) -> Feed<'d, 'c> {
        let pos = if self.lines.append_unseen(chunk) {
            chunk.len()
        } else {
            self.lines.begin_chunk(chunk)
        };
        Feed {
            decoder: self,
            input: Input::new(chunk, pos),
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

    /// The id of the event that was [dropped](Decoded::Dropped) last, if it stood before what was too long. `None`
    /// again as soon as the decoder has passed that event.
    ///
    /// The last event id is still the one before. A reader that does not want to fetch the dropped event again can
    /// resume behind it with this id.
    #[must_use]
    pub fn dropped_event_id(&self) -> Option<&str> {
        (self.dropped_has_id && self.state != State::Reading).then_some(self.block.id.as_str())
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

    /// Reads lines until one leads to something, or the chunk is used up.
    fn read<'c>(&mut self, input: &mut Input<'c>) -> Option<Step<'c>> {
        if self.block.dispatched {
            self.block.clear();
        }
        if let State::Failed(_) = self.state {
            input.use_up();
            return None;
        }
        self.lines.recycle();
        loop {
            // Nearly all lines of nearly all streams begin like this.
            if input.rest().starts_with(DATA.as_bytes())
                && self.state == State::Reading
                && self.lines.at_line_start()
            {
                match self.read_data_lines(input) {
                    DataLines::Event(data) => return Some(Step::LentEvent(data)),
                    DataLines::Cut => return self.keep_rest(input),
                    DataLines::Other => {}
                }
            }
            let Some(len) = line_end(input.rest()) else {
                return self.keep_rest(input);
            };
            let step = self.read_line(input, len);
            if step.is_some() {
                return step;
            }
        }
    }

    /// Reads data lines that end with LF, and stops before anything else. A block of one such line and a blank
    /// one is lent as it lies there.
    #[inline]
    fn read_data_lines<'c>(&mut self, input: &mut Input<'c>) -> DataLines<'c> {
        let text = input.text();
        let Some(value) = text.strip_prefix(DATA) else {
            return DataLines::Other;
        };
        let Some(len) = input.line_end_in(value, &self.search) else {
            return DataLines::without_end(input);
        };
        let is_within = DATA.len() + len <= self.limits.max_line_bytes()
            && self.block.bytes() + len < self.limits.max_event_bytes();
        let after = &value.as_bytes()[len..];
        if !is_within || after[0] != b'\n' {
            return DataLines::Other;
        }
        if self.block.data.is_empty() && after.get(1) == Some(&b'\n') {
            let data = &value[..len];
            input.advance(DATA.len() + len + 2);
            self.block.dispatch_lent();
            return DataLines::Event(data);
        }
        // Appended with its LF at once.
        let (line, rest) = value.split_at(len + 1);
        self.block.data.push_str(line);
        input.advance_to(DATA.len() + len + 1, rest);
        self.append_data_lines(input, rest)
    }

    /// Appends the data lines that `text`, which is the window, begins with, as long as they end with LF.
    ///
    /// A loop of its own, because it is as fast as the locals that fit into registers.
    #[inline(never)]
    fn append_data_lines<'c>(&mut self, input: &mut Input<'c>, mut text: &'c str) -> DataLines<'c> {
        let max_line_bytes = self.limits.max_line_bytes();
        let max_data_bytes = self
            .limits
            .max_event_bytes()
            .saturating_sub(self.block.head_bytes());
        let data = &mut self.block.data;
        let window_bytes = text.len();
        let is_cut = loop {
            let Some(value) = text.strip_prefix(DATA) else {
                break false;
            };
            let Some(len) = input.line_end_in(value, &self.search) else {
                break true;
            };
            if DATA.len() + len > max_line_bytes
                || data.len() + len >= max_data_bytes
                || value.as_bytes()[len] != b'\n'
            {
                break false;
            }
            // Each with its LF at once.
            let (line, rest) = value.split_at(len + 1);
            data.push_str(line);
            text = rest;
        };
        input.advance_to(window_bytes - text.len(), text);
        if is_cut {
            DataLines::without_end(input)
        } else {
            DataLines::Other
        }
    }

    /// Reads the line that ends, or whose last part ends, after `len` bytes: any line, in any state.
    fn read_line<'c>(&mut self, input: &mut Input<'c>, len: usize) -> Option<Step<'c>> {
        let rest = input.rest();
        let line = &rest[..len];
        let end_len = self.lines.line_end_len(&rest[len..]);
        if self.state != State::Reading {
            self.skip_line(line);
            input.advance(len + end_len);
            return None;
        }
        if !self.lines.is_whole(len) {
            input.advance(len + end_len);
            return self.finish_line(line, input);
        }
        let (field, at) = Field::of(line);
        let value = &line[at..];
        let lent = match field {
            Field::Blank | Field::Retry | Field::Unknown => None,
            Field::Data | Field::Type | Field::Id | Field::Comment => input.part(at..len),
        };
        input.advance(len + end_len);
        if field == Field::Data
            && self.block.data.is_empty()
            && self.block.bytes() + value.len() < self.limits.max_event_bytes()
            && let Some(data) = lent
            && let Some(blank_len) = blank_line_len(input.rest())
        {
            input.advance(blank_len);
            self.block.dispatch_lent();
            return Some(Step::LentEvent(data));
        }
        self.interpret(field, value, lent)
    }

    /// Interprets a line of which `field` and `value` are known, while [`State::Reading`]; `lent` is the value as
    /// text lent from the chunk, if it lies there and is UTF-8.
    #[inline]
    fn interpret<'c>(
        &mut self,
        field: Field,
        value: &[u8],
        lent: Option<&'c str>,
    ) -> Option<Step<'c>> {
        let block = &mut self.block;
        match field {
            Field::Data => block.push_data(value, lent),
            Field::Blank => return block.dispatch().then_some(Step::Event),
            Field::Id if value.contains(&0) => return None,
            Field::Id => {
                set_text(&mut block.id, value, lent);
                block.head.has_id = true;
                block.touched = true;
            }
            Field::Type => {
                set_text(&mut block.head.event_type, value, lent);
                block.touched = true;
            }
            Field::Retry => {
                let retry = Retry::parse(value)?;
                self.retry = Some(retry);
                block.head.retry = Some(retry);
                block.touched = true;
                return Some(Step::Retry(retry));
            }
            Field::Comment => {
                if let Some(lent) = lent {
                    return Some(Step::LentComment(lent));
                }
                set_text(&mut self.comment, value, None);
                return Some(Step::Comment);
            }
            Field::Unknown => return None,
        }
        if block.bytes() > self.limits.max_event_bytes() {
            return Some(self.exceed_event());
        }
        None
    }

    /// Ends a line that is not whole in the chunk, or too long; `end` is its last part, and `input` stands after it.
    fn finish_line<'c>(&mut self, end: &[u8], input: &mut Input<'c>) -> Option<Step<'c>> {
        match self.lines.finish(end) {
            Finished::Discarded => None,
            Finished::TooLong => {
                let step = self.exceed_line(end);
                self.lines.abandon();
                Some(step)
            }
            Finished::Buffered => {
                let line = self.lines.take_finished();
                let (field, at) = Field::of(&line);
                let step = self.interpret(field, &line[at..], None);
                self.lines.give_back(line);
                self.lines.recycle();
                if step.is_none()
                    && field == Field::Data
                    && let Some(blank_len) = blank_line_len(input.rest())
                {
                    input.advance(blank_len);
                    self.block.dispatch();
                    return Some(Step::Event);
                }
                step
            }
        }
    }

    /// Passes over the end of a line after a drop; a blank one ends the dropped block.
    #[cold]
    fn skip_line(&mut self, end: &[u8]) {
        if end.is_empty() && self.lines.at_line_start() {
            self.state = State::Reading;
        }
        self.lines.abandon();
    }

    /// Keeps the beginning of a line whose end has not come yet.
    fn keep_rest<'c>(&mut self, input: &mut Input<'c>) -> Option<Step<'c>> {
        let rest = input.rest();
        input.use_up();
        if self.state != State::Reading {
            if !rest.is_empty() {
                self.lines.discard();
            }
            return None;
        }
        if !self.lines.keep(rest) {
            let step = self.exceed_line(rest);
            self.lines.discard();
            return Some(step);
        }
        // Counts the data line under construction against the event limit, so that an endless one ends early.
        let limit = self.limits.max_event_bytes();
        let used = self.block.bytes();
        if self.lines.partial().starts_with(DATA_NAME)
            && let Some(value_len) = data_value_len(self.lines.partial(), &[])
            && used + value_len + 1 > limit
        {
            self.lines.discard();
            return Some(self.exceed_event());
        }
        self.lines.allow_unseen(limit.saturating_sub(used + 1));
        None
    }

    /// The line that ends with `end` so far is over the line limit; but it may have gone over the event limit
    /// at an earlier byte, and what is reported must not depend on the cutting.
    #[cold]
    fn exceed_line(&mut self, end: &[u8]) -> Step<'static> {
        let limit_bytes = self.limits.max_line_bytes();
        let held = self.lines.partial();
        let excess = held.len() + end.len() - limit_bytes;
        let len_at_limit =
            data_value_len(held, end).map(|value_len| value_len.saturating_sub(excess));
        match len_at_limit {
            Some(len)
                if limit_bytes >= DATA_NAME.len()
                    && self.block.bytes() + len + 1 > self.limits.max_event_bytes() =>
            {
                self.exceed_event()
            }
            _ => self.exceed(LimitExceeded::Line { limit_bytes }),
        }
    }

    #[cold]
    fn exceed_event(&mut self) -> Step<'static> {
        self.exceed(LimitExceeded::Event {
            limit_bytes: self.limits.max_event_bytes(),
        })
    }

    /// Drops the block under construction and decides how to go on.
    fn exceed(&mut self, limit: LimitExceeded) -> Step<'static> {
        self.dropped_has_id = self.block.head.has_id;
        self.block.clear();
        self.dropped_events += 1;
        self.state = match self.limits.excess() {
            Excess::Drop => State::Skipping,
            Excess::Fail => State::Failed(limit),
        };
        Step::Dropped(limit)
    }
}

const DATA_NAME: &[u8] = b"data:";

/// How nearly all data lines begin.
const DATA: &str = "data: ";

/// The length of the line end that `bytes` begin with, if it is known to be whole.
#[inline]
fn blank_line_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        [b'\r', _, ..] => Some(1),
        _ => None,
    }
}

/// How long the value is of a data line that begins with `held` and goes on with `rest`; `None` if it is
/// another line, or cannot be told yet.
fn data_value_len(held: &[u8], rest: &[u8]) -> Option<usize> {
    let mut line = held.iter().chain(rest);
    if !DATA_NAME.iter().all(|byte| line.next() == Some(byte)) {
        return None;
    }
    let space = usize::from(line.next() == Some(&b' '));
    Some(held.len() + rest.len() - DATA_NAME.len() - space)
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Where [`Decoder::read_data_lines`] stopped.
enum DataLines<'c> {
    /// After an event.
    Event(&'c str),
    /// Before a line that the chunk does not end.
    Cut,
    /// Before anything else.
    Other,
}

impl DataLines<'_> {
    /// Before a line whose end is not in the window.
    fn without_end(input: &Input<'_>) -> Self {
        if input.is_all_text() {
            Self::Cut
        } else {
            Self::Other
        }
    }
}

/// What a line led to, and where its text lies.
enum Step<'c> {
    /// An event whose data is lent from the chunk.
    LentEvent(&'c str),
    /// An event whose data is in the block.
    Event,
    LentComment(&'c str),
    /// A comment in the decoder's buffer.
    Comment,
    Retry(Retry),
    Dropped(LimitExceeded),
}

/// The events of one chunk, lent one at a time; see [`Decoder::feed`].
#[derive(Debug)]
pub struct Feed<'d, 'c> {
    decoder: &'d mut Decoder,
    input: Input<'c>,
}

impl<'d, 'c> Feed<'d, 'c> {
    /// The next thing in the chunk, or `None` when the chunk is used up.
    #[expect(
        clippy::should_implement_trait,
        reason = "a lending iterator cannot be an Iterator"
    )]
    #[inline]
    pub fn next(&mut self) -> Option<Decoded<'_>> {
        let step = self.step()?;
        let Decoder { block, comment, .. } = &*self.decoder;
        Some(match step {
            Step::LentEvent(data) => Decoded::Event(EventView {
                data,
                head: &block.head,
            }),
            Step::Event => Decoded::Event(EventView {
                data: block.data(),
                head: &block.head,
            }),
            Step::LentComment(text) => Decoded::Comment(text),
            Step::Comment => Decoded::Comment(comment),
            Step::Retry(retry) => Decoded::Retry(retry),
            Step::Dropped(limit) => Decoded::Dropped(limit),
        })
    }

    /// The next event in the chunk; skips all else.
    #[inline]
    pub fn next_event(&mut self) -> Option<EventView<'_>> {
        loop {
            let lent = match self.step()? {
                Step::LentEvent(data) => Some(data),
                Step::Event => None,
                Step::LentComment(_) | Step::Comment | Step::Retry(_) | Step::Dropped(_) => {
                    continue;
                }
            };
            let block = &self.decoder.block;
            let data = lent.unwrap_or_else(|| block.data());
            return Some(EventView {
                data,
                head: &block.head,
            });
        }
    }

    /// The bytes of the chunk that have not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'c [u8] {
        self.input.rest()
    }

    /// The events of the chunk as an iterator of owned ones; skips all else.
    #[must_use]
    #[inline]
    pub fn owned(self) -> OwnedEvents<'d, 'c> {
        OwnedEvents { feed: self }
    }

    #[inline]
    fn step(&mut self) -> Option<Step<'c>> {
        if self.input.is_used_up() {
            return None;
        }
        self.decoder.read(&mut self.input)
    }
}

/// The events of one chunk, owned; see [`Feed::owned`].
#[derive(Debug)]
pub struct OwnedEvents<'d, 'c> {
    feed: Feed<'d, 'c>,
}

impl Iterator for OwnedEvents<'_, '_> {
    type Item = EventBuf;

    #[inline]
    fn next(&mut self) -> Option<EventBuf> {
        self.feed.next_event().map(|event| event.to_buf())
    }
}
