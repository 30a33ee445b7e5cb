//! What can be set, by flag, environment or file: one struct for all three.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::topic_rule::TopicRule;
use crate::hub::Overflow;
use crate::units::{Size, Span};
use crate::wire::HeartbeatForm;

/// Every setting, as it was given; what was not given is `None`.
///
/// A flag wins over an environment variable, that over the file, the file over the default.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct Settings {
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "SSE_LISTEN", value_name = "ADDR", help_heading = "Server")]
    pub listen: Option<SocketAddr>,
    /// Speak HTTPS with this certificate: a PEM file, the server's own first, then those up to the root
    #[arg(
        long,
        env = "SSE_TLS_CERT",
        value_name = "FILE",
        help_heading = "Server"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key: a PEM file. After a renewal SIGHUP makes the server read both again
    #[arg(
        long,
        env = "SSE_TLS_KEY",
        value_name = "FILE",
        help_heading = "Server"
    )]
    pub tls_key: Option<PathBuf>,
    /// Folder of the event log [default: ./sse-data]
    #[arg(
        long,
        env = "SSE_DATA_DIR",
        value_name = "DIR",
        help_heading = "Server"
    )]
    pub data_dir: Option<PathBuf>,
    /// Keep everything in memory; nothing survives a restart
    #[arg(long, env = "SSE_EPHEMERAL", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Server")]
    pub ephemeral: Option<bool>,
    /// How safe an acknowledged event is: fsync survives power loss, os a crash of the process [default: fsync]
    #[arg(
        long,
        env = "SSE_DURABILITY",
        value_name = "LEVEL",
        help_heading = "Server"
    )]
    pub durability: Option<DurabilitySetting>,
    /// Allow listening on an address other machines can reach, though anyone may publish and read
    #[arg(long, env = "SSE_ALLOW_ANONYMOUS", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Server")]
    pub allow_anonymous: Option<bool>,
    /// Host names to answer to, besides localhost and IP addresses; `*` for all
    #[arg(
        long = "allowed-host",
        env = "SSE_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "NAME",
        help_heading = "Server"
    )]
    pub allowed_hosts: Option<Vec<String>>,
    /// Web origins that may read and publish from a browser, such as <https://app.example>; `*` for any, without cookies
    #[arg(
        long = "allowed-origin",
        env = "SSE_ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN",
        help_heading = "Server"
    )]
    pub allowed_origins: Option<Vec<String>>,
    /// How long streams get to end when the server stops [default: 10s]
    #[arg(
        long,
        env = "SSE_DRAIN_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Server"
    )]
    pub drain_timeout: Option<Span>,
    /// Log level or filter, such as info or sse_server=debug [default: info]
    #[arg(long, env = "SSE_LOG", value_name = "FILTER", help_heading = "Server")]
    pub log: Option<String>,
    /// Format of the log on standard error [default: text]
    #[arg(
        long,
        env = "SSE_LOG_FORMAT",
        value_name = "FORM",
        help_heading = "Server"
    )]
    pub log_format: Option<LogFormat>,

    /// Connections at once [default: 10000]
    #[arg(
        long,
        env = "SSE_MAX_CONNECTIONS",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_connections: Option<usize>,
    /// Connections at once from one address (IPv6: one /64) [default: 100]
    #[arg(
        long,
        env = "SSE_MAX_CONNECTIONS_PER_IP",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_connections_per_ip: Option<usize>,
    /// Topics and event types one connection may subscribe to [default: 64]
    #[arg(
        long,
        env = "SSE_MAX_SUBSCRIPTIONS",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_subscriptions: Option<usize>,
    /// Largest request body [default: 4MiB]
    #[arg(
        long,
        env = "SSE_MAX_BODY",
        value_name = "SIZE",
        help_heading = "Limits"
    )]
    pub max_body: Option<Size>,
    /// Largest data of one event [default: 1MiB]
    #[arg(
        long,
        env = "SSE_MAX_EVENT",
        value_name = "SIZE",
        help_heading = "Limits"
    )]
    pub max_event: Option<Size>,
    /// Only these event types may be published [default: any]
    #[arg(
        long = "allowed-event-type",
        env = "SSE_ALLOWED_EVENT_TYPES",
        value_delimiter = ',',
        value_name = "TYPE",
        help_heading = "Limits"
    )]
    pub allowed_event_types: Option<Vec<String>>,
    /// Jobs remembered at once; the oldest ended ones go first [default: 10000]
    #[arg(long, env = "SSE_MAX_JOBS", value_name = "N", help_heading = "Limits")]
    pub max_jobs: Option<usize>,
    /// Durable subscriptions remembered at once [default: 10000]
    #[arg(
        long,
        env = "SSE_MAX_DURABLE",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_named_subscriptions: Option<usize>,

    /// Silence after which a heartbeat is sent; 0 for none [default: 30s]
    #[arg(
        long,
        env = "SSE_HEARTBEAT",
        value_name = "DURATION",
        help_heading = "Streams"
    )]
    pub heartbeat: Option<Span>,
    /// Under lasting load heartbeats become rarer, up to this silence [default: as --heartbeat, which is never]
    #[arg(
        long,
        env = "SSE_MAX_HEARTBEAT",
        value_name = "DURATION",
        help_heading = "Streams"
    )]
    pub max_heartbeat: Option<Span>,
    /// The most that a busy hub waits for more events to write together; an idle one never does; 0 for never [default: 5ms]
    #[arg(
        long,
        env = "SSE_MAX_LINGER",
        value_name = "DURATION",
        help_heading = "Streams"
    )]
    pub max_linger: Option<Span>,
    /// Heartbeat as `event: ping` or as a bare comment [default: event]
    #[arg(
        long,
        env = "SSE_HEARTBEAT_FORM",
        value_name = "FORM",
        help_heading = "Streams"
    )]
    pub heartbeat_form: Option<HeartbeatForm>,
    /// Reconnection time told to clients, jittered by half of it [default: 2s]
    #[arg(
        long,
        env = "SSE_RETRY",
        value_name = "DURATION",
        help_heading = "Streams"
    )]
    pub retry: Option<Span>,
    /// A reader that takes nothing for so long, though events wait, is let go [default: 5s]
    #[arg(
        long,
        env = "SSE_SEND_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Streams"
    )]
    pub send_timeout: Option<Span>,
    /// A connection with no activity for so long is closed [default: 5m]
    #[arg(
        long,
        env = "SSE_IDLE_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Streams"
    )]
    pub idle_timeout: Option<Span>,
    /// How often idle connections and old events are looked for [default: 60s]
    #[arg(
        long,
        env = "SSE_SWEEP_INTERVAL",
        value_name = "DURATION",
        help_heading = "Streams"
    )]
    pub sweep_interval: Option<Span>,
    /// What happens to a reader whose next event is no longer kept: disconnect, or drop-oldest
    /// (announce the gap and go on) [default: disconnect]
    #[arg(
        long,
        env = "SSE_OVERFLOW",
        value_name = "POLICY",
        help_heading = "Streams"
    )]
    pub overflow: Option<Overflow>,
    /// Newest events held in memory for all readers together [default: 16MiB]
    #[arg(
        long,
        env = "SSE_WINDOW",
        value_name = "SIZE",
        help_heading = "Streams"
    )]
    pub window: Option<Size>,
    /// Smallest event data that is compressed for readers that ask for it [default: 1KiB]
    #[arg(
        long,
        env = "SSE_COMPRESSION_THRESHOLD",
        value_name = "SIZE",
        help_heading = "Streams"
    )]
    pub compression_threshold: Option<Size>,
    /// Effort of that compression: fast, balanced or best [default: balanced]
    #[arg(
        long,
        env = "SSE_COMPRESSION_LEVEL",
        value_name = "LEVEL",
        help_heading = "Streams"
    )]
    pub compression_level: Option<LevelSetting>,

    /// Memory for compressing streams (Content-Encoding: gzip), about half a MiB for each set of subscriptions that
    /// readers have in common; beyond it streams are not compressed; 0 for never [default: 32MiB]
    #[arg(
        long,
        env = "SSE_STREAM_COMPRESSION",
        value_name = "SIZE",
        help_heading = "Streams"
    )]
    pub stream_compression: Option<Size>,
    /// Topics (names or URL patterns) whose events are never compressed together with others; may be repeated
    #[arg(
        long = "never-compress",
        env = "SSE_NEVER_COMPRESS",
        value_name = "TOPIC",
        value_delimiter = ',',
        help_heading = "Streams"
    )]
    pub never_compress: Option<Vec<String>>,

    /// Keep events so long [default: 7d]
    #[arg(
        long,
        env = "SSE_RETENTION_AGE",
        value_name = "DURATION",
        help_heading = "Retention"
    )]
    pub retention_age: Option<Span>,
    /// Keep so much event data [default: 1GiB; with --ephemeral 64MiB]
    #[arg(
        long,
        env = "SSE_RETENTION_SIZE",
        value_name = "SIZE",
        help_heading = "Retention"
    )]
    pub retention_size: Option<Size>,
    /// Keep so many events [default: no limit]
    #[arg(
        long,
        env = "SSE_RETENTION_EVENTS",
        value_name = "N",
        help_heading = "Retention"
    )]
    pub retention_events: Option<u64>,
    /// Forget a durable subscription that nobody has used for so long; 0 for never
    /// [default: as --retention-age]
    #[arg(
        long,
        env = "SSE_DURABLE_EXPIRY",
        value_name = "DURATION",
        help_heading = "Retention"
    )]
    pub named_subscription_expiry: Option<Span>,
    /// Keep less of some topics: patterns separated by commas, then max-age, max-count, max-bytes (of all
    /// these topics together) or keep-latest (of each), as in `progress/*;keep-latest=1` or
    /// `chat/*,room/:id;max-age=1h;max-count=1000`. Repeatable; the first that fits a topic counts
    #[arg(
        long = "retain",
        env = "SSE_RETAIN",
        value_delimiter = '|',
        value_name = "RULE",
        help_heading = "Retention"
    )]
    #[serde(rename = "retention")]
    pub retain: Option<Vec<TopicRule>>,
}

/// How safe an acknowledged event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilitySetting {
    /// On the disk before it is acknowledged.
    Fsync,
    /// With the operating system before it is acknowledged.
    Os,
}

/// How the log on standard error looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Effort of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum LevelSetting {
    #[serde(alias = "FAST")]
    Fast,
    #[serde(alias = "BALANCED")]
    Balanced,
    #[serde(alias = "BEST")]
    Best,
}

macro_rules! or_fields {
    ($self:ident, $other:ident: $($field:ident),* $(,)?) => {
        Settings { $($field: $self.$field.or($other.$field)),* }
    };
}

impl Settings {
    /// These settings, and where they say nothing the `other` ones.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            listen, tls_cert, tls_key, data_dir, ephemeral, durability, allow_anonymous, allowed_hosts, allowed_origins,
            drain_timeout, log, log_format, max_connections, max_connections_per_ip,
            max_subscriptions, max_body, max_event, allowed_event_types, max_jobs, heartbeat,
            max_heartbeat, max_linger, heartbeat_form, retry, send_timeout, idle_timeout, sweep_interval, overflow, window,
            compression_threshold, compression_level, stream_compression, never_compress, retention_age, retention_size, retention_events,
            max_named_subscriptions, named_subscription_expiry, retain,
        )
    }
}
