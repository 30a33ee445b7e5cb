//! The crate's behaviour, through its public API.

mod contract;
mod memory;
mod model;
mod splice;
mod support;
