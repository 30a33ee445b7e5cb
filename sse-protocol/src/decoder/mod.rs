//! The standard layer: bytes to events.

mod excess;
mod feed;

use alloc::string::String;

use self::excess::{DATA_NAME, data_value_len};
pub use self::feed::{Feed, OwnedEvents};
use crate::block::{Block, Field};
use crate::error::LimitExceeded;
use crate::event_id::EventId;
use crate::input::{Input, set_text};
use crate::limits::Limits;
use crate::line::{Assembler, Finished};
use crate::retry::Retry;
use crate::search::{blank_line_len, two_line_ends_len};
use crate::step::{Data, DataLines, Held, Step, Wanted};
use crate::view::EventView;

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
    /// [`Excess::Fail`](crate::Excess::Fail) nothing follows.
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
        }
    }

    /// Takes the next bytes of the connection; call [`Feed::next`] until it gives `None`.
    ///
    /// A feed that is given up earlier leaves its unread bytes in [`Feed::rest`]; feed those next.
    #[must_use = "events come out of `next`"]
    #[inline]
    pub fn feed<'d, 'c>(&'d mut self, chunk: &'c [u8]) -> Feed<'d, 'c> {
        let pos = match chunk {
            &[byte] if self.lines.append_byte(byte) => 1,
            [_] => self.lines.begin_other_chunk(chunk),
            _ => self.lines.begin_chunk(chunk),
        };
        Feed {
            decoder: self,
            input: Input::new(&chunk[pos..]),
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
    /// leaves [`Excess::Fail`](crate::Excess::Fail)'s failure behind. Last event id and reconnection time stay.
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

    /// Why nothing more is decoded: the limit that the stream went over under [`Excess::Fail`](crate::Excess::Fail).
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

    /// The event whose data lies there.
    #[inline]
    fn view<'v>(&'v mut self, data: Data<'v>) -> EventView<'v> {
        let block = &mut self.block;
        let data = match data {
            Data::Lent(text) => text,
            Data::Held(held) => held.text(&self.lines, &mut block.data, &mut block.dispatched),
        };
        EventView {
            data,
            head: &block.head,
        }
    }

    /// Reads lines until one leads to something, or the chunk is used up.
    fn read<'c>(&mut self, input: &mut Input<'c>, wanted: Wanted) -> Option<Step<'c>> {
        if self.block.dispatched {
            self.block.clear();
        }
        if let State::Failed(_) = self.state {
            input.use_up();
            return None;
        }
        self.lines.recycle(input.rest());
        loop {
            let mut known_len = None;
            // Nearly all lines of nearly all streams begin like this.
            if input.rest().starts_with(DATA.as_bytes())
                && self.state == State::Reading
                && self.lines.at_line_start()
            {
                match self.read_data_lines(input) {
                    DataLines::Event(data) => return Some(Step::Event(Data::Lent(data))),
                    DataLines::Cut => return self.keep_rest(input, wanted),
                    DataLines::Long(len) => known_len = Some(len),
                    DataLines::Other => {}
                }
            } else if wanted == Wanted::Events
                && (input.rest().starts_with(b":") || self.lines.is_omitting())
                && self.is_at_comment()
            {
                self.skip_comments(input);
                if input.is_used_up() {
                    return None;
                }
            }
            let Some(len) = known_len.or_else(|| self.lines.search.line_end(input.rest())) else {
                return self.keep_rest(input, wanted);
            };
            let step = self.read_line(input, len, wanted);
            if step.is_some() {
                return step;
            }
            if input.is_used_up() {
                self.end_at_line_end();
                return None;
            }
        }
    }

    /// Reads data lines that end with LF, and stops before anything else. A block of one such line and a blank
    /// one is lent as it lies there.
    #[inline]
    fn read_data_lines<'c>(&mut self, input: &mut Input<'c>) -> DataLines<'c> {
        if input.text().is_empty() {
            // The end is searched before the text is checked: a line without end is not checked here, and a long one
            // not twice.
            let Some(len) = self.lines.search.line_end(input.rest()) else {
                return DataLines::Cut;
            };
            if !Input::fits_window(len) {
                return DataLines::Long(len);
            }
            input.open_window();
        }
        let Some(value) = input.text().strip_prefix(DATA) else {
            return DataLines::Other;
        };
        let Some(len) = input.line_end_in(value, &self.lines.search) else {
            return DataLines::without_end(input);
        };
        let is_within = DATA.len() + len <= self.limits.max_line_bytes()
            && self.block.bytes() + len < self.limits.max_event_bytes();
        if !is_within {
            return DataLines::Other;
        }
        let after = &value.as_bytes()[len..];
        if self.block.data.is_empty()
            && let Some(ends_len) = two_line_ends_len(after)
        {
            let data = &value[..len];
            input.advance(DATA.len() + len + ends_len);
            self.block.dispatch_lent();
            return DataLines::Event(data);
        }
        if after[0] != b'\n' {
            return DataLines::Other;
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
            let Some(len) = input.line_end_in(value, &self.lines.search) else {
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

    /// Whether a line that begins with a colon, or the omitted one that goes on, is a comment to skip.
    #[inline]
    fn is_at_comment(&self) -> bool {
        self.state == State::Reading && (self.lines.is_omitting() || self.lines.at_line_start())
    }

    /// Passes over the rest of an omitted line and the comments that come next, each with the blank line after it where
    /// that ends an empty block; omits a comment that the chunk does not end.
    ///
    /// Only where [`is_at_comment`](Self::is_at_comment).
    #[inline(never)]
    fn skip_comments(&mut self, input: &mut Input<'_>) {
        let ends_nothing = self.block.data.is_empty() && !self.block.touched;
        if ends_nothing && self.lines.pass_quiet(input.rest()) {
            input.use_up();
        } else {
            self.skip_comments_by_lines(input, ends_nothing);
        }
    }

    /// A heartbeat is mostly the same bytes as the one before, so these are compared before a line end is searched.
    #[inline(never)]
    fn skip_comments_by_lines(&mut self, input: &mut Input<'_>, ends_nothing: bool) {
        let whole = input.rest();
        let mut rest = whole;
        loop {
            let Some(len) = self.lines.search.line_end(rest) else {
                if self.lines.omit(rest) {
                    rest = &[];
                }
                break;
            };
            let Some(end_len) = blank_line_len(&rest[len..]) else {
                break;
            };
            if !self.lines.finish_omitted(len) {
                break;
            }
            let mut after = &rest[len + end_len..];
            if ends_nothing && let Some(blank_len) = blank_line_len(after) {
                after = &after[blank_len..];
            }
            let block = &rest[..rest.len() - after.len()];
            rest = after;
            if block.len() <= REPEATED_COMMENT_BYTES
                && block.starts_with(b":")
                && block.ends_with(b"\n")
            {
                while let Some(after) = rest.strip_prefix(block) {
                    rest = after;
                }
            }
            if !rest.starts_with(b":") {
                break;
            }
        }
        if rest.is_empty() {
            input.use_up();
        } else {
            input.advance(whole.len() - rest.len());
        }
    }

    /// Reads the line that ends, or whose last part ends, after `len` bytes: any line, in any state.
    fn read_line<'c>(
        &mut self,
        input: &mut Input<'c>,
        len: usize,
        wanted: Wanted,
    ) -> Option<Step<'c>> {
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
            return self.finish_line(line, input, wanted);
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
            return Some(Step::Event(Data::Lent(data)));
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
            Field::Blank => {
                return block
                    .dispatch()
                    .then_some(Step::Event(Data::Held(Held::Block)));
            }
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
    #[inline(never)]
    fn finish_line<'c>(
        &mut self,
        end: &[u8],
        input: &mut Input<'c>,
        wanted: Wanted,
    ) -> Option<Step<'c>> {
        match self.lines.finish(end) {
            Finished::Discarded => None,
            Finished::TooLong => {
                let step = self.exceed_line(end);
                self.lines.abandon_too_long();
                Some(step)
            }
            Finished::Buffered => {
                let line = self.lines.finished();
                let (field, at) = Field::of(line);
                let blank_len = match field {
                    Field::Data => blank_line_len(input.rest()),
                    _ => None,
                };
                if let Some(blank_len) = blank_len
                    && self.block.data.is_empty()
                    && self.has_room_as_text(line.len() - at)
                {
                    input.advance(blank_len);
                    self.block.dispatch_lent();
                    return Some(Step::Event(Data::Held(Held::Line(at))));
                }
                if field == Field::Comment && wanted == Wanted::Events {
                    self.lines.recycle(input.rest());
                    return None;
                }
                let line = self.lines.take_finished();
                let step = self.interpret(field, &line[at..], None);
                self.lines.give_back(line);
                self.lines.recycle(input.rest());
                if step.is_none()
                    && let Some(blank_len) = blank_len
                {
                    input.advance(blank_len);
                    self.block.dispatch();
                    return Some(Step::Event(Data::Held(Held::Block)));
                }
                step
            }
        }
    }

    /// Whether a value of so many bytes is within the event limit, even if each of them becomes U+FFFD.
    #[inline]
    fn has_room_as_text(&self, value_len: usize) -> bool {
        let limit = self.limits.max_event_bytes();
        value_len
            < limit.saturating_sub(self.block.bytes()) / char::REPLACEMENT_CHARACTER.len_utf8()
    }

    /// Passes over the end of a line after a drop; a blank one ends the dropped block.
    #[cold]
    fn skip_line(&mut self, end: &[u8]) {
        if end.is_empty() && self.lines.at_line_start() {
            self.state = State::Reading;
        }
        self.lines.abandon();
    }

    /// Ends a chunk behind a line: what comes next may be appended.
    #[inline(never)]
    fn end_at_line_end(&mut self) {
        if self.state == State::Reading {
            let limit = self.limits.max_event_bytes();
            self.lines
                .allow_unseen(limit.saturating_sub(self.block.bytes() + 1));
        }
    }

    /// Keeps the beginning of a line whose end has not come yet.
    #[inline(never)]
    fn keep_rest<'c>(&mut self, input: &mut Input<'c>, wanted: Wanted) -> Option<Step<'c>> {
        let rest = input.rest();
        if rest.is_empty() {
            self.end_at_line_end();
            return None;
        }
        input.use_up();
        if self.state != State::Reading {
            self.lines.discard();
            return None;
        }
        let is_asked_for = match self.lines.partial().first().or(rest.first()) {
            Some(b':') => wanted == Wanted::All,
            Some(b'd' | b'e' | b'i' | b'r') | None => true,
            // A field that the standard does not know.
            Some(_) => false,
        };
        let is_within = if is_asked_for && !self.lines.is_omitting() {
            self.lines.keep(rest)
        } else {
            self.lines.omit(rest)
        };
        if !is_within {
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
}

/// How nearly all data lines begin.
const DATA: &str = "data: ";

/// A comment and its blank line up to this length are remembered, to pass quickly over the same again. A guess: longer
/// than heartbeats are.
const REPEATED_COMMENT_BYTES: usize = 256;

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}
