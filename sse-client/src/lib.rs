//! A client for Server-Sent Events on tokio, and the command line tool `sse`.
#![forbid(unsafe_code)]

mod attempt;
mod backoff;
mod builder;
mod clock;
mod content;
mod credentials;
mod dedupe;
mod error;
mod event_source;
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
mod verdict;
mod watchdog;

pub use backoff::ReconnectPolicy;
pub use builder::EventSourceBuilder;
pub use content::ContentError;
pub use credentials::{Ask, Credentials, CredentialsError, CredentialsFuture, bearer};
pub use error::{Cause, Error, Refusal};
pub use event_source::EventSource;
pub use position::{FilePosition, PositionStore, StoreError, position_fn};
pub use publication::{Priority, Publication, Receipt};
pub use publisher::{Publisher, PublisherBuilder};
pub use redirect::{RedirectError, RedirectPolicy};
pub use sse_protocol::{EventBuf, EventId, EventType, LimitExceeded, Limits};
pub use state::{CloseReason, Interruption, Notice, Opened, State};
pub use transport::{Connector, ConnectorBuilder, HttpVersion};
pub use verdict::Mode;

/// Re-exported for [`EventSourceBuilder::header`] and [`Refusal`].
pub use http;
/// Re-exported for [`Refusal::url`] and [`Opened::url`].
pub use url::Url;
