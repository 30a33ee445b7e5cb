//! Configuration, checked once when it is built: flags over environment over file over defaults.
//!
//! An option is declared once, in the struct of its section, with clap. Its long name is the key of the file, and in
//! capitals behind `SSE_` the environment variable: [`read_file`] and [`check_environment`] take both from the declaration.

mod authentication;
mod check;
mod compression;
mod environment;
mod explain;
mod file;
mod http;
mod limits;
mod log;
mod memory;
mod retention;
mod server;
mod settings;
mod storage;
mod streams;
mod suggestion;
mod topic_rule;

use std::path::PathBuf;
use std::time::Duration;

use sse_broker::Retention;

pub use authentication::AuthenticationSettings;
pub use compression::{CompressionSettings, LevelSetting};
pub use environment::check_environment;
pub use explain::explain;
pub use file::read_file;
pub use http::HttpSettings;
pub use limits::LimitSettings;
pub use log::{LogFormat, LogSettings};
pub use memory::MemorySettings;
pub use retention::RetentionSettings;
pub use server::ServerSettings;
pub use settings::Settings;
pub use storage::{DurabilitySetting, Storage, StorageSettings};
pub use streams::StreamSettings;
pub use topic_rule::TopicRule;

use crate::http::HttpConfig;
use crate::hub::HubConfig;
use crate::serve::{Endpoint, Tls};
use crate::units::Size;

/// Everything the server binary needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Endpoint>,
    /// The certificate, if the hub speaks HTTPS.
    pub tls: Option<Tls>,
    /// Where events are kept.
    pub storage: Storage,
    /// How long events are kept.
    pub retention: Retention,
    /// How much memory it may use; [`HubConfig::memory`] says how that is shared out.
    pub memory_bytes: usize,
    /// The hub's own settings.
    pub hub: HubConfig,
    /// What the HTTP side allows.
    pub http: HttpConfig,
    /// How long streams get to end when the server stops.
    pub drain_timeout: Duration,
    /// Filter of the log on standard error.
    pub log: String,
    /// Format of the log on standard error.
    pub log_format: LogFormat,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's text is not a configuration.
    #[error("{path}, line {line}: {reason}")]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// Where, counted from one.
        line: usize,
        /// The key, and what is wrong with it.
        reason: String,
    },
    /// An environment variable looks like one of ours and is not.
    #[error("{name} is not a setting of this program; {advice}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// What to do.
        advice: String,
    },
    /// A value is out of range, or two do not go together.
    #[error("{0}")]
    Invalid(String),
}

impl Config {
    /// Checks the settings and fills in the defaults.
    ///
    /// # Errors
    ///
    /// When a value is out of range or two contradict each other, or a certificate cannot be used; the message names
    /// the options.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        let memory_bytes = settings.memory.bytes();
        let log_bytes = match settings.storage.is_ephemeral() {
            true => memory::ephemeral_log_bytes(memory_bytes),
            false => 1 << 30,
        };
        let (retention, named_subscription_expiry) = settings.retention.build(log_bytes)?;
        let (hub, http) = memory::defaults(memory_bytes);
        let hub = HubConfig {
            named_subscription_expiry,
            ..hub
        };
        let hub = settings.limits.build(hub)?;
        let hub = settings.streams.build(hub)?;
        let hub = settings.compression.build(hub)?;
        let server = settings.server.build(settings.authentication.is_on())?;
        let http = HttpConfig {
            authentication: settings.authentication.build()?,
            ..settings.http.build(http)?
        };
        if hub.max_event_bytes > http.max_body_bytes {
            return Err(invalid(format!(
                "--max-event ({}) is larger than --max-body ({}), so such an event could never be published: raise \
                 --max-body or lower --max-event",
                Size(hub.max_event_bytes as u64),
                Size(http.max_body_bytes as u64)
            )));
        }
        // Its snapshot is an event.
        let max_job_bytes = hub.max_job_bytes.min(hub.max_event_bytes);
        let hub = HubConfig {
            max_job_bytes,
            ..hub
        };
        memory::check(memory_bytes, &hub, &http)?;
        let (log, log_format) = settings.log.build();
        Ok(Self {
            listen: server.listen,
            tls: server.tls,
            drain_timeout: server.drain_timeout,
            storage: settings.storage.build()?,
            retention,
            memory_bytes,
            hub,
            http,
            log,
            log_format,
        })
    }
}

fn invalid(message: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(message.into())
}

#[cfg(test)]
mod tests;
