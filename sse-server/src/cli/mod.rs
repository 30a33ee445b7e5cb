//! What the binary does besides serving: the tools for a stopped hub's log, and the process's own settings.

pub(crate) mod access;
pub(crate) mod config;
pub(crate) mod log;
pub(crate) mod process_limits;
pub(crate) mod reload;
pub(crate) mod signals;
pub(crate) mod telemetry;
pub(crate) mod token;
pub(crate) mod welcome;
