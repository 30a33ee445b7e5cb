//! The settings of the log: where events are kept, and how safely.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sse_broker::Durability;

use super::settings::or_fields;
use super::{ConfigError, invalid};

/// The storage's settings, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct StorageSettings {
    /// Folder of the event log [default: ./sse-data]
    #[arg(long, env = "SSE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep everything in memory; nothing survives a restart
    #[arg(long, env = "SSE_EPHEMERAL", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub ephemeral: Option<bool>,
    /// How safe an acknowledged event is: fsync survives power loss, os a crash of the process [default: fsync]
    #[arg(long, env = "SSE_DURABILITY", value_name = "LEVEL")]
    pub durability: Option<DurabilitySetting>,
    /// Take a copied, imported or restored event log for the log that it was, so that readers' positions stay valid; for
    /// the first start on it
    #[arg(long, env = "SSE_SAME_LOG", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub same_log: Option<bool>,
    /// Take the wall clock for right, although it is far from what it was when the event log was last open; events age by
    /// it at once
    #[arg(long, env = "SSE_TRUST_CLOCK", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub trust_clock: Option<bool>,
}

/// How safe an acknowledged event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DurabilitySetting {
    /// On the disk before it is acknowledged.
    Fsync,
    /// With the operating system before it is acknowledged.
    Os,
}

/// Where events are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory: gone with the process.
    Memory,
    /// In a folder.
    Disk {
        /// The folder.
        path: PathBuf,
        /// How safe an acknowledged event is.
        durability: Durability,
        /// Whether a copy goes on as the log that it was.
        same_log: bool,
    },
}

impl StorageSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: data_dir, ephemeral, durability, same_log, trust_clock)
    }

    pub(super) fn is_ephemeral(&self) -> bool {
        self.ephemeral.unwrap_or(false)
    }

    pub(super) fn build(self) -> Result<Storage, ConfigError> {
        if self.is_ephemeral() {
            if self.durability.is_some() {
                return Err(invalid(
                    "--ephemeral keeps nothing on disk, so --durability cannot be given with it",
                ));
            }
            if let Some(path) = self.data_dir {
                return Err(invalid(format!(
                    "--ephemeral keeps nothing on disk, so --data-dir ({}) cannot be given with it: leave out one of them",
                    path.display()
                )));
            }
            return Ok(Storage::Memory);
        }
        let path = self.data_dir.unwrap_or_else(|| PathBuf::from("sse-data"));
        let durability = match self.durability {
            Some(DurabilitySetting::Os) => Durability::Os,
            Some(DurabilitySetting::Fsync) | None => Durability::Fsync,
        };
        Ok(Storage::Disk {
            path,
            durability,
            same_log: self.same_log.unwrap_or(false),
        })
    }
}
