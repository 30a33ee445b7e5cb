//! The server as its users meet it: the real binary, real sockets, real processes.
//!
//! One module for each of the systems whose clients the hub serves, and one each for errors, streams, limits and
//! the process itself. Nothing here sleeps for a fixed time and hopes: every wait has a condition and a generous
//! deadline, so that a busy machine makes the tests slower, not red.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well stop here"
)]

mod admin_listener;
mod amplification;
mod client;
mod fenced;
mod frames;
mod http2;
mod secure;
mod server;

mod access;
mod assets;
mod compressed;
mod configuration;
mod cursors;
mod decided;
mod draining;
mod durable_readers;
mod enhanced;
mod envelope;
mod epochs;
mod erasing;
mod errors;
mod full_disk;
mod http2_windows;
mod idle;
mod job_stream;
mod late_readers;
mod limits;
#[cfg(unix)]
mod listening;
mod log_tools;
mod memory;
mod misunderstandings;
mod mounted;
mod notifications;
mod places;
mod process;
mod projects;
#[cfg(unix)]
mod proxied;
mod reloading;
mod routes;
mod same_bytes;
mod starting;
mod streams;
mod tls;
mod tls_clients;
mod tls_limits;
mod visibility;
mod websocket;
mod websocket_memory;
mod websocket_readers;
mod writers;
