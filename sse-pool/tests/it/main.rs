//! The pool through its public face.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod admission;
mod alike;
mod batch;
mod model;
mod reading;
mod support;
mod sweeping;
mod threads;
mod visibility;
