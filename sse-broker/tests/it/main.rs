//! The crate's behaviour, through its public API.

mod contract;
#[cfg(feature = "disk")]
mod crash;
#[cfg(feature = "disk")]
mod disk;
#[cfg(feature = "disk")]
mod disk_trouble;
#[cfg(feature = "disk")]
mod faults;
mod memory;
mod model;
#[cfg(feature = "disk")]
mod salvage;
#[cfg(feature = "disk")]
mod sim_disk;
mod splice;
mod states;
mod support;
#[cfg(feature = "disk")]
mod tools;
#[cfg(feature = "disk")]
mod topic_retention;
#[cfg(feature = "disk")]
mod trust;
