//! The pool through its public face.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod admission;
mod group;
mod model;
mod moving;
mod reading;
mod resets;
mod shard_handle;
mod support;
mod sweeping;
mod threads;
mod visibility;
