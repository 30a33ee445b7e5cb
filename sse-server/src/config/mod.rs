//! Configuration, checked once when it is built: flags over environment over file over defaults.
//!
//! An option is declared once, in the struct of its section, with clap. Its long name is the key of the file, and in
//! capitals behind `SSE_` the environment variable: [`read_file`] and [`check_environment`] take both from the declaration.

mod authentication;
mod check;
mod compression;
mod describe;
mod environment;
mod explain;
mod file;
mod health;
mod http;
mod late_rule;
mod limits;
mod log;
mod memory;
mod proxies;
mod rates;
mod retention;
mod server;
mod settings;
mod storage;
mod streams;
mod suggestion;
mod tls;
mod topic_rule;

use std::path::PathBuf;
use std::time::Duration;

use sse_broker::Retention;

pub use authentication::AuthenticationSettings;
pub use compression::{CompressionSettings, LevelSetting};
pub use describe::{Effective, Origin, Profile, effective, schema, template};
pub use environment::check_environment;
pub use explain::explain;
pub use file::{check_file, read_file};
pub use health::{HealthSettings, NeedSetting, ThresholdSetting};
pub use http::HttpSettings;
pub use limits::LimitSettings;
pub use log::{LogFormat, LogSettings};
pub use memory::MemorySettings;
pub use proxies::ProxySettings;
pub use rates::{RateSetting, RateSettings};
pub use retention::RetentionSettings;
pub use server::ServerSettings;
pub use settings::Settings;
pub use storage::{DurabilitySetting, Storage, StorageSettings};
pub use streams::StreamSettings;
pub use tls::{ClientAuthSetting, TlsSettings, TlsVersionSetting};
pub use topic_rule::TopicRule;

use crate::access::budget::Account;
use crate::http::HttpConfig;
use crate::hub::HubConfig;
use crate::serve::{Endpoint, Tls};
use crate::units::Size;

/// Everything the server binary needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Endpoint>,
    /// Where management is, if it is not with everything else.
    pub admin_listen: Vec<Endpoint>,
    /// The certificate, if the hub speaks HTTPS.
    pub tls: Option<Tls>,
    /// Where events are kept.
    pub storage: Storage,
    /// How long events are kept. The size of an ephemeral log is what it takes in memory.
    pub retention: Retention,
    /// How much of its file a log on disk keeps in memory.
    pub log_cache_bytes: usize,
    /// How much may wait to be written to it.
    pub max_pending_bytes: usize,
    /// How much memory it may use; [`HubConfig::memory`] says how that is shared out.
    pub memory_bytes: usize,
    /// The hub's own settings.
    pub hub: HubConfig,
    /// What the HTTP side allows.
    pub http: HttpConfig,
    /// Whether a crash may leave a core dump.
    pub core_dumps: bool,
    /// How long streams get to end when the server stops.
    pub drain_timeout: Duration,
    /// Filter of the log on standard error.
    pub log: String,
    /// Format of the log on standard error.
    pub log_format: LogFormat,
    /// The file of the audit log, `-` for standard output; `None` for none.
    pub audit_log: Option<PathBuf>,
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
        let is_ephemeral = settings.storage.is_ephemeral();
        let size = |size: Option<Size>| size.map(Size::to_usize);
        let given_log = size(settings.retention.retention_size).filter(|_| is_ephemeral);
        let connections = memory::given_connections(memory_bytes, settings.limits.max_connections);
        let window = size(settings.streams.window);
        let compression = size(settings.compression.stream_compression);
        let memory = memory::Shared::new(
            memory_bytes,
            [
                (Account::Window, "--window", window),
                (Account::Compression, "--stream-compression", compression),
                (Account::Log, "--retention-size", given_log),
                (Account::Connections, "--max-connections", connections),
            ],
        );
        let log_bytes = memory.size(Account::Log);
        let (retention, named_subscription_expiry) =
            settings.retention.build(match is_ephemeral {
                true => (log_bytes as u64).min(EPHEMERAL_LOG_BYTES),
                false => DISK_LOG_BYTES,
            })?;
        let (hub, http) = memory.defaults();
        let hub = HubConfig {
            named_subscription_expiry,
            ..hub
        };
        // A default follows what was given; only what was given both ways can contradict itself.
        let has_max_event = settings.limits.max_event.is_some();
        let has_max_body = settings.http.max_body.is_some();
        let mut hub = settings.limits.build(hub)?;
        let mut http = settings.http.build(http)?;
        if !has_max_event {
            hub.max_event_bytes = hub.max_event_bytes.min(http.max_body_bytes);
        }
        if !has_max_body {
            http.max_body_bytes = http.max_body_bytes.max(hub.max_event_bytes);
        }
        let hub = settings.streams.build(hub)?;
        let hub = settings.compression.build(hub)?;
        let hub = settings.health.build(hub)?;
        let hub = settings
            .rates
            .build(hub, http.max_body_bytes, memory_bytes)?;
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
            trust_clock: settings.storage.trust_clock.unwrap_or(false),
            ..hub
        };
        memory.check(&hub, &http)?;
        let (log, log_format, audit_log) = settings.log.build();
        let tls = settings.tls.build()?;
        let has_authentication = settings.authentication.is_on() || tls.certificates.is_some();
        let may_be_open = has_authentication || settings.server.allow_anonymous.unwrap_or(false);
        let server = settings
            .server
            .build(has_authentication, tls.tls.is_some())?;
        let http = HttpConfig {
            authentication: settings.authentication.build(tls.certificates)?,
            trusted_proxies: settings.proxies.build(&server.listen, may_be_open)?,
            ..http
        };
        Ok(Self {
            listen: server.listen,
            admin_listen: server.admin_listen,
            tls: tls.tls,
            core_dumps: server.core_dumps,
            drain_timeout: server.drain_timeout,
            storage: settings.storage.build()?,
            retention,
            log_cache_bytes: memory::disk_cache_bytes(log_bytes),
            max_pending_bytes: (log_bytes / 4).min(MAX_PENDING_BYTES),
            memory_bytes,
            hub,
            http,
            log,
            log_format,
            audit_log,
        })
    }
}

/// How much event data a log on disk keeps when nobody says.
const DISK_LOG_BYTES: u64 = 1 << 30;
/// What an ephemeral log takes in memory when nobody says, where that much is its share.
const EPHEMERAL_LOG_BYTES: u64 = 64 << 20;
/// Some seconds of what a disk takes.
const MAX_PENDING_BYTES: usize = 64 << 20;

fn invalid(message: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(message.into())
}

#[cfg(test)]
mod tests;
