//! Events as values of the caller's types.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use sse_protocol::EventBuf;
use sse_protocol::message::{InvalidMessage, Message, MessageEvent};

use crate::error::Error;
use crate::event_source::EventSource;

/// Why an event has no value of the wanted type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// The source has failed for good; nothing follows.
    #[error(transparent)]
    Source(#[from] Error),
    /// The data is not the JSON that was expected. The next event may be.
    #[error("data of event {:?} is not what was expected", .event.event_type())]
    Json {
        /// The event.
        event: EventBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The data is not the standard envelope. The next event may be.
    #[error("data of event {:?} is not a standard envelope", .event.event_type())]
    Message {
        /// The event.
        event: EventBuf,
        /// What is wrong with it.
        source: InvalidMessage,
    },
    /// The data is a compressed message that cannot be opened. The next event may be fine.
    #[error("compressed data of event {:?} cannot be opened", .event.event_type())]
    Compressed {
        /// The event.
        event: EventBuf,
        /// What is wrong with it.
        source: crate::error::Cause,
    },
}

/// An event and its data as a value.
#[derive(Clone, Debug)]
pub struct Typed<T> {
    event: EventBuf,
    value: T,
}

impl<T> Typed<T> {
    /// The event as it came: type, id, text.
    #[must_use]
    pub fn event(&self) -> &EventBuf {
        &self.event
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The value alone.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

/// The events of a source whose data is JSON; see [`EventSource::json`].
#[must_use = "events come out of `next`"]
pub struct JsonEvents<'s, T> {
    source: &'s mut EventSource,
    only: Option<Vec<String>>,
    value: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for JsonEvents<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonEvents")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl EventSource {
    /// The events with their data as values of `T`.
    ///
    /// Data in the compressed envelope is opened first (feature `decode`).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// #[derive(serde::Deserialize)]
    /// struct Progress { progress: f64 }
    ///
    /// let mut events = sse_client::EventSource::new("http://127.0.0.1:8080/events?topic=job/42")?;
    /// let mut steps = events.json::<Progress>().only(["progress"]);
    /// while let Some(step) = steps.next().await {
    ///     println!("{} %", step?.value().progress);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn json<T: DeserializeOwned>(&mut self) -> JsonEvents<'_, T> {
        JsonEvents {
            source: self,
            only: None,
            value: PhantomData,
        }
    }

    /// The next event that is a standard envelope: `progress`, `complete`, `error`, `educational`,
    /// `status`. Events of other types are passed over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next_message(&mut self) -> Option<Result<Typed<Message>, TypedError>> {
        loop {
            let event = match self.next().await? {
                Ok(event) => event,
                Err(error) => return Some(Err(error.into())),
            };
            let name = event.event_type();
            let parsed = match plain_data(&event) {
                Ok(data) => Message::parse(name, &data),
                Err(source) => return Some(Err(TypedError::Compressed { event, source })),
            };
            return Some(match parsed {
                Ok(value) => Ok(Typed { event, value }),
                // Of another type, so nobody said that it is one.
                Err(_) if MessageEvent::from_name(name).is_none() => continue,
                Err(source) => Err(TypedError::Message { event, source }),
            });
        }
    }
}

impl<T: DeserializeOwned> JsonEvents<'_, T> {
    /// Passes over events of other types than these.
    pub fn only<I>(mut self, event_types: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.only = Some(event_types.into_iter().map(Into::into).collect());
        self
    }

    /// The next event. An event that does not fit is an error, and the next one may fit; after
    /// [`TypedError::Source`] nothing follows.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future loses no event.
    pub async fn next(&mut self) -> Option<Result<Typed<T>, TypedError>> {
        loop {
            let event = match self.source.next().await? {
                Ok(event) => event,
                Err(error) => return Some(Err(error.into())),
            };
            let only = self.only.as_deref();
            if only.is_some_and(|only| !only.iter().any(|name| name == event.event_type())) {
                continue;
            }
            let parsed = match plain_data(&event) {
                Ok(data) => serde_json::from_str(&data),
                Err(source) => return Some(Err(TypedError::Compressed { event, source })),
            };
            return Some(match parsed {
                Ok(value) => Ok(Typed { event, value }),
                Err(source) => Err(TypedError::Json { event, source }),
            });
        }
    }
}

/// The data of an event, taken out of the compressed envelope if it is in one.
///
/// A hub puts large messages into `{"compressed": true, "encoding": "gzip", …}` for readers that ask for it.
/// Without the feature `decode` they are left as they are.
///
/// # Errors
///
/// When it is an envelope that cannot be opened, or would become larger than 16 MiB.
pub fn plain_data(event: &EventBuf) -> Result<Cow<'_, str>, crate::error::Cause> {
    #[cfg(feature = "decode")]
    if let Some(plain) = sse_compress::open_envelope(event.data(), MAX_MESSAGE_BYTES)
        .map_err(|error| std::sync::Arc::new(error) as crate::error::Cause)?
    {
        return Ok(Cow::Owned(plain));
    }
    Ok(Cow::Borrowed(event.data()))
}

/// As large as an event may be by default.
#[cfg(feature = "decode")]
const MAX_MESSAGE_BYTES: usize = sse_protocol::Limits::DEFAULT_MAX_EVENT_BYTES;
