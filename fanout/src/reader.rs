//! One reader: a connection from `connect` to its last byte.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::tally::Tally;
use crate::unpack::Unpacker;
use crate::wire::{Framing, Head, events};

/// What a reader does with its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Reads and checks every event; inflates first when the stream is compressed.
    Check,
    /// Reads and checks, but a compressed stream is only kept, to be inflated when nobody measures.
    Keep,
    /// Never reads.
    Never,
}

/// ```text
/// Connecting ──writable──▶ Head ──empty line──▶ Body ──end, error──▶ Closed
///                            └── never reads ──▶ Stalled
/// ```
enum State {
    Connecting,
    Head(Vec<u8>),
    Body(Body),
    Stalled,
    Closed,
}

struct Body {
    framing: Framing,
    content: Content,
}

enum Content {
    /// The events as they are; the beginning of one that is not whole yet.
    Plain(Vec<u8>),
    /// Compressed and inflated at once; what is inflated and not whole yet is in the writer.
    Inflated(Unpacker),
    /// Compressed and kept.
    Kept(Vec<u8>),
}

pub(crate) struct Reader {
    pub(crate) stream: Option<TcpStream>,
    state: State,
    reading: Reading,
    /// How many of the load's events it has had, in the order that all see.
    pub(crate) place: u32,
    /// Bytes received, heads and framing included.
    pub(crate) bytes: u64,
}

/// What became of a reader when its socket was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Nothing that anyone must know.
    Goes,
    /// Its response's head is there: it is subscribed.
    Subscribed,
    /// The server refused it, ended it, or broke the rules of framing.
    Ended,
}

impl Reader {
    pub(crate) fn connecting(stream: TcpStream, reading: Reading) -> Self {
        Self {
            stream: Some(stream),
            state: State::Connecting,
            reading,
            place: 0,
            bytes: 0,
        }
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        matches!(self.state, State::Body(_) | State::Stalled)
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting)
    }

    /// Whether each of its events is checked as it comes.
    pub(crate) fn is_checked(&self) -> bool {
        match &self.state {
            State::Body(body) => !matches!(body.content, Content::Kept(..)),
            _ => false,
        }
    }

    /// Whether its stream is compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        match &self.state {
            State::Body(body) => !matches!(body.content, Content::Plain(_)),
            _ => false,
        }
    }

    /// Sends the request of a reader whose connection is there.
    pub(crate) fn request(&mut self, request: &[u8]) -> Ready {
        let sent = self.stream.as_ref().map(|mut stream| stream.write(request));
        if matches!(sent, Some(Ok(len)) if len == request.len()) {
            self.state = State::Head(Vec::new());
            Ready::Goes
        } else {
            Ready::Ended
        }
    }

    /// A reader that will never read is subscribed when there is something to read.
    pub(crate) fn stalls(&mut self) -> bool {
        let stalls = self.reading == Reading::Never && matches!(self.state, State::Head(_));
        if stalls {
            self.state = State::Stalled;
        }
        stalls
    }

    /// Begins to read after all.
    pub(crate) fn wake(&mut self) {
        if matches!(self.state, State::Stalled) {
            self.reading = Reading::Check;
            self.state = State::Head(Vec::new());
        }
    }

    pub(crate) fn close(&mut self) {
        self.stream = None;
        self.state = State::Closed;
    }

    /// Reads what is there, into `buffer` first; `to_end` when the server has said its last.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        to_end: bool,
        mut on_data: impl FnMut(&mut u32, &[u8]),
    ) -> Ready {
        let mut result = Ready::Goes;
        loop {
            let Some(mut stream) = self.stream.as_ref() else {
                return result;
            };
            let len = match stream.read(buffer) {
                Ok(0) => return Ready::Ended,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return result,
                Err(_) => return Ready::Ended,
            };
            self.bytes += len as u64;
            match self.received(&mut buffer[..len], &mut on_data) {
                Ready::Goes => {}
                other => result = other,
            }
            // An edge-triggered socket that gave less than asked for has no more.
            if result == Ready::Ended || (len < buffer.len() && !to_end) {
                return result;
            }
        }
    }

    fn received(&mut self, bytes: &mut [u8], on_data: &mut impl FnMut(&mut u32, &[u8])) -> Ready {
        let place = &mut self.place;
        match &mut self.state {
            State::Body(body) => match body.received(bytes, |data| on_data(place, data)) {
                true => Ready::Goes,
                false => Ready::Ended,
            },
            State::Head(head_bytes) => {
                head_bytes.extend_from_slice(bytes);
                let Some(head) = Head::parse(head_bytes) else {
                    return Ready::Goes;
                };
                if head.status != 200 || !head.is_event_stream {
                    return Ready::Ended;
                }
                let mut rest = head_bytes.split_off(head.len);
                let mut body = Body::of(&head, self.reading);
                let is_sound = body.received(&mut rest, |data| on_data(place, data));
                self.state = State::Body(body);
                if is_sound {
                    Ready::Subscribed
                } else {
                    Ready::Ended
                }
            }
            State::Connecting | State::Stalled | State::Closed => Ready::Goes,
        }
    }

    /// Inflates what was kept and hands each event's data to `on_data`; returns whether it was
    /// sound. What the stream held before is forgotten only when the reader is.
    pub(crate) fn inflate_kept(&self, on_data: impl FnMut(&[u8])) -> bool {
        let State::Body(Body {
            content: Content::Kept(kept),
            ..
        }) = &self.state
        else {
            return true;
        };
        let mut unpacker = Unpacker::new();
        let is_sound = unpacker.feed(kept).is_ok();
        events(unpacker.text(), on_data);
        is_sound
    }

    /// Tells `tally` that this reader is gone.
    pub(crate) fn leave(&self, tally: &mut Tally) {
        if self.is_checked() {
            tally.left(self.place);
        }
    }
}

impl Body {
    fn of(head: &Head, reading: Reading) -> Self {
        let content = match (head.is_gzip, reading) {
            (false, _) => Content::Plain(Vec::new()),
            (true, Reading::Keep) => Content::Kept(Vec::new()),
            (true, _) => Content::Inflated(Unpacker::new()),
        };
        Self {
            framing: Framing::of(head),
            content,
        }
    }

    /// Takes in what was received; false when it breaks a rule.
    fn received(&mut self, bytes: &mut [u8], on_data: impl FnMut(&[u8])) -> bool {
        let Ok(len) = self.framing.strip(bytes) else {
            return false;
        };
        let bytes = &bytes[..len];
        match &mut self.content {
            Content::Kept(kept) => kept.extend_from_slice(bytes),
            Content::Inflated(inflater) => {
                if inflater.feed(bytes).is_err() {
                    return false;
                }
                let used = events(inflater.text(), on_data);
                inflater.forget(used);
            }
            Content::Plain(begun) if begun.is_empty() => {
                let used = events(bytes, on_data);
                begun.extend_from_slice(&bytes[used..]);
            }
            Content::Plain(begun) => {
                begun.extend_from_slice(bytes);
                let used = events(begun, on_data);
                begun.drain(..used);
            }
        }
        true
    }
}
