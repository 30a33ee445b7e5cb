//! Configuration, checked once when it is built: flags over environment over file over defaults.

mod settings;
mod topic_rule;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sse_broker::{Durability, Retention};
use sse_compress::Level;

pub use settings::{DurabilitySetting, LevelSetting, LogFormat, Settings};
pub use topic_rule::TopicRule;

use crate::http::HttpConfig;
use crate::hub::HubConfig;
use crate::serve::Tls;
use crate::topic_pattern::UrlPattern;
use crate::units::{Size, Span};

/// Everything the server binary needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The certificate, when it is HTTPS that is spoken.
    pub tls: Option<Tls>,
    /// Where events are kept.
    pub storage: Storage,
    /// How long events are kept.
    pub retention: Retention,
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
    },
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
    #[error("{path}, {reason}")]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// What is wrong, and in which line.
        reason: String,
    },
    /// Settings that are fine alone do not go together, or one is out of range.
    #[error("{0}")]
    Invalid(String),
}

impl Config {
    /// Checks the settings and fills in the defaults.
    ///
    /// # Errors
    ///
    /// When a value is out of range or two contradict each other, or a certificate cannot be used; the message names
    /// them.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        let listen = settings
            .listen
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        if !listen.ip().is_loopback() && !settings.allow_anonymous.unwrap_or(false) {
            return Err(invalid(format!(
                "listening on {listen} lets other machines publish and read without authentication: \
                 add --allow-anonymous if that is meant"
            )));
        }
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(certificate), Some(key)) => Some(
                Tls::from_files(certificate, key).map_err(|error| invalid(error.to_string()))?,
            ),
            (Some(_), None) => {
                return Err(invalid(
                    "--tls-cert is given without --tls-key: add the certificate's private key",
                ));
            }
            (None, Some(_)) => {
                return Err(invalid(
                    "--tls-key is given without --tls-cert: add the key's certificate",
                ));
            }
            (None, None) => None,
        };
        let ephemeral = settings.ephemeral.unwrap_or(false);
        if ephemeral && settings.durability.is_some() {
            return Err(invalid(
                "--ephemeral keeps nothing on disk, so --durability cannot be given with it",
            ));
        }
        let storage = if ephemeral {
            Storage::Memory
        } else {
            Storage::Disk {
                path: settings
                    .data_dir
                    .unwrap_or_else(|| PathBuf::from("sse-data")),
                durability: match settings.durability.unwrap_or(DurabilitySetting::Fsync) {
                    DurabilitySetting::Fsync => Durability::Fsync,
                    DurabilitySetting::Os => Durability::Os,
                },
            }
        };
        let default_retention = if ephemeral {
            Size(64 << 20)
        } else {
            Size(1 << 30)
        };
        let retention = Retention {
            max_age: Some(settings.retention_age.map_or(SEVEN_DAYS, |span| span.0)),
            max_bytes: Some(settings.retention_size.unwrap_or(default_retention).0),
            max_records: settings.retention_events,
            topics: settings
                .retain
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .map(|(n, rule)| rule.build(n + 1).map_err(invalid))
                .collect::<Result<_, _>>()?,
        };

        let defaults = HubConfig::default();
        let heartbeat = settings.heartbeat.map_or(defaults.heartbeat, |span| {
            if span.0.is_zero() { None } else { Some(span.0) }
        });
        let hub = HubConfig {
            max_connections: at_least_one(
                "max-connections",
                settings.max_connections,
                defaults.max_connections,
            )?,
            max_connections_per_ip: at_least_one(
                "max-connections-per-ip",
                settings.max_connections_per_ip,
                defaults.max_connections_per_ip,
            )?,
            max_subscriptions: at_least_one(
                "max-subscriptions",
                settings.max_subscriptions,
                defaults.max_subscriptions,
            )?,
            max_event_bytes: settings
                .max_event
                .map_or(defaults.max_event_bytes, Size::to_usize),
            allowed_event_types: settings.allowed_event_types.map(BTreeSet::from_iter),
            max_jobs: at_least_one("max-jobs", settings.max_jobs, defaults.max_jobs)?,
            max_named_subscriptions: settings
                .max_named_subscriptions
                .unwrap_or(defaults.max_named_subscriptions),
            named_subscription_expiry: match settings.named_subscription_expiry.map(|span| span.0) {
                None => retention.max_age,
                Some(Duration::ZERO) => None,
                given => given,
            },
            heartbeat,
            max_heartbeat: settings.max_heartbeat.map(|span| span.0),
            max_linger: settings
                .max_linger
                .map_or(defaults.max_linger, |span| span.0),
            heartbeat_form: settings.heartbeat_form.unwrap_or(defaults.heartbeat_form),
            retry: settings.retry.map_or(defaults.retry, |span| span.0),
            send_timeout: not_zero("send-timeout", settings.send_timeout, defaults.send_timeout)?,
            idle_timeout: not_zero("idle-timeout", settings.idle_timeout, defaults.idle_timeout)?,
            sweep_interval: not_zero(
                "sweep-interval",
                settings.sweep_interval,
                defaults.sweep_interval,
            )?,
            overflow: settings.overflow.unwrap_or(defaults.overflow),
            window_bytes: settings
                .window
                .map_or(defaults.window_bytes, Size::to_usize),
            compression_threshold_bytes: settings
                .compression_threshold
                .map_or(defaults.compression_threshold_bytes, Size::to_usize),
            compression_level: match settings.compression_level {
                Some(LevelSetting::Fast) => Level::Fast,
                Some(LevelSetting::Best) => Level::Best,
                Some(LevelSetting::Balanced) | None => Level::Balanced,
            },
            stream_compression_bytes: settings
                .stream_compression
                .map_or(defaults.stream_compression_bytes, Size::to_usize),
            never_compress: settings
                .never_compress
                .unwrap_or_default()
                .iter()
                .map(|topic| {
                    UrlPattern::new(topic).map(Arc::new).map_err(|error| {
                        invalid(format!(
                            "never-compress: {topic:?} is no topic pattern: {error}"
                        ))
                    })
                })
                .collect::<Result<_, _>>()?,
            ..defaults
        };
        match (hub.heartbeat, hub.max_heartbeat) {
            (None, Some(_)) => {
                return Err(invalid(
                    "max-heartbeat is given, but heartbeat is 0: there are none to become rarer",
                ));
            }
            (Some(least), Some(most)) if most < least => {
                return Err(invalid(format!(
                    "max-heartbeat ({most:?}) must be at least heartbeat ({least:?})"
                )));
            }
            _ => {}
        }
        if hub.max_linger > MAX_LINGER {
            return Err(invalid(format!(
                "max-linger ({:?}) is more than {MAX_LINGER:?}: it would only delay events",
                hub.max_linger
            )));
        }
        if let Some(interval) = hub.heartbeat.max(hub.max_heartbeat)
            && interval >= hub.idle_timeout
        {
            return Err(invalid(format!(
                "heartbeat ({interval:?}) must be shorter than idle-timeout ({:?}), or every quiet connection is closed",
                hub.idle_timeout
            )));
        }
        let http = HttpConfig {
            max_body_bytes: settings
                .max_body
                .map_or(HttpConfig::default().max_body_bytes, Size::to_usize),
            allowed_hosts: settings.allowed_hosts.unwrap_or_default(),
            allowed_origins: settings.allowed_origins.unwrap_or_default(),
        };
        if hub.max_event_bytes > http.max_body_bytes {
            return Err(invalid(format!(
                "max-event ({} bytes) is larger than max-body ({} bytes): such an event could never be published",
                hub.max_event_bytes, http.max_body_bytes
            )));
        }
        Ok(Self {
            listen,
            tls,
            storage,
            retention,
            hub,
            http,
            drain_timeout: settings
                .drain_timeout
                .map_or(Duration::from_secs(10), |span| span.0),
            log: settings.log.unwrap_or_else(|| "info".to_owned()),
            log_format: settings.log_format.unwrap_or(LogFormat::Text),
        })
    }
}

/// Reads settings from a TOML file.
///
/// # Errors
///
/// When it cannot be read, or holds a key or value that no setting has; the message names the line.
pub fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            1 + text[..span.start.min(text.len())].matches('\n').count()
        });
        ConfigError::Malformed {
            path: path.to_owned(),
            reason: format!("line {line}: {}", error.message().replace('\n', " ")),
        }
    })
}

/// A longer delay would be felt.
const MAX_LINGER: Duration = Duration::from_secs(1);
const SEVEN_DAYS: Duration = Duration::from_secs(7 * 24 * 3600);

fn invalid(message: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(message.into())
}

fn at_least_one(name: &str, given: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match given {
        Some(0) => Err(invalid(format!("{name} must be at least 1"))),
        Some(n) => Ok(n),
        None => Ok(default),
    }
}

fn not_zero(name: &str, given: Option<Span>, default: Duration) -> Result<Duration, ConfigError> {
    match given {
        Some(span) if span.0.is_zero() => Err(invalid(format!("{name} must be longer than 0"))),
        Some(span) => Ok(span.0),
        None => Ok(default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        std::fs::write(&path, text).unwrap();
        Config::new(read_file(&path)?)
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.hub.heartbeat, Some(Duration::from_secs(30)));
        assert!(matches!(
            config.storage,
            Storage::Disk {
                durability: Durability::Fsync,
                ..
            }
        ));
    }

    #[test]
    fn values_are_read_with_their_units() {
        let config = parse(
            "max-connections = 500\nheartbeat = \"15s\"\nidle-timeout = 300\nwindow = \"1MiB\"",
        )
        .unwrap();
        assert_eq!(config.hub.max_connections, 500);
        assert_eq!(config.hub.heartbeat, Some(Duration::from_secs(15)));
        assert_eq!(config.hub.window_bytes, 1 << 20);
    }

    #[test]
    fn a_mistake_names_its_line_and_key() {
        let error = parse("listen = \"127.0.0.1:0\"\nmax-conections = 5")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("max-conections"),
            "{error}"
        );
        let error = parse("heartbeat = \"soon\"").unwrap_err().to_string();
        assert!(
            error.contains("line 1") && error.contains("`soon` is no duration"),
            "{error}"
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, word) in [
            ("listen = \"0.0.0.0:8080\"", "--allow-anonymous"),
            ("ephemeral = true\ndurability = \"os\"", "--durability"),
            ("tls-cert = \"hub.pem\"", "--tls-key"),
            ("tls-key = \"hub-key.pem\"", "--tls-cert"),
            ("max-connections = 0", "max-connections"),
            ("heartbeat = \"10m\"", "idle-timeout"),
            ("max-heartbeat = \"10m\"", "idle-timeout"),
            ("max-heartbeat = \"10s\"", "at least heartbeat"),
            ("heartbeat = 0\nmax-heartbeat = \"10s\"", "heartbeat is 0"),
            ("max-linger = \"2s\"", "max-linger"),
            ("max-event = \"8MiB\"", "max-body"),
            ("[[retention]]\ntopics = \"a\"", "asks for nothing"),
            ("[[retention]]\ntopics = []\nmax_age = 1", "names no topic"),
            ("[[retention]]\ntopics = \"room/(\"\nmax_age = 1", "room/("),
            (
                "[[retention]]\ntopics = \"a\"\nkeep_latest = 0",
                "keep-latest",
            ),
            ("[[retention]]\ntopics = \"a\"\nkeep_latest = 1001", "1000"),
            ("[[retention]]\ntopics = \"a\"\nmax_count = 0", "max-count"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn rules_for_topics_are_read_from_file_and_flag_alike() {
        let file = parse(
            "[[retention]]\ntopics = \"progress/*\"\nmax_age = \"1h\"\nmax_count = 100\n\
             max_bytes = \"10MiB\"\nkeep_latest = 1\n\n\
             [[retention]]\ntopics = [\"chat/:room\", \"news\"]\nkeep-latest = 50",
        )
        .unwrap();
        let rules = file.retention.topics.clone();
        let texts: Vec<_> = rules
            .iter()
            .flat_map(|rule| &rule.topics)
            .map(|topic| topic.as_str())
            .collect();
        assert_eq!(texts, ["progress/*", "chat/:room", "news"]);
        assert_eq!(rules[0].max_age, Some(Duration::from_secs(3600)));
        assert_eq!(
            (rules[0].max_records, rules[0].max_bytes),
            (Some(100), Some(10 << 20))
        );
        assert_eq!(rules[1].keep_latest.map(u32::from), Some(50));
        let flags = [
            "progress/*;max-age=1h;max-count=100;max-bytes=10MiB;keep-latest=1",
            "chat/:room,news; keep-latest = 50",
        ];
        let flags = Settings {
            retain: Some(flags.map(|text| text.parse().unwrap()).into()),
            ..Settings::default()
        };
        assert_eq!(Config::new(flags).unwrap().retention.topics, rules);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Settings {
            max_connections: Some(7),
            ..Settings::default()
        };
        let file: Settings = toml::from_str("max-connections = 5\nmax-jobs = 3").unwrap();
        let config = Config::new(flags.or(file)).unwrap();
        assert_eq!((config.hub.max_connections, config.hub.max_jobs), (7, 3));
    }
}
