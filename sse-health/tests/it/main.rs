//! The behaviour of the crate, through its public interface.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod alerts;
#[cfg(feature = "prometheus")]
mod exposition;
mod heartbeat;
mod latency;
mod monitor;
mod phase;
mod rates;
mod report;
mod sampler;
mod status;
