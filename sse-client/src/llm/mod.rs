//! Streams of language models.
//!
//! Their APIs add conventions to Server-Sent Events: the end is told in-band (`[DONE]`, `message_stop`), and errors come
//! in the middle of a stream that was answered with 200. A reader that knows only events mistakes a stream that broke
//! off for one that ended, and an error for a token. A [`Completion`]
//! tells them apart: it ends with `None` only after the in-band end.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use sse_client::{EventSource, llm};
//!
//! let body = serde_json::json!({
//!     "model": "some-model",
//!     "stream": true,
//!     "messages": [{ "role": "user", "content": "hello" }],
//! });
//! let source = EventSource::builder("https://llm.example/v1/chat/completions")
//!     .bearer("key")
//!     .json(&body)
//!     .build()?;
//! let mut answer = llm::openai(source);
//! while let Some(chunk) = answer.next().await {
//!     print!("{}", chunk?.text().unwrap_or_default());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The request is a POST, so it is not sent again once an answer has begun: a second answer costs as much as the
//! first. After a temporary refusal (429, 503) it waits and tries again; see
//! [`ReconnectPolicy::max_attempts`](crate::ReconnectPolicy::max_attempts) for a limit.

mod anthropic;
mod openai;

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sse_protocol::EventBuf;

pub use self::anthropic::Anthropic;
pub use self::openai::OpenAi;
use crate::error::Error;
use crate::event_source::EventSource;

/// A completion in OpenAI's convention, which many servers follow.
pub fn openai(source: EventSource) -> Completion<OpenAi> {
    Completion::new(source)
}

/// A completion in Anthropic's convention.
pub fn anthropic(source: EventSource) -> Completion<Anthropic> {
    Completion::new(source)
}

/// How an API uses events. Pure: a function of one event.
pub trait Convention {
    /// What an event means.
    fn read(event: &EventBuf) -> Meaning;

    /// The piece of the answer's text that an event carries.
    fn text(event: &EventBuf) -> Option<String>;
}

/// What an event means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meaning {
    /// A part of the answer.
    Chunk,
    /// A part of the answer, and the last.
    LastChunk,
    /// The end, and nothing else.
    End,
    /// Nothing, such as a heartbeat.
    Nothing,
    /// The answer failed in the middle.
    Error(ApiError),
}

/// What an API says about a failure in the middle of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ApiError {
    /// The kind, such as `overloaded_error`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
}

impl ApiError {
    /// From `{"error": {"type", "message"}}`, `{"error": "…"}`, or `{"message": …}`; from other data, that as
    /// the message.
    fn parse(data: &str) -> Self {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Nested {
                error: ApiError,
            },
            Text {
                error: String,
            },
            Flat {
                message: String,
                #[serde(rename = "type")]
                kind: Option<String>,
            },
        }
        match serde_json::from_str(data) {
            Ok(Wire::Nested { error }) => error,
            Ok(Wire::Text { error: message }) => Self {
                kind: None,
                message,
            },
            Ok(Wire::Flat { message, kind }) => Self { kind, message },
            Err(_) => Self {
                kind: None,
                message: data.to_owned(),
            },
        }
    }
}

/// Why a completion failed. Nothing follows.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompletionError {
    /// The source failed: no connection, or an answer that is not a stream.
    #[error(transparent)]
    Source(#[from] Error),
    /// The API said so in the middle of the stream.
    #[error("the answer failed: {0}")]
    Api(ApiError),
    /// The stream ended without the in-band end: the answer is not whole.
    #[error("the answer broke off")]
    Incomplete,
}

/// A language model's answer, piece by piece.
#[must_use = "it is read by `next`"]
pub struct Completion<C> {
    source: EventSource,
    ended: bool,
    convention: PhantomData<fn() -> C>,
}

impl<C: Convention> Completion<C> {
    /// Reads the answer from `source`.
    pub fn new(source: EventSource) -> Self {
        Self {
            source,
            ended: false,
            convention: PhantomData,
        }
    }

    /// The next piece; `None` after the in-band end, and for ever after an error.
    ///
    /// # Errors
    ///
    /// [`CompletionError`], once. What came before it was delivered before it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Chunk<C>, CompletionError>> {
        while !self.ended {
            let event = match self.source.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => {
                    self.end();
                    // What ends without the in-band end is not whole, however the connection ended.
                    return Some(Err(match error {
                        Error::Ended | Error::CutShort => CompletionError::Incomplete,
                        error => error.into(),
                    }));
                }
                None => {
                    self.end();
                    return Some(Err(CompletionError::Incomplete));
                }
            };
            match C::read(&event) {
                Meaning::Nothing => {}
                Meaning::End => self.end(),
                Meaning::Chunk => return Some(Ok(Chunk::new(event))),
                Meaning::LastChunk => {
                    self.end();
                    return Some(Ok(Chunk::new(event)));
                }
                Meaning::Error(error) => {
                    self.end();
                    return Some(Err(CompletionError::Api(error)));
                }
            }
        }
        None
    }

    /// The source: its state, the URL after redirects.
    pub fn source(&self) -> &EventSource {
        &self.source
    }

    fn end(&mut self) {
        self.ended = true;
        self.source.close();
    }
}

impl<C> fmt::Debug for Completion<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion")
            .field("source", &self.source)
            .field("ended", &self.ended)
            .finish()
    }
}

/// A piece of an answer.
pub struct Chunk<C> {
    event: EventBuf,
    convention: PhantomData<fn() -> C>,
}

impl<C: Convention> Chunk<C> {
    fn new(event: EventBuf) -> Self {
        Self {
            event,
            convention: PhantomData,
        }
    }

    /// The event as it came.
    #[must_use]
    pub fn event(&self) -> &EventBuf {
        &self.event
    }

    /// The piece of text in it, if there is one: the first choice's, or that of a text block.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        C::text(&self.event)
    }

    /// All of it, as a value of the caller's type.
    ///
    /// # Errors
    ///
    /// When the data does not fit the type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.event.data())
    }
}

impl<C> fmt::Debug for Chunk<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chunk").field(&self.event).finish()
    }
}
