//! The crate's behaviour, through its public API.

mod contract;
#[cfg(feature = "durable")]
mod durable;
mod memory;
mod model;
mod splice;
mod support;
