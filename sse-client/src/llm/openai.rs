//! OpenAI's conventions: chat completions with `[DONE]`, and responses with named events.

use serde::Deserialize;
use serde::de::IgnoredAny;
use sse_protocol::EventBuf;

use super::{ApiError, Convention, Meaning};

/// OpenAI's convention, as it and the many servers that follow it speak it.
///
/// *Chat completions:* unnamed events, each a chunk; the end is `data: [DONE]`; an object with a member
/// `error` is a failure. *Responses:* named events; `response.completed`, `response.incomplete` and
/// `response.failed` are the last, `error` is a failure.
#[derive(Clone, Copy, Debug)]
pub enum OpenAi {}

impl Convention for OpenAi {
    fn read(event: &EventBuf) -> Meaning {
        #[derive(Deserialize)]
        struct Probe {
            error: Option<IgnoredAny>,
        }
        let data = event.data();
        if data.trim() == "[DONE]" {
            return Meaning::End;
        }
        match event.event_type() {
            "error" => Meaning::Error(ApiError::parse(data)),
            "response.completed" | "response.incomplete" | "response.failed" => Meaning::LastChunk,
            "message" if data.is_empty() => Meaning::Nothing,
            // A chunk of a response may hold `"error": null`, so it is not enough to look for the word.
            _ => match serde_json::from_str::<Probe>(data) {
                Ok(Probe { error: Some(_) }) => Meaning::Error(ApiError::parse(data)),
                _ => Meaning::Chunk,
            },
        }
    }

    fn text(event: &EventBuf) -> Option<String> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            choices: Vec<Choice>,
            #[serde(default)]
            delta: Option<serde_json::Value>,
        }
        #[derive(Deserialize)]
        struct Choice {
            #[serde(default)]
            delta: Delta,
        }
        #[derive(Default, Deserialize)]
        struct Delta {
            content: Option<String>,
        }
        let wire: Wire = serde_json::from_str(event.data()).ok()?;
        if event.event_type() == "response.output_text.delta" {
            return wire.delta?.as_str().map(str::to_owned);
        }
        wire.choices.into_iter().next()?.delta.content
    }
}
