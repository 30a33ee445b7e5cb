//! A client for Server-Sent Events on tokio, and the command line tool `sse`.
#![forbid(unsafe_code)]

mod attempt;
mod backoff;
mod buffered;
mod builder;
mod clock;
mod content;
mod credentials;
mod dedupe;
mod error;
mod event_source;
mod hub;
mod json;
pub mod llm;
mod machine;
mod poll;
mod position;
mod publication;
mod publisher;
mod redirect;
mod request;
mod retry_after;
mod state;
mod transport;
mod typed;
mod verdict;
mod watchdog;

pub use backoff::ReconnectPolicy;
pub use buffered::{BufferedEvents, QueueLimit};
pub use builder::EventSourceBuilder;
pub use content::ContentError;
pub use credentials::{Ask, Credentials, CredentialsError, CredentialsFuture, bearer};
pub use error::{Cause, Error, Refusal};
pub use event_source::EventSource;
pub use hub::{Gap, Greeting, is_heartbeat};
pub use json::Json;
pub use position::{FilePosition, PositionStore, StoreError, position_fn};
pub use publication::{Priority, Publication, Receipt};
pub use publisher::{Publisher, PublisherBuilder};
pub use redirect::{RedirectError, RedirectPolicy};
pub use sse_protocol::message::{Message, MessageData, MessageEvent};
pub use sse_protocol::{EventBuf, EventId, EventType, LimitExceeded, Limits};
pub use state::{CloseReason, Interruption, Notice, Opened, State};
pub use transport::{Connector, ConnectorBuilder, HttpVersion};
pub use typed::{JsonEvents, Typed, TypedError, plain_data};
pub use verdict::Mode;

/// Re-exported for [`EventSourceBuilder::header`] and [`Refusal`].
pub use http;
/// Re-exported for [`Refusal::url`] and [`Opened::url`].
pub use url::Url;
