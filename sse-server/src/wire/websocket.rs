//! Messages as WebSocket text messages: one JSON object each, in a line of its own.
//!
//! ```json
//! {"event": "progress", "id": "…", "position": "…", "topic": "job/42", "data": {"progress": 3}}
//! ```
//!
//! `data` is what the publisher said: JSON stays JSON, a string is a string. Whoever writes the lines to a socket sends
//! each as one message, and an empty line as a ping. The farewell is no message: it goes into the close frame.

use serde::Serialize;
use serde_json::value::RawValue;
use sse_broker::DataKind;
use sse_compress::MessageCompressor;

use super::{Format, GapJson, Message, public_id, shown_data, to_json};

#[derive(Serialize)]
struct EventJson<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

/// Appends a message's line.
pub(super) fn write(
    format: Format,
    message: Message<'_>,
    compressor: &MessageCompressor,
    out: &mut Vec<u8>,
) {
    match message {
        Message::Greeting(greeting) => {
            let (at, data) = (greeting.at.to_string(), to_json(greeting));
            let json = EventJson {
                event: "connected",
                id: Some(&at),
                position: Some(&at),
                topic: None,
                data: json_or_text(&data),
            };
            line(&json, out);
        }
        Message::Gap(gap, at) => {
            let (to, data) = (gap.to.to_string(), to_json(&GapJson::new(gap, at)));
            let json = EventJson {
                event: "gap",
                id: Some(&to),
                position: Some(&to),
                topic: None,
                data: json_or_text(&data),
            };
            line(&json, out);
        }
        Message::Event(record) => {
            let position = record.position.to_string();
            let shown = shown_data(record);
            let envelope = format
                .compressed
                .then(|| compressor.compress(&shown))
                .flatten();
            let data = match &envelope {
                Some(envelope) => json_or_text(envelope),
                None if record.data_kind == DataKind::Json => json_or_text(&shown),
                None => Data::Text(&shown),
            };
            let json = EventJson {
                event: format
                    .event_type(record.topics(), record.event_type)
                    .unwrap_or("message"),
                id: Some(public_id(record, &position)),
                position: Some(&position),
                topic: record.topics().next(),
                data,
            };
            line(&json, out);
        }
        Message::State(state) => {
            let json = EventJson {
                event: format
                    .event_type(std::iter::once(state.topic), Some(state.event_type))
                    .unwrap_or(state.event_type),
                id: None,
                position: None,
                topic: Some(state.topic),
                data: json_or_text(state.data),
            };
            line(&json, out);
        }
        Message::Heartbeat(_) => out.push(b'\n'),
        // The close frame says both.
        Message::Farewell(_) | Message::Unavailable(_) => {}
    }
}

/// What was published as JSON is JSON still; should it not be, it is text.
fn json_or_text(text: &str) -> Data<'_> {
    serde_json::from_str(text).map_or(Data::Text(text), Data::Json)
}

fn line(json: &EventJson<'_>, out: &mut Vec<u8>) {
    let from = out.len();
    serde_json::to_writer(&mut *out, json).expect("texts and JSON are always JSON");
    // JSON as it was published may stand in several lines; between its values a blank means the same.
    for byte in &mut out[from..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use sse_compress::Level;

    use super::*;
    use crate::wire::State;

    #[test]
    fn a_message_is_one_line_whatever_its_data_looks_like() {
        let compressor = MessageCompressor::new(1024, Level::Fast);
        let state = State {
            topic: "job/1",
            event_type: "status",
            data: "{\"a\":\r\n 1.50,\n\"b\": \"x\\ny\"}",
        };
        let mut out = Vec::new();
        write(
            Format::default(),
            Message::State(state),
            &compressor,
            &mut out,
        );
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "{\"event\":\"status\",\"topic\":\"job/1\",\"data\":{\"a\":   1.50, \"b\": \"x\\ny\"}}\n"
        );
    }
}
