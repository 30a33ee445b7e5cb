//! Events to bytes.
//!
//! Each function appends one complete block, blank line included, to a buffer that can be reused. None of
//! them can fail: what the format cannot carry was refused when [`EventId`] and [`EventType`]
//! were made.
//!
//! A space follows the colon unless the value is empty, so a value's own leading space survives.
//!
//! ```
//! use sse_protocol::{EventRef, encoder};
//!
//! let mut out = Vec::new();
//! encoder::comment("still here", &mut out);
//! encoder::event(EventRef::new("two\nlines"), &mut out);
//! assert_eq!(out, b": still here\n\ndata: two\ndata: lines\n\n");
//! ```

use alloc::vec::Vec;

use memchr::{memchr2, memchr3};

use crate::event::EventRef;
use crate::event_id::EventId;
use crate::event_type::EventType;
use crate::retry::Retry;

/// Appends an event.
///
/// CR, LF and CRLF in its data each begin a new `data` line; a trailing one survives as an empty last line.
#[inline]
pub fn event(event: EventRef<'_>, out: &mut Vec<u8>) {
    let event_type = event.event_type.map(EventType::as_str);
    fields(
        event_type,
        event.id.map(EventId::as_str),
        event.retry,
        event.data,
        out,
    );
}

/// An event that was an [`EventRef`] once, and is text again: as a log gives it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextEvent<'a> {
    /// See [`Event::id`](crate::Event::id).
    pub id: Option<&'a str>,
    /// See [`Event::event_type`](crate::Event::event_type).
    pub event_type: Option<&'a str>,
    /// See [`Event::data`](crate::Event::data).
    pub data: &'a str,
    /// See [`Event::retry`](crate::Event::retry).
    pub retry: Option<Retry>,
}

/// Appends an event whose id and type are text, without making an [`EventId`] and an
/// [`EventType`] of them, which allocate.
///
/// They are looked at all the same: when one of them cannot be written, nothing is, and the answer is
/// `false`.
///
/// ```
/// use sse_protocol::encoder::{self, TextEvent};
///
/// let mut out = Vec::new();
/// let event = TextEvent { id: Some("7"), data: "hello", ..TextEvent::default() };
/// assert!(encoder::text_event(event, &mut out));
/// assert_eq!(out, b"id: 7\ndata: hello\n\n");
/// let forged = TextEvent { id: Some("7\ndata: forged"), ..event };
/// assert!(!encoder::text_event(forged, &mut out));
/// ```
#[inline]
pub fn text_event(event: TextEvent<'_>, out: &mut Vec<u8>) -> bool {
    let is_an_id = |id: &str| memchr3(b'\r', b'\n', 0, id.as_bytes()).is_none();
    let is_a_type =
        |text: &str| !text.is_empty() && memchr2(b'\r', b'\n', text.as_bytes()).is_none();
    let can_be_written = event.id.is_none_or(is_an_id) && event.event_type.is_none_or(is_a_type);
    if can_be_written {
        fields(event.event_type, event.id, event.retry, event.data, out);
    }
    can_be_written
}

#[inline]
fn fields(
    event_type: Option<&str>,
    id: Option<&str>,
    retry: Option<Retry>,
    data: &str,
    out: &mut Vec<u8>,
) {
    if let Some(event_type) = event_type {
        field(b"event: ", event_type.as_bytes(), out);
    }
    if let Some(id) = id {
        field(b"id: ", id.as_bytes(), out);
    }
    if let Some(time) = retry {
        retry_field(time, out);
    }
    let data = data.as_bytes();
    if !data.is_empty() && is_one_line(data) {
        out.reserve(data.len() + b"data: \n\n".len());
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(data);
        out.extend_from_slice(b"\n\n");
    } else {
        lines(b"data: ", data, out);
        out.push(b'\n');
    }
}

/// How many bytes [`event`] appends for this event.
#[must_use]
pub fn event_len(event: EventRef<'_>) -> usize {
    let event_type = event.event_type.map_or(0, |t| t.as_str().len() + 8);
    let id = event.id.map_or(0, |id| {
        if id.is_empty() {
            4
        } else {
            id.as_str().len() + 5
        }
    });
    let retry = event.retry.map_or(0, |r| 8 + decimal_len(r.as_millis()));
    let mut data = 0;
    each_line(event.data.as_bytes(), |line| {
        data += if line.is_empty() { 6 } else { line.len() + 7 };
    });
    event_type + id + retry + data + 1
}

/// Appends a comment; each of its lines begins with a colon. Readers ignore it, proxies see a byte.
pub fn comment(text: &str, out: &mut Vec<u8>) {
    lines(b": ", text.as_bytes(), out);
    out.push(b'\n');
}

/// Appends a block that only sets the reader's reconnection time.
pub fn retry(retry: Retry, out: &mut Vec<u8>) {
    retry_field(retry, out);
    out.push(b'\n');
}

/// Appends a block that only sets the reader's last event id: nothing is dispatched, but the reader resumes
/// from here.
pub fn id(id: &EventId, out: &mut Vec<u8>) {
    field(b"id: ", id.as_str().as_bytes(), out);
    out.push(b'\n');
}

/// Writes one field; `name` ends with colon and space, and an empty value takes no space.
fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if value.is_empty() {
        out.extend_from_slice(&name[..name.len() - 1]);
    } else {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
    out.push(b'\n');
}

/// Whether there is neither CR nor LF.
///
/// Most data has no control characters at all, and the smallest byte says so in half the time of a search.
#[inline]
fn is_one_line(data: &[u8]) -> bool {
    const BLOCK: usize = 64;
    if let Some(last) = data.last_chunk::<BLOCK>() {
        let mut smallest = *last;
        for block in data.as_chunks::<BLOCK>().0 {
            for (least, byte) in smallest.iter_mut().zip(block) {
                *least = (*least).min(*byte);
            }
        }
        if smallest
            .iter()
            .fold(true, |all, byte| all & (*byte > b'\r'))
        {
            return true;
        }
    }
    memchr2(b'\r', b'\n', data).is_none()
}

fn lines(name: &[u8], text: &[u8], out: &mut Vec<u8>) {
    each_line(text, |line| field(name, line, out));
}

/// Calls `each` for every line of `text`: at least one, and one more after a trailing line end.
fn each_line(mut text: &[u8], mut each: impl FnMut(&[u8])) {
    while let Some(end) = memchr2(b'\r', b'\n', text) {
        each(&text[..end]);
        let crlf = text[end] == b'\r' && text.get(end + 1) == Some(&b'\n');
        text = &text[end + 1 + usize::from(crlf)..];
    }
    each(text);
}

fn retry_field(retry: Retry, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut millis = retry.as_millis();
    loop {
        at -= 1;
        digits[at] = b'0' + (millis % 10) as u8;
        millis /= 10;
        if millis == 0 {
            break;
        }
    }
    field(b"retry: ", &digits[at..], out);
}

fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
