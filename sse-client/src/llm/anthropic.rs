//! Anthropic's convention: named events from `message_start` to `message_stop`.

use serde::Deserialize;
use sse_protocol::EventBuf;

use super::{ApiError, Convention, Meaning};

/// Anthropic's convention: every event is named, `message_stop` is the last, `ping` means nothing, and
/// `error` may come at any time.
#[derive(Clone, Copy, Debug)]
pub enum Anthropic {}

impl Convention for Anthropic {
    fn read(event: &EventBuf) -> Meaning {
        match event.event_type() {
            "message_stop" => Meaning::LastChunk,
            "error" => Meaning::Error(ApiError::parse(event.data())),
            "ping" => Meaning::Nothing,
            // New kinds of events may come at any time; they are for the caller to know.
            _ => Meaning::Chunk,
        }
    }

    fn text(event: &EventBuf) -> Option<String> {
        #[derive(Deserialize)]
        struct Wire {
            delta: Delta,
        }
        #[derive(Deserialize)]
        struct Delta {
            text: Option<String>,
        }
        if event.event_type() != "content_block_delta" {
            return None;
        }
        serde_json::from_str::<Wire>(event.data()).ok()?.delta.text
    }
}
