//! The client against a server that does what no honest server does, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may end by it")]

mod auth;
mod cli;
mod content;
mod limits;
mod lines;
mod llm;
mod named;
mod polling;
mod publishing;
mod resume;
mod rogue;
mod status;
mod stream;
mod tls;
mod transport;
