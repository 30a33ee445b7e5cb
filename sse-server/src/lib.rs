//! A Server-Sent Events hub: publish an event once, and every browser and program that listens gets it.
//!
//! The crate is the server behind the `sse-server` binary, and the same hub for use inside an
//! application:
//!
//! * [`hub`]: the [`Hub`](hub::Hub) joins the log of what was said to the pool of who listens. It knows no HTTP.
//! * [`access`]: who asks, what they may have, and how much memory is held for them.
//! * [`audit`]: who did what, as lines in a file.
//! * [`wire`]: what can be said to a reader, and the bytes it is said in.
//! * [`session`]: one reader's stream.
//! * [`http`]: the hub as an HTTP service, to be mounted anywhere.
//! * [`serve`]: a server for that service: sockets, TLS, and the writers of streams.
//! * [`config`]: flags, environment and file, checked once.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use sse_server::http::{HttpConfig, HubService};
//! use sse_server::hub::{Hub, HubConfig, Publication};
//! use sse_server::serve::{Server, ServerConfig};
//!
//! let hub = Hub::in_memory(HubConfig::default()).await?;
//! let service = HubService::new(hub.clone(), HttpConfig::default());
//! let server = Server::bind(([127, 0, 0, 1], 8080).into(), service, ServerConfig::default())?;
//!
//! hub.publish(Publication::new("hello")).await?;
//! server.run(std::future::pending(), std::time::Duration::from_secs(10)).await;
//! # Ok(()) }
//! ```

pub mod access;
pub mod audit;
pub mod clock;
pub mod config;
mod dialect;
pub mod http;
pub mod hub;
mod json_member;
pub mod serve;
pub mod session;
mod topic_pattern;
pub mod units;
pub mod wire;

pub use topic_pattern::{InvalidPattern, Pattern, is_pattern};
