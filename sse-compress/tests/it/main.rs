//! The behaviour of the crate, through its public interface.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod cohort;
mod decompress;
mod envelope;
mod governor;
mod negotiate;
mod payload;
mod stream;
