//! A client for Server-Sent Events on tokio, hyper and rustls, and the command line tool `sse`.
//!
//! ```no_run
//! # async fn example() -> Result<(), sse_client::Error> {
//! let mut events = sse_client::EventSource::new("https://hub.example/events?topic=news")?;
//! while let Some(event) = events.next().await {
//!     let event = event?;
//!     println!("{} {}", event.event_type(), event.data());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! That loop survives restarts, cut connections, sleeping laptops and silent proxies, and resumes after the last
//! event each time. It ends when it is closed, or when another attempt would be wrong.
//!
//! # The parts
//!
//! | part | for |
//! |---|---|
//! | [`EventSource`] | reading: events, or with [`next_notice`](EventSource::next_notice) everything that happens |
//! | [`EventSourceBuilder`] | all settings: headers, body, credentials, limits, position, fallback |
//! | [`ReconnectPolicy`], [`RedirectPolicy`], [`Mode`] | when to try again, which redirects to follow, how strict to be |
//! | [`Connector`] | time limits, proxies, TLS, the HTTP version; shared by many sources |
//! | [`Publisher`], [`Publication`] | publishing to a hub: one event or many, each stored once even after retries |
//! | [`EventSource::json`], [`EventSource::next_message`] | data as values |
//! | [`llm`] | streams of language models, which tell their end and errors in-band |
//! | [`FilePosition`], [`PositionStore`] | a position that outlives the process |
//! | [`EventSource::buffered`] | reading ahead, within bounds |
//! | [`PollFallback`] | long polling where a proxy breaks streams |
//!
//! # The design
//!
//! **A pure machine in a thin shell.** A state machine decides when to connect, wait, poll or give up. It knows no
//! socket; time and chance are its arguments. So it is tested in microseconds, over any sequence of inputs.
//!
//! **Nothing runs behind your back.** A source reads while [`next`](EventSource::next) is awaited. So a slow
//! consumer slows the server down instead of filling memory, a dropped source is gone, and `next` may be
//! cancelled anywhere: nothing lives in its future.
//!
//! **Polite by default.** Every delay is drawn from a range, the first one too, so that a restarted server does not
//! meet all its readers at the same instant. `retry:` and `Retry-After` are lower bounds, clamped. Delays grow until a
//! connection *proves* good; a 200 alone proves nothing.
//!
//! **Suspicious by default.** Lines, events, error bodies, queues and the output of decompression have bounds
//! in bytes. Credentials and positions do not follow a redirect to another origin. TLS is always verified.
//!
//! **Errors are kept whole.** An [`Error`] has what the server answered, with headers and the beginning of the
//! body. [`next`](EventSource::next) does not return an interruption that is being repaired; a [`Notice`], the
//! [`State`] and a line in the log (`tracing`) tell it.
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `tls` | yes | https, by rustls with the platform's certificates |
//! | `decode` | yes | gzip and deflate content, and the compressed envelope of large messages |
//! | `zstd`, `brotli` | no | these content codings |
//! | `cli` | yes | the `sse` tool; libraries turn it off with `default-features = false` |
//!
//! # Cost
//!
//! One connection of its own for each source, one allocation for each event, one timer that is set only
//! while nothing arrives. [`EventBuf`] holds type, id and data in one piece.
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
mod oversize;
mod poll;
mod position;
mod publication;
mod publisher;
mod redirect;
mod request;
mod retry_after;
mod row;
mod state;
mod transport;
mod typed;
#[cfg(feature = "tls")]
mod untrusted;
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
pub use json::JsonDocument;
pub use poll::PollFallback;
pub use position::{FilePosition, PositionStore, StoreError, position_fn};
pub use publication::{Priority, Publication, Receipt};
pub use publisher::{Publisher, PublisherBuilder};
pub use redirect::{RedirectError, RedirectPolicy};
pub use sse_protocol::message::{Message, MessageData, MessageEvent};
pub use sse_protocol::{EventBuf, EventId, EventType, LimitExceeded, Limits};
pub use state::{CloseReason, DroppedEvent, Interruption, Notice, Opened, State};
pub use transport::{Connector, ConnectorBuilder, HttpVersion};
pub use typed::{JsonEvents, Typed, TypedError, plain_data};
pub use verdict::Mode;

/// Re-exported for [`EventSourceBuilder::header`] and [`Refusal`].
pub use http;
/// Re-exported for [`ConnectorBuilder::tls`].
#[cfg(feature = "tls")]
pub use rustls;
/// Re-exported for [`Refusal::url`] and [`Opened::url`].
pub use url::Url;
