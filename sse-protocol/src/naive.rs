//! The test oracle: a slow decoder written straight from the standard.
//!
//! It takes the whole stream at once, as text, and follows the standard's sentences one by one. The fast
//! decoder is proved against it; so can others be.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::LimitExceeded;
use crate::limits::Limits;

/// What the stream says, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of `Decoded`")]
pub enum Item {
    Event {
        event_type: String,
        data: String,
        last_event_id: String,
        retry: Option<u64>,
    },
    Comment(String),
    Retry(u64),
    Dropped(LimitExceeded),
}

/// Decodes one whole connection that begins with `last_event_id`; gives what it says and the last event id
/// after it.
#[must_use]
pub fn decode(stream: &[u8], limits: Limits, mut last_event_id: String) -> (Vec<Item>, String) {
    let is_cut_mark = stream.len() < BOM.len() && BOM.starts_with(stream);
    let stream = stream.strip_prefix(BOM).unwrap_or(stream);
    let mut items = Vec::new();
    let mut id_buffer = last_event_id.clone();
    let (mut type_buffer, mut data_buffer) = (String::new(), String::new());
    let (mut retry, mut id_bytes, mut skipping) = (None, 0, false);
    let mut rest = stream;
    while let Some(end) = rest.iter().position(|&b| b == b'\r' || b == b'\n') {
        let raw = &rest[..end];
        rest = &rest[end
            + if rest[end..].starts_with(b"\r\n") {
                2
            } else {
                1
            }..];
        let line = String::from_utf8_lossy(raw);
        if line.is_empty() {
            last_event_id.clone_from(&id_buffer);
            if let Some(data) = data_buffer.strip_suffix('\n') {
                let event_type = if type_buffer.is_empty() {
                    "message"
                } else {
                    &type_buffer
                };
                let (event_type, data) = (event_type.to_owned(), data.to_owned());
                let last_event_id = last_event_id.clone();
                items.push(Item::Event {
                    event_type,
                    data,
                    last_event_id,
                    retry,
                });
            }
            (type_buffer, data_buffer) = (String::new(), String::new());
            (retry, id_bytes, skipping) = (None, 0, false);
            continue;
        }
        if skipping {
            continue;
        }
        let mut dropped = over(
            raw,
            limits,
            data_buffer.len() + type_buffer.len() + id_bytes,
        );
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            _ if dropped.is_some() => {}
            "" => items.push(Item::Comment(value.to_owned())),
            "event" => value.clone_into(&mut type_buffer),
            "data" => data_buffer = data_buffer + value + "\n",
            "id" if !value.contains('\0') => {
                value.clone_into(&mut id_buffer);
                id_bytes = value.len();
            }
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                retry = Some(value.parse().unwrap_or(u64::MAX));
                items.extend(retry.map(Item::Retry));
            }
            _ => {}
        }
        if data_buffer.len() + type_buffer.len() + id_bytes > limits.max_event_bytes() {
            dropped = dropped.or(Some(LimitExceeded::Event {
                limit_bytes: limits.max_event_bytes(),
            }));
        }
        if let Some(limit) = dropped {
            items.push(Item::Dropped(limit));
            (type_buffer, data_buffer) = (String::new(), String::new());
            id_buffer.clone_from(&last_event_id);
            (retry, id_bytes, skipping) = (None, 0, true);
        }
    }
    // What has no line end is dropped, but it may be over a limit already.
    if !skipping && !is_cut_mark {
        let over = over(
            rest,
            limits,
            data_buffer.len() + type_buffer.len() + id_bytes,
        );
        items.extend(over.map(Item::Dropped));
    }
    (items, last_event_id)
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The limit that a line goes over first if it comes byte by byte, into a block that holds `used` bytes.
fn over(line: &[u8], limits: Limits, used: usize) -> Option<LimitExceeded> {
    let value_at = if line.starts_with(b"data: ") { 6 } else { 5 };
    (1..=line.len()).find_map(|len| {
        let data_bytes = len.saturating_sub(value_at) + 1;
        if len > limits.max_line_bytes() {
            Some(LimitExceeded::Line {
                limit_bytes: limits.max_line_bytes(),
            })
        } else if line[..len].starts_with(b"data:") && used + data_bytes > limits.max_event_bytes()
        {
            Some(LimitExceeded::Event {
                limit_bytes: limits.max_event_bytes(),
            })
        } else {
            None
        }
    })
}
