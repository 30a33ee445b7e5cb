//! The crate's behaviour, through its public API.

mod contract;
#[cfg(feature = "durable")]
mod crash;
#[cfg(feature = "durable")]
mod disk_trouble;
#[cfg(feature = "durable")]
mod durable;
#[cfg(feature = "durable")]
mod faults;
mod memory;
mod model;
#[cfg(feature = "durable")]
mod sim_disk;
mod splice;
mod states;
mod support;
#[cfg(feature = "durable")]
mod thinning;
#[cfg(feature = "durable")]
mod tools;
