//! Messages as an event stream (the HTML standard, section 9.2).

use sse_compress::MessageCompressor;
use sse_protocol::encoder::{self, TextEvent};

use super::{
    About, Format, GapJson, HeartbeatForm, Message, Unavailable, public_id, shown_data, to_json,
};

/// Appends a message's bytes.
pub(super) fn write(
    format: Format,
    message: Message<'_>,
    compressor: &MessageCompressor,
    out: &mut Vec<u8>,
) {
    match message {
        Message::Greeting(greeting) => event(
            TextEvent {
                id: Some(&greeting.at.to_string()),
                event_type: Some("connected"),
                data: &to_json(greeting),
                retry: Some(greeting.retry),
            },
            out,
        ),
        // Its id moves the reader behind the gap, so that it is told once.
        Message::Gap(gap, at) => event(
            TextEvent {
                id: Some(&gap.to.to_string()),
                event_type: Some("gap"),
                data: &to_json(&GapJson::new(gap, at)),
                retry: None,
            },
            out,
        ),
        Message::Event(record) => {
            let position;
            let id = match record.id {
                Some(id) => id,
                None => {
                    position = record.position.to_string();
                    public_id(record, &position)
                }
            };
            let data = shown_data(record);
            let envelope = format
                .compressed
                .then(|| compressor.compress(&data))
                .flatten();
            if format.shows_topics {
                about(&About::new(record.topics(), record.label), out);
            }
            event(
                TextEvent {
                    id: Some(id),
                    event_type: format.event_type(record.topics(), record.event_type),
                    data: envelope.as_deref().unwrap_or(&data),
                    retry: record.retry,
                },
                out,
            );
        }
        Message::State(state) => {
            if format.shows_topics {
                about(&About::new(std::iter::once(state.topic), None), out);
            }
            event(
                TextEvent {
                    id: None,
                    event_type: format
                        .event_type(std::iter::once(state.topic), Some(state.event_type)),
                    data: state.data,
                    retry: None,
                },
                out,
            );
        }
        Message::Heartbeat(HeartbeatForm::Event) => {
            out.extend_from_slice(b"event: ping\ndata: keep-alive\n\n");
        }
        // No blank line: popular clients dispatch an empty event at each.
        Message::Heartbeat(HeartbeatForm::Comment) => out.extend_from_slice(b":\n"),
        Message::Farewell(retry) => encoder::retry(retry, out),
        Message::Unavailable(told) => unavailable(told, out),
    }
}

/// A comment before an event's own lines, so that readers that do not know it pass over it.
fn about(about: &About<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b": about ");
    out.extend_from_slice(to_json(about).as_bytes());
    out.push(b'\n');
}

/// Why a reader gets nothing.
pub(super) fn unavailable(told: &Unavailable<'_>, out: &mut Vec<u8>) {
    event(
        TextEvent {
            id: None,
            event_type: Some("unavailable"),
            data: &to_json(told),
            retry: told.retry,
        },
        out,
    );
}

fn event(event: TextEvent<'_>, out: &mut Vec<u8>) {
    let is_written = encoder::text_event(event, out);
    debug_assert!(is_written, "what the hub says was checked at the door");
}

#[cfg(test)]
mod tests {
    use sse_compress::Level;

    use super::*;

    #[test]
    fn a_comment_heartbeat_is_one_line_and_one_line_feed() {
        let compressor = MessageCompressor::new(1024, Level::Fast);
        let mut out = Vec::new();
        let heartbeat = Message::Heartbeat(HeartbeatForm::Comment);
        write(Format::PLAIN, heartbeat, &compressor, &mut out);
        assert_eq!(out, b":\n");
    }
}
